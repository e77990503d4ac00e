//! The server: web pages, the API they use, and the API that OpenAI clients speak.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;
use twin_domain::CancelFlag;

use crate::twins::Twins;

mod api;
mod guard;
mod health;
mod openai;
mod pages;

/// The largest request body. A conversation that the model can read is far shorter.
const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;

/// How long open answers may go on after a request to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Who may reach the server.
#[derive(Clone, Default)]
pub struct ServerConfig {
    /// Host names, besides the loopback ones, by which browsers may reach it. A page elsewhere that points its own name at
    /// this machine (DNS rebinding) is turned away by this.
    pub hosts: Vec<String>,
    /// The key that every request but the health checks must show.
    pub api_key: Option<String>,
}

/// Why the server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("`{address}` is not an address to listen on: write a host and a port, as in 127.0.0.1:8080")]
    Address { address: String },
    #[error(
        "{address} can be reached from other machines, which needs an API key: set TWIN__SERVER__API_KEY to at least 16 characters"
    )]
    NeedsKey { address: SocketAddr },
    #[error("{address} is in use: stop what listens there, or choose another port with --bind")]
    InUse { address: SocketAddr },
    #[error("could not listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the server failed")]
    Serve(#[source] io::Error),
}

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct AppState {
    pub(crate) twins: Arc<Twins>,
    pub(crate) config: Arc<ServerConfig>,
    /// Set when the server is to stop: open answers end, and it is no longer ready.
    pub(crate) stopping: CancelFlag,
}

/// Opens the socket, refusing what would let other machines in without a key.
///
/// # Errors
/// [`ServeError`] with what to do about it.
pub async fn listen(bind: &str, config: &ServerConfig) -> Result<TcpListener, ServeError> {
    let not_an_address = || ServeError::Address { address: bind.to_owned() };
    let resolved = tokio::net::lookup_host(bind).await.map_err(|_| not_an_address())?.next();
    let address = resolved.ok_or_else(not_an_address)?;
    let guarded = config.api_key.as_ref().is_some_and(|key| key.len() >= 16);
    if !address.ip().is_loopback() && !guarded {
        return Err(ServeError::NeedsKey { address });
    }
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::InUse { address },
        _ => ServeError::Listen { address, source },
    })
}

/// Serves until `stop` ends, then lets open answers finish for a short while.
///
/// # Errors
/// [`ServeError::Serve`] when the socket fails.
pub async fn serve(
    listener: TcpListener,
    twins: Arc<Twins>,
    config: ServerConfig,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let stopping = CancelFlag::new();
    let app = router(twins, config, stopping.clone());
    let (asked, mut was_asked) = tokio::sync::watch::channel(false);
    let graceful = async move {
        stop.await;
        stopping.cancel();
        let _ = asked.send(true); // The other end lives as long as this function.
    };
    let server = axum::serve(listener, app).with_graceful_shutdown(graceful);
    let deadline = async move {
        // `axum` waits for open streams for ever; this does not.
        if was_asked.wait_for(|asked| *asked).await.is_ok() {
            tokio::time::sleep(GRACE).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        served = server => served.map_err(ServeError::Serve),
        () = deadline => Ok(()),
    }
}

/// The routes.
pub fn router(twins: Arc<Twins>, config: ServerConfig, stopping: CancelFlag) -> Router {
    let state = AppState { twins, config: Arc::new(config), stopping };
    Router::new()
        .route("/api/authors", get(api::authors))
        .route("/api/chat", post(api::chat))
        .route("/api/conversations", get(api::conversations))
        .route("/api/conversations/{id}", get(api::conversation).delete(api::delete_conversation))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{id}", get(openai::model))
        .route("/v1/chat/completions", post(openai::chat_completions))
        .route("/v1/embeddings", post(openai::embeddings))
        .layer(middleware::from_fn_with_state(state.clone(), guard::api_key))
        .route("/", get(pages::index))
        .route("/app.js", get(pages::script))
        .route("/style.css", get(pages::style))
        .route("/icon.svg", get(pages::icon))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .fallback(openai::not_found)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(state.clone(), guard::browsers))
        .layer(middleware::from_fn(guard::headers))
        .layer(CatchPanicLayer::new())
        .with_state(state)
}
