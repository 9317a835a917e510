//! Matrix products: every kernel, with batches, broadcasting, transposes, bias and activation.

use super::pointwise::{sigmoid, tanh};
use crate::proof::{Array, Bounded, Case, Gen, Row, broadcast};
use crate::tensor::Tensor;
use crate::{Activation, Device, MatMulKernel};

pub(super) const ROWS: &[Row] = &[
    Row { name: "matmul", covers: &["matmul"], draw: auto, bench: None },
    Row { name: "matmul naive", covers: &["matmul_with"], draw: naive, bench: None },
    Row { name: "matmul registers", covers: &["matmul_with"], draw: registers, bench: None },
    Row { name: "matmul subgroup", covers: &["matmul_with"], draw: subgroup, bench: None },
    Row { name: "matmul tiled", covers: &["matmul_with"], draw: tiled, bench: None },
    Row { name: "einsum", covers: &["einsum"], draw: einsum, bench: None },
    Row { name: "linear", covers: &["linear"], draw: linear, bench: None },
];

/// The product over the last two axes; the leading axes broadcast. In any order and slicing, no product passes through
/// more than k - 1 additions.
fn product(a: &Array, b: &Array) -> Array {
    let split = |x: &Array| {
        (x.shape[..x.shape.len() - 2].to_vec(), x.shape[x.shape.len() - 2], x.shape[x.shape.len() - 1])
    };
    let ((lead_a, m, k), (lead_b, _, n)) = (split(a), split(b));
    let lead = broadcast(&lead_a, &lead_b).unwrap_or_default();
    let at = |x: &Array, index: &[usize], lead: &[usize], last: [usize; 2]| {
        let own = index[index.len() - 2 - lead.len()..index.len() - 2].iter().zip(lead);
        let own = own.map(|(&i, &d)| if d == 1 { 0 } else { i });
        x.at(&own.chain(last).collect::<Vec<_>>())
    };
    Array::from_fn([&lead[..], &[m, n]].concat(), |index| {
        let [row, col] = [index[index.len() - 2], index[index.len() - 1]];
        Bounded::sum((0..k).map(|l| at(a, index, &lead_a, [row, l]) * at(b, index, &lead_b, [l, col])))
    })
}

/// The transpose of the last two axes.
fn transposed(x: &Array) -> Array {
    let rank = x.shape.len();
    let mut shape = x.shape.clone();
    shape.swap(rank - 2, rank - 1);
    Array::from_fn(shape, |index| {
        let mut own = index.to_vec();
        own.swap(rank - 2, rank - 1);
        x.at(&own)
    })
}

/// An activation, as the kernels compute it.
fn activate(activation: Activation, z: Bounded) -> Bounded {
    match activation {
        Activation::None => z,
        Activation::Relu if z.value() < -z.error() => Bounded::ZERO,
        Activation::Relu => z.max(Bounded::ZERO),
        Activation::Sigmoid => sigmoid(z),
        Activation::Tanh => tanh(z),
    }
}

/// The gradient with respect to the input z of an activation, from the gradient `dy` of its output.
fn deactivate(activation: Activation, z: Bounded, dy: Bounded) -> Bounded {
    let y = activate(activation, z);
    match activation {
        Activation::None => dy,
        // NaN passes the gradient on. Within the error of the corner, the device may be on either side.
        Activation::Relu if z.value().is_nan() || z.value() > z.error() => dy,
        Activation::Relu if z.value() < -z.error() => Bounded::ZERO,
        Activation::Relu if z.value() == 0.0 && z.error() == 0.0 => Bounded::ZERO,
        Activation::Relu => Bounded::UNKNOWN,
        Activation::Sigmoid => dy * y * (Bounded::ONE - y),
        Activation::Tanh => dy * (Bounded::ONE - y) * (Bounded::ONE + y),
    }
}

/// `a · b + bias`.
fn sums(a: &Array, b: &Array, bias: Option<&Array>) -> Array {
    let sums = product(a, b);
    let Some(bias) = bias else { return sums };
    let mut at = 0;
    Array::from_fn(sums.shape.clone(), |index| {
        at += 1;
        sums.data[at - 1] + bias.at(&index[index.len() - 1..])
    })
}

/// `activation(a · b + bias)`.
fn layer(a: &Array, b: &Array, bias: Option<&Array>, activation: Activation) -> Array {
    sums(a, b, bias).map(|z| activate(activation, z))
}

/// The gradients with respect to a, b and the bias.
fn layer_grads(a: &Array, b: &Array, bias: Option<&Array>, activation: Activation, dy: &Array) -> [Array; 3] {
    let dz = sums(a, b, bias).zip(dy, |z, dy| deactivate(activation, z, dy));
    let columns = dz.shape[dz.shape.len() - 1];
    [
        product(&dz, &transposed(b)).sum_to(&a.shape),
        product(&transposed(a), &dz).sum_to(&b.shape),
        dz.sum_to(&[columns]),
    ]
}

/// Random sizes m, n, k of a product with at most `size` multiplications. If `size` allows, one in six has a k so long
/// that it is cut into slices (split-K), but not so long that a missing product would not show. More often, k is short
/// and the result large.
fn sizes(g: &mut Gen, batches: usize) -> [usize; 3] {
    let most = (g.size / batches.max(1)).max(1);
    if most >= 1100 && g.one_in(6) {
        let m = g.range(1..=most / 1100);
        return [m, 1, g.range(1024..=1100)];
    }
    // A wide result with short sums, which needs many workgroups.
    if g.one_in(6) || (most >= 10_000 && g.flag()) {
        let k = g.range(1..=3);
        let m = g.range(1..=200).min(most.div_ceil(k));
        return [m, (most / (k * m)).max(1), k];
    }
    let mut sizes = [g.length(), g.length(), g.length()];
    while sizes.iter().map(|&d| d.max(1)).product::<usize>() > most {
        let longest = (0..3).max_by_key(|&axis| sizes[axis]).unwrap_or(0);
        sizes[longest] = sizes[longest].div_ceil(2);
    }
    sizes
}

/// The leading axes of two operands, which broadcast.
fn leads(g: &mut Gen) -> [Vec<usize>; 2] {
    let rank = g.choose(&[0, 0, 1, 2]);
    let whole: Vec<usize> = (0..rank).map(|_| g.range(1..=3)).collect();
    let part: Vec<usize> = whole.iter().map(|&d| if g.one_in(3) { 1 } else { d }).collect();
    let part = part[g.below(rank + 1)..].to_vec();
    if g.flag() { [whole, part] } else { [part, whole] }
}

/// An activation, and a range of operands such that sums of k products do not saturate it.
fn activation(g: &mut Gen, k: usize) -> (Activation, f64) {
    match g.choose(&[Activation::None, Activation::Relu, Activation::Sigmoid, Activation::Tanh]) {
        plain @ (Activation::None | Activation::Relu) => (plain, 2.0),
        curved => (curved, (3f64.sqrt() / (k.max(1) as f64).powf(0.25)).min(1.5)),
    }
}

fn matmul(g: &mut Gen, kernel: MatMulKernel) -> Case {
    let [lead_a, lead_b] = leads(g);
    let batches = broadcast(&lead_a, &lead_b).unwrap_or_default().iter().product();
    let [m, n, k] = sizes(g, batches);
    let (activation, most) = activation(g, k);
    let mut inputs = vec![
        g.values(&[&lead_a[..], &[m, k]].concat(), -most, most),
        g.values(&[&lead_b[..], &[k, n]].concat(), -most, most),
    ];
    if g.flag() {
        inputs.push(g.values(&[n], -most, most));
    }
    let run = move |t: &[Tensor]| {
        if t.len() == 2 && activation == Activation::None && kernel == MatMulKernel::Auto {
            return t[0].matmul(&t[1]);
        }
        t[0].matmul_with(&t[1], t.get(2), activation, available(&t[0], kernel))
    };
    let label = format!("{:?} · {:?}, {activation:?}", inputs[0].array.shape, inputs[1].array.shape);
    Case::new(label, inputs, run, move |x| layer(&x[0], &x[1], x.get(2), activation)).gradient(
        move |x, dy| {
            let grads = layer_grads(&x[0], &x[1], x.get(2), activation, dy);
            grads.into_iter().take(x.len()).map(Some).collect()
        },
    )
}

/// `kernel`, or `Auto` if the tensor's device does not support it.
fn available(tensor: &Tensor, kernel: MatMulKernel) -> MatMulKernel {
    match tensor.device() {
        Device::Gpu(gpu) if kernel == MatMulKernel::Subgroup => match gpu.adapter().subgroup_size {
            (4, 4) | (8, 8) => kernel,
            _ => MatMulKernel::Auto,
        },
        _ => kernel,
    }
}

fn auto(g: &mut Gen) -> Case {
    matmul(g, MatMulKernel::Auto)
}

fn naive(g: &mut Gen) -> Case {
    matmul(g, MatMulKernel::Naive)
}

fn registers(g: &mut Gen) -> Case {
    matmul(g, MatMulKernel::Registers)
}

fn subgroup(g: &mut Gen) -> Case {
    matmul(g, MatMulKernel::Subgroup)
}

fn tiled(g: &mut Gen) -> Case {
    matmul(g, MatMulKernel::Tiled)
}

/// Batched products with either layout of the second operand: what an equation of two operands becomes.
fn einsum(g: &mut Gen) -> Case {
    let batch = g.range(1..=3);
    let [m, n, k] = sizes(g, batch);
    let crossed = g.flag();
    let equation = if crossed { "bij,bkj->bik" } else { "bij,bjk->bik" };
    let second = if crossed { [batch, n, k] } else { [batch, k, n] };
    let inputs = vec![g.values(&[batch, m, k], -2.0, 2.0), g.values(&second, -2.0, 2.0)];
    let straight = move |b: &Array| if crossed { transposed(b) } else { b.clone() };
    let label = format!("{equation} of {m}, {n}, {k}");
    let run = move |t: &[Tensor]| Tensor::einsum(equation, &[&t[0], &t[1]]);
    Case::new(label, inputs, run, move |x| product(&x[0], &straight(&x[1]))).gradient(move |x, dy| {
        let (da, db) = (product(dy, &transposed(&straight(&x[1]))), product(&transposed(&x[0]), dy));
        vec![Some(da), Some(straight(&db))]
    })
}

/// A product of all rows of the input, whatever its leading axes, with the transposed weight.
fn linear(g: &mut Gen) -> Case {
    let lead: Vec<usize> = (0..g.below(3)).map(|_| g.range(1..=4)).collect();
    let [m, n, k] = sizes(g, lead.iter().product());
    let (activation, most) = activation(g, k);
    let shape = [&lead[..], &[m, k]].concat();
    let out = [&lead[..], &[m, n]].concat();
    let rows: usize = lead.iter().product::<usize>() * m;
    let mut inputs = vec![g.values(&shape, -most, most), g.values(&[n, k], -most, most)];
    if g.flag() {
        inputs.push(g.values(&[n], -most, most));
    }
    let shaped = |x: &Array, shape: &[usize]| Array { shape: shape.to_vec(), data: x.data.clone() };
    let run = move |t: &[Tensor]| t[0].linear(&t[1], t.get(2), activation);
    let reference = move |x: &[Array]| {
        shaped(&layer(&shaped(&x[0], &[rows, k]), &transposed(&x[1]), x.get(2), activation), &out)
    };
    Case::new(format!("{shape:?} by [{n}, {k}], {activation:?}"), inputs, run, reference).gradient(
        move |x, dy| {
            let [a, dy] = [shaped(&x[0], &[rows, k]), shaped(dy, &[rows, n])];
            let [da, db, dbias] = layer_grads(&a, &transposed(&x[1]), x.get(2), activation, &dy);
            [shaped(&da, &x[0].shape), transposed(&db), dbias].into_iter().take(x.len()).map(Some).collect()
        },
    )
}
