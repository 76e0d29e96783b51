//! A server with all the processes that it starts. Dropping it ends them.

use crate::machine::processor_time;
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::HashSet,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// Kilobytes of the system, which are 1,024 bytes, in a megabyte of 10^6 bytes.
const KILOBYTES: f64 = 1e6 / 1024.0;
/// How long a server has to end by itself.
const END: Duration = Duration::from_secs(10);
/// And what it had started, after that.
const REST_ENDS: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(20);

/// Lives until it is dropped.
pub struct Processes {
    root: Child,
    log: PathBuf,
}

/// What the processes of a server hold, in MB of 10^6 bytes.
pub struct Memory {
    /// The resident memory of each, added up.
    pub resident: f64,
    /// The same, with each page that several processes have counted in part for each.
    pub shared_once: f64,
}

impl Processes {
    /// Starts the command; what it writes goes to `log`.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let output = File::create(log)?;
        let root = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn();
        let root = root.with_context(|| format!("`{}` could not be started", command.get_program().display()))?;
        Ok(Processes { root, log: log.to_owned() })
    }

    /// What the server wrote last.
    pub fn last_words(&self) -> Option<String> {
        let log = fs::read(&self.log).ok()?;
        let log = String::from_utf8_lossy(&log);
        log.lines().rev().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
    }

    /// The processor time that those which run now have used, in seconds.
    pub fn processor_time(&self) -> f64 {
        // One that has just ended takes no more.
        tree(self.root.id()).into_iter().filter_map(|id| processor_time(id).ok()).sum()
    }

    /// What they hold now.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn memory(&self) -> Result<Memory> {
        let mut memory = Memory { resident: 0.0, shared_once: 0.0 };
        for id in tree(self.root.id()) {
            // One that has just ended holds nothing.
            let Ok(rollup) = fs::read_to_string(format!("/proc/{id}/smaps_rollup")) else { continue };
            memory.resident += field(&rollup, "Rss:")?;
            memory.shared_once += field(&rollup, "Pss:")?;
        }
        Ok(memory)
    }
}

fn field(rollup: &str, name: &str) -> Result<f64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix(name)).context("the system tells no memory")?;
    Ok(line.trim_end_matches("kB").trim().parse::<f64>()? / KILOBYTES)
}

/// The process `root`, those that it started, those that these started, and so on.
fn tree(root: u32) -> Vec<u32> {
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(&id) = tree.get(next) {
        // A thread may have started some too, and the system tells them by thread.
        let threads = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
        for thread in threads {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            tree.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        next += 1;
    }
    tree
}

/// When a process began, which tells it from a later one with the same number.
fn began(id: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name of the program, in parentheses, may hold spaces; the fields after it do not.
    stat.rsplit(')').next()?.split_whitespace().nth(19).map(str::to_owned)
}

fn signal(id: u32, signal: Signal) {
    // One that has ended needs no signal.
    if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = kill_process(id, signal);
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        let all: HashSet<_> = tree(self.root.id()).into_iter().map(|id| (id, began(id))).collect();
        let lives = |(id, began_at): &&(u32, Option<String>)| began_at.is_some() && began(*id) == *began_at;
        // The first one tells the others; not all do. Errors change nothing on the way out.
        signal(self.root.id(), Signal::TERM);
        let begin = Instant::now();
        while begin.elapsed() < END && self.root.try_wait().is_ok_and(|status| status.is_none()) {
            sleep(POLL);
        }
        let begin = Instant::now();
        while begin.elapsed() < REST_ENDS && all.iter().any(|process| lives(&process)) {
            sleep(POLL);
        }
        for (id, _) in all.iter().filter(lives) {
            signal(*id, Signal::KILL);
        }
        let _ = self.root.wait();
    }
}
