//! One file with one post, or several: text in any markup, a word processor's document, a book, a PDF.

use std::path::Path;

use super::folder::escaped_file_url;
use super::wikilinks;
use crate::clean::encoding;
use crate::page::{Hints, Media, Page};
use crate::report::Skip;

mod docx;
mod epub;
mod pdf;

/// Files that are no text are larger than what is written in them, for their pictures.
pub(crate) const MAX_BINARY_BYTES: u64 = 64 * 1024 * 1024;

/// What a file is, by its ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Text(Media),
    /// Office Open XML, as word processors write it.
    Docx,
    Epub,
    Pdf,
}

/// The endings of files that posts are read from.
pub(crate) const KINDS: [(&str, FileKind); 14] = [
    ("md", FileKind::Text(Media::Markdown)),
    ("markdown", FileKind::Text(Media::Markdown)),
    ("mdx", FileKind::Text(Media::Mdx)),
    ("dj", FileKind::Text(Media::Djot)),
    ("adoc", FileKind::Text(Media::AsciiDoc)),
    ("asciidoc", FileKind::Text(Media::AsciiDoc)),
    ("rst", FileKind::Text(Media::Rst)),
    ("html", FileKind::Text(Media::Html)),
    ("htm", FileKind::Text(Media::Html)),
    ("xhtml", FileKind::Text(Media::Html)),
    ("txt", FileKind::Text(Media::Text)),
    ("docx", FileKind::Docx),
    ("epub", FileKind::Epub),
    ("pdf", FileKind::Pdf),
];

impl FileKind {
    /// The kind of a file with this name.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let ending = super::ending(path);
        KINDS.iter().find(|(kind, _)| *kind == ending).map(|(_, kind)| *kind)
    }

    /// The most bytes of such a file, where texts may have `most`.
    pub(crate) fn most_bytes(self, most: u64) -> u64 {
        if matches!(self, Self::Text(_)) { most } else { most.max(MAX_BINARY_BYTES) }
    }
}

/// A part of a book, or the whole of another file.
#[derive(Debug, Default)]
struct Part {
    /// What tells it from the other parts; empty for a file that is one post.
    name: String,
    /// HTML, all of which is the post.
    html: String,
    hints: Hints,
}

/// The posts in a file's bytes. `url` is the file's own address.
pub(crate) fn pages(kind: FileKind, bytes: Vec<u8>, key: &str, url: &str, most: u64) -> Vec<Result<Page, Skip>> {
    let skip = |reason: String| Skip { what: key.to_owned(), reason };
    let parts = match kind {
        FileKind::Text(media) => return vec![text(media, &bytes, key, url).map_err(skip)],
        FileKind::Docx => docx::read(bytes, most).map(|part| vec![part]),
        FileKind::Epub => epub::read(bytes, most),
        FileKind::Pdf => pdf::read(bytes, most).map(|part| vec![part]),
    };
    let page = |part: Part| {
        let (key, url) = match part.name.as_str() {
            "" => (key.to_owned(), url.to_owned()),
            name => (format!("{key}/{name}"), format!("{url}/{}", escaped_file_url(name).trim_start_matches("file:"))),
        };
        Ok(Page { key, url, media: Media::Fragment, body: part.html, hints: part.hints })
    };
    match parts {
        Ok(parts) => parts.into_iter().map(page).collect(),
        Err(reason) => vec![Err(skip(reason))],
    }
}

fn text(media: Media, bytes: &[u8], key: &str, url: &str) -> Result<Page, String> {
    let body = match media {
        Media::Html | Media::Fragment => encoding::decode_page(bytes, None),
        _ => encoding::decode_file(bytes),
    };
    let body = wikilinks::resolved(media, body.map_err(|rejection| rejection.to_string())?);
    Ok(Page { url: url.to_owned(), media, body, hints: Hints::default(), key: key.to_owned() })
}

/// Text as it stands in HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
