//! Calls of `torpor:function/predict`: named tensors in, named tensors out.

use super::{Answer, Record, Timing, instance::instance, was_tried};
use crate::{
    CallError, Function,
    bindings::exports::torpor::function::predict::PredictError,
    function::{Inner, Lease},
};
use torpor_tensor::NamedTensor;

/// Characters of a guest's text that a caller gets to see.
const MAX_TEXT: usize = 500;

impl Function {
    /// Answers one call. Waits in the function's queue, and for its wake if it is asleep. Dropping the future ends the call.
    ///
    /// # Errors
    /// [`CallError::InvalidInput`] when `inputs` are not what the signature says, before anything is woken for them; else
    /// what kept the function from answering.
    pub async fn predict(&self, inputs: Vec<NamedTensor>) -> Result<Answer<Vec<NamedTensor>>, CallError> {
        let function = self.inner();
        let mut record = Record::new(function);
        record.for_tensors = true;
        let deadline = record.deadline();
        let result = tokio::time::timeout_at(deadline.into(), call(function, &record, inputs)).await;
        let result = result.unwrap_or_else(|_| Err(record.late()));
        record.note(&result);
        result
    }
}

async fn call(
    function: &std::sync::Arc<Inner>,
    record: &Record,
    inputs: Vec<NamedTensor>,
) -> Result<Answer<Vec<NamedTensor>>, CallError> {
    function.signature.check_inputs(&inputs).map_err(|mismatch| CallError::InvalidInput(mismatch.to_string()))?;
    let mut lease = function.acquire(record.deadline(), &record.lacked_memory).await?;
    record.marks.admitted(lease.wake.clone());
    let value = run(&lease, record, inputs).await;
    lease.ended = was_tried(&value);
    let value = value.map_err(|error| lease.explained(error))?;
    let timing = Timing::of(&record.marks, record.arrived, record.marks.model_cache());
    Ok(Answer { value, timing, labels: lease.warm().models.all_labels() })
}

async fn run(lease: &Lease, record: &Record, inputs: Vec<NamedTensor>) -> Result<Vec<NamedTensor>, CallError> {
    let function = &lease.function;
    let trapped = |error: wasmtime::Error| function.failed(&format!("{error:#}"));
    // The gateway offers `predict` only for functions whose manifest has the trigger, and deploying checked the export.
    let Some(code) = &lease.warm().code.predict else { return Err(function.failed("it has no inference trigger")) };
    let mut instance = instance(lease, record, function.inference_caller(record.deadline())).await.map_err(trapped)?;
    let store = &mut instance.store;
    let guest = code.instantiate_async(&mut *store).await.map_err(trapped)?;
    record.marks.ready();
    let inputs = store.data_mut().push_tensors(inputs).map_err(trapped)?;
    let answer = guest.torpor_function_predict().call_predict(&mut *store, &inputs).await;
    let is_late = store.data().is_late;
    let answer = answer.map_err(|error| if is_late { function.too_busy() } else { trapped(error) })?;
    record.marks.answered(lease.first_run());
    let outputs = answer.map_err(|error| match error {
        PredictError::InvalidInput(text) => CallError::InvalidInput(printable(&text)),
        PredictError::Failed(_) if is_late => function.too_busy(),
        PredictError::Failed(text) => function.failed(&printable(&text)),
    })?;
    let outputs = store.data_mut().take_tensors(outputs).map_err(trapped)?;
    function.signature.check_outputs(&outputs).map_err(|mismatch| function.failed(&mismatch.to_string()))?;
    Ok(outputs)
}

/// A guest's text without what could break a log line or a terminal, and no longer than anybody would read.
fn printable(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
