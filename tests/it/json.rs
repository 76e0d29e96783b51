//! `--json` has the fields that docs/cli.md says, and no others: the page's tables are compared with what the program writes.
//!
//! A section of the page is about one command. A row of its table that begins with `| field |` is a path such as
//! `` `models[].name` `` and a type: a word, perhaps with `or null`, and `optional` where the field may be missing. Of what a
//! test can see, every field must have been seen; `rare` ones are those that it cannot make.

use crate::fixture::{
    Manifest, Recipe, Stage, TestHost,
    assets::root,
    cli::{self, Ran},
    forever,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, ffi::OsStr, fs};

/// What the page says of one field.
#[derive(Debug, PartialEq)]
struct Field {
    path: Vec<String>,
    kind: String,
    null: bool,
    optional: bool,
    rare: bool,
}

/// The fields of each section, by its heading.
fn documented() -> BTreeMap<String, Vec<Field>> {
    let page = fs::read_to_string(root().join("docs/cli.md")).expect("there is a page");
    let sections = page.split("\n## ").skip(1).filter_map(|section| section.split_once('\n'));
    sections.map(|(heading, text)| (heading.replace('`', ""), fields(text))).collect()
}

fn fields(section: &str) -> Vec<Field> {
    let rows = section.lines().skip_while(|line| !line.starts_with("| field |")).skip(2);
    rows.take_while(|line| line.starts_with('|')).map(field).collect()
}

fn field(row: &str) -> Field {
    let mut cells = row.split('|').skip(1).map(str::trim);
    let path = cells.next().unwrap_or_default().trim_matches('`');
    let kind = cells.next().unwrap_or_default();
    Field {
        path: path.split('.').map(str::to_owned).collect(),
        kind: kind.split([' ', ',']).next().unwrap_or_default().to_owned(),
        null: kind.contains("or null"),
        optional: kind.contains("optional"),
        rare: kind.contains("rare"),
    }
}

/// What is wrong with `outputs`, which are all that a command was seen to write, against what the page says of it.
fn differences(fields: &[Field], outputs: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    for field in fields {
        let name = field.path.join(".");
        let (parents, last) = field.path.split_at(field.path.len() - 1);
        let parents = outputs.iter().flat_map(|output| found(output, parents)).filter(|parent| parent.is_object());
        let mut seen = false;
        for parent in parents {
            match found(parent, last).as_slice() {
                [] if field.optional || last[0].ends_with("[]") => {}
                [] => wrong.push(format!("`{name}` is missing in {parent}")),
                values => {
                    seen = true;
                    let misfits = values.iter().filter(|value| !fits(field, value));
                    wrong.extend(misfits.map(|value| format!("`{name}` is no {}: {value}", field.kind)));
                }
            }
        }
        if !seen && !field.rare {
            wrong.push(format!("no output has `{name}`"));
        }
    }
    let mut written: Vec<Vec<String>> = Vec::new();
    outputs.iter().for_each(|output| paths(output, &[], fields, &mut written));
    written.sort();
    written.dedup();
    let known = |path: &Vec<String>| fields.iter().any(|field| field.path == *path);
    wrong.extend(
        written.iter().filter(|path| !known(path)).map(|path| format!("`{}` is not on the page", path.join("."))),
    );
    wrong
}

/// The values at a path: several, where it leads through arrays.
fn found<'a>(value: &'a Value, path: &[String]) -> Vec<&'a Value> {
    let Some((first, rest)) = path.split_first() else { return vec![value] };
    let (key, array) = first.strip_suffix("[]").map_or((first.as_str(), false), |key| (key, true));
    let values: Vec<&Value> = match (value.get(key), array) {
        (Some(Value::Array(elements)), true) => elements.iter().collect(),
        (Some(value), false) => vec![value],
        _ => Vec::new(),
    };
    values.into_iter().flat_map(|value| found(value, rest)).collect()
}

fn fits(field: &Field, value: &Value) -> bool {
    match (field.kind.as_str(), value) {
        (_, Value::Null) => field.null,
        ("string", Value::String(_))
        | ("boolean", Value::Bool(_))
        | ("object", Value::Object(_))
        | ("array", Value::Array(_)) => true,
        ("integer", Value::Number(number)) => number.is_i64() || number.is_u64(),
        ("number", Value::Number(_)) | ("any", _) => true,
        _ => false,
    }
}

/// Every path at which something is written, down to what the page does not look into.
fn paths(value: &Value, at: &[String], fields: &[Field], written: &mut Vec<Vec<String>>) {
    let Value::Object(map) = value else { return };
    for (key, value) in map {
        let whole = [at, std::slice::from_ref(key)].concat();
        let closed = fields.iter().any(|field| field.path == whole && ["any", "array"].contains(&field.kind.as_str()));
        let parts = match value {
            Value::Array(elements) if !closed => elements.iter().map(|element| (format!("{key}[]"), element)).collect(),
            value => vec![(key.clone(), value)],
        };
        for (name, value) in parts {
            let path = [at, &[name]].concat();
            let inside = |field: &Field| field.path.len() > path.len() && field.path.starts_with(&path);
            if value.is_object() && !closed && fields.iter().any(inside) {
                paths(value, &path, fields, written);
            } else {
                written.push(path);
            }
        }
    }
}

/// Checks what a command was seen to write against its section.
#[track_caller]
fn check(section: &str, outputs: &[Value]) {
    let mut documented = documented();
    if section == "torpor verify" {
        // It writes all that `inspect` does.
        let whole = documented.remove("torpor inspect").unwrap_or_default();
        documented.entry(section.to_owned()).or_default().extend(whole);
    }
    let fields = documented.get(section).unwrap_or_else(|| panic!("docs/cli.md has no section `{section}`"));
    assert!(!fields.is_empty(), "the section `{section}` has no table of fields");
    let wrong = differences(fields, outputs);
    assert!(wrong.is_empty(), "`{section}` of docs/cli.md:\n{}", wrong.join("\n"));
}

fn run<const N: usize>(arguments: [&dyn AsRef<OsStr>; N]) -> Ran {
    let mut command = cli::command();
    cli::finish(command.arg("--json").args(arguments.map(|argument| argument.as_ref().to_owned())))
}

fn signed(stage: &Stage) -> std::path::PathBuf {
    let bundle = stage.bundle("add");
    Recipe::of("add").pack(&bundle);
    stage.keys.sign(&bundle);
    bundle
}

#[test]
fn the_fields_of_commands_on_bundles() {
    let stage = TestHost::builder();
    let folder = stage.path("");
    let bundle = signed(&stage);
    let trust = stage.path("trust.toml");
    let packed = cli::finish(Recipe::of("add").packing().arg("--json").arg("-o").arg(stage.path("again.torpor"))).ok();
    let snapshot = stage.bundle("probe");
    let initialized = cli::finish(Recipe::of("probe").packing().arg("--json").arg("-o").arg(&snapshot)).ok();
    stage.keys.sign(&snapshot);
    check("torpor pack", &[packed.json(), initialized.json()]);
    check("torpor keygen", &[run([&"keygen", &folder.join("other")]).ok().json()]);
    check("torpor sign", &[run([&"sign", &"--key", &stage.keys.private, &bundle]).ok().json()]);

    // A bundle that says all that a bundle may say, and one with a signature that is about another bundle.
    let described = stage.bundle("described");
    let text = fs::read_to_string(root().join("tests/bundles/add/bundle.toml")).expect("a recipe");
    let text = text.replace("../../models/add.onnx", &root().join("tests/models/add.onnx").display().to_string());
    let text = text.replacen("module =", "description = \"adds\"\nlicense = \"Apache-2.0\"\nmodule =", 1);
    fs::create_dir(folder.join("described")).expect("a folder can be made");
    fs::write(folder.join("described/bundle.toml"), text.replacen("shape = [-1, 4]\n", "", 1)).expect("a recipe");
    let module = crate::fixture::assets::module("passthrough");
    run([&"pack", &folder.join("described"), &"--module", &module, &"-o", &described]).ok();
    stage.keys.sign(&described);
    let two_files = stage.bundle("species");
    Recipe::of("species").pack(&two_files);
    stage.keys.sign(&two_files);
    let with_files = stage.bundle("command-files");
    Recipe::of("command-files").pack(&with_files);
    stage.keys.sign(&with_files);
    let with_task = stage.bundle("embed");
    Recipe::of("embed").pack(&with_task);
    stage.keys.sign(&with_task);
    let bundles = [&bundle, &described, &snapshot, &two_files, &with_files, &with_task];
    check("torpor inspect", &bundles.map(|bundle| run([&"inspect", bundle]).ok().json()));
    let policy = "[[publisher]]\nname = \"dev\"\nkey = \"dev.pub.pem\"\nfunctions = [\"*\"]\nexpires = 2990-01-01\n\
                  [[rule]]\nfunctions = [\"*\"]\npublishers = [\"dev\"]\nthreshold = 1\n";
    stage.trust(policy);
    let verify = |bundle| run([&"verify", &"--trust", &trust, &"--function", &"add", bundle]).ok().json();
    check("torpor verify", &bundles.map(|bundle| verify(bundle)));
}

#[test]
fn the_fields_of_commands_on_files() {
    let folder = tempfile::tempdir().expect("a folder");
    check("torpor check", &[run([&"check", &root().join("manifests")]).ok().json()]);
    let missing = folder.path().join("missing.so");
    let doctor = run([&"doctor", &"--onnxruntime", &missing, &"--openvino", &missing]).refused(1, &[]).json();
    check("torpor doctor", doctor.as_array().expect("an array"));
    check("torpor completions", &[run([&"completions", &"zsh"]).ok().json()]);
    let pages = [run([&"man"]).ok().json(), run([&"man", &"--out", &folder.path().join("man")]).ok().json()];
    check("torpor man", &pages);
    let guest = root().join("guest");
    let projects = [
        run([&"new", &"one", &"--path", &folder.path().join("one")]).ok().json(),
        run([&"new", &"two", &"--path", &folder.path().join("two"), &"--guest", &guest]).ok().json(),
        run([&"new", &"three", &"--path", &folder.path().join("three"), &"--kind", &"command"]).ok().json(),
    ];
    check("torpor new", &projects);
}

#[test]
fn the_fields_of_commands_on_hosts() {
    let host = TestHost::builder()
        .function("add", |manifest| manifest.set("scale.idle-timeout", forever()))
        .function("probe", |manifest| manifest)
        .another("broken", "probe", |manifest| manifest.set("bundle", "/no/such/bundle.torpor"))
        .flag("--json")
        .start();
    let (admin, listen) = (host.admin.to_string(), host.data.to_string());
    let row = |name: &str| json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] });
    let body = json!({ "inputs": [row("x"), row("y")] }).to_string();
    let invoke = |arguments: &[&str]| {
        let to = ["--json", "invoke", "--admin", &admin, "--listen", &listen];
        cli::run(to.iter().chain(arguments)).json()
    };
    let answered = invoke(&["add", "--data", &body]);
    assert_eq!(answered["body"]["outputs"][0]["data"], json!([2.0, 4.0, 6.0, 8.0]));
    let text = host.stage().path("text");
    fs::write(&text, b"\xff\xfe").expect("a file");
    // The probe's HTTP trigger is a prefix, at which it has nothing.
    let refused = invoke(&["probe", "--data", &format!("@{}", text.display())]);
    assert_eq!((&refused["status"], refused["error"].is_string()), (&json!(404), true), "{refused}");
    check("torpor invoke", &[answered, refused]);

    let list = run([&"ps", &"--admin", &admin]).ok().json();
    let one = run([&"ps", &"--admin", &admin, &"add"]).ok().json();
    assert_eq!(list[0]["name"], one["name"]);
    check("torpor ps", list.as_array().expect("an array"));
    check("torpor trace", &[run([&"trace", &"--admin", &admin, &"add"]).ok().json()]);

    let file = host.stage().path("manifests/add.toml");
    let text = fs::read_to_string(&file).expect("the manifest is there");
    let changed = host.stage().path("changed.toml");
    fs::write(&changed, Manifest::parse(&text).set("scale.queue", 7).text()).expect("a manifest");
    let mut orders = vec![
        run([&"diff", &"--admin", &admin, &changed]).refused(1, &[]),
        run([&"deploy", &"--admin", &admin, &changed]).ok(),
        run([&"rollback", &"--admin", &admin, &"add"]).ok(),
    ];
    let history = run([&"history", &"--admin", &admin, &"add"]).ok().json();
    orders.push(run([&"undeploy", &"--admin", &admin, &"add"]).ok());
    check("torpor history", history.as_array().expect("an array"));
    let outcomes = orders.iter().map(|ran| ran.json()[0].clone()).collect::<Vec<_>>();
    check("torpor deploy", &outcomes);

    // The file and standard output, which the test's host has in one with its log, say the same.
    let file = fs::read_to_string(host.stage().path("addresses")).expect("the file is there");
    let log = host.stage().log();
    let written: String = log.lines().skip_while(|line| *line != "{").take_while(|line| *line != "}").collect();
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(read(&file), read(&format!("{written}}}")));
    check("torpor serve", &[read(&file)]);
}

#[test]
fn the_fields_of_errors() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = |name: &str| {
        let file = folder.path().join(name).with_extension("toml");
        fs::write(file, "name = \"a\"\nbundle = \"a.torpor\"\n[trigger.inference]\n").expect("a manifest");
    };
    manifest("a");
    manifest("b");
    let errors = [
        run([&"check", &folder.path()]).refused(1, &[]).json(),
        run([&"inspect", &"no-such-file"]).refused(2, &[]).json(),
        run([&"inspect"]).refused(2, &[]).json(),
    ];
    check("Errors", &errors);
}

#[test]
fn every_command_has_its_section() {
    let help = cli::run(["--help"]).ok().stdout;
    let list = help.split("Commands:\n").nth(1).expect("a list of commands").lines();
    let names = list.take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
    let documented = documented();
    for name in names.filter(|name| *name != "help") {
        assert!(documented.contains_key(&format!("torpor {name}")), "docs/cli.md says nothing about `torpor {name}`");
    }
}

#[test]
fn a_difference_is_found() {
    let fields = fields(
        "text\n| field | type | meaning |\n|---|---|---|\n| `a` | string | x |\n| `b[].c` | integer or null, optional | y |\n\n| `z` |\n",
    );
    assert_eq!(fields.len(), 2);
    assert_eq!((fields[1].path.join("/"), fields[1].null, fields[1].optional), ("b[]/c".to_owned(), true, true));
    let differ = |value: Value| differences(&fields, &[value]).join("; ");
    assert_eq!(differ(json!({ "a": "", "b": [{ "c": 1 }, { "c": null }, {}] })), "");
    assert!(differ(json!({ "a": 1 })).contains("`a` is no string"));
    assert!(differ(json!({ "b": [] })).contains("`a` is missing"));
    assert!(differ(json!({ "a": "", "d": 1 })).contains("`d` is not on the page"));
    assert!(differ(json!({ "a": "" })).contains("no output has `b[].c`"));
}
