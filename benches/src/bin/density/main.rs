//! How many functions one host can have: what they cost at zero, and how fast one of very many wakes.
//!
//! For each number of functions it starts the real binary with as many manifests, which share two bundles, and looks at it from
//! outside. Then all functions of the largest number are called at random under a memory budget: `crowd.rs`.
//! `docs/benchmarks.md` says what the numbers mean.
#![expect(clippy::print_stderr, reason = "a command talks to the one who typed it")]

mod crowd;
mod host;
mod report;
mod stage;

use anyhow::{Context, Result};
use clap::Parser;
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};
use torpor_benches::{
    frame::{Outputs, Results},
    served::Served,
    stage::{ADD, FILETYPE_RAW, Places, Stage},
};

/// How long a host rests before its processor time is looked at, and for how long that is.
const SETTLE: Duration = Duration::from_secs(5);
const REST: Duration = Duration::from_secs(10);
/// Wakes of which the median is taken.
const WAKES: usize = 60;

#[derive(Parser)]
#[command(bin_name = "cargo xtask bench density", about = "Measures hosts with very many functions")]
struct Arguments {
    /// Numbers of functions; the last one is also put under load
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000,10000")]
    functions: Vec<usize>,
    /// Seconds of the load over all functions
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Callers of that load
    #[arg(long, default_value_t = 8)]
    callers: usize,
    /// The memory budget under load
    #[arg(long, value_name = "SIZE", default_value = "128MiB")]
    budget: String,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    places: Places,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let stage = Stage::new(arguments.places, &[&ADD, &FILETYPE_RAW])?;
    let mut results = Results::new("density", "hosts with very many functions", "");
    let mut rows = Vec::new();
    for &functions in &arguments.functions {
        eprintln!("{functions} functions");
        rows.push(measure(&stage, functions).with_context(|| format!("{functions} functions"))?);
    }
    let most = arguments.functions.iter().copied().max().unwrap_or(1);
    let crowd = crowd::Load {
        functions: most,
        callers: arguments.callers.max(1),
        time: Duration::from_secs_f64(arguments.seconds),
        budget: arguments.budget,
    };
    eprintln!("{most} functions under load");
    report::report(rows, crowd.measure(&stage)?, &mut results);
    Ok(if results.finish(&arguments.outputs)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Looks at a host with so many functions.
fn measure(stage: &Stage, functions: usize) -> Result<report::Row> {
    let manifests = stage::manifests(stage, functions, "100ms")?;
    let begin = Instant::now();
    let first = Served::start(stage, &manifests, &[])?;
    let first_start = begin.elapsed();
    drop(first);
    let begin = Instant::now();
    let host = Served::start(stage, &manifests, &["--watch"])?;
    let start = begin.elapsed();
    std::thread::sleep(SETTLE);
    let (before, at) = (host.processor_time()?, Instant::now());
    std::thread::sleep(REST);
    let rest = (host.processor_time()? - before) / at.elapsed().as_secs_f64();
    let held = host.held()?;
    let begin = Instant::now();
    host.admin("/functions")?;
    let list = begin.elapsed();
    let begin = Instant::now();
    host.admin("/metrics")?;
    let metrics = begin.elapsed();

    let mut wakes = Vec::new();
    let mut answers = Vec::new();
    // `add` alone, so that all rows tell of the same. Spread over the whole table.
    let names: Vec<_> = (0..functions).filter(|index| stage::is_add(*index)).collect();
    let step = (names.len() / WAKES).max(1);
    for index in names.iter().step_by(step).cycle().take(WAKES) {
        let name = stage::name(*index);
        let begin = Instant::now();
        wakes.push(host::wake(&host, *index)?);
        answers.push(begin.elapsed().as_secs_f64() * 1e3);
        host.wait_until_cold(&name)?;
    }
    Ok(report::Row {
        functions,
        first_start_s: first_start.as_secs_f64(),
        start_s: start.as_secs_f64(),
        rest_percent: rest * 100.0,
        held,
        wake_ms: wakes,
        answer_ms: answers,
        list_ms: list.as_secs_f64() * 1e3,
        metrics_ms: metrics.as_secs_f64() * 1e3,
    })
}
