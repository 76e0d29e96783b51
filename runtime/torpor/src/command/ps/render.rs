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
        "TIER",
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

fn row(function: &Function) -> [String; 13] {
    let none = || "-".to_owned();
    [
        function.name.clone(),
        function.revision.map_or_else(none, |revision| revision.to_string()),
        function.state.clone(),
        function.sessions.to_string(),
        tiers(function).unwrap_or_else(none),
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

/// How its models are open, each by its name where there are several; `None` where none is.
fn tiers(function: &Function) -> Option<String> {
    let open = function.models.iter().filter_map(|model| Some((&model.name, model.tier.as_ref()?)));
    let tiers = open.map(|(name, tier)| match function.models.len() {
        1 => tier.clone(),
        _ => format!("{name}: {tier}"),
    });
    Some(tiers.collect::<Vec<_>>().join(", ")).filter(|tiers| !tiers.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_models_are_told_apart_by_their_names() {
        let tiers = |models: &str| {
            let text = format!(
                r#"{{"name": "a", "state": "Warm", "publishers": [], "trigger": {{"http": null, "inference": true}},
                    "models": {models}, "sessions": 0, "memory": null, "lacks_memory": false, "active": 0, "queued": 0,
                    "calls": 0, "last_call": null, "wakes": 0, "last_wake": null, "cause": null, "revision": 1,
                    "refused": null}}"#
            );
            tiers(&serde_json::from_str(&text).expect("it is a function"))
        };
        assert_eq!(tiers("[]"), None);
        assert_eq!(tiers(r#"[{"name": "a", "tier": null}]"#), None);
        assert_eq!(tiers(r#"[{"name": "a", "tier": "baseline"}]"#).as_deref(), Some("baseline"));
        let both = tiers(r#"[{"name": "a", "tier": "baseline"}, {"name": "b", "tier": "original"}]"#);
        assert_eq!(both.as_deref(), Some("a: baseline, b: original"));
    }
}
