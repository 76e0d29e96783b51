//! The store of optimized models. A library reads its own optimized form of a model faster than the model itself, so the form is
//! made once, when a function is deployed, and a wake opens that.

use crate::derived::Derived;
use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};
use torpor_bundle::{Blob, Digest};
use torpor_nn::{Backend, Backends, ModelFiles};

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

    /// The optimized form of the model `files`, whose content is `model` and perhaps `weights`; it is made where it is missing or damaged. `None` where it cannot be had: then the
    /// model itself is opened, which takes longer and tells what is wrong with it.
    pub(crate) fn get(
        &self,
        backend: &dyn Backend,
        files: &ModelFiles,
        model: &Blob,
        weights: Option<&Blob>,
    ) -> Option<PathBuf> {
        let name = self.name(backend, files, model, weights);
        if self.none().contains(&name) {
            return None;
        }
        if let Some(path) = self.files.authentic(&name) {
            return Some(path);
        }
        let write = |path: &Path| match backend.optimize(files, path)? {
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

    /// Removes the forms of models that `keep` does not name, and those that another version of a present library made. Those of
    /// a library that is not here stay, since it may only be missing for now.
    pub(crate) fn collect(&self, keep: &HashSet<Digest>, backends: &Backends) -> usize {
        let digests: HashSet<_> = keep.iter().map(Digest::hex).collect();
        let marks: Vec<_> =
            backends.present().map(|backend| (format!("-{}-", backend.kind()), self.mark(&**backend))).collect();
        self.files.collect(|name| {
            let digest = name.split('-').next().unwrap_or_default();
            let stale = marks.iter().any(|(kind, mark)| name.contains(kind) && !name.contains(mark));
            digests.contains(digest) && !stale
        })
    }

    fn name(&self, backend: &dyn Backend, files: &ModelFiles, model: &Blob, weights: Option<&Blob>) -> String {
        // The same description may come with other weights.
        let weights = weights.map(|weights| format!("-{}", weights.digest.hex())).unwrap_or_default();
        format!("{}{}{weights}.{}", model.digest.hex(), self.mark(backend), files.format.extension())
    }

    /// What tells apart the forms of one model.
    fn mark(&self, backend: &dyn Backend) -> String {
        let mut hasher = DefaultHasher::new();
        (backend.version(), self.processor).hash(&mut hasher);
        format!("-{}-{:016x}", backend.kind(), hasher.finish())
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
