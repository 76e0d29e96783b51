//! The backends of this host: which are here, which are not and why.

use crate::{Backend, BackendKind, Error, ModelFormat};
use std::sync::Arc;

/// Which backend a function wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The first one on this host that opens the model's format.
    Auto,
    /// This one and no other.
    Only(BackendKind),
}

/// Everything this host can infer with, in the order in which [`Choice::Auto`] tries it. Lives as long as the process.
#[derive(Default)]
pub struct Backends {
    present: Vec<Arc<dyn Backend>>,
    missing: Vec<(BackendKind, String)>,
}

impl Backends {
    /// Adds a backend that is ready for use.
    pub fn add(&mut self, backend: Arc<dyn Backend>) {
        self.present.push(backend);
    }

    /// Notes that a backend is not on this host. `reason` says what was sought where, and how to get it.
    pub fn add_missing(&mut self, kind: BackendKind, reason: String) {
        self.missing.push((kind, reason));
    }

    /// The backends that are ready for use.
    pub fn present(&self) -> impl Iterator<Item = &Arc<dyn Backend>> {
        self.present.iter()
    }

    /// The backends that are not here, each with the reason.
    pub fn missing(&self) -> impl Iterator<Item = (BackendKind, &str)> {
        self.missing.iter().map(|(kind, reason)| (*kind, reason.as_str()))
    }

    /// Finds the backend for a model.
    ///
    /// # Errors
    /// When the wanted backend is missing, or none opens `format`.
    pub fn choose(&self, choice: Choice, format: ModelFormat) -> Result<&Arc<dyn Backend>, Error> {
        let fits = |backend: &&Arc<dyn Backend>| match choice {
            Choice::Auto => true,
            Choice::Only(kind) => backend.kind() == kind,
        };
        if let Some(backend) = self.present.iter().filter(fits).find(|backend| backend.opens(format)) {
            return Ok(backend);
        }
        match choice {
            Choice::Only(backend) => match self.missing.iter().find(|(kind, _)| *kind == backend) {
                Some((_, reason)) => Err(Error::BackendUnavailable { backend, reason: reason.clone() }),
                None => Err(Error::NoBackend { format }),
            },
            Choice::Auto => Err(Error::NoBackend { format }),
        }
    }
}
