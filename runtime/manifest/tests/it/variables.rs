//! Environment variables in manifests: what they may give, and that secrets show nowhere.

use std::{cell::RefCell, collections::BTreeSet, ffi::OsString, path::Path};
use torpor_manifest::{FunctionName, parse};

/// The environment of the tests with mistakes: some variables are set, and some of those wrongly.
pub(crate) fn lookup(name: &str) -> Option<OsString> {
    match name {
        "SET" => Some("set".into()),
        "LEVEL" => Some("Very High".into()),
        "SIZE" => Some("12".into()),
        "SECRET" => Some(SECRET.into()),
        "NUL" => Some(format!("{SECRET}\0").into()),
        _ => None,
    }
}

/// An environment without variables.
pub(crate) fn none(_name: &str) -> Option<OsString> {
    None
}

const SECRET: &str = "hunter2";

const RIGHT: &str = r#"
name = "${SET}-a"
bundle = "${UNSET:-bundles}/${SET}.torpor"
trigger.http = { path = "/fn/${SET}", methods = ["${METHOD:-GET}"] }

[model.standard]
backend = "${BACKEND:-tract}"

[limits]
deadline = "${DEADLINE:-2s}"
memory = "${SIZE}MiB"

[allow]
outbound = ["${SET}.example.com"]
files = [{ host = "${SET}/labels", guest = "/${SET}" }]

[allow.env]
"${SET}" = "$${SET}"
TOKEN = "Bearer ${SECRET}"
"#;

#[test]
fn every_text_may_have_them() {
    let manifest = parse("a.toml", RIGHT, &lookup).unwrap();
    assert_eq!(manifest.name, FunctionName::try_from("set-a").unwrap());
    assert_eq!(manifest.bundle, Path::new("bundles/set.torpor"));
    let http = manifest.trigger.http.unwrap();
    assert_eq!((http.path.as_str(), http.methods[0].as_str()), ("/fn/set", "GET"));
    assert_eq!(manifest.models["standard"].backend.as_str(), "tract");
    assert_eq!(manifest.limits.deadline.as_secs(), 2);
    assert_eq!(manifest.limits.memory.as_u64(), 12 << 20);
    assert_eq!(manifest.allow.outbound[0].host(), "set.example.com");
    assert_eq!(manifest.allow.files[0].host, Path::new("set/labels"));
    assert_eq!(manifest.allow.files[0].guest, "/set");
    // Keys stand as they are.
    assert_eq!(manifest.allow.env["${SET}"].as_ref(), "${SET}");
    assert_eq!(manifest.allow.env["TOKEN"].as_ref(), "Bearer hunter2");
}

#[test]
fn only_those_that_are_named_are_asked_for() {
    let asked = RefCell::new(BTreeSet::new());
    let lookup = |name: &str| {
        asked.borrow_mut().insert(name.to_owned());
        lookup(name)
    };
    parse("a.toml", RIGHT, &lookup).unwrap();
    let expected = ["BACKEND", "DEADLINE", "METHOD", "SECRET", "SET", "SIZE", "UNSET"];
    assert!(asked.borrow().iter().eq(expected), "{asked:?}");
}

#[test]
fn the_environment_of_a_module_is_not_shown() {
    let manifest = parse("a.toml", RIGHT, &lookup).unwrap();
    assert!(format!("{manifest:?}").contains("TOKEN") && !format!("{manifest:?}").contains(SECRET), "{manifest:?}");

    let text = "nmae = \"a\"\n[allow.env]\nA = \"${SECRET}\"\nB = \"${NUL}\"\nC = \"${SECRET} ${UNSET}\"\n";
    let mistakes = parse("a.toml", text, &lookup).unwrap_err();
    let shown = format!("{mistakes} {mistakes:?} {}", serde_json::to_string(&mistakes).unwrap());
    assert!(shown.contains("`allow.env.B` holds a NUL") && shown.contains("`UNSET` is not set"), "{mistakes}");
    assert!(!shown.contains(SECRET), "{mistakes}");
}
