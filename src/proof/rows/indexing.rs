//! Ops that move elements without changing them: concatenation, padding, gathering and scattering by ids, sorting.
//! Views are in `views.rs`.

use crate::Result;
use crate::ops::pad::PadMode;
use crate::proof::{Array, Bounded, Case, Gen, Input, Kind, Row, Work, ravel};
use crate::tensor::Tensor;
use std::cmp::Ordering;
use std::rc::Rc;

pub(super) const ROWS: &[Row] = &[
    Row { name: "cat", covers: &["cat"], draw: cat, bench: Some(long_cat) },
    Row { name: "cat of ids", covers: &["cat"], draw: cat_of_ids, bench: None },
    Row { name: "stack", covers: &["stack"], draw: stack, bench: None },
    Row { name: "split", covers: &["split"], draw: split, bench: None },
    Row { name: "chunk", covers: &["chunk"], draw: chunk, bench: None },
    Row { name: "pad constant", covers: &["pad"], draw: pad_constant, bench: None },
    Row { name: "pad reflect", covers: &["pad"], draw: pad_reflect, bench: None },
    Row { name: "gather", covers: &["gather"], draw: gather, bench: None },
    Row { name: "index_select", covers: &["index_select"], draw: index_select, bench: None },
    Row { name: "embedding", covers: &["embedding"], draw: embedding, bench: Some(long_embedding) },
    Row { name: "scatter_add", covers: &["scatter_add"], draw: scatter_add, bench: None },
    Row { name: "one_hot", covers: &["one_hot"], draw: one_hot, bench: None },
    Row { name: "sort", covers: &["sort"], draw: sort, bench: Some(long_sort) },
    Row { name: "sort of ids", covers: &["sort"], draw: sort_of_ids, bench: None },
    Row { name: "argsort", covers: &["argsort", "sort"], draw: argsort, bench: None },
    Row { name: "topk", covers: &["topk"], draw: topk, bench: Some(long_topk) },
    Row { name: "topk places", covers: &["topk"], draw: topk_places, bench: None },
];

/// Maps the inputs and an index of the output to the index of the source element in input 0, if there is one.
type Source = Rc<dyn Fn(&[Array], &[usize]) -> Option<Vec<usize>>>;

/// A case whose outputs are the elements of input 0 that `source` selects, or `filling`. The gradient sums over the
/// outputs of each element.
pub(super) fn moved(
    label: String,
    inputs: Vec<Input>,
    shape: Vec<usize>,
    filling: f64,
    run: impl Fn(&[Tensor]) -> Result<Tensor> + 'static,
    source: Source,
) -> Case {
    let (out, from) = (shape.clone(), source.clone());
    let reference = move |x: &[Array]| {
        let element = |index: Vec<usize>| x[0].at(&index);
        Array::from_fn(out.clone(), |index| from(x, index).map_or(Bounded::exact(filling), element))
    };
    Case::new(label, inputs, run, reference).gradient(move |x, dy| {
        let mut terms = vec![Vec::new(); x[0].numel()];
        Array::from_fn(shape.clone(), |index| {
            if let Some(from) = source(x, index) {
                terms[ravel(&from, &x[0].shape)].push(dy.at(index));
            }
            Bounded::ZERO
        });
        let dx = Array { shape: x[0].shape.clone(), data: terms.into_iter().map(Bounded::sum).collect() };
        let others = x[1..].iter().map(|_| None);
        [Some(dx)].into_iter().chain(others).collect()
    })
}

/// `index` with `at` at `axis`.
fn with(index: &[usize], axis: usize, at: usize) -> Vec<usize> {
    let mut index = index.to_vec();
    index[axis] = at;
    index
}

/// An axis, counted from either end.
fn either_end(g: &mut Gen, axis: usize, rank: usize) -> isize {
    if g.flag() { axis as isize } else { axis as isize - rank as isize }
}

/// Shapes that differ only along one axis, that axis, and the shape of the concatenation.
fn joinable(g: &mut Gen) -> (Vec<Vec<usize>>, usize, Vec<usize>) {
    let rank = g.range(1..=4);
    let first = g.shape_of_rank(rank);
    let axis = g.below(rank);
    let mut shapes = vec![first.clone()];
    for _ in 0..g.below(4) {
        let length = g.length().min(first[axis] + 3);
        shapes.push(with(&first, axis, length));
    }
    let whole = with(&first, axis, shapes.iter().map(|shape| shape[axis]).sum());
    (shapes, axis, whole)
}

/// A concatenation along `axis`.
fn joined(label: String, inputs: Vec<Input>, axis: usize, whole: Vec<usize>, at: isize) -> Case {
    let part = move |x: &[Array], place: usize| -> (usize, usize) {
        let mut start = 0;
        for (which, x) in x.iter().enumerate() {
            if place < start + x.shape[axis] {
                return (which, start);
            }
            start += x.shape[axis];
        }
        (x.len() - 1, 0)
    };
    let reference = move |x: &[Array]| {
        Array::from_fn(whole.clone(), |index| {
            let (which, start) = part(x, index[axis]);
            x[which].at(&with(index, axis, index[axis] - start))
        })
    };
    let run = move |t: &[Tensor]| Tensor::cat(&t.iter().collect::<Vec<_>>(), at);
    Case::new(label, inputs, run, reference).gradient(move |x, dy| {
        let mut start = 0;
        let mut parts = Vec::new();
        for x in x {
            parts.push(Some(Array::from_fn(x.shape.clone(), |index| {
                dy.at(&with(index, axis, start + index[axis]))
            })));
            start += x.shape[axis];
        }
        parts
    })
}

fn cat(g: &mut Gen) -> Case {
    let (shapes, axis, whole) = joinable(g);
    let inputs = shapes.iter().map(|shape| g.values(shape, -3.0, 3.0)).collect();
    let at = either_end(g, axis, whole.len());
    joined(format!("{shapes:?} along {at}"), inputs, axis, whole, at)
}

fn cat_of_ids(g: &mut Gen) -> Case {
    let (shapes, axis, whole) = joinable(g);
    let inputs = shapes.iter().map(|shape| g.ids(shape, 1000)).collect();
    let case = joined(format!("{shapes:?} along {axis}"), inputs, axis, whole, axis as isize);
    Case { gradient: None, ..case }
}

fn long_cat(g: &mut Gen) -> (Work, Case) {
    let shapes = [[256, 1024], [256, 3072]];
    let inputs = shapes.iter().map(|shape| g.values(shape, -3.0, 3.0)).collect();
    (Work::Bytes(2 * 4 * 256 * 4096), joined(format!("{shapes:?} along 1"), inputs, 1, vec![256, 4096], 1))
}

fn stack(g: &mut Gen) -> Case {
    let mut shape = g.shape(4);
    let count = g.range(1..=4);
    if shape.iter().product::<usize>() * count > g.size {
        shape.truncate(1);
    }
    let inputs: Vec<Input> = (0..count).map(|_| g.values(&shape, -3.0, 3.0)).collect();
    let axis = g.below(shape.len() + 1);
    let at = either_end(g, axis, shape.len() + 1);
    let mut whole = shape.clone();
    whole.insert(axis, count);
    let apart = move |index: &[usize]| {
        let mut own = index.to_vec();
        (own.remove(axis), own)
    };
    let run = move |t: &[Tensor]| Tensor::stack(&t.iter().collect::<Vec<_>>(), at);
    Case::new(format!("{count} of {shape:?} along {at}"), inputs, run, move |x| {
        Array::from_fn(whole.clone(), |index| {
            let (which, own) = apart(index);
            x[which].at(&own)
        })
    })
    .gradient(move |x, dy| {
        let layer = |which: usize| {
            Some(Array::from_fn(x[which].shape.clone(), |index| {
                let mut whole = index.to_vec();
                whole.insert(axis, which);
                dy.at(&whole)
            }))
        };
        (0..x.len()).map(layer).collect()
    })
}

/// One part of an axis that is split.
fn one_part(
    x: Input,
    axis: usize,
    (start, length): (usize, usize),
    label: String,
    run: impl Fn(&Tensor) -> Result<Tensor> + 'static,
) -> Case {
    let shape = with(&x.array.shape, axis, length);
    let source = move |_: &[Array], index: &[usize]| Some(with(index, axis, start + index[axis]));
    moved(label, vec![x], shape, 0.0, move |t| run(&t[0]), Rc::new(source))
}

fn split(g: &mut Gen) -> Case {
    let rank = g.range(1..=4);
    let shape = g.shape_of_rank(rank);
    let axis = g.below(rank);
    let mut lengths = Vec::new();
    let mut rest = shape[axis];
    while rest > 0 {
        lengths.push(g.below(rest + 1));
        rest -= lengths[lengths.len() - 1];
    }
    lengths.push(0);
    let which = g.below(lengths.len());
    let (start, length) = (lengths[..which].iter().sum(), lengths[which]);
    let at = either_end(g, axis, rank);
    let x = g.values(&shape, -3.0, 3.0);
    let label = format!("part {which} of {lengths:?} along {at} of {shape:?}");
    one_part(x, axis, (start, length), label, move |x| Ok(x.split(&lengths, at)?[which].clone()))
}

fn chunk(g: &mut Gen) -> Case {
    let rank = g.range(1..=4);
    let shape = g.shape_of_rank(rank);
    let axis = g.below(rank);
    let (count, whole) = (g.range(1..=5), shape[axis]);
    // Parts of length ceil(whole / count). An empty axis gives `count` empty parts.
    let each = whole.div_ceil(count);
    let parts = if whole == 0 { count } else { whole.div_ceil(each) };
    let which = g.below(parts);
    let start = which * each;
    let x = g.values(&shape, -3.0, 3.0);
    let label = format!("part {which} of {count} along {axis} of {shape:?}");
    one_part(x, axis, (start, each.min(whole - start)), label, move |x| {
        let cut = x.chunk(count, axis as isize)?;
        assert_eq!(cut.len(), parts);
        Ok(cut[which].clone())
    })
}

/// Padding of the last axes. `most` bounds the padding of an axis; `outside` maps an index outside the axis to its
/// source.
fn padding(
    g: &mut Gen,
    most: impl Fn(usize) -> usize,
    mode: PadMode,
    outside: impl Fn(isize, usize) -> Option<usize> + 'static,
) -> Case {
    let mut shape = g.shape(4);
    if let PadMode::Reflect = mode {
        shape.iter_mut().for_each(|d| *d = (*d).max(1));
    }
    let padded = g.below(shape.len() + 1);
    let first = shape.len() - padded;
    let mut around = |d: usize| (g.below(most(d) + 1), g.below(most(d) + 1));
    let mut pads: Vec<(usize, usize)> = shape[first..].iter().map(|&d| around(d)).collect();
    pads.iter_mut().filter(|_| g.one_in(4)).for_each(|pad| *pad = (0, 0));
    let mut whole = shape.clone();
    whole[first..].iter_mut().zip(&pads).for_each(|(d, (before, after))| *d += before + after);
    let x = g.values(&shape, -3.0, 3.0);
    let label = format!("{shape:?} by {pads:?}");
    let around = pads.clone();
    let lengths = shape.clone();
    let source = move |_: &[Array], index: &[usize]| {
        let place = |axis: usize| {
            let before = if axis < first { 0 } else { around[axis - first].0 };
            let at = index[axis] as isize - before as isize;
            if (0..lengths[axis] as isize).contains(&at) {
                Some(at as usize)
            } else {
                outside(at, lengths[axis])
            }
        };
        (0..index.len()).map(place).collect::<Option<Vec<_>>>()
    };
    let filling = if let PadMode::Constant(value) = mode { f64::from(value) } else { 0.0 };
    moved(label, vec![x], whole, filling, move |t| t[0].pad(&pads, mode), Rc::new(source))
}

fn pad_constant(g: &mut Gen) -> Case {
    padding(g, |_| 3, PadMode::Constant(-2.5), |_, _| None)
}

fn pad_reflect(g: &mut Gen) -> Case {
    let mirrored = |at: isize, length: usize| {
        if at < 0 { Some(at.unsigned_abs()) } else { Some(2 * (length - 1) - at as usize) }
    };
    padding(g, |length| (length - 1).min(9), PadMode::Reflect, mirrored)
}

/// The shape of an index into `x`, of any length along `axis`; and the shape to expand it from, which differs in one
/// case of three.
fn index_shape(g: &mut Gen, x: &[usize], axis: usize) -> (Vec<usize>, Vec<usize>) {
    let mut shape: Vec<usize> = x.iter().map(|&d| if g.one_in(3) { g.below(d + 1) } else { d }).collect();
    shape[axis] = 1;
    let room = g.size / shape.iter().product::<usize>().max(1);
    let room = room.min(MOST_TERMS * x[axis]);
    shape[axis] = if g.one_in(4) { room } else { g.length().min(room) };
    let expanded = g.one_in(3);
    let narrow =
        (0..shape.len()).map(|k| if expanded && k != axis && g.flag() { 1 } else { shape[k] }).collect();
    (shape, narrow)
}

/// The approximate maximum number of terms of a sum. With many more, the bound would not detect a missing term.
const MOST_TERMS: usize = 300;

/// Ids below `length`, `count` per row; often only a few distinct ones.
fn some_ids(g: &mut Gen, shape: &[usize], count: usize, length: usize) -> Input {
    let few = g.range(1..=3).max(count / MOST_TERMS);
    let bound = if g.flag() { length } else { length.min(few) };
    g.ids(shape, bound)
}

/// The id at `index`, broadcast.
fn id_at(ids: &Array, index: &[usize]) -> usize {
    ids.broadcast_at(index).value() as usize
}

fn gather(g: &mut Gen) -> Case {
    let rank = g.range(1..=4);
    let shape = g.shape_of_rank(rank);
    let axis = g.below(rank);
    let (wide, narrow) = index_shape(g, &shape, axis);
    let inputs = vec![g.values(&shape, -3.0, 3.0), some_ids(g, &narrow, wide[axis], shape[axis])];
    let label = format!("index {narrow:?} as {wide:?} along {axis} of {shape:?}");
    let source = move |x: &[Array], index: &[usize]| Some(with(index, axis, id_at(&x[1], index)));
    let out = wide.clone();
    let run = move |t: &[Tensor]| t[0].gather(axis as isize, &t[1].expand(&wide)?);
    moved(label, inputs, out, 0.0, run, Rc::new(source))
}

fn index_select(g: &mut Gen) -> Case {
    let rank = g.range(1..=4);
    let shape = g.shape_of_rank(rank);
    let axis = g.below(rank);
    let room = g.size / (shape.iter().product::<usize>() / shape[axis].max(1)).max(1);
    let count = if shape[axis] == 0 { 0 } else { g.length().min(room) };
    let inputs = vec![g.values(&shape, -3.0, 3.0), some_ids(g, &[count], count, shape[axis])];
    let at = either_end(g, axis, rank);
    let source = move |x: &[Array], index: &[usize]| Some(with(index, axis, id_at(&x[1], &[index[axis]])));
    let out = with(&shape, axis, count);
    let run = move |t: &[Tensor]| t[0].index_select(at, &t[1]);
    moved(format!("{count} along {at} of {shape:?}"), inputs, out, 0.0, run, Rc::new(source))
}

/// A lookup of ids of this shape in a table `[count, width]`.
fn look_up(g: &mut Gen, ids: &[usize], count: usize, width: usize) -> Case {
    let inputs = vec![g.values(&[count, width], -3.0, 3.0), some_ids(g, ids, ids.iter().product(), count)];
    let source = |x: &[Array], index: &[usize]| {
        let (place, column) = (&index[..index.len() - 1], index[index.len() - 1]);
        Some(vec![id_at(&x[1], place), column])
    };
    let label = format!("ids {ids:?} in [{count}, {width}]");
    let out = [ids, &[width]].concat();
    moved(label, inputs, out, 0.0, |t| t[0].embedding(&t[1]), Rc::new(source))
}

fn embedding(g: &mut Gen) -> Case {
    let width = g.choose(&[0, 1, 2, 3, 4, 8, 16, 17, 32]);
    let count = g.some_length();
    let size = g.size;
    g.size = (size / width.max(1)).max(1);
    let ids = g.shape(3);
    g.size = size;
    look_up(g, &ids, count, width)
}

fn long_embedding(g: &mut Gen) -> (Work, Case) {
    (Work::Bytes(2 * 4 * 2048 * 512), look_up(g, &[8, 256], 4096, 512))
}

fn scatter_add(g: &mut Gen) -> Case {
    let rank = g.range(1..=4);
    let shape = g.shape_of_rank(rank);
    let axis = g.below(rank);
    let (wide, narrow) = index_shape(g, &shape, axis);
    // The terms may be larger than the index.
    let terms: Vec<usize> = wide.iter().map(|&d| if g.one_in(6) { d + 1 } else { d }).collect();
    let inputs = vec![
        g.values(&shape, -3.0, 3.0),
        some_ids(g, &narrow, wide[axis], shape[axis]),
        g.values(&terms, -3.0, 3.0),
    ];
    let label = format!("terms {terms:?} by index {narrow:?} as {wide:?} along {axis} of {shape:?}");
    let index = wide.clone();
    let run = move |t: &[Tensor]| t[0].scatter_add(axis as isize, &t[1].expand(&index)?, &t[2]);
    let all = wide.clone();
    Case::new(label, inputs, run, move |x| {
        let mut sums: Vec<Vec<Bounded>> = x[0].data.iter().map(|&x| vec![x]).collect();
        Array::from_fn(all.clone(), |index| {
            let to = with(index, axis, id_at(&x[1], index));
            sums[ravel(&to, &x[0].shape)].push(x[2].at(index));
            Bounded::ZERO
        });
        Array { shape: x[0].shape.clone(), data: sums.into_iter().map(Bounded::sum).collect() }
    })
    .gradient(move |x, dy| {
        let src = Array::from_fn(x[2].shape.clone(), |index| {
            if (0..index.len()).any(|k| index[k] >= wide[k]) {
                return Bounded::ZERO;
            }
            dy.at(&with(index, axis, id_at(&x[1], index)))
        });
        vec![Some(dy.clone()), None, Some(src)]
    })
}

fn one_hot(g: &mut Gen) -> Case {
    let classes = g.some_length();
    let size = g.size;
    g.size = (size / classes).max(1);
    let shape = g.shape(4);
    g.size = size;
    let out = [&shape[..], &[classes]].concat();
    let ids = g.ids(&shape, classes);
    let label = format!("{shape:?} of {classes}");
    Case::new(
        label,
        vec![ids],
        move |t| t[0].one_hot(classes),
        move |x| {
            Array::from_fn(out.clone(), |index| {
                let (place, class) = (&index[..index.len() - 1], index[index.len() - 1]);
                if id_at(&x[0], place) == class { Bounded::ONE } else { Bounded::ZERO }
            })
        },
    )
}

/// A shape to sort and the axis. In some cases the axis is longer than a tile.
fn sortable(g: &mut Gen) -> (Vec<usize>, usize) {
    let rank = g.range(1..=4);
    if g.one_in(4) {
        let shape = vec![1 + g.below(2), 1];
        let axis = g.below(2);
        return (with(&shape, axis, (g.size / shape[1 - axis]).max(1)), axis);
    }
    let shape = g.shape_of_rank(rank);
    (shape, g.below(rank))
}

/// The permutation that sorts a row, ascending or descending. It is stable; NaN counts as larger than all numbers.
fn order(row: &[f64], descending: bool) -> Vec<usize> {
    let compare = |a: f64, b: f64| match (a.is_nan(), b.is_nan()) {
        (false, false) if a < b => Ordering::Less,
        (false, false) if a > b => Ordering::Greater,
        (a, b) => a.cmp(&b),
    };
    let mut places: Vec<usize> = (0..row.len()).collect();
    places.sort_by(|&a, &b| {
        let rising = compare(row[a], row[b]);
        if descending { rising.reverse() } else { rising }
    });
    places
}

/// The positions along `axis` of the first `keep` elements of each row in sorted order.
fn ranked(x: &Array, axis: usize, descending: bool, keep: usize) -> Array {
    let shape = with(&x.shape, axis, keep);
    let mut orders = vec![None; x.numel()];
    Array::from_fn(shape, |index| {
        let first = with(index, axis, 0);
        let places = orders[ravel(&first, &x.shape)].get_or_insert_with(|| {
            let row: Vec<f64> = (0..x.shape[axis]).map(|i| x.at(&with(index, axis, i)).value()).collect();
            order(&row, descending)
        });
        Bounded::exact(places[index[axis]] as f64)
    })
}

/// The values of the first `keep` elements in sorted order.
fn first_in_order(
    x: Input,
    axis: usize,
    descending: bool,
    keep: usize,
    run: impl Fn(&Tensor) -> Result<Tensor> + 'static,
) -> Case {
    let shape = x.array.shape.clone();
    let label = format!("{keep} along {axis} of {shape:?}, descending {descending}");
    let taken = move |x: &Array, f: &mut dyn FnMut(&[usize], Vec<usize>) -> Bounded| {
        let places = ranked(x, axis, descending, keep);
        Array::from_fn(places.shape.clone(), |index| f(index, with(index, axis, id_at(&places, index))))
    };
    Case::new(label, vec![x], move |t| run(&t[0]), move |x| taken(&x[0], &mut |_, from| x[0].at(&from)))
        .gradient(move |x, dy| {
            let mut dx = Array::zeros(x[0].shape.clone());
            taken(&x[0], &mut |index, from| {
                *dx.at_mut(&from) = dy.at(index);
                Bounded::ZERO
            });
            vec![Some(dx)]
        })
}

/// The positions of the first `keep` elements in sorted order.
fn first_places(
    x: Input,
    axis: usize,
    descending: bool,
    keep: usize,
    run: impl Fn(&Tensor) -> Result<Tensor> + 'static,
) -> Case {
    let label = format!("{keep} along {axis} of {:?}, descending {descending}", x.array.shape);
    Case::new(label, vec![x], move |t| run(&t[0]), move |x| ranked(&x[0], axis, descending, keep))
}

/// Numbers with many ties.
fn repeated(g: &mut Gen, shape: &[usize]) -> Input {
    let x = g.constants(shape, -3.0, 3.0);
    Input { array: x.array.map(|x| Bounded::exact(x.value().round())), kind: Kind::Constant }
}

fn sort(g: &mut Gen) -> Case {
    let ((shape, axis), descending) = (sortable(g), g.flag());
    let at = either_end(g, axis, shape.len());
    let x = g.distinct(&shape, -3.0, 3.0);
    first_in_order(x, axis, descending, shape[axis], move |x| Ok(x.sort(at, descending)?.0))
}

fn sort_of_ids(g: &mut Gen) -> Case {
    let ((shape, axis), descending) = (sortable(g), g.flag());
    let x = g.ids(&shape, 100);
    let run = move |x: &Tensor| Ok(x.sort(axis as isize, descending)?.0);
    Case { gradient: None, ..first_in_order(x, axis, descending, shape[axis], run) }
}

fn argsort(g: &mut Gen) -> Case {
    let ((shape, axis), descending, ids) = (sortable(g), g.flag(), g.flag());
    let x = if ids { g.ids(&shape, 100) } else { repeated(g, &shape) };
    first_places(x, axis, descending, shape[axis], move |x| match ids {
        true => Ok(x.sort(axis as isize, descending)?.1),
        false => x.argsort(axis as isize, descending),
    })
}

fn topk(g: &mut Gen) -> Case {
    let ((shape, axis), largest) = (sortable(g), g.flag());
    let most = g.choose(&[3, 70, usize::MAX]).min(shape[axis]);
    let k = g.below(most + 1);
    let x = g.distinct(&shape, -3.0, 3.0);
    first_in_order(x, axis, largest, k, move |x| Ok(x.topk(k, axis as isize, largest)?.0))
}

fn topk_places(g: &mut Gen) -> Case {
    let ((shape, axis), largest) = (sortable(g), g.flag());
    let most = g.choose(&[3, 70, usize::MAX]).min(shape[axis]);
    let k = g.below(most + 1);
    let x = repeated(g, &shape);
    first_places(x, axis, largest, k, move |x| Ok(x.topk(k, axis as isize, largest)?.1))
}

fn long_sort(g: &mut Gen) -> (Work, Case) {
    let x = g.distinct(&[64, 8192], -3.0, 3.0);
    let case = first_in_order(x, 1, false, 8192, |x| Ok(x.sort(1, false)?.0));
    (Work::Bytes(3 * 4 * 64 * 8192), case)
}

fn long_topk(g: &mut Gen) -> (Work, Case) {
    let x = g.distinct(&[64, 8192], -3.0, 3.0);
    let case = first_in_order(x, 1, true, 10, |x| Ok(x.topk(10, 1, true)?.0));
    (Work::Bytes(4 * 64 * 8192), case)
}
