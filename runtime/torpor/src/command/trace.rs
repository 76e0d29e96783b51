//! `torpor trace`.

use super::client;
use crate::{
    cli::Trace as Arguments,
    failure::Failure,
    output::{Output, table},
};
use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;
use std::{thread::sleep, time::Duration};
use torpor::Advice;

/// How often the host is asked whether the next call has ended.
const LOOK: Duration = Duration::from_millis(100);
/// Characters of the longest bar.
const WIDTH: usize = 40;

/// A call as the admin interface tells of it.
#[derive(Debug, Deserialize)]
struct Trace {
    number: u64,
    arrived: Option<f64>,
    outcome: String,
    total_ms: f64,
    queue_ms: f64,
    wake: Option<Wake>,
    instantiate_ms: Option<f64>,
    run_ms: Option<f64>,
    answer_ms: Option<f64>,
    model_cache: Option<String>,
    http_cache: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Wake {
    map_ms: f64,
    link_ms: f64,
    session_ms: f64,
    first_run_ms: Option<f64>,
    total_ms: f64,
    models: Vec<Model>,
}

#[derive(Debug, Deserialize)]
struct Model {
    name: String,
    tier: String,
    open_ms: f64,
}

/// One line of the picture, in milliseconds from the call's arrival.
struct Phase {
    name: String,
    from: f64,
    takes: f64,
}

pub(crate) fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let name = &arguments.function;
    let last = || -> Result<Option<(u64, Value)>, Failure> {
        let text = client::get(arguments.admin.admin, &format!("/functions/{name}/traces"), Some(name))?;
        let traces: Vec<Value> = serde_json::from_str(&text).with_context(client::other_version)?;
        Ok(traces.into_iter().next_back().map(|trace| (trace["number"].as_u64().unwrap_or_default(), trace)))
    };
    let mut found = last()?;
    if arguments.next {
        let before = found.as_ref().map(|(number, _)| *number);
        while found.as_ref().map(|(number, _)| *number) == before {
            sleep(LOOK);
            found = last()?;
        }
    }
    let Some((_, value)) = found else {
        let what = format!("nobody has called `{name}` since it was deployed or the host started");
        let help = format!("call it, or wait for the next call with `torpor trace {name} --next`");
        return Err(Failure::NotSo(Advice::new(what, help).into()));
    };
    let trace: Trace = serde_json::from_value(value.clone()).with_context(client::other_version)?;
    output.result(&value, |_| render(name.as_str(), &trace));
    Ok(())
}

fn render(name: &str, trace: &Trace) -> String {
    let woke = if trace.wake.is_some() { ", for which it woke" } else { "" };
    let ago = trace.arrived.map(|arrived| format!(", {}", client::ago(arrived))).unwrap_or_default();
    let Trace { number, outcome, total_ms, .. } = trace;
    let head = format!("{name}: call {number}{woke}: {outcome} after {total_ms:.1} ms{ago}\n\n");
    let row = |phase: Phase| {
        let Phase { name, from, takes } = phase;
        [name, format!("{from:.2} ms"), format!("{takes:.2} ms"), bar(from, takes, *total_ms)]
    };
    let mut text = head + &table(["PHASE", "FROM", "TAKES", ""], phases(trace).into_iter().map(row));
    if let Some(first) = trace.wake.as_ref().and_then(|wake| wake.first_run_ms) {
        text.push_str(&format!("\nthe first run of a model since the wake took {first:.2} ms of `run`\n"));
    }
    for (what, status) in [("model", &trace.model_cache), ("HTTP", &trace.http_cache)] {
        if let Some(status) = status {
            text.push_str(&format!("\n{what} cache: {status}\n"));
        }
    }
    text
}

/// The phases in the order in which they begin.
fn phases(trace: &Trace) -> Vec<Phase> {
    let phase = |name: &str, from: f64, takes| Phase { name: name.to_owned(), from: from.max(0.0), takes };
    let mut phases = vec![phase("queue", 0.0, trace.queue_ms)];
    if let Some(wake) = &trace.wake {
        // The call is let in when the wake ends; it may have come when the wake was under way.
        let begin = trace.queue_ms - wake.total_ms;
        phases.push(phase("  wake", begin, wake.total_ms));
        phases.push(phase("    map", begin, wake.map_ms));
        phases.push(phase("    link", begin + wake.map_ms, wake.link_ms));
        phases.push(phase("    session", begin, wake.session_ms));
        for Model { name, tier, open_ms } in &wake.models {
            phases.push(phase(&format!("      {name} ({tier})"), begin, *open_ms));
        }
    }
    let mut from = trace.queue_ms;
    for (name, takes) in [("instantiate", trace.instantiate_ms), ("run", trace.run_ms), ("answer", trace.answer_ms)] {
        let Some(takes) = takes else { break };
        phases.push(phase(name, from, takes));
        from += takes;
    }
    phases
}

/// Where a phase is in the whole: at least one character, so that none is overlooked.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "at most a width"
)]
fn bar(from: f64, takes: f64, total: f64) -> String {
    let column = |at: f64| ((at / total.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0) * WIDTH as f64).round() as usize;
    let begin = column(from).min(WIDTH - 1);
    let length = column(from + takes).saturating_sub(begin).max(1);
    format!("{}{}", " ".repeat(begin), "█".repeat(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cold_call_is_drawn_as_it_went() {
        let text = r#"{"number": 3, "arrived": null, "outcome": "answered", "total_ms": 40.0, "queue_ms": 20.0,
            "wake": {"map_ms": 1.0, "link_ms": 1.0, "session_ms": 19.0, "first_run_ms": 5.0, "total_ms": 19.0,
                "models": [{"name": "large", "tier": "baseline", "open_ms": 19.0}, {"name": "small", "tier": "original", "open_ms": 2.0}]},
            "instantiate_ms": 1.0, "run_ms": 18.0, "answer_ms": 1.0, "model_cache": "hit", "http_cache": null}"#;
        let drawn = render("add", &serde_json::from_str(text).unwrap());
        let drawn = anstream::adapter::strip_str(&drawn).to_string();
        let expected = [
            "add: call 3, for which it woke: answered after 40.0 ms",
            "",
            "PHASE                   FROM      TAKES",
            "queue                   0.00 ms   20.00 ms  ████████████████████",
            "  wake                  1.00 ms   19.00 ms   ███████████████████",
            "    map                 1.00 ms   1.00 ms    █",
            "    link                2.00 ms   1.00 ms     █",
            "    session             1.00 ms   19.00 ms   ███████████████████",
            "      large (baseline)  1.00 ms   19.00 ms   ███████████████████",
            "      small (original)  1.00 ms   2.00 ms    ██",
            "instantiate             20.00 ms  1.00 ms                       █",
            "run                     21.00 ms  18.00 ms                       ██████████████████",
            "answer                  39.00 ms  1.00 ms                                          █",
            "",
            "the first run of a model since the wake took 5.00 ms of `run`",
            "",
            "model cache: hit",
            "",
        ];
        assert_eq!(drawn, expected.join("\n"));
    }

    #[test]
    fn a_call_that_was_never_let_in_has_its_queue_alone() {
        let text = r#"{"number": 1, "arrived": null, "outcome": "shed", "total_ms": 0.0, "queue_ms": 0.0, "wake": null,
            "instantiate_ms": null, "run_ms": null, "answer_ms": null, "model_cache": null, "http_cache": null}"#;
        let phases = phases(&serde_json::from_str(text).unwrap());
        assert_eq!(phases.iter().map(|phase| phase.name.as_str()).collect::<Vec<_>>(), ["queue"]);
        assert_eq!(bar(0.0, 0.0, 0.0), "█");
    }
}
