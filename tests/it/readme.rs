//! The README does what it says: its commands are run as they stand, in their order, against a host with the repository's own
//! manifests, and what they write has the form that the README shows.
//!
//! A command is a line `$ …` in a `console` block; the lines below it are its output, shortened with `…`. Commands of `curl` and
//! `torpor` are run, with the ports of the test's host in the place of the default ones. Of `cargo xtask` only the existence
//! of the command is checked, since the tests themselves run within one.

use crate::fixture::{TestHost, assets, cli};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

/// A command and what the README says that it writes.
#[derive(Debug, PartialEq)]
struct Shown {
    line: usize,
    command: String,
    output: String,
}

fn commands(markdown: &str) -> Vec<Shown> {
    let mut commands: Vec<Shown> = Vec::new();
    let (mut inside, mut continues) = (false, false);
    for (index, line) in markdown.lines().enumerate() {
        if line.starts_with("```") {
            (inside, continues) = (line.trim_end() == "```console", false);
            continue;
        }
        if !inside {
            continue;
        }
        let last = commands.last_mut();
        match (line.strip_prefix("$ "), last) {
            (Some(command), _) => {
                commands.push(Shown { line: index + 1, command: command.to_owned(), output: String::new() });
            }
            (None, Some(shown)) if continues => shown.command.extend(["\n", line]),
            (None, Some(shown)) => shown.output.extend([line, "\n"]),
            (None, None) => panic!("line {}: an output without a command", index + 1),
        }
        continues = line.ends_with('\\');
    }
    commands
}

/// A copy of the repository for commands to write into, with `torpor` on the path.
struct Desk {
    folder: tempfile::TempDir,
    ports: [(&'static str, String); 2],
}

impl Desk {
    fn new(host: &TestHost) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = assets::root().canonicalize().expect("the repository is there");
        for entry in fs::read_dir(root).expect("it can be read") {
            let entry = entry.expect("it can be read");
            if entry.file_name() != "target" && entry.file_name() != ".git" {
                symlink(entry.path(), folder.path().join(entry.file_name())).expect("a link can be made");
            }
        }
        let dev = folder.path().join("target/dev");
        fs::create_dir_all(dev.join("bundles")).expect("a folder can be made");
        fs::create_dir_all(folder.path().join("bin")).expect("a folder can be made");
        symlink(assets::torpor(), folder.path().join("bin/torpor")).expect("a link can be made");
        for name in DEPLOYED {
            fs::copy(host.stage().bundle(name), dev.join("bundles").join(name).with_extension("torpor"))
                .expect("a copy");
        }
        for file in ["dev.key.pem", "dev.pub.pem", "trust.toml"] {
            fs::copy(host.stage().path(file), dev.join(file)).expect("a copy");
        }
        let ports = [("127.0.0.1:8080", host.data.to_string()), ("127.0.0.1:8081", host.admin.to_string())];
        Desk { folder, ports }
    }

    fn run(&self, command: &str) -> cli::Ran {
        let command = self.ports.iter().fold(command.to_owned(), |command, (from, to)| command.replace(from, to));
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", self.folder.path().join("bin").display());
        let mut shell = Command::new("bash");
        assets::inherited().for_each(|name| drop(shell.env_remove(name)));
        shell.args(["-euc", &command]).current_dir(self.folder.path()).env("PATH", path).stdin(Stdio::null());
        shell.env("TORPOR_LISTEN", &self.ports[0].1).env("TORPOR_ADMIN", &self.ports[1].1);
        cli::finish(&mut shell)
    }
}

const DEPLOYED: [&str; 3] = ["filetype", "embed", "filetype-raw"];

#[test]
fn its_commands_do_what_it_says() {
    let readme = fs::read_to_string(assets::root().join("README.md")).expect("there is a README");
    let commands = commands(&readme);
    let host =
        DEPLOYED.iter().fold(TestHost::builder(), |stage, name| stage.function(name, |manifest| manifest)).start();
    let desk = Desk::new(&host);
    let mut run = 0;
    for shown in &commands {
        let program = shown.command.split_whitespace().find(|word| !word.contains('=')).unwrap_or_default();
        if !["curl", "torpor", "target/release/torpor"].contains(&program) || shown.command.contains("torpor serve") {
            continue;
        }
        let ran = desk.run(&shown.command.replace("target/release/torpor", "torpor"));
        assert_eq!(ran.code, Some(0), "line {}: {ran:#?}\n{}", shown.line, host.stage().log());
        same_form(shown, &(ran.stdout + &ran.stderr));
        run += 1;
    }
    assert!(run >= 4, "only {run} commands were run of {commands:#?}");
}

/// What was written has the form of what the README shows.
#[track_caller]
fn same_form(shown: &Shown, written: &str) {
    let Shown { line, command, output } = shown;
    let whole = output.replace(", …", "").replace(",…", "").replace('…', "");
    if let Ok(expected) = serde_json::from_str::<Value>(&whole) {
        let written = serde_json::from_str(written).unwrap_or_else(|error| panic!("line {line}: {error}: {written}"));
        let shortened = output.contains('…');
        return same_shape(&expected, &written, shortened).unwrap_or_else(|what| {
            panic!("line {line}: `{command}`: {what}: the README shows {output}, but it is {written}");
        });
    }
    // Of anything else the first word of every line: a column's head, a function's name, a header's name.
    for word in output.lines().filter_map(|line| line.split_whitespace().next()).filter(|word| !word.contains('…')) {
        assert!(written.contains(word), "line {line}: `{command}` does not write `{word}`, but {written}");
    }
}

fn same_shape(expected: &Value, written: &Value, shortened: bool) -> Result<(), String> {
    match (expected, written) {
        (Value::Object(expected), Value::Object(written)) => {
            if !shortened && expected.len() != written.len() {
                return Err("other keys".to_owned());
            }
            let same = |(key, value): (&String, &Value)| {
                same_shape(value, written.get(key).ok_or_else(|| format!("no `{key}`"))?, shortened)
            };
            expected.iter().try_for_each(same)
        }
        (Value::Array(expected), Value::Array(written)) => {
            if expected.len() > written.len() || (!shortened && expected.len() != written.len()) {
                return Err("another number of elements".to_owned());
            }
            expected.iter().zip(written).try_for_each(|(expected, written)| same_shape(expected, written, shortened))
        }
        (expected, written) if std::mem::discriminant(expected) == std::mem::discriminant(written) => Ok(()),
        (expected, written) => Err(format!("{written} in the place of {expected}")),
    }
}

#[test]
fn the_developers_commands_are_there() {
    let readme = fs::read_to_string(assets::root().join("README.md")).expect("there is a README");
    let mut names: Vec<_> = readme
        .split("cargo xtask ")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next())
        .collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.contains(&"up") && names.contains(&"test"), "{names:?}");
    for name in names {
        let ran = cli::finish(assets::cargo().args(["xtask", name, "--help"]).current_dir(assets::root()));
        assert_eq!(ran.code, Some(0), "`cargo xtask {name}`: {ran:#?}");
    }
}

#[test]
fn its_links_lead_somewhere() {
    let readme = fs::read_to_string(assets::root().join("README.md")).expect("there is a README");
    let links: Vec<_> = readme.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()).collect();
    let local = |link: &&&str| !link.is_empty() && !link.contains("://");
    for link in links.iter().filter(local) {
        assert!(Path::new(assets::root()).join(link).exists(), "`{link}` is not there");
    }
}

#[test]
fn commands_are_told_from_their_output() {
    let markdown = "```console\n$ a \\\n  b\n1\n2\n$ c\n```\n```sh\n$ no\n```\n";
    let shown =
        |line, command: &str, output: &str| Shown { line, command: command.to_owned(), output: output.to_owned() };
    assert_eq!(commands(markdown), [shown(2, "a \\\n  b", "1\n2\n"), shown(6, "c", "")]);
}

#[test]
fn shapes_are_compared() {
    let same = |expected: &str, written: &str, shortened| {
        let value = |text| serde_json::from_str(text).expect("JSON");
        same_shape(&value(expected), &value(written), shortened).is_ok()
    };
    assert!(same(r#"{"a":[1]}"#, r#"{"a":[2]}"#, false) && same(r#"{"a":[1]}"#, r#"{"a":[2,3],"b":0}"#, true));
    assert!(!same(r#"{"a":1}"#, r#"{"b":1}"#, true) && !same(r#"{"a":1}"#, r#"{"a":"1"}"#, true));
    assert!(!same(r#"{"a":1}"#, r#"{"a":1,"b":1}"#, false) && !same("[1,2]", "[1]", true));
}
