//! What the developer sees: one line per step with its verb in a column, a bar for long work on a terminal, and errors as chains.
//! All of it goes to stderr; stdout is for answers.

use anyhow::Error;
use indicatif::{ProgressBar, ProgressStyle};
use std::{fmt::Display, io::IsTerminal};

/// Says what is being done, or was: `step("build", "torpor")`.
pub(crate) fn step(verb: &str, what: impl Display) {
    if std::io::stderr().is_terminal() {
        eprintln!("\x1b[1;36m{verb:>12}\x1b[0m {what}");
    } else {
        eprintln!("{verb:>12} {what}");
    }
}

/// Says what is less than it could be, although the work goes on.
pub(crate) fn note(what: impl Display) {
    if std::io::stderr().is_terminal() {
        eprintln!("\x1b[1;33m{:>12}\x1b[0m {what}", "note");
    } else {
        eprintln!("{:>12} {what}", "note");
    }
}

/// The last words of a run that failed: each cause on a line of its own.
pub(crate) fn failure(error: &Error) {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because {cause}");
    }
}

/// A bar over `bytes`. It draws on a terminal only, where it goes away when dropped.
pub(crate) fn bar(what: &str, bytes: u64) -> ProgressBar {
    const STYLE: &str = "{prefix:>12} {msg} [{bar:32}] {decimal_bytes}/{decimal_total_bytes}";
    let bar = ProgressBar::new(bytes).with_prefix("fetch").with_message(what.to_owned());
    match ProgressStyle::with_template(STYLE) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}
