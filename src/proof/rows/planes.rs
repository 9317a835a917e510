//! Pooling and upsampling.

use crate::proof::{Array, Bounded, Case, Gen, Row, Work, ravel, unravel};
use crate::tensor::Tensor;
use crate::{AvgPool2dOptions, Pool2dOptions, Result};

pub(super) const ROWS: &[Row] = &[
    Row { name: "max_pool2d", covers: &["max_pool2d"], draw: max_pool2d, bench: None },
    Row { name: "avg_pool2d", covers: &["avg_pool2d"], draw: avg_pool2d, bench: Some(avg_pool2d_bench) },
    Row {
        name: "adaptive_avg_pool2d",
        covers: &["adaptive_avg_pool2d"],
        draw: adaptive_avg_pool2d,
        bench: Some(adaptive_avg_pool2d_bench),
    },
    Row {
        name: "upsample_nearest2d",
        covers: &["upsample_nearest2d"],
        draw: upsample_nearest2d,
        bench: Some(upsample_nearest2d_bench),
    },
    Row {
        name: "upsample_bilinear2d",
        covers: &["upsample_bilinear2d"],
        draw: upsample_bilinear2d,
        bench: Some(upsample_bilinear2d_bench),
    },
];

/// `[n, c, h, w]` with at most `g.size` elements; in some cases one long row or column.
fn planes(g: &mut Gen) -> [usize; 4] {
    let mut side = || if g.flag() { g.some_length() } else { g.range(1..=40) };
    let [height, width] = [side(), side()];
    let mut shape = [g.choose(&[0, 1, 1, 1, 2, 3]), g.range(1..=5), height, width];
    if g.one_in(8) {
        let long = 2 + g.below(2);
        shape = [1; 4];
        shape[long] = g.range(1..=g.size);
    }
    while shape.iter().product::<usize>() > g.size {
        let cut = g.below(4);
        shape[cut] = shape[cut].div_ceil(2);
    }
    shape
}

/// The number of windows along an axis, by PyTorch's rule: those that fit. With `ceil_mode` also those that start in
/// the axis or in the padding before it, and end less than one stride past the end.
fn windows(o: &Pool2dOptions, axis: usize, len: usize) -> usize {
    let [stride, padding, dilation] = [o.stride, o.padding, o.dilation].map(|pair| pair[axis] as i64);
    let (span, len) = ((o.kernel[axis] as i64 - 1) * dilation, len as i64);
    (0..)
        .map(|i| i * stride - padding)
        .take_while(|start| {
            let past = start + span - (len - 1 + padding);
            past <= 0 || (o.ceil_mode && past < stride && *start < len)
        })
        .count()
}

/// Windows that fit the planes. Some cover a whole axis; half of the cases are the usual 2 by 2 or 3 by 3.
fn pooling(g: &mut Gen, [_, _, height, width]: [usize; 4]) -> Pool2dOptions {
    let ceil_mode = g.flag();
    let mut o = Pool2dOptions { ceil_mode, ..Pool2dOptions::new([0; 2]) };
    let usual = g.choose(&[0, 0, 2, 3]);
    for (k, len) in [height, width].into_iter().enumerate() {
        o.kernel[k] = if usual > 0 { usual } else { g.range(1..=6) };
        if g.one_in(8) {
            o.kernel[k] = len;
        }
        o.stride[k] = if g.flag() { o.kernel[k] } else { g.range(1..=4) };
        o.padding[k] = if g.flag() { 0 } else { g.range(0..=o.kernel[k] / 2) };
        o.dilation[k] = g.choose(&[1, 1, 1, 2, 3]);
        if windows(&o, k, len) == 0 {
            (o.kernel[k], o.padding[k]) = (1, 0);
        }
    }
    o
}

/// The number as read by a device that flushes subnormals.
fn unsubnormal(x: Bounded) -> f64 {
    if x.error() > 0.0 { 0.0 } else { x.value() }
}

fn max_pool2d(g: &mut Gen) -> Case {
    let dims = planes(g);
    let o = pooling(g, dims);
    let x = g.distinct(&dims, -3.0, 3.0);
    let out = [dims[0], dims[1], windows(&o, 0, dims[2]), windows(&o, 1, dims[3])];
    // The position of a window's largest element: the first of equal ones, or the last NaN.
    let largest = move |x: &Array, index: &[usize], value: fn(Bounded) -> f64| -> Option<usize> {
        let along = |k: usize| {
            let first = (index[2 + k] * o.stride[k]) as i64 - o.padding[k] as i64;
            let places = (0..o.kernel[k] as i64).map(move |tap| first + tap * o.dilation[k] as i64);
            places.filter(move |place| (0..dims[2 + k] as i64).contains(place)).map(|place| place as usize)
        };
        let mut best: Option<(f64, usize)> = None;
        for (row, col) in along(0).flat_map(|row| along(1).map(move |col| (row, col))) {
            let at = ravel(&[index[0], index[1], row, col], &dims);
            let value = value(x.data[at]);
            if best.is_none_or(|(best, _)| value > best || value.is_nan()) {
                best = Some((value, at));
            }
        }
        best.map(|(_, at)| at)
    };
    let reference = move |x: &[Array]| {
        let of_window = |index: &[usize]| {
            let Some(at) = largest(&x[0], index, Bounded::value) else {
                return Bounded::exact(f64::NEG_INFINITY);
            };
            // A device that flushes subnormals may choose another element as the largest, but return it unflushed.
            let other = largest(&x[0], index, unsubnormal).map_or(x[0].data[at], |at| x[0].data[at]);
            let found = x[0].data[at];
            if found.value().is_nan() {
                return found;
            }
            Bounded::new(found.value(), found.error().max((found.value() - other.value()).abs()))
        };
        Array::from_fn(out, of_window)
    };
    Case::new(format!("{o:?} of {dims:?}"), vec![x], move |t| t[0].max_pool2d(o), reference).gradient(
        move |x, dy| {
            let mut terms = vec![Vec::new(); x[0].numel()];
            for (at, &dy) in dy.data.iter().enumerate() {
                let index = unravel(at, &out);
                let found = largest(&x[0], &index, Bounded::value);
                // A device that flushes subnormals may choose another of the elements that are then equal.
                let flushed = largest(&x[0], &index, unsubnormal);
                let unknown = Bounded::UNKNOWN;
                match (found, flushed) {
                    (Some(at), Some(other)) if at != other => {
                        terms[at].push(unknown);
                        terms[other].push(unknown);
                    }
                    (Some(at), _) => terms[at].push(dy),
                    (None, _) => {}
                }
            }
            vec![Some(Array { shape: dims.to_vec(), data: terms.into_iter().map(Bounded::sum).collect() })]
        },
    )
}

/// For each output along an axis, the input positions and their weights, all nonzero.
type Taps = Vec<Vec<(usize, Bounded)>>;

/// A constant as the host rounds it for the device.
fn constant(x: f64) -> Bounded {
    if f64::from(x as f32) == x { Bounded::exact(x) } else { Bounded::rounded(x) }
}

/// `y[.., i, j] = Σ rows[i] cols[j] x`, where each term is multiplied by one weight and then by the other.
fn separable(
    label: String,
    g: &mut Gen,
    dims: [usize; 4],
    [rows, cols]: [Taps; 2],
    run: impl Fn(&Tensor) -> Result<Tensor> + 'static,
) -> Case {
    let out = [dims[0], dims[1], rows.len(), cols.len()];
    // Calls `term` with the position in x, the position in y and the product of the weights.
    let each = move |mut term: Box<dyn FnMut(usize, usize, Bounded) + '_>| {
        for y in 0..out.iter().product() {
            let index = unravel(y, &out);
            for &(row, u) in &rows[index[2]] {
                for &(col, v) in &cols[index[3]] {
                    term(ravel(&[index[0], index[1], row, col], &dims), y, u * v);
                }
            }
        }
    };
    let each = std::rc::Rc::new(each);
    let back = each.clone();
    let sums = |shape: [usize; 4], terms: Vec<Vec<Bounded>>| Array {
        shape: shape.to_vec(),
        data: terms.into_iter().map(Bounded::sum).collect(),
    };
    let x = g.values(&dims, -3.0, 3.0);
    Case::new(
        label,
        vec![x],
        move |t| run(&t[0]),
        move |x| {
            let mut terms = vec![Vec::new(); out.iter().product()];
            each(Box::new(|from, to, weight| terms[to].push(x[0].data[from] * weight)));
            sums(out, terms)
        },
    )
    .gradient(move |_, dy| {
        let mut terms = vec![Vec::new(); dims.iter().product()];
        back(Box::new(|to, from, weight| terms[to].push(dy.data[from] * weight)));
        vec![Some(sums(dims, terms))]
    })
}

fn avg_pool2d(g: &mut Gen) -> Case {
    let dims = planes(g);
    let Pool2dOptions { kernel, stride, padding, ceil_mode, .. } = pooling(g, dims);
    let o = AvgPool2dOptions {
        kernel,
        stride,
        padding,
        ceil_mode,
        count_include_pad: g.flag(),
        divisor_override: if g.one_in(4) { Some(g.range(1..=9)) } else { None },
    };
    averaged(g, dims, o)
}

fn averaged(g: &mut Gen, dims: [usize; 4], o: AvgPool2dOptions) -> Case {
    let AvgPool2dOptions { kernel, stride, padding, ceil_mode, .. } = o;
    let plain = Pool2dOptions { kernel, stride, padding, dilation: [1; 2], ceil_mode };
    let taps = |k: usize| -> Taps {
        let (len, padding) = (dims[2 + k] as i64, padding[k] as i64);
        let window = |i: usize| {
            let start = (i * stride[k]) as i64 - padding;
            let end = (start + kernel[k] as i64).min(len + padding);
            let inside = start.max(0)..end.min(len);
            let count = match (o.divisor_override, o.count_include_pad) {
                (Some(divisor), _) => {
                    if k == 0 {
                        divisor as f64
                    } else {
                        1.0
                    }
                }
                (None, true) => (end - start) as f64,
                (None, false) => (inside.end - inside.start) as f64,
            };
            inside.map(|place| (place as usize, constant(1.0 / count))).collect()
        };
        (0..windows(&plain, k, dims[2 + k])).map(window).collect()
    };
    let taps = [taps(0), taps(1)];
    separable(format!("{o:?} of {dims:?}"), g, dims, taps, move |x| x.avg_pool2d(o))
}

/// A random output size, such that the output of `planes` has at most `g.size` elements.
fn target(g: &mut Gen, dims: [usize; 4]) -> [usize; 2] {
    let mut size = [g.some_length(), g.some_length()];
    if g.one_in(8) {
        size[g.below(2)] = g.range(1..=g.size);
    }
    if g.one_in(4) {
        size = [dims[2] * g.range(1..=3), dims[3] * g.range(1..=3)];
    }
    while dims[0] * dims[1] * size[0] * size[1] > g.size {
        let cut = g.below(2);
        size[cut] = size[cut].div_ceil(2);
    }
    size
}

fn adaptive_avg_pool2d(g: &mut Gen) -> Case {
    let dims = planes(g);
    let mut size = target(g, dims);
    if g.one_in(16) {
        size[g.below(2)] = 0;
    }
    adapted(g, dims, size)
}

fn adapted(g: &mut Gen, dims: [usize; 4], size: [usize; 2]) -> Case {
    let taps = [0, 1].map(|k| -> Taps {
        let (from, to) = (dims[2 + k], size[k]);
        let window = |i: usize| {
            let places = i * from / to..((i + 1) * from).div_ceil(to);
            places.clone().map(|place| (place, constant(1.0 / places.len() as f64))).collect()
        };
        (0..to).map(window).collect()
    });
    separable(format!("{size:?} of {dims:?}"), g, dims, taps, move |x| x.adaptive_avg_pool2d(size))
}

fn upsample_nearest2d(g: &mut Gen) -> Case {
    let dims = planes(g);
    let size = target(g, dims);
    nearest(g, dims, size)
}

fn nearest(g: &mut Gen, dims: [usize; 4], size: [usize; 2]) -> Case {
    let taps =
        [0, 1].map(|k| (0..size[k]).map(|i| vec![(i * dims[2 + k] / size[k], Bounded::ONE)]).collect());
    separable(format!("{size:?} of {dims:?}"), g, dims, taps, move |x| x.upsample_nearest2d(size))
}

fn upsample_bilinear2d(g: &mut Gen) -> Case {
    let dims = planes(g);
    let size = target(g, dims);
    let corners = g.flag();
    linear(g, dims, size, corners)
}

fn linear(g: &mut Gen, dims: [usize; 4], size: [usize; 2], corners: bool) -> Case {
    let taps = [0, 1].map(|k| -> Taps {
        let (from, to) = (dims[2 + k] as i64, size[k] as i64);
        let two = |i: i64| {
            // The source position, as a fraction.
            let (over, under) = match corners {
                true => (i * (from - 1), (to - 1).max(1)),
                false => (((2 * i + 1) * from - to).max(0), 2 * to),
            };
            let (first, rest) = (over / under, over % under);
            if first + 1 >= from {
                return vec![(from as usize - 1, Bounded::ONE)];
            }
            let weight = |part: i64| constant(part as f64 / under as f64);
            let both = [(first as usize, weight(under - rest)), (first as usize + 1, weight(rest))];
            both[..if rest == 0 { 1 } else { 2 }].to_vec()
        };
        (0..to).map(two).collect()
    });
    let label = format!("{size:?} of {dims:?}, corners {corners}");
    separable(label, g, dims, taps, move |x| x.upsample_bilinear2d(size, corners))
}

/// Each element is read or written once.
fn bytes(from: [usize; 4], to: [usize; 2]) -> Work {
    Work::Bytes(4 * from[0] * from[1] * (from[2] * from[3] + to[0] * to[1]))
}

fn avg_pool2d_bench(g: &mut Gen) -> (Work, Case) {
    let dims = [4, 32, 112, 112];
    let o = AvgPool2dOptions { stride: [2; 2], padding: [1; 2], ..AvgPool2dOptions::new([3; 2]) };
    (bytes(dims, [56, 56]), averaged(g, dims, o))
}

fn adaptive_avg_pool2d_bench(g: &mut Gen) -> (Work, Case) {
    let dims = [32, 512, 7, 7];
    (bytes(dims, [1, 1]), adapted(g, dims, [1, 1]))
}

fn upsample_nearest2d_bench(g: &mut Gen) -> (Work, Case) {
    let dims = [4, 32, 56, 56];
    (bytes(dims, [112, 112]), nearest(g, dims, [112, 112]))
}

fn upsample_bilinear2d_bench(g: &mut Gen) -> (Work, Case) {
    let dims = [4, 32, 56, 56];
    (bytes(dims, [112, 112]), linear(g, dims, [112, 112], false))
}
