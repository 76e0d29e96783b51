//! Modules with an initializer: packed with what it left in memory, which is what every instance then begins with. Those that
//! cannot be packed because of it are in `golden/pack.txt`.

use crate::fixture::{Recipe, TestHost, cli};
use serde_json::Value;
use std::path::Path;

fn pack(name: &'static str, output: &Path) -> Value {
    cli::finish(Recipe::of(name).packing().arg("--json").arg("-o").arg(output)).ok().json()
}

fn inspect(bundle: &Path) -> Value {
    cli::finish(cli::command().arg("inspect").arg("--json").arg(bundle)).ok().json()
}

#[test]
fn no_request_runs_the_initializer() {
    let host = TestHost::builder().function("probe", |manifest| manifest).start();
    // It ran once, before the first request; and no request leaves anything to the next.
    for _ in 0..3 {
        assert_eq!(host.get("/fn/probe/table").status(200).text(), "1 1 998001");
    }
}

#[test]
fn a_program_begins_with_what_its_initializer_left() {
    let host = TestHost::builder().function("command", |manifest| manifest).start();
    // It counts on, and the next instance begins where the first one did.
    for _ in 0..3 {
        assert_eq!(host.post("/fn/command/", "initialized").status(200).text(), "1");
    }
}

#[test]
fn an_initializer_that_asks_for_something_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = folder.path().join("curious.torpor");
    let refused = cli::finish(Recipe::of("curious").packing().arg("-o").arg(&bundle));
    refused.refused(2, &["its initializer called `names` of `torpor:function/models@0.1.0`", "help: "]);
    assert!(!bundle.exists(), "a bundle was written all the same");
}

#[test]
fn packing_a_snapshot_is_reproducible() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundles = ["one", "other"].map(|name| folder.path().join(name));
    let packed = bundles.each_ref().map(|bundle| pack("embed", bundle));
    assert_eq!(packed[0]["digest"], packed[1]["digest"]);
    assert_eq!(packed[0]["module"], packed[1]["module"]);
    let read = bundles.map(|bundle| std::fs::read(bundle).expect("the bundle is there"));
    assert!(read[0] == read[1], "the files differ");
}

#[test]
fn a_bundle_says_what_its_module_is_a_snapshot_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = folder.path().join("embed.torpor");
    let packed = pack("embed", &bundle);
    let module = inspect(&bundle)["module"].clone();
    assert_eq!(packed["module"]["snapshot_of"], module["snapshot_of"]);
    assert_eq!(packed["module"]["size"], module["size"]);
    assert_ne!(module["snapshot_of"]["digest"], module["digest"]);
    // The tables that it makes are in it.
    let size = |module: &Value| module["size"].as_u64().expect("a size");
    assert!(size(&module) > size(&module["snapshot_of"]) + 100_000, "{module}");
    // Others stay as they are.
    let bundle = folder.path().join("add.torpor");
    assert!(pack("add", &bundle).get("module").is_none() && inspect(&bundle)["module"].get("snapshot_of").is_none());
}
