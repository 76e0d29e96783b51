//! The contract between the host and components: the guest `probe` calls every function that `guest/wit` declares for inference.

use crate::fixture::{TestHost, assets::root};
use std::{collections::BTreeSet, fs};
use wit_parser::{Resolve, WorldItem};

/// Every function of the world `inference-imports`: its interface, that interface's version, and its name.
fn declared() -> Vec<(String, String, String)> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(root().join("guest/wit")).expect("the contract is right");
    let world = resolve.select_world(&[package], Some("inference-imports")).expect("it has this world");
    let interfaces = resolve.worlds[world].imports.values().filter_map(|item| match item {
        WorldItem::Interface { id, .. } => Some(*id),
        _ => None,
    });
    let functions = interfaces.flat_map(|id| {
        let interface = resolve.id_of(id).expect("it has a name");
        let (name, version) = interface.split_once('@').expect("it has a version");
        let of = |function: &String| (name.to_owned(), version.to_owned(), function.clone());
        resolve.interfaces[id].functions.keys().map(of).collect::<Vec<_>>()
    });
    functions.collect()
}

/// What the probe has called: interface, name, call, and what that gave.
fn called(host: &TestHost) -> Vec<[String; 4]> {
    let model = fs::read(root().join("tests/models/add.onnx")).expect("the model is there");
    let said = host.post("/fn/probe-models/contract", model).status(200).text();
    let line = |line: &str| {
        let cells: Vec<String> = line.split('\t').map(str::to_owned).collect();
        cells.try_into().unwrap_or_else(|cells| panic!("{cells:?} has not four cells"))
    };
    said.lines().map(line).collect()
}

#[test]
fn a_guest_calls_every_function_of_the_contract() {
    let declared = declared();
    assert!(declared.len() > 10, "{declared:?}");
    let plain = called(&TestHost::builder().function("probe-models", |manifest| manifest).start());
    let granted = TestHost::builder().function("probe-models", |manifest| manifest.set("allow.load", "1KiB")).start();
    let calls: Vec<_> = plain.into_iter().chain(called(&granted)).collect();

    let names: BTreeSet<_> = calls.iter().map(|[interface, function, ..]| (interface, function)).collect();
    let contract: BTreeSet<_> = declared.iter().map(|(interface, _, function)| (interface, function)).collect();
    assert_eq!(names, contract, "the probe's `contract.rs` calls what `guest/wit` declares, and all of it");
    let gave =
        |name: &str| calls.iter().filter(|call| call[1] == name).map(|call| call[3].as_str()).collect::<Vec<_>>();
    assert!(gave("[method]graph-execution-context.compute").contains(&"z=[2.0, 2.0, 2.0, 2.0]"), "{calls:?}");
    // Without and with `allow.load`.
    assert_eq!(gave("load"), ["an error: ErrorCode::Security", "a graph"]);

    for [interface, function, call, gave] in &calls {
        let order = declared.iter().position(|(other, _, name)| (other, name) == (interface, function));
        let (order, version) = order.map(|order| (order, &declared[order].1)).expect("it is declared");
        let code = |text: &str| format!("`{text}`");
        let cells = [code(&format!("{interface}@{version}")), code(function), code(call), gave.clone()];
        torpor_evidence::seen("components", order, cells.each_ref().map(String::as_str));
    }
}
