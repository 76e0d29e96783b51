//! What `deploy`, `diff`, `rollback` and `undeploy` do, and what is refused.

use super::{DIFFERENCE, SUM, answer, manifest, order, pair, plain, stage, tell, with_model, write};
use crate::fixture::{Manifest, Recipe, cli, client};
use http::{Method, Request};
use serde_json::json;
use std::{fs, path::Path};

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
    let ran = tell(&host, [&"diff", &sub]).refused(1, &[]);
    assert_eq!(ran.stderr, "", "the difference is said already");
    let json = tell(&host, [&"--json", &"diff", &sub]).refused(1, &[]).json();
    assert_eq!(json[0]["changes"].as_array().map(Vec::len), Some(4), "{json}");
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
    let answer_to_it = reply.json();
    assert!(answer_to_it["error"].as_str().is_some_and(|error| error.contains("did you mean")), "{answer_to_it}");
    assert_eq!((answer(&host, "f"), &host.status("f")["revision"]), (SUM.to_owned(), &json!(1)));
    tell(&host, [&"deploy", &stage.path("no-such-file.toml")]).refused(2, &["no-such-file.toml"]);
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
    // It is counted when it has ended, which is a moment after the caller has the answer.
    host.until_number("other", "calls", 1);
    assert_eq!(host.status("probe")["calls"], 0);
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
fn a_web_page_cannot_deploy() {
    let host = stage().start();
    let body = br#"{"manifests":[]}"#.to_vec();
    let send = |edit: &dyn Fn(http::request::Builder) -> http::request::Builder| {
        let request = edit(Request::post("/deployments").header("content-type", "application/json"));
        client::send(host.admin, request.body(body.clone()).expect("a request")).expect("an answer")
    };
    send(&|request| request).status(200);
    send(&|request| request.header("host", "localhost:8081")).status(200);
    send(&|request| request.header("origin", "http://example.org")).status(403);
    send(&|request| request.header("host", "rebound.example.org")).status(403);
    let plain =
        Request::post("/deployments").header("content-type", "text/plain").body(body.clone()).expect("a request");
    client::send(host.admin, plain).expect("an answer").status(400);
    // And callers find nothing of it.
    for method in [Method::POST, Method::DELETE] {
        host.call(method, "/deployments", "{}").status(404);
    }
}

#[test]
fn wrong_use_is_told() {
    let host = stage().start();
    tell(&host, [&"deploy"]).refused(2, &["<PATH>"]);
    tell(&host, [&"undeploy"]).refused(2, &["<FUNCTION>"]);
    tell(&host, [&"rollback", &"Not A Name"]).refused(2, &["Not A Name"]);
    tell(&host, [&"rollback", &"f", &"--to", &"x"]).refused(2, &["--to", "x"]);
    let file = manifest(host.stage(), "f", "add", plain);
    tell(&host, [&"deploy", &host.stage().path("manifests")]).refused(2, &["there is no manifest", "manifests"]);
    let data = host.data.to_string();
    cli::run(["deploy".as_ref(), file.as_os_str(), "--admin".as_ref(), data.as_ref()])
        .refused(1, &[&data, "is no admin address"]);
    let gone = host.admin.to_string();
    let ran = tell(&host, [&"--json", &"undeploy", &"f"]).refused(1, &[]).json();
    assert!(ran["error"].as_str().is_some_and(|error| error.contains("no function `f`")), "{ran}");
    // The manifest is there as long as its stage.
    let _stage = host.stop();
    cli::run(["deploy".as_ref(), file.as_os_str(), "--admin".as_ref(), gone.as_ref()])
        .refused(1, &["no host answers", &gone, "torpor serve"]);
}

#[test]
fn several_are_undeployed_in_one_command() {
    let host = stage().start();
    let stage = host.stage();
    let files = ["a", "b", "c"].map(|name| manifest(stage, name, "add", plain));
    tell(&host, [&"deploy", &files[0], &files[1], &files[2]]).ok();
    let done = tell(&host, [&"--json", &"undeploy", &"a", &"b"]).ok().json();
    assert_eq!(
        (&done[0]["function"], &done[1]["function"], &done[1]["outcome"]),
        (&json!("a"), &json!("b"), &json!("undeployed"))
    );
    tell(&host, [&"undeploy", &"c", &"a", &"b"]).refused(1, &["`c` undeployed, and then", "no function `a`"]);
    assert_eq!(host.admin("/functions").json(), json!([]));
}
