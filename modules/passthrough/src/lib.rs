//! Serves any model as it is. What the caller sends goes to the model named `model`, and the model's answer goes back; no
//! tensor ever enters this module's memory.

use torpor_guest::{Error, Inputs, Model, ModelErrorKind, Outputs, Predict, PredictError};

struct Passthrough;

impl Predict for Passthrough {
    fn predict(inputs: Inputs) -> Result<Outputs, PredictError> {
        // The inputs are the caller's own, so the caller is to know what the model holds against them.
        Model::load("model")?.run(inputs).map_err(|error| match error {
            Error::Model { kind: ModelErrorKind::InvalidInput, text, .. } => PredictError::InvalidInput(text),
            error => error.into(),
        })
    }
}

torpor_guest::export_predict!(Passthrough);
