//! The host of `wasi_ephemeral_nn`, the core-module ABI of wasi-nn: what Wasmtime and WasmEdge offer to WASI preview 1 programs.
//!
//! Functions answer with a number: 0, or what was wrong. A call that makes no sense is such a number and never a trap, wherever
//! its pointers point. Handles are rows of the instance's resource table, as those of `wasi:nn` are, so the same limits hold.

use crate::{
    abi,
    bindings::wasi::nn::errors::ErrorCode,
    guest::Guest,
    inference::{Refusal, Which, check_kind, cost},
    wasi_nn::Graph,
};
use bytes::Bytes;
use torpor_tensor::Tensor;
use wasmtime::{
    Caller, Extern, Linker, Memory, Result,
    component::{Resource, ResourceTableError},
};

/// The name under which modules import it.
pub(crate) const MODULE: &str = "wasi_ephemeral_nn";

/// What WasmEdge offers for models that answer piece by piece. No backend here does.
const PIECEMEAL: [&str; 2] = ["compute_single", "fini_single"];

/// The numbers of `nn_errno`. Wasmtime and WasmEdge agree on these.
mod errno {
    pub(super) const SUCCESS: u32 = 0;
    pub(super) const INVALID_ARGUMENT: u32 = 1;
    pub(super) const INVALID_ENCODING: u32 = 2;
    pub(super) const MISSING_MEMORY: u32 = 3;
    pub(super) const RUNTIME_ERROR: u32 = 5;
    pub(super) const UNSUPPORTED_OPERATION: u32 = 6;
    pub(super) const TOO_LARGE: u32 = 7;
    pub(super) const NOT_FOUND: u32 = 8;
}

/// A `graph_execution_context`: a model, and the tensors of its last run and of its next one.
struct Execution {
    model: Which,
    /// One for each input of the model.
    inputs: Vec<Option<Tensor>>,
    /// `None` until there was a run, or when the last one failed.
    outputs: Option<Vec<Tensor>>,
}

impl Execution {
    fn outputs_cost(&self) -> usize {
        self.outputs.iter().flatten().map(cost).sum()
    }
}

/// Makes the functions importable.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> Result<()> {
    linker.func_wrap_async(MODULE, "load", |mut caller: Caller<'_, Guest>, arguments: (u32, u32, u32, u32, u32)| {
        Box::new(async move {
            let Some(memory) = memory(&mut caller) else { return errno::MISSING_MEMORY };
            let result = load(&mut caller, memory, arguments).await;
            answer(&caller, "load", result)
        })
    })?;
    linker.func_wrap(MODULE, "load_by_name", |mut caller: Caller<'_, Guest>, name: u32, length: u32, out: u32| {
        call(&mut caller, "load_by_name", |memory, guest| load_by_name(memory, guest, (name, length), out))
    })?;
    linker.func_wrap(
        MODULE,
        "load_by_name_with_config",
        // How a model runs is for the manifest to say, so the guest's own configuration is not looked at.
        |mut caller: Caller<'_, Guest>, name: u32, length: u32, _config: u32, _config_length: u32, out: u32| {
            call(&mut caller, "load_by_name_with_config", |memory, guest| {
                load_by_name(memory, guest, (name, length), out)
            })
        },
    )?;
    linker.func_wrap(MODULE, "init_execution_context", |mut caller: Caller<'_, Guest>, graph: u32, out: u32| {
        call(&mut caller, "init_execution_context", |memory, guest| init_execution_context(memory, guest, graph, out))
    })?;
    linker.func_wrap(MODULE, "set_input", |mut caller: Caller<'_, Guest>, context: u32, index: u32, tensor: u32| {
        call(&mut caller, "set_input", |memory, guest| set_input(memory, guest, context, index, tensor))
    })?;
    linker.func_wrap_async(MODULE, "compute", |mut caller: Caller<'_, Guest>, (context,): (u32,)| {
        Box::new(async move {
            let result = compute(caller.data_mut(), context).await;
            answer(&caller, "compute", result)
        })
    })?;
    linker.func_wrap(
        MODULE,
        "get_output",
        |mut caller: Caller<'_, Guest>, context: u32, index: u32, buffer: u32, size: u32, out: u32| {
            call(&mut caller, "get_output", |memory, guest| {
                get_output(memory, guest, context, index, (buffer, size), out)
            })
        },
    )?;
    linker.func_wrap(MODULE, "unload", |mut caller: Caller<'_, Guest>, graph: u32| {
        call(&mut caller, "unload", |_, guest| unload(guest, graph))
    })?;
    linker.func_wrap(MODULE, "finalize_execution_context", |mut caller: Caller<'_, Guest>, context: u32| {
        call(&mut caller, "finalize_execution_context", |_, guest| finalize(guest, context))
    })?;
    for name in PIECEMEAL {
        linker.func_wrap(MODULE, name, |_context: u32| errno::UNSUPPORTED_OPERATION)?;
    }
    let unsupported = |_context: u32, _index: u32, _buffer: u32, _size: u32, _out: u32| errno::UNSUPPORTED_OPERATION;
    linker.func_wrap(MODULE, "get_output_single", unsupported)?;
    Ok(())
}

fn memory(caller: &mut Caller<'_, Guest>) -> Option<Memory> {
    caller.get_export("memory").and_then(Extern::into_memory)
}

/// Does a function that does not wait.
fn call(
    caller: &mut Caller<'_, Guest>,
    name: &'static str,
    body: impl FnOnce(&mut [u8], &mut Guest) -> Result<(), Refusal>,
) -> u32 {
    let Some(memory) = memory(caller) else { return errno::MISSING_MEMORY };
    let (bytes, guest) = memory.data_and_store_mut(&mut *caller);
    let result = body(bytes, guest);
    answer(caller, name, result)
}

/// The number that the guest gets. It has no room for the reason, which the log has for those who look for it.
fn answer(caller: &Caller<'_, Guest>, name: &'static str, result: Result<(), Refusal>) -> u32 {
    let Err(Refusal { code, text }) = result else { return errno::SUCCESS };
    tracing::debug!(function = %caller.data().function(), call = name, why = text, "a call of wasi_ephemeral_nn was refused");
    match code {
        ErrorCode::InvalidArgument => errno::INVALID_ARGUMENT,
        ErrorCode::InvalidEncoding => errno::INVALID_ENCODING,
        ErrorCode::UnsupportedOperation | ErrorCode::Security => errno::UNSUPPORTED_OPERATION,
        ErrorCode::TooLarge => errno::TOO_LARGE,
        ErrorCode::NotFound => errno::NOT_FOUND,
        ErrorCode::Timeout | ErrorCode::RuntimeError | ErrorCode::Unknown => errno::RUNTIME_ERROR,
    }
}

async fn load(
    caller: &mut Caller<'_, Guest>,
    memory: Memory,
    (parts, count, encoding, target, out): (u32, u32, u32, u32, u32),
) -> Result<(), Refusal> {
    let (bytes, guest) = memory.data_and_store_mut(&mut *caller);
    guest.may_load(0)?;
    // ONNX, or whatever the host finds; the processor, or WasmEdge's word for whatever the host has.
    check_kind(matches!(encoding, 1 | 5), matches!(target, 0 | 3))?;
    let model = abi::single_part(bytes, parts, count)?;
    guest.may_load(model.len())?;
    let model = model.to_vec();
    abi::bytes(bytes, out, 4)?;
    let model = guest.load(model).await?;
    let (bytes, guest) = memory.data_and_store_mut(caller);
    let graph = guest.table.push(Graph { model }).map_err(full)?.rep();
    abi::write(bytes, out, &graph.to_le_bytes())
}

fn load_by_name(memory: &mut [u8], guest: &mut Guest, name: (u32, u32), out: u32) -> Result<(), Refusal> {
    let model = guest.find(abi::text(memory, name.0, name.1)?)?;
    abi::bytes(memory, out, 4)?;
    let graph = guest.table.push(Graph { model }).map_err(full)?.rep();
    abi::write(memory, out, &graph.to_le_bytes())
}

fn init_execution_context(memory: &mut [u8], guest: &mut Guest, graph: u32, out: u32) -> Result<(), Refusal> {
    let model = guest.table.get(&Resource::<Graph>::new_own(graph)).map_err(no_handle)?.model.clone();
    let inputs = vec![None; guest.signature(&model).inputs.len()];
    abi::bytes(memory, out, 4)?;
    let context = guest.table.push(Execution { model, inputs, outputs: None }).map_err(full)?.rep();
    abi::write(memory, out, &context.to_le_bytes())
}

fn set_input(memory: &[u8], guest: &mut Guest, context: u32, index: u32, tensor: u32) -> Result<(), Refusal> {
    let handle = Resource::<Execution>::new_own(context);
    let inputs = &guest.table.get(&handle).map_err(no_handle)?.inputs;
    let place = usize::try_from(index).unwrap_or(usize::MAX);
    let Some(present) = inputs.get(place) else {
        return Err(Refusal::argument(format!("there is no input {index}; the model has {}", inputs.len())));
    };
    let before = present.as_ref().map_or(0, cost);
    let raw = abi::tensor(memory, tensor)?;
    // The budget is asked before the data is copied.
    let after = raw.data.len() + size_of_val(raw.shape.dims());
    guest.charge(after.saturating_sub(before))?;
    let made = Tensor::new(raw.dtype, raw.shape, Bytes::copy_from_slice(raw.data));
    let refund = if made.is_ok() { before.saturating_sub(after) } else { after.saturating_sub(before) };
    guest.tensor_budget += refund;
    let made = made.map_err(|error| Refusal::argument(error.to_string()))?;
    guest.table.get_mut(&handle).map_err(no_handle)?.inputs[place] = Some(made);
    Ok(())
}

async fn compute(guest: &mut Guest, context: u32) -> Result<(), Refusal> {
    let handle = Resource::<Execution>::new_own(context);
    let execution = guest.table.get_mut(&handle).map_err(no_handle)?;
    // The answer of the last run makes room for that of this one.
    let freed = execution.outputs_cost();
    execution.outputs = None;
    let (model, inputs) = (execution.model.clone(), execution.inputs.clone());
    guest.tensor_budget += freed;
    // Inputs stay set for a next run, as programs expect. Cloning them copies no data.
    let names = guest.signature(&model).inputs.iter().map(|spec| spec.name.clone());
    let inputs = names.zip(inputs).filter_map(|(name, tensor)| Some((name, tensor?))).collect();
    let outputs: Vec<Tensor> = guest.infer(&model, inputs).await?.into_iter().map(|(_, tensor)| tensor).collect();
    guest.charge(outputs.iter().map(cost).sum())?;
    guest.table.get_mut(&handle).map_err(no_handle)?.outputs = Some(outputs);
    Ok(())
}

fn get_output(
    memory: &mut [u8],
    guest: &mut Guest,
    context: u32,
    index: u32,
    (buffer, size): (u32, u32),
    out: u32,
) -> Result<(), Refusal> {
    let execution = guest.table.get(&Resource::<Execution>::new_own(context)).map_err(no_handle)?;
    let Some(outputs) = &execution.outputs else {
        return Err(Refusal::argument("there is no output before a `compute` that succeeded"));
    };
    let Some(tensor) = usize::try_from(index).ok().and_then(|index| outputs.get(index)) else {
        return Err(Refusal::argument(format!("there is no output {index}; the model has {}", outputs.len())));
    };
    let data = tensor.data();
    let Some(length) = u32::try_from(data.len()).ok().filter(|length| *length <= size) else {
        let text = format!("output {index} has {} bytes, and the buffer only {size}", data.len());
        return Err(Refusal::new(ErrorCode::TooLarge, text));
    };
    abi::bytes(memory, out, 4)?;
    abi::write(memory, buffer, data)?;
    abi::write(memory, out, &length.to_le_bytes())
}

fn unload(guest: &mut Guest, graph: u32) -> Result<(), Refusal> {
    delete::<Graph>(guest, graph)?;
    Ok(())
}

fn finalize(guest: &mut Guest, context: u32) -> Result<(), Refusal> {
    let execution = delete::<Execution>(guest, context)?;
    guest.tensor_budget += execution.outputs_cost() + execution.inputs.iter().flatten().map(cost).sum::<usize>();
    Ok(())
}

/// Takes a row of the table away, if it is of this type.
fn delete<T: Send + 'static>(guest: &mut Guest, handle: u32) -> Result<T, Refusal> {
    // Looked at first, since the table would take away a row of any type.
    guest.table.get(&Resource::<T>::new_own(handle)).map_err(no_handle)?;
    guest.table.delete(Resource::<T>::new_own(handle)).map_err(no_handle)
}

fn no_handle(_: ResourceTableError) -> Refusal {
    Refusal::argument("there is no such graph or context")
}

fn full(_: ResourceTableError) -> Refusal {
    Refusal::new(ErrorCode::TooLarge, "the instance holds too many graphs and contexts")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{guest::Capabilities, trace::Marks, warm::Models};
    use std::sync::Arc;
    use torpor_nn::Caller;

    /// Each of these has to be called by the guest `command` in some test.
    #[test]
    fn every_function_that_is_offered_is_told() {
        let engine = wasmtime::Engine::default();
        let mut linker = Linker::new(&engine);
        add_to_linker(&mut linker).unwrap();
        let text = "name = \"f\"\nbundle = \"b\"\n[trigger.inference]\n";
        let manifest = torpor_manifest::parse("f.toml", text, &|_: &str| None).unwrap();
        let capabilities = Arc::new(Capabilities::new(&manifest, None, None).unwrap());
        let models = Arc::new(Models::none(manifest.name));
        let guest = Guest::new(&capabilities, &models, Caller::anybody(), Marks::default());
        let mut store = wasmtime::Store::new(&engine, guest);
        let offered: Vec<_> =
            linker.iter(&mut store).map(|(module, name, _)| (module.to_owned(), name.to_owned())).collect();
        assert!(offered.len() >= 6 && offered.iter().all(|(module, _)| module == MODULE), "{offered:?}");
        for (_, name) in &offered {
            torpor_evidence::seen("wasi_ephemeral_nn offers", 0, [&format!("`{name}`")]);
        }
    }
}
