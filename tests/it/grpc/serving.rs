//! TF Serving's services.

use super::{
    add, block_on, check, connect,
    proto::tensorflow::{
        DataType, TensorProto, TensorShapeProto,
        serving::{
            GetModelMetadataRequest, GetModelStatusRequest, ModelSpec, PredictRequest, PredictResponse,
            SignatureDefMap, model_service_client::ModelServiceClient, model_spec::VersionChoice,
            model_version_status::State, prediction_service_client::PredictionServiceClient,
        },
        tensor_shape_proto::Dim,
    },
};
use crate::fixture::TestHost;
use prost::Message;
use tonic::{Code, transport::Channel};

fn tensor(dtype: DataType, dims: &[i64]) -> TensorProto {
    let dim = dims.iter().map(|&size| Dim { size, name: String::new() }).collect();
    TensorProto {
        dtype: dtype.into(),
        tensor_shape: Some(TensorShapeProto { dim, unknown_rank: false }),
        ..Default::default()
    }
}

fn spec(name: &str, version_choice: Option<VersionChoice>) -> Option<ModelSpec> {
    Some(ModelSpec { name: name.into(), version_choice, signature_name: String::new() })
}

/// A right request: one input as numbers of which the last is repeated, and one as bytes.
fn sum() -> PredictRequest {
    let x = TensorProto { float_val: vec![1.0, 2.0], ..tensor(DataType::DtFloat, &[1, 4]) };
    let y = TensorProto {
        tensor_content: super::floats(&[1.0, 2.0, 3.0, 4.0]).into(),
        ..tensor(DataType::DtFloat, &[1, 4])
    };
    PredictRequest {
        model_spec: spec("add", None),
        inputs: [("x".to_owned(), x), ("y".to_owned(), y)].into(),
        output_filter: vec![],
    }
}

#[track_caller]
fn is_sum(answer: &PredictResponse) {
    let expected = TensorProto { float_val: vec![2.0, 4.0, 5.0, 6.0], ..tensor(DataType::DtFloat, &[1, 4]) };
    assert_eq!(answer.outputs.get("z"), Some(&expected));
    assert_eq!(answer.outputs.len(), 1);
    let spec = answer.model_spec.as_ref().expect("a model");
    assert_eq!((spec.name.as_str(), spec.signature_name.as_str()), ("add", "serving_default"));
    assert_eq!(spec.version_choice, Some(VersionChoice::Version(1)));
}

#[test]
fn a_prediction_is_answered_with_numbers() {
    let host = add();
    block_on(async {
        let mut client = PredictionServiceClient::new(connect(&host).await);
        let label = VersionChoice::VersionLabel("0.1.0".into());
        for version in [None, Some(VersionChoice::Version(1)), Some(label)] {
            let request = PredictRequest { model_spec: spec("add", version), ..sum() };
            is_sum(client.predict(request).await.unwrap().get_ref());
        }
        let request = PredictRequest { output_filter: vec!["z".into()], ..sum() };
        is_sum(client.predict(request).await.unwrap().get_ref());
    });
}

async fn refused(
    client: &mut PredictionServiceClient<Channel>,
    edit: impl FnOnce(&mut PredictRequest),
    code: Code,
    words: &[&str],
) {
    let mut request = sum();
    edit(&mut request);
    check(&client.predict(request).await.unwrap_err(), code, words);
    is_sum(client.predict(sum()).await.unwrap().get_ref());
}

#[test]
fn what_is_wrong_with_a_request_is_named() {
    let host = add();
    block_on(async {
        let client = &mut PredictionServiceClient::new(connect(&host).await);
        let invalid = Code::InvalidArgument;
        let version = |number| Some(VersionChoice::Version(number));
        let x =
            |tensor: TensorProto| move |request: &mut PredictRequest| drop(request.inputs.insert("x".into(), tensor));
        refused(client, |request| request.model_spec = spec("nobody", None), Code::NotFound, &["`nobody`"]).await;
        refused(client, |request| request.model_spec = spec("add", version(9)), Code::NotFound, &["`9`"]).await;
        refused(client, |request| request.model_spec = None, invalid, &["model_spec"]).await;
        refused(client, |request| drop(request.inputs.remove("y")), invalid, &["`y`", "missing"]).await;
        refused(
            client,
            |request| drop(request.inputs.insert("w".into(), tensor(DataType::DtFloat, &[0]))),
            invalid,
            &["`w`"],
        )
        .await;
        refused(client, |request| request.output_filter = vec!["w".into()], invalid, &["`w`", "`z`"]).await;
        let floats =
            |numbers: &[f32], dims| TensorProto { float_val: numbers.into(), ..tensor(DataType::DtFloat, dims) };
        refused(client, x(floats(&[1.0; 5], &[1, 4])), invalid, &["`x`", "4 elements", "5"]).await;
        refused(client, x(floats(&[], &[1, 4])), invalid, &["`x`", "none in `float_val`"]).await;
        refused(client, x(floats(&[1.0], &[-1, 4])), invalid, &["`x`", "-1"]).await;
        refused(client, x(floats(&[1.0], &[4])), invalid, &["`x`", "[4]"]).await;
        refused(client, x(floats(&[1.0], &[1 << 40, 4])), invalid, &["`x`", "limit of 4096"]).await;
        refused(client, x(floats(&[1.0], &[1 << 62, 4])), invalid, &["`x`", "too many"]).await;
        refused(client, x(tensor(DataType::DtComplex64, &[1, 4])), invalid, &["`x`", "DT_COMPLEX64"]).await;
        let doubles = TensorProto { double_val: vec![1.0], ..tensor(DataType::DtDouble, &[1, 4]) };
        refused(client, x(doubles), invalid, &["`x`", "FP32", "FP64"]).await;
        let cut = TensorProto { tensor_content: vec![0; 15], ..tensor(DataType::DtFloat, &[1, 4]) };
        refused(client, x(cut), invalid, &["`x`", "16 bytes", "15"]).await;
    });
}

#[test]
fn strings_and_small_numbers_are_carried() {
    let host = TestHost::builder().function("probe-types", |manifest| manifest).start();
    block_on(async {
        let mut client = PredictionServiceClient::new(connect(&host).await);
        let command = TensorProto { string_val: vec![b"echo".to_vec()], ..tensor(DataType::DtString, &[1]) };
        let ints = |dtype, numbers: &[i32]| TensorProto { int_val: numbers.into(), ..tensor(dtype, &[2]) };
        let halves = |dtype| TensorProto { half_val: vec![0x3800, 0x3c00], ..tensor(dtype, &[2]) };
        let inputs = [
            ("bool", TensorProto { bool_val: vec![true, false], ..tensor(DataType::DtBool, &[2]) }),
            ("uint8", ints(DataType::DtUint8, &[0, 255])),
            ("uint16", ints(DataType::DtUint16, &[0, 65535])),
            ("uint32", TensorProto { uint32_val: vec![0, u32::MAX], ..tensor(DataType::DtUint32, &[2]) }),
            ("uint64", TensorProto { uint64_val: vec![0, u64::MAX], ..tensor(DataType::DtUint64, &[2]) }),
            ("int8", ints(DataType::DtInt8, &[-128, 127])),
            ("int16", ints(DataType::DtInt16, &[-32768, 1])),
            ("int32", ints(DataType::DtInt32, &[i32::MIN, 1])),
            ("int64", TensorProto { int64_val: vec![i64::MIN, 1], ..tensor(DataType::DtInt64, &[2]) }),
            ("fp16", halves(DataType::DtHalf)),
            ("bf16", halves(DataType::DtBfloat16)),
            ("fp32", TensorProto { float_val: vec![0.1, -1e30], ..tensor(DataType::DtFloat, &[2]) }),
            ("fp64", TensorProto { double_val: vec![0.1, -1e300], ..tensor(DataType::DtDouble, &[2]) }),
            ("bytes", TensorProto { string_val: vec![vec![], vec![0xff, 0]], ..tensor(DataType::DtString, &[2]) }),
        ]
        .map(|(name, tensor)| (name.to_owned(), tensor));
        let mut request =
            PredictRequest { model_spec: spec("probe-types", None), inputs: inputs.clone().into(), ..sum() };
        request.inputs.insert("command".into(), command);
        let answer = client.predict(request).await.unwrap().into_inner();
        assert_eq!(answer.outputs, inputs.into());
    });
}

#[test]
fn a_model_tells_its_signature_and_its_status() {
    let host = add();
    block_on(async {
        let channel = connect(&host).await;
        let mut client = PredictionServiceClient::new(channel.clone());
        let request =
            GetModelMetadataRequest { model_spec: spec("add", None), metadata_field: vec!["signature_def".into()] };
        let metadata = client.get_model_metadata(request.clone()).await.unwrap().into_inner();
        let any = &metadata.metadata["signature_def"];
        let map = SignatureDefMap::decode(any.value.as_slice()).unwrap();
        let signature = &map.signature_def["serving_default"];
        assert_eq!(signature.method_name, "tensorflow/serving/predict");
        assert_eq!(signature.inputs["x"].dtype(), DataType::DtFloat);
        let shape = signature.outputs["z"].tensor_shape.clone().unwrap();
        assert_eq!(shape.dim.iter().map(|dim| dim.size).collect::<Vec<_>>(), [-1, 4]);
        for fields in [vec![], vec!["weights".into()]] {
            let request = GetModelMetadataRequest { metadata_field: fields, ..request.clone() };
            check(&client.get_model_metadata(request).await.unwrap_err(), Code::InvalidArgument, &["`signature_def`"]);
        }
        let request = GetModelMetadataRequest { model_spec: spec("nobody", None), ..request };
        check(&client.get_model_metadata(request).await.unwrap_err(), Code::NotFound, &["`nobody`"]);

        let mut client = ModelServiceClient::new(channel);
        let status = client.get_model_status(GetModelStatusRequest { model_spec: spec("add", None) }).await.unwrap();
        let status = &status.get_ref().model_version_status;
        assert_eq!((status.len(), status[0].version, status[0].state()), (1, 1, State::Available));
        let unknown = client.get_model_status(GetModelStatusRequest { model_spec: spec("nobody", None) }).await;
        check(&unknown.unwrap_err(), Code::NotFound, &["`nobody`"]);
    });
    assert_eq!(host.status("add")["state"], "Cold");
}
