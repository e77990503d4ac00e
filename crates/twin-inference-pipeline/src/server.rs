//! The server: web pages, the API they use, and the API that OpenAI clients speak.

use std::sync::Arc;
use std::time::{Duration, Instant};

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
use tracing::Instrument as _;
use twin_domain::{CancelFlag, Digest};

use self::ahead::Ahead;
use self::limits::Limiter;
use self::metrics::Metrics;
use self::openai::ApiError;
use self::runs::Runs;
use crate::generator::{Permit, SubmitError};
use crate::twins::{Answer, AnswerError, AnswerRequest, Event, Twins, spoken};

pub use self::limits::Limits;
pub use self::listen::{ServeError, listen, serve};
pub use self::mcp::{McpError, serve_streams};

mod ahead;
mod api;
mod body;
mod guard;
mod health;
mod limits;
mod listen;
mod mcp;
mod metrics;
mod openai;
mod openapi;
mod pages;
mod releases;
mod runs;
mod spans;
mod traces;
mod view;

/// The largest request body. A conversation that the model can read is far shorter.
const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;

/// How many events of an answer may wait for a slow reader.
const EVENT_BUFFER: usize = 16;

/// The shortest API key that lets other machines in.
const MIN_KEY_LENGTH: usize = 16;

/// Who may reach the server, and how much they may ask. It holds digests of the keys and never the keys.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    hosts: Vec<String>,
    api_keys: Vec<ApiKey>,
    limits: Limits,
    /// How long open answers may go on after a request to stop.
    grace: Duration,
}

#[derive(Debug, Clone)]
struct ApiKey {
    digest: Digest,
    length: usize,
}

/// Whose request it is: the number of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller(usize);

impl Default for ServerConfig {
    fn default() -> Self {
        Self::new(Vec::new(), None)
    }
}

impl ServerConfig {
    /// `hosts` are the names, besides the loopback ones, by which browsers may reach the server; a page elsewhere that points
    /// its own name at this machine (DNS rebinding) is turned away by them. With `api_keys`, one or several with commas between
    /// them, every request but those for the pages and the health checks must show one.
    pub fn new(hosts: Vec<String>, api_keys: Option<&str>) -> Self {
        let keys = api_keys.into_iter().flat_map(|keys| keys.split(',')).map(str::trim).filter(|key| !key.is_empty());
        let api_keys = keys.map(|key| ApiKey { digest: Digest::of(key), length: key.len() }).collect();
        Self { hosts, api_keys, limits: Limits::default(), grace: Duration::from_secs(5) }
    }

    /// Holds each key to limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Lets open answers go on for so long after a request to stop.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Whether the keys are long enough to let other machines in.
    fn is_guarded(&self) -> bool {
        !self.api_keys.is_empty() && self.api_keys.iter().all(|key| key.length >= MIN_KEY_LENGTH)
    }
}

/// What the handlers share.
#[derive(Clone)]
pub struct ServerState {
    twins: Arc<Twins>,
    config: Arc<ServerConfig>,
    metrics: Arc<Metrics>,
    limiter: Arc<Limiter>,
    /// The server is to stop: it is no longer ready.
    stopping: CancellationToken,
    /// Time is up: answers end where they are.
    ending: CancellationToken,
    /// Answers that are being written, whether or not somebody still reads them.
    answers: TaskTracker,
    /// Those of the chat page, which outlive their readers for a while.
    runs: Arc<Runs>,
    ahead: Arc<Ahead>,
    others: Option<Box<OtherRoutes>>,
}

/// What another pipeline serves on the same address.
#[derive(Clone, Default)]
pub struct OtherRoutes {
    /// Asks for the key, like the API.
    pub guarded: Router<ServerState>,
    /// Asks for none, like the pages.
    pub pages: Router<ServerState>,
    /// Of the guarded routes.
    pub description: utoipa::openapi::OpenApi,
}

impl ServerState {
    /// The state of a server that nobody has asked to stop.
    pub fn new(twins: Arc<Twins>, config: ServerConfig) -> Self {
        Self {
            limiter: Arc::new(Limiter::new(config.limits, config.api_keys.len())),
            twins,
            config: Arc::new(config),
            metrics: Arc::default(),
            stopping: CancellationToken::new(),
            ending: CancellationToken::new(),
            answers: TaskTracker::new(),
            runs: Arc::default(),
            ahead: Arc::default(),
            others: None,
        }
    }

    /// Serves another pipeline's routes, too.
    pub fn with_routes(mut self, others: OtherRoutes) -> Self {
        self.others = Some(Box::new(others));
        self
    }

    /// Asks for the right to one answer, counting who is turned away.
    fn admit(&self) -> Result<Permit, ApiError> {
        self.ahead.give_way();
        let admitted = self.twins.admit().inspect(|_| self.metrics.admitted(self.twins.generator.admitted()));
        admitted.map_err(|error| {
            self.metrics.rejected();
            self.runs.give_way();
            match error {
                // One place is free when one answer is done.
                SubmitError::Full { .. } => ApiError::too_many(error.to_string(), self.metrics.usual_seconds()),
                SubmitError::Stopped => AnswerError::from(error).into(),
            }
        })
    }

    /// Answers on a task of its own, so that what was written is recorded even if the reader leaves: dropping the receiver
    /// stops the model and nothing else.
    fn answer(
        &self,
        permit: Permit,
        request: AnswerRequest,
        caller: Caller,
    ) -> (mpsc::Receiver<Event>, JoinHandle<Result<Answer, AnswerError>>) {
        let (sender, receiver) = mpsc::channel(EVENT_BUFFER);
        let state = self.clone();
        let span = spans::answer(&request);
        let of_answer = span.clone();
        let answering = async move {
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
            spans::answered(&of_answer, &answer);
            if let Ok(answer) = &answer {
                let tokens = answer.trace.prompt_tokens + answer.trace.new_tokens;
                state.limiter.spend(caller, tokens, Instant::now());
                state.keep(&asked, answer).await;
                state.shadow(asked, answer.clone());
            }
            answer
        };
        (receiver, self.answers.spawn(answering.instrument(span)))
    }

    /// Keeps what an answer was made of that belongs to no conversation. The answer is given all the same where that fails.
    async fn keep(&self, asked: &AnswerRequest, answer: &Answer) {
        if asked.conversation.is_some() || answer.text.is_empty() {
            return;
        }
        if let Err(error) = self.twins.conversations().keep(&spoken(&asked.request), answer).await {
            tracing::warn!(%error, "what an answer was made of could not be kept");
        }
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
    let OtherRoutes { guarded, pages: other_pages, .. } =
        state.others.clone().map(|others| *others).unwrap_or_default();
    Router::new()
        .route("/api/authors", get(api::authors))
        .route("/api/chat", post(api::chat))
        .route("/api/chat/ahead", post(ahead::ahead))
        .route("/api/conversations", get(api::conversations))
        .route("/api/conversations/{id}", get(api::conversation).delete(api::delete_conversation))
        .route("/api/conversations/{id}/answer", get(api::follow_answer).delete(api::stop_answer))
        .route("/api/outcomes", post(releases::outcome))
        .route("/api/releases", get(releases::all))
        .route("/api/traces", get(traces::list))
        .route("/api/traces.jsonl", get(traces::export))
        .route("/api/traces/{id}", get(traces::one))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{id}", get(openai::model))
        .route("/v1/chat/completions", post(openai::chat_completions))
        .route("/v1/completions", post(openai::completions))
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/metrics", get(metrics::metrics))
        .route_service("/mcp", mcp::service(&state))
        .merge(guarded)
        .route_layer(middleware::from_fn_with_state(state.clone(), guard::api_key))
        .route("/api/openapi.json", get(openapi::openapi))
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
