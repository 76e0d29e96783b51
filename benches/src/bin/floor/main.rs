//! Torpor against the native floor, side by side in one run, so that whatever disturbs the machine disturbs both.
//!
//! - over HTTP, the same model and the same JSON through a minimal native server and through Torpor: `serving.rs`;
//! - without HTTP, a call through a fresh instance against a run of the bare model, and a wake from zero to the first answer
//!   against opening the bare model up to its first answer: `inside.rs`;
//! - what the processes hold, for information: `serving.rs` too.
//!
//! `docs/benchmarks.md` says what the numbers mean.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to the one who typed it")]

mod inside;
mod load;
mod process;
mod report;
mod serving;
mod stage;
mod statistics;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use std::{env, path::PathBuf, process::ExitCode, time::Duration};

#[derive(Parser)]
#[command(bin_name = "cargo xtask bench floor", about = "Measures Torpor against a minimal native server")]
struct Arguments {
    /// Seconds that each server is under load, in each round
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Rounds; a result is the median over them
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// A tenth of everything: to see that it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Only the parts with this in their name: filetype-raw, add, call, wake
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Also write the results to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if a target is missed
    #[arg(long)]
    assert: bool,
    #[command(flatten)]
    places: Places,
}

/// Where things are; `cargo xtask bench floor` sets the environment.
#[derive(clap::Args)]
struct Places {
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
    /// The native server; without this, the one beside this program
    #[arg(long, value_name = "FILE")]
    native_server: Option<PathBuf>,
}

/// How long and how often to measure.
#[derive(Clone, Copy)]
struct Effort {
    round: Duration,
    rounds: usize,
    calls: usize,
    wakes: usize,
}

impl Effort {
    fn new(arguments: &Arguments) -> Self {
        let round = Duration::from_secs_f64(arguments.seconds);
        let effort = Effort { round, rounds: arguments.rounds.max(1), calls: 20_000, wakes: 40 };
        if !arguments.quick {
            return effort;
        }
        Effort { round: round / 10, rounds: effort.rounds.min(3), calls: effort.calls / 10, wakes: effort.wakes / 10 }
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if cfg!(debug_assertions) {
        eprintln!("warning: this is a debug build, which says nothing about speed; use `--release`");
    }
    let effort = Effort::new(&arguments);
    let mut places = arguments.places;
    if places.native_server.is_none() {
        places.native_server = Some(native_server()?);
    }
    let stage = stage::Stage::new(places)?;
    let mut report = report::Report::new(&stage);
    let wanted = |name: &str| name.contains(&arguments.only);
    for workload in stage::SERVED.iter().filter(|workload| wanted(workload.name)) {
        serving::measure(&stage, workload, effort, &mut report)
            .with_context(|| format!("serving {}", workload.name))?;
    }
    inside::measure(&stage, effort, wanted, &mut report)?;
    print!("{report}");
    if let Some(path) = &arguments.json {
        report.write(path)?;
    }
    let missed = report.missed();
    Ok(if arguments.assert && missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// `cargo xtask bench floor` builds it together with this program.
fn native_server() -> Result<PathBuf> {
    let server = env::current_exe()?.with_file_name("native-server").with_extension(env::consts::EXE_EXTENSION);
    ensure!(
        server.is_file(),
        "there is no native server `{}`; build it with `cargo build --release --package torpor-benches --bins`",
        server.display()
    );
    Ok(server)
}
