//! What the suites of faults and limits share: work whose results are exact, to tell whether a device works, and ops whose
//! kernel is a test's own.

use gristmill::gpu::{GpuDevice, Kernel, Loops, Recorder};
use gristmill::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op};
use gristmill::{Device, Result, Shape, Tensor};
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

/// Results of many ops and of their gradients, all exact: the same on every device.
pub fn workload(device: &Device, seed: usize) -> Result<Vec<Vec<f32>>> {
    let x = tensor(&[37, 61], seed, device).requires_grad()?;
    let w = tensor(&[61, 19], seed + 1, device).requires_grad()?;
    let bias = tensor(&[19], seed + 2, device).requires_grad()?;
    let y = x.matmul(&w)?.add(&bias)?.relu()?;
    let rows = y.t()?.sum(&[0], false)?;
    let most = y.max(&[1], true)?;
    let loss = rows.add(&most.reshape([37])?)?.sum_all()?;
    // Ties share the gradient of a maximum by fractions: take the gradients of what has none.
    let grads = y.square()?.sum_all()?.backward()?;
    let gradient = |leaf: &Tensor| grads.get(leaf).map_or(Ok(Vec::new()), Tensor::to_vec);
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

/// Asserts that a device computes as the CPU does.
pub fn assert_works(device: &Device, seed: usize) {
    let want = workload(&Device::cpu(), seed).unwrap();
    assert_eq!(workload(device, seed).unwrap(), want, "on {device}");
}

/// An op whose kernel is a test's own.
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

    fn cpu(&self, _: &[CpuView], _: &mut [CpuOut]) -> Result<()> {
        unreachable!("these ops run on GPUs")
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let mut buffers = vec![inputs[0].buffer, outputs[0].buffer];
        let (status, code) = rec.status("custom")?;
        if self.status {
            buffers.push(&status);
        }
        let params = [self.out as u32, code, 0, 0];
        rec.dispatch(self.kernel, self.constants, &buffers, &params, self.workgroups)
    }
}

/// The WGSL of a kernel that reads x and writes y, arrays of these elements, with `p.count` as its parameter.
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

/// A kernel of this WGSL, with `reads` 1.
pub const fn kernel(entry: &'static str, source: &'static str, writes: usize) -> Kernel {
    let loops = Loops::COUNTED;
    Kernel {
        file: "test.wgsl",
        source,
        entry,
        constants: &[],
        reads: 1,
        writes,
        params: 16,
        fields: &[],
        loops,
    }
}
