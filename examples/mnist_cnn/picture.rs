//! Reads a picture of a digit and normalizes it as MNIST's were.

use gristmill::{Error, Result};
use image::imageops::{FilterType, resize};
use image::{GrayImage, Luma};
use std::path::Path;

/// The picture as `rows` x `columns` bytes, bright on dark. It is converted to grey, inverted if its rim is bright,
/// cropped to the drawing, scaled to fit 20 of 28 pixels, and centred by its mass, as MNIST's digits were (LeCun,
/// Bottou, Bengio & Haffner, "Gradient-based learning applied to document recognition", 1998).
pub fn read(path: &Path, rows: usize, columns: usize) -> Result<Vec<u8>> {
    let fail = |message: String| Error::File { path: path.to_path_buf(), message };
    let mut picture =
        image::open(path).map_err(|e| fail(format!("can not be read as a picture: {e}")))?.to_luma8();
    let (width, height) = picture.dimensions();
    if width == 0 || height == 0 {
        return Err(fail("the picture is empty".to_string()));
    }
    if (width as usize, height as usize) == (columns, rows) && !is_bright(&picture) {
        return Ok(picture.into_raw()); // already in the format of the training images
    }
    if is_bright(&picture) {
        image::imageops::invert(&mut picture);
    }
    let ink: Vec<(u32, u32)> =
        picture.enumerate_pixels().filter(|(_, _, p)| p.0[0] > 64).map(|(x, y, _)| (x, y)).collect();
    let (Some(left), Some(right)) = (ink.iter().map(|p| p.0).min(), ink.iter().map(|p| p.0).max()) else {
        return Err(fail("nothing is drawn on it".to_string()));
    };
    let (top, bottom) = ink.iter().fold((u32::MAX, 0), |(t, b), p| (t.min(p.1), b.max(p.1)));
    let cut = image::imageops::crop_imm(&picture, left, top, right - left + 1, bottom - top + 1).to_image();
    let scale = (columns.min(rows) as f32 * 20.0 / 28.0) / cut.width().max(cut.height()) as f32;
    let fit = |n: u32| ((n as f32 * scale).round() as u32).max(1);
    let small = resize(&cut, fit(cut.width()), fit(cut.height()), FilterType::Triangle);
    let (mut mass, mut x_mass, mut y_mass) = (0.0, 0.0, 0.0);
    for (x, y, Luma([p])) in small.enumerate_pixels() {
        mass += f32::from(*p);
        x_mass += f32::from(*p) * (x as f32 + 0.5);
        y_mass += f32::from(*p) * (y as f32 + 0.5);
    }
    let mut out = GrayImage::new(columns as u32, rows as u32);
    let x = (columns as f32 / 2.0 - x_mass / mass).round() as i64;
    let y = (rows as f32 / 2.0 - y_mass / mass).round() as i64;
    image::imageops::replace(&mut out, &small, x, y);
    Ok(out.into_raw())
}

/// Whether the rim is bright, and so the background.
fn is_bright(picture: &GrayImage) -> bool {
    let (width, height) = picture.dimensions();
    let rim = |x, y| x == 0 || y == 0 || x == width - 1 || y == height - 1;
    let rim: Vec<u64> = picture
        .enumerate_pixels()
        .filter(|(x, y, _)| rim(*x, *y))
        .map(|(_, _, p)| u64::from(p.0[0]))
        .collect();
    rim.iter().sum::<u64>() > 127 * rim.len() as u64
}
