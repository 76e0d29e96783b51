//! What is read and written: tensors of each kind, in a megabyte of JSON as callers write it.

use serde::Serialize;
use torpor::tensor::{DType, NamedTensor, Shape, Tensor};

/// Bytes of JSON in one body, about.
const SIZE: usize = 1_000_000;
/// Elements in one row of nested data.
const ROW: usize = 256;

/// One kind of tensor, in a body of about [`SIZE`] bytes.
pub(crate) struct Text {
    /// What it is, with its datatype first.
    pub(crate) name: &'static str,
    /// The whole request.
    pub(crate) body: String,
    /// The same request with `data` before what tells how to read it.
    pub(crate) turned: String,
    /// The array of the request, alone.
    pub(crate) array: String,
    /// What the request has to become.
    pub(crate) tensors: Vec<NamedTensor>,
    /// The same by serde_json.
    pub(crate) plain: Plain,
}

/// Elements as a program without a tensor would hold them.
pub(crate) enum Plain {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U8(Vec<u8>),
    Bool(Vec<bool>),
    Text(Vec<String>),
}

/// How elements stand in a text.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// One array, without spaces.
    Flat,
    /// One array with a space behind each comma, as Python's `json.dumps` writes it.
    Spaced,
    /// Rows in an array.
    Nested,
}

/// Every kind that is measured.
pub(crate) fn all() -> Vec<Text> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut texts = Vec::new();
    let doubles: Vec<f64> = (0..SIZE / 20).map(|_| random.unit() * 2.0 - 1.0).collect();
    texts.push(text("FP64, 17 digits", Form::Flat, &shortest(&doubles), Plain::F64(doubles.clone())));
    // Python has no single precision, so what numpy gives it is printed with all the digits that tell doubles apart.
    let singles: Vec<f32> = doubles.iter().map(|&value| narrow(value)).collect();
    let widened: Vec<f64> = singles.iter().map(|&value| f64::from(value)).collect();
    texts.push(text("FP32 as Python prints it", Form::Spaced, &shortest(&widened), Plain::F32(singles)));
    let singles: Vec<f32> = (0..SIZE / 12).map(|_| narrow(random.unit() * 2.0 - 1.0)).collect();
    texts.push(text("FP32, shortest", Form::Flat, &shortest(&singles), Plain::F32(singles.clone())));
    let rounded: Vec<f32> = (0..SIZE / 9).map(|_| narrow((random.unit() * 1e4).round() / 1e4)).collect();
    texts.push(text("FP32, 4 decimals, nested", Form::Nested, &shortest(&rounded), Plain::F32(rounded.clone())));
    let ids: Vec<i64> = (0..SIZE / 6).map(|_| random.below(30_522).into()).collect();
    texts.push(text("INT64, token ids", Form::Flat, &shortest(&ids), Plain::I64(ids.clone())));
    let numbers: Vec<i32> = (0..SIZE / 11).map(|_| random.below(u32::MAX).cast_signed()).collect();
    texts.push(text("INT32, all of its range", Form::Flat, &shortest(&numbers), Plain::I32(numbers.clone())));
    let pixels: Vec<u8> = (0..SIZE / 4).map(|_| u8::try_from(random.below(256)).unwrap_or_default()).collect();
    texts.push(text("UINT8, pixels, nested", Form::Nested, &shortest(&pixels), Plain::U8(pixels.clone())));
    let bools: Vec<bool> = (0..SIZE / 6).map(|_| random.below(2) == 1).collect();
    texts.push(text("BOOL", Form::Flat, &shortest(&bools), Plain::Bool(bools.clone())));
    let words: Vec<String> = (0..SIZE / 12).map(|_| random.word()).collect();
    texts.push(text("BYTES, words", Form::Flat, &shortest(&words), Plain::Text(words.clone())));
    let pages: Vec<String> = (0..SIZE / 2_100).map(|_| random.page()).collect();
    texts.push(text("BYTES, pages with escapes", Form::Flat, &shortest(&pages), Plain::Text(pages.clone())));
    texts
}

/// Each element as JSON, with as many digits as tell it from its neighbours.
fn shortest<T: Serialize>(elements: &[T]) -> Vec<String> {
    elements.iter().map(|element| serde_json::to_string(element).unwrap_or_default()).collect()
}

fn text(name: &'static str, form: Form, elements: &[String], mut plain: Plain) -> Text {
    let count = if form == Form::Nested { elements.len() / ROW * ROW } else { elements.len() };
    plain.truncate(count);
    let elements = &elements[..count];
    let (shape, array) = match form {
        Form::Flat => (vec![count as u64], format!("[{}]", elements.join(","))),
        Form::Spaced => (vec![count as u64], format!("[{}]", elements.join(", "))),
        Form::Nested => {
            let rows: Vec<String> = elements.chunks(ROW).map(|row| format!("[{}]", row.join(","))).collect();
            (vec![(count / ROW) as u64, ROW as u64], format!("[{}]", rows.join(",")))
        }
    };
    let datatype = plain.dtype().name();
    let head = format!(r#""name":"x","shape":{shape:?},"datatype":"{datatype}""#);
    Text {
        name,
        body: format!(r#"{{"inputs":[{{{head},"data":{array}}}]}}"#),
        turned: format!(r#"{{"inputs":[{{"data":{array},{head}}}]}}"#),
        array,
        tensors: vec![("x".to_owned(), plain.tensor(shape.into()))],
        plain,
    }
}

impl Plain {
    fn dtype(&self) -> DType {
        match self {
            Plain::F32(_) => DType::F32,
            Plain::F64(_) => DType::F64,
            Plain::I32(_) => DType::I32,
            Plain::I64(_) => DType::I64,
            Plain::U8(_) => DType::U8,
            Plain::Bool(_) => DType::Bool,
            Plain::Text(_) => DType::Bytes,
        }
    }

    fn truncate(&mut self, count: usize) {
        match self {
            Plain::F32(values) => values.truncate(count),
            Plain::F64(values) => values.truncate(count),
            Plain::I32(values) => values.truncate(count),
            Plain::I64(values) => values.truncate(count),
            Plain::U8(values) => values.truncate(count),
            Plain::Bool(values) => values.truncate(count),
            Plain::Text(values) => values.truncate(count),
        }
    }

    /// # Panics
    /// When `shape` does not fit, which would be a mistake in this file.
    fn tensor(&self, shape: Shape) -> Tensor {
        let data: Vec<u8> = match self {
            Plain::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Plain::F64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Plain::I32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Plain::I64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Plain::U8(values) => values.clone(),
            Plain::Bool(values) => values.iter().map(|&value| u8::from(value)).collect(),
            Plain::Text(values) => return Tensor::from_elements(shape, values).expect("as many as there are texts"),
        };
        Tensor::new(self.dtype(), shape, data.into()).expect("as many as there are elements")
    }
}

/// Numbers that look random and are the same in each run (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `limit`.
    fn below(&mut self, limit: u32) -> u32 {
        u32::try_from((self.next() >> 11) % u64::from(limit)).unwrap_or_default()
    }

    /// From 0 to 1, in steps of 2⁻⁵³.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what a double holds")]
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Three to twelve letters.
    fn word(&mut self) -> String {
        let length = 3 + self.below(10);
        (0..length).map(|_| char::from(b'a' + u8::try_from(self.below(26)).unwrap_or_default())).collect()
    }

    /// Some 2,000 characters in lines, with quotes and letters beyond ASCII.
    fn page(&mut self) -> String {
        let mut page = String::new();
        while page.len() < 2_000 {
            let (one, two) = (self.word(), self.word());
            page += &format!("{one} „{two}“ \"{one}\" {two}, {one} {two} {one} {two} {one} {two} {one} {two}\n");
        }
        page
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the nearest single is what is wanted")]
fn narrow(value: f64) -> f32 {
    value as f32
}
