//! Pairs of keys, and openssl's opinion of them.

use crate::fixture::{Fixture, have};
use std::{fs, process::Command};
use torpor_bundle::{Error, PrivateKey, keygen};

fn openssl(arguments: &[&str], fixture: &Fixture) -> String {
    let output = Command::new("openssl").args(arguments).current_dir(fixture.path("")).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn keys_are_never_overwritten() {
    let fixture = Fixture::new();
    let files = fixture.keygen("acme");
    let before = fs::read(&files.private).unwrap();
    assert!(matches!(keygen(&fixture.path("acme")), Err(Error::KeyExists { path }) if path == files.private));
    assert_eq!(fs::read(&files.private).unwrap(), before);
    // With only the public half there, no new private one is left behind.
    fs::remove_file(&files.private).unwrap();
    assert!(matches!(keygen(&fixture.path("acme")), Err(Error::KeyExists { path }) if path == files.public));
    assert!(!files.private.exists());
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_a_private_key() {
    use std::os::unix::fs::PermissionsExt as _;
    let files = Fixture::new().keygen("acme.v2");
    assert!(files.private.ends_with("acme.v2.key.pem"));
    let fixture = Fixture::new();
    let files = fixture.keygen("acme");
    assert_eq!(fs::metadata(files.private).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_is_no_key_is_told() {
    let fixture = Fixture::new();
    let files = fixture.keygen("acme");
    assert!(matches!(PrivateKey::read(&files.public), Err(Error::Key { kind: "private", .. })));
    assert!(matches!(PrivateKey::read(&fixture.path("none")), Err(Error::Io { action: "read", .. })));
}

#[test]
fn openssl_reads_our_keys() {
    if !have("openssl") {
        return eprintln_skip();
    }
    let fixture = Fixture::new();
    let files = fixture.keygen("acme");
    let from_private = openssl(&["pkey", "-in", "acme.key.pem", "-pubout"], &fixture);
    assert_eq!(from_private, fs::read_to_string(&files.public).unwrap());
    assert!(openssl(&["pkey", "-pubin", "-in", "acme.pub.pem", "-noout", "-text"], &fixture).contains("ED25519"));
    openssl(&["pkey", "-pubin", "-in", "acme.pub.pem", "-outform", "DER", "-out", "acme.der"], &fixture);
    let digest = openssl(&["dgst", "-sha256", "acme.der"], &fixture);
    assert!(digest.trim().ends_with(&files.keyid), "{digest}");
}

#[test]
fn we_read_keys_of_openssl() {
    if !have("openssl") {
        return eprintln_skip();
    }
    let fixture = Fixture::new();
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", "acme.key.pem"], &fixture);
    openssl(&["pkey", "-in", "acme.key.pem", "-pubout", "-out", "acme.pub.pem"], &fixture);
    fixture.pack();
    fixture.sign("acme");
    let verified = fixture.verify(&fixture.policy(&[("acme", "\"*\"", "")])).unwrap();
    assert_eq!(verified.publishers, ["acme"]);
    // A key of another kind is refused by name.
    openssl(&["genpkey", "-algorithm", "x25519", "-out", "other.key.pem"], &fixture);
    assert!(matches!(PrivateKey::read(&fixture.path("other.key.pem")), Err(Error::Key { .. })));
}

/// The check that `docs/bundles.md` gives for people without this program.
#[test]
fn openssl_verifies_our_signature() {
    if !have("openssl") {
        return eprintln_skip();
    }
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let fixture = Fixture::signed();
    let file = fs::read(fixture.bundle()).unwrap();
    let text = String::from_utf8_lossy(&file);
    let field = |name: &str| {
        let begin = text.find(&format!("\"{name}\":\"")).unwrap() + name.len() + 4;
        BASE64_STANDARD.decode(&text[begin..begin + text[begin..].find('"').unwrap()]).unwrap()
    };
    let payload = field("payload");
    let mut signed = format!("DSSEv1 28 application/vnd.in-toto+json {} ", payload.len()).into_bytes();
    signed.extend(&payload);
    fixture.write("signed", &signed);
    fixture.write("sig", &field("sig"));
    let verify =
        ["pkeyutl", "-verify", "-pubin", "-inkey", "acme.pub.pem", "-rawin", "-in", "signed", "-sigfile", "sig"];
    openssl(&verify, &fixture);
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn eprintln_skip() {
    eprintln!("skipped: openssl is not installed");
}
