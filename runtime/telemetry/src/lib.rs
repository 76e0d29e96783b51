//! Tracing set-up, the metric registry and metric names.
