//! Requests and answers of the Open Inference Protocol whose tensors are bytes behind the JSON.

use crate::model::{Model, Tensor, VERSION};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
}

#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Vec<i64>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    parameters: Binary,
}

#[derive(Serialize)]
struct Response<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Cow<'a, str>>,
    outputs: Vec<Output<'a>>,
}

#[derive(Serialize)]
struct Output<'a> {
    name: &'a str,
    datatype: &'a str,
    shape: &'a [i64],
    parameters: Binary,
}

#[derive(Serialize, Deserialize)]
struct Binary {
    binary_data_size: usize,
}

/// The answer to a request whose first `head` bytes are JSON, in pieces: its own JSON, and each tensor.
pub(crate) fn answer(model: &mut Model, name: &str, body: &Bytes, head: usize) -> Result<Vec<Bytes>> {
    ensure!(head <= body.len(), "the body is shorter than its JSON");
    let Request { id, inputs } = serde_json::from_slice(&body[..head])?;
    let mut rest = body.slice(head..);
    let mut tensors = Vec::with_capacity(inputs.len());
    for Input { name, shape, datatype, parameters: Binary { binary_data_size } } in inputs {
        ensure!(binary_data_size <= rest.len(), "the body ends within input `{name}`");
        let data = rest.split_to(binary_data_size);
        tensors.push(Tensor { name: name.into_owned(), datatype: datatype.into_owned(), shape, data });
    }
    ensure!(rest.is_empty(), "there are {} bytes behind the last input", rest.len());
    let outputs = model.run(&tensors)?;
    let described = outputs.iter().map(|Tensor { name, datatype, shape, data }| {
        let parameters = Binary { binary_data_size: data.len() };
        Output { name, datatype, shape, parameters }
    });
    let response = Response { model_name: name, model_version: VERSION, id, outputs: described.collect() };
    let head = serde_json::to_vec(&response).context("the answer cannot be written")?;
    Ok(std::iter::once(head.into()).chain(outputs.into_iter().map(|output| output.data)).collect())
}
