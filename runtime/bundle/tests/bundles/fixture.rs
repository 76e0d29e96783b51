//! A temporary folder with a module in it, and short ways to pack, sign and verify.

use std::{fs, path::PathBuf, process::Command};
use tempfile::TempDir;
use torpor_bundle::{
    Bundle, Error, KeyFiles, Overrides, PrivateKey, Store, TrustPolicy, Verified, keygen, pack, sign, verify,
};

pub(crate) const RECIPE: &str = r#"name = "echo"
version = "1.2.3"
description = "gives back what it gets"
module = "echo.wasm"

[model.standard]
file = "model.onnx"

[[input]]
name = "text"
datatype = "BYTES"
shape = [-1]

[[output]]
name = "scores"
datatype = "FP32"
shape = [-1, 3]
"#;

pub(crate) const MODULE: &[u8] = b"\0asm\x0d\0\x01\0";
pub(crate) const MODEL: &[u8] = b"weights of a model";

/// Lives for one test.
pub(crate) struct Fixture {
    folder: TempDir,
}

impl Fixture {
    /// A folder with a module, a model and a `bundle.toml`.
    pub(crate) fn new() -> Self {
        let fixture = Fixture { folder: TempDir::new().unwrap() };
        fixture.write("echo.wasm", MODULE);
        fixture.write("model.onnx", MODEL);
        fixture.write("bundle.toml", RECIPE.as_bytes());
        fixture
    }

    /// A folder with a bundle that `acme` has signed.
    pub(crate) fn signed() -> Self {
        let fixture = Fixture::new();
        fixture.pack();
        fixture.keygen("acme");
        fixture.sign("acme");
        fixture
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.path("echo.torpor")
    }

    pub(crate) fn pack(&self) -> Vec<u8> {
        pack(self.folder.path(), &Overrides::default(), &self.bundle()).unwrap();
        fs::read(self.bundle()).unwrap()
    }

    pub(crate) fn keygen(&self, name: &str) -> KeyFiles {
        keygen(&self.path(name)).unwrap()
    }

    pub(crate) fn sign(&self, name: &str) -> Vec<u8> {
        let key = PrivateKey::read(&self.path(&format!("{name}.key.pem"))).unwrap();
        sign(&key, &self.bundle()).unwrap();
        fs::read(self.bundle()).unwrap()
    }

    /// A policy of `(name of key and publisher, functions, more lines)`.
    pub(crate) fn policy(&self, publishers: &[(&str, &str, &str)]) -> TrustPolicy {
        let table = |(name, functions, more): &(&str, &str, &str)| {
            format!("[[publisher]]\nname = \"{name}\"\nkey = \"{name}.pub.pem\"\nfunctions = [{functions}]\n{more}\n")
        };
        self.trust(&publishers.iter().map(table).collect::<String>())
    }

    /// A policy from its text.
    pub(crate) fn trust(&self, text: &str) -> TrustPolicy {
        self.write("trust.toml", text.as_bytes());
        TrustPolicy::read(&self.path("trust.toml")).unwrap()
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.path("state")).unwrap()
    }

    pub(crate) fn stored(&self) -> usize {
        self.path("state/blobs/sha256").read_dir().unwrap().count()
    }

    /// Verifies the bundle as the function `echo`.
    pub(crate) fn verify(&self, policy: &TrustPolicy) -> Result<Verified<Bundle>, Error> {
        verify(&self.bundle(), &"echo".parse().unwrap(), policy, &self.store())
    }
}

/// Whether a program can be run here. Where it must be there, as under CI, its absence is a failure.
pub(crate) fn have(program: &str) -> bool {
    let found = Command::new(program).arg("--help").output().is_ok();
    assert!(found || option_env!("CI").is_none(), "`{program}` is needed under CI");
    found
}
