//! The GPU dispatches of the normalizations.

use super::{Norm, RowLayout};
use crate::gpu::{GpuBuffer, Kernel, Recorder, kernel};
use crate::op::{GpuOut, GpuView};
use crate::ops::binary;
use crate::ops::copy::Fill;
use crate::ops::slicing::{RowPlan, Slices, Slicing, workgroups_of_rows};
use crate::ops::{WG, to_u32};
use crate::shape::Layout;
use crate::{Error, Result, params};

pub(crate) const KERNELS: &[&Kernel] =
    &[&WHOLE, &SUM, &REDUCE, &MERGE, &BY, &GRAD, &GRAD_REDUCE, &GRAD_MERGE, &GRAD_WRITE, &RUNNING_STATS];

const FLAGS: &[u32] = &[0, 1];
/// Lanes per row that merge its slices, if there are more slices than this; else one invocation merges them.
const MERGING: u32 = 16;

static WHOLE: Kernel = kernel!("normalize.wgsl", "normalize", reads: 3, writes: 4, params: Params,
    "CENTRED": FLAGS, "FLAT": FLAGS, "WG": &[RowPlan::WG], "LANES": RowPlan::LANES);
static SUM: Kernel = kernel!("add_norm.wgsl", "add_norm", reads: 4, writes: 4, params: Params,
    "CENTRED": FLAGS, "FLAT": &[1], "WG": &[RowPlan::WG], "LANES": RowPlan::LANES);
static REDUCE: Kernel = kernel!("normalize.wgsl", "reduce_slices", reads: 3, writes: 4, params: Params,
    "CENTRED": FLAGS, "FLAT": FLAGS, "WG": &[RowPlan::WG], "LANES": RowPlan::LANES);
static MERGE: Kernel = kernel!("normalize.wgsl", "merge_slices", reads: 3, writes: 4, params: Params,
    "CENTRED": &[1], "FLAT": &[1], "WG": &[RowPlan::WG], "LANES": &[1, MERGING]);
static BY: Kernel = kernel!("normalize_given_stats.wgsl", "normalize_given_stats", reads: 5, writes: 1, params: Params,
    "FLAT": FLAGS, "WG": &[RowPlan::WG], "LANES": RowPlan::LANES);

static GRAD: Kernel = kernel!("normalize_grad.wgsl", "normalize_grad", reads: 5, writes: 3, params: GradParams,
    "CENTRED": FLAGS, "CHANNELS": &[0], "FLAT": FLAGS, "WG": &[RowPlan::WG], "LANES": RowPlan::LANES);
static GRAD_REDUCE: Kernel = kernel!("normalize_grad.wgsl", "reduce_slices", reads: 5, writes: 3, params: GradParams,
    "CENTRED": &[1], "CHANNELS": FLAGS, "FLAT": FLAGS, "WG": &[RowPlan::WG], "LANES": RowPlan::LANES);
static GRAD_MERGE: Kernel = kernel!("normalize_grad.wgsl", "merge_slices", reads: 5, writes: 3, params: GradParams,
    "CENTRED": &[1], "CHANNELS": &[0], "FLAT": &[1], "WG": &[RowPlan::WG], "LANES": &[1, MERGING]);
static GRAD_WRITE: Kernel = kernel!("normalize_grad.wgsl", "write", reads: 5, writes: 3, params: GradParams,
    "CENTRED": FLAGS, "CHANNELS": &[0], "FLAT": FLAGS, "WG": &[RowPlan::WG], "LANES": RowPlan::LANES);

static RUNNING_STATS: Kernel = kernel!("running_stats.wgsl", "running_stats", reads: 2, writes: 2, params: RunningStatsParams, "WG": &[WG]);

params! {
    /// See `shared/row_layout.wgsl`.
    struct RowParams {
        step: [u32; 3],
        len: u32,
        wrap: [u32; 3],
        cols: u32,
        rows: u32,
        row_step: u32,
        run_step: u32,
        companion_step: u32,
        period: u32,
        scale: u32,
        divisor: u32,
        side: u32,
        slices: u32,
        size: u32,
        pad: [u32; 2],
    }
}

params! {
    struct Params {
        rows: RowParams,
        count: f32,
        eps: f32,
        x_offset: u32,
        w_offset: u32,
        b_offset: u32,
        has_weight: u32,
        has_bias: u32,
        mean_offset: u32,
        variance_offset: u32,
        a_offset: u32,
        r_offset: u32,
        pad: u32,
    }
}

params! {
    struct GradParams {
        rows: RowParams,
        count: f32,
        eps: f32,
        x_offset: u32,
        dy_offset: u32,
        w_offset: u32,
        mean_offset: u32,
        variance_offset: u32,
        weight: u32,
        given: u32,
        pad: [u32; 3],
    }
}

params! {
    struct RunningStatsParams {
        count: u32,
        mean_offset: u32,
        variance_offset: u32,
        momentum: f32,
        unbias: f32,
    }
}

/// How the rows are divided among invocations.
struct Plan {
    op: &'static str,
    rows: RowParams,
    flat: u32,
    lanes: u32,
    slices: usize,
    /// Workgroups for all slices.
    groups: usize,
    /// Lanes per row, and workgroups, that merge the slices.
    merge: (u32, usize),
}

impl Plan {
    /// # Errors
    /// More elements than the kernels can count.
    fn new(rec: &Recorder, op: &'static str, rows: &RowLayout) -> Result<Plan> {
        let (cols, side) = (rows.cols(), rows.side_by_side());
        let lanes = RowPlan::lanes(rec.is_software(), rows.rows, cols, side);
        // Each invocation visits its elements up to three times, four per iteration.
        let slicing = Slicing {
            enough: if rec.is_software() { 256 } else { 1 << 16 },
            fewest: 16 * lanes as usize,
            most: 1024,
            longest: 32_768 * lanes as usize,
        };
        let Slices { count: slices, size } = slicing.cut(rows.rows * lanes as usize, cols, lanes as usize);
        if slices > 32_768 {
            return Err(Error::shape(op, format!("{cols} elements in a row are more than the kernel's")));
        }
        let merging = if slices <= MERGING as usize { 1 } else { MERGING };
        let [len, run_step, lane_runs] = [rows.len, rows.run_step, lanes as usize / rows.len.max(1)];
        let in_run = lanes as usize % rows.len.max(1);
        // Indices in the kernels go up to these.
        to_u32(op, cols + 4 * RowPlan::WG as usize)?;
        to_u32(op, 2 * rows.rows * (slices + RowPlan::WG as usize))?;
        to_u32(op, rows.rows * cols)?;
        let companion = &rows.companion;
        let w = |value: usize| to_u32(op, value);
        let less = |value: usize| Ok::<u32, Error>(w(value)?.wrapping_sub(w(len)?));
        let rows = RowParams {
            step: [w(in_run)?, w(lane_runs * run_step + in_run)?, w(lane_runs * companion.step)?],
            len: w(len)?,
            wrap: [less(0)?, less(run_step)?, w(companion.step)?],
            cols: w(cols)?,
            rows: w(rows.rows)?,
            row_step: w(rows.row_step)?,
            run_step: w(run_step)?,
            companion_step: w(companion.step)?,
            period: w(companion.period.max(1))?,
            scale: w(companion.scale)?,
            divisor: w(companion.divisor.max(1))?,
            side: u32::from(side),
            slices: w(slices)?,
            size: w(size)?,
            pad: [0; 2],
        };
        Ok(Plan {
            op,
            flat: u32::from(len == 1),
            lanes,
            slices,
            groups: workgroups_of_rows(rows.rows as usize * slices, lanes),
            merge: (merging, workgroups_of_rows(rows.rows as usize, merging)),
            rows,
        })
    }

    /// The slices of all rows.
    fn parts(&self) -> usize {
        self.rows.rows as usize * self.slices
    }
}

/// The parameters of the kernels that write y, and the buffers of weight and bias. If one is absent, x is bound in its
/// place and not read.
fn forward<'a>(
    norm: &Norm,
    plan: &Plan,
    x: GpuView<'a>,
    parameters: &[GpuView<'a>],
) -> Result<(Params, [&'a GpuBuffer; 2])> {
    let found = norm.parameters(parameters);
    let [weight, bias] = found.map(|view| view.unwrap_or(x));
    let params = Params {
        rows: plan.rows,
        count: plan.rows.cols as f32,
        eps: norm.eps,
        x_offset: to_u32(plan.op, x.layout.offset)?,
        w_offset: to_u32(plan.op, weight.layout.offset)?,
        b_offset: to_u32(plan.op, bias.layout.offset)?,
        has_weight: u32::from(norm.weight),
        has_bias: u32::from(norm.bias),
        mean_offset: 0,
        variance_offset: 0,
        a_offset: 0,
        r_offset: 0,
        pad: 0,
    };
    Ok((params, [weight.buffer, bias.buffer]))
}

/// One dispatch, or three if rows are cut into slices: the moments of slices, the moments of rows, and y.
pub(super) fn normalize(
    rec: &mut Recorder,
    norm: &Norm,
    inputs: &[GpuView],
    outputs: &[GpuOut],
) -> Result<()> {
    let (x, y, statistics) = (inputs[0], outputs[0], &outputs[1..]);
    if y.shape.numel() == 0 {
        return statistics.iter().try_for_each(|out| Fill::dispatch(rec, *out, f32::NAN.to_bits()));
    }
    let plan = Plan::new(rec, norm.name(), &norm.view(x.layout.shape)?.by_statistics())?;
    let (params, [weight, bias]) = forward(norm, &plan, x, &inputs[1..])?;
    let [mean, variance] = [statistics[0].buffer, statistics[1].buffer];
    let parts = rec.scratch(if plan.slices > 1 { 2 * plan.parts() } else { 1 })?;
    let buffers = [x.buffer, weight, bias, y.buffer, mean, variance, &parts];
    let constants = [u32::from(norm.centred()), plan.flat, RowPlan::WG, plan.lanes];
    if plan.slices == 1 {
        return rec.dispatch(&WHOLE, &constants, &buffers, &params, plan.groups);
    }
    rec.dispatch(&REDUCE, &constants, &buffers, &params, plan.groups)?;
    let (lanes, groups) = plan.merge;
    rec.dispatch(&MERGE, &[1, 1, RowPlan::WG, lanes], &buffers, &params, groups)?;
    let buffers = [x.buffer, weight, bias, mean, variance, y.buffer];
    rec.dispatch(&BY, &constants[1..], &buffers, &params, plan.groups)
}

/// As [`normalize`], for the sum of inputs 0 and 1, which is output 1. One dispatch, unless rows are cut into slices or
/// the adapter is software; then the sum is a dispatch before those.
pub(super) fn add_norm(
    rec: &mut Recorder,
    norm: &Norm,
    inputs: &[GpuView],
    outputs: &[GpuOut],
) -> Result<()> {
    let [a, r, y, sum, mean, variance] = [
        inputs[0].buffer,
        inputs[1].buffer,
        outputs[0].buffer,
        outputs[1].buffer,
        outputs[2].buffer,
        outputs[3].buffer,
    ];
    let x = GpuView::new(sum, Layout::contiguous(outputs[1].shape));
    let plan = Plan::new(rec, norm.name(), &norm.view(x.layout.shape)?.by_statistics())?;
    // On a software rasteriser gathers cost the same wherever they read, so fusion saves nothing: it measured 1.1 times
    // slower.
    if x.layout.shape.numel() == 0 || plan.slices > 1 || rec.is_software() {
        binary::sum(rec, inputs[0], inputs[1], outputs[1])?;
        let inputs = [&[x], &inputs[2..]].concat();
        return normalize(rec, norm, &inputs, &[outputs[0], outputs[2], outputs[3]]);
    }
    let (params, [weight, bias]) = forward(norm, &plan, inputs[0], &inputs[2..])?;
    let [a_offset, r_offset] =
        [to_u32(plan.op, inputs[0].layout.offset)?, to_u32(plan.op, inputs[1].layout.offset)?];
    let params = Params { x_offset: 0, a_offset, r_offset, ..params };
    let constants = [u32::from(norm.centred()), plan.flat, RowPlan::WG, plan.lanes];
    rec.dispatch(&SUM, &constants, &[a, r, weight, bias, y, sum, mean, variance], &params, plan.groups)
}

/// As [`normalize`], with the statistics in inputs 1 and 2.
pub(super) fn normalize_given_stats(
    rec: &mut Recorder,
    norm: &Norm,
    inputs: &[GpuView],
    y: GpuOut,
) -> Result<()> {
    let [x, mean, variance] = [inputs[0], inputs[1], inputs[2]];
    let plan = Plan::new(rec, norm.name(), &norm.view(x.layout.shape)?.by_statistics())?;
    let (params, [weight, bias]) = forward(norm, &plan, x, &inputs[3..])?;
    let params = Params {
        mean_offset: to_u32(plan.op, mean.layout.offset)?,
        variance_offset: to_u32(plan.op, variance.layout.offset)?,
        ..params
    };
    let buffers = [x.buffer, weight, bias, mean.buffer, variance.buffer, y.buffer];
    rec.dispatch(&BY, &[plan.flat, RowPlan::WG, plan.lanes], &buffers, &params, plan.groups)
}

/// The parameters of the gradient kernels. `inputs`: x, dy, mean, variance, and an optional weight.
fn backward(norm: &Norm, plan: &Plan, inputs: &[GpuView]) -> Result<GradParams> {
    let offset = |input: usize| match inputs.get(input) {
        Some(view) => to_u32(plan.op, view.layout.offset),
        None => Ok(0),
    };
    let weight = match (norm.weight, norm.view(inputs[0].layout.shape)?.across) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => 2,
    };
    Ok(GradParams {
        rows: plan.rows,
        count: plan.rows.cols as f32,
        eps: norm.eps,
        x_offset: offset(0)?,
        dy_offset: offset(1)?,
        mean_offset: offset(2)?,
        variance_offset: offset(3)?,
        w_offset: offset(4)?,
        weight,
        given: 0,
        pad: [0; 3],
    })
}

/// dx, and the sums over rows. One dispatch, or three if rows are cut into slices; dx needs no sums if the statistics
/// were given.
pub(super) fn gradient(
    rec: &mut Recorder,
    norm: &Norm,
    given: bool,
    inputs: &[GpuView],
    outputs: &[GpuOut],
) -> Result<()> {
    let rows = norm.view(inputs[0].layout.shape)?.by_statistics();
    let plan = Plan::new(rec, "norm_grad", &rows)?;
    let params = GradParams { given: u32::from(given), ..backward(norm, &plan, inputs)? };
    let parts = rec.scratch(if plan.slices > 1 { 2 * plan.parts() } else { 1 })?;
    let reads = [0, 1, 4, 2, 3].map(|input| inputs.get(input).unwrap_or(&inputs[0]).buffer);
    let buffers = [&reads[..], &[outputs[0].buffer, outputs[1].buffer, &parts]].concat();
    let centred = u32::from(norm.centred());
    let constants = |centred, lanes| [centred, 0, plan.flat, RowPlan::WG, lanes];
    if plan.slices == 1 && !given {
        return rec.dispatch(&GRAD, &constants(centred, plan.lanes), &buffers, &params, plan.groups);
    }
    if !given {
        rec.dispatch(&GRAD_REDUCE, &constants(1, plan.lanes), &buffers, &params, plan.groups)?;
        let (lanes, groups) = plan.merge;
        rec.dispatch(&GRAD_MERGE, &[1, 0, 1, RowPlan::WG, lanes], &buffers, &params, groups)?;
    }
    rec.dispatch(&GRAD_WRITE, &constants(centred, plan.lanes), &buffers, &params, plan.groups)
}

/// The sums over channels. One dispatch, or two if channels are cut into slices.
pub(super) fn channel_sums(rec: &mut Recorder, norm: &Norm, inputs: &[GpuView], sums: GpuOut) -> Result<()> {
    let plan = Plan::new(rec, "norm_grad", &norm.view(inputs[0].layout.shape)?.by_channel())?;
    let params = backward(&Norm { weight: false, ..*norm }, &plan, inputs)?;
    let [x, dy, mean, variance] = [0, 1, 2, 3].map(|input: usize| inputs[input].buffer);
    // A written buffer may be bound only once. With one slice per row, its partial sums are the sums.
    let [unused, other] = [rec.scratch(1)?, rec.scratch(if plan.slices > 1 { 2 * plan.parts() } else { 1 })?];
    let (to, parts) = if plan.slices > 1 { (sums.buffer, &other) } else { (&other, sums.buffer) };
    let buffers = [x, dy, x, mean, variance, &unused, to, parts];
    let constants = [1, 1, plan.flat, RowPlan::WG, plan.lanes];
    rec.dispatch(&GRAD_REDUCE, &constants, &buffers, &params, plan.groups)?;
    if plan.slices == 1 {
        return Ok(());
    }
    let (lanes, groups) = plan.merge;
    rec.dispatch(&GRAD_MERGE, &[1, 0, 1, RowPlan::WG, lanes], &buffers, &params, groups)
}

/// Moves running statistics towards a batch's.
pub(super) fn running_stats(
    rec: &mut Recorder,
    [momentum, unbias]: [f32; 2],
    inputs: &[GpuView],
    outputs: &[GpuOut],
) -> Result<()> {
    const OP: &str = "batch_norm";
    let count = outputs[0].shape.numel();
    let params = RunningStatsParams {
        count: to_u32(OP, count)?,
        mean_offset: to_u32(OP, inputs[0].layout.offset)?,
        variance_offset: to_u32(OP, inputs[1].layout.offset)?,
        momentum,
        unbias,
    };
    let buffers = [inputs[0].buffer, inputs[1].buffer, outputs[0].buffer, outputs[1].buffer];
    rec.dispatch(&RUNNING_STATS, &[WG], &buffers, &params, count.div_ceil(WG as usize))
}
