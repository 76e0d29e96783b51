//! Models, which live on the host.

use crate::{
    Error, Outputs, Result, Tensor,
    bindings::predict::wasi::nn::{graph, inference},
};

/// A model that the manifest grants to this function.
///
/// It is loaded once on the host and shared by all instances, so asking for it is cheap.
///
/// ```no_run
/// # use torpor_guest::{Model, Tensor};
/// let model = Model::load("classifier")?;
/// let mut outputs = model.run([("image", Tensor::new(&[1, 4], &[0.0_f32; 4])?)])?;
/// let scores = outputs.take("scores")?.to_vec::<f32>()?;
/// # Ok::<(), torpor_guest::Error>(())
/// ```
#[derive(Debug)]
pub struct Model {
    name: String,
    context: inference::GraphExecutionContext,
}

impl Model {
    /// Finds the model of this name: that of `[model.NAME]` in `bundle.toml` and in the manifest.
    ///
    /// # Errors
    /// [`Error::Model`], with [`ModelErrorKind::NotFound`](crate::ModelErrorKind::NotFound) when the manifest grants none.
    pub fn load(name: &str) -> Result<Self> {
        let context = graph::load_by_name(name).and_then(|graph| graph.init_execution_context());
        match context {
            Ok(context) => Ok(Model { name: name.to_owned(), context }),
            Err(error) => Err(Error::model(name, &error)),
        }
    }

    /// Runs the model on tensors by the names, element types and shapes of its own inputs, and waits for its outputs. The tensors
    /// move to it; none of their elements pass through the function's memory.
    ///
    /// # Errors
    /// [`Error::Model`], whose [kind](crate::ModelErrorKind) tells tensors that are not what the model takes from a deadline that
    /// passed and from a model that failed.
    pub fn run<N: Into<String>>(&self, inputs: impl IntoIterator<Item = (N, Tensor)>) -> Result<Outputs> {
        let inputs = inputs.into_iter().collect::<Outputs>().into_host();
        self.context.compute(inputs).map(Outputs::from_host).map_err(|error| Error::model(&self.name, &error))
    }
}
