//! Errors as OpenAI clients read them: a status and `{"error": {"message", "type", "param", "code"}}`.
//!
//! Two audiences, two messages: the client learns what it can act on, and what went wrong inside is logged.

use std::fmt::Display;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use twin_models::language::GenerateError;

use crate::conversations::ConversationError;
use crate::generator::SubmitError;
use crate::twins::{AnswerError, TwinError};

/// After how many seconds to try again, where nothing better is known.
const SOON: u64 = 2;

/// How many characters of a message are told, at its beginning and at its end. It may quote the request.
const HEAD: usize = 700;
const TAIL: usize = 200;

/// An error with all that a client is told.
#[derive(Debug)]
pub(in crate::server) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
    /// After how many seconds it is worth trying again.
    retry_after: Option<u64>,
}

impl ApiError {
    pub(in crate::server) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: shortened(message.into()), param: None, code: None, retry_after: None }
    }

    pub(in crate::server) fn bad_request(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    pub(in crate::server) fn unknown_model(name: &str) -> Self {
        let message = format!("there is no model `{name}`: GET /v1/models lists them");
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message).param("model").code("model_not_found")
    }

    /// Something failed that the client cannot change. The log has it all.
    pub(in crate::server) fn internal(error: impl Display) -> Self {
        tracing::error!("a request failed: {error}");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            "something failed inside the server; its log says what",
        )
    }

    pub(in crate::server) fn param(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    pub(in crate::server) fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Too much was asked for at once; after so many seconds it may not be.
    pub(in crate::server) fn too_many(message: impl Into<String>, seconds: u64) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message).code("rate_limit_exceeded");
        Self { retry_after: Some(seconds), ..error }
    }

    pub(in crate::server) fn body(&self) -> Value {
        json!({ "error": { "message": self.message, "type": self.kind, "param": self.param, "code": self.code } })
    }
}

impl Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        let status = match rejection.status() {
            // A body that is JSON but not what is asked for is a bad request to these clients.
            StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
            status => status,
        };
        Self::new(status, "invalid_request_error", rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), "invalid_request_error", rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), "invalid_request_error", rejection.body_text())
    }
}

impl From<TwinError> for ApiError {
    fn from(error: TwinError) -> Self {
        match &error {
            TwinError::Unknown(name) => Self::unknown_model(name),
            TwinError::NoFeatures | TwinError::View { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", error.to_string())
            }
            TwinError::Store(_) | TwinError::Registry(_) | TwinError::Adapter { .. } => Self::internal(chain(&error)),
        }
    }
}

impl From<ConversationError> for ApiError {
    fn from(error: ConversationError) -> Self {
        match &error {
            ConversationError::NotFound(_) | ConversationError::NoTrace(_) => {
                Self::new(StatusCode::NOT_FOUND, "invalid_request_error", error.to_string())
            }
            _ => Self::internal(chain(&error)),
        }
    }
}

impl From<GenerateError> for ApiError {
    fn from(error: GenerateError) -> Self {
        match &error {
            GenerateError::PromptTooLong { .. } => {
                Self::bad_request(error.to_string()).param("messages").code("context_length_exceeded")
            }
            GenerateError::InvalidSampling { parameter, .. } => {
                let param = if *parameter == "max_new_tokens" { "max_tokens" } else { parameter };
                Self::bad_request(error.to_string()).param(param)
            }
            // What the other server said may be nobody's business here.
            GenerateError::Remote(_) => {
                tracing::error!("the language model's server failed: {}", chain(&error));
                Self::new(StatusCode::BAD_GATEWAY, "server_error", error.to_string())
            }
            GenerateError::Format { .. } => Self::bad_request(error.to_string()).param("response_format"),
            _ => Self::internal(chain(&error)),
        }
    }
}

impl From<AnswerError> for ApiError {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Twin(error) => error.into(),
            AnswerError::Submit(error @ SubmitError::Full { .. }) => Self::too_many(error.to_string(), SOON),
            AnswerError::Late { .. } => {
                let late = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", error.to_string());
                Self { retry_after: Some(SOON), ..late.code("deadline_exceeded") }
            }
            AnswerError::Submit(SubmitError::Stopped) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", "the server is shutting down")
            }
            AnswerError::Generate(error) => error.into(),
            AnswerError::Prompt(error) => Self::bad_request(error.to_string()).param("messages"),
            other => Self::internal(chain(&other)),
        }
    }
}

fn shortened(message: String) -> String {
    let mut boundaries = message.char_indices().map(|(index, _)| index);
    match (boundaries.nth(HEAD), boundaries.nth_back(TAIL)) {
        (Some(head), Some(tail)) => format!("{} … {}", &message[..head], &message[tail..]),
        _ => message,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
