//! The two traits that a backend implements.

use crate::{Cancel, Error};
use std::{fmt, num::NonZeroUsize, path::Path, str::FromStr, sync::Arc};
use torpor_tensor::{NamedTensor, Signature};

/// The inference libraries that Torpor has a backend for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum BackendKind {
    /// ONNX Runtime, a native library found at run time.
    OnnxRuntime,
    /// tract, compiled in.
    Tract,
    /// The test double.
    #[cfg(test)]
    Fake,
}

impl BackendKind {
    /// The name used in manifests and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            BackendKind::OnnxRuntime => "onnxruntime",
            BackendKind::Tract => "tract",
            #[cfg(test)]
            BackendKind::Fake => "fake",
        }
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The file formats of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModelFormat {
    /// A serialized ONNX `ModelProto`.
    Onnx,
}

impl ModelFormat {
    /// How names of such files end, without the dot.
    pub const fn extension(self) -> &'static str {
        match self {
            ModelFormat::Onnx => "onnx",
        }
    }
}

impl fmt::Display for ModelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ModelFormat::Onnx => "ONNX",
        })
    }
}

/// A model format of which this version knows nothing.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no backend knows the model format `{0}`; expected `onnx`")]
pub struct UnknownFormat(String);

impl FromStr for ModelFormat {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "onnx" => Ok(ModelFormat::Onnx),
            other => Err(UnknownFormat(other.to_owned())),
        }
    }
}

/// How to open a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOptions {
    /// Threads that one run may use inside the library.
    pub threads: NonZeroUsize,
    /// Runs that may happen at the same time, each on a worker of its own.
    pub parallel: NonZeroUsize,
    /// The file is what [`Backend::optimize`] wrote.
    pub optimized: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions { threads: NonZeroUsize::MIN, parallel: NonZeroUsize::MIN, optimized: false }
    }
}

/// An inference library. One per process.
pub trait Backend: Send + Sync {
    /// Which library this is.
    fn kind(&self) -> BackendKind;

    /// The library's version, for people and for keys of caches.
    fn version(&self) -> &str;

    /// Whether the library reads files of this format.
    fn opens(&self, format: ModelFormat) -> bool;

    /// Loads the model at `path`. Takes milliseconds to seconds and blocks: only a worker thread may call it.
    ///
    /// # Errors
    /// [`Error::Open`] when the file is damaged, too new, or uses an operator that the library lacks.
    fn open(&self, path: &Path, format: ModelFormat, options: &OpenOptions) -> Result<Arc<dyn Session>, Error>;

    /// Writes the form of the model at `path` that this library opens fastest on this processor to `out`. False where the
    /// library has no such form; nothing is written then. Blocks for longer than opening does.
    ///
    /// # Errors
    /// [`Error::Open`] when the model cannot be opened, or the form cannot be written.
    fn optimize(&self, _path: &Path, _format: ModelFormat, _out: &Path) -> Result<bool, Error> {
        Ok(false)
    }
}

/// A loaded model. Lives while its function is warm; dropping it frees all that it holds, and may block.
pub trait Session: Send + Sync {
    /// The inputs and outputs that the model file declares.
    fn signature(&self) -> &Signature;

    /// Runs the model once and returns every output, in the model's order. Blocks for the length of the run, so an async
    /// thread calls it only for runs that take next to no time. Several threads may call it at the same time.
    ///
    /// # Errors
    /// [`Error::Input`] or [`Error::Rejected`] when the inputs do not fit, [`Error::Cancelled`] when `cancel` stopped it, else
    /// [`Error::Run`].
    fn run(&self, inputs: &[NamedTensor], cancel: &Cancel) -> Result<Vec<NamedTensor>, Error>;
}
