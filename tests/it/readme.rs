//! The README does what it says: its commands are run as they stand, in their order, in one shell, against a host with the
//! repository's own manifests; and what they write has the form that the README shows.
//!
//! A command is a line `$ …` in a `console` block; the lines below it are its output, shortened with `…`. A `toml` block that
//! begins with `# FILE` is that file. Addresses are replaced: the default ones by the test host's, others by free ones. Of
//! `cargo` only the existence of the command is checked, since the tests themselves run within one.

use crate::fixture::{TestHost, assets, cli};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

/// A command and what the README says that it writes.
#[derive(Debug, PartialEq)]
pub(crate) struct Shown {
    line: usize,
    pub(crate) command: String,
    pub(crate) output: String,
}

/// The commands of a page.
pub(crate) fn commands(markdown: &str) -> Vec<Shown> {
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

/// The files that a page writes down in blocks of this language.
pub(crate) fn files<'a>(markdown: &'a str, language: &str) -> Vec<(&'a str, &'a str)> {
    let begin = format!("\n```{language}\n# ");
    let blocks = markdown.split(&begin).skip(1).filter_map(|rest| rest.split("\n```").next());
    blocks.filter_map(|block| block.split_once('\n')).collect()
}

/// A copy of the repository for commands to write into, as `cargo xtask up` leaves it.
fn desk(host: &TestHost, readme: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let root = assets::root().canonicalize().expect("the repository is there");
    for entry in fs::read_dir(root).expect("it can be read") {
        let entry = entry.expect("it can be read");
        if entry.file_name() != "target" && entry.file_name() != ".git" {
            symlink(entry.path(), folder.path().join(entry.file_name())).expect("a link can be made");
        }
    }
    let target = folder.path().join("target");
    fs::create_dir_all(target.join("dev/bundles")).expect("a folder can be made");
    fs::create_dir_all(target.join("release")).expect("a folder can be made");
    symlink(assets::torpor(), target.join("release/torpor")).expect("a link can be made");
    symlink(assets::modules(), target.join("modules")).expect("a link can be made");
    for name in DEPLOYED {
        let bundle = target.join("dev/bundles").join(name).with_extension("torpor");
        fs::copy(host.stage().bundle(name), bundle).expect("a copy");
    }
    for file in ["dev.key.pem", "dev.pub.pem", "trust.toml"] {
        fs::copy(host.stage().path(file), target.join("dev").join(file)).expect("a copy");
    }
    for (name, text) in files(readme, "toml") {
        fs::write(folder.path().join(name), text).expect("the README's file can be written");
    }
    folder
}

const DEPLOYED: [&str; 3] = ["filetype", "embed", "filetype-raw"];
const LOOPBACK: &str = "127.0.0.1:";

/// Replaces every address of a text, each with the same one each time.
fn readdressed(text: &str, addresses: &mut BTreeMap<String, String>) -> String {
    let mut parts = text.split(LOOPBACK);
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let free = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            listener.local_addr().expect("it has an address").to_string()
        };
        whole += addresses.entry(part[..digits].to_owned()).or_insert_with(free);
        whole += &part[digits..];
    }
    whole
}

/// A script that runs the commands, and writes for each what it wrote and how it ended.
fn script(commands: &[Shown], host: &TestHost) -> String {
    let mut addresses =
        BTreeMap::from([("8080".to_owned(), host.data.to_string()), ("8081".to_owned(), host.admin.to_string())]);
    // What runs in the background must not outlive the script.
    let mut script = "trap 'kill $(jobs -p) 2> /dev/null' EXIT\n".to_owned();
    for shown in commands.iter().filter(|shown| !shown.command.starts_with("cargo ")) {
        let (line, command) = (shown.line, readdressed(&shown.command, &mut addresses));
        script += &format!("exec > {line}.out 2> {line}.err\n{command}\necho $? > {line}.code\n");
        script += &format!("[ $(cat {line}.code) = 0 ] || exit 1\n");
    }
    script
}

#[test]
fn its_commands_do_what_it_says() {
    let readme = fs::read_to_string(assets::root().join("README.md")).expect("there is a README");
    let commands = commands(&readme);
    let host =
        DEPLOYED.iter().fold(TestHost::builder(), |stage, name| stage.function(name, |manifest| manifest)).start();
    let desk = desk(&host, &readme);
    let mut shell = Command::new("bash");
    for name in assets::inherited() {
        shell.env_remove(name);
    }
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", desk.path().join("target/release").display());
    shell.arg("-c").arg(script(&commands, &host)).current_dir(desk.path()).env("PATH", path).stdin(Stdio::null());
    shell.env("TORPOR_LISTEN", host.data.to_string()).env("TORPOR_ADMIN", host.admin.to_string());
    shell.envs(assets::onnxruntime().map(|library| ("TORPOR_ONNXRUNTIME", library)));
    shell.envs(assets::openvino().map(|library| ("TORPOR_OPENVINO", library)));
    cli::finish(&mut shell);

    let mut run = 0;
    for shown in commands.iter().filter(|shown| !shown.command.starts_with("cargo ")) {
        let read =
            |kind: &str| fs::read_to_string(desk.path().join(format!("{}.{kind}", shown.line))).unwrap_or_default();
        let (code, out, err) = (read("code"), read("out"), read("err"));
        assert_eq!(code, "0\n", "line {}: `{}`: {out}{err}", shown.line, shown.command);
        same_form(shown, &out, &err);
        run += 1;
    }
    assert!(run >= 8, "only {run} commands were run of {commands:#?}");
}

/// What was written has the form of what the README shows: JSON first, if there is any, and then lines of words.
#[track_caller]
fn same_form(shown: &Shown, out: &str, err: &str) {
    let Shown { line, command, output } = shown;
    let whole = output.replace(", …", "").replace(",…", "");
    let mut shown_json = serde_json::Deserializer::from_str(&whole).into_iter::<Value>();
    let mut words = whole.as_str();
    if whole.starts_with(['{', '[']) {
        let expected =
            shown_json.next().and_then(Result::ok).unwrap_or_else(|| panic!("line {line}: no JSON: {output}"));
        words = &whole[shown_json.byte_offset()..];
        let written = serde_json::from_str(out).unwrap_or_else(|error| panic!("line {line}: {error}: {out}{err}"));
        same_shape(&expected, &written, output.contains('…')).unwrap_or_else(|what| {
            panic!("line {line}: `{command}`: {what}: the README shows {output}, but it is {written}");
        });
    }
    // Of each line its first word, unless that is a number or a digest: a column's head, a function's name, a header's name.
    let plain = |word: &&str| word.chars().all(|c| c.is_ascii_alphabetic() || "-:`_,.".contains(c));
    for word in words.lines().filter_map(|line| line.split_whitespace().next()).filter(plain) {
        assert!(
            out.contains(word) || err.contains(word),
            "line {line}: `{command}` does not write `{word}`: {out}{err}"
        );
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
