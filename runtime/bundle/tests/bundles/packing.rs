//! What goes in, and that the same goes out.

use crate::fixture::{Fixture, MODEL, MODULE, RECIPE, have};
use std::{cell::Cell, collections::BTreeMap, fs, path::Path, process::Command};
use torpor_bundle::{
    Digest, Error, Initializer, Overrides, PrivateKey, Progress, Unfit, accept_unsigned, inspect, inspect_with, pack,
    pack_with, sign_with,
};

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let (one, other) = (Fixture::new(), Fixture::new());
    let bytes = one.pack();
    assert_eq!(bytes, other.pack());
    assert_eq!(bytes, one.pack());
    other.write("model.onnx", b"other weights");
    assert_ne!(bytes, other.pack());
}

/// The bytes must not change from version to version either. If this fails on purpose, the media types need a new version.
#[test]
fn the_digest_of_a_known_bundle() {
    let fixture = Fixture::new();
    fixture.pack();
    let digest = inspect(&fixture.bundle()).unwrap().digest;
    assert_eq!(digest.to_string(), "sha256:74b725733f92372c49ebf063cee618919af012158e552110ef1c831fbd824d02");
}

#[test]
fn files_may_come_from_elsewhere() {
    let fixture = Fixture::new();
    let bytes = fixture.pack();
    let elsewhere = Fixture::new();
    fs::rename(fixture.path("model.onnx"), elsewhere.path("cached")).unwrap();
    fs::rename(fixture.path("echo.wasm"), elsewhere.path("built")).unwrap();
    let models = BTreeMap::from([("standard".parse().unwrap(), elsewhere.path("cached"))]);
    let overrides = Overrides { module: Some(elsewhere.path("built")), models };
    pack(&fixture.path(""), &overrides, &fixture.bundle()).unwrap();
    assert_eq!(fs::read(fixture.bundle()).unwrap(), bytes);
}

#[test]
fn what_was_packed_comes_out() {
    let fixture = Fixture::new();
    fixture.pack();
    let bundle = accept_unsigned(&fixture.bundle(), &fixture.store()).unwrap();
    assert!(bundle.publishers.is_empty());
    assert_eq!((bundle.config.name.as_str(), bundle.config.version.as_str()), ("echo", "1.2.3"));
    assert_eq!(bundle.config.signature.as_ref().unwrap().outputs[0].name, "scores");
    assert_eq!(fs::read(&bundle.module.path).unwrap(), MODULE);
    assert_eq!(bundle.module.digest, Digest::of(MODULE));
    let model = &bundle.models["standard"];
    assert_eq!((model.format.as_str(), model.blob.size), ("onnx", MODEL.len() as u64));
    assert_eq!(fs::read(&model.blob.path).unwrap(), MODEL);
    // Config, module and model; manifest and index.
    assert_eq!(fixture.stored(), 5);
}

#[test]
fn two_models_of_the_same_content_share_it() {
    let fixture = Fixture::new();
    fixture.write("bundle.toml", format!("{RECIPE}[model.second]\nfile = \"model.onnx\"\n").as_bytes());
    fixture.pack();
    let bundle = accept_unsigned(&fixture.bundle(), &fixture.store()).unwrap();
    assert_eq!(bundle.models["second"].blob.path, bundle.models["standard"].blob.path);
    assert_eq!(fixture.stored(), 5);
}

#[test]
fn a_report_is_plain_json() {
    let fixture = Fixture::signed();
    let report = serde_json::to_value(inspect(&fixture.bundle()).unwrap()).unwrap();
    assert_eq!(report["name"], "echo");
    assert_eq!(report["inputs"], serde_json::json!([{"name": "text", "datatype": "BYTES", "shape": [-1]}]));
    assert_eq!(report["module"]["size"], MODULE.len());
    assert_eq!(report["models"][0]["digest"], Digest::of(MODEL).to_string());
    assert_eq!(report["signatures"][0]["intact"], true);
}

#[track_caller]
fn refused(prepare: impl FnOnce(&Fixture), overrides: &Overrides, expected: &str) {
    let fixture = Fixture::new();
    prepare(&fixture);
    let error = pack(&fixture.path(""), overrides, &fixture.bundle()).unwrap_err();
    assert!(!error.is_refusal() && error.to_string().contains(expected), "{error}");
    assert!(!fixture.bundle().exists(), "a bundle was written all the same");
}

#[test]
fn what_makes_no_bundle_is_told() {
    let none = Overrides::default();
    refused(|fixture| fixture.write("echo.wasm", b"(module)"), &none, "echo.wasm`: it is no Wasm module");
    refused(|fixture| fixture.write("model.onnx", b""), &none, "model.onnx`: it is empty");
    refused(|fixture| fs::remove_file(fixture.path("model.onnx")).unwrap(), &none, "cannot read `");
    refused(|fixture| fs::remove_file(fixture.path("bundle.toml")).unwrap(), &none, "bundle.toml`");
    refused(|fixture| fixture.write("bundle.toml", b"name = 1"), &none, "bundle.toml:1:8: invalid type");
    let labels = |labels: &'static [u8]| {
        move |fixture: &Fixture| {
            let text = RECIPE.replace("[[input]]", "labels = { scores = \"labels.txt\" }\n\n[[input]]");
            fixture.write("bundle.toml", text.as_bytes());
            fixture.write("labels.txt", labels);
        }
    };
    refused(labels(b"a\nb\n"), &none, "there are 2, and the last dimension of the output `scores` has 3");
    refused(labels(b"a\n\nc\n"), &none, "labels.txt`: these are no labels of the output `scores`: line 2");
    refused(labels(b""), &none, "labels.txt`: these are no labels");
    let unknown = Overrides { models: BTreeMap::from([("standart".parse().unwrap(), "x".into())]), ..none };
    refused(|_| {}, &unknown, "it has no model `standart`");
}

#[test]
fn an_older_bundle_stays_until_the_new_one_is_complete() {
    let fixture = Fixture::new();
    let bytes = fixture.pack();
    fs::remove_file(fixture.path("model.onnx")).unwrap();
    pack(&fixture.path(""), &Overrides::default(), &fixture.bundle()).unwrap_err();
    assert_eq!(fs::read(fixture.bundle()).unwrap(), bytes);
    // Nor is a temporary file left.
    assert_eq!(fixture.path("").read_dir().unwrap().count(), 3);
}

#[test]
fn a_bundle_is_an_oci_layout_that_tar_unpacks() {
    if !have("tar") {
        return;
    }
    let fixture = Fixture::signed();
    fs::create_dir(fixture.path("layout")).unwrap();
    let status =
        Command::new("tar").arg("xf").arg(fixture.bundle()).current_dir(fixture.path("layout")).status().unwrap();
    assert!(status.success());
    let json = |path: &Path| -> serde_json::Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let index = json(&fixture.path("layout/index.json"));
    assert_eq!(json(&fixture.path("layout/oci-layout"))["imageLayoutVersion"], "1.0.0");
    let blob = |descriptor: &serde_json::Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        let path = fixture.path("layout/blobs").join(digest.replace(':', "/"));
        assert_eq!(Digest::of(&fs::read(&path).unwrap()).to_string(), digest);
        assert_eq!(fs::metadata(&path).unwrap().len(), descriptor["size"].as_u64().unwrap());
        path
    };
    let manifest = json(&blob(&index["manifests"][0]));
    assert_eq!(manifest["artifactType"], "application/vnd.torpor.function.v1");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    assert_eq!(manifest["layers"][1]["mediaType"], "application/vnd.cncf.model.weight.v1.raw");
    assert_eq!(manifest["layers"][1]["annotations"]["org.opencontainers.image.title"], "standard.onnx");
    assert_eq!(fs::read(blob(&manifest["layers"][1])).unwrap(), MODEL);
    let signature = json(&blob(&index["manifests"][1]));
    assert_eq!(signature["subject"]["digest"], index["manifests"][0]["digest"]);
    assert_eq!(fs::read(blob(&signature["config"])).unwrap(), b"{}");
    blob(&signature["layers"][0]);
}

/// What was promised, and what was done of it.
#[derive(Default)]
struct Told {
    expected: Cell<u64>,
    done: Cell<u64>,
}

impl Progress for Told {
    fn expect(&self, bytes: u64) {
        assert_eq!((self.expected.get(), self.done.get()), (0, 0), "it was told late, or twice");
        self.expected.set(bytes);
    }

    fn advance(&self, bytes: u64) {
        self.done.set(self.done.get() + bytes);
    }
}

#[test]
fn progress_ends_where_it_was_said_to() {
    let fixture = Fixture::new();
    let weights = vec![7; 300_000];
    fixture.write("model.onnx", &weights);
    fixture.keygen("acme");
    let key = PrivateKey::read(&fixture.path("acme.key.pem")).unwrap();
    let whole = |least: usize, work: &dyn Fn(&Told)| {
        let told = Told::default();
        work(&told);
        assert_eq!(told.done.get(), told.expected.get());
        assert!(told.done.get() >= least as u64, "{} of {least}", told.done.get());
    };
    let bundle = fixture.bundle();
    // Labels are read whole, and count all the same.
    fixture.write("labels.txt", b"a\nb\nc\n");
    let text = RECIPE.replace("[[input]]", "labels = { scores = \"labels.txt\" }\n\n[[input]]");
    fixture.write("bundle.toml", text.as_bytes());
    whole(2 * weights.len(), &|told| {
        drop(pack_with(&fixture.path(""), &Overrides::default(), &bundle, &(), told).unwrap())
    });
    whole(weights.len(), &|told| drop(sign_with(&key, &bundle, told).unwrap()));
    whole(weights.len(), &|told| drop(inspect_with(&bundle, None, told).unwrap()));
}

/// Stands in for a Wasm engine: gives what it was made with.
struct Fake(Result<Option<Vec<u8>>, Unfit>);

impl Initializer for Fake {
    fn initialize(&self, _: &[u8]) -> Result<Option<Vec<u8>>, Unfit> {
        self.0.clone()
    }
}

#[test]
fn an_initialized_module_takes_the_place_of_the_one_that_it_was_made_of() {
    let fixture = Fixture::new();
    let plain = fixture.pack();
    let pack = |fake: Fake| pack_with(&fixture.path(""), &Overrides::default(), &fixture.bundle(), &fake, &());
    let snapshot = [MODULE, b"and memory"].concat();
    let packed = pack(Fake(Ok(Some(snapshot.clone())))).unwrap();
    assert_eq!(packed.module, snapshot.len() as u64);
    let bundle = accept_unsigned(&fixture.bundle(), &fixture.store()).unwrap();
    assert_eq!(fs::read(&bundle.module.path).unwrap(), snapshot);
    let origin = bundle.config.snapshot_of.unwrap();
    assert_eq!((origin.digest, origin.size), (Digest::of(MODULE), MODULE.len() as u64));
    let report = inspect(&fixture.bundle()).unwrap().module;
    assert_eq!((report.digest, report.snapshot_of), (Digest::of(&snapshot), Some(origin)));
    // One that has no initializer is packed as it always was.
    assert_eq!(pack(Fake(Ok(None))).unwrap().snapshot_of, None);
    assert_eq!(fs::read(fixture.bundle()).unwrap(), plain);
}

#[test]
fn a_module_that_cannot_be_initialized_is_not_packed() {
    let fixture = Fixture::new();
    let unfit = Unfit { why: "its initializer trapped".to_owned(), help: "do not trap".to_owned() };
    let overrides = Overrides::default();
    let error = pack_with(&fixture.path(""), &overrides, &fixture.bundle(), &Fake(Err(unfit)), &()).unwrap_err();
    assert!(error.to_string().ends_with("echo.wasm`: its initializer trapped"), "{error}");
    assert_eq!(error.help().as_deref(), Some("do not trap"));
    assert!(!fixture.bundle().exists());
}

#[test]
fn a_core_module_that_is_broken_is_not_packed() {
    let fixture = Fixture::new();
    fixture.pack();
    let before = fs::read(fixture.bundle()).unwrap();
    fixture.write("echo.wasm", b"\0asm\x01\0\0\0\x01\x7f");
    let error = pack(&fixture.path(""), &Overrides::default(), &fixture.bundle()).unwrap_err();
    assert!(matches!(&error, Error::Pack { path, .. } if *path == fixture.path("echo.wasm")), "{error}");
    assert!(error.help().is_some_and(|help| help.contains("wasm32-unknown-unknown")), "{error:?}");
    assert_eq!(fs::read(fixture.bundle()).unwrap(), before);
    // One that describes no interfaces is packed as it is.
    fixture.write("echo.wasm", b"\0asm\x01\0\0\0");
    fixture.pack();
    assert_eq!(inspect(&fixture.bundle()).unwrap().module.digest, Digest::of(b"\0asm\x01\0\0\0"));
}
