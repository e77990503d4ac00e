//! Questions that are still being typed: the page sends them, and the newest is read ahead.

use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use twin_domain::{CancelFlag, ChatMessage};
use twin_models::prompt::Request;
use utoipa::ToSchema;

use super::ServerState;
use super::api::Asked;
use super::body::Body;
use super::openai::ApiError;
use super::openapi::Problems;
use crate::twins::AnswerRequest;

/// What is read ahead: one request, and the newest takes its place.
#[derive(Default)]
pub(super) struct Ahead {
    newest: Mutex<CancelFlag>,
    /// One is looked up at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Ahead {
    /// Ends it, because somebody asks. What was read until then stays known.
    pub(super) fn give_way(&self) {
        self.newest().cancel();
    }

    fn replace(&self) -> CancelFlag {
        let next = CancelFlag::new();
        std::mem::replace(&mut *self.newest(), next.clone()).cancel();
        next
    }

    fn newest(&self) -> MutexGuard<'_, CancelFlag> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerState {
    /// Reads ahead on a task of its own, which ends when somebody asks, types on, or stops the server.
    fn read_ahead(&self, request: AnswerRequest) {
        let (state, cancel) = (self.clone(), self.ahead.replace());
        self.answers.spawn(async move {
            let _turn = state.ahead.turn.lock().await;
            if cancel.is_cancelled() {
                return;
            }
            tokio::select! {
                read = state.twins.read_ahead(request, cancel.clone()) => if let Err(error) = read {
                    tracing::debug!(%error, "a question was not read ahead");
                },
                () = state.stopping.cancelled() => cancel.cancel(),
            }
        });
    }
}

/// A request of the chat page that is not sent yet.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AheadRequest {
    /// A model name: an author's id, or a version of theirs.
    author: String,
    /// What will be asked, as far as it is known.
    #[schema(value_type = Asked)]
    request: Request,
    /// The conversation that it will go on with.
    conversation: Option<String>,
}

/// Read ahead
///
/// What is still being typed is looked up, and the model reads the prompt, so that the first word of the answer comes sooner.
/// Only while nobody is answered, one request at a time, the newest; nothing is recorded. 204 says that it was understood.
#[utoipa::path(
    post, path = "/api/chat/ahead", tag = "Twins", request_body = AheadRequest,
    responses((status = 204, description = "It is read if there is time"), Problems)
)]
pub(super) async fn ahead(
    State(state): State<ServerState>,
    Body(body): Body<AheadRequest>,
) -> Result<StatusCode, ApiError> {
    if !state.twins.config().read_ahead {
        return Ok(StatusCode::NO_CONTENT);
    }
    let (mut history, mut release) = (Vec::new(), None);
    if let Some(id) = &body.conversation {
        let conversations = state.twins.conversations();
        let messages = conversations.get(id).await?.messages;
        history.extend(messages.into_iter().map(|message| ChatMessage::new(message.role, message.content)));
        release = conversations.assigned(id).await?;
    }
    state.read_ahead(AnswerRequest { release, history, ..AnswerRequest::new(body.author, body.request) });
    Ok(StatusCode::NO_CONTENT)
}
