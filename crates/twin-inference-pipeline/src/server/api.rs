//! The API of the web pages. Answers come as server-sent events: `retrieval`, then `token` by token, then `done` or `error`.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::sse::{Event as Sse, KeepAlive};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;
use twin_domain::{Author, CancelFlag, ChatMessage, Release};
use twin_models::prompt::Request;

use super::AppState;
use super::openai::ApiError;
use crate::twins::{AnswerRequest, Event, LABEL, TwinError};

/// How many events may wait for a slow reader.
const EVENT_BUFFER: usize = 16;

/// An author with what answers for them.
#[derive(Serialize)]
struct AuthorView {
    #[serde(flatten)]
    author: Author,
    release: Option<Release>,
}

pub(super) async fn authors(State(state): State<AppState>) -> Result<Response, ApiError> {
    let twins = state.twins.clone();
    let views = tokio::task::spawn_blocking(move || -> Result<Vec<AuthorView>, TwinError> {
        let with_release = |author: Author| {
            let release = twins.parts.registry.serving(&author.id)?;
            Ok(AuthorView { author, release })
        };
        twins.authors()?.into_iter().map(with_release).collect()
    });
    let mut views = views.await.map_err(ApiError::internal)?.map_err(ApiError::from)?;
    // Those with a voice of their own first.
    views.sort_by_key(|view| view.release.is_none());
    Ok(Json(views).into_response())
}

/// A request of the chat page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChatRequest {
    /// A model name: an author's id, or a version of theirs.
    author: String,
    /// What is asked, by task.
    request: Request,
    /// The conversation to go on with; a new one begins without it.
    conversation: Option<String>,
    temperature: Option<f32>,
    max_tokens: Option<usize>,
    seed: Option<u64>,
}

pub(super) async fn chat(
    State(state): State<AppState>,
    body: Result<Json<ChatRequest>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Json(body) = body?;
    let twins = state.twins.clone();
    let name = body.author.clone();
    let twin = tokio::task::spawn_blocking(move || twins.twin(&name)).await.map_err(ApiError::internal)??;
    let conversations = &state.twins.parts.conversations;
    let (conversation, history) = match &body.conversation {
        Some(id) => {
            let known = conversations.get(id).await?;
            let turns = known.messages.into_iter().map(|message| ChatMessage::new(message.role, message.content));
            (id.clone(), turns.collect())
        }
        None => (conversations.begin(&twin.author.id, &body.title()).await?, Vec::new()),
    };
    let config = &state.twins.parts.config;
    let mut sampling =
        if matches!(body.request, Request::Ask { .. }) { config.ask.clone() } else { config.write.clone() };
    sampling.temperature = body.temperature.unwrap_or(sampling.temperature);
    sampling.max_new_tokens = body.max_tokens.unwrap_or(sampling.max_new_tokens);
    sampling.seed = body.seed.unwrap_or_else(rand_seed);
    sampling.validate().map_err(|error| ApiError::bad_request(error.to_string()))?;
    let request = AnswerRequest {
        model: body.author,
        request: body.request,
        history,
        instructions: None,
        sampling: Some(sampling),
        conversation: Some(conversation.clone()),
    };
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(10));
    Ok(axum::response::Sse::new(events(state, request, conversation)).keep_alive(keep_alive).into_response())
}

impl ChatRequest {
    fn title(&self) -> String {
        match &self.request {
            Request::Ask { question } => question.clone(),
            Request::WritePost { title } => format!("Draft: {title}"),
            Request::WriteSection { heading, .. } => format!("Draft: {heading}"),
            Request::Continue { opening } => format!("Continue: {opening}"),
        }
    }
}

/// A seed that nobody chose: drafts differ from each other. It is in the trace, so any of them can be written again.
pub(super) fn rand_seed() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0 >> 12 // 52 bits, which JavaScript's numbers hold exactly.
}

fn events(
    state: AppState,
    request: AnswerRequest,
    conversation: String,
) -> impl Stream<Item = Result<Sse, Infallible>> {
    let (sender, receiver) = mpsc::channel(EVENT_BUFFER);
    let cancel = CancelFlag::new();
    let (twins, own_cancel) = (state.twins.clone(), cancel.clone());
    // On a task of its own, so that what was written is recorded even if the reader leaves.
    let answer = tokio::spawn(async move { twins.answer(request, sender, own_cancel).await });
    let stopping = state.stopping;
    forward(receiver, answer, conversation, stopping, cancel)
}

/// Events as they come, then the answer or what went wrong.
fn forward(
    receiver: mpsc::Receiver<Event>,
    answer: tokio::task::JoinHandle<Result<crate::twins::Answer, crate::twins::AnswerError>>,
    conversation: String,
    stopping: CancelFlag,
    cancel: CancelFlag,
) -> impl Stream<Item = Result<Sse, Infallible>> {
    let state = Some((receiver, answer, conversation));
    futures::stream::unfold(state, move |state| {
        let (stopping, cancel) = (stopping.clone(), cancel.clone());
        async move {
            let (mut receiver, answer, conversation) = state?;
            if stopping.is_cancelled() {
                cancel.cancel();
            }
            if let Some(event) = receiver.recv().await {
                let name = if matches!(event, Event::Retrieval { .. }) { "retrieval" } else { "token" };
                let sse = sse(name, &event);
                return Some((Ok(sse), Some((receiver, answer, conversation))));
            }
            let last = match answer.await {
                Ok(Ok(answer)) => sse(
                    "done",
                    &json!({ "conversation": conversation, "label": LABEL, "text": answer.text, "trace": answer.trace }),
                ),
                Ok(Err(error)) => sse("error", &ApiError::from(error).body()),
                Err(error) => sse("error", &ApiError::internal(error).body()),
            };
            Some((Ok(last), None))
        }
    })
}

fn sse(name: &str, data: &impl Serialize) -> Sse {
    // Our own plain values have no maps with non-text keys, the one thing that cannot be JSON.
    Sse::default().event(name).json_data(data).unwrap_or_else(|_| Sse::default().event("error").data("{}"))
}

pub(super) async fn conversations(State(state): State<AppState>) -> Result<Response, ApiError> {
    Ok(Json(state.twins.parts.conversations.list().await?).into_response())
}

pub(super) async fn conversation(State(state): State<AppState>, Path(id): Path<String>) -> Result<Response, ApiError> {
    Ok(Json(state.twins.parts.conversations.get(&id).await?).into_response())
}

pub(super) async fn delete_conversation(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.twins.parts.conversations.delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
