//! The module `embed`: every vector that its Python reference has recorded.

use crate::fixture::{
    Manifest, Stage, TestHost, assets, cli, forever, skipped_without_onnxruntime, skipped_without_openvino, until,
};
use serde_json::{Value, json};

fn host(backend: &'static str) -> TestHost {
    let manifest = |manifest: Manifest| manifest.set("limits.deadline", forever()).set("model.minilm.backend", backend);
    TestHost::builder().function("embed", manifest).start()
}

fn cases() -> Vec<Value> {
    let file = assets::root().join("modules/embed/reference/cases.json");
    serde_json::from_slice(&std::fs::read(file).expect("the cases are there")).expect("a list")
}

fn request(texts: &[&Value]) -> Value {
    json!({ "inputs": [{ "name": "text", "shape": [texts.len()], "datatype": "BYTES", "data": texts }] })
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|number| number.as_f64().expect("a number")).collect()
}

/// Embeds the texts of `cases` in one request and compares each with what the reference says.
#[track_caller]
fn check(host: &TestHost, cases: &[Value], least: f64) {
    let texts: Vec<_> = cases.iter().map(|case| &case["text"]).collect();
    let answer = host.infer("embed", &request(&texts)).status(200).json();
    assert_eq!(answer["outputs"][0]["shape"], json!([cases.len(), 384]));
    let rows = numbers(&answer["outputs"][0]["data"]);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for (row, case) in rows.chunks(384).zip(cases) {
        let expected = numbers(&case["embedding"]);
        assert!((dot(row, row) - 1.0).abs() < 1e-3, "not of length one: {}", case["text"]);
        let cosine = dot(row, &expected) / dot(&expected, &expected).sqrt();
        assert!(cosine >= least, "{cosine}: {}", case["text"]);
    }
}

#[test]
fn texts_get_the_references_vectors() {
    if skipped_without_onnxruntime() {
        return;
    }
    let (host, cases) = (host("onnxruntime"), cases());
    assert!(cases.len() >= 40, "only {} cases", cases.len());
    // Texts in one request do not change each other's vectors, so it does not matter how they are put together.
    cases.chunks(7).for_each(|cases| check(&host, cases, 0.999));
    check(&host, &cases[5..6], 0.999);
}

#[test]
fn a_wake_takes_the_quickest_way_and_runs_get_faster_without_a_pause() {
    if skipped_without_onnxruntime() {
        return;
    }
    let (host, cases) = (host("onnxruntime"), cases());
    check(&host, &cases[..1], 0.999);
    // Which way that is, and whether a better one follows, was learned on this machine, and is kept beside the form.
    let plan = host.stage().kept("optimized", "plan.json");
    let plan: Value = serde_json::from_slice(&std::fs::read(&plan[0]).expect("it is there")).expect("a plan");
    let last = if plan["upgrade_after_us"].is_null() { plan["first"].clone() } else { json!("optimized") };
    until("the model runs in its last tier", || {
        check(&host, &cases[..7], 0.999);
        (host.status("embed")["models"][0]["tier"] == last).then_some(())
    });
    cases.chunks(7).for_each(|cases| check(&host, cases, 0.999));
    // Each is counted: the tier of the wake, and the one that followed.
    let metrics = host.admin("/metrics").text();
    for tier in ["baseline", "optimized"] {
        let opened = u8::from(plan["first"] == tier || last == tier);
        let sample = format!("torpor_model_opens_total{{function=\"embed\",tier=\"{tier}\"}} {opened}");
        assert!(metrics.contains(&sample), "`{sample}` is not in:\n{metrics}");
    }
}

#[test]
fn texts_of_many_callers_share_runs_and_sessions_and_get_their_own_vectors() {
    if skipped_without_onnxruntime() {
        return;
    }
    let batched = |manifest: Manifest| {
        manifest
            .set("limits.deadline", forever())
            .set("model.minilm.backend", "onnxruntime")
            .set("model.minilm.parallel", 1)
            .set("model.minilm.batch.max-size", 8)
            .set("model.minilm.batch.pad.axis", 1)
    };
    // Two functions with one model, so that their runs stand in one line.
    let other = |manifest: Manifest| batched(manifest).set("name", "other");
    let host = TestHost::builder().function("embed", batched).function("embed", other).start();
    let cases = cases();
    check(&host, &cases[..1], 0.999);
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let (host, cases) = (&host, &cases);
            // Texts of all lengths at the same time. The weights are of eight bits, and what is quantized with them together moves
            // the last of the digits.
            scope.spawn(move || {
                cases.iter().skip(caller).step_by(8).for_each(|case| check(host, std::slice::from_ref(case), 0.99))
            });
            scope.spawn(move || {
                for case in cases.iter().skip(caller).step_by(8) {
                    host.infer("other", &request(&[&case["text"]])).status(200);
                }
            });
        }
    });
    let metrics = host.admin("/metrics").text();
    let count = |name: &str| -> f64 {
        let value = metrics.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap_or_else(|| panic!("`{name}` is not in:\n{metrics}")).trim().parse().expect("a number")
    };
    let [rows, runs] = ["sum", "count"].map(|of| count(&format!("torpor_batch_rows_{of}{{function=\"embed\"}}")));
    assert!(rows > runs && runs >= cases.len() as f64, "{rows} rows in {runs} runs: nothing was joined");
    assert!(count("torpor_model_wait_seconds_count{function=\"embed\"}") >= cases.len() as f64);
    // The one whose wake came first opened the model for both.
    let opened = metrics.lines().filter(|line| line.starts_with("torpor_model_opens_total") && !line.ends_with(" 0"));
    assert!(opened.filter(|line| line.contains("\"other\"")).count() <= 1, "{metrics}");
}

#[test]
fn a_model_whose_runs_cannot_be_joined_is_refused_and_the_input_is_named() {
    let stage = TestHost::builder().function("slow", |manifest| manifest.set("model.model.batch.max-size", 8));
    let expected = "the input `rounds` has the fixed size 1 in its first dimension, so runs cannot be joined";
    let check = |stage: &Stage| cli::run(["check".as_ref(), stage.path("manifests").as_os_str()]);
    check(&stage).refused(1, &["slow.toml:", "batch", "^", expected, "help:"]);
    let host = stage.start();
    let slow = host.status("slow");
    assert_eq!(slow["state"], "Failed");
    assert!(
        slow["cause"].as_str().is_some_and(|cause| cause.contains("`model`") && cause.contains(expected)),
        "{slow}"
    );
    let stage = host.stop();
    // Without its bundle there is nothing to look at, and nothing is wrong with the manifest itself.
    std::fs::remove_file(stage.bundle("slow")).expect("the bundle is there");
    check(&stage).ok();
}

#[test]
fn openvino_gives_nearly_the_same_vectors() {
    if skipped_without_openvino() {
        return;
    }
    let (host, cases) = (host("openvino"), cases());
    // Another library rounds elsewhere when it quantizes.
    cases.chunks(7).for_each(|cases| check(&host, cases, 0.99));
}

#[test]
fn without_a_native_library_the_vectors_are_nearly_the_same() {
    // Another library rounds elsewhere when it quantizes.
    check(&host("tract"), &cases()[3..7], 0.99);
}

#[test]
fn no_texts_are_no_vectors() {
    let answer = host("auto").infer("embed", &request(&[])).status(200).json();
    assert_eq!(answer["outputs"][0], json!({ "name": "embedding", "datatype": "FP32", "shape": [0, 384], "data": [] }));
}

#[test]
fn what_is_no_text_is_refused() {
    let host = host("auto");
    let body = |text: &[u8]| {
        [br#"{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["#.as_slice(), text, b"]}]}"].concat()
    };
    for text in [b"\"\xff\"".as_slice(), b"\"\\ud800\"", b"7", b"[\"a\"]", b"{\"b64\":\"YQ==\"}"] {
        let error = host.post("/v2/models/embed/infer", body(text)).status(400).error();
        assert!(!error.is_empty());
    }
    // None of them woke it.
    assert_eq!(host.status("embed")["state"], "Cold");
}
