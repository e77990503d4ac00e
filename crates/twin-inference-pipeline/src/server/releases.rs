//! How releases fare: what readers say of answers, and the report that the page shows.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::ServerState;
use super::body::Body;
use super::openai::ApiError;
use super::openapi::Problems;
use crate::conversations::{Outcome, OutcomeKind, edit_distance};
use crate::experiment::{ExperimentError, report};

/// What became of the last answer of a conversation.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum Said {
    /// The reader found it helpful, or did not.
    Helpful { helpful: bool },
    /// The reader took a copy.
    Copied,
    /// The reader asked for another answer.
    Regenerated,
    /// The author published this in the end.
    Published { text: String },
}

#[derive(Deserialize, ToSchema)]
pub(super) struct OutcomeRequest {
    conversation: String,
    #[serde(flatten)]
    said: Said,
}

/// Records what became of an answer. Of an author without releases there is nothing to compare, so nothing is kept.
#[utoipa::path(
    post, path = "/api/outcomes", tag = "Releases", request_body = OutcomeRequest,
    responses((status = 204, description = "It is noted"), Problems)
)]
pub(super) async fn outcome(
    State(state): State<ServerState>,
    Body(body): Body<OutcomeRequest>,
) -> Result<StatusCode, ApiError> {
    let conversations = state.twins.conversations();
    let (release, text) = conversations.last_answer(&body.conversation).await?;
    let author = conversations.get(&body.conversation).await?.summary.author;
    let Some(release) = release else { return Ok(StatusCode::NO_CONTENT) };
    let (kind, value) = match body.said {
        Said::Helpful { helpful } => (OutcomeKind::Helpful, f64::from(u8::from(helpful))),
        Said::Copied => (OutcomeKind::Copied, 1.0),
        Said::Regenerated => (OutcomeKind::Regenerated, 1.0),
        Said::Published { text: published } => {
            // Both texts are within the limit of a request's size.
            let distance = tokio::task::spawn_blocking(move || edit_distance(&text, &published));
            (OutcomeKind::EditDistance, distance.await.map_err(ApiError::internal)?)
        }
    };
    conversations.record(&author, &Outcome { release, conversation: body.conversation, kind, value }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The report of every author with a release.
#[utoipa::path(get, path = "/api/releases", tag = "Releases", responses((status = 200, description = "A report for each author", body = Value), Problems))]
pub(super) async fn all(State(state): State<ServerState>) -> Result<Response, ApiError> {
    let (twins, mut reports) = (state.twins.clone(), Vec::new());
    let authors = tokio::task::spawn_blocking(move || twins.authors()).await.map_err(ApiError::internal)??;
    for author in authors {
        let parts = &state.twins.parts;
        reports.extend(report(parts.registry.as_ref(), &parts.conversations, &author.id).await?);
    }
    Ok(Json(reports).into_response())
}

impl From<ExperimentError> for ApiError {
    fn from(error: ExperimentError) -> Self {
        match error {
            ExperimentError::Registry(error) => crate::twins::TwinError::from(error).into(),
            ExperimentError::Conversations(error) => error.into(),
        }
    }
}
