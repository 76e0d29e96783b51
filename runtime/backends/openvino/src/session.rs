//! A compiled model, and the runs of it.

use crate::{
    library::{Compiled, Port, Ports, Request},
    value::{self, Input, to_tensor},
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use torpor_nn::{BackendKind, Cancel, Error, Session};
use torpor_tensor::{NamedTensor, Signature, TensorSpec};

pub(crate) struct OvSession {
    signature: Signature,
    runs: Mutex<Runs>,
    /// Why it runs no more: after a run that was short of memory, all later ones of the compiled model fail.
    ended: OnceLock<String>,
}

/// Held while a run takes or gives back a request, never during the run.
struct Runs {
    /// Requests that no run uses. There are never more than there were runs at the same time.
    idle: Vec<Arc<Request>>,
    /// Declared last, since requests are freed before what made them.
    compiled: Compiled,
}

impl OvSession {
    /// `signature` must be that of `compiled`.
    pub(crate) fn new(signature: Signature, compiled: Compiled) -> Result<Self, String> {
        // The first request takes the memory that a run needs, which a wake should, and not the first caller.
        let idle = vec![Arc::new(compiled.request()?)];
        Ok(OvSession { signature, runs: Mutex::new(Runs { idle, compiled }), ended: OnceLock::new() })
    }

    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self) -> Result<Arc<Request>, String> {
        let mut runs = self.runs();
        runs.idle.pop().map_or_else(|| Ok(Arc::new(runs.compiled.request()?)), Ok)
    }
}

/// What the model says of its ports.
pub(crate) fn signature(ports: &Ports) -> Result<Signature, String> {
    let specs = |ports: &[Port], word| {
        ports.iter().enumerate().map(|(index, port)| spec(port, word, index)).collect::<Result<Vec<_>, _>>()
    };
    Ok(Signature { inputs: specs(&ports.inputs, "input")?, outputs: specs(&ports.outputs, "output")? })
}

/// What the model says of the port at `index`. One without a name is called by its place, as `output_0`.
fn spec(port: &Port, word: &str, index: usize) -> Result<TensorSpec, String> {
    let name = port.name().unwrap_or_else(|| format!("{word}_{index}"));
    let element = port.element()?;
    let dtype = value::dtype(element).ok_or_else(|| {
        format!("`{name}` has elements of a type (number {element}) that OpenVINO's C interface does not pass")
    })?;
    Ok(TensorSpec { name, dtype, shape: port.dims()? })
}

impl Session for OvSession {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[NamedTensor], cancel: &Cancel) -> Result<Vec<NamedTensor>, Error> {
        let failed = |reason: String| Error::Run { backend: BackendKind::OpenVino, reason };
        let mut values = Vec::with_capacity(self.signature.inputs.len());
        for TensorSpec { name, .. } in &self.signature.inputs {
            let input = inputs.iter().find(|(given, _)| given == name);
            let (_, tensor) = input.ok_or_else(|| Error::Input(format!("input `{name}` is missing")))?;
            if let Some(least) = value::beyond(tensor) {
                let reason = format!(
                    "`{name}` holds values that {least} does not, and OpenVINO computes {} as {least}",
                    tensor.dtype()
                );
                return Err(Error::Rejected { backend: BackendKind::OpenVino, reason });
            }
            values.push(Input::borrow(tensor).map_err(failed)?);
        }
        let request = self.request().map_err(failed)?;
        let outputs = run(&request, &values, cancel).and_then(|()| self.outputs(&request));
        self.runs().idle.push(request);
        outputs.map_err(|reason| match cancel.is_cancelled() {
            true => Error::Cancelled,
            false => {
                let error = run_error(reason);
                if let Error::Ended { reason, .. } = &error {
                    let _ = self.ended.set(reason.clone());
                }
                error
            }
        })
    }

    fn ended(&self) -> Option<&str> {
        self.ended.get().map(String::as_str)
    }
}

impl OvSession {
    fn outputs(&self, request: &Request) -> Result<Vec<NamedTensor>, String> {
        let output = |(index, spec): (usize, &TensorSpec)| -> Result<NamedTensor, String> {
            Ok((spec.name.clone(), to_tensor(&request.output(index)?)?))
        };
        self.signature.outputs.iter().enumerate().map(output).collect()
    }
}

/// Runs the model once. Only a run that may be cancelled is worth a hop to the library's thread and back: one that begins on this
/// thread cannot be.
fn run(request: &Arc<Request>, inputs: &[Input<'_>], cancel: &Cancel) -> Result<(), String> {
    for (index, input) in inputs.iter().enumerate() {
        // SAFETY: the inputs are alive until this function returns, which is after the run has ended. Each run sets all inputs.
        unsafe { request.set_input(index, &input.value) }?;
    }
    if cancel.is_never() {
        return request.infer();
    }
    let interrupt = {
        let request = Arc::clone(request);
        move || request.cancel()
    };
    cancel.interruptible(interrupt, || {
        request.start()?;
        // The library forgets a cancellation that came before the start.
        if cancel.is_cancelled() {
            request.cancel();
        }
        request.wait()
    })
}

/// Tells a kernel that refuses its inputs from a library that is in trouble. The inputs had the declared types and shapes, and
/// the model was compiled, so a run that fails does so because of what the inputs hold, unless memory is short.
fn run_error(reason: String) -> Error {
    let backend = BackendKind::OpenVino;
    match ["bad_alloc", "allocate", "out of memory"].iter().any(|words| reason.contains(words)) {
        true => Error::Ended { backend, reason },
        false => Error::Rejected { backend, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_memory_is_no_fault_of_the_inputs() {
        let short = [
            "[CPU] Add node with name 'pairs' Check 'ptr' failed at cpu_memory.cpp:257: Failed to allocate 1073741824 bytes of memory",
            "std::bad_alloc",
        ];
        for reason in short {
            assert!(matches!(run_error(reason.to_owned()), Error::Ended { .. }), "{reason}");
        }
        let refused = "[CPU] Gather node with name 'g': indices are out of range";
        assert!(matches!(run_error(refused.to_owned()), Error::Rejected { .. }));
    }
}
