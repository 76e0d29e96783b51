//! tract behind [`torpor_nn::Backend`]: pure Rust, compiled in, and so the backend that is always there.
//!
//! A run is interrupted between two operators, which is as fine as tract allows.

mod convert;
mod plan;

use plan::Plan;
use std::sync::Arc;
use torpor_nn::{Backend, BackendKind, Cancel, Error, ModelFiles, ModelFormat, OpenOptions, Session};
use torpor_tensor::{NamedTensor, Signature};
use tract_onnx::{
    prelude::{Framework, TValue, TVec, TractResult},
    tract_core::internal::bail,
    tract_hir::ops::unimpl::UnimplementedOp,
};

/// The version of the tract crates, as pinned in the workspace.
const VERSION: &str = "0.23";

/// tract. It keeps no state of its own.
#[derive(Default)]
pub struct Tract;

impl Backend for Tract {
    fn kind(&self) -> BackendKind {
        BackendKind::Tract
    }

    fn version(&self) -> &str {
        VERSION
    }

    fn opens(&self, format: ModelFormat) -> bool {
        matches!(format, ModelFormat::Onnx)
    }

    fn open(&self, files: &ModelFiles, options: &OpenOptions) -> Result<Arc<dyn Session>, Error> {
        if options.threads.get() > 1 {
            tracing::debug!(threads = options.threads, "tract runs a model on one thread; `parallel` adds more");
        }
        let failed = |reason| Error::Open { backend: BackendKind::Tract, model: files.to_string(), reason };
        self.accepts(options).map_err(failed)?;
        // Declared intermediate and output shapes are hints that real models often get wrong; tract infers its own.
        let framework = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
        let open = || -> TractResult<TractSession> {
            let model = framework.model_for_path(&files.model)?;
            // tract would find it in the first run.
            if let Some(node) = model.nodes().iter().find(|node| node.op_is::<UnimplementedOp>()) {
                bail!("it has no operator for `{}`: {}", node.name, node.op.name());
            }
            let signature = convert::signature(&model)?;
            Ok(TractSession { plan: Plan::new(model)?, signature })
        };
        let session = open().map_err(|error| failed(format!("{error:#}")))?;
        Ok(Arc::new(session))
    }
}

struct TractSession {
    plan: Plan,
    signature: Signature,
}

impl Session for TractSession {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[NamedTensor], cancel: &Cancel) -> Result<Vec<NamedTensor>, Error> {
        let failed = |reason: String| Error::Run { backend: BackendKind::Tract, reason };
        let mut values: TVec<TValue> = TVec::new();
        for spec in &self.signature.inputs {
            let input = inputs.iter().find(|(name, _)| *name == spec.name);
            let (_, tensor) = input.ok_or_else(|| Error::Input(format!("input `{}` is missing", spec.name)))?;
            values.push(convert::to_tract(tensor).map_err(|error| failed(format!("{error:#}")))?.into());
        }
        let outputs = self.plan.run(values, cancel).map_err(|error| match cancel.is_cancelled() {
            true => Error::Cancelled,
            // The inputs had the declared types and shapes, so an operator that fails does so because of what they hold.
            false => Error::Rejected { backend: BackendKind::Tract, reason: format!("{error:#}") },
        })?;
        let named = self.signature.outputs.iter().zip(outputs).map(|(spec, value)| {
            let tensor = convert::from_tract(&value).map_err(|error| failed(format!("{error:#}")))?;
            Ok((spec.name.clone(), tensor))
        });
        named.collect()
    }
}
