//! Normalization.

use crate::Tensor;
use crate::proof::{Array, Bounded, Case, Gen, Input, Row, ULP, Work};

pub(super) const ROWS: &[Row] = &[
    Row { name: "layer_norm", covers: &["layer_norm"], draw: layer_norm, bench: Some(layer_norm_bench) },
    Row { name: "rms_norm", covers: &["rms_norm"], draw: rms_norm, bench: Some(rms_norm_bench) },
    Row {
        name: "add_layer_norm",
        covers: &["add_layer_norm"],
        draw: add_layer_norm,
        bench: Some(add_layer_norm_bench),
    },
    Row { name: "add_rms_norm", covers: &["add_rms_norm"], draw: add_rms_norm, bench: None },
    Row { name: "group_norm", covers: &["group_norm"], draw: group_norm, bench: Some(group_norm_bench) },
    Row { name: "instance_norm", covers: &["instance_norm"], draw: instance_norm, bench: None },
    Row { name: "batch_norm", covers: &["batch_norm"], draw: batch_norm, bench: Some(batch_norm_bench) },
    Row { name: "batch_norm statistics", covers: &["batch_norm"], draw: batch_statistics, bench: None },
    Row {
        name: "batch_norm_by",
        covers: &["batch_norm_by"],
        draw: batch_norm_by,
        bench: Some(batch_norm_by_bench),
    },
];

/// Which elements have a mean and a variance in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Layer(usize),
    Rms(usize),
    Group(usize),
    Batch,
}

/// A normalization of a tensor of this shape.
#[derive(Debug, Clone)]
struct Norm {
    kind: Kind,
    shape: Vec<usize>,
    eps: f32,
    weight: bool,
    bias: bool,
}

impl Norm {
    fn draw(g: &mut Gen, kind: Kind, shape: Vec<usize>) -> Norm {
        let bias = g.flag() && !matches!(kind, Kind::Rms(_));
        let mut norm = Norm { kind, shape, eps: g.choose(&[1e-5, 1e-3, 0.5]), weight: g.flag(), bias };
        if !norm.centred() && norm.channels().iter().product::<usize>() == 1 {
            norm.eps = 0.5; // else all results are near 1 or -1
        }
        norm
    }

    /// The shape of the weight and the bias.
    fn channels(&self) -> Vec<usize> {
        match self.kind {
            Kind::Layer(axes) | Kind::Rms(axes) => self.shape[self.shape.len() - axes..].to_vec(),
            _ => vec![self.shape[1]],
        }
    }

    /// The channel of element `at`.
    fn channel(&self, at: usize) -> usize {
        match self.kind {
            Kind::Layer(_) | Kind::Rms(_) => at % self.channels().iter().product::<usize>(),
            _ => at / self.shape[2..].iter().product::<usize>() % self.shape[1],
        }
    }

    /// The row of element `at`: which mean and variance it is normalized by.
    fn statistics(&self, at: usize) -> usize {
        match self.kind {
            Kind::Layer(_) | Kind::Rms(_) => at / self.channels().iter().product::<usize>(),
            Kind::Group(groups) => at / (self.shape[1..].iter().product::<usize>() / groups),
            Kind::Batch => self.channel(at),
        }
    }

    /// The number of rows, each with a mean and a variance.
    fn rows(&self) -> usize {
        match self.kind {
            Kind::Layer(axes) | Kind::Rms(axes) => self.shape[..self.shape.len() - axes].iter().product(),
            Kind::Group(groups) => self.shape[0] * groups,
            Kind::Batch => self.shape[1],
        }
    }

    fn centred(&self) -> bool {
        !matches!(self.kind, Kind::Rms(_))
    }

    /// Groups the elements into `count` sets; `number` maps a position to its set.
    fn sorted(x: &[Bounded], count: usize, number: impl Fn(usize) -> usize) -> Vec<Vec<Bounded>> {
        let mut sets = vec![Vec::new(); count];
        x.iter().enumerate().for_each(|(at, &x)| sets[number(at)].push(x));
        sets
    }

    /// The mean and the variance of each row; for RMS norm 0 and the mean square.
    fn moments(&self, x: &Array) -> Vec<[Bounded; 2]> {
        let rows = Norm::sorted(&x.data, self.rows(), |at| self.statistics(at));
        rows.iter().map(|row| if self.centred() { moments(row) } else { squares(row) }).collect()
    }

    /// The normalized elements, and the factor that each was multiplied by.
    fn normalized(&self, x: &Array, statistics: &[[Bounded; 2]]) -> (Vec<Bounded>, Vec<Bounded>) {
        let scales: Vec<Bounded> =
            statistics.iter().map(|[_, v]| (*v + f64::from(self.eps)).rsqrt()).collect();
        let own = |at: usize| self.statistics(at);
        let h = x.data.iter().enumerate();
        let h = h.map(|(at, &x)| (x - statistics[own(at)][0]) * scales[own(at)]).collect();
        (h, (0..x.numel()).map(|at| scales[own(at)]).collect())
    }

    /// The weight and the bias, from the inputs that follow the others.
    fn parameters<'a, T>(&self, inputs: &'a [T]) -> [Option<&'a T>; 2] {
        let weight = inputs.first().filter(|_| self.weight);
        [weight, inputs.get(usize::from(self.weight)).filter(|_| self.bias)]
    }

    /// The output of the op.
    fn output(&self, x: &Array, statistics: &[[Bounded; 2]], parameters: &[Array]) -> Array {
        let [weight, bias] = self.parameters(parameters);
        let (h, _) = self.normalized(x, statistics);
        let y = h.iter().enumerate().map(|(at, &h)| {
            let scaled = weight.map_or(h, |w| h * w.data[self.channel(at)]);
            bias.map_or(scaled, |b| scaled + b.data[self.channel(at)])
        });
        Array { shape: x.shape.clone(), data: y.collect() }
    }

    /// The gradients with respect to x, weight and bias. `given`: the statistics are inputs, and do not depend on x.
    fn gradients(
        &self,
        x: &Array,
        statistics: &[[Bounded; 2]],
        weight: Option<&Array>,
        dy: &Array,
        given: bool,
    ) -> [Array; 3] {
        let (h, scale) = self.normalized(x, statistics);
        let channels: usize = self.channels().iter().product();
        let by_channel = |terms: &[Bounded]| {
            let sets = Norm::sorted(terms, channels, |at| self.channel(at));
            Array { shape: self.channels(), data: sets.iter().map(|set| sum(set)).collect() }
        };
        let dh: Vec<Bounded> = dy.data.iter().zip(&h).map(|(&dy, &h)| dy * h).collect();
        let [dw, db] = [by_channel(&dh), by_channel(&dy.data)];

        // If all elements of a row have the same weight, it is applied last.
        let weight = |at: usize| weight.map_or(Bounded::ONE, |w| w.data[self.channel(at)]);
        let (inside, scale): (Vec<Bounded>, Vec<Bounded>) = match self.kind {
            Kind::Batch => (0..x.numel()).map(|at| (Bounded::ONE, scale[at] * weight(at))).unzip(),
            _ => (0..x.numel()).map(|at| (weight(at), scale[at])).unzip(),
        };
        let g: Vec<Bounded> = dy.data.iter().zip(&inside).map(|(&dy, &weight)| dy * weight).collect();
        if given {
            let dx = g.iter().zip(&scale).map(|(&g, &scale)| g * scale).collect();
            return [Array { shape: x.shape.clone(), data: dx }, dw, db];
        }
        let means = |terms: &[Bounded]| -> Vec<Bounded> {
            let rows = Norm::sorted(terms, self.rows(), |at| self.statistics(at));
            rows.iter().map(|row| sum(row) / row.len() as f64).collect()
        };
        let gh: Vec<Bounded> = g.iter().zip(&h).map(|(&g, &h)| g * h).collect();
        let [mean_g, mean_gh] = [means(&g), means(&gh)];
        let dx = (0..x.numel()).map(|at| {
            let row = self.statistics(at);
            let centred = if self.centred() { g[at] - mean_g[row] } else { g[at] };
            (centred - h[at] * mean_gh[row]) * scale[at]
        });
        [Array { shape: x.shape.clone(), data: dx.collect() }, dw, db]
    }

    /// The gradients of the inputs that exist. `between`: the number of inputs without a gradient after x.
    fn present(&self, [dx, dw, db]: [Array; 3], between: usize) -> Vec<Option<Array>> {
        let mut all = vec![None; 1 + between];
        all[0] = Some(dx);
        all.extend(self.weight.then_some(Some(dw)));
        all.extend(self.bias.then_some(Some(db)));
        all
    }

    fn label(&self) -> String {
        let Norm { kind, shape, eps, weight, bias } = self;
        format!("{kind:?} of {shape:?}, eps {eps}, weight {weight}, bias {bias}")
    }

    /// The inputs: x, in some cases far from zero, then weight and bias.
    fn inputs(&self, g: &mut Gen) -> Vec<Input> {
        let centre = if self.centred() { g.choose(&[0.0, 0.0, 0.0, -20.0, 300.0]) } else { 0.0 };
        let x = g.values(&self.shape, centre - 3.0, centre + 3.0);
        let mut inputs = vec![x];
        for _ in 0..usize::from(self.weight) + usize::from(self.bias) {
            // Away from 0: if a row has one element, only the weight or the bias shows in the result.
            inputs.push(g.values(&self.channels(), 0.5, 2.0));
        }
        inputs
    }
}

/// An upper bound on the additions that a term passes through in a sum of `n`. One invocation adds four terms per
/// iteration, with two more additions to combine them and up to three for the remainder. If lanes and slices divide the
/// sum, merging takes fewer steps than it saves. The CPU twin has sixteen accumulators per slice, and adds the slices.
fn depth(n: usize) -> usize {
    n / 4 + 20
}

/// An upper bound on the roundings of merging up to `n / 16` slices.
fn merging(n: usize) -> usize {
    n / 256 + 20
}

fn sum(terms: &[Bounded]) -> Bounded {
    Bounded::sum_by(depth(terms.len()) + merging(terms.len()), terms.iter().copied())
}

/// Higham's γ: the relative error of `n` roundings.
fn gamma(n: usize) -> f64 {
    n as f64 * ULP / (1.0 - n as f64 * ULP)
}

/// The mean square, for normalization without a mean.
fn squares(x: &[Bounded]) -> [Bounded; 2] {
    let squares: Vec<Bounded> = x.iter().map(|&x| x * x).collect();
    [Bounded::ZERO, sum(&squares) / x.len() as f64]
}

/// The mean and the variance, as the kernels compute them. The first mean cancels out; a rule per operation would count
/// its error twice, so this bound is derived by hand. The n elements, and those of each slice, lie within `range` of
/// each other; `most` is the largest magnitude.
fn moments(x: &[Bounded]) -> [Bounded; 2] {
    let (n, count) = (x.len(), x.len() as f64);
    let values = || x.iter().map(|x| x.value());
    if values().any(|x| !x.is_finite()) || n == 0 {
        // An infinity minus an infinite mean is NaN, in any order.
        return [Bounded::exact(f64::NAN); 2];
    }
    let mean = values().sum::<f64>() / count;
    let squares: f64 = values().map(|x| (x - mean).powi(2)).sum();
    let distances: f64 = values().map(|x| (x - mean).abs()).sum();
    let most = values().fold(0.0, |most: f64, x| most.max(x.abs()));
    let range = values().fold(f64::MIN, f64::max) - values().fold(f64::MAX, f64::min);
    let (sums, merges) = (gamma(depth(n)), gamma(merging(n)));

    // The first mean m of a slice: the errors of a sum and of a division.
    let first = (sums + 2.5 * ULP) * most;
    // d = x - m. sum(d)/n equals m - mean up to `shift_error`, and is at most `shift`.
    let apart = range + first;
    let shift_error = (sums + ULP) * apart + 2.5 * ULP * first;
    let shift = first + shift_error;
    // If the squares overflow, the kernel keeps the first mean.
    let overflows = squares > 0.99 * f64::from(f32::MAX);
    let slice_mean = shift_error + ULP * most + if overflows { first } else { 0.0 };
    // Σd² - Σd·Σd/n: the sum of squares about the mean of the slice, for any m.
    let within = (sums + 4.0 * ULP) * (squares + count * first * first)
        + count * (2.0 * first * shift_error + shift_error * shift_error + 5.0 * ULP * shift * shift);

    // Merging slices: the mean of their means relative to the first, and the squares n_s (m_s - mean)² between them.
    let whole_mean = slice_mean + (merges + 5.0 * ULP) * (range + 2.0 * slice_mean) + ULP * most;
    let off = slice_mean + whole_mean + ULP * range;
    let between = 2.0 * off * distances + count * off * off + (merges + 3.0 * ULP) * squares;
    let sliced = n >= 32;
    // 1% for products of errors, and 1e-37 per element for flushing.
    let error = |own: f64, more: f64| 1.01 * if sliced { own + more } else { own } + 1e-37 * count;
    let mean = Bounded::new(mean, error(slice_mean, whole_mean));
    [mean, Bounded::new(squares, error(within, between)) / count]
}

/// A case of an op that computes the statistics itself.
fn case(
    g: &mut Gen,
    norm: Norm,
    run: impl Fn(&Norm, &Tensor, [Option<&Tensor>; 2]) -> crate::Result<Tensor> + 'static,
) -> Case {
    let inputs = norm.inputs(g);
    let [a, b, c] = [norm.clone(), norm.clone(), norm.clone()];
    Case::new(
        norm.label(),
        inputs,
        move |t| run(&a, &t[0], a.parameters(&t[1..])),
        move |x| b.output(&x[0], &b.moments(&x[0]), &x[1..]),
    )
    .gradient(move |x, dy| {
        let [weight, _] = c.parameters(&x[1..]);
        c.present(c.gradients(&x[0], &c.moments(&x[0]), weight, dy, false), 0)
    })
}

/// A shape of rank 1 to 4, and how many of the last axes are normalized over.
fn rows(g: &mut Gen) -> (Vec<usize>, usize) {
    let rank = g.range(1..=4);
    (g.shape_of_rank(rank), g.range(1..=rank))
}

/// A shape `[n, c, ..]`.
fn planes(g: &mut Gen) -> Vec<usize> {
    let rank = g.range(2..=4);
    g.shape_of_rank(rank)
}

fn layer(g: &mut Gen, shape: Vec<usize>, axes: usize) -> Case {
    let norm = Norm::draw(g, Kind::Layer(axes), shape);
    case(g, norm, move |norm, x, [w, b]| x.layer_norm(axes, w, b, norm.eps))
}

fn layer_norm(g: &mut Gen) -> Case {
    let (shape, axes) = rows(g);
    layer(g, shape, axes)
}

fn rms(g: &mut Gen, shape: Vec<usize>, axes: usize) -> Case {
    let norm = Norm::draw(g, Kind::Rms(axes), shape);
    case(g, norm, move |norm, x, [w, _]| x.rms_norm(axes, w, norm.eps))
}

fn rms_norm(g: &mut Gen) -> Case {
    let (shape, axes) = rows(g);
    rms(g, shape, axes)
}

/// A normalization of the sum of two tensors. Shows output 0, the sum, or both stacked. The inputs have so few digits
/// that their sum is exact.
fn added(
    g: &mut Gen,
    norm: Norm,
    run: impl Fn(&Norm, &[Tensor], [Option<&Tensor>; 2]) -> crate::Result<[Tensor; 2]> + 'static,
) -> Case {
    let mut inputs = norm.inputs(g);
    inputs.insert(1, g.values(&norm.shape, -2.0, 2.0));
    for input in &mut inputs[..2] {
        let coarse = |x: Bounded| match (x.value() * 1024.0).round() {
            whole if x.value().abs() > 1e-30 && whole.is_finite() => Bounded::exact(whole / 1024.0),
            _ => x,
        };
        input.array = input.array.map(coarse);
    }
    let shown: &'static [usize] = g.choose(&[&[0][..], &[1], &[0, 1]]);
    let exact = |sum: f64| f64::from(sum as f32) == sum || sum.is_nan();
    let sum = move |x: &[Array]| {
        x[0].zip(&x[1], |a, b| match a.value() + b.value() {
            sum if exact(sum) => Bounded::exact(sum),
            // One term is much larger than the others.
            sum => Bounded::rounded(sum),
        })
    };
    let [a, b, c] = [norm.clone(), norm.clone(), norm.clone()];
    let run = move |t: &[Tensor]| {
        let outputs = run(&a, t, a.parameters(&t[2..]))?;
        Tensor::stack(&shown.iter().map(|&which| &outputs[which]).collect::<Vec<_>>(), 0)
    };
    let joined = |parts: Vec<Array>, shape: &[usize]| Array {
        shape: [&[parts.len()], shape].concat(),
        data: parts.into_iter().flat_map(|part| part.data).collect(),
    };
    Case::new(format!("{}, shows {shown:?}", norm.label()), inputs, run, move |x| {
        let sum = sum(x);
        let output = |&which: &usize| match which {
            0 => b.output(&sum, &b.moments(&sum), &x[2..]),
            _ => sum.clone(),
        };
        joined(shown.iter().map(output).collect(), &b.shape)
    })
    .gradient(move |x, dy| {
        let (sum, [weight, _]) = (sum(x), c.parameters(&x[2..]));
        let given = |output: usize| {
            let place = shown.iter().position(|&which| which == output)?;
            let count = sum.numel();
            Some(Array { shape: c.shape.clone(), data: dy.data[place * count..][..count].to_vec() })
        };
        let (of_y, of_sum) = (given(0), given(1));
        let none = Array::zeros(c.shape.clone());
        let [through, mut dw, mut db] =
            c.gradients(&sum, &c.moments(&sum), weight, of_y.as_ref().unwrap_or(&none), false);
        if of_y.is_none() {
            // The norm has no gradient: use 0, because 0 times infinity would be NaN.
            [dw, db] = [dw, db].map(|grad| Array::zeros(grad.shape));
        }
        let dx = match (&of_y, of_sum) {
            (None, Some(direct)) => direct,
            (_, None) => through,
            (_, Some(direct)) => through.zip(&direct, |a, b| a + b),
        };
        let mut all = c.present([dx.clone(), dw, db], 1);
        all[1] = Some(dx);
        all
    })
}

fn add_layer(g: &mut Gen, shape: Vec<usize>, axes: usize) -> Case {
    let norm = Norm::draw(g, Kind::Layer(axes), shape);
    added(g, norm, move |norm, t, [w, b]| t[0].add_layer_norm(&t[1], axes, w, b, norm.eps))
}

fn add_layer_norm(g: &mut Gen) -> Case {
    let (shape, axes) = rows(g);
    add_layer(g, shape, axes)
}

fn add_rms_norm(g: &mut Gen) -> Case {
    let (shape, axes) = rows(g);
    let norm = Norm::draw(g, Kind::Rms(axes), shape);
    added(g, norm, move |norm, t, [w, _]| t[0].add_rms_norm(&t[1], axes, w, norm.eps))
}

fn grouped(g: &mut Gen, shape: Vec<usize>, groups: usize) -> Case {
    let norm = Norm::draw(g, Kind::Group(groups), shape);
    case(g, norm, move |norm, x, [w, b]| x.group_norm(groups, w, b, norm.eps))
}

fn group_norm(g: &mut Gen) -> Case {
    let mut shape = planes(g);
    // Groups of 1 to 4 channels.
    let (groups, group) = (shape[1].max(1), g.range(1..=4));
    shape[1] = if shape.iter().product::<usize>() * group <= g.size { groups * group } else { groups };
    grouped(g, shape, groups)
}

fn instance_norm(g: &mut Gen) -> Case {
    let mut shape = planes(g);
    shape[1] = shape[1].max(1);
    let norm = Norm::draw(g, Kind::Group(shape[1]), shape);
    case(g, norm, |norm, x, [w, b]| x.instance_norm(w, b, norm.eps))
}

/// A shape for batch normalization in training: one element per channel would have no variance.
fn batch(g: &mut Gen) -> Vec<usize> {
    let mut shape = planes(g);
    if shape[0] * shape[2..].iter().product::<usize>() == 1 {
        shape[0] = 2;
    }
    shape
}

fn batched(g: &mut Gen, shape: Vec<usize>) -> Case {
    let norm = Norm::draw(g, Kind::Batch, shape);
    case(g, norm, |norm, x, [w, b]| Ok(x.batch_norm(w, b, norm.eps)?.output))
}

fn batch_norm(g: &mut Gen) -> Case {
    let shape = batch(g);
    batched(g, shape)
}

/// The mean and the variance of the batch, and the running statistics updated with them.
fn batch_statistics(g: &mut Gen) -> Case {
    // An empty batch has no statistics, and without elements to drop the tightness check fails. At most 1000 elements
    // per channel, so that a missing one exceeds the error of the means.
    let mut shape: Vec<usize> =
        planes(g).iter().enumerate().map(|(axis, &d)| d.max(if axis == 0 { 2 } else { 1 })).collect();
    while shape.iter().product::<usize>() / shape[1] > 1000 {
        let longest = (2..shape.len()).max_by_key(|&axis| shape[axis]).filter(|&axis| shape[axis] > 1);
        shape[longest.unwrap_or(0)] /= 2;
    }
    let norm = Norm { weight: false, bias: false, ..Norm::draw(g, Kind::Batch, shape) };
    let (which, momentum) = (g.below(4), g.choose(&[0.0, 0.1f32, 1.0]));
    let mut inputs = norm.inputs(g);
    inputs[0].kind = crate::proof::Kind::Constant;
    inputs.extend([g.constants(&norm.channels(), -1.0, 1.0), g.constants(&norm.channels(), 0.5, 2.0)]);
    let eps = norm.eps;
    let run = move |t: &[Tensor]| {
        let batch = t[0].batch_norm(None, None, eps)?;
        let [mut mean, mut variance] = [t[1].clone(), t[2].clone()];
        batch.update(&mut mean, &mut variance, momentum)?;
        Ok(vec![batch.mean, batch.variance, mean, variance].swap_remove(which))
    };
    let label = format!("{}, number {which}, momentum {momentum}", norm.label());
    Case::new(label, inputs, run, move |x| {
        let count = x[0].numel() / norm.shape[1].max(1);
        let unbias = Bounded::exact(f64::from((count as f64 / (count as f64 - 1.0)) as f32));
        let moments = norm.moments(&x[0]);
        let follow = |old: Bounded, new: Bounded| old + (new - old) * f64::from(momentum);
        let data = moments.iter().enumerate().map(|(channel, &[mean, variance])| match which {
            0 => mean,
            1 => variance,
            2 => follow(x[1].data[channel], mean),
            _ => follow(x[2].data[channel], variance * unbias),
        });
        Array { shape: norm.channels(), data: data.collect() }
    })
}

fn by(g: &mut Gen, shape: Vec<usize>) -> Case {
    let norm = Norm::draw(g, Kind::Batch, shape);
    let mut inputs = norm.inputs(g);
    inputs.splice(1..1, [g.constants(&norm.channels(), -1.0, 1.0), g.constants(&norm.channels(), 0.1, 2.0)]);
    let [a, b, c] = [norm.clone(), norm.clone(), norm.clone()];
    let pairs = |x: &[Array]| -> Vec<[Bounded; 2]> {
        x[1].data.iter().zip(&x[2].data).map(|(&mean, &variance)| [mean, variance]).collect()
    };
    Case::new(
        norm.label(),
        inputs,
        move |t| {
            let [weight, bias] = a.parameters(&t[3..]);
            t[0].batch_norm_by(&t[1], &t[2], weight, bias, a.eps)
        },
        move |x| b.output(&x[0], &pairs(x), &x[3..]),
    )
    .gradient(move |x, dy| {
        let [weight, _] = c.parameters(&x[3..]);
        c.present(c.gradients(&x[0], &pairs(x), weight, dy, true), 2)
    })
}

fn batch_norm_by(g: &mut Gen) -> Case {
    let shape = planes(g);
    by(g, shape)
}

/// x is read once, y written once.
fn timed(case: Case) -> (Work, Case) {
    (Work::Bytes(8 * case.inputs[0].array.numel()), case)
}

fn layer_norm_bench(g: &mut Gen) -> (Work, Case) {
    timed(layer(g, vec![4096, 1024], 1))
}

/// Two tensors are read once, two written once.
fn add_layer_norm_bench(g: &mut Gen) -> (Work, Case) {
    let case = add_layer(g, vec![4096, 1024], 1);
    (Work::Bytes(16 * case.inputs[0].array.numel()), case)
}

fn rms_norm_bench(g: &mut Gen) -> (Work, Case) {
    timed(rms(g, vec![4096, 1024], 1))
}

fn group_norm_bench(g: &mut Gen) -> (Work, Case) {
    timed(grouped(g, vec![16, 64, 56, 56], 8))
}

fn batch_norm_bench(g: &mut Gen) -> (Work, Case) {
    timed(batched(g, vec![16, 64, 56, 56]))
}

fn batch_norm_by_bench(g: &mut Gen) -> (Work, Case) {
    timed(by(g, vec![16, 64, 56, 56]))
}
