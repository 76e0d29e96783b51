//! gRPC's health service. Of a name it tells how the model of that name does; of no name, how the host does.

use super::{Call, Grpc, PATIENCE, SMALL, decoded, failed, reply, reply::Framed, within};
use crate::protocol::{
    proto::grpc::health::v1::{
        HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
        health_check_response::ServingStatus,
    },
    shown,
};
use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use futures::stream;
use prost::Message;
use std::time::Duration;
use tokio::time::timeout;
use tonic::Status;

/// How often to look whether what is watched has changed.
const LOOK: Duration = Duration::from_millis(500);

pub(super) async fn call(State(grpc): State<Grpc>, Path(method): Path<String>, request: Request) -> Response {
    let call = match Call::new(request) {
        Ok(call) => call,
        Err(response) => return *response,
    };
    match method.as_str() {
        "Check" => {
            call.unary(async |HealthCheckRequest { service }| {
                let unknown = || Status::not_found(format!("there is no model `{}`", shown(&service)));
                status(&grpc, &service).map(answer).ok_or_else(unknown)
            })
            .await
        }
        "List" => call.unary(async |_: HealthListRequest| Ok::<_, Status>(list(&grpc))).await,
        "Watch" => watch(call, grpc).await,
        _ => failed(Status::unimplemented(format!("`{}` is no call of this service", shown(&method)))),
    }
}

/// How the model of this name does, or the host. `None` for one that is not here.
fn status(grpc: &Grpc, service: &str) -> Option<ServingStatus> {
    let serving = |serving: bool| if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    if *grpc.stops.borrow() {
        return Some(ServingStatus::NotServing);
    }
    match service {
        "" => Some(ServingStatus::Serving),
        model => grpc.functions.ready(model).map(serving),
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

fn list(grpc: &Grpc) -> HealthListResponse {
    let names = [String::new()].into_iter().chain(grpc.functions.model_names());
    let known = |name: String| Some((name.clone(), answer(status(grpc, &name)?)));
    HealthListResponse { statuses: names.filter_map(known).collect() }
}

/// Tells of every change, beginning with how things are. Ends when the host stops.
async fn watch(mut call: Call, grpc: Grpc) -> Response {
    let question = within(call.deadline, call.messages.only(SMALL, PATIENCE)).await;
    let service = match question.and_then(|message| decoded(&message)) {
        Ok(HealthCheckRequest { service }) => service,
        Err(status) => return failed(status),
    };
    let Call { deadline, encoding, .. } = call;
    let changes = stream::unfold(Some((grpc, None)), move |state| {
        let service = service.clone();
        async move {
            let (mut grpc, told) = state?;
            let changed = async {
                loop {
                    let now = status(&grpc, &service).unwrap_or(ServingStatus::ServiceUnknown);
                    if told != Some(now) {
                        return Ok(now);
                    }
                    if timeout(LOOK, grpc.stops.wait_for(|stops| *stops)).await.is_ok()
                        && told == Some(ServingStatus::NotServing)
                    {
                        return Err(Status::unavailable("the host is stopping"));
                    }
                }
            };
            match within(deadline, changed).await {
                Ok(now) => {
                    let message = Framed::new(answer(now).encode_to_vec().into(), encoding).await;
                    Some((message, Some((grpc, Some(now)))))
                }
                Err(status) => Some((Err(status), None)),
            }
        }
    });
    reply::many(changes, encoding)
}
