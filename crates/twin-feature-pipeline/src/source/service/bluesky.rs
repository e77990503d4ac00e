//! Bluesky (docs.bsky.app, app.bsky.feed.getAuthorFeed): an account's posts, newest first. What it wrote as replies to
//! itself is one text; what it reposted is not its own.

use std::collections::HashMap;

use serde_json::Value;
use url::Url;

use super::{Ask, Reading, below, text};
use crate::date;
use crate::page::{Hints, Media, Page};
use crate::report::Skip;
use crate::source::export::threads::{Post, grouped};

struct Bluesky {
    base: Url,
    user: String,
    records: Records,
}

pub(super) fn begin(base: Url, user: &str) -> (Box<dyn Reading>, Ask) {
    let reading = Bluesky { base, user: user.to_owned(), records: Records::default() };
    let first = reading.feed(None);
    (Box::new(reading), first)
}

impl Bluesky {
    fn feed(&self, cursor: Option<&str>) -> Ask {
        let mut query = vec![("actor", self.user.as_str()), ("limit", "100"), ("filter", "posts_with_replies")];
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        Ask::list(below(&self.base, "app.bsky.feed.getAuthorFeed", &query))
    }
}

impl Reading for Bluesky {
    fn take(&mut self, _: &Ask, answer: &Value) -> Result<Vec<Ask>, String> {
        let feed = answer.get("feed").and_then(Value::as_array).ok_or("the answer has no feed")?;
        for item in feed {
            let Some(post) = item.get("post") else { continue };
            let author = |key: &str| text(post, &["author", key]) == Some(self.user.as_str());
            if item.get("reason").is_some() || !(author("handle") || author("did")) {
                self.records.others += 1;
            } else if let (Some(uri), Some(record)) = (text(post, &["uri"]), post.get("record")) {
                self.records.add(uri, record, text(post, &["author", "handle"]));
            }
        }
        let cursor = text(answer, &["cursor"]).filter(|_| !feed.is_empty());
        Ok(cursor.map(|cursor| self.feed(Some(cursor))).into_iter().collect())
    }

    fn finish(self: Box<Self>) -> Vec<Result<Page, Skip>> {
        self.records.finish()
    }
}

/// The records of posts (app.bsky.feed.post), from the API or from an export.
#[derive(Default)]
pub(crate) struct Records {
    posts: Vec<Post>,
    pages: HashMap<String, Page>,
    /// Reposts and posts of others.
    pub(crate) others: usize,
}

impl Records {
    /// Takes in the record at an `at://` address. `handle` is who wrote it, if that is known.
    pub(crate) fn add(&mut self, uri: &str, record: &Value, handle: Option<&str>) {
        let mut parts = uri.trim_start_matches("at://").split('/');
        let (Some(did), Some(key)) = (parts.next(), parts.next_back()) else { return };
        let who = handle.unwrap_or(did);
        let tags = record.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let hints = Hints {
            date: text(record, &["createdAt"]).and_then(date::parse),
            tags: tags.map(str::to_owned).collect(),
            short_form: true,
            ..Hints::default()
        };
        let page = Page {
            key: format!("post {key}"),
            url: format!("https://bsky.app/profile/{who}/post/{key}"),
            media: Media::Text,
            body: String::new(),
            hints,
        };
        self.pages.insert(uri.to_owned(), page);
        self.posts.push(Post {
            id: uri.to_owned(),
            answers: text(record, &["reply", "parent", "uri"]).map(str::to_owned),
            order: text(record, &["createdAt"]).unwrap_or_default().to_owned(),
            body: text(record, &["text"]).unwrap_or_default().to_owned(),
        });
    }

    /// The threads as posts.
    pub(crate) fn finish(mut self) -> Vec<Result<Page, Skip>> {
        let mut found = Vec::new();
        for group in grouped(std::mem::take(&mut self.posts)) {
            let Some(page) = group.first().and_then(|first| self.pages.remove(&first.id)) else { continue };
            let body = group.iter().map(|post| post.body.as_str()).filter(|body| !body.is_empty());
            let body = body.collect::<Vec<_>>().join("\n\n");
            // Pictures without words.
            if !body.is_empty() {
                found.push(Ok(Page { body, ..page }));
            }
        }
        if self.others > 0 {
            let what = format!("{} reposts", self.others);
            found.push(Err(Skip { what, reason: "somebody else's words".to_owned() }));
        }
        found
    }
}
