//! What the probe does with models and tensors, good or bad, as the path says. An answer is what the host said; a call that has no
//! error value traps.
#![allow(unsafe_code, reason = "a handle that was dropped can be used in no other way")]

use crate::contract;
use torpor_guest::{
    Error, Model, Outputs, Result, Tensor,
    bindings::predict::{
        torpor::function::tensors,
        wasi::nn::tensor::{Tensor as HostTensor, TensorType},
    },
    http::{self, Response},
};

/// Does what `word` says; `None` where it says nothing that is known here.
pub(crate) fn act(word: &str, body: Vec<u8>) -> Option<Result<Response, http::Error>> {
    let said = match word {
        "contract" => Ok(contract::calls(body)),
        "models" => Ok(Model::names().iter().map(|name| format!("{name}: {}\n", describe(name))).collect()),
        "add" => add(Model::load("add"), rows(&[1, 4], &[1.0; 4])),
        "nan" => add(Model::load("add"), rows(&[1, 4], &[f32::NAN; 4])),
        "wrong-dtype" => add(Model::load("add"), Tensor::new(&[1, 4], &[1_i32; 4])),
        "wrong-rank" => add(Model::load("add"), rows(&[4], &[1.0; 4])),
        "wrong-name" => Model::load("add").and_then(|model| model.run([("w", rows(&[1, 4], &[1.0; 4])?)])).map(shown),
        "nothing" => Model::load("add").and_then(|model| model.run::<&str>([])).map(shown),
        "twice" => twice(),
        "classify" => classify(&body),
        "unlabelled" => Model::load("species")
            .and_then(|species| Ok(format!("{:?} {:?}", species.labels("lengths"), Model::load("add")?.labels("z")))),
        "from-onnx" => add(Model::from_onnx(body), rows(&[1, 4], &[1.0; 4])),
        "from-onnx-often" => {
            (0..100).map(|_| Model::from_onnx(body.clone())).collect::<Result<Vec<_>>>().map(|_| "all".to_owned())
        }
        "fill" => fill(&body),
        "wrong-length" => {
            Ok(tensors::create(tensors::Datatype::Fp32, &[1, 4], &[0; 15])
                .map_or_else(|text| text, |_| "made".to_owned()))
        }
        "overflow" => Ok(tensors::create(tensors::Datatype::Fp64, &[u64::MAX, 2], &[])
            .map_or_else(|text| text, |_| "made".to_owned())),
        "wrong-length-trap" => Ok(HostTensor::new(&[1, 4], TensorType::Fp32, &[0; 15]).dimensions().len().to_string()),
        "overflow-trap" => Ok(HostTensor::new(&[u32::MAX; 8], TensorType::Fp32, &[]).dimensions().len().to_string()),
        "million" => Ok(million(&[1], &[0; 4])),
        "million-dimensions" => Ok(million(&[1; 10_000], &[0; 4])),
        "million-elements" => Ok(million(&[1 << 18], &vec![0; 1 << 20])),
        "use-after-drop" => Ok(use_after_drop()),
        _ => return None,
    };
    Some(Ok(Response::text(said.unwrap_or_else(|error: Error| format!("{error:?}")))))
}

fn rows(shape: &[usize], values: &[f32]) -> Result<Tensor> {
    Tensor::new(shape, values)
}

/// Adds `x` to itself.
fn add(model: Result<Model>, x: Result<Tensor>) -> Result<String> {
    model?.run([("x", x?), ("y", rows(&[1, 4], &[1.0; 4])?)]).map(shown)
}

fn twice() -> Result<String> {
    let x = || rows(&[1, 4], &[1.0; 4]);
    Model::load("add")?.run([("x", x()?), ("x", x()?)]).map(shown)
}

/// The label of the highest score.
fn classify(lengths: &[u8]) -> Result<String> {
    let lengths: Vec<f32> =
        String::from_utf8_lossy(lengths).split(' ').filter_map(|length| length.parse().ok()).collect();
    let species = Model::load("species")?;
    let mut outputs = species.run([("lengths", Tensor::new(&[1, lengths.len()], &lengths)?)])?;
    let scores = outputs.take("scores")?.to_vec::<f32>()?;
    let labels = species.labels("scores").unwrap_or_default();
    let best = labels.iter().zip(&scores).max_by(|(_, one), (_, other)| one.total_cmp(other));
    Ok(best.map_or_else(String::new, |(label, _)| label.clone()))
}

fn fill(size: &[u8]) -> Result<String> {
    let size: i64 = String::from_utf8_lossy(size).parse().unwrap_or(0);
    let mut outputs = Model::load("fill")?.run([("size", Tensor::new(&[1], &[size])?)])?;
    Ok(format!("{:?}", outputs.take("zeros")?.shape()))
}

fn shown(outputs: Outputs) -> String {
    let shown =
        outputs.into_iter().map(|(name, tensor)| format!("{name}={:?}", tensor.to_vec::<f32>().unwrap_or_default()));
    shown.collect::<Vec<_>>().join(" ")
}

fn describe(name: &str) -> String {
    let spec = Model::describe(name).expect("a name that was given");
    format!("{:?} -> {:?}", spec.inputs, spec.outputs)
}

/// Makes a million tensors and keeps them all.
fn million(shape: &[u64], data: &[u8]) -> String {
    let mut kept = Vec::new();
    for _ in 0..1_000_000 {
        match tensors::create(tensors::Datatype::Fp32, shape, data) {
            Ok(tensor) => kept.push(tensor),
            Err(text) => return format!("after {}: {text}", kept.len()),
        }
    }
    "made a million".to_owned()
}

fn use_after_drop() -> String {
    let tensor = HostTensor::new(&[1], TensorType::U8, &[1]);
    let handle = tensor.handle();
    drop(tensor);
    // SAFETY: nothing in this module depends on it; the host has to notice.
    let stale = unsafe { HostTensor::from_handle(handle) };
    format!("{:?}", stale.data())
}
