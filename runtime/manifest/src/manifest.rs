//! The checked manifest: plain data that every other crate reads. A value of these types, made by `parse`, is within its range.
//!
//! A table whose keys all have defaults is declared by [`settings`], one line for each key; the others have their rows in `schema`.

use crate::{
    BackendChoice, ByteSize, Device, FunctionName, HostPort, Isolation, Method, ModelName, Precision, Priority,
    RoutePath, ShareName, schema::settings,
};
use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

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
    /// How a core module is started; not for components.
    pub command: Command,
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
    /// Their share of a model's time.
    pub priority: Priority,
    /// Which answers are kept and given again; `None` for none.
    pub cache: Option<HttpCache>,
}

settings! {
    /// Which answers to plain HTTP requests are kept and given again: those that say so themselves.
    pub struct HttpCache, HTTP_CACHE = "[trigger.http.cache]" {
        "body" body: ByteSize = ByteSize::mib(1), size(ByteSize::bytes(1)..=ByteSize::gib(1)),
            "the longest body that is kept; a longer one streams through";
    }
}

/// Calls of the Open Inference Protocol.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InferenceTrigger {
    /// Their share of a model's time.
    pub priority: Priority,
}

settings! {
    /// A model that the module may load, and how it runs.
    pub struct ModelGrant, MODEL = "[model.NAME]" {
        "backend" backend: BackendChoice = BackendChoice::Auto, word(),
            "the library that runs it; `auto` takes the best one that the host has";
        "device" device: Device = Device::Cpu, word(),
            "the device it runs on";
        "precision" precision: Precision = Precision::F32, word(),
            "what 32-bit floating-point numbers are computed in";
        "threads" threads: usize = 1, integer(1..=256),
            "threads within one run";
        "parallel" parallel: Option<usize> = None, number(1..=256, "the processors by `threads`", "2"),
            "runs at the same time";
        "batch" batch: Option<Batch> = None, settings("no two runs are joined", "{ max-size = 32 }"),
            "how runs of different requests that wait for the model are joined to one";
        "cache" cache: Option<ModelCache> = None, settings("every run is done", "{ ttl = \"5m\" }"),
            "what the model gave for the same inputs is given again, without a run";
        "isolation" isolation: Isolation = Isolation::Host, word(),
            "the process it is opened and run in: the host's, or one of its own, whose crash harms no other model";
        "memory" memory: ByteSize = ByteSize::gib(1), size(ByteSize::mib(1)..=ByteSize::gib(1024)),
            "what it may take of memory where `isolation` is `process`, the library's own not counted";
    }
}

settings! {
    /// How runs are joined along their first dimension.
    pub struct Batch, BATCH = "[model.NAME.batch]" {
        "max-size" max_size: usize = 32, integer(1..=2048),
            "the most rows of one run; how many are best below that is learned";
        "max-delay" max_delay: Duration = Duration::ZERO,
            duration(Duration::ZERO..=Duration::from_secs(1)),
            "how long a run may wait for as many others as came together the last time; 0 never lets one wait while the model is idle";
        "pad" pad: Option<Pad> = None, settings("all dimensions but the first must agree", "{ axis = 1 }"),
            "the dimension in which inputs may differ; outputs are cut where the model gives a dimension the same name";
    }
}

settings! {
    /// For how long and with whom a model's outputs are kept.
    pub struct ModelCache, MODEL_CACHE = "[model.NAME.cache]" {
        "ttl" ttl: Duration = Duration::from_secs(300),
            duration(Duration::from_millis(1)..=Duration::from_secs(30 * 24 * 3600)),
            "how old outputs may be that are given again";
        "share" share: Option<ShareName> = None, name("the function has its own", "\"embeddings\""),
            "functions that write the same name here have outputs of the same model in common";
    }
}

settings! {
    /// How inputs are made equally long.
    pub struct Pad, PAD = "[model.NAME.batch.pad]" {
        "axis" axis: usize = 1, integer(1..=7),
            "the dimension, counted from 0";
        "value" value: i64 = 0, integer(-9_223_372_036_854_775_808..=9_223_372_036_854_775_807),
            "what stands behind an input's own elements; the model must take no notice of it, by a mask for example";
    }
}

settings! {
    /// How a function scales.
    pub struct Scale, SCALE = "[scale]" {
        "min" min: u32 = 0, integer(0..=1),
            "0 lets the function go cold, 1 keeps it warm";
        "max-concurrency" max_concurrency: usize = 16, integer(1..=4096),
            "requests served at the same time";
        "idle-timeout" idle_timeout: Duration = Duration::from_secs(30),
            duration(Duration::from_millis(10)..=Duration::from_secs(30 * 24 * 3600)),
            "how long after the end of its last request it goes cold";
        "queue" queue: usize = 256, integer(0..=65536),
            "requests that may wait for a wake or for a free place; the next one gets 503";
    }
}

settings! {
    /// What one request may cost.
    pub struct Limits, LIMITS = "[limits]" {
        "memory" memory: ByteSize = ByteSize::mib(64), size(ByteSize::mib(1)..=ByteSize::gib(4)),
            "the linear memory of the module, for one request";
        "deadline" deadline: Duration = Duration::from_secs(10),
            duration(Duration::from_millis(1)..=Duration::from_secs(3600)),
            "the time of the call, a wake and the wait for it included; an inference request may take as long again over its body";
        "body" body: ByteSize = ByteSize::mib(1), size(ByteSize::bytes(1)..=ByteSize::gib(1)),
            "the length of the request's body";
    }
}

/// How a core module is started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Command {
    /// Its arguments after its own name; none holds a NUL character.
    pub args: Vec<String>,
}

/// What the module may reach besides its models. The default is nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allow {
    /// Hosts that it may call over HTTP.
    pub outbound: Vec<HostPort>,
    /// Environment variables that it sees; nothing of the host's own environment but what the manifest asks for.
    pub env: BTreeMap<String, EnvValue>,
    /// Folders that it may read.
    pub files: Vec<FileGrant>,
    /// The absolute path at which it may read the files of its bundle; `None` for none of them.
    pub bundle_files: Option<String>,
    /// Bytes of models that one instance may bring itself, 1 byte to 1 GiB; `None` for none at all.
    pub load: Option<ByteSize>,
}

/// The value of an environment variable of the module. It may be a secret, so `Debug` hides it, and nothing displays it.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvValue(String);

impl EnvValue {
    pub(crate) fn new(value: String) -> Self {
        EnvValue(value)
    }
}

/// For whoever makes the module's environment.
impl AsRef<str> for EnvValue {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EnvValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnvValue(..)")
    }
}

/// A folder of the host that the module may read, and nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileGrant {
    /// The folder, as written: relative to the folder of the manifest unless it is absolute.
    pub host: PathBuf,
    /// Where the module sees it: an absolute path without `.`, `..` or empty segments.
    pub guest: String,
}
