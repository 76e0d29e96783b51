//! The native server as a process.

use crate::stage::{Stage, Workload, parallel};
use anyhow::{Context, Result};
use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Stdio},
};

/// Starts it for the model of `workload`, and waits until it serves. Who gets the process ends it.
///
/// # Errors
/// When it does not start.
pub fn start(stage: &Stage, workload: &Workload, flags: &[&str]) -> Result<(Child, SocketAddr)> {
    let mut command = stage.native("serve", workload)?;
    command.args(["--name", workload.name, "--parallel", &parallel().to_string()]).args(flags);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let address = address(&mut child);
    if address.is_err() {
        // It is of no use to anybody.
        let _ = child.kill();
        let _ = child.wait();
    }
    Ok((child, address?))
}

fn address(child: &mut Child) -> Result<SocketAddr> {
    let stdout = child.stdout.take().context("the native server has no stdout")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    line.trim().parse().context("the native server did not start; what it wrote is above")
}
