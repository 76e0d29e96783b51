//! What can go wrong between a function, its tensors and its models.

use crate::{Datatype, bindings::predict::wasi::nn::errors};

/// The result of most of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a function, its tensors and its models.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host refused to make a tensor: shape, data and element type do not fit together.
    #[error("cannot make the tensor: {0}")]
    Create(String),
    /// A tensor was read as an element type that it does not have.
    #[error("the tensor's elements are {actual}, not {expected}")]
    Datatype {
        /// What the caller asked for.
        expected: Datatype,
        /// What the tensor holds.
        actual: Datatype,
    },
    /// A tensor holds bytes that are no value of its element type.
    #[error("element {index} of the tensor is no valid {datatype}")]
    Element {
        /// Where in the tensor, counted in row-major order.
        index: usize,
        /// The element type.
        datatype: Datatype,
    },
    /// An element of a `BYTES` tensor is not text.
    #[error("element {index} of the tensor is not valid UTF-8")]
    Utf8 {
        /// Where in the tensor, counted in row-major order.
        index: usize,
    },
    /// A model's answer lacks a tensor.
    #[error("the model gave no output `{name}`; its outputs are {given}")]
    MissingOutput {
        /// What was asked for.
        name: String,
        /// What is there.
        given: String,
    },
    /// A model could not be had, or did not run.
    #[error("model `{model}`: {text}")]
    Model {
        /// The name that the function asked for.
        model: String,
        /// The kind of failure.
        kind: ModelErrorKind,
        /// What the host says.
        text: String,
    },
}

/// Why a model could not be had, or did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelErrorKind {
    /// The manifest grants no model of this name.
    NotFound,
    /// The inputs are not what the model takes.
    InvalidInput,
    /// The call's deadline passed, or its caller hung up.
    Timeout,
    /// The manifest does not grant it.
    Denied,
    /// It would take more than the instance may have.
    TooLarge,
    /// Anything else; the host has logged it.
    Failed,
}

impl Error {
    pub(crate) fn model(model: &str, error: &errors::Error) -> Self {
        let kind = match error.code() {
            errors::ErrorCode::NotFound => ModelErrorKind::NotFound,
            errors::ErrorCode::InvalidArgument => ModelErrorKind::InvalidInput,
            errors::ErrorCode::Timeout => ModelErrorKind::Timeout,
            errors::ErrorCode::Security => ModelErrorKind::Denied,
            errors::ErrorCode::TooLarge => ModelErrorKind::TooLarge,
            _ => ModelErrorKind::Failed,
        };
        Error::Model { model: model.to_owned(), kind, text: error.data() }
    }
}
