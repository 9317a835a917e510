//! The rows of the table of cases that have a timed case: every op without a bench of its own.

mod common;

use common::{Bench, Case, Work};
use gristmill::proof::{self, Gen, Values};
use gristmill::{Result, Tensor};

fn main() -> Result<()> {
    common::run("table", cases)
}

fn cases(bench: &mut Bench) -> Result<()> {
    for row in proof::rows() {
        let Some(draw) = row.bench else { continue };
        let drawn = move || draw(&mut Gen::new(1, usize::MAX, Values::Ordinary));
        let (work, case) = drawn();
        let work = match work {
            proof::Work::Flops(n) => Work::Flops(n),
            proof::Work::Bytes(n) => Work::Bytes(n),
        };
        bench.case(&format!("{} {}", row.name, case.label), work, |device| {
            let (_, case) = drawn();
            let tensors: Vec<Tensor> =
                case.inputs.iter().map(|input| input.to_tensor(device)).collect::<Result<_>>()?;
            let want = (case.reference)(&case.arrays());
            let check = move |got: &[f32]| {
                let wrong = want.data.iter().zip(got).position(|(want, &got)| !want.admits(got));
                assert_eq!(wrong, None, "the first element that is wrong");
            };
            Ok(Case::new(move || (case.run)(&tensors), check))
        });
    }
    Ok(())
}
