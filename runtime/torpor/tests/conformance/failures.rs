//! What goes wrong is an error value, and harms no later run.

use crate::fixture::{each, f32s, model, named, open, run, square, try_open};
use std::{fs, sync::mpsc, time::Instant};
use torpor_nn::{Cancel, Error, OpenOptions};

#[test]
fn a_damaged_model_is_refused() {
    let whole = fs::read(model("sums.onnx")).expect("it is there");
    let folder = tempfile::tempdir().expect("a folder");
    each(|backend| {
        for (name, content) in [("half", &whole[..whole.len() / 2]), ("garbage", &[0x5a; 300][..]), ("empty", &[])] {
            let path = folder.path().join(name);
            fs::write(&path, content).expect("it can be written");
            let error = try_open(backend, &path, &OpenOptions::default()).err();
            let error = error.unwrap_or_else(|| panic!("{} opens a file that is {name}", backend.kind()));
            assert!(
                matches!(&error, Error::Open { model, reason, .. } if model.ends_with(name) && !reason.is_empty()),
                "{error}"
            );
        }
        let gone = try_open(backend, &folder.path().join("gone"), &OpenOptions::default()).err();
        assert!(matches!(gone, Some(Error::Open { .. })), "{gone:?}");
    });
}

#[test]
fn an_operator_that_no_library_has_is_named() {
    each(|backend| {
        let opened = try_open(backend, &model("unsupported.onnx"), &OpenOptions::default());
        let error = opened.err().expect("no library has it").to_string();
        assert!(error.contains("Hum"), "{error}");
    });
}

#[test]
fn shapes_that_do_not_fit_each_other_are_the_inputs_fault() {
    each(|backend| {
        let session = open(backend, "sums.onnx");
        let inputs = [named("a", f32s(&[2, 3], &[1.0; 6])), named("b", f32s(&[4, 5], &[1.0; 20]))];
        let error = run(&*session, &inputs).expect_err("they cannot be added");
        assert!(matches!(error, Error::Rejected { .. }), "{error:?}");
        let inputs = ["a", "b"].map(|name| named(name, f32s(&[1, 1], &[1.0])));
        run(&*session, &inputs).expect("the next run is not harmed");
    });
}

#[test]
fn a_run_that_was_cancelled_before_it_began_does_not_run() {
    each(|backend| {
        let session = open(backend, "chain.onnx");
        let cancel = Cancel::default();
        cancel.cancel();
        let answer = session.run(&[named("x", square(128))], &cancel);
        assert!(matches!(answer, Err(Error::Cancelled)), "{answer:?}");
    });
}

#[test]
fn a_run_under_way_is_cancelled() {
    each(|backend| {
        let session = open(backend, "chain.onnx");
        let inputs = [named("x", square(768))];
        let start = Instant::now();
        let whole = run(&*session, &inputs).expect("it runs to its end");
        let part = start.elapsed() / 8;

        let cancel = Cancel::default();
        let (ended, end) = mpsc::channel::<()>();
        let answer = std::thread::scope(|scope| {
            let other = cancel.clone();
            // A deadline, as a request has one.
            scope.spawn(move || match end.recv_timeout(part) {
                Err(mpsc::RecvTimeoutError::Timeout) => other.cancel(),
                _ => panic!("the run ended before its deadline of {part:?}"),
            });
            let answer = session.run(&inputs, &cancel);
            drop(ended);
            answer
        });
        assert!(matches!(answer, Err(Error::Cancelled)), "{:?}", answer.map(|_| "it ran to its end"));
        assert_eq!(run(&*session, &inputs).expect("the next run is not harmed"), whole);
        // A cancellation that comes when nothing runs is of no effect.
        cancel.cancel();
        run(&*session, &[named("x", square(8))]).expect("it is another run");
    });
}
