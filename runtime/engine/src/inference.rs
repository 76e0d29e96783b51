//! What a guest may ask of models, whichever ABI it speaks.
//!
//! The hosts of `wasi:nn` (`wasi_nn.rs`) and of `wasi_ephemeral_nn` (`witx.rs`) read arguments and write answers. What is
//! granted, what counts against which limit, and what a guest is told of a failure is decided here, once for both.

use crate::{bindings::wasi::nn::errors::ErrorCode, guest::Guest, load::LoadError};
use std::sync::Arc;
use torpor_nn::Model;
use torpor_tensor::{NamedTensor, Signature, Tensor};

/// A model that an instance may run.
#[derive(Clone)]
pub(crate) enum Which {
    /// One that the manifest grants, by its place among them.
    Granted(usize),
    /// One that the instance loaded from bytes of its own. It is closed with the last handle.
    Loaded(Arc<Model>),
}

/// Why a guest does not get what it asked for. The text is for the guest, which may hand it to its caller.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) text: String,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Refusal { code, text: text.into() }
    }

    pub(crate) fn argument(text: impl Into<String>) -> Self {
        Refusal::new(ErrorCode::InvalidArgument, text)
    }
}

/// What a tensor costs of an instance's budget: its data, and its shape, whose rank is the guest's choice.
pub(crate) fn cost(tensor: &Tensor) -> usize {
    tensor.data().len() + size_of_val(tensor.shape().dims())
}

impl Guest {
    /// The granted model of this name.
    pub(crate) fn find(&self, name: &str) -> Result<Which, Refusal> {
        let model = self.models.position(name).map(Which::Granted);
        model.ok_or_else(|| Refusal::new(ErrorCode::NotFound, "the manifest grants no model of this name"))
    }

    /// What a model takes and gives.
    pub(crate) fn signature<'a>(&'a self, which: &'a Which) -> &'a Arc<Signature> {
        match which {
            Which::Granted(model) => self.models.signature(*model),
            Which::Loaded(model) => model.signature(),
        }
    }

    /// Takes `cost` bytes of the budget, which they must fit.
    pub(crate) fn charge(&mut self, cost: usize) -> Result<(), Refusal> {
        let left = self.tensor_budget.checked_sub(cost).ok_or_else(|| {
            let text = "the instance would hold more tensor data than its memory limit allows";
            Refusal::new(ErrorCode::TooLarge, text)
        })?;
        self.tensor_budget = left;
        Ok(())
    }

    /// Opens a model from the guest's own bytes, if the manifest grants that.
    pub(crate) async fn load(&mut self, bytes: Vec<u8>) -> Result<Which, Refusal> {
        self.may_load(bytes.len())?;
        let Some(loader) = self.capabilities.loader() else { return Err(not_granted()) };
        self.loads.count(bytes.len());
        match loader.open(bytes).await {
            Ok(model) => Ok(Which::Loaded(Arc::new(model))),
            Err(LoadError::Refused(why)) => Err(Refusal::argument(why.to_string())),
            Err(error) => {
                self.models.report("(loaded)", &error);
                Err(Refusal::new(ErrorCode::InvalidEncoding, "the model cannot be opened"))
            }
        }
    }

    /// Whether the instance may load a model of so many bytes. Asked before the bytes are copied.
    pub(crate) fn may_load(&self, bytes: usize) -> Result<(), Refusal> {
        match self.capabilities.loader() {
            None => Err(not_granted()),
            Some(loader) if !self.loads.allow(bytes, loader.limit()) => {
                let text = "the manifest does not let an instance load so much; see `load` in `[allow]`";
                Err(Refusal::new(ErrorCode::TooLarge, text))
            }
            Some(_) => Ok(()),
        }
    }

    /// Runs a model. The outputs fit the budget, of which they are not yet a part.
    // `&mut`, since a reference that is shared could not go with the future to another thread.
    pub(crate) async fn infer(&mut self, which: &Which, inputs: Vec<NamedTensor>) -> Result<Vec<NamedTensor>, Refusal> {
        let result = match which {
            Which::Granted(model) => self.models.run(*model, inputs, self.caller, &self.marks).await,
            Which::Loaded(model) => model.run(inputs, self.caller).await.map(|ran| ran.outputs),
        };
        let outputs = result.map_err(|error| match error {
            torpor_nn::Error::Input(text) => Refusal::argument(text),
            error => {
                // What a backend says may hold paths, and a guest may hand it to its caller: the operator gets the text, the
                // guest only what concerns its own tensors.
                let name = match which {
                    Which::Granted(model) => self.models.name(*model),
                    Which::Loaded(_) => "(loaded)",
                };
                // Under overload there are very many of these, and the metrics count them.
                let is_late = matches!(error, torpor_nn::Error::Late);
                self.is_late |= is_late;
                if !is_late {
                    self.models.report(name, &error);
                }
                let (code, text) = match error {
                    torpor_nn::Error::Rejected { .. } => {
                        (ErrorCode::InvalidArgument, "the model cannot run on these inputs")
                    }
                    torpor_nn::Error::Cancelled => (ErrorCode::Timeout, "the run was cancelled"),
                    torpor_nn::Error::Late => (ErrorCode::Timeout, "the run could not end before its deadline"),
                    _ => (ErrorCode::RuntimeError, "the model failed to run"),
                };
                Refusal::new(code, text)
            }
        })?;
        if outputs.iter().map(|(_, tensor)| cost(tensor)).sum::<usize>() > self.tensor_budget {
            let text = "the outputs of the model are larger than the instance's memory limit allows";
            return Err(Refusal::new(ErrorCode::TooLarge, text));
        }
        Ok(outputs)
    }
}

/// Checks what a guest says of a model that it wants to load: its encoding, and where it is to run.
pub(crate) fn check_kind(onnx: bool, cpu: bool) -> Result<(), Refusal> {
    match (onnx, cpu) {
        (false, _) => Err(Refusal::new(ErrorCode::InvalidEncoding, "only ONNX models can be loaded from bytes")),
        (_, false) => Err(Refusal::new(ErrorCode::UnsupportedOperation, "models run on the CPU here")),
        _ => Ok(()),
    }
}

fn not_granted() -> Refusal {
    let text = "loading a model from bytes is not granted; put the model into the bundle and use `load-by-name`, \
                or grant it with `load` in the manifest's `[allow]`";
    Refusal::new(ErrorCode::Security, text)
}
