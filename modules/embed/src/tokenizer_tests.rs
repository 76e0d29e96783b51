//! The tokenizer against the ids that the reference gave (`reference/record.py`).

use super::*;
use serde_json::Value;

fn check(text: &str, expected: &[i64]) {
    assert_eq!(TOKENIZER.encode(text), expected, "{text:?}");
}

#[test]
fn ids_are_the_references() {
    let cases: Value = serde_json::from_str(include_str!("../reference/cases.json")).expect("cases.json is JSON");
    let cases = cases.as_array().expect("a list of cases");
    assert!(cases.len() >= 40);
    for case in cases {
        let ids: Vec<_> = case["ids"].as_array().expect("ids").iter().filter_map(Value::as_i64).collect();
        check(case["text"].as_str().expect("a text"), &ids);
    }
}

#[test]
fn a_word_that_pieces_do_not_cover_is_one_unknown() {
    check("ab\u{16a0}cd", &[FIRST, UNKNOWN, LAST]);
}

#[test]
fn no_text_makes_more_tokens_than_the_model_reads() {
    for text in
        ["word ".repeat(10_000), "[SEP]".repeat(10_000), "x".repeat(1 << 20), "你".repeat(10_000), "[".repeat(10_000)]
    {
        let ids = TOKENIZER.encode(&text);
        assert!(ids.len() <= MAX_TOKENS);
        assert_eq!((ids[0], ids[ids.len() - 1]), (FIRST, LAST));
    }
}
