//! The Open Inference Protocol: what it answers, and how it refuses.

use super::{
    Client, add, block_on, check, client, input, is_sum,
    proto::inference::{
        InferParameter, InferTensorContents, ModelInferRequest, ModelMetadataRequest, ModelReadyRequest,
        ServerLiveRequest, ServerMetadataRequest, ServerReadyRequest, infer_parameter::ParameterChoice,
        model_infer_request::InferRequestedOutputTensor,
    },
    sum, typed_sum,
};
use crate::fixture::{TestHost, skipped_without_onnxruntime};
use serde_json::json;
use tonic::{Code, transport::Channel};

/// What `edit` makes of a right request is refused with `code`, and the text has all of `words`.
async fn refused(client: &mut Client<Channel>, edit: impl FnOnce(&mut ModelInferRequest), code: Code, words: &[&str]) {
    let mut request = sum();
    edit(&mut request);
    check(&client.model_infer(request).await.unwrap_err(), code, words);
    // Whatever it was, the connection is as good as ever.
    is_sum(client.model_infer(sum()).await.unwrap().get_ref());
}

#[test]
fn an_inference_is_answered_raw() {
    let host = add();
    block_on(async {
        let mut client = client(&host).await;
        for (version, mut request) in [("", sum()), ("1", typed_sum()), ("0.1.0", sum())] {
            request.model_version = version.into();
            request.id = "the caller's id".into();
            let answer = client.model_infer(request).await.unwrap();
            assert!(answer.metadata().get("server-timing").is_some(), "{:?}", answer.metadata());
            is_sum(answer.get_ref());
            assert_eq!(answer.get_ref().id, "the caller's id");
        }
        let answer = client.model_infer(sum()).await.unwrap().into_inner();
        assert_eq!(answer.id, "");
        assert!(answer.outputs[0].contents.is_none());
    });
    // Over HTTP it is the same function.
    let row = |name: &str| json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0] });
    host.infer("add", &json!({ "inputs": [row("x"), row("y")] })).status(200);
}

#[test]
fn no_rows_are_an_answer_too() {
    let host = add();
    block_on(async {
        let mut request = sum();
        for (input, raw) in request.inputs.iter_mut().zip(&mut request.raw_input_contents) {
            input.shape = vec![0, 4];
            raw.clear();
        }
        let mut client = client(&host).await;
        let raw = client.model_infer(request.clone()).await.unwrap().into_inner();
        request.raw_input_contents.clear();
        let typed = client.model_infer(request).await.unwrap().into_inner();
        assert_eq!(raw, typed);
        assert_eq!((raw.outputs[0].shape.as_slice(), raw.raw_output_contents), (&[0, 4][..], vec![vec![]]));
    });
}

#[test]
fn the_host_and_its_models_are_described_without_waking_any() {
    let host = add();
    block_on(async {
        let mut client = client(&host).await;
        assert!(client.server_live(ServerLiveRequest {}).await.unwrap().get_ref().live);
        assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().get_ref().ready);
        assert_eq!(client.server_metadata(ServerMetadataRequest {}).await.unwrap().get_ref().name, "torpor");
        for (name, version, ready) in
            [("add", "", true), ("add", "1", true), ("add", "2", false), ("nobody", "", false)]
        {
            let request = ModelReadyRequest { name: name.into(), version: version.into() };
            assert_eq!(client.model_ready(request).await.unwrap().get_ref().ready, ready, "{name} {version}");
        }
        let request = ModelMetadataRequest { name: "add".into(), version: String::new() };
        let metadata = client.model_metadata(request).await.unwrap().into_inner();
        assert_eq!((metadata.name.as_str(), metadata.platform.as_str()), ("add", "torpor_wasm"));
        assert_eq!(metadata.versions, ["1"]);
        let tensor = |tensor: &super::proto::inference::model_metadata_response::TensorMetadata| {
            (tensor.name.clone(), tensor.datatype.clone(), tensor.shape.clone())
        };
        let expected = |name: &str| (name.to_owned(), "FP32".to_owned(), vec![-1, 4]);
        assert_eq!(metadata.inputs.iter().map(tensor).collect::<Vec<_>>(), [expected("x"), expected("y")]);
        assert_eq!(metadata.outputs.iter().map(tensor).collect::<Vec<_>>(), [expected("z")]);
        for (name, version) in [("nobody", ""), ("add", "9")] {
            let request = ModelMetadataRequest { name: name.into(), version: version.into() };
            check(&client.model_metadata(request).await.unwrap_err(), Code::NotFound, &[]);
        }
    });
    assert_eq!(host.status("add")["state"], "Cold");
}

#[test]
fn what_is_wrong_with_a_request_is_named() {
    let host = add();
    block_on(async {
        let client = &mut client(&host).await;
        let invalid = Code::InvalidArgument;
        refused(client, |request| request.model_name = "nobody".into(), Code::NotFound, &["no model `nobody`"]).await;
        refused(client, |request| request.model_name.clear(), Code::NotFound, &["no model"]).await;
        refused(client, |request| request.model_version = "9".into(), Code::NotFound, &["no version `9`"]).await;
        refused(client, |request| request.inputs[1].name = "w".into(), invalid, &["`w`", "`x`, `y`"]).await;
        refused(client, |request| request.inputs[1].name = "x".into(), invalid, &["`x`", "twice"]).await;
        refused(client, |request| request.inputs[1].datatype = "INT32".into(), invalid, &["`y`", "FP32", "INT32"])
            .await;
        refused(client, |request| request.inputs[1].datatype = "FLOAT".into(), invalid, &["`y`", "`FLOAT`"]).await;
        refused(client, |request| request.inputs[0].shape = vec![4], invalid, &["`x`", "[4]"]).await;
        refused(client, |request| request.inputs[0].shape = vec![2, 2], invalid, &["`x`", "[2, 2]"]).await;
        refused(client, |request| request.inputs[0].shape = vec![-1, 4], invalid, &["`x`", "-1"]).await;
        refused(client, |request| request.inputs[0].shape = vec![2, 4], invalid, &["`x`", "32 bytes", "16"]).await;
        refused(client, |request| request.inputs[0].shape = vec![1 << 62, 4], invalid, &["`x`"]).await;
        refused(client, |request| request.inputs[0].shape = vec![1; 100], invalid, &["`x`", "dimensions"]).await;
        refused(client, |request| request.raw_input_contents[0].truncate(15), invalid, &["`x`", "16 bytes", "15"])
            .await;
        refused(client, |request| request.raw_input_contents.truncate(1), invalid, &["2 inputs", "1 tensors"]).await;
        refused(
            client,
            |request| {
                request.inputs.truncate(1);
                request.raw_input_contents.truncate(1);
            },
            invalid,
            &["`y`", "missing"],
        )
        .await;
        refused(
            client,
            |request| request.inputs[0].contents = typed_sum().inputs[0].contents.clone(),
            invalid,
            &["`x`"],
        )
        .await;
        let output = |name: &str| InferRequestedOutputTensor { name: name.into(), ..Default::default() };
        refused(client, |request| request.outputs = vec![output("w")], invalid, &["`w`", "`z`"]).await;
        refused(client, |request| request.outputs = vec![output("z"), output("z")], invalid, &["`z`"]).await;
        let region = InferParameter { parameter_choice: Some(ParameterChoice::StringParam("region".into())) };
        let parameters = [("shared_memory_region".to_owned(), region)];
        refused(client, |request| request.inputs[0].parameters = parameters.into(), invalid, &["`x`", "shared memory"])
            .await;
    });
}

#[test]
fn contents_that_do_not_fit_are_named() {
    let host = TestHost::builder().function("probe-types", |manifest| manifest).start();
    block_on(async {
        let mut client = client(&host).await;
        let contents = |contents: fn(&mut InferTensorContents)| {
            let mut all = InferTensorContents::default();
            contents(&mut all);
            Some(all)
        };
        for (datatype, shape, contents, words) in [
            (
                "INT8",
                1,
                contents(|all| all.int_contents = vec![128]),
                &["`in`", "element 0 is 128, which is no INT8"][..],
            ),
            ("UINT16", 2, contents(|all| all.uint_contents = vec![1, 65536]), &["`in`", "element 1 is 65536"]),
            ("INT32", 2, contents(|all| all.int_contents = vec![1]), &["`in`", "2 elements", "1"]),
            ("INT64", 1, contents(|all| all.int_contents = vec![1]), &["`in`", "`int64_contents`", "`int_contents`"]),
            ("FP16", 1, contents(|all| all.fp32_contents = vec![1.0]), &["`in`", "FP16", "raw_input_contents"]),
            ("BYTES", 3, contents(|all| all.bytes_contents = vec![vec![1]]), &["`in`", "3 elements", "1"]),
            ("BOOL", 1, None, &["`in`", "1 elements", "0"]),
        ] {
            let input = super::InferInputTensor { contents, ..input("in", datatype, &[shape]) };
            let request =
                ModelInferRequest { model_name: "probe-types".into(), inputs: vec![input], ..Default::default() };
            check(&client.model_infer(request).await.unwrap_err(), Code::InvalidArgument, words);
        }
        for (datatype, raw) in [("BYTES", &[9, 0, 0, 0, 1][..]), ("BYTES", &[1]), ("BOOL", &[2])] {
            let request = ModelInferRequest {
                model_name: "probe-types".into(),
                inputs: vec![input("in", datatype, &[1])],
                raw_input_contents: vec![raw.to_vec()],
                ..Default::default()
            };
            check(&client.model_infer(request).await.unwrap_err(), Code::InvalidArgument, &["`in`"]);
        }
    });
}

/// Two elements of every type, raw, and typed where there is such a form.
#[rustfmt::skip]
fn every_type() -> Vec<(&'static str, Vec<u8>, Option<InferTensorContents>)> {
    let typed = |set: fn(&mut InferTensorContents)| {
        let mut contents = InferTensorContents::default();
        set(&mut contents);
        Some(contents)
    };
    vec![
        ("bool", vec![1, 0], typed(|all| all.bool_contents = vec![true, false])),
        ("uint8", vec![0, 255], typed(|all| all.uint_contents = vec![0, 255])),
        ("uint16", vec![0, 0, 255, 255], typed(|all| all.uint_contents = vec![0, 65535])),
        ("uint32", [0, u32::MAX].map(u32::to_le_bytes).concat(), typed(|all| all.uint_contents = vec![0, u32::MAX])),
        ("uint64", [0, u64::MAX].map(u64::to_le_bytes).concat(), typed(|all| all.uint64_contents = vec![0, u64::MAX])),
        ("int8", vec![128, 127], typed(|all| all.int_contents = vec![-128, 127])),
        ("int16", [i16::MIN, 1].map(i16::to_le_bytes).concat(), typed(|all| all.int_contents = vec![-32768, 1])),
        ("int32", [i32::MIN, 1].map(i32::to_le_bytes).concat(), typed(|all| all.int_contents = vec![i32::MIN, 1])),
        ("int64", [i64::MIN, 1].map(i64::to_le_bytes).concat(), typed(|all| all.int64_contents = vec![i64::MIN, 1])),
        ("fp16", vec![0, 0x38, 0xff, 0xfb], None),
        ("bf16", vec![0, 0x3f, 0x80, 0xbf], None),
        ("fp32", [0.1, -1e30].map(f32::to_le_bytes).concat(), typed(|all| all.fp32_contents = vec![0.1, -1e30])),
        ("fp64", [0.1, -1e300].map(f64::to_le_bytes).concat(), typed(|all| all.fp64_contents = vec![0.1, -1e300])),
        ("bytes", vec![0, 0, 0, 0, 2, 0, 0, 0, 0xff, 0], typed(|all| all.bytes_contents = vec![vec![], vec![0xff, 0]])),
    ]
}

#[test]
fn every_datatype_goes_through_a_guest_and_back() {
    let host = TestHost::builder().function("probe-types", |manifest| manifest).start();
    block_on(async {
        let mut client = client(&host).await;
        let mut request = ModelInferRequest {
            model_name: "probe-types".into(),
            inputs: vec![input("command", "BYTES", &[1])],
            raw_input_contents: vec![b"\x04\0\0\0echo".to_vec()],
            ..Default::default()
        };
        for (name, raw, _) in every_type() {
            request.inputs.push(input(name, &name.to_uppercase(), &[2]));
            request.raw_input_contents.push(raw);
        }
        let answer = client.model_infer(request).await.unwrap().into_inner();
        for (name, raw, _) in every_type() {
            assert_eq!(output(&answer, name), raw, "{name}");
        }
    });
}

#[test]
fn every_datatype_goes_through_a_native_model_and_back() {
    if skipped_without_onnxruntime() {
        return;
    }
    let host = TestHost::builder().function("types", |manifest| manifest).start();
    block_on(async {
        let mut client = client(&host).await;
        let mut request = ModelInferRequest { model_name: "types".into(), ..Default::default() };
        for (name, raw, _) in every_type() {
            request.inputs.push(input(name, &name.to_uppercase(), &[2]));
            request.raw_input_contents.push(raw);
        }
        // What a byte string of a model holds is text.
        *request.raw_input_contents.last_mut().unwrap() = b"\0\0\0\0\x02\0\0\0ab".to_vec();
        let answer = client.model_infer(request).await.unwrap().into_inner();
        for (name, raw, _) in every_type().into_iter().filter(|(name, ..)| *name != "bytes") {
            assert_eq!(output(&answer, &format!("{name}_out")), raw, "{name}");
        }
        assert_eq!(output(&answer, "bytes_out"), b"\0\0\0\0\x02\0\0\0ab");
    });
}

#[test]
fn contents_of_every_type_are_the_same_as_raw_ones() {
    let host = TestHost::builder().function("probe-types", |manifest| manifest).start();
    block_on(async {
        let mut client = client(&host).await;
        let command = InferTensorContents { bytes_contents: vec![b"pass".to_vec()], ..Default::default() };
        let mut request = ModelInferRequest { model_name: "probe-types".into(), ..Default::default() };
        request.inputs.push(super::InferInputTensor { contents: Some(command), ..input("command", "BYTES", &[1]) });
        for (name, _, contents) in every_type() {
            // Those that have no such form can only be empty.
            let shape = if contents.is_some() { 2 } else { 0 };
            let head = input(name, &name.to_uppercase(), &[shape]);
            request.inputs.push(super::InferInputTensor { contents, ..head });
        }
        let answer = client.model_infer(request).await.unwrap().into_inner();
        for (name, raw, contents) in every_type() {
            let raw = if contents.is_some() { raw } else { Vec::new() };
            assert_eq!(output(&answer, name), raw, "{name}");
        }
    });
}

/// The data of an output.
#[track_caller]
fn output<'a>(answer: &'a super::ModelInferResponse, name: &str) -> &'a [u8] {
    let place = answer.outputs.iter().position(|output| output.name == name);
    &answer.raw_output_contents[place.unwrap_or_else(|| panic!("no output `{name}`"))]
}

#[test]
fn a_caller_gets_the_outputs_it_asks_for_in_their_order() {
    let host = TestHost::builder().function("filetype", |manifest| manifest).start();
    block_on(async {
        let mut client = client(&host).await;
        for names in [&["score", "label"][..], &["label", "mime_type", "score"], &["mime_type"]] {
            let outputs =
                names.iter().map(|&name| InferRequestedOutputTensor { name: name.into(), ..Default::default() });
            let request = ModelInferRequest {
                model_name: "filetype".into(),
                inputs: vec![input("content", "BYTES", &[1])],
                outputs: outputs.collect(),
                raw_input_contents: vec![b"\x02\0\0\0{}".to_vec()],
                ..Default::default()
            };
            let answer = client.model_infer(request).await.unwrap().into_inner();
            assert_eq!(answer.outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>(), names);
            assert_eq!(answer.raw_output_contents.len(), names.len());
        }
    });
}

#[test]
fn a_guests_refusal_reaches_the_caller_and_its_failure_does_not() {
    let host = TestHost::builder().function("probe", |manifest| manifest).start();
    block_on(async {
        let mut client = client(&host).await;
        let mut ask = async |command: &str| {
            let length = u32::try_from(command.len()).unwrap().to_le_bytes();
            let request = ModelInferRequest {
                model_name: "probe".into(),
                inputs: vec![input("command", "BYTES", &[1]), input("x", "FP32", &[1])],
                raw_input_contents: vec![[&length, command.as_bytes()].concat(), vec![0; 4]],
                ..Default::default()
            };
            client.model_infer(request).await
        };
        check(&ask("invalid").await.unwrap_err(), Code::InvalidArgument, &["command", "asked to refuse"]);
        for command in ["fail", "trap"] {
            let status = ask(command).await.unwrap_err();
            check(&status, Code::Internal, &["`probe` failed to answer"]);
            assert!(!status.message().contains("asked"), "{status}");
        }
        ask("pass").await.unwrap();
    });
}
