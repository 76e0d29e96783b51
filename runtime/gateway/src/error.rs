//! The one place where an error becomes a status and a body.
//!
//! Over gRPC it becomes a status alone. The body is the Open Inference Protocol's `{"error": "…"}`, for HTTP triggers too; the operator's also has `help`. A caller's
//! never holds a backend's text, a
//! trap's text or a path: those went to the log where they came up.

use crate::protocol::encoding::Coding;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};
use std::time::Duration;
use tonic::{Status, metadata::MetadataMap};
use torpor_engine::CallError;
use torpor_manifest::{ByteSize, FunctionName};

/// Why a request is refused or failed, in a form for its caller.
#[derive(Debug)]
pub(crate) struct ApiError {
    code: Code,
    text: String,
    /// What to do, where that is known; for the operator only.
    help: Option<String>,
}

/// Every way in which a request ends without an answer.
#[derive(Debug)]
enum Code {
    BadRequest,
    NotFound,
    MethodNotAllowed { allowed: String },
    Forbidden,
    Conflict,
    Unavailable,
    BodyTimeout,
    BodyTooLarge,
    UnsupportedEncoding,
    Overloaded { retry_after: Duration },
    Deadline,
    Failed,
}

impl ApiError {
    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        ApiError { code: Code::BadRequest, text: text.into(), help: None }
    }

    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        ApiError { code: Code::NotFound, text: text.into(), help: None }
    }

    pub(crate) fn method_not_allowed<'a>(method: &Method, allowed: impl IntoIterator<Item = &'a str>) -> Self {
        let allowed = allowed.into_iter().collect::<Vec<_>>().join(", ");
        let method: String = method.as_str().chars().take(32).collect();
        ApiError {
            text: format!("`{method}` is not served here; use {allowed}"),
            code: Code::MethodNotAllowed { allowed },
            help: None,
        }
    }

    pub(crate) fn body_too_large(function: &FunctionName, limit: ByteSize) -> Self {
        let text = format!("the body is larger than {limit}, the limit of `{function}`");
        ApiError { code: Code::BodyTooLarge, text, help: None }
    }

    pub(crate) fn body_timeout(function: &FunctionName) -> Self {
        ApiError {
            code: Code::BodyTimeout,
            text: format!("the body did not arrive within the deadline of `{function}`"),
            help: None,
        }
    }

    /// The body of a request for tensors has a content coding that is not read.
    pub(crate) fn unsupported_encoding() -> Self {
        let text =
            format!("the `content-encoding` of the body is not supported; send one of {}, or none", Coding::LIST);
        ApiError { code: Code::UnsupportedEncoding, text, help: None }
    }

    /// The request comes from where none is taken from.
    pub(crate) fn forbidden(text: impl Into<String>) -> Self {
        ApiError { code: Code::Forbidden, text: text.into(), help: None }
    }

    /// What the operator wants does not fit what the host has or may do.
    pub(crate) fn conflict(text: impl Into<String>) -> Self {
        ApiError { code: Code::Conflict, text: text.into(), help: None }
    }

    pub(crate) fn unavailable(text: impl Into<String>) -> Self {
        ApiError { code: Code::Unavailable, text: text.into(), help: None }
    }

    /// Whether it says that there is no such thing, and not that the thing has a problem.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self.code, Code::NotFound)
    }

    /// The same error with what to do about it.
    pub(crate) fn with_help(self, help: impl Into<String>) -> Self {
        ApiError { help: Some(help.into()), ..self }
    }

    pub(crate) fn failed(text: impl Into<String>) -> Self {
        ApiError { code: Code::Failed, text: text.into(), help: None }
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        let text = error.to_string();
        let code = match error {
            CallError::InvalidInput(_) => Code::BadRequest,
            CallError::QueueFull { retry_after, .. }
            | CallError::Overloaded { retry_after, .. }
            | CallError::NoMemory { retry_after, .. } => Code::Overloaded { retry_after },
            CallError::Deadline { .. } => Code::Deadline,
            CallError::Unloaded { .. } => Code::Unavailable,
            // Not 503: trying again at once would not help, and it is for the operator to act.
            CallError::Unavailable { .. } | CallError::ModelEnded { .. } | CallError::Failed { .. } => Code::Failed,
        };
        ApiError { code, text, help: None }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = match self.code {
            Code::BadRequest => StatusCode::BAD_REQUEST,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Code::Forbidden => StatusCode::FORBIDDEN,
            Code::Conflict => StatusCode::CONFLICT,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Code::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::UnsupportedEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::Overloaded { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Code::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Code::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut body = serde_json::json!({ "error": self.text });
        if let Some(help) = self.help {
            body["help"] = help.into();
        }
        let mut response = (status, axum::Json(body)).into_response();
        match self.code {
            Code::MethodNotAllowed { allowed } => {
                // Methods are tokens, which every header may hold.
                if let Ok(allowed) = HeaderValue::from_str(&allowed) {
                    response.headers_mut().insert(header::ALLOW, allowed);
                }
            }
            Code::UnsupportedEncoding => {
                response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static(Coding::LIST));
            }
            Code::Overloaded { retry_after } => {
                // The header has whole seconds.
                let seconds = u32::try_from(retry_after.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
            }
            _ => {}
        }
        response
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let mut metadata = MetadataMap::new();
        let code = match error.code {
            Code::BadRequest | Code::MethodNotAllowed { .. } | Code::UnsupportedEncoding => {
                tonic::Code::InvalidArgument
            }
            Code::NotFound => tonic::Code::NotFound,
            Code::Forbidden => tonic::Code::PermissionDenied,
            Code::Conflict => tonic::Code::FailedPrecondition,
            Code::Unavailable => tonic::Code::Unavailable,
            Code::BodyTooLarge => tonic::Code::ResourceExhausted,
            Code::Overloaded { retry_after } => {
                // What clients of gRPC that try again on their own look for, in milliseconds.
                let milliseconds = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
                metadata.insert("grpc-retry-pushback-ms", milliseconds.max(1).into());
                tonic::Code::Unavailable
            }
            Code::BodyTimeout | Code::Deadline => tonic::Code::DeadlineExceeded,
            Code::Failed => tonic::Code::Internal,
        };
        Status::with_metadata(code, error.text, metadata)
    }
}
