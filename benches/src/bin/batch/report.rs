//! What was seen, and the goals.

use crate::{
    FUNCTIONS,
    native::{Plan, Tried},
    texts::Text,
};
use anyhow::{Context, Result};
use torpor_benches::{
    frame::{Group, Results},
    served::Served,
};

/// What the native loop may do, as a share of what `embed` does with its runs joined: the other should reach 0.9 of the loop.
const LOOP: f64 = 1.0 / 0.9;

/// Throughputs, one a turn.
pub(crate) struct Seen {
    pub(crate) loops: Vec<f64>,
    pub(crate) functions: [Vec<f64>; FUNCTIONS.len()],
    /// Of `embed` with its runs joined.
    pub(crate) joined: Rows,
}

/// The rows of the batches that requests were part of, by the host's own count.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    sum: f64,
    requests: f64,
}

impl Rows {
    pub(crate) fn since(self, before: Rows) -> Rows {
        Rows { sum: self.sum - before.sum, requests: self.requests - before.requests }
    }
}

/// What the host has counted of the function called `name`.
pub(crate) fn rows_of(host: &Served, name: &str) -> Result<Rows> {
    let metrics = host.admin("/metrics")?;
    let number = |of: &str| -> Result<f64> {
        let sample = format!("torpor_batch_rows_{of}{{function=\"{name}\"}}");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&sample));
        Ok(value.with_context(|| format!("the host has no metric `{sample}`"))?.trim().parse()?)
    };
    Ok(Rows { sum: number("sum")?, requests: number("count")? })
}

/// What the native loop does with each size of batch: a column for each way to open the model.
pub(crate) fn sizes(text: &Text, tried: &[Tried]) -> Vec<Group> {
    let columns = Plan::ALL.map(|plan| {
        let mut column = Group::new(format!("{}, {}", text.name(), plan.name())).undrawn();
        for way in tried.iter().filter(|way| way.plan == plan) {
            column.add(format!("{} in a run", way.rows), way.throughput.clone());
        }
        column
    });
    columns.into()
}

/// Adds all of it to the results. `rows` is the size of the loop's batches.
pub(crate) fn report(what: &str, rows: usize, seen: Seen, results: &mut Results) {
    let Seen { loops, functions, joined } = seen;
    let mut group = Group::new(format!("{what}, texts/s"));
    let native = group.add(format!("native loop, {rows} in a run"), loops);
    let medians: Vec<_> = FUNCTIONS.iter().zip(functions).map(|(one, seen)| group.add(one.shown, seen)).collect();
    results.add(group);
    let mut group = Group::new(format!("{what}, texts in a run")).undrawn();
    group.add("Torpor: embed, runs joined", vec![joined.sum / joined.requests]);
    results.add(group);
    let [joined, alone, model_joined, model_alone] = medians[..] else { return };
    results.goal(format!("{what}: the native loop, as a share of embed, runs joined"), native / joined, LOOP, "×");
    results.goal(format!("{what}: embed, each alone, as a share of runs joined"), alone / joined, 1.0, "×");
    results.goal(
        format!("{what}: its model, each alone, as a share of runs joined"),
        model_alone / model_joined,
        1.0,
        "×",
    );
}
