//! What the manifest may ask of a backend: it is done, or refused with what is missing.

use crate::fixture::{difference, each, f32s, floats, model, named, on, open, run, square, try_open};
use std::num::NonZeroUsize;
use torpor_nn::{Backend, BackendKind, Device, Error, ModelFiles, ModelFormat, OpenOptions, Precision, Tier};

#[track_caller]
fn refused(backend: &dyn Backend, options: &OpenOptions, words: &[&str]) {
    let reason = backend.accepts(options).expect_err("it is not here");
    for word in words {
        assert!(reason.contains(word), "`{word}` in {reason}");
    }
}

#[test]
fn the_processor_in_f32_is_everywhere() {
    each(|backend| {
        backend.accepts(&OpenOptions::default()).unwrap();
        assert!(backend.devices().iter().any(|device| device.eq_ignore_ascii_case("cpu")), "{:?}", backend.devices());
        assert!(!backend.version().is_empty());
    });
}

#[test]
fn a_device_that_is_not_here_is_refused_with_what_it_needs() {
    each(|backend| {
        let known: &[(Device, &[&str])] = match backend.kind() {
            BackendKind::OnnxRuntime => &[
                (Device::Cuda, &["CUDAExecutionProvider", "onnxruntime-gpu", "--onnxruntime"]),
                (Device::TensorRt, &["TensorrtExecutionProvider", "onnxruntime-gpu"]),
                (Device::Gpu, &["no device `gpu`", "openvino"]),
                (Device::Npu, &["no device `npu`", "openvino"]),
            ],
            BackendKind::OpenVino => &[
                (Device::Gpu, &["the device GPU", "driver", "plugin"]),
                (Device::Npu, &["the device NPU", "driver", "plugin"]),
                (Device::Cuda, &["no device `cuda`", "onnxruntime"]),
                (Device::TensorRt, &["no device `tensorrt`", "onnxruntime"]),
            ],
            _ => &[(Device::Cuda, &["no device `cuda`"]), (Device::Gpu, &["no device `gpu`"])],
        };
        for (device, words) in known {
            let options = OpenOptions { device: *device, ..OpenOptions::default() };
            // A machine that has it is no place for this test.
            if backend.accepts(&options).is_err() {
                refused(backend, &options, words);
                assert!(
                    try_open(backend, &model("add.onnx"), &options).is_err(),
                    "it took another device than {device}"
                );
            }
        }
    });
}

#[test]
fn another_precision_is_computed_in_or_refused() {
    each(|backend| {
        let exact = open(backend, "chain.onnx");
        let inputs = [named("x", square(96))];
        let exact = run(&*exact, &inputs).unwrap();
        for precision in [Precision::Bf16, Precision::F16] {
            let options = OpenOptions { precision, ..OpenOptions::default() };
            match backend.accepts(&options) {
                Err(reason) => {
                    assert!(reason.contains(precision.name()) && reason.contains("precision = "), "{reason}")
                }
                Ok(()) => {
                    let session = try_open(backend, &model("chain.onnx"), &options).unwrap();
                    let coarse = difference(&exact[0].1, &run(&*session, &inputs).unwrap()[0].1);
                    assert!(coarse > 1e-6, "{precision} gives what f32 gives");
                }
            }
        }
    });
}

#[test]
fn f32_is_f32_on_every_backend() {
    each(|backend| {
        let session = open(backend, "chain.onnx");
        let answer = run(&*session, &[named("x", square(96))]).unwrap().remove(0).1;
        // The powers of this matrix keep the sum of each row.
        let sum: f32 = floats(&answer).iter().take(96).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    });
}

#[test]
fn runs_at_the_same_time_do_not_mix() {
    each(|backend| {
        let two = NonZeroUsize::new(2).unwrap();
        let options = OpenOptions { threads: two, parallel: two, ..OpenOptions::default() };
        let session = try_open(backend, &model("sums.onnx"), &options).unwrap();
        std::thread::scope(|scope| {
            for number in 1..=4_u8 {
                let session = &session;
                scope.spawn(move || {
                    let value = f32::from(number);
                    let rows = u64::from(number);
                    let x = f32s(&[rows, 1], &vec![value; usize::from(number)]);
                    for _ in 0..100 {
                        let outputs = run(&**session, &[named("a", x.clone()), named("b", x.clone())]).unwrap();
                        assert_eq!(floats(&outputs[0].1), vec![value * 2.0; usize::from(number)]);
                    }
                });
            }
        });
    });
}

#[test]
fn openvino_says_what_it_runs_on() {
    on(BackendKind::OpenVino, |backend| {
        let library = backend.library().expect("it was loaded from somewhere");
        assert!(library.to_string_lossy().contains("openvino_c"), "{library:?}");
        assert!(backend.devices().contains(&"CPU".to_owned()), "{:?}", backend.devices());
    });
}

#[test]
fn openvino_makes_a_form_for_each_count_of_threads_and_opens_no_damaged_one() {
    on(BackendKind::OpenVino, |backend| {
        let files = ModelFiles::one(ModelFormat::Onnx, model("add.onnx"));
        let inputs = ["x", "y"].map(|name| named(name, f32s(&[2, 4], &[1.5; 8])));
        // Making it fails where the library opens the form with other threads or streams than the model itself.
        for [threads, parallel] in [[1, 1], [2, 2], [16, 2], [1, 1]].map(|counts| counts.map(NonZeroUsize::new)) {
            let folder = tempfile::tempdir().unwrap();
            let form = ModelFiles::one(ModelFormat::Onnx, folder.path());
            let (threads, parallel) = (threads.unwrap(), parallel.unwrap());
            let options = OpenOptions { threads, parallel, ..OpenOptions::default() };
            let optimized = OpenOptions { tier: Tier::Optimized, ..options };
            assert_eq!(backend.optimize(&files, &options, folder.path()).unwrap(), [Tier::Optimized]);
            let session = backend.open(&form, &optimized).unwrap();
            assert_eq!(run(&*session, &inputs).unwrap(), [named("z", f32s(&[2, 4], &[3.0; 8]))]);
            // It has the file mapped.
            drop(session);
            let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
            let bytes = std::fs::read(&file).unwrap();
            for length in [0, 1, 16, bytes.len() / 2] {
                std::fs::write(&file, &bytes[..length]).unwrap();
                let error = backend.open(&form, &optimized).err();
                assert!(matches!(error, Some(Error::Open { .. })), "{length} bytes of {}", bytes.len());
            }
        }
    });
}
