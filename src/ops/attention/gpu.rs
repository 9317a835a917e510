//! The GPU dispatches of attention.

use super::geometry::{Geometry, MOST_SLICES, Matrices, Wrt};
use super::{NAME, ScoreModifiers};
use crate::gpu::{GpuBuffer, Kernel, Recorder, kernel};
use crate::op::{GpuOut, GpuView, Meta};
use crate::ops::matmul::add_slices;
use crate::ops::{StridedIndexer, WG, to_u32};
use crate::shape::Layout;
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
    "PART": GradOutput::ALL, "MASKED": &[0, 1]);
static SUBGROUP_GRAD: Kernel = kernel!("attention_grad_subgroup.wgsl", "subgroup", reads: 6, writes: 3, params: Params,
    "MASKED": &[0, 1], "SUBGROUP": SIZES);

params! {
    struct Params {
        indexer: StridedIndexer,
        mask_indexer: StridedIndexer,
        queries: u32,
        n: u32,
        m: u32,
        matrices: u32,
        d: u32,
        dv: u32,
        slices: u32,
        size: u32,
        q_head: u32,
        q_row: u32,
        q_col: u32,
        mask_kind: u32,
        k_row: u32,
        k_col: u32,
        v_row: u32,
        v_col: u32,
        mask_head: u32,
        mask_row: u32,
        mask_col: u32,
        threshold: u32,
        seed: [u32; 2],
        offset: [u32; 2],
        left: i32,
        right: i32,
        scale: f32,
        cap: f32,
        keep: f32,
        grad_offset: u32,
        begin: u32,
        round: u32,
    }
}

params! {
    struct ReduceParams {
        rows: u32,
        cols: u32,
        slices: u32,
    }
}

params! {
    struct DeltaParams {
        rows: u32,
        cols: u32,
        o_offset: u32,
        grad_offset: u32,
        lse_offset: u32,
    }
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

/// The tiles of a kernel: `rows` by `others` scores, and `rows` by `cols` words of sums; `pieces` of them per
/// workgroup.
struct Tiles {
    rows: usize,
    others: usize,
    cols: usize,
    pieces: usize,
    /// Elements per word. The kernel and its parameters count in words.
    word: usize,
    /// Loop iterations of an invocation per tile: for each word of a dot product, and in addition.
    iterations: [usize; 2],
    /// The subgroup size, for the subgroup kernel.
    subgroup: Option<u32>,
}

impl Tiles {
    /// The fastest tiles for the adapter and the layouts of the operands.
    fn of(rec: &Recorder, geometry: &Geometry, operands: &[Matrices]) -> Tiles {
        let sizes = geometry.d.is_multiple_of(4) && geometry.dv.is_multiple_of(4);
        match rec.subgroup_size() {
            Some(size)
                if SIZES.contains(&size)
                    && rec.is_software()
                    && sizes
                    && operands.iter().all(Matrices::in_fours) =>
            {
                let (others, cols, pieces) = (8 * size as usize, 2 * size as usize, 64 / size as usize);
                Tiles { rows: 32, others, cols, pieces, word: 4, iterations: [1, 60], subgroup: Some(size) }
            }
            _ => Tiles::in_workgroup_memory(),
        }
    }

    fn in_workgroup_memory() -> Tiles {
        Tiles { rows: 32, others: 64, cols: 64, pieces: 1, word: 1, iterations: [1, 180], subgroup: None }
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

/// The most loop iterations of an invocation, with a margin below lavapipe's limit of 65,535.
const MOST_ITERATIONS: usize = 60_000;

/// How the others are cut: the number of slices and their size.
fn cut(rec: &Recorder, tiles: &Tiles, job: &Job, matrices: usize) -> (usize, usize) {
    // Workgroups that fill the device, and the fewest others in a slice: shorter ones cost more in the reduction than
    // they gain.
    let (enough, fewest) = if rec.is_software() { (8, 256) } else { (512, 64) };
    // Each slice stores as much as the result, so there are many only if that is small.
    let most_slices = if job.rows <= tiles.rows { MOST_SLICES } else { 4 };
    let groups =
        (job.rows.div_ceil(tiles.rows) * job.cols.div_ceil(tiles.word * tiles.cols).max(1) * matrices)
            .div_ceil(tiles.pieces);
    let wanted = (enough / groups.max(1)).min(job.others / fewest).min(most_slices);
    let most = MOST_ITERATIONS / (job.depth.div_ceil(tiles.word) * tiles.iterations[0] + tiles.iterations[1])
        * tiles.others;
    let slices = job.others.div_ceil(most).max(wanted).max(1);
    let size = job.others.div_ceil(slices).max(1).next_multiple_of(tiles.others);
    (job.others.div_ceil(size).max(1), size)
}

impl Params {
    /// The parameters for q, k, v and an optional mask, in words of `size` elements.
    fn new(
        modifiers: ScoreModifiers,
        geometry: &Geometry,
        operands: [Matrices; 3],
        mask: Option<&Layout>,
        size: usize,
    ) -> Result<Params> {
        let w = |n: usize| to_u32(NAME, n);
        let [q, k, v] = operands.map(|matrices| matrices.in_words(size));
        let mask = match mask {
            Some(layout) => geometry.mask_of(layout)?,
            None => q, // not read
        };
        let scores = geometry.queries(&[])?.numel() as u128 * geometry.m as u128;
        if modifiers.dropout > 0.0 && scores > 1 << 34 {
            let what = format!("dropout of {scores} weights is more than Philox's counter can tell apart");
            return Err(Error::shape(NAME, what));
        }
        let far = |reach: Option<usize>| reach.map_or(1 << 30, |reach| reach.min(1 << 30) as i32);
        let halves = |n: u64| [n as u32, (n >> 32) as u32];
        w(geometry.matrices() * geometry.rows())?;
        Ok(Params {
            indexer: StridedIndexer::new(NAME, [q.lead, k.lead, v.lead])?,
            mask_indexer: StridedIndexer::new(NAME, [mask.lead])?,
            queries: w(geometry.rows())?,
            n: w(geometry.n)?,
            m: w(geometry.m)?,
            matrices: w(geometry.matrices())?,
            d: w(geometry.d / size)?,
            dv: w(geometry.dv / size)?,
            slices: 1,
            size: 0,
            q_head: w(q.head)?,
            q_row: w(q.row)?,
            q_col: w(q.col)?,
            mask_kind: modifiers.mask as u32,
            k_row: w(k.row)?,
            k_col: w(k.col)?,
            v_row: w(v.row)?,
            v_col: w(v.col)?,
            mask_head: w(mask.head)?,
            mask_row: w(mask.row)?,
            mask_col: w(mask.col)?,
            threshold: modifiers.threshold(),
            seed: halves(modifiers.seed),
            offset: halves(modifiers.offset),
            left: far(modifiers.window[0]),
            right: far(modifiers.window[1]),
            scale: modifiers.scale,
            cap: modifiers.cap,
            keep: modifiers.keep(),
            grad_offset: 0,
            begin: 0,
            round: 0,
        })
    }

    /// The parameters for a job, and its number of workgroups.
    fn cut(self, rec: &Recorder, tiles: &Tiles, job: &Job) -> Result<(Params, usize)> {
        let matrices = self.matrices as usize;
        let (slices, size) = cut(rec, tiles, job, matrices);
        if 2 * slices > MOST_ITERATIONS {
            // The reduction iterates over the slices twice.
            return Err(Error::shape(
                NAME,
                format!("a length of {} is more than the kernels can sum", job.others),
            ));
        }
        let pieces = slices
            * matrices
            * job.rows.div_ceil(tiles.rows)
            * job.cols.div_ceil(tiles.word * tiles.cols).max(1);
        to_u32(NAME, pieces)?;
        to_u32(NAME, slices * matrices * job.rows * job.cols.max(2))?;
        to_u32(NAME, job.others + size)?;
        let params = Params { slices: to_u32(NAME, slices)?, size: to_u32(NAME, size)?, ..self };
        Ok((params, pieces.div_ceil(tiles.pieces)))
    }
}

fn metas(inputs: &[GpuView]) -> Vec<Meta> {
    inputs.iter().map(|view| Meta::f32(view.layout.shape)).collect()
}

pub(super) fn forward(
    rec: &mut Recorder,
    modifiers: ScoreModifiers,
    inputs: &[GpuView],
    outputs: &[GpuOut],
) -> Result<()> {
    let geometry = Geometry::new(&metas(inputs))?;
    let [q, k, v] = [0, 1, 2].map(|at| inputs[at]);
    let mask = inputs.get(3);
    let operands = [&q, &k, &v].map(|x| geometry.matrices_of(&x.layout));
    let tiles = Tiles::of(rec, &geometry, &operands);
    let job = Job { rows: geometry.rows(), cols: geometry.dv, others: geometry.m, depth: geometry.d };
    let params = Params::new(modifiers, &geometry, operands, mask.map(|mask| &mask.layout), tiles.word)?;
    let (params, groups) = params.cut(rec, &tiles, &job)?;
    let (o, stats) = (outputs[0].buffer, outputs[1].buffer);
    let (slices, rows) = (params.slices as usize, geometry.matrices() * geometry.rows());
    let parts = match slices {
        1 => None,
        _ => Some([rec.scratch((slices * rows * geometry.dv).max(1))?, rec.scratch(2 * slices * rows)?]),
    };
    let [to, left] = parts.as_ref().map_or([o, stats], |[o, stats]| [o, stats]);
    let masked = u32::from(!modifiers.is_plain());
    // Without a mask, some buffer must still be bound.
    let buffers = [q.buffer, k.buffer, v.buffer, mask.unwrap_or(&q).buffer, to, left];
    match tiles.subgroup {
        Some(size) => rec.dispatch(&SUBGROUP, &[masked, size], &buffers, &params, groups)?,
        None => rec.dispatch(&TILED, &[masked], &buffers, &params, groups)?,
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
    let geometry = Geometry::new(&metas(&inputs[..3]))?;
    let &Geometry { m, d, dv, .. } = &geometry;
    let rows = geometry.rows();
    if wrt == Wrt::All
        && let Some(pass) = OnePass::of(rec, &geometry, inputs)
    {
        return pass.dispatch(rec, modifiers, &geometry, inputs, outputs);
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
            gradient(rec, modifiers, &geometry, inputs, *part, job, to.buffer)?;
        }
    }
    Ok(())
}

/// The gradients of queries, keys and values in one kernel.
struct OnePass {
    /// The slices of the keys; `size` is the number of keys in one.
    slices: usize,
    size: usize,
    /// Keys of a slice per dispatch.
    round: usize,
    subgroup: u32,
}

impl OnePass {
    /// Keys that a subgroup processes at a time.
    const KEYS: usize = 32;
    /// Storage buffers that the kernel binds.
    const BUFFERS: u32 = 9;

    /// `None` if the adapter lacks the subgroups or the buffers, or if the sizes exceed the registers.
    fn of(rec: &Recorder, geometry: &Geometry, inputs: &[GpuView]) -> Option<OnePass> {
        const ENOUGH: usize = 8; // workgroups
        const MOST: usize = 4; // slices, each of which stores as much as dq
        const FEWEST: usize = 128; // a slice of fewer keys costs more in the reduction than it gains
        let &Geometry { m, d, dv, .. } = geometry;
        let operands = [0, 1, 2, 3].map(|at| geometry.matrices_of(&inputs[at].layout));
        let tiles = Tiles::of(rec, geometry, &operands);
        let (subgroup, rows) = (tiles.subgroup?, geometry.rows());
        let empty = rows * m * d * dv == 0;
        if empty || d.max(dv) > tiles.cols * tiles.word || rec.storage_buffers() < OnePass::BUFFERS {
            return None;
        }
        let iterations = rows.div_ceil(tiles.others) * (d / 2 + dv / 4 + 110) + 40; // per tile of keys
        let round = MOST_ITERATIONS / iterations * OnePass::KEYS;
        let slices = (ENOUGH / geometry.matrices()).min(MOST).min(m / FEWEST).max(1);
        let size = m.div_ceil(slices).next_multiple_of(OnePass::KEYS);
        (round > 0).then_some(OnePass { slices: m.div_ceil(size), size, round, subgroup })
    }

    fn dispatch(
        &self,
        rec: &mut Recorder,
        modifiers: ScoreModifiers,
        geometry: &Geometry,
        inputs: &[GpuView],
        outputs: &[GpuOut],
    ) -> Result<()> {
        const WORD: usize = 4;
        let [q, k, v, grad, stats] = [0, 1, 2, 3, 4].map(|at| inputs[at]);
        let mask = inputs.get(5);
        let operands = [&q, &k, &v].map(|x| geometry.matrices_of(&x.layout));
        let count = outputs[0].shape.numel();
        to_u32(NAME, self.slices * count.max(geometry.m + self.size))?;
        let partial = if self.slices > 1 { Some(rec.scratch(self.slices * count)?) } else { None };
        let params = Params {
            grad_offset: to_u32(NAME, grad.layout.offset / WORD)?,
            slices: to_u32(NAME, self.slices)?,
            size: to_u32(NAME, self.size)?,
            round: to_u32(NAME, self.round)?,
            ..Params::new(modifiers, geometry, operands, mask.map(|mask| &mask.layout), WORD)?
        };
        let constants = [u32::from(!modifiers.is_plain()), self.subgroup];
        let mask = mask.unwrap_or(&q).buffer;
        let [dq, dk, dv] = [0, 1, 2].map(|at| outputs[at].buffer);
        let to = partial.as_ref().unwrap_or(dq);
        let buffers = [q.buffer, k.buffer, v.buffer, mask, grad.buffer, stats.buffer, to, dk, dv];
        for begin in (0..self.size).step_by(self.round) {
            let params = Params { begin: to_u32(NAME, begin)?, ..params };
            rec.dispatch(&SUBGROUP_GRAD, &constants, &buffers, &params, self.slices * geometry.matrices())?;
        }
        match partial {
            None => Ok(()),
            Some(partial) => add_slices(rec, &partial, dq, count, self.slices),
        }
    }
}

fn gradient(
    rec: &mut Recorder,
    modifiers: ScoreModifiers,
    geometry: &Geometry,
    inputs: &[GpuView],
    part: GradOutput,
    job: &Job,
    to: &GpuBuffer,
) -> Result<()> {
    let [q, k, v, grad, stats] = [0, 1, 2, 3, 4].map(|at| inputs[at]);
    let mask = inputs.get(5);
    let operands = [&q, &k, &v].map(|x| geometry.matrices_of(&x.layout));
    let tiles = Tiles::in_workgroup_memory();
    let params = Params::new(modifiers, geometry, operands, mask.map(|mask| &mask.layout), tiles.word)?;
    let params = Params { grad_offset: to_u32(NAME, grad.layout.offset / tiles.word)?, ..params };
    let (params, groups) = params.cut(rec, &tiles, job)?;
    // The gradient of a mask is not a sum: each slice writes its own part.
    let slices = if part == GradOutput::Dmask { 1 } else { params.slices as usize };
    let count = params.matrices as usize * job.rows * job.cols;
    let partial = if slices > 1 { Some(rec.scratch(slices * count)?) } else { None };
    let [part, masked] = [part as u32, u32::from(!modifiers.is_plain())];
    let mask = mask.unwrap_or(&q).buffer;
    let out = partial.as_ref().unwrap_or(to);
    let buffers = [q.buffer, k.buffer, v.buffer, mask, grad.buffer, stats.buffer, out];
    rec.dispatch(&TILED_GRAD, &[part, masked], &buffers, &params, groups)?;
    match partial {
        None => Ok(()),
        Some(partial) => add_slices(rec, &partial, to, count, slices),
    }
}
