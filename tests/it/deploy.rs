//! Deploying on a running host: what changes, what does not, who is told what, and that no caller notices.

use crate::fixture::{
    Manifest, Raw, Recipe, Stage, TestHost,
    assets::root,
    cli::{self, Ran},
    forever, until,
};
use http::{Method, Request};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

/// What the two bundles answer.
const SUM: &str = "[2.0,4.0,6.0,8.0]";
const DIFFERENCE: &str = "[0.0,0.0,0.0,0.0]";

fn pair() -> Value {
    let row = |name| json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] });
    json!({ "inputs": [row("x"), row("y")] })
}

/// The data of the answer to `pair`.
#[track_caller]
fn answer(host: &TestHost, function: &str) -> String {
    host.infer(function, &pair()).status(200).json()["outputs"][0]["data"].to_string()
}

/// A stage with the bundles `add` and `sub`, which differ in one operator of their model.
fn stage() -> Stage {
    let stage = TestHost::builder();
    let add = stage.bundle("add");
    Recipe::of("add").pack(&add);
    stage.keys.sign(&add);
    let mut model = fs::read(root().join("tests/models/add.onnx")).expect("the model is there");
    let operator = model.windows(5).position(|window| window == b"\x22\x03Add").expect("it adds");
    model[operator + 2..operator + 5].copy_from_slice(b"Sub");
    with_model(&stage, "sub", &model);
    stage
}

/// A signed bundle like `add`, with another model.
fn with_model(stage: &Stage, name: &str, model: &[u8]) {
    let file = stage.path(&format!("{name}.onnx"));
    fs::write(&file, model).expect("the model can be written");
    Recipe::of("add").pack_with_model("model", &file, &stage.bundle(name));
    stage.keys.sign(&stage.bundle(name));
}

/// A manifest of `function` with the bundle `bundle`, in a file of that name outside of the folder that `serve` reads.
fn manifest(stage: &Stage, function: &str, bundle: &str, edit: impl FnOnce(Manifest) -> Manifest) -> PathBuf {
    let manifest = edit(Recipe::of("add").manifest(&stage.bundle(bundle)).set("name", function));
    write(&stage.path(&format!("{function}-{bundle}.toml")), &manifest)
}

fn write(file: &Path, manifest: &Manifest) -> PathBuf {
    fs::write(file, manifest.text()).expect("the manifest can be written");
    file.to_owned()
}

fn plain(manifest: Manifest) -> Manifest {
    manifest
}

fn quick(manifest: Manifest) -> Manifest {
    manifest.set("scale.idle-timeout", "10ms")
}

/// A command to the host's admin address.
fn tell<const N: usize>(host: &TestHost, arguments: [&dyn AsRef<std::ffi::OsStr>; N]) -> Ran {
    let arguments = arguments.iter().map(|argument| argument.as_ref().to_owned());
    cli::run(arguments.chain(["--admin".into(), host.admin.to_string().into()]).collect::<Vec<OsString>>())
}

/// An order to the admin interface, as the command line sends it.
fn order(host: &TestHost, files: &[&Path]) -> Result<crate::fixture::Reply, ureq::Error> {
    let text = |file: &&Path| json!({ "file": file, "text": fs::read_to_string(file).expect("the manifest is there") });
    let body = json!({ "manifests": files.iter().map(text).collect::<Vec<_>>() }).to_string();
    let request = Request::post("/deployments").header("content-type", "application/json");
    crate::fixture::client::send(host.admin, request.body(body.into_bytes()).expect("a request"))
}

#[test]
fn a_deployment_replaces_the_revision_before() {
    let host = stage().start();
    let stage = host.stage();
    assert!(stage.log().contains("torpor deploy"), "an empty host says what to do: {}", stage.log());
    host.infer("f", &pair()).status(404);
    let add = manifest(stage, "f", "add", plain);
    let text = tell(&host, [&"deploy", &add]).ok().stdout;
    assert_eq!(text, "f: revision 1 is deployed in the place of nothing\n");
    assert_eq!(answer(&host, "f"), SUM);
    assert_eq!(tell(&host, [&"diff", &add]).ok().stdout, "f: revision 1 is unchanged\n");

    let sub = manifest(stage, "f", "sub", |manifest| manifest.set("scale.max-concurrency", 3));
    let ran = tell(&host, [&"diff", &sub]).refused(1, &["the host serves something else"]);
    for word in [
        "revision 2 would be deployed in the place of revision 1",
        "  scale.max-concurrency: + 3\n",
        "  (bundle digest): ",
    ] {
        assert!(ran.stdout.contains(word), "{word} in {}", ran.stdout);
    }
    let would = tell(&host, [&"--json", &"deploy", &sub, &"--dry-run"]).ok().json();
    assert_eq!((&would[0]["outcome"], &would[0]["revision"]), (&json!("deployed"), &json!(2)));
    assert_eq!((answer(&host, "f"), &host.status("f")["revision"]), (SUM.to_owned(), &json!(1)));

    let done = tell(&host, [&"--json", &"deploy", &sub]).ok().json();
    assert_eq!((&done[0]["revision"], &done[0]["before"], &done[0]["function"]), (&json!(2), &json!(1), &json!("f")));
    assert_eq!(answer(&host, "f"), DIFFERENCE);
    let status = host.status("f");
    assert_eq!((&status["revision"], &status["deployed_by"]), (&json!(2), &json!("deploy")));
    assert!(status["deployed"].as_u64().is_some_and(|time| time > 1_700_000_000), "{status}");
    assert_eq!((&status["calls"], &status["wakes"]), (&json!(1), &json!(1)), "counts are the revision's own");
    assert!(tell(&host, [&"deploy", &sub]).ok().stdout.contains("unchanged"));
    assert_eq!(host.status("f")["revision"], 2);

    assert_eq!(tell(&host, [&"undeploy", &"f"]).ok().stdout, "f: revision 2 is undeployed\n");
    host.infer("f", &pair()).status(404);
    tell(&host, [&"undeploy", &"f"]).refused(1, &["no function `f`", "torpor ps"]);
}

#[test]
fn a_mistake_is_shown_as_check_shows_it() {
    let host = stage().start();
    let stage = host.stage();
    tell(&host, [&"deploy", &manifest(stage, "f", "add", plain)]).ok();
    let bad = manifest(stage, "f", "sub", |manifest| manifest.set("scale.mim", 1));
    let check = cli::run(["check".as_ref(), bad.as_os_str()]);
    let deploy = tell(&host, [&"deploy", &bad]).refused(1, &["did you mean", "^"]);
    assert_eq!((check.code, check.stderr), (deploy.code, deploy.stderr));
    // Another program than ours may send it too.
    let reply = order(&host, &[&bad]).expect("an answer").status(400);
    assert!(reply.error().contains("did you mean"), "{}", reply.error());
    assert_eq!((answer(&host, "f"), &host.status("f")["revision"]), (SUM.to_owned(), &json!(1)));
    tell(&host, [&"deploy", &stage.path("no-such-file.toml")]).refused(2, &["no-such-file.toml"]);
    tell(&host, [&"deploy"]).refused(2, &["<PATH>"]);
}

#[test]
fn a_refusal_leaves_everything_as_it_is() {
    let host = stage().start();
    let stage = host.stage();
    let good = manifest(stage, "f", "add", plain);
    tell(&host, [&"deploy", &good]).ok();
    Recipe::of("add").pack(&stage.bundle("unsigned"));
    with_model(stage, "broken", b"this is no model at all");
    let other = manifest(stage, "g", "sub", plain);
    let refused = |file: &Path, flag: &str, words: &[&str]| {
        // Nor is what stands beside it deployed.
        let ran = match flag {
            "" => tell(&host, [&"deploy", &other, &file]),
            flag => tell(&host, [&"deploy", &other, &file, &flag]),
        };
        ran.refused(1, words);
        assert_eq!((answer(&host, "f"), &host.status("f")["revision"]), (SUM.to_owned(), &json!(1)));
        host.infer("g", &pair()).status(404);
    };
    refused(&manifest(stage, "f", "unsigned", plain), "", &["`f` is not deployed", "is not signed", "torpor sign"]);
    refused(&manifest(stage, "f", "missing", plain), "", &["`f` is not deployed", "missing.torpor"]);
    let more = |manifest: Manifest| manifest.set("model.other.backend", "auto");
    refused(&manifest(stage, "f", "sub", more), "", &["the model `other`", "`model`"]);
    refused(&manifest(stage, "f", "broken", plain), "--wait", &["does not wake", "`model`"]);
    refused(&manifest(stage, "f", "broken", |manifest| manifest.set("scale.min", 1)), "", &["does not wake"]);
}

#[test]
fn a_path_that_another_function_has_is_refused_with_its_name() {
    let probe = |name: &str, path: &str| {
        Recipe::of("probe").manifest(Path::new("probe.torpor")).set("name", name).set("trigger.http.path", path)
    };
    let host = stage().function("probe", plain).start();
    let stage = host.stage();
    let other = write(&stage.path("other.toml"), &probe("other", "/fn/probe/echo"));
    tell(&host, [&"deploy", &other]).refused(1, &["`other`", "/fn/probe/echo", "`probe`", "/fn/probe/*"]);
    // Two that change places, together.
    let other = write(&stage.path("other.toml"), &probe("other", "/fn/other/*"));
    tell(&host, [&"deploy", &other]).ok();
    let (a, b) = (
        write(&stage.path("a.toml"), &probe("probe", "/fn/other/*")),
        write(&stage.path("b.toml"), &probe("other", "/fn/probe/*")),
    );
    tell(&host, [&"deploy", &a]).refused(1, &["`other`"]);
    tell(&host, [&"deploy", &a, &b]).ok();
    assert_eq!(host.status("probe")["trigger"]["http"], "/fn/other/*");
    assert_eq!(host.post("/fn/probe/echo", "x").status(200).text(), "x");
    assert_eq!((&host.status("other")["calls"], &host.status("probe")["calls"]), (&json!(1), &json!(0)));
}

#[test]
fn a_rollback_needs_nothing_but_the_state_directory() {
    let host = stage().start();
    let stage = host.stage();
    for bundle in ["add", "sub"] {
        let file = manifest(stage, "f", bundle, plain);
        tell(&host, [&"deploy", &file]).ok();
        fs::remove_file(file).expect("it can be removed");
        fs::remove_file(stage.bundle(bundle)).expect("it can be removed");
    }
    assert_eq!(answer(&host, "f"), DIFFERENCE);
    assert!(
        tell(&host, [&"rollback", &"f"])
            .ok()
            .stdout
            .starts_with("f: revision 3 is deployed in the place of revision 2\n")
    );
    assert_eq!((answer(&host, "f"), &host.status("f")["deployed_by"]), (SUM.to_owned(), &json!("rollback")));
    tell(&host, [&"rollback", &"f", &"--to", &"2"]).ok();
    assert_eq!((answer(&host, "f"), &host.status("f")["revision"]), (DIFFERENCE.to_owned(), &json!(4)));
    assert!(tell(&host, [&"rollback", &"f", &"--to", &"4"]).ok().stdout.contains("unchanged"));
    tell(&host, [&"rollback", &"f", &"--to", &"9"]).refused(1, &["no revision 9", "1, 2, 3, 4"]);
    tell(&host, [&"rollback", &"g"]).refused(1, &["no function `g`"]);

    let host = host.kill().start();
    assert_eq!((answer(&host, "f"), &host.status("f")["revision"]), (DIFFERENCE.to_owned(), &json!(4)));
    // The policy of now decides, whoever was trusted then.
    let stage = host.stop();
    stage.trust("[[publisher]]\nname = \"dev\"\nkey = \"dev.pub.pem\"\nfunctions = [\"*\"]\nrevoked = true\n");
    let host = stage.start();
    host.infer("f", &pair()).status(500);
    let status = host.status("f");
    assert!(status["cause"].as_str().is_some_and(|cause| cause.contains("revokes")), "{status}");
    tell(&host, [&"rollback", &"f"]).refused(1, &["revokes"]);
}

#[test]
fn files_deploy_when_they_change_and_what_came_over_the_admin_interface_stays() {
    let stage = stage();
    let given = |bundle: &str| Recipe::of("add").manifest(&stage.bundle(bundle)).set("name", "given");
    stage.manifest(&given("add"));
    let (sub, api) = (given("sub"), manifest(&stage, "api", "add", plain));
    let host = stage.start();
    assert_eq!(
        (&host.status("given")["revision"], &host.status("given")["deployed_by"]),
        (&json!(1), &json!("manifests"))
    );
    let newer = write(&host.stage().path("newer.toml"), &sub);
    let text = tell(&host, [&"deploy", &newer, &api]).ok().stdout;
    assert!(text.contains("given.toml` gives it too"), "{text}");
    assert_eq!(text.matches("note:").count(), 1, "{text}");

    // Nothing has changed in the folder, so both stay.
    let host = host.kill().start();
    assert_eq!((answer(&host, "given"), &host.status("given")["revision"]), (DIFFERENCE.to_owned(), &json!(2)));
    assert_eq!((answer(&host, "api"), &host.status("api")["revision"]), (SUM.to_owned(), &json!(1)));

    // The file has changed, so it counts.
    let stage = host.stop();
    let add = Recipe::of("add").manifest(&stage.bundle("add")).set("name", "given");
    stage.manifest(&add.clone().set("scale.queue", 7));
    let host = stage.start();
    let status = host.status("given");
    assert_eq!(
        (answer(&host, "given"), &status["revision"], &status["deployed_by"]),
        (SUM.to_owned(), &json!(3), &json!("manifests"))
    );

    let text = tell(&host, [&"undeploy", &"given"]).ok().stdout;
    assert!(text.contains("given.toml` gives it still"), "{text}");
    host.infer("given", &pair()).status(404);
    let host = host.stop().start();
    assert_eq!((answer(&host, "given"), &host.status("given")["revision"]), (SUM.to_owned(), &json!(1)));

    // What a file gave goes with its file.
    let stage = host.stop();
    fs::remove_file(stage.path("manifests/given.toml")).expect("it can be removed");
    let host = stage.start();
    host.infer("given", &pair()).status(404);
    assert_eq!(answer(&host, "api"), SUM);
}

#[test]
fn a_host_that_cannot_deploy_a_file_serves_the_revision_before() {
    let stage = stage();
    stage.manifest(&Recipe::of("add").manifest(&stage.bundle("add")).set("name", "f"));
    let stage = stage.start().stop();
    Recipe::of("add").pack(&stage.bundle("unsigned"));
    stage.manifest(&Recipe::of("add").manifest(&stage.bundle("unsigned")).set("name", "f"));
    let host = stage.start();
    let status = host.status("f");
    assert_eq!((answer(&host, "f"), &status["revision"], &status["cause"]), (SUM.to_owned(), &json!(1), &Value::Null));
    assert!(status["refused"].as_str().is_some_and(|why| why.contains("is not signed")), "{status}");
    let text = tell(&host, [&"ps"]).ok().stdout;
    assert!(text.contains("f: its newest manifest is not deployed: ") && text.contains("is not signed"), "{text}");
    // Until somebody says what is wanted.
    tell(&host, [&"deploy", &manifest(host.stage(), "f", "add", plain)]).ok();
    assert_eq!(host.status("f")["refused"], Value::Null);
}

#[test]
fn a_lost_record_is_its_function_s_misfortune_alone() {
    let host = stage().start();
    let (f, g) = (manifest(host.stage(), "f", "add", plain), manifest(host.stage(), "g", "sub", plain));
    tell(&host, [&"deploy", &f, &g]).ok();
    let stage = host.stop();
    fs::write(stage.state().join("deployments/f.json"), "{\"format\":1,\"revisions\":[]}").expect("it can be written");
    fs::write(stage.state().join("deployments/half.tmp"), "{").expect("it can be written");
    let blobs = stage.kept("blobs/sha256", "").len();
    let host = stage.start();
    assert_eq!(answer(&host, "g"), DIFFERENCE);
    let status = host.status("f");
    assert!(status["cause"].as_str().is_some_and(|cause| cause.contains("deploy `f` again")), "{status}");
    host.infer("f", &pair()).status(500);
    assert_eq!(host.stage().kept("blobs/sha256", "").len(), blobs, "nobody knows what it needs");
    tell(&host, [&"deploy", &f]).ok();
    assert_eq!(answer(&host, "f"), SUM);
}

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
    let rest = old.rest();
    assert!(rest.contains("chunk 1\n") && rest.ends_with("0\r\n\r\n"), "{rest}");
    until("it has given everything back", || asleep(&host).then_some(()));
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
    // By function, the last revision that the host said is deployed.
    let mut told = [0_u64; 2];
    let mut ahead = 0;
    for kill in 0..=KILLS {
        let host = stage.start();
        let mut revisions = [0_u64; 2];
        for (index, function) in ["f", "g"].into_iter().enumerate() {
            let reply = host.admin(&format!("/functions/{function}"));
            if told[index] == 0 && reply.status == 404 {
                continue;
            }
            let status = reply.status(200).json();
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
        let moment = std::time::Duration::from_micros(kill * 7919 % 100 * 400);
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
                        if reply.status == 404 && revisions[0] == 0 {
                            continue;
                        }
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

#[test]
fn a_watched_folder_is_deployed_as_it_changes() {
    let stage = stage();
    let add = Recipe::of("add").manifest(&stage.bundle("add")).set("name", "f");
    stage.manifest(&add);
    let host = stage.flag("--watch").start();
    let stage = host.stage();
    let revision =
        |number: u64| until("the revision is served", || (host.status("f")["revision"] == number).then_some(()));
    stage.manifest(&add.clone().set("bundle", stage.bundle("sub").display().to_string()));
    revision(2);
    assert_eq!(answer(&host, "f"), DIFFERENCE);

    // A bad file leaves what runs, and says so.
    let file = stage.path("manifests/f.toml");
    fs::write(&file, "name = \"f\"\nbundel = 1\n").expect("it can be written");
    let refused = || host.status("f")["refused"].as_str().map(str::to_owned);
    let why = until("it is refused", refused);
    assert!(why.contains("f.toml") && why.contains("bundel"), "{why}");
    assert!(stage.log().contains("a manifest is wrong"), "{}", stage.log());
    assert_eq!((answer(&host, "f"), &host.status("f")["revision"]), (DIFFERENCE.to_owned(), &json!(2)));
    stage.manifest(&add);
    revision(3);
    assert_eq!((answer(&host, "f"), refused()), (SUM.to_owned(), None));

    // So does one that the host refuses.
    stage.manifest(&add.clone().set("bundle", "missing.torpor"));
    assert!(until("it is refused", refused).contains("missing.torpor"));
    assert_eq!(answer(&host, "f"), SUM);
    // A bundle that takes another's place counts as a change of the manifest.
    fs::copy(stage.bundle("sub"), stage.path("manifests/missing.torpor")).expect("it can be copied");
    revision(4);
    assert_eq!((answer(&host, "f"), refused()), (DIFFERENCE.to_owned(), None));

    stage.manifest(&add.clone().set("name", "g"));
    until("a new file is deployed", || (host.admin("/functions/g").status == 200).then_some(()));
    assert_eq!(answer(&host, "g"), SUM);
    fs::remove_file(&file).expect("it can be removed");
    until("what it gave is undeployed", || (host.admin("/functions/f").status == 404).then_some(()));
    host.infer("f", &pair()).status(404);
    assert_eq!(host.status("g")["revision"], 1);
}

/// How many files a folder of the state directory holds.
fn count(stage: &Stage, folder: &str) -> usize {
    fs::read_dir(stage.state().join(folder)).expect("the state has the folder").count()
}

#[test]
fn what_no_revision_needs_is_collected() {
    let host = stage().start();
    let stage = host.stage();
    let folders = || ["blobs/sha256", "compiled", "optimized"].map(|folder| count(stage, folder));
    let none = folders();
    tell(&host, [&"deploy", &manifest(stage, "f", "add", plain)]).ok();
    let one = folders();
    assert!(one[0] > none[0] && one[1] > none[1], "{one:?}");
    let f = manifest(stage, "f", "sub", quick);
    tell(&host, [&"deploy", &f]).ok();
    let two = folders();
    assert!(two[0] > one[0], "the revision before stays, for a rollback: {two:?}");
    assert_eq!(two[1], one[1], "both have the same module");

    tell(&host, [&"deploy", &manifest(stage, "g", "add", plain), &"--dry-run"]).ok();
    until("a dry run leaves nothing", || (folders() == two).then_some(()));
    tell(&host, [&"deploy", &manifest(stage, "g", "add", plain)]).ok();
    tell(&host, [&"undeploy", &"f"]).ok();
    until("what only `f` needed is gone", || (folders() == one).then_some(()));
    assert_eq!(answer(&host, "g"), SUM);
    tell(&host, [&"undeploy", &"g"]).ok();
    until("nothing is left", || (folders() == none).then_some(()));

    // And at the start.
    tell(&host, [&"deploy", &f]).ok();
    let one = folders();
    let mut strays = Vec::new();
    let state = stage.state();
    for (folder, name) in [("blobs/sha256", "0".repeat(64)), ("compiled", format!("{}-0.cwasm", "0".repeat(64)))] {
        strays.push(state.join(folder).join(name));
        fs::write(strays.last().expect("one"), "of nobody").expect("it can be written");
    }
    let host = host.stop().start();
    assert_eq!(answer(&host, "f"), DIFFERENCE);
    assert!(strays.iter().all(|stray| !stray.exists()));
    assert_eq!(["blobs/sha256", "compiled", "optimized"].map(|folder| count(host.stage(), folder)), one);
}

#[test]
fn a_web_page_cannot_deploy() {
    let host = stage().start();
    let body = br#"{"manifests":[]}"#.to_vec();
    let send = |edit: &dyn Fn(http::request::Builder) -> http::request::Builder| {
        let request = edit(Request::post("/deployments").header("content-type", "application/json"));
        crate::fixture::client::send(host.admin, request.body(body.clone()).expect("a request")).expect("an answer")
    };
    send(&|request| request).status(200);
    send(&|request| request.header("host", "localhost:8081")).status(200);
    send(&|request| request.header("origin", "http://example.org")).status(403);
    send(&|request| request.header("host", "rebound.example.org")).status(403);
    let plain =
        Request::post("/deployments").header("content-type", "text/plain").body(body.clone()).expect("a request");
    crate::fixture::client::send(host.admin, plain).expect("an answer").status(400);
    // And callers find nothing of it.
    for method in [Method::POST, Method::DELETE] {
        host.call(method, "/deployments", "{}").status(404);
    }
}
