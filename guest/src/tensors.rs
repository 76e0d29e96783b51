//! The named tensors of a call: what came in, and what goes out.

use crate::{Error, PredictError, Result, Tensor, bindings::predict::wasi::nn};

/// The tensors that a caller sent, already checked by the host against the signature in the bundle.
#[derive(Debug)]
pub struct Inputs(Vec<(String, Tensor)>);

/// The tensors that a function or a model answers.
///
/// ```no_run
/// # use torpor_guest::{Outputs, Tensor};
/// let mut outputs = Outputs::from([("label", Tensor::bytes(&[1], &["cat"])?)]);
/// outputs.push("score", Tensor::new(&[1], &[0.9_f32])?);
/// # Ok::<(), torpor_guest::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Outputs(Vec<(String, Tensor)>);

impl Inputs {
    /// Takes the tensor of this name out.
    ///
    /// # Errors
    /// [`PredictError::InvalidInput`] when the caller sent none, or when it was taken already.
    pub fn take(&mut self, name: &str) -> Result<Tensor, PredictError> {
        match position(&self.0, name) {
            Some(index) => Ok(self.0.swap_remove(index).1),
            None => Err(PredictError::InvalidInput(format!("input `{name}` is missing"))),
        }
    }

    /// Whether a tensor of this name is there.
    pub fn contains(&self, name: &str) -> bool {
        position(&self.0, name).is_some()
    }
}

impl Outputs {
    /// Takes the tensor of this name out.
    ///
    /// # Errors
    /// [`Error::MissingOutput`] when there is none.
    pub fn take(&mut self, name: &str) -> Result<Tensor> {
        match position(&self.0, name) {
            Some(index) => Ok(self.0.swap_remove(index).1),
            None => {
                let names: Vec<_> = self.0.iter().map(|(name, _)| format!("`{name}`")).collect();
                Err(Error::MissingOutput { name: name.to_owned(), given: names.join(", ") })
            }
        }
    }

    /// Adds a tensor. Names should differ: the host refuses an answer that has one twice.
    pub fn push(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.0.push((name.into(), tensor));
    }

    pub(crate) fn from_host(tensors: Vec<nn::inference::NamedTensor>) -> Self {
        Outputs(tensors.into_iter().map(|(name, tensor)| (name, Tensor(tensor))).collect())
    }

    pub(crate) fn into_host(self) -> Vec<nn::inference::NamedTensor> {
        self.0.into_iter().map(|(name, tensor)| (name, tensor.0)).collect()
    }
}

impl Inputs {
    pub(crate) fn from_host(tensors: Vec<nn::inference::NamedTensor>) -> Self {
        Inputs(Outputs::from_host(tensors).0)
    }
}

impl<N: Into<String>, const LEN: usize> From<[(N, Tensor); LEN]> for Outputs {
    fn from(tensors: [(N, Tensor); LEN]) -> Self {
        tensors.into_iter().collect()
    }
}

impl<N: Into<String>> FromIterator<(N, Tensor)> for Outputs {
    fn from_iter<I: IntoIterator<Item = (N, Tensor)>>(tensors: I) -> Self {
        Outputs(tensors.into_iter().map(|(name, tensor)| (name.into(), tensor)).collect())
    }
}

impl IntoIterator for Inputs {
    type Item = (String, Tensor);
    type IntoIter = std::vec::IntoIter<(String, Tensor)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl IntoIterator for Outputs {
    type Item = (String, Tensor);
    type IntoIter = std::vec::IntoIter<(String, Tensor)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

fn position(tensors: &[(String, Tensor)], name: &str) -> Option<usize> {
    tensors.iter().position(|(other, _)| other == name)
}
