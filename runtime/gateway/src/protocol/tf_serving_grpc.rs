//! TF Serving over gRPC: the messages of its `PredictionService` and its `ModelService`.
//!
//! Source: TF Serving's `apis/*.proto`, and TensorFlow's `tensor.proto` with the rules that stand in its comments. Answers have their
//! elements in the `*_val` fields, as TF Serving's own do, since many clients look nowhere else.

#[cfg(test)]
mod properties;

use super::{
    MAX_RANK, MAX_TENSORS, Malformed, check_outputs, declared_shape,
    proto::tensorflow::{
        DataType, SignatureDef, TensorInfo, TensorShapeProto,
        serving::{
            GetModelMetadataResponse, GetModelStatusResponse, ModelSpec, ModelVersionStatus, SignatureDefMap,
            StatusProto, model_spec::VersionChoice, model_version_status::State,
        },
        tensor_info::Encoding,
        tensor_shape_proto::Dim,
    },
    shown,
    wire::{Fields, Form, Pieces, Repeated, field_length},
};
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use torpor_tensor::{DType, NamedTensor, Shape, Signature, Tensor, TensorSpec};

/// The one signature that a model has.
const SIGNATURE: &str = "serving_default";
/// The one thing that there is to know of a model.
const SIGNATURES: &str = "signature_def";
/// Fields of a request. Each tensor takes two of them at most.
const MAX_FIELDS: usize = 4 * MAX_TENSORS;

/// The model that a request is for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Target {
    pub(crate) model: String,
    /// A number, or a label, which is the version that a bundle declares; `None` for whichever is current.
    pub(crate) version: Option<String>,
}

/// A request for a prediction, with its tensors still as they came.
#[derive(Debug, Default)]
pub(crate) struct PredictRequest {
    pub(crate) target: Target,
    inputs: Vec<(String, Bytes)>,
    /// The outputs to give; empty for all of them.
    outputs: Vec<String>,
}

/// What a request says of the model that it is for.
pub(crate) fn target(spec: Option<ModelSpec>) -> Result<Target, Malformed> {
    let spec = spec.filter(|spec| !spec.name.is_empty());
    let Some(ModelSpec { name, version_choice, signature_name }) = spec else {
        return Err(Malformed("the request has no name of a model in its `model_spec`".to_owned()));
    };
    if !signature_name.is_empty() && signature_name != SIGNATURE {
        let (name, signature) = (shown(&name), shown(&signature_name));
        return Err(Malformed(format!("`{name}` has no signature `{signature}`, only `{SIGNATURE}`")));
    }
    let version = match version_choice {
        // OpenVINO's client says 0 where it leaves the choice to the server; revisions begin with 1.
        None | Some(VersionChoice::Version(0)) => None,
        Some(VersionChoice::Version(number)) => Some(number.to_string()),
        Some(VersionChoice::VersionLabel(label)) => Some(label),
    };
    Ok(Target { model: name, version })
}

impl PredictRequest {
    /// Reads what is asked, but no tensors.
    pub(crate) fn read(message: &Bytes) -> Result<Self, Malformed> {
        let mut spec = None;
        let mut request = PredictRequest::default();
        for (index, field) in Fields::of(message).enumerate() {
            if index == MAX_FIELDS {
                return Err(Malformed(format!("the request has more than {MAX_FIELDS} fields")));
            }
            let (field, value) = field?;
            let full = |count| match count {
                MAX_TENSORS => Err(Malformed(format!("the request has more than {MAX_TENSORS} tensors"))),
                _ => Ok(()),
            };
            match field {
                1 => {
                    let read = ModelSpec::decode(value.bytes()?);
                    spec = Some(read.map_err(|_| Malformed("the request's `model_spec` is none".to_owned()))?);
                }
                2 => {
                    full(request.inputs.len())?;
                    request.inputs.push(entry(message, value.bytes()?)?);
                }
                3 => {
                    full(request.outputs.len())?;
                    request.outputs.push(value.text("name of an output")?.to_owned());
                }
                _ => {}
            }
        }
        request.target = target(spec)?;
        Ok(request)
    }

    /// Bytes of tensors that [`PredictRequest::tensors`] has to look at.
    pub(crate) fn work(&self) -> usize {
        self.inputs.iter().map(|(_, tensor)| tensor.len()).sum()
    }

    /// The tensors, and the names of the outputs to give for a model of `signature`; `None` for all of them. No tensor takes
    /// more than `limit` bytes.
    pub(crate) fn tensors(
        self,
        signature: &Signature,
        limit: usize,
    ) -> Result<(Vec<NamedTensor>, Option<Vec<String>>), Malformed> {
        check_outputs(&self.outputs, signature)?;
        let tensor = |(name, message): (String, Bytes)| match tensor(&message, limit) {
            Ok(tensor) => Ok((name, tensor)),
            Err(Malformed(text)) => Err(Malformed(format!("input `{}`: {text}", shown(&name)))),
        };
        let tensors = self.inputs.into_iter().map(tensor).collect::<Result<_, _>>()?;
        Ok((tensors, Some(self.outputs).filter(|outputs| !outputs.is_empty())))
    }
}

/// An entry of a map of tensors.
fn entry(whole: &Bytes, message: &[u8]) -> Result<(String, Bytes), Malformed> {
    let (mut name, mut tensor) = ("", Bytes::new());
    for field in Fields::of(message) {
        match field? {
            (1, value) => name = value.text("name of an input")?,
            (2, value) => tensor = whole.slice_ref(value.bytes()?),
            _ => {}
        }
    }
    Ok((name.to_owned(), tensor))
}

/// A datatype with the field that its elements have in a `TensorProto`.
struct Kind {
    dtype: DType,
    data_type: DataType,
    name: &'static str,
    field: u32,
    form: Form,
}

const fn kind(dtype: DType, data_type: DataType, name: &'static str, field: u32, form: Form) -> Kind {
    Kind { dtype, data_type, name, field, form }
}

const KINDS: [Kind; 14] = [
    kind(DType::Bool, DataType::DtBool, "bool_val", 11, Form::Varint),
    kind(DType::U8, DataType::DtUint8, "int_val", 7, Form::Varint),
    kind(DType::U16, DataType::DtUint16, "int_val", 7, Form::Varint),
    kind(DType::U32, DataType::DtUint32, "uint32_val", 16, Form::Varint),
    kind(DType::U64, DataType::DtUint64, "uint64_val", 17, Form::Varint),
    kind(DType::I8, DataType::DtInt8, "int_val", 7, Form::Varint),
    kind(DType::I16, DataType::DtInt16, "int_val", 7, Form::Varint),
    kind(DType::I32, DataType::DtInt32, "int_val", 7, Form::Varint),
    kind(DType::I64, DataType::DtInt64, "int64_val", 10, Form::Varint),
    kind(DType::F16, DataType::DtHalf, "half_val", 13, Form::Varint),
    kind(DType::Bf16, DataType::DtBfloat16, "half_val", 13, Form::Varint),
    kind(DType::F32, DataType::DtFloat, "float_val", 5, Form::Fixed32),
    kind(DType::F64, DataType::DtDouble, "double_val", 6, Form::Fixed64),
    kind(DType::Bytes, DataType::DtString, "string_val", 8, Form::Bytes),
];

/// What there is of a datatype. The table has them all.
fn kind_of(dtype: DType) -> &'static Kind {
    KINDS.iter().find(|kind| kind.dtype == dtype).unwrap_or(&KINDS[0])
}

fn tensor(message: &Bytes, limit: usize) -> Result<Tensor, Malformed> {
    let (mut data_type, mut content) = (0, &[][..]);
    let mut shape = Vec::new();
    for field in Fields::of(message) {
        match field? {
            (1, value) => data_type = value.number()?,
            (2, value) => dimensions(value.bytes()?, &mut shape)?,
            (4, value) => content = value.bytes()?,
            _ => {}
        }
    }
    let named = i32::try_from(data_type).ok().and_then(|number| DataType::try_from(number).ok());
    let Some(kind) = KINDS.iter().find(|kind| Some(kind.data_type) == named) else {
        let data_type = named.map_or_else(|| data_type.to_string(), |named| named.as_str_name().to_owned());
        let known = KINDS.iter().map(|kind| kind.data_type.as_str_name()).collect::<Vec<_>>().join(", ");
        return Err(Malformed(format!("its `dtype` is {data_type}; expected one of {known}")));
    };
    let (dtype, shape) = (kind.dtype, Shape::from(shape));
    if content.is_empty() {
        return from_values(message, kind, shape, limit);
    }
    if dtype == DType::Bytes {
        return Err(Malformed("DT_STRING is read from `string_val`, not from `tensor_content`".to_owned()));
    }
    Tensor::new(dtype, shape, message.slice_ref(content)).map_err(|error| Malformed(error.to_string()))
}

fn dimensions(message: &[u8], shape: &mut Vec<u64>) -> Result<(), Malformed> {
    for field in Fields::of(message) {
        match field? {
            (2, dim) => {
                let mut size = 0;
                for field in Fields::of(dim.bytes()?) {
                    if let (1, value) = field? {
                        size = value.number()?;
                    }
                }
                if size.cast_signed() < 0 {
                    let size = size.cast_signed();
                    return Err(Malformed(format!("its `tensor_shape` has the size {size}; none may be negative")));
                }
                if shape.len() == MAX_RANK {
                    return Err(Malformed(format!("its shape has more than {MAX_RANK} dimensions")));
                }
                shape.push(size);
            }
            (3, value) if value.number()? != 0 => {
                return Err(Malformed("its rank is unknown; a tensor needs all of its `tensor_shape`".to_owned()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A tensor of the elements in the field that its datatype has. The last of them stands for all that are missing.
fn from_values(message: &Bytes, kind: &Kind, shape: Shape, limit: usize) -> Result<Tensor, Malformed> {
    let Kind { dtype, name, field, form, .. } = *kind;
    let values = Repeated { message, field, form };
    let count = values.count()?;
    let too_large =
        |bytes: usize| Malformed(format!("its elements take {bytes} bytes, more than the limit of {limit}"));
    let missing = match shape.elements() {
        None => return Err(Malformed(format!("the shape {shape} has too many elements"))),
        Some(wanted) if count == 0 && wanted > 0 => {
            let text = format!("the shape {shape} asks for {wanted} elements, but there are none in `{name}`");
            return Err(Malformed(text));
        }
        Some(wanted) => wanted.checked_sub(count).ok_or_else(|| {
            Malformed(format!("the shape {shape} asks for {wanted} elements, but there are {count} in `{name}`"))
        })?,
    };
    let data = match dtype.size() {
        Some(size) => {
            let bytes = (count + missing).saturating_mul(size);
            if bytes > limit {
                return Err(too_large(bytes));
            }
            let data = values.elements(dtype, count, size, message)?;
            match missing {
                0 => data,
                _ => {
                    let last = &data[data.len() - size..];
                    [&data, last.repeat(missing).as_slice()].concat().into()
                }
            }
        }
        None => {
            let (mut length, mut last) = (0, &[][..]);
            values.each_bytes(|element| {
                length += 4 + element.len();
                last = element;
            })?;
            let bytes = missing.saturating_mul(4 + last.len()).saturating_add(length);
            // Short ones take twice what they took in the message.
            if missing > 0 && bytes > limit {
                return Err(too_large(bytes));
            }
            let mut data = Vec::with_capacity(bytes);
            let mut push = |element: &[u8]| {
                // A message is shorter than what 32 bits count.
                data.extend_from_slice(&u32::try_from(element.len()).unwrap_or(u32::MAX).to_le_bytes());
                data.extend_from_slice(element);
            };
            values.each_bytes(&mut push)?;
            (0..missing).for_each(|_| push(last));
            data.into()
        }
    };
    Tensor::new(dtype, shape, data).map_err(|error| Malformed(error.to_string()))
}

/// The message of an answer.
pub(crate) fn predict_response(model: &str, version: u64, outputs: &[NamedTensor]) -> Pieces {
    let mut answer = Pieces::default();
    for (name, tensor) in outputs {
        let tensor = tensor_proto(tensor);
        answer.open(1, field_length(1, name.len()) + field_length(2, tensor.length()));
        answer.bytes(1, name.as_bytes());
        answer.open(2, tensor.length());
        answer.append(tensor);
    }
    answer.message(2, &spec(model, version));
    answer
}

fn spec(model: &str, version: u64) -> ModelSpec {
    ModelSpec {
        name: model.to_owned(),
        version_choice: Some(VersionChoice::Version(i64::try_from(version).unwrap_or(i64::MAX))),
        signature_name: SIGNATURE.to_owned(),
    }
}

fn tensor_proto(tensor: &Tensor) -> Pieces {
    let kind = kind_of(tensor.dtype());
    let dims = tensor.shape().dims().iter();
    let dim = |&size: &u64| Dim { size: i64::try_from(size).unwrap_or(i64::MAX), name: String::new() };
    let shape = TensorShapeProto { dim: dims.map(dim).collect(), unknown_rank: false };
    let mut message = Pieces::default();
    message.number(1, u64::from(i32::from(kind.data_type).unsigned_abs()));
    message.message(2, &shape);
    let data = tensor.data();
    match tensor.dtype() {
        // Their elements are written as they stand in memory.
        DType::F32 | DType::F64 | DType::Bool => message.data(kind.field, data),
        DType::Bytes => {
            for element in tensor.bytes_elements().into_iter().flatten() {
                message.bytes(kind.field, element);
            }
        }
        DType::U8 => message.numbers(kind.field, data.iter().map(|&byte| byte.into())),
        DType::U16 | DType::F16 | DType::Bf16 => {
            message.numbers(kind.field, numbers(data).map(|bytes| u16::from_le_bytes(bytes).into()));
        }
        DType::U32 => message.numbers(kind.field, numbers(data).map(|bytes| u32::from_le_bytes(bytes).into())),
        DType::U64 | DType::I64 => message.numbers(kind.field, numbers(data).map(u64::from_le_bytes)),
        // Those below zero have all the bits of a 64-bit number.
        DType::I8 => {
            message.numbers(kind.field, numbers(data).map(|bytes| i64::from(i8::from_le_bytes(bytes)).cast_unsigned()));
        }
        DType::I16 => {
            message
                .numbers(kind.field, numbers(data).map(|bytes| i64::from(i16::from_le_bytes(bytes)).cast_unsigned()));
        }
        DType::I32 => {
            message
                .numbers(kind.field, numbers(data).map(|bytes| i64::from(i32::from_le_bytes(bytes)).cast_unsigned()));
        }
    }
    message
}

fn numbers<const SIZE: usize>(data: &[u8]) -> impl Iterator<Item = [u8; SIZE]> + Clone {
    data.as_chunks().0.iter().copied()
}

/// What is told of a model that was asked for the metadata `fields`.
pub(crate) fn model_metadata(
    model: &str,
    version: u64,
    signature: &Signature,
    fields: &[String],
) -> Result<GetModelMetadataResponse, Malformed> {
    if fields.is_empty() {
        return Err(Malformed(format!("the request names no `metadata_field`; there is `{SIGNATURES}`")));
    }
    if let Some(unknown) = fields.iter().find(|field| *field != SIGNATURES) {
        return Err(Malformed(format!("there is no `metadata_field` `{}`, only `{SIGNATURES}`", shown(unknown))));
    }
    let definition = SignatureDef {
        inputs: signature.inputs.iter().map(info).collect(),
        outputs: signature.outputs.iter().map(info).collect(),
        method_name: "tensorflow/serving/predict".to_owned(),
    };
    let map = SignatureDefMap { signature_def: BTreeMap::from([(SIGNATURE.to_owned(), definition)]) };
    let any = prost_types::Any {
        type_url: "type.googleapis.com/tensorflow.serving.SignatureDefMap".to_owned(),
        value: map.encode_to_vec(),
    };
    Ok(GetModelMetadataResponse {
        model_spec: Some(ModelSpec { signature_name: String::new(), ..spec(model, version) }),
        metadata: BTreeMap::from([(SIGNATURES.to_owned(), any)]),
    })
}

fn info(spec: &TensorSpec) -> (String, TensorInfo) {
    let dim = |size| Dim { size, name: String::new() };
    let shape = match spec.shape {
        Some(_) => TensorShapeProto { dim: declared_shape(spec).into_iter().map(dim).collect(), unknown_rank: false },
        None => TensorShapeProto { dim: Vec::new(), unknown_rank: true },
    };
    let info = TensorInfo {
        encoding: Some(Encoding::Name(spec.name.clone())),
        dtype: kind_of(spec.dtype).data_type.into(),
        tensor_shape: Some(shape),
    };
    (spec.name.clone(), info)
}

/// What is told of the one version that a model has.
pub(crate) fn model_status(version: u64, ready: bool) -> GetModelStatusResponse {
    let status = match ready {
        true => StatusProto::default(),
        // The number of `UNAVAILABLE`.
        false => StatusProto { error_code: 14, error_message: "the model does not start".to_owned() },
    };
    let state = if ready { State::Available } else { State::End };
    let version = i64::try_from(version).unwrap_or(i64::MAX);
    let status = ModelVersionStatus { version, state: state.into(), status: Some(status) };
    GetModelStatusResponse { model_version_status: vec![status] }
}
