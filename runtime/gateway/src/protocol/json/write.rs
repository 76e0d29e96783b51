//! Tensors to JSON arrays.

use base64::{Engine, engine::general_purpose::STANDARD};
use half::{bf16, f16};
use serde::{
    Serialize, Serializer,
    ser::{Error, SerializeMap, SerializeSeq},
};
use std::cell::Cell;
use torpor_tensor::{DType, NamedTensor, Tensor};

/// Arrays that a tensor without elements may be written as.
const MAX_EMPTY: u64 = 1 << 16;

/// What becomes of `BYTES`, which JSON has no form for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::protocol) enum Binary {
    /// They are texts; what is none cannot be written.
    Refused,
    /// They are texts, and what is none becomes `{"b64": "…"}`.
    WhereNeeded,
    /// All become `{"b64": "…"}`.
    Always,
}

/// Bytes that the JSON of these tensors has, about: no less than most take, so that it is seldom moved while it grows.
pub(crate) fn size(tensors: &[NamedTensor]) -> usize {
    tensors.iter().map(|(name, tensor)| size_of(name, tensor)).fold(128, usize::saturating_add)
}

/// The same of one tensor.
pub(crate) fn size_of(name: &str, tensor: &Tensor) -> usize {
    // Digits, sign, point and comma of usual elements.
    let width = match tensor.dtype() {
        DType::U8 => 4,
        DType::Bool | DType::I8 => 6,
        DType::U16 | DType::I16 => 7,
        DType::I64 | DType::U64 => 10,
        DType::U32 | DType::I32 | DType::F16 | DType::Bf16 => 12,
        DType::F32 => 13,
        DType::F64 => 21,
        // Quotes and comma take less than the length of an element does, and leave some room for escapes.
        DType::Bytes => return 128 + name.len() + tensor.data().len().saturating_add(tensor.data().len() / 16),
    };
    (128 + name.len()).saturating_add(tensor.elements().saturating_mul(width))
}

/// A tensor's elements as JSON, or one part of them after another.
///
/// A float that is NaN or infinite becomes `null`, since JSON has no word for it. Triton writes `NaN` and `Infinity`, which Python's
/// parsers take, and those of JavaScript, Go, Java and Rust refuse together with the whole answer. Of a `null` tritonclient and numpy
/// make NaN, and other clients see that there is no number. Who needs infinities asks for bytes, which are exact.
pub(in crate::protocol) struct Data<'a> {
    dtype: DType,
    /// The dimensions of what is written at once.
    dims: Dims<'a>,
    /// What is not written yet.
    rest: Cell<&'a [u8]>,
    binary: Binary,
}

#[derive(Clone, Copy)]
enum Dims<'a> {
    /// An array for each dimension.
    Nested(&'a [u64]),
    /// One array of so many elements.
    Flat(usize),
}

impl<'a> Data<'a> {
    /// One array of all elements. `BYTES` must be texts.
    pub(in crate::protocol) fn flat(tensor: &'a Tensor) -> Self {
        Data::new(tensor, Dims::Flat(tensor.elements()), Binary::Refused)
    }

    /// Arrays that nest as the shape says; for a scalar its only element.
    pub(in crate::protocol) fn nested(tensor: &'a Tensor, binary: Binary) -> Self {
        Data::new(tensor, Dims::Nested(tensor.shape().dims()), binary)
    }

    /// What belongs to one index of the first dimension: each time it is written it is the next one. `None` for a scalar, which has no
    /// such dimension.
    pub(in crate::protocol) fn rows(tensor: &'a Tensor, binary: Binary) -> Option<Self> {
        let (_, row) = tensor.shape().dims().split_first()?;
        Some(Data::new(tensor, Dims::Nested(row), binary))
    }

    /// One element: each time it is written it is the next one.
    pub(in crate::protocol) fn each(tensor: &'a Tensor, binary: Binary) -> Self {
        Data::new(tensor, Dims::Nested(&[]), binary)
    }

    fn new(tensor: &'a Tensor, dims: Dims<'a>, binary: Binary) -> Self {
        Data { dtype: tensor.dtype(), dims, rest: Cell::new(tensor.data()), binary }
    }

    /// The next bytes.
    fn take(&self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.get().split_at_checked(length)?;
        self.rest.set(rest);
        Some(taken)
    }

    /// The next numbers, of which each has `SIZE` bytes.
    fn numbers<const SIZE: usize>(&self, count: usize) -> impl ExactSizeIterator<Item = [u8; SIZE]> + use<'a, SIZE> {
        self.take(count.saturating_mul(SIZE)).unwrap_or_default().as_chunks().0.iter().copied()
    }

    /// The next element of `BYTES`.
    fn bytes(&self) -> Option<Bytes<'a>> {
        let (length, _) = self.rest.get().split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        Some(Bytes { element: self.take(length.checked_add(4)?)?.get(4..)?, binary: self.binary })
    }

    fn array<S: Serializer>(&self, count: usize, serializer: S) -> Result<S::Ok, S::Error> {
        match self.dtype {
            DType::Bool => serializer.collect_seq(self.numbers(count).map(|[byte]: [u8; 1]| byte != 0)),
            DType::U8 => serializer.collect_seq(self.numbers(count).map(u8::from_le_bytes)),
            DType::U16 => serializer.collect_seq(self.numbers(count).map(u16::from_le_bytes)),
            DType::U32 => serializer.collect_seq(self.numbers(count).map(u32::from_le_bytes)),
            DType::U64 => serializer.collect_seq(self.numbers(count).map(u64::from_le_bytes)),
            DType::I8 => serializer.collect_seq(self.numbers(count).map(i8::from_le_bytes)),
            DType::I16 => serializer.collect_seq(self.numbers(count).map(i16::from_le_bytes)),
            DType::I32 => serializer.collect_seq(self.numbers(count).map(i32::from_le_bytes)),
            DType::I64 => serializer.collect_seq(self.numbers(count).map(i64::from_le_bytes)),
            DType::F16 => serializer.collect_seq(self.numbers(count).map(|bytes| f16::from_le_bytes(bytes).to_f32())),
            DType::Bf16 => serializer.collect_seq(self.numbers(count).map(|bytes| bf16::from_le_bytes(bytes).to_f32())),
            DType::F32 => serializer.collect_seq(self.numbers(count).map(f32::from_le_bytes)),
            DType::F64 => serializer.collect_seq(self.numbers(count).map(f64::from_le_bytes)),
            DType::Bytes => {
                let mut array = serializer.serialize_seq(Some(count))?;
                for _ in 0..count {
                    array.serialize_element(&self.bytes().ok_or_else(cut)?)?;
                }
                array.end()
            }
        }
    }

    fn element<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.dtype {
            DType::Bool => self.number(serializer, |[byte]: [u8; 1]| byte != 0),
            DType::U8 => self.number(serializer, u8::from_le_bytes),
            DType::U16 => self.number(serializer, u16::from_le_bytes),
            DType::U32 => self.number(serializer, u32::from_le_bytes),
            DType::U64 => self.number(serializer, u64::from_le_bytes),
            DType::I8 => self.number(serializer, i8::from_le_bytes),
            DType::I16 => self.number(serializer, i16::from_le_bytes),
            DType::I32 => self.number(serializer, i32::from_le_bytes),
            DType::I64 => self.number(serializer, i64::from_le_bytes),
            DType::F16 => self.number(serializer, |bytes| f16::from_le_bytes(bytes).to_f32()),
            DType::Bf16 => self.number(serializer, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            DType::F32 => self.number(serializer, f32::from_le_bytes),
            DType::F64 => self.number(serializer, f64::from_le_bytes),
            DType::Bytes => self.bytes().ok_or_else(cut)?.serialize(serializer),
        }
    }

    fn number<S: Serializer, T: Serialize, const SIZE: usize>(
        &self,
        serializer: S,
        value: impl Fn([u8; SIZE]) -> T,
    ) -> Result<S::Ok, S::Error> {
        value(self.numbers(1).next().ok_or_else(cut)?).serialize(serializer)
    }
}

/// A tensor has the elements that its shape says.
fn cut<E: Error>() -> E {
    E::custom("the tensor is cut short")
}

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.dims {
            Dims::Flat(count) => self.array(count, serializer),
            Dims::Nested(dims) => Part { data: self, dims }.serialize(serializer),
        }
    }
}

/// The next elements of some data, as many as `dims` say.
struct Part<'d, 'a> {
    data: &'d Data<'a>,
    dims: &'d [u64],
}

impl Serialize for Part<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some((&length, inner)) = self.dims.split_first() else { return self.data.element(serializer) };
        if let Some(arrays) = self.dims.iter().position(|&dim| dim == 0)
            && self.dims[..arrays]
                .iter()
                .try_fold(1_u64, |product, dim| product.checked_mul(*dim))
                .is_none_or(|n| n > MAX_EMPTY)
        {
            return Err(S::Error::custom("a tensor without elements has too many rows"));
        }
        // What has elements has no more of them than an address can count.
        let length = usize::try_from(length).map_err(S::Error::custom)?;
        if inner.is_empty() {
            return self.data.array(length, serializer);
        }
        let mut array = serializer.serialize_seq(Some(length))?;
        for _ in 0..length {
            array.serialize_element(&Part { data: self.data, dims: inner })?;
        }
        array.end()
    }
}

/// One element of `BYTES`.
struct Bytes<'a> {
    element: &'a [u8],
    binary: Binary,
}

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (std::str::from_utf8(self.element), self.binary) {
            (Ok(text), Binary::Refused | Binary::WhereNeeded) => serializer.serialize_str(text),
            (Err(error), Binary::Refused) => Err(S::Error::custom(error)),
            (Err(_), Binary::WhereNeeded) | (_, Binary::Always) => {
                let mut object = serializer.serialize_map(Some(1))?;
                object.serialize_entry("b64", &STANDARD.encode(self.element))?;
                object.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::values::Values;
    use super::*;
    use proptest::prelude::*;
    use torpor_tensor::Shape;

    fn text(data: &Data<'_>) -> String {
        serde_json::to_string(data).unwrap()
    }

    fn numbers(dims: &[u64], numbers: &[i32]) -> Tensor {
        let data: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        Tensor::new(DType::I32, Shape::from(dims), data.into()).unwrap()
    }

    #[test]
    fn arrays_nest_as_the_shape_does() {
        let tensor = numbers(&[2, 1, 2], &[1, 2, 3, 4]);
        assert_eq!(text(&Data::nested(&tensor, Binary::Refused)), "[[[1,2]],[[3,4]]]");
        assert_eq!(text(&Data::flat(&tensor)), "[1,2,3,4]");
        let rows = Data::rows(&tensor, Binary::Refused).unwrap();
        assert_eq!([text(&rows), text(&rows)], ["[[1,2]]", "[[3,4]]"]);
        assert_eq!(text(&Data::nested(&numbers(&[], &[7]), Binary::Refused)), "7");
        assert!(Data::rows(&numbers(&[], &[7]), Binary::Refused).is_none());
        let column = numbers(&[2], &[5, 6]);
        let rows = Data::rows(&column, Binary::Refused).unwrap();
        assert_eq!([text(&rows), text(&rows)], ["5", "6"]);
    }

    #[test]
    fn what_is_empty_is_written_and_does_not_grow() {
        assert_eq!(text(&Data::nested(&numbers(&[2, 0], &[]), Binary::Refused)), "[[],[]]");
        assert_eq!(text(&Data::nested(&numbers(&[0, 5], &[]), Binary::Refused)), "[]");
        let large = numbers(&[1 << 40, 0], &[]);
        assert!(serde_json::to_string(&Data::nested(&large, Binary::Refused)).is_err());
    }

    #[test]
    fn bytes_that_are_no_text_are_base64() {
        let tensor = Tensor::from_elements([2].into(), &[&b"hi"[..], &[0xff, 0]]).unwrap();
        assert!(serde_json::to_string(&Data::nested(&tensor, Binary::Refused)).is_err());
        assert_eq!(text(&Data::nested(&tensor, Binary::WhereNeeded)), r#"["hi",{"b64":"/wA="}]"#);
        assert_eq!(text(&Data::nested(&tensor, Binary::Always)), r#"[{"b64":"aGk="},{"b64":"/wA="}]"#);
        let rows = Data::rows(&tensor, Binary::WhereNeeded).unwrap();
        assert_eq!([text(&rows), text(&rows)], [r#""hi""#, r#"{"b64":"/wA="}"#]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            dims in prop::collection::vec(1_u64..4, 0..4),
            elements in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), 27),
            binary in prop_oneof![Just(Binary::WhereNeeded), Just(Binary::Always)],
        ) {
            let shape = Shape::from(dims);
            let count = shape.elements().unwrap();
            let tensor = Tensor::from_elements(shape, &elements[..count]).unwrap();
            let mut values = Values::new(DType::Bytes);
            values.push(&text(&Data::nested(&tensor, binary))).unwrap();
            prop_assert_eq!(values.one().unwrap(), tensor);
        }
    }
}
