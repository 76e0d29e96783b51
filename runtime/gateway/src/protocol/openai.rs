//! The part of OpenAI's interface that makes embeddings.
//!
//! Source: the API reference of `/v1/embeddings` and `/v1/models`. A function whose bundle says that its task is `embedding` takes one
//! tensor of texts and gives a row of floats for each.

use super::{Malformed, json::values::Values};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value, json, value::RawValue};
use std::borrow::Cow;
use torpor_tensor::{DType, NamedTensor, Shape, Signature, Tensor};

/// What a caller wants embedded.
#[derive(Debug, PartialEq)]
pub(crate) struct EmbeddingsRequest {
    pub(crate) model: String,
    /// A tensor of `BYTES` of rank 1.
    pub(crate) texts: Tensor,
    pub(crate) encoding: Encoding,
    /// How many numbers each row is to have.
    pub(crate) dimensions: Option<u64>,
}

/// How an embedding is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoding {
    /// An array of numbers.
    #[default]
    Float,
    /// The base64 of its numbers as little-endian floats.
    Base64,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with `model` and `input`")]
struct RawRequest<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(borrow)]
    input: &'a RawValue,
    encoding_format: Option<Encoding>,
    dimensions: Option<u64>,
}

/// Reads the body of a request for embeddings.
pub(crate) fn embeddings_request(body: &[u8]) -> Result<EmbeddingsRequest, Malformed> {
    let request: RawRequest = serde_json::from_slice(body)
        .map_err(|error| Malformed(format!("the body is no request for embeddings in JSON: {error}")))?;
    let input = request.input.get();
    let first = input.trim_start_matches(['[', ' ', '\t', '\r', '\n']);
    if first.starts_with(|c: char| c.is_ascii_digit()) {
        let text = "`input` has the numbers of tokens; send texts, since each model has tokens of its own";
        return Err(Malformed(text.to_owned()));
    }
    let expected = |what: String| Malformed(format!("`input` must be a string or an array of strings: {what}"));
    let mut values = Values::new(DType::Bytes);
    values.push(input).map_err(expected)?;
    let mut texts = values.one().map_err(expected)?;
    if texts.shape().rank() == 0 {
        texts = Tensor::new(DType::Bytes, Shape::from([1]), texts.data().clone())
            .map_err(|error| expected(error.to_string()))?;
    }
    if texts.shape().rank() > 1 {
        return Err(expected("it has arrays in an array".to_owned()));
    }
    if texts.elements() == 0 {
        return Err(Malformed("`input` has no text".to_owned()));
    }
    let encoding = request.encoding_format.unwrap_or_default();
    Ok(EmbeddingsRequest { model: request.model.into_owned(), texts, encoding, dimensions: request.dimensions })
}

/// Checks that the rows of a function's output have as many numbers as a caller wants.
pub(crate) fn has_dimensions(wanted: Option<u64>, outputs: &[NamedTensor]) -> Result<(), Malformed> {
    match (wanted, outputs.first().and_then(|(_, tensor)| tensor.shape().dims().last())) {
        (Some(wanted), Some(&has)) if wanted != has => {
            Err(Malformed(format!("`dimensions` is {wanted}, but the embeddings of this model have {has}")))
        }
        _ => Ok(()),
    }
}

/// The texts under the name that the function gives its input.
pub(crate) fn inputs(texts: Tensor, signature: &Signature) -> Vec<NamedTensor> {
    signature.inputs.first().map(|spec| (spec.name.clone(), texts)).into_iter().collect()
}

#[derive(Serialize)]
struct Embeddings<'a> {
    object: &'static str,
    data: Rows<'a>,
    model: &'a str,
    usage: Usage,
}

/// Functions do not tell how many tokens they made of a text.
#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    total_tokens: u64,
}

#[derive(Serialize)]
struct Embedding<'a> {
    object: &'static str,
    index: usize,
    embedding: Row<'a>,
}

/// The rows of a tensor of `FP32`.
struct Rows<'a> {
    data: &'a [u8],
    /// Bytes of one row.
    width: usize,
    encoding: Encoding,
}

struct Row<'a>(&'a [u8], Encoding);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rows = self.data.chunks_exact(self.width.max(1)).enumerate();
        let embedding = |(index, row)| Embedding { object: "embedding", index, embedding: Row(row, self.encoding) };
        serializer.collect_seq(rows.map(embedding))
    }
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.1 {
            Encoding::Float => {
                serializer.collect_seq(self.0.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)))
            }
            Encoding::Base64 => serializer.serialize_str(&STANDARD.encode(self.0)),
        }
    }
}

/// The body of the answer to a request for embeddings. `outputs` has one tensor of `FP32` of rank 2, as the bundle was checked for.
///
/// # Errors
/// When `outputs` are others.
pub(crate) fn embeddings_response(
    model: &str,
    encoding: Encoding,
    outputs: &[NamedTensor],
) -> Result<Vec<u8>, serde_json::Error> {
    let rows = match outputs {
        [(_, tensor)] if tensor.dtype() == DType::F32 => match tensor.shape().dims() {
            [_, width] => {
                usize::try_from(*width).ok().map(|width| Rows { data: tensor.data(), width: 4 * width, encoding })
            }
            _ => None,
        },
        _ => None,
    };
    let data = rows.ok_or_else(|| serde::ser::Error::custom("the outputs are no embeddings"))?;
    let mut body = Vec::with_capacity(super::json::size(outputs));
    let usage = Usage { prompt_tokens: 0, total_tokens: 0 };
    serde_json::to_writer(&mut body, &Embeddings { object: "list", data, model, usage })?;
    Ok(body)
}

/// A model as `/v1/models` tells it. `created` is in seconds since 1970.
pub(crate) fn model(name: &str, created: u64) -> Map<String, Value> {
    let members =
        [("id", name.into()), ("object", "model".into()), ("created", created.into()), ("owned_by", "torpor".into())];
    members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The list of models: `models` for KServe, which wants the names of all, and `data` for those that this interface serves.
pub(crate) fn models(names: &[String], data: Vec<Map<String, Value>>) -> Value {
    json!({ "object": "list", "data": data, "models": names })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(body: &str) -> Result<EmbeddingsRequest, String> {
        embeddings_request(body.as_bytes()).map_err(|malformed| malformed.to_string())
    }

    #[test]
    fn texts_are_read() {
        let texts = |elements: &[&str]| Tensor::from_elements([elements.len() as u64].into(), elements).unwrap();
        let request = read(r#"{"model":"m","input":"hi","user":"u"}"#).unwrap();
        let expected =
            EmbeddingsRequest { model: "m".into(), texts: texts(&["hi"]), encoding: Encoding::Float, dimensions: None };
        assert_eq!(request, expected);
        let request = read(r#"{"input":["a","é"],"model":"m","encoding_format":"base64","dimensions":3}"#).unwrap();
        assert_eq!(
            (request.texts, request.encoding, request.dimensions),
            (texts(&["a", "é"]), Encoding::Base64, Some(3))
        );
    }

    #[test]
    fn what_is_no_text_is_told() {
        let check = |body: &str, expected: &str| {
            let error = read(body).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        };
        let at = "the body is no request for embeddings in JSON: ";
        check("{", at);
        check(r#"{"input":"a"}"#, &format!("{at}missing field `model`"));
        check(r#"{"model":"m"}"#, &format!("{at}missing field `input`"));
        check(r#"{"model":"m","input":"a","encoding_format":"hex"}"#, &format!("{at}unknown variant `hex`"));
        check(r#"{"model":"m","input":[]}"#, "`input` has no text");
        for tokens in ["[1,2]", "[[1,2],[3]]", "7"] {
            check(&format!(r#"{{"model":"m","input":{tokens}}}"#), "`input` has the numbers of tokens; send texts");
        }
        let strings = "`input` must be a string or an array of strings: ";
        check(r#"{"model":"m","input":[["a"]]}"#, &format!("{strings}it has arrays in an array"));
        check(r#"{"model":"m","input":["a",null]}"#, &format!("{strings}element 1 is null, which is no BYTES"));
        let deep = format!(r#"{{"model":"m","input":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
        check(&deep, &format!("{strings}its arrays nest more than 32 deep"));
    }

    #[test]
    fn embeddings_are_numbers_or_base64() {
        let data: Vec<u8> = [0.5_f32, -1.0, 2.0, 0.0].iter().flat_map(|number| number.to_le_bytes()).collect();
        let outputs = [("e".to_owned(), Tensor::new(DType::F32, [2, 2].into(), data.into()).unwrap())];
        let read = |encoding| -> Value {
            serde_json::from_slice(&embeddings_response("m", encoding, &outputs).unwrap()).unwrap()
        };
        let row =
            |index: usize, embedding: Value| json!({ "object": "embedding", "index": index, "embedding": embedding });
        let body = |rows: [Value; 2]| json!({ "object": "list", "data": rows, "model": "m", "usage": { "prompt_tokens": 0, "total_tokens": 0 } });
        assert_eq!(read(Encoding::Float), body([row(0, json!([0.5, -1.0])), row(1, json!([2.0, 0.0]))]));
        assert_eq!(read(Encoding::Base64), body([row(0, json!("AAAAPwAAgL8=")), row(1, json!("AAAAQAAAAAA="))]));
        assert_eq!(has_dimensions(Some(2), &outputs), Ok(()));
        let expected = "`dimensions` is 3, but the embeddings of this model have 2";
        assert_eq!(has_dimensions(Some(3), &outputs).unwrap_err().to_string(), expected);
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(input in r#"[\[\]\{\}:,0-9a-z.\-"]{0,40}"#) {
            let _ = read(&format!(r#"{{"model":"m","input":{input}}}"#));
        }
    }
}
