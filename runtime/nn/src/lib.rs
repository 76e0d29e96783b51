//! Inference without a request, an engine or a protocol in sight: tensors go in, tensors come out.
//!
//! A [`Backend`] opens a model file as a [`Session`]; a [`Model`] is a session with a line before it, which async code
//! can ask for a run. The line is fair between those who ask, and runs that wait in it may be joined to one ([`Batching`]); runs that
//! prove shorter than the way to a thread happen where they are asked for. A [`Plan`] says which of the ways
//! to open a model gives the first answer soonest. [`Backends`] holds what this host has and says what it lacks. This crate names no native library: each
//! backend is a crate of its own that depends on this one.

mod backend;
mod backends;
mod batch;
mod cancel;
mod durations;
#[cfg(test)]
mod fake;
mod files;
pub mod ir;
mod model;
pub mod onnx;
mod plan;
mod queue;
mod sessions;
mod sizes;

pub use backend::{
    Backend, BackendKind, Device, Isolation, ModelFormat, OpenOptions, Outputs, Precision, Session, Tier, UnknownFormat,
};
pub use backends::{Backends, Choice};
pub use batch::{Batching, Pad};
pub use cancel::{Armed, Cancel};
pub use files::ModelFiles;
pub use model::{Caller, Model, Ran, Upgrade};
pub use plan::Plan;
pub use sessions::{Sessions, SharedModel};

/// Why a model could not be opened or run.
///
/// The texts are for the operator: they may name paths and quote a native library, so they never reach a caller. What a
/// caller may see is decided by the variant alone.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The backend that was asked for is not on this host.
    #[error("backend `{backend}` is not available: {reason}")]
    BackendUnavailable {
        /// The backend.
        backend: BackendKind,
        /// What was sought where, and how to get it.
        reason: String,
    },
    /// No backend on this host takes this kind of model file.
    #[error(
        "no backend that this host has opens {format} models; `torpor doctor` shows which it lacks, and how to get them"
    )]
    NoBackend {
        /// The format of the model file.
        format: ModelFormat,
    },
    /// The backend cannot run models as the manifest wants it.
    #[error("`{backend}` cannot run it as wanted: {reason}")]
    Unsupported {
        /// The backend; the first one asked, where any would do.
        backend: BackendKind,
        /// What is missing, and how to get it.
        reason: String,
    },
    /// The bundle declares a model format of which this version knows nothing.
    #[error(transparent)]
    UnknownFormat(#[from] UnknownFormat),
    /// The files of a model are not all there, or refer to others.
    #[error("the model `{model}` is refused: {reason}")]
    Files {
        /// Path of the model file.
        model: String,
        /// What is wrong.
        reason: String,
    },
    /// The backend refused the model file.
    #[error("`{backend}` cannot open the model `{model}`: {reason}")]
    Open {
        /// The backend.
        backend: BackendKind,
        /// Path of the model file.
        model: String,
        /// The library's own words.
        reason: String,
    },
    /// The inputs are not what the model takes. The text names tensors only, so it may be shown to a caller.
    #[error("{0}")]
    Input(String),
    /// The inputs have the declared types and shapes, but the model cannot run on what they hold.
    #[error("`{backend}` cannot run the model on these inputs: {reason}")]
    Rejected {
        /// The backend.
        backend: BackendKind,
        /// The library's own words.
        reason: String,
    },
    /// The run itself failed.
    #[error("`{backend}` failed to run the model: {reason}")]
    Run {
        /// The backend.
        backend: BackendKind,
        /// The library's own words.
        reason: String,
    },
    /// No run of the open model can succeed any more: the process that held it has ended, before the run or in it, or the library
    /// has failed in a way of which it does not recover.
    #[error("what ran the model on `{backend}` ended: {reason}")]
    Ended {
        /// The backend.
        backend: BackendKind,
        /// How it ended.
        reason: String,
    },
    /// The run was stopped because nobody waits for it any longer.
    #[error("the run was cancelled")]
    Cancelled,
    /// The run would have ended after its caller's deadline, while others waited who could still be in time.
    #[error("the run could not end before its deadline")]
    Late,
    /// More runs are waiting for this model than it has places.
    #[error("too many runs are waiting for the model")]
    Overloaded,
}
