//! Attention beyond the table and the golden files: long rows, elements that must not be read, errors, memory.

mod common;

use common::*;
use gristmill::gpu::{GpuDevice, GpuOptions, LimitsProfile};
use gristmill::{AttentionMask, AttentionOptions, Device, Result, Tensor, no_grad};

/// A whole unit in the last place of 1.0f32.
const ULP: f64 = f32::EPSILON as f64;

/// The device under test, the CPU, and the device with the kernels for hardware if these differ: on software with
/// subgroups of 8. SwiftShader takes half a minute to compile the same ones twice.
fn tested() -> Vec<Device> {
    let others = |gpu: &GpuDevice| gpu.adapter().subgroup_size == (8, 8);
    match device() {
        Device::Gpu(gpu) if others(&gpu) => devices_and_hardware(),
        _ => devices(),
    }
}

/// Devices, each with a size that is read in words of four and one that is not: these use different kernels.
fn by_size(devices: Vec<Device>) -> impl Iterator<Item = (Device, usize)> {
    devices.into_iter().flat_map(|device| [(device.clone(), 4), (device, 3)])
}

fn random(shape: &[usize], seed: u64) -> Array {
    Array::random(shape, seed, -1.0, 1.0)
}

/// Row `i` of head `h` of a tensor `[heads, n, d]`.
fn row(x: &Array, h: usize, i: usize) -> &[f64] {
    let (n, d) = (x.shape[1], x.shape[2]);
    &x.data[(h * n + i) * d..][..d]
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Results, and the error bound of each element.
struct Wanted {
    results: Vec<Array>,
    bounds: Vec<Array>,
}

/// The output and the gradients for q `[heads, n, d]`, k and v `[kv_heads, m, ..]` of numbers up to 1, causal or not,
/// in f64.
///
/// A score errs by one ulp for each of its d products, and two more. A weight errs by twice that (its own error, and
/// that of the sum), and by one ulp per addition, rescaling and exponential, at most 12 per tile of 32 keys. A slope
/// errs by the errors of do · v and delta, with dv products each.
fn reference(q: &Array, k: &Array, v: &Array, dy: &Array, causal: bool) -> Wanted {
    let [heads, n, d] = [q.shape[0], q.shape[1], q.shape[2]];
    let [kv_heads, m, dv] = [v.shape[0], v.shape[1], v.shape[2]];
    let scale = 1.0 / (d as f64).sqrt();
    let zeros = |shape: &[usize]| Array::new(shape, vec![0.0; shape.iter().product()]);
    let mut results = vec![zeros(&[heads, n, dv]), zeros(&q.shape), zeros(&k.shape), zeros(&v.shape)];
    let mut bounds: Vec<Array> = results.clone();
    for (h, i) in (0..heads).flat_map(|h| (0..n).map(move |i| (h, i))) {
        let kv = h / (heads / kv_heads);
        let seen: Vec<usize> = (0..m).filter(|&j| !causal || j + n <= i + m).collect();
        let scores: Vec<f64> = seen.iter().map(|&j| scale * dot(row(q, h, i), row(k, kv, j))).collect();
        let top = scores.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = scores.iter().map(|s| (s - top).exp()).sum();
        let range = scores.iter().fold(0.0f64, |range, s| range.max(top - s)) + top.abs();
        let share = (2.0 * (d + 2) as f64 * d as f64 * scale
            + 2.0 * m as f64
            + 12.0 * (m / 32 + 2) as f64
            + 8.0 * range)
            * ULP;
        let out = (h * n + i) * dv;
        for (&j, s) in seen.iter().zip(&scores) {
            let p = (s - top).exp() / sum;
            for (c, v) in row(v, kv, j).iter().enumerate() {
                results[0].data[out + c] += p * v;
                bounds[0].data[out + c] += p * v.abs() * share;
            }
        }
        let grad = row(dy, h, i);
        let delta = dot(&results[0].data[out..][..dv], grad);
        let own = (2.0 + 2.0 * dv as f64 + share / ULP) * ULP * dv as f64;
        for (&j, s) in seen.iter().zip(&scores) {
            let p = (s - top).exp() / sum;
            let slope = dot(grad, row(v, kv, j)) - delta;
            let (ds, off) = (scale * p * slope, scale * p * (2.0 * share * slope.abs() + own));
            for c in 0..d {
                let (at, to) = ((h * n + i) * d + c, (kv * m + j) * d + c);
                results[1].data[at] += ds * k.data[to];
                bounds[1].data[at] += off * k.data[to].abs();
                results[2].data[to] += ds * q.data[at];
                bounds[2].data[to] += (off + ds.abs() * (heads * n) as f64 * ULP) * q.data[at].abs();
            }
            for (to, grad) in ((kv * m + j) * dv..).zip(grad) {
                results[3].data[to] += p * grad;
                bounds[3].data[to] += p * grad.abs() * (2.0 * share + (heads * n) as f64 * ULP);
            }
        }
    }
    Wanted { results, bounds }
}

fn holds(shapes: [&[usize]; 3], causal: bool) {
    let [q, k, v] = [(0, 1), (1, 2), (2, 3)].map(|(at, seed)| random(shapes[at], seed));
    let dy = random(&[shapes[0][0], shapes[0][1], shapes[2][2]], 4);
    let Wanted { results, bounds } = reference(&q, &k, &v, &dy, causal);
    let options = AttentionOptions { causal, ..AttentionOptions::default() };
    for device in tested() {
        let leaves = [&q, &k, &v].map(|x| x.to_tensor(&device).requires_grad().unwrap());
        let y = leaves[0].scaled_dot_product_attention(&leaves[1], &leaves[2], &options).unwrap();
        assert_within("output", &y, &results[0], |at| bounds[0].data[at]);
        let grads = y.backward_from(&dy.to_tensor(&device)).unwrap();
        for (at, leaf) in leaves.iter().enumerate() {
            let (want, bound) = (&results[at + 1], &bounds[at + 1]);
            assert_within(&format!("gradient {at}"), grads.get(leaf).unwrap(), want, |i| bound.data[i]);
        }
    }
}

#[test]
fn long_rows_are_right() {
    holds([&[2, 1025, 8], &[1, 1025, 8], &[1, 1025, 5]], true);
}

/// The keys are cut into slices, because there are few queries, and to keep the loops of an invocation short.
#[test]
fn one_query_over_a_long_cache_is_right() {
    holds([&[4, 1, 64], &[2, 4099, 64], &[2, 4099, 64]], true);
    // Two slices, and a single column.
    holds([&[1, 3, 2], &[1, 600, 2], &[1, 600, 1]], false);
}

/// So many queries that a dispatch processes only a few keys of a slice, if all three gradients come from one kernel.
#[test]
fn gradients_accumulate_over_several_dispatches() {
    if device().id().contains("swiftshader") {
        return; // its subgroups are not of 8, so it lacks this kernel, and it would take half a minute
    }
    for causal in [false, true] {
        holds([&[1, 16_000, 4], &[1, 300, 4], &[1, 300, 4]], causal);
    }
}

#[test]
fn webgpus_minimum_limits_are_enough() {
    let Some(device) = opened(&GpuOptions { limits: LimitsProfile::WebGpu, ..GpuOptions::default() }) else {
        return;
    };
    let run = |device: &Device| {
        let leaves =
            [1, 2, 3].map(|seed| random(&[2, 40, 8], seed).to_tensor(device).requires_grad().unwrap());
        let options = AttentionOptions::default();
        let y = leaves[0].scaled_dot_product_attention(&leaves[1], &leaves[2], &options).unwrap();
        let grads = y.square().unwrap().sum_all().unwrap().backward().unwrap();
        leaves.each_ref().map(|leaf| grads.get(leaf).unwrap().to_vec().unwrap()).concat()
    };
    // Each is a sum of 40 products of numbers up to 1, so it errs by about 50 ulp on either device.
    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 100.0 * f32::EPSILON;
    assert!(run(&device).iter().zip(&run(&Device::cpu())).all(close));
}

/// Each dropped weight needs ten rounds of Philox: no loop ends early, whether or not wgpu counts its iterations.
#[test]
fn dropout_of_long_rows_is_whole() {
    if device().id().contains("swiftshader") {
        return; // it ends no loop early, and would be slow
    }
    let options = AttentionOptions { dropout: 0.5, seed: 7, ..AttentionOptions::default() };
    let run = |device: &Device| {
        let shapes = [[1, 64, 4], [1, 4096, 4], [1, 4096, 4]];
        let leaf = |at: usize| {
            let x = random(&shapes[at], at as u64).map(|x| f64::from((x + 1.5) as f32));
            x.to_tensor(device).requires_grad().unwrap()
        };
        let leaves = [leaf(0), leaf(1), leaf(2)];
        let y = leaves[0].scaled_dot_product_attention(&leaves[1], &leaves[2], &options).unwrap();
        let grads = y.backward_from(&Tensor::ones(y.shape(), device).unwrap()).unwrap();
        let grads = leaves.each_ref().map(|leaf| grads.get(leaf).unwrap().to_vec().unwrap());
        [vec![y.to_vec().unwrap()], grads.to_vec()].concat()
    };
    let want = run(&Device::cpu());
    for device in tested() {
        for (what, (want, got)) in run(&device).iter().zip(&want).enumerate() {
            // A sum of 4,096 weights of 2 / 4,096 each, times values up to 2.5; in a gradient also times their slopes
            // up to 20.
            let bound = 4096.0 * f32::EPSILON * if what == 1 { 20.0 } else { 2.5 };
            let far = want.iter().zip(got).find(|(a, b)| (*a - *b).abs() > bound);
            assert!(far.is_none(), "{what} on {}: {far:?}", device.id());
        }
    }
}

#[test]
fn the_largest_heads_are_right() {
    holds([&[1, 37, 256], &[1, 70, 256], &[1, 70, 256]], false);
    holds([&[2, 3, 80], &[2, 131, 80], &[2, 131, 100]], true);
}

/// The largest score of the first query is in the first slice, that of the second in the last; both exceed all others
/// by 200.
#[test]
fn slices_far_apart_are_merged() {
    for (device, d) in by_size(tested()) {
        let key = |i: &[usize]| match i[1] {
            5 => 400.0 / d as f64,
            590 => -400.0 / d as f64,
            _ => 0.0,
        };
        let q = Array::from_fn([1, 2, d], |i| if i[1] == 0 { 1.0 } else { -1.0 });
        let (k, v) = (Array::from_fn([1, 600, d], key), random(&[1, 600, d], 3));
        let want = Array::from_fn([1, 2, d], |i| row(&v, 0, [5, 590][i[1]])[i[2]]);
        let [q, k, v] = [q, k, v].map(|x| x.to_tensor(&device));
        let options = AttentionOptions { scale: Some(0.5), ..AttentionOptions::default() };
        let y = q.scaled_dot_product_attention(&k, &v, &options).unwrap();
        // A value up to 1, multiplied and divided by a weight; the other weights are negligible.
        assert_within(&format!("size {d}"), &y, &want, |_| 4.0 * ULP);
    }
}

#[test]
fn whole_tiles_and_one_more_are_right() {
    // Tiles of 32 rows by 64 columns, or 17 words of 4; two matrices, to check where the second begins.
    holds([&[2, 32, 4], &[2, 64, 4], &[2, 64, 68]], false);
    holds([&[2, 31, 3], &[2, 65, 3], &[2, 65, 65]], false);
    // Only the last query sees the last key.
    holds([&[1, 64, 3], &[1, 97, 3], &[1, 97, 3]], true);
}

/// Even if `max` and `exp` drop the NaN, as WGSL allows.
#[test]
fn a_single_nan_key_makes_the_row_nan() {
    const PLACES: [usize; 6] = [0, 1, 7, 31, 64, 69];
    for (device, d) in by_size([tested(), worst_case()].concat()) {
        let [q, k, v] = [3, 70, 70].map(|n| random(&[PLACES.len(), n, d], n as u64));
        let spoilt = |i: &[usize]| i[1] == PLACES[i[0]] && i[2] == 0;
        let k = Array::from_fn(k.shape.clone(), |i| if spoilt(i) { f64::NAN } else { k.at(i) });
        let [q, k, v] = [q, k, v].map(|x| x.to_tensor(&device));
        let y = q.scaled_dot_product_attention(&k, &v, &AttentionOptions::default()).unwrap();
        let y = y.to_vec().unwrap();
        assert!(y.iter().all(|y| y.is_nan()), "size {d} on {}: {y:?}", device.id());
    }
}

#[test]
fn an_infinite_value_makes_its_column_infinite() {
    for (device, d) in by_size(tested()) {
        let [q, k] = [3, 70].map(|n| random(&[1, n, d], n as u64).to_tensor(&device));
        let v = Array::from_fn([1, 70, d], |i| if i[1] == 69 && i[2] == 0 { f64::INFINITY } else { 1.0 });
        let y =
            q.scaled_dot_product_attention(&k, &v.to_tensor(&device), &AttentionOptions::default()).unwrap();
        let y = y.to_vec().unwrap();
        // For values of 1, a sum of 70 weights divided by the same sum; each errs by one ulp per addition.
        let near = |y: f32| (y - 1.0).abs() <= 2.0 * 70.0 * f32::EPSILON;
        let right = |at: usize| if at.is_multiple_of(d) { y[at] == f32::INFINITY } else { near(y[at]) };
        assert!((0..y.len()).all(right), "size {d} on {}: {y:?}", device.id());
    }
}

/// One key expanded to all positions, without a copy; the mask shows a different value for each matrix.
#[test]
fn an_expanded_key_has_a_mask() {
    for (device, d) in by_size(tested()) {
        let q = random(&[3, 2, d], 1).to_tensor(&device);
        let k = random(&[3, 1, d], 2).to_tensor(&device).expand([3, 5, d]).unwrap();
        let v = Array::from_fn([3, 5, d], |i| i[1] as f64).to_tensor(&device);
        let mask = Array::from_fn([3, 1, 5], |i| f64::from(u8::from(i[0] + 1 == i[2]))).to_tensor(&device);
        let options =
            AttentionOptions { mask: Some(AttentionMask::Boolean(mask)), ..AttentionOptions::default() };
        let y = q.scaled_dot_product_attention(&k, &v, &options).unwrap();
        let want = Array::from_fn([3, 2, d], |i| (i[0] + 1) as f64);
        // A number up to 3, multiplied and divided by a weight.
        assert_within(&format!("size {d}"), &y, &want, |_| 6.0 * ULP);
    }
}

#[test]
fn hidden_keys_have_no_influence() {
    // Caches whose last positions are unfilled, here NaN. For the larger one, gradients take one pass on lavapipe.
    for (device, [n, m, filled, d]) in tested()
        .into_iter()
        .flat_map(|device| [[3, 40, 33, 4], [70, 200, 150, 32]].map(|size| (device.clone(), size)))
    {
        let cache = |seed| {
            let x = random(&[1, m, d], seed);
            Array::from_fn(x.shape.clone(), |i| if i[1] < filled { x.at(i) } else { f64::NAN })
        };
        let [q, k, v] = [random(&[2, n, d], 1), cache(2), cache(3)].map(|x| x.to_tensor(&device));
        let mask = Array::from_fn([m], |i| f64::from(u8::from(i[0] < filled))).to_tensor(&device);
        let own = |x: &Tensor| x.slice(1, 0..filled).unwrap().requires_grad().unwrap();
        let plain = [q.requires_grad().unwrap(), own(&k), own(&v)];
        let masked = [&q, &k, &v].map(|x| x.requires_grad().unwrap());
        let options =
            AttentionOptions { mask: Some(AttentionMask::Boolean(mask)), ..AttentionOptions::default() };
        let run = |x: &[Tensor; 3], options: &AttentionOptions| {
            let y = x[0].scaled_dot_product_attention(&x[1], &x[2], options).unwrap();
            let grads = y.sum_all().unwrap().backward().unwrap();
            let grads =
                x.each_ref().map(|x| grads.get(x).unwrap().slice(1, 0..x.shape()[1].min(filled)).unwrap());
            [vec![y], grads.to_vec()].concat().iter().map(|x| x.to_vec().unwrap()).collect::<Vec<_>>()
        };
        let (want, got) = (run(&plain, &AttentionOptions::default()), run(&masked, &options));
        for (want, got) in want.iter().zip(&got) {
            // The same sums, with the same tiles except the last.
            assert!(
                want.iter().zip(got).all(|(a, b)| (a - b).abs() <= 1e-5),
                "{}: {want:?} {got:?}",
                device.id()
            );
        }
    }
}

/// Attention drops the same weights as dropout of the weight matrix with the same seed.
#[test]
fn dropout_equals_dropout_of_the_weights() {
    for device in tested() {
        let [heads, n, m] = [2, 5, 7];
        let zeros = |rows| Tensor::zeros([heads, rows, 1], &device).unwrap();
        let eye = Array::from_fn([heads, m, m], |i| f64::from(u8::from(i[1] == i[2]))).to_tensor(&device);
        let options =
            AttentionOptions { dropout: 0.5, seed: 7, offset: 1 << 40, ..AttentionOptions::default() };
        let y = zeros(n).scaled_dot_product_attention(&zeros(m), &eye, &options).unwrap().to_vec().unwrap();
        let weights = Tensor::full([heads, n, m], 1.0, &device).unwrap();
        let want = weights.dropout(0.5, 7, 1 << 40).unwrap().to_vec().unwrap();
        for (y, want) in y.iter().zip(want) {
            assert!((y * m as f32 - want).abs() < 1e-5, "{}: {y} for {want} / {m}", device.id());
        }
    }
}

/// A learned mask, such as a position bias: one number per head, broadcast.
#[test]
fn an_additive_mask_has_a_gradient() {
    for device in tested() {
        let zeros = |rows| Tensor::zeros([2, rows, 1], &device).unwrap();
        let v = Tensor::from_slice(&[1.0, 3.0, 1.0, 5.0], [2, 2, 1], &device).unwrap();
        let bias = Tensor::zeros([1, 2], &device).unwrap().requires_grad().unwrap();
        let options = AttentionOptions {
            mask: Some(AttentionMask::Additive(bias.clone())),
            ..AttentionOptions::default()
        };
        let y = zeros(3).scaled_dot_product_attention(&zeros(2), &v, &options).unwrap();
        let grads = y.sum_all().unwrap().backward().unwrap();
        // Weights of 1/2 each, outputs of 2 and 3: 1/2 (1 - 2) and 1/2 (1 - 3), three queries each.
        assert_eq!(grads.get(&bias).unwrap().to_vec().unwrap(), [-4.5, 4.5], "{}", device.id());
    }
}

#[test]
fn what_does_not_fit_is_named() {
    for device in devices() {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, &device).unwrap();
        let attend = |q: &[usize], k: &[usize], v: &[usize], options: &AttentionOptions| {
            let y = zeros(q).scaled_dot_product_attention(&zeros(k), &zeros(v), options);
            y.map(|y| y.shape()).unwrap_err().to_string()
        };
        let none = AttentionOptions::default();
        type Shapes<'a> = [&'a [usize]; 3];
        let shapes: [(Shapes, &str); 8] = [
            ([&[3, 4], &[3, 4], &[3, 4]], "three axes"),
            ([&[2, 3, 4], &[2, 3, 5], &[2, 3, 4]], "differ in size"),
            ([&[2, 3, 4], &[2, 3, 4], &[2, 4, 4]], "differ in heads or length"),
            ([&[2, 3, 4], &[2, 3, 4], &[1, 3, 4]], "differ in heads or length"),
            ([&[3, 3, 4], &[2, 3, 4], &[2, 3, 4]], "3 query heads are not a multiple of 2 key heads"),
            ([&[1, 3, 4], &[2, 3, 4], &[2, 3, 4]], "1 query heads are not a multiple of 2 key heads"),
            ([&[2, 2, 3, 4], &[3, 2, 3, 4], &[3, 2, 3, 4]], "the axes before the heads differ"),
            ([&[1, 3, 257], &[1, 3, 257], &[1, 3, 4]], "a size of 257 is over the kernels' 256"),
        ];
        for ([q, k, v], what) in shapes {
            let error = attend(q, k, v, &none);
            assert!(error.contains(what) && error.contains("scaled_dot_product_attention"), "{error}");
        }
        let options = |mask: &[usize]| AttentionOptions {
            mask: Some(AttentionMask::Additive(zeros(mask))),
            ..AttentionOptions::default()
        };
        for mask in [&[2, 4, 5][..], &[3, 3, 5], &[1, 2, 3, 5]] {
            let error = attend(&[2, 3, 4], &[1, 5, 4], &[1, 5, 4], &options(mask));
            assert!(error.contains("does not broadcast to [2, 3, 5]"), "{error}");
        }
        let wrong = [
            (AttentionOptions { dropout: 1.5, ..none.clone() }, "dropout 1.5 is not in 0..=1"),
            (AttentionOptions { softcap: Some(0.0), ..none.clone() }, "soft cap 0 is not a positive number"),
            (AttentionOptions { scale: Some(f32::NAN), ..none.clone() }, "scale NaN is not a number"),
        ];
        for (options, what) in wrong {
            let error = attend(&[1, 3, 4], &[1, 3, 4], &[1, 3, 4], &options);
            assert!(error.contains(what), "{error}");
        }
    }
}

#[test]
fn no_keys_and_no_queries_are_ordinary() {
    for device in tested() {
        let leaf = |shape: [usize; 3]| Tensor::ones(shape, &device).unwrap().requires_grad().unwrap();
        for [n, m, d, dv] in [[3, 0, 2, 2], [0, 3, 2, 2], [3, 3, 0, 2], [3, 3, 2, 0], [3, 600, 2, 0]] {
            let [q, k, v] = [leaf([2, n, d]), leaf([1, m, d]), leaf([1, m, dv])];
            let y = q.scaled_dot_product_attention(&k, &v, &AttentionOptions::default()).unwrap();
            let want = if m == 0 { 0.0 } else { 1.0 };
            assert_eq!(y.shape(), [2, n, dv]);
            assert!(y.to_vec().unwrap().iter().all(|y| (y - want).abs() < 1e-6), "{}", device.id());
            let grads = y.sum_all().unwrap().backward().unwrap();
            for x in [&q, &k] {
                assert!(grads.get(x).unwrap().to_vec().unwrap().iter().all(|g| g.abs() < 1e-6));
            }
            let dv_sum: f32 = grads.get(&v).unwrap().to_vec().unwrap().iter().sum();
            assert!((dv_sum - if m == 0 { 0.0 } else { (2 * n * dv) as f32 }).abs() < 1e-4);
        }
    }
}

/// Twice the length needs twice the memory, forward and backward; a matrix of scores would need four times as much.
#[test]
fn memory_is_linear_in_the_length() {
    let peak = |device: &Device, n: usize| -> Result<u64> {
        let leaf = |seed| random(&[1, n, 16], seed).to_tensor(device).requires_grad();
        let [q, k, v] = [leaf(1)?, leaf(2)?, leaf(3)?];
        let options = AttentionOptions { causal: true, ..AttentionOptions::default() };
        let y = q.scaled_dot_product_attention(&k, &v, &options)?;
        let grads = y.sum_all()?.backward()?;
        no_grad(|| grads.get(&q).unwrap().to_vec())?;
        Ok(device.memory().peak)
    };
    for device in devices().iter().map(fresh) {
        // The peak of a device only rises, so lengths are in ascending order.
        let [small, middle, large] = [512, 1024, 2048].map(|n| peak(&device, n).unwrap());
        let grown = [middle as f64 / small as f64, large as f64 / middle as f64];
        assert!(grown.iter().all(|&grown| grown < 2.1), "{}: {small}, {middle}, {large} bytes", device.id());
        // Less than a quarter of the matrix of scores.
        assert!(large < 2048 * 2048 * 4 / 4, "{}: {large} bytes", device.id());
    }
}
