//! Bundles that [`pack`](crate::pack) and [`sign`](crate::sign) would never write: what an attacker who knows the format could
//! make, for tests. A forgery is whole, with all digests right, but for the one thing that a test changes; whatever depends on that
//! thing follows it. `attacks` has the list of what is changed.

use crate::{
    Bundle, Config, Digest, Error, ModelConfig, PrivateKey, Store, TrustPolicy, Verified, accept_unsigned,
    archive::{self, Content},
    config::Wire,
    digest::Piece,
    dsse::{Envelope, Statement},
    inspect,
    oci::{self, EMPTY_CONTENT, Index, Manifest},
    read_labels, verify,
};
use ed25519_dalek::{SigningKey, pkcs8::EncodePublicKey};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use torpor_manifest::{FunctionName, ModelName};
use torpor_tensor::{DType, Dim, Signature, TensorSpec};

pub(crate) const MODULE: &[u8] = b"\0asm\x0d\0\x01\0";
pub(crate) const MODEL: &[u8] = b"weights";
/// What an OpenVINO IR has in a second file.
pub(crate) const WEIGHTS: &[u8] = b"numbers";

/// A change to some bytes.
pub(crate) type Change = Box<dyn Fn(Vec<u8>) -> Vec<u8>>;

/// What the bundle `echo` says of itself, in version `version`.
pub(crate) fn config(version: &str) -> Config {
    Config {
        name: "echo".parse().unwrap(),
        version: version.to_owned(),
        description: None,
        license: None,
        signature: None,
        models: models("onnx", &[]),
        files: BTreeSet::new(),
        snapshot_of: None,
        task: None,
    }
}

/// The model `standard`, with labels of these outputs.
fn models(format: &str, labels: &[&str]) -> BTreeMap<ModelName, ModelConfig> {
    let labels = labels.iter().map(|&output| output.to_owned()).collect();
    BTreeMap::from([("standard".parse().unwrap(), ModelConfig { format: format.to_owned(), labels })])
}

/// A key made from one number, the same in each run.
pub(crate) fn key(seed: u8) -> PrivateKey {
    PrivateKey(SigningKey::from_bytes(&[seed; 32]))
}

/// The keys of `acme` and `audit`, and one that no policy knows.
pub(crate) const ACME: u8 = 7;
pub(crate) const AUDIT: u8 = 8;
pub(crate) const STRANGER: u8 = 9;

/// The table of a policy for one key.
pub(crate) fn publisher(name: &str, seed: u8, functions: &str, more: &str) -> String {
    let pem = key(seed).0.verifying_key().to_public_key_pem(Default::default()).unwrap();
    format!("[[publisher]]\nname = \"{name}\"\nkey = \'\'\'{pem}\'\'\'\nfunctions = [\"{functions}\"]\n{more}\n")
}

/// What to write. The fields are in the order in which a bundle is made.
pub(crate) struct Parts {
    pub(crate) module: Vec<u8>,
    pub(crate) config: Vec<u8>,
    /// The function's manifest, given the piece that its config is.
    pub(crate) manifest: Box<dyn Fn(Piece) -> Vec<u8>>,
    /// The keys that sign.
    pub(crate) signers: Vec<u8>,
    /// What they sign, given the piece that the manifest is.
    pub(crate) statement: Box<dyn Fn(Piece) -> Statement>,
    pub(crate) envelope: Change,
    /// A change to the manifests of signatures.
    pub(crate) referrer: Change,
    pub(crate) index: Change,
    /// A blob beside those that belong to the bundle.
    pub(crate) stray: Option<Vec<u8>>,
    /// A blob that is left out.
    pub(crate) absent: Option<Digest>,
    /// A change to the whole file.
    pub(crate) file: Change,
    /// The policy of the operator, given the bundle's digest.
    pub(crate) policy: Box<dyn Fn(Digest) -> String>,
}

impl Parts {
    /// A good bundle, signed by `acme` and `audit`, for an operator who trusts either.
    pub(crate) fn good() -> Self {
        Parts {
            module: MODULE.to_vec(),
            config: oci::encode(&Wire::new(&config("1"))),
            manifest: Box::new(|content| manifest(content, MODEL)),
            signers: vec![ACME, AUDIT],
            statement: Box::new(|manifest| Statement::new(manifest.digest, &config("1"))),
            envelope: Box::new(|envelope| envelope),
            referrer: Box::new(|referrer| referrer),
            index: Box::new(|index| index),
            stray: None,
            absent: None,
            file: Box::new(|file| file),
            policy: Box::new(|_| publisher("acme", ACME, "*", "") + &publisher("audit", AUDIT, "*", "")),
        }
    }

    pub(crate) fn write(self) -> Forged {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("forged.torpor");
        let manifest = (self.manifest)(Piece::of(&self.config));
        let mut documents = vec![self.module, MODEL.to_vec(), self.config];
        let mut referrers = Vec::new();
        for seed in self.signers {
            let envelope = Envelope::sign(&key(seed).0, &(self.statement)(Piece::of(&manifest)));
            let envelope = (self.envelope)(oci::encode(&envelope));
            let named = oci::decode::<Envelope>(&envelope).map(|envelope| envelope.keyid().to_owned());
            let id = named.unwrap_or_else(|_| key(seed).keyid());
            let referrer = oci::encode(&Manifest::signature(Piece::of(&manifest), Piece::of(&envelope), &id));
            let referrer = (self.referrer)(referrer);
            referrers.push(Piece::of(&referrer));
            documents.extend([envelope, referrer, EMPTY_CONTENT.to_vec()]);
        }
        let digest = Digest::of(&manifest);
        let index = (self.index)(oci::encode(&Index::new(Piece::of(&manifest), "1", referrers)));
        documents.push(manifest);
        documents.extend(self.stray);
        let mut blobs: BTreeMap<_, _> =
            documents.into_iter().map(|document| (Digest::of(&document), Content::Bytes(document))).collect();
        if let Some(absent) = self.absent {
            blobs.remove(&absent).expect("what is left out was there");
        }
        archive::write(&path, &blobs, &index, &()).unwrap();
        fs::write(&path, (self.file)(fs::read(&path).unwrap())).unwrap();
        let policy = TrustPolicy::parse(Path::new("trust.toml"), &(self.policy)(digest)).unwrap();
        Forged { folder, path, policy }
    }
}

/// The manifest of `echo` with this model.
pub(crate) fn manifest(content: Piece, model: &[u8]) -> Vec<u8> {
    oci::encode(&Manifest::function(&config("1"), content, Piece::of(MODULE), &[Piece::of(model)]))
}

/// Makes the model one of two files, both of which belong to the bundle.
pub(crate) fn openvino(parts: &mut Parts) {
    parts.config = oci::encode(&Wire::new(&openvino_config()));
    parts.manifest = Box::new(openvino_manifest);
    parts.stray = Some(WEIGHTS.to_vec());
}

fn openvino_config() -> Config {
    Config { models: models("openvino-ir", &[]), ..config("1") }
}

/// The manifest of `echo` with a model of two files.
pub(crate) fn openvino_manifest(content: Piece) -> Vec<u8> {
    let parts = [Piece::of(MODEL), Piece::of(WEIGHTS)];
    oci::encode(&Manifest::function(&openvino_config(), content, Piece::of(MODULE), &parts))
}

/// Gives an output of the model these labels, which belong to the bundle. The function's own output `scores` has three numbers.
pub(crate) fn labelled(parts: &mut Parts, output: &str, labels: &[u8]) {
    let spec = |name: &str, dims: &[Dim]| {
        let shape = Some(dims.to_vec());
        TensorSpec { name: name.into(), dtype: DType::F32, shape }
    };
    let scores = spec("scores", &[Dim::Any, Dim::Fixed(3)]);
    let signature = Some(Signature { inputs: vec![spec("x", &[])], outputs: vec![scores] });
    let config = Config { models: models("onnx", &[output]), signature, ..config("1") };
    parts.config = oci::encode(&Wire::new(&config));
    let pieces = [Piece::of(MODEL), Piece::of(labels)];
    parts.manifest =
        Box::new(move |content| oci::encode(&Manifest::function(&config, content, Piece::of(MODULE), &pieces)));
    parts.stray = Some(labels.to_vec());
}

/// Gives the module one file of this path, which belongs to the bundle, and perhaps a size that it does not have.
pub(crate) fn with_file(parts: &mut Parts, path: &str, size: Option<u64>) {
    let config = Config { files: BTreeSet::from([path.to_owned()]), ..config("1") };
    parts.config = oci::encode(&Wire::new(&config));
    let mut file = Piece::of(WEIGHTS);
    file.size = size.unwrap_or(file.size);
    let pieces = [Piece::of(MODEL), file];
    parts.manifest =
        Box::new(move |content| oci::encode(&Manifest::function(&config, content, Piece::of(MODULE), &pieces)));
    parts.stray = Some(WEIGHTS.to_vec());
}

/// A forgery as a file, and the policy that is to judge it.
pub(crate) struct Forged {
    folder: TempDir,
    pub(crate) path: PathBuf,
    policy: TrustPolicy,
}

impl Forged {
    /// Verifies it as the function `echo`.
    pub(crate) fn verify(&self) -> Result<Verified<Bundle>, Error> {
        let function: FunctionName = "echo".parse().unwrap();
        verify(&self.path, &function, &self.policy, &self.store())
    }

    /// What is in the store, by file name.
    pub(crate) fn stored(&self) -> BTreeMap<String, Vec<u8>> {
        let blobs = self.folder.path().join("blobs").join("sha256").read_dir().unwrap();
        let content = |blob: io::Result<fs::DirEntry>| {
            let blob = blob.unwrap();
            (blob.file_name().into_string().unwrap(), fs::read(blob.path()).unwrap())
        };
        blobs.map(content).collect()
    }

    fn store(&self) -> Store {
        Store::open(self.folder.path()).unwrap()
    }
}

#[test]
fn the_unchanged_parts_are_accepted() {
    assert_eq!(Parts::good().write().verify().unwrap().publishers, ["acme", "audit"]);
}

#[test]
fn the_unchanged_parts_of_a_model_of_two_files_are_accepted() {
    let mut parts = Parts::good();
    openvino(&mut parts);
    let model = parts.write().verify().unwrap().models["standard"].clone();
    assert_eq!(model.weights.map(|weights| weights.digest), Some(Digest::of(WEIGHTS)));
}

#[test]
fn labels_are_inspected_and_stored() {
    let mut parts = Parts::good();
    labelled(&mut parts, "scores", b"a\nb\nc\n");
    let forged = parts.write();
    assert_eq!(inspect(&forged.path).unwrap().models[0].labels[0].count, 3);
    let model = forged.verify().unwrap().models["standard"].clone();
    assert_eq!(read_labels(&model.labels["scores"]).unwrap(), ["a", "b", "c"]);
}

#[test]
fn files_are_inspected_and_stored() {
    let mut parts = Parts::good();
    with_file(&mut parts, "fixture/numbers", None);
    let forged = parts.write();
    assert_eq!(inspect(&forged.path).unwrap().files[0].path, "fixture/numbers");
    assert_eq!(forged.verify().unwrap().files["fixture/numbers"].digest, Digest::of(WEIGHTS));
}

#[test]
fn an_inspection_tells_a_signature_of_another_bundle() {
    let mut parts = Parts::good();
    parts.statement = Box::new(|_| Statement::new(Digest::of(b"another"), &config("1")));
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
        if let Ok(bundle) = accept_unsigned(&forged.path, &forged.store()) {
            // Some spoiled texts are still texts, and an empty splice spoils nothing.
            prop_assert!(bundle.publishers.is_empty());
        }
    }
}
