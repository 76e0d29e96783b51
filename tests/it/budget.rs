//! The memory budget: functions make room for each other, wait for each other, and never for what cannot be. And what very many of
//! them cost.

use crate::fixture::{Manifest, Raw, Recipe, Stage, TestHost, cli, forever, until};
use serde_json::{Value, json};
use std::{
    fs, thread,
    time::{Duration, Instant},
};

const MEBIBYTE: u64 = 1024 * 1024;

fn sum() -> Value {
    let row = |name| json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] });
    json!({ "inputs": [row("x"), row("y")] })
}

fn text() -> Value {
    json!({ "inputs": [{ "name": "text", "shape": [1], "datatype": "BYTES", "data": ["a cat"] }] })
}

fn lasting(manifest: Manifest) -> Manifest {
    manifest.set("scale.idle-timeout", forever())
}

/// Runs the model of `embed` with a library that holds all of it in memory of its own, and maps no file.
fn held(manifest: Manifest) -> Manifest {
    lasting(manifest).set("limits.deadline", forever()).set("model.minilm.backend", "tract")
}

fn budget(size: &str) -> Stage {
    TestHost::builder().flag("--memory-budget").flag(size)
}

/// The value of a metric without labels.
#[track_caller]
fn metric(host: &TestHost, name: &str) -> u64 {
    let text = host.admin("/metrics").status(200).text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no `{name}` in:\n{text}"))
}

/// Deploys `add` with `size` bytes in the place of its model, which no backend can read: its wake fails, but not before there is
/// memory for so much.
fn with_large_garbage(stage: Stage, name: &str, size: u64, edit: impl FnOnce(Manifest) -> Manifest) -> Stage {
    let (file, bundle) = (stage.path("garbage.onnx"), stage.bundle(name));
    let garbage = fs::File::create(&file).expect("it can be written");
    garbage.set_len(size).expect("it can be made longer");
    Recipe::of("add").pack_with_model("model", &file, &bundle);
    stage.keys.sign(&bundle);
    stage.manifest(&edit(Recipe::of("add").manifest(&bundle).set("name", name)));
    stage
}

#[test]
fn the_least_recently_used_of_two_makes_room_for_the_other() {
    // Each takes some 55 MiB, of which its files are 23.
    let host = budget("90MiB").function("embed", held).another("embed-two", "embed", held).start();
    for round in 0..3 {
        for (name, other) in [("embed", "embed-two"), ("embed-two", "embed")] {
            host.infer(name, &text()).status(200);
            let status = host.status(name);
            assert_eq!(status["state"], "Warm");
            assert!(status["budgeted"].as_u64() > Some(40 * MEBIBYTE), "it was measured: {status}");
            if (round, name) != (0, "embed") {
                let gone = host.until_state(other, "Cold");
                assert_eq!(gone["last_sleep"], "budget", "{gone}");
                assert_eq!((&gone["evictions"], &gone["budgeted"]), (&gone["sleeps"], &Value::Null));
            }
            assert!(metric(&host, "torpor_functions_memory_bytes") <= 90 * MEBIBYTE);
        }
    }
    assert_eq!(metric(&host, "torpor_memory_budget_bytes"), 90 * MEBIBYTE);
    let evicted = host.status("embed")["evictions"].as_u64();
    let text = host.admin("/metrics").text();
    let counted = |cause: &str| {
        let line = |line: &&str| line.contains(&format!("cause=\"{cause}\"")) && line.contains("\"embed\"");
        let line = text.lines().filter(|line| line.starts_with("torpor_sleeps_total")).find(line);
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
    };
    assert_eq!((counted("budget"), counted("idle")), (evicted, Some(0)), "{text}");
}

#[test]
fn who_finds_all_memory_busy_waits_and_is_told_to_come_again() {
    const BUDGET: u64 = 24 * MEBIBYTE;
    // Alone it fits, beside another one it does not.
    let large = BUDGET - MEBIBYTE / 8;
    let stage = budget("24MiB").function("probe", |manifest| lasting(manifest).set("limits.deadline", forever()));
    let stage = with_large_garbage(stage, "large", large, |manifest| manifest.set("limits.deadline", "400ms"));
    let stage = with_large_garbage(stage, "patient", large, |manifest| manifest.set("limits.deadline", forever()));
    let host = stage.start();
    let mut busy = Raw::connect(host.data);
    busy.send("GET /fn/probe/stream?chunks=2&delay=600000 HTTP/1.1\r\nhost: x\r\n\r\n").until("chunk 0");

    let late = host.infer("large", &sum()).status(503);
    assert_eq!(late.error(), "there is no memory for `large` now, since other functions are busy");
    assert!(late.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1), "{:?}", late.headers);
    // Nobody wants it any more, so it is in nobody's way.
    let status = host.until_state("large", "Cold");
    assert_eq!(
        (&status["wakes"], &status["wake_failures"], &status["lacks_memory"]),
        (&json!(0), &json!(0), &json!(false))
    );

    thread::scope(|scope| {
        let waiting = scope.spawn(|| host.infer("patient", &sum()).status(500));
        let status = until("it waits", || Some(host.status("patient")).filter(|now| now["lacks_memory"] == true));
        assert_eq!((&status["state"], &status["budgeted"]), (&json!("Waking"), &Value::Null));
        assert_eq!(metric(&host, "torpor_functions_awaiting_memory"), 1);
        let shown = cli::run(["ps", "--admin", &host.admin.to_string()]).ok().stdout;
        assert!(shown.contains("\npatient: it waits for memory, since the others are busy\n"), "{shown}");
        assert_eq!(host.status("probe")["sleeps"], 0, "who runs is not disturbed");
        drop(busy);
        // It is let in as soon as the other one is idle, and finds then that its model is none.
        assert_eq!(waiting.join().expect("it is answered").error(), "`patient` is not able to start");
    });
    assert_eq!(host.until_state("probe", "Cold")["last_sleep"], "budget");
    host.post("/fn/probe/echo", "again").status(200);
}

#[test]
fn what_is_larger_than_the_budget_fails_at_once_and_says_why() {
    let stage = budget("8MiB").function("add", lasting);
    let host = with_large_garbage(stage, "large", 9 * MEBIBYTE, lasting).start();
    host.infer("add", &sum()).status(200);
    let reply = host.infer("large", &sum()).status(500);
    assert_eq!(reply.error(), "`large` is not able to start");
    let cause = host.status("large")["cause"].as_str().expect("a cause").to_owned();
    assert!(cause.starts_with("it takes 9.0 MiB (its files alone), and the memory budget of 8.0 MiB"), "{cause}");
    assert!(cause.ends_with("raise `--memory-budget`, or give it a smaller model"), "{cause}");
    assert_eq!(host.status("add")["sleeps"], 0, "nobody made room in vain");
}

#[test]
fn what_turns_out_to_be_larger_than_the_budget_is_closed_again() {
    // Its files fit, and what they become does not.
    let host = budget("40MiB").function("embed", held).start();
    host.infer("embed", &text()).status(500);
    let failed = host.until_state("embed", "Failed");
    let cause = failed["cause"].as_str().expect("a cause");
    assert!(cause.contains(" MiB (measured), and the memory budget of 40.0 MiB has no room for that"), "{cause}");
    assert_eq!((&failed["wakes"], &failed["sessions"], &failed["budgeted"]), (&json!(0), &json!(0), &Value::Null));
    assert_eq!(metric(&host, "torpor_functions_memory_bytes"), 0);
    // From then on that is known, and nothing is opened to learn it again.
    until("it is tried again", || {
        host.infer("embed", &text()).status(500);
        (host.status("embed")["wake_failures"] == 2).then_some(())
    });
}

#[test]
fn a_budget_that_fits_nothing_is_refused() {
    let stage = budget("1KiB").function("add", lasting);
    stage.refused().refused(2, &["--memory-budget", "1KiB", "at least 1.0 MiB"]);
    let ran = cli::run(["serve", "--memory-budget", "much", "--insecure-allow-unsigned"]);
    ran.refused(2, &["--memory-budget", "`much` is not a size"]);
}

#[test]
#[cfg(target_os = "linux")]
fn functions_that_nobody_calls_have_no_thread_no_file_and_no_metric() {
    let host = |functions: u32| {
        let stage = TestHost::builder().function("add", lasting);
        let add = |stage: Stage, index| stage.another(&format!("f{index}"), "add", lasting);
        (0..functions).fold(stage, add).start()
    };
    let count = |host: &TestHost, folder: &str| {
        fs::read_dir(format!("/proc/{}/{folder}", host.pid())).expect("the host runs").count()
    };
    let (few, many) = (host(1), host(300));
    for folder in ["task", "fd"] {
        // The async runtime keeps threads that have deployed for some seconds more.
        until("both hold as much", || (count(&many, folder) <= count(&few, folder) + 4).then_some(()));
    }
    let metrics = |host: &TestHost| host.admin("/metrics").status(200).text();
    assert_eq!(metrics(&many).lines().count(), metrics(&few).lines().count());
    // One of many wakes like the only one, and is then known.
    many.infer("f299", &sum()).status(200);
    assert!(metrics(&many).contains(r#"torpor_wakes_total{function="f299"} 1"#));
}

/// Numbers that look random, and are the same each time.
struct Dice(u64);

impl Dice {
    /// The rank of a function, such that the first is called half as often again as the second, and so on.
    fn zipf(&mut self, functions: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let unit = f64::from(u32::try_from(self.0 >> 32).unwrap_or_default()) / f64::from(u32::MAX);
        // The inverse of the distribution with the exponent 1.
        let rank = f64::from(functions).powf(unit) - 1.0;
        (0..functions).find(|index| f64::from(*index) + 1.0 > rank).unwrap_or_default()
    }
}

#[test]
fn three_hundred_functions_share_a_budget_without_an_error() {
    const FUNCTIONS: u32 = 300;
    const TIME: Duration = Duration::from_secs(4);
    let mut stage = budget("24MiB").function("add", |manifest| lasting(manifest).set("scale.min", 1));
    for index in 0..FUNCTIONS {
        stage =
            stage.another(&format!("f{index}"), "add", |manifest| lasting(manifest).set("limits.deadline", forever()));
    }
    let host = stage.start();
    let begin = Instant::now();
    thread::scope(|scope| {
        for caller in 0..4 {
            let host = &host;
            scope.spawn(move || {
                let mut dice = Dice(caller);
                while begin.elapsed() < TIME {
                    host.infer(&format!("f{}", dice.zipf(FUNCTIONS)), &sum()).status(200);
                }
            });
        }
    });
    let fits = || metric(&host, "torpor_functions_memory_bytes") <= 24 * MEBIBYTE;
    until("what goes for the last wake is gone", || fits().then_some(()));
    let all = host.admin("/functions").status(200).json();
    let all = all.as_array().expect("a list");
    let count = |key: &str| all.iter().filter_map(|function| function[key].as_u64()).sum::<u64>();
    assert_eq!(all.len(), FUNCTIONS as usize + 1);
    assert_eq!((count("wake_failures"), count("queued"), count("active")), (0, 0, 0));
    assert!(count("evictions") > 0 && count("evictions") == count("sleeps"), "{} evictions", count("evictions"));
    let kept = host.status("add");
    assert_eq!((&kept["state"], &kept["wakes"], &kept["sleeps"]), (&json!("Warm"), &json!(1), &json!(0)));
    for function in all.iter().filter(|function| function["state"] == "Cold") {
        assert!(function["calls"] == 0 || function["last_sleep"] == "budget", "{function}");
    }
}
