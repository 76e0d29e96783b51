//! What is embedded, as text for `embed` and as token ids for its model, and whether both answer the same.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use torpor_benches::stage::TEXT;

/// Numbers of a vector.
const WIDTH: usize = 384;
/// The least cosine of what is the same but for quantization.
const ALIKE: f64 = 0.99;
/// The token ids of [`TEXT`], and those that stand before and behind a text.
const IDS: [i64; 4] = [1996, 4248, 2829, 4419];
const BEGIN: i64 = 101;
const END: i64 = 102;

/// [`TEXT`], some times over.
pub(crate) struct Text(pub(crate) usize);

impl Text {
    pub(crate) fn name(&self) -> String {
        format!("{} tokens", self.ids().len())
    }

    fn ids(&self) -> Vec<i64> {
        [vec![BEGIN], IDS.repeat(self.0), vec![END]].concat()
    }

    /// A request to `embed`.
    pub(crate) fn text(&self) -> Vec<u8> {
        let text = [TEXT].repeat(self.0).join(" ");
        json!({ "inputs": [{ "name": "text", "shape": [1], "datatype": "BYTES", "data": [text] }] }).to_string().into()
    }

    /// A request to its model.
    pub(crate) fn tokens(&self) -> Vec<u8> {
        let ids = self.ids();
        let input = |name: &str, data: Vec<i64>| {
            let shape = [1, data.len()];
            json!({ "name": name, "shape": shape, "datatype": "INT64", "data": data })
        };
        let (mask, types) = (vec![1; ids.len()], vec![0; ids.len()]);
        let inputs = [input("attention_mask", mask), input("token_type_ids", types), input("input_ids", ids)];
        json!({ "inputs": inputs }).to_string().into()
    }
}

/// Makes sure that the answer of `embed` is what comes of that of its model.
pub(crate) fn same(embed: &[u8], model: &[u8]) -> Result<()> {
    let (vector, states) = (numbers(embed)?, numbers(model)?);
    ensure!(vector.len() == WIDTH && states.len().is_multiple_of(WIDTH), "the answers are not {WIDTH} numbers wide");
    // The direction of the sum is that of the mean.
    let mut sum = vec![0.0; WIDTH];
    for state in states.chunks(WIDTH) {
        sum.iter_mut().zip(state).for_each(|(sum, state)| *sum += state);
    }
    let cosine = cosine(&vector, &sum);
    ensure!(cosine > ALIKE, "`embed` and its model answer differently: the cosine is {cosine}");
    Ok(())
}

fn cosine(one: &[f64], other: &[f64]) -> f64 {
    let product = |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(one, other)| one * other).sum::<f64>();
    product(one, other) / (product(one, one) * product(other, other)).sqrt()
}

/// The elements of the only output.
fn numbers(answer: &[u8]) -> Result<Vec<f64>> {
    let answer: Value = serde_json::from_slice(answer)?;
    let data = answer["outputs"][0]["data"].as_array().context("the answer has no output")?;
    data.iter().map(|number| number.as_f64().context("an element is no number")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_the_tokens_of_its_words_and_two_more() {
        assert_eq!(Text(4).name(), "18 tokens");
        let request: Value = serde_json::from_slice(&Text(2).tokens()).unwrap();
        let ids = json!([101, 1996, 4248, 2829, 4419, 1996, 4248, 2829, 4419, 102]);
        assert_eq!(request["inputs"][2]["data"], ids);
        assert_eq!(request["inputs"][0]["shape"], json!([1, 10]));
    }

    #[test]
    fn vectors_are_compared_with_the_mean_of_states() {
        let answer = |data: Vec<f64>| json!({ "outputs": [{ "data": data }] }).to_string();
        let vector: Vec<f64> = (0_u16..384).map(f64::from).collect();
        let states =
            [vector.iter().map(|x| x - 1.0).collect(), vector.iter().map(|x| x + 1.0).collect::<Vec<_>>()].concat();
        assert!(same(answer(vector.clone()).as_bytes(), answer(states).as_bytes()).is_ok());
        let other = vector.iter().rev().copied().collect();
        assert!(same(answer(vector).as_bytes(), answer(other).as_bytes()).is_err());
    }
}
