//! Sentence embeddings by all-MiniLM-L6-v2: `text` to `embedding`, a unit vector of 384 numbers a text.
//!
//! Texts run through the model one by one. The int8 model scales its activations by the whole batch, so that in a batch each
//! text would change its neighbours' embeddings; and one by one no text is padded to the length of another.

mod tokenizer;

use crate::tokenizer::TOKENIZER;
use torpor_guest::{Inputs, Model, Outputs, Predict, PredictError, Tensor};

/// How many numbers an embedding has.
const DIMENSIONS: usize = 384;

/// Bytes of one token's numbers.
const TOKEN: usize = DIMENSIONS * size_of::<f32>();

/// What is read of the model's output at a time: 16 tokens, so that a part stays in the processor's nearest cache.
const PART: usize = 16 * TOKEN;

struct Embed;

impl Predict for Embed {
    fn predict(mut inputs: Inputs) -> Result<Outputs, PredictError> {
        let texts = inputs.take("text")?.to_strings().map_err(|error| PredictError::invalid("text", error))?;
        let model = Model::load("minilm")?;
        let mut embeddings = Vec::with_capacity(texts.len() * DIMENSIONS);
        for text in &texts {
            embeddings.extend(embed(&model, &TOKENIZER.encode(text))?);
        }
        Ok(Outputs::from([("embedding", Tensor::new(&[texts.len(), DIMENSIONS], &embeddings)?)]))
    }
}

torpor_guest::export_predict!(Embed);
torpor_guest::export_initializer!(TOKENIZER);

fn embed(model: &Model, ids: &[i64]) -> torpor_guest::Result<[f32; DIMENSIONS]> {
    let shape = [1, ids.len()];
    let mut outputs = model.run([
        ("input_ids", Tensor::new(&shape, ids)?),
        ("attention_mask", Tensor::new(&shape, &vec![1_i64; ids.len()])?),
        ("token_type_ids", Tensor::new(&shape, &vec![0_i64; ids.len()])?),
    ])?;
    let hidden = outputs.take("last_hidden_state")?;
    Ok(pool(hidden.raw_parts(PART)))
}

/// The mean over all tokens, scaled to length one. `hidden` are the numbers of each token, little-endian, in parts of whole tokens.
fn pool(hidden: impl Iterator<Item = Vec<u8>>) -> [f32; DIMENSIONS] {
    let mut sum = [0_f32; DIMENSIONS];
    for tokens in hidden {
        add(&mut sum, &tokens);
    }
    // The length of the sum takes the division by the number of tokens with it.
    let length = sum.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-12);
    sum.map(|value| value / length)
}

/// Adds the numbers of some tokens up: four at a time, so that the sum is read and written a quarter as often.
#[cfg_attr(target_family = "wasm", target_feature(enable = "simd128"))]
fn add(sum: &mut [f32; DIMENSIONS], tokens: &[u8]) {
    let mut tokens = tokens.chunks_exact(TOKEN).filter_map(<[u8]>::first_chunk::<TOKEN>);
    loop {
        match [tokens.next(), tokens.next(), tokens.next(), tokens.next()] {
            [Some(a), Some(b), Some(c), Some(d)] => {
                for (index, sum) in sum.iter_mut().enumerate() {
                    *sum += (number(a, index) + number(b, index)) + (number(c, index) + number(d, index));
                }
            }
            rest => {
                for token in rest.into_iter().flatten() {
                    sum.iter_mut().enumerate().for_each(|(index, sum)| *sum += number(token, index));
                }
                return;
            }
        }
    }
}

fn number(token: &[u8; TOKEN], index: usize) -> f32 {
    let at = index * size_of::<f32>();
    f32::from_le_bytes([token[at], token[at + 1], token[at + 2], token[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedding_is_the_mean_at_length_one() {
        let mut hidden = vec![0_f32; 5 * DIMENSIONS];
        (hidden[0], hidden[4 * DIMENSIONS], hidden[3 * DIMENSIONS + 1]) = (1.0, 5.0, 8.0);
        let hidden: Vec<u8> = hidden.into_iter().flat_map(f32::to_le_bytes).collect();
        let whole = pool(std::iter::once(hidden.clone()));
        let embedding = pool(hidden.chunks(TOKEN).map(<[u8]>::to_vec));
        assert_eq!(embedding, whole);
        assert!((embedding[0] - 0.6).abs() < 1e-6 && (embedding[1] - 0.8).abs() < 1e-6, "{:?}", &embedding[..2]);
        assert_eq!(embedding[2], 0.0);
    }

    #[test]
    fn nothing_has_no_direction() {
        assert_eq!(pool(std::iter::empty()), [0.0; DIMENSIONS]);
    }
}
