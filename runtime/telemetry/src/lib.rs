//! What the host says of itself: log lines and metrics. A leaf, so that every other crate may speak through it.
//!
//! Names of metrics live here and nowhere else. Labels are enums or names of functions, never words from a request, so that
//! no caller can make a series.

mod log;
mod metrics;

pub use log::{LogFormat, init_logging};
pub use metrics::{
    CacheKind, CacheMetrics, CacheResult, FunctionMetrics, MemoryMetrics, Metrics, OpenTier, Outcome, Phase, Series,
    SleepCause,
};
pub use prometheus_client::metrics::gauge::Gauge;
