//! `torpor`: the command line.

mod cli;
mod command;
mod failure;
mod output;
mod progress;
mod template;

use clap::Parser;
use cli::{Cli, Command};
use failure::Failure;
use output::Output;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before there is any other thread.
    torpor::forbid_telemetry();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return output::usage(&error),
    };
    let output = Output { json: cli.json };
    match run(cli.command, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            failure.code()
        }
    }
}

fn run(command: Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Serve(arguments) => command::serve::run(*arguments, output),
        Command::Check(arguments) => command::check::run(&arguments, output),
        Command::Schema => {
            output.document(&torpor_manifest::json_schema());
            Ok(())
        }
        Command::Deploy(arguments) => command::deploy::deploy(arguments, output),
        Command::Undeploy(arguments) => command::deploy::undeploy(&arguments, output),
        Command::Diff(arguments) => command::deploy::diff(arguments, output),
        Command::Rollback(arguments) => command::deploy::rollback(&arguments, output),
        Command::History(arguments) => command::history::run(&arguments, output),
        Command::Ps(arguments) => command::ps::run(&arguments, output),
        Command::Trace(arguments) => command::trace::run(&arguments, output),
        Command::Invoke(arguments) => command::invoke::run(&arguments, output),
        Command::New(arguments) => command::new::run(&arguments, output),
        Command::Pack(arguments) => command::bundle::pack(arguments, output),
        Command::Inspect(arguments) => command::bundle::inspect(&arguments, output),
        Command::Keygen(arguments) => command::bundle::keygen(&arguments, output),
        Command::Sign(arguments) => command::bundle::sign(&arguments, output),
        Command::Verify(arguments) => command::bundle::verify(&arguments, output),
        Command::Completions(arguments) => command::reference::completions(&arguments, output),
        Command::Man(arguments) => command::reference::man(&arguments, output),
        Command::Doctor(arguments) => command::doctor::run(arguments, output),
        Command::Worker(arguments) => command::worker::run(arguments),
    }
}
