//! Which inference libraries this host has.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};
use torpor_backend_onnxruntime::OnnxRuntime;
use torpor_backend_openvino::OpenVino;
use torpor_backend_tract::Tract;
use torpor_nn::{Backend, BackendKind, Backends};

/// The native libraries to load; those that are `None` are sought beside this program and where the system keeps its libraries.
#[derive(Debug, Clone, Default)]
pub struct Libraries {
    /// ONNX Runtime's file.
    pub onnxruntime: Option<PathBuf>,
    /// The file of OpenVINO's C library, or its folder.
    pub openvino: Option<PathBuf>,
}

/// Folders that packages put libraries into and that the system's loader may not know, or only by names with a version.
const SYSTEM: [&str; 4] =
    ["/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/local/lib", "/opt/intel/openvino/runtime/lib/intel64"];

/// Loads what can be loaded, in the order in which `backend = "auto"` prefers it. Call it once a process, since the libraries keep
/// global state.
pub fn load(libraries: Libraries) -> Backends {
    let mut backends = Backends::default();
    let Libraries { onnxruntime, openvino } = libraries;
    match OnnxRuntime::load(&onnxruntime.map_or_else(onnxruntime_places, |path| vec![path])) {
        Ok(library) => add(&mut backends, library),
        Err(reason) => {
            tracing::warn!(%reason, "ONNX Runtime is not available; models with `backend = \"auto\"` run on another backend");
            backends.add_missing(BackendKind::OnnxRuntime, reason.to_string());
        }
    }
    let named = openvino.is_some();
    match OpenVino::load(&openvino.map_or_else(openvino_places, |path| vec![path])) {
        Ok(library) => add(&mut backends, library),
        Err(reason) => {
            // Most hosts do without it, so only one that was told to have it says so.
            match named {
                true => tracing::warn!(%reason, "OpenVINO is not available"),
                false => tracing::debug!(%reason, "OpenVINO is not available"),
            }
            backends.add_missing(BackendKind::OpenVino, reason.to_string());
        }
    }
    backends.add(Arc::new(Tract));
    backends
}

/// Loads one backend, with the native library at `library` if it has one. For the process of a single model.
///
/// # Errors
/// When there is no such backend, or its library cannot be loaded.
pub fn load_one(name: &str, library: Option<PathBuf>) -> Result<Arc<dyn Backend>, String> {
    let places = library.as_slice();
    match name {
        "onnxruntime" => {
            OnnxRuntime::load(places).map(|backend| Arc::new(backend) as _).map_err(|error| error.to_string())
        }
        "openvino" => OpenVino::load(places).map(|backend| Arc::new(backend) as _).map_err(|error| error.to_string()),
        "tract" => Ok(Arc::new(Tract)),
        _ => Err(format!("there is no backend `{name}`")),
    }
}

/// Has models that are to run in processes of their own run in processes of `worker`. Elsewhere than on Linux there are none.
pub fn isolate(backends: &mut Backends, worker: Worker) {
    #[cfg(target_os = "linux")]
    {
        let Worker { file, mut environment, readable, writable } = worker;
        // A worker tells nobody anything; this one would begin a thread for it.
        environment.push(("ORT_DISABLE_TELEMETRY".into(), "1".into()));
        let places = torpor_worker::Places { readable, writable };
        let program = torpor_worker::Program { file, environment, places };
        backends.isolate_by(Arc::new(torpor_worker::Workers::new(program)));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (backends, worker);
}

/// What confines worker processes on this machine.
#[derive(Debug, Clone)]
pub struct Confinement {
    /// Parts of the kernel that do.
    pub parts: Vec<&'static str>,
    /// What is missing, and what that means.
    pub lacks: Option<&'static str>,
}

/// Asks the kernel what confines worker processes.
pub fn confinement() -> Confinement {
    #[cfg(target_os = "linux")]
    {
        let confinement = torpor_worker::Confinement::of_this_machine();
        let parts = [("seccomp", confinement.seccomp), ("landlock", confinement.landlock)];
        let parts = parts.into_iter().filter(|(_, there)| *there).map(|(part, _)| part).collect();
        Confinement { parts, lacks: confinement.lacks() }
    }
    #[cfg(not(target_os = "linux"))]
    Confinement { parts: Vec::new(), lacks: Some("there are none, since worker processes need Linux") }
}

/// The program whose `worker` command holds a model in a process of its own: this one, as a rule.
#[derive(Debug, Clone)]
pub struct Worker {
    /// Its file.
    pub file: PathBuf,
    /// The environment variables that it gets, and no others.
    pub environment: Vec<(OsString, OsString)>,
    /// Absolute folders that it may read: those of models, and those of libraries that are not where the system keeps its own. A host
    /// adds those of its state directory.
    pub readable: Vec<PathBuf>,
    /// The absolute folder that optimized models are written to. A host says so itself.
    pub writable: Option<PathBuf>,
}

fn add(backends: &mut Backends, backend: impl Backend + 'static) {
    let library = backend.library().map(|path| path.display().to_string());
    tracing::info!(backend = %backend.kind(), version = backend.version(), library, "loaded");
    backends.add(Arc::new(backend));
}

/// The folder of this program.
fn beside() -> Option<PathBuf> {
    Some(env::current_exe().ok()?.parent()?.to_owned())
}

fn file_name(library: &str) -> PathBuf {
    PathBuf::from(format!("{}{library}{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX))
}

fn onnxruntime_places() -> Vec<PathBuf> {
    let name = file_name("onnxruntime");
    let beside = beside().map(|folder| folder.join(&name));
    let versioned = cfg!(target_os = "linux").then(|| name.with_added_extension("1"));
    beside.into_iter().chain([name]).chain(versioned).collect()
}

/// OpenVINO's files are many and their names carry the version, so folders are looked into too.
fn openvino_places() -> Vec<PathBuf> {
    let beside = beside().into_iter().flat_map(|folder| [folder.join("openvino"), folder]);
    let system = SYSTEM.iter().map(Path::new).filter(|folder| folder.is_dir()).map(Path::to_path_buf);
    beside.filter(|folder| folder.is_dir()).chain([file_name("openvino_c")]).chain(system).collect()
}
