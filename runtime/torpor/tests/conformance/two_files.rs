//! Models of two files: OpenVINO IR, which OpenVINO alone reads, gives what the same network in ONNX gives everywhere.

use crate::fixture::{backends, difference, each, f32s, model, named, on, open, run};
use std::{fs, path::Path};
use torpor_nn::{BackendKind, Error, ModelFiles, ModelFormat, OpenOptions, Tier};

fn species(model: &Path, weights: &Path) -> ModelFiles {
    ModelFiles { format: ModelFormat::OpenVinoIr, model: model.to_owned(), weights: Some(weights.to_owned()) }
}

#[test]
fn openvino_alone_reads_its_own_format() {
    each(|backend| {
        let reads = backend.kind() == BackendKind::OpenVino;
        assert_eq!(backend.opens(ModelFormat::OpenVinoIr), reads, "{}", backend.kind());
    });
}

#[test]
fn an_ir_gives_what_its_twin_in_onnx_gives_whatever_its_files_are_called() {
    let folder = tempfile::tempdir().expect("a folder");
    // As in a content store: no endings, and nothing that tells which belong together.
    let files = species(&folder.path().join("0123abcd"), &folder.path().join("89ef4567"));
    fs::copy(model("species.xml"), &files.model).expect("it can be copied");
    fs::copy(model("species.bin"), files.weights.as_ref().expect("weights")).expect("it can be copied");
    files.check().expect("they belong together");
    let lengths = f32s(&[3, 4], &[5.1, 3.5, 1.4, 0.2, 6.7, 3.0, 5.2, 2.3, 5.9, 3.0, 4.2, 1.5]);
    let inputs = [named("lengths", lengths)];
    // The libraries are loaded once a process.
    let backends = backends();
    let Some(openvino) = backends.iter().find(|backend| backend.kind() == BackendKind::OpenVino) else { return };
    let session = openvino.open(&files, &OpenOptions::default()).expect("it opens");
    let scores = run(&*session, &inputs).expect("it runs");
    for backend in &backends {
        let twin = open(&**backend, "species.onnx");
        assert_eq!(session.signature().inputs[0].dtype, twin.signature().inputs[0].dtype);
        let expected = run(&*twin, &inputs).expect("it runs");
        assert_eq!(scores[0].0, expected[0].0);
        let difference = difference(&scores[0].1, &expected[0].1);
        assert!(difference < 1e-6, "{} differs by {difference}", backend.kind());
    }
}

#[test]
fn the_compiled_form_of_an_ir_has_its_weights_in_it() {
    on(BackendKind::OpenVino, |openvino| {
        let (models, folder) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let files = species(&models.path().join("xml"), &models.path().join("bin"));
        fs::copy(model("species.xml"), &files.model).expect("it can be copied");
        fs::copy(model("species.bin"), files.weights.as_ref().expect("weights")).expect("it can be copied");
        let inputs = [named("lengths", f32s(&[1, 4], &[5.9, 3.0, 4.2, 1.5]))];
        let options = OpenOptions::default();
        let expected = run(&*openvino.open(&files, &options).expect("it opens"), &inputs).expect("it runs");
        openvino.optimize(&files, &options, folder.path()).expect("it has a form");
        models.close().expect("it is removed");
        let form = ModelFiles::one(ModelFormat::OpenVinoIr, folder.path());
        let session = openvino.open(&form, &OpenOptions { tier: Tier::Optimized, ..options }).expect("it opens");
        assert_eq!(run(&*session, &inputs).expect("it runs"), expected);
    });
}

#[test]
fn files_that_do_not_belong_together_are_refused_and_harm_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let short = folder.path().join("short");
    fs::write(&short, [0; 48]).expect("it can be written");
    let (xml, bin) = (model("species.xml"), model("species.bin"));
    let cases = [
        (species(&xml, &short), "cut short or another model's"),
        (species(&bin, &xml), "not the XML"),
        (species(&xml, &folder.path().join("gone")), "No such file"),
        (ModelFiles::one(ModelFormat::OpenVinoIr, &xml), "weights is missing"),
        (ModelFiles { format: ModelFormat::Onnx, ..species(&model("species.onnx"), &bin) }, "have no second file"),
    ];
    for (files, words) in &cases {
        let error = files.check().expect_err("they do not belong together").to_string();
        assert!(error.contains(words) && error.contains(&files.to_string()), "{error}");
    }
    on(BackendKind::OpenVino, |openvino| {
        for (files, _) in &cases[..3] {
            let error = openvino.open(files, &OpenOptions::default()).err().expect("it does not open");
            assert!(matches!(error, Error::Open { .. }), "{error}");
        }
        openvino.open(&species(&xml, &bin), &OpenOptions::default()).expect("the next one opens");
    });
}
