//! What the contestants did, side by side, and the goals.

use crate::{CALLERS, contestant::Contestant};
use std::time::Duration;
use torpor_benches::{
    frame::{Group, Results, line},
    load::Round,
    peer::process::Memory,
    stage::{ADD, Workload},
};

/// How many times the throughput of the best of the others Torpor should have where the model takes no time.
const AHEAD: f64 = 7.0;

/// What one contestant did with one workload.
pub(crate) struct Entry<'c> {
    pub(crate) contestant: &'c Contestant,
    pub(crate) samples: Vec<Sample>,
    /// Why it has no further turns.
    pub(crate) failure: Option<anyhow::Error>,
}

/// What it did in one turn.
pub(crate) struct Sample {
    /// From its start.
    pub(crate) first: Duration,
    /// For each number of callers.
    pub(crate) loads: [Round; CALLERS.len()],
    pub(crate) memory: Memory,
}

/// One number of a sample.
type Measure = fn(&Sample) -> f64;

impl<'c> Entry<'c> {
    pub(crate) fn new(contestant: &'c Contestant) -> Self {
        Entry { contestant, samples: Vec::new(), failure: None }
    }
}

/// Adds what was seen of one workload to the results.
pub(crate) fn report(workload: &Workload, entries: Vec<Entry<'_>>, results: &mut Results) {
    let name = workload.name;
    let (failed, entries): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.failure.is_some());
    for entry in failed {
        if let Some(failure) = &entry.failure {
            results.absent(format!("{}, {name}", entry.contestant.name()), line(failure));
        }
    }
    let mut columns = Columns { entries: &entries, groups: Vec::new() };
    columns.add("requests/s, 1 caller", true, |sample| sample.loads[0].throughput);
    let throughput = columns.add("requests/s, 16 callers", true, |sample| sample.loads[1].throughput);
    columns.add("p50, 1 caller, ms", false, |sample| sample.loads[0].p50 / 1e3);
    columns.add("p99, 1 caller, ms", false, |sample| sample.loads[0].p99 / 1e3);
    columns.add("p50, 16 callers, ms", false, |sample| sample.loads[1].p50 / 1e3);
    columns.add("p99, 16 callers, ms", false, |sample| sample.loads[1].p99 / 1e3);
    columns.add("resident, MB", false, |sample| sample.memory.resident);
    let memory = columns.add("memory, MB", true, |sample| sample.memory.shared_once);
    let first = columns.add("first answer, s", true, |sample| sample.first.as_secs_f64());
    results.compare(name, columns.groups);

    let ahead = if name == ADD.name { AHEAD } else { 1.0 };
    if let Some((best, theirs)) = throughput.best(f64::max) {
        let what = format!("{name}, 16 callers: the best of the others ({best}), as a share of Torpor's requests/s");
        results.goal(what, theirs / throughput.torpor, 1.0 / ahead, "×");
    }
    for (what, numbers) in [
        ("memory, as a share of the least of the others", memory),
        ("first answer, as a share of the earliest of the others", first),
    ] {
        if let Some((best, theirs)) = numbers.best(f64::min) {
            results.goal(format!("{name}: {what} ({best})"), numbers.torpor / theirs, 1.0, "×");
        }
    }
}

/// The columns of a table with a row for each entry.
struct Columns<'e> {
    entries: &'e [Entry<'e>],
    groups: Vec<Group>,
}

/// The medians of one column.
struct Medians {
    torpor: f64,
    others: Vec<(&'static str, f64)>,
}

impl Columns<'_> {
    fn add(&mut self, name: &str, drawn: bool, of: Measure) -> Medians {
        let group = Group::new(name);
        let mut group = if drawn { group } else { group.undrawn() };
        let mut medians = Medians { torpor: f64::NAN, others: Vec::new() };
        for Entry { contestant, samples, .. } in self.entries {
            let median = group.add(contestant.name(), samples.iter().map(of).collect());
            match contestant {
                Contestant::Torpor => medians.torpor = median,
                // It is shown, and not what the others, which keep their files, are compared with.
                Contestant::TorporAnew => {}
                Contestant::Peer { .. } => medians.others.push((contestant.name(), median)),
            }
        }
        self.groups.push(group);
        medians
    }
}

impl Medians {
    /// The one of the others that `better` picks.
    fn best(&self, better: fn(f64, f64) -> f64) -> Option<(&'static str, f64)> {
        let best = self.others.iter().map(|(_, median)| *median).reduce(better)?;
        self.others.iter().copied().find(|(_, median)| *median == best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_the_others_is_named() {
        let medians = Medians { torpor: 5.0, others: vec![("one", 2.0), ("another", 3.0)] };
        assert_eq!(medians.best(f64::max), Some(("another", 3.0)));
        assert_eq!(medians.best(f64::min), Some(("one", 2.0)));
        assert_eq!(Medians { torpor: 5.0, others: Vec::new() }.best(f64::max), None);
    }
}
