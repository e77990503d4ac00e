//! A model behind an OpenAI-compatible address: vLLM, Ollama, a server of this project's own, or a service. Nothing is sent
//! anywhere unless somebody names an address.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use twin_domain::ChatMessage;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A model on a busy machine takes its time.
const TIMEOUT: Duration = Duration::from_secs(180);
/// How often a server that is busy or failing is asked again, and how long the first wait is; each is twice the one before.
const ATTEMPTS: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The most that a server's own `Retry-After` is heeded.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How long a server may say nothing, before its first word and between two of them.
const SILENCE: Duration = Duration::from_secs(120);
/// The most of a server's own words that an error repeats.
const SHOWN: usize = 300;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    #[error("{url} could not be reached: check the address and whether the server runs")]
    Unreachable {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{url} refused the request with {status}: {said}")]
    Refused { url: String, status: u16, said: String },
    #[error("{url} did not answer as an OpenAI-compatible server does: {problem}")]
    Malformed { url: String, problem: String },
}

/// A client of one model.
#[derive(Clone)]
pub struct ChatClient {
    http: reqwest::Client,
    url: String,
    model: String,
    key: Option<String>,
}

impl std::fmt::Debug for ChatClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key is nobody's business.
        f.debug_struct("ChatClient").field("url", &self.url).field("model", &self.model).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: &'a [ChatMessage],
    max_tokens: usize,
    temperature: f32,
}

#[derive(Deserialize)]
struct Response {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

impl ChatClient {
    /// A client for the model of this name. `base` is the address up to `/v1`, as in `http://127.0.0.1:8000/v1`; redirects
    /// are not followed, so that the key goes where it was meant to.
    ///
    /// # Errors
    /// When the system's certificates cannot be read.
    pub fn new(base: &str, model: &str, key: Option<String>) -> Result<Self, ChatError> {
        let url = format!("{}/chat/completions", base.trim_end_matches('/'));
        let http = reqwest::Client::builder()
            .user_agent(concat!("llm-twin/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|source| ChatError::Unreachable { url: url.clone(), source })?;
        Ok(Self { http, url, model: model.to_owned(), key })
    }

    /// The answer to a conversation, the likeliest one where the server can.
    ///
    /// # Errors
    /// [`ChatError`]; a server that is busy (429) or failing (5xx) is asked again first.
    pub async fn answer(&self, messages: &[ChatMessage], max_tokens: usize) -> Result<String, ChatError> {
        let request = Request { model: &self.model, messages, max_tokens, temperature: 0.0 };
        let response = self.send(&request, Some(TIMEOUT)).await?;
        let body = response.text().await.map_err(|source| self.unreachable(source))?;
        self.content(&body)
    }

    /// Opens the answer to a request as a stream. `body` has everything but the model's name.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub(crate) async fn open(&self, body: &serde_json::Value) -> Result<reqwest::Response, ChatError> {
        let mut body = body.clone();
        body["model"] = self.model.as_str().into();
        self.send(&body, None).await
    }

    /// Sends a request until it is not turned away; `limit` is for the whole of the answer.
    async fn send(&self, body: &impl Serialize, limit: Option<Duration>) -> Result<reqwest::Response, ChatError> {
        let mut wait = FIRST_WAIT;
        let mut attempt = 1;
        loop {
            let mut post = self.http.post(&self.url).json(body);
            if let Some(limit) = limit {
                post = post.timeout(limit);
            }
            if let Some(key) = &self.key {
                post = post.bearer_auth(key);
            }
            let response = post.send().await.map_err(|source| self.unreachable(source))?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let is_busy = status.as_u16() == 429 || status.is_server_error();
            if !is_busy || attempt == ATTEMPTS {
                let said = response.text().await.map_err(|source| self.unreachable(source))?;
                let said = said.chars().take(SHOWN).collect();
                return Err(ChatError::Refused { url: self.url.clone(), status: status.as_u16(), said });
            }
            tokio::time::sleep(asked_wait(&response).unwrap_or(wait)).await;
            wait *= 2;
            attempt += 1;
        }
    }

    pub(crate) fn unreachable(&self, source: reqwest::Error) -> ChatError {
        ChatError::Unreachable { url: self.url.clone(), source }
    }

    pub(crate) fn malformed(&self, problem: &str) -> ChatError {
        ChatError::Malformed { url: self.url.clone(), problem: problem.to_owned() }
    }

    fn content(&self, body: &str) -> Result<String, ChatError> {
        let response: Response = serde_json::from_str(body).map_err(|error| self.malformed(&error.to_string()))?;
        let first = response.choices.into_iter().next().ok_or_else(|| self.malformed("it gave no choice"))?;
        Ok(first.message.content.unwrap_or_default())
    }
}

/// How long a server asks to be left alone, as far as that is worth waiting for.
fn asked_wait(response: &reqwest::Response) -> Option<Duration> {
    let seconds = response.headers().get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}
