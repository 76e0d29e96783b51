//! Sentence embeddings by all-MiniLM-L6-v2: `text` to `embedding`, a unit vector of 384 numbers a text.
//!
//! Texts run through the model one by one. The int8 model scales its activations by the whole batch, so that in a batch each
//! text would change its neighbours' embeddings; and one by one no text is padded to the length of another.

mod tokenizer;

use crate::tokenizer::{MAX_TOKENS, TOKENIZER};
use torpor_guest::{Inputs, Model, Outputs, Predict, PredictError, Tensor};

/// How many numbers an embedding has.
const DIMENSIONS: usize = 384;

/// What a call allocates at most: the model's output for the longest text, and some.
const ROOM: usize = MAX_TOKENS * DIMENSIONS * size_of::<f32>() + 64 * 1024;

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
torpor_guest::export_initializer!(TOKENIZER; room: ROOM);

fn embed(model: &Model, ids: &[i64]) -> torpor_guest::Result<[f32; DIMENSIONS]> {
    let shape = [1, ids.len()];
    let mut outputs = model.run([
        ("input_ids", Tensor::new(&shape, ids)?),
        ("attention_mask", Tensor::new(&shape, &vec![1_i64; ids.len()])?),
        ("token_type_ids", Tensor::new(&shape, &vec![0_i64; ids.len()])?),
    ])?;
    let hidden = outputs.take("last_hidden_state")?;
    // The bytes are read in place, since the numbers of a long text are many.
    Ok(pool(&hidden.to_raw()))
}

/// The mean over all tokens, scaled to length one. `hidden` are the numbers of each token, little-endian.
#[cfg_attr(target_family = "wasm", target_feature(enable = "simd128"))]
fn pool(hidden: &[u8]) -> [f32; DIMENSIONS] {
    let mut sum = [0_f32; DIMENSIONS];
    for token in hidden.chunks_exact(DIMENSIONS * size_of::<f32>()) {
        for (sum, value) in sum.iter_mut().zip(token.chunks_exact(size_of::<f32>())) {
            *sum += f32::from_le_bytes([value[0], value[1], value[2], value[3]]);
        }
    }
    // The length of the sum takes the division by the number of tokens with it.
    let length = sum.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-12);
    sum.map(|value| value / length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedding_is_the_mean_at_length_one() {
        let mut hidden = vec![0_f32; 2 * DIMENSIONS];
        (hidden[0], hidden[DIMENSIONS], hidden[DIMENSIONS + 1]) = (1.0, 5.0, 8.0);
        let hidden: Vec<u8> = hidden.into_iter().flat_map(f32::to_le_bytes).collect();
        let embedding = pool(&hidden);
        assert!((embedding[0] - 0.6).abs() < 1e-6 && (embedding[1] - 0.8).abs() < 1e-6, "{:?}", &embedding[..2]);
        assert_eq!(embedding[2], 0.0);
    }

    #[test]
    fn nothing_has_no_direction() {
        assert_eq!(pool(&[]), [0.0; DIMENSIONS]);
    }
}
