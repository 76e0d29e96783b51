//! What is run and what is not: signatures, the trust policy, and every byte that was tampered with.

mod changes;

use crate::fixture::{Keys, Manifest, Recipe, Stage, TestHost, cli, damage, forever, skipped_without_onnxruntime};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

fn sum() -> Value {
    let row = |name| json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] });
    json!({ "inputs": [row("x"), row("y")] })
}

fn quick(manifest: Manifest) -> Manifest {
    manifest.set("scale.idle-timeout", "10ms")
}

/// A second function beside the honest `add`, from a bundle that `make` makes at the path it is given.
fn beside_add(make: impl FnOnce(&Stage, &Path)) -> Stage {
    let stage = TestHost::builder().function("add", |manifest| manifest);
    let bundle = stage.bundle("suspect");
    make(&stage, &bundle);
    stage.manifest(&Recipe::of("add").manifest(&bundle).set("name", "suspect"));
    stage
}

/// The host starts, and serves all but the suspect, with `words` in the cause. `torpor verify` says the same.
#[track_caller]
fn refused(stage: Stage, words: &[&str]) {
    let verify = cli::finish(
        cli::command()
            .args(["verify", "--function", "suspect", "--trust"])
            .arg(stage.path("trust.toml"))
            .arg(stage.bundle("suspect")),
    );
    verify.refused(1, words);

    let host = stage.start();
    host.infer("add", &sum()).status(200);
    let status = host.status("suspect");
    assert_eq!((&status["state"], &status["digest"], &status["wakes"]), (&json!("Failed"), &Value::Null, &json!(0)));
    let cause = status["cause"].as_str().expect("a cause");
    for word in words {
        assert!(cause.contains(word), "`{word}` is missing in: {cause}");
    }
    let reply = host.infer("suspect", &sum()).status(500);
    assert_eq!(reply.error(), "`suspect` is not able to start");
    assert!(!host.stage().log().contains("panicked"), "{}", host.stage().log());
}

/// A signed bundle at `bundle`.
fn honest(stage: &Stage, bundle: &Path) {
    Recipe::of("add").pack(bundle);
    stage.keys.sign(bundle);
}

#[test]
fn a_bundle_that_nobody_signed_is_refused() {
    refused(beside_add(|_, bundle| Recipe::of("add").pack(bundle)), &["is not signed", "torpor sign"]);
}

#[test]
fn a_signature_of_a_stranger_is_refused() {
    let make = |stage: &Stage, bundle: &Path| {
        Recipe::of("add").pack(bundle);
        Keys::make(&stage.path("stranger")).sign(bundle);
    };
    refused(beside_add(make), &["keys that the trust policy does not know"]);
}

#[test]
fn a_signature_with_a_revoked_key_is_refused() {
    let make = |stage: &Stage, bundle: &Path| {
        Recipe::of("add").pack(bundle);
        Keys::make(&stage.path("old")).sign(bundle);
        stage.trust(
            "[[publisher]]\nname = \"dev\"\nkey = \"dev.pub.pem\"\nfunctions = [\"*\"]\n\
             [[publisher]]\nname = \"acme\"\nkey = \"old.pub.pem\"\nfunctions = [\"*\"]\nrevoked = true\n",
        );
    };
    refused(beside_add(make), &["`acme`", "revokes"]);
}

/// Two publishers, both of whom must sign what is called `suspect`.
const BOTH: &str = "[[publisher]]\nname = \"dev\"\nkey = \"dev.pub.pem\"\nfunctions = [\"*\"]\n\
                    [[publisher]]\nname = \"audit\"\nkey = \"audit.pub.pem\"\nfunctions = [\"sus*\"]\n\
                    [[rule]]\nfunctions = [\"sus*\"]\npublishers = [\"dev\", \"audit\"]\nthreshold = 2\n";

#[test]
fn a_signature_that_a_rule_asks_for_must_be_there() {
    let make = |stage: &Stage, bundle: &Path| {
        honest(stage, bundle);
        Keys::make(&stage.path("audit"));
        stage.trust(BOTH);
    };
    refused(beside_add(make), &["2 of `audit` and `dev`", "but counts 1", "`audit` did not sign", "torpor sign"]);
}

#[test]
fn all_publishers_whose_signatures_count_are_shown() {
    let make = |stage: &Stage, bundle: &Path| {
        honest(stage, bundle);
        Keys::make(&stage.path("audit")).sign(bundle);
        stage.trust(BOTH);
    };
    let stage = beside_add(make);
    let (trust, bundle) = (stage.path("trust.toml"), stage.bundle("suspect"));
    let verify = cli::command()
        .args(["verify", "--function", "suspect", "--trust"])
        .args([&trust, &bundle])
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&verify.stdout).into_owned();
    assert!(text.contains("signed by `audit`, `dev`") && text.contains("2 of `audit`, `dev`"), "{text}");
    let host = stage.start();
    host.infer("suspect", &sum()).status(200);
    assert_eq!(host.status("suspect")["publishers"], json!(["audit", "dev"]));
    let ps = cli::run(["ps", "--admin", &host.admin.to_string()]).ok().stdout;
    assert!(ps.lines().any(|line| line.starts_with("suspect ") && line.ends_with("  audit, dev")), "{ps}");
}

#[test]
fn a_signature_with_an_expired_key_is_refused() {
    let make = |stage: &Stage, bundle: &Path| {
        Recipe::of("add").pack(bundle);
        Keys::make(&stage.path("old")).sign(bundle);
        stage.trust(
            "[[publisher]]\nname = \"dev\"\nkey = \"dev.pub.pem\"\nfunctions = [\"*\"]\n\
             [[publisher]]\nname = \"acme\"\nkey = \"old.pub.pem\"\nfunctions = [\"*\"]\nexpires = 2020-01-31\n",
        );
    };
    refused(beside_add(make), &["`acme`", "expired at 2020-01-31T00:00:00Z"]);
}

#[test]
fn a_withdrawn_bundle_is_refused() {
    let make = |stage: &Stage, bundle: &Path| {
        Recipe::of("slow").pack(bundle);
        stage.keys.sign(bundle);
        let report = cli::finish(cli::command().args(["--json", "inspect"]).arg(bundle)).ok().json();
        let digest = report["digest"].as_str().expect("a digest");
        stage.trust(&format!(
            "[[publisher]]\nname = \"dev\"\nkey = \"dev.pub.pem\"\nfunctions = [\"*\"]\n\
             [[revoked]]\ndigest = \"{digest}\"\nreason = \"it is slow\"\n"
        ));
    };
    refused(beside_add(make), &["revokes: it is slow"]);
}

#[test]
fn a_publisher_may_provide_only_what_the_policy_allows() {
    let make = |stage: &Stage, bundle: &Path| {
        honest(stage, bundle);
        stage.trust("[[publisher]]\nname = \"dev\"\nkey = \"dev.pub.pem\"\nfunctions = [\"add\", \"vision-*\"]\n");
    };
    refused(beside_add(make), &["`dev`", "vision-*", "`suspect`"]);
}

#[test]
fn a_key_is_replaced_by_signing_again() {
    let make = |stage: &Stage, bundle: &Path| {
        honest(stage, bundle);
        Keys::make(&stage.path("new")).sign(bundle);
        let policy = "[[publisher]]\nname = \"dev\"\nkey = \"dev.pub.pem\"\nfunctions = [\"*\"]\nrevoked = true\n\
                      [[publisher]]\nname = \"dev\"\nkey = \"new.pub.pem\"\nfunctions = [\"suspect\"]\n";
        stage.trust(policy);
    };
    let host = beside_add(make).start();
    host.infer("suspect", &sum()).status(200);
    assert_eq!(host.status("suspect")["publishers"], json!(["dev"]));
    // The other one has only the old signature.
    host.infer("add", &sum()).status(500);
}

/// Where `needle` is in a bundle.
#[track_caller]
fn find(bytes: &[u8], needle: &[u8]) -> usize {
    bytes.windows(needle.len()).position(|window| window == needle).expect("the bundle has it")
}

/// Changes the byte `offset` bytes behind the first `needle`.
fn flip(bundle: &Path, needle: &[u8], offset: usize) {
    let mut bytes = fs::read(bundle).expect("the bundle is there");
    let at = find(&bytes, needle) + offset;
    bytes[at] ^= 1;
    fs::write(bundle, bytes).expect("the bundle can be written");
}

#[test]
fn a_changed_module_is_refused() {
    // The preamble of a component.
    refused(
        beside_add(|stage, bundle| {
            honest(stage, bundle);
            flip(bundle, b"\0asm\x0d\0\x01\0", 100);
        }),
        &["is not a whole bundle"],
    );
}

#[test]
fn a_changed_model_is_refused() {
    // The name of the only operator: it would still be a model.
    refused(
        beside_add(|stage, bundle| {
            honest(stage, bundle);
            flip(bundle, ADD, 4);
        }),
        &["is not a whole bundle"],
    );
}

#[test]
fn a_changed_config_is_refused() {
    refused(
        beside_add(|stage, bundle| {
            honest(stage, bundle);
            flip(bundle, b"\"datatype\"", 3);
        }),
        &["is not a whole bundle"],
    );
}

#[test]
fn a_changed_signature_is_refused() {
    refused(
        beside_add(|stage, bundle| {
            honest(stage, bundle);
            flip(bundle, b"\"sig\":\"", 20);
        }),
        &["is not a whole bundle"],
    );
}

#[test]
fn a_truncated_bundle_is_refused() {
    refused(
        beside_add(|stage, bundle| {
            honest(stage, bundle);
            let bytes = fs::read(bundle).expect("the bundle is there");
            fs::write(bundle, &bytes[..bytes.len() / 2]).expect("the bundle can be written");
        }),
        &["is not a whole bundle"],
    );
}

#[test]
fn a_file_that_is_no_bundle_is_refused() {
    refused(
        beside_add(|_, bundle| fs::write(bundle, [0x7f; 5000]).expect("it can be written")),
        &["is not a whole bundle"],
    );
}

#[test]
fn a_missing_bundle_stops_only_its_function() {
    let host = beside_add(|_, _| {}).start();
    host.infer("add", &sum()).status(200);
    let cause = host.status("suspect")["cause"].as_str().expect("a cause").to_owned();
    assert!(cause.contains("suspect.torpor"), "{cause}");
}

/// A host with `add`, asleep after its first call.
fn asleep() -> TestHost {
    let host = TestHost::builder().function("add", quick).start();
    host.infer("add", &sum()).status(200);
    host.until_state("add", "Cold");
    host
}

/// How a model names its operator.
const ADD: &[u8] = b"\x22\x03Add";

/// Makes a model subtract that adds, so that a host that loads it answers something else.
fn subtract(model: &Path) {
    let mut bytes = fs::read(model).expect("it can be read");
    let at = find(&bytes, ADD) + 2;
    bytes[at..at + 3].copy_from_slice(b"Sub");
    fs::write(model, bytes).expect("it can be written");
}

#[track_caller]
fn adds(host: &TestHost) {
    let reply = host.infer("add", &sum()).status(200).json();
    assert_eq!(reply["outputs"][0]["data"], json!([2.0, 4.0, 6.0, 8.0]));
}

#[test]
fn a_model_that_was_changed_in_the_store_is_never_loaded() {
    let host = asleep();
    let is_model =
        |blob: &PathBuf| fs::read(blob).is_ok_and(|bytes| bytes.windows(ADD.len()).any(|window| window == ADD));
    let model = host.stage().kept("blobs/sha256", "").into_iter().find(is_model).expect("the store has the model");
    let bytes = fs::read(&model).expect("it can be read");
    subtract(&model);

    host.infer("add", &sum()).status(500);
    let status = host.status("add");
    assert_eq!((&status["state"], &status["wake_failures"]), (&json!("Failed"), &json!(1)));
    let cause = status["cause"].as_str().expect("a cause");
    assert!(cause.contains("is damaged"), "{cause}");

    // A restart deploys again, which mends the store.
    let host = host.stop().start();
    adds(&host);
    assert_eq!(fs::read(&model).expect("it can be read"), bytes);
}

#[test]
fn a_model_that_was_replaced_while_the_host_was_down_is_mended() {
    let host = asleep();
    let stage = host.stop();
    stage.kept("blobs/sha256", "").iter().for_each(|blob| damage(blob, 2));
    let host = stage.start();
    host.infer("add", &sum()).status(200);
}

#[test]
fn a_compiled_module_that_was_changed_is_compiled_anew() {
    let host = asleep();
    host.stage().kept("compiled", ".cwasm").iter().for_each(|file| damage(file, 8));
    host.infer("add", &sum()).status(200);
    assert!(host.stage().log().contains("compiled anew"), "{}", host.stage().log());

    // And while the host is down.
    let mut stage = host.stop();
    for ending in [".cwasm", ".tag"] {
        stage.kept("compiled", ending).iter().for_each(|file| damage(file, 8));
        let host = stage.start();
        host.infer("add", &sum()).status(200);
        stage = host.stop();
    }
}

#[test]
fn a_compiled_module_that_was_cut_short_is_compiled_anew() {
    let host = asleep();
    for file in host.stage().kept("compiled", ".cwasm") {
        let length = fs::metadata(&file).expect("it is there").len();
        File::options().write(true).open(&file).and_then(|file| file.set_len(length / 2)).expect("it can be cut");
    }
    adds(&host);
    assert!(host.stage().log().contains("compiled anew"), "{}", host.stage().log());
}

#[test]
fn a_compiled_module_cannot_stand_in_for_another() {
    let host = TestHost::builder().function("add", quick).function("probe", |manifest| manifest).start();
    adds(&host);
    host.until_state("add", "Cold");
    // Both are this host's own, whole, and of the same version; each is put in the place of the other, with its hash.
    let stage = host.stop();
    for ending in [".cwasm", ".tag"] {
        let files = stage.kept("compiled", ending);
        let [one, other] = files.as_slice() else { panic!("two modules were compiled: {files:?}") };
        let away = stage.path("away");
        fs::rename(one, &away)
            .and_then(|()| fs::rename(other, one))
            .and_then(|()| fs::rename(&away, other))
            .expect("a swap");
    }
    let host = stage.start();
    adds(&host);
}

#[test]
fn with_another_key_nothing_that_was_compiled_is_taken() {
    let stage = asleep().stop();
    let [key]: [PathBuf; 1] = stage.kept("keys", "host.key").try_into().expect("one key");
    let tags = |stage: &Stage| stage.kept("compiled", ".tag").into_iter().map(|tag| fs::read(tag).expect("a hash"));
    let before: Vec<_> = tags(&stage).collect();
    damage(&key, 1);
    let host = stage.start();
    adds(&host);
    assert!(tags(host.stage()).zip(before).all(|(now, before)| now != before), "a file of another key was kept");
}

#[test]
fn an_optimized_model_that_was_changed_is_never_loaded() {
    if skipped_without_onnxruntime() {
        return;
    }
    let host = asleep();
    host.stage().kept("optimized", "graph.onnx").iter().for_each(|file| subtract(file));
    adds(&host);
    let stage = host.stop();
    stage.kept("optimized", "graph.onnx").iter().for_each(|file| subtract(file));
    // How it is opened counts too.
    stage.kept("optimized", "plan.json").iter().for_each(|file| fs::write(file, "{}").expect("it can be written"));
    let host = stage.start();
    adds(&host);
    host.until_state("add", "Cold");
    host.stage().kept("optimized", "").iter().for_each(|file| fs::remove_file(file).expect("it can be removed"));
    adds(&host);
}

#[test]
fn the_compiled_module_of_another_host_is_not_taken() {
    let (ours, theirs) = (asleep(), TestHost::builder().function("add", quick).start());
    let theirs = theirs.stop();
    for (ours, theirs) in ours.stage().kept("compiled", ".cwasm").iter().zip(theirs.kept("compiled", ".cwasm")) {
        let mut code = fs::read(&theirs).expect("it can be read");
        code.push(0);
        fs::write(ours, code).expect("it can be written");
        let tag = |file: &Path| file.with_added_extension("tag");
        fs::copy(tag(&theirs), tag(ours)).expect("it can be copied");
    }
    ours.infer("add", &sum()).status(200);
    assert!(ours.stage().log().contains("compiled anew"), "{}", ours.stage().log());
}

#[test]
fn missing_parts_of_the_state_are_made_again() {
    let host = asleep();
    for file in host.stage().kept("compiled", "") {
        fs::remove_file(file).expect("it can be removed");
    }
    host.infer("add", &sum()).status(200);
    let stage = host.stop();
    fs::remove_dir_all(stage.state()).expect("it can be removed");
    stage.start().infer("add", &sum()).status(200);
}

#[test]
fn unsigned_bundles_run_only_where_the_operator_says_so_aloud() {
    let stage = TestHost::builder().flag("--insecure-allow-unsigned");
    let bundle = stage.bundle("suspect");
    Recipe::of("add").pack(&bundle);
    stage.manifest(&Recipe::of("add").manifest(&bundle).set("scale.idle-timeout", forever()));
    let host = stage.start();
    host.infer("add", &sum()).status(200);
    assert_eq!(host.status("add")["publishers"], json!([]));
    assert!(host.stage().log().contains("WARN bundles need no signature"), "{}", host.stage().log());
    assert!(host.admin("/metrics").text().contains("\ntorpor_insecure_allow_unsigned 1\n"));
}

#[test]
fn an_unsigned_bundle_must_still_be_whole() {
    let stage = TestHost::builder().flag("--insecure-allow-unsigned");
    let bundle = stage.bundle("suspect");
    Recipe::of("add").pack(&bundle);
    flip(&bundle, b"\0asm\x0d\0\x01\0", 100);
    stage.manifest(&Recipe::of("add").manifest(&bundle));
    let host = stage.start();
    assert_eq!(host.status("add")["state"], "Failed");
}

#[test]
fn a_host_that_wants_signatures_does_not_say_the_opposite() {
    let host = TestHost::builder().function("add", |manifest| manifest).start();
    assert!(!host.admin("/metrics").text().contains("insecure"));
    assert_eq!(host.status("add")["publishers"], json!(["dev"]));
}
