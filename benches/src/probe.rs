//! The native server's `probe`: the bare model, in a process of its own.

use crate::{
    stage::{Stage, Workload},
    statistics::micros,
};
use anyhow::{Context, Result, ensure};
use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    time::Instant,
};

/// Lives until it is dropped, and does what it is asked to.
pub struct Probe {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Probe {
    /// Starts it for the model of `workload`.
    pub fn start(stage: &Stage, workload: &Workload) -> Result<Self> {
        let mut command = stage.native("probe", workload)?;
        command.arg("--request").arg(stage.request(workload));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (stdin, stdout) = (child.stdin.take().context("no stdin")?, child.stdout.take().context("no stdout")?);
        Ok(Probe { child, stdin, stdout: BufReader::new(stdout) })
    }

    /// Microseconds of each of `count` times.
    pub fn ask(&mut self, what: &str, count: usize) -> Result<Vec<f64>> {
        writeln!(self.stdin, "{what} {count}")?;
        self.stdin.flush()?;
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        let times: Vec<f64> = serde_json::from_str(&line).context("the native server ended; what it wrote is above")?;
        ensure!(times.len() == count, "the native server answered {} times instead of {count}", times.len());
        Ok(times.into_iter().map(|nanoseconds| nanoseconds / 1e3).collect())
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // It only waits for the next command.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Microseconds from the start of a native process until it has written its first answer.
pub fn process(stage: &Stage, workload: &Workload) -> Result<f64> {
    let mut command = stage.native("once", workload)?;
    command.arg("--request").arg(stage.request(workload));
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut answered = [0];
    child.stdout.take().context("no stdout")?.read_exact(&mut answered).context("the native process gave no answer")?;
    let time = micros(start.elapsed());
    let status = child.wait()?;
    ensure!(status.success(), "the native process failed; what it wrote is above");
    Ok(time)
}
