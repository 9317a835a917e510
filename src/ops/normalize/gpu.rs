//! The GPU dispatches of the normalizations.

use super::rows::RowLayout;
use super::{Kind, Normalization, Source};
use crate::gpu::{GpuBuffer, Kernel, MOST_ITERATIONS, Recorder, kernel};
use crate::op::{GpuOut, GpuView, Op};
use crate::ops::binary;
use crate::ops::copy::Fill;
use crate::ops::slicing::{RowPlan, Slices, Slicing, workgroups_of_rows};
use crate::ops::{WG, to_u32};
use crate::shape::Layout;
use crate::{Error, Result, params};

pub(crate) const KERNELS: &[&Kernel] =
    &[&LAYER, &LAYER_GRAD, &GROUP, &REDUCE, &MERGE, &BATCH, &GRAD, &GRAD_SUMS, &GRAD_MERGE, &GRAD_DX, &STATS];

const FLAGS: &[u32] = &[0, 1];
/// Lanes per row that merge its slices, if there are more slices than this; else one invocation merges them.
const MERGING: u32 = 16;

static LAYER: Kernel = kernel!("layer_norm.wgsl", "layer_norm", reads: 4, writes: 4, params: LayerParams,
    "CENTRED": FLAGS, "ADD": FLAGS, "WG": &[RowPlan::WG], "LANES": RowPlan::LANES);
static LAYER_GRAD: Kernel = kernel!("layer_norm_grad.wgsl", "layer_norm_grad", reads: 5, writes: 1, params: LayerGradParams,
    "CENTRED": FLAGS, "WG": &[RowPlan::WG], "LANES": RowPlan::LANES);

static GROUP: Kernel = kernel!("group_norm.wgsl", "group_norm", reads: 3, writes: 4, params: Params,
    "CENTRED": &[1], "FLAT": FLAGS, "WG": &[RowPlan::WG], "LANES": RowPlan::LANES);
static REDUCE: Kernel = kernel!("group_norm.wgsl", "reduce_slices", reads: 3, writes: 4, params: Params,
    "CENTRED": FLAGS, "FLAT": FLAGS, "WG": &[RowPlan::WG], "LANES": RowPlan::LANES);
static MERGE: Kernel = kernel!("group_norm.wgsl", "merge_slices", reads: 3, writes: 4, params: Params,
    "CENTRED": &[1], "FLAT": &[1], "WG": &[RowPlan::WG], "LANES": &[1, MERGING]);
static BATCH: Kernel = kernel!("batch_norm.wgsl", "batch_norm", reads: 5, writes: 1, params: Params,
    "FLAT": FLAGS, "WG": &[RowPlan::WG], "LANES": RowPlan::LANES);

static GRAD: Kernel = kernel!("group_norm_grad.wgsl", "group_norm_grad", reads: 5, writes: 3, params: GradParams,
    "CENTRED": &[1], "CHANNELS": &[0], "FLAT": FLAGS, "WG": &[RowPlan::WG], "LANES": RowPlan::LANES);
static GRAD_SUMS: Kernel = kernel!("group_norm_grad.wgsl", "reduce_slices", reads: 5, writes: 3, params: GradParams,
    "CENTRED": &[1], "CHANNELS": FLAGS, "FLAT": FLAGS, "WG": &[RowPlan::WG], "LANES": RowPlan::LANES);
static GRAD_MERGE: Kernel = kernel!("group_norm_grad.wgsl", "merge_slices", reads: 5, writes: 3, params: GradParams,
    "CENTRED": &[1], "CHANNELS": &[0], "FLAT": &[1], "WG": &[RowPlan::WG], "LANES": &[1, MERGING]);
static GRAD_DX: Kernel = kernel!("group_norm_grad.wgsl", "write", reads: 5, writes: 3, params: GradParams,
    "CENTRED": FLAGS, "CHANNELS": &[0], "FLAT": FLAGS, "WG": &[RowPlan::WG], "LANES": RowPlan::LANES);

static STATS: Kernel = kernel!("running_stats.wgsl", "running_stats", reads: 2, writes: 2, params: RunningStatsParams, "WG": &[WG]);

params! {
    struct LayerParams {
        rows: u32, cols: u32, eps: f32, x_offset: u32, residual_offset: u32, w_offset: u32,
        b_offset: u32, has_weight: u32, has_bias: u32,
    }
}

params! {
    struct LayerGradParams {
        rows: u32, cols: u32, eps: f32, x_offset: u32, dy_offset: u32, w_offset: u32,
        mean_offset: u32, variance_offset: u32, has_weight: u32,
    }
}

params! {
    /// See `shared/row_layout.wgsl`.
    struct RowParams {
        step: [u32; 4], wrap: [u32; 4], run_step: [u32; 4], run_len: u32, cols: u32, rows: u32,
        row_step: u32, groups: u32, group_size: u32, by_channel: u32, interleaved: u32, slices: u32,
        size: u32, pad: [u32; 2],
    }
}

params! {
    struct Params {
        rows: RowParams, count: f32, eps: f32, x_offset: u32, w_offset: u32, b_offset: u32,
        has_weight: u32, has_bias: u32, mean_offset: u32, variance_offset: u32,
    }
}

params! {
    struct GradParams {
        rows: RowParams, count: f32, eps: f32, x_offset: u32, dy_offset: u32, w_offset: u32,
        mean_offset: u32, variance_offset: u32, weight: u32, given: u32,
    }
}

params! {
    struct RunningStatsParams {
        count: u32, mean_offset: u32, variance_offset: u32, momentum: f32, unbias: f32,
    }
}

/// How the rows are divided among invocations.
struct Plan {
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
    /// The most elements of a slice that one invocation visits, up to three times, four per iteration; and the most
    /// slices, which one invocation may merge in two loops.
    const MOST: usize = MOST_ITERATIONS / 2;

    /// # Errors
    /// More elements than the kernels can count.
    fn new(rec: &Recorder, op: &'static str, layout: &RowLayout) -> Result<Plan> {
        let (rows, cols, interleaved) = (layout.rows, layout.cols(), layout.is_interleaved());
        let lanes = RowPlan::lanes(rec.is_software(), rows, cols, interleaved);
        // The units of work are invocations.
        let slicing = Slicing {
            units_wanted: if rec.is_software() { 256 } else { 1 << 16 },
            shortest: 16 * lanes as usize,
            most_slices: 1024,
            longest: Plan::MOST * lanes as usize,
        };
        let Slices { count: slices, size } = slicing.cut(rows * lanes as usize, cols, lanes as usize);
        if slices > Plan::MOST {
            return Err(Error::shape(
                op,
                format!("{cols} elements in a row are more than the kernels can reduce"),
            ));
        }
        let merging = if slices <= MERGING as usize { 1 } else { MERGING };
        // Indices in the kernels go up to these.
        to_u32(op, cols + 4 * RowPlan::WG as usize)?;
        to_u32(op, 2 * rows * (slices + RowPlan::WG as usize))?;
        to_u32(op, rows * cols)?;
        let [runs, in_run] = [lanes as usize / layout.run_len.max(1), lanes as usize % layout.run_len.max(1)];
        let run = [0, layout.run_step.index, layout.run_step.channel, layout.run_step.statistics];
        let w = |value: usize| to_u32(op, value);
        let words =
            |place: [usize; 4]| Ok::<_, Error>([w(place[0])?, w(place[1])?, w(place[2])?, w(place[3])?]);
        let (run_step, run_len) = (words(run)?, w(layout.run_len)?);
        let [_, index, channel, statistics] = run_step;
        Ok(Plan {
            flat: u32::from(run_len == 1),
            lanes,
            slices,
            groups: workgroups_of_rows(rows * slices, lanes),
            merge: (merging, workgroups_of_rows(rows, merging)),
            rows: RowParams {
                step: words([in_run, runs * run[1] + in_run, runs * run[2], runs * run[3]])?,
                wrap: [0u32.wrapping_sub(run_len), index.wrapping_sub(run_len), channel, statistics],
                run_step,
                run_len,
                cols: w(cols)?,
                rows: w(rows)?,
                row_step: w(layout.row_step)?,
                groups: w(layout.view.groups.max(1))?,
                group_size: w(layout.view.group_size.max(1))?,
                by_channel: u32::from(layout.by_channel),
                interleaved: u32::from(interleaved),
                slices: w(slices)?,
                size: w(size)?,
                pad: [0; 2],
            },
        })
    }

    /// The memory for the partial results of the slices of all rows.
    fn parts(&self, rec: &mut Recorder) -> Result<GpuBuffer> {
        rec.scratch(if self.slices > 1 { 2 * self.rows.rows as usize * self.slices } else { 1 })
    }
}

impl Normalization {
    /// How the rows of x that have statistics are divided.
    fn plan(&self, rec: &Recorder, op: &'static str, x: &GpuView) -> Result<Plan> {
        Plan::new(rec, op, &self.view(x.layout.shape)?.rows_of_statistics())
    }

    /// Weight and bias. If one is absent, x is in its place, and is not read.
    fn bound<'a>(&self, inputs: &[GpuView<'a>]) -> [GpuView<'a>; 2] {
        self.parameters(inputs).map(|view| view.unwrap_or(inputs[0]))
    }

    /// The parameters of the kernels that write y of rows of runs.
    fn params(&self, plan: &Plan, inputs: &[GpuView]) -> Result<Params> {
        let offset = |view: GpuView| to_u32(self.name(), view.layout.offset);
        let given = |at: usize| if self.source == Source::Given { offset(inputs[at]) } else { Ok(0) };
        let [weight, bias] = self.bound(inputs);
        Ok(Params {
            rows: plan.rows,
            count: plan.rows.cols as f32,
            eps: self.eps,
            x_offset: offset(inputs[0])?,
            w_offset: offset(weight)?,
            b_offset: offset(bias)?,
            has_weight: u32::from(self.weight),
            has_bias: u32::from(self.bias),
            mean_offset: given(1)?,
            variance_offset: given(2)?,
        })
    }
}

/// One dispatch, or three if rows are cut into slices: the moments of slices, the moments of rows, and y; only the last
/// with given statistics. If rows of a sum are cut, or the adapter is software, the sum is a dispatch before those.
pub(super) fn normalize(
    rec: &mut Recorder,
    norm: &Normalization,
    inputs: &[GpuView],
    outputs: &[GpuOut],
) -> Result<()> {
    let (x, y, given) = (inputs[0], outputs[0], norm.source == Source::Given);
    if y.shape.numel() == 0 {
        return outputs[1..].iter().try_for_each(|out| Fill::dispatch(rec, *out, f32::NAN.to_bits()));
    }
    let plan = norm.plan(rec, norm.name(), &x)?;
    // On a software rasterizer gathers cost the same wherever they read, so fusion saves nothing: it measured 1.1 times
    // slower.
    if norm.source == Source::Sum && (plan.slices > 1 || rec.is_software()) {
        binary::sum(rec, inputs[0], inputs[1], outputs[1])?;
        let sum = GpuView::new(outputs[1].buffer, Layout::contiguous(outputs[1].shape));
        let (plain, inputs) =
            (Normalization { source: Source::Plain, ..*norm }, [&[sum], &inputs[2..]].concat());
        return normalize(rec, &plain, &inputs, &[outputs[0], outputs[2], outputs[3]]);
    }
    if norm.is_layer() && plan.slices == 1 {
        return layer_norm(rec, norm, &plan, inputs, outputs);
    }
    let params = norm.params(&plan, inputs)?;
    let [weight, bias] = norm.bound(inputs).map(|view| view.buffer);
    let [mean, variance] = [1, 2].map(|at: usize| if given { inputs[at].buffer } else { outputs[at].buffer });
    let constants = [u32::from(norm.is_centred()), plan.flat, RowPlan::WG, plan.lanes];
    if !given {
        let parts = plan.parts(rec)?;
        let buffers = [x.buffer, weight, bias, y.buffer, mean, variance, &parts];
        if plan.slices == 1 {
            return rec.dispatch(&GROUP, &constants, &buffers, &params, plan.groups);
        }
        rec.dispatch(&REDUCE, &constants, &buffers, &params, plan.groups)?;
        let (lanes, groups) = plan.merge;
        rec.dispatch(&MERGE, &[1, 1, RowPlan::WG, lanes], &buffers, &params, groups)?;
    }
    let buffers = [x.buffer, weight, bias, mean, variance, y.buffer];
    rec.dispatch(&BATCH, &constants[1..], &buffers, &params, plan.groups)
}

/// Whole rows of layer or RMS normalization, of x or of a sum.
fn layer_norm(
    rec: &mut Recorder,
    norm: &Normalization,
    plan: &Plan,
    inputs: &[GpuView],
    outputs: &[GpuOut],
) -> Result<()> {
    let offset = |view: GpuView| to_u32(norm.name(), view.layout.offset);
    let add = usize::from(norm.source == Source::Sum);
    let (x, residual, [weight, bias]) = (inputs[0], inputs[add], norm.bound(inputs));
    let params = LayerParams {
        rows: plan.rows.rows,
        cols: plan.rows.cols,
        eps: norm.eps,
        x_offset: offset(x)?,
        residual_offset: offset(residual)?,
        w_offset: offset(weight)?,
        b_offset: offset(bias)?,
        has_weight: u32::from(norm.weight),
        has_bias: u32::from(norm.bias),
    };
    let unused = if add == 0 { Some(rec.scratch(1)?) } else { None };
    let [mean, variance] = [outputs[1 + add].buffer, outputs[2 + add].buffer];
    let reads = [x.buffer, residual.buffer, weight.buffer, bias.buffer];
    let writes = [outputs[0].buffer, unused.as_ref().unwrap_or(outputs[1].buffer), mean, variance];
    let constants = [u32::from(norm.is_centred()), add as u32, RowPlan::WG, plan.lanes];
    rec.dispatch(&LAYER, &constants, &[reads, writes].concat(), &params, plan.groups)
}

/// The name of the gradients in errors.
const GRADIENT: &str = "norm_grad";

/// The offset of an input of the gradients, if there is one.
fn offset(inputs: &[GpuView], at: usize) -> Result<u32> {
    inputs.get(at).map_or(Ok(0), |view| to_u32(GRADIENT, view.layout.offset))
}

/// The parameters of the gradients of rows of runs. `inputs`: x, dy, mean, variance, and an optional weight.
fn grad_params(of: &Normalization, plan: &Plan, inputs: &[GpuView]) -> Result<GradParams> {
    Ok(GradParams {
        rows: plan.rows,
        count: plan.rows.cols as f32,
        eps: of.eps,
        x_offset: offset(inputs, 0)?,
        dy_offset: offset(inputs, 1)?,
        mean_offset: offset(inputs, 2)?,
        variance_offset: offset(inputs, 3)?,
        w_offset: offset(inputs, 4)?,
        weight: if inputs.len() < 5 { 0 } else { 1 + u32::from(of.kind == Kind::Batch) },
        given: u32::from(of.source == Source::Given),
    })
}

/// dx, and the sums over rows if they are an output. One dispatch, or three if rows are cut into slices; dx needs no
/// sums if the statistics were given.
pub(super) fn gradient(
    rec: &mut Recorder,
    of: &Normalization,
    inputs: &[GpuView],
    outputs: &[GpuOut],
) -> Result<()> {
    let plan = of.plan(rec, GRADIENT, &inputs[0])?;
    let reads = [0, 1, 4, 2, 3].map(|input| inputs.get(input).unwrap_or(&inputs[0]).buffer);
    let centred = u32::from(of.is_centred());
    if of.is_layer() && plan.slices == 1 {
        let params = LayerGradParams {
            rows: plan.rows.rows,
            cols: plan.rows.cols,
            eps: of.eps,
            x_offset: offset(inputs, 0)?,
            dy_offset: offset(inputs, 1)?,
            w_offset: offset(inputs, 4)?,
            mean_offset: offset(inputs, 2)?,
            variance_offset: offset(inputs, 3)?,
            has_weight: u32::from(of.weight),
        };
        let buffers = [&reads[..], &[outputs[0].buffer]].concat();
        let constants = [centred, RowPlan::WG, plan.lanes];
        return rec.dispatch(&LAYER_GRAD, &constants, &buffers, &params, plan.groups);
    }
    let params = grad_params(of, &plan, inputs)?;
    let parts = plan.parts(rec)?;
    let scratch = if outputs.len() < 2 { Some(rec.scratch(2 * plan.rows.rows as usize)?) } else { None };
    let sums = scratch.as_ref().unwrap_or_else(|| outputs[1].buffer);
    let buffers = [&reads[..], &[outputs[0].buffer, sums, &parts]].concat();
    let constants = |centred, lanes| [centred, 0, plan.flat, RowPlan::WG, lanes];
    let given = of.source == Source::Given;
    if plan.slices == 1 && !given {
        return rec.dispatch(&GRAD, &constants(centred, plan.lanes), &buffers, &params, plan.groups);
    }
    if !given {
        rec.dispatch(&GRAD_SUMS, &constants(1, plan.lanes), &buffers, &params, plan.groups)?;
        let (lanes, groups) = plan.merge;
        rec.dispatch(&GRAD_MERGE, &[1, 0, 1, RowPlan::WG, lanes], &buffers, &params, groups)?;
    }
    rec.dispatch(&GRAD_DX, &constants(centred, plan.lanes), &buffers, &params, plan.groups)
}

/// The sums over channels. One dispatch, or two if channels are cut into slices.
pub(super) fn channel_sums(
    rec: &mut Recorder,
    of: &Normalization,
    inputs: &[GpuView],
    sums: GpuOut,
) -> Result<()> {
    let plan = Plan::new(rec, GRADIENT, &of.view(inputs[0].layout.shape)?.rows_of_channels())?;
    let params = grad_params(of, &plan, inputs)?;
    let [x, dy, mean, variance] = [0, 1, 2, 3].map(|input: usize| inputs[input].buffer);
    // A written buffer may be bound only once. With one slice per row, its partial sums are the sums.
    let (unused, other) = (rec.scratch(1)?, plan.parts(rec)?);
    let (to, parts) = if plan.slices > 1 { (sums.buffer, &other) } else { (&other, sums.buffer) };
    let buffers = [x, dy, x, mean, variance, &unused, to, parts];
    let constants = [1, 1, plan.flat, RowPlan::WG, plan.lanes];
    rec.dispatch(&GRAD_SUMS, &constants, &buffers, &params, plan.groups)?;
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
    rec.dispatch(&STATS, &[WG], &buffers, &params, count.div_ceil(WG as usize))
}
