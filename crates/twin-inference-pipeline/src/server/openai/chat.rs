//! `/v1/chat/completions`.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use twin_models::language::{OutputFormat, Sampling, TokenWatch};
use twin_models::prompt::Request;
use utoipa::ToSchema;

use super::ApiError;
use super::messages::{Conversation, Message};
use super::parameters::{Parameters, is_given, refuse};
use super::reply::{Kind, Reply};
use crate::server::body::Body;
use crate::server::openapi::Problems;
use crate::server::{Caller, ServerState};
use crate::twins::{AnswerRequest, spoken};

/// The most alternatives that are given for a token.
const MAX_TOP: usize = 20;

#[derive(Deserialize, ToSchema)]
pub(in crate::server) struct ChatCompletionRequest {
    /// The last one is the user's, and has text.
    #[schema(min_items = 1)]
    messages: Vec<Message>,
    #[serde(flatten)]
    parameters: Parameters,
    tools: Option<Value>,
    tool_choice: Option<Value>,
    functions: Option<Value>,
    audio: Option<Value>,
    logprobs: Option<bool>,
    /// From 0 to 20, with `logprobs`.
    #[schema(maximum = 20)]
    top_logprobs: Option<usize>,
    response_format: Option<ResponseFormat>,
}

#[derive(Deserialize, ToSchema)]
struct ResponseFormat {
    /// `text`, `json_object` or `json_schema`.
    #[serde(rename = "type")]
    #[schema(pattern = "^(text|json_object|json_schema)$")]
    kind: String,
    json_schema: Option<NamedSchema>,
}

#[derive(Deserialize, ToSchema)]
struct NamedSchema {
    /// A JSON Schema. Of one that cannot be held to token by token, the request is refused.
    schema: Option<Value>,
}

impl ChatCompletionRequest {
    fn sampling(&self, default: Sampling) -> Result<Sampling, ApiError> {
        refuse(&[
            ("tools", is_given(&self.tools), "a twin uses no tools"),
            ("tool_choice", is_given(&self.tool_choice), "a twin uses no tools"),
            ("functions", is_given(&self.functions), "a twin uses no tools"),
            ("audio", is_given(&self.audio), "a twin writes text"),
        ])?;
        let sampling = self.parameters.sampling(default)?;
        let sampling = Sampling { watch: self.watch()?, format: self.format()?, ..sampling };
        Ok(match sampling.format {
            // Braces and names must come again, whatever was written before and stands in the passages.
            Some(_) => Sampling { repetition_penalty: 1.0, no_copy_tokens: 0, ..sampling },
            None => sampling,
        })
    }

    fn watch(&self) -> Result<Option<TokenWatch>, ApiError> {
        let top = self.top_logprobs.unwrap_or(0);
        if top > MAX_TOP || (top > 0 && self.logprobs != Some(true)) {
            let message = format!("`top_logprobs` must be from 0 to {MAX_TOP}, beside `logprobs: true`");
            return Err(ApiError::bad_request(message).param("top_logprobs"));
        }
        Ok((self.logprobs == Some(true)).then(|| TokenWatch::new(top)))
    }

    fn format(&self) -> Result<Option<OutputFormat>, ApiError> {
        let refused = |message: &str| Err(ApiError::bad_request(message.to_owned()).param("response_format"));
        let Some(format) = &self.response_format else { return Ok(None) };
        match (format.kind.as_str(), &format.json_schema) {
            ("text", _) => Ok(None),
            ("json_object", _) => Ok(Some(OutputFormat::JsonObject)),
            ("json_schema", Some(named)) => {
                Ok(Some(OutputFormat::JsonSchema(named.schema.clone().unwrap_or_else(|| json!({})))))
            }
            ("json_schema", None) => refused("`response_format` has no `json_schema`"),
            _ => refused("the `type` of `response_format` must be `text`, `json_object` or `json_schema`"),
        }
    }
}

/// Ask an author's twin
///
/// The last message is the question; it is answered from the author's posts. With `stream` the reply comes as server-sent
/// events. Beyond OpenAI's fields, `x_twin` has citations, release and timings (`AnswerView`).
#[utoipa::path(
    post, path = "/v1/chat/completions", tag = "OpenAI", request_body = ChatCompletionRequest,
    responses(
        (status = 200, description = "The answer", content((Value = "application/json"), (Value = "text/event-stream"))),
        Problems
    )
)]
pub(in crate::server) async fn chat_completions(
    State(state): State<ServerState>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<ChatCompletionRequest>,
) -> Result<Response, ApiError> {
    let Conversation { question, history, instructions } = Conversation::of(&body.messages)?;
    let request = Request::Ask { question };
    let sampling = body.sampling(state.twins.config().sampling(&request))?;
    let beginning = history.first().map_or_else(|| spoken(&request), |message| message.content.clone());
    let asked = AnswerRequest {
        history,
        instructions,
        sampling: Some(sampling),
        ..AnswerRequest::new(&body.parameters.model, request)
    };
    answer(&state, Kind::Chat, &body.parameters, asked, beginning, caller).await
}

/// Answers what either kind of completion comes to.
pub(super) async fn answer(
    state: &ServerState,
    kind: Kind,
    parameters: &Parameters,
    asked: AnswerRequest,
    beginning: String,
    caller: Caller,
) -> Result<Response, ApiError> {
    let (twins, name, sampling) = (state.twins.clone(), asked.model.clone(), asked.sampling.clone());
    let conversation = parameters.conversation(beginning);
    // So that an unknown model is a 404 and a form that cannot be kept a 400, and neither is the first event of a stream.
    let checked = tokio::task::spawn_blocking(move || {
        sampling.map_or(Ok(()), |sampling| sampling.validate())?;
        Ok::<_, ApiError>(twins.twin_for(&name, &conversation, None)?)
    });
    let release = checked.await.map_err(ApiError::internal)??.release.map(|release| release.number);
    let permit = state.admit()?;
    let asked = AnswerRequest { release, ..asked };
    let reply = Reply::new(kind, asked.model.clone(), &asked, parameters.include_usage());
    if parameters.stream() {
        return Ok(reply.stream(state, permit, asked, caller));
    }
    reply.whole(state, permit, asked, caller).await
}
