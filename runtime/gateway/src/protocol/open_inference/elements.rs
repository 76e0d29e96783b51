//! JSON arrays to the bytes of a tensor, in one pass and without a tree in between.

use half::{bf16, f16};
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use std::{cell::RefCell, fmt};
use torpor_tensor::{DType, Shape, Tensor};

/// Reads the elements of a tensor from its JSON text, which is known to be valid JSON.
pub(super) fn read(dtype: DType, shape: Shape, json: &str) -> Result<Tensor, String> {
    let Some(expected) = shape.elements() else {
        return Err(torpor_tensor::Error::TooManyElements { shape }.to_string());
    };
    let Some(inside) = json.strip_prefix('[') else { return Err("its `data` must be an array".to_owned()) };
    let nested = shape.rank() > 1 && inside.trim_start().starts_with('[');
    // An element takes two characters at least, so the text bounds what a lying shape could make us reserve.
    let capacity = expected.min(json.len() / 2 + 1);
    let sink = RefCell::new(Sink {
        dtype,
        shape: &shape,
        expected,
        count: 0,
        bytes: Vec::with_capacity(capacity.saturating_mul(dtype.size().unwrap_or(16))),
        fault: None,
    });
    let depth = if nested { shape.rank() } else { 1 };
    let mut json = serde_json::Deserializer::from_str(json);
    let read = Row { sink: &sink, nested, level: 0, depth }.deserialize(&mut json);
    let Sink { count, bytes, fault, .. } = sink.into_inner();
    if read.is_err() {
        // What serde says names a column in a text that the caller never saw.
        let unread =
            || format!("element {count} cannot be read: a number is out of range, or arrays are nested too deep");
        return Err(fault.unwrap_or_else(unread));
    }
    if count != expected {
        return Err(torpor_tensor::Error::ElementCount { shape, expected, actual: count }.to_string());
    }
    Tensor::new(dtype, shape, bytes.into()).map_err(|error| error.to_string())
}

/// Where elements go, and what was wrong with one of them.
struct Sink<'a> {
    dtype: DType,
    shape: &'a Shape,
    expected: usize,
    count: usize,
    bytes: Vec<u8>,
    fault: Option<String>,
}

impl Sink<'_> {
    /// Appends one element, or says that it does not fit.
    fn push<E: Error>(&mut self, element: &Element<'_>) -> Result<(), E> {
        if self.count == self.expected {
            let (shape, expected) = (self.shape, self.expected);
            return self.fail(format!("the shape {shape} asks for {expected} elements, but there are more"));
        }
        if element.append(self.dtype, &mut self.bytes).is_none() {
            let (index, dtype) = (self.count, self.dtype);
            return self.fail(format!("element {index} is {element}, which is no {dtype}"));
        }
        self.count += 1;
        Ok(())
    }

    fn fail<E: Error>(&mut self, fault: String) -> Result<(), E> {
        let error = E::custom(&fault);
        self.fault = Some(fault);
        Err(error)
    }
}

/// An array: of elements at the last level, of arrays above it.
#[derive(Clone, Copy)]
struct Row<'a, 'b> {
    sink: &'a RefCell<Sink<'b>>,
    nested: bool,
    level: usize,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Row<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Row<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensor data")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        if self.level == self.depth {
            return self.wrong(&Element::Array);
        }
        let next = Row { level: self.level + 1, ..self };
        let mut length = 0_u64;
        while array.next_element_seed(next)?.is_some() {
            length += 1;
        }
        let mut sink = self.sink.borrow_mut();
        match sink.shape.dims().get(self.level) {
            Some(&dim) if self.nested && dim != length => {
                let (shape, level) = (sink.shape, self.level);
                sink.fail(format!("a row of dimension {level} must have {dim} elements, as the shape {shape} says"))
            }
            _ => Ok(()),
        }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.element(&Element::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.element(&Element::Signed(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.element(&Element::Unsigned(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.element(&Element::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.element(&Element::Text(value))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.element(&Element::Null)
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, _map: A) -> Result<(), A::Error> {
        self.wrong(&Element::Object)
    }
}

impl Row<'_, '_> {
    fn element<E: Error>(self, element: &Element<'_>) -> Result<(), E> {
        if self.level == self.depth {
            return self.sink.borrow_mut().push(element);
        }
        let mut sink = self.sink.borrow_mut();
        let (index, level) = (sink.count, self.level);
        sink.fail(format!("element {index} is {element} where an array of dimension {level} belongs"))
    }

    fn wrong<E: Error>(self, element: &Element<'_>) -> Result<(), E> {
        let mut sink = self.sink.borrow_mut();
        let (index, dtype) = (sink.count, sink.dtype);
        sink.fail(format!("element {index} is {element}, which is no {dtype}"))
    }
}

/// One element as JSON has it.
enum Element<'a> {
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(&'a str),
    Null,
    Array,
    Object,
}

impl fmt::Display for Element<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Bool(value) => value.fmt(f),
            Element::Signed(value) => value.fmt(f),
            Element::Unsigned(value) => value.fmt(f),
            // `{:?}` keeps large numbers short.
            Element::Float(value) => write!(f, "{value:?}"),
            Element::Text(_) => f.write_str("a string"),
            Element::Null => f.write_str("null"),
            Element::Array => f.write_str("an array"),
            Element::Object => f.write_str("an object"),
        }
    }
}

impl Element<'_> {
    /// Appends the element as `dtype`. `None` where it is not one, or out of its range.
    fn append(&self, dtype: DType, bytes: &mut Vec<u8>) -> Option<()> {
        match dtype {
            DType::Bool => match self {
                Element::Bool(value) => bytes.push(u8::from(*value)),
                _ => return None,
            },
            DType::U8 => bytes.extend(self.integer::<u8>()?.to_le_bytes()),
            DType::U16 => bytes.extend(self.integer::<u16>()?.to_le_bytes()),
            DType::U32 => bytes.extend(self.integer::<u32>()?.to_le_bytes()),
            DType::U64 => bytes.extend(self.integer::<u64>()?.to_le_bytes()),
            DType::I8 => bytes.extend(self.integer::<i8>()?.to_le_bytes()),
            DType::I16 => bytes.extend(self.integer::<i16>()?.to_le_bytes()),
            DType::I32 => bytes.extend(self.integer::<i32>()?.to_le_bytes()),
            DType::I64 => bytes.extend(self.integer::<i64>()?.to_le_bytes()),
            DType::F16 => bytes.extend(finite(f16::from_f64(self.float()?), f16::is_finite)?.to_le_bytes()),
            DType::Bf16 => bytes.extend(finite(bf16::from_f64(self.float()?), bf16::is_finite)?.to_le_bytes()),
            DType::F32 => bytes.extend(finite(narrow(self.float()?), f32::is_finite)?.to_le_bytes()),
            DType::F64 => bytes.extend(self.float()?.to_le_bytes()),
            DType::Bytes => match self {
                Element::Text(text) => {
                    bytes.extend(u32::try_from(text.len()).ok()?.to_le_bytes());
                    bytes.extend(text.as_bytes());
                }
                _ => return None,
            },
        }
        Some(())
    }

    fn integer<T: TryFrom<i64> + TryFrom<u64>>(&self) -> Option<T> {
        match self {
            Element::Signed(value) => T::try_from(*value).ok(),
            Element::Unsigned(value) => T::try_from(*value).ok(),
            _ => None,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a JSON integer in a float tensor means the nearest float")]
    fn float(&self) -> Option<f64> {
        match self {
            Element::Signed(value) => Some(*value as f64),
            Element::Unsigned(value) => Some(*value as f64),
            Element::Float(value) => Some(*value),
            _ => None,
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a JSON number in an FP32 tensor means the nearest FP32")]
fn narrow(value: f64) -> f32 {
    value as f32
}

/// JSON has no infinity, so one can only be a number that was too large.
fn finite<T: Copy>(value: T, is_finite: impl Fn(T) -> bool) -> Option<T> {
    is_finite(value).then_some(value)
}
