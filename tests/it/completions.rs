//! What shells and readers of manual pages are told: it works in the shell, and it is about every command.

use crate::fixture::{assets::skipped_without, cli};
use std::{
    fs,
    process::{Command, Stdio},
};

/// The commands, as `--help` lists them.
fn commands() -> Vec<String> {
    let help = cli::run(["--help"]).ok().stdout;
    let list = help.split("Commands:\n").nth(1).expect("a list of commands").lines();
    let names = list.take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Whether a program is on this machine.
fn there(program: &str) -> bool {
    let run = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok()
}

#[test]
fn bash_completes_commands_flags_and_values() {
    if skipped_without("bash", there("bash")) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("torpor.bash");
    fs::write(&script, cli::run(["completions", "bash"]).ok().stdout).expect("the script can be written");
    // What bash itself does when somebody presses the tabulator.
    let complete = |words: &[&str]| -> Vec<String> {
        let bash = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
                    _torpor torpor \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"; \
                    printf '%s\\n' \"${COMPREPLY[@]}\"";
        let ran = cli::finish(Command::new("bash").args(["-c", bash, "bash"]).arg(&script).args(words)).ok();
        ran.stdout.lines().map(str::to_owned).collect()
    };
    let first = complete(&["torpor", ""]);
    for command in commands() {
        assert!(first.contains(&command), "`{command}` is not offered: {first:?}");
    }
    assert_eq!(complete(&["torpor", "verify", "--tru"]), ["--trust"]);
    assert_eq!(complete(&["torpor", "new", "x", "--kind", "pre"]), ["predict"]);
}

#[test]
fn every_shell_has_a_script() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = cli::run(["completions", shell]).ok().stdout;
        for command in commands() {
            assert!(script.contains(&command), "{shell}: nothing about `{command}`");
        }
    }
    let json = cli::run(["--json", "completions", "fish"]).ok().json();
    let script = json["script"].as_str().expect("a script");
    assert_eq!(script.trim_end(), cli::run(["completions", "fish"]).ok().stdout.trim_end());
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("man/man1");
    cli::finish(cli::command().args(["man", "--out"]).arg(&out)).ok();
    let page = |name: &str| fs::read_to_string(out.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let first = page("torpor.1");
    assert_eq!(first.trim_end(), cli::run(["man"]).ok().stdout.trim_end());
    for command in commands() {
        let text = page(&format!("torpor-{command}.1"));
        assert!(text.contains(".SH SYNOPSIS") && text.contains(&format!("torpor {command}")), "{command}: {text}");
        assert!(first.contains(&format!("torpor\\-{command}(1)")), "`torpor.1` does not point to {command}: {first}");
    }
    assert!(page("torpor-serve.1").contains("max\\-connections"));
    cli::run(["man", "--out", "/dev/null/x"]).refused(2, &["/dev/null/x", "help:"]);
}
