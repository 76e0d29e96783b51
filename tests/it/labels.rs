//! Labels of a model's outputs: packed with the model, signed with it, and given to the module.

use crate::fixture::{Manifest, Stage, TestHost, assets, assets::root, cli};
use serde_json::json;
use std::fs;

fn granted(manifest: Manifest) -> Manifest {
    manifest.set("model.species", toml::Table::new())
}

/// The recipe `probe-models` with these labels of an output of `species`, packed and signed.
fn labelled(output: &str, labels: &str) -> Stage {
    let stage = TestHost::builder();
    let folder = stage.path("labelled");
    let text = fs::read_to_string(root().join("tests/guests/probe/models/bundle.toml")).expect("a recipe");
    let text = text.replace("../../../models", &root().join("tests/models").display().to_string());
    let own = format!("labels = {{ \"{output}\" = \"labels.txt\" }}\n");
    let text =
        text.lines().filter(|line| !line.starts_with("labels")).map(|line| format!("{line}\n")).collect::<String>();
    fs::create_dir(&folder).expect("a folder can be made");
    fs::write(folder.join("bundle.toml"), text + &own).expect("it can be written");
    fs::write(folder.join("labels.txt"), labels).expect("it can be written");
    let bundle = stage.bundle("probe-models");
    let mut pack = cli::command();
    pack.arg("pack").arg(&folder).arg("--module").arg(assets::module("probe")).arg("-o").arg(&bundle);
    cli::finish(&mut pack).ok();
    stage.keys.sign(&bundle);
    stage
}

#[test]
fn a_module_says_in_words_what_its_model_found() {
    let host = TestHost::builder().function("probe-models", granted).start();
    let classify = |lengths: &str| host.post("/fn/probe-models/classify", lengths).status(200).text();
    assert_eq!(classify("5.1 3.5 1.4 0.2"), "setosa");
    assert_eq!(classify("5.9 3.0 4.2 1.5"), "versicolor");
    assert_eq!(classify("6.7 3.0 5.2 2.3"), "virginica");
    // One output has labels; another one, and another model, have none.
    assert_eq!(host.post("/fn/probe-models/unlabelled", "").status(200).text(), "None None");

    let report = cli::finish(cli::command().args(["inspect", "--json"]).arg(host.stage().bundle("probe-models")));
    let labels = &report.ok().json()["models"][2]["labels"];
    assert_eq!((&labels[0]["output"], &labels[0]["count"]), (&json!("scores"), &json!(3)));
}

#[test]
fn labels_that_do_not_fit_the_model_are_found_when_it_is_opened() {
    for (output, labels, cause) in [
        ("scores", "a\nb\n", "2 labels of the output `scores`, whose last dimension has 3"),
        ("score", "a\nb\nc\n", "labels of an output `score`, which the model does not have"),
    ] {
        let host = labelled(output, labels).function("probe-models", granted).start();
        host.post("/fn/probe-models/classify", "1 2 3 4").status(500);
        let status = host.status("probe-models");
        assert!(status["cause"].as_str().is_some_and(|told| told.contains(cause)), "{status}");
    }
}
