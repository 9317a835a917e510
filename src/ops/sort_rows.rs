//! The kernels that sort: for [`Tensor::sort`](crate::Tensor::sort), and for sums by ids.

use super::slicing::rows_along;
use super::{StridedIndexer, WG, to_u32};
use crate::gpu::{GpuBuffer, Kernel, Recorder, kernel};
use crate::op::GpuView;
use crate::{DType, Result, params};

pub(crate) const KERNELS: &[&Kernel] = &[&SORT_TILES, &SORT_MERGE];

/// Elements that one workgroup sorts: 8 KiB of pairs, and four compare-exchanges per invocation and step.
const TILE: u32 = 1024;
/// The tile lengths. A row shorter than the longest is a single tile, on average one third padding.
const WIDTHS: &[u32] = &[16, 64, 256, TILE];
/// The longest tile on a software adapter, where a merge costs less than the barriers of a longer tile.
const SOFTWARE_WIDTH: u32 = 64;

static SORT_TILES: Kernel = kernel!("sort_tiles.wgsl", "sort_tiles", reads: 1, writes: 2, params: TileParams,
    "IDS": &[0, 1], "WIDTH": WIDTHS, "TILE": &[TILE], "WG": &[WG]);
static SORT_MERGE: Kernel = kernel!("sort_merge.wgsl", "sort_merge", reads: 2, writes: 2, params: MergeParams,
    "IDS": &[0, 1], "WG": &[WG]);

params! {
    struct TileParams {
        indexer: StridedIndexer, tiles: u32, tiles_a_row: u32, length: u32, stride: u32, kept: u32,
        flip: u32, last: u32, pad: u32,
    }
}

params! {
    struct MergeParams {
        count: u32, runs: u32, length: u32, span: u32, held: u32, kept: u32, flip: u32, last: u32,
    }
}

/// The first `keep` elements of each row along the last axis, in ascending or descending order. Output 1 is the
/// position of each in its row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sort {
    pub(super) name: &'static str,
    pub(super) keep: usize,
    pub(super) descending: bool,
    pub(super) dtype: DType,
}

impl Sort {
    /// Keys are XORed with it: all ones for descending order.
    pub(super) fn flip(&self) -> u32 {
        if self.descending { u32::MAX } else { 0 }
    }

    /// Sorts the rows of `x` along its last axis into `values` and `places`, both contiguous.
    pub(super) fn dispatch(
        &self,
        rec: &mut Recorder,
        x: GpuView,
        values: &GpuBuffer,
        places: &GpuBuffer,
    ) -> Result<()> {
        let Sort { name, keep, dtype, .. } = *self;
        let (rows, stride) = rows_along(&x.layout, x.layout.shape.rank() - 1)?;
        let (count, length) = (rows.shape.numel(), x.layout.shape.numel() / rows.shape.numel().max(1));
        let ids = u32::from(dtype == DType::U32);
        let widest = if rec.is_software() { SOFTWARE_WIDTH } else { TILE };
        let width = WIDTHS.iter().copied().find(|&width| length <= width as usize || width == widest);
        let width = width.unwrap_or(widest);
        // The largest indices in the kernels.
        to_u32(name, count * length.next_multiple_of(width as usize) + TILE as usize)?;
        let (mut runs, mut span) = (length.div_ceil(width as usize), width as usize);
        let mut held = span.min(keep);
        let scratch = |rec: &mut Recorder, runs: usize, held: usize| -> Result<Option<[GpuBuffer; 2]>> {
            let words = count * runs * held;
            Ok(if runs > 1 { Some([rec.scratch(words)?, rec.scratch(words)?]) } else { None })
        };
        let mut partial = scratch(rec, runs, held)?;
        let [keys_to, places_to] = partial.as_ref().map_or([values, places], |[keys, places]| [keys, places]);
        let params = TileParams {
            indexer: StridedIndexer::new(name, [rows])?,
            tiles: to_u32(name, count * runs)?,
            tiles_a_row: to_u32(name, runs)?,
            length: to_u32(name, length)?,
            stride: to_u32(name, stride)?,
            kept: to_u32(name, held)?,
            flip: self.flip(),
            last: u32::from(runs == 1),
            pad: 0,
        };
        let groups = (count * runs).div_ceil((TILE / width) as usize);
        rec.dispatch(&SORT_TILES, &[ids, width, TILE, WG], &[x.buffer, keys_to, places_to], &params, groups)?;

        while let Some([keys_in, places_in]) = partial {
            let merged = runs.div_ceil(2);
            let kept = (2 * span).min(keep);
            let next = scratch(rec, merged, kept)?;
            let [keys_to, places_to] =
                next.as_ref().map_or([values, places], |[keys, places]| [keys, places]);
            let params = MergeParams {
                count: to_u32(name, count * runs * held)?,
                runs: to_u32(name, runs)?,
                length: to_u32(name, length)?,
                span: to_u32(name, span)?,
                held: to_u32(name, held)?,
                kept: to_u32(name, kept)?,
                flip: self.flip(),
                last: u32::from(merged == 1),
            };
            let groups = (count * runs * held).div_ceil(WG as usize);
            let buffers = [&keys_in, &places_in, keys_to, places_to];
            rec.dispatch(&SORT_MERGE, &[ids, WG], &buffers, &params, groups)?;
            (runs, span, held, partial) = (merged, 2 * span, kept, next);
        }
        Ok(())
    }
}
