//! How a model is prepared for running: once for all shapes where tract can, else once for each shape that comes.

use std::sync::{Arc, Mutex, PoisonError};
use torpor_nn::Cancel;
use tract_onnx::{
    prelude::{
        Graph, InferenceFact, InferenceModelExt, IntoRunnable, TValue, TVec, Tensor, TractResult, TypedFact, TypedOp,
    },
    tract_core::{
        internal::{SimplePlan, SimpleState, anyhow},
        plan::eval,
    },
    tract_hir::infer::InferenceOp,
};

type Model = Graph<InferenceFact, Box<dyn InferenceOp>>;
type Runnable = Arc<SimplePlan<TypedFact, Box<dyn TypedOp>>>;

/// Plans that are kept per model, one for each combination of input shapes. Texts of up to 256 tokens have many lengths, and
/// making a plan costs as much as several runs.
const KEPT: usize = 16;

pub(crate) enum Plan {
    /// Every dimension is fixed or symbolic, and tract could work with the symbols.
    AnyShape(Runnable),
    /// The declared symbols do not unify, so the model is made concrete for each combination of input shapes.
    PerShape { model: Model, kept: Mutex<Vec<(Shapes, Runnable)>> },
}

/// The shapes of all inputs of one run.
type Shapes = Vec<Vec<usize>>;

impl Plan {
    pub(crate) fn new(model: Model) -> TractResult<Self> {
        match model.clone().into_optimized().and_then(IntoRunnable::into_runnable) {
            Ok(plan) => Ok(Plan::AnyShape(plan)),
            Err(error) => {
                let fixed = (0..model.input_outlets()?.len()).all(|input| {
                    model
                        .input_fact(input)
                        .is_ok_and(|fact| fact.shape.as_concrete_finite().is_ok_and(|shape| shape.is_some()))
                });
                if fixed {
                    return Err(error);
                }
                tracing::debug!(%error, "the model cannot be prepared for all shapes at once");
                Ok(Plan::PerShape { model, kept: Mutex::default() })
            }
        }
    }

    /// Runs the model on `inputs`, in the model's order, and gives up between two operators once `cancel` says so.
    pub(crate) fn run(&self, inputs: TVec<TValue>, cancel: &Cancel) -> TractResult<TVec<TValue>> {
        let plan = match self {
            Plan::AnyShape(plan) => Arc::clone(plan),
            Plan::PerShape { model, kept } => {
                let shapes: Shapes = inputs.iter().map(|input| input.shape().to_vec()).collect();
                let lock = || kept.lock().unwrap_or_else(PoisonError::into_inner);
                let found = {
                    let mut kept = lock();
                    let place = kept.iter().position(|(known, _)| *known == shapes);
                    // The most recently used stands last.
                    place.map(|place| {
                        let entry = kept.remove(place);
                        kept.push(entry);
                        Arc::clone(&kept[kept.len() - 1].1)
                    })
                };
                match found {
                    Some(plan) => plan,
                    None => {
                        let plan = concrete(model.clone(), &inputs)?;
                        let mut kept = lock();
                        if kept.len() == KEPT {
                            kept.remove(0);
                        }
                        kept.push((shapes, Arc::clone(&plan)));
                        plan
                    }
                }
            }
        };
        SimpleState::new(&plan)?.run_plan_with_eval(inputs, |context, state, node, input| {
            if cancel.is_cancelled() {
                return Err(anyhow!("cancelled"));
            }
            eval(context, state, node, input)
        })
    }
}

fn concrete(mut model: Model, inputs: &[TValue]) -> TractResult<Runnable> {
    for (index, input) in inputs.iter().enumerate() {
        let input: &Tensor = input;
        model.set_input_fact(index, InferenceFact::dt_shape(input.datum_type(), input.shape()))?;
    }
    model.into_optimized()?.into_runnable()
}
