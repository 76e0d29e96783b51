//! What a run was made on, and what it took there.

use anyhow::{Context, Result};
use rustix::param::clock_ticks_per_second;
use std::fs;

/// The processor, as far as the system tells.
pub fn name() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{cores} × {}", model.trim_start_matches([' ', '\t', ':']))
}

/// The mean over the last minute; not a number where the system does not tell.
pub fn load() -> f64 {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN)
}

/// The processor time that a process has used, in its own code and in the system's for it, in seconds.
///
/// # Errors
/// When there is no such process.
#[expect(clippy::cast_precision_loss, reason = "a count of ticks")]
pub fn processor_time(process: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name of the program, in parentheses, may hold spaces; the fields after it do not.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| -> Result<f64> { Ok(fields.get(index).context("`stat` is short")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / clock_ticks_per_second() as f64)
}
