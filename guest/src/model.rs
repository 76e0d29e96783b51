//! Models, which live on the host.

use crate::{
    Error, ModelSpec, Outputs, Result, Tensor,
    bindings::predict::{
        torpor::function::models,
        wasi::nn::{graph, inference},
    },
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
    /// The names of the models that the manifest grants, in alphabetical order.
    pub fn names() -> Vec<String> {
        models::names()
    }

    /// What the model of this name takes and gives, as its file declares it; `None` where the manifest grants none. It is not
    /// run for that.
    ///
    /// ```no_run
    /// # use torpor_guest::{Dimension, Model};
    /// // A module that serves any image classifier asks this one for the size of its images.
    /// let spec = Model::describe("classifier").expect("the manifest grants it");
    /// let size = match spec.inputs[0].shape.as_deref() {
    ///     Some([_, _, Dimension::Fixed(height), Dimension::Fixed(width)]) => (*height, *width),
    ///     _ => (224, 224),
    /// };
    /// ```
    pub fn describe(name: &str) -> Option<ModelSpec> {
        models::describe(name)
    }

    /// Finds the model of this name: that of `[model.NAME]` in `bundle.toml` and in the manifest.
    ///
    /// # Errors
    /// [`Error::Model`], with [`ModelErrorKind::NotFound`](crate::ModelErrorKind::NotFound) when the manifest grants none.
    pub fn load(name: &str) -> Result<Self> {
        Self::open(name, graph::load_by_name(name))
    }

    /// Opens a model from the bytes of an ONNX file, which takes the time that opening takes, in every call. It needs `load` in
    /// the manifest's `[allow]`, and is closed when the call ends. A model of the bundle is better where there can be one.
    ///
    /// # Errors
    /// When the manifest does not grant it, or not so much of it; when the bytes are no model that the host can run.
    pub fn from_onnx(bytes: Vec<u8>) -> Result<Self> {
        let graph = graph::load(&[bytes], graph::GraphEncoding::Onnx, graph::ExecutionTarget::Cpu);
        Self::open("(loaded)", graph)
    }

    fn open(name: &str, graph: Result<graph::Graph, inference::Error>) -> Result<Self> {
        match graph.and_then(|graph| graph.init_execution_context()) {
            Ok(context) => Ok(Model { name: name.to_owned(), context }),
            Err(error) => Err(Error::model(name, &error)),
        }
    }

    /// The labels of one of its outputs: what the numbers along the last dimension stand for, in their order. `None` where the
    /// bundle has none of this output. The host keeps them; each call copies them.
    ///
    /// ```no_run
    /// # use torpor_guest::{Model, Tensor};
    /// let model = Model::load("classifier")?;
    /// let scores = model.run([("image", Tensor::new(&[1, 4], &[0.0_f32; 4])?)])?.take("scores")?.to_vec::<f32>()?;
    /// let best = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or(0);
    /// let label = model.labels("scores").and_then(|mut labels| (best < labels.len()).then(|| labels.swap_remove(best)));
    /// # Ok::<(), torpor_guest::Error>(())
    /// ```
    pub fn labels(&self, output: &str) -> Option<Vec<String>> {
        models::labels(&self.name, output)
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
