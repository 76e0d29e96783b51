//! The backends of this host: which are here, which are not and why.

use crate::{Backend, BackendKind, Error, Isolation, ModelFormat, OpenOptions};
use std::sync::Arc;

/// Which backend a function wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The first one on this host that opens the model's format, and runs it as the options ask.
    Auto,
    /// This one and no other.
    Only(BackendKind),
}

/// Everything this host can infer with, in the order in which [`Choice::Auto`] tries it. Lives as long as the process.
#[derive(Default)]
pub struct Backends {
    present: Vec<Arc<dyn Backend>>,
    missing: Vec<(BackendKind, String)>,
    isolation: Option<Arc<dyn Isolation>>,
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

    /// Sets what gives models processes of their own.
    pub fn isolate_by(&mut self, isolation: Arc<dyn Isolation>) {
        self.isolation = Some(isolation);
    }

    /// The backends that are ready for use.
    pub fn present(&self) -> impl Iterator<Item = &Arc<dyn Backend>> {
        self.present.iter()
    }

    /// The backends that are not here, each with the reason.
    pub fn missing(&self) -> impl Iterator<Item = (BackendKind, &str)> {
        self.missing.iter().map(|(kind, reason)| (*kind, reason.as_str()))
    }

    /// A backend that is `backend`, but opens each model in a process of its own, which may take `memory` bytes for it.
    ///
    /// # Errors
    /// When this host has no such processes.
    pub fn isolated(&self, backend: &Arc<dyn Backend>, memory: u64) -> Result<Arc<dyn Backend>, Error> {
        let isolated = match &self.isolation {
            Some(isolation) => isolation.isolate(backend, memory),
            None => Err("no worker processes are possible on this host; write `isolation = \"host\"`".to_owned()),
        };
        isolated.map_err(|reason| Error::Unsupported { backend: backend.kind(), reason })
    }

    /// Finds the backend for a model.
    ///
    /// # Errors
    /// When the wanted backend is missing, none opens `format`, or none that does runs models as `options` ask.
    pub fn choose(
        &self,
        choice: Choice,
        format: ModelFormat,
        options: &OpenOptions,
    ) -> Result<&Arc<dyn Backend>, Error> {
        let fits = |backend: &&Arc<dyn Backend>| match choice {
            Choice::Auto => true,
            Choice::Only(kind) => backend.kind() == kind,
        };
        let mut unsupported = None;
        for backend in self.present.iter().filter(fits).filter(|backend| backend.opens(format)) {
            match backend.accepts(options) {
                Ok(()) => return Ok(backend),
                // The one that `auto` would have liked best is the one whose complaint is of use.
                Err(reason) => unsupported = unsupported.or(Some((backend.kind(), reason))),
            }
        }
        if let Some((backend, reason)) = unsupported {
            return Err(Error::Unsupported { backend, reason });
        }
        match choice {
            Choice::Only(backend) => match self.missing.iter().find(|(kind, _)| *kind == backend) {
                Some((_, reason)) => Err(Error::BackendUnavailable { backend, reason: reason.clone() }),
                None => {
                    let reason = format!("it reads no {format} models; write `backend = \"auto\"`");
                    Err(Error::Unsupported { backend, reason })
                }
            },
            Choice::Auto => Err(Error::NoBackend { format }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Device, Precision,
        fake::{FakeBackend, FakeModel},
    };

    fn host() -> Backends {
        let mut backends = Backends::default();
        backends.add_missing(BackendKind::OpenVino, "sought and not found".to_owned());
        backends.add(Arc::new(FakeBackend::new(FakeModel::echo())));
        backends
    }

    #[track_caller]
    fn refused(choice: Choice, options: OpenOptions, why: &str) {
        let error = host().choose(choice, ModelFormat::Onnx, &options).err().expect("no backend fits").to_string();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn auto_takes_what_is_there() {
        let host = host();
        let chosen = host.choose(Choice::Auto, ModelFormat::Onnx, &OpenOptions::default()).unwrap();
        assert_eq!(chosen.kind(), BackendKind::Fake);
    }

    #[test]
    fn a_missing_backend_says_what_was_sought() {
        refused(Choice::Only(BackendKind::OpenVino), OpenOptions::default(), "sought and not found");
    }

    #[test]
    fn nothing_else_is_taken_for_a_device_or_precision_that_is_missing() {
        for choice in [Choice::Auto, Choice::Only(BackendKind::Fake)] {
            refused(choice, OpenOptions { device: Device::Cuda, ..OpenOptions::default() }, "no device `cuda`");
            refused(
                choice,
                OpenOptions { precision: Precision::Bf16, ..OpenOptions::default() },
                "not compute in bf16",
            );
        }
    }
}
