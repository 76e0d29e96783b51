//! Tests and measurements of the whole system: with the binary, modules and bundles that `up` would serve.

use crate::{
    bundles,
    conformance::Evidence,
    console, guests,
    python::{self, Environment},
    run,
    setup::Assets,
    tree::{Tree, in_ci},
    up,
};
use anyhow::{Result, ensure};
use std::{path::PathBuf, process::Command};

/// All tests; or, with `args`, only those of the host's workspace that they pick.
pub(crate) fn test(tree: &Tree, args: &[String]) -> Result<()> {
    let assets = up::prepare(tree)?;
    if in_ci() {
        ensure!(assets.onnxruntime.is_some(), "there is no ONNX Runtime for this machine, and CI must test with it");
        ensure!(assets.openvino.is_some(), "there is no OpenVINO for this machine, and CI must test with it");
    }
    if !guests::has_targets_of_projects() {
        console::note(
            "the test that builds projects of `torpor new` is skipped: no Rust toolchain here has their targets",
        );
    }
    let libraries = python(&python::BUNDLES, "tests that check bundles with Python libraries are skipped")?;
    let clients = python(&python::CLIENTS, "tests that call a host by other people's clients are skipped")?;
    // Only a run of everything, on all backends, sees all that the page says.
    let whole = args.is_empty() && assets.onnxruntime.is_some() && assets.openvino.is_some() && clients.is_some();
    let evidence = whole.then(|| Evidence::begin(tree)).transpose()?;
    if args.is_empty() {
        if evidence.is_none() {
            console::note("the pages that tests make are not compared with what they see, since a library is missing");
        }
        test_guests(tree, &assets)?;
        console::step("test", "the documentation of the host's workspace");
        run::run(with(tree, &assets, run::tied_cargo()).args(["test", "--release", "--workspace", "--doc"]))?;
    }
    let mut command = with(tree, &assets, run::tied_cargo());
    if run::quiet(run::cargo().args(["nextest", "--version"])) {
        console::step("test", "the host's workspace");
        command.args(["nextest", "run"]);
    } else {
        console::step("test", "the host's workspace, by `cargo test`, since cargo-nextest is not installed");
        command.args(["test", "--lib", "--bins", "--tests"]);
    }
    for (variable, folder) in [("TORPOR_TEST_PYTHON", libraries), ("TORPOR_TEST_CLIENTS", clients)] {
        command.envs(folder.map(|folder| (variable, folder)));
    }
    if let Some(evidence) = &evidence {
        command.env("TORPOR_TEST_EVIDENCE", evidence.folder());
    }
    run::run(command.args(["--release", "--workspace"]).args(args))?;
    evidence.map_or(Ok(()), |evidence| evidence.end(tree))
}

/// Where the programs of an environment are; `None`, which says `without`, where it cannot be made. In CI that is a failure.
fn python(environment: &Environment, without: &str) -> Result<Option<PathBuf>> {
    match environment.ready() {
        Ok(folder) => Ok(Some(folder)),
        Err(error) if in_ci() => Err(error),
        Err(error) => {
            console::note(format!("{without}: {error:#}"));
            Ok(None)
        }
    }
}

/// The guests' own tests, on this machine's processor and with the stable toolchain: they need no Wasm.
fn test_guests(tree: &Tree, assets: &Assets) -> Result<()> {
    console::step("test", "the guests' workspace");
    let mut command = with(tree, assets, run::tied_cargo());
    command.env("CARGO_TARGET_DIR", tree.guest_target()).args(["test", "--workspace", "--manifest-path"]);
    run::run(command.arg(tree.guest_manifest()))
}

/// Runs the benchmark called `name`, a program of `benches`.
pub(crate) fn bench(tree: &Tree, name: &str, args: &[String]) -> Result<()> {
    let assets = up::prepare(tree)?;
    console::step("measure", name);
    let mut build = run::tied_cargo();
    // The whole workspace, as everywhere: without some part of it libraries would be built anew with other features.
    run::run(build.current_dir(&tree.root).args(["build", "--release", "--workspace", "--bins"]))?;
    run::run(with(tree, &assets, run::tied(tree.release().join(name))).args(args))
}

/// `command` in the repository, with the places of everything that tests and measurements use.
fn with(tree: &Tree, assets: &Assets, mut command: Command) -> Command {
    command
        .current_dir(&tree.root)
        .env("TORPOR_ASSETS", &assets.dir)
        .env("TORPOR_TEST_ASSETS", &assets.dir)
        .env("TORPOR_TEST_MODULES", tree.modules())
        .env("TORPOR_TEST_BUNDLES", bundles::folder(tree))
        .env("TORPOR_BIN", tree.torpor())
        .env("TORPOR_PEERS", assets.dir.with_file_name("peers"));
    // Tests load the library without the program, which sees to this itself.
    command.env("ORT_DISABLE_TELEMETRY", "1");
    for (variable, library) in [("TORPOR_ONNXRUNTIME", &assets.onnxruntime), ("TORPOR_OPENVINO", &assets.openvino)] {
        match library {
            Some(library) => command.env(variable, library),
            None => command.env_remove(variable),
        };
    }
    command
}
