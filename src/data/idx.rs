//! The IDX file format of MNIST: a magic number, the dimensions, the elements.
//!
//! Format: <http://yann.lecun.com/exdb/mnist/>. All numbers are big-endian:
//!
//! ```text
//! 0 0 TYPE COUNT    TYPE 0x08: unsigned byte; COUNT: how many dimensions
//! u32 x COUNT       the dimensions, outermost first
//! TYPE x product    the elements, last dimension fastest
//! ```

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};

/// The size limit of files, packed and unpacked: 1 GiB, twenty times MNIST.
pub const MAX_IDX_BYTES: u64 = 1 << 30;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const UNSIGNED_BYTE: u8 = 0x08;

/// The contents of an IDX file of unsigned bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idx {
    /// The dimensions, outermost first: `[count]` for labels, `[count, rows, cols]` for images.
    pub dims: Vec<usize>,
    /// The elements, last dimension fastest.
    pub data: Vec<u8>,
}

/// Reads an IDX file, plain or gzip (detected by its first bytes, not by its name).
///
/// ```
/// # use gristmill::data::read_idx;
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("labels-idx1-ubyte");
/// # std::fs::write(&path, [0u8, 0, 8, 1, 0, 0, 0, 3, 5, 6, 7]).unwrap();
/// let labels = read_idx(&path)?;
/// assert_eq!((labels.dims, labels.data), (vec![3], vec![5, 6, 7]));
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] with the path if the file cannot be read, is larger than [`MAX_IDX_BYTES`], or as [`parse_idx`].
pub fn read_idx(path: impl AsRef<Path>) -> Result<Idx> {
    let path = path.as_ref();
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_IDX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| Error::file(path, format!("cannot read: {error}")))?;
    if bytes.len() as u64 > MAX_IDX_BYTES {
        return Err(Error::file(path, format!("over {MAX_IDX_BYTES} bytes, too large for an IDX file here")));
    }
    parse_idx(&bytes).map_err(|message| Error::file(path, message))
}

/// Parses an IDX file of unsigned bytes, plain or gzip, held in memory.
///
/// Never panics, whatever the bytes. Memory grows with the elements actually read, up to [`MAX_IDX_BYTES`]; no
/// allocation depends on the header's dimensions.
///
/// ```
/// # use gristmill::data::parse_idx;
/// let bytes = [0, 0, 8, 1, 0, 0, 0, 3, 5, 6, 7]; // unsigned bytes (8), one dimension, of length 3
/// let idx = parse_idx(&bytes)?;
/// assert_eq!((idx.dims, idx.data), (vec![3], vec![5, 6, 7]));
/// # Ok::<(), String>(())
/// ```
///
/// # Errors
/// A message if the magic number is wrong, the elements are not unsigned bytes, the file is truncated or has trailing
/// bytes, it unpacks to more than [`MAX_IDX_BYTES`], or gzip's checks fail.
pub fn parse_idx(bytes: &[u8]) -> Result<Idx, String> {
    if bytes.starts_with(&GZIP_MAGIC) { parse(MultiGzDecoder::new(bytes)) } else { parse(bytes) }
}

fn parse(mut input: impl Read) -> Result<Idx, String> {
    let mut magic = [0; 4];
    input.read_exact(&mut magic).map_err(in_header)?;
    let count = match magic {
        [0, 0, UNSIGNED_BYTE, 0] => return Err("the header gives no dimension".into()),
        [0, 0, UNSIGNED_BYTE, count] => count,
        [0, 0, kind, _] => return Err(format!("element type 0x{kind:02x}, not 0x08 (unsigned bytes)")),
        _ => return Err(format!("not an IDX file: starts with {magic:02x?}, not [00, 00, 08, dimensions]")),
    };

    let mut dims = Vec::with_capacity(count.into());
    let mut length = 1u64;
    for _ in 0..count {
        let mut dim = [0; 4];
        input.read_exact(&mut dim).map_err(in_header)?;
        let dim = u32::from_be_bytes(dim);
        length =
            length.checked_mul(dim.into()).filter(|&length| length <= MAX_IDX_BYTES).ok_or_else(|| {
                format!("dimensions {dims:?} x {dim} are over the limit of {MAX_IDX_BYTES} bytes")
            })?;
        dims.push(dim as usize);
    }

    // One byte more than announced detects trailing bytes, and reaching the end makes gzip check its CRC.
    let mut data = Vec::new();
    let read = input.take(length + 1).read_to_end(&mut data);
    let found = data.len() as u64;
    read.map_err(|error| format!("damaged after {found} of {length} elements: {error}"))?;
    if found < length {
        return Err(format!("cut short: dimensions {dims:?} need {length} bytes, {found} are there"));
    }
    if found > length {
        return Err(format!("goes on after the {length} bytes of dimensions {dims:?}"));
    }
    Ok(Idx { dims, data })
}

fn in_header(error: std::io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => "cut short: ends within the IDX header".into(),
        _ => format!("damaged within the IDX header: {error}"),
    }
}

/// Encodes `data` as a plain IDX file. The format allows at most 255 dimensions, each a `u32`; the caller ensures this.
pub(super) fn encode_idx(dims: &[usize], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, UNSIGNED_BYTE, dims.len() as u8];
    bytes.extend(dims.iter().flat_map(|&dim| (dim as u32).to_be_bytes()));
    bytes.extend(data);
    bytes
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    /// Two images of 2 x 3 pixels, byte for byte.
    const SMALL: &[u8] =
        &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    #[test]
    fn reads_plain_and_gzip() {
        let expected = Idx { dims: vec![2, 2, 3], data: (1..=12).collect() };
        assert_eq!(parse_idx(SMALL), Ok(expected.clone()));
        assert_eq!(parse_idx(&gzip(SMALL)), Ok(expected.clone()));
        // A gzip file may consist of several members.
        assert_eq!(parse_idx(&[gzip(&SMALL[..9]), gzip(&SMALL[9..])].concat()), Ok(expected));
        assert_eq!(encode_idx(&[2, 2, 3], &SMALL[16..]), SMALL);
        assert_eq!(parse_idx(&[0, 0, 8, 1, 0, 0, 0, 0]), Ok(Idx { dims: vec![0], data: vec![] }));
    }

    #[test]
    fn refuses_what_is_not_whole() {
        let packed = gzip(SMALL);
        for end in 0..SMALL.len() {
            assert!(parse_idx(&SMALL[..end]).is_err(), "plain cut at {end}");
        }
        for end in 0..packed.len() {
            assert!(parse_idx(&packed[..end]).is_err(), "gzip cut at {end}");
        }
        assert!(parse_idx(&[SMALL, &[0]].concat()).unwrap_err().contains("goes on after"));
        assert!(parse_idx(&gzip(&[SMALL, &[0]].concat())).unwrap_err().contains("goes on after"));
        assert!(parse_idx(&[&packed, &[0][..]].concat()).is_err());
        let mut wrong_crc = packed.clone();
        wrong_crc[packed.len() - 8] ^= 1;
        assert!(parse_idx(&wrong_crc).unwrap_err().contains("damaged"));
    }

    #[test]
    fn refuses_wrong_headers() {
        let error = |bytes: &[u8]| parse_idx(bytes).unwrap_err();
        assert!(error(b"\x89PNG\r\n\x1a\n").contains("not an IDX file"));
        assert!(error(&[0, 0, 0x0d, 1, 0, 0, 0, 0]).contains("element type 0x0d"));
        assert!(error(&[0, 0, 8, 0]).contains("no dimension"));
        assert!(error(&[]).contains("cut short"));
    }

    #[test]
    fn a_huge_claim_allocates_nothing() {
        let huge = [&[0, 0, 8, 3][..], &[0xff; 12], &[1, 2, 3]].concat();
        assert!(parse_idx(&huge).unwrap_err().contains("over the limit"));
        // Within the limit, but the bytes are missing.
        let large = [0, 0, 8, 1, 0x40, 0, 0, 0, 9];
        assert!(parse_idx(&large).unwrap_err().contains("cut short"));
        // A gzip bomb: 4 MB of zeros behind a header that announces one byte.
        let bomb = gzip(&[&[0, 0, 8, 1, 0, 0, 0, 1][..], &vec![0; 4 << 20]].concat());
        assert!(parse_idx(&bomb).unwrap_err().contains("goes on after"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_idx("no/such/file").unwrap_err().to_string();
        assert!(error.starts_with("no/such/file: cannot read"), "{error}");
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_idx(&bytes);
            let _ = parse_idx(&[&GZIP_MAGIC[..], &bytes].concat());
            // Past the magic number, so that the dimensions are reached.
            let _ = parse_idx(&[&[0, 0, UNSIGNED_BYTE][..], &bytes].concat());
        }

        #[test]
        fn a_changed_byte_is_an_error_or_harmless(at in 0..SMALL.len(), flip in 1u8..) {
            let mut plain = SMALL.to_vec();
            plain[at] ^= flip;
            if let Ok(idx) = parse_idx(&plain) {
                prop_assert_eq!(idx.dims.iter().product::<usize>(), idx.data.len());
            }
        }

        #[test]
        fn gzip_guards_its_contents(at in any::<prop::sample::Index>(), flip in 1u8..) {
            let mut packed = gzip(SMALL);
            let at = at.index(packed.len());
            packed[at] ^= flip;
            // Only fields of the gzip header, such as the time, may change undetected.
            if let Ok(idx) = parse_idx(&packed) {
                prop_assert_eq!(idx.data, &SMALL[16..]);
            }
        }
    }
}
