//! Shared by the test suites: the device under test, arrays of f64 for references, and two comparisons: of a device
//! with the reference within a derived bound, and of gradients with central differences.
#![allow(dead_code, unused_imports, unused_macros)] // each suite uses a part of this module

pub mod picture;
pub mod works;

use gristmill::gpu::{AdapterKind, GpuOptions, LimitsProfile};
use gristmill::nn::Layer;
use gristmill::proof::{Gen, Values};
pub use gristmill::proof::{ravel, unravel};
use gristmill::{Device, Result, Shape, Tensor, dry_run};
use proptest::prelude::*;
use std::sync::OnceLock;

/// Half a unit in the last place of 1.0f32: the relative error of one rounded operation.
pub const EPS: f64 = (f32::EPSILON / 2.0) as f64;

/// The device under test, opened with the options that tests need, each on first use. A GPU is guarded: unwritten
/// elements are NaN, and a read-back fails if a kernel wrote past the end of a buffer.
pub struct Devices {
    tested: OnceLock<Device>,
    hardware: OnceLock<Option<Device>>,
    worst_case: OnceLock<Vec<Device>>,
    small: OnceLock<Option<Device>>,
}

static SHARED: Devices = Devices::unopened();

impl Devices {
    pub const fn unopened() -> Devices {
        Devices {
            tested: OnceLock::new(),
            hardware: OnceLock::new(),
            worst_case: OnceLock::new(),
            small: OnceLock::new(),
        }
    }

    /// The device that `GRISTMILL_DEVICE` names, else a GPU. Without an adapter the test fails with the install hint;
    /// it is never skipped.
    fn tested(&self) -> &Device {
        let wanted = std::env::var("GRISTMILL_DEVICE").unwrap_or_else(|_| "gpu".to_string());
        let open = || match &*wanted {
            "cpu" => Device::cpu(),
            id => Device::open_with(id, &guarded()).unwrap_or_else(|error| panic!("{error}")),
        };
        self.tested.get_or_init(open)
    }

    /// The device under test and the CPU; every property must hold on both.
    pub fn plain(&self) -> Vec<Device> {
        let tested = self.tested().clone();
        if tested.is_gpu() { vec![tested, Device::cpu()] } else { vec![tested] }
    }

    /// The device under test with the kernels for hardware, if it is a GPU.
    pub fn hardware(&self) -> Option<Device> {
        self.hardware.get_or_init(|| opened(&as_hardware(guarded()))).clone()
    }

    /// The worst-case device ([`GpuOptions::worst_case`]) if a GPU is under test: with its own kernels, and with those
    /// for hardware.
    pub fn worst_case(&self) -> &[Device] {
        let worst_case = || GpuOptions { worst_case: true, ..guarded() };
        let open = || [worst_case(), as_hardware(worst_case())].iter().filter_map(opened).collect();
        self.worst_case.get_or_init(open)
    }

    /// If a GPU is under test: half of WebGPU's guaranteed limits, and two-dimensional grids.
    pub fn small(&self) -> Option<Device> {
        let limits = LimitsProfile::HalfWebGpu;
        let open = || opened(&GpuOptions { limits, max_workgroups: Some(40), ..guarded() });
        self.small.get_or_init(open).clone()
    }
}

/// The shape and the FLOPs of a layer's output for an input like `x`, by a dry run.
pub fn dry(layer: &dyn Layer, x: &Tensor) -> Result<(Shape, u64)> {
    dry_run(|| Ok(layer.forward(x)?.shape()))
}

pub fn guarded() -> GpuOptions {
    GpuOptions { guarded: true, ..GpuOptions::default() }
}

fn as_hardware(options: GpuOptions) -> GpuOptions {
    GpuOptions { tune_for: Some(AdapterKind::Hardware), ..options }
}

/// The device under test.
pub fn device() -> Device {
    SHARED.tested().clone()
}

/// The device under test and the CPU.
pub fn devices() -> Vec<Device> {
    SHARED.plain()
}

/// An unguarded device of the same kind that no other test uses: for tests that count, or that break the device.
pub fn fresh(device: &Device) -> Device {
    match device {
        Device::Cpu(_) => Device::cpu_with_budget(u64::MAX),
        Device::Gpu(gpu) => Device::open_with(&gpu.adapter().id, &Default::default()).unwrap(),
    }
}

/// As [`devices`], plus the device under test with the kernels for hardware.
pub fn devices_and_hardware() -> Vec<Device> {
    devices().into_iter().chain(SHARED.hardware()).collect()
}

/// The device under test, opened with options, if it is a GPU.
pub fn opened(options: &GpuOptions) -> Option<Device> {
    match device() {
        Device::Cpu(_) => None,
        Device::Gpu(gpu) => Some(Device::open_with(&gpu.adapter().id, options).unwrap()),
    }
}

/// The two worst-case devices ([`Devices::worst_case`]).
pub fn worst_case() -> Vec<Device> {
    SHARED.worst_case().to_vec()
}

/// The number of cases of a property: `PROPTEST_CASES`, else 32 (every case waits for the device).
pub fn cases() -> ProptestConfig {
    let count = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(32);
    ProptestConfig { cases: count, failure_persistence: None, ..ProptestConfig::default() }
}

/// A row-major array of f64, for references.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

impl Array {
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f64>) -> Array {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), data.len());
        Array { shape, data }
    }

    /// An array of `f(index)`.
    pub fn from_fn(shape: impl Into<Vec<usize>>, mut f: impl FnMut(&[usize]) -> f64) -> Array {
        let shape = shape.into();
        let count: usize = shape.iter().product();
        let data = (0..count).map(|at| f(&unravel(at, &shape))).collect();
        Array { shape, data }
    }

    /// Pseudo-random values in `low..high` that f32 holds exactly.
    pub fn random(shape: impl Into<Vec<usize>>, seed: u64, low: f64, high: f64) -> Array {
        let mut draws = Gen::new(seed, 0, Values::Ordinary);
        Array::from_fn(shape, |_| draws.number(low, high))
    }

    pub fn at(&self, index: &[usize]) -> f64 {
        self.data[ravel(index, &self.shape)]
    }

    pub fn map(&self, f: impl Fn(f64) -> f64) -> Array {
        Array { shape: self.shape.clone(), data: self.data.iter().map(|&x| f(x)).collect() }
    }

    pub fn numel(&self) -> usize {
        self.data.len()
    }

    pub fn to_tensor(&self, device: &Device) -> Tensor {
        let data: Vec<f32> = self.data.iter().map(|&x| x as f32).collect();
        Tensor::from_slice(&data, &self.shape, device).unwrap()
    }

    /// The element at `index` of a broadcast of this array.
    pub fn broadcast_at(&self, index: &[usize]) -> f64 {
        let lead = index.len() - self.shape.len();
        let own: Vec<usize> =
            self.shape.iter().zip(&index[lead..]).map(|(&d, &i)| if d == 1 { 0 } else { i }).collect();
        self.at(&own)
    }
}

/// Asserts that a result has the reference's shape, and that each element is within `bound` of it. Non-finite elements
/// are compared by class.
pub fn assert_within(what: &str, got: &Tensor, want: &Array, bound: impl Fn(usize) -> f64) {
    assert_eq!(got.shape().to_vec(), want.shape, "{what}: shape on {}", got.device().id());
    let values = got.to_vec().unwrap_or_else(|error| panic!("{what} on {}: {error}", got.device().id()));
    for (at, (&g, &w)) in values.iter().zip(&want.data).enumerate() {
        let g = f64::from(g);
        let ok =
            if w.is_finite() { (g - w).abs() <= bound(at) } else { g == w || (g.is_nan() && w.is_nan()) };
        assert!(
            ok,
            "{what} on {}: element {:?} is {g}, should be {w} within {}",
            got.device().id(),
            unravel(at, &want.shape),
            bound(at)
        );
    }
}

/// Compares the gradients of `f` on every device with central differences of `reference` in f64, both contracted with
/// the same random weights. `slack` is the relative rounding error of the forward function; that of the gradient is a
/// small multiple.
pub fn check_gradients(
    what: &str,
    inputs: &[Array],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
    reference: impl Fn(&[Array]) -> Array,
    slack: f64,
) {
    let out = reference(inputs);
    let weights = Array::random(out.shape.clone(), 99, -1.0, 1.0);
    let dot = |y: &Array| y.data.iter().zip(&weights.data).map(|(y, w)| y * w).sum::<f64>();
    // The truncation error of a central difference is h²/6 times the third derivative; the rounding error is eps/h.
    // Both are near 1e-10 for h = 1e-5 and values near 1, far below f32's.
    let h = 1e-5;
    let numeric: Vec<Array> = (0..inputs.len())
        .map(|which| {
            let mut shifted = inputs.to_vec();
            let data = (0..inputs[which].numel())
                .map(|at| {
                    let x = inputs[which].data[at];
                    let mut side = |x| {
                        shifted[which].data[at] = x;
                        dot(&reference(&shifted))
                    };
                    let slope = (side(x + h) - side(x - h)) / (2.0 * h);
                    shifted[which].data[at] = x;
                    slope
                })
                .collect();
            Array { shape: inputs[which].shape.clone(), data }
        })
        .collect();
    for device in devices() {
        let leaves: Vec<Tensor> =
            inputs.iter().map(|x| x.to_tensor(&device).requires_grad().unwrap()).collect();
        let y = f(&leaves).unwrap_or_else(|error| panic!("{what} on {}: {error}", device.id()));
        let grads = y.backward_from(&weights.to_tensor(&device)).unwrap();
        for (at, (leaf, want)) in leaves.iter().zip(&numeric).enumerate() {
            let scale = want.data.iter().fold(1.0f64, |m, g| m.max(g.abs()));
            let zero = Tensor::zeros(leaf.shape(), &device).unwrap();
            let got = grads.get(leaf).unwrap_or(&zero);
            assert_within(&format!("{what}, gradient {at}"), got, want, |_| slack * scale + 1e-8);
        }
    }
}

/// Axis lengths where kernels tend to fail: 0, 1, primes, and tile sizes plus or minus one.
pub fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        1 => Just(0usize),
        3 => Just(1usize),
        6 => 2usize..8,
        3 => prop::sample::select(vec![13usize, 15, 16, 17, 31, 32, 33, 63, 64, 65]),
    ]
}

/// Shapes of rank 0 to `most`, with at most `numel` elements.
pub fn shape(most: usize, numel: usize) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(length(), 0..=most)
        .prop_filter("too large", move |dims| dims.iter().product::<usize>() <= numel)
}

/// Uploads the array in one of several layouts: contiguous, transposed, or a slice of a larger tensor.
pub fn laid_out(x: &Array, way: u8, device: &Device) -> Tensor {
    let plain = x.to_tensor(device);
    let rank = x.shape.len();
    match way % 3 {
        1 if rank >= 2 => {
            let order: Vec<usize> = (0..rank).rev().collect();
            plain.permute(&order).unwrap().contiguous().unwrap().permute(&order).unwrap()
        }
        2 if rank >= 1 => {
            // Every second element, starting at index 1, of an axis of length 2n + 1.
            let mut wide = x.shape.clone();
            let last = rank - 1;
            wide[last] = wide[last] * 2 + 1;
            let padded = Array::from_fn(wide.clone(), |index| {
                let mut own = index.to_vec();
                own[last] = index[last].wrapping_sub(1) / 2;
                if index[last] % 2 == 1 { x.at(&own) } else { f64::NAN }
            });
            padded.to_tensor(device).slice_step(-1, 1..wide[last], 2).unwrap()
        }
        _ => plain,
    }
}

/// The message of an error, without the line of the test, which `tests/error_lines.rs` checks.
pub fn without_line(error: &gristmill::Error) -> String {
    let message = error.to_string();
    message.split(" (at tests/").next().unwrap_or_default().to_string()
}
