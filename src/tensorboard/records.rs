//! TensorFlow's file format: records, each with its length and checksums
//! (<https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details>).

use crc::{CRC_32_ISCSI, Crc};
use std::fs::File;
use std::io::{self, ErrorKind, Write};

/// CRC-32C.
static CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Appends records to a file.
#[derive(Debug)]
pub(super) struct Records<W> {
    out: W,
    /// What is left to write of the last record: nothing, unless writing failed. A record that stays incomplete would
    /// hide all that follow, so nothing is written before it is complete.
    rest: Vec<u8>,
}

impl<W: Write> Records<W> {
    pub fn new(out: W) -> Records<W> {
        Records { out, rest: Vec::new() }
    }

    /// Writes a record. If that fails, the next call first writes what is missing of it.
    pub fn append(&mut self, data: &[u8]) -> io::Result<()> {
        self.write_rest()?;
        let length = (data.len() as u64).to_le_bytes();
        self.rest = [&length, &checksum(&length)[..], data, &checksum(data)].concat();
        self.write_rest()
    }

    fn write_rest(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            match self.out.write(&self.rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.rest.drain(..written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Records<File> {
    /// Waits until the records are on the disk.
    pub fn sync(&mut self) -> io::Result<()> {
        self.write_rest()?;
        self.out.sync_data()
    }
}

/// TensorFlow masks checksums, because that of a text with its own checksum in it is always the same.
fn checksum(data: &[u8]) -> [u8; 4] {
    CRC.checksum(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with room for so many bytes.
    struct Disk {
        written: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.written.extend_from_slice(&bytes[..count]);
            self.room -= count;
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_record_that_did_not_fit_is_completed_before_the_next() {
        let mut whole = Records::new(Vec::new());
        whole.append(b"first").unwrap();
        whole.append(b"third").unwrap();
        for room in 0..21 {
            let mut records = Records::new(Disk { written: Vec::new(), room });
            assert_eq!(records.append(b"first").unwrap_err().kind(), ErrorKind::StorageFull);
            assert!(records.append(b"second").is_err());
            assert_eq!(records.out.written, whole.out[..room]);
            records.out.room = 100;
            records.append(b"third").unwrap();
            assert_eq!(records.out.written, whole.out);
        }
    }
}
