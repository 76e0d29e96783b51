//! Where log lines go and how they look.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people: one line an event, coloured on a terminal.
    #[default]
    Text,
    /// For machines: one JSON object an event.
    Json,
}

/// Sends log lines to standard error. `filter` is in the syntax of `tracing_subscriber::EnvFilter`, such as `info,torpor=debug`.
///
/// # Errors
/// When `filter` cannot be parsed, or logging was set up before.
pub fn init_logging(format: LogFormat, filter: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = EnvFilter::try_new(filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    }
}
