//! The wire format of Protocol Buffers, as far as messages with tensors need it.
//!
//! Generated code reads a message into vectors of all that is in it. Many empty fields become a hundred times as large by that, and
//! a tensor's elements are copied from one vector to another. So the requests that carry tensors are read field by field against
//! limits, and their data is sliced; the answers that carry some are written around the data.
//!
//! Source: the encoding document of Protocol Buffers. Groups, which proto3 does not have, are refused.

mod write;

pub(crate) use write::Pieces;
pub(super) use write::field_length;

use super::Malformed;
use bytes::Bytes;
use torpor_tensor::DType;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(&'a [u8; 8]),
    Bytes(&'a [u8]),
    Fixed32(&'a [u8; 4]),
}

/// A message that is none: cut off, or with a field of no known form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

impl From<Broken> for Malformed {
    fn from(_: Broken) -> Self {
        Malformed("the message is cut off, or is none of the kind that the call takes".to_owned())
    }
}

/// The fields of a message, in the order in which they came.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Fields { rest: message }
    }

    /// What follows the head of the first field of this number that has bytes, though there may be fewer of them; `None` if the message
    /// ends before.
    pub(super) fn data_of(mut self, number: u32) -> Option<&'a [u8]> {
        loop {
            let mut rest = self.rest;
            let key = u32::try_from(varint(&mut rest)?).ok()?;
            if key == number << 3 | 2 {
                varint(&mut rest)?;
                return Some(rest);
            }
            self.field()?;
        }
    }

    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let key = u32::try_from(varint(&mut self.rest)?).ok()?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut self.rest)?),
            1 => Value::Fixed64(take(&mut self.rest)?),
            2 => {
                let length = usize::try_from(varint(&mut self.rest)?).ok()?;
                let (bytes, rest) = self.rest.split_at_checked(length)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(take(&mut self.rest)?),
            _ => return None,
        };
        (key >= 8).then_some((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or(Broken))
    }
}

fn take<'a, const SIZE: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; SIZE]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(first)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        // Nine bytes hold 63 bits, so one is left for the tenth.
        if index == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *bytes = &bytes[index + 1..];
            return Some(value);
        }
    }
    None
}

impl<'a> Value<'a> {
    /// The bytes of a field that has some.
    pub(super) fn bytes(self) -> Result<&'a [u8], Broken> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(Broken),
        }
    }

    /// The text of a field that has one. `what` names it to the caller.
    pub(super) fn text(self, what: &str) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed(format!("the {what} is no UTF-8 text")))
    }

    /// The number of a field that is written as one.
    pub(super) fn number(self) -> Result<u64, Broken> {
        match self {
            Value::Varint(number) => Ok(number),
            _ => Err(Broken),
        }
    }

    /// Gives each number of a field that has one, or a pack of some, to `each`.
    pub(super) fn each_number<E: From<Broken>>(self, each: &mut impl FnMut(u64) -> Result<(), E>) -> Result<(), E> {
        match self {
            Value::Varint(number) => each(number),
            Value::Bytes(mut pack) => {
                while !pack.is_empty() {
                    each(varint(&mut pack).ok_or(Broken)?)?;
                }
                Ok(())
            }
            _ => Err(Broken.into()),
        }
    }
}

/// The 32 bits that a number stands for in a field of so many.
fn low_half(number: u64) -> u32 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// How the elements of a repeated field are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Varint,
    Fixed32,
    Fixed64,
    Bytes,
}

/// All elements of one repeated field, which may stand in packs or alone, and in more than one place.
#[derive(Clone, Copy)]
pub(super) struct Repeated<'a> {
    pub(super) message: &'a [u8],
    pub(super) field: u32,
    pub(super) form: Form,
}

impl<'a> Repeated<'a> {
    fn parts(self) -> impl Iterator<Item = Result<Value<'a>, Broken>> {
        Fields::of(self.message).filter_map(move |field| match field {
            Ok((field, value)) => (field == self.field).then_some(Ok(value)),
            Err(broken) => Some(Err(broken)),
        })
    }

    /// How many there are. Allocates nothing.
    pub(super) fn count(self) -> Result<usize, Broken> {
        self.parts().try_fold(0, |count, part| {
            Ok(count
                + match (self.form, part?) {
                    (Form::Varint, Value::Varint(_))
                    | (Form::Fixed32, Value::Fixed32(_))
                    | (Form::Fixed64, Value::Fixed64(_))
                    | (Form::Bytes, Value::Bytes(_)) => 1,
                    // Only the last byte of each has its highest bit clear.
                    (Form::Varint, Value::Bytes(pack)) => pack.iter().filter(|byte| **byte < 0x80).count(),
                    (Form::Fixed32, Value::Bytes(pack)) if pack.len().is_multiple_of(4) => pack.len() / 4,
                    (Form::Fixed64, Value::Bytes(pack)) if pack.len().is_multiple_of(8) => pack.len() / 8,
                    _ => return Err(Broken),
                })
        })
    }

    /// Gives each byte string to `each`.
    pub(super) fn each_bytes(self, mut each: impl FnMut(&'a [u8])) -> Result<(), Broken> {
        self.parts().try_for_each(|part| {
            each(part?.bytes()?);
            Ok(())
        })
    }

    /// Gives each number to `each`.
    fn each_number<E: From<Broken>>(self, mut each: impl FnMut(u64) -> Result<(), E>) -> Result<(), E> {
        self.parts().try_for_each(|part| part?.each_number(&mut each))
    }

    /// The elements as they stand in memory: a part of `whole`, of which the message is one, where that has them in one piece.
    fn fixed(self, whole: &Bytes) -> Result<Bytes, Broken> {
        let pieces = || {
            self.parts().map(|part| {
                Ok(match part? {
                    Value::Bytes(pack) => pack,
                    Value::Fixed32(element) => element.as_slice(),
                    Value::Fixed64(element) => element.as_slice(),
                    Value::Varint(_) => return Err(Broken),
                })
            })
        };
        let mut all = pieces();
        Ok(match (all.next().transpose()?, all.next()) {
            (None, _) => Bytes::new(),
            (Some(only), None) => whole.slice_ref(only),
            _ => {
                let mut data = Vec::new();
                for piece in pieces() {
                    data.extend_from_slice(piece?);
                }
                data.into()
            }
        })
    }

    /// The elements as those of a tensor of `dtype`, which must be `count` and take `size` bytes each: its data. `whole` is what the
    /// message is a part of, and may stay a part of the tensor.
    pub(super) fn elements(self, dtype: DType, count: usize, size: usize, whole: &Bytes) -> Result<Bytes, Malformed> {
        if self.form != Form::Varint {
            return Ok(self.fixed(whole)?);
        }
        let mut data = Vec::with_capacity(count.saturating_mul(size));
        let mut index = 0;
        self.each_number(|number| {
            push(dtype, number, &mut data).ok_or_else(|| {
                Malformed(format!("element {index} is {}, which is no {dtype}", shown(dtype, number)))
            })?;
            index += 1;
            Ok::<_, Malformed>(())
        })?;
        Ok(data.into())
    }
}

/// Appends an element, in its binary form. `None` where it is out of the range of its type.
fn push(dtype: DType, number: u64, data: &mut Vec<u8>) -> Option<()> {
    let half = low_half(number);
    let signed = half.cast_signed();
    match dtype {
        DType::Bool => data.push((number != 0).into()),
        DType::U8 => data.push(half.try_into().ok()?),
        DType::U16 | DType::F16 | DType::Bf16 => data.extend(u16::try_from(half).ok()?.to_le_bytes()),
        DType::U32 => data.extend(half.to_le_bytes()),
        DType::I8 => data.extend(i8::try_from(signed).ok()?.to_le_bytes()),
        DType::I16 => data.extend(i16::try_from(signed).ok()?.to_le_bytes()),
        DType::I32 => data.extend(signed.to_le_bytes()),
        DType::U64 | DType::I64 => data.extend(number.to_le_bytes()),
        // These are not written as numbers of varying length.
        DType::F32 | DType::F64 | DType::Bytes => return None,
    }
    Some(())
}

/// The number as its sender meant it.
fn shown(dtype: DType, number: u64) -> String {
    match dtype {
        DType::I8 | DType::I16 => low_half(number).cast_signed().to_string(),
        _ => low_half(number).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        write::{push_varint, varint_length},
        *,
    };
    use proptest::prelude::*;

    #[test]
    fn what_is_cut_off_or_unknown_is_broken() {
        let broken: [&[u8]; 8] = [
            &[0x08],
            &[0x0a, 2, 0],
            &[0x0d, 0, 0, 0],
            &[0x09, 0, 0, 0, 0, 0, 0, 0],
            // A group, a field without a number, and a key and a number of too many bits.
            &[0x0b, 0x0c],
            &[0x02, 0],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 1, 0],
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        ];
        for message in broken {
            assert!(Fields::of(message).any(|field| field.is_err()), "{message:?}");
            assert!(Fields::of(message).count() <= 2);
        }
    }

    #[test]
    fn elements_may_stand_alone_and_in_packs() {
        let message = [0x08, 1, 0x0a, 3, 2, 0x80, 1, 0x12, 1, 9, 0x08, 3];
        let repeated = Repeated { message: &message, field: 1, form: Form::Varint };
        assert_eq!(repeated.count(), Ok(4));
        let data = repeated.elements(DType::U8, 4, 1, &Bytes::new()).unwrap();
        assert_eq!(data, [1, 2, 128, 3].as_slice());
    }

    #[test]
    fn a_pack_of_fixed_size_is_not_copied() {
        let whole = Bytes::from_static(&[0x0a, 8, 0, 0, 0x80, 0x3f, 0, 0, 0, 0x40]);
        let repeated = Repeated { message: &whole, field: 1, form: Form::Fixed32 };
        assert_eq!(repeated.count(), Ok(2));
        let data = repeated.elements(DType::F32, 2, 4, &whole).unwrap();
        assert_eq!(data.as_ptr(), whole[2..].as_ptr());
        let message = [whole.as_ref(), &[0x0d, 1, 2, 3, 4]].concat();
        let repeated = Repeated { message: &message, field: 1, form: Form::Fixed32 };
        assert_eq!(repeated.elements(DType::F32, 3, 4, &whole).unwrap(), [&whole[2..], &[1, 2, 3, 4]].concat());
    }

    #[test]
    fn data_is_found_before_all_of_it_is_there() {
        let message = [0x0a, 1, b'm', 0x3a, 0x80, 0x20, 7, 7];
        assert_eq!(Fields::of(&message).data_of(7), Some(&[7, 7][..]));
        assert_eq!(Fields::of(&message[..6]).data_of(7), Some(&[][..]));
        for cut in 0..6 {
            assert_eq!(Fields::of(&message[..cut]).data_of(7), None);
        }
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_they_are_written(number in any::<u64>(), shift in 0_u32..64) {
            let number = number >> shift;
            let mut bytes = Vec::new();
            push_varint(&mut bytes, number);
            prop_assert_eq!(bytes.len(), varint_length(number));
            prop_assert_eq!(bytes.len(), prost::length_delimiter_len(usize::try_from(number).unwrap()));
            let mut rest = bytes.as_slice();
            prop_assert_eq!(varint(&mut rest), Some(number));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn no_message_makes_it_panic(message in prop::collection::vec(any::<u8>(), 0..60), field in 1_u32..4) {
            for form in [Form::Varint, Form::Fixed32, Form::Fixed64, Form::Bytes] {
                let repeated = Repeated { message: &message, field, form };
                let _ = repeated.count();
                let _ = repeated.each_bytes(|_| {});
                let whole = Bytes::copy_from_slice(&message);
                let _ = Repeated { message: &whole, field, form }.elements(DType::I16, 0, 2, &whole);
            }
        }
    }
}
