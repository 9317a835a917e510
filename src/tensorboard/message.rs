//! Protobuf's wire format: <https://protobuf.dev/programming-guides/encoding/>.

/// A message, written field by field. Fields are given by their numbers, in any order; a field that is left out is 0 or
/// empty.
#[derive(Default)]
pub(super) struct Message(Vec<u8>);

/// How the value of a field is encoded.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED_32: u64 = 5;

impl Message {
    pub fn new() -> Message {
        Message::default()
    }

    /// An integer, `bool` or enum.
    pub fn int(self, field: u32, value: u64) -> Message {
        self.key(field, VARINT).varint(value)
    }

    pub fn float(self, field: u32, value: f32) -> Message {
        self.key(field, FIXED_32).raw(&value.to_le_bytes())
    }

    pub fn double(self, field: u32, value: f64) -> Message {
        self.key(field, FIXED_64).raw(&value.to_le_bytes())
    }

    /// Bytes, a string or a message.
    pub fn bytes(self, field: u32, value: impl AsRef<[u8]>) -> Message {
        let value = value.as_ref();
        self.key(field, LENGTH_DELIMITED).varint(value.len() as u64).raw(value)
    }

    /// A packed list of `double`.
    pub fn doubles(self, field: u32, values: &[f64]) -> Message {
        let values: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.bytes(field, values)
    }

    fn key(self, field: u32, encoding: u64) -> Message {
        self.varint(u64::from(field) << 3 | encoding)
    }

    /// Seven bits a byte, the lowest first; the highest bit of a byte says that more follow.
    fn varint(mut self, mut value: u64) -> Message {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Message {
        self.0.extend_from_slice(bytes);
        self
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_specification() {
        assert_eq!(Message::new().int(1, 150).0, [0x08, 0x96, 0x01]);
        assert_eq!(Message::new().bytes(2, "testing").0, b"\x12\x07testing");
        assert_eq!(Message::new().bytes(3, Message::new().int(1, 150)).0, [0x1a, 0x03, 0x08, 0x96, 0x01]);
    }

    #[test]
    fn numbers_by_hand() {
        assert_eq!(Message::new().int(16, u64::MAX).0, [&[0x80, 0x01][..], &[0xff; 9], &[0x01]].concat());
        assert_eq!(Message::new().float(2, 1.0).0, [0x15, 0, 0, 0x80, 0x3f]);
        assert_eq!(Message::new().double(1, -2.0).0, [0x09, 0, 0, 0, 0, 0, 0, 0, 0xc0]);
        assert_eq!(Message::new().doubles(6, &[-2.0]).0, [0x32, 8, 0, 0, 0, 0, 0, 0, 0, 0xc0]);
    }
}
