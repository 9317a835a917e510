//! Element-wise functions.

use crate::Result;
use crate::proof::{Array, Bounded, Case, Gen, Input, Row, TINY, Work, broadcast};
use crate::tensor::Tensor;

/// Rows named after the method that they test; some have a bench.
macro_rules! rows {
    ($($name:ident: $draw:expr $(, timed: $bench:expr)?;)*) => {
        &[$(Row {
            name: stringify!($name),
            covers: &[stringify!($name)],
            draw: $draw,
            bench: rows!(@bench $($bench)?),
        }),*]
    };
    (@bench) => { None };
    (@bench $bench:expr) => { Some($bench) };
}

pub(super) const ROWS: &[Row] = rows! {
    neg: |g| unary(g, (-9.0, 9.0), Tensor::neg, |x| -x, |_| -Bounded::ONE);
    exp: |g| unary(g, (-20.0, 20.0), Tensor::exp, Bounded::exp, Bounded::exp);
    log: |g| unary(g, (0.01, 20.0), Tensor::log, |x| rooted(x, Bounded::ln), |x| Bounded::ONE / x);
    sqrt: |g| unary(g, (0.05, 20.0), Tensor::sqrt, square_root, |x| Bounded::ONE / (square_root(x) * 2.0));
    rsqrt: |g| unary(g, (0.05, 20.0), Tensor::rsqrt, rsqrt, |x| -(rsqrt(x) * rsqrt(x) * rsqrt(x)) * 0.5);
    recip: |g| {
        let ends = g.choose(&[(0.1, 9.0), (-9.0, -0.1)]);
        unary(g, ends, Tensor::recip, |x| Bounded::ONE / x, |x| -(Bounded::ONE / x).square())
    };
    abs: |g| unary(g, (-9.0, 9.0), Tensor::abs, Bounded::abs, sign);
    square: |g| unary(g, (-9.0, 9.0), Tensor::square, Bounded::square, |x| x * 2.0);
    relu: |g| unary(g, (-3.0, 3.0), Tensor::relu, |x| x.max(Bounded::ZERO), |x| piecewise(x, |x| x > 0.0 || x.is_nan(), Bounded::ONE, Bounded::ZERO));
    sigmoid: |g| unary(g, (-20.0, 20.0), Tensor::sigmoid, sigmoid, |x| sigmoid(x) * (Bounded::ONE - sigmoid(x)));
    tanh: |g| {
        let ends = g.choose(&[(-9.0, 9.0), (-1.0, 1.0)]);
        unary(g, ends, Tensor::tanh, tanh, |x| (Bounded::ONE - tanh(x)) * (Bounded::ONE + tanh(x)))
    };
    gelu: |g| unary(g, (-4.0, 9.0), Tensor::gelu, gelu, gelu_slope);
    silu: |g| unary(g, (-20.0, 20.0), Tensor::silu, silu, silu_slope),
        timed: |g| timed_unary(g, Tensor::silu, |x| x * sigmoid(x));
    softplus: |g| unary(g, (-20.0, 20.0), Tensor::softplus, softplus, sigmoid);
    hardswish: |g| unary(g, (-5.0, 5.0), Tensor::hardswish, hardswish, hardswish_slope);
    erf: |g| unary(g, (-3.0, 3.0), Tensor::erf, error_function, |x| {
        (-x.square()).exp() * Bounded::rounded(std::f64::consts::FRAC_2_SQRT_PI)
    }), timed: |g| timed_unary(g, Tensor::erf, error_function);
    sin: |g| wave(g, Tensor::sin, sine, cosine), timed: |g| timed_unary(g, Tensor::sin, sine);
    cos: |g| wave(g, Tensor::cos, cosine, |x| -sine(x));
    floor: |g| unary(g, (-9.0, 9.0), Tensor::floor, |x| x.through(f64::floor), |_| Bounded::ZERO);
    ceil: |g| unary(g, (-9.0, 9.0), Tensor::ceil, |x| x.through(f64::ceil), |_| Bounded::ZERO);
    round: |g| unary(g, (-9.0, 9.0), Tensor::round, |x| x.through(f64::round_ties_even), |_| Bounded::ZERO);
    sign: |g| unary(g, (-9.0, 9.0), Tensor::sign, sign, |_| Bounded::ZERO);
    logical_not: |g| {
        let shape = g.shape(4);
        let x = whole(g, &shape);
        Case::new("", vec![x], |t| t[0].logical_not(), |x| x[0].map(|x| one_if(x.value() == 0.0)))
    };
    elu: |g| {
        let alpha = g.choose(&[1.0f32, 0.3, -0.5, 0.0]);
        let scale = f64::from(alpha);
        let f = move |x: Bounded| if x.value() > 0.0 { x } else { exp_m1(x) * scale };
        let slope = move |x: Bounded| piecewise(x, |x| x > 0.0, Bounded::ONE, x.exp() * scale);
        let case = unary(g, (-5.0, 3.0), move |x| x.elu(alpha), f, slope);
        Case { label: format!("alpha {alpha}"), ..case }
    };
    clamp: |g| {
        let inf = f32::INFINITY;
        let (min, max) = g.choose(&[(-1.0f32, 1.0f32), (0.0, 2.5), (-inf, 0.5), (0.25, inf), (1.0, 1.0)]);
        let (low, high) = (f64::from(min), f64::from(max));
        let f = move |x: Bounded| x.max(low.into()).min(high.into());
        let slope = move |x: Bounded| piecewise(x, |x| low <= x && x <= high, Bounded::ONE, Bounded::ZERO);
        let case = unary(g, (-3.0, 3.0), move |x| x.clamp(min, max), f, slope);
        Case { label: format!("{min} to {max}"), ..case }
    };

    add: |g| binary(g, [(-3.0, 3.0); 2], Tensor::add, |a, b| a + b, [|_, _| Bounded::ONE; 2]);
    sub: |g| binary(g, [(-3.0, 3.0); 2], Tensor::sub, |a, b| a - b, [|_, _| Bounded::ONE, |_, _| -Bounded::ONE]);
    mul: |g| binary(g, [(-3.0, 3.0); 2], Tensor::mul, |a, b| a * b, [|_, b| b, |a, _| a]);
    div: |g| {
        let divisors = g.choose(&[(0.5, 3.0), (-3.0, -0.5)]);
        binary(g, [(-3.0, 3.0), divisors], Tensor::div, |a, b| a / b, [|_, b| Bounded::ONE / b, |a, b| -(a / b / b)])
    };
    maximum: |g| binary(g, [(-3.0, 3.0); 2], Tensor::maximum, Bounded::max, [share, |a, b| share(b, a)]);
    minimum: |g| binary(g, [(-3.0, 3.0); 2], Tensor::minimum, Bounded::min, [|a, b| share(b, a), share]);
    pow: |g| binary(g, [(0.1, 3.0), (-3.0, 3.0)], Tensor::pow, power, [power_by_base, power_by_exponent]);
    add_scalar: |g| with_scalar(g, (-3.0, 3.0), Tensor::add_scalar, |x, v| x + v, |_, _| Bounded::ONE);
    sub_scalar: |g| with_scalar(g, (-3.0, 3.0), Tensor::sub_scalar, |x, v| x - v, |_, _| Bounded::ONE);
    mul_scalar: |g| with_scalar(g, (-3.0, 3.0), Tensor::mul_scalar, |x, v| x * v, |_, v| v);
    div_scalar: |g| {
        let value = g.choose(&[2.0, 3.0, -1.0, 0.5, 0.1]);
        with_number(g, value, (-3.0, 3.0), Tensor::div_scalar, |x, v| x / v, |_, v| Bounded::ONE / v)
    };
    pow_scalar: |g| with_scalar(g, (0.1, 3.0), Tensor::pow_scalar, power, power_by_base);
    maximum_scalar: |g| with_scalar(g, (-3.0, 3.0), Tensor::maximum_scalar, Bounded::max, share);
    minimum_scalar: |g| with_scalar(g, (-3.0, 3.0), Tensor::minimum_scalar, Bounded::min, |x, v| share(v, x));

    eq: |g| comparison(g, Tensor::eq, |a, b| a == b);
    ne: |g| comparison(g, Tensor::ne, |a, b| a != b);
    lt: |g| comparison(g, Tensor::lt, |a, b| a < b);
    le: |g| comparison(g, Tensor::le, |a, b| a <= b);
    gt: |g| comparison(g, Tensor::gt, |a, b| a > b);
    ge: |g| comparison(g, Tensor::ge, |a, b| a >= b);
    eq_scalar: |g| comparison_with(g, Tensor::eq_scalar, |x, v| x == v);
    ne_scalar: |g| comparison_with(g, Tensor::ne_scalar, |x, v| x != v);
    lt_scalar: |g| comparison_with(g, Tensor::lt_scalar, |x, v| x < v);
    le_scalar: |g| comparison_with(g, Tensor::le_scalar, |x, v| x <= v);
    gt_scalar: |g| comparison_with(g, Tensor::gt_scalar, |x, v| x > v);
    ge_scalar: |g| comparison_with(g, Tensor::ge_scalar, |x, v| x >= v);
    logical_and: |g| comparison(g, Tensor::logical_and, |a, b| a != 0.0 && b != 0.0);
    logical_or: |g| comparison(g, Tensor::logical_or, |a, b| a != 0.0 || b != 0.0);
    logical_xor: |g| comparison(g, Tensor::logical_xor, |a, b| (a != 0.0) != (b != 0.0));
    where_cond: where_cond, timed: timed_where;
    masked_fill: masked_fill;
};

/// A function of one operand; `slope` is its derivative. In one case of eight the operand is one element, expanded.
fn unary(
    g: &mut Gen,
    (low, high): (f64, f64),
    run: impl Fn(&Tensor) -> Result<Tensor> + 'static,
    f: impl Fn(Bounded) -> Bounded + 'static,
    slope: impl Fn(Bounded) -> Bounded + 'static,
) -> Case {
    let shape = g.shape(4);
    let expanded = g.one_in(8);
    let own = if expanded { vec![1; shape.len()] } else { shape.clone() };
    let x = g.values(&own, low, high);
    let wide = shape.clone();
    let run = move |t: &[Tensor]| if expanded { run(&t[0].expand(&wide)?) } else { run(&t[0]) };
    Case::new("", vec![x], run, move |x| Array::from_fn(shape.clone(), |index| f(x[0].broadcast_at(index))))
        .gradient(move |x, dy| {
            let whole = |index: &[usize]| dy.at(index) * slope(x[0].broadcast_at(index));
            vec![Some(Array::from_fn(dy.shape.clone(), whole).sum_to(&x[0].shape))]
        })
}

/// A function of two operands that broadcast; `slopes` are its derivatives.
fn binary(
    g: &mut Gen,
    ranges: [(f64, f64); 2],
    run: fn(&Tensor, &Tensor) -> Result<Tensor>,
    f: fn(Bounded, Bounded) -> Bounded,
    slopes: [fn(Bounded, Bounded) -> Bounded; 2],
) -> Case {
    let (a, b) = g.broadcast_pair(5);
    let inputs = vec![g.values(&a, ranges[0].0, ranges[0].1), g.values(&b, ranges[1].0, ranges[1].1)];
    let label = format!("{a:?} and {b:?}");
    Case::new(label, inputs, move |t| run(&t[0], &t[1]), move |x| pairs(x, f)).gradient(move |x, dy| {
        let part = |which: usize| {
            let slopes = pairs(x, slopes[which]);
            Some(dy.zip(&slopes, |dy, slope| dy * slope).sum_to(&x[which].shape))
        };
        vec![part(0), part(1)]
    })
}

/// A function of one operand and a number; see [`unary`].
fn with_scalar(
    g: &mut Gen,
    ends: (f64, f64),
    run: fn(&Tensor, f32) -> Result<Tensor>,
    f: fn(Bounded, Bounded) -> Bounded,
    slope: fn(Bounded, Bounded) -> Bounded,
) -> Case {
    let value = g.choose(&[2.0, 3.0, -1.0, 0.5, 0.1, 0.0]);
    with_number(g, value, ends, run, f, slope)
}

fn with_number(
    g: &mut Gen,
    value: f32,
    ends: (f64, f64),
    run: fn(&Tensor, f32) -> Result<Tensor>,
    f: fn(Bounded, Bounded) -> Bounded,
    slope: fn(Bounded, Bounded) -> Bounded,
) -> Case {
    let v = Bounded::exact(f64::from(value));
    let case = unary(g, ends, move |x| run(x, value), move |x| f(x, v), move |x| slope(x, v));
    Case { label: format!("with {value}"), ..case }
}

/// Applies `f` to each pair of elements of the first two arrays, broadcast.
pub(super) fn pairs(x: &[Array], f: impl Fn(Bounded, Bounded) -> Bounded) -> Array {
    let shape = broadcast(&x[0].shape, &x[1].shape).unwrap_or_default();
    Array::from_fn(shape, |index| f(x[0].broadcast_at(index), x[1].broadcast_at(index)))
}

/// A function of two operands that is 1 or 0. Comparisons see subnormals unflushed.
fn comparison(g: &mut Gen, run: fn(&Tensor, &Tensor) -> Result<Tensor>, holds: fn(f64, f64) -> bool) -> Case {
    let (a, b) = g.broadcast_pair(5);
    let inputs = vec![whole(g, &a), whole(g, &b)];
    let reference = move |x: &[Array]| pairs(x, |a, b| one_if(holds(a.value(), b.value())));
    Case::new(format!("{a:?} and {b:?}"), inputs, move |t| run(&t[0], &t[1]), reference)
}

fn comparison_with(
    g: &mut Gen,
    run: fn(&Tensor, f32) -> Result<Tensor>,
    holds: fn(f64, f64) -> bool,
) -> Case {
    let shape = g.shape(4);
    let value = g.choose(&[-1.0f32, 0.0, 1.0, 2.0]);
    let inputs = vec![whole(g, &shape)];
    let reference = move |x: &[Array]| x[0].map(|x| one_if(holds(x.value(), f64::from(value))));
    Case::new(format!("with {value}"), inputs, move |t| run(&t[0], value), reference)
}

fn masked_fill(g: &mut Gen) -> Case {
    let (a, b) = g.broadcast_pair(5);
    let out = broadcast(&a, &b).unwrap_or_default();
    let inputs = vec![g.values(&a, -3.0, 3.0), whole(g, &b)];
    let value = g.choose(&[0.0f32, -1.5, 7.0]);
    let hidden = |x: &[Array], index: &[usize]| x[1].broadcast_at(index).value() != 0.0;
    let wide = out.clone();
    Case::new(
        format!("{a:?} by {b:?}"),
        inputs,
        move |t| t[0].masked_fill(&t[1], value),
        move |x| {
            let filled = Bounded::exact(f64::from(value));
            Array::from_fn(
                out.clone(),
                |index| if hidden(x, index) { filled } else { x[0].broadcast_at(index) },
            )
        },
    )
    .gradient(move |x, dy| {
        let own = |index: &[usize]| if hidden(x, index) { Bounded::ZERO } else { dy.at(index) };
        vec![Some(Array::from_fn(wide.clone(), own).sum_to(&x[0].shape)), None]
    })
}

fn where_cond(g: &mut Gen) -> Case {
    let (a, b) = g.broadcast_pair(5);
    let out = broadcast(&a, &b).unwrap_or_default();
    let mut shapes = [a.clone(), b.clone(), g.choose(&[&a, &b, &out]).clone()];
    shapes.rotate_left(g.below(3));
    let label = format!("{shapes:?}");
    let inputs = vec![whole(g, &shapes[0]), g.values(&shapes[1], -3.0, 3.0), g.values(&shapes[2], -3.0, 3.0)];
    let (wide, run) = (out.clone(), |t: &[Tensor]| t[0].where_cond(&t[1], &t[2]));
    Case::new(label, inputs, run, move |x| {
        let picked = |index: &[usize]| &x[if x[0].broadcast_at(index).value() != 0.0 { 1 } else { 2 }];
        Array::from_fn(out.clone(), |index| picked(index).broadcast_at(index))
    })
    .gradient(move |x, dy| {
        let part = |which: usize, truth: bool| {
            let picked = |index: &[usize]| (x[0].broadcast_at(index).value() != 0.0) == truth;
            let own = |index: &[usize]| if picked(index) { dy.at(index) } else { Bounded::ZERO };
            Some(Array::from_fn(wide.clone(), own).sum_to(&x[which].shape))
        };
        vec![None, part(1, true), part(2, false)]
    })
}

/// Number of elements of the timed cases.
const TIMED: usize = 1 << 20;

fn timed_unary(g: &mut Gen, run: fn(&Tensor) -> Result<Tensor>, f: fn(Bounded) -> Bounded) -> (Work, Case) {
    let x = g.values(&[TIMED], -9.0, 9.0);
    let case = Case::new("1M", vec![x], move |t| run(&t[0]), move |x| x[0].map(f));
    (Work::Bytes(2 * 4 * TIMED), case)
}

fn timed_where(g: &mut Gen) -> (Work, Case) {
    let inputs = vec![whole(g, &[TIMED]), g.values(&[TIMED], 0.0, 1.0), g.values(&[TIMED], 1.0, 2.0)];
    let case = Case::new(
        "1M",
        inputs,
        |t| t[0].where_cond(&t[1], &t[2]),
        |x| {
            let pick = |at: usize| x[if x[0].data[at].value() != 0.0 { 1 } else { 2 }].data[at];
            Array { shape: vec![TIMED], data: (0..TIMED).map(pick).collect() }
        },
    );
    (Work::Bytes(4 * 4 * TIMED), case)
}

/// Small whole numbers, so that there are ties and zeros; without a gradient.
fn whole(g: &mut Gen, shape: &[usize]) -> Input {
    let x = g.constants(shape, -2.5, 2.5);
    let round = |x: Bounded| if x.value().abs() < TINY { x } else { x.value().round().into() };
    Input { array: x.array.map(round), ..x }
}

pub(super) fn one_if(holds: bool) -> Bounded {
    if holds { Bounded::ONE } else { Bounded::ZERO }
}

/// `yes` if `holds` is true of x, else `no`. If flushing a subnormal x decides it, anything between the two.
pub(super) fn piecewise(x: Bounded, holds: impl Fn(f64) -> bool, yes: Bounded, no: Bounded) -> Bounded {
    match [x.value(), 0.0].map(holds) {
        [as_it_is, flushed] if x.error() > 0.0 && as_it_is != flushed => {
            let (middle, half) = (0.5 * (yes.value() + no.value()), 0.5 * (yes.value() - no.value()).abs());
            Bounded::new(middle, half + yes.error() + no.error())
        }
        [true, _] => yes,
        [false, _] => no,
    }
}

/// A function that is NaN below 0. A negative subnormal may be flushed, so it has no bound.
fn rooted(x: Bounded, f: fn(Bounded) -> Bounded) -> Bounded {
    if x.value() < 0.0 && x.value() + x.error() >= 0.0 { Bounded::UNKNOWN } else { f(x) }
}

fn square_root(x: Bounded) -> Bounded {
    rooted(x, Bounded::sqrt)
}

fn rsqrt(x: Bounded) -> Bounded {
    // The sign of zero is not specified.
    if x.value() == 0.0 { f64::INFINITY.into() } else { rooted(x, Bounded::rsqrt) }
}

fn sign(x: Bounded) -> Bounded {
    if x.value() == 0.0 || x.value().is_nan() { x } else { x.value().signum().into() }
}

pub(super) fn sigmoid(x: Bounded) -> Bounded {
    let e = (-x.abs()).exp();
    (if x.value() < 0.0 { e } else { Bounded::ONE }) / (e + 1.0)
}

/// The error bounds are those of `cpu::functions`.
pub(super) fn tanh(x: Bounded) -> Bounded {
    if x.value().abs() < 0.625 {
        return x.through(f64::tanh).plus(0.0, 2.5);
    }
    let large = Bounded::ONE - Bounded::from(2.0) / ((x.abs().min(15.0.into()) * 2.0).exp() + 1.0);
    if x.value() < 0.0 { -large } else { large }
}

fn exp_m1(x: Bounded) -> Bounded {
    if x.value() > -0.5 { x.through(f64::exp_m1).plus(0.0, 3.5) } else { x.exp() - 1.0 }
}

pub(super) fn softplus(x: Bounded) -> Bounded {
    x.max(Bounded::ZERO) + (-x.abs()).exp().through(f64::ln_1p).plus(0.0, 6.5)
}

pub(super) fn silu(x: Bounded) -> Bounded {
    x.max((-104.0).into()) * sigmoid(x)
}

/// Uses 1 - sigmoid(x) = sigmoid(-x). Beyond ±104 one of the sigmoids is 0; the clamp keeps 0 times infinity from
/// becoming NaN.
pub(super) fn silu_slope(x: Bounded) -> Bounded {
    sigmoid(x) * (x.max((-104.0).into()).min(104.0.into()) * sigmoid(-x) + 1.0)
}

fn hardswish(x: Bounded) -> Bounded {
    x.max((-3.0).into()) * (x + 3.0).max(Bounded::ZERO).min(6.0.into()) / 6.0
}

fn hardswish_slope(x: Bounded) -> Bounded {
    match x.value() {
        above if above >= 3.0 => Bounded::ONE,
        below if below <= -3.0 => Bounded::ZERO,
        _ => x / 3.0 + 0.5,
    }
}

fn error_function(x: Bounded) -> Bounded {
    x.through(erf).plus(0.0, 4.0)
}

/// Twice the cumulative normal distribution.
fn twice_phi(x: Bounded) -> Bounded {
    error_function(x * Bounded::rounded(std::f64::consts::FRAC_1_SQRT_2)) + 1.0
}

pub(super) fn gelu(x: Bounded) -> Bounded {
    x.max((-14.0).into()) * 0.5 * twice_phi(x)
}

pub(super) fn gelu_slope(x: Bounded) -> Bounded {
    let c = x.max((-14.0).into()).min(14.0.into());
    let density = (-(c * 0.5 * c)).exp() * Bounded::rounded(0.398_942_280_401_432_7);
    twice_phi(x) * 0.5 + c * density
}

/// Sine or cosine, of angles up to ±7, up to ±1e4, or up to f32's range.
fn wave(
    g: &mut Gen,
    run: fn(&Tensor) -> Result<Tensor>,
    f: fn(Bounded) -> Bounded,
    slope: fn(Bounded) -> Bounded,
) -> Case {
    let reach = g.choose(&[0.7, 7.0, 7.0, 1e4, 3e38]);
    let case = unary(g, (-reach, reach), run, f, slope);
    // Finite differences do not resolve the slope there.
    if reach > 1e4 { Case { gradient: None, ..case } } else { case }
}

fn sine(x: Bounded) -> Bounded {
    x.with_slope(f64::sin, 1.0).plus(2f64.powi(-28), 6.0)
}

fn cosine(x: Bounded) -> Bounded {
    x.with_slope(f64::cos, 1.0).plus(2f64.powi(-28), 6.0)
}

/// The fraction of the maximum's gradient that `a` gets.
fn share(a: Bounded, b: Bounded) -> Bounded {
    match a.value().partial_cmp(&b.value()) {
        Some(std::cmp::Ordering::Less) => Bounded::ZERO,
        Some(std::cmp::Ordering::Equal) => 0.5.into(),
        _ => Bounded::ONE,
    }
}

/// a^b. WGSL defines it as exp2(b · log2(a)); log2 errs by 3 ulp, or 2^-21 absolute in [0.5, 2], and exp2 by 3 + 2·|x|
/// ulp.
fn power(a: Bounded, b: Bounded) -> Bounded {
    let (size, y) = (a.value().abs(), a.value().powf(b.value()));
    // A number that may be flushed to 0 has no bound, since powers of 0 differ.
    if [a, b].iter().any(|x| x.value() != 0.0 && x.value().abs() < TINY) {
        return Bounded::UNKNOWN;
    }
    let ordinary =
        size != 0.0 && size != 1.0 && size.is_finite() && b.value() != 0.0 && b.value().is_finite();
    if !ordinary || y.is_nan() {
        return Bounded::new(y, 0.0);
    }
    let near_one = (0.5..=2.0).contains(&size);
    let log = Bounded::new(size.log2(), if near_one { 2f64.powi(-21) } else { 0.0 }).plus(0.0, 3.0);
    let exponent = b * log;
    let reach = (exponent.value().abs() + exponent.error()).min(160.0);
    let power = exponent.through(f64::exp2).plus(0.0, 3.0 + 2.0 * reach);
    if y < 0.0 { -power } else { power }
}

fn power_by_base(a: Bounded, b: Bounded) -> Bounded {
    if b.value() == 0.0 {
        return Bounded::ZERO;
    }
    let slope = b * power(a, b - 1.0);
    // If the exponent may be flushed to 0, the slope may be 0 even if the base is NaN or infinite.
    if b.error() > 0.0 && !slope.value().is_finite() { Bounded::UNKNOWN } else { slope }
}

fn power_by_exponent(a: Bounded, b: Bounded) -> Bounded {
    if a.value() == 0.0 && b.value() >= 0.0 { Bounded::ZERO } else { power(a, b) * rooted(a, Bounded::ln) }
}

/// The error function, by its power series and its continued fraction.
pub(crate) fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum(); // 1 to the last bit
    }
    if x.abs() < 3.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..100 {
            term *= -x * x / n as f64;
            sum += term / (2 * n + 1) as f64;
        }
        return sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let z = x.abs();
    let fraction = (1..80).rev().fold(z, |f, k| z + k as f64 / 2.0 / f);
    (1.0 - (-z * z).exp() / std::f64::consts::PI.sqrt() / fraction).copysign(x)
}
