//! What Triton's clients ask of models besides inference. What it means is the same as over REST, where it is tested at length.

use super::{
    add, block_on, check, client, is_sum,
    proto::inference::{
        InferParameter, LogSettingsRequest, ModelConfigRequest, ModelInferRequest, ModelReadyRequest,
        ModelRepositoryParameter, ModelStatisticsRequest, RepositoryIndexRequest, RepositoryModelLoadRequest,
        RepositoryModelUnloadRequest, ServerMetadataRequest, TraceSettingRequest, infer_parameter::ParameterChoice,
        log_settings_request, model_infer_request::InferRequestedOutputTensor, model_repository_parameter,
        trace_setting_request,
    },
    sum,
};
use crate::fixture::TestHost;
use tonic::Code;

#[test]
fn callers_load_and_unload_where_the_operator_lets_them() {
    let host = TestHost::builder()
        .function("add", |manifest| manifest)
        .another("other", "add", |manifest| manifest)
        .flag("--model-control")
        .start();
    block_on(async {
        let mut client = client(&host).await;
        let metadata = client.server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner();
        for extension in ["classification", "statistics", "model_configuration", "model_repository"] {
            assert!(metadata.extensions.iter().any(|known| known == extension), "{:?}", metadata.extensions);
        }
        let order = |name: &str| RepositoryModelLoadRequest { model_name: name.into(), ..Default::default() };
        let other_order = |name: &str| RepositoryModelUnloadRequest { model_name: name.into(), ..Default::default() };
        client.repository_model_load(order("add")).await.unwrap();
        assert_eq!(host.status("add")["state"], "Warm");
        client.repository_model_unload(other_order("add")).await.unwrap();
        assert_eq!(host.status("add")["state"], "Cold");
        check(&client.model_infer(sum()).await.unwrap_err(), Code::Unavailable, &["`add` is unloaded"]);
        let ready = ModelReadyRequest { name: "add".into(), version: String::new() };
        assert!(!client.model_ready(ready).await.unwrap().get_ref().ready);
        let request = |ready| RepositoryIndexRequest { repository_name: String::new(), ready };
        let index = client.repository_index(request(false)).await.unwrap().into_inner().models;
        let index: Vec<_> = index
            .iter()
            .map(|model| [model.name.as_str(), model.version.as_str(), model.state.as_str(), model.reason.as_str()])
            .collect();
        assert_eq!(index, [["add", "1", "UNAVAILABLE", "unloaded"], ["other", "1", "READY", ""]]);
        assert_eq!(client.repository_index(request(true)).await.unwrap().get_ref().models.len(), 1);
        client.repository_model_load(order("add")).await.unwrap();
        is_sum(client.model_infer(sum()).await.unwrap().get_ref());

        check(&client.repository_model_load(order("nobody")).await.unwrap_err(), Code::NotFound, &["`nobody`"]);
        let choice = Some(model_repository_parameter::ParameterChoice::StringParam("{}".into()));
        let parameters = [("config".to_owned(), ModelRepositoryParameter { parameter_choice: choice })];
        let configured = RepositoryModelLoadRequest { parameters: parameters.into(), ..order("add") };
        let status = client.repository_model_load(configured).await.unwrap_err();
        check(&status, Code::InvalidArgument, &["`config`", "signed"]);
    });
}

#[test]
fn without_the_flag_nobody_loads_or_unloads() {
    let host = add();
    block_on(async {
        let mut client = client(&host).await;
        let load = RepositoryModelLoadRequest { model_name: "add".into(), ..Default::default() };
        let status = client.repository_model_load(load).await.unwrap_err();
        check(&status, Code::PermissionDenied, &["--model-control"]);
        let unload = RepositoryModelUnloadRequest { model_name: "add".into(), ..Default::default() };
        let status = client.repository_model_unload(unload).await.unwrap_err();
        check(&status, Code::PermissionDenied, &["--model-control"]);
        is_sum(client.model_infer(sum()).await.unwrap().get_ref());
    });
}

#[test]
fn models_tell_their_configuration_and_statistics() {
    let host = add();
    block_on(async {
        let mut client = client(&host).await;
        let request = |name: &str| ModelConfigRequest { name: name.into(), version: String::new() };
        let config = client.model_config(request("add")).await.unwrap().into_inner().config.expect("one");
        assert_eq!((config.name.as_str(), config.backend.as_str(), config.max_batch_size), ("add", "torpor", 0));
        assert_eq!(config.input[1].dims, [-1, 4]);
        assert_eq!(config.output[0].data_type().as_str_name(), "TYPE_FP32");
        check(&client.model_config(request("nobody")).await.unwrap_err(), Code::NotFound, &["`nobody`"]);

        is_sum(client.model_infer(sum()).await.unwrap().get_ref());
        let wrong = ModelInferRequest { inputs: vec![], raw_input_contents: vec![], ..sum() };
        check(&client.model_infer(wrong).await.unwrap_err(), Code::InvalidArgument, &[]);
        for name in ["", "add"] {
            let request = ModelStatisticsRequest { name: name.into(), version: String::new() };
            let models = client.model_statistics(request).await.unwrap().into_inner().model_stats;
            assert_eq!((models.len(), models[0].name.as_str(), models[0].version.as_str()), (1, "add", "1"));
            assert_eq!((models[0].inference_count, models[0].execution_count), (1, 1));
            let times = models[0].inference_stats.as_ref().expect("times");
            let success = times.success.as_ref().expect("successes");
            assert!(success.count == 1 && success.ns > 0, "{success:?}");
            assert_eq!(times.fail.as_ref().expect("failures").count, 1);
        }
        let request = ModelStatisticsRequest { name: "nobody".into(), version: String::new() };
        check(&client.model_statistics(request).await.unwrap_err(), Code::NotFound, &["`nobody`"]);
    });
}

#[test]
fn settings_can_be_read_and_not_changed() {
    let host = add();
    block_on(async {
        let mut client = client(&host).await;
        let trace = client.trace_setting(TraceSettingRequest::default()).await.unwrap().into_inner().settings;
        assert_eq!(trace["trace_level"].value, ["TIMESTAMPS"]);
        let order = |name: &str, value: &[&str]| {
            let value = trace_setting_request::SettingValue { value: value.iter().map(|&text| text.into()).collect() };
            TraceSettingRequest { settings: [(name.to_owned(), value)].into(), model_name: "add".into() }
        };
        client.trace_setting(order("trace_level", &["TIMESTAMPS"])).await.unwrap();
        client.trace_setting(order("trace_level", &[])).await.unwrap();
        for (name, value) in [("trace_level", "OFF"), ("no_such", "1")] {
            let status = client.trace_setting(order(name, &[value])).await.unwrap_err();
            check(&status, Code::InvalidArgument, &[name]);
        }
        let nobody = TraceSettingRequest { model_name: "nobody".into(), ..Default::default() };
        check(&client.trace_setting(nobody).await.unwrap_err(), Code::NotFound, &["`nobody`"]);

        let log = client.log_settings(LogSettingsRequest::default()).await.unwrap().into_inner().settings;
        assert!(log.contains_key("log_info") && log.contains_key("log_verbose_level"), "{log:?}");
        let choice = log_settings_request::setting_value::ParameterChoice::Uint32Param(9);
        let value = log_settings_request::SettingValue { parameter_choice: Some(choice) };
        let order = LogSettingsRequest { settings: [("log_verbose_level".to_owned(), value)].into() };
        check(&client.log_settings(order).await.unwrap_err(), Code::InvalidArgument, &["log_verbose_level"]);
    });
}

#[test]
fn classes_take_the_place_of_an_output() {
    let host = add();
    block_on(async {
        let mut client = client(&host).await;
        let asking = |choice| {
            let parameters = [("classification".to_owned(), InferParameter { parameter_choice: Some(choice) })];
            let output = InferRequestedOutputTensor { name: "z".into(), parameters: parameters.into() };
            ModelInferRequest { outputs: vec![output], ..sum() }
        };
        let answer = client.model_infer(asking(ParameterChoice::Int64Param(2))).await.unwrap().into_inner();
        assert_eq!((answer.outputs[0].datatype.as_str(), answer.outputs[0].shape.as_slice()), ("BYTES", &[1, 2][..]));
        assert_eq!(answer.raw_output_contents[0], b"\x06\0\0\x001004:3\x03\0\0\x002:1");
        let wrong = asking(ParameterChoice::StringParam("2".into()));
        check(&client.model_infer(wrong).await.unwrap_err(), Code::InvalidArgument, &["`z`", "classification"]);
        is_sum(client.model_infer(sum()).await.unwrap().get_ref());
    });
}
