//! Medium: a zip with a page of HTML for each post, draft and comment.

use super::{Each, Export};
use crate::clean::{Rejection, guarded, html};
use crate::date;
use crate::page::{Hints, Media, Page};
use crate::report::Skip;

/// Whether a page is one of Medium's export.
pub(super) fn is_post(start: &str) -> bool {
    start.contains("class=\"h-entry\"") && start.contains("data-field=\"body\"")
}

pub(super) fn posts(export: &mut Export, each: &mut Each<'_>) -> Result<(), String> {
    for name in export.archive.matching(|name| name.ends_with(".html")) {
        // Profile, lists, bookmarks, claps and highlights lie beside the posts.
        if !is_post(&export.archive.start(&name)) {
            continue;
        }
        let page = export.post(&name).and_then(|body| post(export, &name, body));
        if !each(page) {
            break;
        }
    }
    Ok(())
}

struct Parts {
    title: Option<String>,
    subtitle: Option<String>,
    canonical: Option<String>,
    published: Option<String>,
    author: Option<String>,
    tags: Vec<String>,
    body: String,
    /// How many headings, paragraphs and figures the body has, and whether there is one that is not a paragraph.
    blocks: usize,
    only_paragraphs: bool,
}

fn post(export: &Export, name: &str, body: String) -> Result<Page, Skip> {
    let skip = |reason: String| Skip { what: name.to_owned(), reason };
    let parts = guarded(move || parts(&body)).map_err(|rejection| skip(rejection.to_string()))?;
    // A draft has no canonical address; it is named so only in recent exports.
    if parts.canonical.is_none() || name.rsplit('/').next().is_some_and(|file| file.starts_with("draft_")) {
        return Err(skip("a draft: it is not published".to_owned()));
    }
    if is_comment(&parts) {
        return Err(skip("a response to somebody's post, not a post".to_owned()));
    }
    let subtitle = parts.subtitle.filter(|subtitle| !parts.body.contains(subtitle.as_str()));
    let subtitle = subtitle.map(|subtitle| format!("<p>{}</p>\n", super::json_posts::escaped(&subtitle)));
    let hints = Hints {
        title: parts.title,
        date: parts.published.as_deref().and_then(date::parse),
        tags: parts.tags,
        byline: parts.author,
        ..Hints::default()
    };
    Ok(Page {
        key: name.to_owned(),
        url: export.url(parts.canonical.as_deref(), name),
        media: Media::Fragment,
        body: format!("{}{}", subtitle.unwrap_or_default(), parts.body),
        hints,
    })
}

/// Medium exports responses as posts without saying so. They have neither subtitle nor tags, and their title is the
/// beginning of their own first paragraph.
fn is_comment(parts: &Parts) -> bool {
    let first_words = |text: &str| -> String { text.split_whitespace().take(8).collect::<Vec<_>>().join(" ") };
    let text = html::text_of(&parts.body);
    let title = parts.title.as_deref().unwrap_or_default().trim_end_matches('…').trim_end_matches("...");
    let begins_with_title = !title.is_empty() && first_words(&text).starts_with(&first_words(title));
    begins_with_title && parts.subtitle.is_none() && parts.tags.is_empty() && parts.only_paragraphs && parts.blocks <= 6
}

fn parts(page: &str) -> Result<Parts, Rejection> {
    let page = html::parse(page)?;
    let text = |selector: &'static str| {
        html::select(&page, selector).next().map(|element| html::one_line_of(&element)).filter(|text| !text.is_empty())
    };
    let attribute = |selector: &'static str, name: &str| {
        html::select(&page, selector).next().and_then(|element| element.attr(name)).map(str::to_owned)
    };
    let body = html::select(&page, "[data-field=body]").next().map(|body| body.inner_html()).unwrap_or_default();
    let blocks: Vec<String> =
        html::select(&page, "[data-field=body] .graf").map(|graf| graf.value().name().to_owned()).collect();
    Ok(Parts {
        title: text("h1.p-name").or_else(|| text("title")),
        subtitle: text("[data-field=subtitle]"),
        canonical: attribute("a.p-canonical", "href"),
        published: attribute("time.dt-published", "datetime"),
        author: text("a.p-author"),
        tags: html::select(&page, "a.p-tag").map(|tag| tag.text().collect::<String>().trim().to_owned()).collect(),
        body,
        only_paragraphs: blocks.iter().all(|name| name == "p"),
        blocks: blocks.len(),
    })
}
