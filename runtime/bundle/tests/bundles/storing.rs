//! The content store: damage, repair, the check before use.

use crate::fixture::{Fixture, MODEL};
use std::{
    fs::{self, File, FileTimes},
    time::{Duration, SystemTime},
};
use torpor_bundle::{Bundle, Error, Readings, Store, Verified, verify_kept};

fn verified(fixture: &Fixture) -> Verified<Bundle> {
    fixture.verify(&fixture.policy(&[("acme", "\"*\"", "")])).unwrap()
}

#[test]
fn a_blob_has_its_digest_as_its_name() {
    let fixture = Fixture::signed();
    let model = &verified(&fixture).models["standard"].blob;
    assert_eq!(model.path, fixture.path("state/blobs/sha256").join(model.digest.hex()));
    model.check().unwrap();
}

#[test]
fn damage_is_found_before_use_and_mended_by_the_next_deployment() {
    let forged = b"WEIGHTS OF A MODEL";
    let damages: [fn(&std::path::Path); 4] = [
        |path| fs::write(path, b"WEIGHTS OF A MODEL").unwrap(),
        |path| fs::write(path, b"weights").unwrap(),
        |path| fs::remove_file(path).unwrap(),
        |path| {
            fs::write(path.with_extension("new"), b"WEIGHTS OF A MODEL").unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        },
    ];
    assert_eq!(forged.len(), MODEL.len());
    for damage in damages {
        let fixture = Fixture::signed();
        let bundle = verified(&fixture);
        let blob = &bundle.models["standard"].blob;
        damage(&blob.path);
        let error = blob.check().unwrap_err();
        assert!(matches!(error, Error::Blob { digest, .. } if digest == blob.digest) && error.is_refusal(), "{error}");
        // It stays refused, and clones share the finding.
        assert!(blob.clone().check().is_err());
        verified(&fixture).models["standard"].blob.check().unwrap();
        assert_eq!(fs::read(&blob.path).unwrap(), MODEL);
        // The old value sees that the file is whole again.
        blob.check().unwrap();
    }
}

/// A program that sets the time of modification back does not hide a change, since the inode's own time goes on.
#[cfg(unix)]
#[test]
fn a_change_under_the_same_length_and_time_is_found() {
    let fixture = Fixture::signed();
    let bundle = verified(&fixture);
    let blob = &bundle.models["standard"].blob;
    let modified = fs::metadata(&blob.path).unwrap().modified().unwrap();
    // The clock of a file system is coarse.
    std::thread::sleep(Duration::from_millis(20));
    fs::write(&blob.path, b"WEIGHTS OF A MODEL").unwrap();
    File::options().write(true).open(&blob.path).unwrap().set_times(FileTimes::new().set_modified(modified)).unwrap();
    assert!(blob.check().is_err());
}

#[test]
fn a_file_that_only_looks_different_is_read_and_passes() {
    let fixture = Fixture::signed();
    let bundle = verified(&fixture);
    let blob = &bundle.module;
    let file = File::options().write(true).open(&blob.path).unwrap();
    file.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH)).unwrap();
    blob.check().unwrap();
    blob.check().unwrap();
}

#[test]
fn a_whole_blob_is_not_written_again() {
    let fixture = Fixture::signed();
    let before = fs::metadata(&verified(&fixture).module.path).unwrap().modified().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(fs::metadata(&verified(&fixture).module.path).unwrap().modified().unwrap(), before);
    // Config, module and model; manifest and index; of the signature the manifest, its empty config and the envelope.
    assert_eq!(fixture.stored(), 8);
}

#[test]
fn a_bundle_that_was_read_is_judged_for_each_function_and_read_again_when_it_changed() {
    let fixture = Fixture::signed();
    let policy = fixture.policy(&[("acme", "\"echo\", \"other\"", "")]);
    let (readings, store) = (Readings::default(), fixture.store());
    let read = |name: &str| readings.verify(&fixture.bundle(), &name.parse().unwrap(), Some(&policy), &store);
    let bundle = read("echo").unwrap();
    // What was read need not be there any more: nothing is read for the others.
    let aside = fixture.path("aside");
    fs::rename(&bundle.module.path, &aside).unwrap();
    let other = read("other").unwrap();
    assert_eq!((other.manifest_digest, &other.publishers), (bundle.manifest_digest, &bundle.publishers));
    assert!(matches!(read("foreign").unwrap_err(), Error::NotAllowed { .. }), "the policy is asked for each");
    assert!(!bundle.module.path.exists());

    // A file that looks different is another bundle, and so is one that is asked for later.
    let content = fs::read(fixture.bundle()).unwrap();
    let mut damaged = content.clone();
    damaged[600] ^= 1;
    let replace = |content: &[u8]| {
        // Another file, since the clock of a file system is coarse.
        fs::write(fixture.path("new"), content).unwrap();
        fs::rename(fixture.path("new"), fixture.bundle()).unwrap();
    };
    replace(&damaged);
    assert!(matches!(read("echo").unwrap_err(), Error::Damaged { .. }));
    replace(&content);
    readings.clear();
    read("echo").unwrap();
    assert!(bundle.module.path.exists(), "it is read again, and mends the store");

    // A bundle that nobody may run leaves nothing in the store, whoever asked before.
    let strict = fixture.policy(&[("acme", "\"vision\"", "")]);
    let readings = Readings::default();
    let (strange, elsewhere) = (&"echo".parse().unwrap(), Store::open(&fixture.path("elsewhere")).unwrap());
    readings.verify(&fixture.bundle(), strange, Some(&strict), &elsewhere).unwrap_err();
    assert_eq!(fixture.path("elsewhere/blobs/sha256").read_dir().unwrap().count(), 0);

    let kept = readings.verify_kept(bundle.index, &"other".parse().unwrap(), Some(&policy), &store).unwrap();
    assert_eq!(kept.blobs, bundle.blobs);
    let foreign = readings.verify_kept(bundle.index, &"foreign".parse().unwrap(), Some(&policy), &store);
    assert!(matches!(foreign.unwrap_err(), Error::NotAllowed { .. }));
}

#[test]
fn a_kept_bundle_is_verified_again_without_its_file() {
    let fixture = Fixture::signed();
    let policy = fixture.policy(&[("acme", "\"*\"", "")]);
    let bundle = verified(&fixture);
    fs::remove_file(fixture.bundle()).unwrap();
    let (name, store) = ("echo".parse().unwrap(), fixture.store());
    let kept = verify_kept(bundle.index, &name, Some(&policy), &store).unwrap();
    assert_eq!((kept.manifest_digest, &kept.publishers), (bundle.manifest_digest, &bundle.publishers));
    assert_eq!((&kept.blobs, kept.blobs.len()), (&bundle.blobs, fixture.stored()));
    assert_eq!(kept.module.digest, bundle.module.digest);

    // What the policy says now counts.
    let revoked = fixture.policy(&[("acme", "\"*\"", "revoked = true")]);
    let error = verify_kept(bundle.index, &name, Some(&revoked), &store).unwrap_err();
    assert!(matches!(error, Error::Revoked { .. }), "{error}");
    let error = verify_kept(bundle.module.digest, &name, Some(&policy), &store).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "a blob that is no index: {error}");

    for blob in &bundle.blobs {
        let path = fixture.path("state/blobs/sha256").join(blob.hex());
        let content = fs::read(&path).unwrap();
        let mut other = content.clone();
        other[0] ^= 1;
        fs::write(&path, other).unwrap();
        let error = verify_kept(bundle.index, &name, Some(&policy), &store).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        fs::remove_file(&path).unwrap();
        assert!(verify_kept(bundle.index, &name, Some(&policy), &store).is_err());
        fs::write(&path, content).unwrap();
    }
    verify_kept(bundle.index, &name, Some(&policy), &store).unwrap();
}

#[test]
fn only_what_nothing_names_is_collected() {
    let fixture = Fixture::signed();
    let bundle = verified(&fixture);
    let store = fixture.store();
    fs::write(fixture.path("state/blobs/sha256/.new-half"), b"half").unwrap();
    assert_eq!(store.collect(&bundle.blobs.iter().copied().collect()).unwrap(), 0);
    let keep = [bundle.module.digest].into();
    assert_eq!(store.collect(&keep).unwrap(), bundle.blobs.len() - 1);
    bundle.module.check().unwrap();
    assert!(fixture.path("state/blobs/sha256/.new-half").exists(), "it is being written by somebody");
}

#[test]
fn what_a_crash_left_is_removed_when_it_is_old() {
    let fixture = Fixture::signed();
    fixture.store();
    let (old, new) = (fixture.path("state/blobs/sha256/.new-old"), fixture.path("state/blobs/sha256/.new-new"));
    #[expect(clippy::disallowed_methods, reason = "files have such times")]
    let long_ago = SystemTime::now() - Duration::from_secs(48 * 60 * 60);
    File::create(&old).unwrap().set_times(FileTimes::new().set_modified(long_ago)).unwrap();
    File::create(&new).unwrap();
    Store::open(&fixture.path("state")).unwrap();
    // The new one may belong to another process.
    assert!(!old.exists() && new.exists());
}
