//! How reductions fill a device: a row is reduced by several invocations, and a long row is cut into slices, whose
//! partial results a second dispatch reduces.

use super::{WG, to_u32};
use crate::gpu::{GpuBuffer, Kernel, Recorder, kernel};
use crate::op::GpuView;
use crate::ops::unary::Activation;
use crate::shape::Layout;
use crate::{Error, Result, params};

pub(crate) const KERNELS: &[&Kernel] = &[&ADD_SLICES];

static ADD_SLICES: Kernel = kernel!("matmul_reduce.wgsl", "matmul_reduce", reads: 2, writes: 1, params: Params,
    "WG": &[WG], "ACTIVATION": Activation::ALL);

params! {
    struct Params { count: u32, n: u32, slices: u32, bias_offset: u32, bias_step: u32, has_bias: u32 }
}

/// When a reduction is cut into slices. The numbers are measured, and differ by op.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slicing {
    /// Units of work (invocations or workgroups, as the op counts them) that fill the device.
    pub(crate) units_wanted: usize,
    /// Elements of the shortest slice that pays.
    pub(crate) shortest: usize,
    /// The most slices that pay.
    pub(crate) most_slices: usize,
    /// The longest slice that the kernel's loops can process. It alone may require more slices than `most_slices`.
    pub(crate) longest: usize,
}

/// The slices of a reduction. All have `size` elements, but the last one may have fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slices {
    pub(crate) count: usize,
    pub(crate) size: usize,
}

impl Slicing {
    /// Cuts reductions of `length` elements. `units`: the units of work if nothing is cut. The size of a slice is a
    /// multiple of `multiple`.
    pub(crate) fn cut(self, units: usize, length: usize, multiple: usize) -> Slices {
        let wanted = (self.units_wanted / units.max(1)).min(length / self.shortest).min(self.most_slices);
        let count = wanted.max(length.div_ceil(self.longest)).max(1);
        let size = length.div_ceil(count).max(1).next_multiple_of(multiple);
        Slices { count: length.div_ceil(size).max(1), size }
    }
}

/// How rows are divided among the invocations of a workgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowPlan {
    /// Invocations per row or slice.
    pub(crate) lanes: u32,
    /// The slices of a row.
    pub(crate) slices: Slices,
}

impl RowPlan {
    /// Invocations per workgroup.
    pub(crate) const WG: u32 = 64;
    pub(crate) const LANES: &[u32] = &[1, 16, RowPlan::WG];
    /// The most elements of a row per invocation, which visits them twice, four per iteration: 50,000 iterations, below
    /// lavapipe's limit of 65,535.
    const MOST: usize = 100_000;

    /// A plan for `rows` rows of `cols` elements. `interleaved`: see [`are_interleaved`].
    pub(crate) fn new(software: bool, rows: usize, cols: usize, interleaved: bool) -> RowPlan {
        let lanes = RowPlan::lanes(software, rows, cols, interleaved);
        let slicing = Slicing {
            units_wanted: if software { 256 } else { 1 << 14 },
            shortest: 128 * lanes as usize,
            most_slices: usize::MAX,
            longest: RowPlan::MOST * lanes as usize,
        };
        RowPlan { lanes, slices: slicing.cut(rows * lanes as usize, cols, 1) }
    }

    /// Invocations per row.
    pub(crate) fn lanes(software: bool, rows: usize, cols: usize, interleaved: bool) -> u32 {
        // On a software rasterizer uncoalesced loads cost nothing extra, but barriers are slow.
        match cols {
            _ if interleaved || cols <= 16 || (software && rows >= 16) => 1,
            _ if software || cols <= 256 => 16,
            _ => RowPlan::WG,
        }
    }

    /// Invocations per row, for a kernel that does not cut rows into slices and visits each element once.
    ///
    /// # Errors
    /// Rows too long for one workgroup.
    pub(crate) fn lanes_of_whole_rows(
        rec: &Recorder,
        op: &'static str,
        rows: usize,
        cols: usize,
        interleaved: bool,
    ) -> Result<u32> {
        let lanes = RowPlan::lanes(rec.is_software(), rows, cols, interleaved);
        let lanes = if cols / lanes as usize > RowPlan::MOST { RowPlan::WG } else { lanes };
        let most = 2 * RowPlan::MOST * lanes as usize;
        if cols > most {
            let message = format!("{cols} elements in a row are more than the kernel's {most}");
            return Err(Error::shape(op, message));
        }
        Ok(lanes)
    }

    /// The longest chain of additions in the sum over a row.
    pub(crate) fn depth(self) -> usize {
        let lanes = self.lanes as usize;
        self.slices.size.div_ceil(lanes) + self.slices.count.div_ceil(lanes) + 2 * lanes.ilog2() as usize
    }

    /// Workgroups for `rows` rows.
    pub(crate) fn groups(self, rows: usize) -> usize {
        workgroups_of_rows(rows * self.slices.count, self.lanes)
    }
}

/// Workgroups for so many rows or slices of `lanes` invocations each.
pub(crate) fn workgroups_of_rows(rows: usize, lanes: u32) -> usize {
    rows.div_ceil((RowPlan::WG / lanes) as usize)
}

/// The layout of the starts of the rows along `axis`, and the stride along a row.
pub(crate) fn rows_along(layout: &Layout, axis: usize) -> Result<(Layout, usize)> {
    let mut order: Vec<usize> = (0..layout.shape.rank()).collect();
    order.remove(axis);
    Ok((layout.permute(&order)?, layout.strides[axis]))
}

/// Whether rows are interleaved: neighbouring rows, which start at `starts`, are nearer in memory than the neighbouring
/// elements of a row, which are `step` apart.
pub(crate) fn are_interleaved(starts: &Layout, step: usize) -> bool {
    starts.shape.rank().checked_sub(1).is_some_and(|last| starts.strides[last] < step)
}

/// What [`add_slices`] applies to a sum: a bias for each of the `columns` of a row, then an activation.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    pub(crate) columns: usize,
    pub(crate) bias: Option<GpuView<'a>>,
    pub(crate) activation: Activation,
}

impl Epilogue<'_> {
    pub(crate) const NONE: Epilogue<'static> =
        Epilogue { columns: 1, bias: None, activation: Activation::None };
}

/// Adds the slices of `partial`, `count` elements each, into `to`, in a fixed order.
///
/// # Errors
/// More elements than a `u32` counts, or the device fails.
pub(crate) fn add_slices(
    rec: &mut Recorder,
    op: &'static str,
    [partial, to]: [&GpuBuffer; 2],
    [slices, count]: [usize; 2],
    epilogue: Epilogue,
) -> Result<()> {
    let bias = epilogue.bias.map(|bias| bias.layout);
    let params = Params {
        count: to_u32(op, count)?,
        n: to_u32(op, epilogue.columns)?,
        slices: to_u32(op, slices)?,
        bias_offset: bias.map_or(Ok(0), |bias| to_u32(op, bias.offset))?,
        bias_step: bias.map_or(Ok(0), |bias| to_u32(op, bias.strides[0]))?,
        has_bias: u32::from(bias.is_some()),
    };
    // Without a bias a buffer must still be bound; the kernel does not read it.
    let bias = epilogue.bias.map_or(partial, |bias| bias.buffer);
    let constants = [WG, epilogue.activation as u32];
    rec.dispatch(&ADD_SLICES, &constants, &[partial, bias, to], &params, count.div_ceil(WG as usize))
}
