//! Ways in for fuzz targets and property tests: what reads untrusted bytes, without the pipeline around it. Not an interface
//! of the pipeline.
#![doc(hidden)]

use std::path::Path;

use twin_domain::{AuthorId, Digest, Document, DocumentId, DocumentInfo, FeatureViewId};
use twin_models::embedding::ScriptedEmbedder;
use url::Url;

use crate::clean::{self, CleanOptions, encoding, front_matter, markdown, privacy};
use crate::fetch::robots::Robots;
use crate::fetch::{Fetched, Validators};
use crate::page::{Hints, Media, Page};
use crate::source::feed::{Found, recognise};
use crate::source::file::{self, FileKind};
use crate::source::service::{self, Account, Service, ServiceAddresses};
use crate::source::{export, site, wikilinks};
use crate::{chunk, date};

/// What a fuzz target does with an input. It panics where something does not hold.
pub type Target = fn(&[u8]);

/// The fuzz targets, by name.
pub const TARGETS: [(&str, Target); 8] = [
    ("clean", fuzz_clean),
    ("chunk", fuzz_chunk),
    ("feed", fuzz_feed),
    ("export", fuzz_export),
    ("front_matter", fuzz_front_matter),
    ("site", fuzz_site),
    ("account", fuzz_account),
    ("privacy", fuzz_privacy),
];

/// A page in every medium: it is cleaned or refused, and cleaned Markdown stays as it is.
pub fn fuzz_clean(bytes: &[u8]) {
    const MEDIA: [Media; 8] = [
        Media::Markdown,
        Media::Html,
        Media::Fragment,
        Media::Text,
        Media::Mdx,
        Media::Djot,
        Media::AsciiDoc,
        Media::Rst,
    ];
    let Some((media, rest)) = chosen(&MEDIA, bytes) else { return };
    let Ok(body) = clean::decode_page(rest, None) else { return };
    let url = "https://a.example/post.md".to_owned();
    let page = Page { key: url.clone(), url, media, body, hints: Hints::default() };
    let options = CleanOptions { mask_private: true, ..CleanOptions::default() };
    if let Ok(document) = clean::page(&page, &options)
        && media == Media::Markdown
    {
        assert_eq!(clean_markdown(&document.text), document.text);
    }
}

/// A text in chunks: joined, they are the text.
pub fn fuzz_chunk(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let (most, text) = (usize::from(*first).max(12), String::from_utf8_lossy(rest).into_owned());
    let (Ok(author), Some(view)) = (AuthorId::parse("ada"), FeatureViewId::parse("features-0123456789ab")) else {
        return;
    };
    let url = "https://a.example/".to_owned();
    let info = DocumentInfo {
        id: DocumentId::new(&author, &url),
        author,
        url,
        title: "A title".to_owned(),
        date: None,
        language: None,
        tags: Vec::new(),
        content_hash: Digest::of(&text),
    };
    let document = Document { info, text: text.clone() };
    let chunks = chunk::split(&document, &view, most, &ScriptedEmbedder::default());
    assert_eq!(chunks.iter().map(|prepared| prepared.chunk.text.as_str()).collect::<String>(), text);
}

/// A feed or a sitemap: it is read or refused.
pub fn fuzz_feed(bytes: &[u8]) {
    let _ = (feed(bytes), sitemap(bytes));
}

/// A file of every kind: a document, or a service's export that is one file.
pub fn fuzz_export(bytes: &[u8]) {
    const NAMES: [&str; 9] = ["a.xml", "a.json", "a.csv", "a.mbox", "a.car", "tweets.js", "a.docx", "a.epub", "a.pdf"];
    if let Some((name, rest)) = chosen(&NAMES, bytes) {
        let _ = file(name, rest.to_owned());
    }
}

/// Front matter: what is under it is the end of the text.
pub fn fuzz_front_matter(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    assert!(text.ends_with(without_front_matter(&text)));
}

/// A page that a crawler looks for links in, and a robots.txt: both are read, and no link leads off the site.
pub fn fuzz_site(bytes: &[u8]) {
    let text = decoded(bytes);
    let robots = Robots::parse(&text);
    for link in links(&text) {
        assert_eq!(link.host_str().map(|host| host.trim_start_matches("www.")), Some("a.example"));
        let _ = robots.allows(&link);
    }
}

/// What a service's API answers: read, or refused in a sentence.
pub fn fuzz_account(bytes: &[u8]) {
    const SERVICES: [Service; 6] =
        [Service::DevTo, Service::Hashnode, Service::GitHub, Service::Mastodon, Service::Bluesky, Service::HackerNews];
    let Some((service, rest)) = chosen(&SERVICES, bytes) else { return };
    let account = Account { service, user: "ada@a.example".to_owned() };
    let Ok((mut reading, asks)) = service::begin(&account, &ServiceAddresses::default()) else { return };
    // Each line is an answer, to whatever is asked next.
    let mut asks = std::collections::VecDeque::from(asks);
    for line in rest.split(|byte| *byte == b'\n') {
        let Ok(answer) = serde_json::from_slice(line) else { continue };
        let Some(ask) = asks.pop_front() else { break };
        asks.extend(reading.take(&ask, &answer).unwrap_or_default());
    }
    let _ = reading.finish().len();
}

/// Masking, dates and links between notes: masking twice changes nothing.
pub fn fuzz_privacy(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let masked = masked(&text);
    assert_eq!(self::masked(&masked), masked);
    let _ = (dates(&text), with_links_resolved(&text));
}

/// One of `choices`, by the first byte, and the bytes after it.
fn chosen<'b, T: Copy>(choices: &[T], bytes: &'b [u8]) -> Option<(T, &'b [u8])> {
    let (first, rest) = bytes.split_first()?;
    Some((choices[usize::from(*first) % choices.len()], rest))
}

/// The links that a page leads to within its site, `a.example`.
pub fn links(html: &str) -> Vec<Url> {
    let html = html.to_owned();
    let Ok(url) = Url::parse("https://a.example/") else { return Vec::new() };
    let landing = clean::guarded(move || site::landing(&html, &url));
    landing.map(|landing| landing.links).unwrap_or_default()
}

/// A text without e-mail addresses, phone numbers and keys.
pub fn masked(text: &str) -> String {
    privacy::mask(text).0
}

/// The days that a text and a path name.
pub fn dates(text: &str) -> Vec<String> {
    [date::parse(text), date::in_path(text)].into_iter().flatten().map(|date| date.to_string()).collect()
}

/// A note whose links between notes are words.
pub fn with_links_resolved(text: &str) -> String {
    wikilinks::resolved(Media::Markdown, text.to_owned())
}

/// Cleans the body of a Markdown post, without looking for a title in it.
pub fn clean_markdown(body: &str) -> String {
    markdown::clean(body)
}

/// What stands under the front matter.
pub fn without_front_matter(text: &str) -> &str {
    front_matter::split(text).1
}

/// The titles and texts of a feed.
pub fn feed(bytes: &[u8]) -> Vec<String> {
    let Ok(url) = Url::parse("https://a.example/feed.xml") else { return Vec::new() };
    let fetched = Fetched {
        final_url: url.to_string(),
        status: 200,
        content_type: None,
        validators: Validators::default(),
        body: bytes.to_owned(),
    };
    let Ok(Found::Feed(feed)) = recognise(&url, &fetched, true) else { return Vec::new() };
    feed.entries
        .into_iter()
        .flat_map(|entry| [entry.page.hints.title, entry.page.hints.feed_content])
        .flatten()
        .collect()
}

/// Addresses in a sitemap, as many as there are.
pub fn sitemap(bytes: &[u8]) -> usize {
    let found = site::sitemap(bytes);
    found.pages.len() + found.sitemaps.len()
}

/// Posts in a file of this name, as many as there are: a document, or an export that is one file.
pub fn file(name: &str, bytes: Vec<u8>) -> usize {
    const MOST: u64 = 1 << 20;
    match FileKind::of(Path::new(name)) {
        Some(kind) => file::pages(kind, bytes, name, "file:x", MOST).into_iter().flatten().count(),
        None => export::of_bytes(name, bytes, MOST).len(),
    }
}

/// A text in whatever character set it is.
pub fn decoded(bytes: &[u8]) -> String {
    encoding::decode_lossy(bytes)
}
