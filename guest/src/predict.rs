//! A function from named tensors to named tensors.

use crate::{Error, Inputs, Outputs, bindings::predict::exports::torpor::function::predict as export};
use std::{fmt::Display, marker::PhantomData};

/// A function from named tensors to named tensors. [`export_predict!`](crate::export_predict) makes it the module's own.
pub trait Predict {
    /// Answers one call.
    ///
    /// # Errors
    /// Says whose fault it was: the caller's or the function's.
    fn predict(inputs: Inputs) -> Result<Outputs, PredictError>;
}

/// Why a call could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    /// The caller sent something that this function cannot take. The text reaches the caller: name the tensor and say what was
    /// expected.
    #[error("{0}")]
    InvalidInput(String),
    /// The function itself failed. The text reaches the operator's log, never the caller.
    #[error("{0}")]
    Failed(String),
}

impl PredictError {
    /// The caller sent a tensor that this function cannot take.
    pub fn invalid(input: &str, why: impl Display) -> Self {
        PredictError::InvalidInput(format!("input `{input}`: {why}"))
    }
}

/// The host has checked inputs against the signature, so an error that was not told apart is the function's own.
impl From<Error> for PredictError {
    fn from(error: Error) -> Self {
        PredictError::Failed(error.to_string())
    }
}

/// What [`export_predict!`](crate::export_predict) exports.
#[doc(hidden)]
pub struct PredictExport<T>(PhantomData<T>);

impl<T: Predict> export::Guest for PredictExport<T> {
    fn predict(inputs: Vec<export::NamedTensor>) -> Result<Vec<export::NamedTensor>, export::PredictError> {
        match T::predict(Inputs::from_host(inputs)) {
            Ok(outputs) => Ok(outputs.into_host()),
            Err(PredictError::InvalidInput(text)) => Err(export::PredictError::InvalidInput(text)),
            Err(PredictError::Failed(text)) => Err(export::PredictError::Failed(text)),
        }
    }
}
