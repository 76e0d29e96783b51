//! What can go wrong on the way of a deployment, and on the way of a request.

use crate::budget::TooLarge;
use std::{path::PathBuf, time::Duration};
use torpor_manifest::{FunctionName, ModelName};

/// Why the engine could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// wasmtime refused its configuration: this system cannot run guests as the host needs.
    #[error("cannot start the WebAssembly engine: {0}")]
    Engine(String),
    /// A file of the state directory could not be read or written.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried, such as `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Why a function could not be deployed. For the operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeployError {
    /// The module is not valid, or uses a feature that is off.
    #[error("the module cannot be compiled: {0}")]
    Compile(String),
    /// The module imports something that the host does not provide.
    #[error(
        "the module cannot be linked: {0}; it may import only `wasi:nn`, `torpor:function` and WASI 0.2 interfaces"
    )]
    Link(String),
    /// A core module imports something that the host does not provide.
    #[error(
        "the module imports `{name}` from `{module}`, which {hosted}; a core module may import only `wasi_snapshot_preview1` and `wasi_ephemeral_nn`"
    )]
    Import {
        /// Where the module wants it from.
        module: String,
        /// What it wants.
        name: String,
        /// Who has such an import, and what to do without it.
        hosted: &'static str,
    },
    /// A core module imports something as what it is not.
    #[error("the module cannot be linked: {0}; its toolchain has another idea of that interface")]
    CoreLink(String),
    /// A core module has no entry point.
    #[error(
        "the module is a core module without `{0}`, so it is no program; build it as a WASI command (a `bin` for `wasm32-wasip1`), or as a component"
    )]
    NoStart(&'static str),
    /// The manifest has a trigger that no core module can serve.
    #[error(
        "the manifest has `[trigger.inference]`, but the module is a core module, which answers plain HTTP; use `[trigger.http]`, or build a component that exports `torpor:function/predict`"
    )]
    CoreInference,
    /// The manifest has answers kept that never say that they may be.
    #[error(
        "the manifest has `cache` in `[trigger.http]`, but the module is a core module, whose answers are not kept; leave it out"
    )]
    CoreCache,
    /// The manifest has arguments for a module that is not started with any.
    #[error("the manifest has arguments in `[command]`, but the module is a component; leave them out")]
    ComponentArguments,
    /// The manifest lets the module load models, but there is nothing to open them with.
    #[error("the manifest has `load` in `[allow]`, but no backend here opens such models")]
    Load {
        /// Why not.
        #[source]
        source: torpor_nn::Error,
    },
    /// The manifest has a trigger that the module does not serve.
    #[error("the manifest has `[trigger.{trigger}]`, but the module does not export `{export}`")]
    NoExport {
        /// The manifest's trigger.
        trigger: &'static str,
        /// The interface it needs.
        export: &'static str,
    },
    /// The bundle has no signature of inputs and outputs, so no protocol can serve it.
    #[error(
        "the manifest has `[trigger.inference]`, but the bundle declares no inputs and outputs; add them to its `bundle.toml`"
    )]
    NoSignature,
    /// The manifest grants the bundle's files, of which there are none.
    #[error("the manifest has `bundle-files` in `[allow]`, but the bundle has no files; leave it out")]
    NoFiles,
    /// The manifest grants a model that is not in the bundle.
    #[error("the manifest grants the model `{model}`, but the bundle has {available}")]
    NoModel {
        /// The model that the manifest names.
        model: ModelName,
        /// What there is instead, for people.
        available: String,
    },
    /// The model's format or backend is not available here.
    #[error("the model `{model}` cannot be opened here")]
    Model {
        /// The model.
        model: ModelName,
        /// Why not.
        #[source]
        source: torpor_nn::Error,
    },
    /// Runs of the model cannot be joined, although the manifest says so.
    #[error("`batch` joins runs of the model `{model}`, which it cannot: {reason}")]
    Batch {
        /// The model.
        model: ModelName,
        /// Which input or output is in the way.
        reason: String,
    },
    /// A granted folder cannot be opened.
    #[error("the folder `{path}` in `[allow]` cannot be opened")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The function was to be warm before it takes its place, and did not wake.
    #[error("the function does not wake: {0}")]
    Wake(String),
    /// The function was to be warm before it takes its place, and other functions hold the memory.
    #[error("the function does not wake: no memory became free for it; let others sleep, or raise `--memory-budget`")]
    NoMemory,
    /// A file of the state directory could not be read or written, or is damaged.
    #[error(transparent)]
    Store(#[from] Error),
    /// The bundle's files have changed since they were verified.
    #[error(transparent)]
    Bundle(#[from] torpor_bundle::Error),
}

/// Why a wake did not succeed. For the operator: `ps` shows it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum WakeError {
    #[error(transparent)]
    Code(#[from] DeployError),
    #[error("the model `{model}` did not open")]
    Model {
        model: ModelName,
        #[source]
        source: torpor_nn::Error,
    },
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error("the wake was interrupted")]
    Interrupted,
}

/// Why a request got no answer. A small closed set, since the gateway turns it into a status in one place.
///
/// No variant holds the text of a trap, a backend or a path: those go to the log, where they are made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The caller sent something that the function cannot take; the text is made for the caller.
    #[error("{0}")]
    InvalidInput(String),
    /// The function's queue is full.
    #[error("the queue of `{function}` is full")]
    QueueFull {
        /// The function.
        function: FunctionName,
        /// When to try again.
        retry_after: Duration,
    },
    /// The request could not be answered within its deadline, and was not tried, since too many others are before it.
    #[error("`{function}` has too many requests now to answer this one within its deadline")]
    Overloaded {
        /// The function.
        function: FunctionName,
        /// When to try again.
        retry_after: Duration,
    },
    /// The deadline of the manifest has passed before there was memory for the function to wake.
    #[error("there is no memory for `{function}` now, since other functions are busy")]
    NoMemory {
        /// The function.
        function: FunctionName,
        /// When to try again.
        retry_after: Duration,
    },
    /// The deadline of the manifest has passed.
    #[error("`{function}` did not answer within its deadline")]
    Deadline {
        /// The function.
        function: FunctionName,
    },
    /// The function is there but could not wake, now or lately.
    #[error("`{function}` is not able to start")]
    Unavailable {
        /// The function.
        function: FunctionName,
    },
    /// The operator, or a caller whom the operator lets do that, has unloaded the function.
    #[error("`{function}` is unloaded; load it before calling it")]
    Unloaded {
        /// The function.
        function: FunctionName,
    },
    /// The process of one of the function's models ended before it had answered. The next request finds another.
    #[error("`{function}` failed to answer: what ran its model ended")]
    ModelEnded {
        /// The function.
        function: FunctionName,
    },
    /// The function trapped, ran out of memory, or said that it failed.
    #[error("`{function}` failed to answer")]
    Failed {
        /// The function.
        function: FunctionName,
    },
}

/// An error with all its causes, on one line, for the log and for `ps`.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
