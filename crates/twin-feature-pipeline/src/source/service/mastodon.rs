//! Mastodon (docs.joinmastodon.org/methods/accounts): an account's public posts, newest first. What it wrote as replies to
//! itself is one text; what it boosted is not its own.

use std::collections::HashMap;

use serde_json::Value;
use url::Url;

use super::{Ask, Reading, below, id, post_url, text};
use crate::date;
use crate::page::{Hints, Media, Page};
use crate::report::Skip;
use crate::source::export::mastodon::without_links;
use crate::source::export::threads::{Post, grouped};

/// The most that one answer lists.
const PER_PAGE: &str = "40";

struct Mastodon {
    base: Url,
    account: Option<String>,
    posts: Vec<Post>,
    /// Everything but the text, by the post's id.
    pages: HashMap<String, Page>,
    private: usize,
}

pub(super) fn begin(base: Url, user: &str) -> (Box<dyn Reading>, Ask) {
    let name = user.split('@').next().unwrap_or(user);
    let first = Ask::list(below(&base, "api/v1/accounts/lookup", &[("acct", name)]));
    let reading = Mastodon { base, account: None, posts: Vec::new(), pages: HashMap::new(), private: 0 };
    (Box::new(reading), first)
}

impl Mastodon {
    fn statuses(&self, account: &str, before: Option<&str>) -> Ask {
        let mut query = vec![("limit", PER_PAGE), ("exclude_reblogs", "true")];
        query.extend(before.map(|before| ("max_id", before)));
        Ask::list(below(&self.base, &format!("api/v1/accounts/{account}/statuses"), &query))
    }

    fn status(&mut self, status: &Value) {
        let Some(id) = id(status).filter(|_| status.get("reblog").is_none_or(Value::is_null)) else { return };
        if !matches!(text(status, &["visibility"]), Some("public" | "unlisted")) {
            self.private += 1;
            return;
        }
        let tags = status.get("tags").and_then(Value::as_array).into_iter().flatten();
        let hints = Hints {
            // The content warning stands above the text, as a title does.
            title: text(status, &["spoiler_text"]).map(str::to_owned),
            date: text(status, &["created_at"]).and_then(date::parse),
            tags: tags.filter_map(|tag| text(tag, &["name"])).map(str::to_owned).collect(),
            short_form: true,
            ..Hints::default()
        };
        let url = post_url(text(status, &["url"]).or(text(status, &["uri"])), &format!("mastodon:{id}"));
        let page = Page { key: format!("status {id}"), url, media: Media::Fragment, body: String::new(), hints };
        self.pages.insert(id.clone(), page);
        self.posts.push(Post {
            answers: text(status, &["in_reply_to_id"]).map(str::to_owned),
            order: text(status, &["created_at"]).unwrap_or_default().to_owned(),
            body: without_links(text(status, &["content"]).unwrap_or_default()),
            id,
        });
    }
}

impl Reading for Mastodon {
    fn take(&mut self, _: &Ask, answer: &Value) -> Result<Vec<Ask>, String> {
        let Some(account) = self.account.clone() else {
            let account = id(answer).ok_or("the server does not say who that is")?;
            self.account = Some(account.clone());
            return Ok(vec![self.statuses(&account, None)]);
        };
        let listed = answer.as_array().ok_or("the list of posts is no list")?;
        listed.iter().for_each(|status| self.status(status));
        // A page may be short because some of it is not shown; only an empty one is the end.
        let last = listed.last().and_then(id);
        Ok(last.map(|last| self.statuses(&account, Some(&last))).into_iter().collect())
    }

    fn finish(mut self: Box<Self>) -> Vec<Result<Page, Skip>> {
        let mut found = Vec::new();
        for group in grouped(std::mem::take(&mut self.posts)) {
            let Some(page) = group.first().and_then(|first| self.pages.remove(&first.id)) else { continue };
            let body = group.iter().map(|post| post.body.as_str()).collect::<Vec<_>>().join("\n");
            found.push(Ok(Page { body, ..page }));
        }
        if self.private > 0 {
            let what = format!("{} posts", self.private);
            found.push(Err(Skip { what, reason: "they are not public".to_owned() }));
        }
        found
    }
}
