//! The checked manifest: plain data that every other crate reads. A value of these types, made by `parse`, is within its range.

use crate::{BackendChoice, ByteSize, Device, FunctionName, HostPort, Method, ModelName, Precision, RoutePath};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// What the operator wants of one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The function's name, unique on its host.
    pub name: FunctionName,
    /// The bundle's file, as written: relative to the folder of the manifest unless it is absolute.
    pub bundle: PathBuf,
    /// What calls it; at least one.
    pub trigger: Triggers,
    /// The models that the module may load, by the name it loads them under.
    pub models: BTreeMap<ModelName, ModelGrant>,
    /// How many run, and for how long they stay.
    pub scale: Scale,
    /// What one request may cost.
    pub limits: Limits,
    /// What the module may reach besides its models.
    pub allow: Allow,
}

/// What calls a function.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Triggers {
    /// Plain HTTP under a path of its own.
    pub http: Option<HttpTrigger>,
    /// The Open Inference Protocol under `/v2/models/NAME`.
    pub inference: Option<InferenceTrigger>,
}

/// Requests for a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTrigger {
    /// Which requests.
    pub path: RoutePath,
    /// Which methods, each once; empty for any.
    pub methods: Vec<Method>,
}

/// Calls of the Open Inference Protocol. It has no settings of its own yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InferenceTrigger {}

/// A model that the module may load, and how it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelGrant {
    /// The library that runs it.
    pub backend: BackendChoice,
    /// The device it runs on.
    pub device: Device,
    /// What it is computed in.
    pub precision: Precision,
    /// Threads within one run, 1 to 256.
    pub threads: usize,
    /// Runs at the same time, 1 to 256.
    pub parallel: usize,
}

impl Default for ModelGrant {
    fn default() -> Self {
        ModelGrant {
            backend: BackendChoice::Auto,
            device: Device::Cpu,
            precision: Precision::F32,
            threads: 1,
            parallel: 1,
        }
    }
}

/// How a function scales.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    /// 0 to let it go cold, 1 to keep it warm.
    pub min: u32,
    /// Requests served at the same time, 1 to 4096.
    pub max_concurrency: usize,
    /// How long after its last request it goes cold, 10 ms to 30 days.
    pub idle_timeout: Duration,
    /// Requests that may wait for a wake or a free place, up to 65536.
    pub queue: usize,
}

impl Default for Scale {
    fn default() -> Self {
        Scale { min: 0, max_concurrency: 16, idle_timeout: Duration::from_secs(30), queue: 256 }
    }
}

/// What one request may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The module's linear memory, 1 MiB to 4 GiB.
    pub memory: ByteSize,
    /// The whole request's time, its wake included, 1 ms to 1 hour.
    pub deadline: Duration,
    /// The request's body, 1 byte to 1 GiB.
    pub body: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { memory: ByteSize::mib(64), deadline: Duration::from_secs(10), body: ByteSize::mib(1) }
    }
}

/// What the module may reach besides its models. The default is nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allow {
    /// Hosts that it may call over HTTP.
    pub outbound: Vec<HostPort>,
    /// Environment variables that it sees; nothing of the host's own environment.
    pub env: BTreeMap<String, String>,
    /// Folders that it may read.
    pub files: Vec<FileGrant>,
}

/// A folder of the host that the module may read, and nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileGrant {
    /// The folder, as written: relative to the folder of the manifest unless it is absolute.
    pub host: PathBuf,
    /// Where the module sees it: an absolute path without `.`, `..` or empty segments.
    pub guest: String,
}
