//! The services of gRPC, on the port where HTTP is answered. Nothing that a client sends gets `INTERNAL` or `UNKNOWN`, and whatever was
//! wrong with a call, the next one on the same connection is answered.

mod calls;
mod health;
mod infer;
mod serving;
mod streams;

use crate::fixture::TestHost;
use bytes::Bytes;
use std::future::Future;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

/// The clients, as generated.
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    reason = "generated, and not all of it is used"
)]
mod proto {
    tonic::include_proto!("proto");
}

use proto::inference::{
    InferTensorContents, ModelInferRequest, ModelInferResponse,
    grpc_inference_service_client::GrpcInferenceServiceClient as Client, model_infer_request::InferInputTensor,
};

/// Bytes that the body of a request for `add` may have.
const LIMIT: usize = 4096;

/// A host with the function `add`, which takes `x` and `y` of shape [n, 4] and gives `z`.
fn add() -> TestHost {
    TestHost::builder().function("add", |manifest| manifest.set("limits.body", "4KiB")).start()
}

/// Does what a test has to await.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

/// A connection to a host.
async fn connect(host: &TestHost) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", host.data)).expect("an address");
    endpoint.connect().await.expect("the host is there")
}

async fn client(host: &TestHost) -> Client<Channel> {
    Client::new(connect(host).await)
}

fn input(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor { name: name.into(), datatype: datatype.into(), shape: shape.into(), ..Default::default() }
}

fn floats(data: &[f32]) -> Bytes {
    data.iter().flat_map(|element| element.to_le_bytes()).collect()
}

/// A right request, with its tensors raw.
fn sum() -> ModelInferRequest {
    ModelInferRequest {
        model_name: "add".into(),
        inputs: vec![input("x", "FP32", &[1, 4]), input("y", "FP32", &[1, 4])],
        raw_input_contents: vec![floats(&[1.0, 2.0, 3.0, 4.0]).into(), floats(&[0.5, 0.0, -1.0, 1e3]).into()],
        ..Default::default()
    }
}

/// The same request, with its tensors as numbers.
fn typed_sum() -> ModelInferRequest {
    let mut request = sum();
    for (input, raw) in request.inputs.iter_mut().zip(std::mem::take(&mut request.raw_input_contents)) {
        let elements = raw.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")));
        input.contents = Some(InferTensorContents { fp32_contents: elements.collect(), ..Default::default() });
    }
    request
}

/// What a request for the sum must be answered with.
#[track_caller]
fn is_sum(answer: &ModelInferResponse) {
    assert_eq!((answer.model_name.as_str(), answer.model_version.as_str()), ("add", "1"));
    let output = &answer.outputs[0];
    assert_eq!((output.name.as_str(), output.datatype.as_str(), output.shape.as_slice()), ("z", "FP32", &[1, 4][..]));
    assert_eq!(answer.raw_output_contents, [floats(&[1.5, 2.0, 2.0, 1004.0]).to_vec()]);
}

/// A status has this code, and a text with all of `words` and no path.
#[track_caller]
fn check(status: &Status, code: Code, words: &[&str]) {
    assert_eq!(status.code(), code, "{status}");
    let text = status.message();
    for word in words {
        assert!(text.contains(word), "`{word}` is missing in: {text}");
    }
    assert!(!text.contains(" /") && !text.contains("`/tmp"), "a path in: {text}");
}
