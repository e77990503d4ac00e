//! The API of the page.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use serde::Deserialize;
use serde_json::json;
use twin_domain::{Author, AuthorId};
use utoipa::{OpenApi, ToSchema};

use super::Desk;
use super::job::Watched;
use crate::ingest::{IngestError, IngestOptions, in_a_sentence};
use crate::source::{Repository, Source, SourceError};
use crate::warehouse::WarehouseError;

/// A refusal, in the form that the page's other errors have.
pub(super) struct Refused(StatusCode, String);

impl Refused {
    fn bad(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, message.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": { "message": self.1, "type": "invalid_request_error" } }))).into_response()
    }
}

impl From<SourceError> for Refused {
    fn from(error: SourceError) -> Self {
        Self::bad(in_a_sentence(&error))
    }
}

impl From<JsonRejection> for Refused {
    fn from(rejection: JsonRejection) -> Self {
        Self(rejection.status(), rejection.body_text())
    }
}

fn internal(error: &(dyn std::error::Error + 'static)) -> Refused {
    tracing::error!("a request failed: {}", in_a_sentence(error));
    Refused(StatusCode::INTERNAL_SERVER_ERROR, "something failed inside the server; its log says what".to_owned())
}

impl From<WarehouseError> for Refused {
    fn from(error: WarehouseError) -> Self {
        internal(&error)
    }
}

impl From<IngestError> for Refused {
    fn from(error: IngestError) -> Self {
        internal(&error)
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IngestRequest {
    /// An address, or an account as in `devto:ada`.
    #[schema(pattern = r"\S")]
    source: String,
    /// The author's id, or the name of a new one.
    #[schema(pattern = "[A-Za-z0-9]")]
    author: String,
    /// Take only the posts with this byline.
    byline: Option<String>,
}

/// Begins a run. It goes on when nobody watches; there is one at a time.
#[utoipa::path(
    post, path = "/api/ingest", tag = "Posts", request_body = IngestRequest,
    responses(
        (status = 202, description = "What the source was recognised as", body = Value),
        (status = 400, description = "No address, or a path of the server's own machine"),
        (status = 401, description = "The API key is missing or wrong"),
        (status = 409, description = "Posts are being brought already"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "The body has other fields"),
    )
)]
pub(super) async fn ingest(
    State(desk): State<Desk>,
    body: Result<Json<IngestRequest>, JsonRejection>,
) -> Result<Response, Refused> {
    let Json(request) = body?;
    let source = web_source(&request.source)?;
    let author = author(&desk, &request.author).await?;
    let Ok(turn) = desk.0.running.clone().try_lock_owned() else {
        let message = "posts are being brought already: wait for that, or stop it";
        return Err(Refused(StatusCode::CONFLICT, message.to_owned()));
    };
    let recognised = source.to_string();
    let byline = request.byline.map(|byline| byline.trim().to_owned()).filter(|byline| !byline.is_empty());
    let watched = Watched::begin(&desk.0.state, &author, &recognised);
    tokio::spawn(async move {
        run(&desk, author, source, byline, watched).await;
        drop(turn);
    });
    Ok((StatusCode::ACCEPTED, Json(json!({ "source": recognised }))).into_response())
}

async fn run(desk: &Desk, author: Author, source: Source, byline: Option<String>, watched: Watched) {
    let parts = &desk.0.parts;
    let options = IngestOptions { only_by: byline, ..parts.options.clone() };
    let (store, embedder, cancel) = (parts.store.clone(), parts.embedder.clone(), desk.fresh_cancel());
    let outcome = crate::ingest(&parts.warehouse, store, embedder, &author, &source, &options, &watched, &cancel).await;
    watched.end(outcome);
}

/// What a page may name: nothing that is on this machine.
fn web_source(text: &str) -> Result<Source, Refused> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Refused::bad("there is no address: write one, as in https://ada.example"));
    }
    let is_path = text.starts_with(['/', '.', '~', '\\']) || std::path::Path::new(text).exists();
    let source = if is_path { None } else { Some(Source::recognise(text)?) };
    match source {
        Some(Source::Feed(_) | Source::Web(_) | Source::Account(_) | Source::Git(Repository::Remote(_))) => {
            source.ok_or_else(|| Refused::bad("there is no address"))
        }
        _ => Err(Refused::bad(format!(
            "`{text}` is a path: files are brought with `twin ingest` on the machine that has them"
        ))),
    }
}

/// The author of this id, or a new one of this name.
async fn author(desk: &Desk, named: &str) -> Result<Author, Refused> {
    let store = desk.0.parts.store.clone();
    let known = tokio::task::spawn_blocking(move || store.authors()).await;
    let known = known.map_err(|error| internal(&error))?.map_err(|error| internal(&error))?;
    if let Some(author) = known.into_iter().find(|author| author.id.as_str() == named.trim()) {
        return Ok(author);
    }
    let unnamed = |_| Refused::bad("the author has no name: write one, as in Ada Lovelace");
    let id = AuthorId::from_name(named.trim()).map_err(unnamed)?;
    let store = desk.0.parts.store.clone();
    let known = tokio::task::spawn_blocking(move || store.authors()).await.map_err(|error| internal(&error))?;
    let known = known.map_err(|error| internal(&error))?.into_iter().find(|author| author.id == id);
    Ok(known.unwrap_or_else(|| Author { name: named.trim().to_owned(), ..Author::new(id) }))
}

/// Ends the run that goes on, at a safe place.
#[utoipa::path(
    delete, path = "/api/ingest", tag = "Posts",
    responses((status = 204, description = "It ends"), (status = 401, description = "The API key is missing or wrong"))
)]
pub(super) async fn stop(State(desk): State<Desk>) -> StatusCode {
    desk.cancel();
    StatusCode::NO_CONTENT
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SyncRequest {
    /// The id.
    #[schema(value_type = String, pattern = "^[a-z0-9][a-z0-9-]{0,62}$")]
    author: AuthorId,
}

/// Begins to read an author's sources again.
#[utoipa::path(
    post, path = "/api/ingest/sync", tag = "Posts", request_body = SyncRequest,
    responses(
        (status = 202, description = "It has begun, or begins after the run that goes on"),
        (status = 400, description = "There is no author of this name"),
        (status = 401, description = "The API key is missing or wrong"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "The body has other fields"),
    )
)]
pub(super) async fn sync(
    State(desk): State<Desk>,
    body: Result<Json<SyncRequest>, JsonRejection>,
) -> Result<StatusCode, Refused> {
    let Json(request) = body?;
    let author = author(&desk, request.author.as_str()).await?;
    tokio::spawn(async move { desk.sync(&author).await.map(drop) });
    Ok(StatusCode::ACCEPTED)
}

/// The state as it is and then as it changes, at most five times a second.
#[utoipa::path(
    get, path = "/api/ingest/events", tag = "Posts",
    responses(
        (status = 200, description = "Server-sent events named `state`", content_type = "text/event-stream", body = Value),
        (status = 401, description = "The API key is missing or wrong"),
    )
)]
pub(super) async fn events(State(desk): State<Desk>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    const PAUSE: Duration = Duration::from_millis(200);
    let mut receiver = desk.0.state.subscribe();
    receiver.mark_changed();
    let states = futures::stream::unfold(receiver, |mut receiver| async move {
        // The desk is gone with the server.
        receiver.changed().await.ok()?;
        let snapshot = receiver.borrow_and_update().clone();
        Some((snapshot, receiver))
    });
    let events = states.then(|snapshot| async move {
        tokio::time::sleep(PAUSE).await;
        // Our own plain values have no maps with non-text keys, the one thing that cannot be JSON.
        Ok(Event::default().event("state").json_data(&snapshot).unwrap_or_default())
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(10)))
}

/// What there is of each author.
#[utoipa::path(
    get, path = "/api/inventory", tag = "Posts",
    responses(
        (status = 200, description = "Documents, words, dates and languages by author", body = Vec<Value>),
        (status = 401, description = "The API key is missing or wrong"),
    )
)]
pub(super) async fn inventory(State(desk): State<Desk>) -> Result<Response, Refused> {
    let warehouse = &desk.0.parts.warehouse;
    let mut authors: Vec<AuthorId> = warehouse.sources(None).await?.into_iter().map(|source| source.author).collect();
    authors.sort();
    authors.dedup();
    let mut inventories = Vec::new();
    for author in authors {
        inventories.push(warehouse.inventory(&author).await?);
    }
    Ok(Json(inventories).into_response())
}

/// Where posts come from.
#[utoipa::path(
    get, path = "/api/sources", tag = "Posts",
    responses(
        (status = 200, description = "Every source of every author, and how its last run ended", body = Vec<Value>),
        (status = 401, description = "The API key is missing or wrong"),
    )
)]
pub(super) async fn sources(State(desk): State<Desk>) -> Result<Response, Refused> {
    Ok(Json(desk.0.parts.warehouse.sources(None).await?).into_response())
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceChange {
    /// Whether the source is left alone from now on.
    paused: bool,
}

/// Pauses a source, or lets it go on.
#[utoipa::path(
    patch, path = "/api/sources/{id}", tag = "Posts", request_body = SourceChange,
    params(("id" = i64, Path, description = "The number of the source")),
    responses(
        (status = 204, description = "Done"),
        (status = 400, description = "The number is none"),
        (status = 401, description = "The API key is missing or wrong"),
        (status = 404, description = "There is no such source"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "The body has other fields"),
    )
)]
pub(super) async fn change_source(
    State(desk): State<Desk>,
    Path(id): Path<i64>,
    body: Result<Json<SourceChange>, JsonRejection>,
) -> Result<StatusCode, Refused> {
    let Json(change) = body?;
    if desk.0.parts.warehouse.pause_source(id, change.paused).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unknown(id))
    }
}

/// Removes a source, and its posts with it.
#[utoipa::path(
    delete, path = "/api/sources/{id}", tag = "Posts",
    params(("id" = i64, Path, description = "The number of the source")),
    responses(
        (status = 204, description = "Done"),
        (status = 400, description = "The number is none"),
        (status = 401, description = "The API key is missing or wrong"),
        (status = 404, description = "There is no such source"),
    )
)]
pub(super) async fn remove_source(State(desk): State<Desk>, Path(id): Path<i64>) -> Result<StatusCode, Refused> {
    let parts = &desk.0.parts;
    let _turn = desk.0.running.lock().await;
    let known = parts.warehouse.sources(None).await?.into_iter().find(|source| source.id == id);
    let source = known.ok_or_else(|| unknown(id))?;
    crate::remove_source(&parts.warehouse, parts.store.clone(), &source.author, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn unknown(id: i64) -> Refused {
    Refused(StatusCode::NOT_FOUND, format!("there is no source {id}"))
}

/// The routes, described.
#[derive(OpenApi)]
#[openapi(paths(ingest, stop, sync, events, inventory, sources, change_source, remove_source))]
pub(super) struct Description;
