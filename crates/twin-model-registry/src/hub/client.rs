//! The calls of the Hub's API that are needed, with attempts and errors.

use std::fmt;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{HubError, Repository};
use crate::local::StepObserver;

/// How often a call is made while the hub fails, is busy or cannot be reached.
const ATTEMPTS: u32 = 5;
/// The first pause between attempts; each one is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause that a hub may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How much of a hub's message is shown.
const MESSAGE_CHARACTERS: usize = 200;
/// The most pages of a listing. A version has a dozen files.
const MOST_PAGES: usize = 50;

/// How a hub is reached.
#[derive(Clone)]
pub struct HubOptions {
    /// As in `https://huggingface.co`.
    pub endpoint: String,
    pub token: Option<String>,
    /// Asks nothing of the network.
    pub offline: bool,
}

impl fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = if self.token.is_some() { "(secret)" } else { "none" };
        write!(f, "HubOptions({}, token: {token}, offline: {})", self.endpoint, self.offline)
    }
}

/// A hub.
pub struct HubClient {
    pub(super) http: reqwest::Client,
    pub(super) options: HubOptions,
    pub(super) observer: Option<StepObserver>,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteFile {
    pub path: String,
    pub size: u64,
    /// Of a large file the SHA-256 of its content; of a small one Git's own digest, a SHA-1 of a header and the content.
    pub digest: RemoteDigest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RemoteDigest {
    Sha256(String),
    GitBlob(String),
}

/// A branch or a tag.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reference {
    pub name: String,
    pub target_commit: String,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct References {
    #[serde(default)]
    pub branches: Vec<Reference>,
    #[serde(default)]
    pub tags: Vec<Reference>,
}

impl HubClient {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// When the system's certificates cannot be read.
    pub fn new(options: HubOptions) -> Result<Self, HubError> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("llm-twin/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(60))
            // Ranges count bytes of the file, not of a compressed form of it.
            .no_gzip()
            .build();
        let unreachable = |problem: reqwest::Error| HubError::Unreachable {
            endpoint: options.endpoint.clone(),
            problem: problem.to_string(),
        };
        let http = http.map_err(unreachable)?;
        let endpoint = options.endpoint.trim_end_matches('/').to_owned();
        Ok(Self { http, options: HubOptions { endpoint, ..options }, observer: None })
    }

    /// Tells `observer` of each step that was taken.
    #[must_use]
    pub fn observed(self, observer: StepObserver) -> Self {
        Self { observer: Some(observer), ..self }
    }

    pub(super) fn taken(&self, step: &str) {
        if let Some(observer) = &self.observer {
            observer(step);
        }
    }

    /// The address of a call about a repository, as in `…/api/models/ada/voice/refs`.
    fn api(&self, repository: &Repository, call: &str) -> String {
        format!("{}/api/{}/{repository}/{call}", self.options.endpoint, repository.kind.plural())
    }

    /// Makes a repository, unless it is there.
    pub(super) async fn create(&self, repository: &Repository, private: bool) -> Result<(), HubError> {
        let body = json!({
            "name": repository.name, "organization": repository.owner, "type": repository.kind.name(), "private": private,
        });
        let url = format!("{}/api/repos/create", self.options.endpoint);
        let request = || self.request(Method::POST, &url).json(&body);
        match self.send(&format!("make {repository}"), repository, request).await {
            Err(HubError::Refused { status: 409, .. }) => Ok(()),
            made => made.map(drop),
        }
    }

    /// The branches and tags of a repository.
    pub(super) async fn references(&self, repository: &Repository) -> Result<References, HubError> {
        let url = self.api(repository, "refs");
        let operation = format!("list the tags of {repository}");
        let answer = self.send(&operation, repository, || self.request(Method::GET, &url)).await?;
        self.json(&operation, answer).await
    }

    /// All files of a commit, a tag or a branch.
    pub(super) async fn tree(&self, repository: &Repository, revision: &str) -> Result<Vec<RemoteFile>, HubError> {
        let operation = format!("list the files of {repository}");
        let mut url = self.api(repository, &format!("tree/{}?recursive=true", escaped(revision)));
        let mut files = Vec::new();
        for _ in 0..MOST_PAGES {
            let answer = self.send(&operation, repository, || self.request(Method::GET, &url)).await?;
            let next = next_page(answer.headers());
            let entries: Vec<TreeEntry> = self.json(&operation, answer).await?;
            files.extend(entries.into_iter().filter_map(TreeEntry::file));
            match next {
                // A server must not send the token elsewhere.
                Some(next) if next.starts_with(&self.options.endpoint) => url = next,
                Some(_) => {
                    let problem = "its next page is on another server".to_owned();
                    return Err(HubError::Malformed { operation, problem });
                }
                None => return Ok(files),
            }
        }
        Err(HubError::Malformed { operation, problem: format!("it has more than {MOST_PAGES} pages") })
    }

    /// Makes a tag; `false` when there is one of this name.
    pub(super) async fn tag(&self, repository: &Repository, commit: &str, tag: &str) -> Result<bool, HubError> {
        let url = self.api(repository, &format!("tag/{}", escaped(commit)));
        let body = json!({ "tag": tag });
        let request = || self.request(Method::POST, &url).json(&body);
        match self.send(&format!("tag {repository}"), repository, request).await {
            Err(HubError::Refused { status: 409, .. }) => Ok(false),
            made => made.map(|_| true),
        }
    }

    /// Takes a tag away, if it is there.
    pub(super) async fn untag(&self, repository: &Repository, tag: &str) -> Result<(), HubError> {
        let url = self.api(repository, &format!("tag/{}", escaped(tag)));
        let request = || self.request(Method::DELETE, &url);
        match self.send(&format!("take the tag `{tag}` off {repository}"), repository, request).await {
            Err(HubError::NotFound { .. }) => Ok(()),
            gone => gone.map(drop),
        }
    }

    /// Says which files are to be uploaded as large ones.
    pub(super) async fn preupload(
        &self,
        repository: &Repository,
        files: &[Value],
    ) -> Result<Vec<(String, bool)>, HubError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Mode {
            path: String,
            upload_mode: String,
        }
        #[derive(Deserialize)]
        struct Modes {
            files: Vec<Mode>,
        }
        let url = self.api(repository, "preupload/main");
        let operation = format!("prepare an upload to {repository}");
        let body = json!({ "files": files });
        let answer = self.send(&operation, repository, || self.request(Method::POST, &url).json(&body)).await?;
        let Modes { files } = self.json(&operation, answer).await?;
        Ok(files.into_iter().map(|mode| (mode.path, mode.upload_mode == "lfs")).collect())
    }

    /// Makes a commit on the main branch if its head is still `parent`; `None` when it is not. The answer may get lost, so who
    /// calls looks at the repository before trying again.
    pub(super) async fn commit(
        &self,
        repository: &Repository,
        parent: Option<&str>,
        summary: &str,
        operations: &[Value],
    ) -> Result<Option<String>, HubError> {
        let operation = format!("commit to {repository}");
        let mut header = json!({ "summary": summary, "description": "" });
        if let Some(parent) = parent {
            header["parentCommit"] = Value::from(parent);
        }
        let lines = std::iter::once(json!({ "key": "header", "value": header })).chain(operations.iter().cloned());
        let body: String = lines.map(|line| format!("{line}\n")).collect();
        let request = self
            .request(Method::POST, &self.api(repository, "commit/main"))
            .header(header::CONTENT_TYPE, "application/x-ndjson")
            .body(body);
        let answer = self.once(request).await?;
        if matches!(answer.status(), StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT) {
            return Ok(None);
        }
        let answer = self.checked(&operation, repository, answer, 1).await?;
        let body: Value = self.json(&operation, answer).await?;
        match body["commitOid"].as_str() {
            Some(commit) => Ok(Some(commit.to_owned())),
            None => Err(HubError::Malformed { operation, problem: "it names no commit".to_owned() }),
        }
    }

    /// A request that shows the token; only ever to the hub's own address.
    pub(super) fn request(&self, method: Method, url: &str) -> RequestBuilder {
        let request = self.http.request(method, url);
        match &self.options.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// One attempt.
    pub(super) async fn once(&self, request: RequestBuilder) -> Result<Response, HubError> {
        if self.options.offline {
            return Err(HubError::Offline);
        }
        request.send().await.map_err(|error| self.unreachable(error))
    }

    pub(super) fn unreachable(&self, error: reqwest::Error) -> HubError {
        // Without the address, in which a signature may be.
        let error = error.without_url();
        let mut problem = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            problem = format!("{problem}: {error}");
            cause = error.source();
        }
        HubError::Unreachable { endpoint: self.options.endpoint.clone(), problem }
    }

    /// Several attempts, as long as it is the hub's or the network's fault. Only for calls that may be repeated.
    pub(super) async fn send(
        &self,
        operation: &str,
        repository: &Repository,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Response, HubError> {
        let mut pause = PAUSE;
        for attempt in 1.. {
            let last = attempt >= ATTEMPTS;
            match self.once(request()).await {
                Ok(answer) if is_passing(answer.status()) && !last => {
                    tokio::time::sleep(asked_pause(&answer).unwrap_or(pause)).await;
                }
                Ok(answer) => return self.checked(operation, repository, answer, attempt).await,
                Err(error @ HubError::Unreachable { .. }) if !last => {
                    tracing::debug!(%error, "asking the hub again");
                    tokio::time::sleep(pause).await;
                }
                Err(error) => return Err(error),
            }
            pause *= 2;
        }
        // The loop has no end of its own.
        Err(HubError::Offline)
    }

    /// The answer, if it is a good one.
    pub(super) async fn checked(
        &self,
        operation: &str,
        repository: &Repository,
        answer: Response,
        attempts: u32,
    ) -> Result<Response, HubError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let message = self.message(answer).await;
        let operation = operation.to_owned();
        let is_full = ["quota", "storage limit", "exceeded"].iter().any(|word| message.to_lowercase().contains(word));
        Err(match status {
            StatusCode::UNAUTHORIZED => HubError::Unauthorized { operation, message },
            StatusCode::FORBIDDEN | StatusCode::PAYMENT_REQUIRED if is_full => HubError::Quota { operation, message },
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::INSUFFICIENT_STORAGE => HubError::Quota { operation, message },
            StatusCode::FORBIDDEN => HubError::Forbidden { operation, message },
            StatusCode::NOT_FOUND => HubError::NotFound { what: repository.to_string() },
            status if is_passing(status) => HubError::Failing { operation, status: status.as_u16(), attempts, message },
            status => HubError::Refused { operation, status: status.as_u16(), message },
        })
    }

    /// What the hub says, shortened, and without the token should it repeat it.
    async fn message(&self, answer: Response) -> String {
        let in_header =
            answer.headers().get("x-error-message").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = answer.text().await.unwrap_or_default();
        let in_body = serde_json::from_str::<Value>(&body).ok();
        let in_body = in_body.and_then(|body| Some(body["error"].as_str().or(body["message"].as_str())?.to_owned()));
        let message = in_header.or(in_body).unwrap_or(body);
        let message: String = message.split_whitespace().collect::<Vec<_>>().join(" ");
        let message = match &self.options.token {
            Some(token) if !token.is_empty() => message.replace(token.as_str(), "(secret)"),
            _ => message,
        };
        message.chars().take(MESSAGE_CHARACTERS).collect()
    }

    pub(super) async fn json<T: serde::de::DeserializeOwned>(
        &self,
        operation: &str,
        answer: Response,
    ) -> Result<T, HubError> {
        let body = answer.bytes().await.map_err(|error| self.unreachable(error))?;
        let malformed = |error: serde_json::Error| HubError::Malformed {
            operation: operation.to_owned(),
            problem: error.to_string(),
        };
        serde_json::from_slice(&body).map_err(malformed)
    }
}

/// An entry of a listing, as the Hub sends it.
#[derive(Deserialize)]
struct TreeEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    oid: String,
    lfs: Option<LargeFile>,
}

#[derive(Deserialize)]
struct LargeFile {
    oid: String,
    size: u64,
}

impl TreeEntry {
    fn file(self) -> Option<RemoteFile> {
        let Self { kind, path, size, oid, lfs } = self;
        let (size, digest) = match lfs {
            Some(large) => (large.size, RemoteDigest::Sha256(large.oid)),
            None => (size, RemoteDigest::GitBlob(oid)),
        };
        (kind == "file").then_some(RemoteFile { path, size, digest })
    }
}

/// Whether another attempt may have another outcome.
fn is_passing(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT || status.is_server_error()
}

/// How long the hub asks to be left alone.
fn asked_pause(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}

/// The address of the next page (RFC 8288).
fn next_page(headers: &header::HeaderMap) -> Option<String> {
    let link = headers.get(header::LINK)?.to_str().ok()?;
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    Some(next.split_once('<')?.1.split_once('>')?.0.to_owned())
}

/// A revision as one segment of an address.
pub(super) fn escaped(revision: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    revision
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
