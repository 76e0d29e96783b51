//! Messages that are written around the data of tensors, which is not copied.

use bytes::Bytes;
use prost::Message;

/// Data of fewer bytes is copied between its neighbours, since a piece of its own would cost more.
const SMALL: usize = 4096;

/// A message that is being written: pieces that follow each other, of which large ones are shared with the tensors they come from.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    done: Vec<Bytes>,
    last: Vec<u8>,
}

impl From<Vec<u8>> for Pieces {
    fn from(message: Vec<u8>) -> Self {
        Pieces { done: Vec::new(), last: message }
    }
}

impl Pieces {
    /// Its length in bytes.
    pub(crate) fn length(&self) -> usize {
        self.done.iter().map(Bytes::len).sum::<usize>() + self.last.len()
    }

    /// All of it, in order.
    pub(crate) fn into_pieces(mut self) -> Vec<Bytes> {
        self.finish_last();
        self.done
    }

    /// The message in one piece.
    #[cfg(test)]
    pub(crate) fn into_bytes(self) -> Bytes {
        let mut pieces = self.into_pieces();
        if pieces.len() == 1 { pieces.swap_remove(0) } else { pieces.concat().into() }
    }

    /// Puts `bytes` before all else, which is how what frames or wraps a message is written.
    pub(crate) fn prefixed(mut self, bytes: &[u8]) -> Self {
        match self.done.first() {
            // Nothing is shared, so nothing large is moved.
            None => drop(self.last.splice(0..0, bytes.iter().copied())),
            Some(first) if first.len() < SMALL => self.done[0] = [bytes, first].concat().into(),
            Some(_) => self.done.insert(0, Bytes::copy_from_slice(bytes)),
        }
        self
    }

    fn finish_last(&mut self) {
        if !self.last.is_empty() {
            self.done.push(std::mem::take(&mut self.last).into());
        }
    }

    fn key(&mut self, field: u32, wire_type: u32) {
        push_varint(&mut self.last, u64::from(field << 3 | wire_type));
    }

    /// Begins a field of `length` bytes, which have to follow.
    pub(in crate::protocol) fn open(&mut self, field: u32, length: usize) {
        self.key(field, 2);
        push_varint(&mut self.last, length as u64);
    }

    /// A text, unless it is empty, as proto3 has it.
    pub(in crate::protocol) fn text(&mut self, field: u32, text: &str) {
        if !text.is_empty() {
            self.open(field, text.len());
            self.last.extend_from_slice(text.as_bytes());
        }
    }

    pub(in crate::protocol) fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.open(field, bytes.len());
        self.last.extend_from_slice(bytes);
    }

    /// A message that generated code writes.
    pub(in crate::protocol) fn message(&mut self, field: u32, message: &impl Message) {
        self.open(field, message.encoded_len());
        self.last.extend_from_slice(&message.encode_to_vec());
    }

    pub(in crate::protocol) fn number(&mut self, field: u32, number: u64) {
        self.key(field, 0);
        push_varint(&mut self.last, number);
    }

    /// Numbers in one pack.
    pub(in crate::protocol) fn numbers(&mut self, field: u32, numbers: impl Iterator<Item = u64> + Clone) {
        self.open(field, numbers.clone().map(varint_length).sum());
        numbers.for_each(|number| push_varint(&mut self.last, number));
    }

    /// Bytes that are not copied if they are many.
    pub(in crate::protocol) fn data(&mut self, field: u32, data: &Bytes) {
        self.open(field, data.len());
        if data.len() < SMALL {
            self.last.extend_from_slice(data);
        } else {
            self.finish_last();
            self.done.push(data.clone());
        }
    }

    /// All of another message's pieces.
    pub(in crate::protocol) fn append(&mut self, other: Pieces) {
        if other.done.is_empty() {
            self.last.extend_from_slice(&other.last);
        } else {
            self.finish_last();
            self.done.extend(other.done);
            self.last = other.last;
        }
    }
}

/// Bytes that a field of `length` bytes takes with its head.
pub(in crate::protocol) fn field_length(field: u32, length: usize) -> usize {
    varint_length(u64::from(field << 3)) + varint_length(length as u64) + length
}

/// Bytes that a number takes.
pub(super) fn varint_length(number: u64) -> usize {
    // Seven bits in each, and one for 0.
    let bits = (u64::BITS - number.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}

pub(super) fn push_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_data_is_not_copied() {
        let data = Bytes::from(vec![7; SMALL]);
        let mut pieces = Pieces::default();
        pieces.text(1, "");
        pieces.data(2, &data);
        pieces.bytes(3, b"x");
        let pieces = pieces.prefixed(b"head").into_pieces();
        assert_eq!(pieces[0], [b"head".as_slice(), &[0x12, 0x80, 0x20]].concat());
        assert_eq!(pieces[1].as_ptr(), data.as_ptr());
        assert_eq!(pieces[2], [0x1a, 1, b'x'].as_slice());
    }
}
