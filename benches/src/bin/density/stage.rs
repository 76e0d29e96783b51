//! What is on disk: a key of this run, two bundles signed with it, and as many manifests as are wanted.

use crate::Places;
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tempfile::TempDir;

/// Every how manieth function is a real model; the others add.
const REAL: usize = 10;

pub(crate) struct Stage {
    pub(crate) places: Places,
    dir: TempDir,
}

pub(crate) fn is_add(index: usize) -> bool {
    index % REAL != REAL - 1
}

pub(crate) fn name(index: usize) -> String {
    format!("f{index:05}")
}

impl Stage {
    pub(crate) fn new(places: Places) -> Result<Self> {
        let stage = Stage { places, dir: tempfile::tempdir().context("no temporary folder could be made")? };
        stage.torpor(&["keygen".as_ref(), stage.path("bench").as_ref()])?;
        let policy = "[[publisher]]\nname = \"bench\"\nkey = \"bench.pub.pem\"\nfunctions = [\"*\"]\n";
        fs::write(stage.path("trust.toml"), policy)?;
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
        let magika = stage.places.assets.join("magika/model.onnx");
        stage.bundle("add", &repository.join("tests/bundles/add"), &repository.join("tests/models/add.onnx"))?;
        stage.bundle("real", &repository.join("modules/passthrough"), &magika)?;
        Ok(stage)
    }

    /// A path in the folder of this run.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A folder with the manifests of so many functions.
    pub(crate) fn manifests(&self, functions: usize, idle_timeout: &str) -> Result<PathBuf> {
        let folder = self.path(&format!("manifests-{functions}-{idle_timeout}"));
        fs::create_dir_all(&folder)?;
        for index in 0..functions {
            let (name, bundle) = (name(index), if is_add(index) { "add" } else { "real" });
            let bundle = self.path(&format!("{bundle}.torpor"));
            let manifest = format!(
                "name = \"{name}\"\nbundle = \"{}\"\n\n[trigger.inference]\n\n[model.model]\nbackend = \"onnxruntime\"\n\n\
                 [scale]\nidle-timeout = \"{idle_timeout}\"\n\n[limits]\ndeadline = \"30s\"\n",
                bundle.display()
            );
            fs::write(folder.join(format!("{name}.toml")), manifest)?;
        }
        Ok(folder)
    }

    fn bundle(&self, name: &str, folder: &Path, model: &Path) -> Result<()> {
        ensure!(model.is_file(), "there is no model `{}`; `cargo xtask bench density` fetches it", model.display());
        let module = self.places.modules.join("passthrough.wasm");
        let packed = self.path(&format!("{name}.torpor"));
        let model = format!("model={}", model.display());
        let (pack, key) = (["pack", "--model", &model, "--module"], self.path("bench.key.pem"));
        let mut arguments: Vec<_> = pack.iter().map(AsRef::as_ref).collect();
        arguments.extend([module.as_os_str(), "-o".as_ref(), packed.as_os_str(), folder.as_os_str()]);
        self.torpor(&arguments)?;
        self.torpor(&["sign".as_ref(), "--key".as_ref(), key.as_os_str(), packed.as_os_str()])
    }

    fn torpor(&self, arguments: &[&std::ffi::OsStr]) -> Result<()> {
        let status = Command::new(&self.places.torpor).args(arguments).stdout(Stdio::null()).status();
        let status = status.with_context(|| format!("`{}` could not be started", self.places.torpor.display()))?;
        ensure!(status.success(), "`torpor` failed; what it wrote is above");
        Ok(())
    }
}
