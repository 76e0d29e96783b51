//! ONNX Runtime behind [`torpor_nn::Backend`].
//!
//! The library is found at run time, so that one host binary serves with or without it. Opening goes through `ort`; running
//! goes through the C interface that `ort` exposes, because its safe `run` takes a session exclusively while ONNX Runtime's
//! own `Run` may be called from several threads for the CPU provider, and because one code path then serves every element
//! type. All of that is in `value.rs` and `session.rs`; `telemetry.rs` changes the environment; no other file here is unsafe.

#![allow(unsafe_code, reason = "the C interface of ONNX Runtime; every block says why it holds")]

mod session;
mod telemetry;
mod value;

pub use telemetry::forbid_telemetry;

use ort::{
    ep::{self, ExecutionProvider, ExecutionProviderDispatch},
    session::builder::GraphOptimizationLevel,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use torpor_nn::{Backend, BackendKind, Device, Error, ModelFiles, ModelFormat, OpenOptions, Precision, Session, Tier};

/// The files of an optimized form: the graph, and the weights that it refers to.
const GRAPH: &str = "graph.onnx";
const WEIGHTS: &str = "weights";
/// Weights of fewer bytes stay in the graph.
const SMALL: &str = "1024";

/// ONNX Runtime, loaded. One per process, since the library keeps global state.
pub struct OnnxRuntime {
    environment: ort::environment::Environment,
    version: String,
    path: PathBuf,
}

/// ONNX Runtime could not be loaded. The text lists every place that was tried.
#[derive(Debug, thiserror::Error)]
#[error(
    "{tried}; get it with `pip download onnxruntime` and unpack the wheel, or from your distribution, and name it with `--onnxruntime FILE`"
)]
pub struct NotFound {
    tried: String,
}

impl OnnxRuntime {
    /// Loads the first library of `candidates` that works. A bare file name is sought by the system's loader.
    ///
    /// # Errors
    /// When none works; the text says what was wrong with each.
    pub fn load(candidates: &[PathBuf]) -> Result<Self, NotFound> {
        let mut tried = Vec::new();
        for path in candidates {
            match Self::load_one(path) {
                Ok(backend) => return Ok(backend),
                Err(reason) => tried.push(format!("`{}`: {reason}", path.display())),
            }
        }
        let tried = if tried.is_empty() { "no path to try".to_owned() } else { format!("tried {}", tried.join("; ")) };
        Err(NotFound { tried })
    }

    fn load_one(path: &Path) -> Result<Self, String> {
        // A bare name is for the system's loader; anything with a folder in it must be there.
        if path.components().count() > 1 && !path.is_file() {
            return Err("no such file".to_owned());
        }
        let environment = ort::init_from(path)
            .map_err(|error| error.to_string())?
            .with_name("torpor")
            .with_telemetry(false)
            .with_logger(Arc::new(log))
            .build()
            .map_err(|error| error.to_string())?;
        let version = library_version(path).map_err(|error| error.to_string())?;
        Ok(OnnxRuntime { environment, version, path: path.to_owned() })
    }
}

/// The part of the library that runs models on `device`, and whether this build of the library has it. `None` for the processor,
/// which needs no such part, and for devices that are not ONNX Runtime's.
fn provider(device: Device) -> Option<(ExecutionProviderDispatch, bool)> {
    fn with<P: ExecutionProvider>(provider: ExecutionProviderDispatch) -> (ExecutionProviderDispatch, bool) {
        (provider.error_on_failure(), P::is_available().unwrap_or(false))
    }
    match device {
        Device::Cuda => Some(with::<ep::CUDA>(ep::CUDA::default().build())),
        Device::TensorRt => Some(with::<ep::TensorRT>(ep::TensorRT::default().build())),
        Device::Cpu | Device::Gpu | Device::Npu => None,
    }
}

/// The version of the library at `path`, such as `1.32.0`, which must be loaded already. `ort` does not tell it.
fn library_version(path: &Path) -> Result<String, libloading::Error> {
    // SAFETY: the library is loaded, so this runs no initializer; it only counts one more user, whom the last line counts off.
    let library = unsafe { libloading::Library::new(path) }?;
    // SAFETY: the C interface declares the symbol with this type. The base and the version string it gives are static.
    let version = unsafe {
        let base = library.get::<unsafe extern "C" fn() -> *const ort::sys::OrtApiBase>(b"OrtGetApiBase")?();
        std::ffi::CStr::from_ptr(((*base).GetVersionString)())
    };
    Ok(version.to_string_lossy().into_owned())
}

/// ONNX Runtime's own log goes to ours. What it calls a warning is advice about models, which is of interest to few.
fn log(level: ort::logging::LogLevel, category: &str, _id: &str, location: &str, message: &str) {
    use ort::logging::LogLevel;
    match level {
        LogLevel::Fatal | LogLevel::Error => tracing::warn!(target: "onnxruntime", category, location, "{message}"),
        LogLevel::Warning => tracing::debug!(target: "onnxruntime", category, location, "{message}"),
        LogLevel::Info | LogLevel::Verbose => tracing::trace!(target: "onnxruntime", category, location, "{message}"),
    }
}

impl Backend for OnnxRuntime {
    fn kind(&self) -> BackendKind {
        BackendKind::OnnxRuntime
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn library(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn devices(&self) -> Vec<String> {
        let here = |device: &Device| *device == Device::Cpu || provider(*device).is_some_and(|(_, here)| here);
        [Device::Cpu, Device::Cuda, Device::TensorRt]
            .iter()
            .filter(|device| here(device))
            .map(Device::to_string)
            .collect()
    }

    fn accepts(&self, options: &OpenOptions) -> Result<(), String> {
        let OpenOptions { device, precision, .. } = *options;
        if precision != Precision::F32 {
            return Err(format!("it does not compute in {precision}; write `precision = \"f32\"`"));
        }
        match provider(device) {
            None if device == Device::Cpu => Ok(()),
            None => Err(format!("it has no device `{device}`; write `device = \"cpu\"`, or `backend = \"openvino\"`")),
            Some((_, true)) => Ok(()),
            Some((provider, false)) => Err(format!(
                "`{}` has no {}, which `device = \"{device}\"` needs; get a build of ONNX Runtime that has it \
                 (`pip download onnxruntime-gpu`), and name it with `--onnxruntime FILE`",
                self.path.display(),
                provider.name(),
            )),
        }
    }

    fn opens(&self, format: ModelFormat) -> bool {
        matches!(format, ModelFormat::Onnx)
    }

    fn open(&self, files: &ModelFiles, options: &OpenOptions) -> Result<Arc<dyn Session>, Error> {
        let path = files.model.as_path();
        self.accepts(options).map_err(|reason| failed(path, reason))?;
        let (file, level) = match options.tier {
            Tier::Original => (path.to_owned(), GraphOptimizationLevel::All),
            Tier::Baseline | Tier::Optimized => (path.join(GRAPH), GraphOptimizationLevel::Disable),
        };
        let open = || -> Result<ort::session::Session, ort::Error> {
            ort::session::Session::builder(&self.environment)?
                .with_optimization_level(level)?
                .with_intra_threads(options.threads.get())?
                // Threads that spin between runs would burn the processor of an idle host.
                .with_intra_op_spinning(false)?
                // Weights are used where they lie in the mapped file, instead of being rearranged for the kernels first.
                .with_prepacking(options.tier != Tier::Baseline)?
                // One that does not work here is an error, since the library would quietly take the processor instead.
                .with_execution_providers(provider(options.device).map(|(provider, _)| provider).as_slice())?
                .commit_from_file(file)
        };
        let session = open().map_err(|error| failed(path, error.to_string()))?;
        Ok(Arc::new(session::OrtSession::new(session).map_err(|reason| failed(path, reason))?))
    }

    fn optimize(&self, files: &ModelFiles, options: &OpenOptions, folder: &Path) -> Result<&'static [Tier], Error> {
        let path = files.model.as_path();
        // The library writes the form while it opens the model: the graph, and beside it the weights, also as its kernels want
        // them. It maps that file, so sessions of one model share its pages.
        let open = || -> Result<ort::session::Session, ort::Error> {
            ort::session::Session::builder(&self.environment)?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_intra_threads(options.threads.get())?
                .with_intra_op_spinning(false)?
                .with_config_entry("session.optimized_model_external_initializers_file_name", WEIGHTS)?
                .with_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", SMALL)?
                .with_config_entry("session.save_external_prepacked_constant_initializers", "1")?
                .with_optimized_model_path(folder.join(GRAPH))?
                .commit_from_file(path)
        };
        open().map_err(|error| failed(path, error.to_string()))?;
        Ok(&[Tier::Baseline, Tier::Optimized])
    }
}

fn failed(path: &Path, reason: String) -> Error {
    Error::Open { backend: BackendKind::OnnxRuntime, model: path.display().to_string(), reason }
}
