//! Sizes beyond the limits of a device: work is split, or refused with one error that names the limit. It is never
//! silently dropped.

mod common;

use common::works::*;
use common::*;
use gristmill::gpu::{AdapterKind, GpuOptions, Kernel, LimitsProfile};
use gristmill::op::apply;
use gristmill::ops::pool2d::Pool2dOptions;
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Activation, Conv2dOptions, DType, Device, Error, MatMulKernel, Result, Tensor, nn};

#[test]
fn tensors_larger_than_a_buffer_are_refused() {
    let Some(device) = opened(&GpuOptions { limits: LimitsProfile::WebGpu, ..GpuOptions::default() }) else {
        return;
    };
    const MOST: u64 = 128 << 20;
    let before = device.memory();
    for elements in [(MOST / 4) as usize + 1, 1 << 40] {
        match Tensor::zeros([elements], &device) {
            Err(Error::Limit { device: id, requested, limit, .. }) => {
                assert_eq!((&*id, requested, limit), (device.id(), elements as u64 * 4, MOST));
            }
            other => panic!("{other:?} instead of an error of limits on {device}"),
        }
    }
    // An expanded view allocates nothing, but its copy does.
    let wide = Tensor::scalar(1.0, &device).unwrap().expand([1 << 26]).unwrap();
    assert!(matches!(wide.copy(), Err(Error::Limit { .. })));
    drop(wide);
    assert_eq!(device.memory().in_use, before.in_use);
    assert_works(&device, 4);
}

#[test]
fn grids_have_two_dimensions_where_one_is_short() {
    // Nineteen workgroups per axis: all but the smallest dispatches need two dimensions.
    let Some(device) = opened(&GpuOptions { max_workgroups: Some(19), ..GpuOptions::default() }) else {
        return;
    };
    for seed in 0..4 {
        assert_works(&device, seed);
    }
    let all = |device: &Device| -> Vec<Vec<f32>> {
        let (x, y) = (tensor(&[181, 211], 5, device), tensor(&[181, 1], 6, device));
        let image = tensor(&[2, 3, 20, 22], 7, device);
        [
            x.add(&y),
            x.mul(&y).and_then(|z| z.maximum(&x)),
            x.t().and_then(|t| t.copy()),
            x.sum(&[0], false),
            x.sum(&[1], false),
            x.max(&[0, 1], false),
            x.slice_step(1, 3..200, 3).and_then(|part| part.neg()),
            image.max_pool2d(Pool2dOptions::new([2, 3])),
        ]
        .into_iter()
        .map(|result| result.unwrap().to_vec().unwrap())
        .collect()
    };
    assert_eq!(all(&device), all(&Device::cpu()));

    // More than 361 workgroups do not fit in a grid.
    match Tensor::zeros([1 << 20], &device) {
        Err(Error::Limit { device: id, what, limit, .. }) => {
            assert_eq!((&*id, what, limit), (device.id(), "a number of workgroups", 361));
        }
        other => panic!("{other:?} instead of an error of limits"),
    }
    assert_works(&device, 8);
}

static COUNT: Kernel = kernel(
    "count",
    x_to_y!(
        "f32",
        "
#import shared/common.wgsl
@compute @workgroup_size(1)
fn count(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = workgroup_index(group, groups);
    if (i < p.count) { y[i] = x[0] + f32(i); }
}
"
    ),
    1,
);

#[test]
fn every_workgroup_of_a_two_dimensional_grid_runs_once() {
    let Some(device) = opened(&GpuOptions { max_workgroups: Some(9), ..GpuOptions::default() }) else {
        return;
    };
    let x = Tensor::zeros([1], &device).unwrap();
    for workgroups in [1, 8, 9, 10, 17, 18, 19, 73, 80, 81] {
        let y = apply(Custom { workgroups, ..Custom::of(&COUNT, workgroups) }, &[&x]).unwrap();
        let want: Vec<f32> = (0..workgroups).map(|i| i as f32).collect();
        assert_eq!(y.to_vec().unwrap(), want, "{workgroups} workgroups");
    }
    let over = apply(Custom { workgroups: 82, ..Custom::of(&COUNT, 82) }, &[&x]);
    assert!(matches!(over, Err(Error::Limit { requested: 82, limit: 81, .. })), "{over:?}");
}

/// Results of ops of every family and their gradients, by kernels that do not change under smaller limits, so that the
/// bits are the same.
fn families(device: &Device) -> Result<Vec<Vec<f32>>> {
    let x = tensor(&[33, 130], 1, device).requires_grad()?;
    let image = tensor(&[2, 4, 9, 11], 2, device).requires_grad()?;
    let weight = tensor(&[6, 2, 3, 3], 3, device).requires_grad()?;
    let options = Conv2dOptions { groups: 2, activation: Activation::Relu, ..Conv2dOptions::default() };
    let results = [
        x.t()?.copy()?,
        x.mul_scalar(0.1)?.tanh()?.add(&x.slice(1, 0..1)?)?,
        x.mean(&[0], false)?,
        x.max(&[1], true)?,
        x.softmax(-1)?,
        x.log_softmax(0)?,
        x.dropout(0.3, 5, 6)?,
        x.reshape([130, 33])?.matmul(&x)?,
        image.conv2d(&weight, None, options)?,
        image.max_pool2d(Pool2dOptions::new([3, 2]))?,
    ];
    let mut loss = Tensor::scalar(0.0, device)?;
    for (seed, result) in results.iter().enumerate() {
        loss = loss.add(&result.mul(&tensor(&result.shape(), seed, device))?.sum_all()?)?;
    }
    let parameters = [&x, &image, &weight].map(nn::Parameter::new);
    let parameters = parameters.into_iter().collect::<Result<Vec<_>>>()?;
    let loss_of =
        |p: &[nn::Parameter]| p[0].tensor().square()?.sum_all()?.add(&p[1].tensor().exp()?.sum_all()?);
    Adam::new(parameters.clone(), 0.1).step(&loss_of(&parameters)?.backward()?)?;
    let gradients = loss.backward()?;
    let gradients = [&x, &image, &weight].map(|leaf| gradients.get(leaf).cloned());
    let stepped = parameters.iter().map(nn::Parameter::tensor);
    let all = results.into_iter().chain(gradients.into_iter().flatten()).chain(stepped);
    all.map(|result| result.to_vec()).collect()
}

#[test]
fn with_half_of_webgpus_limits_a_kernel_runs_or_is_refused_by_name() {
    for tune_for in [AdapterKind::Software, AdapterKind::Hardware] {
        let open = |limits| {
            opened(&GpuOptions { limits, tune_for: Some(tune_for), guarded: true, ..GpuOptions::default() })
        };
        let (Some(half), Some(whole)) = (open(LimitsProfile::HalfWebGpu), open(LimitsProfile::WebGpu)) else {
            return;
        };
        let limits = gpu(&half).limits();
        assert_eq!((limits.invocations, limits.workgroup_bytes, limits.storage_buffers), (128, 8 << 10, 4));
        assert_eq!((limits.workgroups, limits.binding_bytes), (32_767, 64 << 20));
        assert_works(&half, 1);
        assert_eq!(families(&half).unwrap(), families(&whole).unwrap(), "on {half}, tuned for {tune_for:?}");

        let refused = |answer: Result<Tensor>| match answer {
            Err(Error::Kernel { kernel, message }) => format!("{kernel} {message}"),
            other => panic!("{other:?} instead of a kernel's refusal on {half}"),
        };
        let x = tensor(&[4, 4], 1, &half);
        let ids = Tensor::from_ids(&[1, 2, 0, 3], [4], &half).unwrap();
        for _ in 0..2 {
            let message = refused(x.cross_entropy(&ids));
            let parts = ["cross_entropy.wgsl:cross_entropy needs ", " storage buffers, more than the 4 of "];
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
            let message = refused(x.matmul_with(&x, None, Activation::None, MatMulKernel::Tiled));
            let wanted = "matmul.wgsl:tiled needs 256 invocations a workgroup, more than the 128 of ";
            assert!(message.starts_with(wanted), "{message}");
        }
        assert_works(&half, 2);
    }
}

#[test]
fn more_workgroups_than_a_dimension_holds_run_on_every_adapter() {
    // At the adapter's own limit if it equals WebGPU's minimum, not at an artificial one.
    let Some(device) = opened(&GpuOptions { limits: LimitsProfile::WebGpu, ..GpuOptions::default() }) else {
        return;
    };
    let x = Tensor::zeros([1], &device).unwrap();
    for workgroups in [65_535, 65_536, 131_070, 131_071, 200_003] {
        let y = apply(Custom { workgroups, ..Custom::of(&COUNT, workgroups) }, &[&x]).unwrap();
        let values = y.to_vec().unwrap();
        assert!((0..workgroups).all(|i| values[i] == i as f32), "{workgroups} workgroups");
    }
    // One element per invocation, 128 per workgroup: slightly more than one axis takes.
    let (rows, cols) = (2897, 2899);
    assert!(rows * cols > 65_535 * 128);
    let x = tensor(&[rows, cols], 1, &device);
    assert!(
        x.t().unwrap().copy().unwrap().to_vec().unwrap()
            == tensor(&[rows, cols], 1, &Device::cpu()).t().unwrap().to_vec().unwrap()
    );
}

#[test]
fn buffers_at_the_limit_work_and_scratch_past_it_is_refused() {
    let Some(device) = opened(&GpuOptions { limits: LimitsProfile::HalfWebGpu, ..GpuOptions::default() })
    else {
        return;
    };
    const MOST: usize = (64 << 20) / 4;
    let ones = Tensor::from_slice(&vec![1.0; MOST], [MOST], &device).unwrap();
    assert_eq!(ones.sum_all().unwrap().item().unwrap(), MOST as f32);
    let twos = ones.add(&ones).unwrap();
    assert!(twos.to_vec().unwrap().iter().all(|&two| two == 2.0));
    drop((ones, twos));
    // The product itself fits. A long k is cut into slices (split-K), whose partial products do not fit.
    let one = Tensor::scalar(1.0, &device).unwrap();
    let (a, b) = (one.expand([4096, 20_000]).unwrap(), one.expand([20_000, 4000]).unwrap());
    match a.matmul(&b) {
        Err(Error::Limit { requested, limit, .. }) => {
            assert_eq!((requested, limit), (2 * 4096 * 4000 * 4, MOST as u64 * 4));
        }
        other => panic!("{other:?} instead of an error of limits"),
    }
    drop((a, b, one));
    device.trim();
    assert_works(&device, 1);
}

#[test]
fn more_elements_than_a_kernel_counts_are_refused_before_anything_is_allocated() {
    let Some(device) = opened(&GpuOptions::default()) else { return };
    let one = Tensor::ones([1, 1, 1, 1], &device).unwrap();
    device.synchronize().unwrap();
    let before = (device.memory().in_use, device.counts().kernels);
    // Views of one element, with more than 2^31, 2^32 and 2^40 elements.
    for dims in [
        [1usize << 11, 1 << 8, 1 << 6, 1 << 6],
        [1 << 12, 1 << 10, 1 << 6, 1 << 6],
        [1 << 20, 1 << 10, 1 << 5, 1 << 5],
    ] {
        let wide = one.expand(dims).unwrap();
        let numel: usize = dims.iter().product();
        let flat = one.reshape([1, 1]).unwrap().expand([numel / 4096, 4096]).unwrap();
        let weight = one.expand([4, dims[1], 1, 1]).unwrap();
        let answers = [
            ("neg", wide.neg()),
            ("add", wide.add(&one)),
            ("copy", wide.copy()),
            ("softmax", wide.softmax(-1)),
            ("dropout", wide.dropout(0.5, 1, 1)),
            ("matmul", flat.matmul(&one.reshape([1, 1]).unwrap().expand([4096, 1 << 20]).unwrap())),
            ("conv2d", wide.conv2d(&weight, None, Conv2dOptions::default())),
            ("max_pool2d", wide.max_pool2d(Pool2dOptions::new([2, 2]))),
            ("reshape", wide.permute(&[3, 1, 0, 2]).unwrap().reshape([numel]).and_then(|x| x.add(&one))),
        ];
        for (what, answer) in answers {
            assert!(
                matches!(answer, Err(Error::Limit { .. } | Error::Shape { .. })),
                "{what} of {dims:?}: {answer:?}"
            );
        }
        if numel > 1 << 32 {
            for (what, answer) in
                [("sum", wide.sum_all()), ("max", wide.max_all()), ("mean", wide.mean_all())]
            {
                let refused = matches!(answer, Err(Error::Limit { .. } | Error::Shape { .. }));
                assert!(refused, "{what} of {dims:?}: {answer:?}");
            }
        }
    }
    assert_eq!((device.memory().in_use, device.counts().kernels), before, "what was refused ran nothing");
    assert_works(&device, 1);
}

#[test]
fn tensors_too_large_to_address_are_errors_of_shapes() {
    for device in devices() {
        for dims in [[usize::MAX, 2], [1 << 40, 1 << 40]] {
            assert!(matches!(Tensor::zeros(dims, &device), Err(Error::Shape { op: "shape", .. })));
        }
        // Addressable, but more than any machine has.
        let most = isize::MAX as usize / 8;
        let refused = Tensor::zeros([most], &device).map(|x| x.dtype() == DType::F32);
        assert!(matches!(refused, Err(Error::Limit { .. } | Error::OutOfMemory { .. })), "{refused:?}");
    }
}

#[test]
fn more_elements_than_31_bits_count_are_summed() {
    let Some(device) = opened(&GpuOptions::default()) else { return };
    if device.id().contains("swiftshader") {
        return; // would take minutes
    }
    let count = (1usize << 31) + 4096;
    let ones = Tensor::ones([1], &device).unwrap().expand([count]).unwrap();
    // Every partial sum is a multiple of the length of its slices, which f32 holds exactly.
    assert_eq!(ones.sum_all().unwrap().item().unwrap(), count as f32);
}
