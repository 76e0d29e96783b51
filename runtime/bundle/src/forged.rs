//! Tests with bundles that [`pack`](crate::pack) and [`sign`](crate::sign) would never write: what an attacker who knows the
//! format could make. Each forgery is whole as a tar, with all digests right, and wrong in one place.

use crate::{
    Config, Digest, Error, PrivateKey, Store, TrustPolicy, accept_unsigned,
    archive::{self, Content},
    config::Wire,
    digest::Piece,
    dsse::{Envelope, Statement},
    inspect,
    oci::{self, EMPTY_CONTENT, Index, Manifest},
    verify,
};
use ed25519_dalek::{SigningKey, pkcs8::EncodePublicKey};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use torpor_manifest::FunctionName;

const MODULE: &[u8] = b"\0asm\x0d\0\x01\0";
const MODEL: &[u8] = b"weights";

fn config() -> Config {
    Config {
        name: "echo".parse().unwrap(),
        version: "1".to_owned(),
        description: None,
        license: None,
        signature: None,
        models: BTreeMap::from([("standard".parse().unwrap(), "onnx".to_owned())]),
    }
}

fn acme() -> PrivateKey {
    PrivateKey(SigningKey::from_bytes(&[7; 32]))
}

/// A policy that trusts [`acme`] with everything.
fn policy() -> TrustPolicy {
    let pem = acme().0.verifying_key().to_public_key_pem(Default::default()).unwrap();
    let text = format!("[[publisher]]\nname = \"acme\"\nkey = '''{pem}'''\nfunctions = [\"*\"]\n");
    TrustPolicy::parse(Path::new("trust.toml"), &text).unwrap()
}

/// What to write; a test changes one part, and all that depends on it follows.
struct Parts {
    config: Vec<u8>,
    manifest: Box<dyn Fn(Piece) -> Vec<u8>>,
    statement: Option<Box<dyn Fn(Piece) -> Statement>>,
    envelope: Box<dyn Fn(Vec<u8>) -> Vec<u8>>,
    index: Box<dyn Fn(Vec<u8>) -> Vec<u8>>,
    stray: Option<Vec<u8>>,
}

impl Parts {
    /// A good bundle, signed by [`acme`].
    fn good() -> Self {
        let models = BTreeMap::from([("standard".parse().unwrap(), Piece::of(MODEL))]);
        Parts {
            config: oci::encode(&Wire::new(&config())),
            manifest: Box::new(move |content| {
                oci::encode(&Manifest::function(&config(), content, Piece::of(MODULE), &models))
            }),
            statement: Some(Box::new(|manifest| Statement::new(manifest.digest, &config()))),
            envelope: Box::new(|envelope| envelope),
            index: Box::new(|index| index),
            stray: None,
        }
    }

    fn write(self) -> Forged {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("forged.torpor");
        let manifest = (self.manifest)(Piece::of(&self.config));
        let mut documents = vec![MODULE.to_vec(), MODEL.to_vec()];
        let mut referrers = Vec::new();
        if let Some(statement) = self.statement {
            let envelope = Envelope::sign(&acme().0, &statement(Piece::of(&manifest)));
            let envelope = (self.envelope)(oci::encode(&envelope));
            let named = oci::decode::<Envelope>(&envelope).map(|envelope| envelope.keyid().to_owned());
            let id = named.unwrap_or_else(|_| acme().keyid());
            let referrer = oci::encode(&Manifest::signature(Piece::of(&manifest), Piece::of(&envelope), &id));
            referrers.push(Piece::of(&referrer));
            documents.extend([envelope, referrer, EMPTY_CONTENT.to_vec()]);
        }
        let index = (self.index)(oci::encode(&Index::new(Piece::of(&manifest), "1", referrers)));
        documents.extend([self.config, manifest]);
        documents.extend(self.stray);
        let blobs = documents.into_iter().map(|document| (Digest::of(&document), Content::Bytes(document))).collect();
        archive::write(&path, &blobs, &index, &()).unwrap();
        Forged { folder, path }
    }
}

struct Forged {
    folder: TempDir,
    path: PathBuf,
}

impl Forged {
    fn verify(&self) -> Result<(), Error> {
        let name: FunctionName = "echo".parse().unwrap();
        let store = Store::open(self.folder.path()).unwrap();
        let verified = verify(&self.path, &name, &policy(), &store).map(drop);
        if verified.is_err() {
            let blobs = self.folder.path().join("blobs").join("sha256").read_dir().unwrap();
            assert_eq!(blobs.count(), 0, "a refused bundle left something in the store");
        }
        verified
    }
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Parts), expected: &str) {
    let mut parts = Parts::good();
    change(&mut parts);
    let error = parts.write().verify().unwrap_err();
    assert!(error.is_refusal(), "{error}");
    assert!(error.to_string().contains(expected), "{error}");
}

/// Replaces text in a document.
fn replacing(from: &'static str, to: &'static str) -> impl Fn(Vec<u8>) -> Vec<u8> {
    move |document| {
        let text = String::from_utf8(document).unwrap();
        assert!(text.contains(from), "{text}");
        text.replacen(from, to, 1).into_bytes()
    }
}

#[test]
fn the_unchanged_parts_are_accepted() {
    Parts::good().write().verify().unwrap();
}

#[test]
fn a_signature_that_was_made_for_another_bundle() {
    let other = |_| Statement::new(Digest::of(b"another"), &config());
    refused(
        |parts| parts.statement = Some(Box::new(other)),
        "false signature in the name of `acme`: it was made for another",
    );
}

#[test]
fn a_signature_that_names_another_function_or_version() {
    let version = |manifest: Piece| Statement::new(manifest.digest, &Config { version: "2".to_owned(), ..config() });
    refused(|parts| parts.statement = Some(Box::new(version)), "it names another function or version");
    let name =
        |manifest: Piece| Statement::new(manifest.digest, &Config { name: "other".parse().unwrap(), ..config() });
    refused(|parts| parts.statement = Some(Box::new(name)), "it names another function or version");
}

#[test]
fn an_envelope_of_another_type_of_payload() {
    let change = replacing("application/vnd.in-toto+json", "application/vnd.in-toto+jsom");
    refused(|parts| parts.envelope = Box::new(change), "the signature does not fit");
}

#[test]
fn an_envelope_in_another_spelling() {
    refused(
        |parts| parts.envelope = Box::new(replacing(",", ", ")),
        "a signature cannot be read: it is not in canonical form",
    );
}

#[test]
fn an_envelope_with_two_signatures() {
    let change = replacing("}]", "},{\"keyid\":\"\",\"sig\":\"\"}]");
    refused(|parts| parts.envelope = Box::new(change), "a signature cannot be read");
}

#[test]
fn a_key_id_that_would_steer_a_terminal() {
    let id = acme().keyid();
    let change = move |envelope| String::from_utf8(envelope).unwrap().replace(&id, "\\u001b[2J").into_bytes();
    refused(|parts| parts.envelope = Box::new(change), "the manifest of a signature does not fit it");
}

#[test]
fn an_index_in_another_spelling() {
    refused(
        |parts| parts.index = Box::new(replacing(":2}", ": 2}")),
        "`index.json` cannot be read: it is not in canonical",
    );
    refused(|parts| parts.index = Box::new(replacing(":2}", ":2,\"x\":1}")), "`index.json` cannot be read");
}

#[test]
fn an_index_of_something_else() {
    let change = replacing("vnd.torpor.function.v1", "vnd.torpor.function.v2");
    refused(|parts| parts.index = Box::new(change), "is not that of a function");
    refused(|parts| parts.index = Box::new(|_| b"[]".to_vec()), "cannot be read");
    let empty = br#"{"manifests":[],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}"#;
    refused(|parts| parts.index = Box::new(|_| empty.to_vec()), "is not that of a function");
}

#[test]
fn an_index_that_would_fill_memory() {
    let limit = usize::try_from(archive::MAX_DOCUMENT).unwrap();
    refused(|parts| parts.index = Box::new(move |_| vec![b' '; limit + 1]), "longer than");
}

#[test]
fn a_tag_that_is_not_the_version() {
    let change =
        replacing("\"org.opencontainers.image.ref.name\":\"1\"", "\"org.opencontainers.image.ref.name\":\"2\"");
    refused(|parts| parts.index = Box::new(change), "do not fit each other");
}

#[test]
fn a_blob_that_belongs_to_nothing() {
    refused(|parts| parts.stray = Some(b"a passenger".to_vec()), "a blob that does not belong to it");
}

#[test]
fn a_model_that_would_be_written_elsewhere() {
    let good = Parts::good().manifest;
    let change = replacing("\"standard.onnx\"", "\"../../x.onnx\"");
    refused(|parts| parts.manifest = Box::new(move |content| change(good(content))), "do not fit each other");
}

#[test]
fn a_manifest_of_other_models_than_the_config() {
    let good = Parts::good().manifest;
    let change = replacing("\"vnd.torpor.model.name\":\"standard\"", "\"vnd.torpor.model.name\":\"stand\"");
    refused(|parts| parts.manifest = Box::new(move |content| change(good(content))), "do not fit each other");
}

#[test]
fn a_config_that_no_recipe_gives() {
    let change = replacing("\"version\":\"1\"", "\"version\":\"\\u001b\"");
    refused(|parts| parts.config = change(std::mem::take(&mut parts.config)), "its config is wrong: a version has");
}

#[test]
fn trust_is_decided_before_anything_of_the_publisher_is_parsed() {
    let garbage = || Parts { config: b"{".to_vec(), manifest: Box::new(|_| b"garbage".to_vec()), ..Parts::good() };
    // Signed, it gets as far as its manifest. Unsigned, it does not.
    assert!(matches!(garbage().write().verify(), Err(Error::Damaged { why, .. }) if why.contains("its manifest")));
    assert!(matches!(Parts { statement: None, ..garbage() }.write().verify(), Err(Error::Unsigned { .. })));
}

#[test]
fn an_inspection_tells_a_signature_of_another_bundle() {
    let mut parts = Parts::good();
    parts.statement = Some(Box::new(|_| Statement::new(Digest::of(b"another"), &config())));
    let report = inspect(&parts.write().path).unwrap();
    assert_eq!(report.signatures[0].problem.as_deref(), Some("it was made for another bundle"));
    assert!(!report.signatures[0].intact);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Garbage behind right digests reaches the parsers of documents. It is refused, and nothing panics.
    #[test]
    fn garbage_documents_are_refused(which in 0..3, at in any::<prop::sample::Index>(), garbage in any::<Vec<u8>>()) {
        let spoil = move |mut document: Vec<u8>| {
            let at = at.index(document.len());
            document.splice(at..(at + garbage.len()).min(document.len()), garbage.iter().copied());
            document
        };
        let good = Parts::good();
        let mut parts = Parts::good();
        match which {
            0 => parts.config = spoil(parts.config),
            1 => parts.manifest = Box::new(move |content| spoil((good.manifest)(content))),
            _ => parts.index = Box::new(spoil),
        }
        let forged = parts.write();
        let store = Store::open(forged.folder.path()).unwrap();
        if let Ok(bundle) = accept_unsigned(&forged.path, &store) {
            // Some spoiled texts are still texts, and an empty splice spoils nothing.
            prop_assert!(bundle.publisher.is_none());
        }
    }
}
