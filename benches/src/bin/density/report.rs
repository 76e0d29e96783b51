//! The results, in the form of all benchmarks.

use crate::crowd::{Crowd, Load};
use torpor_benches::{
    frame::{Group, Results},
    served::Held,
    statistics::quantile,
};

/// What the largest host may take at zero, in MB.
const MEMORY: f64 = 500.0;
/// How long it may take to start, in seconds.
const START: f64 = 30.0;
/// What it may take of a processor at rest, in percent: nothing, but for a tick of the system's clock.
const AT_REST: f64 = 0.1;
/// What a function that was called may leave behind at zero, in kB.
const LEFT: f64 = 50.0;

/// A host with so many functions.
pub(crate) struct Row {
    pub(crate) functions: usize,
    /// With an empty state directory.
    pub(crate) first_start_s: f64,
    /// With what the first start left there.
    pub(crate) start_s: f64,
    /// Processor time at rest with `--watch`, of one processor.
    pub(crate) rest_percent: f64,
    pub(crate) held: Held,
    /// The wakes themselves, by the host's account.
    pub(crate) wake_ms: Vec<f64>,
    /// From a call of a cold function to its answer, by the caller's account.
    pub(crate) answer_ms: Vec<f64>,
    /// How long `/functions` and `/metrics` take.
    pub(crate) list_ms: f64,
    pub(crate) metrics_ms: f64,
}

/// What is compared between hosts, and its samples of one.
type Quantity = (&'static str, fn(&Row) -> Vec<f64>);

/// Puts all into `results`: a group for each quantity, in which hosts are compared with each other.
pub(crate) fn report(rows: Vec<Row>, crowd: Crowd, results: &mut Results) {
    let groups: [Quantity; 10] = [
        ("memory at rest, resident, MB", |row| vec![row.held.resident_mb]),
        ("memory at rest, anonymous, MB", |row| vec![row.held.anonymous_mb]),
        ("first start, s", |row| vec![row.first_start_s]),
        ("start, s", |row| vec![row.start_s]),
        ("wake, ms", |row| row.wake_ms.clone()),
        ("cold call, ms", |row| row.answer_ms.clone()),
        ("processor at rest, %", |row| vec![row.rest_percent]),
        ("`/functions`, ms", |row| vec![row.list_ms]),
        ("`/metrics`, ms", |row| vec![row.metrics_ms]),
        ("threads at rest", |row| vec![count(row.held.threads)]),
    ];
    for (name, samples) in groups {
        let mut group = Group::new(name);
        for row in &rows {
            group.add(format!("Torpor, {} functions", row.functions), samples(row));
        }
        results.add(group);
    }
    let Crowd { load: Load { functions, callers, time, budget }, errors, error, mut times, called, .. } = crowd;
    let Crowd { wakes, evictions, before, most_mb, after, .. } = crowd;
    let requests = times.len() + errors;
    let seconds = time.as_secs();
    let mut group = Group::new(format!("{functions} functions, {callers} callers for {seconds} s within {budget}"));
    for (name, number) in [
        ("requests", count(requests)),
        ("functions called", many(called)),
        ("wakes", many(wakes)),
        ("evictions", many(evictions)),
    ] {
        group.add(format!("Torpor, {name}"), vec![number]);
    }
    results.add(group);
    let mut group = Group::new("a request of that, ms");
    let p99 = quantile(&mut times, 0.99);
    group.add("Torpor, all requests", times);
    group.add("Torpor, p99", vec![p99]);
    results.add(group);
    let mut group = Group::new("memory of that host, resident, MB");
    group.add("Torpor, before", vec![before.resident_mb]);
    group.add("Torpor, at most", vec![most_mb]);
    group.add("Torpor, when all slept again", vec![after.resident_mb]);
    results.add(group);

    if let Some(row) = rows.iter().max_by_key(|row| row.functions) {
        results.goal("memory of the largest host at zero", row.held.resident_mb, MEMORY, "MB");
        results.goal("its processor at rest", row.rest_percent, AT_REST, "%");
        results.goal("its first start", row.first_start_s, START, "s");
    }
    let left = (after.anonymous_mb - before.anonymous_mb) * 1e3 / many(called.max(1));
    results.goal("what a function that was called leaves at zero", left, LEFT, "kB");
    let error = error.map(|error| format!(", such as: {error}")).unwrap_or_default();
    results.goal(format!("errors under load{error}"), count(errors), 0.0, "");
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than a float counts exactly")]
fn count(count: usize) -> f64 {
    count as f64
}

fn many(number: u64) -> f64 {
    count(usize::try_from(number).unwrap_or(usize::MAX))
}
