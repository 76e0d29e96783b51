//! Calls every function that a component may import in order to infer, at least once, and says of each call what it was and what it
//! gave. A test compares the calls with the contract.
#![allow(unused_must_use, reason = "what a call gave is written down, whatever it was")]

use torpor_guest::bindings::predict::{
    torpor::function::{
        models,
        tensors::{self, Datatype},
    },
    wasi::nn::{
        errors::Error,
        graph::{self, ExecutionTarget, Graph, GraphEncoding},
        tensor::{Tensor, TensorType},
    },
};

/// Calls a function, and writes a line of its interface, its name, the call, and what `$show` makes of the result.
macro_rules! tried {
    ($said:ident, $interface:literal, $function:literal, $call:expr, $show:expr) => {{
        let result = $call;
        $said.push_str(&line($interface, $function, stringify!($call), &result, $show));
        result
    }};
}

/// Calls everything. `model` is the file of a model.
pub(crate) fn calls(model: Vec<u8>) -> String {
    let mut said = String::new();
    let ones: Vec<u8> = [1.0_f32; 4].iter().flat_map(|one| one.to_le_bytes()).collect();

    let x =
        tried!(said, "wasi:nn/tensor", "[constructor]tensor", Tensor::new(&[1, 4], TensorType::Fp32, &ones), a_tensor);
    tried!(said, "wasi:nn/tensor", "[method]tensor.dimensions", x.dimensions(), debug);
    tried!(said, "wasi:nn/tensor", "[method]tensor.ty", x.ty(), debug);
    tried!(said, "wasi:nn/tensor", "[method]tensor.data", x.data(), debug);

    let create =
        tried!(said, "torpor:function/tensors", "create", tensors::create(Datatype::Fp32, &[1, 4], &ones), made);
    tried!(said, "torpor:function/tensors", "create", tensors::create(Datatype::Bf16, &[2], &[0; 5]), made);
    let texts = [b"a text".to_vec(), Vec::new()];
    let bytes = tried!(said, "torpor:function/tensors", "create-bytes", tensors::create_bytes(&[2], &texts), made);
    tried!(said, "torpor:function/tensors", "create-bytes", tensors::create_bytes(&[3], &texts), made);
    let (y, bytes) = (create.expect("it fits"), bytes.expect("it fits"));
    tried!(said, "torpor:function/tensors", "get-datatype", tensors::get_datatype(&bytes), debug);
    tried!(said, "torpor:function/tensors", "get-shape", tensors::get_shape(&bytes), debug);
    tried!(said, "torpor:function/tensors", "get-bytes", tensors::get_bytes(&bytes), debug);
    tried!(said, "torpor:function/tensors", "get-bytes", tensors::get_bytes(&y), debug);
    tried!(said, "torpor:function/tensors", "mean", tensors::mean(&y, 1), made);
    tried!(said, "torpor:function/tensors", "mean", tensors::mean(&y, 2), made);
    tried!(said, "torpor:function/tensors", "mean", tensors::mean(&bytes, 0), made);

    tried!(said, "torpor:function/models", "names", models::names(), debug);
    tried!(said, "torpor:function/models", "describe", models::describe("add"), debug);
    tried!(said, "torpor:function/models", "describe", models::describe("other"), debug);

    tried!(said, "torpor:function/models", "labels", models::labels("add", "sum"), debug);

    let other = tried!(said, "wasi:nn/graph", "load-by-name", graph::load_by_name("other"), a_graph);
    let error = other.expect_err("it is not granted");
    tried!(said, "wasi:nn/errors", "[method]error.code", error.code(), debug);
    tried!(said, "wasi:nn/errors", "[method]error.data", error.data(), debug);
    let builder = [model];
    let (onnx, cpu) = (GraphEncoding::Onnx, ExecutionTarget::Cpu);
    tried!(said, "wasi:nn/graph", "load", graph::load(&builder, onnx, cpu), a_graph);
    let add = tried!(said, "wasi:nn/graph", "load-by-name", graph::load_by_name("add"), a_graph);
    let context = tried!(
        said,
        "wasi:nn/graph",
        "[method]graph.init-execution-context",
        add.expect("it is granted").init_execution_context(),
        |context| context.as_ref().map_or_else(refused, |_| "a context".to_owned())
    );
    let context = context.expect("it is made");
    tried!(
        said,
        "wasi:nn/inference",
        "[method]graph-execution-context.compute",
        context.compute(vec![("x".to_owned(), x), ("y".to_owned(), y)]),
        outputs
    );
    tried!(said, "wasi:nn/inference", "[method]graph-execution-context.compute", context.compute(vec![]), outputs);
    said
}

fn line<T>(interface: &str, function: &str, call: &str, result: &T, show: impl Fn(&T) -> String) -> String {
    let call = call.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{interface}\t{function}\t{call}\t{}\n", show(result))
}

fn debug<T: std::fmt::Debug>(result: &T) -> String {
    format!("{result:?}")
}

fn a_tensor(_: &Tensor) -> String {
    "a tensor".to_owned()
}

fn made(result: &Result<Tensor, String>) -> String {
    result.as_ref().map_or_else(|text| format!("an error: {text}"), a_tensor)
}

fn a_graph(result: &Result<Graph, Error>) -> String {
    result.as_ref().map_or_else(refused, |_| "a graph".to_owned())
}

fn refused(error: &Error) -> String {
    format!("an error: {:?}", error.code())
}

fn outputs(result: &Result<Vec<(String, Tensor)>, Error>) -> String {
    let shown = |(name, tensor): &(String, Tensor)| {
        let floats: Vec<f32> =
            tensor.data().chunks_exact(4).filter_map(|bytes| Some(f32::from_le_bytes(*bytes.first_chunk()?))).collect();
        format!("{name}={floats:?}")
    };
    result.as_ref().map_or_else(refused, |outputs| outputs.iter().map(shown).collect())
}
