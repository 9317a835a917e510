//! Chains of views and copies, and filled tensors.

use super::indexing::moved;
use crate::Result;
use crate::proof::{Array, Bounded, Case, Gen, Row, ravel, unravel};
use crate::shape::MAX_RANK;
use crate::tensor::Tensor;
use std::rc::Rc;

pub(super) const ROWS: &[Row] = &[
    Row { name: "views", covers: VIEWS, draw: views, bench: None },
    Row { name: "views of ids", covers: VIEWS, draw: views_of_ids, bench: None },
    Row { name: "indices", covers: &["i"], draw: indices, bench: None },
    Row { name: "triangles", covers: &["tril", "triu"], draw: triangles, bench: None },
    Row { name: "full", covers: &[], draw: full, bench: None },
];

const VIEWS: &[&str] = &[
    "reshape",
    "flatten",
    "permute",
    "transpose",
    "t",
    "slice",
    "slice_step",
    "expand",
    "unsqueeze",
    "squeeze",
    "copy",
    "contiguous",
];

/// The reference of a view: its shape, and for each element its position in the original tensor.
#[derive(Clone)]
struct Picture {
    shape: Vec<usize>,
    from: Vec<usize>,
}

impl Picture {
    /// The view of `shape` whose element at an index is this view's element at `source(index)`.
    fn seen(&self, shape: Vec<usize>, source: impl Fn(&[usize]) -> Vec<usize>) -> Picture {
        let count = shape.iter().product();
        let from =
            (0..count).map(|at| self.from[ravel(&source(&unravel(at, &shape)), &self.shape)]).collect();
        Picture { shape, from }
    }

    fn reshaped(&self, shape: Vec<usize>) -> Picture {
        Picture { shape, from: self.from.clone() }
    }
}

type Step = Box<dyn Fn(&Tensor) -> Result<Tensor>>;

/// A random op that the shape allows: its name, the call, and the reference after it.
fn step(g: &mut Gen, x: &Picture) -> (String, Step, Picture) {
    let mut shape = x.shape.clone();
    let rank = shape.len();
    let at = g.below(rank.max(1));
    match g.below(12) {
        0 if rank > 0 => {
            let mut axes: Vec<usize> = (0..rank).collect();
            (0..rank).for_each(|k| axes.swap(k, g.below(rank)));
            let after = x.seen(axes.iter().map(|&axis| shape[axis]).collect(), |index| {
                let mut source = vec![0; index.len()];
                axes.iter().zip(index).for_each(|(&axis, &i)| source[axis] = i);
                source
            });
            (format!("permute {axes:?}"), Box::new(move |x| x.permute(&axes)), after)
        }
        kind @ 1..=2 if rank > kind - 1 => {
            // t() swaps the last two.
            let (a, b) = if kind == 2 { (rank - 2, rank - 1) } else { (at, g.below(rank)) };
            shape.swap(a, b);
            let after = x.seen(shape, |index| {
                let mut source = index.to_vec();
                source.swap(a, b);
                source
            });
            let back = b as isize - rank as isize;
            let run: Step = match kind {
                2 => Box::new(|x| x.t()),
                _ => Box::new(move |x| x.transpose(a as isize, back)),
            };
            (format!("transpose {a} {b}"), run, after)
        }
        3..=4 if rank > 0 => {
            let start = g.below(shape[at] + 1);
            let (end, step) = (start + g.below(shape[at] - start + 1), g.range(1..=3));
            shape[at] = (start..end).step_by(step).count();
            let after = x.seen(shape, |index| {
                let mut source = index.to_vec();
                source[at] = start + index[at] * step;
                source
            });
            let run: Step = match step {
                1 => Box::new(move |x| x.slice(at as isize, start..end)),
                _ => Box::new(move |x| x.slice_step(at as isize, start..end, step)),
            };
            (format!("slice {at} {start}..{end} by {step}"), run, after)
        }
        // Splits an axis in two, or joins two adjacent axes.
        kind @ 5..=6 if rank > 0 => {
            if kind == 5 && rank < MAX_RANK {
                let factors: Vec<usize> =
                    (1..=shape[at].max(1)).filter(|&f| shape[at].is_multiple_of(f)).collect();
                let factor = g.choose(&factors);
                shape.splice(at..=at, [factor, shape[at] / factor]);
            } else if at + 1 < rank {
                shape.splice(at..at + 2, [shape[at] * shape[at + 1]]);
            }
            let after = x.reshaped(shape.clone());
            (format!("reshape {shape:?}"), Box::new(move |x| x.reshape(&shape)), after)
        }
        7 if rank > 0 => {
            let last = g.range(at..=rank - 1);
            let joined = shape[at..=last].iter().product();
            shape.splice(at..=last, [joined]);
            let flatten = move |x: &Tensor| x.flatten(at as isize, last as isize - rank as isize);
            (format!("flatten {at} to {last}"), Box::new(flatten), x.reshaped(shape))
        }
        8 if rank < MAX_RANK => {
            let place = g.below(rank + 1);
            shape.insert(place, 1);
            (format!("unsqueeze {place}"), Box::new(move |x| x.unsqueeze(place as isize)), x.reshaped(shape))
        }
        9 if rank > 0 && shape[at] == 1 => {
            shape.remove(at);
            (format!("squeeze {at}"), Box::new(move |x| x.squeeze(at as isize)), x.reshaped(shape))
        }
        10 => {
            let room = g.size / x.from.len().max(1);
            if rank > 0 && shape[at] == 1 {
                shape[at] = g.below(room.min(4) + 1);
            } else if rank < MAX_RANK {
                shape.insert(0, g.range(1..=3).min(room.max(1)));
            }
            let lead = shape.len() - rank;
            let after = x.seen(shape.clone(), |index| {
                x.shape.iter().zip(&index[lead..]).map(|(&d, &i)| if d == 1 { 0 } else { i }).collect()
            });
            (format!("expand {shape:?}"), Box::new(move |x| x.expand(&shape)), after)
        }
        kind if kind % 2 == 0 => ("copy".to_string(), Box::new(Tensor::copy), x.clone()),
        _ => ("contiguous".to_string(), Box::new(Tensor::contiguous), x.clone()),
    }
}

/// A chain of views of a tensor of shape `whole`: its name, the calls, and the reference of the result.
fn chain(g: &mut Gen, whole: &[usize]) -> (String, Vec<Step>, Picture) {
    let mut picture = Picture { shape: whole.to_vec(), from: (0..whole.iter().product()).collect() };
    let (mut names, mut steps) = (Vec::new(), Vec::new());
    for _ in 0..g.range(1..=6) {
        let (name, step, after) = step(g, &picture);
        names.push(name);
        steps.push(step);
        picture = after;
    }
    (format!("{whole:?}: {}", names.join(", ")), steps, picture)
}

fn run(steps: &[Step], x: &Tensor) -> Result<Tensor> {
    steps.iter().try_fold(x.clone(), |x, step| step(&x))
}

fn views(g: &mut Gen) -> Case {
    let whole = g.shape(4);
    let (label, steps, Picture { shape, from }) = chain(g, &whole);
    let x = g.values(&whole, -3.0, 3.0);
    let out = shape.clone();
    let source = move |_: &[Array], index: &[usize]| Some(unravel(from[ravel(index, &out)], &whole));
    moved(label, vec![x], shape, 0.0, move |t| run(&steps, &t[0]), Rc::new(source))
}

fn views_of_ids(g: &mut Gen) -> Case {
    let whole = g.shape(4);
    let (label, steps, Picture { shape, from }) = chain(g, &whole);
    let ids = g.ids(&whole, 1000);
    let reference = move |x: &[Array]| Array {
        shape: shape.clone(),
        data: from.iter().map(|&from| x[0].data[from]).collect(),
    };
    Case::new(label, vec![ids], move |t| run(&steps, &t[0]), reference)
}

/// An index or a range for each of the first one or two axes.
fn indices(g: &mut Gen) -> Case {
    let mut whole = g.shape(4);
    if whole.iter().take(2).any(|&length| length == 0) || whole.is_empty() {
        whole = vec![1, 2];
    }
    let (at, start) = (g.below(whole[0]), g.below(whole[0]));
    let last = whole.get(1).map(|&length| g.below(length));
    let kind = g.below(if whole.len() > 1 { 4 } else { 2 });
    let shape = match kind {
        0 => whole[1..].to_vec(),
        1 => [&[whole[0] - start], &whole[1..]].concat(),
        2 => whole[2..].to_vec(),
        _ => [&[whole[0] - start], &whole[2..]].concat(),
    };
    let second = last.unwrap_or(0);
    let back = at as isize - whole[0] as isize;
    let run = move |t: &[Tensor]| match kind {
        0 => t[0].i(back),
        1 => t[0].i(start..),
        2 => t[0].i((at, second)),
        _ => t[0].i((start.., second)),
    };
    let source = move |_: &[Array], index: &[usize]| {
        Some(match kind {
            0 => [&[at], index].concat(),
            1 => [&[start + index[0]], &index[1..]].concat(),
            2 => [&[at, second], index].concat(),
            _ => [&[start + index[0], second], &index[1..]].concat(),
        })
    };
    let x = g.values(&whole, -3.0, 3.0);
    moved(format!("kind {kind} of {whole:?}"), vec![x], shape, 0.0, run, Rc::new(source))
}

fn triangles(g: &mut Gen) -> Case {
    let mut shape = g.shape(4);
    while shape.len() < 2 {
        shape.insert(0, 2);
    }
    let (upper, diagonal) = (g.flag(), g.range(0..=6) as isize - 3);
    let x = g.values(&shape, -3.0, 3.0);
    let run = move |t: &[Tensor]| if upper { t[0].triu(diagonal) } else { t[0].tril(diagonal) };
    let source = move |_: &[Array], index: &[usize]| {
        let [row, column] = [2, 1].map(|back| index[index.len() - back] as isize);
        let kept = if upper { column >= row + diagonal } else { column <= row + diagonal };
        kept.then(|| index.to_vec())
    };
    moved(format!("{shape:?}, upper {upper}, {diagonal}"), vec![x], shape, 0.0, run, Rc::new(source))
}

/// The op has no input; the input of the case only determines the device.
fn full(g: &mut Gen) -> Case {
    let shape = g.shape(MAX_RANK);
    let here = g.constants(&[1], 0.0, 1.0);
    let (kind, value) = (g.below(4), g.number(-3.0, 3.0));
    let (value, shape) = match kind {
        0 => (0.0, shape),
        1 => (1.0, shape),
        2 => (value, Vec::new()),
        _ => (value, shape),
    };
    let dims = shape.clone();
    let run = move |t: &[Tensor]| match kind {
        0 => Tensor::zeros(&dims, t[0].device()),
        1 => Tensor::ones(&dims, t[0].device()),
        2 => Tensor::scalar(value as f32, t[0].device()),
        _ => Tensor::full(&dims, value as f32, t[0].device()),
    };
    Case::new(format!("{shape:?} of {value}"), vec![here], run, move |_| {
        Array::full(shape.clone(), Bounded::exact(value))
    })
}
