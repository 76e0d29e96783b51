//! What came back: a server that answers something else would be fast for nothing.

use anyhow::{Context, Result, ensure};
use prost::Message;
use proto::inference::ModelInferResponse;
use serde::Deserialize;

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    dead_code,
    clippy::all,
    clippy::pedantic,
    reason = "generated, and not all of it is used"
)]
pub(crate) mod proto {
    tonic::include_proto!("proto");
}

/// The one output.
#[derive(PartialEq)]
pub(crate) struct Sum {
    pub(crate) shape: Vec<u64>,
    pub(crate) data: Vec<f32>,
}

#[derive(Deserialize)]
struct Answer {
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    datatype: String,
    shape: Vec<u64>,
    /// Where it is not behind the JSON.
    data: Option<Vec<f32>>,
}

/// Reads an answer that is JSON.
pub(crate) fn json(body: &[u8]) -> Result<Sum> {
    let Answer { outputs } = serde_json::from_slice(body).context("the answer is not read")?;
    let Output { name, datatype, shape, data } = only(outputs)?;
    sum(&name, &datatype, shape, data.context("the output is not in the JSON")?)
}

/// Reads an answer that is JSON with the tensor behind it.
pub(crate) fn binary(body: &[u8]) -> Result<Sum> {
    let mut texts = serde_json::Deserializer::from_slice(body).into_iter();
    let Answer { outputs } = texts.next().context("the answer is empty")?.context("the answer is not read")?;
    let Output { name, datatype, shape, data } = only(outputs)?;
    ensure!(data.is_none(), "the output is in the JSON, and not behind it");
    sum(&name, &datatype, shape, elements(&body[texts.byte_offset()..])?)
}

/// Reads the message of an answer over gRPC.
pub(crate) fn grpc(message: &[u8]) -> Result<Sum> {
    let ModelInferResponse { outputs, raw_output_contents, .. } = Message::decode(message)?;
    let output = only(outputs)?;
    let shape = output.shape.iter().map(|&size| u64::try_from(size)).collect::<Result<_, _>>()?;
    sum(&output.name, &output.datatype, shape, elements(&only(raw_output_contents)?)?)
}

fn only<T>(mut all: Vec<T>) -> Result<T> {
    ensure!(all.len() == 1, "there are {} outputs, and not one", all.len());
    all.pop().context("there is none")
}

fn sum(name: &str, datatype: &str, shape: Vec<u64>, data: Vec<f32>) -> Result<Sum> {
    ensure!((name, datatype) == ("z", "FP32"), "the output is `{name}`, of {datatype}");
    Ok(Sum { shape, data })
}

fn elements(bytes: &[u8]) -> Result<Vec<f32>> {
    let (elements, rest) = bytes.as_chunks();
    ensure!(rest.is_empty(), "the output ends within an element");
    Ok(elements.iter().map(|element| f32::from_le_bytes(*element)).collect())
}

/// Makes sure that an answer says what it should, to the last bit: one addition has one result.
pub(crate) fn same(expected: &Sum, sum: &Sum) -> Result<()> {
    ensure!(expected.shape == sum.shape, "the output has the shape {:?}, and not {:?}", sum.shape, expected.shape);
    ensure!(expected.data == sum.data, "the output has other elements than it should");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::inference::model_infer_response::InferOutputTensor;

    #[test]
    fn an_answer_says_the_same_in_each_protocol() {
        let expected = Sum { shape: vec![1, 2], data: vec![0.5, -1.0] };
        let data: Vec<u8> = expected.data.iter().flat_map(|element| element.to_le_bytes()).collect();
        let head = r#"{"outputs":[{"name":"z","datatype":"FP32","shape":[1,2]"#;
        let text = format!(r#"{head},"data":[0.5,-1]}}]}}"#);
        assert!(same(&expected, &json(text.as_bytes()).unwrap()).is_ok());
        let body = [format!(r#"{head},"parameters":{{"binary_data_size":8}}}}]}}"#).as_bytes(), &data].concat();
        assert!(same(&expected, &binary(&body).unwrap()).is_ok());
        let (name, datatype, shape) = ("z".to_owned(), "FP32".to_owned(), vec![1, 2]);
        let output = InferOutputTensor { name, datatype, shape, ..InferOutputTensor::default() };
        let (outputs, raw_output_contents) = (vec![output], vec![data.into()]);
        let message = ModelInferResponse { outputs, raw_output_contents, ..ModelInferResponse::default() };
        assert!(same(&expected, &grpc(&message.encode_to_vec()).unwrap()).is_ok());
        let other = text.replace("0.5", "0.6");
        assert!(same(&expected, &json(other.as_bytes()).unwrap()).is_err());
        assert!(binary(text.as_bytes()).is_err());
    }
}
