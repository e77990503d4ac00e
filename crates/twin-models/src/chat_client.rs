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
            .timeout(TIMEOUT)
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
        let mut wait = FIRST_WAIT;
        let mut attempt = 1;
        loop {
            let mut post = self.http.post(&self.url).json(&request);
            if let Some(key) = &self.key {
                post = post.bearer_auth(key);
            }
            let unreachable = |source| ChatError::Unreachable { url: self.url.clone(), source };
            let response = post.send().await.map_err(unreachable)?;
            let status = response.status();
            let body = response.text().await.map_err(unreachable)?;
            if status.is_success() {
                return self.content(&body);
            }
            let is_busy = status.as_u16() == 429 || status.is_server_error();
            if !is_busy || attempt == ATTEMPTS {
                let said = body.chars().take(SHOWN).collect();
                return Err(ChatError::Refused { url: self.url.clone(), status: status.as_u16(), said });
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
            attempt += 1;
        }
    }

    fn content(&self, body: &str) -> Result<String, ChatError> {
        let malformed = |problem: String| ChatError::Malformed { url: self.url.clone(), problem };
        let response: Response = serde_json::from_str(body).map_err(|error| malformed(error.to_string()))?;
        let first = response.choices.into_iter().next().ok_or_else(|| malformed("it gave no choice".to_owned()))?;
        Ok(first.message.content.unwrap_or_default())
    }
}
