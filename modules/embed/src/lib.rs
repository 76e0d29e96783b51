//! Sentence embeddings by all-MiniLM-L6-v2: `text` to `embedding`, a unit vector of 384 numbers a text.
//!
//! Texts run through the model one by one. The int8 model scales its activations by the whole batch, so that in a batch each
//! text would change its neighbours' embeddings; and one by one no text is padded to the length of another.

mod tokenizer;

use crate::tokenizer::TOKENIZER;
use torpor_guest::{Inputs, Model, Outputs, Predict, PredictError, Tensor};

/// How many numbers an embedding has.
const DIMENSIONS: usize = 384;

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

fn embed(model: &Model, ids: &[i64]) -> torpor_guest::Result<Vec<f32>> {
    let shape = [1, ids.len()];
    let mut outputs = model.run([
        ("input_ids", Tensor::new(&shape, ids)?),
        ("attention_mask", Tensor::new(&shape, &vec![1_i64; ids.len()])?),
        ("token_type_ids", Tensor::new(&shape, &vec![0_i64; ids.len()])?),
    ])?;
    // The host takes the mean over the tokens where they lie: those of a page are 400 KB.
    let mean = outputs.take("last_hidden_state")?.mean(1)?.to_vec()?;
    Ok(unit(mean))
}

/// The same direction at length one.
fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-12);
    vector.iter_mut().for_each(|value| *value /= length);
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedding_has_length_one() {
        assert_eq!(unit(vec![3.0, 0.0, -4.0]), [0.6, 0.0, -0.8]);
    }

    #[test]
    fn nothing_has_no_direction() {
        assert_eq!(unit(vec![0.0; 3]), [0.0; 3]);
    }
}
