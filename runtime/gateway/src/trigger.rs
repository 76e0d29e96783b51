//! From a request to a call of a function, and from its answer to a response.

mod answer;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod inference;
pub(crate) mod models;

use ::http::HeaderValue;
use std::{fmt::Write, time::Duration};
use torpor_engine::{CacheStatus, CallError, Timing};
use torpor_manifest::Manifest;

use crate::error::ApiError;

/// Where the time of an answer went, in the form of the `Server-Timing` header, in milliseconds.
fn server_timing(timing: &Timing) -> Option<HeaderValue> {
    let mut text = String::with_capacity(128);
    let mut entry = |name: &str, duration: Duration| {
        let separator = if text.is_empty() { "" } else { ", " };
        // Of whole microseconds, since a floating-point number takes twice as long to write. Writing to a string cannot fail.
        let micros = duration.as_nanos().saturating_add(500) / 1000;
        let _ = write!(text, "{separator}{name};dur={}.{:03}", micros / 1000, micros % 1000);
    };
    entry("queue", timing.queue);
    if let Some(wake) = &timing.wake {
        entry("wake", wake.total);
        entry("map", wake.map);
        entry("link", wake.link);
        entry("session", wake.session);
        if let Some(first_run) = wake.first_run {
            entry("first-run", first_run);
        }
    }
    entry("instantiate", timing.instantiate);
    entry("run", timing.run);
    HeaderValue::try_from(text).ok()
}

/// What the response cache did for an answer, in the form of the `Cache-Status` header (RFC 9211).
fn cache_status(status: &CacheStatus) -> Option<HeaderValue> {
    let mut text = String::from("torpor; ");
    // Writing to a string cannot fail.
    let _ = match status {
        CacheStatus::Hit { ttl } => write!(text, "hit; ttl={}", ttl.as_secs()),
        CacheStatus::Forwarded { why, stored, collapsed } => {
            let flag = |name, is: bool| if is { name } else { "" };
            write!(text, "fwd={}{}{}", why.as_str(), flag("; stored", *stored), flag("; collapsed", *collapsed))
        }
    };
    HeaderValue::try_from(text).ok()
}

/// Tells of an answer where its time went, and what the response cache did for it.
fn tell(headers: &mut ::http::HeaderMap, timing: &Timing) {
    if let Some(value) = server_timing(timing) {
        headers.append("server-timing", value);
    }
    // Behind that of a cache from which the function had it.
    if let Some(value) = timing.cache.as_ref().and_then(cache_status) {
        headers.append("cache-status", value);
    }
}

/// What a caller of a protocol for tensors is told. A model that was unloaded is the caller's to load again, so that it is none of the
/// host's failures there, as with Triton.
fn not_loaded(error: CallError) -> ApiError {
    match error {
        error @ CallError::Unloaded { .. } => ApiError::bad_request(error.to_string()),
        error => error.into(),
    }
}

/// Refuses a body that says itself that it is too large, before a byte of it is read.
fn check_declared_length(headers: &::http::HeaderMap, manifest: &Manifest) -> Result<(), ApiError> {
    let declared =
        headers.get(::http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match declared {
        Some(length) if length > manifest.limits.body.as_u64() => {
            Err(ApiError::body_too_large(&manifest.name, manifest.limits.body))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use torpor_engine::Forwarded;

    #[test]
    fn times_are_milliseconds_with_three_digits_behind_the_point() {
        let timing = Timing {
            queue: Duration::from_nanos(1_499),
            wake: None,
            instantiate: Duration::from_nanos(12_345_678),
            run: Duration::from_secs(3),
            cache: None,
        };
        let header = server_timing(&timing).unwrap();
        assert_eq!(header, "queue;dur=0.001, instantiate;dur=12.346, run;dur=3000.000");
    }

    #[test]
    fn the_cache_is_told_as_rfc_9211_says() {
        let check = |status, expected| assert_eq!(cache_status(&status).unwrap(), expected);
        check(CacheStatus::Hit { ttl: Duration::from_millis(2_900) }, "torpor; hit; ttl=2");
        let forwarded = |why, stored, collapsed| CacheStatus::Forwarded { why, stored, collapsed };
        check(forwarded(Forwarded::Miss, true, false), "torpor; fwd=miss; stored");
        check(forwarded(Forwarded::Miss, false, true), "torpor; fwd=miss; collapsed");
        check(forwarded(Forwarded::Bypass, false, false), "torpor; fwd=bypass");
    }
}
