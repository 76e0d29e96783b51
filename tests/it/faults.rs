//! Faults around what the host keeps on disk: caches that cannot be written, files of other versions, a library that is replaced,
//! a model that is gone. Wakes may take longer then, but no answer is wrong, and only who needs what is missing fails.

use crate::fixture::{Manifest, Stage, TestHost, assets, cli, disk::SmallDisk, skipped_without_onnxruntime, until};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

fn quick(manifest: Manifest) -> Manifest {
    manifest.set("scale.idle-timeout", "10ms")
}

fn stage() -> Stage {
    TestHost::builder().function("add", quick).function("filetype", quick)
}

/// Both functions wake, give the right answer, and sleep again.
#[track_caller]
fn serves(host: &TestHost) {
    adds(host);
    classifies(host);
}

fn sum() -> Value {
    let row = |name| json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] });
    json!({ "inputs": [row("x"), row("y")] })
}

#[track_caller]
fn adds(host: &TestHost) {
    let sum = host.infer("add", &sum()).status(200).json();
    assert_eq!(sum["outputs"][0]["data"], json!([2.0, 4.0, 6.0, 8.0]));
    host.until_state("add", "Cold");
}

#[track_caller]
fn classifies(host: &TestHost) {
    let label = host.post("/fn/filetype", "<!doctype html><html><head></head><body></body></html>").status(200).json();
    assert_eq!(label["label"], "html");
    host.until_state("filetype", "Cold");
}

/// How often the host has said that.
fn said(stage: &Stage, words: &str) -> usize {
    stage.log().lines().filter(|line| line.contains(" WARN ") && line.contains(words)).count()
}

/// The counts of opens in the tiers `original`, and all others, of a function.
#[track_caller]
fn opens(host: &TestHost, function: &str) -> (u64, u64) {
    let text = host.admin("/metrics").status(200).text();
    let count = |tier: &str| -> u64 {
        let fits = |line: &&str| {
            line.starts_with("torpor_model_opens_total{")
                && line.contains(&format!("function=\"{function}\""))
                && line.contains(&format!("tier=\"{tier}\""))
        };
        let line = text.lines().find(fits).unwrap_or_else(|| panic!("no `{tier}` of `{function}` in:\n{text}"));
        line.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a count")
    };
    (count("original"), count("baseline") + count("optimized"))
}

const CANNOT_KEEP: &str = "cannot be kept";

#[test]
fn where_nothing_can_be_written_wakes_take_longer_and_that_is_said_once() {
    let stage = stage();
    let caches = ["compiled", "optimized"].map(|name| stage.state().join(name));
    fs::create_dir(stage.state()).expect("it can be made");
    // What permissions would do, if the tests did not run as one whom those do not bind.
    caches.iter().for_each(|cache| fs::write(cache, "in the way").expect("it can be written"));
    let host = stage.start();
    serves(&host);
    serves(&host);
    assert_eq!(said(host.stage(), CANNOT_KEEP), 2, "once for each folder");
    assert_eq!(said(host.stage(), "compiled anew"), 0, "nor is each wake worth a warning");
    assert_eq!(host.status("add")["wake_failures"], 0);

    // Once they can be written, all is as it should be.
    let stage = host.stop();
    caches.iter().for_each(|cache| fs::remove_file(cache).expect("it can be removed"));
    let host = stage.start();
    serves(&host);
    assert_eq!((said(host.stage(), CANNOT_KEEP), host.stage().kept("compiled", ".cwasm").len()), (2, 2));
}

#[test]
fn caches_that_vanish_under_a_running_host_only_slow_it_down() {
    let host = stage().start();
    serves(&host);
    for name in ["compiled", "optimized"] {
        let cache = host.stage().state().join(name);
        fs::remove_dir_all(&cache).and_then(|()| fs::write(&cache, "in the way")).expect("it can be replaced");
    }
    serves(&host);
    serves(&host);
    assert_eq!(said(host.stage(), CANNOT_KEEP), 2, "once for each folder");
}

#[test]
fn with_full_disks_for_its_caches_a_host_serves_without_them() {
    let stage = stage();
    let caches = ["compiled", "optimized"].map(|name| stage.state().join(name));
    let [Some(compiled), Some(optimized)] = caches.map(|cache| SmallDisk::at(&cache, "64k")) else { return };
    let host = stage.start();
    serves(&host);
    serves(&host);
    assert_eq!(said(host.stage(), CANNOT_KEEP), 1, "{}", host.stage().log());
    if assets::onnxruntime().is_some() {
        // The form of the small model fits.
        assert_eq!((opens(&host, "add").0, opens(&host, "filetype").1), (0, 0));
        assert_eq!(said(host.stage(), "has no optimized form"), 1, "{}", host.stage().log());
    }
    let stage = host.stop();
    drop((compiled, optimized));
    serves(&stage.start());
}

/// Gives all that is in a cache the names that another version, or another processor, would have given them.
fn rename(stage: &Stage, cache: &str) -> Vec<PathBuf> {
    let entries: Vec<_> = fs::read_dir(stage.state().join(cache)).expect("it is there").collect();
    let rename = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.expect("it can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a text");
        // DIGEST-HASH.cwasm, DIGEST-BACKEND-HASH-…
        let parts: Vec<_> = name.split('-').collect();
        let hash = parts.iter().position(|part| part.len() >= 16 && part.len() < 64).expect("a hash");
        let other = parts[hash].chars().map(|c| if c == '0' { '1' } else { c }).collect::<String>();
        let other = if other == parts[hash] { format!("0{}", &other[1..]) } else { other };
        let parts: Vec<_> =
            parts.iter().enumerate().map(|(at, part)| if at == hash { &*other } else { part }).collect();
        let renamed = path.with_file_name(parts.join("-"));
        fs::rename(&path, &renamed).expect("it can be renamed");
        renamed
    };
    entries.into_iter().map(rename).collect()
}

#[test]
fn what_another_version_or_processor_made_is_made_anew() {
    let host = stage().start();
    serves(&host);
    let mut foreign = rename(host.stage(), "compiled");
    foreign.extend(rename(host.stage(), "optimized"));
    serves(&host);
    assert_eq!(said(host.stage(), "compiled anew"), 2, "{}", host.stage().log());
    if assets::onnxruntime().is_some() {
        assert_eq!((opens(&host, "add").0, opens(&host, "filetype").0), (0, 0), "the forms are made anew too");
    }
    // At the next start what nobody can use goes.
    let host = host.stop().start();
    serves(&host);
    let left: Vec<_> = foreign.iter().filter(|file| file.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_library_that_is_replaced_is_told_of_once_and_answers_stay_right() {
    if skipped_without_onnxruntime() {
        return;
    }
    let stage = stage();
    let (library, newer) = (stage.path("library.so"), stage.path("newer.so"));
    for copy in [&library, &newer] {
        fs::copy(assets::onnxruntime().expect("it is there"), copy).expect("it can be copied");
    }
    let host = stage.onnxruntime(library.to_str().expect("a text")).start();
    serves(&host);
    let words = "another one than the host has loaded";
    assert_eq!(said(host.stage(), words), 0, "{}", host.stage().log());
    fs::rename(&newer, &library).expect("it can be replaced");
    serves(&host);
    serves(&host);
    assert_eq!(said(host.stage(), words), 1, "{}", host.stage().log());
    // The next host has loaded the new one.
    let host = host.stop().start();
    serves(&host);
    assert_eq!(said(host.stage(), words), 1, "{}", host.stage().log());
}

#[test]
fn a_model_that_is_gone_fails_its_function_alone_until_that_is_deployed_again() {
    let host = stage().start();
    serves(&host);
    let adds_something = |blob: &PathBuf| {
        fs::read(blob).is_ok_and(|bytes| bytes.windows(5).any(|window| window == b"\x22\x03Add"))
            && fs::metadata(blob).is_ok_and(|metadata| metadata.len() < 4096)
    };
    let blobs = host.stage().kept("blobs/sha256", "");
    let model = blobs.iter().find(|blob| adds_something(blob)).expect("the store has the model");
    fs::remove_file(model).expect("it can be removed");

    let reply = host.infer("add", &sum()).status(500);
    assert_eq!(reply.error(), "`add` is not able to start");
    let status = host.status("add");
    let name = model.file_name().and_then(|name| name.to_str()).expect("a digest");
    let cause = status["cause"].as_str().expect("a cause");
    assert!(status["state"] == "Failed" && cause.contains(name), "{status}");
    classifies(&host);

    let manifest = host.stage().path("manifests/add.toml");
    let mut deploy = cli::command();
    deploy.arg("deploy").arg(manifest).arg("--wait").args(["--admin", &host.admin.to_string()]);
    cli::finish(&mut deploy).ok();
    assert!(model.exists());
    // Within its back-off it refuses still.
    until("it wakes again", || (host.infer("add", &sum()).status == 200).then_some(()));
    serves(&host);
}

/// The folders of forms, with their sizes.
fn forms(stage: &Stage) -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(stage.state().join("optimized")).expect("it is there");
    let folders = entries.map(|entry| entry.expect("it can be read").path()).filter(|path| path.is_dir());
    let size = |folder: &Path| {
        let files = fs::read_dir(folder).expect("it is there");
        files.map(|file| file.and_then(|file| file.metadata()).expect("it can be read").len()).sum()
    };
    folders.map(|folder| (folder.clone(), size(&folder))).collect()
}

#[test]
fn a_form_that_vanishes_while_it_is_mapped_is_made_anew_by_the_next_wake() {
    if skipped_without_onnxruntime() {
        return;
    }
    let awhile = |manifest: Manifest| manifest.set("scale.idle-timeout", "3s");
    let host = TestHost::builder().function("filetype", awhile).start();
    let asks = || {
        let label = host.post("/fn/filetype", "<!doctype html><html><head></head><body></body></html>").status(200);
        assert_eq!(label.json()["label"], "html");
    };
    asks();
    let [(form, size)] = &forms(host.stage())[..] else { panic!("its model has a form") };
    let maps = || fs::read_to_string(format!("/proc/{}/maps", host.pid())).expect("the host runs");
    let name = form.to_str().expect("a text");
    assert!(maps().contains(name), "it has its weights from there");
    fs::remove_dir_all(form).expect("it can be removed");
    asks();
    assert!(maps().contains("(deleted)"));
    let status = host.status("filetype");
    assert_eq!((&status["wakes"], &status["state"], forms(host.stage()).len()), (&json!(1), &json!("Warm"), 0));

    host.until_state("filetype", "Cold");
    asks();
    assert_eq!((opens(&host, "filetype").0, host.status("filetype")["wake_failures"].as_u64()), (0, Some(0)));
    assert!(form.exists() && maps().contains(name));
    let left = forms(host.stage());
    // Its plan is learned anew, and may have another length.
    assert!(left.len() == 1 && left[0].1.abs_diff(*size) < 100, "{left:?}");
}

#[test]
fn forms_that_were_not_used_for_longest_make_room() {
    if skipped_without_onnxruntime() {
        return;
    }
    let stage = {
        let host = stage().start();
        serves(&host);
        host.stop()
    };
    let mut both = forms(&stage);
    both.sort_by_key(|(_, size)| *size);
    let [(small, _), (large, size)] = &both[..] else { panic!("each model has a form: {both:?}") };

    // The small one was not used since yesterday, and both do not fit.
    let tag = File::options().write(true).open(small.with_added_extension("tag")).expect("it has a hash");
    #[expect(clippy::disallowed_methods, reason = "files have such times")]
    tag.set_modified(SystemTime::now() - Duration::from_secs(86_400)).expect("its time can be set");
    let host = stage.flag("--optimized-limit").flag(format!("{size}B")).start();
    assert_eq!(forms(host.stage()), [(large.clone(), *size)]);
    assert!(!small.with_added_extension("tag").exists());
    serves(&host);
    serves(&host);
    assert_eq!((opens(&host, "add"), opens(&host, "filetype").0), ((2, 0), 0));
    assert_eq!(forms(host.stage()).len(), 1, "no wake makes it again while the other is in use");

    // What a start deploys without a form gets one, and the limit holds.
    let host = host.stop().start();
    serves(&host);
    let total: u64 = forms(host.stage()).iter().map(|(_, size)| size).sum();
    assert!(total <= *size, "{:?}", forms(host.stage()));
}

#[test]
fn a_form_that_alone_is_too_large_is_not_kept() {
    if skipped_without_onnxruntime() {
        return;
    }
    let host = stage().flag("--optimized-limit").flag("10KiB").start();
    serves(&host);
    serves(&host);
    assert_eq!((opens(&host, "add").0, opens(&host, "filetype")), (0, (2, 0)));
    assert_eq!(forms(host.stage()).len(), 1);
    assert_eq!(said(host.stage(), "all together may have 10240"), 1, "{}", host.stage().log());
    assert_eq!(said(host.stage(), CANNOT_KEEP), 0);
}
