//! A guest whose initializer asks for what only a host can tell, so that it cannot be packed.

use std::sync::LazyLock;
use torpor_guest::{Inputs, Model, Outputs, Predict, PredictError};

/// What an author might think of: to look the models up once, and not in each call.
static MODELS: LazyLock<Vec<String>> = LazyLock::new(Model::names);

struct Curious;

impl Predict for Curious {
    fn predict(inputs: Inputs) -> Result<Outputs, PredictError> {
        match MODELS.is_empty() {
            true => Ok(inputs.into_iter().collect()),
            false => Err(PredictError::Failed("there is a model".to_owned())),
        }
    }
}

torpor_guest::export_predict!(Curious);
torpor_guest::export_initializer!(MODELS);
