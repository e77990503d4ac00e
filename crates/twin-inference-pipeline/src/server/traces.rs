//! What answers were made of: a list, each with all of it, and all as JSON lines.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::ServerState;
use super::body::Address;
use super::openai::ApiError;
use super::openapi::Problems;
use crate::conversations::{ConversationError, Conversations, KeptTrace};

/// How many traces one look has, unless fewer are asked for.
const PAGE: u32 = 50;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only of this author.
    author: Option<String>,
    /// Only older than this, a `created_at` of an earlier look.
    before: Option<String>,
    /// At most 50, which is also what comes without it.
    #[param(minimum = 0, maximum = 50)]
    limit: Option<u32>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ExportQuery {
    /// Only of this author.
    author: Option<String>,
    /// Only older than this, the `created_at` of a trace.
    before: Option<String>,
}

/// The newest first, each by what one wants to know at a glance.
#[utoipa::path(get, path = "/api/traces", tag = "Traces", params(ListQuery), responses((status = 200, description = "The list", body = Value), Problems))]
pub(super) async fn list(
    State(state): State<ServerState>,
    Address(Query(query)): Address<Query<ListQuery>>,
) -> Result<Response, ApiError> {
    let limit = query.limit.unwrap_or(PAGE);
    if limit > PAGE {
        return Err(
            ApiError::bad_request(format!("`limit` must be at most {PAGE}: go on with `before`")).param("limit")
        );
    }
    let found = state.twins.conversations().traces(query.author.as_deref(), query.before.as_deref(), limit).await?;
    let entries: Vec<Value> = found.iter().map(entry).collect();
    Ok(Json(entries).into_response())
}

fn entry(KeptTrace { id, asked, created_at, trace, .. }: &KeptTrace) -> Value {
    json!({
        "id": id, "asked": asked, "created_at": created_at, "author": trace.author, "release": trace.release,
        "finish_reason": trace.finish_reason, "abstained": trace.abstained, "grounded_share": trace.grounded_share(),
        "prompt_tokens": trace.prompt_tokens, "new_tokens": trace.new_tokens, "total_seconds": trace.total_seconds,
    })
}

/// All that one answer was made of
#[utoipa::path(
    get, path = "/api/traces/{id}", tag = "Traces", params(("id" = String, Path, description = "As the list has it")),
    responses((status = 200, description = "The trace", body = Value), Problems)
)]
pub(super) async fn one(
    State(state): State<ServerState>,
    Address(Path(id)): Address<Path<String>>,
) -> Result<Response, ApiError> {
    Ok(Json(state.twins.conversations().trace(id.parse()?).await?).into_response())
}

/// All traces, newest first, one a line. They are read as the client takes them.
#[utoipa::path(
    get, path = "/api/traces.jsonl", tag = "Traces", params(ExportQuery),
    responses((status = 200, description = "A trace on each line", content_type = "application/x-ndjson", body = String), Problems)
)]
pub(super) async fn export(
    State(state): State<ServerState>,
    Address(Query(query)): Address<Query<ExportQuery>>,
) -> Response {
    let lines = lines(state.twins.conversations().clone(), query.author, query.before);
    let headers =
        [(CONTENT_TYPE, "application/x-ndjson"), (CONTENT_DISPOSITION, "attachment; filename=\"traces.jsonl\"")];
    (headers, Body::from_stream(lines)).into_response()
}

fn lines(
    conversations: Conversations,
    author: Option<String>,
    before: Option<String>,
) -> impl Stream<Item = Result<String, ConversationError>> {
    futures::stream::try_unfold(
        (conversations, author, before, false),
        |(conversations, author, before, done)| async move {
            if done {
                return Ok(None);
            }
            let found = conversations.traces(author.as_deref(), before.as_deref(), PAGE).await?;
            let Some(last) = found.last() else { return Ok(None) };
            let (before, done) = (Some(last.created_at.clone()), found.len() < PAGE as usize);
            let mut text = String::new();
            for trace in &found {
                text.push_str(&serde_json::to_string(trace)?);
                text.push('\n');
            }
            Ok(Some((text, (conversations, author, before, done))))
        },
    )
}
