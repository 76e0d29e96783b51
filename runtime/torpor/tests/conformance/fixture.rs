//! The backends under test, their models, and tensors for them. The one place of these tests where the environment is read.
#![expect(clippy::disallowed_methods, reason = "tests are told by the environment where things are")]
#![expect(clippy::print_stderr, reason = "a skipped backend says so")]

use bytes::Bytes;
use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
};
use torpor::{Libraries, Worker};
use torpor_nn::{Backend, BackendKind, Cancel, Error, ModelFiles, ModelFormat, OpenOptions, Session};
use torpor_tensor::{DType, NamedTensor, Shape, Tensor};

/// Bytes that a model may take in a worker process; more than any here needs.
const MEMORY: u64 = 4 << 30;

/// The backends of this machine, each in this process and, on Linux, once more with its models in worker processes. One that is
/// missing is a note, and in CI a failure.
pub(crate) fn backends() -> Vec<Arc<dyn Backend>> {
    let library = |variable| env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    let libraries = Libraries { onnxruntime: library("TORPOR_ONNXRUNTIME"), openvino: library("TORPOR_OPENVINO") };
    let mut backends = torpor::load_backends(libraries);
    for (kind, reason) in backends.missing() {
        assert!(env::var_os("CI").is_none(), "{kind} is missing, and CI must test with it: {reason}");
        eprintln!("skipped on {kind}: {reason}");
    }
    let assets = env::var_os("TORPOR_TEST_ASSETS").map(PathBuf::from);
    let folders = [model(""), env::temp_dir()].into_iter().chain(assets);
    let worker = Worker {
        file: env!("CARGO_BIN_EXE_torpor").into(),
        environment: Vec::new(),
        readable: folders.collect(),
        writable: Some(env::temp_dir()),
    };
    torpor::isolate(&mut backends, worker);
    let isolated = backends.present().filter(|_| cfg!(target_os = "linux"));
    let isolated = isolated.map(|backend| backends.isolated(backend, MEMORY).expect("Linux has worker processes"));
    backends.present().cloned().chain(isolated).collect()
}

/// Runs `case` on every backend.
pub(crate) fn each(case: impl Fn(&dyn Backend)) {
    each_that(|_| true, case);
}

/// Runs `case` on `kind`, if this machine has it.
pub(crate) fn on(kind: BackendKind, case: impl Fn(&dyn Backend)) {
    each_that(|backend| backend.kind() == kind, case);
}

/// Runs `case` on those backends that it is about, and says where it held.
pub(crate) fn each_that(concerns: impl Fn(&dyn Backend) -> bool, case: impl Fn(&dyn Backend)) {
    for backend in backends().iter().map(|backend| &**backend).filter(|backend| concerns(*backend)) {
        // Shown only where the case fails.
        eprintln!("on {}", backend.kind());
        case(backend);
        torpor_evidence::seen("cases", 0, [&torpor_evidence::test(), backend.kind().name(), "holds"]);
    }
}

/// What a backend says of what it lacks, without the words of its library and the place of the model.
pub(crate) fn refusal(error: &Error) -> &str {
    match error {
        Error::Open { reason, .. } | Error::Run { reason, .. } | Error::Rejected { reason, .. } => reason,
        other => panic!("it is another error: {other:?}"),
    }
}

/// A model of `tests/models`.
pub(crate) fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models").join(name)
}

/// A model of the cache, such as `magika/model.onnx`.
pub(crate) fn asset(name: &str) -> PathBuf {
    let assets = env::var_os("TORPOR_TEST_ASSETS");
    let assets = assets.expect("`TORPOR_TEST_ASSETS` is not set; run the tests with `cargo xtask test`");
    PathBuf::from(assets).join(name)
}

pub(crate) fn try_open(backend: &dyn Backend, path: &Path, options: &OpenOptions) -> Result<Arc<dyn Session>, Error> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let format = extension.and_then(|extension| extension.parse().ok()).unwrap_or(ModelFormat::Onnx);
    backend.open(&ModelFiles::one(format, path), options)
}

#[track_caller]
pub(crate) fn open(backend: &dyn Backend, name: &str) -> Arc<dyn Session> {
    try_open(backend, &model(name), &OpenOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs as a request does: with somebody who might cancel.
pub(crate) fn run(session: &dyn Session, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, Error> {
    session.run(inputs, &Cancel::default())
}

pub(crate) fn named(name: &str, tensor: Tensor) -> NamedTensor {
    (name.to_owned(), tensor)
}

pub(crate) fn tensor(dtype: DType, dims: &[u64], data: Vec<u8>) -> Tensor {
    Tensor::new(dtype, Shape::from(dims), Bytes::from(data)).expect("shape and data fit")
}

pub(crate) fn f32s(dims: &[u64], values: &[f32]) -> Tensor {
    tensor(DType::F32, dims, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

pub(crate) fn i64s(dims: &[u64], values: &[i64]) -> Tensor {
    tensor(DType::I64, dims, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// The elements of a tensor of FP32.
pub(crate) fn floats(tensor: &Tensor) -> Vec<f32> {
    assert_eq!(tensor.dtype(), DType::F32);
    tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

/// The largest difference between two outputs of the same shape.
pub(crate) fn difference(one: &Tensor, other: &Tensor) -> f32 {
    assert_eq!(one.shape(), other.shape());
    floats(one).iter().zip(floats(other)).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max)
}

/// A square matrix whose powers neither vanish nor overflow: the mean of all rows, and a little more on the diagonal.
pub(crate) fn square(size: u16) -> Tensor {
    let n = u64::from(size);
    let entry = |index: u64| match index % (n + 1) {
        0 => 0.5 + 0.5 / f32::from(size),
        _ => 0.5 / f32::from(size),
    };
    f32s(&[n, n], &(0..n * n).map(entry).collect::<Vec<_>>())
}
