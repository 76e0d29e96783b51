//! `ModelStreamInfer`: a stream of requests, and a stream of answers.

use super::{
    add, block_on, check, client, is_sum,
    proto::inference::{InferParameter, ModelInferRequest, ModelStreamInferResponse, infer_parameter::ParameterChoice},
    sum,
};
use futures::{StreamExt, channel::mpsc, stream};
use rustix::process::Signal;
use tonic::Code;

fn named(id: usize) -> ModelInferRequest {
    ModelInferRequest { id: id.to_string(), ..sum() }
}

/// The answer of one message of a stream, which must be no error.
#[track_caller]
fn answered(message: &ModelStreamInferResponse) -> String {
    assert_eq!(message.error_message, "");
    let answer = message.infer_response.as_ref().expect("an answer");
    is_sum(answer);
    let last = Some(InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) });
    assert_eq!(answer.parameters.get("triton_final_response").cloned(), last);
    answer.id.clone()
}

#[test]
fn answers_come_in_the_order_of_their_requests() {
    let host = add();
    block_on(async {
        let mut client = client(&host).await;
        let requests = stream::iter((0..100).map(named));
        let mut answers = client.model_stream_infer(requests).await.unwrap().into_inner();
        for id in 0..100 {
            assert_eq!(answered(&answers.message().await.unwrap().unwrap()), id.to_string());
        }
        assert_eq!(answers.message().await.unwrap(), None);
    });
}

#[test]
fn an_answer_does_not_wait_for_the_next_request() {
    let host = add();
    block_on(async {
        let mut client = client(&host).await;
        let (requests, receiver) = mpsc::unbounded();
        let mut answers = client.model_stream_infer(receiver).await.unwrap().into_inner();
        for id in 0..3 {
            requests.unbounded_send(named(id)).unwrap();
            assert_eq!(answered(&answers.message().await.unwrap().unwrap()), id.to_string());
        }
        drop(requests);
        assert_eq!(answers.message().await.unwrap(), None);
    });
}

#[test]
fn an_error_is_told_in_the_stream_which_goes_on() {
    let host = add();
    block_on(async {
        let mut client = client(&host).await;
        let mut wrong = named(1);
        wrong.inputs[0].name = "w".into();
        let unknown = ModelInferRequest { model_name: "nobody".into(), ..named(2) };
        let mut malformed = named(3);
        malformed.inputs[0].datatype = "FLOAT".into();
        let requests = stream::iter([named(0), wrong, unknown, malformed, named(4)]);
        let answers = client.model_stream_infer(requests).await.unwrap().into_inner();
        let answers: Vec<_> = answers.map(Result::unwrap).collect().await;
        assert_eq!(answered(&answers[0]), "0");
        for (id, word) in [(1, "`w`"), (2, "`nobody`"), (3, "`FLOAT`")] {
            let message = &answers[id];
            assert!(message.error_message.contains(word), "{}", message.error_message);
            assert_eq!(message.infer_response.as_ref().unwrap().id, id.to_string());
        }
        assert_eq!(answered(&answers[4]), "4");
        assert_eq!(answers.len(), 5);
    });
}

#[test]
fn a_message_beyond_every_limit_ends_the_stream_and_not_the_connection() {
    let host = add();
    block_on(async {
        let mut client = client(&host).await;
        let mut large = named(1);
        large.raw_input_contents[0] = vec![0; 1 << 20];
        let mut answers =
            client.model_stream_infer(stream::iter([named(0), large, named(2)])).await.unwrap().into_inner();
        assert_eq!(answered(&answers.message().await.unwrap().unwrap()), "0");
        check(&answers.message().await.unwrap_err(), Code::ResourceExhausted, &["bytes"]);
        is_sum(client.model_infer(sum()).await.unwrap().get_ref());
    });
}

#[test]
fn a_host_that_stops_ends_streams_that_wait() {
    let host = add();
    block_on(async {
        let mut client = client(&host).await;
        let (requests, receiver) = mpsc::unbounded();
        let mut answers = client.model_stream_infer(receiver).await.unwrap().into_inner();
        requests.unbounded_send(named(0)).unwrap();
        answered(&answers.message().await.unwrap().unwrap());
        host.signal(Signal::TERM);
        check(&answers.message().await.unwrap_err(), Code::Unavailable, &["stopping"]);
    });
    assert!(host.ended().success());
}
