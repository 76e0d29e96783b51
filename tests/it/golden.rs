//! What each command writes, whole: one file in `golden/` for each case, with commands, what they write, and how they end.
//!
//! A line `$ torpor …` is run in a folder made for the case (see [`desk`]); what follows is its standard output, then its
//! standard error with `! ` before each line, then `exit N` if that is not 0. Lines before the first command are a comment; with
//! `# host` among them a host runs meanwhile. Digests, times and sizes of this run are replaced. After a change of the texts,
//! `UPDATE_EXPECTED=1 cargo xtask test golden` writes the files anew; read what git shows then.

use crate::fixture::{
    Manifest, TestHost,
    assets::{root, updates_expected},
    cli::{self, Ran},
    forever,
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// The shortest component.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

const RECIPE: &str = "name = \"add\"\nversion = \"1.2.3\"\ndescription = \"adds two tensors\"\nlicense = \"Apache-2.0\"\n\
                      module = \"add.wasm\"\n[model.model]\nfile = \"model.onnx\"\n\
                      [[input]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, 4]\n\
                      [[input]]\nname = \"y\"\ndatatype = \"FP32\"\n[[output]]\nname = \"z\"\ndatatype = \"FP32\"\n";

/// A module with an initializer.
const TABLES: &str = "name = \"tables\"\nversion = \"1.0.0\"\nmodule = \"tables.wasm\"\n";

/// Initializers of small modules, as code: one that stores 42 at address 1024, and those that `torpor pack` refuses.
const INITIALIZERS: [(&str, &[u8]); 5] = [
    ("tables", &[0x41, 0x80, 0x08, 0x41, 42, 0x36, 2, 0]),
    ("asks", &[0x10, 0]),                           // calls what it imports
    ("traps", &[0]),                                // `unreachable`
    ("endless", &[0x03, 0x40, 0x0c, 0, 0x0b]),      // a loop
    ("greedy", &[0x41, 0x80, 0x08, 0x40, 0, 0x1a]), // grows the memory by 1024 pages
];

const MANIFEST: &str = "name = \"add\"\nbundle = \"../signed.torpor\"\n[trigger.inference]\n[model.model]\n";

const WRONG: &str = "name = \"add\"\nbundle = \"add.torpor\"\n[trigger.inference]\n[scale]\nmax_concurrency = 8\n";

/// A folder with a module to pack, a signed bundle, keys of two publishers, a policy that trusts one, and manifests.
fn desk() -> TempDir {
    let desk = TempDir::with_prefix("torpor-golden-").expect("a folder can be made");
    let write = |name: &str, content: &[u8]| {
        let path = desk.path().join(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a folder can be made");
        fs::write(path, content).expect("a file can be written");
    };
    write("add/bundle.toml", RECIPE.as_bytes());
    write("add/add.wasm", COMPONENT);
    write("add/model.onnx", &fs::read(root().join("tests/models/add.onnx")).expect("the model is there"));
    write("tables/bundle.toml", TABLES.as_bytes());
    for (name, code) in INITIALIZERS {
        write(&format!("tables/{name}.wasm"), &initialized(code));
    }
    write("wrong/bundle.toml", RECIPE.replace("license", "licence").as_bytes());
    write("trust.toml", b"[[publisher]]\nname = \"dev\"\nkey = \"dev.pub.pem\"\nfunctions = [\"*\"]\n");
    write("strict.toml", b"[[publisher]]\nname = \"dev\"\nkey = \"dev.pub.pem\"\nfunctions = [\"vision-*\"]\n");
    write("manifests/add.toml", MANIFEST.as_bytes());
    write("manifests/also.toml", MANIFEST.replace("\"add\"", "\"also\"").as_bytes());
    write("wrong.toml", WRONG.as_bytes());
    for commands in [
        "keygen dev",
        "keygen other",
        "pack add -o signed.torpor",
        "sign --key dev.key.pem signed.torpor",
        "pack add -o unsigned.torpor",
        "pack add -o foreign.torpor",
        "sign --key other.key.pem foreign.torpor",
        "pack tables -o snapshot.torpor",
    ] {
        cli::finish(cli::command().args(commands.split(' ')).current_dir(desk.path())).ok();
    }
    let mut damaged = fs::read(desk.path().join("signed.torpor")).expect("the bundle is there");
    damaged[600] ^= 1;
    write("damaged.torpor", &damaged);
    desk
}

/// A core module with a memory of a page, whose initializer is `code`. It may call function 0, which it imports.
fn initialized(code: &[u8]) -> Vec<u8> {
    let length = |content: &[u8]| u8::try_from(content.len()).expect("it is short");
    let section = |id: u8, content: &[u8]| [&[id, length(content)], content].concat();
    let name = |name: &str| [&[length(name.as_bytes())], name.as_bytes()].concat();
    let import = [name("wasi_snapshot_preview1"), name("sched_yield")].concat();
    let body = [&[length(code) + 2, 0], code, &[0x0b]].concat();
    let sections = [
        section(1, &[1, 0x60, 0, 0]), // a type: from nothing to nothing
        section(2, &[&[1], import.as_slice(), &[0, 0]].concat()),
        section(3, &[1, 0]),
        section(5, &[1, 0, 1]),
        section(7, &[&[1], name("wizer-initialize").as_slice(), &[0, 1]].concat()),
        section(10, &[&[1], body.as_slice()].concat()),
    ];
    [b"\0asm\x01\0\0\0".as_slice(), &sections.concat()].concat()
}

/// A host with a warm function, a cold one, and one that cannot be deployed. `live.toml` in the desk is a newer manifest of the first.
fn host(desk: &Path) -> TestHost {
    let tract = |manifest: Manifest| manifest.set("model.model.backend", "tract");
    let stage = TestHost::builder()
        .function("add", |manifest| tract(manifest).set("scale.idle-timeout", forever()))
        .function("slow", tract)
        .function("probe", |manifest| manifest.set("bundle", "/no/such/bundle.torpor"));
    let host = stage.onnxruntime("/no/such/library.so").start();
    let body = "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,4],\"datatype\":\"FP32\",\"data\":[1,2,3,4]},\
                {\"name\":\"y\",\"shape\":[1,4],\"datatype\":\"FP32\",\"data\":[1,2,3,4]}]}";
    host.post("/v2/models/add/infer", body).status(200);
    let live = fs::read_to_string(host.stage().path("manifests/add.toml")).expect("the manifest is there");
    let live = Manifest::parse(&live).set("scale.queue", 7);
    fs::write(desk.join("live.toml"), live.text()).expect("the manifest can be written");
    host
}

fn folder() -> PathBuf {
    root().join("tests/it/golden")
}

fn cases() -> Vec<(String, String)> {
    let files = fs::read_dir(folder()).expect("the folder is there").map(|entry| entry.expect("it can be read").path());
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    let read = |file: PathBuf| {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (name, fs::read_to_string(file).expect("a case is text"))
    };
    files.into_iter().map(read).collect()
}

fn commands(case: &str) -> impl Iterator<Item = &str> {
    case.lines().filter_map(|line| line.strip_prefix("$ torpor"))
}

#[test]
fn every_command_writes_what_it_should() {
    let mut wrong = Vec::new();
    for (name, expected) in cases() {
        let written = written(&expected);
        if written == expected {
            continue;
        }
        if updates_expected() {
            fs::write(folder().join(&name).with_extension("txt"), &written).expect("the case can be written");
        }
        wrong.push(format!("--- golden/{name}.txt\n{expected}--- but it is\n{written}"));
    }
    let many = wrong.len();
    assert!(wrong.is_empty(), "{many} cases differ; `UPDATE_EXPECTED=1` writes them anew\n{}", wrong.join("\n"));
}

#[test]
fn every_command_has_a_case() {
    let listed = cli::run(["--help"]).ok().stdout;
    let listed = listed.split("Commands:\n").nth(1).expect("a list of commands");
    let listed = listed.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
    let cases = cases();
    let shown: BTreeSet<&str> = cases
        .iter()
        .flat_map(|(_, case)| commands(case))
        .filter(|command| !command.contains("--help"))
        .flat_map(|command| command.split_whitespace())
        .collect();
    let missing: Vec<&str> = listed.filter(|command| *command != "help" && !shown.contains(command)).collect();
    assert!(missing.is_empty(), "no case in `golden/` shows {missing:?}");
}

#[test]
fn every_error_says_what_to_do() {
    let mut seen = 0;
    for (name, case) in cases() {
        // Without any argument it shows what there is, which is what to do; and what `diff` and `doctor`
        // show is why they end with 1.
        let shows = |shown: &str| {
            shown.starts_with('\n')
                || ((shown.starts_with(" diff") || shown.starts_with(" doctor")) && !shown.contains("error"))
        };
        let failed = case.split("\n$ torpor").skip(1).filter(|shown| shown.contains("\nexit ") && !shows(shown));
        for shown in failed {
            assert!(
                shown.contains("help: ") || shown.contains("\"help\": \""),
                "golden/{name}.txt: no help in {shown}"
            );
            seen += 1;
        }
    }
    assert!(seen > 40, "only {seen} commands fail");
}

/// The case as it is written now.
fn written(case: &str) -> String {
    let comment: String =
        case.lines().take_while(|line| !line.starts_with('$')).map(|line| format!("{line}\n")).collect();
    let desk = desk();
    let host = comment.lines().any(|line| line == "# host").then(|| host(desk.path()));
    let mut text = comment;
    for command in commands(case) {
        let mut run = cli::command();
        run.args(words(command)).current_dir(desk.path());
        if let Some(host) = &host {
            run.env("TORPOR_LISTEN", host.data.to_string()).env("TORPOR_ADMIN", host.admin.to_string());
        }
        let Ran { code, stdout, stderr } = cli::finish(&mut run);
        text += &format!("$ torpor{command}\n");
        let lines = stdout.lines().map(str::to_owned).chain(stderr.lines().map(|line| format!("! {line}")));
        let mut place = |line: String| {
            let line = line.replace(&desk.path().display().to_string(), "<folder>");
            let line = host.as_ref().map_or_else(|| line.clone(), |host| of_host(&line, host));
            text += &format!("{}\n", steady(&line).trim_end());
        };
        lines.for_each(&mut place);
        if code != Some(0) {
            text += &format!("exit {}\n", code.map_or("by a signal".to_owned(), |code| code.to_string()));
        }
    }
    text
}

/// The arguments of a command, of which one may stand in single quotes.
fn words(command: &str) -> Vec<String> {
    let parts = command.split('\'').enumerate();
    let words = parts.flat_map(|(index, part)| match index % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}

/// A line without what is different from key to key, from version to version and from machine to machine.
fn steady(line: &str) -> String {
    if line.contains(" of a model at a time") {
        return "<processors>".to_owned();
    }
    if line.trim_start().starts_with("\"parallel\": ") {
        return "    \"parallel\": <processors>,".to_owned();
    }
    let line = line.replace(env!("CARGO_PKG_VERSION"), "<version>");
    let mut steady = String::new();
    let mut rest = line.as_str();
    while let Some(start) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        let (before, from) = rest.split_at(start);
        let length = from.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(from.len());
        steady += before;
        steady += if length == 64 { "<sha256>" } else { &from[..length] };
        rest = &from[length..];
    }
    steady + rest
}

/// A line of a command that talks to a host, without what is different from run to run.
fn of_host(line: &str, host: &TestHost) -> String {
    let line = line.replace(&host.admin.to_string(), "<admin>").replace(&host.data.to_string(), "<data>");
    let line = line.replace(&host.stage().path("manifests").display().to_string(), "<manifests>");
    if line.contains(";dur=") && !line.trim_start().starts_with('"') {
        return "! <time> ms: <phases>".to_owned();
    }
    if let Some((key, value)) = line.split_once("\": ").filter(|(key, _)| key.trim_start().starts_with('"')) {
        let comma = if value.ends_with(',') { "," } else { "" };
        let name = key.trim_start().trim_start_matches('"');
        let varies = name.ends_with("_ms")
            || ["arrived", "budgeted", "deployed", "last_call", "memory", "milliseconds", "timing", "backend_version"]
                .contains(&name);
        let known = value.trim_end_matches(',') != "null";
        return if varies && known { format!("{key}\": <{name}>{comma}") } else { line };
    }
    if line.starts_with(' ') {
        return line;
    }
    // The cells of a table, however wide they are this time.
    let cell = |cell: &str| {
        let mut words = cell.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some(_), Some("ago"), None) => "<time> ago".to_owned(),
            (Some(number), Some("ms"), None) if number.parse::<f64>().is_ok() => "<time> ms".to_owned(),
            (Some(number), Some("B" | "KiB" | "MiB"), None) if number.parse::<f64>().is_ok() => "<size>".to_owned(),
            _ => cell.to_owned(),
        }
    };
    line.split("  ").map(str::trim).filter(|part| !part.is_empty()).map(cell).collect::<Vec<_>>().join("  ")
}

#[test]
fn what_varies_is_replaced() {
    let digest = "0a".repeat(32);
    assert_eq!(steady(&format!("x sha256:{digest}, {digest}0 face")), format!("x sha256:<sha256>, {digest}0 face"));
    assert_eq!(words(" invoke add -d '{\"a\": 1}' --json"), ["invoke", "add", "-d", "{\"a\": 1}", "--json"]);
}
