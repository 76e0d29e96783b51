//! The calls of TF Serving's `PredictionService` and `ModelService`.

use super::{Call, Grpc, Inference, failed};
use crate::{
    functions::Served,
    protocol::{
        Malformed, Pieces,
        open_inference_grpc::Wanted,
        proto::tensorflow::serving::{GetModelMetadataRequest, GetModelStatusRequest},
        shown,
        tf_serving_grpc::{PredictRequest, model_metadata, model_status, predict_response, target},
    },
};
use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use bytes::Bytes;
use tonic::Status;
use torpor_tensor::{NamedTensor, Signature};

impl Inference for PredictRequest {
    fn read(message: &Bytes) -> Result<Self, Malformed> {
        PredictRequest::read(message)
    }

    fn target(&self) -> (&str, Option<&str>) {
        (&self.target.model, self.target.version.as_deref())
    }

    fn id(&self) -> String {
        String::new()
    }

    // It is deep within the message, and mostly not alone there.
    fn data_offset(_: &[u8]) -> usize {
        0
    }

    fn work(&self) -> usize {
        PredictRequest::work(self)
    }

    fn tensors(self, signature: &Signature, limit: usize) -> Result<Wanted, Malformed> {
        let (inputs, outputs) = PredictRequest::tensors(self, signature, limit)?;
        Ok(Wanted { inputs, outputs, forms: Vec::new() })
    }

    fn answer(model: &str, version: u64, _: &str, outputs: &[NamedTensor]) -> Pieces {
        predict_response(model, version, outputs)
    }
}

pub(super) async fn predictions(State(grpc): State<Grpc>, Path(method): Path<String>, request: Request) -> Response {
    let call = match Call::new(request) {
        Ok(call) => call,
        Err(response) => return *response,
    };
    let functions = &grpc.functions;
    match method.as_str() {
        "Predict" => call.infer::<PredictRequest>(functions).await,
        "GetModelMetadata" => {
            call.unary(async |GetModelMetadataRequest { model_spec, metadata_field }| {
                let target = target(model_spec)?;
                let Served { function, revision, .. } = functions.model(&target.model, target.version.as_deref())?;
                let name = function.manifest().name.as_str();
                Ok::<_, Status>(model_metadata(name, revision, function.signature(), &metadata_field)?)
            })
            .await
        }
        _ => unknown(&method),
    }
}

pub(super) async fn models(State(grpc): State<Grpc>, Path(method): Path<String>, request: Request) -> Response {
    let call = match Call::new(request) {
        Ok(call) => call,
        Err(response) => return *response,
    };
    match method.as_str() {
        "GetModelStatus" => {
            call.unary(async |GetModelStatusRequest { model_spec }| {
                let target = target(model_spec)?;
                let Served { function, revision, .. } =
                    grpc.functions.model(&target.model, target.version.as_deref())?;
                Ok::<_, Status>(model_status(revision, function.is_ready()))
            })
            .await
        }
        _ => unknown(&method),
    }
}

fn unknown(method: &str) -> Response {
    failed(Status::unimplemented(format!("`{}` is not offered here", shown(method))))
}
