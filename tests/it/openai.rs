//! OpenAI's interface for embeddings: what it answers, and how it refuses.

use crate::fixture::{Reply, TestHost, forever};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

fn host() -> TestHost {
    let embed =
        |manifest: crate::fixture::Manifest| manifest.set("limits.deadline", forever()).set("limits.body", "1MiB");
    TestHost::builder().function("embed", embed).function("add", |manifest| manifest).start()
}

fn ask(host: &TestHost, body: &Value) -> Reply {
    host.post("/v1/embeddings", body.to_string())
}

#[track_caller]
fn refused(reply: &Reply, status: u16, words: &[&str]) {
    assert_eq!(reply.status, status, "{}", reply.text());
    let error = reply.json();
    assert_eq!(
        (&error["error"]["type"], &error["error"]["param"]),
        (&json!("invalid_request_error"), &Value::Null),
        "{error}"
    );
    let text = error["error"]["message"].as_str().expect("a text");
    for word in words {
        assert!(text.contains(word), "`{word}` is missing in: {text}");
    }
}

#[test]
fn texts_get_the_functions_vectors() {
    let host = host();
    let tensors =
        json!({ "inputs": [{ "name": "text", "shape": [2], "datatype": "BYTES", "data": ["hello", "good bye"] }] });
    let expected = host.infer("embed", &tensors).status(200).json()["outputs"][0]["data"].clone();
    let expected = expected.as_array().expect("numbers");
    let answer =
        ask(&host, &json!({ "model": "embed", "input": ["hello", "good bye"], "dimensions": 384 })).status(200).json();
    assert_eq!((&answer["object"], &answer["model"]), (&json!("list"), &json!("embed")));
    assert_eq!(answer["usage"], json!({ "prompt_tokens": 0, "total_tokens": 0 }));
    for (index, embedding) in answer["data"].as_array().expect("a list").iter().enumerate() {
        assert_eq!((&embedding["object"], &embedding["index"]), (&json!("embedding"), &json!(index)));
        assert_eq!(
            embedding["embedding"].as_array().map(Vec::as_slice),
            Some(&expected[384 * index..384 * (index + 1)])
        );
    }
    // What the client of OpenAI asks for.
    let body = json!({ "model": "embed", "input": "hello", "encoding_format": "base64" });
    let answer = ask(&host, &body).status(200).json();
    let bytes = STANDARD.decode(answer["data"][0]["embedding"].as_str().expect("a text")).expect("base64");
    let numbers: Vec<f32> = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert_eq!(numbers.len(), 384);
    let near =
        |(given, expected): (&f32, &Value)| (f64::from(*given) - expected.as_f64().expect("a number")).abs() < 0.05;
    assert!(numbers.iter().zip(expected).all(near), "{numbers:?}");
}

#[test]
fn models_that_give_embeddings_are_listed() {
    let host = host();
    let models = host.get("/v1/models").status(200).json();
    assert_eq!(models["models"], json!(["add", "embed"]));
    assert_eq!((&models["object"], models["data"].as_array().map(Vec::len)), (&json!("list"), Some(1)));
    let (listed, model) = (&models["data"][0], host.get("/v1/models/embed").status(200).json());
    for key in ["id", "object", "created", "owned_by"] {
        assert_eq!(listed[key], model[key]);
    }
    assert_eq!(
        (&model["id"], &model["object"], model["created"].as_u64() > Some(1_700_000_000)),
        (&json!("embed"), &json!("model"), true)
    );
    assert_eq!(model["model_version_status"][0]["state"], "AVAILABLE");
    assert!(host.get("/v1/models/add").status(200).json()["id"].is_null());
}

#[test]
fn what_is_wrong_is_told_in_its_form() {
    let host = host();
    let check = |body: &Value, words: &[&str]| refused(&ask(&host, body), 400, words);
    check(&json!([]), &["JSON", "`model` and `input`"]);
    check(&json!({ "input": "a" }), &["model"]);
    check(&json!({ "model": "embed" }), &["input"]);
    check(&json!({ "model": "embed", "input": [] }), &["no text"]);
    check(&json!({ "model": "embed", "input": [1, 2] }), &["tokens"]);
    check(&json!({ "model": "embed", "input": ["a", null] }), &["element 1", "null"]);
    check(&json!({ "model": "embed", "input": "a", "encoding_format": "hex" }), &["hex"]);
    check(&json!({ "model": "embed", "input": "a", "dimensions": 3 }), &["384"]);
    check(&json!({ "model": "add", "input": "a" }), &["`add`", "no embeddings"]);
    refused(&ask(&host, &json!({ "model": "other", "input": "a" })), 404, &["no model `other`"]);
    let deep = format!(r#"{{"model":"embed","input":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
    refused(&host.post("/v1/embeddings", deep), 400, &["nest"]);
    let small = TestHost::builder().function("embed", |manifest| manifest.set("limits.body", "4KiB")).start();
    refused(&small.post("/v1/embeddings", vec![b' '; 4097]), 413, &["4.0 KiB", "`embed`"]);
    refused(&host.get("/v1/embeddings"), 405, &["POST"]);
    ask(&host, &json!({ "model": "embed", "input": "a" })).status(200);
    let none = TestHost::builder().function("add", |manifest| manifest).start();
    refused(&ask(&none, &json!({ "model": "add", "input": "a" })), 404, &["no model of this host"]);
}
