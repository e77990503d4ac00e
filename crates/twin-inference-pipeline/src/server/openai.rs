//! The API that OpenAI clients speak: `/v1/chat/completions`, `/v1/completions`, `/v1/models`, `/v1/embeddings`, and errors in
//! their form.
//!
//! What cannot be honoured is refused by name rather than ignored. Citations are in an extra field, `x_twin`, which typed
//! clients pass over.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::ServerState;
use super::body::Address;
use super::openapi::Problems;
use crate::twins::RELEASE;

pub(super) use self::chat::{__path_chat_completions, chat_completions};
pub(super) use self::completions::{__path_completions, completions};
pub(super) use self::embeddings::{__path_embeddings, embeddings};
pub(super) use self::error::ApiError;

mod chat;
mod completions;
mod embeddings;
mod error;
mod likelihoods;
mod messages;
mod parameters;
mod reply;

/// The models: each author, each release, each version
#[utoipa::path(get, path = "/v1/models", tag = "OpenAI", responses((status = 200, description = "The list", body = Value), Problems))]
pub(super) async fn models(State(state): State<ServerState>) -> Result<Response, ApiError> {
    let models: Vec<Value> = all_models(state).await?;
    Ok(Json(json!({ "object": "list", "data": models })).into_response())
}

/// One model
#[utoipa::path(
    get, path = "/v1/models/{id}", tag = "OpenAI", params(("id" = String, Path, description = "As the list has it")),
    responses((status = 200, description = "The model", body = Value), Problems)
)]
pub(super) async fn model(
    State(state): State<ServerState>,
    Address(Path(id)): Address<Path<String>>,
) -> Result<Response, ApiError> {
    let found = all_models(state).await?.into_iter().find(|model| model["id"] == id);
    found.map(|model| Json(model).into_response()).ok_or_else(|| ApiError::unknown_model(&id))
}

/// A model for each author, named by id, one for each release and one for each version of each.
async fn all_models(state: ServerState) -> Result<Vec<Value>, ApiError> {
    let twins = state.twins;
    let models = tokio::task::spawn_blocking(move || -> Result<Vec<Value>, ApiError> {
        let mut models = Vec::new();
        let entry = |id: String, created: i64, owner: &str| json!({ "id": id, "object": "model", "created": created, "owned_by": owner });
        for author in twins.authors()? {
            let serving = twins.parts.registry.serving(&author.id).map_err(crate::twins::TwinError::from)?;
            let created = serving.map_or(0, |release| release.created_at.as_second());
            models.push(entry(author.id.to_string(), created, &author.name));
            for release in twins.parts.registry.releases(&author.id).map_err(crate::twins::TwinError::from)? {
                let id = format!("{}{RELEASE}{}", author.id, release.number);
                models.push(entry(id, release.created_at.as_second(), &author.name));
            }
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
