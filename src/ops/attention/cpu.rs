//! The CPU twins of attention: `gemm` on tiles of scores, with the online softmax.

use super::geometry::{Geometry, Matrices, Wrt};
use super::{MaskKind, ScoreModifiers};
use crate::Result;
use crate::cpu::simd::{exp_below, larger, reduce_run, wide};
use crate::cpu::{CpuBuffer, CpuDevice, Matrix, functions, gemm};
use crate::op::{CpuOut, CpuView, Meta};
use crate::random::{Use, words};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Queries in a tile.
const QUERIES: usize = 128;
/// Keys in a tile: its scores and its rows of k and v fit in a core's cache.
const KEYS: usize = 256;

/// With at least this many matrices, the gradients of each matrix are one task.
const ENOUGH_MATRICES: usize = 4;

/// Minimum weight of a visible key; 0 means hidden. A hidden key adds nothing, even if it is NaN.
const LEAST: f32 = f32::MIN_POSITIVE;

/// One call: its options, sizes and operands.
struct Call<'a> {
    cpu: &'a Arc<CpuDevice>,
    modifiers: ScoreModifiers,
    geometry: Geometry,
    /// q, k and v.
    operands: [(&'a [f32], Matrices); 3],
    mask: Option<(&'a [f32], Matrices)>,
}

/// A tile of scores: queries of one head by keys.
#[derive(Clone)]
struct Tile {
    /// The index of the matrix; `head` is the index in its group.
    matrix: usize,
    head: usize,
    queries: Range<usize>,
    keys: Range<usize>,
}

impl Tile {
    fn size(&self) -> usize {
        self.queries.len() * self.keys.len()
    }
}

/// Indices of [`Call::operands`].
const Q: usize = 0;
const K: usize = 1;
const V: usize = 2;

impl<'a> Call<'a> {
    fn new(
        cpu: &'a Arc<CpuDevice>,
        modifiers: ScoreModifiers,
        inputs: &[CpuView<'a>; 3],
        mask: Option<&CpuView<'a>>,
    ) -> Result<Call<'a>> {
        let geometry = Geometry::new(&inputs.map(|input| Meta::f32(input.layout.shape)))?;
        let operands = inputs.map(|input| (input.data, geometry.matrices_of(&input.layout)));
        let mask = match mask {
            Some(mask) => Some((mask.data, geometry.mask_of(&mask.layout)?)),
            None => None,
        };
        Ok(Call { cpu, modifiers, geometry, operands, mask })
    }

    /// The keys inside the window of at least one of these queries.
    fn seen(&self, queries: &Range<usize>) -> Range<usize> {
        let Geometry { n, m, .. } = self.geometry;
        let [left, right] = self.modifiers.window;
        // Positions are i + m - n; n is subtracted last, so that no intermediate result is negative.
        let first = left.map_or(0, |left| (queries.start + m).saturating_sub(n + left)).min(m);
        let end = right.map_or(m, |right| (queries.end + m + right).saturating_sub(n).min(m));
        first..end.max(first)
    }

    /// The tiles of the keys that [`Call::seen`] gives.
    fn key_tiles(&self, queries: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let seen = self.seen(queries);
        seen.clone().step_by(KEYS).map(move |first| first..(first + KEYS).min(seen.end))
    }

    /// The rows of an operand from the tile's first one on, as a matrix up to the end of the buffer.
    fn rows_of(&self, which: usize, tile: &Tile) -> Matrix<'a> {
        let (data, at) = &self.operands[which];
        let head = if which == Q { tile.head } else { 0 };
        let first = if which == Q { tile.queries.start } else { tile.keys.start };
        let start = at.start(tile.matrix, head) + first * at.row;
        Matrix { data: &data[start.min(data.len())..], rows: at.row, cols: at.col }
    }

    /// The scores of a tile: -inf for hidden keys, at least f32::MIN for visible ones. Plain scores
    /// ([`ScoreModifiers::is_plain`]) are products still without their scale, [`Call::late`]. With a soft cap, `slopes`
    /// receives the derivatives of the scores with respect to the scaled products.
    fn scores(&self, tile: &Tile, s: &mut [f32], slopes: &mut [f32]) {
        let (keys, q, k) = (tile.keys.len(), self.rows_of(Q, tile), self.rows_of(K, tile));
        multiply(s, (tile.queries.len(), keys, self.geometry.d), q, transposed(k));
        let scale = self.modifiers.scale;
        if self.modifiers.is_plain() {
            return;
        }
        for (r, (row, i)) in s.chunks_exact_mut(keys).zip(tile.queries.clone()).enumerate() {
            row.iter_mut().for_each(|s| *s *= scale);
            if self.modifiers.cap > 0.0 {
                for (s, slope) in row.iter_mut().zip(&mut slopes[r * keys..]) {
                    let t = functions::tanh(*s / self.modifiers.cap);
                    *slope = (1.0 - t) * (1.0 + t);
                    *s = t * self.modifiers.cap;
                }
            }
            self.mask_row(tile, i, row);
            let seen = self.seen(&(i..i + 1));
            let inside = |j: usize| j.clamp(tile.keys.start, tile.keys.end) - tile.keys.start;
            row[..inside(seen.start)].fill(f32::NEG_INFINITY);
            row[inside(seen.end)..].fill(f32::NEG_INFINITY);
        }
    }

    /// The factor that [`Call::scores`] has not applied yet.
    fn late(&self) -> f32 {
        if self.modifiers.is_plain() { self.modifiers.scale } else { 1.0 }
    }

    fn mask_row(&self, tile: &Tile, i: usize, row: &mut [f32]) {
        let Some((data, at)) = &self.mask else { return row.iter_mut().for_each(|s| *s = bounded(*s)) };
        let start = at.start(tile.matrix, tile.head) + i * at.row;
        for (s, j) in row.iter_mut().zip(tile.keys.clone()) {
            let mask = data[start + j * at.col];
            let (hidden, sum) = match self.modifiers.mask {
                // The bits are compared: a subnormal number is not 0.
                MaskKind::Boolean => (mask.to_bits() << 1 == 0, *s),
                _ => (mask == f32::NEG_INFINITY, *s + mask),
            };
            *s = if hidden { f32::NEG_INFINITY } else { bounded(sum) };
        }
    }

    /// The factors that dropout applies to the weights of a row.
    fn kept(&self, tile: &Tile, i: usize, each: &mut [f32]) {
        let (threshold, keep) = (self.modifiers.threshold(), self.modifiers.keep());
        let Geometry { group, n, m, .. } = self.geometry;
        let row = (tile.matrix * group + tile.head) * n + i;
        for (factor, j) in each.iter_mut().zip(tile.keys.clone()) {
            let at = row * m + j;
            let word =
                words(self.modifiers.seed, Use::Dropout, self.modifiers.offset, (at / 4) as u32)[at % 4];
            *factor = if word >= threshold { keep } else { 0.0 };
        }
    }

    /// `c += w · x`, where x has `others` rows. A weight of 0 skips its row of x, even if that is NaN.
    fn add_weighted(&self, c: &mut [f32], cols: usize, w: Matrix, others: usize, x: Matrix) {
        let rows = c.len().checked_div(cols).unwrap_or(0);
        let element = |j: usize, c: usize| x.data[j * x.rows + c * x.cols];
        let finite = || (0..others).all(|j| (0..cols).all(|c| element(j, c).is_finite()));
        if c.is_empty() || others == 0 {
            return;
        }
        if self.modifiers.is_plain() || finite() {
            return gemm(c, (rows, cols, others), w, x, true, false);
        }
        for (r, row) in c.chunks_exact_mut(cols).enumerate() {
            for j in 0..others {
                let weight = w.data[r * w.rows + j * w.cols];
                if weight != 0.0 {
                    row.iter_mut().enumerate().for_each(|(c, sum)| *sum += weight * element(j, c));
                }
            }
        }
    }
}

/// At least f32::MIN; NaN stays NaN.
#[inline(always)]
fn bounded(s: f32) -> f32 {
    if s < f32::MIN { f32::MIN } else { s }
}

/// exp(score - max) of a visible key.
#[inline(always)]
fn seen_weight(score: f32, max: f32) -> f32 {
    let e = exp_below(score - max);
    if e < LEAST { LEAST } else { e }
}

/// exp(score - max), or 0 for a hidden key.
#[inline(always)]
fn weight(score: f32, max: f32) -> f32 {
    if score == f32::NEG_INFINITY { 0.0 } else { seen_weight(score, max) }
}

fn transposed(x: Matrix) -> Matrix {
    Matrix { rows: x.cols, cols: x.rows, ..x }
}

/// A contiguous matrix with `cols` columns.
fn packed(data: &[f32], cols: usize) -> Matrix<'_> {
    Matrix { data, rows: cols, cols: 1 }
}

/// `c = a · b`.
fn multiply(c: &mut [f32], size: (usize, usize, usize), a: Matrix, b: Matrix) {
    if size.2 == 0 {
        return c.fill(0.0);
    }
    gemm(c, size, a, b, false, false);
}

/// Cuts a tensor `[count, len, width]` into pieces of at most `tile` along `len`; usize::MAX: one piece per matrix.
fn pieces(
    data: &mut [f32],
    count: usize,
    len: usize,
    width: usize,
    tile: usize,
) -> impl Iterator<Item = &mut [f32]> {
    // With one piece per matrix, an empty matrix has a piece too.
    let starts = move |_| (0..len.max(usize::from(tile == usize::MAX))).step_by(tile);
    (0..count).flat_map(starts).scan(data, move |data, first| {
        let (piece, rest) = std::mem::take(data).split_at_mut(tile.min(len - first) * width);
        *data = rest;
        Some(piece)
    })
}

/// The tiles of queries, in the order of the rows of q, with no keys yet.
fn query_tiles(geometry: &Geometry) -> impl Iterator<Item = Tile> + use<> {
    let &Geometry { group, n, .. } = geometry;
    let heads = geometry.matrices() * group;
    let tile = move |head: usize, first: usize| Tile {
        matrix: head / group,
        head: head % group,
        queries: first..(first + QUERIES).min(n),
        keys: 0..0,
    };
    (0..heads).flat_map(move |head| (0..n).step_by(QUERIES).map(move |first| tile(head, first)))
}

pub(super) fn forward(
    cpu: &Arc<CpuDevice>,
    modifiers: ScoreModifiers,
    inputs: &[CpuView],
    outputs: &mut [CpuOut],
) -> Result<()> {
    let call = Call::new(cpu, modifiers, &[inputs[0], inputs[1], inputs[2]], inputs.get(3))?;
    let [o, logs] = outputs else { return Ok(()) };
    let (geometry, dv) = (&call.geometry, call.geometry.dv);
    let heads = geometry.matrices() * geometry.group;
    let o = pieces(o.data, heads, geometry.n, dv, QUERIES);
    let logs = pieces(logs.data, heads, geometry.n, 1, QUERIES);
    let count = heads * geometry.n.div_ceil(QUERIES);
    let mut tasks = cpu.list(count, query_tiles(geometry).zip(o).zip(logs))?;
    tasks.par_iter_mut().try_for_each(|((tile, o), logs)| call.rows(tile.clone(), o, logs))
}

impl Call<'_> {
    /// The output of a tile of queries over all keys, and the log-sum-exp of its rows.
    fn rows(&self, mut tile: Tile, o: &mut [f32], logs: &mut [f32]) -> Result<()> {
        let dv = self.geometry.dv;
        let count = tile.queries.len();
        let (plain, late) = (self.modifiers.is_plain(), self.late());
        let mut s = self.cpu.scratch(count * KEYS)?;
        let mut slopes = self.cpu.scratch(if self.modifiers.cap > 0.0 { s.len() } else { 0 })?;
        let mut kept = self.cpu.scratch(if self.modifiers.dropout > 0.0 { KEYS } else { 0 })?;
        let mut states = [(f32::MIN, 0f32); QUERIES];
        let state = &mut states[..count];
        o.fill(0.0);
        for keys in self.key_tiles(&tile.queries.clone()) {
            tile.keys = keys;
            let len = tile.keys.len();
            let s = &mut s[..tile.size()];
            self.scores(&tile, s, &mut slopes);
            for (r, (row, (max, sum))) in s.chunks_exact_mut(len).zip(&mut *state).enumerate() {
                let (rescale, part) = wide(
                    #[inline(always)]
                    || if plain { weigh::<true>(row, late, max) } else { weigh::<false>(row, late, max) },
                );
                *sum = *sum * rescale + part;
                if rescale != 1.0 {
                    o[r * dv..][..dv].iter_mut().for_each(|o| *o *= rescale);
                }
                if self.modifiers.dropout > 0.0 {
                    self.kept(&tile, tile.queries.start + r, &mut kept);
                    row.iter_mut().zip(&*kept).for_each(|(w, kept)| *w *= kept);
                }
            }
            self.add_weighted(o, dv, packed(s, len), len, self.rows_of(V, &tile));
        }
        for (r, (&(max, sum), log)) in state.iter().zip(logs).enumerate() {
            // NaN if a score is NaN or +inf, or if all visible scores overflowed to -inf.
            let broken = sum.is_nan() || max == f32::MIN;
            let (scale, value) = match sum {
                0.0 => (0.0, f32::NEG_INFINITY),
                _ if broken => (f32::NAN, f32::NAN),
                sum => (1.0 / sum, max + sum.ln()),
            };
            *log = value;
            o[r * dv..][..dv].iter_mut().for_each(|o| *o *= scale);
        }
        Ok(())
    }

    /// The weights of a tile for the gradients: `work.s` for the output's gradient (in dv), `work.g` for the keys (in
    /// dq) and the queries (in dk).
    fn gradient(&self, tile: &Tile, grad: &Grad, wrt: Wrt, work: &mut Work) {
        let (keys, Geometry { group, n, dv, .. }) = (tile.keys.len(), self.geometry);
        let (plain, late) = (self.modifiers.is_plain(), self.late());
        let [s, g] = [&mut work.s, &mut work.g].map(|x| &mut x[..tile.size()]);
        self.scores(tile, s, &mut work.slopes);
        let first = (tile.matrix * group + tile.head) * n + tile.queries.start;
        let dy = packed(&grad.dy[first * dv..], dv);
        multiply(g, (tile.queries.len(), keys, dv), dy, transposed(self.rows_of(V, tile)));
        for (r, (s, g)) in s.chunks_exact_mut(keys).zip(g.chunks_exact_mut(keys)).enumerate() {
            let [log, delta] = [0, 1].map(|at| grad.stats[2 * (first + r) + at]);
            if self.modifiers.dropout > 0.0 {
                self.kept(tile, tile.queries.start + r, &mut work.kept);
                for ((s, g), &kept) in s.iter_mut().zip(&mut *g).zip(&*work.kept) {
                    let w = weight(*s, log);
                    *g = w * (if kept == 0.0 { 0.0 } else { *g * kept } - delta);
                    *g = if w == 0.0 { 0.0 } else { *g };
                    *s = if kept == 0.0 { 0.0 } else { w * kept }; // 0 even if w is NaN
                }
            } else {
                wide(
                    #[inline(always)]
                    || {
                        for (s, g) in s.iter_mut().zip(&mut *g) {
                            *s = if plain { seen_weight(*s * late, log) } else { weight(*s, log) };
                            *g = if *s == 0.0 { 0.0 } else { *s * (*g - delta) };
                        }
                    },
                );
            }
            if self.modifiers.cap > 0.0 && wrt != Wrt::Mask {
                // A hidden key has a g of 0, but its slope may be NaN.
                let slopes = g.iter_mut().zip(&work.slopes[r * keys..]).filter(|(g, _)| **g != 0.0);
                slopes.for_each(|(g, slope)| *g *= slope);
            }
        }
    }

    fn work(&self) -> Result<Work> {
        let size = QUERIES * KEYS;
        Ok(Work {
            s: self.cpu.scratch(size)?,
            g: self.cpu.scratch(size)?,
            slopes: self.cpu.scratch(if self.modifiers.cap > 0.0 { size } else { 0 })?,
            kept: self.cpu.scratch(if self.modifiers.dropout > 0.0 { KEYS } else { 0 })?,
        })
    }

    /// dq of a tile of queries, over all keys.
    fn query_gradient(&self, mut tile: Tile, grad: &Grad, dq: &mut [f32]) -> Result<()> {
        let mut work = self.work()?;
        dq.fill(0.0);
        for keys in self.key_tiles(&tile.queries.clone()) {
            tile.keys = keys;
            self.gradient(&tile, grad, Wrt::Queries, &mut work);
            let w = packed(&work.g, tile.keys.len());
            self.add_weighted(dq, self.geometry.d, w, tile.keys.len(), self.rows_of(K, &tile));
        }
        dq.iter_mut().for_each(|dq| *dq *= self.modifiers.scale);
        Ok(())
    }

    /// dk and dv of a range of keys, and, if `dq` is given, their terms of dq. dk and dq are not scaled yet.
    fn key_gradient(
        &self,
        matrix: usize,
        keys: Range<usize>,
        grad: &Grad,
        [dk, dv]: [&mut [f32]; 2],
        mut dq: Option<&mut [f32]>,
    ) -> Result<()> {
        let geometry = &self.geometry;
        let mut work = self.work()?;
        dk.fill(0.0);
        dv.fill(0.0);
        let places = (0..geometry.n).step_by(QUERIES);
        let starts = (0..geometry.group).flat_map(|head| places.clone().map(move |i| (head, i)));
        for (head, i) in starts {
            let tile = Tile { matrix, head, queries: i..(i + QUERIES).min(geometry.n), keys: keys.clone() };
            let seen = self.seen(&tile.queries);
            if seen.start >= keys.end || seen.end <= keys.start {
                continue;
            }
            self.gradient(&tile, grad, Wrt::All, &mut work);
            let [s, g] = [&work.s, &work.g].map(|w| packed(w, keys.len()));
            let (first, count) = (head * geometry.n + i, tile.queries.len());
            let dy =
                packed(&grad.dy[(matrix * geometry.group * geometry.n + first) * geometry.dv..], geometry.dv);
            self.add_weighted(dv, geometry.dv, transposed(s), count, dy);
            self.add_weighted(dk, geometry.d, transposed(g), count, self.rows_of(Q, &tile));
            if let Some(dq) = &mut dq {
                let rows = &mut dq[first * geometry.d..][..count * geometry.d];
                self.add_weighted(rows, geometry.d, g, keys.len(), self.rows_of(K, &tile));
            }
        }
        Ok(())
    }

    /// dq, dk and dv of a matrix, with each score computed once.
    fn matrix_gradient(
        &self,
        matrix: usize,
        grad: &Grad,
        dq: &mut [f32],
        dk: &mut [f32],
        dv: &mut [f32],
    ) -> Result<()> {
        let Geometry { m, d, dv: width, .. } = self.geometry;
        dq.fill(0.0);
        for first in (0..m).step_by(KEYS) {
            let keys = first..(first + KEYS).min(m);
            let parts = [&mut dk[first * d..keys.end * d], &mut dv[first * width..keys.end * width]];
            self.key_gradient(matrix, keys, grad, parts, Some(dq))?;
        }
        [dq, dk].into_iter().flatten().for_each(|x| *x *= self.modifiers.scale);
        Ok(())
    }

    /// The gradient of the mask for a tile of queries, over all keys.
    fn mask_gradient(&self, mut tile: Tile, grad: &Grad, rows: &mut [f32]) -> Result<()> {
        let (mut work, m) = (self.work()?, self.geometry.m);
        rows.fill(0.0);
        for keys in self.key_tiles(&tile.queries.clone()) {
            tile.keys = keys.clone();
            self.gradient(&tile, grad, Wrt::Mask, &mut work);
            for (row, g) in rows.chunks_exact_mut(m).zip(work.g.chunks_exact(keys.len())) {
                row[keys.clone()].copy_from_slice(g);
            }
        }
        Ok(())
    }
}

/// Replaces a row of scores, times `late`, by weights, and raises the running maximum `max`. Returns the factor that
/// rescales the sums so far, and the sum of the weights. PLAIN: no key is hidden.
#[inline(always)]
fn weigh<const PLAIN: bool>(row: &mut [f32], late: f32, max: &mut f32) -> (f32, f32) {
    let top = larger(*max, reduce_run(f32::MIN, larger, |s| s * late, row));
    let rescale = exp_below(*max - top);
    *max = top;
    let mut strands = [0.0; 16];
    let (blocks, rest) = row.as_chunks_mut::<16>();
    let each = |s: f32| if PLAIN { seen_weight(s * late, top) } else { weight(s, top) };
    for block in blocks {
        for (s, sum) in block.iter_mut().zip(&mut strands) {
            *s = each(*s);
            *sum += *s;
        }
    }
    for (s, sum) in rest.iter_mut().zip(&mut strands) {
        *s = each(*s);
        *sum += *s;
    }
    (rescale, strands.into_iter().sum())
}

/// The gradient of the output, and `[rows, 2]` log-sum-exps and deltas.
struct Grad<'a> {
    dy: &'a [f32],
    stats: &'a [f32],
}

/// Scratch memory of a task.
struct Work {
    s: CpuBuffer,
    g: CpuBuffer,
    slopes: CpuBuffer,
    kept: CpuBuffer,
}

pub(super) fn delta(inputs: &[CpuView], outputs: &mut [CpuOut]) {
    let [o, logs, grad] = [0, 1, 2].map(|at| inputs[at].slice());
    let cols = o.len().checked_div(logs.len()).unwrap_or(0);
    outputs[0].data.par_chunks_exact_mut(2).with_min_len(64).enumerate().for_each(|(row, stats)| {
        let terms = o[row * cols..][..cols].iter().zip(&grad[row * cols..]);
        stats.copy_from_slice(&[logs[row], terms.map(|(o, grad)| o * grad).sum()]);
    });
}

pub(super) fn backward(
    cpu: &Arc<CpuDevice>,
    modifiers: ScoreModifiers,
    wrt: Wrt,
    inputs: &[CpuView],
    outputs: &mut [CpuOut],
) -> Result<()> {
    let call = Call::new(cpu, modifiers, &[inputs[0], inputs[1], inputs[2]], inputs.get(5))?;
    let stats = inputs[4].slice();
    let grad = &Grad { dy: inputs[3].slice(), stats };
    let geometry = &call.geometry;
    let &Geometry { n, m, d, dv, .. } = geometry;
    let heads = geometry.matrices() * geometry.group;
    let queries = |out: &mut [f32], width: usize| {
        let rows = pieces(out, heads, n, width, QUERIES);
        let mut tasks = cpu.list(heads * n.div_ceil(QUERIES), query_tiles(geometry).zip(rows))?;
        tasks.par_iter_mut().try_for_each(|(tile, rows)| match wrt {
            Wrt::Mask => call.mask_gradient(tile.clone(), grad, rows),
            _ => call.query_gradient(tile.clone(), grad, rows),
        })
    };
    match outputs {
        [out] => queries(out.data, if wrt == Wrt::Mask { m } else { d }),
        // With enough matrices to occupy the threads, each score is computed once.
        [dq, dk, dv_out] if geometry.matrices() >= ENOUGH_MATRICES => {
            let dq = pieces(dq.data, geometry.matrices(), geometry.rows(), d, usize::MAX);
            let dk = pieces(dk.data, geometry.matrices(), m, d, usize::MAX);
            let dv = pieces(dv_out.data, geometry.matrices(), m, dv, usize::MAX);
            let mut tasks = cpu.list(geometry.matrices(), dq.zip(dk).zip(dv))?;
            tasks
                .par_iter_mut()
                .enumerate()
                .try_for_each(|(matrix, ((dq, dk), dv))| call.matrix_gradient(matrix, grad, dq, dk, dv))
        }
        [dq, dk, dv_out] => {
            queries(dq.data, d)?;
            let dk = pieces(dk.data, geometry.matrices(), m, d, KEYS);
            let dv = pieces(dv_out.data, geometry.matrices(), m, dv, KEYS);
            let tiles = m.div_ceil(KEYS);
            let mut tasks = cpu.list(geometry.matrices() * tiles, dk.zip(dv))?;
            tasks.par_iter_mut().enumerate().try_for_each(|(at, (dk, dv))| {
                let first = at % tiles * KEYS;
                call.key_gradient(at / tiles, first..(first + KEYS).min(m), grad, [&mut *dk, dv], None)?;
                dk.iter_mut().for_each(|dk| *dk *= call.modifiers.scale);
                Ok(())
            })
        }
        _ => Ok(()),
    }
}
