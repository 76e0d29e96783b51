//! The results: as aligned tables for people, and as JSON.

use crate::{WORKLOADS, process::Memory};
use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};
use std::{fmt, fs, path::Path};
use torpor_benches::{frame::number, machine, stage::Stage};

/// All results of one run.
pub(crate) struct Report {
    lines: Vec<Line>,
    memories: Vec<Memories>,
    /// File names and their sizes in bytes.
    sizes: Vec<(String, u64)>,
    machine: String,
    /// How many threads of others wanted a processor when the run began. Above 0, expect noise.
    load: f64,
    onnxruntime: String,
}

/// One measurement of both sides.
pub(crate) struct Line {
    what: String,
    native: f64,
    torpor: f64,
    unit: &'static str,
    comparison: Comparison,
    /// What the target is about: by default `torpor` compared with `native`.
    pub(crate) compared: f64,
    /// The least and the greatest over the rounds.
    pub(crate) spread: Option<(f64, f64)>,
    /// More of both sides, for information: what, native, Torpor. Not a number where a side has no such thing.
    pub(crate) details: Vec<(&'static str, f64, f64)>,
    target: Option<Target>,
}

/// How Torpor's number is set against the native one.
#[derive(Clone, Copy)]
pub(crate) enum Comparison {
    /// Torpor's divided by the native one.
    Ratio,
    /// Torpor's less the native one.
    Difference,
}

#[derive(Clone, Copy)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

/// The memory of one server.
pub(crate) struct Memories {
    pub(crate) model: &'static str,
    pub(crate) server: &'static str,
    /// Before its first request.
    pub(crate) started: Memory,
    /// After its last one.
    pub(crate) loaded: Memory,
    /// When it has gone back to zero.
    pub(crate) cold: Option<Memory>,
}

impl Line {
    pub(crate) fn new(what: String, comparison: Comparison, medians: (f64, f64), unit: &'static str) -> Self {
        let (native, torpor) = medians;
        let compared = match comparison {
            Comparison::Ratio => torpor / native,
            Comparison::Difference => torpor - native,
        };
        Line { what, native, torpor, unit, comparison, compared, spread: None, details: Vec::new(), target: None }
    }

    pub(crate) fn target(self, target: Option<Target>) -> Self {
        Line { target, ..self }
    }

    /// Whether the target is reached; `None` without one.
    fn pass(&self) -> Option<bool> {
        Some(match self.target? {
            Target::AtLeast(least) => self.compared >= least,
            Target::AtMost(most) => self.compared <= most,
        })
    }

    fn compared(&self) -> String {
        match self.comparison {
            Comparison::Ratio => format!("{:.2} ×", self.compared),
            Comparison::Difference => format!("{:+.1} {}", self.compared, self.unit),
        }
    }

    fn json(&self) -> Value {
        let (least, most) = match self.target {
            Some(Target::AtLeast(least)) => (Some(least), None),
            Some(Target::AtMost(most)) => (None, Some(most)),
            None => (None, None),
        };
        let details = self
            .details
            .iter()
            .map(|(what, native, torpor)| json!({ "what": what, "native": native, "torpor": torpor }));
        json!({
            "what": self.what,
            "unit": self.unit,
            "native": self.native,
            "torpor": self.torpor,
            "comparison": match self.comparison { Comparison::Ratio => "ratio", Comparison::Difference => "difference" },
            "compared": self.compared,
            "spread": self.spread,
            "at_least": least,
            "at_most": most,
            "pass": self.pass(),
            "details": details.collect::<Vec<_>>(),
        })
    }
}

impl Report {
    pub(crate) fn new(stage: &Stage) -> Self {
        let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let places = &stage.places;
        let mut sizes =
            vec![("torpor".to_owned(), size(&places.torpor)), ("ONNX Runtime".to_owned(), size(&places.onnxruntime))];
        for workload in WORKLOADS {
            sizes.push((format!("{}: module", workload.name), size(&stage.module(workload))));
            sizes.push((format!("{}: model", workload.name), size(&stage.model(workload))));
            sizes.push((format!("{}: bundle", workload.name), size(&stage.packed(workload))));
        }
        let onnxruntime = places.onnxruntime.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Report {
            lines: Vec::new(),
            memories: Vec::new(),
            sizes,
            machine: machine::name(),
            load: machine::load(),
            onnxruntime,
        }
    }

    pub(crate) fn add(&mut self, line: Line) {
        self.lines.push(line);
    }

    pub(crate) fn add_memory(&mut self, memories: Memories) {
        self.memories.push(memories);
    }

    /// Whether any target is missed.
    pub(crate) fn missed(&self) -> bool {
        self.lines.iter().any(|line| line.pass() == Some(false))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let memory = self.memories.iter().map(|memories| {
            let Memories { model, server, started, loaded, cold } = memories;
            json!({ "model": model, "server": server, "started": started, "loaded": loaded, "cold": cold })
        });
        let report = json!({
            "machine": self.machine,
            "load": self.load,
            "onnxruntime": self.onnxruntime,
            "lines": self.lines.iter().map(Line::json).collect::<Vec<_>>(),
            "memory_mb": memory.collect::<Vec<_>>(),
            "size_bytes": self.sizes,
        });
        let text = serde_json::to_string_pretty(&report)?;
        fs::write(path, text).with_context(|| format!("`{}` cannot be written", path.display()))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, load {} at the start, {}\n", self.machine, self.load, self.onnxruntime)?;
        let mut main = table(["measured", "native", "torpor", "compared", "rounds", "target", ""], 1..6);
        let mut details = table(["detail", "", "native", "torpor"], 2..4);
        for line in &self.lines {
            let spread = line.spread.map_or(String::new(), |(least, most)| format!("{least:.2} to {most:.2}"));
            let target = match line.target {
                Some(Target::AtLeast(least)) => format!("≥ {least}"),
                Some(Target::AtMost(most)) => format!("≤ {most}"),
                None => String::new(),
            };
            let verdict = line.pass().map_or("", |pass| if pass { "pass" } else { "FAIL" });
            let value = |value: f64| format!("{} {}", number(value), line.unit);
            main.add_row([
                &line.what,
                &value(line.native),
                &value(line.torpor),
                &line.compared(),
                &spread,
                &target,
                verdict,
            ]);
            for (what, native, torpor) in &line.details {
                details.add_row([&line.what, *what, &number(*native), &number(*torpor)]);
            }
        }
        writeln!(f, "{main}\n\n{details}\n")?;
        let mut memory = table(["memory in MB: resident (anonymous)", "", "started", "after load", "at zero"], 2..5);
        for Memories { model, server, started, loaded, cold } in &self.memories {
            let show = |memory: &Memory| format!("{:.1} ({:.1})", memory.resident, memory.anonymous);
            memory.add_row([
                *model,
                *server,
                &show(started),
                &show(loaded),
                &cold.as_ref().map_or(String::new(), show),
            ]);
        }
        let mut sizes = table(["size", "KB"], 1..2);
        for (what, bytes) in &self.sizes {
            sizes.add_row([what, &format!("{:.1}", kilobytes(*bytes))]);
        }
        writeln!(f, "{memory}\n\n{sizes}")
    }
}

fn table<const N: usize>(header: [&str; N], right: std::ops::Range<usize>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn kilobytes(bytes: u64) -> f64 {
    bytes as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn passes(comparison: Comparison, medians: (f64, f64), target: Target) -> bool {
        Line::new("it".to_owned(), comparison, medians, "ms").target(Some(target)).pass().unwrap()
    }

    #[test]
    fn a_target_has_a_direction() {
        assert!(passes(Comparison::Ratio, (100.0, 90.0), Target::AtLeast(0.9)));
        assert!(!passes(Comparison::Ratio, (100.0, 89.0), Target::AtLeast(0.9)));
        assert!(passes(Comparison::Difference, (2.0, 62.0), Target::AtMost(60.0)));
        assert!(!passes(Comparison::Difference, (2.0, 63.0), Target::AtMost(60.0)));
    }

    #[test]
    fn nothing_is_a_miss_without_a_target() {
        assert_eq!(Line::new("it".to_owned(), Comparison::Ratio, (1.0, 100.0), "ms").pass(), None);
    }
}
