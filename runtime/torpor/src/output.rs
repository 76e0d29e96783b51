//! What commands write: tables and sentences for people, JSON for scripts.
#![expect(clippy::print_stderr, reason = "this file is where the command line speaks")]

use crate::failure::Failure;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{IsTerminal, Write, stderr, stdout};
use torpor_manifest::Diagnostics;

pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// Writes a result: as JSON, or as the text that `text` makes of it.
    pub(crate) fn result<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) {
        if self.json {
            json(value);
        } else {
            line(text(value).trim_end());
        }
    }

    /// Writes why a command failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        let Some(error) = failure.error() else { return };
        let diagnostics = error.downcast_ref::<Diagnostics>();
        match (self.json, diagnostics) {
            (true, Some(diagnostics)) => {
                json(&serde_json::json!({ "error": "the manifests have mistakes", "mistakes": diagnostics }))
            }
            (true, None) => json(&serde_json::json!({ "error": format!("{error:#}") })),
            (false, Some(diagnostics)) => eprintln!("{}", diagnostics.render(stderr().is_terminal())),
            (false, None) => eprintln!("error: {error:#}"),
        }
    }
}

fn json<T: Serialize>(value: &T) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(&text),
        Err(error) => eprintln!("error: the result cannot be written as JSON: {error}"),
    }
}

/// Writes to standard output; a reader that has gone away, such as `head`, is no error.
fn line(text: &str) {
    let _ = writeln!(stdout().lock(), "{text}");
}

/// Columns as wide as their content, without lines.
pub(crate) fn table<const COLUMNS: usize>(
    head: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(head);
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Bytes for people, in binary units.
pub(crate) fn bytes(size: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = size.saturating_mul(10) / 1024;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    match size {
        0..1024 => format!("{size} B"),
        _ => format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_short() {
        let shown = [0, 1023, 1024, 1536, 1 << 20, 5 << 30, u64::MAX].map(bytes);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "5.0 GiB", "1677721.5 TiB"]);
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a".to_owned(), "1".to_owned()], ["long".to_owned(), String::new()]];
        assert_eq!(table(["NAME", "N"], rows), "NAME  N\na     1\nlong\n");
    }
}
