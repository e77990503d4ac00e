//! Export files: what blogging services, newsletters and social networks hand out when somebody asks for their posts.
//!
//! What it is follows from the files in it, not from its name. Only the author's own, public posts are taken: drafts,
//! comments by others, reposts, likes, bookmarks and private messages lie beside them in most archives and are never read
//! as posts.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use url::Url;

use self::archive::Archive;
use super::SourceError;
use super::file::{self, FileKind};
use super::folder::escaped_file_url;
use crate::clean::{canonical_url, encoding};
use crate::page::Page;
use crate::report::Skip;

pub(crate) mod archive;
mod bluesky;
mod json_posts;
mod linkedin;
pub(crate) mod mastodon;
mod mbox;
mod medium;
mod newsletters;
pub(crate) mod records;
pub(crate) mod threads;
mod x;
mod xml_posts;

/// A service whose exports can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExportKind {
    /// WordPress eXtended RSS; Squarespace writes it too.
    WordPress,
    /// Posts as the REST API of WordPress gives them.
    WordPressRest,
    Ghost,
    Medium,
    Substack,
    /// The Atom file of Google Takeout, or posts as the API gives them.
    Blogger,
    Beehiiv,
    Buttondown,
    Curated,
    LinkedIn,
    X,
    Mastodon,
    /// The CAR file of an account, or its records as JSON.
    Bluesky,
    /// A mailbox of newsletters that were sent.
    Mbox,
    /// A zip with posts as files.
    Zip,
}

impl fmt::Display for ExportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WordPress => "WordPress",
            Self::WordPressRest => "WordPress (REST)",
            Self::Ghost => "Ghost",
            Self::Medium => "Medium",
            Self::Substack => "Substack",
            Self::Blogger => "Blogger",
            Self::Beehiiv => "Beehiiv",
            Self::Buttondown => "Buttondown",
            Self::Curated => "Curated",
            Self::LinkedIn => "LinkedIn",
            Self::X => "X (Twitter)",
            Self::Mastodon => "Mastodon",
            Self::Bluesky => "Bluesky",
            Self::Mbox => "mailbox",
            Self::Zip => "zip",
        })
    }
}

/// What a reader hands every post to, or what was not taken and why. `false` means that nothing more is wanted.
pub(crate) type Each<'a> = dyn FnMut(Result<Page, Skip>) -> bool + 'a;

/// Says which service a file or folder was exported from, if it is an export.
///
/// # Errors
/// When it cannot be read at all.
pub(crate) fn recognise(path: &Path) -> Result<Option<ExportKind>, SourceError> {
    let is_file = !fs_err::metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let mut archive = Archive::open(path)?;
    if let Some(kind) = by_layout(&mut archive) {
        return Ok(Some(kind));
    }
    if archive.is_zip() {
        // A zip around one export file, or around posts.
        let inner = archive.matching(is_data_file);
        let kind = inner.iter().find_map(|name| by_start(&archive.start(name)));
        return Ok(Some(kind.unwrap_or(ExportKind::Zip)));
    }
    let name = archive.names().next().map(str::to_owned);
    Ok(name.filter(|name| is_file && is_data_file(name)).and_then(|name| by_start(&archive.start(&name))))
}

fn is_data_file(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
    ["xml", "atom", "json", "csv", "mbox", "mbx", "eml", "car"].contains(&ending.as_str())
}

/// Services that export several files are known by their names.
fn by_layout(archive: &mut Archive) -> Option<ExportKind> {
    let has = |path: &str| archive.find(path).is_some();
    if has("data/tweets.js") || has("data/tweet.js") || (has("tweets.js") && has("account.js")) {
        return Some(ExportKind::X);
    }
    if has("outbox.json") {
        return Some(ExportKind::Mastodon);
    }
    if has("emails.csv") || has("emails.json") {
        return Some(ExportKind::Buttondown);
    }
    if has("posts.csv") && archive.names().any(|name| name.contains("posts/") && name.ends_with(".html")) {
        return Some(ExportKind::Substack);
    }
    if !linkedin::files(archive).is_empty() {
        return Some(ExportKind::LinkedIn);
    }
    // Medium's posts are known by what is in them: a folder of HTML files may be anybody's.
    let first = archive.matching(|name| name.ends_with(".html") && !name.contains("profile/")).into_iter().next()?;
    medium::is_post(&archive.start(&first)).then_some(ExportKind::Medium)
}

/// Services that export one file are known by its first bytes.
fn by_start(start: &str) -> Option<ExportKind> {
    let trimmed = start.trim_start();
    let compact: String = trimmed.chars().take(4096).filter(|c| !c.is_whitespace()).collect();
    let has = |mark: &str| start.contains(mark);
    if trimmed.starts_with('<') {
        return if has("wordpress.org/export/") {
            Some(ExportKind::WordPress)
        } else if has("tag:blogger.com,") || has("schemas.google.com/blogger") || has("schemas/blogger") {
            Some(ExportKind::Blogger)
        } else {
            None
        };
    }
    if trimmed.starts_with(['{', '[']) {
        let is_ghost = compact.starts_with("{\"db\":[") || (compact.contains("\"exported_on\"") && has("\"data\""));
        return if is_ghost {
            Some(ExportKind::Ghost)
        } else if has("\"blogger#post\"") || has("\"blogger#postList\"") {
            Some(ExportKind::Blogger)
        } else if compact.contains("\"title\":{\"rendered\"") || compact.contains("\"guid\":{\"rendered\"") {
            Some(ExportKind::WordPressRest)
        } else if has("\"publication_status\"") && has("\"categories\"") {
            Some(ExportKind::Curated)
        } else if has(bluesky::POSTS) {
            Some(ExportKind::Bluesky)
        } else if has("\"OrderedCollection\"") {
            Some(ExportKind::Mastodon)
        } else {
            None
        };
    }
    if bluesky::is_car(start) {
        return Some(ExportKind::Bluesky);
    }
    let header = trimmed.lines().next().unwrap_or_default();
    if header.contains("web_title") && header.contains("content_html") {
        return Some(ExportKind::Beehiiv);
    }
    if linkedin::is_header(header) {
        return Some(ExportKind::LinkedIn);
    }
    mbox::is_start(trimmed).then_some(ExportKind::Mbox)
}

/// Reads every post of an export. Texts of more than `most_bytes` are skipped.
///
/// # Errors
/// When the export cannot be read at all.
pub(crate) fn read(path: &Path, kind: ExportKind, most_bytes: u64, each: &mut Each<'_>) -> Result<(), SourceError> {
    let mut archive = Archive::open(path)?;
    for skip in std::mem::take(&mut archive.skips) {
        each(Err(skip));
    }
    let mut export = Export { archive, most_bytes };
    posts(&mut export, kind, each).map_err(|problem| SourceError::DamagedExport { path: path.to_owned(), problem })
}

/// The posts of an export that is one file in memory, whatever it is.
pub(crate) fn of_bytes(name: &str, bytes: Vec<u8>, most_bytes: u64) -> Vec<Page> {
    let mut archive = Archive::of_file(name, bytes);
    let Some(kind) = by_layout(&mut archive).or_else(|| by_start(&archive.start(name))) else { return Vec::new() };
    let mut found = Vec::new();
    let mut export = Export { archive, most_bytes };
    // What breaks off gives what was before.
    let _ = posts(&mut export, kind, &mut |post| {
        found.extend(post);
        true
    });
    found
}

fn posts(export: &mut Export, kind: ExportKind, each: &mut Each<'_>) -> Result<(), String> {
    let mut times_seen = HashMap::new();
    let each: &mut Each<'_> = &mut |post| each(post.map(|page| told_apart(page, &mut times_seen)));
    match kind {
        ExportKind::WordPress => xml_posts::wordpress(export, each),
        ExportKind::Blogger => xml_posts::blogger(export, each),
        ExportKind::WordPressRest => json_posts::wordpress(export, each),
        ExportKind::Ghost => json_posts::ghost(export, each),
        ExportKind::Curated => json_posts::curated(export, each),
        ExportKind::Medium => medium::posts(export, each),
        ExportKind::Substack => newsletters::substack(export, each),
        ExportKind::Beehiiv => newsletters::beehiiv(export, each),
        ExportKind::Buttondown => newsletters::buttondown(export, each),
        ExportKind::LinkedIn => linkedin::posts(export, each),
        ExportKind::X => x::posts(export, each),
        ExportKind::Mastodon => mastodon::posts(export, each),
        ExportKind::Bluesky => bluesky::posts(export, each),
        ExportKind::Mbox => mbox::posts(export, each),
        ExportKind::Zip => files(export, each),
    }
}

/// Exports give two posts one number now and then; the second must not take the place of the first.
fn told_apart(mut page: Page, times_seen: &mut HashMap<String, usize>) -> Page {
    let times = times_seen.entry(page.key.clone()).or_default();
    *times += 1;
    if *times > 1 {
        page.key = format!("{} ({times})", page.key);
        // An address that was made of the key.
        if page.url.starts_with("file:") {
            page.url = format!("{}%20({times})", page.url);
        }
    }
    page
}

/// An open export and what the readers of all services need.
pub(crate) struct Export {
    pub(crate) archive: Archive,
    pub(crate) most_bytes: u64,
}

/// The most bytes of a file that has many posts, such as a WordPress export; it is held in memory while it is read.
const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;

impl Export {
    /// Reads a file with many posts.
    fn file(&mut self, name: &str) -> Result<String, String> {
        let bytes = self.archive.read(name, MAX_FILE_BYTES).map_err(|problem| format!("`{name}`: {problem}"))?;
        Ok(encoding::decode_lossy(&bytes))
    }

    /// Reads a file with one post.
    fn post(&mut self, name: &str) -> Result<String, Skip> {
        let skip = |reason: String| Skip { what: name.to_owned(), reason };
        let bytes = self.archive.read(name, self.most_bytes).map_err(skip)?;
        encoding::decode_page(&bytes, None).map_err(|rejection| skip(rejection.to_string()))
    }

    /// The canonical URL: what the export states, else one that names export and post.
    fn url(&self, stated: Option<&str>, key: &str) -> String {
        let stated = stated.and_then(|stated| Url::parse(stated.trim()).ok());
        let stated = stated.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        stated.map_or_else(|| escaped_file_url(&format!("{}/{key}", self.archive.name)), |url| canonical_url(&url))
    }
}

/// A zip of posts as files is read like a folder of them.
fn files(export: &mut Export, each: &mut Each<'_>) -> Result<(), String> {
    let names = export.archive.matching(|name| FileKind::of(Path::new(name)).is_some());
    if names.is_empty() {
        return Err("it is no export of a service that is known here, and has no files that posts are read from".into());
    }
    for name in names {
        let Some(kind) = FileKind::of(Path::new(&name)) else { continue };
        let url = export.url(None, &name);
        let posts = match export.archive.read(&name, kind.most_bytes(export.most_bytes)) {
            Ok(bytes) => file::pages(kind, bytes, &name, &url, export.most_bytes),
            Err(reason) => vec![Err(Skip { what: name, reason })],
        };
        if !posts.into_iter().all(&mut *each) {
            break;
        }
    }
    Ok(())
}
