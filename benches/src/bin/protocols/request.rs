//! What is asked: two tensors to add, in each protocol.

use crate::answer::{self, Sum, proto};
use anyhow::{Context, Result};
use prost::Message;
use proto::inference::{ModelInferRequest, model_infer_request::InferInputTensor};
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};
use torpor_benches::{
    load::{self, Round, grpc::Call},
    stage::ADD,
};

/// Elements in a row, as the model has it.
const COLUMNS: usize = 4;
const INPUTS: [&str; 2] = ["x", "y"];

/// How large the tensors are.
pub(crate) struct Size {
    pub(crate) name: &'static str,
    /// Of each input.
    rows: usize,
    /// The share of the native server's throughput that Torpor should have.
    pub(crate) share: f64,
    /// Whether what is done with each byte tells.
    pub(crate) large: bool,
}

/// Next to nothing, and half a megabyte in each input.
pub(crate) const SIZES: [Size; 2] = [
    Size { name: "tiny", rows: 1, share: 0.65, large: false },
    Size { name: "1 MB", rows: 32 * 1024, share: 0.9, large: true },
];

/// A form that tensors have on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Json,
    /// Bytes behind JSON, in requests and answers.
    Binary,
    /// With tensors in `raw_input_contents`.
    Grpc,
}

impl Protocol {
    pub(crate) const ALL: [Protocol; 3] = [Protocol::Json, Protocol::Binary, Protocol::Grpc];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Json => "JSON",
            Protocol::Binary => "binary",
            Protocol::Grpc => "gRPC",
        }
    }
}

/// A request that is sent again and again.
pub(crate) struct Request {
    pub(crate) protocol: Protocol,
    /// Bytes of its body.
    pub(crate) body: usize,
    wire: Wire,
    sum: Sum,
}

enum Wire {
    Http(Vec<u8>),
    Grpc(Call),
}

impl Request {
    pub(crate) fn new(protocol: Protocol, size: &Size) -> Result<Self> {
        let [x, y] = tensors(size.rows * COLUMNS);
        let shape = [size.rows, COLUMNS];
        let (wire, body) = match protocol {
            Protocol::Json => json_request(shape, [&x, &y]),
            Protocol::Binary => binary_request(shape, [&x, &y]),
            Protocol::Grpc => grpc_request(shape, [&x, &y])?,
        };
        let data = x.iter().zip(&y).map(|(x, y)| x + y).collect();
        Ok(Request { protocol, body, wire, sum: Sum { shape: shape.map(|size| size as u64).into(), data } })
    }

    /// Makes sure that the server answers, and rightly. Returns how many bytes the body of its answer has.
    pub(crate) fn check(&self, address: SocketAddr) -> Result<usize> {
        let body = match &self.wire {
            Wire::Http(request) => load::once(address, request)?,
            Wire::Grpc(call) => load::grpc::once(address, call)?,
        };
        let sum = match self.protocol {
            Protocol::Json => answer::json(&body),
            Protocol::Binary => answer::binary(&body),
            Protocol::Grpc => answer::grpc(&body),
        };
        answer::same(&self.sum, &sum?)?;
        Ok(body.len())
    }

    /// Keeps a server busy.
    pub(crate) fn round(&self, address: SocketAddr, connections: usize, time: Duration) -> Result<Round> {
        match &self.wire {
            Wire::Http(request) => load::round(address, request, connections, time),
            Wire::Grpc(call) => load::grpc::round(address, call, connections, time),
        }
        .with_context(|| format!("at {connections} connections over {}", self.protocol.name()))
    }
}

fn json_request(shape: [usize; 2], inputs: [&[f32]; 2]) -> (Wire, usize) {
    // By themselves, since numbers become doubles in a `Value`, which have more digits.
    let input = |(name, data): (&str, &[f32])| {
        let data: Vec<_> = data.iter().map(|element| json!(element).to_string()).collect();
        let [rows, columns] = shape;
        format!(r#"{{"name":"{name}","shape":[{rows},{columns}],"datatype":"FP32","data":[{}]}}"#, data.join(","))
    };
    let inputs = INPUTS.into_iter().zip(inputs).map(input).collect::<Vec<_>>().join(",");
    let body = format!(r#"{{"inputs":[{inputs}]}}"#);
    (Wire::Http(load::wire(&path(), body.as_bytes())), body.len())
}

fn binary_request(shape: [usize; 2], inputs: [&[f32]; 2]) -> (Wire, usize) {
    let input = |name: &str, data: &[u8]| -> Value {
        json!({
            "name": name, "shape": shape, "datatype": "FP32", "parameters": { "binary_data_size": data.len() },
        })
    };
    let [x, y] = inputs.map(bytes);
    let inputs = [input(INPUTS[0], &x), input(INPUTS[1], &y)];
    let head = json!({ "parameters": { "binary_data_output": true }, "inputs": inputs }).to_string();
    let data = [x, y].concat();
    (Wire::Http(load::binary_wire(&path(), head.as_bytes(), &data)), head.len() + data.len())
}

fn grpc_request(shape: [usize; 2], inputs: [&[f32]; 2]) -> Result<(Wire, usize)> {
    let mut request = ModelInferRequest { model_name: ADD.name.to_owned(), ..ModelInferRequest::default() };
    for (name, data) in INPUTS.into_iter().zip(inputs) {
        let (name, datatype) = (name.to_owned(), "FP32".to_owned());
        let shape = shape.map(|size| i64::try_from(size).unwrap_or_default()).into();
        request.inputs.push(InferInputTensor { name, datatype, shape, ..InferInputTensor::default() });
        request.raw_input_contents.push(bytes(data).into());
    }
    let message = request.encode_to_vec();
    Ok((Wire::Grpc(Call::new("/inference.GRPCInferenceService/ModelInfer", &message)?), message.len()))
}

fn path() -> String {
    format!("/v2/models/{}/infer", ADD.name)
}

fn bytes(data: &[f32]) -> Vec<u8> {
    data.iter().flat_map(|element| element.to_le_bytes()).collect()
}

/// Two tensors of numbers from -1 to 1 that need all their digits, the same in each run.
fn tensors(elements: usize) -> [Vec<f32>; 2] {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // The 24 bits that fit.
        let bits = u16::try_from(state >> 48).unwrap_or_default();
        let more = u8::try_from(state >> 40 & 0xff).unwrap_or_default();
        (f32::from(bits) * 256.0 + f32::from(more)) / 8_388_608.0 - 1.0
    };
    [(); 2].map(|()| (0..elements).map(|_| next()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_protocols_carry_the_same() {
        let size = &SIZES[0];
        let [json, binary, grpc] = Protocol::ALL.map(|protocol| Request::new(protocol, size).unwrap());
        assert_eq!((json.sum.data.len(), &json.sum.data), (4, &binary.sum.data));
        assert_eq!(json.sum.data, grpc.sum.data);
        assert!(json.body > 0 && binary.body > 32 && grpc.body > 32);
        let Wire::Http(request) = json.wire else { panic!("JSON is sent over HTTP/1.1") };
        let text = String::from_utf8(request).unwrap();
        let body: Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body["inputs"][0]["data"].as_array().unwrap().len(), 4);
    }
}
