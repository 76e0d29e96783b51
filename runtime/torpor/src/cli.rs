//! The commands and their flags. The environment is read here and nowhere else.

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::SystemTime};
use torpor_manifest::{ByteSize, FunctionName, ModelName};

/// The least memory budget. Hardly a model opens in less, and whoever asks for it forgot the unit.
const LEAST_BUDGET: ByteSize = ByteSize::mib(1);

/// Torpor: a serverless WebAssembly inference runtime.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Write results and errors as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a host that serves the functions of manifests.
    Serve(Serve),
    /// Check manifests, and report all mistakes of all files at once.
    ///
    /// Where a manifest joins runs of a model (`batch`), its bundle is looked at too if it is there: whether the model can be run so.
    Check(Check),
    /// Print the JSON Schema of manifests, by which editors complete and check them.
    Schema,
    /// Deploy manifests on a running host.
    Deploy(Deploy),
    /// Take functions away from a running host.
    Undeploy(Undeploy),
    /// Show what deploying manifests would change on a running host. Exit code 1 if anything.
    Diff(Diff),
    /// Deploy an earlier revision of a function again.
    Rollback(Rollback),
    /// Show the revisions of a function, and what each has changed.
    History(History),
    /// Show the functions of a running host.
    Ps(Ps),
    /// Show where the time of a function's last call went.
    Trace(Trace),
    /// Call a function of a running host.
    Invoke(Invoke),
    /// Make a project for a module: sources, bundle, manifest, and the commands to run it.
    New(New),
    /// Pack a module folder into a bundle.
    Pack(Pack),
    /// Show what is in a bundle.
    Inspect(Inspect),
    /// Make a pair of keys to sign bundles with.
    Keygen(Keygen),
    /// Sign a bundle.
    Sign(Sign),
    /// Check that a trust policy accepts a bundle.
    Verify(Verify),
    /// Write what a shell needs to complete commands and flags.
    Completions(Completions),
    /// Write the manual pages.
    Man(Man),
    /// Show what this machine can run models with, and how to get what is missing.
    Doctor(Doctor),
    /// Hold one model for a host, which starts this itself.
    #[command(hide = true)]
    Worker(Worker),
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Manifests, or folders of them; `${NAME}` in them is taken from the host's environment.
    #[arg(long, value_name = "PATH", num_args = 1.., default_value = "manifests")]
    pub(crate) manifests: Vec<PathBuf>,
    /// Deploy manifests and bundles that change while the host runs, and undeploy what is removed.
    #[arg(long)]
    pub(crate) watch: bool,
    /// The trust policy: which publishers may provide which functions.
    #[arg(long, value_name = "FILE", env = "TORPOR_TRUST", required_unless_present = "insecure_allow_unsigned")]
    pub(crate) trust: Option<PathBuf>,
    /// Run bundles that nobody signed. Whoever can write a bundle then runs code on this host.
    #[arg(long, conflicts_with = "trust")]
    pub(crate) insecure_allow_unsigned: bool,
    /// The state directory: deployments, bundles' contents, compiled modules, the host's key.
    #[arg(long, value_name = "DIR", env = "TORPOR_STATE", default_value = ".torpor")]
    pub(crate) state: PathBuf,
    /// Where callers connect.
    #[arg(long, value_name = "ADDRESS", env = "TORPOR_LISTEN", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Where the operator connects; a loopback address.
    #[arg(long, value_name = "ADDRESS", env = "TORPOR_ADMIN", default_value = "127.0.0.1:8081")]
    pub(crate) admin: SocketAddr,
    /// Write both addresses to this file as JSON once the host serves, for programs that let it choose its ports.
    #[arg(long, value_name = "FILE")]
    pub(crate) addresses: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) libraries: Libraries,
    /// Connections that may be open at the same time. For more, those have to go that have been silent for longest.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_connections: u32,
    /// How long a client may take over the head of a request, say nothing between two, and read nothing of an answer.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = patience)]
    pub(crate) client_timeout: humantime::Duration,
    /// Instances that may exist at the same time, of all functions together.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) max_instances: u32,
    /// Memory that functions may take together, such as `4GiB`: those that are idle for longest sleep before it is exceeded.
    #[arg(long, value_name = "SIZE", env = "TORPOR_MEMORY_BUDGET", value_parser = memory_budget)]
    pub(crate) memory_budget: Option<ByteSize>,
    /// Disk space that optimized forms of models may take: those that were not used for longest go before it is exceeded.
    #[arg(long, value_name = "SIZE", env = "TORPOR_OPTIMIZED_LIMIT", default_value = "16GiB", value_parser = size)]
    pub(crate) optimized_limit: ByteSize,
    /// Memory for what functions keep of their answers, where their manifests say so; `0` for none.
    #[arg(long, value_name = "SIZE", env = "TORPOR_RESPONSE_CACHE", default_value = "64MiB", value_parser = response_cache)]
    pub(crate) response_cache: ByteSize,
    /// Let callers load and unload functions, by the model repository extension of the Open Inference Protocol.
    #[arg(long)]
    pub(crate) model_control: bool,
    /// How long requests may still take once the host is told to stop.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub(crate) drain: humantime::Duration,
    /// What to log, such as `info` or `warn,torpor_engine=debug`.
    #[arg(long, value_name = "FILTER", env = "TORPOR_LOG", default_value = "info")]
    pub(crate) log: String,
    /// How log lines look.
    #[arg(long, value_enum, env = "TORPOR_LOG_FORMAT", default_value_t)]
    pub(crate) log_format: LogFormat,
}

fn size(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|error: torpor_manifest::Error| error.to_string())
}

fn patience(text: &str) -> Result<humantime::Duration, String> {
    let time: humantime::Duration = text.parse().map_err(|error: humantime::DurationError| error.to_string())?;
    if time.is_zero() {
        return Err("no client could send anything within that; give at least `1ms`".to_owned());
    }
    Ok(time)
}

/// Nothing has no unit.
fn response_cache(text: &str) -> Result<ByteSize, String> {
    if text == "0" { Ok(ByteSize::bytes(0)) } else { size(text) }
}

fn memory_budget(text: &str) -> Result<ByteSize, String> {
    let size = size(text)?;
    if size < LEAST_BUDGET {
        return Err(format!("no function fits into that; give at least {LEAST_BUDGET}"));
    }
    Ok(size)
}

/// Where native libraries are.
#[derive(Debug, Args)]
pub(crate) struct Libraries {
    /// The ONNX Runtime library. Without it, it is sought beside this program and among the system's libraries.
    #[arg(long, value_name = "FILE", env = "TORPOR_ONNXRUNTIME")]
    pub(crate) onnxruntime: Option<PathBuf>,
    /// OpenVINO: its C library, or the folder that it is in. Without it, it is sought as ONNX Runtime is.
    #[arg(long, value_name = "FILE|DIR", env = "TORPOR_OPENVINO")]
    pub(crate) openvino: Option<PathBuf>,
}

impl From<Libraries> for torpor::Libraries {
    fn from(Libraries { onnxruntime, openvino }: Libraries) -> Self {
        torpor::Libraries { onnxruntime, openvino }
    }
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line an event, for people.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
}

/// The program that holds models in processes of their own: this one, also if its file has been replaced meanwhile. Of the environment
/// it gets what the system's loader may need to find a library again.
pub(crate) fn worker() -> torpor::Worker {
    let name = "LD_LIBRARY_PATH";
    let folders = variable(name);
    let readable = folders.iter().flat_map(std::env::split_paths).filter(|folder| folder.is_absolute()).collect();
    let environment = folders.map(|folders| (name.into(), folders)).into_iter().collect();
    torpor::Worker { file: "/proc/self/exe".into(), environment, readable, writable: None }
}

/// What the environment variable holds that a manifest names.
#[expect(clippy::disallowed_methods, reason = "this file is where the environment is read")]
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Manifests, or folders of them; `${NAME}` in them is taken from this command's environment.
    #[arg(value_name = "PATH", default_value = "manifests")]
    pub(crate) manifests: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// Manifests, or folders of them. All are deployed, or none where the host refuses one.
    #[arg(value_name = "PATH", required = true)]
    pub(crate) manifests: Vec<PathBuf>,
    /// Have the host check everything, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Wake every function before it takes its place; without it only those with `scale.min = 1`.
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

#[derive(Debug, Args)]
pub(crate) struct Undeploy {
    /// The functions. Requests that they answer already are answered to the end.
    #[arg(value_name = "FUNCTION", required = true)]
    pub(crate) functions: Vec<FunctionName>,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// Manifests, or folders of them.
    #[arg(value_name = "PATH", required = true)]
    pub(crate) manifests: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The function.
    pub(crate) function: FunctionName,
    /// The revision to deploy again; without it, the one before the current.
    #[arg(long, value_name = "REVISION")]
    pub(crate) to: Option<u64>,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// The function.
    pub(crate) function: FunctionName,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Only this function.
    #[arg(value_name = "FUNCTION")]
    pub(crate) function: Option<FunctionName>,
    /// Show them again each second, until interrupted or the host has gone away; with `--json` a line each time.
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// The function.
    pub(crate) function: FunctionName,
    /// Wait for the next call to end, instead of showing the last one that did.
    #[arg(long)]
    pub(crate) next: bool,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

/// How to reach a running host.
#[derive(Debug, Args)]
pub(crate) struct Admin {
    /// The host's admin address.
    #[arg(long, value_name = "ADDRESS", env = "TORPOR_ADMIN", default_value = "127.0.0.1:8081")]
    pub(crate) admin: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct Invoke {
    /// The function to call.
    pub(crate) function: FunctionName,
    /// The body of the request: `@FILE` for a file's content, `@-` for standard input, else the text itself.
    #[arg(short, long, value_name = "BODY", default_value = "@-")]
    pub(crate) data: String,
    /// Which trigger to use, for a function that has both.
    #[arg(long, value_enum)]
    pub(crate) trigger: Option<Trigger>,
    /// Also show how long the answer took, and its wake if there was one.
    #[arg(long)]
    pub(crate) timing: bool,
    /// The host's data address.
    #[arg(long, value_name = "ADDRESS", env = "TORPOR_LISTEN", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Trigger {
    /// The function's own path.
    Http,
    /// The Open Inference Protocol.
    Inference,
}

#[derive(Debug, Args)]
pub(crate) struct New {
    /// The function's name, and that of its crate.
    pub(crate) name: FunctionName,
    /// What the function takes and gives.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) kind: Kind,
    /// The folder to make, instead of one named after the function.
    #[arg(long, value_name = "DIR")]
    pub(crate) path: Option<PathBuf>,
    /// Where the crate `torpor-guest` is: a folder, or the address of a Git repository. Without it, crates.io. A command needs none.
    #[arg(long, value_name = "PATH|URL")]
    pub(crate) guest: Option<String>,
}

/// Kinds of functions; what `torpor new` makes of each is in `template.rs`.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum Kind {
    /// Named tensors, around a model; served over the inference protocols.
    #[default]
    Predict,
    /// Any HTTP request.
    Http,
    /// A program of WASI preview 1: the body of an HTTP request on standard input, the answer on standard output.
    Command,
}

impl Kind {
    /// The word for it on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

#[derive(Debug, Args)]
pub(crate) struct Pack {
    /// The module's folder, with a `bundle.toml`.
    pub(crate) folder: PathBuf,
    /// The Wasm file to take instead of the one that `bundle.toml` names: a component, a core module that makes one, or a program.
    #[arg(long, value_name = "WASM")]
    pub(crate) module: Option<PathBuf>,
    /// A model file to take instead of the one that `bundle.toml` names.
    #[arg(long = "model", value_name = "NAME=FILE", value_parser = model)]
    pub(crate) models: Vec<(ModelName, PathBuf)>,
    /// The bundle to write, instead of `NAME.torpor` in the current folder.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

fn model(text: &str) -> Result<(ModelName, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("write `NAME=FILE`")?;
    let name = name.parse().map_err(|error: torpor_manifest::Error| error.to_string())?;
    Ok((name, file.into()))
}

fn moment(text: &str) -> Result<SystemTime, String> {
    let whole = if text.contains(['T', ' ']) { text.to_owned() } else { format!("{text}T00:00:00Z") };
    humantime::parse_rfc3339_weak(&whole)
        .map_err(|error| format!("{error}; write a date, or a date and time in UTC, such as `2030-01-31T12:00:00Z`"))
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The bundle.
    pub(crate) bundle: PathBuf,
    /// A trust policy, to name who signed, and to say which signatures count.
    #[arg(long, value_name = "FILE", env = "TORPOR_TRUST")]
    pub(crate) trust: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// Where to write the keys: `STEM.key.pem` and `STEM.pub.pem`.
    pub(crate) stem: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The bundle, which is changed in place.
    pub(crate) bundle: PathBuf,
    /// The private key.
    #[arg(long, value_name = "FILE", env = "TORPOR_KEY")]
    pub(crate) key: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The bundle.
    pub(crate) bundle: PathBuf,
    /// The trust policy.
    #[arg(long, value_name = "FILE", env = "TORPOR_TRUST")]
    pub(crate) trust: PathBuf,
    /// The function that it is to be deployed as; without it, no pattern or rule of the policy is looked at.
    #[arg(long, value_name = "NAME")]
    pub(crate) function: Option<FunctionName>,
    /// Judge as of this time instead of now, such as `2030-01-31` or `2030-01-31T12:00:00Z`.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) at: Option<SystemTime>,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Write the page of each command into this folder, instead of the first one to standard output.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) libraries: Libraries,
}

#[derive(Debug, Args)]
pub(crate) struct Worker {
    /// The backend.
    #[arg(long)]
    pub(crate) backend: String,
    /// The backend's library.
    #[arg(long)]
    pub(crate) library: Option<PathBuf>,
    /// A folder of models or libraries.
    #[arg(long)]
    pub(crate) readable: Vec<PathBuf>,
    /// The folder of optimized models.
    #[arg(long)]
    pub(crate) writable: Option<PathBuf>,
}
