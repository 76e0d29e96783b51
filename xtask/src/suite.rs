//! Tests and measurements of the whole system: with the binary, modules and bundles that `up` would serve.

use crate::{
    bundles, console, python, run,
    setup::Assets,
    tree::{Tree, in_ci},
    up,
};
use anyhow::{Result, ensure};
use std::process::Command;

/// All tests; or, with `args`, only those of the host's workspace that they pick.
pub(crate) fn test(tree: &Tree, args: &[String]) -> Result<()> {
    let assets = up::prepare(tree)?;
    if in_ci() {
        ensure!(assets.onnxruntime.is_some(), "there is no ONNX Runtime for this machine, and CI must test with it");
        ensure!(assets.openvino.is_some(), "there is no OpenVINO for this machine, and CI must test with it");
    }
    let python = match python::ready() {
        Ok(folder) => Some(folder),
        Err(error) if in_ci() => return Err(error),
        Err(error) => {
            console::note(format!("tests that check bundles with Python libraries are skipped: {error:#}"));
            None
        }
    };
    if args.is_empty() {
        guests(tree, &assets)?;
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
    if let Some(python) = python {
        command.env("TORPOR_TEST_PYTHON", python);
    }
    run::run(command.args(["--release", "--workspace"]).args(args))
}

/// The guests' own tests, on this machine's processor and with the stable toolchain: they need no Wasm.
fn guests(tree: &Tree, assets: &Assets) -> Result<()> {
    console::step("test", "the guests' workspace");
    let mut command = with(tree, assets, run::tied_cargo());
    command.env("CARGO_TARGET_DIR", tree.guest_target()).args(["test", "--workspace", "--manifest-path"]);
    run::run(command.arg(tree.guest_manifest()))
}

/// Runs a program of `benches`.
pub(crate) fn measure(tree: &Tree, program: &str, args: &[String]) -> Result<()> {
    let assets = up::prepare(tree)?;
    console::step("measure", program);
    let mut build = run::tied_cargo();
    run::run(build.current_dir(&tree.root).args([
        "build",
        "--release",
        "--workspace",
        "--bins",
        "--exclude",
        "xtask",
    ]))?;
    run::run(with(tree, &assets, run::tied(tree.release().join(program))).args(args))
}

/// `command` in the repository, with the places of everything that tests and measurements use.
fn with(tree: &Tree, assets: &Assets, mut command: Command) -> Command {
    command
        .current_dir(&tree.root)
        .env("TORPOR_ASSETS", &assets.dir)
        .env("TORPOR_TEST_ASSETS", &assets.dir)
        .env("TORPOR_TEST_MODULES", tree.modules())
        .env("TORPOR_TEST_BUNDLES", bundles::folder(tree))
        .env("TORPOR_BIN", tree.torpor());
    for (variable, library) in [("TORPOR_ONNXRUNTIME", &assets.onnxruntime), ("TORPOR_OPENVINO", &assets.openvino)] {
        match library {
            Some(library) => command.env(variable, library),
            None => command.env_remove(variable),
        };
    }
    command
}
