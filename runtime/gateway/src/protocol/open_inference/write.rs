//! Tensors and signatures to the protocol's JSON.

use super::super::{PLATFORM, declared_shape};
use half::{bf16, f16};
use serde::{
    Serialize, Serializer,
    ser::{Error, SerializeSeq},
};
use torpor_tensor::{DType, NamedTensor, Signature, Tensor, TensorSpec};

#[derive(Serialize)]
struct InferResponse<'a> {
    model_name: &'a str,
    #[serde(serialize_with = "as_text")]
    model_version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<Output<'a>>,
}

#[derive(Serialize)]
struct Output<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [u64],
    data: Data<'a>,
}

/// The body of the answer to an inference request.
///
/// # Errors
/// When a `BYTES` element is no UTF-8 text, which JSON cannot carry.
pub(crate) fn infer_response(
    model_name: &str,
    model_version: u64,
    id: Option<&str>,
    outputs: &[NamedTensor],
) -> Result<Vec<u8>, serde_json::Error> {
    let mut body = Vec::with_capacity(infer_response_size(outputs));
    let outputs = outputs.iter().map(|(name, tensor)| Output {
        name,
        datatype: tensor.dtype().name(),
        shape: tensor.shape().dims(),
        data: Data(tensor),
    });
    serde_json::to_writer(&mut body, &InferResponse { model_name, model_version, id, outputs: outputs.collect() })?;
    Ok(body)
}

/// Bytes that the body of an answer has, about: no less than most take, so that it is seldom moved while it grows.
pub(crate) fn infer_response_size(outputs: &[NamedTensor]) -> usize {
    let tensor = |(name, tensor): &NamedTensor| {
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
    };
    outputs.iter().map(tensor).fold(128, usize::saturating_add)
}

/// Versions are texts in the protocol, whatever they look like.
fn as_text<S: Serializer>(version: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(version)
}

/// A tensor's elements as one flat JSON array. A float that is no number becomes `null`, since JSON has no word for it.
struct Data<'a>(&'a Tensor);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tensor = self.0;
        let data: &[u8] = tensor.data();
        match tensor.dtype() {
            DType::Bool => serializer.collect_seq(data.iter().map(|&byte| byte != 0)),
            DType::U8 => serializer.collect_seq(data),
            DType::U16 => serializer.collect_seq(numbers(data).map(u16::from_le_bytes)),
            DType::U32 => serializer.collect_seq(numbers(data).map(u32::from_le_bytes)),
            DType::U64 => serializer.collect_seq(numbers(data).map(u64::from_le_bytes)),
            DType::I8 => serializer.collect_seq(numbers(data).map(i8::from_le_bytes)),
            DType::I16 => serializer.collect_seq(numbers(data).map(i16::from_le_bytes)),
            DType::I32 => serializer.collect_seq(numbers(data).map(i32::from_le_bytes)),
            DType::I64 => serializer.collect_seq(numbers(data).map(i64::from_le_bytes)),
            DType::F16 => serializer.collect_seq(numbers(data).map(|bytes| f16::from_le_bytes(bytes).to_f32())),
            DType::Bf16 => serializer.collect_seq(numbers(data).map(|bytes| bf16::from_le_bytes(bytes).to_f32())),
            DType::F32 => serializer.collect_seq(numbers(data).map(f32::from_le_bytes)),
            DType::F64 => serializer.collect_seq(numbers(data).map(f64::from_le_bytes)),
            DType::Bytes => {
                let mut array = serializer.serialize_seq(Some(tensor.elements()))?;
                for element in tensor.bytes_elements().map_err(S::Error::custom)? {
                    array.serialize_element(std::str::from_utf8(element).map_err(S::Error::custom)?)?;
                }
                array.end()
            }
        }
    }
}

fn numbers<const SIZE: usize>(data: &[u8]) -> impl Iterator<Item = [u8; SIZE]> {
    data.as_chunks().0.iter().copied()
}

#[derive(Serialize)]
struct ModelMetadata<'a> {
    name: &'a str,
    versions: [String; 1],
    platform: &'static str,
    inputs: Vec<Spec<'a>>,
    outputs: Vec<Spec<'a>>,
}

#[derive(Serialize)]
struct Spec<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: Vec<i64>,
}

/// What the protocol tells of a model.
pub(crate) fn model_metadata<'a>(name: &'a str, version: u64, signature: &'a Signature) -> impl Serialize + 'a {
    ModelMetadata {
        name,
        versions: [version.to_string()],
        platform: PLATFORM,
        inputs: signature.inputs.iter().map(spec).collect(),
        outputs: signature.outputs.iter().map(spec).collect(),
    }
}

fn spec(spec: &TensorSpec) -> Spec<'_> {
    Spec { name: &spec.name, datatype: spec.dtype.name(), shape: declared_shape(spec) }
}
