//! What a component does wrong with models and tensors: each time it gets an error value, or that one instance traps, and the next
//! request is served as if nothing had been. `commands.rs` has the same for core modules.

use crate::fixture::{Manifest, Reply, TestHost, assets::root, forever, skipped_without_onnxruntime};
use std::fs;

fn host(edit: impl FnOnce(Manifest) -> Manifest) -> TestHost {
    TestHost::builder().function("probe-models", |manifest| edit(manifest.set("limits.deadline", forever()))).start()
}

#[track_caller]
fn ask(host: &TestHost, word: &str, body: impl Into<Vec<u8>>) -> Reply {
    host.post(&format!("/fn/probe-models/{word}"), body)
}

#[track_caller]
fn works(host: &TestHost) {
    assert_eq!(ask(host, "add", "").status(200).text(), "z=[2.0, 2.0, 2.0, 2.0]");
    let log = host.stage().log();
    assert!(!log.contains("panicked"), "{log}");
}

/// The guest gets an error that names what is wrong.
#[track_caller]
fn refused(host: &TestHost, word: &str, body: impl Into<Vec<u8>>, words: &[&str]) {
    let said = ask(host, word, body).status(200).text();
    for word in words {
        assert!(said.contains(word), "`{word}` in {said}");
    }
    works(host);
}

/// The instance ends; its caller gets 500 and learns no more.
#[track_caller]
fn traps(host: &TestHost, word: &str) {
    assert_eq!(ask(host, word, "").status(500).error(), "`probe-models` failed to answer");
    works(host);
}

#[test]
fn a_guest_asks_models_what_they_take_and_give() {
    let host = host(|manifest| manifest);
    let said = ask(&host, "models", "").status(200).text();
    assert!(said.lines().count() == 1 && said.starts_with("add: "), "{said}");
    for word in ["\"x\"", "\"y\"", "\"z\"", "Fp32", "Fixed(4)"] {
        assert!(said.contains(word), "`{word}` in {said}");
    }
    let host = TestHost::builder().function("probe-models", |manifest| manifest.without("model")).start();
    assert_eq!(ask(&host, "models", "").status(200).text(), "");
}

#[test]
fn an_input_of_the_wrong_type_is_refused() {
    refused(&host(|manifest| manifest), "wrong-dtype", "", &["InvalidInput", "`x`", "FP32", "INT32"]);
}

#[test]
fn an_input_of_the_wrong_rank_is_refused() {
    refused(&host(|manifest| manifest), "wrong-rank", "", &["InvalidInput", "`x`", "4]"]);
}

#[test]
fn an_input_of_the_wrong_name_is_refused() {
    let host = host(|manifest| manifest);
    refused(&host, "wrong-name", "", &["InvalidInput", "there is no input `w`"]);
    refused(&host, "nothing", "", &["InvalidInput", "`x` is missing"]);
    refused(&host, "twice", "", &["InvalidInput", "given twice"]);
}

#[test]
fn data_of_the_wrong_length_is_refused() {
    let host = host(|manifest| manifest);
    refused(&host, "wrong-length", "", &["must be 16 bytes long, but it is 15"]);
    traps(&host, "wrong-length-trap");
}

#[test]
fn dimensions_that_overflow_are_refused() {
    let host = host(|manifest| manifest);
    refused(&host, "overflow", "", &["18446744073709551615"]);
    traps(&host, "overflow-trap");
}

#[test]
fn a_million_tensors_end_one_instance() {
    let host = host(|manifest| manifest);
    traps(&host, "million");
    // Their shapes take the host's memory too.
    refused(&host, "million-dimensions", "", &["after ", "memory limit"]);
    refused(&host, "million-elements", "", &["after ", "memory limit"]);
}

#[test]
fn a_tensor_that_was_dropped_ends_one_instance() {
    traps(&host(|manifest| manifest), "use-after-drop");
}

#[test]
fn an_output_far_larger_than_memory_is_refused() {
    // tract wants the sizes of outputs to follow from those of inputs.
    if skipped_without_onnxruntime() {
        return;
    }
    let fill = |manifest: Manifest| manifest.set("model.fill", toml::Table::new());
    let host = host(|manifest| fill(manifest.set("limits.memory", "8MiB")));
    let said = ask(&host, "models", "").status(200).text();
    let names: Vec<_> = said.lines().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(names, ["add", "fill"]);
    assert_eq!(ask(&host, "fill", "1000").status(200).text(), "[1000]");
    // 256 MiB.
    refused(&host, "fill", "67108864", &["TooLarge", "outputs of the model"]);
    refused(&host, "fill", "-1", &["Model"]);
}

#[test]
fn a_guest_loads_a_model_of_its_own_only_where_that_is_granted() {
    let model = fs::read(root().join("tests/models/add.onnx")).expect("the model is there");
    refused(&host(|manifest| manifest), "from-onnx", model.clone(), &["Denied", "[allow]"]);
    let host = host(|manifest| manifest.set("allow.load", "1KiB"));
    assert_eq!(ask(&host, "from-onnx", model.clone()).status(200).text(), "z=[2.0, 2.0, 2.0, 2.0]");
    refused(&host, "from-onnx", "no model", &["InvalidInput"]);
    refused(&host, "from-onnx", vec![0; 1025], &["TooLarge", "`load`"]);
    refused(&host, "from-onnx-often", model, &["TooLarge"]);
    assert_eq!(fs::read_dir(host.stage().state().join("loaded")).expect("the folder is there").count(), 0);
}
