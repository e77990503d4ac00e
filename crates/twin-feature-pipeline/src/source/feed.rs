//! RSS, Atom and JSON feeds, and the pages that announce them.

use feed_rs::model::{Content, Entry as FeedEntry, Feed, Link};
use url::Url;

use super::SourceError;
use super::site::{self, Landing};
use crate::clean::{Rejection, canonical_url, encoding, guarded, html};
use crate::date;
use crate::fetch::Fetched;
use crate::page::{Hints, Media, Page};

mod lenient;

/// What is wrong with a feed in which nothing was found.
const EMPTY: &str = "it has no entries";
/// A summary with fewer words is no post.
const LEAST_WORDS_OF_A_POST: usize = 150;
/// Elements of a feed deeper than this are no feed; the parser recurses.
const MAX_DEPTH: usize = 200;

/// What an address turned out to be.
#[derive(Debug)]
pub(crate) enum Found {
    /// A feed, with its entries as pages without bodies. `page` is where each is to be fetched.
    Feed(FoundFeed),
    /// A page that leads to posts.
    Site(Landing),
    /// A single post.
    Page(Page),
}

/// A feed or a part of one.
#[derive(Debug)]
pub(crate) struct FoundFeed {
    pub(crate) title: Option<String>,
    pub(crate) entries: Vec<Entry>,
    /// Where older entries are (RFC 5005: pages and archives).
    pub(crate) older: Option<Url>,
}

/// An entry of a feed.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Where the post is, if the feed says so.
    pub(crate) link: Option<Url>,
    /// The post as far as the feed has it.
    pub(crate) page: Page,
}

/// Looks at what an address gave. `must_be_feed` refuses everything else.
///
/// # Errors
/// [`SourceError::NotAFeed`] with what came instead, [`SourceError::EmptyFeed`] for one without entries.
pub(crate) fn recognise(url: &Url, fetched: &Fetched, must_be_feed: bool) -> Result<Found, SourceError> {
    let not_a_feed = |found: String| SourceError::NotAFeed { url: url.to_string(), found };
    let base = Url::parse(&fetched.final_url).unwrap_or_else(|_| url.clone());
    let problem = match parse(fetched, &base) {
        // Feeds of old versions are read as empty ones.
        Ok(feed) if feed.entries.is_empty() => EMPTY.to_owned(),
        Ok(feed) => {
            let entries = feed.entries.iter().map(|found| entry(found, &base)).collect();
            let older = older(&feed, &base);
            return Ok(Found::Feed(FoundFeed { title: feed.title.map(|title| title.content), entries, older }));
        }
        Err(problem) => problem,
    };
    let body = encoding::decode_page(&fetched.body, fetched.charset().as_deref());
    let body = body.map_err(|rejection| not_a_feed(rejection.to_string()))?;
    let is_bomb = nests_too_deep(&fetched.body);
    if let Some(feed) = (!is_bomb).then(|| lenient::read(&body, &base)).flatten() {
        return match feed.entries.is_empty() {
            true => Err(SourceError::EmptyFeed { url: url.to_string() }),
            false => Ok(Found::Feed(feed)),
        };
    }
    if problem == EMPTY {
        return Err(SourceError::EmptyFeed { url: url.to_string() });
    }
    match kind(fetched, &body) {
        Kind::Html if must_be_feed => Err(not_a_feed(described(body))),
        Kind::Html => {
            let landing = guarded({
                let (body, base) = (body.clone(), base.clone());
                move || site::landing(&body, &base)
            });
            match landing {
                Ok(landing) if leads_to_posts(&landing, &base) => Ok(Found::Site(landing)),
                _ => Ok(Found::Page(page(&base, Media::Html, body))),
            }
        }
        Kind::Text if !must_be_feed && base.path().ends_with(".md") => {
            Ok(Found::Page(page(&base, Media::Markdown, body)))
        }
        Kind::Text if !must_be_feed => Ok(Found::Page(page(&base, Media::Text, body))),
        Kind::Text => Err(not_a_feed(format!("a text ({problem})"))),
        Kind::Xml => Err(not_a_feed(format!("an XML document that is neither RSS nor Atom ({problem})"))),
        Kind::Json => Err(not_a_feed(format!("JSON that is no JSON Feed ({problem})"))),
    }
}

/// A front page, or one that announces a feed and is not itself one of its posts.
fn leads_to_posts(landing: &Landing, url: &Url) -> bool {
    !landing.is_post && (!landing.feeds.is_empty() || url.path() == "/" || landing.is_listing)
}

fn older(feed: &Feed, base: &Url) -> Option<Url> {
    let link = |rel: &str| feed.links.iter().find(|link| link.rel.as_deref() == Some(rel));
    let link = ["next", "prev-archive"].into_iter().find_map(link)?;
    base.join(&link.href).ok()
}

fn described(html: String) -> String {
    let title = guarded(move || Ok(html::title(&html))).ok().flatten();
    title.map_or_else(|| "an HTML page".to_owned(), |title| format!("an HTML page, “{title}”"))
}

enum Kind {
    Html,
    Xml,
    Json,
    Text,
}

/// The content decides: servers often send feeds and error pages with the wrong type.
fn kind(fetched: &Fetched, body: &str) -> Kind {
    let start: String = body.trim_start().chars().take(512).collect::<String>().to_ascii_lowercase();
    let is_html =
        start.starts_with("<!doctype html") || start.contains("<html") || fetched.media_type().ends_with("html");
    if is_html {
        Kind::Html
    } else if start.starts_with('<') {
        Kind::Xml
    } else if start.starts_with('{') || start.starts_with('[') {
        Kind::Json
    } else {
        Kind::Text
    }
}

fn page(url: &Url, media: Media, body: String) -> Page {
    Page { key: url.to_string(), url: canonical_url(url), media, body, hints: Hints::default() }
}

fn parse(fetched: &Fetched, base: &Url) -> Result<Feed, String> {
    if nests_too_deep(&fetched.body) {
        return Err(format!("its elements are nested more than {MAX_DEPTH} deep"));
    }
    let (body, base) = (fetched.body.clone(), base.to_string());
    let parsed = guarded(move || {
        let parser = feed_rs::parser::Builder::new().base_uri(Some(base)).build();
        parser.parse(body.as_slice()).map_err(|error| Rejection::NoMainText { problem: error.to_string() })
    });
    parsed.map_err(|rejection| match rejection {
        Rejection::NoMainText { problem } => problem,
        other => other.to_string(),
    })
}

/// Counts tags without understanding them: enough to keep the parser from recursing into a bomb. Comments and CDATA
/// sections, in which posts travel, are passed over.
fn nests_too_deep(bytes: &[u8]) -> bool {
    let (mut at, mut depth) = (0, 0_usize);
    let skip_to = |from: usize, end: &[u8]| bytes[from..].windows(end.len()).position(|window| window == end);
    while let Some(offset) = bytes[at..].iter().position(|byte| *byte == b'<') {
        at += offset;
        let rest = &bytes[at..];
        let end: &[u8] = match rest {
            [b'<', b'!', b'[', ..] => b"]]>",
            [b'<', b'!', b'-', ..] => b"-->",
            _ => b">",
        };
        let Some(length) = skip_to(at, end) else { return false };
        match rest.get(1) {
            Some(b'/') => depth = depth.saturating_sub(1),
            Some(b'!' | b'?') => {}
            _ if rest[..length].ends_with(b"/") => {}
            _ => depth += 1,
        }
        if depth > MAX_DEPTH {
            return true;
        }
        at += length + end.len();
    }
    false
}

/// An entry at the address that its feed gives, which may be its id.
fn as_entry(link: Option<&str>, id: &str, base: &Url, hints: Hints) -> Entry {
    let link = link.and_then(|link| web_address(base, link));
    let url = link.as_ref().map_or_else(|| format!("{base}#{id}"), canonical_url);
    let key = link.as_ref().map_or_else(|| url.clone(), Url::to_string);
    Entry { link, page: Page { key, url, media: Media::Html, body: String::new(), hints } }
}

fn entry(entry: &FeedEntry, base: &Url) -> Entry {
    let is_post = |link: &&Link| link.target.is_none() && link.rel.as_deref().is_none_or(|rel| rel == "alternate");
    let links = entry.links.iter().filter(is_post).map(|link| link.href.as_str());
    let link = links.chain([entry.id.as_str()]).find(|link| web_address(base, link).is_some());
    let plain = |text: &feed_rs::model::Text| text.content.split_whitespace().collect::<Vec<_>>().join(" ");
    let published = entry.published.or(entry.updated);
    let names: Vec<String> = entry.authors.iter().filter_map(|person| person.name.clone()).collect();
    let hints = Hints {
        title: entry.title.as_ref().map(plain).filter(|title| !title.is_empty()),
        date: published.and_then(|time| date::parse(&time.to_rfc3339())),
        tags: entry
            .categories
            .iter()
            .map(|tag| tag.label.clone().unwrap_or_else(|| tag.term.clone()))
            .take(32)
            .collect(),
        byline: (!names.is_empty()).then(|| names.join(", ")),
        feed_content: full_text(entry),
        ..Hints::default()
    };
    as_entry(link, &entry.id, base, hints)
}

/// Resolves a link. An id counts only when it is an address by itself.
fn web_address(base: &Url, link: &str) -> Option<Url> {
    let url = Url::parse(link)
        .or_else(|_| if link.contains(['/', '.']) { base.join(link) } else { Url::parse(link) })
        .ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// The whole post as HTML, if the feed has it. A summary counts when it is as long as a post: many RSS feeds carry the
/// full text in `description`.
fn full_text(entry: &FeedEntry) -> Option<String> {
    let content = entry.content.as_ref().and_then(as_html);
    let summary = entry.summary.as_ref().map(|summary| summary.content.clone());
    let summary = summary.filter(|text| text.split_whitespace().count() >= LEAST_WORDS_OF_A_POST);
    content.filter(|text| !text.trim().is_empty()).or(summary)
}

fn as_html(content: &Content) -> Option<String> {
    let body = content.body.as_ref()?;
    match content.content_type.subty().as_str() {
        "html" | "xhtml+xml" | "xml" => Some(body.clone()),
        "plain" => Some(paragraphs(body)),
        _ => None,
    }
}

fn paragraphs(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;");
    escaped.split("\n\n").map(|paragraph| format!("<p>{}</p>\n", paragraph.replace('\n', "<br>"))).collect()
}

#[cfg(test)]
mod tests;
