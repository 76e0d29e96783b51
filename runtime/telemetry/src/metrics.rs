//! The metric registry, and every metric's name.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{
    collections::BTreeSet,
    fmt::Write,
    ops::Deref,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The function answered, whatever it answered.
    Answered,
    /// The caller sent something that the function cannot take.
    Refused,
    /// The queue was full, or there was no memory.
    Shed,
    /// There was no time for it, by the pace of those before it, so it was not tried.
    Overloaded,
    /// The deadline passed.
    Late,
    /// The caller hung up.
    Abandoned,
    /// The function failed: a trap, a failed run, a wake that did not succeed.
    Failed,
}

impl Outcome {
    const ALL: [Outcome; 7] = [
        Outcome::Answered,
        Outcome::Refused,
        Outcome::Shed,
        Outcome::Overloaded,
        Outcome::Late,
        Outcome::Abandoned,
        Outcome::Failed,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Refused => "refused",
            Outcome::Shed => "shed",
            Outcome::Overloaded => "overloaded",
            Outcome::Late => "late",
            Outcome::Abandoned => "abandoned",
            Outcome::Failed => "failed",
        }
    }
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
    /// The first run of a model after it.
    FirstRun,
}

impl Phase {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Map => "map",
            Phase::Link => "link",
            Phase::Session => "session",
            Phase::Total => "total",
            Phase::FirstRun => "first-run",
        }
    }
}

/// Why a function went back to zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SleepCause {
    /// Nobody called it for its idle time-out.
    Idle,
    /// Another function needed its memory.
    Budget,
    /// Another revision took its place, it was undeployed, or the host ends.
    Retired,
}

impl SleepCause {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            SleepCause::Idle => "idle",
            SleepCause::Budget => "budget",
            SleepCause::Retired => "retired",
        }
    }
}

/// How a model was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpenTier {
    /// From its own file.
    Original,
    /// From its optimized form, so that the first answer comes soon.
    Baseline,
    /// From its optimized form, so that runs are fast; also in the background, while it ran in another way.
    Optimized,
}

impl OpenTier {
    const ALL: [OpenTier; 3] = [OpenTier::Original, OpenTier::Baseline, OpenTier::Optimized];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            OpenTier::Original => "original",
            OpenTier::Baseline => "baseline",
            OpenTier::Optimized => "optimized",
        }
    }
}

/// What is kept to be given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheKind {
    /// What models gave for inputs.
    Model,
    /// Whole answers to plain HTTP requests.
    Http,
}

impl CacheKind {
    const ALL: [CacheKind; 2] = [CacheKind::Model, CacheKind::Http];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            CacheKind::Model => "model",
            CacheKind::Http => "http",
        }
    }
}

/// What came of looking for something in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheResult {
    /// It was there.
    Hit,
    /// It was not.
    Miss,
    /// It was not, but somebody was about to make it, and was waited for.
    Joined,
}

impl CacheResult {
    const ALL: [CacheResult; 3] = [CacheResult::Hit, CacheResult::Miss, CacheResult::Joined];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            CacheResult::Hit => "hit",
            CacheResult::Miss => "miss",
            CacheResult::Joined => "joined",
        }
    }
}

/// Gives label values the words of their types.
macro_rules! label_values {
    ($($type:ident),+) => {
        $(impl EncodeLabelValue for $type {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
                encoder.write_str(self.as_str())
            }
        })+
    };
}

label_values!(Outcome, Phase, SleepCause, OpenTier, CacheKind, CacheResult);

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
    phase: Phase,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    function: String,
    cause: SleepCause,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TierLabel {
    function: String,
    tier: OpenTier,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabel {
    function: String,
    cache: CacheKind,
    result: CacheResult,
}

/// How often something was looked for, by what was looked for and what came of it.
type CacheRequests = [[Counter; 3]; 2];
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
    sleeps: Family<CauseLabel, Counter>,
    model_ends: Family<FunctionLabel, Counter>,
    model_opens: Family<TierLabel, Counter>,
    model_wait_seconds: Histograms<FunctionLabel>,
    batch_rows: Histograms<FunctionLabel>,
    cache_requests: Family<CacheLabel, Counter>,
    warm: Family<FunctionLabel, Gauge>,
    connections: Gauge,
    /// The functions that have series. Held while one is added or taken away, which only deploying and first calls do.
    functions: Mutex<BTreeSet<String>>,
    phases: [Seconds; 5],
    memory: MemoryMetrics,
    cache: CacheMetrics,
}

/// The metrics of the memory that functions take, all together.
#[derive(Clone, Default)]
pub struct MemoryMetrics {
    /// What the functions that are in memory count with, in bytes.
    pub functions: Gauge,
    /// Functions that wait until there is memory for them to wake.
    pub waiting: Gauge,
}

/// The metrics of the response cache, that of all functions.
#[derive(Clone, Default)]
pub struct CacheMetrics {
    /// What its entries take, in bytes.
    pub bytes: Gauge,
    /// How many there are.
    pub entries: Gauge,
    /// Entries that went for others before they were too old.
    pub evictions: Counter,
    /// What entries may take together, in bytes; 0 where there is no cache.
    pub limit: Gauge,
}

/// The metrics of one function, which are there once they are looked at: one that nobody ever called has none, so that a host
/// may have very many of them. Lives as long as the function.
pub struct FunctionMetrics {
    all: Arc<Metrics>,
    name: Box<str>,
    series: OnceLock<Box<Series>>,
    /// Apart from the others, since most functions have no cache.
    cache: OnceLock<Box<CacheRequests>>,
}

/// What is counted of one function.
pub struct Series {
    outcomes: [Counter; 7],
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
    sleeps: [Counter; 3],
    /// Times that the process of one of its models ended on its own.
    pub model_ends: Counter,
    model_opens: [Counter; 3],
    /// How long runs waited for their turn at a model.
    pub model_wait_seconds: Seconds,
    /// Of the runs of models whose runs may be joined: rows of the batch that each was part of.
    pub batch_rows: Histogram,
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
        let wake_seconds: Histograms<PhaseLabel> = Family::new_with_constructor(wake_buckets);
        let phase = |phase| wake_seconds.get_or_create_owned(&PhaseLabel { phase });
        let metrics = Metrics {
            phases: [
                phase(Phase::Map),
                phase(Phase::Link),
                phase(Phase::Session),
                phase(Phase::Total),
                phase(Phase::FirstRun),
            ],
            memory: MemoryMetrics::default(),
            cache: CacheMetrics::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(request_buckets),
            queued: Family::default(),
            active: Family::default(),
            wakes: Family::default(),
            wake_failures: Family::default(),
            sleeps: Family::default(),
            model_ends: Family::default(),
            model_opens: Family::default(),
            model_wait_seconds: Family::new_with_constructor(wake_buckets),
            batch_rows: Family::new_with_constructor(row_buckets),
            cache_requests: Family::default(),
            warm: Family::default(),
            connections: Gauge::default(),
            functions: Mutex::default(),
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
        registry.register_with_unit("wake", "Wakes and their phases", seconds(), wake_seconds.clone());
        registry.register("sleeps", "Times a function went back to zero", metrics.sleeps.clone());
        let help = "Times that the process of a model ended on its own";
        registry.register("model_ends", help, metrics.model_ends.clone());
        let help = "Times a model was opened, by how";
        registry.register("model_opens", help, metrics.model_opens.clone());
        let help = "From a run's being asked for until its turn at a model";
        registry.register_with_unit("model_wait", help, seconds(), metrics.model_wait_seconds.clone());
        let help = "Rows of the batch that each run was part of, where runs may be joined";
        registry.register("batch_rows", help, metrics.batch_rows.clone());
        let help = "Times that something was looked for in the response cache, by what came of it";
        registry.register("cache_requests", help, metrics.cache_requests.clone());
        let help = "What the entries of the response cache take";
        registry.register_with_unit("cache", help, Unit::Bytes, metrics.cache.bytes.clone());
        registry.register("cache_entries", "Entries of the response cache", metrics.cache.entries.clone());
        let help = "Entries of the response cache that went for others before they were too old";
        registry.register("cache_evictions", help, metrics.cache.evictions.clone());
        let help = "What the entries of the response cache may take together";
        registry.register_with_unit("cache_limit", help, Unit::Bytes, metrics.cache.limit.clone());
        registry.register("warm_functions", "1 while a function holds code and models", metrics.warm.clone());
        let help = "What functions in memory count with";
        registry.register_with_unit("functions_memory", help, Unit::Bytes, metrics.memory.functions.clone());
        let help = "Functions that wait until there is memory for them to wake";
        registry.register("functions_awaiting_memory", help, metrics.memory.waiting.clone());
        registry.register("connections", "Open connections of the data listener", metrics.connections.clone());
        Metrics { registry, ..metrics }
    }

    /// States that unsigned bundles are accepted, so that nobody can overlook it.
    pub fn register_insecure(&mut self) {
        let gauge = Gauge::<i64>::default();
        gauge.set(1);
        self.registry.register("insecure_allow_unsigned", "1 when bundles need no signature", gauge);
    }

    /// States how much memory functions may take together.
    pub fn register_budget(&mut self, bytes: u64) {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        let help = "What functions in memory may count with together";
        self.registry.register_with_unit("memory_budget", help, Unit::Bytes, gauge);
    }

    /// The metrics of one function, none of which are there yet.
    pub fn function(self: &Arc<Self>, name: &str) -> FunctionMetrics {
        FunctionMetrics { all: Arc::clone(self), name: name.into(), series: OnceLock::new(), cache: OnceLock::new() }
    }

    /// The metrics of the response cache.
    pub fn cache(&self) -> &CacheMetrics {
        &self.cache
    }

    /// The metrics of the memory that functions take.
    pub fn memory(&self) -> &MemoryMetrics {
        &self.memory
    }

    fn cache_requests(&self, name: &str) -> CacheRequests {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        CacheKind::ALL.map(|cache| {
            CacheResult::ALL.map(|result| {
                self.cache_requests.get_or_create_owned(&CacheLabel { function: name.to_owned(), cache, result })
            })
        })
    }

    fn series(&self, name: &str) -> Series {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        let label = FunctionLabel { function: name.to_owned() };
        let outcome = |outcome| {
            let label = OutcomeLabel { function: name.to_owned(), outcome };
            self.requests.get_or_create_owned(&label)
        };
        let sleeps = |cause| {
            let label = CauseLabel { function: name.to_owned(), cause };
            self.sleeps.get_or_create_owned(&label)
        };
        Series {
            outcomes: Outcome::ALL.map(outcome),
            request_seconds: self.request_seconds.get_or_create_owned(&label),
            queued: self.queued.get_or_create_owned(&label),
            active: self.active.get_or_create_owned(&label),
            wakes: self.wakes.get_or_create_owned(&label),
            wake_failures: self.wake_failures.get_or_create_owned(&label),
            sleeps: [sleeps(SleepCause::Idle), sleeps(SleepCause::Budget), sleeps(SleepCause::Retired)],
            model_ends: self.model_ends.get_or_create_owned(&label),
            model_opens: OpenTier::ALL
                .map(|tier| self.model_opens.get_or_create_owned(&TierLabel { function: name.to_owned(), tier })),
            model_wait_seconds: self.model_wait_seconds.get_or_create_owned(&label),
            batch_rows: self.batch_rows.get_or_create_owned(&label),
            warm: self.warm.get_or_create_owned(&label),
        }
    }

    /// Drops the series of all functions of which `keep` does not say that they are still there. Whoever holds the metrics of such
    /// a function goes on counting for nobody.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        const CAUSES: [SleepCause; 3] = [SleepCause::Idle, SleepCause::Budget, SleepCause::Retired];
        self.functions.lock().unwrap_or_else(PoisonError::into_inner).retain(|name| {
            let keep = keep(name);
            if !keep {
                let label = FunctionLabel { function: name.clone() };
                for gauge in [&self.queued, &self.active, &self.warm] {
                    gauge.remove(&label);
                }
                for counter in [&self.wakes, &self.wake_failures, &self.model_ends] {
                    counter.remove(&label);
                }
                for histogram in [&self.request_seconds, &self.model_wait_seconds, &self.batch_rows] {
                    histogram.remove(&label);
                }
                for outcome in Outcome::ALL {
                    self.requests.remove(&OutcomeLabel { function: name.clone(), outcome });
                }
                for cause in CAUSES {
                    self.sleeps.remove(&CauseLabel { function: name.clone(), cause });
                }
                for (cache, result) in
                    CacheKind::ALL.into_iter().flat_map(|kind| CacheResult::ALL.map(|result| (kind, result)))
                {
                    self.cache_requests.remove(&CacheLabel { function: name.clone(), cache, result });
                }
                for tier in OpenTier::ALL {
                    self.model_opens.remove(&TierLabel { function: name.clone(), tier });
                }
            }
            keep
        });
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

impl Deref for FunctionMetrics {
    type Target = Series;

    fn deref(&self) -> &Series {
        self.series.get_or_init(|| Box::new(self.all.series(&self.name)))
    }
}

impl FunctionMetrics {
    /// Records one phase of a wake.
    pub fn wake_phase(&self, phase: Phase, took: Duration) {
        self.all.phases[phase as usize].observe(took.as_secs_f64());
    }

    /// Counts that something was looked for in the response cache.
    pub fn looked_up(&self, cache: CacheKind, result: CacheResult) {
        let requests = self.cache.get_or_init(|| Box::new(self.all.cache_requests(&self.name)));
        requests[cache as usize][result as usize].inc();
    }
}

impl Series {
    /// Counts a request that ended.
    pub fn ended(&self, outcome: Outcome, took: Duration) {
        self.outcomes[outcome as usize].inc();
        self.request_seconds.observe(took.as_secs_f64());
    }

    /// Counts a model that was opened.
    pub fn opened(&self, tier: OpenTier) {
        self.model_opens[tier as usize].inc();
    }

    /// Counts a run of a model: how long it waited, and the rows of its batch; 0 where it could not be joined.
    pub fn ran(&self, waited: Duration, batch: u64) {
        self.model_wait_seconds.observe(waited.as_secs_f64());
        if let Ok(rows @ 1..) = u32::try_from(batch) {
            self.batch_rows.observe(rows.into());
        }
    }

    /// Counts a sleep.
    pub fn slept(&self, cause: SleepCause) {
        self.sleeps[cause as usize].inc();
    }
}

/// Each doubling of a batch.
fn row_buckets() -> Histogram {
    Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0])
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
    fn a_function_that_is_gone_leaves_nothing() {
        let metrics = Arc::new(Metrics::new());
        let empty = metrics.render();
        let gone = metrics.function("gone");
        gone.ended(Outcome::Answered, Duration::from_millis(3));
        gone.opened(OpenTier::Baseline);
        gone.looked_up(CacheKind::Model, CacheResult::Hit);
        metrics.function("stays").wakes.inc();
        metrics.retain(|name| name == "stays");
        let text = metrics.render();
        assert!(!text.contains("gone") && text.contains(r#"torpor_wakes_total{function="stays"} 1"#), "{text}");
        // It counts from nothing when it comes back.
        assert_eq!(metrics.function("gone").wakes.get(), 0);
        metrics.retain(|_| false);
        assert_eq!(metrics.render(), empty);
    }

    #[test]
    fn what_is_counted_is_rendered() {
        let metrics = Arc::new(Metrics::new());
        let function = metrics.function("filetype");
        assert!(!metrics.render().contains("filetype"), "what nobody called is not there");
        function.ended(Outcome::Late, Duration::from_millis(3));
        function.wake_phase(Phase::Map, Duration::from_micros(50));
        function.opened(OpenTier::Optimized);
        assert!(!metrics.render().contains("torpor_cache_requests_total{"), "it has no cache");
        function.looked_up(CacheKind::Http, CacheResult::Joined);
        let text = metrics.render();
        assert!(text.contains(r#"torpor_requests_total{function="filetype",outcome="late"} 1"#), "{text}");
        assert!(text.contains(r#"torpor_request_seconds_count{function="filetype"} 1"#), "{text}");
        assert!(text.contains(r#"torpor_wake_seconds_count{phase="map"} 1"#), "{text}");
        for (cache, result, count) in [("model", "hit", 0), ("http", "joined", 1), ("http", "miss", 0)] {
            let sample = format!(
                r#"torpor_cache_requests_total{{function="filetype",cache="{cache}",result="{result}"}} {count}"#
            );
            assert!(text.contains(&sample), "{text}");
        }
        for (tier, count) in [("original", 0), ("baseline", 0), ("optimized", 1)] {
            let sample = format!(r#"torpor_model_opens_total{{function="filetype",tier="{tier}"}} {count}"#);
            assert!(text.contains(&sample), "{text}");
        }
    }
}
