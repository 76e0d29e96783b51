//! What a worker process costs: the same function with its model in the host's process and in one of its own, by turns in one run,
//! so that whatever disturbs the machine disturbs both. Calls go without HTTP, through a fresh instance each.
//!
//! `docs/benchmarks.md` says what the numbers mean.
#![expect(clippy::print_stderr, reason = "a command talks to the one who typed it")]

use anyhow::{Context, Result, ensure};
use clap::Parser;
use std::{
    io::{Read, Write},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};
use torpor::{
    engine::Function,
    tensor::{DType, NamedTensor, Shape, Tensor},
};
use torpor_benches::{
    frame::{Group, Outputs, Results},
    host::{find, host, until_cold},
    stage::{ADD, FILETYPE, Isolation, Places, Stage, TEXT, Way, Workload},
    statistics::micros,
};

/// What a run in a worker may cost above one in the host, in microseconds.
const RUN_GOAL: f64 = 30.0;
/// What a wake may, in milliseconds.
const WAKE_GOAL: f64 = 5.0;
/// Calls in a row, before it is the other's turn, and those of them that only warm caches up.
const BATCH: usize = 250;
const WARM_UP: usize = 50;
/// Between two wakes, so that each finds the machine idle, and a spare worker ready.
const PAUSE: Duration = Duration::from_millis(150);

const HOST: &str = "in the host's process";
const WORKER: &str = "in a worker process";

#[derive(Parser)]
#[command(
    bin_name = "cargo xtask bench isolation",
    about = "Measures models in worker processes against models in the host"
)]
struct Arguments {
    /// Calls of each: a tenth of that where the model takes its time, and a hundredth of it in wakes
    #[arg(long, default_value_t = 10_000)]
    calls: usize,
    /// Only the functions with this in their name: add, filetype
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    places: Places,
}

fn main() -> Result<ExitCode> {
    let Arguments { calls, only, outputs, places } = Arguments::parse();
    let measured: Vec<_> = [&ADD, &FILETYPE].into_iter().filter(|workload| workload.name.contains(&only)).collect();
    let stage = Stage::new(places, &measured)?;
    let mut results = Results::new("isolation", "a model in a worker process", "");
    let mut manifests = Vec::new();
    for workload in &measured {
        for isolation in [Isolation::Host, Isolation::Process] {
            // One that stays, and one that sleeps as soon as it may, since a wake is measured again and again.
            for (part, idle_timeout) in [("call", "1h"), ("wake", "10ms")] {
                let name = &name(workload, isolation, part);
                let way = Way { name, idle_timeout, isolation, ..Way::default() };
                manifests.push(stage.manifest_in(&stage.path(""), workload, &way)?);
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let host = runtime.block_on(host(&stage, manifests))?;
    for workload in measured {
        let both = |part| -> Result<[Function; 2]> {
            let find = |isolation| find(&host, &name(workload, isolation, part));
            Ok([find(Isolation::Host)?, find(Isolation::Process)?])
        };
        let inputs = inputs(workload)?;
        eprintln!("calls of {}", workload.name);
        // A long run needs no more than some hundred calls for its median.
        let count = if workload.name == ADD.name { calls } else { calls / 10 };
        // On a thread of the runtime, as the gateway calls; `block_on` would run it on one that the runtime has to wake.
        let calls_of = both("call")?;
        let times = runtime.block_on(runtime.spawn(warm(calls_of.clone(), inputs.clone(), count)))??;
        report(format!("{}, a warm call", workload.name), times, "µs", RUN_GOAL, &mut results);
        // Their sessions would be there already for those that wake.
        for function in &calls_of {
            runtime.block_on(function.retire());
        }
        eprintln!("wakes of {}", workload.name);
        let times = runtime.block_on(runtime.spawn(wakes(both("wake")?, inputs, calls / 100)))??;
        report(format!("{}, from zero to the first answer", workload.name), times, "ms", WAKE_GOAL, &mut results);
    }
    for function in host.functions() {
        runtime.block_on(function.retire());
    }
    eprintln!("a byte to another process and back");
    let mut group = Group::new("no model at all, µs");
    group.add("a byte through a pipe to another process, and back", there_and_back(calls)?);
    results.add(group);
    Ok(if results.finish(&outputs)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn name(workload: &Workload, isolation: Isolation, part: &str) -> String {
    format!("{}-{}-{part}", workload.name, isolation.word())
}

/// What a function is asked.
fn inputs(workload: &Workload) -> Result<Vec<NamedTensor>> {
    if workload.name == FILETYPE.name {
        return Ok(vec![("content".to_owned(), Tensor::from_elements(Shape::from([1]), &[TEXT])?)]);
    }
    let row = |name: &str| -> Result<NamedTensor> {
        Ok((name.to_owned(), Tensor::new(DType::F32, Shape::from([1, 4]), vec![0; 16].into())?))
    };
    Ok(vec![row("x")?, row("y")?])
}

/// Microseconds of calls of functions that are warm, in the host and in a worker.
async fn warm(functions: [Function; 2], inputs: Vec<NamedTensor>, count: usize) -> Result<[Vec<f64>; 2]> {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..count.div_ceil(BATCH).max(2) {
        for (function, times) in functions.iter().zip(&mut times) {
            for index in 0..WARM_UP + BATCH {
                let time = timed(function, inputs.clone()).await?;
                if index >= WARM_UP {
                    times.push(time);
                }
            }
        }
    }
    Ok(times)
}

/// Milliseconds of calls of functions that are at zero.
async fn wakes(functions: [Function; 2], inputs: Vec<NamedTensor>, count: usize) -> Result<[Vec<f64>; 2]> {
    let mut times = [Vec::new(), Vec::new()];
    // The first of each reads files that later ones find in memory.
    for index in 0..=count.max(2) {
        for (function, times) in functions.iter().zip(&mut times) {
            tokio::time::sleep(PAUSE).await;
            let time = timed(function, inputs.clone()).await?;
            until_cold(function).await?;
            if index > 0 {
                times.push(time / 1e3);
            }
        }
    }
    Ok(times)
}

/// Microseconds that a byte takes to another process and back, which does nothing else: on this machine no worker can be nearer.
fn there_and_back(count: usize) -> Result<Vec<f64>> {
    let mut other = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (to, from) = (other.stdin.take(), other.stdout.take());
    let (mut to, mut from) = to.zip(from).context("the pipes were asked for")?;
    let times = (0..WARM_UP + count).map(|_| {
        let start = Instant::now();
        to.write_all(&[0])?;
        from.read_exact(&mut [0])?;
        Ok(micros(start.elapsed()))
    });
    let times = times.skip(WARM_UP).collect::<Result<_>>();
    drop(to);
    other.wait()?;
    times
}

/// Microseconds of one call.
async fn timed(function: &Function, inputs: Vec<NamedTensor>) -> Result<f64> {
    let start = Instant::now();
    let answer = function.predict(inputs).await?;
    let time = micros(start.elapsed());
    ensure!(!answer.value.is_empty(), "the function gave no output");
    Ok(time)
}

fn report(what: String, [host, worker]: [Vec<f64>; 2], unit: &'static str, most: f64, results: &mut Results) {
    let mut group = Group::new(format!("{what}, {unit}"));
    let (host, worker) = (group.add(HOST, host), group.add(WORKER, worker));
    results.add(group);
    results.goal(format!("{what}: {WORKER}, above {HOST}"), worker - host, most, unit);
}
