//! Tensors go in and out unchanged: every element type, and every kind of shape.

use crate::fixture::{each, each_that, f32s, floats, i64s, model, named, on, open, refusal, run, tensor, try_open};
use torpor_nn::{Backend, BackendKind, Cancel, Error, ModelFiles, ModelFormat, OpenOptions};
use torpor_tensor::{DType, Dim, Shape, Tensor};

/// Three elements of a type, at the edges of what every backend computes with: some do so in 32 bits.
fn edges(dtype: DType) -> Tensor {
    let bytes: Vec<u8> = match dtype {
        DType::Bool => vec![1, 0, 1],
        DType::U8 => vec![0, 7, u8::MAX],
        DType::I8 => [i8::MIN, -1, i8::MAX].iter().flat_map(|value| value.to_le_bytes()).collect(),
        DType::U16 => [0, 7, u16::MAX].iter().flat_map(|value| value.to_le_bytes()).collect(),
        DType::I16 => [i16::MIN, -1, i16::MAX].iter().flat_map(|value| value.to_le_bytes()).collect(),
        DType::U32 => [0, 7, i32::MAX.unsigned_abs()].iter().flat_map(|value| value.to_le_bytes()).collect(),
        DType::I32 => [i32::MIN, -1, i32::MAX].iter().flat_map(|value| value.to_le_bytes()).collect(),
        DType::U64 => [0, 7, (1_u64 << 31) - 1].iter().flat_map(|value| value.to_le_bytes()).collect(),
        DType::I64 => [-(1_i64 << 31), -1, (1 << 31) - 1].iter().flat_map(|value| value.to_le_bytes()).collect(),
        // 1, -2 and 65504; 1, -2 and 2^127 times 1.9921875.
        DType::F16 => [0x3c00_u16, 0xc000, 0x7bff].iter().flat_map(|value| value.to_le_bytes()).collect(),
        DType::Bf16 => [0x3f80_u16, 0xc000, 0x7f7f].iter().flat_map(|value| value.to_le_bytes()).collect(),
        DType::F32 => [0.1, f32::MIN, f32::MIN_POSITIVE].iter().flat_map(|value| value.to_le_bytes()).collect(),
        DType::F64 => [0.125, f64::from(f32::MIN), 3.0].iter().flat_map(|value| value.to_le_bytes()).collect(),
        DType::Bytes => {
            let elements: [&[u8]; 3] = [b"", "gr\u{fc}n".as_bytes(), b"a longer text than a short string"];
            return Tensor::from_elements([3].into(), &elements).unwrap();
        }
    };
    tensor(dtype, &[3], bytes)
}

/// The types that a backend does not have; it must say so.
fn lacks(backend: &dyn Backend, dtype: DType) -> bool {
    match backend.kind() {
        BackendKind::OpenVino => dtype == DType::Bytes,
        BackendKind::Tract => matches!(dtype, DType::Bf16 | DType::Bytes),
        _ => false,
    }
}

/// Says what was seen of an element type.
fn dtype_is(backend: &dyn Backend, dtype: DType, what: &str) {
    let order = DType::ALL.iter().position(|one| *one == dtype).expect("all are there");
    torpor_evidence::seen("dtypes", order, [dtype.name(), backend.kind().name(), what]);
}

fn twice(dtype: DType) -> String {
    format!("twice-{}.onnx", dtype.name().to_lowercase())
}

#[test]
fn every_element_type_goes_in_and_comes_out() {
    each(|backend| {
        for dtype in DType::ALL.into_iter().filter(|dtype| !lacks(backend, *dtype)) {
            let session = open(backend, &twice(dtype));
            let signature = session.signature();
            assert_eq!((signature.inputs[0].dtype, signature.outputs[0].dtype), (dtype, dtype));
            let x = edges(dtype);
            let outputs = run(&*session, &[named("x", x.clone())]).unwrap_or_else(|error| panic!("{dtype}: {error}"));
            let expected = [&x.data()[..], &x.data()[..]].concat();
            assert_eq!(outputs, [named("y", tensor(dtype, &[6], expected))], "{dtype}");
            dtype_is(backend, dtype, "goes in and comes out");
        }
    });
}

#[test]
fn an_element_type_that_a_backend_lacks_is_refused() {
    let some = |backend: &dyn Backend| DType::ALL.into_iter().any(|dtype| lacks(backend, dtype));
    each_that(some, |backend| {
        for dtype in DType::ALL.into_iter().filter(|dtype| lacks(backend, *dtype)) {
            let error = match try_open(backend, &model(&twice(dtype)), &OpenOptions::default()) {
                Ok(session) => run(&*session, &[named("x", edges(dtype))]).expect_err("it has no such type"),
                Err(error) => error,
            };
            dtype_is(backend, dtype, &format!("refused: {}", refusal(&error)));
        }
    });
}

#[test]
fn elements_of_64_bits_are_whole_or_refused() {
    each(|backend| {
        for (dtype, element) in [
            (DType::I64, (i64::MIN + 1).to_le_bytes()),
            (DType::U64, u64::MAX.to_le_bytes()),
            (DType::F64, 1e300_f64.to_le_bytes()),
        ] {
            let session = open(backend, &twice(dtype));
            let answer = run(&*session, &[named("x", tensor(dtype, &[1], element.to_vec()))]);
            if backend.kind() == BackendKind::OpenVino {
                // It computes in 32 bits, and would answer something else.
                let error = answer.expect_err("it does not hold them");
                assert!(
                    matches!(&error, Error::Rejected { reason, .. } if reason.contains("`x` holds values")),
                    "{error}"
                );
                dtype_is(backend, dtype, "values that 32 bits do not hold are refused");
            } else {
                assert_eq!(answer.unwrap()[0].1.data()[..], [element, element].concat(), "{dtype}");
            }
        }
    });
}

#[test]
fn inputs_and_outputs_go_by_their_names() {
    each(|backend| {
        let session = open(backend, "sums.onnx");
        let names =
            |specs: &[torpor_tensor::TensorSpec]| specs.iter().map(|spec| spec.name.clone()).collect::<Vec<_>>();
        let signature = session.signature();
        assert_eq!(names(&signature.inputs), ["a", "b"]);
        assert_eq!(names(&signature.outputs), ["sum", "difference", "totals"]);
        let (a, b) = (f32s(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), f32s(&[2, 3], &[0.5; 6]));
        // In another order than the model's.
        let outputs = run(&*session, &[named("b", b), named("a", a)]).unwrap();
        assert_eq!(names(&signature.outputs), outputs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
        assert_eq!(floats(&outputs[0].1), [1.5, 2.5, 3.5, 4.5, 5.5, 6.5]);
        assert_eq!(floats(&outputs[1].1), [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]);
        assert_eq!((outputs[2].1.shape(), floats(&outputs[2].1)), (&Shape::from([2]), vec![7.5, 16.5]));
    });
}

#[test]
fn a_missing_input_is_an_error() {
    each(|backend| {
        let session = open(backend, "sums.onnx");
        run(&*session, &[named("a", f32s(&[1, 1], &[1.0]))]).expect_err("`b` is missing");
    });
}

#[test]
fn shapes_may_change_from_run_to_run() {
    each(|backend| {
        let session = open(backend, "sums.onnx");
        let shape = session.signature().inputs[0].shape.as_deref().expect("its rank is known");
        assert!(shape.iter().all(|dim| !matches!(dim, Dim::Fixed(_))), "{shape:?}");
        for (rows, columns) in [(1, 4), (3, 2), (0, 5), (2, 2), (4, 1)] {
            let count = usize::try_from(rows * columns).unwrap();
            let inputs = ["a", "b"].map(|name| named(name, f32s(&[rows, columns], &vec![1.0; count])));
            let outputs = run(&*session, &inputs).unwrap_or_else(|error| panic!("[{rows}, {columns}]: {error}"));
            assert_eq!(outputs[0].1, f32s(&[rows, columns], &vec![2.0; count]));
            assert_eq!(outputs[1].1, f32s(&[rows, columns], &vec![0.0; count]));
            assert_eq!(outputs[2].1.shape(), &Shape::from([rows]));
        }
    });
}

#[test]
fn empty_tensors_are_tensors() {
    each(|backend| {
        for dtype in DType::ALL.into_iter().filter(|dtype| !lacks(backend, *dtype)) {
            let session = open(backend, &twice(dtype));
            let empty = tensor(dtype, &[0], Vec::new());
            let outputs = run(&*session, &[named("x", empty.clone())]);
            assert_eq!(outputs.unwrap_or_else(|error| panic!("{dtype}: {error}")), [named("y", empty)]);
        }
    });
}

#[test]
fn a_scalar_has_no_dimensions() {
    each(|backend| {
        let session = open(backend, "scalar.onnx");
        assert_eq!(session.signature().inputs[0].shape, Some(vec![]));
        assert_eq!(run(&*session, &[named("x", f32s(&[], &[3.0]))]).unwrap(), [named("y", f32s(&[], &[9.0]))]);
    });
}

#[test]
fn memory_need_not_be_aligned() {
    each(|backend| {
        let session = open(backend, &twice(DType::I64));
        let whole = i64s(&[3], &[1, -2, 3]);
        // As where a tensor is a part of a request's body.
        let mut shifted = vec![0];
        shifted.extend_from_slice(whole.data());
        let shifted = bytes::Bytes::from(shifted).slice(1..);
        let x = Tensor::new(DType::I64, [3].into(), shifted).unwrap();
        assert_eq!(run(&*session, &[named("x", x)]).unwrap(), [named("y", i64s(&[6], &[1, -2, 3, 1, -2, 3]))]);
    });
}

#[test]
fn a_run_that_nobody_cancels_gives_the_same() {
    each(|backend| {
        let session = open(backend, "sums.onnx");
        let inputs = ["a", "b"].map(|name| named(name, f32s(&[1, 2], &[1.0, 2.0])));
        assert_eq!(session.run(&inputs, &Cancel::never()).unwrap(), run(&*session, &inputs).unwrap());
    });
}

#[test]
fn openvino_names_what_it_cannot_take() {
    on(BackendKind::OpenVino, |backend| {
        let error =
            try_open(backend, &model("twice-bytes.onnx"), &OpenOptions::default()).err().expect("it has strings");
        assert!(error.to_string().contains("`x` has elements of a type"), "{error}");
    });
}

#[test]
fn openvino_reads_tensorflow_lite_whatever_the_file_is_called() {
    on(BackendKind::OpenVino, |backend| {
        assert!(backend.opens(ModelFormat::TfLite));
        let folder = tempfile::tempdir().expect("a folder");
        let digest = folder.path().join("0123abcd");
        std::fs::copy(model("add.tflite"), &digest).expect("it can be copied");
        let session = backend.open(&ModelFiles::one(ModelFormat::TfLite, &digest), &OpenOptions::default()).unwrap();
        let inputs = ["x", "y"].map(|name| named(name, f32s(&[2, 4], &[1.5; 8])));
        assert_eq!(run(&*session, &inputs).unwrap(), [named("z", f32s(&[2, 4], &[3.0; 8]))]);
    });
}
