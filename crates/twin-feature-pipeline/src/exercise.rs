//! Ways in for fuzz targets and property tests: what reads untrusted bytes, without the pipeline around it. Not an interface
//! of the pipeline.
#![doc(hidden)]

use std::path::Path;

use url::Url;

use crate::clean::{encoding, front_matter, markdown};
use crate::fetch::{Fetched, Validators};
use crate::source::feed::{Found, recognise};
use crate::source::file::{self, FileKind};
use crate::source::{export, site};

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
