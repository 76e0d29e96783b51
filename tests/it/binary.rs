//! The binary tensor data extension, classification and compression of the Open Inference Protocol over REST.

use crate::fixture::{Raw, Reply, TestHost, raw, skipped_without_onnxruntime, skipped_without_openvino};
use flate2::{Compression, read::GzDecoder, read::ZlibDecoder, write::GzEncoder, write::ZlibEncoder};
use http::Request;
use serde_json::{Value, json};
use std::io::{Read, Write};

const HEADER: &str = "inference-header-content-length";

/// A host with the function `add`, which takes `x` and `y` of shape [n, 4] and gives `z`.
fn add() -> TestHost {
    TestHost::builder().function("add", |manifest| manifest.set("limits.body", "4MiB")).start()
}

fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

fn binary(name: &str, datatype: &str, shape: Value, size: usize) -> Value {
    json!({ "name": name, "datatype": datatype, "shape": shape, "parameters": { "binary_data_size": size } })
}

fn request(path: &str, head: &str) -> http::request::Builder {
    Request::post(path).header(HEADER, head.len())
}

/// Sends a request whose JSON is `head`, with `data` behind it.
#[track_caller]
fn infer(host: &TestHost, model: &str, head: &Value, data: &[u8]) -> Reply {
    let head = head.to_string();
    let path = format!("/v2/models/{model}/infer");
    let body = [head.as_bytes(), data].concat();
    host.send(request(&path, &head).body(body).expect("a request"))
}

/// The JSON of an answer, and the data of its binary outputs, which must be all that follows.
#[track_caller]
fn parts(reply: &Reply) -> (Value, Vec<Vec<u8>>) {
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("content-type"), "application/octet-stream");
    let length: usize = reply.header(HEADER).parse().expect("a number");
    let (head, mut rest) = reply.body.split_at(length);
    let head: Value = serde_json::from_slice(head).expect("the head is JSON");
    let sizes = head["outputs"].as_array().expect("outputs").iter();
    let sizes = sizes.filter_map(|output| output["parameters"]["binary_data_size"].as_u64());
    let parts = sizes.map(|size| {
        let (part, after) = rest.split_at(usize::try_from(size).expect("a size"));
        rest = after;
        part.to_vec()
    });
    let parts = parts.collect();
    assert!(rest.is_empty(), "{} bytes are no output's", rest.len());
    (head, parts)
}

/// A right request for `rows` rows, and its data.
fn sum(rows: usize) -> (Value, Vec<u8>) {
    let data = floats((0..rows * 8).map(|index| f32::from(u16::try_from(index % 1000).expect("small"))));
    let inputs =
        json!([binary("x", "FP32", json!([rows, 4]), rows * 16), binary("y", "FP32", json!([rows, 4]), rows * 16),]);
    (json!({ "inputs": inputs, "parameters": { "binary_data_output": true } }), data)
}

fn sums(rows: usize, data: &[u8]) -> Vec<u8> {
    let values: Vec<f32> = data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    floats((0..rows * 4).map(|index| values[index] + values[index + rows * 4]))
}

#[test]
fn tensors_go_in_and_out_as_bytes() {
    let host = add();
    // One that comes with its head, and one that takes many reads.
    for rows in [0, 1, 7, 60_000] {
        let (mut head, data) = sum(rows);
        head["id"] = "7".into();
        let reply = infer(&host, "add", &head, &data);
        let (answer, outputs) = parts(&reply);
        assert_eq!((&answer["id"], &answer["model_version"]), (&json!("7"), &json!("1")));
        let parameters = json!({ "binary_data_size": rows * 16 });
        let expected = json!({ "name": "z", "datatype": "FP32", "shape": [rows, 4], "parameters": parameters });
        assert_eq!(answer["outputs"], json!([expected]));
        assert!(outputs == [sums(rows, &data)], "{rows} rows");
        assert_eq!(reply.header("content-length"), reply.body.len().to_string());
    }
}

#[test]
fn json_and_bytes_mix_both_ways() {
    let host = add();
    let row = json!([1, 2, 3, 4]);
    let x = json!({ "name": "x", "datatype": "FP32", "shape": [1, 4], "data": row });
    let y = binary("y", "FP32", json!([1, 4]), 16);
    let data = floats([0.5; 4]);
    // Bytes in and JSON out.
    let reply = infer(&host, "add", &json!({ "inputs": [y, x] }), &data).status(200);
    assert_eq!((reply.header("content-type"), reply.header(HEADER)), ("application/json", ""));
    assert_eq!(reply.json()["outputs"][0]["data"], json!([1.5, 2.5, 3.5, 4.5]));
    // JSON in and bytes out, of one output or of all that say nothing else.
    let y = json!({ "name": "y", "datatype": "FP32", "shape": [1, 4], "data": row });
    let ask = |outputs: Value, parameters: Value| {
        host.infer("add", &json!({ "inputs": [x, y], "outputs": outputs, "parameters": parameters }))
    };
    for (output, parameters) in [
        (json!({ "name": "z", "parameters": { "binary_data": true } }), json!({})),
        (json!({ "name": "z" }), json!({ "binary_data_output": true, "priority": 3, "who": "me", "timeout": 1.5 })),
    ] {
        assert_eq!(parts(&ask(json!([output]), parameters)).1, [floats([2.0, 4.0, 6.0, 8.0])]);
    }
    let output = json!([{ "name": "z", "parameters": { "binary_data": false } }]);
    ask(output, json!({ "binary_data_output": true })).status(200).json();
}

/// One tensor of every type, as bytes.
fn every_type() -> Vec<(&'static str, Vec<u8>)> {
    let ones = |size: usize| vec![0xc1; size * 2];
    vec![
        ("bool", vec![1, 0]),
        ("uint8", ones(1)),
        ("uint16", ones(2)),
        ("uint32", ones(4)),
        ("uint64", ones(8)),
        ("int8", ones(1)),
        ("int16", ones(2)),
        ("int32", ones(4)),
        ("int64", ones(8)),
        // NaN and infinity, which JSON does not have.
        ("fp16", vec![0x00, 0x7e, 0x00, 0xfc]),
        ("bf16", vec![0xc0, 0x7f, 0x80, 0xff]),
        ("fp32", floats([f32::NAN, f32::NEG_INFINITY])),
        ("fp64", [f64::NAN, f64::INFINITY].map(f64::to_le_bytes).concat()),
        // What is no text.
        ("bytes", b"\x03\0\0\0\xff\xfe\0\0\0\0\0".to_vec()),
    ]
}

fn every_input() -> (Vec<Value>, Vec<u8>) {
    let tensors = every_type();
    let inputs = tensors.iter().map(|(name, data)| binary(name, &name.to_uppercase(), json!([2]), data.len()));
    (inputs.collect(), tensors.iter().flat_map(|(_, data)| data.clone()).collect())
}

#[track_caller]
fn same(reply: &Reply, suffix: &str) {
    let (head, outputs) = parts(reply);
    let names: Vec<_> =
        head["outputs"].as_array().expect("outputs").iter().map(|output| output["name"].clone()).collect();
    for (name, data) in every_type() {
        let place = names.iter().position(|known| *known == format!("{name}{suffix}")).expect("every output");
        assert_eq!(outputs[place], data, "{name}");
    }
}

#[test]
fn every_datatype_goes_through_a_guest_as_bytes() {
    let host = TestHost::builder().function("probe-types", |manifest| manifest).start();
    for command in ["echo", "pass"] {
        let (mut inputs, data) = every_input();
        inputs.push(json!({ "name": "command", "shape": [1], "datatype": "BYTES", "data": [command] }));
        let request = json!({ "inputs": inputs, "parameters": { "binary_data_output": true } });
        same(&infer(&host, "probe-types", &request, &data), "");
        // In JSON it has no form, which is told, and the rest has.
        let reply = infer(&host, "probe-types", &json!({ "inputs": inputs }), &data);
        assert_eq!(reply.status, 400, "{}", reply.text());
        let error = reply.error();
        assert!(error.contains("`bytes`") && error.contains("binary_data"), "{error}");
        let only = json!({ "inputs": inputs, "outputs": [{ "name": "fp32" }] });
        let reply = infer(&host, "probe-types", &only, &data).status(200).json();
        assert_eq!(reply["outputs"][0]["data"], json!([null, null]));
    }
}

#[test]
fn every_datatype_goes_through_a_native_model_as_bytes() {
    if skipped_without_onnxruntime() {
        return;
    }
    let host = TestHost::builder().function("types", |manifest| manifest).start();
    let (inputs, data) = every_input();
    let request = |padding: usize| {
        let id = "x".repeat(padding);
        json!({ "inputs": inputs, "id": id, "parameters": { "binary_data_output": true } })
    };
    // However the data lies in memory.
    for padding in 0..8 {
        same(&infer(&host, "types", &request(padding), &data), "_out");
    }
}

#[test]
fn wrong_binary_data_names_its_tensor_and_the_connection_goes_on() {
    let host = add();
    let mut connection = Raw::connect(host.data);
    let (right, data) = sum(1);
    let edit = |edit: &dyn Fn(&mut Value)| {
        let mut head = right.clone();
        edit(&mut head);
        head.to_string()
    };
    let size = |index: usize, size: Value| {
        edit(&|head| head["inputs"][index]["parameters"]["binary_data_size"] = size.clone())
    };
    let whole = right.to_string();
    for (head, data, words) in [
        (size(0, json!(12)), &data[..], &["`x`", "16 bytes", "12"][..]),
        (size(0, json!(17)), &data, &["`x`", "17"]),
        (size(1, json!(4)), &data, &["`y`", "16 bytes", "4"]),
        (size(1, json!(u64::MAX)), &data, &["`y`", "18446744073709551615", "16 bytes left"]),
        (size(1, json!(-16)), &data, &["`y`", "binary_data_size", "whole number"]),
        (size(1, json!("16")), &data, &["`y`", "binary_data_size", "whole number"]),
        (size(1, json!([16])), &data, &["`y`", "parameters"]),
        (whole.clone(), &data[..31], &["`y`", "15 bytes left"]),
        (whole.clone(), &data[..0], &["`x`", "0 bytes left"]),
        (whole.clone(), &[&data[..], b"x"].concat(), &["`y`", "1 bytes follow"]),
        (edit(&|head| head["inputs"][0]["data"] = json!([1, 2, 3, 4])), &data, &["`x`", "both"]),
        (edit(&|head| head["inputs"][0]["datatype"] = "FP64".into()), &data, &["`x`", "FP64", "32 bytes"]),
        (edit(&|head| head["inputs"][0]["shape"] = json!([2, 4])), &data, &["`x`", "32 bytes"]),
        (edit(&|head| head["outputs"] = json!([{ "name": "z", "parameters": { "binary_data": 1 } }])), &data, &["`z`"]),
    ] {
        let length = head.len();
        let body = [head.as_bytes(), data].concat();
        let request = format!(
            "POST /v2/models/add/infer HTTP/1.1\r\nhost: x\r\n{HEADER}: {length}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        connection.send(request).send(body);
        let answer = connection.until("}");
        assert_eq!(raw::status(&answer), 400, "{answer}");
        for word in words {
            assert!(answer.contains(word), "`{word}` is missing in: {answer}");
        }
    }
    for (length, words) in [
        ("999", &["999", "body"][..]),
        ("-1", &[HEADER]),
        ("x", &[HEADER]),
        ("1\r\ninference-header-content-length: 1", &[HEADER]),
    ] {
        connection.send(format!(
            "POST /v2/models/add/infer HTTP/1.1\r\nhost: x\r\n{HEADER}: {length}\r\ncontent-length: 2\r\n\r\n"
        ));
        connection.send("{}");
        let answer = connection.until("}");
        assert_eq!(raw::status(&answer), 400, "{answer}");
        assert!(words.iter().all(|word| answer.contains(word)), "{answer}");
    }
    let body = [whole.as_bytes(), &data].concat();
    connection.send(format!(
        "POST /v2/models/add/infer HTTP/1.1\r\nhost: x\r\n{HEADER}: {}\r\ncontent-length: {}\r\n\r\n",
        whole.len(),
        body.len()
    ));
    connection.send(body);
    assert_eq!(raw::status(&connection.until("binary_data_size")), 200);
}

#[test]
fn wrong_texts_are_named() {
    let host = TestHost::builder().function("filetype", |manifest| manifest).start();
    let content = |size: usize| json!({ "inputs": [binary("content", "BYTES", json!([1]), size)] });
    for data in [&b"\x05\0\0\0abc"[..], b"\xff\xff\xff\xffabc", b"ab", b"\0\0\0\0\x01\0\0\0x", b""] {
        let reply = infer(&host, "filetype", &content(data.len()), data);
        assert_eq!(reply.status, 400, "{}", reply.text());
        assert!(reply.error().contains("`content`"), "{}", reply.error());
    }
    // Which may be no text at all.
    let reply = infer(&host, "filetype", &content(12), b"\x08\0\0\0\x89PNG\r\n\x1a\n").status(200).json();
    assert!(reply["outputs"].is_array(), "{reply}");
    // The only input of a model may come without any JSON, and without its length.
    let raw = Request::post("/v2/models/filetype/infer").header(HEADER, 0).body(b"\x89PNG\r\n\x1a\n".to_vec());
    let (head, _) = parts(&host.send(raw.expect("a request")));
    assert_eq!(head["outputs"][0]["shape"], json!([1]));
}

#[test]
fn the_largest_are_named_by_the_bundles_labels() {
    if skipped_without_openvino() {
        return;
    }
    let host = TestHost::builder().function("species", |manifest| manifest).start();
    let ask = |classes: Value, more: Value| {
        let lengths = json!({ "name": "lengths", "datatype": "FP32", "shape": [2, 4], "data": [5.1, 3.5, 1.4, 0.2, 6.7, 3.0, 5.2, 2.3] });
        let mut parameters = json!({ "classification": classes });
        if more == json!(true) {
            parameters["binary_data"] = more;
        }
        host.infer(
            "species",
            &json!({ "inputs": [lengths], "outputs": [{ "name": "scores", "parameters": parameters }] }),
        )
    };
    let output = ask(json!(2), Value::Null).status(200).json()["outputs"][0].take();
    assert_eq!((&output["datatype"], &output["shape"]), (&json!("BYTES"), &json!([2, 2])));
    let data: Vec<_> =
        output["data"].as_array().expect("data").iter().map(|text| text.as_str().expect("text").to_owned()).collect();
    assert!(data[0].ends_with(":0:setosa") && data[2].ends_with(":2:virginica"), "{data:?}");
    let value = |text: &str| text.split(':').next().and_then(|value| value.parse::<f32>().ok()).expect("a number");
    assert!(value(&data[0]) >= value(&data[1]), "{data:?}");
    assert_eq!(ask(json!(99), Value::Null).status(200).json()["outputs"][0]["shape"], json!([2, 3]));
    let (head, bytes) = parts(&ask(json!(1), json!(true)));
    assert_eq!(head["outputs"][0]["shape"], json!([2, 1]));
    assert!(bytes[0].ends_with(b":2:virginica"), "{:?}", bytes[0]);
    for wrong in [json!(-1), json!("2"), json!(1.5)] {
        let reply = ask(wrong, Value::Null);
        assert_eq!(reply.status, 400);
        assert!(reply.error().contains("`scores`") && reply.error().contains("classification"), "{}", reply.error());
    }
}

#[test]
fn classes_need_numbers() {
    let host = TestHost::builder().function("filetype", |manifest| manifest).start();
    let ask = |output: &str| {
        let content = json!({ "name": "content", "shape": [1], "datatype": "BYTES", "data": ["{}"] });
        let outputs = json!([{ "name": output, "parameters": { "classification": 1 } }]);
        host.infer("filetype", &json!({ "inputs": [content], "outputs": outputs }))
    };
    let reply = ask("label");
    assert_eq!(reply.status, 400);
    assert!(reply.error().contains("`label`") && reply.error().contains("BYTES"), "{}", reply.error());
    let score = ask("score").status(200).json();
    assert!(score["outputs"][0]["data"][0].as_str().is_some_and(|text| text.ends_with(":0")), "{score}");
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).expect("memory");
    encoder.finish().expect("memory")
}

fn deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).expect("memory");
    encoder.finish().expect("memory")
}

fn encoded(host: &TestHost, coding: &str, body: Vec<u8>, head: Option<usize>) -> Reply {
    let mut request = Request::post("/v2/models/add/infer").header("content-encoding", coding);
    if let Some(head) = head {
        request = request.header(HEADER, head);
    }
    host.send(request.body(body).expect("a request"))
}

#[test]
fn bodies_may_be_encoded_both_ways() {
    let host = add();
    let (head, data) = sum(1000);
    let head = head.to_string();
    let body = [head.as_bytes(), &data].concat();
    for (coding, sent) in [("gzip", gzip(&body)), ("deflate", deflate(&body)), ("identity", body.clone())] {
        let request =
            request("/v2/models/add/infer", &head).header("content-encoding", coding).header("accept-encoding", coding);
        let mut reply = host.send(request.body(sent).expect("a request"));
        let mut inflated = Vec::new();
        let read = match coding {
            "gzip" => GzDecoder::new(&reply.body[..]).read_to_end(&mut inflated),
            "deflate" => ZlibDecoder::new(&reply.body[..]).read_to_end(&mut inflated),
            _ => (&reply.body[..]).read_to_end(&mut inflated),
        };
        read.expect("an answer of the coding that was asked for");
        assert_eq!(reply.header("content-encoding"), if coding == "identity" { "" } else { coding });
        reply.body = inflated;
        assert_eq!(parts(&reply).1, [sums(1000, &data)], "{coding}");
    }
}

#[test]
fn bodies_that_cannot_be_inflated_are_refused() {
    let host = add();
    let (head, data) = sum(1);
    let body = gzip(&[head.to_string().as_bytes(), &data].concat());
    let length = Some(head.to_string().len());
    for coding in ["br", "zstd", "gzip, gzip", "x"] {
        let reply = encoded(&host, coding, body.clone(), length);
        assert_eq!((reply.status, reply.header("accept-encoding")), (415, "gzip, deflate"), "{}", reply.text());
        assert!(reply.error().contains("gzip"), "{}", reply.error());
    }
    for wrong in [&body[..body.len() - 3], &[&body[..], b"x"].concat(), b"{}", b""] {
        for coding in ["gzip", "deflate"] {
            let reply = encoded(&host, coding, wrong.to_vec(), length);
            assert_eq!(reply.status, 400, "{}", reply.text());
            assert!(reply.error().contains(coding), "{}", reply.error());
        }
    }
    // 64 MiB of spaces, and the limit is 4 MiB.
    let bomb = vec![b' '; 64 << 20];
    for (coding, bomb) in [("gzip", gzip(&bomb)), ("deflate", deflate(&bomb))] {
        assert!(bomb.len() < 200_000);
        let reply = encoded(&host, coding, bomb, None);
        assert_eq!(reply.status, 413, "{}", reply.text());
        assert!(reply.error().contains("4.0 MiB"), "{}", reply.error());
    }
    assert_eq!(encoded(&host, "gzip", body, length).status, 200);
}

#[test]
fn deep_arrays_are_refused() {
    let host = add();
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    let data = |data: &str| format!(r#"{{"inputs":[{{"name":"x","shape":[1,4],"datatype":"FP32","data":{data}}}]}}"#);
    for body in [
        data(&deep),
        data(&deep[..200_000]),
        deep.clone(),
        format!(r#"{{"inputs":{deep}}}"#),
        format!(r#"{{"parameters":{deep}}}"#),
    ] {
        let reply = host.post("/v2/models/add/infer", body);
        assert_eq!(reply.status, 400, "{}", reply.text());
    }
    host.get("/v2/models/add/ready").status(200);
}
