//! Real models give the same answers on every backend.

use crate::fixture::{asset, difference, each, i64s, model, named, run, tensor, try_open};
use std::cell::RefCell;
use torpor_nn::{BackendKind, ModelFiles, ModelFormat, OpenOptions, Session, Tier};
use torpor_tensor::{DType, NamedTensor};

/// Runs the model on every backend, in every tier that the backend has for it, and compares each with the first.
fn agree(name: &str, inputs: &[NamedTensor], tolerance: f32) {
    let reference: RefCell<Option<Vec<NamedTensor>>> = RefCell::default();
    let compare = |session: &dyn Session, what: &str| {
        session.signature().check_inputs(inputs).expect("the inputs are the model's");
        let outputs = run(session, inputs).unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut reference = reference.borrow_mut();
        let reference = reference.get_or_insert_with(|| outputs.clone());
        for ((name, output), (expected_name, expected)) in outputs.iter().zip(&*reference) {
            assert_eq!(name, expected_name);
            let difference = difference(output, expected);
            assert!(difference <= tolerance, "{what} differs by {difference} in `{name}`");
        }
    };
    each(|backend| {
        let (path, options) = (asset(name), OpenOptions::default());
        compare(&*try_open(backend, &path, &options).unwrap(), backend.kind().name());
        let folder = tempfile::tempdir().unwrap();
        let (files, form) =
            (ModelFiles::one(ModelFormat::Onnx, path), ModelFiles::one(ModelFormat::Onnx, folder.path()));
        for &tier in backend.optimize(&files, &options, folder.path()).unwrap() {
            let session = backend.open(&form, &OpenOptions { tier, ..options });
            compare(&*session.unwrap(), &format!("{} in the tier `{tier}`", backend.kind()));
        }
    });
}

#[test]
fn the_form_that_a_backend_makes_opens_in_the_tiers_that_it_says() {
    each(|backend| {
        let folder = tempfile::tempdir().unwrap();
        let files = ModelFiles::one(ModelFormat::Onnx, model("add.onnx"));
        let tiers = backend.optimize(&files, &OpenOptions::default(), folder.path()).unwrap();
        match backend.kind() {
            BackendKind::OnnxRuntime => assert_eq!(tiers, [Tier::Baseline, Tier::Optimized]),
            BackendKind::OpenVino => assert_eq!(tiers, [Tier::Optimized]),
            _ => assert_eq!(tiers, []),
        }
        let written = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(written == 0, tiers.is_empty(), "{}", backend.kind());
    });
}

#[test]
fn a_form_takes_and_gives_what_its_model_does() {
    let endings = [ModelFormat::Onnx, ModelFormat::OpenVinoIr, ModelFormat::TfLite];
    let files = std::fs::read_dir(model("")).unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        let format = *endings.iter().find(|format| path.extension().is_some_and(|end| end == format.extension()))?;
        let weights = (format == ModelFormat::OpenVinoIr).then(|| path.with_extension("bin"));
        Some(ModelFiles { format, model: path, weights })
    });
    let files: Vec<_> = files.collect();
    let options = OpenOptions::default();
    each(|backend| {
        let mut forms = 0;
        for files in files.iter().filter(|files| backend.opens(files.format)) {
            // Some lack operators or types in one library.
            let Ok(session) = backend.open(files, &options) else { continue };
            let folder = tempfile::tempdir().unwrap();
            let form = ModelFiles::one(files.format, folder.path());
            for &tier in backend.optimize(files, &options, folder.path()).unwrap() {
                let opened = backend.open(&form, &OpenOptions { tier, ..options }).unwrap();
                assert_eq!(opened.signature(), session.signature(), "{files} on {} in `{tier}`", backend.kind());
                forms += 1;
            }
        }
        assert_eq!(forms > 10, backend.kind() != BackendKind::Tract, "{forms} on {}", backend.kind());
    });
}

#[test]
fn magika_agrees_within_a_ten_thousandth() {
    // Two files: the bytes of a text again and again, and bytes that are none.
    let text = b"# A title\n\nSome words, and [a link](https://example.org).\n";
    let bytes = |index: usize| match index {
        0..2048 => i32::from(text[index % text.len()]),
        _ => i32::from(u8::try_from(index * 131 % 256).unwrap_or_default()),
    };
    let data = (0..4096).flat_map(|index| bytes(index).to_le_bytes()).collect();
    agree("magika/model.onnx", &[named("bytes", tensor(DType::I32, &[2, 2048], data))], 1e-4);
}

/// The weights are int8, and each library rounds activations to int8 in its own places, so answers differ by such steps. The largest
/// values are near 5; OpenVINO was seen to differ from ONNX Runtime by 0.07. The embedding that is made of them differs far less:
/// the integration tests compare it with its reference.
const INT8_STEPS: f32 = 0.3;

#[test]
fn an_int8_transformer_agrees_within_its_steps() {
    // `[CLS] a cat sat on the mat [SEP]`, and a shorter text behind which nothing is attended to.
    let ids = [101, 1037, 4937, 2938, 2006, 1996, 13_523, 102, 101, 1037, 18_401, 102, 0, 0, 0, 0];
    let mask = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0];
    let inputs = [
        named("input_ids", i64s(&[2, 8], &ids)),
        named("attention_mask", i64s(&[2, 8], &mask)),
        named("token_type_ids", i64s(&[2, 8], &[0; 16])),
    ];
    agree("minilm/model.onnx", &inputs, INT8_STEPS);
}
