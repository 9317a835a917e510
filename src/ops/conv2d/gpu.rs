//! The GPU dispatches of the convolutions.

use super::{Conv2dKernel, Convolve, Direction, Geometry};
use crate::gpu::{Kernel, MOST_ITERATIONS, Recorder, kernel};
use crate::op::{GpuOut, GpuView};
use crate::ops::slicing::Slicing;
use crate::ops::to_u32;
use crate::ops::unary::Activation;
use crate::{Error, Result, params};
use std::ops::Range;

pub(crate) const KERNELS: &[&Kernel] = &[&NAIVE, &REGISTERS, &SUBGROUP, &WEIGHT_NAIVE, &WEIGHT_REGISTERS];

/// The values of the kernels' constant of this name.
const TRANSPOSED: &[u32] = &[0, 1, 2];

static NAIVE: Kernel = kernel!("conv2d.wgsl", "naive", reads: 3, writes: 1, params: Params,
    "TRANSPOSED": TRANSPOSED, "RESUME": &[0, 1], "ACTIVATION": Activation::ALL);
static REGISTERS: Kernel = kernel!("conv2d.wgsl", "registers", reads: 3, writes: 1, params: Params,
    "TRANSPOSED": TRANSPOSED, "RESUME": &[0, 1], "ACTIVATION": Activation::ALL);
static SUBGROUP: Kernel = kernel!("conv2d_subgroup.wgsl", "subgroup", reads: 3, writes: 1, params: Params,
    "TRANSPOSED": TRANSPOSED, "RESUME": &[0, 1], "ACTIVATION": Activation::ALL, "SUBGROUP": &[4, 8]);
static WEIGHT_NAIVE: Kernel =
    kernel!("conv2d_weight.wgsl", "naive", reads: 2, writes: 1, params: WeightParams);
static WEIGHT_REGISTERS: Kernel =
    kernel!("conv2d_weight.wgsl", "registers", reads: 2, writes: 1, params: WeightParams);

params! {
    struct Params {
        source: [u32; 2], result: [u32; 2], kernel: [u32; 2], stride: [u32; 2], padding: [u32; 2],
        dilation: [u32; 2], images: u32, pixels: u32, groups: u32, rows: u32, depth: u32,
        weight_group: u32, weight_row: u32, weight_depth: u32, has_bias: u32, x_offset: u32,
        w_offset: u32, b_offset: u32, first_kernel_row: u32, end_kernel_row: u32, first_depth: u32,
        end_depth: u32,
    }
}

params! {
    struct WeightParams {
        source: [u32; 2], result: [u32; 2], kernel: [u32; 2], stride: [u32; 2], padding: [u32; 2],
        dilation: [u32; 2], step: [u32; 3], pixels: u32, groups: u32, rows: u32, depth: u32,
        slices: u32, weights: u32, x_offset: u32, dy_offset: u32, pad: u32,
    }
}

/// What differs between the two directions.
struct Sides {
    transposed: u32,
    source: [usize; 2],
    result: [usize; 2],
    rows: usize,
    depth: usize,
    weight_row: usize,
    weight_depth: usize,
}

impl Sides {
    fn new(direction: Direction, g: &Geometry) -> Sides {
        match direction {
            Direction::Forward => Sides {
                transposed: 0,
                source: g.input,
                result: g.output,
                rows: g.rows,
                depth: g.depth,
                weight_row: g.columns(),
                weight_depth: g.taps(),
            },
            Direction::Transposed => Sides {
                transposed: if g.stride == [1, 1] { 1 } else { 2 },
                source: g.output,
                result: g.input,
                rows: g.depth,
                depth: g.rows,
                weight_row: g.taps(),
                weight_depth: g.columns(),
            },
        }
    }
}

/// `inputs`: x, the weight, and optionally the bias.
pub(super) fn convolve(rec: &mut Recorder, op: &Convolve, inputs: &[GpuView], y: GpuOut) -> Result<()> {
    let &Convolve { name, ref geometry, activation, kernel, .. } = op;
    let (g, sides) = (geometry, Sides::new(op.direction, geometry));
    let (x, weight, bias) = (inputs[0], inputs[1], inputs.get(2));
    let w = |n: usize| to_u32(name, n);
    let pair = |[a, b]: [usize; 2]| -> Result<[u32; 2]> { Ok([w(a)?, w(b)?]) };
    // Every index that the kernels compute is below these.
    for view in inputs {
        w(view.layout.offset + view.layout.shape.numel())?;
    }
    w(y.shape.numel())?;

    let subgroup = rec.subgroup_size().filter(|size| [4, 8].contains(size));
    let choice = match kernel {
        Conv2dKernel::Auto if rec.is_software() && subgroup.is_some() => Conv2dKernel::Subgroup,
        Conv2dKernel::Auto => Conv2dKernel::Registers,
        chosen => chosen,
    };
    // The kernel, the channels and pixels per piece of work, and the pieces per workgroup.
    let (kernel, channels, pixels, pieces) = match (choice, subgroup) {
        (Conv2dKernel::Naive, _) => (&NAIVE, 1, 1, 64),
        (Conv2dKernel::Subgroup, Some(size)) => (&SUBGROUP, 16, 8 * size as usize, 64 / size as usize),
        (Conv2dKernel::Subgroup, None) => {
            let message =
                "this adapter's subgroups are not all of 4 or 8 invocations; use Conv2dKernel::Auto";
            return Err(Error::argument(name, message));
        }
        (Conv2dKernel::Registers | Conv2dKernel::Auto, _) => (&REGISTERS, 8, 8, 64),
    };
    let all_pixels = g.images * sides.result[0] * sides.result[1];
    let work = sides.rows.div_ceil(channels) * g.groups * all_pixels.div_ceil(pixels);
    // Pieces past the end have an index too, and so have their pixels.
    w(work + 64)?;
    w(all_pixels + 64)?;

    let passes = passes(name, g.kernel, sides.depth)?;
    // Without a bias, some buffer must still be bound; the kernel does not read it.
    let bound_bias = bias.unwrap_or(&weight);
    for (at, (taps, channels)) in passes.iter().enumerate() {
        let last = at + 1 == passes.len();
        let activation = if last { activation } else { Activation::None };
        let mut constants = vec![sides.transposed, u32::from(at > 0), activation as u32];
        constants.extend(subgroup.filter(|_| choice == Conv2dKernel::Subgroup));
        let params = Params {
            source: pair(sides.source)?,
            result: pair(sides.result)?,
            kernel: pair(g.kernel)?,
            stride: pair(g.stride)?,
            padding: pair(g.padding)?,
            dilation: pair(g.dilation)?,
            images: w(g.images)?,
            pixels: w(all_pixels)?,
            groups: w(g.groups)?,
            rows: w(sides.rows)?,
            depth: w(sides.depth)?,
            weight_group: w(g.rows * g.columns())?,
            weight_row: w(sides.weight_row)?,
            weight_depth: w(sides.weight_depth)?,
            has_bias: u32::from(bias.is_some() && last),
            x_offset: w(x.layout.offset)?,
            w_offset: w(weight.layout.offset)?,
            b_offset: w(bound_bias.layout.offset)?,
            first_kernel_row: w(taps.start)?,
            end_kernel_row: w(taps.end)?,
            first_depth: w(channels.start)?,
            end_depth: w(channels.end)?,
        };
        let buffers = [x.buffer, weight.buffer, bound_bias.buffer, y.buffer];
        rec.dispatch(kernel, &constants, &buffers, &params, work.div_ceil(pieces))?;
    }
    Ok(())
}

/// For each dispatch, the ranges of the kernel's rows and of the channels that it sums, such that its loops are short
/// enough.
fn passes(
    name: &'static str,
    [kh, kw]: [usize; 2],
    depth: usize,
) -> Result<Vec<(Range<usize>, Range<usize>)>> {
    // The limit is on the sum over all three loops, each with its last test: 1 + r (2 + kw (2 + d)) iterations for r
    // rows of the kernel and d channels.
    let most = (MOST_ITERATIONS - 1) / kh;
    let channels = (most.saturating_sub(2) / kw).saturating_sub(2).clamp(1, depth.max(1));
    let rows = kh.min((MOST_ITERATIONS - 1) / (2 + kw * (2 + channels)));
    if rows == 0 {
        let message =
            format!("a kernel of {kw} columns is over the {} that the kernels take", MOST_ITERATIONS / 3 - 1);
        return Err(Error::shape(name, message));
    }
    let cut = |len: usize, part: usize| {
        (0..len.max(1)).step_by(part).map(move |first| first..len.min(first + part))
    };
    Ok(cut(kh, rows).flat_map(|rows| cut(depth, channels).map(move |d| (rows.clone(), d))).collect())
}

/// Rows and columns of the weight that one invocation of the kernel `registers` computes.
const TILE: [usize; 2] = [8, 12];

/// The number of slices for the gradient with respect to the weight: enough invocations to fill a device, and no more
/// iterations each than the adapter allows.
pub(super) fn slices(g: &Geometry, kernel: Conv2dKernel) -> usize {
    const SLICING: Slicing =
        Slicing { units_wanted: 4096, shortest: 64, most_slices: usize::MAX, longest: MOST_ITERATIONS / 2 };
    let invocations = match kernel {
        Conv2dKernel::Naive => g.groups * g.rows * g.columns(),
        _ => g.groups * g.rows.div_ceil(TILE[0]) * g.columns().div_ceil(TILE[1]),
    };
    SLICING.cut(invocations, g.images * g.output_plane(), 1).count
}

pub(super) fn weight_grad(
    rec: &mut Recorder,
    kernel: Conv2dKernel,
    g: &Geometry,
    slices: usize,
    dy: GpuView,
    x: GpuView,
    partial: GpuOut,
) -> Result<()> {
    let name = "conv2d_weight_grad";
    let w = |n: usize| to_u32(name, n);
    let pair = |[a, b]: [usize; 2]| -> Result<[u32; 2]> { Ok([w(a)?, w(b)?]) };
    for view in [x, dy] {
        w(view.layout.offset + view.layout.shape.numel())?;
    }
    let pixels = g.images * g.output_plane();
    w(pixels + slices)?; // the kernels count one slice past the end
    w(partial.shape.numel())?;
    let (kernel, invocations) = match kernel {
        Conv2dKernel::Naive => (&WEIGHT_NAIVE, g.groups * g.rows * g.columns()),
        _ => {
            let tiles = g.rows.div_ceil(TILE[0]) * g.columns().div_ceil(TILE[1]);
            (&WEIGHT_REGISTERS, g.groups * tiles)
        }
    };
    w(invocations * slices + 64)?;
    let [height, width] = g.output;
    let params = WeightParams {
        source: pair(g.input)?,
        result: pair(g.output)?,
        kernel: pair(g.kernel)?,
        stride: pair(g.stride)?,
        padding: pair(g.padding)?,
        dilation: pair(g.dilation)?,
        step: [w(slices / width / height)?, w(slices / width % height)?, w(slices % width)?],
        pixels: w(pixels)?,
        groups: w(g.groups)?,
        rows: w(g.rows)?,
        depth: w(g.depth)?,
        slices: w(slices)?,
        weights: w(g.groups * g.rows * g.columns())?,
        x_offset: w(x.layout.offset)?,
        dy_offset: w(dy.layout.offset)?,
        pad: 0,
    };
    let groups = (invocations * slices).div_ceil(64);
    rec.dispatch(kernel, &[], &[x.buffer, dy.buffer, partial.buffer], &params, groups)
}
