//! The bodies of errors in the protocols that have one of their own. TF Serving and KServe have that of the Open Inference Protocol.

use super::ApiError;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use std::marker::PhantomData;

/// How a protocol says that a request is refused or failed.
pub(crate) trait Form {
    /// The body.
    fn body(status: StatusCode, text: &str) -> Value;
}

/// An error in the form of a protocol. Handlers return it, and `?` makes it of any other error.
pub(crate) struct As<F>(ApiError, PhantomData<F>);

impl<F, E: Into<ApiError>> From<E> for As<F> {
    fn from(error: E) -> Self {
        As(error.into(), PhantomData)
    }
}

impl<F: Form> IntoResponse for As<F> {
    fn into_response(self) -> Response {
        let body = F::body(self.0.status(), &self.0.text);
        self.0.into_response_with(body)
    }
}

/// TorchServe's: a number, the name of an exception, a text.
pub(crate) struct TorchServe;

impl Form for TorchServe {
    fn body(status: StatusCode, text: &str) -> Value {
        let kind = match status {
            StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE => "BadRequestException",
            StatusCode::NOT_FOUND => "ModelNotFoundException",
            StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowedException",
            StatusCode::PAYLOAD_TOO_LARGE => "RequestEntityTooLargeException",
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => "RequestTimeoutException",
            StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailableException",
            _ => "InternalServerException",
        };
        json!({ "code": status.as_u16(), "type": kind, "message": text })
    }
}

/// MLflow's: one of its words for errors, and a text.
pub(crate) struct MlFlow;

impl Form for MlFlow {
    fn body(status: StatusCode, text: &str) -> Value {
        let code = match status {
            StatusCode::NOT_FOUND => "RESOURCE_DOES_NOT_EXIST",
            StatusCode::METHOD_NOT_ALLOWED => "ENDPOINT_NOT_FOUND",
            StatusCode::SERVICE_UNAVAILABLE => "TEMPORARILY_UNAVAILABLE",
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => "DEADLINE_EXCEEDED",
            status if status.is_server_error() => "INTERNAL_ERROR",
            _ => "BAD_REQUEST",
        };
        json!({ "error_code": code, "message": text })
    }
}

/// `OpenAI`'s: an object with a text, a type, the name of a parameter and a code.
pub(crate) struct OpenAi;

impl Form for OpenAi {
    fn body(status: StatusCode, text: &str) -> Value {
        let (kind, code) = match status {
            StatusCode::NOT_FOUND => ("invalid_request_error", json!("model_not_found")),
            status if status.is_server_error() => ("server_error", Value::Null),
            _ => ("invalid_request_error", Value::Null),
        };
        json!({ "error": { "message": text, "type": kind, "param": null, "code": code } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_has_its_body() {
        let (status, text) = (StatusCode::NOT_FOUND, "there is no model `m`");
        let torchserve = json!({ "code": 404, "type": "ModelNotFoundException", "message": text });
        assert_eq!(TorchServe::body(status, text), torchserve);
        let mlflow = json!({ "error_code": "RESOURCE_DOES_NOT_EXIST", "message": text });
        assert_eq!(MlFlow::body(status, text), mlflow);
        let error =
            json!({ "message": text, "type": "invalid_request_error", "param": null, "code": "model_not_found" });
        assert_eq!(OpenAi::body(status, text), json!({ "error": error }));
    }

    #[test]
    fn whatever_the_form_the_head_is_the_same() {
        let error = || ApiError::method_not_allowed(&http::Method::PATCH, ["GET"]);
        for response in [error().into_response(), As::<MlFlow>::from(error()).into_response()] {
            assert_eq!((response.status().as_u16(), &response.headers()["allow"]), (405, &"GET".parse().unwrap()));
        }
    }
}
