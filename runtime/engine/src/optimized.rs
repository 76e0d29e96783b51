//! The store of optimized models. A library reads its own optimized form of a model faster than the model itself, so the form is
//! made once, when a function is deployed, and a wake opens that.

use crate::derived::Derived;
use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};
use torpor_bundle::Blob;
use torpor_nn::{Backend, ModelFormat};

/// Lives as long as the engine.
pub(crate) struct Optimized {
    files: Derived,
    /// Libraries optimize for the processor they run on.
    processor: u64,
    /// Forms that cannot be had, so that not every wake tries again to make them.
    none: Mutex<HashSet<String>>,
}

/// Why there is no optimized form.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Store(#[from] crate::Error),
    #[error(transparent)]
    Model(#[from] torpor_nn::Error),
    #[error("the library has no such form")]
    None,
}

impl Optimized {
    pub(crate) fn new(files: Derived) -> Self {
        Optimized { files, processor: processor(), none: Mutex::default() }
    }

    /// The optimized form of `model`, which is made where it is missing or damaged. `None` where it cannot be had: then the
    /// model itself is opened, which takes longer and tells what is wrong with it.
    pub(crate) fn get(&self, backend: &dyn Backend, model: &Blob, format: ModelFormat) -> Option<PathBuf> {
        let name = self.name(backend, model, format);
        if self.none().contains(&name) {
            return None;
        }
        if let Some(path) = self.files.authentic(&name) {
            return Some(path);
        }
        let write = |path: &Path| match backend.optimize(&model.path, format, path)? {
            true => Ok(()),
            false => Err(Failed::None),
        };
        match self.files.make(&name, write) {
            Ok(()) => self.files.authentic(&name),
            Err(error) => {
                tracing::debug!(model = %model.digest, %error, "the model has no optimized form");
                // A full disk may have room the next time; what the library says does not change.
                if !matches!(error, Failed::Store(_)) {
                    self.none().insert(name);
                }
                None
            }
        }
    }

    fn none(&self) -> MutexGuard<'_, HashSet<String>> {
        self.none.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self, backend: &dyn Backend, model: &Blob, format: ModelFormat) -> String {
        let mut hasher = DefaultHasher::new();
        (backend.version(), self.processor).hash(&mut hasher);
        let (digest, kind, format) = (model.digest.hex(), backend.kind(), format.extension());
        format!("{digest}-{kind}-{:016x}.{format}", hasher.finish())
    }
}

/// What the system says of the processor's features. Where it says nothing, only the library's version tells forms apart.
fn processor() -> u64 {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let features = text.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    let mut hasher = DefaultHasher::new();
    (std::env::consts::ARCH, features).hash(&mut hasher);
    hasher.finish()
}
