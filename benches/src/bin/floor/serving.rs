//! The same requests to the native server and to Torpor, in turns.

use crate::{
    Effort,
    process::{Memory, Server},
    report::{Comparison, Line, Memories, Report, Target},
};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::time::Duration;
use torpor_benches::{
    load,
    stage::{Stage, Workload},
    statistics::median,
};

const CONNECTIONS: [usize; 2] = [1, 16];
/// Answers may differ by this much, for the same library computes them.
const TOLERANCE: f64 = 1e-5;

/// One server, and what its callers saw: one entry a round.
struct Contestant {
    server: Server,
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    throughput: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    /// Processor time of the server for one request, in microseconds.
    processor: Vec<f64>,
}

pub(crate) fn measure(stage: &Stage, workload: &Workload, effort: Effort, report: &mut Report) -> Result<()> {
    // Long enough that Torpor stays warm while it is the others' turn.
    let idle = effort.round * 6 + Duration::from_secs(2);
    let inline = Server::native(stage, workload, "inline")?;
    let threads = Server::native(stage, workload, "threads")?;
    let torpor = Server::torpor(stage, workload, &format!("{}ms", idle.as_millis()))?;
    let mut contestants = [inline, threads, torpor].map(|server| Contestant { server, seen: Seen::default() });

    let started = memories(&contestants)?;
    let request = load::wire(&format!("/v2/models/{}/infer", workload.name), &workload.request());
    check_answers(&contestants, &request)?;
    for connections in CONNECTIONS {
        eprintln!("{} at {connections} connections", workload.name);
        for contestant in &mut contestants {
            contestant.seen = Seen::default();
            load::round(contestant.server.address, &request, connections, effort.round / 4)?;
        }
        for round in 0..effort.rounds {
            // There and back, so that a drift of the machine's speed favours nobody.
            let order: [usize; 3] = if round % 2 == 0 { [0, 1, 2] } else { [2, 1, 0] };
            for index in order {
                contestants[index].round(&request, connections, effort.round)?;
            }
        }
        let [inline, threads, torpor] = contestants.each_ref().map(|contestant| &contestant.seen);
        for (how, native) in [("inline", inline), ("on threads", threads)] {
            report.add(compare(workload, connections, how, native, torpor));
        }
    }
    let loaded = memories(&contestants)?;
    let [_, _, torpor] = &contestants;
    torpor.server.wait_until_cold(idle + Duration::from_secs(10))?;
    let cold = torpor.server.memory()?;
    let names = ["native, inline", "native, on threads", "torpor"];
    for (index, server) in names.into_iter().enumerate() {
        let (started, loaded) = (started[index], loaded[index]);
        let cold = (index == 2).then_some(cold);
        report.add_memory(Memories { model: workload.name, server, started, loaded, cold });
    }
    Ok(())
}

impl Contestant {
    #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
    fn round(&mut self, request: &[u8], connections: usize, time: Duration) -> Result<()> {
        let before = self.server.processor_time()?;
        let round = load::round(self.server.address, request, connections, time)?;
        let processor = self.server.processor_time()? - before;
        let seen = &mut self.seen;
        seen.throughput.push(round.throughput);
        seen.p50.push(round.p50);
        seen.p99.push(round.p99);
        seen.processor.push(processor * 1e6 / round.requests.max(1) as f64);
        Ok(())
    }
}

fn compare(workload: &Workload, connections: usize, how: &str, native: &Seen, torpor: &Seen) -> Line {
    let ratios = torpor.throughput.iter().zip(&native.throughput).map(|(torpor, native)| torpor / native);
    let mut ratios: Vec<_> = ratios.collect();
    let plural = if connections == 1 { "" } else { "s" };
    let mut line = Line::new(
        format!("{}, {connections} connection{plural}, native {how}", workload.name),
        Comparison::Ratio,
        (median(&mut native.throughput.clone()), median(&mut torpor.throughput.clone())),
        "requests/s",
    );
    // This sorts them, so that the least and the greatest stand at the ends.
    line.compared = median(&mut ratios);
    line.spread = ratios.first().copied().zip(ratios.last().copied());
    for (what, native, torpor) in [
        ("p50 (µs)", &native.p50, &torpor.p50),
        ("p99 (µs)", &native.p99, &torpor.p99),
        ("processor time a request (µs)", &native.processor, &torpor.processor),
    ] {
        line.details.push((what, median(&mut native.clone()), median(&mut torpor.clone())));
    }
    line.target(workload.target.map(Target::AtLeast))
}

fn memories(contestants: &[Contestant; 3]) -> Result<[Memory; 3]> {
    let [inline, threads, torpor] = contestants.each_ref().map(|contestant| contestant.server.memory());
    Ok([inline?, threads?, torpor?])
}

/// A comparison of servers that answer differently would be worth nothing.
fn check_answers(contestants: &[Contestant; 3], request: &[u8]) -> Result<()> {
    let mut expected = None;
    for contestant in contestants {
        let answer: Value = serde_json::from_slice(&load::once(contestant.server.address, request)?)?;
        let expected = expected.get_or_insert_with(|| answer.clone());
        ensure!(same(expected, &answer), "the servers answer differently: {expected} and {answer}");
    }
    Ok(())
}

fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| same(one, other)))
        }
        (Value::Number(one), Value::Number(other)) => {
            one.as_f64().zip(other.as_f64()).is_some_and(|(one, other)| (one - other).abs() <= TOLERANCE)
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_are_compared_to_the_last_digits_that_count() {
        let answer = |score: f64| json!({ "outputs": [{ "name": "z", "data": [1, score] }] });
        assert!(same(&answer(0.5), &answer(0.500_001)));
        assert!(!same(&answer(0.5), &answer(0.501)));
        assert!(!same(&json!([1]), &json!([1, 2])));
        assert!(!same(&json!({ "a": 1 }), &json!({ "b": 1 })));
    }

    #[test]
    fn throughputs_are_compared_round_by_round() {
        let seen = |throughput: [f64; 3]| Seen { throughput: throughput.to_vec(), ..Seen::default() };
        let line =
            compare(&torpor_benches::stage::ADD, 1, "inline", &seen([100.0, 10.0, 50.0]), &seen([50.0, 6.0, 20.0]));
        assert!((line.compared - 0.5).abs() < 1e-9, "{}", line.compared);
        assert_eq!(line.spread, Some((0.4, 0.6)));
    }
}
