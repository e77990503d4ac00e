//! The API of the web pages. Answers come as server-sent events: `retrieval`, then `token` by token, then `done` or `error`.

use axum::extract::{Path, State};
use axum::http::header::CONTENT_LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use twin_domain::{Author, ChatMessage};
use twin_models::language::Sampling;
use twin_models::prompt::Request;
use utoipa::ToSchema;

use super::body::{Address, Body};
use super::openai::ApiError;
use super::openapi::Problems;
use super::runs::Place;
use super::view::AnswerView;
use super::{Caller, ServerState};
use crate::conversations::{Conversations, StoredMessage};
use crate::twins::{AnswerRequest, InferenceConfig, TwinError};

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
    #[schema(minimum = 0, maximum = 10)]
    temperature: Option<f32>,
    #[schema(exclusive_minimum = 0, maximum = 1)]
    top_p: Option<f32>,
    #[schema(minimum = 0.1, maximum = 10)]
    repetition_penalty: Option<f32>,
    #[schema(minimum = 1)]
    max_tokens: Option<usize>,
    seed: Option<u64>,
}

/// The forms of [`Request`], for the description.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[serde(tag = "task")]
#[expect(dead_code, reason = "a shape for the description")]
pub(super) enum Asked {
    /// Answer a question.
    Ask {
        #[schema(pattern = r"\S")]
        question: String,
    },
    /// Write a post with this title.
    WritePost {
        #[schema(pattern = r"\S")]
        title: String,
    },
    /// Write the section under this heading of a post.
    WriteSection {
        title: String,
        #[schema(pattern = r"\S")]
        heading: String,
    },
    /// Write a thread of short posts about this.
    WriteThread {
        #[schema(pattern = r"\S")]
        title: String,
    },
    /// Say in a few sentences what a post with this title is about.
    WriteAbstract {
        #[schema(pattern = r"\S")]
        title: String,
    },
    /// Go on from here.
    Continue {
        #[schema(pattern = r"\S")]
        opening: String,
    },
}

impl ChatRequest {
    /// What must have words.
    fn subject(&self) -> &str {
        match &self.request {
            Request::Ask { question: subject }
            | Request::WritePost { title: subject }
            | Request::WriteThread { title: subject }
            | Request::WriteAbstract { title: subject }
            | Request::WriteSection { heading: subject, .. }
            | Request::Continue { opening: subject } => subject,
        }
    }

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
/// Answers come as server-sent events: `retrieval`, `token` by token, then `done` (with an `AnswerView`) or `error`. The answer
/// does not depend on this connection: at the address in `Content-Location` it is read again, from any event on, and stopped.
/// A new request in a conversation stops the one before.
#[utoipa::path(
    post, path = "/api/chat", tag = "Twins", request_body = ChatRequest,
    responses((status = 200, description = "The events", content_type = "text/event-stream", body = Value), Problems)
)]
pub(super) async fn chat(
    State(state): State<ServerState>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<ChatRequest>,
) -> Result<Response, ApiError> {
    let sampling = body.sampling(state.twins.config())?;
    if body.subject().trim().is_empty() {
        return Err(ApiError::bad_request("the request has no words".to_owned()).param("request"));
    }
    // Whatever can be refused is refused before the stream begins and before anything is recorded.
    let conversations = state.twins.conversations();
    if let Some(id) = &body.conversation {
        state.runs.settle(id).await;
    }
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
    let place = format!("/api/conversations/{conversation}/answer");
    let run = state.run(permit, request, conversation, caller);
    Ok(([(CONTENT_LOCATION, place)], run.follow(Place::Beginning)).into_response())
}

/// Read an answer that is being written, or just was
///
/// The events of `/api/chat` once more: all of them, or those after the one whose id is in `Last-Event-ID`. An answer goes on
/// for a minute when nobody reads it, and can be read for a minute when it is done.
#[utoipa::path(
    get, path = "/api/conversations/{id}/answer", tag = "Conversations",
    params(
        ("id" = String, Path, description = "As the list has it"),
        ("last-event-id" = Option<String>, Header, description = "The id of the last event that was seen")
    ),
    responses((status = 200, description = "The events", content_type = "text/event-stream", body = Value), Problems)
)]
pub(super) async fn follow_answer(
    State(state): State<ServerState>,
    Address(Path(id)): Address<Path<String>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let run = state.runs.get(&id).ok_or_else(|| no_answer(&id))?;
    let place = match headers.get("last-event-id") {
        Some(seen) => run.place(seen.to_str().unwrap_or_default())?,
        None => Place::Beginning,
    };
    Ok(run.follow(place))
}

/// Stop an answer that is being written
///
/// The model stops at the next token. What was written until then is the answer.
#[utoipa::path(
    delete, path = "/api/conversations/{id}/answer", tag = "Conversations", params(("id" = String, Path, description = "As the list has it")),
    responses((status = 204, description = "It stops, or is done"), Problems)
)]
pub(super) async fn stop_answer(
    State(state): State<ServerState>,
    Address(Path(id)): Address<Path<String>>,
) -> Result<StatusCode, ApiError> {
    state.runs.get(&id).ok_or_else(|| no_answer(&id))?.stop();
    Ok(StatusCode::NO_CONTENT)
}

fn no_answer(conversation: &str) -> ApiError {
    let message = format!("nothing is being written in conversation `{conversation}`, and nothing was a moment ago");
    ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
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
    Address(Path(id)): Address<Path<String>>,
) -> Result<Response, ApiError> {
    // Asked first: what ends in between is then in the conversation, and can still be read as it was written.
    let answering = state.runs.is_writing(&id);
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
        "messages": messages, "answering": answering,
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
    Address(Path(id)): Address<Path<String>>,
) -> Result<StatusCode, ApiError> {
    state.runs.settle(&id).await;
    state.runs.forget(&id);
    state.twins.conversations().delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
