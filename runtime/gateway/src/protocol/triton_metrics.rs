//! What models have done under the names that Triton's metrics have, in the Prometheus text format, for dashboards that were made for
//! Triton.
//!
//! Source: Triton's `metrics.md`. Only what has the same meaning here is there: what Triton tells of GPUs and pinned memory is not.

use super::open_inference::{InferenceStats, Stats, Took};
use std::fmt::Write;

/// The media type of the text.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A model, and what waits for it.
pub(crate) struct Model<'a> {
    pub(crate) stats: Stats<'a>,
    /// Requests that wait for a place or a wake.
    pub(crate) pending: usize,
}

type Value = fn(&Model<'_>) -> u128;

/// Each metric: its name, its type, its help, and its value.
const METRICS: [(&str, &str, &str, Value); 12] = [
    ("nv_inference_request_success", "counter", "Requests that were answered", |model| {
        times(model).success.count.into()
    }),
    ("nv_inference_request_failure", "counter", "Requests that were not", |model| times(model).fail.count.into()),
    ("nv_inference_count", "counter", "Inferences", |model| model.stats.inference_count.into()),
    ("nv_inference_exec_count", "counter", "Runs of models, of which joined ones count once", |model| {
        model.stats.execution_count.into()
    }),
    ("nv_inference_request_duration_us", "counter", "Microseconds of answered requests", |model| {
        micros(&times(model).success)
    }),
    ("nv_inference_queue_duration_us", "counter", "Of these: until they were let in", |model| {
        micros(&times(model).queue)
    }),
    ("nv_inference_compute_input_duration_us", "counter", "Of these: until the instance was there", |model| {
        micros(&times(model).compute_input)
    }),
    ("nv_inference_compute_infer_duration_us", "counter", "Of these: the function and its models", |model| {
        micros(&times(model).compute_infer)
    }),
    ("nv_inference_compute_output_duration_us", "counter", "Of these: from there until the end", |model| {
        micros(&times(model).compute_output)
    }),
    ("nv_inference_pending_request_count", "gauge", "Requests that wait", |model| model.pending as u128),
    ("nv_cache_num_hits_per_model", "counter", "Requests that the response cache answered", |model| {
        times(model).cache_hit.count.into()
    }),
    ("nv_cache_num_misses_per_model", "counter", "Requests that it did not", |model| {
        times(model).cache_miss.count.into()
    }),
];

fn times<'m>(model: &'m Model<'_>) -> &'m InferenceStats {
    &model.stats.inference_stats
}

fn micros(took: &Took) -> u128 {
    took.ns.as_micros()
}

/// The whole text. Names of functions need no escapes in it.
pub(crate) fn text(models: &[Model<'_>]) -> String {
    let mut text = String::new();
    for (name, kind, help, value) in METRICS {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for model in models {
            let Stats { name: function, version, .. } = model.stats;
            let _ = writeln!(text, "{name}{{model=\"{function}\",version=\"{version}\"}} {}", value(model));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::open_inference::Nothing;
    use std::time::Duration;

    #[test]
    fn every_metric_is_told_of_every_model() {
        let success = Took { count: 3, ns: Duration::from_micros(4_500) };
        let model = |name| Model {
            stats: Stats {
                name,
                version: 2,
                last_inference: 0,
                inference_count: 3,
                execution_count: 1,
                inference_stats: InferenceStats { success, ..InferenceStats::default() },
                response_stats: Nothing {},
                batch_stats: Vec::new(),
                memory_usage: [],
            },
            pending: 5,
        };
        let text = text(&[model("add"), model("embed")]);
        assert_eq!(text.lines().count(), METRICS.len() * 4);
        for line in [
            "# TYPE nv_inference_request_success counter",
            "nv_inference_request_success{model=\"add\",version=\"2\"} 3",
            "nv_inference_request_duration_us{model=\"embed\",version=\"2\"} 4500",
            "nv_inference_exec_count{model=\"add\",version=\"2\"} 1",
            "nv_inference_pending_request_count{model=\"add\",version=\"2\"} 5",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
    }
}
