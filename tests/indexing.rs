//! Concatenation, padding, gathering, scattering and sorting: values worked by hand or from PyTorch's documentation,
//! long axes, ids out of range, errors. The table has the rest.

mod common;

use common::*;
use gristmill::nn::{Embedding, Init, Layer, Module};
use gristmill::{Device, Error, PadMode, Result, Tensor};

fn floats(data: &[f32], shape: &[usize], device: &Device) -> Tensor {
    Tensor::from_slice(data, shape, device).unwrap()
}

fn ids(data: &[u32], shape: &[usize], device: &Device) -> Tensor {
    Tensor::from_ids(data, shape, device).unwrap()
}

fn show(x: Result<Tensor>) -> Vec<f32> {
    x.unwrap().to_vec().unwrap()
}

/// The gradient of `f` with respect to `x`, for the gradient `dy` of the result.
fn gradient(x: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>, dy: &[f32]) -> Vec<f32> {
    let x = x.requires_grad().unwrap();
    let y = f(&x).unwrap();
    let dy = floats(dy, &y.shape(), x.device());
    y.backward_from(&dy).unwrap().get(&x).unwrap().to_vec().unwrap()
}

#[test]
fn cat_stack_split_and_chunk_by_hand() {
    for device in devices() {
        let x = floats(&[1.0, 2.0, 3.0, 4.0], &[2, 2], &device);
        let y = floats(&[5.0, 6.0], &[2, 1], &device);
        assert_eq!(show(Tensor::cat(&[&x, &y, &x], 1)), [1., 2., 5., 1., 2., 3., 4., 6., 3., 4.]);
        assert_eq!(show(Tensor::cat(&[&x, &x.t().unwrap()], 0)), [1., 2., 3., 4., 1., 3., 2., 4.]);
        assert_eq!(show(Tensor::stack(&[&x, &x.neg().unwrap()], -1)), [1., -1., 2., -2., 3., -3., 4., -4.]);
        assert_eq!(Tensor::stack(&[&x, &x, &x], 1).unwrap().shape(), [2, 3, 2]);
        let a = ids(&[7, u32::MAX], &[2], &device);
        assert_eq!(
            Tensor::cat(&[&a, &a.slice(0, 1..2).unwrap()], 0).unwrap().to_ids().unwrap(),
            [7, u32::MAX, u32::MAX]
        );

        let lengths = |parts: Vec<Tensor>| parts.iter().map(|part| part.shape()[0]).collect::<Vec<_>>();
        let chunks =
            |length, count| lengths(Tensor::zeros([length, 2], &device).unwrap().chunk(count, 0).unwrap());
        assert_eq!(chunks(5, 3), [2, 2, 1]);
        assert_eq!(chunks(6, 4), [2, 2, 2]);
        assert_eq!(chunks(2, 5), [1, 1]);
        assert_eq!(chunks(0, 2), [0, 0]);
        let parts = floats(&[0., 1., 2., 3., 4., 5.], &[2, 3], &device).split(&[0, 2, 1], -1).unwrap();
        assert_eq!(parts[0].shape(), [2, 0]);
        assert_eq!(parts[1].to_vec().unwrap(), [0., 1., 3., 4.]);
        assert_eq!(parts[2].to_vec().unwrap(), [2., 5.]);
    }
}

#[test]
fn padded_as_in_pytorchs_documentation() {
    for device in devices() {
        // torch.nn.ReflectionPad2d(2) and ((1, 1, 2, 0)) of arange(9).
        let x = floats(&[0., 1., 2., 3., 4., 5., 6., 7., 8.], &[1, 1, 3, 3], &device);
        #[rustfmt::skip]
        let by_two = [
            8., 7., 6., 7., 8., 7., 6.,
            5., 4., 3., 4., 5., 4., 3.,
            2., 1., 0., 1., 2., 1., 0.,
            5., 4., 3., 4., 5., 4., 3.,
            8., 7., 6., 7., 8., 7., 6.,
            5., 4., 3., 4., 5., 4., 3.,
            2., 1., 0., 1., 2., 1., 0.,
        ];
        assert_eq!(show(x.pad(&[(2, 2), (2, 2)], PadMode::Reflect)), by_two);
        #[rustfmt::skip]
        let uneven = [
            7., 6., 7., 8., 7.,
            4., 3., 4., 5., 4.,
            1., 0., 1., 2., 1.,
            4., 3., 4., 5., 4.,
            7., 6., 7., 8., 7.,
        ];
        assert_eq!(show(x.pad(&[(2, 0), (1, 1)], PadMode::Reflect)), uneven);
        // In a row of three the middle element occurs three times, the ends twice.
        let counts = gradient(&x, |x| x.pad(&[(2, 2), (2, 2)], PadMode::Reflect), &[1.0; 49]);
        assert_eq!(counts, [4., 6., 4., 6., 9., 6., 4., 6., 4.]);

        let x = floats(&[1., 2., 3., 4.], &[2, 2], &device);
        let framed = [9., 9., 9., 9., 1., 2., 9., 3., 4.];
        assert_eq!(show(x.pad(&[(1, 0), (1, 0)], PadMode::Constant(9.0))), framed);
        assert_eq!(show(x.pad(&[], PadMode::Constant(9.0))), [1., 2., 3., 4.]);
        assert_eq!(
            show(Tensor::zeros([0], &device).unwrap().pad(&[(1, 1)], PadMode::Constant(9.0))),
            [9., 9.]
        );
    }
}

#[test]
fn gather_and_scatter_as_in_pytorchs_documentation() {
    for device in devices() {
        // torch.gather
        let t = floats(&[1., 2., 3., 4.], &[2, 2], &device);
        let index = ids(&[0, 0, 1, 0], &[2, 2], &device);
        assert_eq!(show(t.gather(1, &index)), [1., 1., 4., 3.]);
        assert_eq!(gradient(&t, |t| t.gather(1, &index), &[1., 2., 4., 8.]), [3., 0., 8., 4.]);
        // torch.Tensor.scatter_add_
        let (zeros, src) = (Tensor::zeros([3, 5], &device).unwrap(), Tensor::ones([2, 5], &device).unwrap());
        let one = zeros.scatter_add(0, &ids(&[0, 1, 2, 0, 0], &[1, 5], &device), &src);
        assert_eq!(show(one), [1., 0., 0., 1., 1., 0., 1., 0., 0., 0., 0., 0., 1., 0., 0.]);
        let two = zeros.scatter_add(0, &ids(&[0, 1, 2, 0, 0, 0, 1, 2, 2, 2], &[2, 5], &device), &src);
        assert_eq!(show(two), [2., 0., 0., 1., 1., 0., 2., 0., 0., 0., 0., 0., 2., 1., 1.]);

        let x = floats(&[0., 1., 2., 10., 11., 12.], &[2, 3], &device);
        let picked = ids(&[2, 0, 2], &[3], &device);
        assert_eq!(show(x.index_select(1, &picked)), [2., 0., 2., 12., 10., 12.]);
        assert_eq!(
            gradient(&x, |x| x.index_select(1, &picked), &[1., 2., 4., 8., 16., 32.]),
            [2., 0., 5., 16., 0., 40.]
        );
        let rows = ids(&[1, 1, 0, 1], &[2, 2], &device);
        assert_eq!(x.embedding(&rows).unwrap().shape(), [2, 2, 3]);
        let dy = [1., 0., 0., 0., 1., 0., 0., 0., 1., 4., 4., 4.];
        assert_eq!(gradient(&x, |x| x.embedding(&rows), &dy), [0., 0., 1., 5., 5., 4.]);
        // torch.nn.functional.one_hot(arange(3), num_classes=5)
        let hot = [1., 0., 0., 0., 0., 0., 1., 0., 0., 0., 0., 0., 1., 0., 0.];
        assert_eq!(show(ids(&[0, 1, 2], &[3], &device).one_hot(5)), hot);
    }
}

#[test]
fn sorted_by_hand() {
    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;
    let bits = |x: &Tensor| x.to_vec().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
    for device in devices() {
        // NaN is the largest, of either sign and any payload.
        let odd = f32::from_bits(0x7f80_0001);
        let least = f32::from_bits(1); // subnormal
        let x = floats(&[NAN, 1.0, -INF, INF, -1.0, odd, least, -least], &[8], &device);
        let (up, places) = x.sort(0, false).unwrap();
        assert_eq!(places.to_ids().unwrap(), [2, 4, 7, 6, 1, 3, 0, 5]);
        assert!(up.to_vec().unwrap()[6..].iter().all(|x| x.is_nan()));
        assert_eq!(bits(&up)[..6], [-INF, -1.0, -least, least, 1.0, INF].map(f32::to_bits));
        assert_eq!(x.argsort(0, true).unwrap().to_ids().unwrap(), [0, 5, 3, 1, 6, 7, 4, 2]);
        assert_eq!(x.topk(3, 0, false).unwrap().1.to_ids().unwrap(), [2, 4, 7]);
        // Equal elements keep their order in both directions, and both zeros are equal.
        let zeros = floats(&[0.0, -0.0, 0.0, -0.0, -least], &[5], &device);
        assert_eq!(zeros.argsort(0, false).unwrap().to_ids().unwrap(), [4, 0, 1, 2, 3]);
        assert_eq!(zeros.argsort(0, true).unwrap().to_ids().unwrap(), [0, 1, 2, 3, 4]);
        // torch.topk(arange(1, 6), 3)
        let (top, places) = floats(&[1., 2., 3., 4., 5.], &[5], &device).topk(3, 0, true).unwrap();
        assert_eq!((top.to_vec().unwrap(), places.to_ids().unwrap()), (vec![5., 4., 3.], vec![4, 3, 2]));

        let x = floats(&[3., 1., 2., 6., 5., 4.], &[2, 3], &device);
        assert_eq!(show(x.sort(0, true).map(|sorted| sorted.0)), [6., 5., 4., 3., 1., 2.]);
        let sorted = gradient(&x, |x| Ok(x.sort(1, false)?.0), &[10., 20., 30., 1., 2., 3.]);
        assert_eq!(sorted, [30., 10., 20., 3., 2., 1.]);
        let largest = ids(&[5, u32::MAX, 0, 5], &[4], &device).sort(-1, true).unwrap();
        assert_eq!(largest.0.to_ids().unwrap(), [u32::MAX, 5, 5, 0]);
        assert_eq!(largest.1.to_ids().unwrap(), [1, 0, 3, 2]);
    }
}

#[test]
fn long_axes_are_sorted_and_summed() {
    // More than 65,535 elements, and an odd number of sorted runs.
    const LONG: usize = 200_001;
    let shuffled: Vec<u32> = (0..LONG as u64).map(|i| (i * 7919 % LONG as u64) as u32).collect();
    let numbers: Vec<f32> = shuffled.iter().map(|&i| i as f32 - 1000.0).collect();
    for device in devices() {
        let (values, places) = floats(&numbers, &[LONG, 1], &device).sort(0, false).unwrap();
        let (values, places) = (values.to_vec().unwrap(), places.to_ids().unwrap());
        assert!(
            (0..LONG).all(|i| values[i] == i as f32 - 1000.0 && shuffled[places[i] as usize] == i as u32)
        );
        let top = floats(&numbers, &[LONG], &device).topk(3, 0, true).unwrap().0;
        assert_eq!(top.to_vec().unwrap(), [199_000., 198_999., 198_998.]);

        // All to one position, and alternately to seven; small whole numbers, so that the sums are exact.
        let ones = Tensor::ones([LONG], &device).unwrap();
        let zeros = Tensor::zeros([7], &device).unwrap();
        let all = ids(&vec![3; LONG], &[LONG], &device);
        assert_eq!(show(zeros.scatter_add(0, &all, &ones)), [0., 0., 0., LONG as f32, 0., 0., 0.]);
        let turns: Vec<u32> = (0..LONG as u32).map(|i| i % 7).collect();
        let mut counts = [(LONG / 7) as f32; 7];
        counts[..LONG % 7].iter_mut().for_each(|count| *count += 1.0);
        assert_eq!(show(zeros.scatter_add(0, &ids(&turns, &[LONG], &device), &ones)), counts);
        // Chunks of 64 terms that end where a new position begins, and a last chunk with two positions.
        let stairs: Vec<u32> = (0..2656).map(|i: u32| i.saturating_sub(32) / 64).collect();
        let (zeros, ones) = (Tensor::zeros([41], &device).unwrap(), Tensor::ones([2656], &device).unwrap());
        let mut steps = [64.0; 41];
        steps[0] = 96.0;
        assert_eq!(show(zeros.scatter_add(0, &ids(&stairs, &[2656], &device), &ones)), steps);
        // The gradient of a lookup in a table with three columns.
        let table = Tensor::zeros([7, 3], &device).unwrap();
        let got =
            gradient(&table, |table| table.embedding(&ids(&turns, &[LONG], &device)), &vec![1.0; 3 * LONG]);
        assert_eq!(got, counts.iter().flat_map(|&count| [count; 3]).collect::<Vec<_>>());
    }
}

#[test]
fn sums_have_the_same_bits_every_time() {
    let terms = Array::random([5000, 3], 7, -1.0, 1.0);
    let places: Vec<u32> = (0..5000).map(|i| i * i % 11).collect();
    for device in devices() {
        let table = Tensor::zeros([11, 3], &device).unwrap();
        let sums = || {
            let index = ids(&places, &[5000, 1], &device).expand([5000, 3]).unwrap();
            show(table.scatter_add(0, &index, &terms.to_tensor(&device)))
        };
        assert_eq!(sums(), sums());
    }
}

/// Asserts that an error names the op and contains all of `parts`.
fn refused<T: std::fmt::Debug>(result: Result<T>, op: &str, parts: &[&str]) {
    match result {
        Err(ref error @ (Error::Shape { op: found, .. } | Error::Argument { op: found, .. })) => {
            let text = error.to_string();
            assert_eq!(found, op, "{text}");
            assert!(parts.iter().all(|part| text.contains(part)), "`{text}` does not say {parts:?}");
        }
        other => panic!("{op}: {other:?} instead of an error"),
    }
}

#[test]
fn uploaded_ids_out_of_range_are_refused_at_once() {
    for device in devices() {
        let x = Tensor::zeros([2, 3], &device).unwrap();
        let stray = ids(&[1, 3, 0], &[3], &device);
        let column = stray.reshape([3, 1]).unwrap();
        refused(x.gather(1, &stray.reshape([1, 3]).unwrap()), "gather", &["index 3", "axis 1", "[2, 3]"]);
        refused(x.index_select(1, &stray), "index_select", &["index 3", "axis 1", "[2, 3]"]);
        refused(x.embedding(&column), "embedding", &["index 3", "[2, 3]"]);
        refused(stray.one_hot(3), "one_hot", &["up to 3", "[3]", "3 classes"]);
        refused(stray.one_hot(0), "one_hot", &["0 classes"]);
        refused(
            x.scatter_add(0, &column, &Tensor::zeros([3, 3], &device).unwrap()),
            "scatter_add",
            &["index 3"],
        );
        // A slice without the id out of range is valid.
        assert_eq!(show(x.embedding(&stray.slice(0, 2..3).unwrap())), [0.0; 3]);
        assert_eq!(show(ids(&[], &[0], &device).one_hot(0)), [0.0; 0]);
    }
}

#[test]
fn what_is_computed_from_ids_out_of_range_is_refused_when_it_is_read() {
    type Use = fn(&Tensor, &Tensor) -> Result<Tensor>;
    let uses: [(&str, Use); 5] = [
        ("one_hot", |_, ids| ids.one_hot(3)),
        ("gather", |x, ids| x.gather(0, &ids.reshape([4, 1])?)),
        ("index_select", |x, ids| x.index_select(0, ids)),
        ("embedding", |x, ids| x.embedding(ids)),
        ("scatter_add", |x, ids| x.scatter_add(0, &ids.reshape([4, 1])?, &Tensor::ones([4, 8], x.device())?)),
    ];
    for device in devices() {
        let x = Tensor::ones([3, 8], &device).unwrap();
        let places = floats(&[4., 3., 2., 1.], &[4], &device).argsort(0, false).unwrap();
        for (op, run) in uses {
            let y = run(&x, &places);
            for _ in 0..2 {
                let read = y.clone().and_then(|y| y.to_vec());
                refused(read, op, &[if device.is_gpu() { "out of range, not below 3" } else { "index 3" }]);
            }
            // The device works on.
            assert_eq!(show(x.embedding(&ids(&[2], &[1], &device))), [1.0; 8]);
        }
    }
}

#[test]
fn empty_inputs_give_empty_results() {
    for device in devices() {
        let none = Tensor::zeros([0, 4], &device).unwrap();
        let no_ids = ids(&[], &[0], &device);
        assert_eq!(Tensor::cat(&[&none, &none], 0).unwrap().shape(), [0, 4]);
        assert_eq!(show(Tensor::cat(&[&none, &Tensor::ones([1, 4], &device).unwrap(), &none], 0)), [1.0; 4]);
        for axis in [0, 1] {
            let (values, places) = none.sort(axis, false).unwrap();
            assert_eq!((values.shape().to_vec(), places.to_ids().unwrap()), (vec![0, 4], vec![]));
        }
        let table = Tensor::ones([3, 2], &device).unwrap();
        assert_eq!(table.topk(0, 0, true).unwrap().0.shape(), [0, 2]);
        assert_eq!(table.embedding(&no_ids).unwrap().shape(), [0, 2]);
        assert_eq!(gradient(&table, |x| x.embedding(&no_ids), &[]), [0.0; 6]);
        assert_eq!(table.index_select(1, &no_ids).unwrap().shape(), [3, 0]);
        let index = no_ids.reshape([0, 2]).unwrap();
        assert_eq!(show(table.scatter_add(0, &index, &Tensor::ones([4, 2], &device).unwrap())), [1.0; 6]);
        assert_eq!(none.embedding(&no_ids).unwrap().shape(), [0, 4]);
    }
}

#[test]
fn errors_name_the_op_and_the_shapes() {
    for device in devices() {
        let x = Tensor::zeros([2, 3], &device).unwrap();
        let y = Tensor::zeros([3, 3], &device).unwrap();
        let i = ids(&[0, 1], &[2], &device);
        let table = ids(&[0, 1], &[2, 1], &device);
        refused(Tensor::cat(&[], 0), "cat", &["no tensors"]);
        refused(Tensor::cat(&[&x], 2), "cat", &["axis 2", "[2, 3]"]);
        refused(Tensor::cat(&[&x, &y], 1), "cat", &["[3, 3]", "[2, 3]", "axis 1"]);
        refused(Tensor::cat(&[&x, &table], 1), "cat", &["U32", "F32"]);
        refused(Tensor::cat(&[&x, &Tensor::zeros([2], &device).unwrap()], 1), "cat", &["[2]", "[2, 3]"]);
        refused(Tensor::stack(&[], 0), "stack", &["no tensors"]);
        refused(Tensor::stack(&[&x, &y], 0), "stack", &["[3, 3]", "[2, 3]"]);
        refused(Tensor::stack(&[&x], 3), "stack", &["axis 3"]);
        refused(x.split(&[1, 1], 1), "split", &["[1, 1]", "axis 1", "[2, 3]"]);
        refused(x.split(&[usize::MAX, 4], 1), "split", &["[2, 3]"]);
        refused(x.split(&[3], 2), "split", &["axis 2"]);
        refused(x.chunk(0, 1), "chunk", &["0"]);
        refused(x.pad(&[(0, 0); 3], PadMode::Reflect), "pad", &["3 pairs", "[2, 3]"]);
        refused(x.pad(&[(0, 3)], PadMode::Reflect), "pad", &["axis 1", "[2, 3]", "3"]);
        refused(x.pad(&[(usize::MAX, 3)], PadMode::Constant(0.0)), "pad", &["too many"]);
        refused(table.pad(&[(0, 1)], PadMode::Constant(0.0)), "pad", &["u32"]);
        refused(x.gather(0, &i), "gather", &["[2]", "axis 0", "[2, 3]"]);
        refused(x.gather(1, &ids(&[0; 3], &[3, 1], &device)), "gather", &["[3, 1]", "axis 1", "[2, 3]"]);
        refused(x.gather(1, &x), "gather", &["F32"]);
        refused(x.gather(2, &table), "gather", &["axis 2"]);
        refused(x.index_select(0, &table), "index_select", &["[n]", "[2, 1]"]);
        refused(x.index_select(0, &x), "index_select", &["U32", "F32"]);
        refused(x.embedding(&x), "embedding", &["U32", "F32"]);
        refused(x.reshape([6]).unwrap().embedding(&i), "embedding", &["[count, width]", "[6]"]);
        let deep = ids(&[0], &[1; 6], &device);
        refused(x.embedding(&deep), "embedding", &["[1, 1, 1, 1, 1, 1]"]);
        refused(deep.one_hot(3), "one_hot", &["[1, 1, 1, 1, 1, 1]"]);
        refused(x.one_hot(3), "one_hot", &["F32", "[2, 3]"]);
        refused(x.scatter_add(0, &table, &i), "scatter_add", &["[2, 1]", "[2]"]);
        refused(
            x.scatter_add(0, &table, &Tensor::zeros([1, 1], &device).unwrap()),
            "scatter_add",
            &["[1, 1]"],
        );
        refused(x.scatter_add(1, &ids(&[0; 9], &[3, 3], &device), &y), "scatter_add", &["[3, 3]", "[2, 3]"]);
        refused(x.scatter_add(0, &table, &table), "scatter_add", &["u32"]);
        refused(x.sort(2, false), "sort", &["axis 2", "[2, 3]"]);
        refused(Tensor::scalar(1.0, &device).unwrap().argsort(0, false), "argsort", &["axis 0"]);
        refused(x.topk(4, 1, true), "topk", &["4", "axis 1", "[2, 3]"]);
    }
}

#[test]
fn an_embedding_layer_looks_up_and_learns() {
    for device in devices() {
        let layer = Embedding::new(10, 4, &mut Init::new(1, &device)).unwrap();
        let words = ids(&[3, 3, 9], &[3, 1], &device);
        let y = layer.forward(&words).unwrap();
        assert_eq!(y.shape(), dry(&layer, &words).unwrap().0);
        assert_eq!(
            (layer.describe(), layer.named_parameters()[0].0.clone()),
            ("Embedding 10 x 4".into(), "weight".into())
        );
        let table = layer.parameters()[0].tensor();
        let grads = y.sum_all().unwrap().backward().unwrap();
        let grad = grads.get(&table).unwrap().to_vec().unwrap();
        let uses: Vec<f32> = grad.chunks(4).map(|row| row[0]).collect();
        assert_eq!(uses, [0., 0., 0., 2., 0., 0., 0., 0., 0., 1.]);
        refused(Embedding::from_tensor(&table.reshape([40]).unwrap()).map(|_| ()), "embedding", &["[40]"]);
    }
}
