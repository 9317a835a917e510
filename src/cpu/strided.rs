//! Walking strided operands in row-major order.

use crate::shape::{Layout, collapse};
use rayon::prelude::*;
use std::convert::Infallible;

/// Elements one task handles: enough to outweigh handing it to a thread.
pub(crate) const GRAIN: usize = 16 << 10;

/// Calls `row(out, starts, steps)` for each innermost run of the operands, in parallel: `out` is the run's part of
/// the contiguous output, operand `i`'s elements lie at `starts[i] + j * steps[i]`.
pub(crate) fn rows<T: Send, const N: usize>(
    out: &mut [T],
    operands: [Layout; N],
    row: impl Fn(&mut [T], [usize; N], [usize; N]) + Sync,
) {
    let Ok(()) = rows_by(GRAIN, out, operands, |out, starts, steps| {
        row(out, starts, steps);
        Ok::<(), Infallible>(())
    });
}

/// As [`rows`], in tasks of about `grain` elements of the output: fewer where an element costs more.
///
/// # Errors
/// Of the first that a run gives; other runs may not be called then.
pub(crate) fn rows_by<T: Send, E: Send, const N: usize>(
    grain: usize,
    out: &mut [T],
    operands: [Layout; N],
    row: impl Fn(&mut [T], [usize; N], [usize; N]) -> Result<(), E> + Sync,
) -> Result<(), E> {
    if out.is_empty() {
        return Ok(());
    }
    let operands = collapse(operands);
    let shape = operands[0].shape;
    let Some((&inner, outer)) = shape.split_last() else {
        return row(out, operands.map(|l| l.offset), [0; N]);
    };
    let steps = operands.map(|l| l.strides[shape.rank() - 1]);
    if outer.is_empty() {
        // One long run: cut it up.
        return out.par_chunks_mut(grain).enumerate().try_for_each(|(part, out)| {
            let mut starts = operands.map(|l| l.offset);
            for (start, step) in starts.iter_mut().zip(steps) {
                *start += part * grain * step;
            }
            row(out, starts, steps)
        });
    }
    let runs = grain.div_ceil(inner);
    out.par_chunks_mut(runs * inner).enumerate().try_for_each(|(part, out)| {
        for (at, out) in out.chunks_mut(inner).enumerate() {
            let mut rest = part * runs + at;
            let mut starts = operands.map(|l| l.offset);
            for axis in (0..outer.len()).rev() {
                let index = rest % outer[axis];
                rest /= outer[axis];
                for (start, layout) in starts.iter_mut().zip(&operands) {
                    *start += index * layout.strides[axis];
                }
            }
            row(out, starts, steps)?;
        }
        Ok(())
    })
}
