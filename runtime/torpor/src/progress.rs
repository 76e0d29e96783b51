//! A bar for work on large files, for people at a terminal. It is drawn on standard error, without colours, and leaves nothing.

use crate::output::Output;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    cell::OnceCell,
    io::{IsTerminal, stderr},
};
use torpor_bundle::Progress;

/// Less is done before anybody has read the bar.
const LARGE: u64 = 32 << 20;

const STYLE: &str = "{prefix} {bar:32} {binary_bytes} of {binary_total_bytes}, {eta} left";

/// Tells people how far a command is.
pub(crate) struct Bar {
    what: &'static str,
    wanted: bool,
    // Made once the work is known to be large.
    bar: OnceCell<ProgressBar>,
}

impl Bar {
    /// A bar for what the command is doing, such as `packing`.
    pub(crate) fn new(what: &'static str, output: &Output) -> Self {
        Bar { what, wanted: !output.json && stderr().is_terminal(), bar: OnceCell::new() }
    }
}

impl Progress for Bar {
    fn expect(&self, bytes: u64) {
        if !self.wanted || bytes < LARGE {
            return;
        }
        if let Ok(style) = ProgressStyle::with_template(STYLE) {
            self.bar.get_or_init(|| ProgressBar::new(bytes).with_style(style).with_prefix(self.what));
        }
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = self.bar.get() {
            bar.inc(bytes);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}
