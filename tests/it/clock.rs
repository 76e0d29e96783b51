//! A clock on the wall that jumps by hours, forwards and back, while functions wake, run, rest and have failed: all of them keep
//! their time, which is that of the monotonic clock. Only the dates of keys follow it.

use crate::fixture::{Manifest, Recipe, Stage, TestHost, assets, forever, until};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

const DAY: i64 = 24 * 3600;

/// The file that says by how many seconds the host's clock is wrong.
struct Clock(File);

impl Clock {
    fn jump(&self, seconds: i64) {
        self.0.write_all_at(&seconds.to_ne_bytes(), 0).expect("the file can be written");
    }

    /// Jumps there and back while `work` is done.
    fn jumps<T>(&self, work: impl FnOnce() -> T) -> T {
        let done = AtomicBool::new(false);
        let result = thread::scope(|scope| {
            scope.spawn(|| {
                for offset in [DAY, -DAY, 0, 3600, -3600].into_iter().cycle() {
                    self.jump(offset);
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            });
            // So that it ends if the work fails too.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            done.store(true, Ordering::Relaxed);
            result
        });
        self.jump(0);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Starts a host whose clock can be set.
#[track_caller]
fn start(stage: Stage) -> (TestHost, Clock) {
    let (file, library) = (stage.path("clock"), assets::beside_tests("libtorpor_clock.so"));
    fs::write(&file, 0_i64.to_ne_bytes()).expect("the file can be written");
    let clock = File::options().write(true).open(&file).expect("the file is there");
    (stage.variable("LD_PRELOAD", library).variable("TEST_CLOCK", file).start(), Clock(clock))
}

fn sum() -> Value {
    let row = |name| json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] });
    json!({ "inputs": [row("x"), row("y")] })
}

fn rounds(rounds: u64) -> Value {
    json!({ "inputs": [{ "name": "rounds", "shape": [1], "datatype": "INT64", "data": [rounds] }] })
}

/// How far the host's clock is ahead, in seconds, as the last call of `add` tells.
#[track_caller]
fn ahead(host: &TestHost) -> f64 {
    let before = host.status("add")["calls"].as_u64().expect("a count");
    host.infer("add", &sum()).status(200);
    host.until_number("add", "calls", before + 1);
    let last = host.status("add")["last_call"].as_f64().expect("there was a call");
    last - now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later").as_secs_f64()
}

#[expect(clippy::disallowed_methods, reason = "what the host's clock is compared with")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[test]
fn the_clock_of_the_host_does_jump() {
    let (host, clock) = start(TestHost::builder().function("add", |manifest| manifest));
    for offset in [0, DAY, -DAY] {
        clock.jump(offset);
        let ahead = ahead(&host);
        #[expect(clippy::cast_precision_loss, reason = "a day has few seconds")]
        let wrong = (ahead - offset as f64).abs();
        assert!(wrong < 3000.0, "{ahead} seconds instead of {offset}");
    }
}

#[test]
fn a_warm_function_stays_warm_and_one_that_is_idle_sleeps() {
    let stage = TestHost::builder().function("add", |manifest| manifest.set("scale.idle-timeout", forever())).another(
        "brief",
        "add",
        |manifest| manifest.set("scale.idle-timeout", "20ms"),
    );
    let (host, clock) = start(stage);
    host.infer("add", &sum()).status(200);
    let mut sleeps = 0;
    let mut brief = || {
        host.infer("brief", &sum()).status(200);
        sleeps += 1;
        // Its timer has run out under the new time, so any that goes by that would have too.
        host.until_number("brief", "sleeps", sleeps);
    };
    for offset in [DAY, -DAY, 0] {
        clock.jump(offset);
        brief();
    }
    clock.jumps(|| (0..20).for_each(|_| brief()));
    let status = host.status("add");
    assert_eq!((&status["state"], &status["wakes"], &status["sleeps"]), (&json!("Warm"), &json!(1), &json!(0)));
    host.infer("add", &sum()).status(200);
}

#[test]
fn a_deadline_neither_comes_early_nor_stays_away() {
    const DEADLINE: Duration = Duration::from_secs(2);
    let stage = TestHost::builder().function("slow", |manifest| manifest.set("limits.deadline", "2s"));
    let (host, clock) = start(stage);
    host.infer("slow", &rounds(1)).status(200);
    let late = || {
        let start = Instant::now();
        let reply = thread::scope(|scope| {
            let caller = scope.spawn(|| host.infer("slow", &rounds(1_000_000_000)));
            host.until_number("slow", "active", 1);
            caller.join().expect("it is answered")
        });
        reply.status(504);
        assert!(start.elapsed() >= DEADLINE, "after {:?}", start.elapsed());
    };
    clock.jumps(late);
    host.infer("slow", &rounds(1)).status(200);
}

#[test]
fn wakes_of_a_real_model_do_not_mind() {
    let (host, clock) = start(TestHost::builder().function("filetype", |m| m.set("scale.idle-timeout", "20ms")));
    clock.jumps(|| {
        for sleeps in 1..=8 {
            let label = host.post("/fn/filetype", "<!doctype html><html><body></body></html>").status(200).json();
            assert_eq!(label["label"], "html");
            host.until_number("filetype", "sleeps", sleeps);
        }
    });
    let status = host.status("filetype");
    assert_eq!((&status["wakes"], &status["wake_failures"]), (&json!(8), &json!(0)));
}

#[test]
fn a_back_off_ends_when_it_is_over() {
    let stage = TestHost::builder();
    let (file, bundle) = (stage.path("garbage.onnx"), stage.bundle("add"));
    fs::write(&file, [0x5a; 1000]).expect("it can be written");
    Recipe::of("add").pack_with_model("model", &file, &bundle);
    stage.keys.sign(&bundle);
    stage.manifest(&Recipe::of("add").manifest(&bundle));
    let (host, clock) = start(stage);
    let failures = || host.status("add")["wake_failures"].as_u64().expect("a count");
    // The next try comes half a second after the first, and a second after that.
    let begin = Instant::now();
    clock.jumps(|| {
        until("it was tried three times", || {
            host.infer("add", &sum()).status(500);
            (failures() == 3).then_some(())
        });
    });
    assert!(begin.elapsed() >= Duration::from_millis(1500), "after {:?}", begin.elapsed());
}

#[test]
fn the_dates_of_keys_follow_the_clock_both_ways() {
    let stage = TestHost::builder().function("add", |manifest: Manifest| manifest);
    let soon = now() + Duration::from_secs(3600);
    stage.trust(&format!(
        "[[publisher]]\nname = \"dev\"\nkey = \"dev.pub.pem\"\nfunctions = [\"*\"]\nexpires = {}\n",
        humantime::format_rfc3339_seconds(soon)
    ));
    let (host, clock) = start(stage);
    let until_status = |status: u16| {
        until(&format!("it answers {status}"), || (host.infer("add", &sum()).status == status).then_some(()));
    };
    host.infer("add", &sum()).status(200);
    clock.jump(DAY);
    until_status(500);
    let cause = host.status("add")["cause"].to_string();
    assert!(cause.contains("expired at"), "{cause}");
    // Somebody sets it right again.
    clock.jump(0);
    until_status(200);
}
