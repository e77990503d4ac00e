//! The socket: who may be let in, how long a client may take, and how the server stops.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::{ServerConfig, ServerState, router};

/// How long recording what was written, and closing connections, may take after that.
const CLOSING: Duration = Duration::from_secs(4);

/// How long a client may take to send the head of a request. Also ends connections that nobody uses.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// The most open connections; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 512;

/// Why the server did not start.
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
}

/// Opens the socket, refusing what would let other machines in without a key.
///
/// # Errors
/// [`ServeError`] with what to do about it.
pub async fn listen(bind: &str, config: &ServerConfig) -> Result<TcpListener, ServeError> {
    let not_an_address = || ServeError::Address { address: bind.to_owned() };
    let resolved = tokio::net::lookup_host(bind).await.map_err(|_| not_an_address())?.next();
    let address = resolved.ok_or_else(not_an_address)?;
    if !address.ip().is_loopback() && !config.is_guarded() {
        return Err(ServeError::NeedsKey { address });
    }
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::InUse { address },
        _ => ServeError::Listen { address, source },
    })
}

/// Serves until `stop` ends. Then nobody new is let in, open answers may go on for the configured grace, those that are not
/// done are ended and recorded as far as they came, and four seconds later at most this returns.
///
/// `axum::serve` would wait for open streams for ever, and has no time limit for the head of a request.
pub async fn serve(listener: TcpListener, state: ServerState, stop: impl Future<Output = ()> + Send) {
    let app = router(state.clone());
    let connections = TaskTracker::new();
    tokio::select! {
        () = accept(&listener, &app, &state, &connections) => {}
        () = stop => {}
    }
    drop(listener);
    state.stopping.cancel();
    state.answers.close();
    connections.close();
    let all_done = async {
        connections.wait().await;
        state.answers.wait().await;
    };
    let mut all_done = std::pin::pin!(all_done);
    tokio::select! {
        () = &mut all_done => return,
        () = sleep(state.config.grace) => {}
    }
    state.ending.cancel();
    if timeout(CLOSING, all_done).await.is_err() {
        tracing::warn!("some connections were still open when the server stopped");
    }
}

/// Lets clients in, for ever.
async fn accept(listener: &TcpListener, app: &Router, state: &ServerState, connections: &TaskTracker) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // The semaphore is never closed; if it were, there would be no room, and so no more clients.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (app, state) = (app.clone(), state.clone());
                connections.spawn(async move {
                    connection(stream, app, &state).await;
                    drop(permit);
                });
            }
            // Too many open files, or a client that left already; the next one may have more luck.
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves one client until it leaves, or its current request is answered after a request to stop.
async fn connection(stream: TcpStream, app: Router, state: &ServerState) {
    let _ = stream.set_nodelay(true); // Tokens are small and should not wait for each other.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = state.stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!("a connection ended early: {error}");
    }
}
