//! The metric registry, and every metric's name.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{fmt::Write, time::Duration};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The function answered, whatever it answered.
    Answered,
    /// The caller sent something that the function cannot take.
    Refused,
    /// The queue was full.
    Shed,
    /// The deadline passed.
    Late,
    /// The caller hung up.
    Abandoned,
    /// The function failed: a trap, a failed run, a wake that did not succeed.
    Failed,
}

/// The parts of a wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Checking and mapping the precompiled module.
    Map,
    /// Resolving its imports.
    Link,
    /// Opening its models.
    Session,
    /// The whole wake; its parts overlap.
    Total,
}

/// Gives label values in lower case, as is the custom.
macro_rules! label_values {
    ($type:ident { $($variant:ident => $word:literal),+ }) => {
        impl EncodeLabelValue for $type {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
                encoder.write_str(match self {
                    $($type::$variant => $word),+
                })
            }
        }
    };
}

label_values!(Outcome {
    Answered => "answered",
    Refused => "refused",
    Shed => "shed",
    Late => "late",
    Abandoned => "abandoned",
    Failed => "failed"
});
label_values!(Phase { Map => "map", Link => "link", Session => "session", Total => "total" });

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FunctionLabel {
    function: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    function: String,
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    function: String,
    phase: Phase,
}

type Seconds = Histogram;
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Every metric of the host. One per process.
pub struct Metrics {
    registry: Registry,
    requests: Family<OutcomeLabel, Counter>,
    request_seconds: Histograms<FunctionLabel>,
    queued: Family<FunctionLabel, Gauge>,
    active: Family<FunctionLabel, Gauge>,
    wakes: Family<FunctionLabel, Counter>,
    wake_failures: Family<FunctionLabel, Counter>,
    wake_seconds: Histograms<PhaseLabel>,
    sleeps: Family<FunctionLabel, Counter>,
    model_ends: Family<FunctionLabel, Counter>,
    warm: Family<FunctionLabel, Gauge>,
    connections: Gauge,
}

/// The metrics of one function, looked up once. Lives as long as the function.
#[derive(Clone)]
pub struct FunctionMetrics {
    outcomes: [Counter; 6],
    /// From arrival to the end of the answer.
    pub request_seconds: Seconds,
    /// Requests that wait for a place or a wake.
    pub queued: Gauge,
    /// Requests that are being answered.
    pub active: Gauge,
    /// Wakes that succeeded.
    pub wakes: Counter,
    /// Wakes that did not.
    pub wake_failures: Counter,
    phases: [Seconds; 4],
    /// Times the function went back to zero.
    pub sleeps: Counter,
    /// Times that the process of one of its models ended on its own.
    pub model_ends: Counter,
    /// 1 while the function holds code and models, else 0. While one revision replaces another, both may count.
    pub warm: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A registry with every metric in it, all at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("torpor");
        let metrics = Metrics {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(request_buckets),
            queued: Family::default(),
            active: Family::default(),
            wakes: Family::default(),
            wake_failures: Family::default(),
            wake_seconds: Family::new_with_constructor(wake_buckets),
            sleeps: Family::default(),
            model_ends: Family::default(),
            warm: Family::default(),
            connections: Gauge::default(),
            registry: Registry::default(),
        };
        let seconds = || Unit::Seconds;
        registry.register("requests", "Requests, by how they ended", metrics.requests.clone());
        let help = "From a request's arrival to the end of its answer";
        registry.register_with_unit("request", help, seconds(), metrics.request_seconds.clone());
        registry.register("queued_requests", "Requests that wait for a place or a wake", metrics.queued.clone());
        registry.register("active_requests", "Requests that are being answered", metrics.active.clone());
        registry.register("wakes", "Wakes that succeeded", metrics.wakes.clone());
        registry.register("wake_failures", "Wakes that did not succeed", metrics.wake_failures.clone());
        registry.register_with_unit("wake", "Wakes and their phases", seconds(), metrics.wake_seconds.clone());
        registry.register("sleeps", "Times a function went back to zero", metrics.sleeps.clone());
        let help = "Times that the process of a model ended on its own";
        registry.register("model_ends", help, metrics.model_ends.clone());
        registry.register("warm_functions", "1 while a function holds code and models", metrics.warm.clone());
        registry.register("connections", "Open connections of the data listener", metrics.connections.clone());
        Metrics { registry, ..metrics }
    }

    /// States that unsigned bundles are accepted, so that nobody can overlook it.
    pub fn register_insecure(&mut self) {
        let gauge = Gauge::<i64>::default();
        gauge.set(1);
        self.registry.register("insecure_allow_unsigned", "1 when bundles need no signature", gauge);
    }

    /// The metrics of one function.
    pub fn function(&self, name: &str) -> FunctionMetrics {
        let label = FunctionLabel { function: name.to_owned() };
        let outcome = |outcome| {
            let label = OutcomeLabel { function: name.to_owned(), outcome };
            self.requests.get_or_create_owned(&label)
        };
        let phase = |phase| {
            let label = PhaseLabel { function: name.to_owned(), phase };
            self.wake_seconds.get_or_create_owned(&label)
        };
        FunctionMetrics {
            outcomes: [
                outcome(Outcome::Answered),
                outcome(Outcome::Refused),
                outcome(Outcome::Shed),
                outcome(Outcome::Late),
                outcome(Outcome::Abandoned),
                outcome(Outcome::Failed),
            ],
            request_seconds: self.request_seconds.get_or_create_owned(&label),
            queued: self.queued.get_or_create_owned(&label),
            active: self.active.get_or_create_owned(&label),
            wakes: self.wakes.get_or_create_owned(&label),
            wake_failures: self.wake_failures.get_or_create_owned(&label),
            phases: [phase(Phase::Map), phase(Phase::Link), phase(Phase::Session), phase(Phase::Total)],
            sleeps: self.sleeps.get_or_create_owned(&label),
            model_ends: self.model_ends.get_or_create_owned(&label),
            warm: self.warm.get_or_create_owned(&label),
        }
    }

    /// Open connections of the data listener.
    pub fn connections(&self) -> &Gauge {
        &self.connections
    }

    /// Everything, in the OpenMetrics text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl FunctionMetrics {
    /// Counts a request that ended.
    pub fn ended(&self, outcome: Outcome, took: Duration) {
        self.outcomes[outcome as usize].inc();
        self.request_seconds.observe(took.as_secs_f64());
    }

    /// Records one phase of a wake.
    pub fn wake_phase(&self, phase: Phase, took: Duration) {
        self.phases[phase as usize].observe(took.as_secs_f64());
    }
}

/// From 0.1 ms to 26 s, each twice or two and a half times the one before.
fn request_buckets() -> Histogram {
    Histogram::new([
        0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0,
    ])
}

/// From 25 µs, since mapping a module takes some tens of them.
fn wake_buckets() -> Histogram {
    Histogram::new([
        0.000_025, 0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_rendered() {
        let metrics = Metrics::new();
        let function = metrics.function("filetype");
        function.ended(Outcome::Late, Duration::from_millis(3));
        function.wake_phase(Phase::Map, Duration::from_micros(50));
        let text = metrics.render();
        assert!(text.contains(r#"torpor_requests_total{function="filetype",outcome="late"} 1"#), "{text}");
        assert!(text.contains(r#"torpor_request_seconds_count{function="filetype"} 1"#), "{text}");
        assert!(
            text.contains(r#"torpor_wake_seconds_count{phase="map",function="filetype"} 1"#)
                || text.contains(r#"torpor_wake_seconds_count{function="filetype",phase="map"} 1"#),
            "{text}"
        );
    }
}
