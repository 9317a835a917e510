//! Images as PNG.

use super::message::Message;
use crate::error::{Error, Result};
use crate::meta::DType;
use crate::tensor::Tensor;
use png::{ColorType, Compression, Encoder};

const OP: &str = "add_image";

/// A `Summary.Image` of a tensor `[channels, height, width]`.
pub(super) fn image(image: &Tensor) -> Result<Message> {
    image.expect(DType::F32, OP)?;
    let shape = image.shape();
    let wrong = || {
        let wanted = "[channels, height, width] with 1 or 3 channels and at least one pixel";
        Error::shape(OP, format!("shape {shape}; it takes {wanted}"))
    };
    let [channels @ (1 | 3), height, width] = shape[..] else { return Err(wrong()) };
    let (Ok(height @ 1..), Ok(width @ 1..)) = (u32::try_from(height), u32::try_from(width)) else {
        return Err(wrong());
    };
    // Pixel by pixel.
    let values = image.detach().permute(&[1, 2, 0])?.to_vec()?;
    // The cast clamps to 0..=255 and makes 0 of NaN.
    let pixels: Vec<u8> = values.iter().map(|value| (value * 255.0).round() as u8).collect();
    let mut png = Vec::new();
    let mut encoder = Encoder::new(&mut png, width, height);
    encoder.set_color(if channels == 1 { ColorType::Grayscale } else { ColorType::Rgb });
    encoder.set_compression(Compression::Fast);
    let written = encoder.write_header().and_then(|mut header| {
        header.write_image_data(&pixels)?;
        header.finish()
    });
    written.map_err(|error| Error::shape(OP, format!("shape {shape} can't be a PNG: {error}")))?;
    Ok(Message::new().int(1, height.into()).int(2, width.into()).int(3, channels as u64).bytes(4, png))
}
