//! Somebody's posts on a service, through the public API that it offers to programs.
//!
//! Each service is read in turns: what is asked first, what an answer makes of it, what is asked next. Nothing here talks to
//! a network.

use std::fmt;

use serde_json::Value;
use url::Url;

use super::SourceError;
use crate::page::Page;
use crate::report::Skip;

pub(crate) mod bluesky;
mod dev_to;
mod github;
mod hacker_news;
mod hashnode;
mod mastodon;

/// A service with a public API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    DevTo,
    Hashnode,
    /// The READMEs of a user's own repositories.
    GitHub,
    Mastodon,
    Bluesky,
    HackerNews,
}

impl Service {
    const ALL: [(Self, &'static str, &'static str); 6] = [
        (Self::DevTo, "devto", "DEV"),
        (Self::Hashnode, "hashnode", "Hashnode"),
        (Self::GitHub, "github", "GitHub"),
        (Self::Mastodon, "mastodon", "Mastodon"),
        (Self::Bluesky, "bluesky", "Bluesky"),
        (Self::HackerNews, "hackernews", "Hacker News"),
    ];
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(service, ..)| service == self).map_or("", |(.., name)| *name);
        f.write_str(name)
    }
}

/// Somebody on a service. Written as `devto:ada`; on Mastodon with the server, as `mastodon:ada@social.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub service: Service,
    pub user: String,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix =
            Service::ALL.iter().find(|(service, ..)| *service == self.service).map_or("", |(_, name, _)| *name);
        write!(f, "{prefix}:{}", self.user)
    }
}

impl Account {
    /// The account that a name stands for: `devto:ada`, or `@ada@social.example` as Mastodon writes it.
    pub(crate) fn named(text: &str) -> Option<Self> {
        if let Some((user, server)) = text.strip_prefix('@').and_then(|rest| rest.split_once('@')) {
            let user = format!("{user}@{server}");
            return Self::new(Service::Mastodon, &user);
        }
        let (prefix, user) = text.split_once(':')?;
        let (service, ..) = Service::ALL.iter().find(|(_, name, _)| *name == prefix)?;
        Self::new(*service, user)
    }

    /// The account whose page this is.
    pub(crate) fn at(url: &Url) -> Option<Self> {
        let host = url.host_str()?.trim_start_matches("www.");
        let path: Vec<&str> = url.path_segments()?.filter(|part| !part.is_empty()).collect();
        match (host, path.as_slice()) {
            ("dev.to", [user]) => Self::new(Service::DevTo, user),
            ("hashnode.com", [user]) => Self::new(Service::Hashnode, user.strip_prefix('@')?),
            ("github.com", [user]) => Self::new(Service::GitHub, user),
            ("bsky.app", ["profile", user]) => Self::new(Service::Bluesky, user),
            ("news.ycombinator.com", ["user" | "submitted" | "threads"]) => {
                let (_, user) = url.query_pairs().find(|(key, _)| key == "id")?;
                Self::new(Service::HackerNews, &user)
            }
            ("mastodon.social" | "hachyderm.io" | "fosstodon.org" | "mas.to" | "mstdn.social", [user]) => {
                Self::new(Service::Mastodon, &format!("{}@{host}", user.strip_prefix('@')?))
            }
            _ => None,
        }
    }

    fn new(service: Service, user: &str) -> Option<Self> {
        let user = user.trim().trim_start_matches('@');
        let is_name =
            !user.is_empty() && user.len() <= 253 && user.chars().all(|c| c.is_alphanumeric() || "-_.@:".contains(c));
        let has_server = user.split_once('@').is_some_and(|(name, server)| !name.is_empty() && !server.is_empty());
        let is_complete = is_name && (service != Service::Mastodon || has_server);
        is_complete.then(|| Self { service, user: user.to_owned() })
    }
}

/// Where the services' APIs are. Another address is for a mirror, or for a test.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceAddresses {
    pub dev_to: String,
    pub hashnode: String,
    pub github: String,
    /// Instead of the server in the account's name; empty for that.
    pub mastodon: String,
    pub bluesky: String,
    pub hacker_news: String,
}

impl Default for ServiceAddresses {
    fn default() -> Self {
        Self {
            dev_to: "https://dev.to/api/".to_owned(),
            hashnode: "https://gql.hashnode.com/".to_owned(),
            github: "https://api.github.com/".to_owned(),
            mastodon: String::new(),
            bluesky: "https://public.api.bsky.app/xrpc/".to_owned(),
            hacker_news: "https://hn.algolia.com/api/v1/".to_owned(),
        }
    }
}

/// A request to an API.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ask {
    pub(crate) url: Url,
    /// What is sent along, as JSON; nothing is a GET.
    pub(crate) body: Option<Value>,
    /// Whether the rest can be had without it: one post of many.
    pub(crate) is_detail: bool,
}

impl Ask {
    fn list(url: Url) -> Self {
        Self { url, body: None, is_detail: false }
    }

    fn detail(url: Url) -> Self {
        Self { url, body: None, is_detail: true }
    }
}

/// Reading an account. Answers are taken in any order.
pub(crate) trait Reading: Send {
    /// Takes in an answer and says what to ask next.
    ///
    /// # Errors
    /// In a sentence: the answer is not what the API documents.
    fn take(&mut self, ask: &Ask, answer: &Value) -> Result<Vec<Ask>, String>;

    /// The posts, and what was not taken.
    fn finish(self: Box<Self>) -> Vec<Result<Page, Skip>>;
}

/// Begins to read an account: the reading, and what to ask first.
///
/// # Errors
/// When the service's address is none.
pub(crate) fn begin(
    account: &Account,
    addresses: &ServiceAddresses,
) -> Result<(Box<dyn Reading>, Vec<Ask>), SourceError> {
    let user = account.user.as_str();
    let server = match (account.service, user.rsplit_once('@')) {
        (Service::DevTo, _) => addresses.dev_to.clone(),
        (Service::Hashnode, _) => addresses.hashnode.clone(),
        (Service::GitHub, _) => addresses.github.clone(),
        (Service::Bluesky, _) => addresses.bluesky.clone(),
        (Service::HackerNews, _) => addresses.hacker_news.clone(),
        (Service::Mastodon, Some((_, server))) if addresses.mastodon.is_empty() => format!("https://{server}/"),
        (Service::Mastodon, _) => addresses.mastodon.clone(),
    };
    let problem = |_| SourceError::Account {
        account: account.to_string(),
        problem: format!("`{server}` is no address: correct it in the configuration"),
    };
    // Without a slash at its end the last part of an address would be replaced and not gone on from.
    let base = Url::parse(&format!("{}/", server.trim_end_matches('/'))).map_err(problem)?;
    let (reading, first): (Box<dyn Reading>, Ask) = match account.service {
        Service::DevTo => dev_to::begin(base, user),
        Service::Hashnode => hashnode::begin(base, user),
        Service::GitHub => github::begin(base, user),
        Service::Mastodon => mastodon::begin(base, user),
        Service::Bluesky => bluesky::begin(base, user),
        Service::HackerNews => hacker_news::begin(base, user),
    };
    Ok((reading, vec![first]))
}

/// An address below another one, with a query.
fn below(base: &Url, path: &str, query: &[(&str, &str)]) -> Url {
    let mut url = base.join(path).unwrap_or_else(|_| base.clone());
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

/// The text at a path of keys.
fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    let found = path.iter().try_fold(value, |value, key| value.get(key))?;
    found.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// A number or a text, as identifiers are either.
fn id(value: &Value) -> Option<String> {
    match value.get("id")? {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

/// The address that a post states, else one that names it within its service.
fn post_url(stated: Option<&str>, otherwise: &str) -> String {
    let stated = stated.and_then(|stated| Url::parse(stated).ok());
    let web = stated.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    web.map_or_else(|| otherwise.to_owned(), |url| crate::clean::canonical_url(&url))
}
