//! What commands write: tables and sentences for people, with colour where a terminal shows it; JSON for scripts.
//!
//! Everything goes through `anstream`, which takes the colours out where standard output is no terminal, or `NO_COLOR` is set.

use crate::{cli::Cli, failure::Failure};
use anstream::{AutoStream, ColorChoice, eprintln, stdout};
use clap::{
    CommandFactory,
    builder::styling::{AnsiColor, Effects, Style},
    error::ErrorKind,
};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::json;
use std::{
    io::{self, Write, stderr},
    process::ExitCode,
};
use torpor_manifest::Diagnostics;

/// What went wrong.
const ERROR: Style = AnsiColor::Red.on_default().effects(Effects::BOLD);
/// What to do about it.
const HELP: Style = AnsiColor::Cyan.on_default();
/// The head of a table.
const HEAD: Style = Style::new().effects(Effects::BOLD);
/// As it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// On its way.
pub(crate) const MOVING: Style = AnsiColor::Yellow.on_default();
/// As it should not be.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();

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

    /// Writes a result as one line of JSON, for those that come one after another.
    pub(crate) fn line_of<T: Serialize>(&self, value: &T) -> io::Result<()> {
        let text = serde_json::to_string(value)?;
        let mut out = stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()
    }

    /// Writes a document, which is JSON for people and scripts alike.
    pub(crate) fn document(&self, text: &str) {
        line(text.trim_end());
    }

    /// Writes why a command failed, and what to do about it.
    pub(crate) fn failure(&self, failure: &Failure) {
        let Some(error) = failure.error() else { return };
        let diagnostics = error.downcast_ref::<Diagnostics>();
        let coloured = AutoStream::choice(&stderr()) != ColorChoice::Never;
        match (self.json, diagnostics) {
            (true, Some(diagnostics)) => {
                let help = "correct them; `docs/manifest.md` has every key";
                json(&json!({ "error": "the manifests have mistakes", "help": help, "mistakes": diagnostics }));
            }
            (true, None) => json(&json!({ "error": format!("{error:#}"), "help": help(error) })),
            (false, Some(diagnostics)) => eprintln!("{}", diagnostics.render(coloured)),
            (false, None) => {
                eprintln!("{ERROR}error:{ERROR:#} {error:#}");
                eprintln!("{HELP}help:{HELP:#} {}", help(error));
            }
        }
    }
}

/// What to do about an error.
pub(crate) fn help(error: &anyhow::Error) -> String {
    torpor::help(error).unwrap_or_else(|| "`torpor help COMMAND` says how a command is used".to_owned())
}

/// Writes what `clap` says: help that was asked for, or how a command was used wrongly. Ends as the program has to.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let shown = matches!(error.kind(), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand);
    if !error.use_stderr() || shown {
        // A reader that has gone away is no error.
        let _ = error.print();
        return ExitCode::from(if shown { 2 } else { 0 });
    }
    // What follows is a pointer to `--help`, which is given in the words of this program's other errors.
    let cut = |text: &str| text.split("For more information").next().unwrap_or_default().trim_end().to_owned();
    let plain = cut(&error.render().to_string());
    let help = format!(
        "`{} --help` shows the right use",
        command(std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()))
    );
    if std::env::args_os().any(|argument| argument == "--json") {
        let what = plain.split("\n\nUsage:").next().unwrap_or_default();
        let what: Vec<&str> = what.trim_start_matches("error: ").split_whitespace().collect();
        json(&json!({ "error": what.join(" "), "help": help }));
    } else {
        eprintln!("{}\n\n{HELP}help:{HELP:#} {help}", cut(&error.render().ansi().to_string()));
    }
    ExitCode::from(2)
}

/// The command that was meant, such as `torpor pack`: the first argument that is one.
fn command(mut arguments: impl Iterator<Item = String>) -> String {
    let whole = Cli::command();
    match arguments.find_map(|argument| whole.find_subcommand(argument).map(clap::Command::get_name)) {
        Some(command) => format!("torpor {command}"),
        None => "torpor".to_owned(),
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

/// `text` in a style.
pub(crate) fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Columns as wide as their content, without lines; the head is bold.
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
    let mut lines = table.lines().map(|line| line.trim_end().to_owned());
    let head = lines.next().map(|head| styled(HEAD, &head) + "\n").unwrap_or_default();
    head + &lines.map(|line| line + "\n").collect::<String>()
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
        let table = anstream::adapter::strip_str(&table(["NAME", "N"], rows)).to_string();
        assert_eq!(table, "NAME  N\na     1\nlong\n");
    }

    #[test]
    fn the_command_is_found_among_the_arguments() {
        let command = |line: &str| command(line.split(' ').map(str::to_owned));
        assert_eq!(command("torpor --json sign --key x"), "torpor sign");
        assert_eq!(command("torpor sgn"), "torpor");
    }
}
