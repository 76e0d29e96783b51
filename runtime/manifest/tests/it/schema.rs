//! The JSON Schema and `parse` agree, says a validator that knows nothing of this crate: whatever `parse` takes fits the schema, and what
//! does not fit is a mistake. `UPDATE_EXPECTED=1` writes `docs/manifest.schema.json` anew.

use crate::{
    any_text::FULL,
    documentation::{blocks, examples},
    mistakes::{folder, manifests, update},
    variables,
};
use jsonschema::Validator;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};
use torpor_manifest::{json_schema, parse};

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| jsonschema::validator_for(&schema()).unwrap());

/// Mistakes that no schema can see, by the name of their file. All others must not fit.
const BEYOND: [&str; 8] = [
    "bad-bundle-registry",
    "bad-bundle-url",
    "bad-route",
    "one-grant-in-another",
    "threads-without-effect",
    "variables-misspelled",
    "variables-not-set",
    "variables-with-wrong-values",
];

fn schema() -> Value {
    serde_json::from_str(&json_schema()).unwrap()
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A manifest as JSON; `None` if it is not TOML, or has numbers that not every reader of TOML can hold.
fn instance(text: &str) -> Option<Value> {
    let table: toml::Table = text.parse().ok()?;
    Some(serde_json::to_value(table).unwrap())
}

/// What the schema does not like of a manifest.
fn misfits(text: &str) -> Vec<String> {
    let instance = instance(text).unwrap_or_default();
    VALIDATOR.iter_errors(&instance).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// `text` must fit, as `parse` has taken it.
#[track_caller]
pub(crate) fn assert_fits(text: &str) {
    assert_eq!(misfits(text), [""; 0], "{text}");
}

#[test]
fn the_file_is_the_schema() {
    let path = repository("docs/manifest.schema.json");
    if update() {
        fs::write(&path, json_schema()).unwrap();
    }
    let file = fs::read_to_string(&path).unwrap_or_default();
    assert!(file == json_schema(), "docs/manifest.schema.json is stale: run this test with `UPDATE_EXPECTED=1`");
}

#[test]
fn it_is_a_json_schema() {
    jsonschema::meta::validate(&schema()).unwrap();
}

#[test]
fn what_people_are_shown_fits() {
    let mut right = examples();
    right.push(FULL.to_owned());
    right.extend(manifests(&repository("manifests")).iter().map(|path| fs::read_to_string(path).unwrap()));
    for page in ["README.md", "docs/operations.md", "docs/bundles.md"] {
        let page = fs::read_to_string(repository(page)).unwrap();
        // The other blocks are trust policies and recipes of bundles.
        right.extend(blocks(&page, "toml").into_iter().filter(|block| block.contains("trigger")).map(str::to_owned));
    }
    assert!(right.len() >= 14, "only {} manifests were found", right.len());
    for text in right {
        parse("a.toml", &text, &variables::none).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"));
        assert_fits(&text);
    }
}

#[test]
fn what_is_a_mistake_does_not_fit() {
    let mut beyond = Vec::new();
    let mut seen = 0;
    for path in manifests(&folder("mistakes")) {
        let text = fs::read_to_string(&path).unwrap();
        if instance(&text).is_none() {
            continue;
        }
        match misfits(&text).is_empty() {
            true => beyond.push(path.file_stem().unwrap().to_str().unwrap().to_owned()),
            false => seen += 1,
        }
    }
    assert_eq!(beyond, BEYOND, "mistakes that the schema does not see");
    assert!(seen >= 30, "only {seen} mistakes were seen");
}

/// What an editor would show for a key.
#[track_caller]
fn property(path: &str) -> Value {
    let mut found = schema();
    for name in path.split('.') {
        found = match name {
            "NAME" => found["additionalProperties"].clone(),
            name => found["properties"][name].clone(),
        };
    }
    assert!(found.is_object(), "no `{path}` in the schema");
    found
}

#[test]
fn editors_get_what_they_show() {
    assert_eq!(property("scale.queue")["default"], 256);
    assert_eq!(property("scale.queue")["maximum"], 65536);
    assert_eq!(property("limits.memory")["default"], "64MiB");
    assert_eq!(
        property("limits.memory")["description"],
        "the linear memory of the module, for one request (1.0 MiB to 4.0 GiB)"
    );
    assert_eq!(property("model.NAME.backend")["anyOf"][0]["enum"][0], "auto");
    assert_eq!(property("trigger.http")["required"], serde_json::json!(["path"]));
}
