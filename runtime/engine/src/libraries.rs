//! Notices when the file of a library that is loaded becomes another, as when an operator replaces it under a running host. The
//! host goes on with the one that it has loaded, so its answers stay as they were.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};
use torpor_bundle::Stamp;
use torpor_nn::{Backend, Backends};

/// The libraries that this process has loaded. Lives as long as the engine.
pub(crate) struct Libraries(Vec<Library>);

struct Library {
    path: PathBuf,
    loaded: Stamp,
    /// Whether the operator knows that the file is another one now.
    told: AtomicBool,
}

impl Libraries {
    /// Looks at the files of all `backends`, which must just have been loaded. One that the system's loader found by its name alone
    /// has no file that could be looked at.
    pub(crate) fn of(backends: &Backends) -> Self {
        let library = |path: &Path| {
            Some(Library { path: path.to_owned(), loaded: Stamp::at(path)?, told: AtomicBool::new(false) })
        };
        Libraries(backends.present().filter_map(|backend| backend.library()).filter_map(library).collect())
    }

    /// Looks again at the library of a backend, and tells the operator once when its file is not the one that was loaded.
    pub(crate) fn check(&self, backend: &dyn Backend) {
        let Some(path) = backend.library() else { return };
        let Some(library) = self.0.iter().find(|library| library.path == path) else { return };
        if Stamp::at(path) != Some(library.loaded) && !library.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                library = %path.display(),
                "the file of this library is another one than the host has loaded and goes on using; restart the host to use it"
            );
        }
    }
}
