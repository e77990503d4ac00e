//! WordPress (WXR) and Blogger (Atom) exports.

use std::collections::HashMap;

use super::records::{Field, Record, each_record};
use super::{Each, Export};
use crate::date;
use crate::page::{Hints, Media, Page};
use crate::report::Skip;

/// Posts and pages that are published. Attachments, menus, revisions and the like are passed over in silence; drafts are
/// named.
pub(super) fn wordpress(export: &mut Export, each: &mut Each<'_>) -> Result<(), String> {
    for name in export.archive.matching(|name| name.ends_with(".xml")) {
        let xml = export.file(&name)?;
        let names = authors(&xml);
        let mut stopped = false;
        let outcome = each_record(&xml, &|name| name == "item", &mut |item| {
            let go_on = wordpress_post(export, &item, &names).is_none_or(&mut *each);
            stopped |= !go_on;
            go_on
        });
        if let Err(reason) = outcome {
            each(Err(Skip { what: name, reason }));
        }
        if stopped {
            break;
        }
    }
    Ok(())
}

/// Login names and the names by which their owners are shown.
fn authors(xml: &str) -> HashMap<String, String> {
    let mut names = HashMap::new();
    // Without authors, or with damage at the start, bylines are the login names.
    let _ = each_record(xml, &|name| name == "wp:author", &mut |author| {
        if let (Some(login), Some(name)) = (author.text("wp:author_login"), author.text("wp:author_display_name")) {
            names.insert(login.to_owned(), name.to_owned());
        }
        true
    });
    names
}

fn wordpress_post(export: &Export, item: &Record, names: &HashMap<String, String>) -> Option<Result<Page, Skip>> {
    let kind = item.text("wp:post_type").unwrap_or("post");
    let machinery = ["attachment", "nav_menu_item", "revision", "custom_css", "customize_changeset", "oembed_cache"];
    if machinery.contains(&kind) || kind.starts_with("wp_") {
        return None;
    }
    let id = item.text("wp:post_id").or(item.text("guid")).or(item.text("link"));
    let title = item.text("title").map(unescaped);
    let key =
        id.map(|id| format!("{kind} {id}")).or(title.clone()).unwrap_or_else(|| "a post without a name".to_owned());
    let skip = |reason: &str| Some(Err(Skip { what: key.clone(), reason: reason.to_owned() }));
    match item.text("wp:status").unwrap_or("publish") {
        "publish" | "inherit" => {}
        "draft" | "pending" | "auto-draft" | "future" => return skip("a draft: it is not published"),
        "private" => return skip("it is private"),
        "trash" => return skip("it is in the trash"),
        status => return skip(&format!("its status is `{status}`, not published")),
    }
    if item.text("wp:post_password").is_some() {
        return skip("it is behind a password");
    }
    let body = item.text("content:encoded").unwrap_or_default().to_owned();
    if body.len() as u64 > export.most_bytes {
        return skip(&format!("too large: {} bytes; at most {} are read", body.len(), export.most_bytes));
    }
    let written = ["wp:post_date", "pubDate", "wp:post_date_gmt"].iter().find_map(|name| date::parse(item.text(name)?));
    let category = |field: &Field| matches!(field.attribute("domain"), Some("post_tag" | "category" | "tag"));
    let tags = item.all("category").filter(|field| category(field)).map(|field| unescaped(field.text.trim()));
    let byline = item.text("dc:creator").map(|login| names.get(login).map_or(login, String::as_str).to_owned());
    let hints = Hints {
        title,
        date: written,
        tags: tags.filter(|tag| tag != "Uncategorized").collect(),
        byline: coauthors(item).or(byline),
        ..Hints::default()
    };
    let url = export.url(item.text("link"), &key);
    Some(Ok(Page { key, url, media: Media::Fragment, body: with_paragraphs(&body), hints }))
}

/// The plug-in Co-Authors Plus writes further authors as categories.
fn coauthors(item: &Record) -> Option<String> {
    let all: Vec<&str> =
        item.all("category").filter(|c| c.attribute("domain") == Some("author")).map(|c| c.text.trim()).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// Blogger's comments, settings and templates are entries too; only those that are posts or pages are taken.
pub(super) fn blogger(export: &mut Export, each: &mut Each<'_>) -> Result<(), String> {
    for name in export.archive.matching(|name| [".xml", ".atom", ".json"].iter().any(|ending| name.ends_with(ending))) {
        if name.ends_with(".json") {
            super::json_posts::blogger(export, &name, each)?;
            continue;
        }
        let xml = export.file(&name)?;
        let outcome = each_record(&xml, &|name| name == "entry", &mut |entry| {
            blogger_post(export, &entry).is_none_or(&mut *each)
        });
        if let Err(reason) = outcome {
            each(Err(Skip { what: name, reason }));
        }
    }
    Ok(())
}

fn blogger_post(export: &Export, entry: &Record) -> Option<Result<Page, Skip>> {
    const KIND: &str = "http://schemas.google.com/g/2005#kind";
    let kind = entry.all("category").find(|category| category.attribute("scheme") == Some(KIND));
    let kind =
        kind.and_then(|kind| kind.attribute("term")).and_then(|term| term.rsplit_once('#')).map(|(_, kind)| kind);
    // Takeout since 2023 has an element of its own.
    let kind = entry.text("blogger:type").or(kind).unwrap_or_default().to_ascii_lowercase();
    if !matches!(kind.as_str(), "post" | "page") {
        return None;
    }
    let key = entry.text("id").unwrap_or("an entry without an id").to_owned();
    let is_draft = entry.all("app:control").any(|control| control.inner.iter().any(|(_, text)| text.trim() == "yes"));
    let status = entry.text("blogger:status").unwrap_or("LIVE");
    if is_draft || status != "LIVE" {
        return Some(Err(Skip { what: key, reason: "a draft: it is not published".to_owned() }));
    }
    let is_tag = |category: &&Field| category.attribute("scheme").is_some_and(|scheme| scheme.ends_with("ns#"));
    let author = entry.all("author").next();
    let name = author.and_then(|author| author.inner.iter().find(|(name, _)| name == "name"));
    let link = entry.all("link").find(|link| link.attribute("rel") == Some("alternate"));
    let hints = Hints {
        title: entry.text("title").map(str::to_owned),
        date: entry.text("published").and_then(date::parse),
        tags: entry.all("category").filter(is_tag).filter_map(|tag| tag.attribute("term")).map(str::to_owned).collect(),
        byline: name.map(|(_, name)| name.trim().to_owned()),
        ..Hints::default()
    };
    let body = entry.text("content").unwrap_or_default().to_owned();
    let url = export.url(link.and_then(|link| link.attribute("href")), &key);
    Some(Ok(Page { key, url, media: Media::Fragment, body, hints }))
}

/// Titles and tags are HTML.
pub(super) fn unescaped(text: &str) -> String {
    crate::clean::html::text_of(text)
}

/// WordPress stores posts of the classic editor without paragraph tags: empty lines are paragraphs, line breaks breaks.
fn with_paragraphs(body: &str) -> String {
    if body.contains("<p>") || body.contains("<p ") || body.contains("<!-- wp:") || !body.contains('\n') {
        return body.to_owned();
    }
    const BLOCKS: [&str; 12] =
        ["<h", "<ul", "<ol", "<li", "<pre", "<blockquote", "<table", "<div", "<figure", "</", "<hr", "<!--"];
    let mut html = String::with_capacity(body.len() + 64);
    let mut in_pre = false;
    for paragraph in body.replace("\r\n", "\n").split("\n\n") {
        let is_block = in_pre || BLOCKS.iter().any(|block| paragraph.trim_start().starts_with(block));
        in_pre = (in_pre || paragraph.contains("<pre")) && !paragraph.contains("</pre>");
        if is_block {
            html.push_str(paragraph);
            html.push_str("\n\n");
        } else if !paragraph.trim().is_empty() {
            html.push_str(&format!("<p>{}</p>\n", paragraph.trim().replace('\n', "<br>\n")));
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posts_of_the_classic_editor_get_their_paragraphs() {
        let body = "One.\nTwo.\r\n\r\n<h2>Head</h2>\n\n<pre>a\n\nb</pre>\n\nLast & <b>bold</b>";
        let expected = "<p>One.<br>\nTwo.</p>\n<h2>Head</h2>\n\n<pre>a\n\nb</pre>\n\n<p>Last & <b>bold</b></p>\n";
        assert_eq!(with_paragraphs(body), expected);
        assert_eq!(with_paragraphs("<p>a</p>\n\nb"), "<p>a</p>\n\nb");
    }
}
