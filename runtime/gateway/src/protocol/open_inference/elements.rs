//! JSON arrays to the bytes of a tensor, in one pass: each element goes from its characters straight to its place, without a tree,
//! a value or an allocation in between.
//!
//! The allocator puts them where every backend can read them in place; one that did not would cost a copy in the backend.
//!
//! What it takes is JSON to the letter, so that it may read an array before anybody has looked at the rest of the text. An array
//! never nests deeper than the shape, so no text can exhaust the stack.

use super::text::{spaces, string};
use half::{bf16, f16};
use torpor_tensor::{DType, Shape, Tensor};

/// Characters of a wrong number that its caller gets to see again.
const SHOWN: usize = 40;
/// How a string is named in a message.
const STRING: &str = "a string";

/// Reads the elements of a tensor from the array at the beginning of `text`, and returns what follows it, too.
pub(super) fn read(dtype: DType, shape: Shape, text: &str) -> Result<(Tensor, &str), String> {
    let Some(expected) = shape.elements() else {
        return Err(torpor_tensor::Error::TooManyElements { shape }.to_string());
    };
    let Some(inside) = text.strip_prefix('[') else { return Err("its `data` must be an array".to_owned()) };
    let nested = shape.rank() > 1 && spaces(inside.as_bytes()).first() == Some(&b'[');
    let mut reader = Reader {
        rest: inside.as_bytes(),
        dtype,
        shape: &shape,
        expected,
        depth: if nested { shape.rank() } else { 1 },
        nested,
        count: 0,
        bytes: Vec::with_capacity(room(dtype, expected, text.len())),
    };
    match dtype {
        DType::Bool => reader.array::<Bool>(0),
        DType::U8 => reader.array::<u8>(0),
        DType::U16 => reader.array::<u16>(0),
        DType::U32 => reader.array::<u32>(0),
        DType::U64 => reader.array::<u64>(0),
        DType::I8 => reader.array::<i8>(0),
        DType::I16 => reader.array::<i16>(0),
        DType::I32 => reader.array::<i32>(0),
        DType::I64 => reader.array::<i64>(0),
        DType::F16 => reader.array::<f16>(0),
        DType::Bf16 => reader.array::<bf16>(0),
        DType::F32 => reader.array::<f32>(0),
        DType::F64 => reader.array::<f64>(0),
        DType::Bytes => reader.array::<Text>(0),
    }?;
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

/// One array while it is read.
struct Reader<'t, 's> {
    /// What is not read yet.
    rest: &'t [u8],
    dtype: DType,
    shape: &'s Shape,
    expected: usize,
    /// Whether there is an array for each dimension, or one for all of them.
    nested: bool,
    /// How deep arrays nest.
    depth: usize,
    /// Elements that were read.
    count: usize,
    bytes: Vec<u8>,
}

impl Reader<'_, '_> {
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
        match self.shape.dims().get(level) {
            Some(&dim) if self.nested && dim != length => {
                let shape = self.shape;
                Err(format!("a row of dimension {level} must have {dim} elements, as the shape {shape} says"))
            }
            _ => Ok(()),
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
                    let element = match described(element) {
                        // Nothing else is wrong with a string in valid JSON.
                        text if dtype == DType::Bytes && text == STRING => format!("{text} with half of a character"),
                        element => element,
                    };
                    return Err(format!("element {index} is {element}, which is no {dtype}"));
                }
            }
        }
    }

    fn too_many(&self, next: &[u8]) -> String {
        let (index, shape, expected, dtype) = (self.count, self.shape, self.expected, self.dtype);
        match next.first() {
            Some(b'[' | b'{') => format!("element {index} is {}, which is no {dtype}", described(next)),
            _ => format!("the shape {shape} asks for {expected} elements, but there are more"),
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
        Some(b'{') => "an object".to_owned(),
        _ => {
            let word = &text[..long.unwrap_or(text.len())];
            let more = if word.len() > SHOWN { "…" } else { "" };
            format!("{}{more}", super::shown(&String::from_utf8_lossy(&word[..word.len().min(SHOWN)])))
        }
    }
}

/// What an element of one datatype looks like in JSON.
trait Element {
    /// Appends the element at the beginning of `text` to `bytes`, and returns what follows it; `None` where there is none of
    /// this type, or one that is out of its range. What follows may still belong to it: the caller looks for its end.
    fn read<'t>(text: &'t [u8], bytes: &mut Vec<u8>) -> Option<&'t [u8]>;
}

/// An element of a `BOOL` tensor.
struct Bool;

impl Element for Bool {
    fn read<'t>(text: &'t [u8], bytes: &mut Vec<u8>) -> Option<&'t [u8]> {
        if let Some(rest) = text.strip_prefix(b"true") {
            bytes.push(1);
            return Some(rest);
        }
        let rest = text.strip_prefix(b"false")?;
        bytes.push(0);
        Some(rest)
    }
}

/// The digits of a whole number as JSON has them.
fn digits(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    let mut length = 0;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value.checked_mul(10)?.checked_add(digit.into())?;
        length += 1;
    }
    // No digits are no number, and JSON has no zeros in front of one.
    if length == 0 || (length > 1 && text[0] == b'0') {
        return None;
    }
    Some((value, &text[length..]))
}

/// Whole numbers: nothing with a point or an exponent, and no `-0`, which is a number of floating point.
macro_rules! whole_numbers {
    (unsigned: $($unsigned:ty),+; signed: $($signed:ty),+) => {
        $(impl Element for $unsigned {
            fn read<'t>(text: &'t [u8], bytes: &mut Vec<u8>) -> Option<&'t [u8]> {
                let (value, rest) = digits(text)?;
                bytes.extend_from_slice(&<$unsigned>::try_from(value).ok()?.to_le_bytes());
                Some(rest)
            }
        })+
        $(impl Element for $signed {
            fn read<'t>(text: &'t [u8], bytes: &mut Vec<u8>) -> Option<&'t [u8]> {
                let (value, rest) = match text.strip_prefix(b"-") {
                    None => {
                        let (value, rest) = digits(text)?;
                        (<$signed>::try_from(value).ok()?, rest)
                    }
                    Some(text) => match digits(text)? {
                        (0, _) => return None,
                        (value, rest) => (<$signed>::try_from(0_i64.checked_sub_unsigned(value)?).ok()?, rest),
                    },
                };
                bytes.extend_from_slice(&value.to_le_bytes());
                Some(rest)
            }
        })+
    };
}

whole_numbers!(unsigned: u8, u16, u32, u64; signed: i8, i16, i32, i64);

/// The nearest floating-point number to a JSON number. `None` where it is too large for any; JSON has no infinity.
fn float<F: fast_float2::FastFloat>(text: &[u8], is_finite: impl Fn(F) -> bool) -> Option<(F, &[u8])> {
    // The library reads what JSON does not have: `inf`, `+1`, `.5`, `5.` and `05`.
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if whole == 0 || (whole > 1 && digits[0] == b'0') {
        return None;
    }
    if let [b'.', behind @ ..] = &digits[whole..]
        && !behind.first().is_some_and(u8::is_ascii_digit)
    {
        return None;
    }
    let (value, length) = fast_float2::parse_partial::<F, _>(text).ok()?;
    is_finite(value).then(|| (value, &text[length..]))
}

impl Element for f64 {
    fn read<'t>(text: &'t [u8], bytes: &mut Vec<u8>) -> Option<&'t [u8]> {
        let (value, rest) = float(text, f64::is_finite)?;
        bytes.extend_from_slice(&value.to_le_bytes());
        Some(rest)
    }
}

impl Element for f32 {
    fn read<'t>(text: &'t [u8], bytes: &mut Vec<u8>) -> Option<&'t [u8]> {
        let (value, rest) = float(text, f32::is_finite)?;
        bytes.extend_from_slice(&value.to_le_bytes());
        Some(rest)
    }
}

/// The formats with 16 bits, which are rounded from the nearest double.
macro_rules! halves {
    ($($half:ty),+) => {
        $(impl Element for $half {
            fn read<'t>(text: &'t [u8], bytes: &mut Vec<u8>) -> Option<&'t [u8]> {
                let (value, rest) = float(text, f64::is_finite)?;
                let value = <$half>::from_f64(value);
                value.is_finite().then(|| bytes.extend_from_slice(&value.to_le_bytes()))?;
                Some(rest)
            }
        })+
    };
}

halves!(f16, bf16);

/// An element of a `BYTES` tensor.
struct Text;

impl Element for Text {
    fn read<'t>(text: &'t [u8], bytes: &mut Vec<u8>) -> Option<&'t [u8]> {
        let inside = text.strip_prefix(b"\"")?;
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        let rest = string(inside, bytes)?;
        let length = u32::try_from(bytes.len() - start - 4).ok()?;
        bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        Some(rest)
    }
}
