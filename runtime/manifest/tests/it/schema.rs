//! The JSON Schema is the one that is checked in, and tells editors what they show. Whether it agrees with `parse` is asked of somebody
//! else's validator, in the integration tests. `UPDATE_EXPECTED=1` writes `docs/manifest.schema.json` anew.

use crate::{
    any_text::FULL,
    documentation::{blocks, examples},
    mistakes::{manifests, update},
    variables,
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};
use torpor_manifest::{json_schema, parse};

fn schema() -> Value {
    serde_json::from_str(&json_schema()).unwrap()
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
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
fn what_people_are_shown_is_right() {
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
    }
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
