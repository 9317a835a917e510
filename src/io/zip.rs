//! Zip archives whose files are stored uncompressed, as PyTorch writes them: where the files lie.
//!
//! The format, with its extension for large archives (zip64), is PKWARE's APPNOTE.TXT
//! (<https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>). The checksums are not compared: PyTorch has an option not
//! to compute them.

use std::collections::HashMap;
use std::ops::Range;

/// What an archive begins with.
pub(super) const MAGIC: &[u8] = b"PK\x03\x04";

/// The names of the files, and where the bytes of each are in those of the archive.
///
/// # Errors
/// The archive is truncated or malformed, or has a compressed file.
pub(super) fn files(bytes: &[u8]) -> Result<HashMap<&str, Range<usize>>, String> {
    let malformed = || "is malformed: its zip directory is wrong".to_string();
    let (count, mut at) =
        directory(bytes).ok_or("is truncated: a zip archive ends with a directory, which is not there")?;
    let mut files = HashMap::new();
    for _ in 0..count {
        let header = Header::new(bytes, at).ok_or_else(malformed)?;
        if header.method != 0 {
            let message = "is compressed; only stored files are read, as torch.save writes them";
            return Err(format!("has the file {}, which {message}", header.name));
        }
        files.insert(header.name, header.content(bytes).ok_or_else(malformed)?);
        at = header.end;
    }
    Ok(files)
}

/// The little-endian number of `size` bytes at `at`.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(size)?)?;
    usize::try_from(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))).ok()
}

/// Whether a record with this signature is at `at`.
fn is_at(bytes: &[u8], at: usize, signature: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|rest| rest.starts_with(signature))
}

/// The number of files and the position of the first header in the directory, by the record at the end of the archive. In
/// front of it, a large archive has a record of its own and the position of that.
fn directory(bytes: &[u8]) -> Option<(usize, usize)> {
    // A comment of up to 65,535 bytes may follow the record's 22.
    let tail = bytes.len().saturating_sub(22 + 0xffff);
    let end = tail + bytes[tail..].windows(4).rposition(|window| window == b"PK\x05\x06")?;
    if let Some(locator) = end.checked_sub(20)
        && is_at(bytes, locator, b"PK\x06\x07")
    {
        let large = number(bytes, locator + 8, 8)?;
        if !is_at(bytes, large, b"PK\x06\x06") {
            return None;
        }
        return Some((number(bytes, large + 32, 8)?, number(bytes, large + 48, 8)?));
    }
    Some((number(bytes, end + 10, 2)?, number(bytes, end + 16, 4)?))
}

/// A file's header in the directory.
struct Header<'a> {
    name: &'a str,
    /// 0 if the file is stored as it is.
    method: usize,
    size: usize,
    /// The position of the header in front of the file's content.
    local: usize,
    /// The position of the next header.
    end: usize,
}

impl<'a> Header<'a> {
    fn new(bytes: &'a [u8], at: usize) -> Option<Header<'a>> {
        if !is_at(bytes, at, b"PK\x01\x02") {
            return None;
        }
        let field = |offset, size| number(bytes, at + offset, size);
        let (method, compressed, mut size) = (field(10, 2)?, field(20, 4)?, field(24, 4)?);
        let (name_length, extra_length, comment_length) = (field(28, 2)?, field(30, 2)?, field(32, 2)?);
        let mut local = field(42, 4)?;
        let extra = at + 46 + name_length;
        let name = str::from_utf8(bytes.get(at + 46..extra)?).ok()?;
        let extras = bytes.get(extra..extra + extra_length)?;
        // Numbers that don't fit 32 bits are in the extra field 1, in this order: size, compressed size, position.
        const LARGE: usize = u32::MAX as usize;
        let mut large = large_numbers(extras);
        if size == LARGE {
            size = large.next()?;
        }
        if compressed == LARGE {
            large.next()?;
        }
        if local == LARGE {
            local = large.next()?;
        }
        Some(Header { name, method, size, local, end: extra + extra_length + comment_length })
    }

    /// Where the content is, behind a header whose name and extra fields are not those of the directory.
    fn content(&self, bytes: &[u8]) -> Option<Range<usize>> {
        if !is_at(bytes, self.local, MAGIC) {
            return None;
        }
        let start = self.local + 30 + number(bytes, self.local + 26, 2)? + number(bytes, self.local + 28, 2)?;
        let end = start.checked_add(self.size)?;
        (end <= bytes.len()).then_some(start..end)
    }
}

/// The 64-bit numbers of the extra field 1 of a header.
fn large_numbers(mut extras: &[u8]) -> impl Iterator<Item = usize> {
    let mut found: &[u8] = &[];
    while let (Some(kind), Some(length)) = (number(extras, 0, 2), number(extras, 2, 2)) {
        let Some((field, rest)) = extras[4..].split_at_checked(length) else { break };
        if kind == 1 {
            found = field;
        }
        extras = rest;
    }
    found.as_chunks::<8>().0.iter().map_while(|&bytes| usize::try_from(u64::from_le_bytes(bytes)).ok())
}
