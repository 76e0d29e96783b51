//! What a host holds: at rest, after a thousand wakes and sleeps with each backend, and with two functions awake that have one model.
//!
//! It starts the real binary and looks at it from outside: `cycles.rs` and `shared.rs`. `docs/benchmarks.md` says what the
//! numbers mean.
#![expect(clippy::print_stderr, reason = "a command talks to the one who typed it")]

mod cycles;
mod shared;

use anyhow::{Context, Result};
use clap::Parser;
use cycles::Cycles;
use serde_json::{Value, json};
use std::process::ExitCode;
use torpor_benches::{
    frame::{Outputs, Results},
    served::Served,
    stage::{EMBED, FILETYPE, Places, Stage, TEXT},
};

#[derive(Parser)]
#[command(bin_name = "cargo xtask bench memory", about = "Measures what a host holds, at rest and awake")]
struct Arguments {
    /// How often each function wakes and sleeps
    #[arg(long, default_value_t = 1000)]
    cycles: usize,
    /// How often hosts are started to see what functions with one model share
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only the parts with this in their name: `filetype on onnxruntime`, `embed on tract`, `shared`, …
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    places: Places,
}

/// What goes through the cycles.
const PARTS: [(&torpor_benches::stage::Workload, &str); 4] =
    [(&FILETYPE, "onnxruntime"), (&EMBED, "onnxruntime"), (&FILETYPE, "openvino"), (&FILETYPE, "tract")];

fn main() -> Result<ExitCode> {
    let Arguments { cycles, rounds, only, outputs, places } = Arguments::parse();
    let stage = Stage::new(places, &[&FILETYPE, &EMBED])?;
    let mut results = Results::new("memory", "what the process holds", "MB");
    for (workload, backend) in PARTS {
        let part = Cycles { workload, backend };
        if !part.name().contains(&only) {
            continue;
        }
        if backend == "openvino" && stage.places.openvino.is_none() {
            eprintln!("{} is left out, since there is no OpenVINO here", part.name());
            continue;
        }
        eprintln!("{}, {cycles} cycles", part.name());
        part.measure(&stage, cycles, &mut results).with_context(|| part.name())?;
    }
    if "shared".contains(&only) {
        eprintln!("functions that share a model");
        shared::measure(&stage, rounds.max(1), &mut results)?;
    }
    Ok(if results.finish(&outputs)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A request for a function that is asked about texts.
fn request(host: &Served, name: &str) -> Result<Value> {
    let input = host.inputs(name)?.into_iter().next().context("the function has no input")?;
    Ok(json!({ "inputs": [{ "name": input, "shape": [1], "datatype": "BYTES", "data": [TEXT] }] }))
}
