//! The results: as aligned tables for people, and as JSON.

use crate::{crowd::Crowd, host::Held};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use std::fmt;

/// What the largest host may take at zero, in MB.
const MEMORY: f64 = 500.0;
/// How long it may take to start, in seconds.
const START: f64 = 30.0;
/// What a function that was called may leave behind at zero, in kB.
const LEFT: f64 = 50.0;

/// All results of one run.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) crowd: Crowd,
}

/// A host with so many functions.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) functions: usize,
    /// With an empty state directory.
    pub(crate) first_start_s: f64,
    /// With what the first start left there.
    pub(crate) start_s: f64,
    /// Processor time at rest with `--watch`, of one processor.
    pub(crate) rest_percent: f64,
    pub(crate) held: Held,
    /// The wake itself, by the host's account.
    pub(crate) wake_ms: f64,
    /// From a call of a cold function to its answer, by the caller's account.
    pub(crate) answer_ms: f64,
    /// How long `/functions` takes, and how long it is.
    pub(crate) list_ms: f64,
    pub(crate) list_bytes: usize,
    pub(crate) metrics_ms: f64,
}

impl Crowd {
    /// What each function that was called has left behind, in kB.
    #[expect(clippy::cast_precision_loss, reason = "a count of functions")]
    fn left(&self) -> f64 {
        (self.after.anonymous_mb - self.before.anonymous_mb) * 1e3 / self.called.max(1) as f64
    }
}

impl Report {
    pub(crate) fn missed(&self) -> bool {
        self.targets().iter().any(|(_, met)| !met)
    }

    fn targets(&self) -> Vec<(String, bool)> {
        let at_most = |what: &str, value: f64, limit: f64, unit: &str| {
            (format!("{what}: {value:.1} {unit}, at most {limit} {unit}"), value <= limit)
        };
        let mut targets = Vec::new();
        if let Some(row) = self.rows.last() {
            targets.push(at_most("memory of the largest host at zero", row.held.resident_mb, MEMORY, "MB"));
            targets.push(at_most("its first start", row.first_start_s, START, "s"));
        }
        targets.push(at_most("what a function that was called leaves at zero", self.crowd.left(), LEFT, "kB"));
        let errors = self.crowd.error.as_ref().map(|error| format!(", such as: {error}")).unwrap_or_default();
        targets.push((format!("errors under load: {}{errors}", self.crowd.errors), self.crowd.errors == 0));
        targets
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = [
            "functions",
            "first start",
            "start",
            "memory",
            "no file's",
            "threads",
            "files",
            "at rest",
            "wake",
            "cold call",
            "/functions",
            "/metrics",
        ];
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(head);
        for row in &self.rows {
            table.add_row([
                row.functions.to_string(),
                format!("{:.2} s", row.first_start_s),
                format!("{:.2} s", row.start_s),
                format!("{:.0} MB", row.held.resident_mb),
                format!("{:.0} MB", row.held.anonymous_mb),
                row.held.threads.to_string(),
                row.held.files.to_string(),
                format!("{:.1} %", row.rest_percent),
                format!("{:.2} ms", row.wake_ms),
                format!("{:.2} ms", row.answer_ms),
                format!("{:.0} ms", row.list_ms),
                format!("{:.0} ms", row.metrics_ms),
            ]);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2)).set_cell_alignment(CellAlignment::Right);
        }
        for line in table.lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        writeln!(f)?;
        let Crowd { functions, seconds, callers, budget, requests, called, wakes, evictions, p50_ms, p99_ms, .. } =
            &self.crowd;
        writeln!(
            f,
            "{functions} functions, {callers} callers for {seconds:.0} s within {budget}: {requests} requests to {called} functions, \
             {wakes} wakes, {evictions} evictions; p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms; memory {:.0} MB before, {:.0} MB at \
             most, {:.0} MB when all slept again\n",
            self.crowd.before.resident_mb, self.crowd.most_mb, self.crowd.after.resident_mb
        )?;
        for (target, met) in self.targets() {
            writeln!(f, "{}  {target}", if met { "pass" } else { "MISS" })?;
        }
        Ok(())
    }
}

/// The value below which `share` of the values are. Sorts them; 0 where there are none.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (values.len().saturating_sub(1) as f64 * share).round() as usize;
    values.get(index).copied().unwrap_or_default()
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}
