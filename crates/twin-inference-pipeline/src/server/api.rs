//! The API of the web pages. Answers come as server-sent events: `retrieval`, then `token` by token, then `done` or `error`.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::sse::{Event as Sse, KeepAlive};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_stream::wrappers::ReceiverStream;
use twin_domain::{Author, ChatMessage};
use twin_models::language::Sampling;
use twin_models::prompt::Request;
use utoipa::ToSchema;

use super::body::Body;
use super::openai::ApiError;
use super::openapi::Problems;
use super::view::{AnswerView, PassageView};
use super::{Caller, ServerState};
use crate::conversations::{Conversations, StoredMessage};
use crate::generator::Permit;
use crate::twins::{AnswerRequest, Event, InferenceConfig, TwinError, spoken};

/// The authors
#[utoipa::path(get, path = "/api/authors", tag = "Twins", responses((status = 200, description = "Those with a voice first", body = Value), Problems))]
pub(super) async fn authors(State(state): State<ServerState>) -> Result<Response, ApiError> {
    let twins = state.twins.clone();
    let listed = tokio::task::spawn_blocking(move || -> Result<Vec<Value>, TwinError> {
        let mut listed = Vec::new();
        for author in twins.authors()? {
            let release = twins.parts.registry.serving(&author.id)?;
            listed.push((release.is_none(), entry(&author, release.as_ref())));
        }
        // Those with a voice of their own first.
        listed.sort_by_key(|(without_voice, _)| *without_voice);
        Ok(listed.into_iter().map(|(_, entry)| entry).collect())
    });
    Ok(Json(listed.await.map_err(ApiError::internal)??).into_response())
}

fn entry(author: &Author, release: Option<&twin_domain::Release>) -> Value {
    json!({
        "id": author.id, "name": author.name, "description": author.description, "language": author.language,
        "site": author.site, "suggested_questions": author.suggested_questions,
        "suggested_topics": author.suggested_topics,
        "release": release.map(|release| json!({ "number": release.number, "model": release.model })),
    })
}

/// A request of the chat page.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChatRequest {
    /// A model name: an author's id, or a version of theirs.
    author: String,
    /// What is asked, by task.
    #[schema(value_type = Asked)]
    request: Request,
    /// The conversation to go on with; a new one begins without it.
    conversation: Option<String>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    repetition_penalty: Option<f32>,
    max_tokens: Option<usize>,
    seed: Option<u64>,
}

/// The forms of [`Request`], for the description.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[serde(tag = "task")]
#[expect(dead_code, reason = "a shape for the description")]
enum Asked {
    /// Answer a question.
    Ask { question: String },
    /// Write a post with this title.
    WritePost { title: String },
    /// Write the section under this heading of a post.
    WriteSection { title: String, heading: String },
    /// Write a thread of short posts about this.
    WriteThread { title: String },
    /// Say in a few sentences what a post with this title is about.
    WriteAbstract { title: String },
    /// Go on from here.
    Continue { opening: String },
}

impl ChatRequest {
    fn title(&self) -> String {
        match &self.request {
            Request::Ask { question } => question.clone(),
            Request::WritePost { title } | Request::WriteThread { title } | Request::WriteAbstract { title } => {
                format!("Draft: {title}")
            }
            Request::WriteSection { heading, .. } => format!("Draft: {heading}"),
            Request::Continue { opening } => format!("Continue: {opening}"),
        }
    }

    fn sampling(&self, config: &InferenceConfig) -> Result<Sampling, ApiError> {
        let default = config.sampling(&self.request);
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(default.temperature),
            top_p: self.top_p.unwrap_or(default.top_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(default.repetition_penalty),
            max_new_tokens: self.max_tokens.unwrap_or(default.max_new_tokens),
            seed: self.seed.unwrap_or(default.seed),
            ..default
        };
        sampling.validate()?;
        Ok(sampling)
    }
}

/// Ask or let draft
///
/// Answers come as server-sent events: `retrieval`, `token` by token, then `done` (with an `AnswerView`) or `error`.
#[utoipa::path(
    post, path = "/api/chat", tag = "Twins", request_body = ChatRequest,
    responses((status = 200, description = "The events", content_type = "text/event-stream", body = String), Problems)
)]
pub(super) async fn chat(
    State(state): State<ServerState>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<ChatRequest>,
) -> Result<Response, ApiError> {
    let sampling = body.sampling(state.twins.config())?;
    if spoken(&body.request).trim_matches([':', ' ', '\n']).is_empty() {
        return Err(ApiError::bad_request("the request has no words".to_owned()).param("request"));
    }
    // Whatever can be refused is refused before the stream begins and before anything is recorded.
    let conversations = state.twins.conversations();
    let (known, began_with) = match &body.conversation {
        Some(id) => (Some(conversations.get(id).await?), conversations.assigned(id).await?),
        None => (None, None),
    };
    let id = body.conversation.clone().unwrap_or_else(Conversations::new_id);
    let (twins, name, key) = (state.twins.clone(), body.author.clone(), id.clone());
    let twin = tokio::task::spawn_blocking(move || twins.twin_for(&name, &key, began_with));
    let twin = twin.await.map_err(ApiError::internal)??;
    let release = twin.release.as_ref().map(|release| release.number);
    let permit = state.admit()?;
    let (conversation, history) = match known {
        Some(known) => {
            if known.summary.author != twin.author.id {
                let message = format!("conversation `{id}` is with `{}`", known.summary.author);
                return Err(ApiError::bad_request(message).param("conversation"));
            }
            let turns = known.messages.into_iter().map(|message| ChatMessage::new(message.role, message.content));
            (id, turns.collect())
        }
        None => {
            conversations.begin_as(&id, &twin.author.id, &body.title()).await?;
            (id, Vec::new())
        }
    };
    if release != began_with {
        conversations.assign(&conversation, release).await?;
    }
    let request = AnswerRequest {
        model: body.author,
        release,
        request: body.request,
        history,
        instructions: None,
        sampling: Some(sampling),
        conversation: Some(conversation.clone()),
    };
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(10));
    let events = events(&state, permit, request, conversation, caller);
    Ok(axum::response::Sse::new(events).keep_alive(keep_alive).into_response())
}

/// Events as they come, then the answer or what went wrong.
fn events(
    state: &ServerState,
    permit: Permit,
    request: AnswerRequest,
    conversation: String,
    caller: Caller,
) -> impl Stream<Item = Result<Sse, Infallible>> + use<> {
    let (receiver, answer) = state.answer(permit, request, caller);
    let id = conversation.clone();
    let as_they_come = ReceiverStream::new(receiver).map(move |event| match event {
        Event::Retrieval { passages, relevant } => {
            let passages = PassageView::all(&passages);
            sse("retrieval", &json!({ "conversation": id, "passages": passages, "relevant": relevant }))
        }
        Event::Token { text } => sse("token", &json!({ "text": text })),
    });
    let last = futures::stream::once(async move {
        match answer.await {
            Ok(Ok(answer)) => {
                sse("done", &Done { conversation, text: &answer.text, answer: AnswerView::new(&answer.trace) })
            }
            Ok(Err(error)) => sse("error", &ApiError::from(error).body()),
            Err(error) => sse("error", &ApiError::internal(error).body()),
        }
    });
    as_they_come.chain(last).map(Ok)
}

#[derive(Serialize)]
struct Done<'a> {
    conversation: String,
    text: &'a str,
    #[serde(flatten)]
    answer: AnswerView<'a>,
}

fn sse(name: &str, data: &impl Serialize) -> Sse {
    // Our own plain values have no maps with non-text keys, the one thing that cannot be JSON.
    Sse::default().event(name).json_data(data).unwrap_or_else(|_| Sse::default().event("error").data("{}"))
}

/// The newest conversations
#[utoipa::path(get, path = "/api/conversations", tag = "Conversations", responses((status = 200, description = "The list", body = Value), Problems))]
pub(super) async fn conversations(State(state): State<ServerState>) -> Result<Response, ApiError> {
    Ok(Json(state.twins.conversations().list().await?).into_response())
}

/// One conversation with all its turns
#[utoipa::path(
    get, path = "/api/conversations/{id}", tag = "Conversations", params(("id" = String, Path, description = "As the list has it")),
    responses((status = 200, description = "The conversation", body = Value), Problems)
)]
pub(super) async fn conversation(
    State(state): State<ServerState>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let conversation = state.twins.conversations().get(&id).await?;
    let message = |message: &StoredMessage| {
        json!({
            "role": message.role, "content": message.content, "created_at": message.created_at,
            "answer": message.trace.as_ref().map(AnswerView::new),
        })
    };
    let messages: Vec<Value> = conversation.messages.iter().map(message).collect();
    let summary = conversation.summary;
    Ok(Json(json!({
        "id": summary.id, "author": summary.author, "title": summary.title, "updated_at": summary.updated_at,
        "messages": messages,
    }))
    .into_response())
}

/// Remove a conversation
#[utoipa::path(
    delete, path = "/api/conversations/{id}", tag = "Conversations", params(("id" = String, Path, description = "As the list has it")),
    responses((status = 204, description = "It is gone"), Problems)
)]
pub(super) async fn delete_conversation(
    State(state): State<ServerState>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.twins.conversations().delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
