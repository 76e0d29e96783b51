//! What the contestants did in each protocol, side by side, and the goals.

use crate::{
    contestant::Contestant,
    request::{Protocol, Request, Size},
};
use anyhow::Result;
use std::time::Duration;
use torpor_benches::{
    frame::{Group, Results},
    statistics::median,
};

/// Milliseconds of one processor that a megabyte of JSON may take, of requests and answers together: 200 MB/s.
const JSON_GOAL: f64 = 5.0;

/// One contestant in one protocol.
pub(crate) struct Entry<'e> {
    pub(crate) contestant: &'e Contestant,
    pub(crate) request: &'e Request,
    /// Bytes of the body of its answer.
    pub(crate) answer: usize,
    pub(crate) seen: Seen,
}

/// What its callers saw: one entry a round.
#[derive(Default)]
pub(crate) struct Seen {
    throughput: Vec<f64>,
    /// Microseconds.
    p50: Vec<f64>,
    p99: Vec<f64>,
    /// Processor time of the server for one request, in microseconds.
    processor: Vec<f64>,
    /// Bytes of bodies, in and out, for each microsecond of that, which are MB/s.
    bandwidth: Vec<f64>,
}

impl Entry<'_> {
    pub(crate) fn warm_up(&self, connections: usize, time: Duration) -> Result<()> {
        self.request.round(self.contestant.address(self.request.protocol), connections, time).map(drop)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of requests and bytes")]
    pub(crate) fn round(&mut self, connections: usize, time: Duration) -> Result<()> {
        let Entry { contestant, request, answer, seen } = self;
        let before = contestant.processor_time(request.protocol)?;
        let round = request.round(contestant.address(request.protocol), connections, time)?;
        let processor = contestant.processor_time(request.protocol)? - before;
        let processor = processor * 1e6 / round.requests.max(1) as f64;
        seen.throughput.push(round.throughput);
        seen.p50.push(round.p50);
        seen.p99.push(round.p99);
        seen.processor.push(processor);
        seen.bandwidth.push((request.body + *answer) as f64 / processor);
        Ok(())
    }
}

/// Adds a table of one size at one number of connections.
pub(crate) fn report(size: &Size, connections: usize, entries: &[Entry<'_>], results: &mut Results) {
    let name = format!("{}, {connections} connection{}", size.name, if connections == 1 { "" } else { "s" });
    let column = |title: &str, of: fn(&Seen) -> &[f64], scale: f64| {
        let mut group = Group::new(title);
        for Entry { contestant, request, seen, .. } in entries {
            let samples = of(seen).iter().map(|sample| sample / scale).collect();
            group.add(format!("{}: {}", request.protocol.name(), contestant.name()), samples);
        }
        group
    };
    let mut groups = vec![
        column("requests/s", |seen| &seen.throughput, 1.0),
        column("p50, ms", |seen| &seen.p50, 1e3).undrawn(),
        column("p99, ms", |seen| &seen.p99, 1e3).undrawn(),
        column("processor time a request, µs", |seen| &seen.processor, 1.0).undrawn(),
    ];
    if size.large {
        groups.push(column("MB/s a core", |seen| &seen.bandwidth, 1.0).undrawn());
    }
    results.compare(&*name, groups);
    for protocol in Protocol::ALL {
        let find = |wanted: fn(&Contestant) -> bool| {
            let is = |entry: &&Entry<'_>| entry.request.protocol == protocol && wanted(entry.contestant);
            entries.iter().find(is).map(|entry| &entry.seen)
        };
        let native = find(|contestant| matches!(contestant, Contestant::Native { .. }));
        let Some((native, torpor)) = native.zip(find(|contestant| matches!(contestant, Contestant::Torpor(_)))) else {
            continue;
        };
        let what = format!("{name}, {}: native requests/s, as a share of Torpor's", protocol.name());
        results.goal(what, times(native, torpor), 1.0 / size.share, "×");
        if size.large && protocol == Protocol::Json {
            let what = format!("{name}, JSON: processor time for a megabyte, in and out");
            results.goal(what, 1e3 / median(&mut torpor.bandwidth.clone()), JSON_GOAL, "ms");
        }
    }
}

/// How many times as much the native server did, round by round, so that what disturbs one disturbs both.
fn times(native: &Seen, torpor: &Seen) -> f64 {
    let ratios = native.throughput.iter().zip(&torpor.throughput).map(|(native, torpor)| native / torpor);
    median(&mut ratios.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughputs_are_compared_round_by_round() {
        let seen = |throughput: [f64; 3]| Seen { throughput: throughput.to_vec(), ..Seen::default() };
        let times = times(&seen([100.0, 10.0, 50.0]), &seen([50.0, 5.0, 20.0]));
        assert!((times - 2.0).abs() < 1e-9, "{times}");
    }
}
