//! The Open Inference Protocol over gRPC, as tonic has it from the `.proto` file. Of its calls there is `ModelInfer`, with tensors in
//! `raw_input_contents`.

use crate::{
    model::{Tensor, VERSION},
    server::{MAX_BODY, Server},
};
use proto::inference::{
    ModelInferRequest, ModelInferResponse,
    grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer},
    model_infer_request::InferInputTensor,
    model_infer_response::InferOutputTensor,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    dead_code,
    clippy::all,
    clippy::pedantic,
    reason = "generated, and not all of it is used"
)]
mod proto {
    tonic::include_proto!("proto");
}

/// The service of one connection.
pub(crate) fn service(server: Arc<Server>) -> GrpcInferenceServiceServer<Server> {
    GrpcInferenceServiceServer::from_arc(server).max_decoding_message_size(MAX_BODY).max_encoding_message_size(MAX_BODY)
}

#[tonic::async_trait]
impl GrpcInferenceService for Server {
    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Result<Response<ModelInferResponse>, Status> {
        let ModelInferRequest { model_name, id, inputs, raw_input_contents, .. } = request.into_inner();
        if model_name != *self.name {
            return Err(Status::not_found("there is only one model here"));
        }
        if raw_input_contents.len() != inputs.len() {
            return Err(Status::invalid_argument("each input must be in `raw_input_contents`"));
        }
        let tensor = |(input, data)| {
            let InferInputTensor { name, datatype, shape, .. } = input;
            Tensor { name, datatype, shape, data }
        };
        let tensors: Vec<_> = inputs.into_iter().zip(raw_input_contents).map(tensor).collect();
        let outputs = self.runs.on(move |model| model.run(&tensors)).await;
        let outputs = outputs.map_err(|reason| Status::invalid_argument(format!("{reason:#}")))?;
        let mut response =
            ModelInferResponse { model_name, model_version: VERSION.to_owned(), id, ..ModelInferResponse::default() };
        for Tensor { name, datatype, shape, data } in outputs {
            response.outputs.push(InferOutputTensor { name, datatype, shape, ..InferOutputTensor::default() });
            response.raw_output_contents.push(data);
        }
        Ok(Response::new(response))
    }
}
