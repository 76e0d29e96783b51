//! Every command with right and wrong use: what it writes, as text and as JSON, and how it ends.

use crate::fixture::{
    Keys, Recipe, Stage, TestHost,
    assets::{module, root},
    cli::{self, Ran},
    forever,
};
use serde_json::{Value, json};
use std::{ffi::OsStr, fs, path::PathBuf};

fn run<const N: usize>(arguments: [&dyn AsRef<OsStr>; N]) -> Ran {
    cli::run(arguments.map(|argument| argument.as_ref().to_owned()))
}

/// A folder with keys, a trust policy and a signed bundle.
struct Desk {
    stage: Stage,
    bundle: PathBuf,
}

fn desk() -> Desk {
    let stage = TestHost::builder();
    let bundle = stage.bundle("add");
    Recipe::of("add").pack(&bundle);
    stage.keys.sign(&bundle);
    Desk { stage, bundle }
}

#[test]
fn without_a_command_it_says_what_there_is() {
    let none: [&str; 0] = [];
    let ran = cli::run(none).refused(2, &["Usage:"]);
    for command in [
        "serve",
        "check",
        "schema",
        "deploy",
        "undeploy",
        "diff",
        "rollback",
        "history",
        "ps",
        "invoke",
        "new",
        "pack",
        "inspect",
        "keygen",
        "sign",
        "verify",
        "completions",
        "man",
    ] {
        assert!(ran.stderr.contains(&format!("\n  {command} ")), "{command} in {}", ran.stderr);
        let help = run([&command, &"--help"]).ok();
        assert!(help.stdout.contains(&format!("Usage: torpor {command}")), "{}", help.stdout);
    }
    assert!(run([&"--version"]).ok().stdout.starts_with("torpor 0."));
}

#[test]
fn wrong_use_is_told_with_the_right_one() {
    run([&"serv"]).refused(2, &["'serv'", "'serve'"]);
    run([&"pack"]).refused(2, &["<FOLDER>", "torpor pack --help"]);
    run([&"serve", &"--manifests", &"."]).refused(2, &["--trust"]);
    run([&"serve", &"--trust", &"t", &"--insecure-allow-unsigned"])
        .refused(2, &["--trust", "--insecure-allow-unsigned"]);
    run([&"serve", &"--trust", &"t", &"--listen", &"nowhere"]).refused(2, &["--listen", "nowhere"]);
    run([&"serve", &"--trust", &"t", &"--drain", &"soon"]).refused(2, &["--drain", "soon"]);
    run([&"ps", &"Not A Name"]).refused(2, &["Not A Name"]);
    run([&"pack", &".", &"-o", &"x", &"--model", &"nameless"]).refused(2, &["NAME=FILE"]);
}

#[test]
fn keygen_makes_keys_and_never_overwrites_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let stem = folder.path().join("acme");
    let made = run([&"--json", &"keygen", &stem]).ok().json();
    assert!(made["keyid"].as_str().is_some_and(|id| id.len() == 64), "{made}");
    let private = folder.path().join("acme.key.pem");
    assert_eq!(made["private"], private.display().to_string());
    let pem = fs::read_to_string(&private).expect("the key is there");
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"), "no PEM");
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&private).expect("it is there").permissions());
        assert_eq!(mode & 0o077, 0, "others may read the key: {mode:o}");
    }

    run([&"keygen", &stem]).refused(2, &["acme.key.pem", "exists already", "another name"]);
    fs::remove_file(&private).expect("it can be removed");
    run([&"keygen", &stem]).refused(2, &["acme.pub.pem", "exists already"]);
    assert!(!private.exists(), "half a pair was made");
    run([&"keygen", &folder.path().join("no/such/folder/acme")]).refused(2, &["no/such/folder"]);
    let text = run([&"keygen", &folder.path().join("other")]).ok().stdout;
    assert!(text.contains("keep it secret") && text.contains("other.pub.pem"), "{text}");
}

#[test]
fn packing_twice_gives_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let pack = |name: &str| {
        let output = folder.path().join(name);
        let ran = cli::finish(Recipe::of("filetype").packing().arg("--json").arg("-o").arg(&output)).ok();
        (fs::read(&output).expect("the bundle is there"), ran.json()["digest"].clone())
    };
    let (first, digest) = pack("a.torpor");
    assert!(digest.as_str().is_some_and(|digest| digest.starts_with("sha256:")), "{digest}");
    let (second, again) = pack("b.torpor");
    assert!(first == second && digest == again, "{digest} and {again}");

    // Signing keeps the digest; signing again changes nothing.
    let keys = Keys::make(&folder.path().join("k"));
    let bundle = folder.path().join("a.torpor");
    let sign = || run([&"--json", &"sign", &"--key", &keys.private, &bundle]).ok().json();
    assert_eq!(sign()["digest"], digest);
    let signed = fs::read(&bundle).expect("it is there");
    sign();
    assert!(signed == fs::read(&bundle).expect("it is there"), "the second signature changed the bundle");
}

/// A folder with this `bundle.toml`, and a module.
fn source(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("bundle.toml"), text).expect("it can be written");
    fs::copy(module("passthrough"), folder.path().join("m.wasm")).expect("the module is there");
    folder
}

#[track_caller]
fn does_not_pack(text: &str, words: &[&str]) {
    let folder = source(text);
    let output = folder.path().join("x.torpor");
    run([&"pack", &folder.path(), &"-o", &output]).refused(2, words);
    assert!(!output.exists(), "something was written");
}

#[test]
fn what_cannot_be_packed_says_where_and_why() {
    let folder = tempfile::tempdir().expect("a folder");
    run([&"pack", &folder.path(), &"-o", &"x"]).refused(2, &["bundle.toml"]);
    does_not_pack("name = \"a\"\nversion = \"1\"\nmodul = \"m.wasm\"\n", &["bundle.toml:3:1", "`modul`", "module"]);
    does_not_pack("name = \"A b\"\nversion = \"1\"\nmodule = \"m.wasm\"\n", &["bundle.toml:1:8", "A b"]);
    does_not_pack("name = \"a\"\nversion = \"1\"\nmodule = \"gone.wasm\"\n", &["gone.wasm"]);
    does_not_pack("name = \"a\"\nversion = \"1\"\nmodule = \"bundle.toml\"\n", &["bundle.toml"]);
    let model = "[model.m]\nfile = \"gone.onnx\"\n";
    does_not_pack(&format!("name = \"a\"\nversion = \"1\"\nmodule = \"m.wasm\"\n{model}"), &["gone.onnx"]);
    let input = "[[input]]\nname = \"x\"\ndatatype = \"FLOAT\"\n";
    does_not_pack(
        &format!("name = \"a\"\nversion = \"1\"\nmodule = \"m.wasm\"\n{input}"),
        &["bundle.toml:6:", "FLOAT", "FP32"],
    );
    does_not_pack("name = \"a\nversion", &["bundle.toml:"]);
}

#[test]
fn inspect_shows_what_is_in_a_bundle() {
    let Desk { stage: _stage, bundle } = desk();
    let report = run([&"--json", &"inspect", &bundle]).ok().json();
    assert_eq!((&report["name"], &report["version"]), (&json!("add"), &json!("0.1.0")));
    assert_eq!(report["models"][0]["format"], "onnx");
    assert_eq!(report["inputs"][1], json!({ "name": "y", "datatype": "FP32", "shape": [-1, 4] }));
    assert_eq!(report["signatures"].as_array().map(Vec::len), Some(1));
    let text = run([&"inspect", &bundle]).ok().stdout;
    for word in ["add 0.1.0", "sha256:", "model model", "onnx", "[-1, 4]", "signature with key"] {
        assert!(text.contains(word), "`{word}` in {text}");
    }
    run([&"inspect", &"no-such-file"]).refused(2, &["no-such-file"]);
    run([&"inspect", &root().join("Cargo.toml")]).refused(1, &["Cargo.toml", "is not a whole bundle"]);
}

#[test]
fn verify_says_whether_a_bundle_would_be_run() {
    let Desk { stage, bundle } = desk();
    let trust = stage.path("trust.toml");
    assert!(run([&"verify", &"--trust", &trust, &bundle]).ok().stdout.contains("signed by `dev`"));
    let report = run([&"--json", &"verify", &"--trust", &trust, &"--function", &"anything", &bundle]).ok().json();
    assert_eq!((&report["publishers"], &report["name"]), (&json!(["dev"]), &json!("add")));

    stage.trust("[[publisher]]\nname = \"dev\"\nkey = \"dev.pub.pem\"\nfunctions = [\"vision-*\"]\n");
    run([&"verify", &"--trust", &trust, &bundle]).ok();
    run([&"verify", &"--trust", &trust, &"--function", &"vision-a", &bundle]).ok();
    let ran = run([&"--json", &"verify", &"--trust", &trust, &"--function", &"ocr", &bundle]).refused(1, &[]);
    assert!(ran.json()["error"].as_str().is_some_and(|error| error.contains("`ocr`")), "{ran:?}");

    stage.trust("");
    run([&"verify", &"--trust", &trust, &bundle]).refused(1, &["does not know"]);
}

#[test]
fn verify_and_inspect_say_what_signatures_are_worth() {
    let Desk { stage, bundle } = desk();
    let trust = stage.path("trust.toml");
    let dated = "[[publisher]]\nname = \"dev\"\nkey = \"dev.pub.pem\"\nfunctions = [\"*\"]\n\
                 valid-from = 2020-01-01\nexpires = 2990-01-01\n";
    stage.trust(dated);
    let verify = |at: &str| run([&"verify", &"--trust", &trust, &"--at", &at, &bundle]);
    for at in ["2020-01-01", "2989-12-31T23:59:59Z", "2989-12-31 23:59:59"] {
        let text = verify(at).ok().stdout;
        assert!(text.contains("signature of `dev`") && text.contains("counts until 2990-01-01T00:00:00Z"), "{text}");
    }
    verify("2990-01-01").refused(1, &["`dev`", "expired at 2990-01-01T00:00:00Z"]);
    verify("2019-12-31").refused(1, &["`dev`", "not valid until 2020-01-01T00:00:00Z"]);
    verify("tomorrow").refused(2, &["--at", "tomorrow", "2030-01-31"]);

    assert!(run([&"inspect", &"--trust", &trust, &bundle]).ok().stdout.contains("signature of `dev`"));
    let report = run([&"--json", &"inspect", &"--trust", &trust, &bundle]).ok().json();
    assert_eq!(
        (&report["signatures"][0]["publisher"], &report["signatures"][0]["counts"]),
        (&json!("dev"), &json!(true))
    );
    // What is not trusted can be inspected all the same.
    stage.trust(&dated.replace("2990", "2021"));
    assert!(run([&"inspect", &"--trust", &trust, &bundle]).ok().stdout.contains("does not count: signed with a key"));

    stage.trust(&format!("{dated}[[rule]]\nfunctions = [\"*\"]\npublishers = [\"dev\"]\nthreshold = 1\n"));
    assert!(verify("2025-01-01").ok().stdout.contains("rules were not looked at; name the function"));
    let report = run([&"--json", &"verify", &"--trust", &trust, &"--function", &"add", &bundle]).ok().json();
    assert_eq!(report["rules"], json!([{ "functions": ["*"], "threshold": 1, "publishers": ["dev"] }]));
}

#[test]
fn a_wrong_policy_says_where() {
    let Desk { stage, bundle } = desk();
    let trust = stage.path("trust.toml");
    stage.manifest(&Recipe::of("add").manifest(&bundle));
    let wrong = |policy: &str, words: &[&str]| {
        stage.trust(policy);
        run([&"verify", &"--trust", &trust, &bundle]).refused(2, words);
        stage.refused().refused(2, words);
    };
    wrong("[[publisher]]\nname = \"dev\"\nkey = \"gone.pem\"\nfunctions = [\"*\"]\n", &["gone.pem"]);
    wrong(
        "[[publisher]]\nname = \"dev\"\nkey = \"dev.pub.pem\"\nfunction = [\"*\"]\n",
        &["trust.toml:4:1", "functions"],
    );
    wrong(
        "[[publisher]]\nname = \"dev\"\nkey = \"dev.key.pem\"\nfunctions = [\"*\"]\n",
        &["trust.toml:3:7", "public key", "keygen"],
    );
    wrong("[[publisher", &["trust.toml:1:"]);
    run([&"verify", &"--trust", &"gone.toml", &bundle]).refused(2, &["gone.toml"]);
}

#[test]
fn sign_wants_a_private_key() {
    let Desk { stage, bundle } = desk();
    let before = fs::read(&bundle).expect("it is there");
    run([&"sign", &"--key", &stage.keys.public, &bundle])
        .refused(2, &["dev.pub.pem", "no Ed25519 private key", "torpor keygen"]);
    run([&"sign", &"--key", &"gone.pem", &bundle]).refused(2, &["gone.pem"]);
    run([&"sign", &"--key", &stage.keys.private, &"gone.torpor"]).refused(2, &["gone.torpor"]);
    run([&"sign", &bundle]).refused(2, &["--key"]);
    assert!(before == fs::read(&bundle).expect("it is there"), "the bundle changed");
}

fn manifests(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("it can be written");
    }
    folder
}

const RIGHT: &str = "name = \"a\"\nbundle = \"a.torpor\"\n[trigger.inference]\n";

#[test]
fn check_reports_every_mistake_of_every_file_at_once() {
    let folder = manifests(&[
        (
            "a.toml",
            "name = \"a\"\nbundle = \"a.torpor\"\n[trigger.inference]\n[scale]\nmax_concurrency = 8\nidle-timeout = 30\n",
        ),
        ("b.toml", "name = \"B\"\n[trigger.http]\npath = \"fn\"\n"),
        ("c.toml", "name = [\n"),
        ("d.toml", RIGHT),
    ]);
    let ran = run([&"check", &folder.path()]).refused(1, &["a.toml:5:1", "a.toml:6:16", "b.toml:1:8", "c.toml:"]);
    for word in ["did you mean `max-concurrency`?", "help:", "^", "`bundle`", "missing"] {
        assert!(ran.stderr.contains(word), "`{word}` in {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("d.toml"), "{}", ran.stderr);

    let mistakes = run([&"--json", &"check", &folder.path()]).refused(1, &[]).json();
    let mistakes = mistakes["mistakes"].as_array().expect("mistakes").clone();
    assert!(mistakes.len() >= 6, "{mistakes:?}");
    assert!(mistakes.iter().all(|mistake| mistake["line"].is_u64() && mistake["column"].is_u64()), "{mistakes:?}");
    // The host refuses to start on the same mistakes.
    run([&"serve", &"--insecure-allow-unsigned", &"--manifests", &folder.path()])
        .refused(1, &["a.toml:5:1", "c.toml:"]);
}

#[test]
fn check_finds_what_only_shows_between_files() {
    let folder = manifests(&[
        ("a.toml", RIGHT),
        ("b.toml", RIGHT),
        ("c.toml", "name = \"c\"\nbundle = \"x\"\n[trigger.http]\npath = \"/fn/*\"\n"),
        ("d.toml", "name = \"d\"\nbundle = \"x\"\n[trigger.http]\npath = \"/fn/d\"\n"),
    ]);
    run([&"check", &folder.path()]).refused(1, &["`a`", "/fn/*", "/fn/d"]);
}

#[test]
fn check_says_what_is_right() {
    let folder = manifests(&[("a.toml", RIGHT), ("notes.txt", "not a manifest")]);
    assert!(run([&"check", &folder.path()]).ok().stdout.contains('a'));
    assert_eq!(run([&"--json", &"check", &folder.path().join("a.toml")]).ok().json(), json!({ "functions": ["a"] }));
    run([&"check", &root().join("manifests")]).ok();
    run([&"check", &"no-such-folder"]).refused(2, &["no-such-folder"]);
    run([&"check", &manifests(&[]).path()]).refused(2, &["no manifest"]);
    let folder = manifests(&[]);
    fs::write(folder.path().join("a.toml"), b"\xff\xfe").expect("it can be written");
    run([&"check", &folder.path()]).refused(2, &["a.toml"]);
}

#[test]
fn check_takes_variables_from_the_environment() {
    let text = format!("{RIGHT}[allow.env]\nTOKEN = \"${{TOKEN}}\"\nLEVEL = \"${{LEVEL:-info}}\"\n");
    let folder = manifests(&[("a.toml", &text)]);
    let check = |variables: &[(&str, &str)]| {
        let mut command = cli::command();
        cli::finish(command.args(["--json", "check"]).arg(folder.path()).envs(variables.iter().copied()))
    };
    let refused = check(&[]).refused(1, &[]).json();
    assert_eq!(
        (&refused["mistakes"][0]["line"], &refused["mistakes"][0]["column"]),
        (&json!(5), &json!(10)),
        "{refused}"
    );
    assert_eq!(refused["mistakes"][0]["message"], "the environment variable `TOKEN` is not set");
    assert_eq!(refused["mistakes"].as_array().map(Vec::len), Some(1), "{refused}");
    let ran = check(&[("TOKEN", "hunter2")]).ok();
    assert!(!format!("{ran:?}").contains("hunter2"), "{ran:?}");
    // The host refuses to start on the same.
    run([&"serve", &"--insecure-allow-unsigned", &"--manifests", &folder.path()])
        .refused(1, &["a.toml:5:10", "`TOKEN`"]);
}

#[test]
fn what_a_module_gets_from_the_environment_shows_nowhere() {
    let host = TestHost::builder()
        .variable("TOKEN", "hunter2")
        .variable("DEADLINE", "9s")
        .flag("--log=trace")
        .function("add", |manifest| {
            let manifest = manifest.set("limits.deadline", "${DEADLINE}").set("scale.idle-timeout", forever());
            manifest.set("allow.env.TOKEN", "Bearer ${TOKEN}")
        })
        .start();
    let row = |name: &str| json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] });
    host.infer("add", &json!({ "inputs": [row("x"), row("y")] })).status(200);
    let ps = run([&"ps", &"--json", &"--admin", &host.admin.to_string()]).ok();
    let metrics = host.admin("/metrics").status(200);
    let log = host.stage().log();
    assert!(log.contains("TRACE") && log.contains("add"), "{log}");
    for shown in [ps.stdout.as_bytes(), &metrics.body, log.as_bytes()] {
        assert!(!shown.windows(7).any(|window| window == b"hunter2"), "{}", String::from_utf8_lossy(shown));
    }
}

#[test]
fn schema_prints_the_schema_of_the_documentation() {
    let file = fs::read_to_string(root().join("docs/manifest.schema.json")).expect("it is there");
    assert_eq!(run([&"schema"]).ok().stdout, file);
    assert_eq!(run([&"--json", &"schema"]).ok().stdout, file);
}

#[test]
fn ps_shows_the_functions_of_a_host() {
    let host = TestHost::builder()
        .function("add", |manifest| manifest.set("scale.idle-timeout", forever()))
        .function("probe", |manifest| manifest)
        .start();
    let admin = host.admin.to_string();
    let row = |name: &str| json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] });
    host.infer("add", &json!({ "inputs": [row("x"), row("y")] })).status(200);

    let tier = host.status("add")["models"][0]["tier"].clone();
    let text = run([&"ps", &"--admin", &admin]).ok().stdout;
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..5], ["FUNCTION", "REV", "STATE", "SESSIONS", "TIER"]);
    assert_eq!(lines[1][..5], ["add", "1", "Warm", "1", tier.as_str().expect("it is open")], "{text}");
    assert_eq!(lines[2][..5], ["probe", "1", "Cold", "0", "-"], "{text}");
    let list = run([&"ps", &"--json", &"--admin", &admin]).ok().json();
    assert_eq!(list, host.admin("/functions").json());
    let one = run([&"ps", &"--json", &"--admin", &admin, &"probe"]).ok().json();
    assert_eq!(one["name"], "probe");

    run([&"ps", &"--admin", &admin, &"nobody"]).refused(1, &["`nobody`", "torpor ps"]);
    let data = host.data.to_string();
    run([&"ps", &"--admin", &data]).refused(1, &["is no admin address"]);
    host.stop();
    run([&"ps", &"--admin", &admin]).refused(1, &["no host answers", &admin, "torpor serve"]);
    let ran = run([&"ps", &"--json", &"--admin", &admin]).refused(1, &[]);
    assert!(ran.json()["error"].is_string(), "{ran:?}");
}

#[test]
fn invoke_calls_a_function() {
    let host = TestHost::builder()
        .function("filetype", |manifest| manifest)
        .function("probe", |manifest| manifest.set("trigger.http.methods", toml::Value::from(vec!["GET"])))
        .start();
    let (admin, listen) = (host.admin.to_string(), host.data.to_string());
    let invoke = |arguments: &[&str], input: &[u8]| {
        let to = ["invoke", "--admin", &admin, "--listen", &listen];
        cli::run_with_input(to.iter().chain(arguments), input)
    };
    let html = "<!doctype html><html><head><title>x</title></head><body></body></html>";
    let label = |ran: Ran| ran.ok().json()["label"].clone();
    assert_eq!(label(invoke(&["filetype", "-d", html], b"")), "html");
    assert_eq!(label(invoke(&["filetype"], html.as_bytes())), "html");
    let file = root().join("modules/filetype/reference/files/script.py");
    assert_eq!(label(invoke(&["filetype", "-d", &format!("@{}", file.display())], b"")), "python");

    let body =
        json!({ "inputs": [{ "name": "content", "shape": [1], "datatype": "BYTES", "data": [html] }] }).to_string();
    let ran = invoke(&["filetype", "--trigger", "inference", "--timing", "-d", &body], b"").ok();
    assert_eq!(ran.json()["model_name"], "filetype");
    assert!(ran.stderr.contains(" ms: queue;dur="), "{}", ran.stderr);

    invoke(&["probe", "-d", "x"], b"").refused(1, &["`probe` answered 405"]);
    invoke(&["filetype", "--trigger", "inference", "-d", "{}"], b"").refused(1, &["`filetype` answered 400"]);
    invoke(&["nobody", "-d", "x"], b"").refused(1, &["`nobody`"]);
    invoke(&["filetype", "-d", "@no-such-file"], b"").refused(2, &["no-such-file"]);
}

#[test]
fn serve_says_what_keeps_it_from_starting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let serve = |flag: &str, value: &str| {
        let folder = manifests(&[("a.toml", RIGHT)]);
        let mut command = cli::command();
        command.args(["serve", "--insecure-allow-unsigned", "--manifests"]).arg(folder.path());
        command.arg("--state").arg(folder.path().join("state")).args([flag, value]);
        for free in ["--listen", "--admin"].iter().filter(|free| **free != flag) {
            command.args([free, "127.0.0.1:0"]);
        }
        cli::finish(&mut command)
    };
    serve("--listen", &address).refused(2, &["cannot listen on", &address, "`--listen`"]);
    serve("--admin", &address).refused(2, &["cannot listen on", &address, "`--admin`"]);
    serve("--admin", "0.0.0.0:0").refused(2, &["not on loopback"]);
    serve("--log", "no=such=filter").refused(2, &["--log"]);
    serve("--addresses", "/no/such/folder/file").refused(2, &["/no/such/folder/file"]);
}

#[test]
fn a_host_without_the_native_library_says_so_and_serves_with_tract() {
    let host = TestHost::builder().function("filetype", |manifest| manifest);
    let host = host.onnxruntime("/no/such/library.so").openvino("/no/such/folder").start();
    let log = host.stage().log();
    assert!(log.contains("ONNX Runtime is not available") && log.contains("/no/such/library.so"), "{log}");
    assert_eq!(
        host.post("/fn/filetype", "# A title\n\n- one\n- two\n\n[a](b)\n".repeat(9)).status(200).json()["label"],
        "markdown"
    );
    assert_eq!(host.status("filetype")["models"][0]["backend"], "tract");
}

#[test]
fn a_backend_that_is_missing_stops_only_the_function_that_wants_it() {
    let stage = TestHost::builder()
        .function("filetype", |manifest| manifest.set("model.standard.backend", "onnxruntime"))
        .function("add", |manifest| manifest.set("model.model.backend", "tract"));
    let host = stage.onnxruntime("/no/such/library.so").start();
    let cause = host.status("filetype")["cause"].as_str().expect("a cause").to_owned();
    for word in ["onnxruntime", "/no/such/library.so", "--onnxruntime"] {
        assert!(cause.contains(word), "`{word}` in {cause}");
    }
    host.post("/fn/filetype", "x").status(500);
    assert_eq!(host.status("add")["state"], "Cold");
}

#[test]
fn logs_may_be_json() {
    let host = TestHost::builder().function("add", |manifest| manifest).flag("--log-format").flag("json").start();
    let log = host.stop().log();
    assert!(log.lines().count() >= 3, "{log}");
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON ({error}): {line}"));
        assert!(event["level"].is_string() && event["timestamp"].is_string(), "{line}");
    }
}
