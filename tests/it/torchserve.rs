//! TorchServe over REST: what it answers, and how it refuses.

use crate::fixture::{Reply, TestHost};
use http::{Method, Request};
use serde_json::json;

/// The first bytes of a picture.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89";

fn send(host: &TestHost, path: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Reply {
    let mut request = Request::post(path);
    if !content_type.is_empty() {
        request = request.header("content-type", content_type);
    }
    host.send(request.body(body.into()).expect("a request"))
}

#[track_caller]
fn refused(reply: &Reply, status: u16, kind: &str, words: &[&str]) {
    assert_eq!(reply.status, status, "{}", reply.text());
    let error = reply.json();
    assert_eq!((&error["code"], &error["type"]), (&json!(status), &json!(kind)), "{error}");
    let text = error["message"].as_str().expect("a text");
    for word in words {
        assert!(text.contains(word), "`{word}` is missing in: {text}");
    }
}

#[test]
fn a_body_is_what_the_function_takes() {
    let host = TestHost::builder().function("filetype", |manifest| manifest).start();
    let expected = send(&host, "/predictions/filetype", "image/png", PNG).status(200).json();
    assert_eq!(expected["mime_type"], "image/png");
    assert!(expected["score"].is_number(), "{expected}");
    // As curl does with `-T`.
    assert_eq!(host.call(Method::PUT, "/predictions/filetype/0.1.0", PNG).status(200).json(), expected);
    let head = b"--frontier\r\nContent-Disposition: form-data; name=\"data\"; filename=\"a.png\"\r\n\r\n";
    let form = [head, PNG, b"\r\n--frontier--\r\n"].concat();
    let reply = send(&host, "/predictions/filetype/1", "multipart/form-data; boundary=frontier", form);
    assert_eq!(reply.status(200).json(), expected);
    // Several at once are answered as several.
    let reply = send(&host, "/predictions/filetype", "application/json", r#"{"data":["a","b"]}"#).status(200).json();
    assert_eq!(reply["label"].as_array().map(Vec::len), Some(2), "{reply}");
}

#[test]
fn numbers_come_as_json() {
    let host = TestHost::builder().function("add", |manifest| manifest).start();
    let one = r#"{"x":[1,2,3,4],"y":[1,1,1,1]}"#;
    for content_type in ["application/json", "", "application/x-www-form-urlencoded"] {
        let reply = send(&host, "/predictions/add", content_type, one).status(200);
        assert_eq!(reply.json(), json!([2.0, 3.0, 4.0, 5.0]));
        assert_eq!(reply.header("content-type"), "application/json");
    }
    let two = r#"{"x":[[1,2,3,4],[0,0,0,0]],"y":[[1,1,1,1],[1,1,1,1]]}"#;
    let reply = send(&host, "/predictions/add", "application/json", two).status(200);
    assert_eq!(reply.json(), json!([[2.0, 3.0, 4.0, 5.0], [1.0, 1.0, 1.0, 1.0]]));
}

#[test]
fn the_host_and_its_models_are_described() {
    let host = TestHost::builder().function("add", |manifest| manifest).start();
    assert_eq!(host.get("/ping").status(200).json(), json!({ "status": "Healthy" }));
    let digest = host.status("add")["digest"].clone();
    let models = host.get("/models").status(200).json();
    assert_eq!(models, json!({ "models": [{ "modelName": "add", "modelUrl": digest }] }));
    for path in ["/models/add", "/models/add/1", "/models/add/all"] {
        let model = &host.get(path).status(200).json()[0];
        assert_eq!(
            (&model["modelName"], &model["modelVersion"], &model["workers"]),
            (&json!("add"), &json!("1"), &json!([]))
        );
    }
    refused(&host.get("/models/add/9"), 404, "ModelNotFoundException", &["version `9`"]);
}

#[test]
fn what_is_wrong_is_told_in_its_form() {
    let host = TestHost::builder().function("add", |manifest| manifest.set("limits.body", "4KiB")).start();
    let right = r#"{"x":[1,2,3,4],"y":[1,1,1,1]}"#;
    let bad = "BadRequestException";
    let check = |body: &str, words: &[&str]| {
        refused(&send(&host, "/predictions/add", "application/json", body), 400, bad, words);
    };
    check("", &["JSON", "`x`, `y`"]);
    check("[1,2,3,4]", &["`x`, `y`"]);
    check(r#"{"x":[1,2,3,4]}"#, &["`y` is missing"]);
    check(&right.replace('4', "NaN"), &["JSON"]);
    check(&right.replace("3,4", "3"), &["`x`", "[1, 3]"]);
    check(&right.replace("\"y\"", "\"q\""), &["no input `q`"]);
    check(&"[".repeat(4000), &["JSON"]);
    refused(&send(&host, "/predictions/add", "multipart/form-data", ""), 400, bad, &["boundary"]);
    refused(&send(&host, "/predictions/add", "multipart/form-data; boundary=b", "--b"), 400, bad, &["form is broken"]);
    refused(&send(&host, "/predictions/other", "", right), 404, "ModelNotFoundException", &["no model `other`"]);
    refused(&send(&host, "/predictions/add/7", "", right), 404, "ModelNotFoundException", &["version `7`"]);
    refused(&send(&host, "/explanations/add", "", right), 404, "ModelNotFoundException", &["no explanations"]);
    let large = vec![b' '; 4097];
    refused(&send(&host, "/predictions/add", "", large), 413, "RequestEntityTooLargeException", &["4.0 KiB"]);
    refused(&host.call(Method::DELETE, "/predictions/add", ""), 405, "MethodNotAllowedException", &["POST, PUT"]);
    send(&host, "/predictions/add", "", right).status(200);
}
