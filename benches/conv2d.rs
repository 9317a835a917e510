//! Convolutions and their gradients: the first layer of the MNIST network, and a layer with many channels.

mod common;

use common::{Bench, Case, Work, dot, random, sampled};
use gristmill::{Conv2dKernel, Conv2dOptions, Result};

/// A layer with square images and 3 x 3 kernels.
#[derive(Clone, Copy)]
struct Layer {
    n: usize,
    c_in: usize,
    side: usize,
    c_out: usize,
    padding: usize,
}

const LAYERS: [Layer; 2] = [
    Layer { n: 64, c_in: 1, side: 28, c_out: 32, padding: 0 },
    Layer { n: 8, c_in: 64, side: 56, c_out: 64, padding: 1 },
];

impl Layer {
    fn name(&self) -> String {
        format!("{}x{}x{}x{}, {} of 3x3", self.n, self.c_in, self.side, self.side, self.c_out)
    }

    /// The side of the output.
    fn out(&self) -> usize {
        self.side + 2 * self.padding - 2
    }

    fn x_shape(&self) -> [usize; 4] {
        [self.n, self.c_in, self.side, self.side]
    }

    fn w_shape(&self) -> [usize; 4] {
        [self.c_out, self.c_in, 3, 3]
    }

    fn y_shape(&self) -> [usize; 4] {
        [self.n, self.c_out, self.out(), self.out()]
    }

    /// The same for the convolution and for both gradients: each product of an input and a weight occurs once.
    fn work(&self) -> Work {
        Work::Flops(2 * self.y_shape().iter().product::<usize>() * self.c_in * 9)
    }

    fn options(&self) -> Conv2dOptions {
        Conv2dOptions { padding: [self.padding; 2], ..Conv2dOptions::default() }
    }

    /// The positions in x, weight and y of a product; `None` if the tap lies in the padding.
    fn product(&self, [n, c, o]: [usize; 3], tap: [usize; 2], out: [usize; 2]) -> Option<[usize; 3]> {
        let pixel =
            |axis: usize| (out[axis] + tap[axis]).checked_sub(self.padding).filter(|&i| i < self.side);
        let [row, col] = [pixel(0)?, pixel(1)?];
        Some([
            place([n, c, row, col], self.x_shape()),
            place([o, c, tap[0], tap[1]], self.w_shape()),
            place([n, o, out[0], out[1]], self.y_shape()),
        ])
    }
}

fn place(index: [usize; 4], shape: [usize; 4]) -> usize {
    index.iter().zip(shape).fold(0, |at, (i, length)| at * length + i)
}

fn index(mut at: usize, shape: [usize; 4]) -> [usize; 4] {
    let mut index = [0; 4];
    for axis in (0..4).rev() {
        index[axis] = at % shape[axis];
        at /= shape[axis];
    }
    index
}

/// All pairs in `0..a` x `0..b`.
fn pairs(a: usize, b: usize) -> impl Iterator<Item = [usize; 2]> {
    (0..a).flat_map(move |i| (0..b).map(move |j| [i, j]))
}

fn main() -> Result<()> {
    common::run("conv2d", |bench| {
        for layer in LAYERS {
            for (name, kernel) in ladder(bench, layer) {
                cases(bench, layer, &format!("{} {name}", layer.name()), kernel);
            }
        }
        Ok(())
    })
}

/// The kernels that the device supports. The CPU has one.
fn ladder(bench: &Bench, layer: Layer) -> Vec<(&'static str, Conv2dKernel)> {
    if !bench.device.is_gpu() {
        return vec![("im2col", Conv2dKernel::Auto)];
    }
    let mut kernels = Vec::new();
    if layer.c_in == 1 || !bench.is_software() {
        kernels.push(("naive", Conv2dKernel::Naive)); // takes seconds for the large case on a software adapter
    }
    kernels.push(("registers", Conv2dKernel::Registers));
    if bench.has_small_subgroups() {
        kernels.push(("subgroup", Conv2dKernel::Subgroup));
    }
    kernels
}

fn cases(bench: &mut Bench, layer: Layer, name: &str, kernel: Conv2dKernel) {
    let options = layer.options();
    bench.case(name, layer.work(), |device| {
        let (x, xs) = random(&layer.x_shape(), 1, device)?;
        let (w, ws) = random(&layer.w_shape(), 2, device)?;
        let check = sampled(move |at| {
            let [n, o, row, col] = index(at, layer.y_shape());
            let taps = (0..layer.c_in).flat_map(|c| pairs(3, 3).map(move |tap| (c, tap)));
            dot(taps
                .filter_map(|(c, tap)| layer.product([n, c, o], tap, [row, col]))
                .map(|[x, w, _]| (xs[x], ws[w])))
        });
        Ok(Case::new(move || x.conv2d_with(&w, None, options, kernel), check))
    });
    bench.case(&format!("{name}, input gradient"), layer.work(), |device| {
        let (x, _) = random(&layer.x_shape(), 1, device)?;
        let (w, ws) = random(&layer.w_shape(), 2, device)?;
        let (grad, gs) = random(&layer.y_shape(), 3, device)?;
        let check = sampled(move |at| {
            let [n, c, row, col] = index(at, layer.x_shape());
            let taps = (0..layer.c_out).flat_map(|o| pairs(3, 3).map(move |tap| (o, tap)));
            dot(taps
                .filter_map(|(o, tap)| {
                    let out =
                        |at: usize, tap| (at + layer.padding).checked_sub(tap).filter(|&i| i < layer.out());
                    layer.product([n, c, o], tap, [out(row, tap[0])?, out(col, tap[1])?])
                })
                .map(|[_, w, y]| (ws[w], gs[y])))
        });
        Ok(Case::gradient(x, grad, move |x| x.conv2d_with(&w, None, options, kernel), check))
    });
    bench.case(&format!("{name}, weight gradient"), layer.work(), |device| {
        let (x, xs) = random(&layer.x_shape(), 1, device)?;
        let (w, _) = random(&layer.w_shape(), 2, device)?;
        let (grad, gs) = random(&layer.y_shape(), 3, device)?;
        let check = sampled(move |at| {
            let [o, c, down, right] = index(at, layer.w_shape());
            let outs = (0..layer.n).flat_map(|n| pairs(layer.out(), layer.out()).map(move |out| (n, out)));
            dot(outs
                .filter_map(|(n, out)| layer.product([n, c, o], [down, right], out))
                .map(|[x, _, y]| (xs[x], gs[y])))
        });
        Ok(Case::gradient(w, grad, move |w| x.conv2d_with(w, None, options, kernel), check))
    });
}
