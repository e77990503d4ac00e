//! Hashnode (apidocs.hashnode.com): its GraphQL gives a user's posts with their Markdown, a page at a time.

use serde_json::{Value, json};
use url::Url;

use super::{Ask, Reading, id, post_url, text};
use crate::date;
use crate::page::{Hints, Media, Page};
use crate::report::Skip;

const QUERY: &str = "query Posts($user: String!, $page: Int!) { user(username: $user) { posts(pageSize: 20, page: $page) { \
    nodes { id title url canonicalUrl publishedAt content { markdown } tags { name } author { name } } \
    pageInfo { hasNextPage nextPage } } } }";

struct Hashnode {
    base: Url,
    user: String,
    posts: Vec<Result<Page, Skip>>,
}

pub(super) fn begin(base: Url, user: &str) -> (Box<dyn Reading>, Ask) {
    let reading = Hashnode { base, user: user.to_owned(), posts: Vec::new() };
    let first = reading.page(1);
    (Box::new(reading), first)
}

impl Hashnode {
    fn page(&self, page: u64) -> Ask {
        let body = json!({ "query": QUERY, "variables": { "user": self.user, "page": page } });
        Ask { url: self.base.clone(), body: Some(body), is_detail: false }
    }
}

impl Reading for Hashnode {
    fn take(&mut self, _: &Ask, answer: &Value) -> Result<Vec<Ask>, String> {
        if let Some(problem) = answer.pointer("/errors/0/message").and_then(Value::as_str) {
            return Err(format!("the service says: {problem}"));
        }
        let posts = answer.pointer("/data/user/posts").filter(|posts| !posts.is_null());
        let posts = posts.ok_or_else(|| format!("there is nobody by the name of {}", self.user))?;
        self.posts.extend(posts.get("nodes").and_then(Value::as_array).into_iter().flatten().map(post));
        let next = posts.pointer("/pageInfo/nextPage").and_then(Value::as_u64);
        let goes_on = posts.pointer("/pageInfo/hasNextPage") == Some(&Value::Bool(true));
        Ok(next.filter(|_| goes_on).map(|page| self.page(page)).into_iter().collect())
    }

    fn finish(self: Box<Self>) -> Vec<Result<Page, Skip>> {
        self.posts
    }
}

fn post(node: &Value) -> Result<Page, Skip> {
    let key = format!("post {}", id(node).unwrap_or_default());
    let Some(body) = text(node, &["content", "markdown"]) else {
        return Err(Skip { what: key, reason: "the service gives no text of it".to_owned() });
    };
    let tags = node.get("tags").and_then(Value::as_array).into_iter().flatten();
    let hints = Hints {
        title: text(node, &["title"]).map(str::to_owned),
        date: text(node, &["publishedAt"]).and_then(date::parse),
        tags: tags.filter_map(|tag| text(tag, &["name"])).map(str::to_owned).collect(),
        byline: text(node, &["author", "name"]).map(str::to_owned),
        ..Hints::default()
    };
    let url = post_url(text(node, &["canonicalUrl"]).or(text(node, &["url"])), &format!("hashnode:{key}"));
    Ok(Page { key, url, media: Media::Markdown, body: body.to_owned(), hints })
}
