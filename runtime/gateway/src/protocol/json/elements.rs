//! JSON arrays to the bytes of a tensor, in one pass: each element goes from its characters straight to its place, without a tree,
//! a value or an allocation in between.
//!
//! The allocator puts them where every backend can read them in place; one that did not would cost a copy in the backend.
//!
//! What it takes is JSON to the letter, so that it may read an array before anybody has looked at the rest of the text. An array
//! never nests deeper than the shape, so no text can exhaust the stack.

use super::{
    super::{MAX_RANK, shown},
    text::{plain, spaces, string},
};
use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use half::{bf16, f16};
use torpor_tensor::{DType, Shape, Tensor};

/// Characters of a wrong number that its caller gets to see again.
const SHOWN: usize = 40;
/// How a string is named in a message.
const STRING: &str = "a string";
/// How an object is named in a message.
const OBJECT: &str = "an object";
/// The usual alphabet; what fills up the last group may be left out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

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

/// The elements of values that have one element type and one shape, which nobody has told: it is how the first of them nests. Those of
/// `BYTES` are strings, or objects such as `{"b64": "aGk="}` for bytes that are no text.
#[derive(Debug)]
pub(in crate::protocol) struct Values {
    dtype: DType,
    /// The size of each dimension of a value; `None` before the first one.
    dims: Option<Vec<u64>>,
    count: u64,
    bytes: Vec<u8>,
}

impl Values {
    pub(in crate::protocol) fn new(dtype: DType) -> Self {
        Values { dtype, dims: None, count: 0, bytes: Vec::new() }
    }

    /// Reads the value at the beginning of `text`, and returns what follows it.
    pub(in crate::protocol) fn push<'t>(&mut self, text: &'t str) -> Result<&'t str, String> {
        let (depth, inside) = opened(text.as_bytes())?;
        if let Some(dims) = &self.dims
            && dims.len() != depth
        {
            let rank = dims.len();
            return Err(format!("its arrays nest {depth} deep, but those of the values before it {rank} deep"));
        }
        let dims =
            self.dims.as_ref().map_or_else(|| vec![None; depth], |dims| dims.iter().copied().map(Some).collect());
        let mut reader = Reader {
            rest: inside,
            dtype: self.dtype,
            form: Form::Found(dims),
            expected: usize::MAX,
            depth,
            count: 0,
            bytes: std::mem::take(&mut self.bytes),
        };
        reader.elements::<Blob>()?;
        let Reader { rest, form, bytes, .. } = reader;
        if let Form::Found(dims) = form {
            // Each level has had an array that ended.
            self.dims = Some(dims.into_iter().map(Option::unwrap_or_default).collect());
        }
        (self.count, self.bytes) = (self.count + 1, bytes);
        Ok(&text[text.len() - rest.len()..])
    }

    /// Adds a value that is one element of `BYTES`.
    pub(in crate::protocol) fn push_bytes(&mut self, element: &[u8]) -> Result<(), String> {
        let length = u32::try_from(element.len()).map_err(|_| torpor_tensor::Error::ElementTooLong.to_string())?;
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(element);
        (self.count, self.dims) = (self.count + 1, Some(Vec::new()));
        Ok(())
    }

    /// The size of each dimension of a value; `None` before the first one.
    pub(in crate::protocol) fn dims(&self) -> Option<&[u64]> {
        self.dims.as_deref()
    }

    /// How many there are.
    pub(in crate::protocol) fn count(&self) -> u64 {
        self.count
    }

    /// The only value as a tensor.
    pub(in crate::protocol) fn one(mut self) -> Result<Tensor, String> {
        let dims = self.dims.take().unwrap_or_default();
        self.into_shape(Shape::from(dims))
    }

    /// All values as one tensor, whose first dimension counts them.
    pub(in crate::protocol) fn rows(self) -> Result<Tensor, String> {
        let dims: Vec<u64> = std::iter::once(self.count).chain(self.dims.iter().flatten().copied()).collect();
        self.into_shape(Shape::from(dims))
    }

    /// All elements in another shape, which must have as many.
    pub(in crate::protocol) fn into_shape(self, shape: Shape) -> Result<Tensor, String> {
        Tensor::new(self.dtype, shape, self.bytes.into()).map_err(|error| error.to_string())
    }
}

/// How many arrays begin at the beginning of `text`, and what is inside all of them but the last.
fn opened(text: &[u8]) -> Result<(usize, &[u8]), String> {
    let mut depth = 0;
    let mut rest = spaces(text);
    let first = rest.strip_prefix(b"[").unwrap_or(rest);
    while let Some(inside) = rest.strip_prefix(b"[") {
        depth += 1;
        if depth > MAX_RANK {
            return Err(format!("its arrays nest more than {MAX_RANK} deep"));
        }
        rest = spaces(inside);
    }
    Ok((depth, first))
}

/// How arrays nest.
enum Form<'s> {
    /// One array for all dimensions of the shape.
    Flat(&'s Shape),
    /// One array for each dimension of the shape.
    Nested(&'s Shape),
    /// One array for each dimension, whose size is the length of its first array; `None` for those that have had none.
    Found(Vec<Option<u64>>),
}

/// One array while it is read.
struct Reader<'t, 's> {
    /// What is not read yet.
    rest: &'t [u8],
    dtype: DType,
    form: Form<'s>,
    expected: usize,
    /// How deep arrays nest.
    depth: usize,
    /// Elements that were read.
    count: usize,
    bytes: Vec<u8>,
}

impl Reader<'_, '_> {
    /// Reads the array, whose bracket is read, or the one element where there is none. Texts are read as `T`.
    fn elements<T: Element>(&mut self) -> Result<(), String> {
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

/// An element of a `BYTES` tensor that may come as `{"b64": "…"}`, too.
struct Blob;

impl Element for Blob {
    fn read<'t>(text: &'t [u8], bytes: &mut Vec<u8>) -> Option<&'t [u8]> {
        let Some(inside) = text.strip_prefix(b"{") else { return Text::read(text, bytes) };
        let value = spaces(spaces(inside).strip_prefix(b"\"b64\"")?).strip_prefix(b":")?;
        let value = spaces(value).strip_prefix(b"\"")?;
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        let length = plain(value);
        let rest = if value.get(length) == Some(&b'"') {
            BASE64.decode_vec(&value[..length], bytes).ok()?;
            &value[length + 1..]
        } else {
            // Some writers escape each slash.
            let mut escaped = Vec::new();
            let rest = string(value, &mut escaped)?;
            BASE64.decode_vec(&escaped, bytes).ok()?;
            rest
        };
        let length = u32::try_from(bytes.len() - start - 4).ok()?;
        bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        spaces(rest).strip_prefix(b"}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(dtype: DType, text: &str) -> Result<Tensor, String> {
        let mut values = Values::new(dtype);
        let rest = values.push(text)?;
        assert_eq!(rest.trim_start_matches([' ', ',', ']', '}']), "", "`{text}` is not read to its end");
        values.one()
    }

    #[track_caller]
    fn shape(text: &str, expected: &[u64]) {
        assert_eq!(one(DType::I32, text).unwrap().shape().dims(), expected, "{text}");
    }

    #[track_caller]
    fn wrong(dtype: DType, text: &str, expected: &str) {
        assert_eq!(one(dtype, text).unwrap_err(), expected);
    }

    #[test]
    fn nesting_is_the_shape() {
        shape("7", &[]);
        shape("[]", &[0]);
        shape(" [ 1 , 2 ] ", &[2]);
        shape("[[1],[2],[3]]", &[3, 1]);
        shape("[[], []]", &[2, 0]);
        shape("[[[]]]", &[1, 1, 0]);
        shape("7,", &[]);
        assert_eq!(
            one(DType::I32, "[[1,2],[3,-4]]").unwrap().data(),
            &[1_i32, 2, 3, -4].map(i32::to_le_bytes).concat()
        );
    }

    #[test]
    fn what_has_no_shape_is_refused() {
        wrong(DType::I32, "[[1,2],[3]]", "a row of dimension 1 has 1 elements, but those before it have 2");
        wrong(DType::I32, "[[1],2]", "element 1 is 2 where an array of dimension 1 belongs");
        wrong(DType::I32, "[1,[2]]", "element 1 is an array, which is no INT32");
        wrong(DType::I32, "[[],[1]]", "a row of dimension 1 has 1 elements, but those before it have 0");
        let deep = "[".repeat(200_000);
        wrong(DType::I32, &deep, "its arrays nest more than 32 deep");
        let expected = format!("element 0 is 1{}…, which is no INT32", "[".repeat(39));
        wrong(DType::I32, &format!("[1{deep}"), &expected);
        wrong(DType::F32, "NaN", "it is NaN, which is no FP32");
        wrong(DType::F32, "[1,NaN]", "element 1 is NaN, which is no FP32");
        wrong(DType::I64, "1.5", "it is 1.5, which is no INT64");
        wrong(DType::I64, "", "it is nothing, which is no INT64");
        wrong(DType::F32, "null", "it is null, which is no FP32");
        wrong(DType::F32, r#"{"x":1}"#, "it is an object, which is no FP32");
    }

    #[test]
    fn bytes_are_texts_or_base64() {
        let read = |text: &str| {
            let tensor = one(DType::Bytes, text).unwrap();
            let elements: Vec<Vec<u8>> = tensor.bytes_elements().unwrap().map(<[u8]>::to_vec).collect();
            (tensor.shape().dims().to_vec(), elements)
        };
        assert_eq!(
            read(r#"["hi", { "b64" : "/wA=" }, {"b64":"\/wA"}]"#),
            (vec![3], vec![b"hi".to_vec(), vec![255, 0], vec![255, 0]])
        );
        assert_eq!(read(r#"{"b64":""}"#), (vec![], vec![vec![]]));
        let object = "an object without base64 in `b64` alone, which is no BYTES";
        for text in [r#"{"b64":"!"}"#, r#"{"b64":7}"#, r#"{"b64":"","x":1}"#, r#"{"x":""}"#, "{}", r#"{"b64":"/wB="}"#]
        {
            wrong(DType::Bytes, text, &format!("it is {object}"));
            wrong(DType::Bytes, &format!("[{text}]"), &format!("element 0 is {object}"));
        }
    }

    #[test]
    fn values_have_one_shape() {
        let mut values = Values::new(DType::U8);
        assert_eq!(values.push("[1,2], [3"), Ok(", [3"));
        assert_eq!(values.push("[3]").unwrap_err(), "a row of dimension 0 has 1 elements, but those before it have 2");
        let mut values = Values::new(DType::U8);
        values.push("[1,2]").unwrap();
        assert_eq!(values.push("3").unwrap_err(), "its arrays nest 0 deep, but those of the values before it 1 deep");
        let mut values = Values::new(DType::U8);
        values.push("[1,2]").unwrap();
        values.push("[3,4]").unwrap();
        let tensor = values.rows().unwrap();
        assert_eq!((tensor.shape().dims(), &tensor.data()[..]), (&[2, 2][..], &[1, 2, 3, 4][..]));
        assert_eq!(Values::new(DType::U8).rows().unwrap().shape().dims(), [0]);
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic(text in r#"[\[\]\{\},0-9a-z.\-"+ :]{0,40}"#, dtype in 0..DType::ALL.len()) {
            let mut values = Values::new(DType::ALL[dtype]);
            if values.push(&text).is_ok() {
                let _ = values.push(&text);
                let _ = values.rows();
            }
        }

        #[test]
        fn a_told_and_a_found_shape_read_the_same(rows in 1_u64..5, columns in 1_u64..5, number in any::<i32>()) {
            let row = format!("[{}]", vec![number.to_string(); usize::try_from(columns).unwrap()].join(","));
            let text = format!("[{}]", vec![row; usize::try_from(rows).unwrap()].join(", "));
            let (told, _) = read(DType::I32, Shape::from([rows, columns]), &text).unwrap();
            prop_assert_eq!(one(DType::I32, &text).unwrap(), told);
        }
    }
}
