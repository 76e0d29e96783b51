//! The two traits that a backend implements.

use crate::{Cancel, Error, ModelFiles};
use std::{fmt, num::NonZeroUsize, path::Path, pin::Pin, str::FromStr, sync::Arc};
use torpor_tensor::{NamedTensor, Signature};

/// The inference libraries that Torpor has a backend for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum BackendKind {
    /// ONNX Runtime, a native library found at run time.
    OnnxRuntime,
    /// OpenVINO, a native library found at run time.
    OpenVino,
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
            BackendKind::OpenVino => "openvino",
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
    /// A network in OpenVINO's intermediate representation: a description in XML, and a file of weights.
    OpenVinoIr,
    /// A TensorFlow Lite flatbuffer.
    TfLite,
}

impl ModelFormat {
    /// How names of such files end, without the dot.
    pub const fn extension(self) -> &'static str {
        match self {
            ModelFormat::Onnx => "onnx",
            ModelFormat::OpenVinoIr => "xml",
            ModelFormat::TfLite => "tflite",
        }
    }
}

impl fmt::Display for ModelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ModelFormat::Onnx => "ONNX",
            ModelFormat::OpenVinoIr => "OpenVINO IR",
            ModelFormat::TfLite => "TensorFlow Lite",
        })
    }
}

/// A model format of which this version knows nothing.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no backend knows the model format `{0}`; expected `onnx`, `openvino-ir` or `tflite`")]
pub struct UnknownFormat(String);

impl FromStr for ModelFormat {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "onnx" => Ok(ModelFormat::Onnx),
            "openvino-ir" => Ok(ModelFormat::OpenVinoIr),
            "tflite" => Ok(ModelFormat::TfLite),
            other => Err(UnknownFormat(other.to_owned())),
        }
    }
}

/// What a model runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// The processor. Every backend has it.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by ONNX Runtime's CUDA provider.
    Cuda,
    /// An NVIDIA GPU, by ONNX Runtime's TensorRT provider.
    TensorRt,
    /// An Intel GPU, by OpenVINO.
    Gpu,
    /// An Intel NPU, by OpenVINO.
    Npu,
}

impl Device {
    /// The name used in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Device::Cpu => "cpu",
            Device::Cuda => "cuda",
            Device::TensorRt => "tensorrt",
            Device::Gpu => "gpu",
            Device::Npu => "npu",
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a library may compute a model's 32-bit floating-point numbers in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// As the model says.
    #[default]
    F32,
    /// BF16: the range of 32 bits, with 8 bits of precision.
    Bf16,
    /// FP16: a range up to 65504, with 11 bits of precision.
    F16,
}

impl Precision {
    /// The name used in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The ways to open one model. All of them answer alike, as exactly as the backend computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Tier {
    /// From the model's own file, which the library optimizes every time.
    #[default]
    Original,
    /// From what [`Backend::optimize`] wrote, without what the library could still do to make runs faster.
    Baseline,
    /// From what [`Backend::optimize`] wrote, with all that makes runs fast.
    Optimized,
}

impl Tier {
    /// The name used in statuses and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Original => "original",
            Tier::Baseline => "baseline",
            Tier::Optimized => "optimized",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How to open a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpenOptions {
    /// What it runs on.
    pub device: Device,
    /// What it is computed in.
    pub precision: Precision,
    /// Threads that one run may use inside the library.
    pub threads: NonZeroUsize,
    /// Runs that may happen at the same time, each on a worker of its own.
    pub parallel: NonZeroUsize,
    /// In which way, of those that there are for this model.
    pub tier: Tier,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions {
            device: Device::default(),
            precision: Precision::default(),
            threads: NonZeroUsize::MIN,
            parallel: NonZeroUsize::MIN,
            tier: Tier::Original,
        }
    }
}

/// An inference library. One per process.
pub trait Backend: Send + Sync {
    /// Which library this is.
    fn kind(&self) -> BackendKind;

    /// The library's version, for people and for keys of caches.
    fn version(&self) -> &str;

    /// The file that the library was loaded from; `None` for one that is compiled in.
    fn library(&self) -> Option<&Path> {
        None
    }

    /// What it can run models on here, in the library's own words where it has some. May load parts of the library.
    fn devices(&self) -> Vec<String> {
        vec![Device::Cpu.name().to_owned()]
    }

    /// Checks that models can run on the device and in the precision that `options` ask for. Another one is never taken instead.
    ///
    /// # Errors
    /// What is missing here, and how to get it.
    fn accepts(&self, options: &OpenOptions) -> Result<(), String> {
        only_cpu_in_f32(options)
    }

    /// Whether the library reads files of this format.
    fn opens(&self, format: ModelFormat) -> bool;

    /// Loads a model of a format that it opens. In every tier but the original `files` is the folder that [`Backend::optimize`]
    /// filled. Takes milliseconds to seconds and blocks: only a worker thread may call it.
    ///
    /// # Errors
    /// [`Error::Open`] when the file is damaged, too new, or uses an operator that the library lacks.
    fn open(&self, files: &ModelFiles, options: &OpenOptions) -> Result<Arc<dyn Session>, Error>;

    /// Writes the form of a model that this library opens fastest on this processor into `folder`, which is empty, and gives the
    /// tiers in which it can be opened, the last of which runs fastest. None where the library has no such form; nothing is
    /// written then. Blocks for longer than opening does.
    ///
    /// # Errors
    /// [`Error::Open`] when the model cannot be opened, or the form cannot be written.
    fn optimize(&self, _files: &ModelFiles, _options: &OpenOptions, _folder: &Path) -> Result<&'static [Tier], Error> {
        Ok(&[])
    }
}

/// The check of a backend that knows the processor alone, and computes in what the model says.
fn only_cpu_in_f32(options: &OpenOptions) -> Result<(), String> {
    if options.device != Device::Cpu {
        return Err(format!("it has no device `{}`; write `device = \"cpu\"`", options.device));
    }
    if options.precision != Precision::F32 {
        return Err(format!("it does not compute in {}; write `precision = \"f32\"`", options.precision));
    }
    Ok(())
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

    /// Begins a run where the model is in another process, whose answer need not be waited for on a thread. `None` where it is in
    /// this one. Must be called within a tokio runtime.
    fn start(&self, _inputs: &[NamedTensor], _cancel: &Cancel) -> Option<Outputs> {
        None
    }

    /// The process that holds the model, where it is not this one.
    fn process(&self) -> Option<u32> {
        None
    }

    /// How that process has ended, or why else no run can succeed any more, for the operator; `None` while runs can.
    fn ended(&self) -> Option<&str> {
        None
    }
}

/// What comes of a run that has begun. Whoever drops it has to cancel the run too.
pub type Outputs = Pin<Box<dyn Future<Output = Result<Vec<NamedTensor>, Error>> + Send>>;

/// What gives models processes of their own. One per host.
pub trait Isolation: Send + Sync {
    /// A backend that opens what `backend` opens, but each model in a process of its own, which may take `memory` bytes for it.
    ///
    /// # Errors
    /// What is missing on this host.
    fn isolate(&self, backend: &Arc<dyn Backend>, memory: u64) -> Result<Arc<dyn Backend>, String>;
}
