//! Tensors to the body of an answer: as JSON, or as bytes that follow it.

use crate::protocol::json::{self, Data};
use serde::{Serialize, Serializer};
use torpor_tensor::Tensor;

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
        data: (!binary).then_some(Data::flat(tensor)),
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

/// Bytes that the JSON of an answer has, about.
pub(crate) fn infer_response_size(outputs: &[Output]) -> usize {
    let written = outputs.iter().filter(|output| !output.binary);
    written.map(|Output { name, tensor, .. }| json::size_of(name, tensor)).fold(128, usize::saturating_add)
}

/// Versions are texts in the protocol, whatever they look like.
pub(super) fn as_text<S: Serializer>(version: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use torpor_tensor::{DType, Shape};

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
