//! Tensors to the body of an answer: as JSON, or as bytes that follow it.

use half::{bf16, f16};
use serde::{
    Serialize, Serializer,
    ser::{Error, SerializeSeq},
};
use torpor_tensor::{DType, Tensor};

/// An output as it is given.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Output {
    pub(crate) name: String,
    pub(crate) tensor: Tensor,
    /// As bytes behind the JSON, which are those of `tensor`, one output after the other.
    pub(crate) binary: bool,
}

/// An output that JSON cannot carry.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "output `{0}` has bytes that are no text, which JSON cannot carry; ask for it with the parameter `binary_data`"
)]
pub(crate) struct NotText(String);

impl Output {
    /// One that is given as JSON.
    pub(crate) fn json(name: &str, tensor: &Tensor) -> Self {
        Output { name: name.to_owned(), tensor: tensor.clone(), binary: false }
    }
}

#[derive(Serialize)]
struct InferResponse<'a> {
    model_name: &'a str,
    #[serde(serialize_with = "as_text")]
    model_version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<Written<'a>>,
}

#[derive(Serialize)]
struct Written<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [u64],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
}

#[derive(Serialize)]
struct Size {
    binary_data_size: usize,
}

/// The JSON of the answer to an inference request, which the data of the binary outputs is to follow.
///
/// # Errors
/// When a `BYTES` element of an output that is given as JSON is no UTF-8 text.
pub(crate) fn infer_response(
    model_name: &str,
    model_version: u64,
    id: Option<&str>,
    outputs: &[Output],
) -> Result<Vec<u8>, NotText> {
    let mut body = Vec::with_capacity(infer_response_size(outputs));
    let written = outputs.iter().map(|Output { name, tensor, binary }| Written {
        name,
        datatype: tensor.dtype().name(),
        shape: tensor.shape().dims(),
        parameters: binary.then(|| Size { binary_data_size: tensor.data().len() }),
        data: (!binary).then_some(Data(tensor)),
    });
    let response = InferResponse { model_name, model_version, id, outputs: written.collect() };
    serde_json::to_writer(&mut body, &response).map_err(|_| {
        // Nothing else can go wrong with it.
        let guilty = outputs.iter().find(|output| !output.binary && !is_text(&output.tensor));
        NotText(guilty.map(|output| output.name.clone()).unwrap_or_default())
    })?;
    Ok(body)
}

fn is_text(tensor: &Tensor) -> bool {
    tensor.bytes_elements().map_or(true, |mut elements| elements.all(|element| std::str::from_utf8(element).is_ok()))
}

/// Bytes that the JSON of an answer has, about: no less than most take, so that it is seldom moved while it grows.
pub(crate) fn infer_response_size(outputs: &[Output]) -> usize {
    let size = |Output { name, tensor, binary }: &Output| {
        // Digits, sign, point and comma of usual elements.
        let width = match tensor.dtype() {
            _ if *binary => 0,
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
    outputs.iter().map(size).fold(128, usize::saturating_add)
}

/// Versions are texts in the protocol, whatever they look like.
pub(super) fn as_text<S: Serializer>(version: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(version)
}

/// A tensor's elements as one flat JSON array.
///
/// A float that is NaN or infinite becomes `null`, since JSON has no word for it. Triton writes `NaN` and `Infinity`, which Python's
/// parsers take, and those of JavaScript, Go, Java and Rust refuse together with the whole answer. Of a `null` tritonclient and numpy
/// make NaN, and other clients see that there is no number. Who needs infinities asks for bytes, which are exact.
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

#[cfg(test)]
mod tests {
    use super::*;
    use torpor_tensor::Shape;

    #[test]
    fn what_is_no_text_is_named_and_fits_into_bytes() {
        let text = Output::json("a", &Tensor::from_elements(Shape::from([1]), &["x"]).unwrap());
        let other = Output::json("b", &Tensor::from_elements(Shape::from([1]), &[b"\xff"]).unwrap());
        let error = infer_response("m", 1, None, &[text.clone(), other.clone()]).unwrap_err();
        assert!(error.to_string().starts_with("output `b` has bytes that are no text"), "{error}");
        let head = infer_response("m", 1, None, &[text, Output { binary: true, ..other }]).unwrap();
        let expected = r#"{"model_name":"m","model_version":"1","outputs":[{"name":"a","datatype":"BYTES","shape":[1],"data":["x"]},{"name":"b","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":5}}]}"#;
        assert_eq!(String::from_utf8(head).unwrap(), expected);
    }

    #[test]
    fn floats_without_a_word_in_json_are_null() {
        let data: Vec<u8> =
            [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let tensor = Tensor::new(DType::F32, [4].into(), data.into()).unwrap();
        let head = String::from_utf8(infer_response("m", 1, None, &[Output::json("x", &tensor)]).unwrap()).unwrap();
        assert!(head.ends_with(r#""data":[null,null,null,-0.0]}]}"#), "{head}");
    }
}
