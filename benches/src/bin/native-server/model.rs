//! A model in ONNX Runtime, its answers to inference requests in JSON, and its runs on tensors that are bytes.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use ort::{
    environment::Environment,
    session::{Session, SessionInputValue, builder::GraphOptimizationLevel},
    value::{DynValue, PrimitiveTensorElementType, TensorElementType, TensorRef, ValueType},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    borrow::Cow,
    fmt::Debug,
    path::Path,
    time::{Duration, Instant},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What answers say of the version: the same as the first revision of a function, which they are compared with.
pub(crate) const VERSION: &str = "1";

/// ONNX Runtime, loaded.
pub(crate) struct Library(Environment);

/// How a model is opened.
#[derive(Clone, Copy)]
pub(crate) enum Opening {
    /// With the options that Torpor uses.
    LikeTorpor,
    /// With those that a session has when nobody asks for others.
    Default,
    /// From its bytes, read for this one session, as hosts of `wasi:nn` do that keep none: `wasmtime serve` is one.
    Bytes,
}

/// One session. Requests are read as elements of the one type that all its inputs have.
pub(crate) struct Model {
    session: Session,
    elements: TensorElementType,
}

/// A tensor as it comes and goes, with its elements as bytes.
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) datatype: String,
    pub(crate) shape: Vec<i64>,
    pub(crate) data: Bytes,
}

/// An output in the memory that the library took for it.
struct Memory(DynValue);

#[derive(Deserialize)]
struct Request<'a, T> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    inputs: Vec<Input<'a, T>>,
}

#[derive(Deserialize)]
struct Input<'a, T> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Vec<i64>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    data: Vec<T>,
}

#[derive(Serialize)]
struct Response<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Cow<'a, str>>,
    outputs: Vec<Output<'a>>,
}

#[derive(Serialize)]
struct Output<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [i64],
    data: &'a [f32],
}

/// An element type of an input, as the protocol names it.
trait Element:
    PrimitiveTensorElementType + DeserializeOwned + FromBytes + IntoBytes + Immutable + Copy + Debug + 'static
{
    const NAME: &'static str;
}

impl Element for f32 {
    const NAME: &'static str = "FP32";
}

impl Element for i32 {
    const NAME: &'static str = "INT32";
}

impl Element for i64 {
    const NAME: &'static str = "INT64";
}

impl Library {
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let environment = ort::init_from(path)?.with_telemetry(false).build()?;
        Ok(Library(environment))
    }

    /// Opens the model.
    pub(crate) fn open(&self, path: &Path, how: Opening) -> Result<Model> {
        let builder = || -> ort::Result<_> {
            Ok(Session::builder(&self.0)?.with_optimization_level(GraphOptimizationLevel::All)?)
        };
        let open = || -> ort::Result<Session> {
            match how {
                Opening::LikeTorpor => {
                    builder()?.with_intra_threads(1)?.with_intra_op_spinning(false)?.commit_from_file(path)
                }
                Opening::Default => Session::builder(&self.0)?.commit_from_file(path),
                Opening::Bytes => {
                    let bytes = std::fs::read(path).map_err(ort::Error::wrap)?;
                    builder()?.commit_from_memory(&bytes)
                }
            }
        };
        let session = open().with_context(|| format!("`{}` cannot be opened", path.display()))?;
        let input = session.inputs().first().context("the model has no input")?;
        let ValueType::Tensor { ty: elements, .. } = *input.dtype() else { bail!("an input is no tensor") };
        Ok(Model { session, elements })
    }

    /// Opens the model `count` times, for as many runs at the same time: `ort` takes a session for each.
    pub(crate) fn models(&self, path: &Path, count: usize) -> Result<Vec<Model>> {
        (0..count).map(|_| self.open(path, Opening::LikeTorpor)).collect()
    }
}

impl Model {
    /// The answer to the inference request `body`.
    pub(crate) fn answer(&mut self, name: &str, body: &[u8]) -> Result<Vec<u8>> {
        match self.elements {
            TensorElementType::Float32 => self.infer::<f32>(name, body),
            TensorElementType::Int32 => self.infer::<i32>(name, body),
            other => bail!("requests with elements of type {other} are not read"),
        }
    }

    /// The outputs for these inputs.
    pub(crate) fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        match self.elements {
            TensorElementType::Float32 => self.bytes::<f32>(inputs),
            TensorElementType::Int32 => self.bytes::<i32>(inputs),
            other => bail!("requests with elements of type {other} are not read"),
        }
    }

    /// How long each of `count` runs on `request` takes, from tensors in memory to tensors in memory.
    pub(crate) fn runs(&mut self, request: &[u8], count: usize) -> Result<Vec<Duration>> {
        match self.elements {
            TensorElementType::Float32 => self.timed::<f32>(request, count),
            TensorElementType::Int32 => self.timed::<i32>(request, count),
            TensorElementType::Int64 => self.timed::<i64>(request, count),
            other => bail!("requests with elements of type {other} are not read"),
        }
    }

    /// Runs on batches of `rows` rows, each of them the one row of `request`, until `end`. Returns how many rows that made.
    pub(crate) fn rows(&mut self, request: &[u8], rows: usize, end: Instant) -> Result<usize> {
        match self.elements {
            TensorElementType::Float32 => self.batches::<f32>(request, rows, end),
            TensorElementType::Int32 => self.batches::<i32>(request, rows, end),
            TensorElementType::Int64 => self.batches::<i64>(request, rows, end),
            other => bail!("requests with elements of type {other} are not read"),
        }
    }

    fn batches<T: Element>(&mut self, request: &[u8], rows: usize, end: Instant) -> Result<usize> {
        let Request::<T> { mut inputs, .. } = serde_json::from_slice(request)?;
        for input in &mut inputs {
            let batch = input.shape.first_mut().filter(|rows| **rows == 1);
            *batch.with_context(|| format!("input `{}` has not one row", input.name))? = i64::try_from(rows)?;
            input.data = input.data.repeat(rows);
        }
        let mut done = 0;
        while Instant::now() < end {
            self.session.run(values(&inputs)?)?;
            done += rows;
        }
        Ok(done)
    }

    fn timed<T: Element>(&mut self, request: &[u8], count: usize) -> Result<Vec<Duration>> {
        let Request::<T> { inputs, .. } = serde_json::from_slice(request)?;
        let mut run = || {
            let start = Instant::now();
            self.session.run(values(&inputs)?)?;
            Ok(start.elapsed())
        };
        (0..count).map(|_| run()).collect()
    }

    fn infer<T: Element>(&mut self, name: &str, body: &[u8]) -> Result<Vec<u8>> {
        let Request::<T> { id, inputs } = serde_json::from_slice(body)?;
        let outputs = self.session.run(values(&inputs)?)?;
        let outputs = outputs.keys().map(|name| {
            let (shape, data) = outputs[name].try_extract_tensor::<f32>()?;
            Ok(Output { name, datatype: f32::NAME, shape, data })
        });
        let outputs = outputs.collect::<Result<_>>()?;
        Ok(serde_json::to_vec(&Response { model_name: name, model_version: VERSION, id, outputs })?)
    }

    fn bytes<T: Element>(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let data = inputs.iter().map(elements::<T>).collect::<Result<Vec<_>>>()?;
        let mut values = Vec::with_capacity(inputs.len());
        for (input, data) in inputs.iter().zip(&data) {
            let value = TensorRef::from_array_view((input.shape.as_slice(), &**data))?;
            values.push((input.name.as_str(), SessionInputValue::from(value)));
        }
        let outputs = self.session.run(values)?.into_iter().map(|(name, value)| {
            let shape = value.try_extract_tensor::<f32>()?.0.to_vec();
            let (name, datatype) = (name.to_owned(), f32::NAME.to_owned());
            Ok(Tensor { name, datatype, shape, data: Bytes::from_owner(Memory(value)) })
        });
        outputs.collect()
    }
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        // That it is of this type was seen before.
        self.0.try_extract_tensor::<f32>().map_or(&[], |(_, data)| data.as_bytes())
    }
}

/// The elements of an input: where they are, or copied where that is not a place for such elements.
fn elements<T: Element>(input: &Tensor) -> Result<Cow<'_, [T]>> {
    let Tensor { name, datatype, data, .. } = input;
    ensure!(datatype == T::NAME, "input `{name}` is {datatype}, but must be {}", T::NAME);
    if let Ok(elements) = <[T]>::ref_from_bytes(data) {
        return Ok(Cow::Borrowed(elements));
    }
    let size = size_of::<T>();
    ensure!(data.len() % size == 0, "input `{name}` has {} bytes, which are no whole elements", data.len());
    let mut elements = vec![T::new_zeroed(); data.len() / size];
    elements.as_mut_bytes().copy_from_slice(data);
    Ok(Cow::Owned(elements))
}

/// What the model is run on, without a copy of the data.
fn values<'v, T: Element>(inputs: &'v [Input<'_, T>]) -> Result<Vec<(Cow<'v, str>, SessionInputValue<'v>)>> {
    let value = |input: &'v Input<'_, T>| {
        ensure!(input.datatype == T::NAME, "input `{}` is {}, but must be {}", input.name, input.datatype, T::NAME);
        let value = TensorRef::from_array_view((input.shape.as_slice(), input.data.as_slice()))?;
        Ok((Cow::Borrowed(&*input.name), value.into()))
    };
    inputs.iter().map(value).collect()
}
