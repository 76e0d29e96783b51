//! The Open Inference Protocol (version 2) over gRPC, in the form that Triton and its clients give it: the messages with tensors.
//!
//! Source: the protocol's `grpc_predict_v2.proto`, and Triton's extensions of it. Requests have their tensors either in
//! `raw_input_contents` or each in its own `contents`; answers have them raw, as Triton's do. What is not read has no effect, as with
//! Triton: parameters of requests that are about sequences and priorities, and fields that nobody knows.

mod describe;
#[cfg(test)]
mod properties;

pub(crate) use describe::{model_config, model_metadata, model_statistics};

use super::{
    MAX_RANK, MAX_TENSORS, Malformed, check_outputs,
    open_inference::Form as OutputForm,
    proto::inference::{
        InferParameter, ModelInferResponse, infer_parameter::ParameterChoice, model_infer_response::InferOutputTensor,
    },
    shown,
    wire::{Fields, Form, Pieces, Repeated, Value, field_length},
};
use bytes::Bytes;
use prost::Message;
use std::num::NonZeroUsize;
use torpor_tensor::{DType, NamedTensor, Shape, Signature, Tensor};

/// Fields of a request, and entries of its parameters. Each tensor takes two of them at most.
const MAX_FIELDS: usize = 4 * MAX_TENSORS;

/// What a caller asks of a model, with its tensors still as they came.
#[derive(Debug, Default)]
pub(crate) struct InferRequest {
    pub(crate) model: String,
    /// `None` for whichever is current.
    pub(crate) version: Option<String>,
    /// Comes back with the answer.
    pub(crate) id: String,
    inputs: Vec<Input>,
    /// The outputs to give, in this order; empty for all of them.
    outputs: Vec<String>,
    /// How each of them is to be given.
    forms: Vec<OutputForm>,
    raw: Vec<Bytes>,
}

/// What a function is to be called with, and what of its answer the caller wants.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) inputs: Vec<NamedTensor>,
    /// The outputs to give, in this order; `None` for all of them.
    pub(crate) outputs: Option<Vec<String>>,
    /// How each of them is to be given; of none, where the caller has named none.
    pub(crate) forms: Vec<OutputForm>,
}

#[derive(Debug)]
struct Input {
    name: String,
    dtype: DType,
    shape: Shape,
    /// Empty where there are none.
    contents: Bytes,
}

impl InferRequest {
    /// Reads what is asked, but no elements of tensors.
    pub(crate) fn read(message: &Bytes) -> Result<Self, Malformed> {
        let mut request = InferRequest::default();
        for (index, field) in Fields::of(message).enumerate() {
            if index == MAX_FIELDS {
                return Err(Malformed(format!("the request has more than {MAX_FIELDS} fields")));
            }
            let (field, value) = field?;
            match field {
                1 => request.model = value.text("model's name")?.to_owned(),
                2 => request.version = Some(value.text("model's version")?.to_owned()).filter(|text| !text.is_empty()),
                3 => request.id = value.text("request's id")?.to_owned(),
                5 => add(&mut request.inputs, "inputs", || input(message, value.bytes()?))?,
                6 => {
                    let (name, form) = output(value.bytes()?)?;
                    add(&mut request.outputs, "outputs", || Ok(name))?;
                    request.forms.push(form);
                }
                7 => {
                    add(&mut request.raw, "tensors in `raw_input_contents`", || Ok(message.slice_ref(value.bytes()?)))?
                }
                _ => {}
            }
        }
        Ok(request)
    }

    /// The id of a request, whatever else may be wrong with it; empty where it has none.
    pub(crate) fn id_of(message: &[u8]) -> String {
        let id = |field: Result<(u32, Value<'_>), _>| match field {
            Ok((3, value)) => value.text("request's id").ok().map(str::to_owned),
            _ => None,
        };
        Fields::of(message).take(MAX_FIELDS).find_map(id).unwrap_or_default()
    }

    /// Where in a message the first raw tensor begins, as far as its beginning tells; 0 if it does not.
    pub(crate) fn data_offset(beginning: &[u8]) -> usize {
        Fields::of(beginning).data_of(7).map_or(0, |rest| beginning.len() - rest.len())
    }

    /// Bytes of tensors that [`InferRequest::tensors`] has to look at one by one.
    pub(crate) fn work(&self) -> usize {
        let looked_at = |dtype: DType| matches!(dtype, DType::Bool | DType::Bytes);
        let raw = self.inputs.iter().zip(&self.raw).filter(|(input, _)| looked_at(input.dtype));
        raw.map(|(_, raw)| raw.len()).sum::<usize>()
            + self.inputs.iter().map(|input| input.contents.len()).sum::<usize>()
    }

    /// The tensors of a request for a model of `signature`, none of which takes more than `limit` bytes.
    pub(crate) fn tensors(self, signature: &Signature, limit: usize) -> Result<Wanted, Malformed> {
        let InferRequest { inputs, outputs, forms, raw, .. } = self;
        if !raw.is_empty() && raw.len() != inputs.len() {
            let (inputs, raw) = (inputs.len(), raw.len());
            return Err(Malformed(format!(
                "there are {inputs} inputs, but {raw} tensors in `raw_input_contents`; there must be one for each, or none"
            )));
        }
        check_outputs(&outputs, signature)?;
        let mut raw = raw.into_iter();
        let tensor = |input: Input| {
            let tensor = match raw.next() {
                Some(raw) => from_raw(&input, raw),
                None => from_contents(&input, limit),
            };
            match tensor {
                Ok(tensor) => Ok((input.name, tensor)),
                Err(Malformed(text)) => Err(Malformed(format!("input `{}`: {text}", shown(&input.name)))),
            }
        };
        let inputs = inputs.into_iter().map(tensor).collect::<Result<_, _>>()?;
        Ok(Wanted { inputs, outputs: Some(outputs).filter(|outputs| !outputs.is_empty()), forms })
    }
}

/// Adds one more of what a request may have many of.
fn add<T>(all: &mut Vec<T>, what: &str, one: impl FnOnce() -> Result<T, Malformed>) -> Result<(), Malformed> {
    if all.len() == MAX_TENSORS {
        return Err(Malformed(format!("the request has more than {MAX_TENSORS} {what}")));
    }
    all.push(one()?);
    Ok(())
}

fn input(whole: &Bytes, message: &[u8]) -> Result<Input, Malformed> {
    let (mut name, mut datatype, mut contents) = ("", "", None);
    let mut shape = Vec::new();
    let mut parameters = 0;
    for field in Fields::of(message) {
        let (field, value) = field?;
        match field {
            1 => name = value.text("name of an input")?,
            2 => datatype = value.text("datatype of an input")?,
            3 => dimensions(name, value, &mut shape)?,
            4 => {
                let (parameter, _) = parameter(value, &mut parameters)?;
                if parameter == "shared_memory_region" {
                    let text = format!("input `{}`: shared memory is not offered; send the tensor", shown(name));
                    return Err(Malformed(text));
                }
            }
            5 if contents.is_some() => {
                return Err(Malformed(format!("input `{}`: it has `contents` twice", shown(name))));
            }
            5 => contents = Some(whole.slice_ref(value.bytes()?)),
            _ => {}
        }
    }
    let Ok(dtype) = datatype.parse::<DType>() else {
        let known = DType::ALL.map(DType::name).join(", ");
        let (name, datatype) = (shown(name), shown(datatype));
        return Err(Malformed(format!("input `{name}`: there is no datatype `{datatype}`; expected one of {known}")));
    };
    Ok(Input { name: name.to_owned(), dtype, shape: shape.into(), contents: contents.unwrap_or_default() })
}

/// Adds the dimensions of a field to a shape.
fn dimensions(name: &str, sizes: Value<'_>, shape: &mut Vec<u64>) -> Result<(), Malformed> {
    sizes.each_number(&mut |size: u64| {
        if shape.len() == MAX_RANK {
            let text = format!("input `{}`: its shape has more than {MAX_RANK} dimensions", shown(name));
            return Err(Malformed(text));
        }
        if size.cast_signed() < 0 {
            let (name, size) = (shown(name), size.cast_signed());
            return Err(Malformed(format!("input `{name}`: its `shape` has the size {size}; none may be negative")));
        }
        shape.push(size);
        Ok(())
    })
}

/// An output that is asked for, and how it is to be given. All are raw.
fn output(message: &[u8]) -> Result<(String, OutputForm), Malformed> {
    let (mut name, mut classes) = ("", None);
    let mut count = 0;
    for field in Fields::of(message) {
        let (field, value) = field?;
        match field {
            1 => name = value.text("name of an output")?,
            2 => {
                let what = match parameter(value, &mut count)? {
                    ("classification", value) => match value.and_then(whole) {
                        Some(number) => {
                            classes = NonZeroUsize::new(number);
                            continue;
                        }
                        None => "its parameter `classification` must be a whole number that is not negative",
                    },
                    ("shared_memory_region", _) => "shared memory is not offered",
                    _ => continue,
                };
                return Err(Malformed(format!("output `{}`: {what}", shown(name))));
            }
            _ => {}
        }
    }
    Ok((name.to_owned(), OutputForm { binary: true, classes }))
}

/// A number that is not negative.
fn whole(parameter: ParameterChoice) -> Option<usize> {
    match parameter {
        ParameterChoice::Int64Param(number) => number.try_into().ok(),
        ParameterChoice::Uint64Param(number) => number.try_into().ok(),
        _ => None,
    }
}

/// A parameter, before which there were `count`.
fn parameter<'a>(entry: Value<'a>, count: &mut usize) -> Result<(&'a str, Option<ParameterChoice>), Malformed> {
    *count += 1;
    if *count > MAX_FIELDS {
        return Err(Malformed(format!("a tensor of the request has more than {MAX_FIELDS} parameters")));
    }
    let (mut name, mut parameter) = ("", None);
    for field in Fields::of(entry.bytes()?) {
        match field? {
            (1, value) => name = value.text("name of a parameter")?,
            (2, value) => {
                let read = InferParameter::decode(value.bytes()?);
                let none = |_| Malformed(format!("the parameter `{}` has no value of a known kind", shown(name)));
                parameter = read.map_err(none)?.parameter_choice;
            }
            _ => {}
        }
    }
    Ok((name, parameter))
}

fn from_raw(input: &Input, raw: Bytes) -> Result<Tensor, Malformed> {
    if !input.contents.is_empty() {
        let text = "it has `contents`, but the request has its tensors in `raw_input_contents`; use one of the two";
        return Err(Malformed(text.to_owned()));
    }
    Tensor::new(input.dtype, input.shape.clone(), raw).map_err(|error| Malformed(error.to_string()))
}

/// The field of `InferTensorContents` that a datatype has.
fn field_of(dtype: DType) -> Option<(u32, Form)> {
    Some(match dtype {
        DType::Bool => (1, Form::Varint),
        DType::I8 | DType::I16 | DType::I32 => (2, Form::Varint),
        DType::I64 => (3, Form::Varint),
        DType::U8 | DType::U16 | DType::U32 => (4, Form::Varint),
        DType::U64 => (5, Form::Varint),
        DType::F32 => (6, Form::Fixed32),
        DType::F64 => (7, Form::Fixed64),
        DType::Bytes => (8, Form::Bytes),
        DType::F16 | DType::Bf16 => return None,
    })
}

/// The names of the fields of `InferTensorContents`, by their numbers less one.
const CONTENTS: [&str; 8] = [
    "bool_contents",
    "int_contents",
    "int64_contents",
    "uint_contents",
    "uint64_contents",
    "fp32_contents",
    "fp64_contents",
    "bytes_contents",
];

fn from_contents(input: &Input, limit: usize) -> Result<Tensor, Malformed> {
    let Input { dtype, shape, contents, .. } = input;
    if contents.is_empty() && shape.elements() == Some(0) {
        return Tensor::new(*dtype, shape.clone(), Bytes::new()).map_err(|error| Malformed(error.to_string()));
    }
    let Some((field, form)) = field_of(*dtype) else {
        return Err(Malformed(format!("{dtype} has no form in `contents`; send it in `raw_input_contents`")));
    };
    let name = |field: u32| CONTENTS.get(usize::try_from(field.wrapping_sub(1)).ok()?).copied();
    let expected = name(field).unwrap_or_default();
    for other in Fields::of(contents) {
        let (other, _) = other?;
        if other != field
            && let Some(other) = name(other)
        {
            return Err(Malformed(format!("{dtype} belongs into `{expected}`, but there is something in `{other}`")));
        }
    }
    let elements = Repeated { message: contents, field, form };
    let count = elements.count()?;
    if shape.elements() != Some(count) {
        return Err(Malformed(match shape.elements() {
            None => format!("the shape {shape} has too many elements"),
            Some(wanted) => {
                format!("the shape {shape} asks for {wanted} elements, but there are {count} in `{expected}`")
            }
        }));
    }
    let Some(size) = dtype.size() else { return byte_strings(elements, shape) };
    if count.saturating_mul(size) > limit {
        let bytes = count.saturating_mul(size);
        return Err(Malformed(format!("its elements take {bytes} bytes, more than the limit of {limit}")));
    }
    let data = elements.elements(*dtype, count, size, contents)?;
    Tensor::new(*dtype, shape.clone(), data).map_err(|error| Malformed(error.to_string()))
}

/// A tensor of byte strings, each of which gets its length before it.
fn byte_strings(elements: Repeated<'_>, shape: &Shape) -> Result<Tensor, Malformed> {
    let mut data = Vec::with_capacity(elements.message.len());
    elements.each_bytes(|element| {
        // A message is shorter than what 32 bits count.
        data.extend_from_slice(&u32::try_from(element.len()).unwrap_or(u32::MAX).to_le_bytes());
        data.extend_from_slice(element);
    })?;
    Tensor::new(DType::Bytes, shape.clone(), data.into()).map_err(|error| Malformed(error.to_string()))
}

/// The message of an answer, with its tensors raw.
pub(crate) fn infer_response(model: &str, version: u64, id: &str, outputs: &[NamedTensor]) -> Pieces {
    let mut answer = Pieces::default();
    answer.text(1, model);
    answer.text(2, &version.to_string());
    answer.text(3, id);
    for (name, tensor) in outputs {
        // Sizes of tensors that exist are far below what the protocol's numbers hold.
        let dims = tensor.shape().dims().iter().map(|&size| i64::try_from(size).unwrap_or(i64::MAX));
        let head = InferOutputTensor {
            name: name.clone(),
            datatype: tensor.dtype().name().to_owned(),
            shape: dims.collect(),
            ..InferOutputTensor::default()
        };
        answer.message(5, &head);
    }
    for (_, tensor) in outputs {
        answer.data(6, tensor.data());
    }
    answer
}

/// One answer of a stream of them. Clients that await more than one for a request are told that it is the last.
pub(crate) fn stream_response(answer: Pieces) -> Pieces {
    let is_last = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
    let mut last = Pieces::default();
    let name = "triton_final_response";
    last.open(4, field_length(1, name.len()) + field_length(2, is_last.encoded_len()));
    last.text(1, name);
    last.message(2, &is_last);
    let mut stream = Pieces::default();
    stream.open(2, answer.length() + last.length());
    stream.append(answer);
    stream.append(last);
    stream
}

/// What a stream has of a request that failed, whose id was `id`.
pub(crate) fn stream_error(text: &str, id: &str) -> Pieces {
    let mut stream = Pieces::default();
    stream.text(1, text);
    let answer = ModelInferResponse { id: id.to_owned(), ..ModelInferResponse::default() };
    stream.message(2, &answer);
    stream
}
