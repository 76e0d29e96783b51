//! The module's own code against what the reference saw and answered (`reference/record.py`). The model in between runs on a
//! host, and so is tested there.

use super::*;
use serde_json::Value;
use std::path::Path;

const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/reference");

fn cases() -> Vec<Value> {
    serde_json::from_str(include_str!("../reference/cases.json")).expect("cases.json is a list")
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value[key].as_str()
}

/// Makes a content by its recipe, which `record.py` explains.
fn content(parts: &Value) -> Vec<u8> {
    let mut whole = Vec::new();
    for part in parts.as_array().expect("parts are a list") {
        if let Some(name) = text(part, "file") {
            whole.extend(std::fs::read(Path::new(REFERENCE).join("files").join(name)).expect("a sample file"));
        } else if let Some(hex) = text(part, "hex") {
            let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
            whole.extend(digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")));
        } else if let Some(piece) = text(part, "text") {
            let times =
                part["times"].as_u64().and_then(|times| usize::try_from(times).ok()).expect("a number of times");
            whole.extend(piece.as_bytes().repeat(times));
        } else {
            let mut x = 1_u32;
            whole.extend((0..part["random"].as_u64().expect("a number of bytes")).map(|_| {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                x.to_be_bytes()[0]
            }));
        }
    }
    whole
}

fn fnv(tokens: &[i32]) -> String {
    let bytes = tokens.iter().flat_map(|token| token.to_le_bytes());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}

#[test]
fn the_model_sees_what_the_references_model_saw() {
    for case in cases() {
        let features = Ends::of(&content(&case["parts"])).features();
        match (&features, text(&case, "features")) {
            (Features::Tokens(tokens), Some(expected)) => assert_eq!(fnv(tokens), expected, "{}", case["name"]),
            (Features::Empty | Features::Few { .. }, None) => {}
            _ => panic!("{}: {features:?}", case["name"]),
        }
    }
}

#[test]
fn what_the_model_is_not_asked_is_answered_as_the_reference_does() {
    let mut seen = 0;
    for case in cases().iter().filter(|case| case["features"].is_null()) {
        // Asking a model would fail here, where there is no host.
        let verdict = identify(&Ends::of(&content(&case["parts"]))).expect("no model is asked");
        assert_eq!(Some(verdict.kind.label), text(case, "label"), "{}", case["name"]);
        assert_eq!(Some(verdict.kind.mime_type), text(case, "mime_type"), "{}", case["name"]);
        assert_eq!(Some(f64::from(verdict.score)), case["score"].as_f64(), "{}", case["name"]);
        seen += 1;
    }
    assert!(seen >= 5);
}

#[test]
fn what_the_model_says_is_judged_as_the_reference_does() {
    let (mut kept, mut changed) = (0, 0);
    for case in cases() {
        let Some(guess) = text(&case, "model_label") else { continue };
        let index = TABLE.iter().position(|kind| kind.label == guess).expect("a known label");
        let mut scores = [0.0; OUTPUTS];
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the model's own score is an f32, which JSON carries as an f64"
        )]
        let score = case["score"].as_f64().expect("a score") as f32;
        scores[index] = score;
        let verdict = judge(&scores);
        assert_eq!(Some(verdict.kind.label), text(&case, "label"), "{}", case["name"]);
        assert_eq!(Some(verdict.kind.mime_type), text(&case, "mime_type"), "{}", case["name"]);
        if verdict.kind.label == guess { kept += 1 } else { changed += 1 }
    }
    assert!(kept >= 30 && changed >= 3, "{kept} kept, {changed} changed");
}

#[test]
fn a_score_at_the_threshold_is_believed() {
    let markdown = TABLE.iter().position(|kind| kind.label == "markdown").expect("a known label");
    let mut scores = [0.0; OUTPUTS];
    for (score, label) in [(0.75, "markdown"), (0.749_999, "txt")] {
        scores[markdown] = score;
        assert_eq!(judge(&scores).kind.label, label);
    }
}

#[test]
fn of_equal_scores_the_first_counts() {
    assert_eq!(judge(&[0.6; OUTPUTS]).kind.label, TABLE[0].label);
}
