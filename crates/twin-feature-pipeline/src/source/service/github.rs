//! GitHub (docs.github.com/rest): the READMEs of a user's own repositories. Forks are somebody else's words.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use url::Url;

use super::{Ask, Reading, below, text};
use crate::date;
use crate::page::{Hints, Media, Page};
use crate::report::Skip;
use crate::source::file::FileKind;

/// The most that one answer lists.
const PER_PAGE: usize = 100;

struct GitHub {
    base: Url,
    user: String,
    page: usize,
    /// What the list says of each repository, by the address of its README.
    repositories: HashMap<String, Hints>,
    forks: usize,
    posts: Vec<Result<Page, Skip>>,
}

pub(super) fn begin(base: Url, user: &str) -> (Box<dyn Reading>, Ask) {
    let user = user.to_owned();
    let reading = GitHub { base, user, page: 1, repositories: HashMap::new(), forks: 0, posts: Vec::new() };
    let first = reading.list();
    (Box::new(reading), first)
}

impl GitHub {
    fn list(&self) -> Ask {
        let (page, per_page) = (self.page.to_string(), PER_PAGE.to_string());
        let query = [("type", "owner"), ("per_page", per_page.as_str()), ("page", &page)];
        Ask::list(below(&self.base, &format!("users/{}/repos", self.user), &query))
    }

    fn repository(&mut self, repository: &Value) -> Option<Ask> {
        if repository.get("fork") == Some(&Value::Bool(true)) {
            self.forks += 1;
            return None;
        }
        let name = text(repository, &["name"])?;
        let url = below(&self.base, &format!("repos/{}/{name}/readme", self.user), &[]);
        let topics = repository.get("topics").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let hints = Hints {
            date: text(repository, &["created_at"]).and_then(date::parse),
            tags: topics.map(str::to_owned).collect(),
            ..Hints::default()
        };
        self.repositories.insert(url.to_string(), hints);
        Some(Ask::detail(url))
    }

    fn readme(&self, ask: &Ask, answer: &Value) -> Result<Page, Skip> {
        let address = text(answer, &["html_url"]).unwrap_or(ask.url.as_str()).to_owned();
        let skip = |reason: &str| Skip { what: address.clone(), reason: reason.to_owned() };
        let packed: String = text(answer, &["content"]).unwrap_or_default().split_whitespace().collect();
        let bytes = STANDARD.decode(packed).map_err(|_| skip("its content is not Base64, as the API documents"))?;
        let media = match FileKind::of(Path::new(text(answer, &["name"]).unwrap_or("README.md"))) {
            Some(FileKind::Text(media)) => media,
            _ => Media::Text,
        };
        let body = String::from_utf8_lossy(&bytes).into_owned();
        let hints = self.repositories.get(ask.url.as_str()).cloned().unwrap_or_default();
        Ok(Page { key: ask.url.path().to_owned(), url: address, media, body, hints })
    }
}

impl Reading for GitHub {
    fn take(&mut self, ask: &Ask, answer: &Value) -> Result<Vec<Ask>, String> {
        if ask.is_detail {
            self.posts.push(self.readme(ask, answer));
            return Ok(Vec::new());
        }
        let listed = answer.as_array().ok_or("the list of repositories is no list")?;
        let mut next: Vec<Ask> = listed.iter().filter_map(|repository| self.repository(repository)).collect();
        if listed.len() >= PER_PAGE {
            self.page += 1;
            next.push(self.list());
        }
        Ok(next)
    }

    fn finish(self: Box<Self>) -> Vec<Result<Page, Skip>> {
        let mut posts = self.posts;
        if self.forks > 0 {
            let what = format!("{} forks", self.forks);
            posts.push(Err(Skip { what, reason: "somebody else's words".to_owned() }));
        }
        posts
    }
}
