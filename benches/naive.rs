//! The first rung of the ladder: each plain kernel of `shaders/naive`, and the op of `Tensor` that computes the same.

mod common;

use common::{Bench, Case, Work, random};
use gristmill::{AttentionOptions, Conv2dOptions, Device, Pool2dOptions, Result, Tensor, naive};

type Compute = fn(&[Tensor]) -> Result<Tensor>;

/// A pair of rungs: the shapes of the inputs, the work, the plain kernel and the op.
struct Rung {
    name: &'static str,
    inputs: &'static [&'static [usize]],
    work: Work,
    plain: Compute,
    op: Compute,
}

const RUNGS: &[Rung] = &[
    Rung {
        name: "sum 4096x1024",
        inputs: &[&[4096, 1024]],
        work: Work::Bytes(4 * (4096 * 1024 + 4096)),
        plain: |x| naive::sum(&x[0]),
        op: |x| x[0].sum(&[1], false),
    },
    Rung {
        name: "softmax 4096x1024",
        inputs: &[&[4096, 1024]],
        work: Work::Bytes(2 * 4 * 4096 * 1024),
        plain: |x| naive::softmax(&x[0]),
        op: |x| x[0].softmax(1),
    },
    Rung {
        name: "layer_norm 4096x1024",
        inputs: &[&[4096, 1024]],
        work: Work::Bytes(2 * 4 * 4096 * 1024),
        plain: |x| naive::layer_norm(&x[0], 1e-5),
        op: |x| x[0].layer_norm(1, None, None, 1e-5),
    },
    Rung {
        name: "attention 8x256x32",
        inputs: &[&[8, 256, 32], &[8, 256, 32], &[8, 256, 32]],
        work: Work::Flops(4 * 8 * 256 * 256 * 32),
        plain: |x| naive::attention(&x[0], &x[1], &x[2]),
        op: |x| x[0].scaled_dot_product_attention(&x[1], &x[2], &AttentionOptions::default()),
    },
    Rung {
        name: "max_pool2d 16x32x64x64 by 2x2",
        inputs: &[&[16, 32, 64, 64]],
        work: Work::Bytes(5 * 16 * 32 * 64 * 64),
        plain: |x| naive::max_pool2d(&x[0], 2),
        op: |x| x[0].max_pool2d(Pool2dOptions::new([2, 2])),
    },
    Rung {
        name: "conv2d weight 8x16x32x32 to 32, 3x3",
        inputs: &[&[8, 16, 32, 32], &[8, 32, 30, 30]],
        work: Work::Flops(2 * 8 * 32 * 30 * 30 * 16 * 9),
        plain: |x| naive::conv2d_weight(&x[0], &x[1]),
        op: |x| {
            let weight = Tensor::zeros([32, 16, 3, 3], x[0].device())?.requires_grad()?;
            let y = x[0].conv2d(&weight, None, Conv2dOptions::default())?;
            Ok(y.backward_from(&x[1])?.get(&weight).expect("the weight takes part").clone())
        },
    },
];

fn main() -> Result<()> {
    common::run("naive", |bench| {
        for rung in RUNGS {
            for (which, compute) in [("naive", rung.plain), ("op", rung.op)] {
                cases(bench, rung, which, compute);
            }
        }
        Ok(())
    })
}

fn cases(bench: &mut Bench, rung: &'static Rung, which: &str, compute: Compute) {
    bench.case(&format!("{}, {which}", rung.name), rung.work, move |device| {
        let inputs = |device: &Device| {
            let tensor = |(seed, shape): (u64, &&[usize])| random(shape, seed, device).map(|(x, _)| x);
            (1..).zip(rung.inputs).map(tensor).collect::<Result<Vec<_>>>()
        };
        // Sums of up to 8,000 terms around 1, in orders that differ.
        let want = (rung.op)(&inputs(&Device::cpu())?)?.to_vec()?;
        let check = move |y: &[f32]| {
            assert_eq!(y.len(), want.len());
            assert!(y.iter().zip(&want).all(|(y, want)| (y - want).abs() < 1e-3 * want.abs().max(1.0)));
        };
        let x = inputs(device)?;
        Ok(Case::new(move || compute(&x), check))
    });
}
