//! Core modules: programs that read the request from standard input and write the answer to standard output, and that infer by
//! `wasi_ephemeral_nn`. The guest `command` does what the first line of its input says.

use crate::fixture::{Keys, Manifest, Raw, Reply, TestHost, assets::root, cli, forever};
use std::{fs, path::Path};

fn host(edit: impl FnOnce(Manifest) -> Manifest) -> TestHost {
    TestHost::builder().function("command", |manifest| edit(manifest.set("limits.deadline", forever()))).start()
}

fn plain() -> TestHost {
    host(|manifest| manifest)
}

#[track_caller]
fn ask(host: &TestHost, input: impl Into<Vec<u8>>) -> Reply {
    host.post("/fn/command/", input)
}

/// Runs a script of raw calls, and gives what they said.
#[track_caller]
fn script(host: &TestHost, lines: &str) -> Vec<String> {
    let said = unnoted(host, lines);
    note(lines, &said);
    said
}

#[track_caller]
fn unnoted(host: &TestHost, lines: &str) -> Vec<String> {
    let answer = ask(host, format!("script\n{lines}")).status(200).text();
    answer.lines().map(str::to_owned).collect()
}

/// Says what functions of `wasi_ephemeral_nn` have answered in this test.
fn note(script: &str, said: &[String]) {
    let lines = script.lines().take_while(|line| *line != "--").map(|line| line.split_whitespace().collect::<Vec<_>>());
    let speaks = |words: &Vec<&str>| !matches!(words[..], ["text" | "words" | "floats" | "model", ..]);
    for (words, answer) in lines.filter(speaks).zip(said) {
        let function = match words[..] {
            ["word" | "read", ..] => continue,
            ["until", _, function, ..] | [function, ..] => function,
            [] => continue,
        };
        torpor_evidence::seen("wasi_ephemeral_nn", 0, [&format!("`{function}`"), answer, &torpor_evidence::test()]);
    }
}

/// Opens the granted model as graph 0 and context 1, and sets `x` and `y` for it.
const READY: &str = "\
    text @0 model
    load_by_name @0 5 @8
    init_execution_context 0 @12
    words @16 1 4
    floats @32 1 2 3 4
    floats @48 10 20 30 40
    words @64 @16 2 1 @32 16
    words @84 @16 2 1 @48 16
    set_input 1 0 @64
    set_input 1 1 @84
";

/// What the calls of [`READY`] answer.
const DONE: [&str; 4] = ["0"; 4];

/// Runs a script after [`READY`], and gives what its own calls said. The instance of the next request is none the worse for it.
#[track_caller]
fn after_ready(host: &TestHost, lines: &str) -> Vec<String> {
    let said = unnoted(host, &format!("{READY}{lines}"));
    assert_eq!(said[..4], DONE, "{said:?}");
    let add = "compute 1\n get_output 1 0 @128 16 @12\n word @12\n read @128 4";
    assert_eq!(unnoted(host, &format!("{READY}{add}"))[4..], ["0", "0", "16", "11 22 33 44"]);
    note(lines, &said[4..]);
    said[4..].to_vec()
}

#[test]
fn a_program_infers_as_on_other_hosts() {
    let host = plain();
    assert_eq!(after_ready(&host, "compute 1\n get_output 1 0 @128 64 @12\n word @12"), ["0", "0", "16"]);
    // Inputs stay for the next run, and one of them may be set anew.
    let again =
        "compute 1\n floats @32 5 6 7 8\n set_input 1 0 @64\n compute 1\n get_output 1 0 @128 64 @12\n read @128 4";
    assert_eq!(after_ready(&host, again), ["0", "0", "0", "0", "15 26 37 48"]);
    // WasmEdge's forms.
    let config = "text @256 {} \n load_by_name_with_config @0 5 @256 2 @8\n unload 0\n finalize_execution_context 1";
    assert_eq!(after_ready(&host, config), ["0", "0", "0"]);
    let status = host.status("command");
    assert_eq!((&status["wakes"], &status["state"]), (&1.into(), &"Warm".into()), "{status}");
}

#[test]
fn output_is_the_body_unless_it_begins_with_a_head() {
    let host = plain();
    let reply = ask(&host, "echo\nany bytes \u{0}\n").status(200);
    assert_eq!((reply.header("content-type"), &reply.body[..]), ("application/octet-stream", &b"any bytes \0\n"[..]));
    assert!(!reply.header("server-timing").is_empty());
    let reply = ask(&host, "echo\nContent-Type: text/plain\r\nX-A: b\r\n\r\nhello").status(200);
    assert_eq!((reply.header("content-type"), reply.header("x-a"), &*reply.text()), ("text/plain", "b", "hello"));
    let reply = ask(&host, "echo\nStatus: 418 short and stout\nContent-Length: 99\n\ntea").status(418);
    assert_eq!((&*reply.text(), reply.header("content-length")), ("tea", "3"));
    assert_eq!(ask(&host, "echo\nName: value\n\nx").status(200).text(), "Name: value\n\nx");
    assert_eq!(ask(&host, "echo\n").status(200).body, b"");
    ask(&host, "nothing known").status(404);
}

#[test]
fn large_bodies_go_in_and_out() {
    let host = host(|manifest| manifest.set("limits.body", "16MiB"));
    let body: Vec<u8> = (0..5_000_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let reply = ask(&host, [&b"echo\n"[..], &body].concat()).status(200);
    assert!(reply.body == body, "{} bytes came back", reply.body.len());
}

#[test]
fn a_body_beyond_the_limit_never_reaches_the_program() {
    let host = host(|manifest| manifest.set("limits.body", "100B"));
    ask(&host, format!("echo\n{}", "x".repeat(95))).status(200);
    ask(&host, format!("echo\n{}", "x".repeat(96))).status(413);
    let mut raw = Raw::connect(host.data);
    raw.send("POST /fn/command/ HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    raw.send(format!("c8\r\n{}\r\n0\r\n\r\n", "x".repeat(200)));
    let answer = raw.head();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[test]
fn arguments_environment_and_files_are_what_the_manifest_grants() {
    let stage = TestHost::builder();
    let folder = stage.path("labels");
    fs::create_dir(&folder).expect("a folder can be made");
    fs::write(folder.join("birds.txt"), "wren\n").expect("a file can be written");
    fs::write(stage.path("secret.txt"), "no").expect("a file can be written");
    let host = stage
        .function("command", |manifest| {
            let mut grant = toml::Table::new();
            grant.insert("host".into(), folder.display().to_string().into());
            grant.insert("guest".into(), "/labels".into());
            manifest
                .set("command.args", vec!["--top", "", "a b"])
                .set("allow.env.LOG", "info")
                .set("allow.files", vec![toml::Value::from(grant)])
        })
        .another("bare", "command", |manifest| manifest)
        .start();
    assert_eq!(ask(&host, "args").status(200).text(), "command\n--top\n\na b");
    assert_eq!(ask(&host, "env").status(200).text(), "LOG=info");
    assert_eq!(ask(&host, "file birds.txt").status(200).text(), "wren\n");
    for name in ["../secret.txt", "/etc/hostname", "none"] {
        let said = ask(&host, format!("file {name}")).status(200).text();
        assert!(said.starts_with("errno "), "{name}: {said}");
    }
    assert_eq!(host.post("/fn/bare/", "args").status(200).text(), "bare");
    assert_eq!(host.post("/fn/bare/", "env").status(200).text(), "");
    assert_eq!(host.post("/fn/bare/", "file birds.txt").status(200).text(), "errno 8");
}

#[test]
fn a_program_that_fails_is_a_500_that_tells_nothing() {
    let host = host(|manifest| manifest.set("limits.memory", "4MiB"));
    for (input, log) in [
        ("exit 3", "it exited with code 3"),
        ("trap", "unreachable"),
        // 5 MiB, more than the memory limit.
        ("flood 1280", "the answer is larger than the memory limit"),
    ] {
        let error = ask(&host, input).status(500).error();
        assert_eq!(error, "`command` failed to answer");
        assert!(host.stage().log().contains(log), "{log}");
    }
    ask(&host, "exit 0").status(200);
    assert_eq!(ask(&host, "complain of the weather").status(200).body, b"");
    let log = host.stage().log();
    let line = log.lines().find(|line| line.ends_with("says=\"of the weather\"")).expect(&log);
    // Not within a call of the engine's, whose arguments are nothing to read.
    assert!(line.ends_with(" INFO function=command says=\"of the weather\""), "{line}");
    assert_eq!(ask(&host, "flood 1000").status(200).body.len(), 4_096_000);
}

#[test]
fn a_deadline_or_a_lost_caller_ends_a_program() {
    let host = TestHost::builder()
        .function("command", |manifest| manifest.set("limits.deadline", "300ms"))
        .another("patient", "command", |manifest| manifest.set("limits.deadline", forever()))
        .start();
    let error = ask(&host, "spin").status(504).error();
    assert_eq!(error, "`command` did not answer within its deadline");
    ask(&host, "echo\nx").status(200);
    let mut raw = Raw::connect(host.data);
    raw.send("POST /fn/patient/ HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nspin");
    host.until_number("patient", "active", 1);
    drop(raw);
    host.until_number("patient", "active", 0);
}

#[test]
fn a_program_sleeps_and_wakes_like_any_function() {
    let host = host(|manifest| manifest.set("scale.idle-timeout", "50ms"));
    ask(&host, "echo\nx").status(200);
    host.until_state("command", "Cold");
    assert_eq!(after_ready(&host, "compute 1"), ["0"]);
    host.until_state("command", "Cold");
    let status = host.status("command");
    assert!(status["wakes"].as_u64() >= Some(2) && status["wake_failures"] == 0, "{status}");
}

// What follows is what a program can do wrong. Each is the number that says so, and nobody else notices.

#[test]
fn an_input_of_the_wrong_type_is_refused() {
    // 4 is I32.
    let wrong =
        "words @64 @16 2 4 @32 16\n set_input 1 0 @64\n compute 1\n words @64 @16 2 9 @32 16\n set_input 1 0 @64";
    assert_eq!(after_ready(&plain(), wrong), ["0", "1", "1"]);
}

#[test]
fn an_input_of_the_wrong_rank_is_refused() {
    let wrong =
        "words @16 4\n words @64 @16 1 1 @32 16\n set_input 1 0 @64\n compute 1\n words @68 65\n set_input 1 0 @64";
    assert_eq!(after_ready(&plain(), wrong), ["0", "1", "1"]);
}

#[test]
fn an_input_of_the_wrong_length_is_refused() {
    let wrong = "words @64 @16 2 1 @32 15\n set_input 1 0 @64\n words @80 17\n set_input 1 0 @64\n words @80 0\n set_input 1 0 @64";
    assert_eq!(after_ready(&plain(), wrong), ["1", "1", "1"]);
}

#[test]
fn dimensions_that_overflow_are_refused() {
    let wrong = "words @16 4294967295 4294967295 4294967295\n words @64 @16 3 1 @32 16\n set_input 1 0 @64\n\
                 words @80 0\n set_input 1 0 @64";
    assert_eq!(after_ready(&plain(), wrong), ["1", "1"]);
}

#[test]
fn an_index_out_of_range_is_refused() {
    let wrong = "set_input 1 2 @64\n set_input 1 4294967295 @64\n compute 1\n get_output 1 1 @128 16 @12\n\
                 get_output 1 4294967295 @128 16 @12";
    assert_eq!(after_ready(&plain(), wrong), ["1", "1", "0", "1", "1"]);
}

#[test]
fn a_name_that_is_not_granted_is_not_found() {
    let wrong = "text @0 other\n load_by_name @0 5 @8\n load_by_name @0 0 @8\n load_by_name_with_config @0 5 @0 2 @8";
    assert_eq!(after_ready(&plain(), wrong), ["8", "8", "8"]);
}

#[test]
fn pointers_beyond_the_memory_are_refused() {
    let host = plain();
    let far = "4294967295";
    let wrong = [
        format!("load_by_name {far} 5 @8\n load_by_name @0 {far} @8\n load_by_name @0 5 {far}\n load_by_name @0 5 $"),
        format!("init_execution_context 0 {far}\n init_execution_context 0 $"),
        format!("set_input 1 0 {far}\n set_input 1 0 $"),
        format!("words @64 {far} 2 1 @32 16\n set_input 1 0 @64\n words @64 @16 {far} 1 @32 16\n set_input 1 0 @64"),
        format!("words @64 @16 2 1 {far} 16\n set_input 1 0 @64\n words @64 @16 2 1 @32 {far}\n set_input 1 0 @64"),
        "words @64 @16 2 1 $ 16\n set_input 1 0 @64".to_owned(),
    ];
    for lines in wrong {
        let said = after_ready(&host, &lines);
        assert!(!said.is_empty() && said.iter().all(|errno| errno == "1"), "{lines}: {said:?}");
    }
    let output = format!(
        "compute 1\n get_output 1 0 {far} 16 @12\n get_output 1 0 $ 16 @12\n get_output 1 0 @128 16 {far}\n get_output 1 0 @128 16 $"
    );
    assert_eq!(after_ready(&host, &output), ["0", "1", "1", "1", "1"]);
}

#[test]
fn a_buffer_that_is_too_small_is_told() {
    let wrong = "compute 1\n get_output 1 0 @128 15 @12\n get_output 1 0 @128 0 @12\n read @128 1";
    assert_eq!(after_ready(&plain(), wrong), ["0", "7", "7", "0"]);
}

#[test]
fn what_is_out_of_order_is_refused() {
    let host = plain();
    let early =
        "text @0 model\n load_by_name @0 5 @8\n init_execution_context 0 @12\n compute 1\n get_output 1 0 @128 16 @12";
    assert_eq!(script(&host, early), ["0", "0", "1", "1"]);
    // A run that fails takes the last answer with it.
    let failed = "compute 1\n words @64 @16 2 4 @32 16\n set_input 1 0 @64\n compute 1\n get_output 1 0 @128 16 @12";
    assert_eq!(after_ready(&host, failed), ["0", "0", "1", "1"]);
}

#[test]
fn handles_that_are_not_there_are_refused() {
    let host = plain();
    let never = "init_execution_context 7 @12\n set_input 7 0 @64\n compute 7\n get_output 7 0 @128 16 @12\n unload 7\n\
                 finalize_execution_context 4294967295";
    assert_eq!(after_ready(&host, never), ["1"; 6]);
    // A graph is no context, and a context no graph.
    assert_eq!(after_ready(&host, "compute 0\n init_execution_context 1 @12\n unload 1"), ["1"; 3]);
    let gone = "unload 0\n init_execution_context 0 @12\n unload 0\n compute 1\n finalize_execution_context 1\n compute 1\n\
                set_input 1 0 @64\n get_output 1 0 @128 16 @12";
    assert_eq!(after_ready(&host, gone), ["0", "1", "1", "0", "0", "1", "1", "1"]);
}

#[test]
fn handles_are_not_endless() {
    assert_eq!(after_ready(&plain(), "until 1000000 load_by_name @0 5 @8"), ["7"]);
    assert_eq!(after_ready(&plain(), "until 1000000 init_execution_context 0 @12"), ["7"]);
}

#[test]
fn what_models_here_cannot_do_is_said() {
    let piecemeal = "compute_single 1\n get_output_single 1 0 @128 16 @12\n fini_single 1";
    assert_eq!(after_ready(&plain(), piecemeal), ["6"; 3]);
}

/// The smallest model, in hexadecimal digits, behind a script that puts it at 1024 and its one part at 1000.
fn with_model(lines: &str, model: &[u8]) -> String {
    let digits: String = model.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("model @1024\n words @1000 @1024 {}\n{lines}\n--\n{digits}", model.len())
}

fn add() -> Vec<u8> {
    fs::read(root().join("tests/models/add.onnx")).expect("the model is there")
}

#[test]
fn a_program_loads_a_model_of_its_own_only_where_that_is_granted() {
    let load = "load @1000 1 1 0 @8\n init_execution_context 0 @12\n words @16 1 4\n floats @32 1 2 3 4\n\
                words @64 @16 2 1 @32 16\n set_input 1 0 @64\n set_input 1 1 @64\n compute 1\n\
                get_output 1 0 @128 16 @12\n read @128 4";
    assert_eq!(script(&plain(), &with_model("load @1000 1 1 0 @8", &add())), ["6"]);
    let host = host(|manifest| manifest.set("allow.load", "1KiB").without("model"));
    assert_eq!(script(&host, &with_model(load, &add())), ["0", "0", "0", "0", "0", "0", "2 4 6 8"]);
    // Nothing of it is there for the next instance.
    assert_eq!(script(&host, "init_execution_context 0 @12\n text @0 model\n load_by_name @0 5 @8"), ["1", "8"]);
    let loaded = fs::read_dir(host.stage().state().join("loaded")).expect("the folder is there").count();
    assert_eq!(loaded, 0, "files of models are left");
}

#[test]
fn a_model_that_a_program_brings_is_judged() {
    let host = host(|manifest| manifest.set("allow.load", "1KiB"));
    let one = |lines: &str, model: &[u8]| script(&host, &with_model(lines, model));
    // Encodings other than ONNX, targets other than the CPU, and parts that are too many or too few.
    let lines =
        "load @1000 1 0 0 @8\n load @1000 1 99 0 @8\n load @1000 1 1 1 @8\n load @1000 0 1 0 @8\n load @1000 2 1 0 @8";
    assert_eq!(one(lines, &add()), ["2", "2", "6", "1", "1"]);
    let far = "load 4294967295 1 1 0 @8\n load @1000 1 1 0 4294967295\n words @1000 $ 97\n load @1000 1 1 0 @8";
    assert_eq!(one(far, &add()), ["1", "1", "1"]);
    // No model; one that no library opens; one with data in a file of the host.
    assert_eq!(one("load @1000 1 1 0 @8", b"\xff not a model"), ["1"]);
    assert_eq!(one("load @1000 1 1 0 @8", b""), ["2"]);
    let elsewhere = [&add()[..], &[0x3a, 4, 0x2a, 2, 0x70, 1]].concat();
    assert_eq!(one("load @1000 1 1 0 @8", &elsewhere), ["1"]);
    assert!(!host.stage().log().contains("panicked"), "{}", host.stage().log());
}

#[test]
fn models_that_a_program_brings_are_counted() {
    let host = host(|manifest| manifest.set("allow.load", "250B"));
    // It has 97 bytes.
    let lines = "load @1000 1 1 0 @8\n load @1000 1 1 0 @8\n load @1000 1 1 0 @8";
    assert_eq!(script(&host, &with_model(lines, &add())), ["0", "0", "7"]);
    let host = self::host(|manifest| manifest.set("allow.load", "1MiB"));
    assert_eq!(script(&host, &with_model("until 100 load @1000 1 1 0 @8", &add())), ["7"]);
    host.until_number("command", "active", 0);
    assert_eq!(script(&host, &with_model("load @1000 1 1 0 @8", &add())), ["0"]);
}

/// A core module that imports one function and exports another, neither of which takes or gives anything.
fn module(import: Option<(&str, &str)>, export: &str) -> Vec<u8> {
    let name = |text: &str| [&[u8::try_from(text.len()).expect("a short name")][..], text.as_bytes()].concat();
    let section =
        |id: u8, content: &[u8]| [&[id, u8::try_from(content.len()).expect("a short section")][..], content].concat();
    let imports = import.map(|(from, what)| section(2, &[&[1][..], &name(from), &name(what), &[0, 0]].concat()));
    let index = u8::from(import.is_some());
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 0, 0]),
        imports.unwrap_or_default(),
        section(3, &[1, 0]),
        section(7, &[&[1][..], &name(export), &[0, index]].concat()),
        section(10, &[1, 2, 0, 0x0b]),
    ]
    .concat()
}

/// A module whose only function ends in something that is no instruction.
fn with_bad_code() -> Vec<u8> {
    let mut module = module(None, "_start");
    *module.last_mut().expect("it is not empty") = 0xff;
    module
}

/// Deploys a module in the place of the guest, and gives the cause for which it is not served.
#[track_caller]
fn cause(wasm: &[u8], edit: impl FnOnce(Manifest) -> Manifest) -> String {
    let stage = TestHost::builder();
    let file = stage.path("module.wasm");
    fs::write(&file, wasm).expect("the module can be written");
    pack(&stage.keys, &file, &stage.bundle("command"));
    let host = stage.function("command", edit).start();
    let status = host.status("command");
    assert_eq!(status["state"], "Failed", "{status}");
    ask(&host, "").status(500);
    status["cause"].as_str().expect("a cause").to_owned()
}

fn pack(keys: &Keys, module: &Path, bundle: &Path) {
    let mut pack = cli::command();
    pack.arg("pack").arg(root().join("tests/guests/command")).arg("--module").arg(module).arg("-o").arg(bundle);
    cli::finish(&mut pack).ok();
    keys.sign(bundle);
}

#[test]
fn deploying_says_what_a_core_module_lacks() {
    for (wasm, words) in [
        (module(None, "main"), &["without `_start`", "wasm32-wasip1"][..]),
        (module(Some(("wasi_unstable", "fd_write")), "_start"), &["`fd_write` from `wasi_unstable`", "preview 0"]),
        (module(Some(("wasi_snapshot_preview1", "sock_open")), "_start"), &["`sock_open`", "WasmEdge"]),
        (module(Some(("wasi_ephemeral_nn", "train")), "_start"), &["`train` from `wasi_ephemeral_nn`"]),
        (module(Some(("env", "emscripten_notify")), "_start"), &["`emscripten_notify` from `env`", "STANDALONE_WASM"]),
        // A known name of another type.
        (module(Some(("wasi_ephemeral_nn", "compute")), "_start"), &["cannot be linked", "compute"]),
        // `torpor pack` reads sections, but no code.
        (with_bad_code(), &["cannot be compiled"]),
    ] {
        let cause = cause(&wasm, |manifest| manifest);
        for word in words {
            assert!(cause.contains(word), "`{word}` in {cause}");
        }
    }
}

#[test]
fn a_program_answers_no_inference_requests() {
    let inference = |manifest: Manifest| manifest.set("trigger.inference", toml::Table::new());
    let cause = cause(&module(None, "_start"), inference);
    assert!(cause.contains("[trigger.inference]") && cause.contains("core module"), "{cause}");
}

#[test]
fn a_component_gets_no_arguments() {
    let host = TestHost::builder().function("probe", |manifest| manifest.set("command.args", vec!["x"])).start();
    let status = host.status("probe");
    let cause = status["cause"].as_str().unwrap_or_default();
    assert!(cause.contains("[command]") && cause.contains("component"), "{status}");
}

#[test]
fn a_program_that_needs_nothing_is_served() {
    let stage = TestHost::builder();
    let file = stage.path("module.wasm");
    fs::write(&file, module(None, "_start")).expect("the module can be written");
    pack(&stage.keys, &file, &stage.bundle("command"));
    let host = stage.function("command", |manifest| manifest).start();
    assert_eq!(ask(&host, "anything").status(200).body, b"");
}
