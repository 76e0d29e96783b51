//! How the functions of a host look to people.

use super::client::{Function, ago};
use crate::output::{BAD, GOOD, MOVING, bytes, styled, table};

/// The table, and below it what is wrong with whom.
pub(super) fn all(functions: &[Function]) -> String {
    let mut text = table_of(functions);
    for function in functions {
        if function.lacks_memory {
            text.push_str(&format!("\n{}: it waits for memory, since the others are busy\n", function.name));
        }
        if let Some(cause) = &function.cause {
            text.push_str(&format!("\n{}: {cause}\n", function.name));
        }
        if let Some(refused) = &function.refused {
            text.push_str(&format!("\n{}: its newest manifest is not deployed: {refused}\n", function.name));
        }
    }
    text
}

/// The table alone.
pub(super) fn table_of(functions: &[Function]) -> String {
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
    table.lines().map(painted).collect()
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
