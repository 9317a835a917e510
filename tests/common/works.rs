//! Shared by the suites of faults and limits: work with exact results, to check that a device works, and ops with
//! custom kernels.

use gristmill::gpu::{GpuDevice, Kernel, Recorder};
use gristmill::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op};
use gristmill::{CpuDevice, Device, Result, Shape, Tensor};
use std::sync::Arc;

pub fn gpu(device: &Device) -> &Arc<GpuDevice> {
    match device {
        Device::Gpu(gpu) => gpu,
        Device::Cpu(_) => panic!("the CPU is no GPU"),
    }
}

/// Whole numbers, on which sums and products are exact in any order.
pub fn whole(dims: &[usize], seed: usize) -> Vec<f32> {
    let count = dims.iter().product();
    (0..count).map(|i: usize| ((i * 7 + seed * 13 + i / 11) % 9) as f32 - 4.0).collect()
}

pub fn tensor(dims: &[usize], seed: usize, device: &Device) -> Tensor {
    Tensor::from_slice(&whole(dims, seed), dims, device).unwrap()
}

/// Results of many ops and their gradients, all exact, so the same on every device.
pub fn workload(device: &Device, seed: usize) -> Result<Vec<Vec<f32>>> {
    let x = tensor(&[37, 61], seed, device).requires_grad()?;
    let w = tensor(&[61, 19], seed + 1, device).requires_grad()?;
    let bias = tensor(&[19], seed + 2, device).requires_grad()?;
    let y = x.matmul(&w)?.add(&bias)?.relu()?;
    let rows = y.t()?.sum(&[0], false)?;
    let most = y.max(&[1], true)?;
    let loss = rows.add(&most.reshape([37])?)?.sum_all()?;
    // Ties split the gradient of a maximum into fractions, so a function without ties is differentiated.
    let grads = y.square()?.sum_all()?.backward()?;
    let gradient = |leaf: &Tensor| grads.get(leaf).map_or_else(|_| Ok(Vec::new()), Tensor::to_vec);
    Ok(vec![
        y.to_vec()?,
        rows.to_vec()?,
        most.to_vec()?,
        loss.to_vec()?,
        gradient(&x)?,
        gradient(&w)?,
        gradient(&bias)?,
    ])
}

/// Asserts that a device computes the same as the CPU.
pub fn assert_works(device: &Device, seed: usize) {
    let want = workload(&Device::cpu(), seed).unwrap();
    assert_eq!(workload(device, seed).unwrap(), want, "on {device}");
}

/// An op with a custom kernel.
pub struct Custom {
    pub kernel: &'static Kernel,
    pub constants: &'static [u32],
    pub workgroups: usize,
    pub out: usize,
    /// Whether the kernel writes the status word too.
    pub status: bool,
}

impl Custom {
    pub fn of(kernel: &'static Kernel, out: usize) -> Custom {
        Custom { kernel, constants: &[], workgroups: 1, out, status: false }
    }
}

impl Op for Custom {
    fn name(&self) -> &'static str {
        "custom"
    }

    fn infer(&self, _: &[Meta]) -> Result<Vec<Meta>> {
        Ok(vec![Meta::f32(Shape::new([self.out])?)])
    }

    fn flops(&self, _: &[Meta], _: &[Meta]) -> u64 {
        0
    }

    fn cpu(&self, _: &Arc<CpuDevice>, _: &[CpuView], _: &mut [CpuOut]) -> Result<()> {
        unreachable!("these ops run on GPUs")
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let mut buffers = vec![inputs[0].buffer, outputs[0].buffer];
        let (status, check) = rec.id_check("custom", &inputs[0], 1)?;
        if self.status {
            buffers.push(&status);
        }
        let params = CustomParams { count: self.out as u32, check, pad: [0; 2] };
        rec.dispatch(self.kernel, self.constants, &buffers, &params, self.workgroups)
    }
}

/// The WGSL of a kernel that reads x and writes y, arrays of these element types, with the parameter `p.count`.
macro_rules! x_to_y {
    ($element:literal, $body:literal) => {
        concat!(
            "struct Params { count: u32 }\n@group(0) @binding(0) var<storage, read> x: array<",
            $element,
            ">;\n@group(0) @binding(1) var<storage, read_write> y: array<",
            $element,
            ">;\n@group(0) @binding(2) var<uniform> p: Params;\n",
            $body
        )
    };
}
pub(crate) use x_to_y;

gristmill::params! {
    /// The parameters of a [`Custom`] kernel.
    pub struct CustomParams {
        pub count: u32,
        pub check: u32,
        pub pad: [u32; 2],
    }
}

static DOUBLE: Kernel = kernel(
    "double",
    x_to_y!(
        "f32",
        "@compute @workgroup_size(64) fn double(@builtin(global_invocation_id) id: vec3u) {
    if (id.x < p.count) { y[id.x] = 2.0 * x[id.x]; }
}"
    ),
    1,
);

/// Records `y = 2 x`.
pub fn double(rec: &mut Recorder, x: &GpuView, y: &GpuOut) -> Result<()> {
    let count = y.shape.numel();
    let params = CustomParams { count: count as u32, check: 0, pad: [0; 2] };
    rec.dispatch(&DOUBLE, &[], &[x.buffer, y.buffer], &params, count.div_ceil(64))
}

/// A kernel with this WGSL that reads one buffer and writes `writes` buffers.
pub const fn kernel(entry: &'static str, source: &'static str, writes: usize) -> Kernel {
    Kernel::new("test.wgsl", entry, source).buffers(1, writes).params::<CustomParams>()
}
