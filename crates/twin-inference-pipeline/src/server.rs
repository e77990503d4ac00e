//! The server: web pages, the API they use, and the API that OpenAI clients speak.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;
use twin_domain::{CancelFlag, Digest};

use self::metrics::Metrics;
use self::openai::ApiError;
use crate::generator::Permit;
use crate::twins::{Answer, AnswerError, AnswerRequest, Event, Twins};

pub use self::listen::{ServeError, listen, serve};

mod api;
mod body;
mod guard;
mod health;
mod listen;
mod metrics;
mod openai;
mod pages;
mod releases;
mod view;

/// The largest request body. A conversation that the model can read is far shorter.
const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;

/// How many events of an answer may wait for a slow reader.
const EVENT_BUFFER: usize = 16;

/// The shortest API key that lets other machines in.
const MIN_KEY_LENGTH: usize = 16;

/// Who may reach the server. It holds a digest of the key and never the key.
#[derive(Debug, Clone, Default)]
pub struct ServerConfig {
    hosts: Vec<String>,
    api_key: Option<ApiKey>,
}

#[derive(Debug, Clone)]
struct ApiKey {
    digest: Digest,
    length: usize,
}

impl ServerConfig {
    /// `hosts` are the names, besides the loopback ones, by which browsers may reach the server; a page elsewhere that points
    /// its own name at this machine (DNS rebinding) is turned away by them. With an `api_key`, every request but those for
    /// the pages and the health checks must show it.
    pub fn new(hosts: Vec<String>, api_key: Option<&str>) -> Self {
        let api_key = api_key.map(|key| ApiKey { digest: Digest::of(key), length: key.len() });
        Self { hosts, api_key }
    }

    /// Whether the key is long enough to let other machines in.
    fn is_guarded(&self) -> bool {
        self.api_key.as_ref().is_some_and(|key| key.length >= MIN_KEY_LENGTH)
    }
}

/// What the handlers share.
#[derive(Clone)]
pub struct ServerState {
    twins: Arc<Twins>,
    config: Arc<ServerConfig>,
    metrics: Arc<Metrics>,
    /// The server is to stop: it is no longer ready.
    stopping: CancellationToken,
    /// Time is up: answers end where they are.
    ending: CancellationToken,
    /// Answers that are being written, whether or not somebody still reads them.
    answers: TaskTracker,
    /// Routes of another pipeline that ask for the key, and its pages, which do not.
    others: Option<Box<(Router<Self>, Router<Self>)>>,
}

impl ServerState {
    /// The state of a server that nobody has asked to stop.
    pub fn new(twins: Arc<Twins>, config: ServerConfig) -> Self {
        Self {
            twins,
            config: Arc::new(config),
            metrics: Arc::default(),
            stopping: CancellationToken::new(),
            ending: CancellationToken::new(),
            answers: TaskTracker::new(),
            others: None,
        }
    }

    /// Serves another pipeline's routes, too: `guarded` like the API, `pages` like the pages.
    pub fn with_routes(mut self, guarded: Router<Self>, pages: Router<Self>) -> Self {
        self.others = Some(Box::new((guarded, pages)));
        self
    }

    /// Asks for the right to one answer, counting who is turned away.
    fn admit(&self) -> Result<Permit, ApiError> {
        self.twins.admit().map_err(|error| {
            self.metrics.rejected();
            AnswerError::from(error).into()
        })
    }

    /// Answers on a task of its own, so that what was written is recorded even if the reader leaves: dropping the receiver
    /// stops the model and nothing else.
    fn answer(
        &self,
        permit: Permit,
        request: AnswerRequest,
    ) -> (mpsc::Receiver<Event>, JoinHandle<Result<Answer, AnswerError>>) {
        let (sender, receiver) = mpsc::channel(EVENT_BUFFER);
        let state = self.clone();
        let answer = self.answers.spawn(async move {
            let cancel = CancelFlag::new();
            let asked = request.clone();
            let mut answering = std::pin::pin!(state.twins.answer(permit, request, sender, cancel.clone()));
            let answer = tokio::select! {
                answer = &mut answering => answer,
                () = state.ending.cancelled() => {
                    cancel.cancel();
                    answering.await
                }
            };
            state.metrics.answered(&answer);
            if let Ok(answer) = &answer {
                state.shadow(asked, answer.clone());
            }
            answer
        });
        (receiver, answer)
    }

    /// Lets a shadow answer, too, on a task of its own, which ends when the server stops.
    fn shadow(&self, request: AnswerRequest, seen: Answer) {
        if request.conversation.is_none() || seen.trace.abstained {
            return;
        }
        let state = self.clone();
        self.answers.spawn(async move {
            let cancel = CancelFlag::new();
            let shadow = state.twins.shadow(request, &seen, cancel.clone());
            let mut shadow = std::pin::pin!(shadow);
            let ended = tokio::select! {
                ended = &mut shadow => ended,
                () = state.stopping.cancelled() => {
                    cancel.cancel();
                    shadow.await
                }
            };
            if let Err(error) = ended {
                tracing::warn!(%error, "a shadow could not answer");
            }
        });
    }
}

/// The routes.
pub fn router(state: ServerState) -> Router {
    let (guarded, other_pages) = state.others.clone().map(|others| *others).unwrap_or_default();
    Router::new()
        .route("/api/authors", get(api::authors))
        .route("/api/chat", post(api::chat))
        .route("/api/conversations", get(api::conversations))
        .route("/api/conversations/{id}", get(api::conversation).delete(api::delete_conversation))
        .route("/api/outcomes", post(releases::outcome))
        .route("/api/releases", get(releases::all))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{id}", get(openai::model))
        .route("/v1/chat/completions", post(openai::chat_completions))
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/metrics", get(metrics::metrics))
        .merge(guarded)
        .route_layer(middleware::from_fn_with_state(state.clone(), guard::api_key))
        .merge(pages::router())
        .merge(other_pages)
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .fallback(openai::not_found)
        .method_not_allowed_fallback(openai::method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(state.clone(), guard::browsers))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(guard::headers))
        .with_state(state)
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    // The panic hook has logged what and where.
    let message = "something failed inside the server; its log says what";
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message).into_response()
}
