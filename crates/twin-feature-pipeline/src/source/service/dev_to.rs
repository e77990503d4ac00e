//! DEV (developers.forem.com/api): the list of a user's articles, then each with its Markdown.

use serde_json::Value;
use url::Url;

use super::{Ask, Reading, below, id, post_url, text};
use crate::date;
use crate::page::{Hints, Media, Page};
use crate::report::Skip;

/// The most that one answer lists.
const PER_PAGE: usize = 100;

struct DevTo {
    base: Url,
    user: String,
    page: usize,
    posts: Vec<Result<Page, Skip>>,
}

pub(super) fn begin(base: Url, user: &str) -> (Box<dyn Reading>, Ask) {
    let reading = DevTo { base, user: user.to_owned(), page: 1, posts: Vec::new() };
    let first = reading.list();
    (Box::new(reading), first)
}

impl DevTo {
    fn list(&self) -> Ask {
        let (page, per_page) = (self.page.to_string(), PER_PAGE.to_string());
        let query = [("username", self.user.as_str()), ("per_page", &per_page), ("page", &page)];
        Ask::list(below(&self.base, "articles", &query))
    }
}

impl Reading for DevTo {
    fn take(&mut self, ask: &Ask, answer: &Value) -> Result<Vec<Ask>, String> {
        if ask.is_detail {
            self.posts.push(post(answer));
            return Ok(Vec::new());
        }
        let listed = answer.as_array().ok_or("the list of articles is no list")?;
        let ids = listed.iter().filter_map(id);
        let mut next: Vec<Ask> = ids.map(|id| Ask::detail(below(&self.base, &format!("articles/{id}"), &[]))).collect();
        if listed.len() >= PER_PAGE {
            self.page += 1;
            next.push(self.list());
        }
        Ok(next)
    }

    fn finish(self: Box<Self>) -> Vec<Result<Page, Skip>> {
        self.posts
    }
}

fn post(article: &Value) -> Result<Page, Skip> {
    let key = format!("article {}", id(article).unwrap_or_default());
    let Some(body) = text(article, &["body_markdown"]) else {
        return Err(Skip { what: key, reason: "the service gives no text of it".to_owned() });
    };
    let tags = article.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let hints = Hints {
        title: text(article, &["title"]).map(str::to_owned),
        date: text(article, &["published_at"]).and_then(date::parse),
        tags: tags.map(str::to_owned).collect(),
        byline: text(article, &["user", "name"]).map(str::to_owned),
        ..Hints::default()
    };
    let url = post_url(text(article, &["canonical_url"]).or(text(article, &["url"])), &format!("devto:{key}"));
    Ok(Page { key, url, media: Media::Markdown, body: body.to_owned(), hints })
}
