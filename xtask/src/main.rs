//! The developer's command, `cargo xtask`: sets up, runs, tests, checks and measures. It drives the tools and binaries that users
//! have, and depends on no crate of Torpor's, so that it works while they do not build.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to the one who typed it")]
#![expect(clippy::disallowed_methods, reason = "a command reads its environment")]

mod bundles;
mod calls;
mod checks;
mod conformance;
mod console;
mod edges;
mod fetch;
mod fuzz;
mod guests;
mod host;
mod manifests;
mod pins;
mod python;
mod run;
mod setup;
mod stamp;
mod suite;
mod tree;
mod up;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use tree::Tree;

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Sets up, runs, tests, checks and measures Torpor")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Set up, build, sign and serve the functions in `manifests/`, and show how to call them; Ctrl-C drains and stops
    Up {
        /// On free ports: call every function, check the answers, wait until all are at zero again, and stop
        #[arg(long)]
        smoke: bool,
    },
    /// Fetch the pinned native library and models into the cache
    Setup,
    /// Build the modules to Wasm, in `target/modules`
    Modules,
    /// Set up whatever is missing and run all tests; with ARGS, only the tests of the host's workspace that nextest picks by them
    Test {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Everything that CI checks: format, lints, edges, documentation, licences, and then the tests
    Ci {
        /// Leave the tests out
        #[arg(long = "static")]
        only_static: bool,
    },
    /// Check which crate may depend on which
    Edges,
    /// Run the fuzz targets in `tests/fuzz`, or only TARGETS; needs a C++ compiler, and no nightly toolchain
    Fuzz {
        /// How long each target runs
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        time: u32,
        /// Names of targets; without any, all of them
        targets: Vec<String>,
    },
    /// Measure
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Subcommand)]
enum Bench {
    /// Against a minimal native server with the same model, side by side
    Floor {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// From zero to the first answer, against native programs
    Wake {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Runs of different requests that are joined, against a native loop over batches
    Batch {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Against other inference servers, which are fetched: FastAPI, MLServer, BentoML, LitServe, PyTriton, Triton
    Peers {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// JSON to tensors and back, against what serde_json does for plain numbers
    Json {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// What a module's code costs beside its model
    Guest {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// What a host holds: after a thousand wakes and sleeps with each backend, and with two functions that share a model
    Memory {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Hosts with up to ten thousand functions: what they cost at zero, how fast they wake, and under load within a memory budget
    Density {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// What is answered in time when more is asked than a host can do
    Overload {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// What a host gets done on all processors, and on one
    Cores {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// What answers from the response cache cost, against answers of an echo and of models
    Cache {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// JSON, binary tensors and gRPC, against native servers that do the same, and against Triton, which is fetched
    Protocols {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Models in worker processes against models in the host's own, side by side
    Isolation {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::failure(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    let tree = Tree::find()?;
    match task {
        Task::Up { smoke: false } => up::up(&tree),
        Task::Up { smoke: true } => up::smoke(&tree),
        Task::Setup => setup::setup().map(drop),
        Task::Modules => guests::build(&tree, &setup::setup()?),
        Task::Test { args } => suite::test(&tree, &args),
        Task::Ci { only_static } => {
            checks::all(&tree)?;
            if only_static { Ok(()) } else { suite::test(&tree, &[]) }
        }
        Task::Edges => edges::check(&tree),
        Task::Fuzz { time, targets } => fuzz::fuzz(&tree, time, &targets),
        Task::Bench(Bench::Floor { args }) => suite::bench(&tree, "floor", &args),
        Task::Bench(Bench::Wake { args }) => suite::bench(&tree, "wake", &args),
        Task::Bench(Bench::Batch { args }) => suite::bench(&tree, "batch", &args),
        Task::Bench(Bench::Peers { args }) => suite::bench(&tree, "peers", &args),
        Task::Bench(Bench::Json { args }) => suite::bench(&tree, "json", &args),
        Task::Bench(Bench::Guest { args }) => suite::bench(&tree, "guest", &args),
        Task::Bench(Bench::Memory { args }) => suite::bench(&tree, "memory", &args),
        Task::Bench(Bench::Density { args }) => suite::bench(&tree, "density", &args),
        Task::Bench(Bench::Overload { args }) => suite::bench(&tree, "overload", &args),
        Task::Bench(Bench::Cores { args }) => suite::bench(&tree, "cores", &args),
        Task::Bench(Bench::Cache { args }) => suite::bench(&tree, "cache", &args),
        Task::Bench(Bench::Protocols { args }) => suite::bench(&tree, "protocols", &args),
        Task::Bench(Bench::Isolation { args }) => suite::bench(&tree, "isolation", &args),
    }
}
