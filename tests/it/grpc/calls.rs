//! What every call has in common: limits, time, compression, cancellation, and what is no call.

use super::{
    Client, LIMIT, add, block_on, check, client, connect, floats, input, is_sum,
    proto::inference::{ModelInferRequest, ModelInferResponse, ServerLiveRequest},
    sum,
};
use crate::fixture::{TestHost, forever};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;
use tonic::{Code, Status, codec::CompressionEncoding};

/// The path of an inference.
const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// A message as it stands in a body.
fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flag], length.as_slice(), message].concat()
}

/// A connection on which anything may be sent.
struct Bare {
    sender: hyper::client::conn::http2::SendRequest<Full<Bytes>>,
    address: std::net::SocketAddr,
}

/// An answer, with the headers and the trailers in one.
struct Answer {
    status: StatusCode,
    fields: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    fn grpc(&self) -> Status {
        assert_eq!(self.status, StatusCode::OK, "{:?}", self.fields);
        Status::from_header_map(&self.fields).unwrap_or_else(|| panic!("no status: {:?}", self.fields))
    }
}

impl Bare {
    async fn connect(host: &TestHost) -> Self {
        let stream = TcpStream::connect(host.data).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Bare { sender, address: host.data }
    }

    async fn send(&mut self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let mut request = Request::post(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.sender.send_request(request.body(Full::from(body)).unwrap()).await.unwrap();
        let (head, mut body) = answer.into_parts();
        let (mut fields, mut bytes) = (head.headers, Vec::new());
        while let Some(frame) = body.frame().await {
            match frame.unwrap().into_data() {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => fields.extend(frame.into_trailers().unwrap()),
            }
        }
        Answer { status: head.status, fields, body: bytes }
    }

    async fn call(&mut self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        self.send(path, &[&[("content-type", "application/grpc"), ("te", "trailers")], headers].concat(), body).await
    }
}

#[test]
fn what_is_no_call_is_told_so() {
    let host = add();
    block_on(async {
        let mut bare = Bare::connect(&host).await;
        let right = framed(0, &sum().encode_to_vec());
        for (headers, body, code, words) in [
            (&[][..], vec![], Code::InvalidArgument, &["one message", "none"][..]),
            (&[], vec![0, 0], Code::InvalidArgument, &["cut off"]),
            (&[], right[..right.len() - 1].to_vec(), Code::InvalidArgument, &["cut off"]),
            (&[], [right.clone(), right.clone()].concat(), Code::InvalidArgument, &["one message", "more"]),
            (&[], framed(0, &[0xff; 20]), Code::InvalidArgument, &["cut off, or is none"]),
            (&[], framed(0, &[0x2a, 0xff, 0xff, 0xff, 0x7f]), Code::InvalidArgument, &["cut off"]),
            (&[], framed(0, &[0x0a, 2, 0xc3, 0x28]), Code::InvalidArgument, &["UTF-8"]),
            (&[], framed(7, b""), Code::InvalidArgument, &["flag 7"]),
            (&[], framed(1, b"x"), Code::InvalidArgument, &["`grpc-encoding`"]),
            (&[("grpc-encoding", "gzip")], framed(1, b"x"), Code::InvalidArgument, &["not compressed"]),
            (&[("grpc-encoding", "deflate")], framed(1, b"x"), Code::InvalidArgument, &["not compressed"]),
            (&[("grpc-encoding", "br")], right.clone(), Code::Unimplemented, &["`br`", "`gzip`"]),
            (&[("grpc-timeout", "soon")], right.clone(), Code::InvalidArgument, &["grpc-timeout"]),
            (&[], framed(0, b"")[..1].iter().copied().chain([255; 4]).collect(), Code::ResourceExhausted, &["bytes"]),
        ] {
            check(&bare.call(INFER, headers, body).await.grpc(), code, words);
            let answer = bare.call(INFER, &[], right.clone()).await;
            assert_eq!(answer.grpc().code(), Code::Ok);
            is_sum(&ModelInferResponse::decode(&answer.body[5..]).unwrap());
        }
        let answer = bare.call(INFER, &[("grpc-encoding", "br")], right.clone()).await;
        assert_eq!(answer.fields["grpc-accept-encoding"], "identity,gzip,deflate");
    });
}

#[test]
fn calls_are_told_by_path_and_content_type() {
    let host = add();
    block_on(async {
        let mut bare = Bare::connect(&host).await;
        for path in [
            "/inference.GRPCInferenceService/Nothing",
            "/no.such.Service/Call",
            "/tensorflow.serving.PredictionService/Classify",
        ] {
            check(&bare.call(path, &[], framed(0, b"")).await.grpc(), Code::Unimplemented, &[]);
        }
        for content_type in ["application/json", "application/grpc-web"] {
            let answer = bare.send(INFER, &[("content-type", content_type)], framed(0, b"")).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        }
        let answer = bare.send("/no.such.Service/Call", &[("content-type", "application/json")], vec![]).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        let answer =
            bare.send(INFER, &[("content-type", "application/grpc+proto")], framed(0, &sum().encode_to_vec())).await;
        assert_eq!(answer.grpc().code(), Code::Ok);
    });
    // HTTP/1.1 has no trailers that clients would read.
    let request = Request::post(INFER).header("content-type", "application/grpc");
    let reply = host.send(request.body(framed(0, b"")).unwrap());
    assert!(reply.status(400).error().contains("HTTP/2"));
    host.get(INFER).status(405);
}

/// A right request that takes so many bytes, or a few more.
fn request_of(bytes: usize) -> ModelInferRequest {
    let rows = bytes / 32;
    let raw = floats(&vec![1.0; rows * 4]).to_vec();
    let shape = [i64::try_from(rows).unwrap(), 4];
    ModelInferRequest {
        inputs: vec![input("x", "FP32", &shape), input("y", "FP32", &shape)],
        raw_input_contents: vec![raw.clone(), raw],
        ..sum()
    }
}

#[test]
fn a_message_beyond_the_functions_limit_is_refused() {
    let host = TestHost::builder()
        .function("add", |manifest| manifest.set("limits.body", "4KiB"))
        .another("large", "add", |manifest| manifest.set("limits.body", "4MiB"))
        .start();
    block_on(async {
        let mut client = client(&host).await;
        let status = client.model_infer(request_of(LIMIT)).await.unwrap_err();
        check(&status, Code::ResourceExhausted, &["4.0 KiB", "`add`"]);
        // Nothing was called, so nothing woke.
        assert_eq!(host.status("add")["state"], "Cold");
        client.model_infer(request_of(LIMIT - 128)).await.unwrap();
        let large = |bytes| ModelInferRequest { model_name: "large".into(), ..request_of(bytes) };
        let answer = client.model_infer(large(2 << 20)).await.unwrap().into_inner();
        assert_eq!(answer.raw_output_contents[0], floats(&vec![2.0; (2 << 20) / 8]));
        // Beyond what any function takes it is not even read.
        let status = client.model_infer(large(5 << 20)).await.unwrap_err();
        check(&status, Code::ResourceExhausted, &["4194304 bytes"]);
        is_sum(client.model_infer(sum()).await.unwrap().get_ref());
        // Numbers that are short in their message are bounded by what they are as tensors.
        let mut many = sum();
        let contents =
            super::proto::inference::InferTensorContents { uint64_contents: vec![1; 600], ..Default::default() };
        many.inputs[0] = super::InferInputTensor { contents: Some(contents), ..input("x", "UINT64", &[600]) };
        many.inputs.truncate(1);
        many.raw_input_contents.clear();
        check(&client.model_infer(many).await.unwrap_err(), Code::InvalidArgument, &["`x`", "4800 bytes", "4096"]);
    });
}

#[test]
fn messages_are_compressed_both_ways() {
    let host = TestHost::builder().function("add", |manifest| manifest.set("limits.body", "1MiB")).start();
    block_on(async {
        for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate] {
            let client = Client::new(connect(&host).await).send_compressed(encoding).accept_compressed(encoding);
            let mut client = client.clone();
            let answer = client.model_infer(request_of(1 << 19)).await.unwrap();
            let told = answer.metadata().get("grpc-encoding").map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(told, Some(encoding.to_string()));
            assert_eq!(answer.into_inner().raw_output_contents[0], floats(&vec![2.0; (1 << 19) / 8]));
            is_sum(client.model_infer(sum()).await.unwrap().get_ref());
            // What inflates beyond the limit is not inflated further.
            let status = client.model_infer(request_of(8 << 20)).await.unwrap_err();
            check(&status, Code::ResourceExhausted, &["1048576 bytes"]);
            is_sum(client.model_infer(sum()).await.unwrap().get_ref());
        }
        // Who accepts it, but does not do it, is not made to wait for it.
        let mut client = Client::new(connect(&host).await).accept_compressed(CompressionEncoding::Gzip);
        let answer = client.model_infer(sum()).await.unwrap();
        assert!(answer.metadata().get("grpc-encoding").is_none());
        is_sum(answer.get_ref());
    });
}

/// A request that a function takes so many rounds for.
fn rounds(count: i64) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "slow".into(),
        inputs: vec![input("rounds", "INT64", &[1])],
        raw_input_contents: vec![count.to_le_bytes().to_vec()],
        ..Default::default()
    }
}

const ENDLESS: i64 = 1_000_000_000;

#[test]
fn a_clients_time_counts_where_it_is_shorter() {
    let host = TestHost::builder().function("slow", |manifest| manifest.set("limits.deadline", forever())).start();
    block_on(async {
        client(&host).await.model_infer(rounds(1)).await.unwrap();
        let mut bare = Bare::connect(&host).await;
        let answer = bare.call(INFER, &[("grpc-timeout", "300m")], framed(0, &rounds(ENDLESS).encode_to_vec())).await;
        check(&answer.grpc(), Code::DeadlineExceeded, &["grpc-timeout"]);
    });
    host.until_number("slow", "active", 0);
}

#[test]
fn the_functions_own_time_counts_too() {
    let host = TestHost::builder().function("slow", |manifest| manifest.set("limits.deadline", "1s")).start();
    block_on(async {
        let mut client = client(&host).await;
        client.model_infer(rounds(1)).await.unwrap();
        let status = client.model_infer(rounds(ENDLESS)).await.unwrap_err();
        check(&status, Code::DeadlineExceeded, &["`slow`", "deadline"]);
        client.model_infer(rounds(1)).await.unwrap();
    });
}

#[test]
fn a_client_that_cancels_ends_its_call() {
    let host = TestHost::builder().function("slow", |manifest| manifest.set("limits.deadline", forever())).start();
    block_on(async {
        let mut client = client(&host).await;
        client.model_infer(rounds(1)).await.unwrap();
        let mut caller = client.clone();
        let call = tokio::spawn(async move { caller.model_infer(rounds(ENDLESS)).await });
        host.until_number("slow", "active", 1);
        call.abort();
        host.until_number("slow", "active", 0);
        // The connection is the same.
        client.model_infer(rounds(1)).await.unwrap();
    });
}

#[test]
fn who_is_turned_away_is_told_when_to_come_again() {
    let host = TestHost::builder()
        .function("slow", |manifest| {
            manifest.set("limits.deadline", forever()).set("scale.max-concurrency", 1).set("scale.queue", 1)
        })
        .start();
    block_on(async {
        let client = client(&host).await;
        client.clone().model_infer(rounds(1)).await.unwrap();
        let start = || {
            let mut caller = client.clone();
            tokio::spawn(async move { caller.model_infer(rounds(ENDLESS)).await })
        };
        let running = start();
        host.until_number("slow", "active", 1);
        let waiting = start();
        host.until_number("slow", "queued", 1);
        let status = client.clone().model_infer(rounds(1)).await.unwrap_err();
        check(&status, Code::Unavailable, &["the queue of `slow` is full"]);
        let again = status.metadata().get("grpc-retry-pushback-ms").expect("a hint").to_str().unwrap();
        assert!(again.parse::<u32>().unwrap() >= 1, "{again}");
        running.abort();
        waiting.abort();
        host.until_number("slow", "active", 0);
        client.clone().model_infer(rounds(1)).await.unwrap();
    });
}

#[test]
fn many_calls_share_a_connection() {
    let host = add();
    block_on(async {
        let client = client(&host).await;
        let calls = (0..200).map(|index| {
            let mut client = client.clone();
            async move {
                match index % 4 {
                    0 => {
                        let wrong = ModelInferRequest { model_name: "nobody".into(), ..sum() };
                        check(&client.model_infer(wrong).await.unwrap_err(), Code::NotFound, &[]);
                    }
                    1 => drop(client.server_live(ServerLiveRequest {}).await.unwrap()),
                    _ => is_sum(client.model_infer(sum()).await.unwrap().get_ref()),
                }
            }
        });
        futures::future::join_all(calls).await;
    });
}
