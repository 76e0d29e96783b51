//! The inputs and outputs that an ONNX model declares, read from its file without a library.
//!
//! Weights are stepped over, so that a large model takes no more memory than a small one.

use super::Refused;
use std::{
    collections::HashSet,
    io::{self, BufRead, BufReader, Read, Seek},
};
use torpor_tensor::{DType, Dim, Signature, TensorSpec};

/// The longest name of a tensor or of a dimension that is read.
const MAX_NAME: u64 = 64 * 1024;

/// Reads what the model in `file` declares, without the inputs for which it has a value itself. `None` where an input or output is
/// no tensor, or has elements of a type that this crate does not know.
///
/// # Errors
/// When the file cannot be read, or holds no ONNX model.
pub fn declared(file: impl Read + Seek) -> io::Result<Option<Signature>> {
    let mut reader = BufReader::new(file);
    let end = reader.seek(io::SeekFrom::End(0))?;
    reader.rewind()?;
    let mut reader = Reader { file: reader, at: 0 };
    let mut graph = Graph::default();
    reader.each(end, |reader, number, value| match (number, value) {
        (7, Value::Nested(end)) => graph.read(reader, end),
        _ => Ok(()),
    })?;
    let Graph { inputs, outputs, values } = graph;
    let (Some(mut inputs), Some(outputs)) = (inputs.known(), outputs.known()) else { return Ok(None) };
    inputs.retain(|input| !values.contains(&input.name));
    Ok(Some(Signature { inputs, outputs }))
}

#[derive(Default)]
struct Graph {
    inputs: Outlets,
    outputs: Outlets,
    /// The names of what it has values for.
    values: HashSet<String>,
}

impl Graph {
    fn read<R: Read + Seek>(&mut self, reader: &mut Reader<R>, end: u64) -> io::Result<()> {
        reader.each(end, |reader, number, value| {
            let Value::Nested(end) = value else { return Ok(()) };
            match number {
                5 => drop(self.values.insert(name(reader, end, 8)?)),
                // A sparse tensor is named by the tensor of its values.
                15 => reader.each(end, |reader, number, value| {
                    if let (1, Value::Nested(end)) = (number, value) {
                        self.values.insert(name(reader, end, 8)?);
                    }
                    Ok(())
                })?,
                11 => self.inputs.0.push(outlet(reader, end)?),
                12 => self.outputs.0.push(outlet(reader, end)?),
                _ => {}
            }
            Ok(())
        })
    }
}

/// Inputs or outputs, `None` for those of other kinds.
#[derive(Default)]
struct Outlets(Vec<Option<TensorSpec>>);

impl Outlets {
    fn known(self) -> Option<Vec<TensorSpec>> {
        self.0.into_iter().collect()
    }
}

/// The text in a field of a message that is otherwise of no interest.
fn name<R: Read + Seek>(reader: &mut Reader<R>, end: u64, field: u32) -> io::Result<String> {
    let mut name = String::new();
    reader.each(end, |reader, number, value| {
        if let (true, Value::Nested(end)) = (number == field, value) {
            name = reader.text(end)?;
        }
        Ok(())
    })?;
    Ok(name)
}

/// A `ValueInfoProto`.
fn outlet<R: Read + Seek>(reader: &mut Reader<R>, end: u64) -> io::Result<Option<TensorSpec>> {
    let (mut name, mut tensor) = (String::new(), None);
    reader.each(end, |reader, number, value| {
        match (number, value) {
            (1, Value::Nested(end)) => name = reader.text(end)?,
            // A `TypeProto`, of which the first kind is a tensor.
            (2, Value::Nested(end)) => reader.each(end, |reader, number, value| {
                if let (1, Value::Nested(end)) = (number, value) {
                    tensor = Some(tensor_type(reader, end)?);
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    let Some((Some(dtype), shape)) = tensor else { return Ok(None) };
    Ok(Some(TensorSpec { name, dtype, shape }))
}

/// A `TypeProto.Tensor`.
fn tensor_type<R: Read + Seek>(reader: &mut Reader<R>, end: u64) -> io::Result<(Option<DType>, Option<Vec<Dim>>)> {
    let (mut elements, mut shape) = (None, None);
    reader.each(end, |reader, number, value| {
        match (number, value) {
            (1, Value::Varint(number)) => elements = dtype(number),
            (2, Value::Nested(end)) => {
                let dims = shape.get_or_insert_with(Vec::new);
                reader.each(end, |reader, number, value| {
                    if let (1, Value::Nested(end)) = (number, value) {
                        dims.push(dimension(reader, end)?);
                    }
                    Ok(())
                })?;
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok((elements, shape))
}

fn dimension<R: Read + Seek>(reader: &mut Reader<R>, end: u64) -> io::Result<Dim> {
    let mut dim = Dim::Any;
    reader.each(end, |reader, number, value| {
        match (number, value) {
            // What is below zero as a signed number is no size.
            (1, Value::Varint(size)) if i64::try_from(size).is_ok() => dim = Dim::Fixed(size),
            (2, Value::Nested(end)) => {
                let name = reader.text(end)?;
                if !name.is_empty() {
                    dim = Dim::Named(name.into());
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(dim)
}

/// The element types by their numbers in `onnx.proto`.
fn dtype(number: u64) -> Option<DType> {
    Some(match number {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        8 => DType::Bytes,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::Bf16,
        _ => return None,
    })
}

/// Reads protocol buffers from a file, of which it knows the place.
struct Reader<R> {
    file: BufReader<R>,
    at: u64,
}

/// The value of a field.
enum Value {
    Varint(u64),
    /// A message, a text or bytes, which end there.
    Nested(u64),
    Fixed,
}

impl<R: Read + Seek> Reader<R> {
    /// Calls `field` with each field of the message that ends at `end`. Whatever it leaves unread of one is stepped over.
    fn each(&mut self, end: u64, mut field: impl FnMut(&mut Self, u32, Value) -> io::Result<()>) -> io::Result<()> {
        while self.at < end {
            let tag = u32::try_from(self.varint()?).map_err(|_| malformed())?;
            let (value, length) = match tag & 7 {
                0 => (Value::Varint(self.varint()?), 0),
                1 => (Value::Fixed, 8),
                2 => {
                    let length = self.varint()?;
                    (Value::Nested(self.at.checked_add(length).ok_or_else(malformed)?), length)
                }
                5 => (Value::Fixed, 4),
                _ => return Err(malformed()),
            };
            let after = self.at.checked_add(length).filter(|&after| after <= end).ok_or_else(malformed)?;
            field(self, tag >> 3, value)?;
            let rest = after.checked_sub(self.at).and_then(|rest| i64::try_from(rest).ok()).ok_or_else(malformed)?;
            self.file.seek_relative(rest)?;
            self.at = after;
        }
        if self.at == end { Ok(()) } else { Err(malformed()) }
    }

    fn text(&mut self, end: u64) -> io::Result<String> {
        let length = end.saturating_sub(self.at);
        if length > MAX_NAME {
            return Err(malformed());
        }
        let mut text = String::new();
        let read = self.file.by_ref().take(length).read_to_string(&mut text)?;
        self.at += read as u64;
        if self.at == end { Ok(text) } else { Err(malformed()) }
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 10];
        for index in 0..bytes.len() {
            let Some(&byte) = self.file.fill_buf()?.first() else { return Err(malformed()) };
            self.file.consume(1);
            self.at += 1;
            bytes[index] = byte;
            if byte < 0x80 {
                return super::varint(&mut &bytes[..=index]).map_err(|_| malformed());
            }
        }
        Err(malformed())
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Refused::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    const ADD: &[u8] = include_bytes!("../../../../tests/models/add.onnx");
    const TOKENS: &[u8] = include_bytes!("../../../../tests/models/tokens.onnx");
    const TYPES: &[u8] = include_bytes!("../../../../tests/models/types.onnx");

    fn read(model: &[u8]) -> Signature {
        declared(Cursor::new(model)).unwrap().unwrap()
    }

    fn shown(specs: &[TensorSpec]) -> Vec<String> {
        let shape = |spec: &TensorSpec| spec.shape.iter().flatten().map(Dim::to_string).collect::<Vec<_>>().join(", ");
        specs.iter().map(|spec| format!("{} {} [{}]", spec.name, spec.dtype, shape(spec))).collect()
    }

    #[test]
    fn inputs_and_outputs_are_those_of_the_file() {
        let tokens = read(TOKENS);
        let names = ["input_ids", "attention_mask", "token_type_ids"];
        assert_eq!(shown(&tokens.inputs), names.map(|name| format!("{name} INT64 [batch, sequence]")));
        assert_eq!(shown(&tokens.outputs), ["last_hidden_state FP32 [batch, sequence, 384]"]);
        assert_eq!(read(ADD).inputs.len(), 2);
        assert!(read(TYPES).inputs.iter().any(|spec| spec.dtype == DType::F64));
    }

    #[test]
    fn an_input_with_a_value_is_none_that_a_caller_gives() {
        // graph { initializer { name: "w" } input { name: "w" type { tensor { elem: 1 } } } input { name: "x" … } }
        let input = |name: u8| vec![0x5a, 9, 0x0a, 1, name, 0x12, 4, 0x0a, 2, 8, 1];
        let graph = [&[0x2a, 3, 0x42, 1, b'w'][..], &input(b'w'), &input(b'x')].concat();
        let model = [&[0x3a, u8::try_from(graph.len()).unwrap()][..], &graph].concat();
        assert_eq!(shown(&read(&model).inputs), ["x FP32 []"]);
    }

    #[test]
    fn what_is_cut_short_or_no_model_is_refused() {
        for bytes in [&ADD[..ADD.len() - 1], b"\x0b", b"\x3a\x05", &[0xff; 11], b"\x0d\x00"] {
            assert_eq!(declared(Cursor::new(bytes)).unwrap_err().kind(), io::ErrorKind::InvalidData, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_damaged_model_is_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut model = TYPES.to_vec();
            let at = at.index(model.len());
            model[at] = byte;
            let _ = declared(Cursor::new(model));
        }
    }
}
