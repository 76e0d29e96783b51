//! What only people see: colour and progress at a terminal, and neither where there is none.
//!
//! `script`, of util-linux, makes the terminal.

use crate::fixture::{
    TestHost,
    assets::{skipped_without, torpor},
    cli, until,
};
use serde_json::Value;
use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};
use tempfile::TempDir;

/// How a colour, a style or a movement of the cursor begins.
const ESCAPE: char = '\u{1b}';

/// Larger than what is packed before anybody has read a bar.
const LARGE: u64 = 64 << 20;

fn no_terminal_here() -> bool {
    let script = Command::new("script").arg("--version").output();
    let right = script.is_ok_and(|script| String::from_utf8_lossy(&script.stdout).contains("util-linux"));
    skipped_without("`script` of util-linux", right)
}

/// A folder with a bundle to make, whose model has this length.
fn module(length: u64) -> TempDir {
    let folder = TempDir::new().expect("a folder can be made");
    let recipe = "name = \"large\"\nversion = \"1\"\nmodule = \"m.wasm\"\n[model.model]\nfile = \"model.onnx\"\n";
    fs::write(folder.path().join("bundle.toml"), recipe).expect("it can be written");
    fs::write(folder.path().join("m.wasm"), b"\0asm\x0d\0\x01\0").expect("it can be written");
    let model = File::create(folder.path().join("model.onnx")).expect("it can be written");
    model.set_len(length).expect("it can be made longer");
    folder
}

/// What a command writes at a terminal.
#[track_caller]
fn at_a_terminal(folder: &Path, arguments: &str, plain: bool) -> String {
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command"]).arg(format!("{} {arguments}", torpor().display()));
    script.arg("/dev/null").current_dir(folder).env("TERM", "xterm").env_remove("NO_COLOR");
    if plain {
        script.env("NO_COLOR", "1");
    }
    cli::finish(&mut script).stdout
}

#[test]
fn large_work_shows_how_far_it_is_at_a_terminal_alone() {
    if no_terminal_here() {
        return;
    }
    let folder = module(LARGE);
    for (command, word) in [
        ("pack . -o large.torpor", "packing"),
        ("keygen dev", ""),
        ("sign --key dev.key.pem large.torpor", "signing"),
        ("inspect large.torpor", "reading"),
    ] {
        let shown = at_a_terminal(folder.path(), command, true);
        assert_eq!(shown.contains("MiB of "), !word.is_empty(), "{command}: {shown:?}");
        assert!(shown.contains(word), "`{word}` is missing: {shown:?}");
        assert!(!at_a_terminal(folder.path(), &format!("{command} --json"), true).contains("MiB of "), "{command}");
    }
    let ran = cli::finish(cli::command().args(["inspect", "large.torpor"]).current_dir(folder.path())).ok();
    assert!(ran.stderr.is_empty() && !ran.stdout.contains(ESCAPE), "{ran:?}");
}

#[test]
fn small_work_shows_no_progress() {
    if no_terminal_here() {
        return;
    }
    let folder = module(1 << 20);
    let shown = at_a_terminal(folder.path(), "pack . -o small.torpor", false);
    assert!(shown.contains("packed large 1") && !shown.contains("MiB of "), "{shown:?}");
}

#[test]
fn a_watched_table_is_drawn_over_itself_until_the_host_goes_away() {
    let host = TestHost::builder().function("add", |manifest| manifest).start();
    let admin = host.admin.to_string();
    let elsewhere = cli::run(["ps", "--watch", "--admin", &admin]);
    elsewhere.refused(2, &["`--watch` draws on a terminal", "--json"]);
    if no_terminal_here() {
        return;
    }
    let folder = TempDir::new().expect("a folder can be made");
    let (drawn, lines) = (folder.path().join("drawn"), folder.path().join("lines"));
    let watch = |output: &Path, flags: &str, command: &mut Command| {
        let output = File::create(output).expect("a file can be made");
        let command = command.env("TERM", "xterm").current_dir(folder.path()).stdout(output).stderr(Stdio::null());
        command.args(flags.split(' ')).spawn().expect("it starts")
    };
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "/dev/null", "--command"]);
    script.arg(format!("{} ps --watch --admin {admin}", torpor().display()));
    let mut terminal = watch(&drawn, "--flush", &mut script);
    let mut piped = watch(&lines, &format!("ps --watch --json --admin {admin}"), &mut cli::command());
    let read = |file: &Path| fs::read_to_string(file).unwrap_or_default();
    until("both have shown it twice", || {
        (read(&drawn).matches("FUNCTION").count() >= 2 && read(&lines).lines().count() >= 2).then_some(())
    });
    host.stop();
    for command in [&mut terminal, &mut piped] {
        let status = until("it ends", || command.try_wait().expect("it is ours"));
        assert_eq!(status.code(), Some(1));
    }
    let drawn = read(&drawn);
    assert!(drawn.contains("\u{1b}[2A") && drawn.contains("add"), "it is not drawn over itself: {drawn:?}");
    assert!(drawn.contains(&format!("the host at `{admin}` has gone away")), "{drawn:?}");
    for line in read(&lines).lines().take(2) {
        let list: Value = serde_json::from_str(line).expect("each line is JSON");
        assert_eq!(list[0]["name"], "add");
    }
}

#[test]
fn colour_is_for_terminals_and_never_with_no_color() {
    if no_terminal_here() {
        return;
    }
    let folder = module(100);
    at_a_terminal(folder.path(), "pack . -o small.torpor", false);
    for command in ["inspect small.torpor", "inspect gone.torpor", "check gone.toml", "pack"] {
        let shown = at_a_terminal(folder.path(), command, false);
        assert!(shown.contains(ESCAPE), "no colour of `{command}`: {shown:?}");
        let shown = at_a_terminal(folder.path(), command, true);
        assert!(!shown.contains(ESCAPE), "colour of `{command}` in spite of NO_COLOR: {shown:?}");
        let mut piped = cli::command();
        let ran = cli::finish(piped.env_remove("NO_COLOR").args(command.split(' ')).current_dir(folder.path()));
        assert!(!(ran.stdout + &ran.stderr).contains(ESCAPE), "colour of `{command}` in a pipe");
    }
}
