//! The floor that Torpor is measured against: hyper, serde and ONNX Runtime, and nothing between them; for gRPC hyper, tonic and ONNX
//! Runtime.
//!
//! `serve` answers the Open Inference Protocol for one model, as somebody would write it who needs no more than that: no sandbox,
//! no limits, no metrics, no functions. `probe` and `rows` measure the model without a server. None of them links anything of
//! Torpor's.

mod binary;
mod grpc;
mod model;
mod probe;
mod rows;
mod runs;
mod server;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Parser)]
#[command(about = "A minimal native inference server, as the floor of measurements")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve one model, and write the address to stdout
    Serve {
        #[command(flatten)]
        source: Source,
        /// The name in the path and in answers
        #[arg(long)]
        name: String,
        /// Runs at the same time
        #[arg(long, default_value_t = 2)]
        parallel: usize,
        /// Where runs happen
        #[arg(long, value_enum)]
        run: Run,
        /// Speak gRPC, not REST
        #[arg(long)]
        grpc: bool,
    },
    /// Answer one request, and end
    Once {
        #[command(flatten)]
        source: Source,
        /// The inference request
        #[arg(long)]
        request: PathBuf,
    },
    /// Measure one model as stdin tells: `run N`, `open N`, `open-default N` and `open-bytes N` are each answered by a line with a
    /// JSON array of nanoseconds
    Probe {
        #[command(flatten)]
        source: Source,
        /// An inference request to run the model on
        #[arg(long)]
        request: PathBuf,
    },
    /// Run the model on batches, one right after the other, as stdin tells: `ROWS MILLISECONDS` is answered by a line with the rows
    /// that were computed in a second
    Rows {
        #[command(flatten)]
        source: Source,
        /// An inference request with one row, of which batches are made
        #[arg(long)]
        request: PathBuf,
        /// Sessions with one thread each; without it, one session as by default
        #[arg(long)]
        parallel: Option<usize>,
    },
}

/// The model and what runs it.
#[derive(Args)]
struct Source {
    /// The ONNX Runtime library
    #[arg(long)]
    library: PathBuf,
    /// The model file
    #[arg(long)]
    model: PathBuf,
}

/// Where a server runs its model.
#[derive(Clone, Copy, ValueEnum)]
enum Run {
    /// On the thread that read the request: the fastest way as long as a run takes next to no time
    Inline,
    /// On threads of their own, so that a run never keeps other connections waiting
    Threads,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Serve { source, name, parallel, run, grpc } => {
            let library = model::Library::load(&source.library)?;
            server::serve(library.models(&source.model, parallel)?, &name, run, grpc)
        }
        Command::Once { source, request } => probe::once(&source, &request),
        Command::Probe { source, request } => probe::probe(&source, &request),
        Command::Rows { source, request, parallel } => rows::rows(&source, &request, parallel),
    }
}
