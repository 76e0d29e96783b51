//! Every byte, every length, garbage: a file that is not exactly as it was signed is refused, and nothing panics.

use crate::fixture::{Fixture, MODEL, MODULE};
use proptest::prelude::*;
use std::{
    fs,
    io::{Seek, Write},
};
use torpor_bundle::{Digest, Error, TrustPolicy, accept_unsigned, inspect, sign, verify_file};

/// Refused, and for a reason that is about the file.
#[track_caller]
fn refused(fixture: &Fixture, policy: &TrustPolicy, what: &str) {
    match fixture.verify(policy) {
        Ok(_) => panic!("{what} was accepted"),
        Err(error) => assert!(error.is_refusal(), "{what}: {error}"),
    }
}

#[test]
fn every_flipped_byte_is_refused() {
    let fixture = Fixture::signed();
    let policy = fixture.policy(&[("acme", "\"*\"", "")]);
    let good = fs::read(fixture.bundle()).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        // Each of the eight bits has its turn; half of the time all of them.
        bad[at] ^= if at % 16 < 8 { 1 << (at % 8) } else { 0xff };
        fs::write(fixture.bundle(), &bad).unwrap();
        refused(&fixture, &policy, &format!("byte {at} flipped"));
    }
    fs::write(fixture.bundle(), &good).unwrap();
    fixture.verify(&policy).unwrap();
}

/// As above, where no signature is asked for: the digests alone must find it, up to what an attacker could write anew.
#[test]
fn every_flipped_byte_is_refused_without_a_policy_too() {
    let fixture = Fixture::signed();
    let good = fs::read(fixture.bundle()).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(fixture.bundle(), &bad).unwrap();
        assert!(matches!(inspect(&fixture.bundle()), Err(Error::Damaged { .. })), "byte {at} flipped");
    }
}

#[test]
fn every_other_length_is_refused() {
    let fixture = Fixture::signed();
    let policy = fixture.policy(&[("acme", "\"*\"", "")]);
    let good = fs::read(fixture.bundle()).unwrap();
    for length in 0..good.len() {
        fs::write(fixture.bundle(), &good[..length]).unwrap();
        refused(&fixture, &policy, &format!("a bundle of {length} bytes"));
    }
    for more in [1, 511, 512, 1024, 10240] {
        let mut longer = good.clone();
        longer.resize(good.len() + more, 0);
        fs::write(fixture.bundle(), &longer).unwrap();
        refused(&fixture, &policy, &format!("{more} zeros at the end"));
    }
}

#[test]
fn a_file_that_shrinks_to_a_hole_is_refused() {
    let fixture = Fixture::signed();
    let length = fs::metadata(fixture.bundle()).unwrap().len();
    let file = fs::File::create(fixture.bundle()).unwrap();
    file.set_len(length).unwrap();
    refused(&fixture, &TrustPolicy::default(), "a file of zeros");
}

/// Rewrites some bytes, wherever they are in the file.
fn replace(fixture: &Fixture, from: &[u8], to: &[u8]) {
    let mut file = fs::read(fixture.bundle()).unwrap();
    let at = file.windows(from.len()).position(|window| window == from).unwrap();
    file[at..at + to.len()].copy_from_slice(to);
    fs::write(fixture.bundle(), file).unwrap();
}

#[test]
fn a_tampered_model_or_module_never_gets_into_the_store() {
    for (content, forged) in [(MODEL, &b"WEIGHTS"[..]), (MODULE, b"\0asm\x01")] {
        let fixture = Fixture::signed();
        replace(&fixture, content, forged);
        let policy = fixture.policy(&[("acme", "\"*\"", "")]);
        let error = fixture.verify(&policy).unwrap_err();
        assert!(error.to_string().contains("the content of blob `sha256:"), "{error}");
        assert!(accept_unsigned(&fixture.bundle(), &fixture.store()).is_err());
        assert!(verify_file(&fixture.bundle(), &policy, None).is_err());
        let stored = fixture.path("state/blobs/sha256").read_dir().unwrap();
        for blob in stored {
            let content = fs::read(blob.unwrap().path()).unwrap();
            assert!(!content.starts_with(forged), "forged content is in the store");
        }
    }
}

/// That the store has the true model already does not make a false file true.
#[test]
fn a_tampered_model_is_refused_after_the_true_one_was_stored() {
    let fixture = Fixture::signed();
    let policy = fixture.policy(&[("acme", "\"*\"", "")]);
    let bundle = fixture.verify(&policy).unwrap();
    replace(&fixture, MODEL, b"WEIGHTS");
    refused(&fixture, &policy, "a tampered model");
    bundle.models["standard"].blob.check().unwrap();
}

#[test]
fn a_tampered_bundle_is_not_signed() {
    let fixture = Fixture::signed();
    replace(&fixture, MODEL, b"WEIGHTS");
    let tampered = fs::read(fixture.bundle()).unwrap();
    let key = torpor_bundle::PrivateKey::read(&fixture.path("acme.key.pem")).unwrap();
    assert!(matches!(sign(&key, &fixture.bundle()), Err(Error::Damaged { .. })));
    assert_eq!(fs::read(fixture.bundle()).unwrap(), tampered);
}

#[test]
fn a_folder_is_no_bundle() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.bundle()).unwrap();
    refused(&fixture, &TrustPolicy::default(), "a folder");
    fs::remove_dir(fixture.bundle()).unwrap();
    assert!(matches!(fixture.verify(&TrustPolicy::default()), Err(error @ Error::Io { .. }) if !error.is_refusal()));
}

/// A header with the right checksum for a name, a size and a kind of entry that no bundle has.
#[test]
fn a_well_formed_tar_of_something_else_is_refused() {
    let entries = [
        ("../../etc/passwd", 0, b'0'),
        ("/etc/passwd", 0, b'0'),
        ("index.json", u64::MAX >> 1, b'0'),
        ("oci-layout", 0, b'2'),
    ];
    for (name, size, kind) in entries {
        let fixture = Fixture::new();
        let mut file = fs::File::create(fixture.bundle()).unwrap();
        file.write_all(header(name, size, kind).as_bytes()).unwrap();
        file.write_all(&[0; 1024]).unwrap();
        refused(&fixture, &TrustPolicy::default(), name);
    }
}

/// A header that is as a bundle's but for its name, size and kind.
fn header(name: &str, size: u64, kind: u8) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_cksum();
    header
}

/// Some KiB on disk that would take minutes to read: a blob that nothing names, and one in the place of the model. The first is
/// refused without a look at its content; the second has another length than the manifest says, which is looked at first.
#[test]
fn a_bomb_of_holes_is_not_read() {
    const HUGE: u64 = 256 << 30;
    for (digest, words) in
        [("0".repeat(64), "a blob that does not belong"), (Digest::of(MODEL).hex(), "another length")]
    {
        let fixture = Fixture::signed();
        let policy = fixture.policy(&[("acme", "\"*\"", "")]);
        let good = fs::read(fixture.bundle()).unwrap();
        let mut file = fs::File::create(fixture.bundle()).unwrap();
        let mut at = 0;
        let mut bomb = Some(header(&format!("blobs/sha256/{digest}"), HUGE, b'0'));
        // The entries of the good one in their order, and the bomb among them.
        while good[at] != 0 {
            let entry = tar::Header::from_byte_slice(&good[at..at + 512]);
            let length = 512 + usize::try_from(entry.entry_size().unwrap().next_multiple_of(512)).unwrap();
            if let Some(found) = bomb.take_if(|bomb| bomb.path_bytes() <= entry.path_bytes()) {
                file.write_all(found.as_bytes()).unwrap();
                file.seek_relative(i64::try_from(HUGE).unwrap()).unwrap();
                if found.path_bytes() == entry.path_bytes() {
                    at += length;
                    continue;
                }
            }
            file.write_all(&good[at..at + length]).unwrap();
            at += length;
        }
        file.write_all(&good[at..]).unwrap();
        let error = fixture.verify(&policy).unwrap_err();
        assert!(error.is_refusal() && error.to_string().contains(words), "{error}");
        assert!(inspect(&fixture.bundle()).is_err());
        assert_eq!(fixture.stored(), 0);
    }
}

proptest! {
    #[test]
    fn garbage_is_refused(garbage in any::<Vec<u8>>(), blocks in 0..4_usize) {
        let fixture = Fixture::new();
        let mut file = garbage;
        file.resize(file.len() + 512 * blocks, 0);
        fixture.write("echo.torpor", &file);
        prop_assert!(fixture.verify(&TrustPolicy::default()).unwrap_err().is_refusal());
    }
}

#[test]
fn spliced_bundles_are_refused() {
    let fixture = Fixture::signed();
    let policy = fixture.policy(&[("acme", "\"*\"", "")]);
    let good = fs::read(fixture.bundle()).unwrap();
    let splice = (0..good.len() / 512, 0..good.len() / 512, 0..4_usize);
    let mut runner = proptest::test_runner::TestRunner::default();
    // Whole blocks are moved, doubled and dropped, so that the headers stay well-formed.
    let result = runner.run(&splice, |(from, to, count)| {
        let mut bad = good.clone();
        let moved: Vec<u8> = good[from * 512..].iter().copied().take(count * 512).collect();
        bad.splice(to * 512..((to + count / 2) * 512).min(good.len()), moved);
        if bad != good {
            fs::write(fixture.bundle(), &bad).unwrap();
            prop_assert!(fixture.verify(&policy).is_err());
        }
        Ok(())
    });
    result.unwrap();
}
