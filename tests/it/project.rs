//! What `torpor new` makes: by the commands that it prints it is built, packed, signed, checked, served and called; it is
//! nothing that this repository's own build helps with.

use crate::fixture::{
    assets::{self, cargo, root},
    cli::{self, Ran},
    until,
};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// What projects are compiled to: components, and programs.
const TARGETS: [&str; 2] = ["wasm32-unknown-unknown", "wasm32-wasip1"];

/// Whether the compiler here has a standard library for these targets.
fn builds_for_wasm() -> bool {
    TARGETS.iter().all(|target| {
        let asked = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
        asked.is_ok_and(|asked| Path::new(String::from_utf8_lossy(&asked.stdout).trim()).exists())
    })
}

/// A project of a kind, in a folder of its own outside of the repository.
struct Project {
    folder: TempDir,
    name: &'static str,
    commands: Vec<String>,
    /// The host, once it is started; it is killed with the project.
    host: Option<Child>,
}

impl Project {
    fn new(kind: &str, name: &'static str) -> Self {
        let folder = TempDir::with_prefix("torpor-project-").expect("a folder can be made");
        let mut new = cli::command();
        new.args(["new", name, "--json", "--kind", kind]);
        // A program depends on nothing of ours.
        if kind != "command" {
            new.arg("--guest").arg(root().join("guest"));
        }
        let made = cli::finish(new.current_dir(folder.path())).ok().json();
        let commands = made["commands"].as_array().expect("commands").iter();
        let commands = commands.map(|command| command.as_str().expect("text").to_owned()).collect();
        let project = Project { folder, name, commands, host: None };
        // The SDK is built once for all projects, and kept for the next run of this test.
        let target = assets::modules().with_file_name("projects");
        fs::create_dir_all(&target).expect("a folder can be made");
        symlink(target, project.path("target")).expect("a link can be made");
        project
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(self.name).join(name)
    }

    /// Runs a command in the project's folder, as somebody would who has `torpor` on the path.
    fn shell(&self, line: &str, addresses: Option<&Value>) -> Command {
        let mut shell = Command::new("sh");
        for name in assets::inherited() {
            shell.env_remove(name);
        }
        let torpor = assets::torpor();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", torpor.parent().expect("it is in a folder").display());
        shell.args(["-c", line]).current_dir(self.path("")).env("PATH", path).stdin(Stdio::null());
        if let Some(addresses) = addresses {
            let address = |key: &str| addresses[key].as_str().expect("an address").to_owned();
            shell.env("TORPOR_LISTEN", address("data")).env("TORPOR_ADMIN", address("admin"));
        }
        shell
    }

    /// Cargo in the project's folder, with nothing that is meant for this repository's own build.
    fn plain_cargo(&self) -> Command {
        let mut cargo = cargo();
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR"] {
            cargo.env_remove(name);
        }
        cargo.current_dir(self.path(""));
        cargo
    }

    /// Fetches what the project depends on, where that is not here yet: what the SDK needs was fetched when the modules were
    /// built, but nothing here depends on the crate `wasi-nn`.
    fn fetch(&self) {
        let there = self.plain_cargo().args(["fetch", "--offline"]).output();
        if !there.is_ok_and(|there| there.status.success()) {
            cli::finish(self.plain_cargo().arg("fetch")).ok();
        }
    }

    /// Runs Cargo in the project's folder.
    fn cargo<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Ran {
        cli::finish(self.plain_cargo().args(arguments).arg("--offline")).ok()
    }

    /// Starts the host by the command that was printed, on free ports.
    fn serve(&mut self, line: &str) -> Value {
        let line = format!("exec {line} --listen 127.0.0.1:0 --admin 127.0.0.1:0 --addresses addresses 2> log");
        self.host = Some(self.shell(&line, None).spawn().expect("a shell starts"));
        let text = until("the project's host serves", || fs::read_to_string(self.path("addresses")).ok());
        serde_json::from_str(&text).expect("the addresses are JSON")
    }

    /// Follows the commands to the end; gives back what the last one, a call, has written.
    fn follow(&mut self) -> String {
        let mut addresses = None;
        let mut last = None;
        for line in self.commands.clone() {
            if let Some(arguments) = line.strip_prefix("cargo ") {
                self.cargo(arguments.split(' '));
            } else if line.starts_with("torpor serve") {
                addresses = Some(self.serve(&line));
            } else if line.starts_with("torpor") {
                last = Some(cli::finish(&mut self.shell(&line, addresses.as_ref())).ok());
            } else {
                let target = line.strip_prefix("rustup target add ");
                assert!(target.is_some_and(|target| TARGETS.contains(&target)), "this test does not know `{line}`");
            }
        }
        last.expect("there are commands").stdout
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if let Some(host) = &mut self.host {
            let _ = host.kill();
            let _ = host.wait();
        }
    }
}

/// The kinds that there are, as the program says.
fn kinds() -> Vec<String> {
    let help = cli::run(["new", "--help"]).ok().stdout;
    let kinds = help.split("--kind <KIND>").nth(1).expect("a flag").split("--path").next().expect("its text").lines();
    let names = kinds.filter_map(|line| line.trim().strip_prefix("- ")).filter_map(|line| line.split(':').next());
    names.map(str::to_owned).collect()
}

#[test]
fn a_project_of_each_kind_runs_by_the_commands_that_are_printed() {
    // `cargo xtask test` installs what it lacks, or says that it cannot and that this test is skipped.
    if !builds_for_wasm() {
        return;
    }
    let mut tried = Vec::new();
    fn json(answer: &str) -> Value {
        serde_json::from_str(answer).expect("it is JSON")
    }
    let mut try_out = |kind: &str, name: &'static str, check: fn(&str)| {
        let mut project = Project::new(kind, name);
        project.fetch();
        check(&project.follow());
        // Its own tests pass, and nothing of it has to be formatted.
        project.cargo(["test", "--release"]);
        cli::finish(cargo().args(["fmt", "--check"]).current_dir(project.path(""))).ok();
        assert_eq!(fs::read_to_string(project.path("log")).expect("a log").matches("ERROR").count(), 0);
        tried.push(kind.to_owned());
    };
    try_out("predict", "iris-species", |answer| {
        let outputs = &json(answer)["outputs"];
        assert_eq!((&outputs[0]["name"], &outputs[0]["data"]), (&json!("species"), &json!(["setosa"])), "{answer}");
        assert!(outputs[1]["data"][0].as_f64().is_some_and(|score| (score - 0.98267).abs() < 1e-3), "{answer}");
    });
    try_out("http", "words", |answer| {
        assert_eq!(json(answer), json!({ "lines": 1, "words": 4, "characters": 15 }));
    });
    try_out("command", "iris-program", |answer| {
        let score = answer.strip_prefix("setosa,").and_then(|score| score.trim_end().parse::<f64>().ok());
        assert!(score.is_some_and(|score| (score - 0.98267).abs() < 1e-3), "{answer}");
    });
    assert_eq!(tried, kinds(), "a kind was not tried");
}

#[test]
fn nothing_is_overwritten() {
    let folder = TempDir::new().expect("a folder can be made");
    let new = |arguments: &[&str]| cli::finish(cli::command().arg("new").args(arguments).current_dir(folder.path()));
    new(&["iris"]).ok();
    let before = fs::read(folder.path().join("iris/src/lib.rs")).expect("it is there");
    new(&["iris", "--kind", "http"]).refused(2, &["`iris` is not empty", "--path"]);
    assert_eq!(fs::read(folder.path().join("iris/src/lib.rs")).expect("it is there"), before);
    fs::create_dir(folder.path().join("empty")).expect("a folder can be made");
    new(&["other", "--path", "empty"]).ok();
    let manifest = fs::read_to_string(folder.path().join("empty/Cargo.toml")).expect("it is there");
    assert!(manifest.contains("name = \"other\"") && manifest.contains("torpor-guest = \"0."), "{manifest}");
    new(&["third", "--guest", "https://example.org/torpor.git"]).ok();
    let manifest = fs::read_to_string(folder.path().join("third/Cargo.toml")).expect("it is there");
    assert!(manifest.contains("torpor-guest = { git = \"https://example.org/torpor.git\" }"), "{manifest}");
}

#[test]
fn a_core_module_is_packed_as_the_component_that_it_makes() {
    let folder = TempDir::new().expect("a folder can be made");
    let recipe = "name = \"a\"\nversion = \"1\"\nmodule = \"m.wasm\"\n";
    fs::write(folder.path().join("bundle.toml"), recipe).expect("it can be written");
    let pack = |content: &[u8]| {
        fs::write(folder.path().join("m.wasm"), content).expect("it can be written");
        cli::finish(cli::command().args(["pack", ".", "-o", "a.torpor"]).current_dir(folder.path()))
    };
    let core = fs::read(assets::module("passthrough")).expect("the module is built");
    assert!(core.starts_with(b"\0asm\x01\0\0\0"), "the build made no core module");
    pack(&core).ok();
    let bundle = fs::read(folder.path().join("a.torpor")).expect("it is packed");
    let has = |needle: &[u8]| bundle.windows(needle.len()).any(|window| window == needle);
    assert!(has(b"\0asm\x0d\0\x01\0"), "no component was made");
    // A module that describes nothing may be run as it is; a broken one is told from both.
    pack(b"\0asm\x01\0\0\0").ok();
    pack(&core[..core.len() / 2]).refused(2, &["m.wasm", "no valid Wasm", "help:"]);
}
