//! An op of one's own with its kernel and its gradient: radial basis functions by squared distances.

use gristmill::gpu::{Kernel, Recorder};
use gristmill::nn::{Init, Layer, Module, Parameter, mse_loss};
use gristmill::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op, Saved, Saves, apply};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Chain, CpuDevice, Device, Error, Result, Shape, Tensor, params};
use std::sync::Arc;

params! { struct Params { columns: u32, width: u32, offset: u32 } }

static DISTANCES: Kernel = Kernel::new(
    "distances.wgsl",
    "distances",
    "
    struct Params { columns: u32, width: u32, offset: u32 }
    @group(0) @binding(0) var<storage, read> x: array<f32>;
    @group(0) @binding(1) var<storage, read> y: array<f32>;
    @group(0) @binding(2) var<storage, read_write> z: array<f32>;
    @group(0) @binding(3) var<uniform> p: Params;
    @compute @workgroup_size(64)
    fn distances(@builtin(global_invocation_id) id: vec3u) {
        if (id.x >= arrayLength(&z)) { return; }
        var sum = 0.0;
        for (var k = 0u; k < p.width; k++) {
            let d = x[p.offset + id.x / p.columns * p.width + k] - y[id.x % p.columns * p.width + k];
            sum += d * d;
        }
        z[id.x] = sum;
    }",
)
.buffers(2, 1)
.params::<Params>();

struct Distances;

impl Op for Distances {
    fn name(&self) -> &'static str {
        "distances"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        match (&*inputs[0].shape, &*inputs[1].shape) {
            ([n, d], [m, e]) if d == e => Ok(vec![Meta::f32(Shape::new([*n, *m])?)]),
            (x, y) => Err(Error::shape("distances", format!("shapes {x:?} and {y:?}"))),
        }
    }

    fn flops(&self, inputs: &[Meta], outputs: &[Meta]) -> u64 {
        3 * outputs[0].numel() * inputs[0].shape[1] as u64
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let (x, y, d) = (inputs[0].slice(), inputs[1].slice(), inputs[0].shape()[1]);
        let pairs = x.chunks(d).flat_map(|x| y.chunks(d).map(move |y| (x, y)));
        for (z, (x, y)) in outputs[0].data.iter_mut().zip(pairs) {
            *z = x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum();
        }
        Ok(())
    }

    fn gpu(&self, recorder: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let [x, y] = [inputs[0].layout.shape, inputs[1].layout.shape];
        let offset = inputs[0].layout.offset as u32; // y is a whole parameter
        let params = Params { columns: y[0] as u32, width: x[1] as u32, offset };
        let buffers = [inputs[0].buffer, inputs[1].buffer, outputs[0].buffer];
        recorder.dispatch(&DISTANCES, &[], &buffers, &params, (x[0] * y[0]).div_ceil(64))
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[0, 1], outputs: &[] }
    }

    fn backward(&self, saved: &Saved, dz: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (x, y, back) = (saved.input(0)?, saved.input(1)?, dz.t()?);
        let dx = (2.0 * (dz.sum(&[1], true)? * x - dz.matmul(y)?)).eval()?;
        let dy = (2.0 * (back.sum(&[1], true)? * y - back.matmul(x)?)).eval()?;
        Ok(vec![Some(dx), Some(dy)])
    }
}

#[derive(Module)]
struct Basis {
    centers: Parameter,
    weights: Parameter,
}

impl Layer for Basis {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        apply(Distances, &[x, &self.centers.tensor()]).neg().exp().matmul(&self.weights.tensor())
    }
}

fn main() -> Result<()> {
    let device = Device::best()?;
    let init = Init::new(1, &device);
    let parameter = |shape: [usize; 2]| Parameter::new(&init.zeros(shape)?);
    let model = Basis { centers: parameter([16, 2])?, weights: parameter([16, 1])? };
    let data = twins::start(&[("m.", &model)], &device)?;
    let mut optimizer = Adam::new(model.parameters(), 0.05);
    for step in 0..100 {
        let loss = mse_loss(&model.forward(&data["x"].i(step)?)?, &data["y"].i(step)?)?;
        optimizer.step(&loss.backward()?)?;
        println!("{}", loss.item()?);
    }
    Ok(())
}
