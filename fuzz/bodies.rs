//! What each fuzz target does with its bytes. It panics where the crate is wrong; an error is a right answer.
#![allow(dead_code)] // each target uses its own

#[path = "../tests/common/picture.rs"]
mod picture;

use flate2::Compression;
use flate2::write::GzEncoder;
use gristmill::data::parse_idx;
use gristmill::{DType, Device, Tensor, io};
use picture::{Picture, Step};
use std::collections::HashSet;
use std::io::Write;

/// The safetensors reader: what it takes has names of its own, and its elements are the file's, in order and all.
pub fn safetensors(data: &[u8]) {
    if data.starts_with(b"PK\x03\x04") {
        return; // a file of PyTorch
    }
    let Ok((tensors, _)) = io::parse(data.to_vec(), &Device::cpu()) else { return };
    let header = u64::from_le_bytes(data[..8].try_into().expect("8 bytes")) as usize;
    let (header, mut rest) = data[8..].split_at(header);
    let header: serde_json::Value = serde_json::from_slice(header).expect("it was read");
    let mut names = HashSet::new();
    for (name, tensor) in &tensors {
        assert!(names.insert(name), "{name} is there twice");
        let words: Vec<u32> = match tensor.dtype() {
            DType::F32 => tensor.to_vec().expect("f32").into_iter().map(f32::to_bits).collect(),
            DType::U32 => tensor.to_ids().expect("ids"),
        };
        for word in words {
            let mut take = |count: usize| {
                let (element, others) = rest.split_at(count);
                rest = others;
                element.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
            };
            match header[name.as_str()]["dtype"].as_str().expect("a type") {
                "F32" | "U32" | "I32" => assert_eq!(u64::from(word), take(4)),
                "I64" => assert_eq!(u64::from(word), take(8)),
                "BF16" => assert_eq!(u64::from(word), take(2) << 16),
                "F16" => {
                    let (got, want) = (f64::from(f32::from_bits(word)), half_of(take(2)));
                    assert!(got == want || (got.is_nan() && want.is_nan()), "{got} is not {want}");
                }
                other => panic!("{other} was read"),
            }
        }
    }
    assert!(rest.is_empty());
}

/// A half: a sign, an exponent of 5 bits, 10 bits of fraction.
fn half_of(bits: u64) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let fraction = (bits & 0x3ff) as f64;
    sign * match bits >> 10 & 0x1f {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => (1024.0 + fraction) * 2f64.powi(exponent as i32 - 25),
    }
}

/// The reader of PyTorch's files: what it takes has names of its own, and elements of bounded size.
pub fn pytorch(data: &[u8]) {
    let Ok((tensors, _)) = io::parse(data.to_vec(), &Device::cpu()) else { return };
    let names: HashSet<&String> = tensors.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), tensors.len());
    assert!(tensors.iter().map(|(_, tensor)| tensor.numel() * 4).sum::<usize>() <= 16 * data.len());
}

/// The IDX reader, plain and packed: as many elements as the dimensions say, all from the file.
pub fn idx(data: &[u8]) {
    let plain = parse_idx(data);
    if data.starts_with(&[0x1f, 0x8b]) {
        return;
    }
    if let Ok(idx) = &plain {
        assert_eq!(idx.dims.iter().product::<usize>(), idx.data.len());
        assert_eq!(idx.data, data[4 + 4 * idx.dims.len()..]);
    }
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(data).expect("into memory");
    assert_eq!(parse_idx(&packer.finish().expect("into memory")).ok(), plain.ok());
}

/// The most elements that a view may show here.
const MOST: usize = 1 << 12;
/// Sizes and axes that no tensor has.
const FAR: [usize; 8] =
    [usize::MAX, usize::MAX - 1, isize::MAX as usize, 1 << 63, 1 << 62, 1 << 40, u32::MAX as usize, 1 << 16];

/// A chain of views on the CPU, valid and invalid ones: each shows what index arithmetic says, or is refused where that
/// has no answer; the gradient goes back to where the elements came from.
pub fn views(data: &[u8]) {
    let mut bytes = data.iter().copied();
    let mut next = || bytes.next();
    let Some(rank) = next() else { return };
    let dims: Vec<usize> = (0..rank % 5).map_while(|_| next()).map(|dim| usize::from(dim % 7)).collect();
    let whole = Picture::whole(&dims);
    let values: Vec<f32> = (0..whole.from.len()).map(|i| i as f32).collect();
    let x = Tensor::from_slice(&values, &dims, &Device::cpu())
        .and_then(|x| x.requires_grad())
        .expect("it is small");
    let (mut y, mut want, mut told) = (x.clone(), whole, vec![]);
    while let Some(kind) = next() {
        let mut number = || next().map_or(0, usize::from);
        let step = match kind {
            0..128 => Step::choose(kind, [number(), number(), number()], &want.shape),
            _ => any_step(kind, || match number() {
                far @ 240.. => FAR[far % FAR.len()],
                near => near % 9,
            }),
        };
        told.push(format!("{step:?}"));
        let result = step.of_tensor(&y);
        if let Step::Expand(dims) = &step
            && dims.iter().fold(1usize, |n, &d| n.saturating_mul(d)) > MOST
        {
            continue; // right or refused, but nothing to look at
        }
        match (result, step.of_picture(&want)) {
            (Ok(view), Some(picture)) => (y, want) = (view, picture),
            (Err(_), None) => continue,
            (result, picture) => panic!("{told:?}: {result:?}, should be {picture:?}"),
        }
        assert_eq!(y.shape()[..], want.shape[..], "{told:?}");
        let shown: Vec<f32> = want.from.iter().map(|&from| values[from]).collect();
        assert_eq!(y.to_vec().expect("on the CPU"), shown, "{told:?}");
    }
    // Whole numbers, so that the gradient's sums are exact.
    let weights: Vec<f32> = (0..want.from.len()).map(|i| (i % 17) as f32 - 8.0).collect();
    let mut gradient = vec![0.0; values.len()];
    want.from.iter().zip(&weights).for_each(|(&from, w)| gradient[from] += w);
    let weights = Tensor::from_slice(&weights, &want.shape, &Device::cpu()).expect("it is small");
    let grads = y.backward_from(&weights).expect("on the CPU");
    // A chain of no step is the leaf itself.
    assert_eq!(
        grads.get(&x).expect("the leaf takes part").to_vec().expect("on the CPU"),
        gradient,
        "{told:?}"
    );
}

/// A step that a tensor may not allow.
fn any_step(kind: u8, mut number: impl FnMut() -> usize) -> Step {
    let dims = |number: &mut dyn FnMut() -> usize| (0..number() % 8).map(|_| number()).collect();
    match kind % 9 {
        0 => Step::Permute(dims(&mut number)),
        1 => Step::Transpose((number() as isize).wrapping_sub(4), (number() as isize).wrapping_sub(4)),
        2 | 3 => Step::Slice {
            axis: (number() as isize).wrapping_sub(4),
            start: number(),
            end: number(),
            step: number(),
        },
        4 => Step::Reshape(dims(&mut number)),
        5 => Step::Flatten((number() as isize).wrapping_sub(4)),
        6 => Step::Unsqueeze((number() as isize).wrapping_sub(4)),
        7 => Step::Squeeze((number() as isize).wrapping_sub(4)),
        _ => Step::Expand(dims(&mut number)),
    }
}
