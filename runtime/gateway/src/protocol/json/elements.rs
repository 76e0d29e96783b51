//! JSON arrays to the bytes of a tensor, in one pass: each element goes from its characters straight to its place, without a tree,
//! a value or an allocation in between.
//!
//! The allocator puts them where every backend can read them in place; one that did not would cost a copy in the backend.
//!
//! What it takes is JSON to the letter, so that it may read an array before anybody has looked at the rest of the text. An array
//! never nests deeper than the shape, so no text can exhaust the stack.

use super::{
    super::shown,
    element::{Bool, Element, Text},
    text::spaces,
};
use half::{bf16, f16};
use torpor_tensor::{DType, Shape, Tensor};

/// Characters of a wrong number that its caller gets to see again.
const SHOWN: usize = 40;
/// How a string is named in a message.
const STRING: &str = "a string";
/// How an object is named in a message.
const OBJECT: &str = "an object";

/// Reads the elements of a tensor from the array at the beginning of `text`, and returns what follows it, too.
pub(in crate::protocol) fn read(dtype: DType, shape: Shape, text: &str) -> Result<(Tensor, &str), String> {
    let Some(expected) = shape.elements() else {
        return Err(torpor_tensor::Error::TooManyElements { shape }.to_string());
    };
    let Some(inside) = text.strip_prefix('[') else { return Err("its `data` must be an array".to_owned()) };
    let nested = shape.rank() > 1 && spaces(inside.as_bytes()).first() == Some(&b'[');
    let mut reader = Reader {
        rest: inside.as_bytes(),
        dtype,
        form: if nested { Form::Nested(&shape) } else { Form::Flat(&shape) },
        expected,
        depth: if nested { shape.rank() } else { 1 },
        count: 0,
        bytes: Vec::with_capacity(room(dtype, expected, text.len())),
    };
    reader.elements::<Text>()?;
    let Reader { rest, count, bytes, .. } = reader;
    if count != expected {
        return Err(torpor_tensor::Error::ElementCount { shape, expected, actual: count }.to_string());
    }
    let rest = &text[text.len() - rest.len()..];
    let tensor = Tensor::new(dtype, shape, bytes.into()).map_err(|error| error.to_string())?;
    Ok((tensor, rest))
}

/// Bytes to reserve. An element takes two characters at least, so the text bounds what a lying shape could make us take.
fn room(dtype: DType, expected: usize, text: usize) -> usize {
    let elements = expected.min(text / 2 + 1);
    match dtype.size() {
        Some(size) => elements.saturating_mul(size),
        // How long texts are shows when they come; most of them are words.
        None => elements.saturating_mul(16).min(text.saturating_mul(2)),
    }
}

/// How arrays nest.
pub(super) enum Form<'s> {
    /// One array for all dimensions of the shape.
    Flat(&'s Shape),
    /// One array for each dimension of the shape.
    Nested(&'s Shape),
    /// One array for each dimension, whose size is the length of its first array; `None` for those that have had none.
    Found(Vec<Option<u64>>),
}

/// One array while it is read.
pub(super) struct Reader<'t, 's> {
    /// What is not read yet.
    pub(super) rest: &'t [u8],
    pub(super) dtype: DType,
    pub(super) form: Form<'s>,
    pub(super) expected: usize,
    /// How deep arrays nest.
    pub(super) depth: usize,
    /// Elements that were read.
    pub(super) count: usize,
    pub(super) bytes: Vec<u8>,
}

impl Reader<'_, '_> {
    /// Reads the array, whose bracket is read, or the one element where there is none. Texts are read as `T`.
    pub(super) fn elements<T: Element>(&mut self) -> Result<(), String> {
        match self.dtype {
            DType::Bool => self.whole::<Bool>(),
            DType::U8 => self.whole::<u8>(),
            DType::U16 => self.whole::<u16>(),
            DType::U32 => self.whole::<u32>(),
            DType::U64 => self.whole::<u64>(),
            DType::I8 => self.whole::<i8>(),
            DType::I16 => self.whole::<i16>(),
            DType::I32 => self.whole::<i32>(),
            DType::I64 => self.whole::<i64>(),
            DType::F16 => self.whole::<f16>(),
            DType::Bf16 => self.whole::<bf16>(),
            DType::F32 => self.whole::<f32>(),
            DType::F64 => self.whole::<f64>(),
            DType::Bytes => self.whole::<T>(),
        }
    }

    fn whole<E: Element>(&mut self) -> Result<(), String> {
        if self.depth > 0 {
            return self.array::<E>(0);
        }
        let ends = |rest: &&[u8]| matches!(spaces(rest).first(), None | Some(b',' | b']' | b'}'));
        let Some(rest) = E::read(self.rest, &mut self.bytes).filter(ends) else {
            return Err(format!("it is {}, which is no {}", self.wrong(self.rest), self.dtype));
        };
        self.rest = rest;
        Ok(())
    }

    /// Reads an array up to its end: of elements at the last level, of arrays above it. Its bracket is read.
    fn array<E: Element>(&mut self, level: usize) -> Result<(), String> {
        self.rest = spaces(self.rest);
        let length = match self.rest.split_first() {
            Some((b']', rest)) => {
                self.rest = rest;
                0
            }
            _ if level + 1 == self.depth => self.row::<E>()?,
            _ => self.arrays::<E>(level + 1)?,
        };
        match &mut self.form {
            Form::Flat(_) => Ok(()),
            Form::Nested(shape) => match shape.dims().get(level) {
                Some(&dim) if dim != length => {
                    Err(format!("a row of dimension {level} must have {dim} elements, as the shape {shape} says"))
                }
                _ => Ok(()),
            },
            Form::Found(dims) => match dims[level].replace(length) {
                Some(dim) if dim != length => {
                    Err(format!("a row of dimension {level} has {length} elements, but those before it have {dim}"))
                }
                _ => Ok(()),
            },
        }
    }

    /// Reads the arrays of one that is not empty, and returns how many they were.
    fn arrays<E: Element>(&mut self, level: usize) -> Result<u64, String> {
        let mut length = 0;
        loop {
            let Some((b'[', inside)) = self.rest.split_first() else {
                let (index, element) = (self.count, described(self.rest));
                return Err(format!("element {index} is {element} where an array of dimension {level} belongs"));
            };
            self.rest = inside;
            self.array::<E>(level)?;
            length += 1;
            match spaces(self.rest).split_first() {
                Some((b',', rest)) => self.rest = spaces(rest),
                Some((b']', rest)) => {
                    self.rest = rest;
                    return Ok(length);
                }
                _ => return Err(self.broken()),
            }
        }
    }

    /// Reads the elements of an array that is not empty, and returns how many they were.
    fn row<E: Element>(&mut self) -> Result<u64, String> {
        let mut rest = self.rest;
        let left = self.expected - self.count;
        let mut length = 0;
        loop {
            let element = rest;
            if length == left {
                self.count += length;
                return Err(self.too_many(element));
            }
            let after = E::read(element, &mut self.bytes).map(spaces).and_then(<[u8]>::split_first);
            match after {
                Some((b',', next)) => {
                    length += 1;
                    rest = spaces(next);
                }
                Some((b']', next)) => {
                    length += 1;
                    self.count += length;
                    self.rest = next;
                    return Ok(length as u64);
                }
                // A number that goes on is none of this type either: `1.5` is no INT32.
                _ => {
                    self.count += length;
                    let (index, dtype) = (self.count, self.dtype);
                    return Err(format!("element {index} is {}, which is no {dtype}", self.wrong(element)));
                }
            }
        }
    }

    fn too_many(&self, next: &[u8]) -> String {
        let (index, expected, dtype) = (self.count, self.expected, self.dtype);
        match (next.first(), &self.form) {
            (Some(b'[' | b'{'), _) | (_, Form::Found(_)) => {
                format!("element {index} is {}, which is no {dtype}", described(next))
            }
            (_, Form::Flat(shape) | Form::Nested(shape)) => {
                format!("the shape {shape} asks for {expected} elements, but there are more")
            }
        }
    }

    /// What stands where an element belongs, in words.
    fn wrong(&self, text: &[u8]) -> String {
        match (described(text), self.dtype, &self.form) {
            // Nothing else is wrong with a string in valid JSON.
            (text, DType::Bytes, _) if text == STRING => format!("{text} with half of a character"),
            (text, DType::Bytes, Form::Found(_)) if text == OBJECT => format!("{text} without base64 in `b64` alone"),
            (text, _, _) => text,
        }
    }

    fn broken(&self) -> String {
        format!("there is neither a comma nor an end of its array behind element {}", self.count.saturating_sub(1))
    }
}

/// What stands at the beginning of `text`, for who sent it.
fn described(text: &[u8]) -> String {
    let long = text.iter().position(|byte| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n'));
    match text.first() {
        Some(b'"') => STRING.to_owned(),
        Some(b'[') => "an array".to_owned(),
        // Everything was sent that there is.
        None => "nothing".to_owned(),
        Some(b'{') => OBJECT.to_owned(),
        _ => {
            let word = &text[..long.unwrap_or(text.len())];
            let more = if word.len() > SHOWN { "…" } else { "" };
            format!("{}{more}", shown(&String::from_utf8_lossy(&word[..word.len().min(SHOWN)])))
        }
    }
}
