//! The health service, and server reflection.

use super::{
    add, block_on, check, connect,
    proto::{
        grpc::health::v1::{
            HealthCheckRequest, HealthListRequest, health_check_response::ServingStatus, health_client::HealthClient,
        },
        inference::ModelInferRequest,
    },
};
use crate::fixture::TestHost;
use futures::stream;
use prost::Message;
use rustix::process::Signal;
use tonic::Code;
use tonic_reflection::pb::{v1, v1alpha};

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

#[test]
fn the_host_and_each_model_have_a_health() {
    let host = TestHost::builder()
        .function("add", |manifest| manifest)
        .another("web", "probe", |manifest| manifest.without("trigger").set("trigger.http.path", "/fn/web"))
        .start();
    block_on(async {
        let mut client = HealthClient::new(connect(&host).await);
        for service in ["", "add"] {
            assert_eq!(client.check(of(service)).await.unwrap().get_ref().status(), ServingStatus::Serving);
        }
        for service in ["nobody", "web", "inference.GRPCInferenceService"] {
            check(&client.check(of(service)).await.unwrap_err(), Code::NotFound, &[service]);
        }
        let list = client.list(HealthListRequest {}).await.unwrap().into_inner();
        let mut names: Vec<_> = list.statuses.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["", "add"]);
    });
    // Being asked wakes nobody.
    assert_eq!(host.status("add")["state"], "Cold");
}

#[test]
fn who_watches_is_told_that_the_host_stops() {
    let host = add();
    block_on(async {
        let mut client = HealthClient::new(connect(&host).await);
        let mut unknown = client.watch(of("nobody")).await.unwrap().into_inner();
        assert_eq!(unknown.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
        drop(unknown);
        let mut changes = client.watch(of("add")).await.unwrap().into_inner();
        assert_eq!(changes.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
        host.signal(Signal::TERM);
        assert_eq!(changes.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        check(&changes.message().await.unwrap_err(), Code::Unavailable, &[]);
    });
    assert!(host.ended().success());
}

/// What tools ask for first, and what they need in order to call something.
const SERVICES: [&str; 4] = [
    "grpc.health.v1.Health",
    "inference.GRPCInferenceService",
    "tensorflow.serving.ModelService",
    "tensorflow.serving.PredictionService",
];

#[test]
fn services_are_described_to_tools() {
    let host = add();
    block_on(async {
        use v1::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let ask = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
        let mut client = ServerReflectionClient::new(connect(&host).await);
        let symbol = MessageRequest::FileContainingSymbol("inference.ModelInferRequest".into());
        let unknown = MessageRequest::FileContainingSymbol("no.Such".into());
        let questions = [ask(MessageRequest::ListServices(String::new())), ask(symbol), ask(unknown)];
        let mut answers = client.server_reflection_info(stream::iter(questions)).await.unwrap().into_inner();
        let Some(MessageResponse::ListServicesResponse(list)) =
            answers.message().await.unwrap().unwrap().message_response
        else {
            panic!("no list");
        };
        let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
        assert!(SERVICES.iter().all(|service| names.contains(service)), "{names:?}");
        let Some(MessageResponse::FileDescriptorResponse(file)) =
            answers.message().await.unwrap().unwrap().message_response
        else {
            panic!("no file");
        };
        let file = prost_types::FileDescriptorProto::decode(file.file_descriptor_proto[0].as_slice()).unwrap();
        assert!(file.message_type.iter().any(|message| message.name() == "ModelInferRequest"));
        assert_eq!(ModelInferRequest::default().encoded_len(), 0);
    });
}

#[test]
fn tools_that_ask_in_the_old_way_are_answered_too() {
    let host = add();
    block_on(async {
        use v1alpha::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let message = MessageRequest::ListServices(String::new());
        let question = ServerReflectionRequest { host: String::new(), message_request: Some(message) };
        let mut client = ServerReflectionClient::new(connect(&host).await);
        let mut answers = client.server_reflection_info(stream::iter([question])).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap();
        assert!(matches!(answer.message_response, Some(MessageResponse::ListServicesResponse(_))));
    });
}
