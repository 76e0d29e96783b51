//! Which inference libraries this host has.

use std::{env, path::PathBuf, sync::Arc};
use torpor_backend_onnxruntime::OnnxRuntime;
use torpor_backend_tract::Tract;
use torpor_nn::{Backend, BackendKind, Backends};

/// Loads what can be loaded, in the order in which `backend = "auto"` prefers it. `onnxruntime` is the library to take; without
/// it, it is sought beside this program and where the system keeps its libraries. Call it once a process.
pub(crate) fn load(onnxruntime: Option<PathBuf>) -> Backends {
    let mut backends = Backends::default();
    let candidates = onnxruntime.map_or_else(usual_places, |path| vec![path]);
    match OnnxRuntime::load(&candidates) {
        Ok(library) => {
            tracing::info!(version = library.version(), library = %library.path().display(), "ONNX Runtime is loaded");
            backends.add(Arc::new(library));
        }
        Err(reason) => {
            tracing::warn!(%reason, "ONNX Runtime is not available; models with `backend = \"auto\"` run on tract");
            backends.add_missing(BackendKind::OnnxRuntime, reason.to_string());
        }
    }
    backends.add(Arc::new(Tract));
    backends
}

fn usual_places() -> Vec<PathBuf> {
    let name = format!("{}onnxruntime{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    let beside = env::current_exe().ok().and_then(|program| Some(program.parent()?.join(&name)));
    let versioned = cfg!(target_os = "linux").then(|| PathBuf::from(format!("{name}.1")));
    beside.into_iter().chain([PathBuf::from(name)]).chain(versioned).collect()
}
