//! A loaded model, and the one call that runs it.

use crate::value::{Value, dtype_from_ort, result};
use ort::{AsPointer, session::RunOptions, session::SharedSessionInner, value::ValueType};
use std::{ffi::CString, ptr, sync::Arc};
use torpor_nn::{BackendKind, Cancel, Error, Session};
use torpor_tensor::{Dim, NamedTensor, Signature, TensorSpec};

pub(crate) struct OrtSession {
    session: Arc<SharedSessionInner>,
    signature: Signature,
    input_names: Vec<CString>,
    output_names: Vec<CString>,
}

impl OrtSession {
    pub(crate) fn new(session: ort::session::Session) -> Result<Self, String> {
        let specs = |outlets: &[ort::value::Outlet]| outlets.iter().map(spec).collect::<Result<Vec<_>, _>>();
        let signature = Signature { inputs: specs(session.inputs())?, outputs: specs(session.outputs())? };
        let name = |spec: &TensorSpec| CString::new(spec.name.as_str());
        let names = |specs: &[TensorSpec]| -> Result<Vec<CString>, String> {
            let names: Result<_, _> = specs.iter().map(name).collect();
            names.map_err(|_| "a tensor's name contains a NUL".to_owned())
        };
        let (input_names, output_names) = (names(&signature.inputs)?, names(&signature.outputs)?);
        Ok(OrtSession { session: session.inner(), signature, input_names, output_names })
    }
}

fn spec(outlet: &ort::value::Outlet) -> Result<TensorSpec, String> {
    let name = outlet.name();
    let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
        return Err(format!("`{name}` is {}, but only tensors can be passed", outlet.dtype()));
    };
    let dtype =
        dtype_from_ort((*ty).into()).ok_or_else(|| format!("`{name}` has unsupported elements of type {ty}"))?;
    // ONNX Runtime says -1 for any dimension that is not fixed, and gives those without a name an empty one.
    let dim = |(&size, name): (&i64, &String)| match u64::try_from(size) {
        Ok(size) => Dim::Fixed(size),
        Err(_) if name.is_empty() => Dim::Any,
        Err(_) => Dim::Named(name.as_str().into()),
    };
    let shape = shape.iter().zip(dimension_symbols.iter()).map(dim).collect();
    Ok(TensorSpec { name: name.to_owned(), dtype, shape: Some(shape) })
}

/// Tells a kernel that refuses its inputs from a library that is in trouble. The inputs had the declared types and shapes, and
/// the model opened, so a kernel that fails does so because of what the inputs hold, unless memory is short.
fn run_error(error: &ort::Error) -> Error {
    let (backend, reason) = (BackendKind::OnnxRuntime, error.message().to_owned());
    let of_kernel = reason.contains("status code returned while running") && !reason.contains("allocate memory");
    match of_kernel || error.code() == ort::ErrorCode::InvalidArgument {
        true => Error::Rejected { backend, reason },
        false => Error::Run { backend, reason },
    }
}

impl Session for OrtSession {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[NamedTensor], cancel: &Cancel) -> Result<Vec<NamedTensor>, Error> {
        let failed = |reason: String| Error::Run { backend: BackendKind::OnnxRuntime, reason };
        let mut names = Vec::with_capacity(inputs.len());
        let mut values = Vec::with_capacity(inputs.len());
        for (name, tensor) in inputs {
            let index = self.signature.inputs.iter().position(|spec| spec.name == *name);
            let index = index.ok_or_else(|| Error::Input(format!("the model has no input `{name}`")))?;
            names.push(self.input_names[index].as_ptr());
            values.push(Value::borrow(tensor).map_err(failed)?);
        }
        let value_pointers: Vec<_> = values.iter().map(Value::as_ptr).collect();
        let output_names: Vec<_> = self.output_names.iter().map(|name| name.as_ptr()).collect();
        let mut outputs: Vec<*mut ort::sys::OrtValue> = vec![ptr::null_mut(); output_names.len()];

        let mut run = |options: *const ort::sys::OrtRunOptions| {
            // SAFETY: the session, the options, unless they are null, and every input value are alive until after the call,
            // since this frame borrows or owns them. Names are NUL-terminated and owned by `self`. Each array is as long as its
            // length says. `Run` may be called on one session from several threads; it does not write through the session
            // pointer.
            unsafe {
                (ort::api().Run)(
                    self.session.ptr().cast_mut(),
                    options,
                    names.as_ptr(),
                    value_pointers.as_ptr(),
                    value_pointers.len(),
                    output_names.as_ptr(),
                    output_names.len(),
                    outputs.as_mut_ptr(),
                )
            }
        };
        let status = if cancel.is_never() {
            run(ptr::null())
        } else {
            let options = Arc::new(RunOptions::new().map_err(|error| failed(error.to_string()))?);
            let terminate = {
                let options = Arc::clone(&options);
                move || {
                    // Termination fails only when the options are invalid, which they are not while this closure holds them.
                    let _ = options.terminate();
                }
            };
            cancel.interruptible(terminate, || run(options.ptr()))
        };
        // Owned before the status is looked at, so that nothing leaks when only some outputs were made.
        // SAFETY: each pointer is null or a value that `Run` made and handed over.
        let outputs: Vec<Option<Value<'static>>> =
            outputs.into_iter().map(|value| unsafe { Value::own(value) }).collect();
        if let Err(error) = result(status) {
            return Err(if cancel.is_cancelled() { Error::Cancelled } else { run_error(&error) });
        }
        let mut named = Vec::with_capacity(outputs.len());
        for (spec, value) in self.signature.outputs.iter().zip(outputs) {
            let value = value.ok_or_else(|| failed(format!("the model gave no output `{}`", spec.name)))?;
            named.push((spec.name.clone(), value.into_tensor().map_err(failed)?));
        }
        Ok(named)
    }
}
