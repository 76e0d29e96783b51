//! Models that a guest brings itself, where its manifest grants that.
//!
//! Nobody signed such a model apart from the module that brings it, and a native library parses it. So it may refer to no file
//! of the host, and it lives no longer than the instance that loaded it.

use crate::error::DeployError;
use std::{
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};
use tempfile::NamedTempFile;
use torpor_nn::{Backend, Backends, Choice, Model, ModelFiles, ModelFormat, OpenOptions, onnx};

/// Models that one instance may load in its life. Each has a thread of its own while it is open.
const MAX_MODELS: usize = 8;

/// Opens models for guests. Lives as long as the function.
pub(crate) struct Loader {
    backend: Arc<dyn Backend>,
    /// Where a model is while it is being opened, since libraries open paths.
    folder: PathBuf,
    limit: usize,
}

/// What one instance has loaded so far.
#[derive(Default)]
pub(crate) struct Loads {
    models: usize,
    bytes: usize,
}

/// Why a guest's model is not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Refused(#[from] onnx::Refused),
    #[error("the model cannot be kept while it is opened")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Open(#[from] torpor_nn::Error),
    #[error("opening the model was interrupted")]
    Interrupted,
}

impl Loader {
    pub(crate) fn new(backends: &Backends, folder: PathBuf, limit: u64) -> Result<Self, DeployError> {
        let backend = backends.choose(Choice::Auto, ModelFormat::Onnx, &OpenOptions::default());
        let backend = backend.map_err(|source| DeployError::Load { source })?;
        Ok(Loader { backend: Arc::clone(backend), folder, limit: usize::try_from(limit).unwrap_or(usize::MAX) })
    }

    /// Bytes of models that one instance may load, all together.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Opens an ONNX model, on threads that may block. Dropping the future closes what was opened so far.
    pub(crate) async fn open(&self, bytes: Vec<u8>) -> Result<Model, LoadError> {
        let folder = self.folder.clone();
        let written = tokio::task::spawn_blocking(move || -> Result<NamedTempFile, LoadError> {
            onnx::check_self_contained(&bytes)?;
            let mut file = tempfile::Builder::new().suffix(".onnx").tempfile_in(folder)?;
            file.write_all(&bytes)?;
            Ok(file)
        });
        // The file goes away when this function ends: an open model has no need of it.
        let file = written.await.map_err(|_| LoadError::Interrupted)??;
        let files = ModelFiles::one(ModelFormat::Onnx, file.path());
        Ok(Model::open(Arc::clone(&self.backend), files, OpenOptions::default(), None, None).await?)
    }
}

impl Loads {
    pub(crate) fn allow(&self, bytes: usize, limit: usize) -> bool {
        self.models < MAX_MODELS && self.bytes.checked_add(bytes).is_some_and(|sum| sum <= limit)
    }

    /// Counts a model before it is opened, so that one that does not open counts too.
    pub(crate) fn count(&mut self, bytes: usize) {
        self.models += 1;
        self.bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_count_by_number_and_by_size() {
        let mut loads = Loads::default();
        assert!(loads.allow(100, 100) && !loads.allow(101, 100) && !loads.allow(usize::MAX, 100));
        loads.count(60);
        assert!(loads.allow(40, 100) && !loads.allow(41, 100));
        for _ in 1..MAX_MODELS {
            assert!(loads.allow(0, 100));
            loads.count(0);
        }
        assert!(!loads.allow(0, 100));
    }
}
