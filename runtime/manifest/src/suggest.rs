//! Guesses at what was meant, and written text made fit for a message. Pure; used by every file that builds a diagnostic.

use std::fmt::Write as _;

/// How many characters of a written value a message repeats.
const SHOWN: usize = 64;

/// Below this similarity (Jaro-Winkler, 1 is equal) a guess would rather mislead than help.
const SIMILAR: f64 = 0.8;

/// From this length on, a part of a word is meant to be the word.
const PART: usize = 4;

/// The candidate that `given` was probably meant to be.
pub(crate) fn nearest(given: &str, candidates: impl IntoIterator<Item = &'static str>) -> Option<&'static str> {
    // Nothing that long is a slip of the pen, and the comparison costs its length.
    if given.len() > SHOWN {
        return None;
    }
    let given = given.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (similarity(&given, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, candidate)| candidate)
}

/// From 0 to 1. Jaro-Winkler compares from the beginning, so a word that lacks its first part is found apart from it.
fn similarity(given: &str, candidate: &str) -> f64 {
    let compared = strsim::jaro_winkler(given, candidate);
    if given.len() >= PART && candidate.contains(given) { compared.max(SIMILAR) } else { compared }
}

/// `a`, `b`, `c`: for a help text.
pub(crate) fn listed(words: impl IntoIterator<Item = &'static str>) -> String {
    let mut text = String::new();
    for word in words {
        let separator = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{separator}`{word}`");
    }
    text
}

/// Written text as a message may repeat it: short, on one line, and unable to steer a terminal.
pub(crate) fn shown(given: &str) -> String {
    let mut text: String = given.chars().take(SHOWN).map(|c| if is_unprintable(c) { '?' } else { c }).collect();
    if given.chars().nth(SHOWN).is_some() {
        text.push_str("...");
    }
    text
}

/// A key as TOML writes it, with quotes where they are needed, and fit for a message like [`shown`].
pub(crate) fn quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { shown(key) } else { format!("\"{}\"", shown(key)) }
}

/// Whether a terminal might obey this character instead of showing it: controls, and the marks that reorder text.
pub(crate) fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 5] = ["min", "max-concurrency", "idle-timeout", "queue", "onnxruntime"];

    #[test]
    fn slips_are_found() {
        for (given, meant) in [
            ("max_concurrency", "max-concurrency"),
            ("maxConcurrency", "max-concurrency"),
            ("timeout", "idle-timeout"),
            ("onnx", "onnxruntime"),
            ("QUEUE", "queue"),
        ] {
            assert_eq!(nearest(given, KEYS), Some(meant), "{given}");
        }
    }

    #[test]
    fn strangers_are_not() {
        for given in ["", "replicas", "colour", "x"] {
            assert_eq!(nearest(given, KEYS), None, "{given}");
        }
        assert_eq!(nearest("gpu", ["cpu"]), None);
    }

    #[test]
    fn shown_text_is_short_and_tame() {
        assert_eq!(shown("a\u{1b}[2J\n\u{202e}b"), "a?[2J??b");
        assert_eq!(shown(&"é".repeat(65)), format!("{}...", "é".repeat(64)));
        assert_eq!(shown(&"é".repeat(64)), "é".repeat(64));
        assert_eq!([quoted("min"), quoted("v3.3"), quoted("")], ["min", "\"v3.3\"", "\"\""]);
    }
}
