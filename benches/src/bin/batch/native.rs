//! The native loop: batches of one size, one right after the other, in a process of its own.

use anyhow::{Context, Result};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
    time::Duration,
};
use torpor_benches::{
    stage::{MINILM, Stage, parallel},
    statistics::median,
};

/// Rows of a batch that are tried.
const ROWS: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// How often each is tried, and for how long.
const TRIES: usize = 3;
const TRY: Duration = Duration::from_millis(500);

/// How the model is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// A session with one thread for each processor.
    Sessions,
    /// One session with the library's own settings.
    Default,
}

/// A loop that waits for its next turn. Dropping it ends it.
pub(crate) struct Native {
    plan: Plan,
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// What was tried, and how many rows it made in a second.
pub(crate) struct Tried {
    pub(crate) plan: Plan,
    pub(crate) rows: usize,
    pub(crate) throughput: Vec<f64>,
}

impl Plan {
    pub(crate) const ALL: [Plan; 2] = [Plan::Sessions, Plan::Default];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Plan::Sessions => "a session for each processor",
            Plan::Default => "one session as by default",
        }
    }
}

impl Native {
    fn start(stage: &Stage, request: &Path, plan: Plan) -> Result<Self> {
        let mut command = stage.native("rows", &MINILM)?;
        command.arg("--request").arg(request);
        if let Plan::Sessions = plan {
            command.args(["--parallel", &parallel().to_string()]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (stdin, stdout) = (child.stdin.take().context("no stdin")?, child.stdout.take().context("no stdout")?);
        Ok(Native { plan, child, stdin, stdout: BufReader::new(stdout) })
    }

    /// Rows in a second, with so many in each run.
    pub(crate) fn throughput(&mut self, rows: usize, time: Duration) -> Result<f64> {
        writeln!(self.stdin, "{rows} {}", time.as_millis())?;
        self.stdin.flush()?;
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        line.trim().parse().context("the native loop ended; what it wrote is above")
    }
}

/// Tries all sizes in all ways, by turns. Returns the loop that was fastest, how many rows it takes, and what was seen.
pub(crate) fn best(stage: &Stage, request: &Path) -> Result<(Native, usize, Vec<Tried>)> {
    let mut loops = Vec::new();
    for plan in Plan::ALL {
        loops.push(Native::start(stage, request, plan)?);
    }
    let ways = loops.iter().flat_map(|one| ROWS.map(|rows| Tried { plan: one.plan, rows, throughput: Vec::new() }));
    let mut tried: Vec<Tried> = ways.collect();
    for _ in 0..TRIES {
        for (index, way) in tried.iter_mut().enumerate() {
            way.throughput.push(loops[index / ROWS.len()].throughput(way.rows, TRY)?);
        }
    }
    let medians = tried.iter().map(|way| median(&mut way.throughput.clone()));
    let best = medians.enumerate().max_by(|one, other| one.1.total_cmp(&other.1)).map(|(index, _)| index);
    let best = best.context("nothing was tried")?;
    let rows = tried[best].rows;
    Ok((loops.swap_remove(best / ROWS.len()), rows, tried))
}

impl Drop for Native {
    fn drop(&mut self) {
        // It only waits for the next command.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
