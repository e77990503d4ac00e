//! Calls to the server: from synchronous code, with retries, and with errors that say what to do.
//!
//! Every request that goes through here may be sent twice without harm: the client itself repeats one whose answer was lost.

use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;

use qdrant_client::{Qdrant, QdrantError};
use tokio::runtime::Runtime;
use tonic::{Code, Status};
use twin_domain::StoreError;

use super::ServerOptions;
use crate::failure::engine;

/// The first wait before a request is sent again; each further one is twice as long, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A server that is overloaded may ask for longer, but not for more than this.
const LONGEST_ASKED_WAIT: Duration = Duration::from_secs(60);

/// A client with the threads that it runs on.
pub(super) struct Connection {
    client: Qdrant,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    url: String,
    retries: u32,
}

impl Connection {
    /// Makes the client. The server is not called yet.
    pub fn new(options: &ServerOptions) -> Result<Self, StoreError> {
        let config = Qdrant::from_url(&options.url)
            .api_key(options.api_key.clone())
            .timeout(options.timeout)
            .connect_timeout(options.connect_timeout)
            // Its own check prints to standard output; ours is `QdrantServer::open`.
            .skip_compatibility_check();
        let failed =
            |error: QdrantError| engine(format!("make a client for the Qdrant server `{}`", options.url), error);
        let client = config.build().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(|error| engine("start the threads of its client", error))?;
        Ok(Self { client, runtime: Some(runtime), url: options.url.clone(), retries: options.retries })
    }

    /// Sends a request and waits for the answer, again if the server cannot be reached or is overloaded.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the server does not have `what`, [`StoreError::Invalid`] when it refuses what was
    /// sent, [`StoreError::Engine`] otherwise.
    pub fn call<T, F>(
        &self,
        what: &str,
        operation: &str,
        request: impl Fn(Qdrant) -> F + Send + Sync + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, QdrantError>> + Send,
    {
        let (client, retries) = (self.client.clone(), self.retries);
        // The caller may itself be on a thread of an asynchronous runtime, where blocking on a future is not allowed;
        // waiting for another thread is.
        let (sender, receiver) = mpsc::sync_channel(1);
        let runtime = self.runtime.as_ref().expect("the runtime is taken out only when the connection is dropped");
        runtime.spawn(async move {
            let answer = with_retries(retries, || request(client.clone())).await;
            // A receiver that is gone belonged to a caller that panicked.
            let _ = sender.send(answer);
        });
        let answer = receiver.recv().map_err(|error| engine(operation, error))?;
        answer.map_err(|error| self.explain(what, operation, error))
    }

    fn explain(&self, what: &str, operation: &str, error: QdrantError) -> StoreError {
        let server = format!("the Qdrant server at `{}`", self.url);
        let said = match &error {
            QdrantError::ResponseError { status } | QdrantError::ResourceExhaustedError { status, .. } => status,
            _ => return engine(operation, error),
        };
        let explained = |text: String| engine(operation, ServerError { text, source: Some(said.clone()) });
        match said.code() {
            Code::NotFound => StoreError::NotFound { what: what.to_owned() },
            Code::InvalidArgument => StoreError::Invalid { what: what.to_owned(), problem: said.message().to_owned() },
            Code::Unauthenticated | Code::PermissionDenied => explained(format!(
                "{server} refused the API key, or wants one and was given none: set the key that it was started with"
            )),
            Code::DeadlineExceeded | Code::Cancelled => {
                explained(format!("{server} did not answer in time: see whether it is overloaded, or allow it longer"))
            }
            Code::Unavailable | Code::Internal | Code::Unknown if is_unreachable(said) => explained(format!(
                "{server} cannot be reached: see that it runs, and that the address is that of its gRPC port, usually 6334"
            )),
            Code::ResourceExhausted => explained(format!("{server} is overloaded: {}", said.message())),
            _ => explained(format!("{server} failed: {}", said.message())),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A runtime that is dropped waits for its threads, which asynchronous code must not do.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn with_retries<T, F>(retries: u32, request: impl Fn() -> F) -> Result<T, QdrantError>
where
    F: Future<Output = Result<T, QdrantError>>,
{
    let mut wait = FIRST_WAIT;
    for _ in 0..retries {
        let error = match request().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let asked = match &error {
            QdrantError::ResourceExhaustedError { retry_after_seconds, .. } => {
                Some(Duration::from_secs(*retry_after_seconds).min(LONGEST_ASKED_WAIT))
            }
            QdrantError::ResponseError { status } if is_passing(status) => None,
            _ => return Err(error),
        };
        tracing::debug!(%error, "a request to the Qdrant server is sent again");
        tokio::time::sleep(asked.unwrap_or(wait)).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    request().await
}

/// Whether the same request may succeed a moment later.
fn is_passing(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Aborted | Code::ResourceExhausted => true,
        Code::Internal | Code::Unknown => is_unreachable(status),
        _ => false,
    }
}

/// The client reports failures to connect, and connections that broke, under several codes.
fn is_unreachable(status: &Status) -> bool {
    let text = format!("{} {:?}", status.message(), std::error::Error::source(status)).to_lowercase();
    let signs =
        ["failed to connect", "transport error", "connection", "broken pipe", "h2 protocol error", "tcp connect"];
    status.code() == Code::Unavailable || signs.iter().any(|sign| text.contains(sign))
}

/// What the server's answer means, with the answer as its cause.
#[derive(Debug)]
struct ServerError {
    text: String,
    source: Option<Status>,
}

impl std::fmt::Display for ServerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ServerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|status| status as &(dyn std::error::Error + 'static))
    }
}
