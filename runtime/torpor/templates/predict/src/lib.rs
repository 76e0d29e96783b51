//! Names the species of irises by their measurements: a stand-in for what your model does.

use torpor_guest::{Inputs, Model, Outputs, Predict, PredictError, Tensor};

/// The model's classes, in the order of its scores.
const SPECIES: [&str; 3] = ["setosa", "versicolor", "virginica"];

struct Iris;

impl Predict for Iris {
    fn predict(mut inputs: Inputs) -> Result<Outputs, PredictError> {
        // The host has checked names, element types and shapes against `bundle.toml`; what values may be is for you to say.
        let measurements = inputs.take("measurements")?;
        let lengths = measurements.to_vec::<f32>()?;
        if lengths.iter().any(|&length| length <= 0.0) {
            let why = "expected lengths in centimetres, above zero";
            return Err(PredictError::invalid("measurements", why));
        }

        // `model` is the name in `[model.model]`. The tensor moves to it; none of its elements are copied.
        let mut answer = Model::load("model")?.run([("measurements", measurements)])?;
        let scores = answer.take("scores")?.to_vec::<f32>()?;

        let named = scores.chunks_exact(SPECIES.len()).map(best);
        let (species, scores): (Vec<&str>, Vec<f32>) = named.unzip();
        let rows = [species.len()];
        Ok(Outputs::from([
            ("species", Tensor::bytes(&rows, &species)?),
            ("score", Tensor::new(&rows, &scores)?),
        ]))
    }
}

torpor_guest::export_predict!(Iris);

/// The likeliest species of one row of scores, and its score.
fn best(scores: &[f32]) -> (&'static str, f32) {
    let rows = SPECIES.into_iter().zip(scores.iter().copied());
    let best = rows.max_by(|(_, one), (_, other)| one.total_cmp(other));
    best.unwrap_or(("unknown", 0.0))
}

// What needs no host is tested natively, by `cargo test`.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_score_names_the_species() {
        assert_eq!(best(&[0.1, 0.7, 0.2]), ("versicolor", 0.7));
        assert_eq!(best(&[]), ("unknown", 0.0));
    }
}
