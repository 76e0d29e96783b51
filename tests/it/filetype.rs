//! The module `filetype`: every answer that its Python reference has recorded, over both triggers and on every backend.

use crate::fixture::{Manifest, TestHost, assets, skipped_without_onnxruntime, skipped_without_openvino};
use serde_json::{Value, json};

/// Contents that JSON and a request of moderate size can carry.
const MODERATE: usize = 100_000;

fn host(backend: &'static str) -> TestHost {
    let manifest = |manifest: Manifest| manifest.set("limits.body", "32MiB").set("model.standard.backend", backend);
    TestHost::builder().function("filetype", manifest).start()
}

/// The recorded cases, each with its content.
fn cases() -> Vec<(Value, Vec<u8>)> {
    let file = assets::root().join("modules/filetype/reference/cases.json");
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(file).expect("the cases are there")).expect("a list");
    cases.into_iter().map(|case| (case.clone(), content(&case["parts"]))).collect()
}

/// Makes a content by its recipe, which `record.py` explains.
fn content(parts: &Value) -> Vec<u8> {
    let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok()).expect("a number");
    let part = |part: &Value| {
        if let Some(name) = part["file"].as_str() {
            return std::fs::read(assets::root().join("modules/filetype/reference/files").join(name))
                .expect("a sample");
        }
        if let Some(hex) = part["hex"].as_str() {
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
            return (0..hex.len()).step_by(2).map(byte).collect();
        }
        if let Some(text) = part["text"].as_str() {
            return text.as_bytes().repeat(number(&part["times"]));
        }
        let mut x = 1_u32;
        let random = std::iter::repeat_with(|| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            x.to_be_bytes()[0]
        });
        random.take(number(&part["random"])).collect()
    };
    parts.as_array().expect("parts").iter().flat_map(part).collect()
}

#[track_caller]
fn same_score(case: &Value, score: &Value) {
    let (score, expected) = (score.as_f64().expect("a score"), case["score"].as_f64().expect("a score"));
    assert!((score - expected).abs() < 1e-3, "{score} instead of {expected}: {}", case["name"]);
}

#[test]
fn posted_files_get_the_references_answers() {
    if skipped_without_onnxruntime() {
        return;
    }
    posted_files_get_the_references_answers_on("onnxruntime");
}

#[test]
fn posted_files_get_the_references_answers_from_openvino() {
    if skipped_without_openvino() {
        return;
    }
    posted_files_get_the_references_answers_on("openvino");
}

#[track_caller]
fn posted_files_get_the_references_answers_on(backend: &'static str) {
    let host = host(backend);
    let cases = cases();
    assert!(cases.len() >= 40, "only {} cases", cases.len());
    for (case, content) in cases {
        let reply = host.post("/fn/filetype", content).status(200);
        assert_eq!(reply.header("content-type"), "application/json");
        let answer = reply.json();
        assert_eq!((&answer["label"], &answer["mime_type"]), (&case["label"], &case["mime_type"]), "{}", case["name"]);
        same_score(&case, &answer["score"]);
    }
    assert_eq!(host.status("filetype")["models"][0]["backend"], backend);
}

#[test]
fn tensors_of_texts_get_the_references_answers() {
    if skipped_without_onnxruntime() {
        return;
    }
    let texts = cases().into_iter().filter(|(_, content)| content.len() < MODERATE);
    let texts: Vec<_> = texts.filter_map(|(case, content)| Some((case, String::from_utf8(content).ok()?))).collect();
    assert!(texts.len() >= 20, "only {} texts", texts.len());
    let data: Vec<_> = texts.iter().map(|(_, text)| text).collect();
    let content = json!({ "name": "content", "shape": [data.len()], "datatype": "BYTES", "data": data });
    let answer = host("onnxruntime").infer("filetype", &json!({ "inputs": [content] })).status(200).json();
    let output = |name: &str| {
        let outputs = answer["outputs"].as_array().expect("outputs");
        outputs.iter().find(|output| output["name"] == name).expect("every output")["data"].clone()
    };
    let (labels, types, scores) = (output("label"), output("mime_type"), output("score"));
    for (index, (case, _)) in texts.iter().enumerate() {
        assert_eq!((&labels[index], &types[index]), (&case["label"], &case["mime_type"]), "{}", case["name"]);
        same_score(case, &scores[index]);
    }
}

#[test]
fn without_a_native_library_the_labels_are_the_same() {
    let host = host("tract");
    for (case, content) in cases().into_iter().step_by(5) {
        let answer = host.post("/fn/filetype", content).status(200).json();
        assert_eq!(answer["label"], case["label"], "{}", case["name"]);
    }
    assert_eq!(host.status("filetype")["models"][0]["backend"], "tract");
}

#[test]
fn the_model_alone_gives_its_scores() {
    let host = TestHost::builder().function("filetype-raw", |manifest| manifest).start();
    let zeros = json!({ "name": "bytes", "shape": [2, 2048], "datatype": "INT32", "data": vec![256; 4096] });
    let answer = host.infer("filetype-raw", &json!({ "inputs": [zeros] })).status(200).json();
    assert_eq!(answer["outputs"][0]["shape"], json!([2, 214]));
    let scores: Vec<f64> = answer["outputs"][0]["data"]
        .as_array()
        .expect("data")
        .iter()
        .map(|score| score.as_f64().expect("a number"))
        .collect();
    for row in scores.chunks(214) {
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-3, "{row:?}");
    }
}
