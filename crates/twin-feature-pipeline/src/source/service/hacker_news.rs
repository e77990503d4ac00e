//! Hacker News, through the search that Algolia runs for it (hn.algolia.com/api): a user's comments and texts, newest first.
//! Lines that quote others, as they are marked there, are quotations.

use std::collections::HashSet;

use serde_json::Value;
use url::Url;

use super::{Ask, Reading, below, text};
use crate::date;
use crate::page::{Hints, Media, Page};
use crate::report::Skip;

/// The most that one answer lists; what is older is asked for by time.
const PER_PAGE: &str = "1000";

struct HackerNews {
    base: Url,
    user: String,
    seen: HashSet<String>,
    links: usize,
    posts: Vec<Result<Page, Skip>>,
}

pub(super) fn begin(base: Url, user: &str) -> (Box<dyn Reading>, Ask) {
    let reading = HackerNews { base, user: user.to_owned(), seen: HashSet::new(), links: 0, posts: Vec::new() };
    let first = reading.before(None);
    (Box::new(reading), first)
}

impl HackerNews {
    fn before(&self, time: Option<i64>) -> Ask {
        let (author, filter) = (format!("author_{}", self.user), time.map(|time| format!("created_at_i<{time}")));
        let mut query = vec![("tags", author.as_str()), ("hitsPerPage", PER_PAGE)];
        query.extend(filter.as_deref().map(|filter| ("numericFilters", filter)));
        Ask::list(below(&self.base, "search_by_date", &query))
    }

    fn hit(&mut self, hit: &Value) {
        let Some(id) = text(hit, &["objectID"]).filter(|id| self.seen.insert((*id).to_owned())) else { return };
        let Some(body) = text(hit, &["comment_text"]).or(text(hit, &["story_text"])) else {
            self.links += 1;
            return;
        };
        let hints = Hints {
            title: text(hit, &["title"]).map(str::to_owned),
            date: text(hit, &["created_at"]).and_then(date::parse),
            byline: text(hit, &["author"]).map(str::to_owned),
            short_form: true,
            ..Hints::default()
        };
        let url = format!("https://news.ycombinator.com/item?id={id}");
        self.posts.push(Ok(Page { key: format!("item {id}"), url, media: Media::Fragment, body: quoted(body), hints }));
    }
}

impl Reading for HackerNews {
    fn take(&mut self, _: &Ask, answer: &Value) -> Result<Vec<Ask>, String> {
        let hits = answer.get("hits").and_then(Value::as_array).ok_or("the answer has no hits")?;
        hits.iter().for_each(|hit| self.hit(hit));
        let oldest = hits.iter().filter_map(|hit| hit.get("created_at_i").and_then(Value::as_i64)).min();
        Ok(oldest.map(|oldest| self.before(Some(oldest))).into_iter().collect())
    }

    fn finish(self: Box<Self>) -> Vec<Result<Page, Skip>> {
        let mut posts = self.posts;
        if self.links > 0 {
            let what = format!("{} submissions", self.links);
            posts.push(Err(Skip { what, reason: "links to pages, without a text".to_owned() }));
        }
        posts
    }
}

/// Paragraphs that begin with `>` as quotations.
fn quoted(html: &str) -> String {
    let paragraph = |text: &str| {
        let text = text.trim().trim_end_matches("</p>");
        match text.strip_prefix("&gt;").or(text.strip_prefix('>')) {
            Some(quotation) => format!("<blockquote><p>{}</p></blockquote>\n", quotation.trim()),
            None => format!("<p>{text}</p>\n"),
        }
    };
    html.split("<p>").filter(|text| !text.trim().is_empty()).map(paragraph).collect()
}
