//! What CI checks without running anything: format, lints, edges, documentation, licences and advisories.

use crate::{console, edges, run, tree::Tree};
use anyhow::Result;
use std::process::Command;

/// All of them, the quick ones first.
pub(crate) fn all(tree: &Tree) -> Result<()> {
    console::step("check", "format");
    run::run(host(tree).args(["fmt", "--all", "--check"]))?;
    run::run(guest(tree, "fmt").args(["--all", "--check"]))?;
    edges::check(tree)?;
    console::step("check", "lints");
    // With the profile of everything else, so that no dependency is built for this alone.
    run::run(host(tree).args(["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    run::run(guest(tree, "clippy").args(["--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    console::step("check", "documentation");
    run::run(host(tree).args(["doc", "--release", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    run::run(guest(tree, "doc").args(["--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    if run::quiet(run::cargo().args(["deny", "--version"])) {
        console::step("check", "licences, advisories and sources");
        run::run(host(tree).args(["deny", "check"]))?;
    } else {
        console::note("licences and advisories were not checked; `cargo install cargo-deny` gives the tool for it");
    }
    Ok(())
}

fn host(tree: &Tree) -> Command {
    let mut command = run::cargo();
    command.current_dir(&tree.root);
    command
}

/// The same for the guests' workspace, on this machine's processor.
fn guest(tree: &Tree, task: &str) -> Command {
    let mut command = host(tree);
    command.env("CARGO_TARGET_DIR", tree.guest_target()).arg(task).arg("--manifest-path").arg(tree.guest_manifest());
    command
}
