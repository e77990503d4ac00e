//! Fetching: one polite client that never talks to the machine's own network.
//!
//! Every address, redirects included, is checked before it is asked ([`guard`]); robots.txt is obeyed ([`robots`]); each
//! host gets few requests at a time with a pause between them; sizes and times are bounded while streaming.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{
    ACCEPT, CONTENT_TYPE, ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION, RETRY_AFTER,
};
use reqwest::{Client, Response, StatusCode};
use tokio::sync::{Mutex, OnceCell, Semaphore};
use tokio::time::Instant;
use url::Url;

use self::guard::{Allowed, Denied, Names};

pub mod guard;
pub mod robots;

/// How this program names itself to servers; `llm-twin` is the product token that robots.txt may address.
/// There is no address of a maintainer to name: whoever runs it is whom a server should talk to.
pub const USER_AGENT: &str = concat!("llm-twin/", env!("CARGO_PKG_VERSION"));

/// RFC 9309 and browsers agree on following at least five.
const MAX_REDIRECTS: usize = 5;
/// A server that asks for a longer pause is asked again in the next run.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// A longer pause between two requests is not waited for.
const MAX_CRAWL_DELAY: Duration = Duration::from_secs(60);
const ACCEPTED: &str = "text/html, application/xhtml+xml, application/atom+xml, application/rss+xml, application/feed+json, \
     application/json, application/xml;q=0.9, text/*;q=0.8, */*;q=0.1";

/// How pages are fetched.
#[derive(Debug, Clone)]
pub struct FetchConfig {
    /// `host:port` pairs that are allowed although they are on a private network, such as `127.0.0.1:8080`.
    pub allow_net: Vec<String>,
    pub connect_timeout: Duration,
    /// The time for one answer, its body included; waiting for one's turn does not count.
    pub timeout: Duration,
    /// The most bytes of a page, after decompression.
    pub max_bytes: usize,
    /// The pause between two requests to one host; a longer `Crawl-delay` of its robots.txt overrules it, and hosts in
    /// `allow_net`, which are one's own, get none.
    pub delay: Duration,
    /// How many requests one host gets at a time.
    pub per_host: usize,
    /// How often a request is made again after 429 or 5xx.
    pub retries: usize,
    pub obey_robots: bool,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            allow_net: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            max_bytes: 8 * 1024 * 1024,
            delay: Duration::from_millis(250),
            per_host: 2,
            retries: 2,
            obey_robots: true,
        }
    }
}

/// Why an address could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("`{0}` is not of the form `host:port`, as `--allow-net` needs it")]
    AllowNet(String),
    #[error("the HTTP client could not be made")]
    Client(#[source] reqwest::Error),
    #[error("{host} did not answer within {after:?}; try again later")]
    TimedOut { host: String, after: Duration },
    #[error("no connection to {host}: check the address and the network")]
    Connect {
        host: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("no address is known for {host}: check the spelling and the network")]
    Unknown {
        host: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the answer broke off")]
    Broken(#[source] reqwest::Error),
    #[error("the server answered {0}")]
    Status(StatusCode),
    #[error("more than {MAX_REDIRECTS} redirects")]
    Redirects,
    #[error("the redirect `{0}` is no address")]
    Redirect(String),
    #[error("more than {0} bytes")]
    TooLarge(usize),
    #[error("its content type is {0}, which is no text")]
    ContentType(String),
    #[error("its answer is no JSON: {0}")]
    NotJson(String),
    #[error("its robots.txt forbids it to {USER_AGENT}")]
    Robots,
    #[error("its robots.txt could not be read, which means no (RFC 9309, 2.3.1.4)")]
    RobotsUnreachable(#[source] Box<FetchError>),
}

/// What the last answer allows to ask conditionally.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    pub etag: Option<String>,
    pub last_modified: Option<String>,
}

/// A successful answer.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The address after redirects.
    pub final_url: String,
    pub status: u16,
    pub content_type: Option<String>,
    pub validators: Validators,
    pub body: Vec<u8>,
}

impl Fetched {
    /// The media type in lower case, without parameters; empty if none was stated.
    pub fn media_type(&self) -> String {
        let stated = self.content_type.as_deref().unwrap_or_default();
        stated.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// The `charset` parameter of the content type.
    pub fn charset(&self) -> Option<String> {
        let parameters = self.content_type.as_deref()?.split(';').skip(1);
        let charset = parameters
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
        charset.map(|(_, value)| value.trim().trim_matches('"').to_owned())
    }
}

/// An answer, or the news that nothing changed.
#[derive(Debug)]
pub enum Answer {
    Fetched(Fetched),
    NotModified,
}

/// The client. One for a run: it remembers robots.txt and when each host was last asked.
pub struct Fetcher {
    client: Client,
    allowed: Allowed,
    names: Names,
    config: FetchConfig,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
}

struct Host {
    requests: Semaphore,
    /// The least pause between two requests.
    delay: Duration,
    next: Mutex<Instant>,
    robots: OnceCell<robots::Robots>,
}

/// The HTTP client behind everything that is fetched: it resolves names itself and connects to no denied address, follows
/// no redirect by itself, and uses no proxy. With it come the addresses that must be checked before each request.
///
/// # Errors
/// When `allow_net` cannot be read or the client cannot be made.
fn client(config: &FetchConfig, names: Names) -> Result<(Client, Allowed), FetchError> {
    let allowed = Allowed::parse(&config.allow_net).map_err(FetchError::AllowNet)?;
    let client = Client::builder()
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Arc::new(guard::Resolver::new(names, allowed.clone())))
        // A proxy would resolve names by itself, past the guard.
        .no_proxy()
        .referer(false)
        .connect_timeout(config.connect_timeout)
        .timeout(config.timeout)
        .build()
        .map_err(FetchError::Client)?;
    Ok((client, allowed))
}

impl Fetcher {
    /// Makes a client.
    ///
    /// # Errors
    /// When `allow_net` cannot be read or the client cannot be made.
    pub fn new(config: FetchConfig) -> Result<Self, FetchError> {
        Self::with_names(config, Names::System)
    }

    fn with_names(config: FetchConfig, names: Names) -> Result<Self, FetchError> {
        let (client, allowed) = client(&config, names.clone())?;
        Ok(Self { client, allowed, names, config, hosts: Mutex::new(HashMap::new()) })
    }

    /// Fetches an address, if its robots.txt allows it. With validators of an earlier answer the server may say that
    /// nothing changed.
    ///
    /// # Errors
    /// When the address is denied, forbidden, out of reach, too large, no text, or answered with anything but success.
    pub async fn fetch(&self, url: &Url, known: &Validators) -> Result<Answer, FetchError> {
        let mut attempt = 0;
        loop {
            let (error, wait) = match self.follow(url, known).await {
                Err(Failed { error, retry: Some(wait) }) if attempt < self.config.retries => (error, wait),
                other => return other.map_err(|failed| failed.error),
            };
            attempt += 1;
            let wait = wait.unwrap_or_else(|| back_off(attempt));
            if wait > MAX_RETRY_AFTER {
                return Err(error);
            }
            tracing::debug!(%url, attempt, %error, "asking again");
            // Nobody else asks this host meanwhile.
            let host = self.host(url).await;
            let mut next = host.next.lock().await;
            *next = (*next).max(Instant::now() + wait);
        }
    }

    /// The addresses of a host, none of which is denied: for another program that connects to these and no others.
    ///
    /// # Errors
    /// When the address or one that its name resolves to is denied, or the name is unknown.
    pub(crate) async fn addresses(&self, url: &Url) -> Result<Vec<std::net::SocketAddr>, FetchError> {
        self.allowed.check(url)?;
        let name = host(url);
        let port = url.port_or_known_default().unwrap_or(443);
        let looked_up = self.names.look_up(name.trim_matches(['[', ']']), port).await;
        let found = looked_up.map_err(|source| FetchError::Unknown { host: name.clone(), source })?;
        // A private host that is allowed by its number is allowed.
        Ok(if self.allowed.names(url) { found } else { self.allowed.filter(&name, found)? })
    }

    /// Sends JSON to an API and reads what it answers. Redirects are not followed: what is sent is for this address.
    ///
    /// # Errors
    /// As for [`Fetcher::fetch`].
    pub(crate) async fn post(&self, url: &Url, json: String) -> Result<Fetched, FetchError> {
        self.allowed.check(url)?;
        let host = self.host(url).await;
        let _permit = host.requests.acquire().await;
        self.pause(&host).await;
        let request = self.client.post(url.clone()).header(ACCEPT, "application/json");
        let request = request.header(CONTENT_TYPE, "application/json").body(json);
        let response = request.send().await.map_err(|source| self.unsent(source, url))?;
        match self.read(response, url).await.map_err(|failed| failed.error)? {
            Answer::Fetched(fetched) => Ok(fetched),
            Answer::NotModified => Err(FetchError::Status(StatusCode::NOT_MODIFIED)),
        }
    }

    /// The sitemaps that a site's robots.txt names.
    ///
    /// # Errors
    /// When robots.txt forbids to ask, or cannot be read.
    pub async fn sitemaps(&self, url: &Url) -> Result<Vec<Url>, FetchError> {
        self.allowed.check(url)?;
        let host = self.host(url).await;
        let robots = host.robots.get_or_try_init(|| self.robots(&host, url)).await?;
        Ok(robots.sitemaps.iter().filter_map(|sitemap| url.join(sitemap).ok()).collect())
    }

    /// Follows redirects, each checked like the first address.
    async fn follow(&self, url: &Url, known: &Validators) -> Result<Answer, Failed> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            self.allowed.check(&url).map_err(FetchError::from)?;
            let host = self.host(&url).await;
            if self.config.obey_robots {
                self.ask_robots(&host, &url).await?;
            }
            let response = self.request(&host, &url, known).await?;
            match redirect(&response, &url)? {
                Some(next) => url = next,
                None => return self.read(response, &url).await,
            }
        }
        Err(FetchError::Redirects.into())
    }

    async fn request(&self, host: &Host, url: &Url, known: &Validators) -> Result<Response, FetchError> {
        // The semaphore is never closed.
        let _permit = host.requests.acquire().await;
        self.pause(host).await;
        let mut request = self.client.get(url.clone()).header(ACCEPT, ACCEPTED);
        if let Some(etag) = &known.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        if let Some(time) = &known.last_modified {
            request = request.header(IF_MODIFIED_SINCE, time);
        }
        request.send().await.map_err(|source| self.unsent(source, url))
    }

    fn unsent(&self, source: reqwest::Error, url: &Url) -> FetchError {
        if let Some(denied) = guard::denied(&source) {
            return FetchError::Denied(denied);
        }
        let host = host(url);
        if source.is_timeout() {
            FetchError::TimedOut { host, after: self.config.timeout }
        } else {
            FetchError::Connect { host, source: source.without_url() }
        }
    }

    fn in_time(&self, error: FetchError, url: &Url) -> FetchError {
        match error {
            FetchError::Broken(source) if source.is_timeout() => {
                FetchError::TimedOut { host: host(url), after: self.config.timeout }
            }
            other => other,
        }
    }

    async fn pause(&self, host: &Host) {
        let asked = host.robots.get().and_then(|robots| robots.crawl_delay).unwrap_or_default();
        let delay = host.delay.max(asked.min(MAX_CRAWL_DELAY));
        let mut next = host.next.lock().await;
        tokio::time::sleep_until(*next).await;
        *next = Instant::now() + delay;
    }

    async fn read(&self, response: Response, url: &Url) -> Result<Answer, Failed> {
        let status = response.status();
        if status == StatusCode::NOT_MODIFIED {
            return Ok(Answer::NotModified);
        }
        if !status.is_success() {
            let again = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
            let retry = again.then(|| retry_after(response.headers()));
            return Err(Failed { error: FetchError::Status(status), retry });
        }
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let validators = Validators { etag: text(ETAG), last_modified: text(LAST_MODIFIED) };
        let mut fetched = Fetched {
            final_url: url.to_string(),
            status: status.as_u16(),
            content_type: text(CONTENT_TYPE),
            validators,
            body: Vec::new(),
        };
        if !is_text(&fetched.media_type()) {
            return Err(FetchError::ContentType(fetched.media_type()).into());
        }
        fetched.body = body(response, self.config.max_bytes).await.map_err(|error| self.in_time(error, url))?;
        Ok(Answer::Fetched(fetched))
    }

    async fn host(&self, url: &Url) -> Arc<Host> {
        let key = format!("{}://{}:{}", url.scheme(), host(url), url.port_or_known_default().unwrap_or(0));
        let make = || {
            let requests = Semaphore::new(self.config.per_host.max(1));
            let delay = if self.allowed.names(url) { Duration::ZERO } else { self.config.delay };
            Arc::new(Host { requests, delay, next: Mutex::new(Instant::now()), robots: OnceCell::new() })
        };
        self.hosts.lock().await.entry(key).or_insert_with(make).clone()
    }

    async fn ask_robots(&self, host: &Host, url: &Url) -> Result<(), FetchError> {
        // Only an answer is remembered; after an error the next request asks again.
        let robots = host.robots.get_or_try_init(|| self.robots(host, url)).await?;
        if robots.allows(url) { Ok(()) } else { Err(FetchError::Robots) }
    }

    /// RFC 9309: redirects are followed; 4xx allows everything; 5xx and no answer forbid everything.
    async fn robots(&self, host: &Host, url: &Url) -> Result<robots::Robots, FetchError> {
        let Ok(mut at) = url.join("/robots.txt") else { return Ok(robots::Robots::default()) };
        for _ in 0..=MAX_REDIRECTS {
            self.allowed.check(&at)?;
            let response = self.request(host, &at, &Validators::default()).await?;
            if let Some(next) = redirect(&response, &at)? {
                at = next;
                continue;
            }
            let status = response.status();
            if status.is_server_error() {
                return Err(FetchError::RobotsUnreachable(Box::new(FetchError::Status(status))));
            }
            if !status.is_success() {
                return Ok(robots::Robots::default());
            }
            let text = body_start(response, robots::MAX_BYTES).await?;
            return Ok(robots::Robots::parse(&String::from_utf8_lossy(&text)));
        }
        // "More than five redirects: may assume that there is none" (2.3.1.2).
        Ok(robots::Robots::default())
    }
}

/// A failed attempt; `retry` if it is worth another one, with the pause that the server asks for.
struct Failed {
    error: FetchError,
    retry: Option<Option<Duration>>,
}

impl From<FetchError> for Failed {
    fn from(error: FetchError) -> Self {
        Self { error, retry: None }
    }
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

fn redirect(response: &Response, url: &Url) -> Result<Option<Url>, FetchError> {
    let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let Some(location) = response.headers().get(LOCATION).filter(|_| is_redirect) else { return Ok(None) };
    let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
    url.join(&location).map(Some).map_err(|_| FetchError::Redirect(location))
}

/// Seconds or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    Some(until.duration_since(std::time::SystemTime::now()).unwrap_or_default())
}

/// Doubling pauses, each made up to a half longer at random, so that many clients do not come back at once.
fn back_off(attempt: usize) -> Duration {
    let base = Duration::from_secs(1 << attempt.min(3));
    // A hasher's random keys are randomness enough for a pause.
    let random = RandomState::new().hash_one(attempt) % 500;
    base + base.mul_f64(random as f64 / 1000.0)
}

/// Feeds and pages come under many names, and under none.
fn is_text(media_type: &str) -> bool {
    media_type.is_empty()
        || media_type.starts_with("text/")
        || ["xml", "json", "html", "octet-stream", "rss", "atom", "gzip"].iter().any(|kind| media_type.contains(kind))
            && !media_type.starts_with("image/")
            && !media_type.contains("openxml")
}

/// Reads a body, counting after decompression, and refuses one that is too large without reading on.
async fn body(mut response: Response, most: usize) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(|error| FetchError::Broken(error.without_url()))? {
        if body.len() + bytes.len() > most {
            return Err(FetchError::TooLarge(most));
        }
        body.extend_from_slice(&bytes);
    }
    Ok(body)
}

/// Reads at most the first `most` bytes of a body.
async fn body_start(mut response: Response, most: usize) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while body.len() < most {
        match response.chunk().await.map_err(|error| FetchError::Broken(error.without_url()))? {
            Some(bytes) => body.extend_from_slice(&bytes),
            None => break,
        }
    }
    body.truncate(most);
    Ok(body)
}

#[cfg(test)]
mod tests;
