//! An op of your own: its kernel in WGSL, its CPU twin, its gradient, and the proof that they agree.
//!
//! `cargo run --release --example custom_op`, or with `GRISTMILL_DEVICE=cpu` on the CPU.
//!
//! The op computes the squared distance of each row of x to each row of y, as the kernel of an SVM or the clusters of k-means
//! need it. A function of one number needs less: `gristmill::Pointwise` makes an op of ten lines.

#[path = "common/output.rs"]
mod output;

use gristmill::gpu::{Kernel, Recorder};
use gristmill::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op, Saved, Saves, apply};
use gristmill::proof::{Array, Bounded, Case, Gen, Row, Values, check, check_differences, check_tightness};
use gristmill::{CpuDevice, DType, Device, Error, Result, Shape, Tensor, params};
use output::say;
use std::process::ExitCode;
use std::sync::Arc;

// The parameters of the kernel. The fields are those of the WGSL struct, in the same order.
params! { struct Params { rows: u32, columns: u32, width: u32, x_offset: u32, y_offset: u32 } }

// Inputs first, then outputs, then the parameters. wgpu checks every index.
static DISTANCES: Kernel = Kernel::new(
    "distances.wgsl",
    "distances",
    "
    struct Params { rows: u32, columns: u32, width: u32, x_offset: u32, y_offset: u32 }
    @group(0) @binding(0) var<storage, read> x: array<f32>; // [rows, width], from x_offset on
    @group(0) @binding(1) var<storage, read> y: array<f32>; // [columns, width], from y_offset on
    @group(0) @binding(2) var<storage, read_write> z: array<f32>; // [rows, columns]
    @group(0) @binding(3) var<uniform> p: Params;

    @compute @workgroup_size(64)
    fn distances(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                 @builtin(local_invocation_index) local: u32) {
        // Many workgroups are dispatched in two dimensions.
        let i = (group.y * groups.x + group.x) * 64u + local;
        if (i >= p.rows * p.columns) { return; }
        var sum = 0.0;
        for (var k = 0u; k < p.width; k++) {
            let d = x[p.x_offset + i / p.columns * p.width + k] - y[p.y_offset + i % p.columns * p.width + k];
            sum += d * d;
        }
        z[i] = sum;
    }",
)
.buffers(2, 1)
.params::<Params>();

/// Inputs: x `[rows, width]` and y `[columns, width]`. Output: `[rows, columns]`.
struct Distances;

impl Op for Distances {
    fn name(&self) -> &'static str {
        "distances"
    }

    // The only place that checks the inputs: what passes here must not fail below.
    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        match inputs {
            [x, y]
                if [x, y].iter().all(|t| t.dtype == DType::F32 && t.shape.rank() == 2)
                    && x.shape[1] == y.shape[1] =>
            {
                Ok(vec![Meta::f32(Shape::new([x.shape[0], y.shape[0]])?)])
            }
            _ => {
                let shapes: Vec<String> = inputs.iter().map(|t| t.shape.to_string()).collect();
                let message = format!("shapes {}, should be [n, d] and [m, d]", shapes.join(" and "));
                Err(Error::shape(self.name(), message))
            }
        }
    }

    // A difference, a square and a sum for each pair and element.
    fn flops(&self, inputs: &[Meta], outputs: &[Meta]) -> u64 {
        outputs[0].numel() * inputs[0].shape[1] as u64 * 3
    }

    // The kernel reads rows that are one after the other: views with other strides are copied first. They may still begin
    // inside a buffer, at an offset.
    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let (x, y, width) = (inputs[0].slice(), inputs[1].slice(), inputs[0].shape()[1]);
        let columns = inputs[1].shape()[0];
        for (i, z) in outputs[0].data.iter_mut().enumerate() {
            let (a, b) = (&x[i / columns * width..][..width], &y[i % columns * width..][..width]);
            *z = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
        }
        Ok(())
    }

    fn gpu(&self, recorder: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let [x, y] = [inputs[0].layout.shape, inputs[1].layout.shape];
        let [x_offset, y_offset] = [inputs[0].layout.offset as u32, inputs[1].layout.offset as u32];
        let (rows, columns, width) = (x[0] as u32, y[0] as u32, x[1] as u32);
        let params = Params { rows, columns, width, x_offset, y_offset };
        let buffers = [inputs[0].buffer, inputs[1].buffer, outputs[0].buffer];
        recorder.dispatch(&DISTANCES, &[], &buffers, &params, (x[0] * y[0]).div_ceil(64))
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[0, 1], outputs: &[] }
    }

    // dx = 2 Σ_j dz[i, j] (x[i] - y[j]), and the same for y with the sign and the axes changed: made of the crate's ops.
    fn backward(&self, saved: &Saved, dz: &Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (x, y) = (saved.input(0)?, saved.input(1)?);
        let side =
            |x: &Tensor, y: &Tensor, dz: &Tensor| ((dz.sum(&[1], true)? * x - dz.matmul(y)?) * 2.0).eval();
        let dx = needs[0].then(|| side(x, y, dz)).transpose()?;
        let dy = needs[1].then(|| side(y, x, &dz.t()?)).transpose()?;
        Ok(vec![dx, dy])
    }
}

fn distances(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    apply(Distances, &[x, y])
}

/// A row of a table of test cases, as `src/proof/rows` has one for each op: how a case is drawn, the call, and the references
/// in f64, whose `Bounded` numbers carry the error that a device may make.
const ROW: Row = Row { name: "distances", covers: &[], draw: case, bench: None };

fn case(g: &mut Gen) -> Case {
    let [n, m, d] = [g.range(1..=9), g.range(1..=9), g.range(1..=9)];
    let (x, y) = (g.values(&[n, d], -2.0, 2.0), g.values(&[m, d], -2.0, 2.0));
    let distance = move |x: &Array, y: &Array| {
        Array::from_fn([n, m], |at| {
            Bounded::sum((0..d).map(|k| (x.at(&[at[0], k]) - y.at(&[at[1], k])).square()))
        })
    };
    let side = move |x: &Array, y: &Array, dz: &dyn Fn(usize, usize) -> Bounded, [n, m]: [usize; 2]| {
        Array::from_fn([n, d], |at| {
            let of = |j: usize| dz(at[0], j);
            let total = Bounded::sum((0..m).map(of)) * x.at(at);
            (total - Bounded::sum((0..m).map(|j| of(j) * y.at(&[j, at[1]])))) * 2.0
        })
    };
    Case::new(
        format!("{n} and {m} rows of {d}"),
        vec![x, y],
        |t| distances(&t[0], &t[1]),
        move |x| distance(&x[0], &x[1]),
    )
    .gradient(move |x, dz| {
        let dx = side(&x[0], &x[1], &|i, j| dz.at(&[i, j]), [n, m]);
        let dy = side(&x[1], &x[0], &|j, i| dz.at(&[i, j]), [m, n]);
        vec![Some(dx), Some(dy)]
    })
}

pub(crate) fn main() -> ExitCode {
    output::exit(run())
}

pub(crate) fn run() -> Result<()> {
    let device = Device::best()?;
    let x = Tensor::from_slice(&[0.0, 0.0, 1.0, 2.0], [2, 2], &device)?;
    let y = Tensor::from_slice(&[3.0, 4.0, 1.0, 2.0, 0.0, 1.0], [3, 2], &device)?.requires_grad()?;
    let z = distances(&x, &y)?;
    say(format!("squared distances on {device}:\n{z}"));
    say(format!("gradient of their sum:\n{}", z.sum_all()?.backward()?.get(&y)?));

    // Random cases, in all layouts, on the device and on the CPU: each output and gradient within its bound. The references
    // themselves are checked too: against central differences, and for bounds that are not too wide to notice a mistake.
    let failed = |why: String| Error::argument("custom_op", why);
    let cases: Vec<Case> = (0..64).map(|seed| ROW.case(seed, 100, Values::Ordinary)).collect();
    for (case, seed) in cases.iter().zip(0..) {
        check_differences(case, seed).map_err(failed)?;
        check_tightness(case, seed).map_err(failed)?;
    }
    for device in [device, Device::cpu()] {
        let mut worst = 0.0f64;
        for (case, seed) in cases.iter().zip(0..) {
            let outcome = check(case, &device, seed).map_err(failed)?;
            worst = worst.max(outcome.forward).max(outcome.backward);
        }
        say(format!("{} cases on {device}: the largest error is {worst:.2} of its bound", cases.len()));
    }
    Ok(())
}
