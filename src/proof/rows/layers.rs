//! The building blocks of Transformers and recurrent networks: gated units, rotary embeddings, cells.

use super::pointwise::{gelu, gelu_slope, piecewise, sigmoid, silu, silu_slope, tanh};
use crate::proof::{Array, Bounded, Case, Gen, Input, Row, Work};
use crate::tensor::Tensor;
use crate::{Result, RotaryPairs};

pub(super) const ROWS: &[Row] = &[
    Row { name: "lstm_cell", covers: &["lstm_cell"], draw: lstm, bench: None },
    Row { name: "gru_cell", covers: &["gru_cell"], draw: gru, bench: None },
    Row { name: "glu", covers: &["glu"], draw: |g| GLU.draw(g), bench: None },
    Row { name: "swiglu", covers: &["swiglu"], draw: |g| SWIGLU.draw(g), bench: Some(|g| SWIGLU.timed(g)) },
    Row { name: "geglu", covers: &["geglu"], draw: |g| GEGLU.draw(g), bench: None },
    Row { name: "reglu", covers: &["reglu"], draw: |g| REGLU.draw(g), bench: None },
    Row {
        name: "rotary_embedding",
        covers: &["rotary_embedding"],
        draw: rotary,
        bench: Some(|g| (Work::Bytes(8 << 20), rotary_of(g, &[8, 8, 256, 64], 32, RotaryPairs::Halves))),
    },
];

/// A gated unit: the activation of the gate, and its derivative.
#[derive(Clone, Copy)]
struct Gated {
    run: fn(&Tensor, isize) -> Result<Tensor>,
    f: fn(Bounded) -> Bounded,
    slope: fn(Bounded) -> Bounded,
    /// Whether the second half is the gate.
    last: bool,
}

const GLU: Gated = Gated { run: Tensor::glu, f: sigmoid, slope: |x| sigmoid(x) * sigmoid(-x), last: true };
const SWIGLU: Gated = Gated { run: Tensor::swiglu, f: silu, slope: silu_slope, last: false };
const GEGLU: Gated = Gated { run: Tensor::geglu, f: gelu, slope: gelu_slope, last: false };
const REGLU: Gated = Gated {
    run: Tensor::reglu,
    f: |x| x.max(Bounded::ZERO),
    slope: |x| piecewise(x, |x| x > 0.0 || x.is_nan(), Bounded::ONE, Bounded::ZERO),
    last: false,
};

impl Gated {
    fn draw(self, g: &mut Gen) -> Case {
        let rank = g.range(1..=4);
        let mut shape = g.shape_of_rank(rank);
        let axis = g.below(rank);
        shape[axis] += shape[axis] % 2;
        if g.flag() {
            // So that both halves are divisible by four.
            shape[rank - 1] = shape[rank - 1].next_multiple_of(8);
        }
        let signed = axis as isize - if g.flag() { rank as isize } else { 0 };
        let x = g.values(&shape, -4.0, 6.0);
        self.case(x, axis, signed)
    }

    fn timed(self, g: &mut Gen) -> (Work, Case) {
        let x = g.values(&[512, 2048], -4.0, 6.0);
        (Work::Bytes(3 * 4 * 512 * 1024), self.case(x, 1, -1))
    }

    fn case(self, x: Input, axis: usize, signed: isize) -> Case {
        let mut half = x.array.shape.clone();
        half[axis] /= 2;
        // The indices in x of the gate and of the value, for an index of y.
        let length = half[axis];
        let places = move |index: &[usize]| {
            let mut further = index.to_vec();
            further[axis] += length;
            if self.last { [further, index.to_vec()] } else { [index.to_vec(), further] }
        };
        let label = format!("axis {signed} of {:?}", x.array.shape);
        let run = move |t: &[Tensor]| (self.run)(&t[0], signed);
        Case::new(label, vec![x], run, move |x| {
            Array::from_fn(half.clone(), |index| {
                let [g, v] = places(index).map(|index| x[0].at(&index));
                (self.f)(g) * v
            })
        })
        .gradient(move |x, dy| {
            let mut dx = Array::zeros(x[0].shape.clone());
            Array::from_fn(dy.shape.clone(), |index| {
                let ([at_g, at_v], d) = (places(index), dy.at(index));
                let (g, v) = (x[0].at(&at_g), x[0].at(&at_v));
                *dx.at_mut(&at_g) = d * v * (self.slope)(g);
                *dx.at_mut(&at_v) = d * (self.f)(g);
                d
            });
            vec![Some(dx)]
        })
    }
}

fn rotary(g: &mut Gen) -> Case {
    let rank = g.range(2..=5);
    let shape = g.shape_of_rank(rank);
    let half = shape[rank - 1] / 2;
    let pairs = if g.flag() { half } else { g.range(0..=half) };
    let which = g.choose(&[RotaryPairs::Halves, RotaryPairs::Neighbours]);
    rotary_of(g, &shape, pairs, which)
}

fn rotary_of(g: &mut Gen, shape: &[usize], pairs: usize, which: RotaryPairs) -> Case {
    let axis = shape.len() - 1;
    let angles = [shape[axis - 1], pairs];
    let mut inputs = vec![g.values(shape, -3.0, 3.0)];
    inputs.extend((0..2).map(|_| g.constants(&angles, -1.0, 1.0)));
    let rotated = move |x: &Array, cos: &Array, sin: &Array, sign: f64| {
        Array::from_fn(x.shape.clone(), |index| {
            let c = index[axis];
            if c >= 2 * pairs {
                return x.at(index);
            }
            let (pair, second) = match which {
                RotaryPairs::Halves => (c % pairs, c >= pairs),
                RotaryPairs::Neighbours => (c / 2, c % 2 == 1),
            };
            let place = |second: bool| match which {
                RotaryPairs::Halves => pair + if second { pairs } else { 0 },
                RotaryPairs::Neighbours => 2 * pair + usize::from(second),
            };
            let element = |second: bool| {
                let mut index = index.to_vec();
                index[axis] = place(second);
                x.at(&index)
            };
            let angle = [index[axis - 1], pair];
            let (a, b, cos, sin) = (element(false), element(true), cos.at(&angle), sin.at(&angle));
            // Changing the sign is exact.
            let sin = if sign < 0.0 { -sin } else { sin };
            if second { b * cos + a * sin } else { a * cos - b * sin }
        })
    };
    let label = format!("{pairs} pairs of {shape:?}, {which:?}");
    let run = move |t: &[Tensor]| t[0].rotary_embedding(&t[1], &t[2], which);
    Case::new(label, inputs, run, move |x| rotated(&x[0], &x[1], &x[2], 1.0))
        .gradient(move |x, dy| vec![Some(rotated(dy, &x[1], &x[2], -1.0)), None, None])
}

/// The values of all gates for the state element at `index`.
fn gates<const N: usize>(of: &Array, index: &[usize]) -> [Bounded; N] {
    let last = index.len() - 1;
    let units = of.shape[last] / N;
    std::array::from_fn(|gate| {
        let mut at = index.to_vec();
        at[last] += gate * units;
        of.at(&at)
    })
}

/// Sets the values of all gates for the state element at `index`.
fn put<const N: usize>(gates: &mut Array, index: &[usize], values: [Bounded; N]) {
    let last = index.len() - 1;
    let units = gates.shape[last] / N;
    for (gate, value) in values.into_iter().enumerate() {
        let mut at = index.to_vec();
        at[last] += gate * units;
        *gates.at_mut(&at) = value;
    }
}

/// A random state shape, and the inputs of a step with this number of gates.
fn drawn_step(g: &mut Gen, gates: usize) -> (Vec<usize>, Vec<Input>) {
    let rank = g.range(1..=3);
    let state = g.shape_of_rank(rank);
    let mut wide = state.clone();
    wide[rank - 1] *= gates;
    let inputs = vec![g.values(&wide, -3.0, 3.0), g.values(&wide, -3.0, 3.0), g.values(&state, -2.0, 2.0)];
    (state, inputs)
}

/// The derivative of the sigmoid at `a`. That of tanh, below, is a function of its value y.
fn sigmoid_slope(a: Bounded) -> Bounded {
    sigmoid(a) * sigmoid(-a)
}

fn tanh_slope(y: Bounded) -> Bounded {
    (Bounded::ONE - y) * (Bounded::ONE + y)
}

/// An LSTM step: shows h', c', or both stacked.
fn lstm(g: &mut Gen) -> Case {
    let (state, inputs) = drawn_step(g, 4);
    let shown: &'static [usize] = g.choose(&[&[0][..], &[1], &[0, 1]]);
    let added = |x: &[Array], index: &[usize]| {
        let [from_x, from_h] = [0, 1].map(|which| gates::<4>(&x[which], index));
        [0, 1, 2, 3].map(|gate| from_x[gate] + from_h[gate])
    };
    let kept = |[i, f, g, _]: [Bounded; 4], c: Bounded| sigmoid(f) * c + sigmoid(i) * tanh(g);
    let run = move |t: &[Tensor]| {
        let outputs = t[0].lstm_cell(&t[1], &t[2])?;
        let shown: Vec<&Tensor> = shown.iter().map(|&which| &outputs[which]).collect();
        Tensor::stack(&shown, 0)
    };
    let shape = [&[shown.len()], &state[..]].concat();
    Case::new(format!("shows {shown:?} of {state:?}"), inputs, run, move |x| {
        Array::from_fn(shape.clone(), |index| {
            let (which, index) = (shown[index[0]], &index[1..]);
            let a = added(x, index);
            let c = kept(a, x[2].at(index));
            if which == 0 { sigmoid(a[3]) * tanh(c) } else { c }
        })
    })
    .gradient(move |x, dy| {
        let [mut da, mut dc] = [0, 2].map(|which| Array::zeros(x[which].shape.clone()));
        Array::from_fn(state.clone(), |index| {
            let given = |output: usize| match shown.iter().position(|&which| which == output) {
                Some(place) => dy.at(&[&[place], index].concat()),
                None => Bounded::ZERO,
            };
            let (dh, a, c) = (given(0), added(x, index), x[2].at(index));
            let t = tanh(kept(a, c));
            let d = given(1) + dh * sigmoid(a[3]) * tanh_slope(t);
            let fresh = tanh(a[2]);
            let of = [
                d * fresh * sigmoid_slope(a[0]),
                d * c * sigmoid_slope(a[1]),
                d * sigmoid(a[0]) * tanh_slope(fresh),
                dh * t * sigmoid_slope(a[3]),
            ];
            put(&mut da, index, of);
            *dc.at_mut(index) = d * sigmoid(a[1]);
            d
        });
        vec![Some(da.clone()), Some(da), Some(dc)]
    })
}

/// A GRU step.
fn gru(g: &mut Gen) -> Case {
    let (state, inputs) = drawn_step(g, 3);
    let shape = state.clone();
    let fresh = |x: [Bounded; 3], h: [Bounded; 3]| tanh(x[2] + sigmoid(x[0] + h[0]) * h[2]);
    let run = |t: &[Tensor]| t[0].gru_cell(&t[1], &t[2]);
    Case::new(format!("{state:?}"), inputs, run, move |x| {
        Array::from_fn(shape.clone(), |index| {
            let [from_x, from_h] = [0, 1].map(|which| gates::<3>(&x[which], index));
            let z = from_x[1] + from_h[1];
            sigmoid(-z) * fresh(from_x, from_h) + sigmoid(z) * x[2].at(index)
        })
    })
    .gradient(move |x, dy| {
        let [mut dx, mut dh, mut ds] = [0, 1, 2].map(|which| Array::zeros(x[which].shape.clone()));
        Array::from_fn(state.clone(), |index| {
            let [from_x, from_h] = [0, 1].map(|which| gates::<3>(&x[which], index));
            let (r, z, d) = (from_x[0] + from_h[0], from_x[1] + from_h[1], dy.at(index));
            let n = fresh(from_x, from_h);
            let dn = d * sigmoid(-z) * tanh_slope(n);
            let dr = dn * from_h[2] * sigmoid_slope(r);
            let dz = d * (x[2].at(index) - n) * sigmoid_slope(z);
            put(&mut dx, index, [dr, dz, dn]);
            put(&mut dh, index, [dr, dz, dn * sigmoid(r)]);
            *ds.at_mut(index) = d * sigmoid(z);
            d
        });
        vec![Some(dx), Some(dh), Some(ds)]
    })
}
