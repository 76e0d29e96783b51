//! What a worker process costs: the same function with its model in the host's process and in one of its own, by turns in one run,
//! so that whatever disturbs the machine disturbs both. Calls go without HTTP, through a fresh instance each.
//!
//! `docs/benchmarks.md` says what the numbers mean.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to the one who typed it")]

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::json;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};
use torpor::{
    Config, Host, Libraries, Trust, Worker,
    engine::Function,
    gateway,
    tensor::{DType, NamedTensor, Shape, Tensor},
};
use torpor_benches::{
    host::{find, until_cold},
    statistics::{median, micros, quantile},
};

/// What a run in a worker may cost above one in the host, and a wake, in microseconds.
const RUN_TARGET: f64 = 30.0;
const WAKE_TARGET: f64 = 5_000.0;
/// Calls in a row, before it is the other's turn, and those of them that only warm caches up.
const BATCH: usize = 250;
const WARM_UP: usize = 50;
/// Between two wakes, so that each finds the machine idle, and a spare worker ready.
const PAUSE: Duration = Duration::from_millis(150);

#[derive(Parser)]
#[command(
    bin_name = "cargo xtask bench isolation",
    about = "Measures models in worker processes against models in the host"
)]
struct Arguments {
    /// Calls of each, and a hundredth of that in wakes
    #[arg(long, default_value_t = 10_000)]
    calls: usize,
    /// Also write the results to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if a target is missed
    #[arg(long)]
    assert: bool,
    /// The `torpor` binary
    #[arg(long, value_name = "FILE", env = "TORPOR_BIN")]
    torpor: PathBuf,
    /// The models, as `cargo xtask setup` lays them out
    #[arg(long, value_name = "DIR", env = "TORPOR_TEST_ASSETS")]
    assets: PathBuf,
    /// The modules, built
    #[arg(long, value_name = "DIR", env = "TORPOR_TEST_MODULES")]
    modules: PathBuf,
    /// The ONNX Runtime library
    #[arg(long, value_name = "FILE", env = "TORPOR_ONNXRUNTIME")]
    onnxruntime: PathBuf,
}

/// A function, and a call of it.
struct Workload {
    name: &'static str,
    bundle: &'static str,
    module: &'static str,
    grant: &'static str,
    /// A file of the assets; `None` for that of `bundle.toml`.
    model: Option<&'static str>,
    call: fn() -> Result<Vec<NamedTensor>>,
}

const WORKLOADS: [Workload; 2] = [
    Workload {
        name: "add",
        bundle: "tests/bundles/add",
        module: "passthrough.wasm",
        grant: "model",
        model: None,
        call: || {
            let row = |name: &str| -> Result<NamedTensor> {
                Ok((name.to_owned(), Tensor::new(DType::F32, Shape::from([1, 4]), vec![0; 16].into())?))
            };
            Ok(vec![row("x")?, row("y")?])
        },
    },
    Workload {
        name: "filetype",
        bundle: "modules/filetype",
        module: "filetype.wasm",
        grant: "standard",
        model: Some("magika/model.onnx"),
        call: || {
            let text = Tensor::from_elements(Shape::from([1]), &["the quick brown fox"])?;
            Ok(vec![("content".to_owned(), text)])
        },
    },
];

/// One thing measured: medians and 90th percentiles in microseconds, in the host and in a worker.
struct Line {
    what: String,
    host: [f64; 2],
    worker: [f64; 2],
    target: f64,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if cfg!(debug_assertions) {
        eprintln!("warning: this is a debug build, which says nothing about speed; use `--release`");
    }
    let folder = tempfile::tempdir().context("no temporary folder could be made")?;
    let mut manifests = Vec::new();
    for workload in &WORKLOADS {
        pack(&arguments, workload, folder.path()).with_context(|| format!("packing {}", workload.name))?;
        for (isolation, kept) in [("host", false), ("process", false), ("host", true), ("process", true)] {
            manifests.push(manifest(workload, folder.path(), isolation, kept)?);
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let host = runtime.block_on(host(&arguments, manifests, folder.path()))?;
    let mut lines = Vec::new();
    for workload in &WORKLOADS {
        let find = |isolation: &str, kept| find(&host, &name(workload, isolation, kept));
        eprintln!("calls of {}", workload.name);
        let (one, other) = (find("host", true)?, find("process", true)?);
        // A long run needs no more than some hundred calls for its median.
        let count = if workload.model.is_some() { arguments.calls / 10 } else { arguments.calls };
        lines.push(runtime.block_on(async { tokio::spawn(calls(workload, one, other, count)).await? })?);
        eprintln!("wakes of {}", workload.name);
        let (one, other) = (find("host", false)?, find("process", false)?);
        let count = (arguments.calls / 100).max(2);
        lines.push(runtime.block_on(async { tokio::spawn(wakes(workload, one, other, count)).await? })?);
    }
    for function in host.functions() {
        runtime.block_on(function.retire());
    }
    print(&lines);
    if let Some(path) = &arguments.json {
        let line = |line: &Line| json!({ "what": line.what, "host_us": line.host, "worker_us": line.worker, "target_us": line.target });
        fs::write(path, serde_json::to_string_pretty(&lines.iter().map(line).collect::<Vec<_>>())?)?;
    }
    let missed = lines.iter().any(|line| line.worker[0] - line.host[0] > line.target);
    Ok(if arguments.assert && missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(lines: &[Line]) {
    println!(
        "{:<34}{:>12}{:>12}{:>12}{:>10}{:>12}{:>12}",
        "median (p90), µs", "host", "worker", "more", "allowed", "host p90", "worker p90"
    );
    for Line { what, host, worker, target } in lines {
        let more = worker[0] - host[0];
        let verdict = if more <= *target { "pass" } else { "FAIL" };
        println!(
            "{what:<34}{:>12.1}{:>12.1}{more:>+12.1}{target:>10.0}{:>12.1}{:>12.1}  {verdict}",
            host[0], worker[0], host[1], worker[1]
        );
    }
}

fn name(workload: &Workload, isolation: &str, kept: bool) -> String {
    format!("{}-{isolation}-{}", workload.name, if kept { "kept" } else { "quick" })
}

fn pack(arguments: &Arguments, workload: &Workload, folder: &Path) -> Result<()> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let mut pack = Command::new(&arguments.torpor);
    pack.arg("pack").arg(repository.join(workload.bundle)).arg("--module").arg(arguments.modules.join(workload.module));
    if let Some(model) = workload.model {
        pack.arg("--model").arg(format!("{}={}", workload.grant, arguments.assets.join(model).display()));
    }
    pack.arg("--output").arg(folder.join(workload.name).with_extension("torpor")).stdout(Stdio::null());
    ensure!(pack.status().context("`torpor` could not be started")?.success(), "`torpor pack` failed");
    Ok(())
}

fn manifest(workload: &Workload, folder: &Path, isolation: &str, kept: bool) -> Result<PathBuf> {
    let name = name(workload, isolation, kept);
    let timeout = if kept { "1h" } else { "10ms" };
    let text = format!(
        "name = \"{name}\"\nbundle = \"{}.torpor\"\n\n[trigger.inference]\n\n[model.{}]\nbackend = \"onnxruntime\"\n\
         isolation = \"{isolation}\"\n\n[scale]\nidle-timeout = \"{timeout}\"\n",
        workload.name, workload.grant
    );
    let path = folder.join(name).with_extension("toml");
    fs::write(&path, text)?;
    Ok(path)
}

/// A host in this process, whose gateway serves nobody.
async fn host(arguments: &Arguments, manifests: Vec<PathBuf>, folder: &Path) -> Result<Host> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = Config {
        manifests,
        variables: |_| None,
        watch: false,
        trust: Trust::Anybody,
        state: folder.join("state"),
        gateway: gateway::Config { data: any, admin: any, limits: gateway::Limits::default(), drain: Duration::ZERO },
        libraries: Libraries { onnxruntime: Some(arguments.onnxruntime.clone()), openvino: None },
        worker: Some(Worker {
            file: arguments.torpor.clone(),
            environment: Vec::new(),
            readable: Vec::new(),
            writable: None,
        }),
        instances: 512,
        memory_budget: None,
        optimized_limit: u64::MAX,
    };
    torpor::build(config).await
}

async fn calls(workload: &'static Workload, host: Function, worker: Function, count: usize) -> Result<Line> {
    let mut times = [Vec::new(), Vec::new()];
    let inputs = (workload.call)()?;
    for _ in 0..count.div_ceil(BATCH).max(2) {
        for (function, times) in [&host, &worker].into_iter().zip(&mut times) {
            for index in 0..WARM_UP + BATCH {
                let time = timed(function, inputs.clone()).await?;
                if index >= WARM_UP {
                    times.push(time);
                }
            }
        }
    }
    Ok(line(format!("call of {}, warm", workload.name), times, RUN_TARGET))
}

/// From zero to the first answer.
async fn wakes(workload: &'static Workload, host: Function, worker: Function, count: usize) -> Result<Line> {
    let mut times = [Vec::new(), Vec::new()];
    let inputs = (workload.call)()?;
    // The first of each reads files that later ones find in memory.
    for index in 0..=count {
        for (function, times) in [&host, &worker].into_iter().zip(&mut times) {
            tokio::time::sleep(PAUSE).await;
            let time = timed(function, inputs.clone()).await?;
            until_cold(function).await?;
            if index > 0 {
                times.push(time);
            }
        }
    }
    Ok(line(format!("wake of {} to its first answer", workload.name), times, WAKE_TARGET))
}

fn line(what: String, times: [Vec<f64>; 2], target: f64) -> Line {
    let [host, worker] = times.map(|mut times| [median(&mut times), quantile(&mut times, 0.9)]);
    Line { what, host, worker, target }
}

async fn timed(function: &Function, inputs: Vec<NamedTensor>) -> Result<f64> {
    let start = Instant::now();
    let answer = function.predict(inputs).await?;
    let time = micros(start.elapsed());
    ensure!(!answer.value.is_empty(), "the function gave no output");
    Ok(time)
}
