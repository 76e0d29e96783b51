//! Clients that people use call a host: the programs of `tests/clients`, each with its own host. What they say works is what
//! `docs/protocols.md` says.

use crate::fixture::{TestHost, assets, cli};
use std::process::Command;

/// Runs a program against a host, and keeps what it has seen.
#[track_caller]
fn check(program: &str) {
    let clients = assets::clients();
    if assets::skipped_without("a Python with the clients of `tests/clients/requirements.txt`", clients.is_some()) {
        return;
    }
    let host = TestHost::builder()
        .function("add", |manifest| manifest)
        .function("types", |manifest| manifest)
        .function("slow", |manifest| manifest)
        .function("species", |manifest| manifest)
        .function("embed", |manifest| manifest)
        .flag("--model-control")
        .flag("--default-model=add")
        .start();
    let mut python = Command::new(clients.expect("it is there").join("python3"));
    python.arg("-B").arg(assets::root().join("tests/clients").join(program)).arg(host.data.to_string());
    // Some of the clients send reports of what they are used for unless they are told not to.
    python.env("MLFLOW_DISABLE_TELEMETRY", "true").env("DO_NOT_TRACK", "true");
    let ran = cli::finish(&mut python);
    for line in ran.stdout.lines() {
        let [protocol, feature, client]: [String; 3] = serde_json::from_str(line).expect("a line of what works");
        torpor_evidence::seen("clients", 0, [&protocol, &feature, &client]);
    }
    ran.ok();
}

#[test]
fn tritons_client_for_http_is_answered() {
    check("triton_http.py");
}

#[test]
fn tritons_client_for_grpc_is_answered() {
    check("triton_grpc.py");
}

#[test]
fn the_client_of_openvino_model_server_is_answered() {
    check("ovms.py");
}

#[test]
fn mlflows_client_is_answered() {
    check("scoring.py");
}

#[test]
fn openais_client_is_answered() {
    check("embeddings.py");
}

#[test]
fn tools_for_grpc_find_their_way() {
    check("reflection.py");
}
