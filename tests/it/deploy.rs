//! Deploying on a running host: what changes, what does not, who is told what, and that no caller notices.

mod meanwhile;
mod orders;
mod state;

use crate::fixture::{
    Manifest, Recipe, Reply, Stage, TestHost,
    assets::root,
    cli::{self, Ran},
    client,
};
use http::Request;
use serde_json::{Value, json};
use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
};

/// What the two bundles answer.
const SUM: &str = "[2.0,4.0,6.0,8.0]";
const DIFFERENCE: &str = "[0.0,0.0,0.0,0.0]";

fn pair() -> Value {
    let row = |name| json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] });
    json!({ "inputs": [row("x"), row("y")] })
}

/// The data of the answer to `pair`.
#[track_caller]
fn answer(host: &TestHost, function: &str) -> String {
    host.infer(function, &pair()).status(200).json()["outputs"][0]["data"].to_string()
}

/// A stage with the bundles `add` and `sub`, which differ in one operator of their model.
fn stage() -> Stage {
    let stage = TestHost::builder();
    let add = stage.bundle("add");
    Recipe::of("add").pack(&add);
    stage.keys.sign(&add);
    let mut model = fs::read(root().join("tests/models/add.onnx")).expect("the model is there");
    let operator = model.windows(5).position(|window| window == b"\x22\x03Add").expect("it adds");
    model[operator + 2..operator + 5].copy_from_slice(b"Sub");
    with_model(&stage, "sub", &model);
    stage
}

/// A signed bundle like `add`, with another model.
fn with_model(stage: &Stage, name: &str, model: &[u8]) {
    let file = stage.path(&format!("{name}.onnx"));
    fs::write(&file, model).expect("the model can be written");
    Recipe::of("add").pack_with_model("model", &file, &stage.bundle(name));
    stage.keys.sign(&stage.bundle(name));
}

/// A manifest of `function` with the bundle `bundle`, in a file of that name outside of the folder that `serve` reads.
fn manifest(stage: &Stage, function: &str, bundle: &str, edit: impl FnOnce(Manifest) -> Manifest) -> PathBuf {
    let manifest = edit(Recipe::of("add").manifest(&stage.bundle(bundle)).set("name", function));
    write(&stage.path(&format!("{function}-{bundle}.toml")), &manifest)
}

fn write(file: &Path, manifest: &Manifest) -> PathBuf {
    fs::write(file, manifest.text()).expect("the manifest can be written");
    file.to_owned()
}

fn plain(manifest: Manifest) -> Manifest {
    manifest
}

fn quick(manifest: Manifest) -> Manifest {
    manifest.set("scale.idle-timeout", "10ms")
}

/// A command to the host's admin address.
fn tell<const N: usize>(host: &TestHost, arguments: [&dyn AsRef<OsStr>; N]) -> Ran {
    let arguments = arguments.iter().map(|argument| argument.as_ref().to_owned());
    cli::run(arguments.chain(["--admin".into(), host.admin.to_string().into()]).collect::<Vec<OsString>>())
}

/// An order to the admin interface, as the command line sends it.
fn order(host: &TestHost, files: &[&Path]) -> Result<Reply, ureq::Error> {
    let text = |file: &&Path| json!({ "file": file, "text": fs::read_to_string(file).expect("the manifest is there") });
    let body = json!({ "manifests": files.iter().map(text).collect::<Vec<_>>() }).to_string();
    let request = Request::post("/deployments").header("content-type", "application/json");
    client::send(host.admin, request.body(body.into_bytes()).expect("a request"))
}
