//! The API that OpenAI clients speak: `/v1/chat/completions`, `/v1/models`, `/v1/embeddings`, and errors in their form.
//!
//! What cannot be honoured is refused by name rather than ignored. Citations are in an extra field, `x_twin`, which typed
//! clients pass over.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::sse::{Event as Sse, KeepAlive};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_stream::wrappers::ReceiverStream;
use twin_models::language::Sampling;
use twin_models::prompt::Request;

pub(super) use self::error::ApiError;
use super::ServerState;
use super::body::Body;
use super::view::AnswerView;
use crate::generator::Permit;
use crate::twins::{Answer, AnswerRequest, Event, spoken};

mod embeddings;
mod error;
mod messages;

pub(super) use self::embeddings::embeddings;
use self::messages::{Conversation, Message};

/// The body of a request, as far as it is understood. Unknown fields are left alone, as OpenAI's own server does.
#[derive(Deserialize)]
pub(super) struct ChatCompletionRequest {
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    stream: bool,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    seed: Option<u64>,
    stop: Option<Stop>,
    n: Option<u32>,
    tools: Option<Value>,
    tool_choice: Option<Value>,
    logprobs: Option<bool>,
    response_format: Option<Value>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Several(Vec<String>),
}

impl ChatCompletionRequest {
    /// Names what cannot be honoured.
    fn check(&self) -> Result<(), ApiError> {
        let given = |value: &Option<Value>| value.as_ref().is_some_and(|value| !value.is_null());
        let plain_text = |format: &Value| format.get("type").and_then(Value::as_str) == Some("text");
        let refused = [
            ("n", self.n.is_some_and(|n| n != 1), "only one answer at a time is written"),
            ("tools", given(&self.tools), "a twin uses no tools"),
            ("tool_choice", given(&self.tool_choice), "a twin uses no tools"),
            ("logprobs", self.logprobs == Some(true), "log probabilities are not given"),
            (
                "response_format",
                given(&self.response_format) && !self.response_format.as_ref().is_some_and(plain_text),
                "only plain text is written",
            ),
            (
                "presence_penalty",
                self.presence_penalty.is_some_and(|penalty| penalty != 0.0),
                "this penalty is not applied; repetition is held down already",
            ),
            (
                "frequency_penalty",
                self.frequency_penalty.is_some_and(|penalty| penalty != 0.0),
                "this penalty is not applied; repetition is held down already",
            ),
        ];
        match refused.iter().find(|(_, refused, _)| *refused) {
            Some((param, _, why)) => {
                Err(ApiError::bad_request(format!("`{param}` is not supported: {why}")).param(param))
            }
            None => Ok(()),
        }
    }

    fn sampling(&self, default: Sampling) -> Result<Sampling, ApiError> {
        let stop = match &self.stop {
            None => Vec::new(),
            Some(Stop::One(stop)) => vec![stop.clone()],
            Some(Stop::Several(stops)) if stops.len() <= 4 => stops.clone(),
            Some(Stop::Several(_)) => {
                return Err(ApiError::bad_request("at most 4 stop texts".to_owned()).param("stop"));
            }
        };
        if let Some(temperature) = self.temperature.filter(|t| !(0.0..=2.0).contains(t)) {
            let message = format!("`temperature` is {temperature}, and must be from 0 to 2");
            return Err(ApiError::bad_request(message).param("temperature"));
        }
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(default.temperature),
            top_p: self.top_p.unwrap_or(default.top_p),
            seed: self.seed.unwrap_or(default.seed),
            max_new_tokens: self.max_completion_tokens.or(self.max_tokens).unwrap_or(default.max_new_tokens),
            stop,
            ..default
        };
        sampling.validate()?;
        Ok(sampling)
    }
}

pub(super) async fn chat_completions(
    State(state): State<ServerState>,
    Body(body): Body<ChatCompletionRequest>,
) -> Result<Response, ApiError> {
    body.check()?;
    let Conversation { question, history, instructions } = Conversation::of(&body.messages)?;
    let request = Request::Ask { question };
    let sampling = body.sampling(state.twins.config().sampling(&request))?;
    // So that an unknown model is a 404 and not the first event of a stream.
    // These clients send the whole conversation each time, so its beginning is what it is known by.
    let beginning = history.first().map_or_else(|| spoken(&request), |message| message.content.clone());
    let (twins, name) = (state.twins.clone(), body.model.clone());
    let twin = tokio::task::spawn_blocking(move || twins.twin_for(&name, &beginning, None));
    let release = twin.await.map_err(ApiError::internal)??.release.map(|release| release.number);
    let permit = state.admit()?;
    let request = AnswerRequest {
        model: body.model.clone(),
        release,
        request,
        history,
        instructions,
        sampling: Some(sampling),
        conversation: None,
    };
    let reply = Reply::new(body.model);
    if body.stream {
        let include_usage = body.stream_options.is_some_and(|options| options.include_usage);
        let stream = stream(&state, permit, request, reply, include_usage);
        let keep_alive = KeepAlive::new().interval(Duration::from_secs(10));
        return Ok(axum::response::Sse::new(stream).keep_alive(keep_alive).into_response());
    }
    // The receiver lives in this future: a client that leaves drops it, and the model stops.
    let (mut receiver, answer) = state.answer(permit, request);
    while receiver.recv().await.is_some() {}
    let answer = answer.await.map_err(ApiError::internal)??;
    Ok(Json(reply.whole(&answer)).into_response())
}

/// What all parts of one reply have in common.
#[derive(Clone)]
struct Reply {
    id: String,
    created: i64,
    model: String,
}

impl Reply {
    fn new(model: String) -> Self {
        let id = format!("chatcmpl-{}", uuid::Uuid::new_v4().simple());
        Self { id, created: jiff::Timestamp::now().as_second(), model }
    }

    fn fingerprint(answer: &Answer) -> String {
        match answer.trace.release {
            Some(release) => format!("release-{release}"),
            None => answer.trace.base.clone(),
        }
    }

    fn whole(&self, answer: &Answer) -> Value {
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "system_fingerprint": Self::fingerprint(answer),
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": answer.text, "refusal": null },
                "logprobs": null,
                "finish_reason": finish_reason(answer),
            }],
            "usage": usage(answer),
            "x_twin": AnswerView::new(&answer.trace),
        })
    }

    fn chunk(&self, delta: &Value, finish_reason: Option<&str>, include_usage: bool) -> Value {
        let mut chunk = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": [{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason }],
        });
        if include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn usage_chunk(&self, answer: &Answer) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": [], "usage": usage(answer),
        })
    }
}

fn usage(answer: &Answer) -> Value {
    let (prompt, new) = (answer.trace.prompt_tokens, answer.trace.new_tokens);
    json!({ "prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new })
}

fn finish_reason(answer: &Answer) -> &'static str {
    if answer.trace.finish_reason == "length" { "length" } else { "stop" }
}

fn stream(
    state: &ServerState,
    permit: Permit,
    request: AnswerRequest,
    reply: Reply,
    include_usage: bool,
) -> impl Stream<Item = Result<Sse, Infallible>> + use<> {
    let (receiver, answer) = state.answer(permit, request);
    let first = reply.chunk(&json!({ "role": "assistant", "content": "" }), None, include_usage);
    let tokens_reply = reply.clone();
    let tokens = ReceiverStream::new(receiver).filter_map(move |event| {
        let chunk = match event {
            Event::Token { text } => Some(tokens_reply.chunk(&json!({ "content": text }), None, include_usage)),
            Event::Retrieval { .. } => None,
        };
        std::future::ready(chunk.map(|chunk| chunk.to_string()))
    });
    let last = futures::stream::once(async move {
        futures::stream::iter(match answer.await {
            Ok(Ok(answer)) => last_chunks(&reply, &answer, include_usage),
            // A stream that failed has no `[DONE]`.
            Ok(Err(error)) => vec![ApiError::from(error).body().to_string()],
            Err(error) => vec![ApiError::internal(error).body().to_string()],
        })
    });
    let first = futures::stream::iter([first.to_string()]);
    first.chain(tokens).chain(last.flatten()).map(|data| Ok(Sse::default().data(data)))
}

fn last_chunks(reply: &Reply, answer: &Answer, include_usage: bool) -> Vec<String> {
    let mut finish = reply.chunk(&json!({}), Some(finish_reason(answer)), include_usage);
    finish["x_twin"] = json!(AnswerView::new(&answer.trace));
    finish["system_fingerprint"] = json!(Reply::fingerprint(answer));
    let mut chunks = vec![finish.to_string()];
    if include_usage {
        chunks.push(reply.usage_chunk(answer).to_string());
    }
    chunks.push("[DONE]".to_owned());
    chunks
}

pub(super) async fn models(State(state): State<ServerState>) -> Result<Response, ApiError> {
    let models: Vec<Value> = all_models(state).await?;
    Ok(Json(json!({ "object": "list", "data": models })).into_response())
}

pub(super) async fn model(State(state): State<ServerState>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let found = all_models(state).await?.into_iter().find(|model| model["id"] == id);
    found.map(|model| Json(model).into_response()).ok_or_else(|| ApiError::unknown_model(&id))
}

/// A model for each author, named by id, and one for each version of each.
async fn all_models(state: ServerState) -> Result<Vec<Value>, ApiError> {
    let twins = state.twins;
    let models = tokio::task::spawn_blocking(move || -> Result<Vec<Value>, ApiError> {
        let mut models = Vec::new();
        let entry = |id: String, created: i64, owner: &str| json!({ "id": id, "object": "model", "created": created, "owned_by": owner });
        for author in twins.authors()? {
            let serving = twins.parts.registry.serving(&author.id).map_err(crate::twins::TwinError::from)?;
            let created = serving.map_or(0, |release| release.created_at.as_second());
            models.push(entry(author.id.to_string(), created, &author.name));
            for version in twins.parts.registry.versions(&author.id).map_err(crate::twins::TwinError::from)? {
                models.push(entry(version.id.to_string(), version.created_at.as_second(), &author.name));
            }
        }
        Ok(models)
    });
    models.await.map_err(ApiError::internal)?
}

/// An address that knows other methods.
pub(super) async fn method_not_allowed(request: axum::extract::Request) -> Response {
    let message = format!("`{}` does not know {}", request.uri().path(), request.method());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message).into_response()
}

/// An address that is not there, in the form that clients expect.
pub(super) async fn not_found(request: axum::extract::Request) -> Response {
    let message = format!("there is nothing at `{}`", request.uri().path());
    ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", message).into_response()
}
