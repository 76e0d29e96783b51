//! Files that a bundle brings for its module: read under the paths that the publisher gave, where the manifest grants them.

use crate::fixture::{Manifest, Recipe, Reply, TestHost, cli, forever, until};
use serde_json::json;
use std::fs;

fn host(edit: impl FnOnce(Manifest) -> Manifest) -> TestHost {
    TestHost::builder().function("command-files", |manifest| edit(manifest.set("limits.deadline", forever()))).start()
}

#[track_caller]
fn ask(host: &TestHost, input: &str) -> Reply {
    host.post("/fn/command-files/", input)
}

#[track_caller]
fn reads(host: &TestHost) {
    assert_eq!(ask(host, "file hello.txt").status(200).text(), "hello from the bundle\n");
}

#[test]
fn a_program_reads_the_files_of_its_bundle() {
    let host = host(|manifest| manifest);
    reads(&host);
    let species = ask(&host, "file fixture/deep/er/species.txt").status(200).text();
    assert_eq!(species, "setosa\nversicolor\nvirginica\n");
    let report = cli::finish(cli::command().args(["inspect", "--json"]).arg(host.stage().bundle("command-files")));
    let files = report.ok().json()["files"].clone();
    assert_eq!((&files[2]["path"], &files[2]["size"]), (&json!("hello.txt"), &json!(22)));
}

/// As the examples of Wasmtime and WasmEdge do: read the fixture, and load it.
#[test]
fn a_program_loads_the_model_that_it_finds_in_its_fixture() {
    let host = host(|manifest| manifest.set("allow.load", "1MiB"));
    let size = fs::metadata(crate::fixture::assets::root().join("tests/models/add.onnx")).expect("it is there").len();
    let script = format!(
        "file @1000 fixture/add.onnx\n words @0 @1000 {size}\n load @0 1 1 0 @8\n init_execution_context 0 @12\n\
         words @16 1 4\n floats @32 1 2 3 4\n words @64 @16 2 1 @32 16\n set_input 1 0 @64\n set_input 1 1 @64\n\
         compute 1\n get_output 1 0 @128 16 @12\n read @128 4"
    );
    let said = ask(&host, &format!("script\n{script}")).status(200).text();
    assert_eq!(said.lines().collect::<Vec<_>>(), ["0", "0", "0", "0", "0", "0", "2 4 6 8"]);
}

#[test]
fn nothing_else_is_read_and_nothing_is_written() {
    let host = host(|manifest| manifest);
    for wrong in [
        "file gone",
        "file ../keys",
        "file fixture/../../x",
        "file /etc/passwd",
        "file fixture",
        "write hello.txt",
        "write new",
    ] {
        let said = ask(&host, wrong).status(200).text();
        assert!(said.starts_with("errno ") && said != "errno 0", "{wrong}: {said}");
    }
    reads(&host);
}

#[test]
fn no_file_is_granted_by_default() {
    let host = host(|manifest| manifest.without("allow"));
    // There is no folder to begin with.
    assert_eq!(ask(&host, "file hello.txt").status(200).text(), "errno 8");
    let log = host.stage().log();
    assert!(log.contains("files that the manifest does not grant; see `bundle-files`"), "{log}");
}

#[test]
fn files_that_a_bundle_does_not_have_cannot_be_granted() {
    let host = TestHost::builder().function("command", |manifest| manifest.set("allow.bundle-files", "/")).start();
    let status = host.status("command");
    assert!(status["cause"].as_str().is_some_and(|cause| cause.contains("the bundle has no files")), "{status}");
}

#[test]
fn a_folder_that_somebody_changed_is_made_anew() {
    let host = host(|manifest| manifest);
    reads(&host);
    let stage = host.stop();
    let folders = fs::read_dir(stage.state().join("files")).expect("the state has the folder");
    let folders: Vec<_> = folders.map(|folder| folder.expect("it can be read").path()).collect();
    let [folder] = &folders[..] else { panic!("there is one bundle: {folders:?}") };
    // The file is a link to its blob, so it is replaced, not written to.
    fs::remove_file(folder.join("hello.txt")).expect("it is there");
    fs::write(folder.join("hello.txt"), "hello from the bundlE\n").expect("it can be written");
    fs::remove_file(folder.join("fixture/add.onnx")).expect("it is there");
    let host = stage.start();
    reads(&host);
    assert!(!ask(&host, "file fixture/add.onnx").status(200).text().starts_with("errno"));
}

#[test]
fn the_folder_goes_with_the_last_function_that_needs_it() {
    let host = host(|manifest| manifest);
    reads(&host);
    let files = host.stage().state().join("files");
    assert_eq!(files.read_dir().expect("it is there").count(), 1);
    cli::finish(cli::command().args(["undeploy", "--admin", &host.admin.to_string(), "command-files"])).ok();
    until("the folder is gone", || (files.read_dir().ok()?.count() == 0).then_some(()));
}

#[test]
fn a_file_that_is_changed_after_signing_is_refused() {
    let stage = TestHost::builder();
    let bundle = stage.bundle("command-files");
    Recipe::of("command-files").pack(&bundle);
    stage.keys.sign(&bundle);
    let mut bytes = fs::read(&bundle).expect("it is there");
    let at = bytes.windows(5).position(|window| window == b"hello").expect("the file is in the bundle");
    bytes[at] = b'H';
    fs::write(&bundle, bytes).expect("it can be written");
    cli::finish(cli::command().arg("inspect").arg(&bundle)).refused(1, &["has changed"]);
}
