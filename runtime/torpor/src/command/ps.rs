//! `torpor ps`.

use super::client::{self, Function};
use crate::{
    cli::Ps,
    failure::Failure,
    output::{BAD, GOOD, MOVING, Output, bytes, styled, table},
};
use anyhow::Context;
use serde_json::Value;
use std::time::{Duration, SystemTime};

pub(crate) fn run(arguments: &Ps, output: &Output) -> Result<(), Failure> {
    let text = client::functions(arguments.admin.admin, arguments.function.as_ref())?;
    let value: Value = serde_json::from_str(&text).with_context(client::other_version)?;
    let list = if value.is_array() { value.clone() } else { Value::Array(vec![value.clone()]) };
    let functions: Vec<Function> = serde_json::from_value(list).with_context(client::other_version)?;
    output.result(&value, |_| render(&functions));
    Ok(())
}

fn render(functions: &[Function]) -> String {
    let head = [
        "FUNCTION",
        "REV",
        "STATE",
        "SESSIONS",
        "MEMORY",
        "ACTIVE",
        "QUEUED",
        "CALLS",
        "LAST CALL",
        "WAKES",
        "LAST WAKE",
        "SIGNED BY",
    ];
    let table = table(head, functions.iter().map(row));
    // Functions have no capitals in their names, so the first of these words in a line is the state.
    let states = [("Warm", GOOD), ("Waking", MOVING), ("Sleeping", MOVING), ("Failed", BAD)];
    let painted = |line: &str| match states.iter().find(|(state, _)| line.contains(&format!(" {state} "))) {
        Some((state, style)) => line.replacen(state, &styled(*style, state), 1) + "\n",
        None => line.to_owned() + "\n",
    };
    let mut text: String = table.lines().map(painted).collect();
    for function in functions {
        if let Some(cause) = &function.cause {
            text.push_str(&format!("\n{}: {cause}\n", function.name));
        }
        if let Some(refused) = &function.refused {
            text.push_str(&format!("\n{}: its newest manifest is not deployed: {refused}\n", function.name));
        }
    }
    text
}

fn row(function: &Function) -> [String; 12] {
    let none = || "-".to_owned();
    [
        function.name.clone(),
        function.revision.map_or_else(none, |revision| revision.to_string()),
        function.state.clone(),
        function.sessions.to_string(),
        function.memory.map_or_else(none, bytes),
        function.active.to_string(),
        function.queued.to_string(),
        function.calls.to_string(),
        function.last_call.map_or_else(none, ago),
        function.wakes.to_string(),
        function.last_wake.as_ref().map_or_else(none, |wake| format!("{:.1} ms", wake.total_ms)),
        if function.publishers.is_empty() { none() } else { function.publishers.join(", ") },
    ]
}

/// How long ago a moment was, in whole seconds.
pub(super) fn ago(unix_seconds: f64) -> String {
    let then = Duration::try_from_secs_f64(unix_seconds).unwrap_or_default();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let since = Duration::from_secs(now.saturating_sub(then).as_secs());
    format!("{} ago", humantime::format_duration(since))
}
