//! Whether the server lives and whether it can answer. Neither touches the model's queue.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::ServerState;

pub(super) async fn alive() -> &'static str {
    "ok\n"
}

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
