//! What an answer says, without what each server adds to it: a comparison of servers that answer differently would be worth
//! nothing.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// Answers may differ by this much, for not all compute with as many threads.
const TOLERANCE: f64 = 1e-4;

/// The outputs of one answer.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Answer {
    outputs: Vec<Output>,
}

#[derive(Debug, Clone, Deserialize)]
struct Output {
    name: String,
    datatype: String,
    shape: Vec<u64>,
    data: Vec<f64>,
}

/// Reads an answer in the JSON of the Open Inference Protocol.
pub(crate) fn read(body: &[u8]) -> Result<Answer> {
    serde_json::from_slice(body).with_context(|| format!("it is no answer: {}", String::from_utf8_lossy(body)))
}

/// Makes sure that two servers say the same.
pub(crate) fn same(expected: &Answer, answer: &Answer) -> Result<()> {
    let near = |one: &[f64], other: &[f64]| {
        one.len() == other.len() && one.iter().zip(other).all(|(one, other)| (one - other).abs() <= TOLERANCE)
    };
    let same = |(one, other): (&Output, &Output)| {
        (&one.name, &one.datatype, &one.shape) == (&other.name, &other.datatype, &other.shape)
            && near(&one.data, &other.data)
    };
    let (left, right) = (&expected.outputs, &answer.outputs);
    ensure!(
        left.len() == right.len() && left.iter().zip(right).all(same),
        "it answers differently: {right:?} instead of {left:?}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_compared_by_what_they_say() {
        let answer = |more: &str, score: f64| {
            let text = format!(
                "{{{more}\"outputs\":[{{\"name\":\"z\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[{score}]}}]}}"
            );
            read(text.as_bytes()).unwrap()
        };
        let plain = answer("", 0.5);
        assert!(same(&plain, &answer("\"id\":\"1\",\"model_name\":\"add\",", 0.500_01)).is_ok());
        assert!(same(&plain, &answer("", 0.501)).is_err());
        assert!(read(b"{\"detail\":\"Not Found\"}").is_err());
    }
}
