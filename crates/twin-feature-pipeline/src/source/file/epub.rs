//! EPUB 2 and 3: each document of the spine is a text of its own, in the order of reading. Covers, contents and imprints are
//! no texts of the author.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

use super::Part;
use crate::clean::encoding;
use crate::clean::privacy::pattern;
use crate::date;
use crate::page::Hints;
use crate::source::export::archive::Archive;
use crate::source::export::records::{Record, each_record};

/// No book has more parts.
const MAX_PARTS: usize = 2000;

pub(super) fn read(bytes: Vec<u8>, most: u64) -> Result<Vec<Part>, String> {
    let mut archive = Archive::of_bytes(bytes)?;
    let mut text = |name: &str| archive.read(name, most).map(|bytes| encoding::decode_lossy(&bytes));
    let container =
        text("META-INF/container.xml").map_err(|problem| format!("it is no EPUB: container.xml: {problem}"))?;
    let package_path = first(&container, "rootfiles")
        .and_then(|roots| roots.all("rootfile").next()?.attribute("full-path").map(str::to_owned))
        .ok_or("it is no EPUB: its container names no package")?;
    let package = text(&package_path).map_err(|problem| format!("`{package_path}`: {problem}"))?;
    let hints = hints(&first(&package, "metadata").unwrap_or_default());
    let folder = package_path.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
    let mut parts = Vec::new();
    for path in spine(&package) {
        let Ok(chapter) = text(&within(&folder, &path)) else { continue };
        parts.push(Part { html: body(&chapter), hints: hints.clone(), name: path });
    }
    if parts.is_empty() { Err("it has no readable chapters".to_owned()) } else { Ok(parts) }
}

fn first(xml: &str, element: &str) -> Option<Record> {
    let mut found = None;
    let local = |name: &str| name == element || name.rsplit(':').next() == Some(element);
    // A document that breaks off may have had it before.
    let _ = each_record(xml, &local, &mut |record| {
        found = Some(record);
        false
    });
    found
}

fn hints(metadata: &Record) -> Hints {
    let creators: Vec<&str> = metadata.all("dc:creator").map(|creator| creator.text.trim()).collect();
    Hints {
        date: metadata.text("dc:date").and_then(date::parse),
        tags: metadata.text("dc:title").map(str::to_owned).into_iter().collect(),
        byline: (!creators.is_empty()).then(|| creators.join(", ")),
        ..Hints::default()
    }
}

/// The files of the spine that are read in turn.
fn spine(package: &str) -> Vec<String> {
    let manifest = first(package, "manifest").unwrap_or_default();
    let items: HashMap<&str, &str> = manifest
        .fields
        .iter()
        .filter(|item| item.attribute("media-type") == Some("application/xhtml+xml"))
        .filter(|item| !item.attribute("properties").is_some_and(|properties| properties.contains("nav")))
        .filter_map(|item| Some((item.attribute("id")?, item.attribute("href")?)))
        .collect();
    let spine = first(package, "spine").unwrap_or_default();
    let linear = spine.fields.iter().filter(|item| item.attribute("linear") != Some("no"));
    let paths = linear.filter_map(|item| items.get(item.attribute("idref")?).copied());
    paths.filter(|path| !is_around_the_text(path)).take(MAX_PARTS).map(decoded).collect()
}

/// What stands before and after the text in most books.
fn is_around_the_text(path: &str) -> bool {
    const AROUND: [&str; 10] = [
        "cover",
        "title",
        "titlepage",
        "toc",
        "nav",
        "copyright",
        "imprint",
        "colophon",
        "uncopyright",
        "halftitlepage",
    ];
    let name = path.rsplit('/').next().unwrap_or(path).to_lowercase();
    let stem = name.split('.').next().unwrap_or_default().replace(['-', '_'], "");
    AROUND.contains(&stem.as_str())
}

fn decoded(path: &str) -> String {
    percent_encoding::percent_decode_str(path.split('#').next().unwrap_or(path)).decode_utf8_lossy().into_owned()
}

/// A path beside the package file. One that leads out of the book is not found in it.
fn within(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Elements that XHTML may close at once and HTML may not.
static CLOSED_AT_ONCE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)<(a|span|div|p|i|b|em|strong|td|th|li|script|iframe)((?:\s[^<>]*)?)/>"));

/// The body of an XHTML document as HTML.
fn body(chapter: &str) -> String {
    let start = chapter.find("<body").and_then(|at| chapter[at..].find('>').map(|end| at + end + 1)).unwrap_or(0);
    let end = chapter.rfind("</body").filter(|end| *end >= start).unwrap_or(chapter.len());
    CLOSED_AT_ONCE.replace_all(&chapter[start..end], "<$1$2></$1>").into_owned()
}
