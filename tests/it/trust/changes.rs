//! What a running host makes of a trust policy that changes: trust that is withdrawn ends at once, and trust that is given begins.

use super::sum;
use crate::fixture::{Keys, Recipe, Stage, TestHost, cli, until};
use serde_json::json;
use std::{
    fs,
    time::{Duration, SystemTime},
};

const KNOWN: &str = "[[publisher]]\nname = \"dev\"\nkey = \"dev.pub.pem\"\nfunctions = [\"*\"]\n";

/// A stage with `add`, and with `other`, whose bundle a publisher signed that the policy does not know yet; and that one's keys.
fn stage() -> (Stage, Keys) {
    let stage = TestHost::builder().function("add", |manifest| manifest);
    let bundle = stage.bundle("other");
    Recipe::of("add").pack(&bundle);
    let audit = Keys::make(&stage.path("audit"));
    audit.sign(&bundle);
    stage.manifest(&Recipe::of("add").manifest(&bundle).set("name", "other"));
    (stage, audit)
}

/// Waits until callers of `function` get this status.
#[track_caller]
fn until_status(host: &TestHost, function: &str, status: u16) {
    until(&format!("`{function}` answers {status}"), || (host.infer(function, &sum()).status == status).then_some(()));
}

fn with_audit() -> String {
    format!("{KNOWN}{}", KNOWN.replace("dev", "audit"))
}

#[test]
fn what_is_withdrawn_is_not_served_and_what_is_given_back_is() {
    let host = stage().0.start();
    host.infer("add", &sum()).status(200);
    host.stage().trust(&format!("{KNOWN}revoked = true\n"));
    until_status(&host, "add", 500);
    let status = host.status("add");
    assert_eq!((&status["state"], &status["revision"]), (&json!("Failed"), &json!(1)));
    let cause = status["cause"].as_str().expect("a cause");
    assert!(cause.contains("`dev`") && cause.contains("revokes"), "{cause}");

    host.stage().trust(KNOWN);
    until_status(&host, "add", 200);
    assert_eq!(host.status("add")["revision"], 1, "it is the revision that it was");
}

#[test]
fn a_manifest_that_nobody_was_trusted_for_is_deployed_when_somebody_is() {
    let host = stage().0.start();
    host.infer("other", &sum()).status(500);
    host.stage().trust(&with_audit());
    until_status(&host, "other", 200);
    let status = host.status("other");
    assert_eq!((&status["publishers"], &status["revision"]), (&json!(["audit"]), &json!(1)));
    host.infer("add", &sum()).status(200);
}

#[test]
fn what_is_deployed_after_a_change_is_judged_by_it() {
    let (stage, _) = stage();
    let manifest = stage.path("manifests/other.toml");
    let host = stage.start();
    let admin = host.admin.to_string();
    let deploy = || cli::finish(cli::command().args(["deploy", "--admin", &admin]).arg(&manifest));
    deploy().refused(1, &["keys that the trust policy does not know"]);
    // Nobody waits for the host to look: the next order is judged by the file as it is.
    host.stage().trust(&with_audit());
    deploy().ok();
    host.infer("other", &sum()).status(200);
}

#[test]
fn a_publisher_who_is_added_to_what_runs_is_shown() {
    let (stage, audit) = stage();
    audit.sign(&stage.bundle("add"));
    let host = stage.start();
    host.infer("add", &sum()).status(200);
    assert_eq!(host.status("add")["publishers"], json!(["dev"]));
    host.stage().trust(&with_audit());
    until("the other publisher", || (host.status("add")["publishers"] == json!(["audit", "dev"])).then_some(()));
    host.infer("add", &sum()).status(200);
}

#[test]
fn a_policy_that_is_wrong_changes_nothing_and_says_so() {
    let (stage, audit) = stage();
    let manifest = stage.path("manifests/other.toml");
    let host = stage.start();
    host.stage().trust("[[publisher]]\nname = 1\n");
    until("the log says so", || host.stage().log().contains("the trust policy is wrong").then_some(()));
    host.infer("add", &sum()).status(200);
    let deploy = cli::finish(cli::command().args(["deploy", "--admin", &host.admin.to_string()]).arg(manifest));
    deploy.refused(1, &["trust.toml:2:8"]);

    // The files of keys count too.
    let key = fs::read(&audit.public).expect("a key");
    fs::remove_file(&audit.public).expect("it can be removed");
    host.stage().trust(&with_audit());
    until("the log names the key", || host.stage().log().contains("audit.pub.pem").then_some(()));
    fs::write(&audit.public, key).expect("it can be written");
    until_status(&host, "other", 200);
    host.infer("add", &sum()).status(200);
}

#[test]
fn a_key_that_expires_ends_what_it_signed() {
    let host = stage().0.start();
    host.infer("add", &sum()).status(200);
    #[expect(clippy::disallowed_methods, reason = "the dates of keys are compared with it")]
    let soon = SystemTime::now() + Duration::from_secs(3);
    host.stage().trust(&format!("{KNOWN}expires = {}\n", humantime::format_rfc3339_seconds(soon)));
    until_status(&host, "add", 500);
    let cause = host.status("add")["cause"].to_string();
    assert!(cause.contains("expired at"), "{cause}");
}
