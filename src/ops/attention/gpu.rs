//! The GPU dispatches of attention.

use super::geometry::{Geometry, MOST_SLICES, Matrices, Wrt};
use super::{NAME, ScoreModifiers};
use crate::gpu::{GpuBuffer, Kernel, Recorder, kernel};
use crate::op::{GpuOut, GpuView, Meta};
use crate::ops::slicing::{Epilogue, Slices, Slicing, add_slices};
use crate::ops::{WG, to_u32};
use crate::shape::collapse;
use crate::{Error, Result, params};

pub(crate) const KERNELS: &[&Kernel] = &[&TILED, &SUBGROUP, &REDUCE, &DELTA, &TILED_GRAD, &SUBGROUP_GRAD];

/// Subgroup sizes of the subgroup kernels: lavapipe's 8. SwiftShader's 4 would take it minutes to compile.
const SIZES: &[u32] = &[8];

static TILED: Kernel =
    kernel!("attention.wgsl", "tiled", reads: 4, writes: 2, params: Params, "MASKED": &[0, 1]);
static SUBGROUP: Kernel = kernel!("attention_subgroup.wgsl", "subgroup", reads: 4, writes: 2, params: Params,
    "MASKED": &[0, 1], "SUBGROUP": SIZES);
static REDUCE: Kernel = kernel!("attention_reduce.wgsl", "attention_reduce", reads: 2, writes: 2, params: ReduceParams,
    "WG": &[WG]);
static DELTA: Kernel = kernel!("attention_delta.wgsl", "attention_delta", reads: 3, writes: 1, params: DeltaParams,
    "WG": &[WG]);
static TILED_GRAD: Kernel = kernel!("attention_grad.wgsl", "tiled", reads: 6, writes: 1, params: Params,
    "GRADIENT": GradOutput::ALL, "MASKED": &[0, 1]);
static SUBGROUP_GRAD: Kernel = kernel!("attention_grad_subgroup.wgsl", "subgroup", reads: 6, writes: 3, params: Params,
    "MASKED": &[0, 1], "SUBGROUP": SIZES);

params! {
    /// Where the matrices of an operand begin; see `shared/attention.wgsl`.
    struct Operand { offset: u32, head: u32, row: u32, col: u32 }
}

params! {
    struct Params {
        q: Operand, k: Operand, v: Operand, mask: Operand, strides: [[u32; 4]; 4],
        lengths: [u32; 4], axes: u32, matrices: u32, queries: u32, n: u32, m: u32, d: u32, dv: u32,
        slices: u32, size: u32, mask_kind: u32, left: i32, right: i32, seed: [u32; 2],
        offset: [u32; 2], threshold: u32, keep: f32, scale: f32, cap: f32, grad_offset: u32,
        first_key: u32, round: u32, pad: u32,
    }
}

params! {
    struct ReduceParams { rows: u32, cols: u32, slices: u32 }
}

params! {
    struct DeltaParams { rows: u32, cols: u32, o_offset: u32, grad_offset: u32, lse_offset: u32 }
}

/// Which gradient a kernel computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GradOutput {
    Dq = 0,
    Dk = 1,
    Dv = 2,
    Dmask = 3,
}

impl GradOutput {
    const ALL: &[u32] = &[0, 1, 2, 3];
}

/// The tiles that a kernel computes: `rows` by `others` scores, and `rows` by `cols` words of sums.
struct Tiles {
    rows: usize,
    others: usize,
    cols: usize,
    /// Tiles per workgroup.
    per_workgroup: usize,
    /// Elements per word. The kernel and its parameters count in words.
    word: usize,
    /// Loop iterations of an invocation for one tile of others: `iterations[0]` for each word of a dot product, plus
    /// `iterations[1]`. Upper bounds, counted in the kernel.
    iterations: [usize; 2],
    /// The subgroup size, for the subgroup kernels.
    subgroup: Option<u32>,
}

impl Tiles {
    const IN_WORKGROUP_MEMORY: Tiles = Tiles {
        rows: 32,
        others: 64,
        cols: 64,
        per_workgroup: 1,
        word: 1,
        iterations: [1, 180],
        subgroup: None,
    };

    /// The fastest tiles for the adapter and the layouts of the operands.
    fn of(rec: &Recorder, geometry: &Geometry, operands: &[GpuView]) -> Tiles {
        let fits = [geometry.d, geometry.dv].iter().all(|size| size.is_multiple_of(4))
            && operands.iter().all(|x| geometry.matrices_of(&x.layout).in_fours());
        match rec.subgroup_size() {
            Some(size) if SIZES.contains(&size) && rec.is_software() && fits => {
                let (others, cols) = (8 * size as usize, 2 * size as usize);
                let per_workgroup = 64 / size as usize;
                Tiles {
                    rows: 32,
                    others,
                    cols,
                    per_workgroup,
                    word: 4,
                    iterations: [1, 60],
                    subgroup: Some(size),
                }
            }
            _ => Tiles::IN_WORKGROUP_MEMORY,
        }
    }

    /// The number of tiles in the results of all `matrices`.
    fn count(&self, job: &Job, matrices: usize) -> usize {
        job.rows.div_ceil(self.rows) * job.cols.div_ceil(self.word * self.cols).max(1) * matrices
    }

    /// How the others are cut (split-K).
    fn slices(&self, rec: &Recorder, job: &Job, matrices: usize) -> Slices {
        // The units of work are workgroups. Each slice stores as much as the result, so there are many only if that is small.
        let (units_wanted, shortest) = if rec.is_software() { (8, 256) } else { (512, 64) };
        let most_slices = if job.rows <= self.rows { MOST_SLICES } else { 4 };
        let iterations = job.depth.div_ceil(self.word) * self.iterations[0] + self.iterations[1];
        let longest = MOST_ITERATIONS / iterations * self.others;
        let workgroups = self.count(job, matrices).div_ceil(self.per_workgroup);
        Slicing { units_wanted, shortest, most_slices, longest }.cut(workgroups, job.others, self.others)
    }
}

/// What a dispatch computes: `rows` by `cols` sums over the `others` (keys or queries), weighted by scores; `depth` is
/// the total length of the dot products of one score.
struct Job {
    rows: usize,
    cols: usize,
    others: usize,
    depth: usize,
}

/// The most loop iterations of an invocation: the counts of [`Tiles::iterations`] are bounds, so there is a margin.
const MOST_ITERATIONS: usize = crate::gpu::MOST_ITERATIONS - 5_535;

/// What is computed, from which tensors.
struct Problem<'a> {
    modifiers: ScoreModifiers,
    geometry: Geometry,
    /// q, k and v.
    operands: [GpuView<'a>; 3],
    mask: Option<GpuView<'a>>,
    /// For gradients: the gradient of the output, and the log-sum-exp and delta of each query.
    backward: &'a [GpuView<'a>],
}

impl<'a> Problem<'a> {
    /// `inputs`: q, k, v, then `more` inputs for gradients, and an optional mask.
    fn new(modifiers: ScoreModifiers, inputs: &'a [GpuView<'a>], more: usize) -> Result<Problem<'a>> {
        let [q, k, v] = [0, 1, 2].map(|at| inputs[at]);
        let mask = inputs.get(3 + more).copied();
        let metas: Vec<Meta> =
            [q, k, v].into_iter().chain(mask).map(|view| Meta::f32(view.layout.shape)).collect();
        let geometry = Geometry::new(&metas)?;
        Ok(Problem { modifiers, geometry, operands: [q, k, v], mask, backward: &inputs[3..3 + more] })
    }

    /// The value of the kernels' constant MASKED.
    fn masked(&self) -> u32 {
        u32::from(!self.modifiers.is_plain())
    }

    /// The buffers that the kernels read. Without a mask, some buffer must still be bound.
    fn buffers(&self) -> Vec<&'a GpuBuffer> {
        let [q, k, v] = self.operands;
        let views = [q, k, v, self.mask.unwrap_or(q)];
        views.iter().chain(self.backward).map(|view| view.buffer).collect()
    }

    /// The parameters in words of `word` elements, for one slice of everything.
    fn params(&self, word: usize) -> Result<Params> {
        let w = |n: usize| to_u32(NAME, n);
        let (geometry, modifiers) = (&self.geometry, &self.modifiers);
        let [q, k, v] = self.operands.map(|view| geometry.matrices_of(&view.layout).in_words(word));
        let mask = match self.mask {
            Some(mask) => geometry.mask_of(&mask.layout)?,
            None => q, // not read
        };
        let scores = geometry.queries(&[])?.numel() as u128 * geometry.m as u128;
        if modifiers.dropout > 0.0 && scores > 1 << 34 {
            let what = format!("dropout of {scores} weights is more than Philox's counter can tell apart");
            return Err(Error::shape(NAME, what));
        }
        let far = |reach: Option<usize>| reach.map_or(1 << 30, |reach| reach.min(1 << 30) as i32);
        let halves = |n: u64| [n as u32, (n >> 32) as u32];
        let operand = |x: Matrices| -> Result<Operand> {
            Ok(Operand { offset: w(x.lead.offset)?, head: w(x.head)?, row: w(x.row)?, col: w(x.col)? })
        };
        let axes = collapse([q, k, v, mask].map(|x| x.lead));
        let shape = axes[0].shape;
        let (mut strides, mut lengths) = ([[0; 4]; 4], [0; 4]);
        for axis in 0..shape.rank() {
            lengths[axis] = w(shape[axis])?;
            for (stride, x) in strides[axis].iter_mut().zip(&axes) {
                *stride = w(x.strides[axis])?;
            }
        }
        w(geometry.matrices() * geometry.rows())?;
        let grad_offset = self.backward.first().map_or(0, |grad| grad.layout.offset / word);
        Ok(Params {
            q: operand(q)?,
            k: operand(k)?,
            v: operand(v)?,
            mask: operand(mask)?,
            strides,
            lengths,
            axes: shape.rank() as u32,
            matrices: w(geometry.matrices())?,
            queries: w(geometry.rows())?,
            n: w(geometry.n)?,
            m: w(geometry.m)?,
            d: w(geometry.d / word)?,
            dv: w(geometry.dv / word)?,
            slices: 1,
            size: 0,
            mask_kind: modifiers.mask as u32,
            left: far(modifiers.window[0]),
            right: far(modifiers.window[1]),
            seed: halves(modifiers.seed),
            offset: halves(modifiers.offset),
            threshold: modifiers.threshold(),
            keep: modifiers.keep(),
            scale: modifiers.scale,
            cap: modifiers.cap,
            grad_offset: w(grad_offset)?,
            first_key: 0,
            round: 0,
            pad: 0,
        })
    }

    /// The parameters for a job, and its number of workgroups.
    fn plan(&self, rec: &Recorder, tiles: &Tiles, job: &Job) -> Result<(Params, usize)> {
        let matrices = self.geometry.matrices();
        let Slices { count, size } = tiles.slices(rec, job, matrices);
        if 2 * count > MOST_ITERATIONS {
            // The reduction iterates over the slices twice.
            let message = format!("a length of {} is more than the kernels can sum", job.others);
            return Err(Error::shape(NAME, message));
        }
        let all = count * tiles.count(job, matrices);
        to_u32(NAME, all)?;
        to_u32(NAME, count * matrices * job.rows * job.cols.max(2))?;
        to_u32(NAME, job.others + size)?;
        let params =
            Params { slices: to_u32(NAME, count)?, size: to_u32(NAME, size)?, ..self.params(tiles.word)? };
        Ok((params, all.div_ceil(tiles.per_workgroup)))
    }
}

pub(super) fn forward(
    rec: &mut Recorder,
    modifiers: ScoreModifiers,
    inputs: &[GpuView],
    outputs: &[GpuOut],
) -> Result<()> {
    let problem = Problem::new(modifiers, inputs, 0)?;
    let geometry = &problem.geometry;
    let tiles = Tiles::of(rec, geometry, &problem.operands);
    let job = Job { rows: geometry.rows(), cols: geometry.dv, others: geometry.m, depth: geometry.d };
    let (params, groups) = problem.plan(rec, &tiles, &job)?;
    let (o, stats) = (outputs[0].buffer, outputs[1].buffer);
    let (slices, rows) = (params.slices as usize, geometry.matrices() * geometry.rows());
    let parts = match slices {
        1 => None,
        _ => Some([rec.scratch((slices * rows * geometry.dv).max(1))?, rec.scratch(2 * slices * rows)?]),
    };
    let to = parts.as_ref().map_or([o, stats], |[o, stats]| [o, stats]);
    let buffers = [&problem.buffers()[..], &to].concat();
    match tiles.subgroup {
        Some(size) => rec.dispatch(&SUBGROUP, &[problem.masked(), size], &buffers, &params, groups)?,
        None => rec.dispatch(&TILED, &[problem.masked()], &buffers, &params, groups)?,
    }
    let Some([part, parts]) = &parts else { return Ok(()) };
    let reduce =
        ReduceParams { rows: to_u32(NAME, rows)?, cols: to_u32(NAME, geometry.dv)?, slices: params.slices };
    let groups = (rows * geometry.dv.max(1)).div_ceil(WG as usize);
    rec.dispatch(&REDUCE, &[WG], &[part, parts, o, stats], &reduce, groups)
}

pub(super) fn delta(rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
    let [o, lse, grad] = [0, 1, 2].map(|at| inputs[at]);
    let (rows, w) = (lse.layout.shape.numel(), |n: usize| to_u32(NAME, n));
    let params = DeltaParams {
        rows: w(rows)?,
        cols: w(o.layout.shape.last().copied().unwrap_or(0))?,
        o_offset: w(o.layout.offset)?,
        grad_offset: w(grad.layout.offset)?,
        lse_offset: w(lse.layout.offset)?,
    };
    let buffers = [o.buffer, lse.buffer, grad.buffer, outputs[0].buffer];
    rec.dispatch(&DELTA, &[WG], &buffers, &params, rows.div_ceil(WG as usize))
}

pub(super) fn backward(
    rec: &mut Recorder,
    modifiers: ScoreModifiers,
    wrt: Wrt,
    inputs: &[GpuView],
    outputs: &[GpuOut],
) -> Result<()> {
    let problem = Problem::new(modifiers, inputs, 2)?;
    let &Geometry { m, d, dv, .. } = &problem.geometry;
    let rows = problem.geometry.rows();
    if wrt == Wrt::All
        && let Some(pass) = OnePass::of(rec, &problem)
    {
        return pass.dispatch(rec, &problem, outputs);
    }
    let both = d + dv;
    let queries = (GradOutput::Dq, Job { rows, cols: d, others: m, depth: both });
    let jobs: &[(GradOutput, Job)] = &match wrt {
        Wrt::Queries => vec![queries],
        Wrt::All => vec![
            queries,
            (GradOutput::Dk, Job { rows: m, cols: d, others: rows, depth: both }),
            (GradOutput::Dv, Job { rows: m, cols: dv, others: rows, depth: d }),
        ],
        Wrt::Mask => vec![(GradOutput::Dmask, Job { rows, cols: 0, others: m, depth: both })],
    };
    for ((part, job), to) in jobs.iter().zip(outputs) {
        if to.shape.numel() > 0 {
            tiled_gradient(rec, &problem, *part, job, to.buffer)?;
        }
    }
    Ok(())
}

/// The gradients of queries, keys and values in one kernel.
struct OnePass {
    /// The slices of the keys.
    slices: Slices,
    /// Keys of a slice per dispatch.
    round: usize,
    subgroup: u32,
}

impl OnePass {
    /// Keys that a subgroup processes at a time.
    const KEYS: usize = 32;
    /// Storage buffers that the kernel binds.
    const BUFFERS: u32 = 9;
    /// Elements per word.
    const WORD: usize = 4;
    /// The units of work are workgroups, one per matrix. Each slice stores as much as dq.
    const SLICING: Slicing = Slicing { units_wanted: 8, shortest: 128, most_slices: 4, longest: usize::MAX };

    /// `None` if the adapter lacks the subgroups or the buffers, or if the sizes exceed the registers.
    fn of(rec: &Recorder, problem: &Problem) -> Option<OnePass> {
        let Problem { geometry, operands: [q, k, v], backward, .. } = problem;
        let &Geometry { m, d, dv, .. } = geometry;
        let tiles = Tiles::of(rec, geometry, &[*q, *k, *v, backward[0]]);
        let (subgroup, rows) = (tiles.subgroup?, geometry.rows());
        let empty = rows * m * d * dv == 0;
        if empty || d.max(dv) > tiles.cols * tiles.word || rec.storage_buffers() < OnePass::BUFFERS {
            return None;
        }
        let iterations = rows.div_ceil(tiles.others) * (d / 2 + dv / 4 + 110) + 40; // per tile of keys
        let round = MOST_ITERATIONS / iterations * OnePass::KEYS;
        let slices = OnePass::SLICING.cut(geometry.matrices(), m, OnePass::KEYS);
        (round > 0).then_some(OnePass { slices, round, subgroup })
    }

    fn dispatch(&self, rec: &mut Recorder, problem: &Problem, outputs: &[GpuOut]) -> Result<()> {
        let (geometry, Slices { count: slices, size }) = (&problem.geometry, self.slices);
        let count = outputs[0].shape.numel();
        to_u32(NAME, slices * count.max(geometry.m + size))?;
        let partial = if slices > 1 { Some(rec.scratch(slices * count)?) } else { None };
        let params = Params {
            slices: to_u32(NAME, slices)?,
            size: to_u32(NAME, size)?,
            round: to_u32(NAME, self.round)?,
            ..problem.params(OnePass::WORD)?
        };
        let constants = [problem.masked(), self.subgroup];
        let [dq, dk, dv] = [0, 1, 2].map(|at| outputs[at].buffer);
        let buffers = [&problem.buffers()[..], &[partial.as_ref().unwrap_or(dq), dk, dv]].concat();
        for first_key in (0..size).step_by(self.round) {
            let params = Params { first_key: to_u32(NAME, first_key)?, ..params };
            rec.dispatch(&SUBGROUP_GRAD, &constants, &buffers, &params, slices * geometry.matrices())?;
        }
        match partial {
            None => Ok(()),
            Some(partial) => add_slices(rec, NAME, [&partial, dq], [slices, count], Epilogue::NONE),
        }
    }
}

/// One gradient, by tiles in workgroup memory.
fn tiled_gradient(
    rec: &mut Recorder,
    problem: &Problem,
    part: GradOutput,
    job: &Job,
    to: &GpuBuffer,
) -> Result<()> {
    let (params, groups) = problem.plan(rec, &Tiles::IN_WORKGROUP_MEMORY, job)?;
    // The gradient of a mask is not a sum: each slice writes its own part.
    let slices = if part == GradOutput::Dmask { 1 } else { params.slices as usize };
    let count = problem.geometry.matrices() * job.rows * job.cols;
    let partial = if slices > 1 { Some(rec.scratch(slices * count)?) } else { None };
    let buffers = [&problem.buffers()[..], &[partial.as_ref().unwrap_or(to)]].concat();
    rec.dispatch(&TILED_GRAD, &[part as u32, problem.masked()], &buffers, &params, groups)?;
    match partial {
        None => Ok(()),
        Some(partial) => add_slices(rec, NAME, [&partial, to], [slices, count], Epilogue::NONE),
    }
}
