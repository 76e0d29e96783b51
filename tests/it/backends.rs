//! What the host runs models with, and what it says of what is missing: `torpor doctor`, `backend`, `device` and `precision`.

use crate::fixture::{
    Manifest, Recipe, Stage, TestHost, assets,
    cli::{self, Ran},
    skipped_without_onnxruntime, skipped_without_openvino,
};
use serde_json::{Value, json};

fn sum() -> Value {
    let row = |name: &str| json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] });
    json!({ "inputs": [row("x"), row("y")] })
}

/// The function `add`, with these keys of its model.
fn add(keys: &'static [(&'static str, &'static str)]) -> Stage {
    let set =
        |manifest: Manifest, (key, word): &(&str, &'static str)| manifest.set(&format!("model.model.{key}"), *word);
    TestHost::builder().function("add", |manifest| keys.iter().fold(manifest, set))
}

/// `torpor doctor`, with the libraries of the tests unless `arguments` name others.
fn doctor(arguments: &[&str]) -> Ran {
    let mut command = cli::command();
    command.envs(assets::onnxruntime().map(|library| ("TORPOR_ONNXRUNTIME", library)));
    command.envs(assets::openvino().map(|library| ("TORPOR_OPENVINO", library)));
    cli::finish(command.arg("doctor").args(arguments))
}

#[test]
fn the_libraries_write_nothing_about_this_machine() {
    if skipped_without_onnxruntime() {
        return;
    }
    let home = tempfile::tempdir().expect("there is room");
    let mut command = cli::command();
    command.envs(assets::onnxruntime().map(|library| ("TORPOR_ONNXRUNTIME", library)));
    command.env("HOME", home.path()).env_remove("XDG_CACHE_HOME").env_remove("ORT_DISABLE_TELEMETRY");
    cli::finish(command.arg("doctor")).ok();
    assert_eq!(std::fs::read_dir(home.path()).expect("it is there").count(), 0);
}

#[test]
fn doctor_shows_what_is_here() {
    if skipped_without_onnxruntime() || skipped_without_openvino() {
        return;
    }
    let report = doctor(&["--json"]).ok().json();
    let names: Vec<_> = report.as_array().expect("a list").iter().map(|backend| &backend["backend"]).collect();
    assert_eq!(names, ["onnxruntime", "openvino", "tract"]);
    for (index, library) in [assets::onnxruntime(), assets::openvino()].into_iter().enumerate() {
        assert_eq!(report[index]["available"], true);
        assert_eq!(report[index]["library"].as_str(), library.as_deref().and_then(|path| path.to_str()));
        assert!(report[index]["version"].as_str().is_some_and(|version| version.split('.').count() == 3), "{report}");
    }
    assert_eq!(report[0]["devices"], json!(["cpu"]));
    assert!(report[1]["devices"].as_array().is_some_and(|devices| devices.contains(&json!("CPU"))), "{report}");
    assert_eq!((&report[2]["available"], &report[2]["library"]), (&json!(true), &Value::Null));

    let text = doctor(&[]).ok().stdout;
    assert!(text.starts_with("BACKEND") && text.contains("compiled in") && !text.contains("missing"), "{text}");
}

#[test]
fn doctor_says_how_to_get_what_is_missing() {
    let ran = doctor(&["--openvino", "/no/such/folder", "--onnxruntime", "/no/such/library.so"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""), "{ran:?}");
    for word in ["openvino is missing", "/no/such/folder", "--openvino DIR", "pip download", "/no/such/library.so"] {
        assert!(ran.stdout.contains(word), "`{word}` in {}", ran.stdout);
    }
    let ran = doctor(&["--json", "--openvino", "/no/such/folder"]);
    assert_eq!(ran.code, Some(1));
    let report = ran.json();
    assert_eq!((&report[1]["available"], &report[1]["devices"]), (&json!(false), &json!([])));
    assert!(report[1]["problem"].as_str().is_some_and(|problem| problem.contains("/no/such/folder")), "{report}");
    doctor(&["--no-such-flag"]).refused(2, &["--no-such-flag"]);
}

#[test]
fn doctor_is_content_with_what_nobody_named() {
    // No library is named, so whatever is not found is a note.
    cli::finish(cli::command().arg("doctor")).ok();
}

#[test]
fn openvino_is_found_in_its_folder() {
    if skipped_without_openvino() {
        return;
    }
    let library = assets::openvino().expect("it is there");
    let folder =
        std::path::Path::new(&library).parent().expect("it is in a folder").to_str().expect("its name is a text");
    let host = add(&[("backend", "openvino")]).openvino(folder).start();
    let answer = host.infer("add", &sum()).status(200).json();
    assert_eq!(answer["outputs"][0]["data"], json!([2.0, 4.0, 6.0, 8.0]));
    assert_eq!(host.status("add")["models"][0]["backend"], "openvino");
}

#[test]
fn auto_takes_openvino_where_onnx_runtime_is_missing() {
    if skipped_without_openvino() {
        return;
    }
    let host = add(&[("backend", "auto")]).onnxruntime("/no/such/library.so").start();
    host.infer("add", &sum()).status(200);
    assert_eq!(host.status("add")["models"][0]["backend"], "openvino");
}

#[track_caller]
fn not_deployed(stage: Stage, words: &[&str]) {
    let host = stage.start();
    let status = host.status("add");
    let cause = status["cause"].as_str().unwrap_or_else(|| panic!("it is deployed: {status}"));
    for word in words {
        assert!(cause.contains(word), "`{word}` in {cause}");
    }
    host.infer("add", &sum()).status(500);
}

#[test]
fn a_named_backend_that_is_missing_says_what_was_sought() {
    let stage = add(&[("backend", "openvino")]).openvino("/no/such/folder");
    not_deployed(stage, &["openvino", "/no/such/folder", "--openvino DIR", "pip download"]);
}

#[test]
fn a_device_that_is_missing_is_never_replaced_by_another() {
    if skipped_without_onnxruntime() {
        return;
    }
    not_deployed(add(&[("backend", "onnxruntime"), ("device", "cuda")]), &["CUDAExecutionProvider", "onnxruntime-gpu"]);
    not_deployed(add(&[("device", "tensorrt")]), &["TensorrtExecutionProvider"]);
    if !skipped_without_openvino() {
        not_deployed(add(&[("backend", "openvino"), ("device", "npu")]), &["the device NPU", "driver"]);
    }
}

#[test]
fn tensorflow_lite_runs_on_openvino() {
    if skipped_without_openvino() {
        return;
    }
    let host = TestHost::builder().function("add-lite", |manifest| manifest).start();
    let answer = host.infer("add-lite", &sum()).status(200).json();
    assert_eq!(answer["outputs"][0]["data"], json!([2.0, 4.0, 6.0, 8.0]));
    assert_eq!(host.status("add-lite")["models"][0]["backend"], "openvino");
}

fn lengths() -> Value {
    json!({ "inputs": [{ "name": "lengths", "shape": [2, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2, 6.7, 3.0, 5.2, 2.3] }] })
}

#[test]
fn a_model_of_two_files_runs_on_openvino() {
    if skipped_without_openvino() {
        return;
    }
    let host = TestHost::builder().function("species", |manifest| manifest).start();
    let answer = host.infer("species", &lengths()).status(200).json();
    let scores: Vec<f64> = serde_json::from_value(answer["outputs"][0]["data"].clone()).expect("numbers");
    // What OpenVINO's own Python package answers.
    for (score, expected) in
        scores.iter().zip([0.982_328_95, 0.017_671_01, 0.000_000_01, 0.000_056_19, 0.076_699_5, 0.923_244_42])
    {
        assert!((score - expected).abs() < 1e-6, "{scores:?}");
    }
    assert_eq!(scores.len(), 6);
    assert_eq!(host.status("species")["models"][0]["backend"], "openvino");
    let stage = host.stop();
    let report = cli::finish(cli::command().args(["inspect", "--json"]).arg(stage.bundle("species"))).ok().json();
    let weights = std::fs::metadata(assets::root().join("tests/models/species.bin")).expect("it is there").len();
    assert_eq!(
        (&report["models"][0]["format"], &report["models"][0]["weights"]["size"]),
        (&json!("openvino-ir"), &json!(weights))
    );
    // A host that starts again finds both files in its store.
    let host = stage.start();
    host.infer("species", &lengths()).status(200);
}

#[track_caller]
fn species_is_not_deployed(stage: Stage, words: &[&str]) {
    let host = stage.start();
    let status = host.status("species");
    let cause = status["cause"].as_str().unwrap_or_else(|| panic!("it is deployed: {status}"));
    for word in words {
        assert!(cause.contains(word), "`{word}` in {cause}");
    }
}

#[test]
fn a_backend_that_does_not_read_a_format_says_so() {
    let on = |backend| TestHost::builder().function("species", |manifest| manifest.set("model.model.backend", backend));
    species_is_not_deployed(
        on("tract"),
        &["`tract` cannot run it", "reads no OpenVINO IR models", "backend = \"auto\""],
    );
    if !skipped_without_onnxruntime() {
        species_is_not_deployed(on("onnxruntime"), &["`onnxruntime` cannot run it", "reads no OpenVINO IR models"]);
    }
}

#[test]
fn weights_that_are_not_the_models_are_refused_at_deploy() {
    if skipped_without_openvino() {
        return;
    }
    let species = || assets::root().join("tests/models/species.xml");
    let with = |description: String, weights: &[u8]| {
        let stage = TestHost::builder();
        let file = stage.path("changed.xml");
        std::fs::write(&file, description).expect("it can be written");
        std::fs::write(file.with_extension("bin"), weights).expect("it can be written");
        let bundle = stage.bundle("species");
        Recipe::of("species").pack_with_model("model", &file, &bundle);
        stage.keys.sign(&bundle);
        stage.function("species", |manifest| manifest)
    };
    let text = std::fs::read_to_string(species()).expect("it is there");
    species_is_not_deployed(
        with(text.clone(), &[1; 59]),
        &["`intercepts` ends at byte 60", "have 59", "another model's"],
    );
    let elsewhere = text.replace("<rt_info />", "<rt_info><__weights_path value=\"/etc/passwd\" /></rt_info>");
    species_is_not_deployed(with(elsewhere, &[1; 60]), &["__weights_path"]);
}

#[test]
fn a_format_that_no_backend_here_reads_is_said() {
    let host = TestHost::builder().function("add-lite", |manifest| manifest).openvino("/no/such/folder").start();
    let status = host.status("add-lite");
    let cause = status["cause"].as_str().unwrap_or_else(|| panic!("it is deployed: {status}"));
    assert!(cause.contains("TensorFlow Lite") && cause.contains("torpor doctor"), "{cause}");
}
