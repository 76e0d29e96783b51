//! Which crate may depend on which, as `docs/architecture.md` draws it, and where a library has to stay. Reads what `cargo metadata`
//! says of the two workspaces, so that a wrong edge fails before anything is built on it.

use crate::{console, tree, tree::Tree};
use anyhow::{Result, bail};
use cargo_metadata::{DependencyKind, Metadata};

/// The crates of the host's workspace, each with those of ours that it may depend on. One that is not here may not be there.
const ALLOWED: [(&str, &[&str]); 18] = [
    ("torpor-manifest", &[]),
    ("torpor-tensor", &[]),
    ("torpor-telemetry", &[]),
    ("torpor-bundle", &["torpor-manifest", "torpor-tensor"]),
    ("torpor-nn", &["torpor-telemetry", "torpor-tensor"]),
    ("torpor-worker", &["torpor-nn", "torpor-tensor"]),
    ("torpor-backend-onnxruntime", &["torpor-nn", "torpor-tensor"]),
    ("torpor-backend-openvino", &["torpor-nn", "torpor-tensor"]),
    ("torpor-backend-tract", &["torpor-nn", "torpor-tensor"]),
    ("torpor-engine", &["torpor-bundle", "torpor-manifest", "torpor-nn", "torpor-telemetry", "torpor-tensor"]),
    ("torpor-gateway", &["torpor-engine", "torpor-manifest", "torpor-telemetry", "torpor-tensor"]),
    (
        "torpor",
        &[
            "torpor-backend-onnxruntime",
            "torpor-backend-openvino",
            "torpor-backend-tract",
            "torpor-bundle",
            "torpor-engine",
            "torpor-gateway",
            "torpor-manifest",
            "torpor-nn",
            "torpor-telemetry",
            "torpor-tensor",
            "torpor-worker",
        ],
    ),
    (EVIDENCE, &[]),
    // What hosts under test are started with, and no crate calls.
    ("torpor-clock", &[]),
    ("torpor-tests", &["torpor", "torpor-clock"]),
    ("torpor-benches", &["torpor"]),
    // Fuzz targets call parsers from within.
    (
        "torpor-fuzz",
        &["torpor-bundle", "torpor-engine", "torpor-gateway", "torpor-manifest", "torpor-nn", "torpor-worker"],
    ),
    ("xtask", &[]),
];

/// What any crate's tests may depend on, and nothing else.
const EVIDENCE: &str = "torpor-evidence";

/// The one crate of ours that modules may depend on.
const GUEST: &str = "torpor-guest";

/// Crates that measure and test from outside, with whatever library they like.
const OUTSIDE: [&str; 2] = ["torpor-tests", "torpor-benches"];

/// Libraries that only some crates may name, and why. A `*` at the end stands for any rest.
const FENCES: [(&[&str], &[&str], &str); 9] = [
    (&["wasmtime*", "wasmparser"], &["torpor-engine"], "no other crate knows the Wasm engine"),
    (&["wit-component"], &["torpor-bundle"], "a module becomes a component where it is packed, and nowhere else"),
    (&["ort", "ort-sys"], &["torpor-backend-onnxruntime"], "no other crate knows ONNX Runtime"),
    (&["tract-*"], &["torpor-backend-tract"], "no other crate knows tract"),
    (&["openvino*"], &["torpor-backend-openvino"], "no other crate knows OpenVINO"),
    (
        &["axum*", "hyper", "hyper-util", "rustls*", "tokio-rustls"],
        &["torpor-gateway"],
        "sockets, servers and TLS end in the gateway",
    ),
    (&["tonic*", "prost*", "protox"], &["torpor-gateway"], "gRPC ends in the gateway, and other crates get tensors"),
    (&["landlock", "seccompiler"], &["torpor-worker"], "the worker shuts itself in, and nobody else does"),
    (&["anyhow"], &["torpor", "xtask"], "libraries give errors that callers can tell apart"),
];

/// One dependency, as a `Cargo.toml` declares it.
#[derive(Debug)]
struct Edge {
    from: String,
    to: String,
    /// By a path, so one of our own.
    ours: bool,
    /// For tests only, so never in what users run.
    dev: bool,
}

/// Fails with every edge that should not be.
pub(crate) fn check(tree: &Tree) -> Result<()> {
    console::step("check", "edges between crates");
    let guests = tree::metadata(&tree.guest_manifest())?;
    let mut wrong: Vec<_> = names(&tree.metadata).iter().filter_map(|name| unknown(name)).collect();
    wrong.extend(edges(&tree.metadata).iter().filter_map(host_fault));
    wrong.extend(edges(&guests).iter().filter_map(guest_fault));
    if !wrong.is_empty() {
        bail!("dependencies that should not be:\n  {}\nthe table is in `xtask/src/edges.rs`", wrong.join("\n  "));
    }
    Ok(())
}

fn names(metadata: &Metadata) -> Vec<String> {
    metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect()
}

fn edges(metadata: &Metadata) -> Vec<Edge> {
    let of = |package: &cargo_metadata::Package| {
        let from = package.name.to_string();
        let edge = move |dependency: &cargo_metadata::Dependency| Edge {
            from: from.clone(),
            to: dependency.name.clone(),
            ours: dependency.path.is_some(),
            dev: dependency.kind == DependencyKind::Development,
        };
        package.dependencies.iter().map(edge).collect::<Vec<_>>()
    };
    metadata.workspace_packages().into_iter().flat_map(of).collect()
}

fn allowed(name: &str) -> Option<&'static [&'static str]> {
    ALLOWED.iter().find(|(known, _)| *known == name).map(|(_, to)| *to)
}

fn unknown(name: &str) -> Option<String> {
    let text = || format!("`{name}` is a new crate; is it worth one? then say what it may depend on");
    allowed(name).is_none().then(text)
}

/// What is wrong with an edge of the host's workspace.
fn host_fault(edge: &Edge) -> Option<String> {
    let Edge { from, to, .. } = edge;
    if edge.ours {
        // A crate may be its own dev-dependency, which is how its tests turn on a feature of it.
        let right = from == to
            || (to == EVIDENCE && edge.dev)
            || allowed(from).is_some_and(|allowed| allowed.contains(&to.as_str()));
        return (!right).then(|| format!("`{from}` depends on `{to}`, which is against the direction of the layers"));
    }
    if edge.dev || OUTSIDE.contains(&from.as_str()) {
        return None;
    }
    let fence = FENCES.iter().find(|(what, homes, _)| is_any(what, to) && !homes.contains(&from.as_str()));
    fence
        .map(|(_, homes, why)| format!("`{from}` depends on `{to}`, which belongs in {} only: {why}", homes.join(", ")))
}

/// What is wrong with an edge of the guests' workspace.
fn guest_fault(edge: &Edge) -> Option<String> {
    let wrong = edge.ours && edge.to != GUEST;
    wrong.then(|| format!("`{}` depends on `{}`, but modules share nothing but `{GUEST}`", edge.from, edge.to))
}

fn is_any(patterns: &[&str], name: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *pattern,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(from: &str, to: &str) -> Edge {
        let ours = to.starts_with("torpor") || to == "embed";
        Edge { from: from.into(), to: to.into(), ours, dev: false }
    }

    #[track_caller]
    fn right(from: &str, to: &str) {
        assert_eq!(host_fault(&edge(from, to)), None);
    }

    #[track_caller]
    fn wrong(from: &str, to: &str, why: &str) {
        let fault = host_fault(&edge(from, to)).expect("it should not be");
        assert!(fault.contains(from) && fault.contains(to) && fault.contains(why), "{fault}");
    }

    #[test]
    fn layers_have_a_direction() {
        right("torpor-engine", "torpor-nn");
        right("torpor", "torpor-gateway");
        right("torpor-nn", "torpor-nn");
        wrong("torpor-nn", "torpor-engine", "direction");
        wrong("torpor-bundle", "torpor-engine", "direction");
        wrong("torpor-backend-tract", "torpor-backend-onnxruntime", "direction");
        wrong("torpor-worker", "torpor-backend-tract", "direction");
        wrong("xtask", "torpor-manifest", "direction");
    }

    #[test]
    fn libraries_stay_at_home() {
        right("torpor-engine", "wasmtime-wasi-http");
        right("torpor-gateway", "hyper-util");
        right("torpor-engine", "http-body-util");
        right("torpor-benches", "hyper");
        right("torpor-gateway", "tonic-reflection");
        right("torpor-tests", "anyhow");
        wrong("torpor-gateway", "wasmtime", "torpor-engine");
        wrong("torpor-nn", "ort", "torpor-backend-onnxruntime");
        wrong("torpor-engine", "tract-onnx", "torpor-backend-tract");
        wrong("torpor-engine", "hyper", "torpor-gateway");
        wrong("torpor-engine", "landlock", "torpor-worker");
        wrong("torpor-engine", "prost", "torpor-gateway");
        wrong("torpor-bundle", "anyhow", "xtask");
    }

    #[test]
    fn tests_of_a_crate_may_use_any_library_but_no_other_layer() {
        assert_eq!(host_fault(&Edge { dev: true, ..edge("torpor-engine", "hyper") }), None);
        assert!(host_fault(&Edge { dev: true, ..edge("torpor-nn", "torpor-engine") }).is_some());
    }

    #[test]
    fn modules_know_the_guest_crate_alone() {
        assert_eq!(guest_fault(&edge("embed", "torpor-guest")), None);
        assert!(guest_fault(&edge("filetype", "embed")).is_some());
        assert!(guest_fault(&edge("embed", "torpor-tensor")).is_some());
    }

    #[test]
    fn a_new_crate_is_asked_about() {
        assert_eq!(unknown("torpor-nn"), None);
        assert!(unknown("torpor-common").is_some());
    }

    #[test]
    fn edges_are_read_from_real_metadata() {
        let edges = edges(&Tree::find().unwrap().metadata);
        let find = |from: &str, to: &str| edges.iter().find(|edge| edge.from == from && edge.to == to).unwrap();
        assert!(find("torpor-bundle", "torpor-manifest").ours);
        assert!(!find("xtask", "anyhow").ours && !find("xtask", "anyhow").dev);
        assert!(find("torpor-bundle", "proptest").dev);
    }
}
