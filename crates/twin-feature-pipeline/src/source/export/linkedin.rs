//! LinkedIn: shares, comments and articles of a data archive. Messages, connections and reactions are never opened.

use std::collections::HashMap;

use super::archive::Archive;
use super::{Each, Export};
use crate::clean::{Rejection, guarded, html};
use crate::date;
use crate::page::{Hints, Media, Page};
use crate::report::Skip;

/// The files of posts: `Shares.csv`, `Comments.csv` (their names may end in the member's id), `Articles/…/*.html`.
pub(super) fn files(archive: &mut Archive) -> Vec<String> {
    let is_table = |name: &str| {
        let file = name.rsplit('/').next().unwrap_or(name);
        file.ends_with(".csv") && (file.starts_with("Shares") || file.starts_with("Comments"))
    };
    let tables = archive.matching(is_table);
    let mut files: Vec<String> = tables.into_iter().filter(|name| is_header(&archive.start(name))).collect();
    let member = archive.names().any(|name| name.ends_with("Connections.csv") || name.ends_with("Profile.csv"));
    if member || !files.is_empty() {
        files.extend(archive.matching(|name| name.contains("Articles/") && name.ends_with(".html")));
    }
    files
}

/// Whether a table begins as those of posts do.
pub(super) fn is_header(start: &str) -> bool {
    let start = start.trim_start_matches('\u{feff}');
    start.starts_with("Date,ShareLink,ShareCommentary") || start.starts_with("Date,Link,Message")
}

pub(super) fn posts(export: &mut Export, each: &mut Each<'_>) -> Result<(), String> {
    let mut files = files(&mut export.archive);
    if files.is_empty() {
        // One table by itself, whatever its name.
        files = export.archive.names().map(str::to_owned).collect();
    }
    for name in files {
        let go_on = if name.ends_with(".html") {
            let article = export.post(&name).and_then(|page| article(export, &name, page));
            each(article)
        } else {
            table(export, &name, each)?
        };
        if !go_on {
            break;
        }
    }
    Ok(())
}

fn table(export: &mut Export, name: &str, each: &mut Each<'_>) -> Result<bool, String> {
    let text = export.file(name)?.replace("\r\n", "\n");
    let text = text.trim_start_matches('\u{feff}');
    let mut builder = csv::ReaderBuilder::new();
    // Comments escape quotation marks with a backslash, shares by doubling them.
    if text.contains("\\\"") {
        builder.escape(Some(b'\\'));
    }
    let mut reader = builder.flexible(true).has_headers(true).from_reader(text.as_bytes());
    let is_shares = reader.headers().is_ok_and(|header| header.get(1) == Some("ShareLink"));
    let rows: Vec<csv::StringRecord> = reader.records().flatten().collect();
    let quoted_breaks = is_shares && breaks_are_quoted(&rows);
    let mut seen: HashMap<String, usize> = HashMap::new();
    for row in &rows {
        let field = |at: usize| row.get(at).unwrap_or_default();
        let (link, mut body) = (field(1).trim(), field(2).to_owned());
        if quoted_breaks {
            body = body.replace("\"\n\"", "\n");
        }
        // A repost without a word of one's own is empty.
        if body.trim().is_empty() {
            continue;
        }
        let times = seen.entry(link.to_owned()).or_default();
        *times += 1;
        let page = short_post(export, link, &body, date::parse(field(0)), is_shares, *times);
        if !each(Ok(page)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// LinkedIn writes every line break within a share as `""`, line break, `""`: a reader of CSV finds a quotation mark at
/// each line's end and beginning. An author does so now and then, never throughout.
fn breaks_are_quoted(rows: &[csv::StringRecord]) -> bool {
    let texts = rows.iter().filter_map(|row| row.get(2));
    let (breaks, quoted) = texts.fold((0, 0), |(breaks, quoted), text| {
        (
            breaks + text.matches('\n').count(),
            quoted + text.match_indices('\n').filter(|(at, _)| is_quoted(text, *at)).count(),
        )
    });
    breaks > 0 && breaks == quoted
}

fn is_quoted(text: &str, at: usize) -> bool {
    text[..at].ends_with('"') && text[at + 1..].starts_with('"')
}

fn short_post(
    export: &Export,
    link: &str,
    body: &str,
    written: Option<jiff::civil::Date>,
    is_share: bool,
    times: usize,
) -> Page {
    let kind = if is_share { "share" } else { "comment" };
    let mut url = export.url(Some(link), &format!("{kind} {link}"));
    let mut key = format!("{kind} {link}");
    // Comments have the address of what they are about, and there may be several.
    if !is_share || times > 1 {
        url = format!("{url}#{kind}-{times}");
        key = format!("{key} {times}");
    }
    let hints = Hints { date: written, short_form: true, ..Hints::default() };
    Page { key, url, media: Media::Text, body: body.trim().to_owned(), hints }
}

struct Article {
    title: Option<String>,
    address: Option<String>,
    published: Option<String>,
    body: String,
}

fn article(export: &Export, name: &str, page: String) -> Result<Page, Skip> {
    let skip = |reason: String| Skip { what: name.to_owned(), reason };
    let article = guarded(move || parts(&page)).map_err(|rejection| skip(rejection.to_string()))?;
    let published = article.published.as_deref().map(|text| text.trim_start_matches("Published on").trim());
    if published.is_none() {
        return Err(skip("a draft: it is not published".to_owned()));
    }
    let hints = Hints { title: article.title, date: published.and_then(date::parse), ..Hints::default() };
    let url = export.url(article.address.as_deref(), name);
    Ok(Page { key: name.to_owned(), url, media: Media::Fragment, body: article.body, hints })
}

fn parts(page: &str) -> Result<Article, Rejection> {
    let page = html::parse(page)?;
    let first = |selector: &'static str| html::select(&page, selector).next();
    let text = |selector: &'static str| first(selector).map(|element| html::one_line_of(&element));
    Ok(Article {
        title: text("h1").or_else(|| text("title")).filter(|title| !title.is_empty()),
        address: first("h1 a[href]").and_then(|link| link.attr("href")).map(str::to_owned),
        published: text("p.published"),
        body: first("body > div").map(|body| body.inner_html()).unwrap_or_default(),
    })
}
