//! Reference results in f64 by plain loops: complete for the training step, else at sampled positions.

use crate::cases::{BATCH, Case, EPSILON, LEARNING_RATE, LOSSES, Op, batch};

/// The largest error of the outputs, relative to the largest value of the same output.
pub fn error(case: &Case, outputs: &[Vec<f32>]) -> Result<f64, String> {
    let want = wanted(case);
    if outputs.len() != want.len() {
        return Err(format!("{} outputs instead of {}", outputs.len(), want.len()));
    }
    let mut worst = 0.0;
    for (got, want) in outputs.iter().zip(&want) {
        if got.len() != want.len {
            return Err(format!("{} values instead of {}", got.len(), want.len));
        }
        let places = samples(want.len);
        let wanted: Vec<f64> = places.iter().map(|&i| (want.at)(i)).collect();
        let largest = wanted.iter().fold(f64::MIN_POSITIVE, |max, value| max.max(value.abs()));
        for (&i, value) in places.iter().zip(&wanted) {
            let error = (got[i] as f64 - value).abs() / largest;
            worst = if error.is_nan() { f64::INFINITY } else { error.max(worst) };
        }
    }
    Ok(worst)
}

/// The largest error allowed. Five steps of Adam amplify rounding; one op does not.
pub fn tolerance(op: Op) -> f64 {
    if op == Op::TrainStep { 1e-3 } else { 1e-5 }
}

struct Want<'a> {
    len: usize,
    at: Box<dyn Fn(usize) -> f64 + 'a>,
}

/// Up to 2048 evenly spaced positions, including the first and the last.
fn samples(len: usize) -> Vec<usize> {
    let count = len.min(2048);
    (0..count).map(|i| if count == 1 { 0 } else { i * (len - 1) / (count - 1) }).collect()
}

fn one<'a>(len: usize, at: impl Fn(usize) -> f64 + 'a) -> Vec<Want<'a>> {
    vec![Want { len, at: Box::new(at) }]
}

fn wanted(case: &Case) -> Vec<Want<'_>> {
    let input = |i: usize| &case.inputs[i].data[..];
    let value = move |i: usize, at: usize| case.inputs[i].data[at] as f64;
    let shape = |i: usize| &case.inputs[i].shape[..];
    match case.op {
        Op::Matmul => {
            let (k, n) = (shape(0)[1], shape(1)[1]);
            one(shape(0)[0] * n, move |i| {
                (0..k).map(|j| value(0, i / n * k + j) * value(1, j * n + i % n)).sum()
            })
        }
        Op::Conv2d { pad } => {
            let conv = Conv::new(case, pad);
            one(conv.outputs(), move |i| conv.forward(i))
        }
        Op::Conv2dBackward { pad } => {
            let conv = Conv::new(case, pad);
            vec![
                Want { len: input(0).len(), at: Box::new(move |i| conv.grad_x(i)) },
                Want { len: input(1).len(), at: Box::new(move |i| conv.grad_w(i)) },
                // Every output contributes its gradient, which is 1.
                Want { len: conv.o, at: Box::new(move |_| (conv.outputs() / conv.o) as f64) },
            ]
        }
        Op::MaxPool2d => {
            let (h, w) = (shape(0)[2], shape(0)[3]);
            let (oh, ow) = (h / 2, w / 2);
            let at = move |i: usize| {
                let corner = i / (oh * ow) * h * w + i / ow % oh * 2 * w + i % ow * 2;
                [0, 1, w, w + 1].map(|step| value(0, corner + step)).into_iter().fold(f64::MIN, f64::max)
            };
            one(input(0).len() / (h * w) * oh * ow, at)
        }
        Op::Softmax => {
            let cols = shape(0)[1];
            let total = move |row: usize| -> f64 { (0..cols).map(|j| value(0, row * cols + j).exp()).sum() };
            let totals: Vec<f64> = (0..shape(0)[0]).map(total).collect();
            one(input(0).len(), move |i| value(0, i).exp() / totals[i / cols])
        }
        Op::Attention => {
            let (n, d) = (shape(0)[2], shape(0)[3]);
            let at = move |i: usize| {
                let (row, keys) = (i / d * d, i / (n * d) * n * d);
                let score = |j: usize| -> f64 {
                    let products = (0..d).map(|c| value(0, row + c) * value(1, keys + j * d + c));
                    products.sum::<f64>() / (d as f64).sqrt()
                };
                let weights: Vec<f64> = (0..n).map(|j| score(j).exp()).collect();
                let sum: f64 = (0..n).map(|j| weights[j] * value(2, keys + j * d + i % d)).sum();
                sum / weights.iter().sum::<f64>()
            };
            one(input(0).len(), at)
        }
        Op::Add => one(input(0).len(), move |i| value(0, i) + value(1, i)),
        Op::Sum => one(1, move |_| input(0).iter().map(|&x| x as f64).sum()),
        Op::GeluMulAdd => {
            let at = move |i| {
                let x = value(0, i) * value(1, i) + 1.0;
                x * 0.5 * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2))
            };
            one(input(0).len(), at)
        }
        Op::TrainStep => {
            let losses = train(case);
            one(LOSSES, move |i| losses[i])
        }
    }
}

/// A convolution with stride 1.
#[derive(Clone, Copy)]
struct Conv<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    pad: usize,
    n: usize,
    c: usize,
    h: usize,
    w: usize,
    o: usize,
    kh: usize,
    kw: usize,
    oh: usize,
    ow: usize,
}

impl<'a> Conv<'a> {
    fn new(case: &'a Case, pad: usize) -> Self {
        let [x, weight, bias] = [0, 1, 2].map(|i| &case.inputs[i].data[..]);
        let [n, c, h, w] = case.inputs[0].dims();
        let [o, _, kh, kw] = case.inputs[1].dims();
        let (oh, ow) = (h + 2 * pad - kh + 1, w + 2 * pad - kw + 1);
        Conv { x, weight, bias, pad, n, c, h, w, o, kh, kw, oh, ow }
    }

    fn outputs(&self) -> usize {
        self.n * self.o * self.oh * self.ow
    }

    /// An element of x, zero in the padding. `y` and `x` are relative to the corner of the padding.
    fn padded(&self, n: usize, c: usize, y: usize, x: usize) -> f64 {
        let inside = (self.pad..self.h + self.pad).contains(&y) && (self.pad..self.w + self.pad).contains(&x);
        if !inside {
            return 0.0;
        }
        self.x[((n * self.c + c) * self.h + y - self.pad) * self.w + x - self.pad] as f64
    }

    fn forward(&self, i: usize) -> f64 {
        let (x, y) = (i % self.ow, i / self.ow % self.oh);
        let (o, n) = (i / (self.oh * self.ow) % self.o, i / (self.oh * self.ow * self.o));
        let mut sum = self.bias[o] as f64;
        for c in 0..self.c {
            for ky in 0..self.kh {
                for kx in 0..self.kw {
                    let weight = self.weight[((o * self.c + c) * self.kh + ky) * self.kw + kx] as f64;
                    sum += weight * self.padded(n, c, y + ky, x + kx);
                }
            }
        }
        sum
    }

    /// The sum over outputs of the weights that multiply this element of x.
    fn grad_x(&self, i: usize) -> f64 {
        let (x, y) = (i % self.w + self.pad, i / self.w % self.h + self.pad);
        let c = i / (self.h * self.w) % self.c;
        let mut sum = 0.0;
        for ky in (0..self.kh).filter(|&ky| y >= ky && y - ky < self.oh) {
            for kx in (0..self.kw).filter(|&kx| x >= kx && x - kx < self.ow) {
                for o in 0..self.o {
                    sum += self.weight[((o * self.c + c) * self.kh + ky) * self.kw + kx] as f64;
                }
            }
        }
        sum
    }

    fn grad_w(&self, i: usize) -> f64 {
        let (kx, ky) = (i % self.kw, i / self.kw % self.kh);
        let c = i / (self.kh * self.kw) % self.c;
        let mut sum = 0.0;
        for n in 0..self.n {
            for y in 0..self.oh {
                for x in 0..self.ow {
                    sum += self.padded(n, c, y + ky, x + kx);
                }
            }
        }
        sum
    }
}

/// The losses of the first steps of training.
fn train(case: &Case) -> Vec<f64> {
    let mut params: Vec<Vec<f64>> =
        case.inputs[..6].iter().map(|array| array.data.iter().map(|&x| x as f64).collect()).collect();
    let mut moments: Vec<Vec<(f64, f64)>> = params.iter().map(|p| vec![(0.0, 0.0); p.len()]).collect();
    let mut losses = Vec::new();
    for step in 0..LOSSES {
        let (images, labels) = batch(case, step);
        let (loss, grads) = loss_and_grads(&params, images, &labels);
        losses.push(loss);
        let t = (step + 1) as i32;
        for ((param, moment), grad) in params.iter_mut().zip(&mut moments).zip(&grads) {
            for ((p, (m, v)), g) in param.iter_mut().zip(moment).zip(grad) {
                *m = 0.9 * *m + 0.1 * g;
                *v = 0.999 * *v + 0.001 * g * g;
                let (m, v) = (*m / (1.0 - 0.9f64.powi(t)), *v / (1.0 - 0.999f64.powi(t)));
                *p -= LEARNING_RATE * m / (v.sqrt() + EPSILON);
            }
        }
    }
    losses
}

fn loss_and_grads(params: &[Vec<f64>], images: &[f32], labels: &[i32]) -> (f64, Vec<Vec<f64>>) {
    let mut grads: Vec<Vec<f64>> = params.iter().map(|p| vec![0.0; p.len()]).collect();
    let mut loss = 0.0;
    for (image, &label) in images.chunks(784).zip(labels) {
        // Forward. Each pooled value keeps the position of the largest pixel of its window.
        let mut pooled = Vec::with_capacity(5408);
        let mut corners = Vec::with_capacity(5408);
        for o in 0..32 {
            let conv = |corner: usize| -> f64 {
                (0..9).map(|k| params[0][o * 9 + k] * image[corner + k / 3 * 28 + k % 3] as f64).sum()
            };
            for window in 0..169 {
                let corner = window / 13 * 2 * 28 + window % 13 * 2;
                let best = [0, 1, 28, 29].map(|step| (conv(corner + step), corner + step));
                let best = best.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
                pooled.push((best.0 + params[1][o]).max(0.0));
                corners.push(best.1);
            }
        }
        let hidden: Vec<f64> = dense(&pooled, &params[2], &params[3]).iter().map(|x| x.max(0.0)).collect();
        let logits = dense(&hidden, &params[4], &params[5]);
        let total: f64 = logits.iter().map(|x| x.exp()).sum();
        loss += (total.ln() - logits[label as usize]) / BATCH as f64;

        // Backward.
        let mut grad: Vec<f64> = logits.iter().map(|x| x.exp() / total / BATCH as f64).collect();
        grad[label as usize] -= 1.0 / BATCH as f64;
        let [conv_weight, conv_bias, weight_1, bias_1, weight_2, bias_2] = &mut grads[..] else {
            unreachable!()
        };
        let grad = dense_backward(&hidden, &params[4], &grad, weight_2, bias_2);
        let grad = dense_backward(&pooled, &params[2], &grad, weight_1, bias_1);
        for (i, (&grad, &corner)) in grad.iter().zip(&corners).enumerate() {
            let o = i / 169;
            conv_bias[o] += grad;
            for k in 0..9 {
                conv_weight[o * 9 + k] += grad * image[corner + k / 3 * 28 + k % 3] as f64;
            }
        }
    }
    (loss, grads)
}

/// `x · weight + bias`, weight as `[in, out]`.
fn dense(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let mut y = bias.to_vec();
    for (x, row) in x.iter().zip(weight.chunks(bias.len())) {
        y.iter_mut().zip(row).for_each(|(y, w)| *y += x * w);
    }
    y
}

/// Adds to the gradients of weight and bias, and returns the gradient of x, through the relu that computed x.
fn dense_backward(
    x: &[f64],
    weight: &[f64],
    grad: &[f64],
    weight_grad: &mut [f64],
    bias_grad: &mut [f64],
) -> Vec<f64> {
    bias_grad.iter_mut().zip(grad).for_each(|(sum, g)| *sum += g);
    let rows = weight.chunks(grad.len()).zip(weight_grad.chunks_mut(grad.len()));
    let back = x.iter().zip(rows).map(|(&x, (row, row_grad))| {
        row_grad.iter_mut().zip(grad).for_each(|(sum, g)| *sum += x * g);
        if x > 0.0 { row.iter().zip(grad).map(|(w, g)| w * g).sum() } else { 0.0 }
    });
    back.collect()
}
