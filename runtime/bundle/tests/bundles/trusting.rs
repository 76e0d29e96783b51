//! Which signatures count for whom.

use crate::fixture::Fixture;
use std::fs;
use torpor_bundle::{Error, TrustPolicy, accept_unsigned, inspect, verify_file};

#[test]
fn a_trusted_publisher_is_named() {
    let fixture = Fixture::signed();
    let policy = fixture.policy(&[("acme", "\"vision-*\", \"ec*\"", "")]);
    assert_eq!(fixture.verify(&policy).unwrap().publishers, ["acme"]);
    let report = verify_file(&fixture.bundle(), &policy, Some(&"echo".parse().unwrap())).unwrap();
    assert_eq!(report.publishers, ["acme"]);
    assert_eq!((report.signatures[0].publisher.as_deref(), report.signatures[0].counts), (Some("acme"), Some(true)));
}

#[test]
fn an_unsigned_bundle_is_refused() {
    let fixture = Fixture::new();
    fixture.pack();
    fixture.keygen("acme");
    let error = fixture.verify(&fixture.policy(&[("acme", "\"*\"", "")])).unwrap_err();
    assert!(matches!(error, Error::Unsigned { .. }) && error.is_refusal(), "{error}");
    assert_eq!(fixture.stored(), 0);
    assert!(accept_unsigned(&fixture.bundle(), &fixture.store()).unwrap().publishers.is_empty());
}

#[test]
fn a_key_that_the_policy_does_not_know_is_refused() {
    let fixture = Fixture::signed();
    let keyid = inspect(&fixture.bundle()).unwrap().signatures[0].keyid.clone();
    fixture.keygen("other");
    for policy in [TrustPolicy::default(), fixture.policy(&[("other", "\"*\"", "")])] {
        let error = fixture.verify(&policy).unwrap_err();
        assert!(matches!(&error, Error::Untrusted { keys, .. } if keys.contains(&keyid)), "{error}");
    }
    assert_eq!(fixture.stored(), 0);
}

#[test]
fn a_revoked_key_is_refused() {
    let fixture = Fixture::signed();
    let policy = fixture.policy(&[("acme", "\"*\"", "revoked = true")]);
    assert!(matches!(fixture.verify(&policy), Err(Error::Revoked { publisher, .. }) if publisher == "acme"));
    assert!(matches!(verify_file(&fixture.bundle(), &policy, None), Err(Error::Revoked { .. })));
}

#[test]
fn a_publisher_may_provide_only_what_the_policy_allows() {
    let fixture = Fixture::signed();
    let policy = fixture.policy(&[("acme", "\"vision-*\", \"ech\"", "")]);
    let error = fixture.verify(&policy).unwrap_err();
    assert!(matches!(error, Error::NotAllowed { .. }), "{error}");
    assert!(error.to_string().contains("allows only `vision-*` and `ech`, not `echo`"), "{error}");
    // Without a function there is nothing that must be allowed.
    verify_file(&fixture.bundle(), &policy, None).unwrap();
}

#[test]
fn one_good_signature_of_several_is_enough() {
    let fixture = Fixture::signed();
    fixture.keygen("next");
    fixture.sign("next");
    assert_eq!(inspect(&fixture.bundle()).unwrap().signatures.len(), 2);
    let publishers =
        |publishers: &[_]| fixture.verify(&fixture.policy(publishers)).map(|bundle| bundle.publishers.clone());
    // As a key is replaced: both, the old one revoked, the new one not known yet.
    assert_eq!(publishers(&[("acme", "\"*\"", ""), ("next", "\"*\"", "")]).unwrap(), ["acme", "next"]);
    assert_eq!(publishers(&[("acme", "\"*\"", "revoked = true"), ("next", "\"*\"", "")]).unwrap(), ["next"]);
    assert_eq!(publishers(&[("acme", "\"*\"", "")]).unwrap(), ["acme"]);
}

#[test]
fn signing_twice_changes_nothing() {
    let fixture = Fixture::signed();
    let once = fs::read(fixture.bundle()).unwrap();
    assert_eq!(fixture.sign("acme"), once);
    fixture.keygen("other");
    let both = fixture.sign("other");
    assert_eq!(fixture.sign("acme"), both);
}

#[test]
fn signing_keeps_the_digest() {
    let fixture = Fixture::new();
    fixture.pack();
    let before = inspect(&fixture.bundle()).unwrap();
    fixture.keygen("acme");
    fixture.sign("acme");
    assert_eq!(inspect(&fixture.bundle()).unwrap().digest, before.digest);
}

#[test]
fn a_signature_says_nothing_of_another_bundle() {
    let fixture = Fixture::signed();
    let signed = fs::read(fixture.bundle()).unwrap();
    fixture.write("model.onnx", b"WEIGHTS OF A MODEL");
    let other = fixture.pack();
    assert!(signed.len() > other.len());
    assert!(matches!(fixture.verify(&fixture.policy(&[("acme", "\"*\"", "")])), Err(Error::Unsigned { .. })));
}
