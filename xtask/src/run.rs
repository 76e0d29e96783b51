//! Other programs: how they are named in errors, and that they do not outlive this one.

use anyhow::{Context, Result, bail};
use std::{
    env,
    ffi::{OsStr, OsString},
    process::{Command, Output, Stdio},
};

/// The Cargo that runs this command.
pub(crate) fn cargo() -> Command {
    without_package(Command::new(program()))
}

/// The Cargo that runs this command, which ends with this process, and with it whatever it has started.
pub(crate) fn tied_cargo() -> Command {
    without_package(tied(program()))
}

fn program() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Hides that this process was itself started by Cargo. Some build scripts look at these variables, and would run again whenever
/// a developer builds by `cargo build` and by `cargo xtask` in turns.
fn without_package(mut command: Command) -> Command {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// A command that the kernel ends by SIGTERM when this process ends in any way, even by SIGKILL. Elsewhere than on Linux it is
/// a plain command, which only an orderly end stops.
pub(crate) fn tied(program: impl AsRef<OsStr>) -> Command {
    if cfg!(target_os = "linux") && quiet(Command::new("setpriv").args(["--pdeathsig", "TERM", "--", "true"])) {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(program);
        return command;
    }
    Command::new(program)
}

/// Runs `command` in sight of the developer; anything but success is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("`{}` could not be started", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status}); what it wrote is above", shown(command));
    }
    Ok(())
}

/// What `command` writes to stdout; its stderr is part of the error, should it fail.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().with_context(|| format!("`{}` could not be started", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status}): {}", shown(command), String::from_utf8_lossy(&stderr).trim());
    }
    String::from_utf8(stdout).with_context(|| format!("`{}` did not write text", shown(command)))
}

/// Whether `command` succeeds; what it writes is dropped.
pub(crate) fn quiet(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words: Vec<_> =
        [command.get_program()].into_iter().chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}
