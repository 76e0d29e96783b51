//! How a function is doing, for `ps` and the admin interface.

use crate::{State, WakeTiming};
use serde::{Serialize, Serializer};
use std::time::{Duration, SystemTime};
use torpor_manifest::Manifest;

/// A function at one moment.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct FunctionStatus {
    /// Its name.
    pub name: String,
    /// Where it stands in its life.
    pub state: State,
    /// What calls it.
    pub trigger: TriggerStatus,
    /// Version that its bundle declares; `None` for a function that was not deployed.
    pub version: Option<String>,
    /// Digest of its bundle's manifest; `None` for a function that was not deployed.
    pub digest: Option<String>,
    /// Whose signatures made its bundle runnable; empty where the host takes unsigned ones.
    pub publishers: Vec<String>,
    /// The models that it may use.
    pub models: Vec<ModelStatus>,
    /// Open native sessions.
    pub sessions: usize,
    /// How much the process grew when it woke, in bytes; `None` while it is not warm.
    pub memory: Option<u64>,
    /// What it counts with towards the memory budget, in bytes; `None` while it is not in memory.
    pub budgeted: Option<u64>,
    /// Whether it wants to wake and waits for memory.
    pub lacks_memory: bool,
    /// Requests that are being answered.
    pub active: usize,
    /// Requests that wait.
    pub queued: usize,
    /// Requests that have ended, however they did. This and the counts below are those of this revision, since the host started.
    pub calls: u64,
    /// When the last request ended, in seconds since 1970.
    #[serde(serialize_with = "unix_seconds")]
    pub last_call: Option<SystemTime>,
    /// Wakes that succeeded.
    pub wakes: u64,
    /// Wakes that did not.
    pub wake_failures: u64,
    /// Times it went back to zero.
    pub sleeps: u64,
    /// Those of them for which another function's need of memory was the cause.
    pub evictions: u64,
    /// Why it slept last: `idle`, `budget` or `retired`; `None` if it did not yet.
    pub last_sleep: Option<&'static str>,
    /// Times that the process of one of its models ended on its own.
    pub model_ends: u64,
    /// The parts of the last wake.
    pub last_wake: Option<WakeTiming>,
    /// Why the last wake did not succeed, how the process of a model ended, or why the function was not deployed; `None` once it has
    /// woken.
    pub cause: Option<String>,
}

/// What calls a function.
#[derive(Debug, Clone, Serialize)]
pub struct TriggerStatus {
    /// The path of its HTTP trigger.
    pub http: Option<String>,
    /// Whether the inference protocol serves it.
    pub inference: bool,
}

impl TriggerStatus {
    fn new(manifest: &Manifest) -> Self {
        let http = manifest.trigger.http.as_ref().map(|http| http.path.to_string());
        TriggerStatus { http, inference: manifest.trigger.inference.is_some() }
    }
}

impl FunctionStatus {
    /// A function that has done nothing yet.
    pub(crate) fn at_rest(manifest: &Manifest) -> Self {
        Self::new(manifest.name.to_string(), TriggerStatus::new(manifest))
    }

    fn new(name: String, trigger: TriggerStatus) -> Self {
        FunctionStatus {
            name,
            state: State::Cold,
            trigger,
            version: None,
            digest: None,
            publishers: Vec::new(),
            models: Vec::new(),
            sessions: 0,
            memory: None,
            budgeted: None,
            lacks_memory: false,
            active: 0,
            queued: 0,
            calls: 0,
            last_call: None,
            wakes: 0,
            wake_failures: 0,
            sleeps: 0,
            evictions: 0,
            last_sleep: None,
            model_ends: 0,
            last_wake: None,
            cause: None,
        }
    }

    /// A function of which not even the manifest is known, and why.
    pub fn lost(name: String, cause: String) -> Self {
        let trigger = TriggerStatus { http: None, inference: false };
        FunctionStatus { state: State::Failed, cause: Some(cause), ..Self::new(name, trigger) }
    }

    /// A function that could not be deployed, and why.
    pub fn not_deployed(manifest: &Manifest, cause: String) -> Self {
        FunctionStatus { state: State::Failed, cause: Some(cause), ..Self::at_rest(manifest) }
    }
}

/// A model that a function may use.
#[derive(Debug, Clone, Serialize)]
pub struct ModelStatus {
    /// The name that the module loads.
    pub name: String,
    /// The library that runs it.
    pub backend: &'static str,
    /// The library's version.
    pub backend_version: String,
    /// How it is open: `original`, `baseline` or `optimized`; `None` while the function is not warm.
    pub tier: Option<&'static str>,
    /// Whether it is in the host's process, or in one of its own.
    pub isolation: &'static str,
    /// The process of its own; `None` while it has none.
    pub process: Option<u32>,
}

pub(crate) fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64() * 1e3)
}

pub(crate) fn maybe_milliseconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64() * 1e3).serialize(serializer)
}

pub(crate) fn unix_seconds<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    let since = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    since.map(|since| since.as_secs_f64()).serialize(serializer)
}
