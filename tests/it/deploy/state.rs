//! How manifests and the state directory become one: at a start, while the folder is watched, and what is kept.

use super::{DIFFERENCE, SUM, answer, manifest, pair, plain, quick, stage, tell, write};
use crate::fixture::{Manifest, Recipe, Stage, TestHost, until};
use serde_json::{Value, json};
use std::fs;

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
fn a_history_says_when_what_changed_and_survives_the_host() {
    let stage = stage();
    stage.manifest(&Recipe::of("add").manifest(&stage.bundle("add")).set("name", "f"));
    let sub = manifest(&stage, "f", "sub", |manifest| manifest.set("scale.queue", 7));
    let host = stage.start();
    tell(&host, [&"deploy", &sub]).ok();
    tell(&host, [&"rollback", &"f"]).ok();
    let history = tell(&host, [&"history", &"f", &"--json"]).ok().json();
    let of = |key: &str| history.as_array().expect("a list").iter().map(|past| past[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("revision"), [3, 2, 1]);
    assert_eq!(of("deployed_by"), ["rollback", "deploy", "manifests"]);
    assert_eq!(of("current"), [true, false, false]);
    assert_eq!(of("before"), [json!(2), json!(1), Value::Null]);
    let digests = of("digest");
    assert!(digests[0] == digests[2] && digests[0] != digests[1], "{history}");
    assert_eq!(digests[0], host.status("f")["digest"]);
    let queue = json!({ "key": "scale.queue", "from": null, "to": "7" });
    assert!(history[1]["changes"].as_array().expect("a list").contains(&queue), "{history}");
    assert_eq!(history[2]["changes"], json!([]));

    let host = host.kill().start();
    assert_eq!(tell(&host, [&"history", &"f", &"--json"]).ok().json(), history);
    tell(&host, [&"undeploy", &"f"]).ok();
    tell(&host, [&"history", &"f"]).refused(1, &["no function `f`", "torpor ps"]);
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
fn variables_are_the_host_s_and_records_hold_their_names_alone() {
    let stage = TestHost::builder().variable("PLACE", "here").variable("TOKEN", "hunter2");
    let host = stage.function("probe", plain).start();
    let text = fs::read_to_string(host.stage().path("manifests/probe.toml")).expect("the manifest is there");
    let newer = Manifest::parse(&text).set("trigger.http.path", "/fn/${PLACE:-nowhere}/*");
    let newer = write(&host.stage().path("newer.toml"), &newer.set("allow.env.TOKEN", "${TOKEN:-}"));
    // This command's own environment has neither.
    let told = tell(&host, [&"--json", &"deploy", &newer]).ok().stdout;
    assert!(told.contains("${PLACE:-nowhere}") && !told.contains("hunter2"), "{told}");
    assert_eq!(host.status("probe")["trigger"]["http"], "/fn/here/*");
    let record = fs::read_to_string(host.stage().state().join("deployments/probe.json")).expect("there is a record");
    assert!(record.contains("${TOKEN:-}") && !record.contains("hunter2"), "{record}");

    let host = host.stop().variable("PLACE", "there").start();
    let status = host.status("probe");
    assert_eq!((&status["trigger"]["http"], &status["revision"]), (&json!("/fn/there/*"), &json!(2)), "{status}");
}
