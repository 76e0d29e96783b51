//! Deployments while requests run, functions wake, other deployments are under way, or the host ends, by a signal or a kill.

use super::{DIFFERENCE, SUM, answer, manifest, order, pair, plain, quick, stage, tell, write};
use crate::fixture::{Manifest, Raw, TestHost, cli, forever, until};
use http::Request;
use rustix::process::Signal;
use serde_json::json;
use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Instant,
};

/// A request whose answer has begun, and ends when its connection is told to go on.
fn half_way(host: &TestHost, delay: u32) -> Raw {
    let mut raw = Raw::connect(host.data);
    raw.send(format!("GET /fn/probe/stream?chunks=2&delay={delay} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
    let answer = raw.until("chunk 0");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    raw
}

fn probe(edit: impl FnOnce(Manifest) -> Manifest) -> TestHost {
    TestHost::builder().function("probe", |manifest| edit(manifest.set("limits.deadline", forever()))).start()
}

fn asleep(host: &TestHost) -> bool {
    host.admin("/metrics").text().contains("torpor_warm_functions{function=\"probe\"} 0\n")
}

#[test]
fn callers_in_flight_are_answered_by_the_revision_they_found() {
    // It would stay warm for ever if it were not replaced.
    let host = probe(|manifest| manifest.set("scale.min", 1));
    let mut old = half_way(&host, 1000);
    let file = host.stage().path("manifests/probe.toml");
    let newer = fs::read_to_string(&file)
        .expect("it is there")
        .replace("/fn/probe/*", "/fn/newer/*")
        .replace("min = 1", "min = 0");
    let newer = write(&host.stage().path("newer.toml"), &Manifest::parse(&newer));
    tell(&host, [&"deploy", &newer]).ok();
    host.get("/fn/probe/echo").status(404);
    assert_eq!(host.status("probe")["revision"], 2);
    assert_eq!((&host.status("probe")["active"], &host.status("probe")["state"]), (&json!(0), &json!("Cold")));
    assert!(!asleep(&host), "the old revision still answers somebody");
    let rest = old.rest();
    assert!(rest.contains("chunk 1\n") && rest.ends_with("0\r\n\r\n"), "{rest}");
    until("the old revision has given everything back", || asleep(&host).then_some(()));
}

#[test]
fn callers_in_flight_outlive_their_function() {
    let host = probe(plain);
    let mut old = half_way(&host, 1000);
    tell(&host, [&"undeploy", &"probe"]).ok();
    host.get("/fn/probe/echo").status(404);
    let counted = || host.admin("/metrics").status(200).text().contains("function=\"probe\"");
    assert!(counted(), "it still answers somebody");
    let rest = old.rest();
    assert!(rest.contains("chunk 1\n") && rest.ends_with("0\r\n\r\n"), "{rest}");
    // Its metrics go once it has given everything back.
    until("it has given everything back", || (!counted()).then_some(()));
}

#[test]
fn who_waits_for_a_wake_is_answered_by_the_revision_that_wakes() {
    // Its model takes long enough to open.
    let host = TestHost::builder().function("embed", plain).start();
    let file = host.stage().path("manifests/embed.toml");
    let newer = Manifest::parse(&fs::read_to_string(&file).expect("it is there")).set("scale.queue", 7);
    let newer = write(&host.stage().path("newer.toml"), &newer);
    let request = json!({ "inputs": [{ "name": "text", "shape": [1], "datatype": "BYTES", "data": ["a cat"] }] });
    thread::scope(|scope| {
        let caller = scope.spawn(|| host.infer("embed", &request).status);
        until("it wakes", || (host.status("embed")["state"] != "Cold").then_some(()));
        tell(&host, [&"deploy", &newer]).ok();
        let status = host.status("embed");
        assert_eq!((&status["revision"], &status["state"], &status["calls"]), (&json!(2), &json!("Cold"), &json!(0)));
        assert_eq!(caller.join().expect("the caller does not panic"), 200);
    });
    assert_eq!(host.status("embed")["wakes"], 0, "the new revision had no part in it");
    let old = "torpor_warm_functions{function=\"embed\"} 0\n";
    until("the old one is asleep", || host.admin("/metrics").text().contains(old).then_some(()));
}

#[test]
fn a_host_that_drains_deploys_nothing() {
    let host = probe(plain);
    let stage = host.stage();
    let file = stage.path("manifests/probe.toml");
    let mut old = half_way(&host, 3000);
    host.signal(Signal::TERM);
    until("it is draining", || (host.admin("/readyz").status == 503).then_some(()));
    tell(&host, [&"deploy", &file]).refused(1, &["is stopping"]);
    tell(&host, [&"undeploy", &"probe"]).refused(1, &["is stopping"]);
    assert!(old.rest().contains("chunk 1\n"));
    assert_eq!(host.ended().code(), Some(0));
}

#[test]
fn nobody_notices_deployments_under_load() {
    let host = stage().start();
    let stage = host.stage();
    // One that is asleep most of the time, so that deployments meet wakes and sleeps, and one that never is.
    let lasting = |manifest: Manifest| manifest.set("scale.min", 1);
    let files = |bundle| [manifest(stage, "drowsy", bundle, quick), manifest(stage, "lasting", bundle, lasting)];
    let files = [files("add"), files("sub")];
    let deploy = |turn: usize| {
        let [drowsy, lasting] = &files[turn % 2];
        order(&host, &[drowsy, lasting]).expect("an answer").status(200).json()
    };
    deploy(0);
    let (done, seen) = (AtomicBool::new(false), [AtomicUsize::new(0), AtomicUsize::new(0)]);
    thread::scope(|scope| {
        for caller in 0..4 {
            let (host, done, seen) = (&host, &done, &seen);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let answer = answer(host, ["drowsy", "lasting"][caller % 2]);
                    let which = [SUM, DIFFERENCE].iter().position(|known| answer == *known);
                    seen[which.expect("one or the other")].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let revisions = thread::scope(|scope| {
            // Two who do not know of each other.
            let deployers = [0, 1].map(|who| {
                let deploy = &deploy;
                scope.spawn(move || {
                    let deployed =
                        (0..25).map(|turn| deploy(turn + who)).filter(|done| done[0]["outcome"] == "deployed");
                    deployed.map(|done| done[0]["revision"].as_u64().expect("a number")).collect::<Vec<_>>()
                })
            });
            deployers.map(|deployer| deployer.join().expect("no deployer panics")).concat()
        });
        done.store(true, Ordering::Relaxed);
        let mut revisions = revisions;
        revisions.sort_unstable();
        let last = u64::try_from(revisions.len()).expect("a few") + 1;
        assert!(last > 10, "{revisions:?}");
        assert_eq!(revisions, (2..=last).collect::<Vec<_>>(), "each deployment is a revision of its own");
        assert_eq!(host.status("drowsy")["revision"], last);
    });
    assert!(seen.iter().all(|seen| seen.load(Ordering::Relaxed) > 0), "{seen:?}");
    assert!(!stage.log().contains("panicked"), "{}", stage.log());
    let warm = |function: &str| {
        host.admin("/metrics").text().contains(&format!("torpor_warm_functions{{function=\"{function}\"}} 1\n"))
    };
    until("only the last revision is warm", || (warm("lasting") && !warm("drowsy")).then_some(()));
}

#[test]
fn a_kill_at_any_moment_leaves_every_function_at_one_revision() {
    const KILLS: u64 = 100;
    let mut stage = stage();
    // The revision `n` of both functions is from the bundle `n % 2`.
    let files = ["sub", "add"].map(|bundle| ["f", "g"].map(|function| manifest(&stage, function, bundle, quick)));
    let digests = ["sub", "add"].map(|bundle| {
        let bundle = stage.bundle(bundle);
        cli::run(["--json".as_ref(), "inspect".as_ref(), bundle.as_os_str()]).ok().json()["digest"].clone()
    });
    // Afterwards there is nothing to compile any more, and it is known how long a deployment takes here.
    let host = stage.start();
    let deploy = |revision: u64| {
        let [f, g] = &files[usize::try_from(revision % 2).expect("0 or 1")];
        order(&host, &[f, g]).expect("an answer").status(200);
    };
    (1..=2).for_each(deploy);
    let begin = Instant::now();
    (3..=6).for_each(deploy);
    let four = begin.elapsed();
    stage = host.kill();
    // By function, the last revision that the host said is deployed.
    let mut told = [6_u64; 2];
    let mut ahead = 0;
    for kill in 0..=KILLS {
        let host = stage.start();
        let mut revisions = [0_u64; 2];
        for (index, function) in ["f", "g"].into_iter().enumerate() {
            let status = host.status(function);
            let revision = status["revision"].as_u64().expect("a revision");
            assert!(revision == told[index] || revision == told[index] + 1, "{told:?}, but {status}");
            ahead += u32::from(revision > told[index]);
            let which = usize::try_from(revision % 2).expect("0 or 1");
            assert_eq!(status["digest"], digests[which], "{status}");
            assert_eq!(answer(&host, function), [DIFFERENCE, SUM][which]);
            revisions[index] = revision;
        }
        if kill == KILLS {
            let log = host.stage().log();
            assert!(!log.contains("panicked"), "{log}");
            break;
        }
        // A kill may have come between the two; they go on together.
        for (index, function) in ["f", "g"].into_iter().enumerate() {
            while revisions[index] < revisions[1 - index] {
                revisions[index] += 1;
                let file = &files[usize::try_from(revisions[index] % 2).expect("0 or 1")][index];
                let done = order(&host, &[file]).expect("an answer").status(200).json();
                assert_eq!(done[0]["revision"], revisions[index], "{function}: {done}");
            }
        }
        let moment = four * u32::try_from(kill * 7919 % 100).expect("below 100") / 100;
        told = thread::scope(|scope| {
            let host = &host;
            let deployer = scope.spawn(|| {
                let mut told = revisions;
                loop {
                    let [f, g] = &files[usize::try_from((told[0] + 1) % 2).expect("0 or 1")];
                    match order(host, &[f, g]) {
                        Ok(reply) => {
                            let done = reply.status(200).json();
                            told = [0, 1].map(|index| done[index]["revision"].as_u64().expect("a revision"));
                        }
                        Err(_) => return told,
                    }
                }
            });
            for function in ["f", "g"] {
                scope.spawn(move || {
                    let path = format!("/v2/models/{function}/infer");
                    let request = || Request::post(&path).body(pair().to_string().into_bytes()).expect("a request");
                    while let Ok(reply) = host.try_send(request()) {
                        let data = reply.status(200).json()["outputs"][0]["data"].to_string();
                        assert!(data == SUM || data == DIFFERENCE, "{data}");
                    }
                });
            }
            thread::sleep(moment);
            host.signal(Signal::KILL);
            deployer.join().expect("the deployer does not panic")
        });
        stage = host.kill();
    }
    assert!(told[0] > KILLS / 4 && ahead > 0, "hardly anything was cut short: {told:?}, {ahead} ahead");
}
