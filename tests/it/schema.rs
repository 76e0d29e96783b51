//! Somebody else's validator reads the JSON Schema of manifests as editors do: what people are shown fits it, and mistakes do not.

use crate::fixture::{assets, cli};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

/// Reads a schema and manifests by name from standard input, and writes for each manifest what the schema does not like of it;
/// `null` for one that is no TOML.
const VALIDATE: &str = r#"
import json, sys, tomllib
from jsonschema import Draft202012Validator
request = json.load(sys.stdin)
Draft202012Validator.check_schema(request["schema"])
validator = Draft202012Validator(request["schema"])
said = {}
for name, text in request["manifests"].items():
    try:
        manifest = json.loads(json.dumps(tomllib.loads(text), default=str))
        said[name] = [error.message for error in validator.iter_errors(manifest)]
    except tomllib.TOMLDecodeError:
        said[name] = None
json.dump(said, sys.stdout)
"#;

/// Mistakes that no schema can see, by the name of their file. All others must not fit.
const BEYOND: [&str; 10] = [
    "bad-bundle-registry",
    "bad-bundle-url",
    "bad-route",
    "bundle-files-at-another-folder",
    "memory-without-effect",
    "one-grant-in-another",
    "threads-without-effect",
    "variables-misspelled",
    "variables-not-set",
    "variables-with-wrong-values",
];

type Said = BTreeMap<String, Option<Vec<String>>>;

/// What the validator says; `None` where there is none, which CI does not forgive.
fn said(manifests: &BTreeMap<String, String>) -> Option<Said> {
    let python = assets::python().map(|folder| folder.join("python3"));
    let works = |python: &Path| {
        let mut probe = Command::new(python);
        probe.args(["-c", "import jsonschema, tomllib"]).output().is_ok_and(|output| output.status.success())
    };
    let python = python.filter(|python| works(python));
    if assets::skipped_without("Python 3.11 with the libraries of `xtask/python.txt`", python.is_some()) {
        return None;
    }
    let schema: Value = serde_json::from_str(&cli::run(["schema"]).ok().stdout).expect("the schema is JSON");
    let request = json!({ "schema": schema, "manifests": manifests }).to_string();
    let mut validator = Command::new(python?);
    validator.args(["-c", VALIDATE]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut validator = validator.spawn().expect("Python starts");
    validator.stdin.take().expect("it has an input").write_all(request.as_bytes()).expect("it reads its input");
    let output = validator.wait_with_output().expect("it ends");
    assert!(output.status.success(), "the validator failed; what it wrote is above");
    Some(serde_json::from_slice(&output.stdout).expect("it answers in JSON"))
}

/// The manifests of a folder, by the names of their files.
fn folder(path: &str) -> BTreeMap<String, String> {
    let entries = fs::read_dir(assets::root().join(path)).expect("the folder is there");
    let files = entries.map(|entry| entry.expect("it can be read").path());
    let manifests = files.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    let text = |path: &Path| fs::read_to_string(path).expect("it can be read");
    let name = |path: &Path| path.file_stem().expect("a name").to_string_lossy().into_owned();
    manifests.map(|path| (name(&path), text(&path))).collect()
}

/// The manifests that a page shows whole.
fn shown(page: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(assets::root().join(page)).expect("the page is there");
    let blocks = text.split("\n```toml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    // The other blocks are parts of manifests, trust policies and recipes of bundles.
    let whole = |block: &&str| ["name", "bundle", "trigger"].iter().all(|key| block.contains(key));
    blocks.filter(whole).enumerate().map(|(index, block)| (format!("{page} {index}"), block.to_owned())).collect()
}

#[test]
fn what_people_are_shown_fits_the_schema() {
    let mut right = folder("manifests");
    right.insert("full".to_owned(), folder("tests/fuzz/corpus/manifest").remove("full").expect("it is there"));
    right.extend(["README.md", "docs/manifest.md", "docs/operations.md"].into_iter().flat_map(shown));
    assert!(right.len() >= 6, "only these were found: {:?}", right.keys());
    let Some(said) = said(&right) else { return };
    for (name, errors) in said {
        assert_eq!(errors, Some(vec![]), "{name}:\n{}", right[&name]);
    }
}

#[test]
fn what_is_a_mistake_does_not_fit_the_schema() {
    let Some(said) = said(&folder("runtime/manifest/tests/mistakes")) else { return };
    let said: Vec<_> = said.into_iter().filter_map(|(name, errors)| Some((name, errors?))).collect();
    let beyond: Vec<_> = said.iter().filter(|(_, errors)| errors.is_empty()).map(|(name, _)| name.as_str()).collect();
    assert_eq!(beyond, BEYOND, "mistakes that the schema does not see");
    assert!(said.len() >= 40, "only {} mistakes were seen", said.len());
}
