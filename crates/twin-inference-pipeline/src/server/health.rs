//! Whether the server lives and whether it can answer. Neither touches the model's queue.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::ServerState;

/// Whether the server lives
#[utoipa::path(get, path = "/healthz", tag = "Operation", responses((status = 200, description = "It does", body = String)))]
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// Whether the server can answer
#[utoipa::path(
    get, path = "/readyz", tag = "Operation",
    responses((status = 200, description = "It can", body = Value), (status = 503, description = "It cannot, or is stopping", body = Value))
)]
pub(super) async fn ready(State(state): State<ServerState>) -> (StatusCode, Json<Value>) {
    let twins = state.twins.clone();
    let authors = tokio::task::spawn_blocking(move || twins.authors().map(|authors| authors.len())).await;
    let authors = authors.ok().and_then(Result::ok);
    let conversations = state.twins.parts.conversations.is_ready().await;
    let stopping = state.stopping.is_cancelled();
    let ready = authors.is_some() && conversations && !stopping;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let answering = state.twins.generator.admitted();
    let report = json!({
        "ready": ready, "authors": authors, "conversations": conversations, "stopping": stopping, "answering": answering,
        "model": state.twins.parts.model.info().name,
    });
    (status, Json(report))
}
