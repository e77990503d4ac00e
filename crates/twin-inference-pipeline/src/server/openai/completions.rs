//! `/v1/completions`: a text goes on in the author's voice. Nothing is looked up for it, as it is its own context.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use twin_models::language::{Sampling, TokenWatch};
use twin_models::prompt::Request;
use utoipa::ToSchema;

use super::ApiError;
use super::chat::answer;
use super::parameters::{Parameters, is_given, refuse};
use super::reply::Kind;
use crate::server::body::Body;
use crate::server::openapi::Problems;
use crate::server::{Caller, ServerState};
use crate::twins::AnswerRequest;

/// The most alternatives that are given for a token.
const MAX_TOP: usize = 5;

#[derive(Deserialize, ToSchema)]
pub(in crate::server) struct CompletionRequest {
    /// A text, or a list with one.
    #[schema(value_type = String, pattern = r"\S")]
    prompt: Value,
    #[serde(flatten)]
    parameters: Parameters,
    suffix: Option<Value>,
    echo: Option<Value>,
    #[schema(minimum = 1, maximum = 1)]
    best_of: Option<u32>,
    /// From 0 to 5.
    #[schema(maximum = 5)]
    logprobs: Option<usize>,
}

impl CompletionRequest {
    /// The one text that is to go on.
    fn opening(&self) -> Result<String, ApiError> {
        let one = match &self.prompt {
            Value::String(text) => Some(text),
            Value::Array(texts) => match texts.as_slice() {
                [Value::String(text)] => Some(text),
                _ => None,
            },
            _ => None,
        };
        match one.filter(|text| !text.trim().is_empty()) {
            Some(text) => Ok(text.clone()),
            None => Err(ApiError::bad_request("`prompt` must be one text with words".to_owned()).param("prompt")),
        }
    }

    fn sampling(&self, default: Sampling) -> Result<Sampling, ApiError> {
        refuse(&[
            ("suffix", is_given(&self.suffix), "a text goes on at its end"),
            ("echo", is_given(&self.echo), "the prompt is not repeated"),
            ("best_of", self.best_of.is_some_and(|best_of| best_of != 1), "only one answer at a time is written"),
        ])?;
        if self.logprobs.is_some_and(|top| top > MAX_TOP) {
            let message = format!("`logprobs` must be from 0 to {MAX_TOP}");
            return Err(ApiError::bad_request(message).param("logprobs"));
        }
        Ok(Sampling { watch: self.logprobs.map(TokenWatch::new), ..self.parameters.sampling(default)? })
    }
}

/// Let a text go on in an author's voice
///
/// With `stream` the reply comes as server-sent events.
#[utoipa::path(
    post, path = "/v1/completions", tag = "OpenAI", request_body = CompletionRequest,
    responses(
        (status = 200, description = "The text", content((Value = "application/json"), (Value = "text/event-stream"))),
        Problems
    )
)]
pub(in crate::server) async fn completions(
    State(state): State<ServerState>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<CompletionRequest>,
) -> Result<Response, ApiError> {
    let opening = body.opening()?;
    let request = Request::Continue { opening: opening.clone() };
    let sampling = body.sampling(state.twins.config().sampling(&request))?;
    let asked = AnswerRequest { sampling: Some(sampling), ..AnswerRequest::new(&body.parameters.model, request) };
    answer(&state, Kind::Text, &body.parameters, asked, opening, caller).await
}
