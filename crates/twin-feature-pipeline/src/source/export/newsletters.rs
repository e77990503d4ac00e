//! Newsletters whose exports are a table of posts: Substack, Beehiiv, Buttondown.

use std::collections::HashMap;

use super::json_posts::{self, text};
use super::xml_posts::unescaped;
use super::{Each, Export};
use crate::date;
use crate::page::{Hints, Media, Page};
use crate::report::Skip;

/// A row of a table, by column.
type Row = HashMap<String, String>;

/// Reads a CSV file (RFC 4180) with a header. Rows that cannot be read are left out.
fn rows(export: &mut Export, name: &str) -> Result<Vec<Row>, String> {
    let text = export.file(name)?;
    let mut reader =
        csv::ReaderBuilder::new().flexible(true).from_reader(text.trim_start_matches('\u{feff}').as_bytes());
    let header = reader.headers().map_err(|error| format!("`{name}` is no table: {error}"))?.clone();
    let row = |record: csv::StringRecord| -> Row {
        let pairs =
            header.iter().zip(record.iter()).map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
        pairs.filter(|(_, value)| !value.is_empty()).collect()
    };
    Ok(reader.records().flatten().map(row).collect())
}

/// Substack: `posts.csv`, and for each post a file `posts/ID.SLUG.html`. Comments and subscribers are in other files.
pub(super) fn substack(export: &mut Export, each: &mut Each<'_>) -> Result<(), String> {
    let table = export.archive.find("posts.csv").ok_or("it has no `posts.csv`")?;
    for row in rows(export, &table)? {
        let Some(post_id) = row.get("post_id") else { continue };
        if !each(substack_post(export, post_id, &row)) {
            break;
        }
    }
    Ok(())
}

fn substack_post(export: &mut Export, post_id: &str, row: &Row) -> Result<Page, Skip> {
    let skip = |reason: &str| Err(Skip { what: post_id.to_owned(), reason: reason.to_owned() });
    if row.get("is_published").is_some_and(|flag| flag.eq_ignore_ascii_case("false")) {
        return skip("a draft: it is not published");
    }
    if row.get("type").is_some_and(|kind| kind == "thread") {
        return skip("a thread, in which readers write");
    }
    let Some(name) = export.archive.find(&format!("posts/{post_id}.html")) else {
        return skip("its text is not in the export");
    };
    let subtitle = row.get("subtitle").map(|subtitle| format!("<p>{subtitle}</p>\n"));
    let body = export.post(&name)?;
    let hints = Hints {
        title: row.get("title").map(|title| unescaped(title)),
        date: row.get("post_date").or(row.get("email_sent_at")).and_then(|date| date::parse(date)),
        ..Hints::default()
    };
    // The address is not in the export, but the links of its own buttons name the publication.
    let slug = post_id.split_once('.').map(|(_, slug)| slug);
    let stated = publication(&body).zip(slug).map(|(host, slug)| format!("https://{host}/p/{slug}"));
    Ok(Page {
        key: post_id.to_owned(),
        url: export.url(stated.as_deref(), &format!("posts/{post_id}")),
        media: Media::Fragment,
        body: format!("{}{body}", subtitle.unwrap_or_default()),
        hints,
    })
}

/// The publication's host in an invitation to subscribe.
fn publication(body: &str) -> Option<&str> {
    let end = body.find(".substack.com/subscribe")? + ".substack.com".len();
    let start = body[..end].rfind("https://")? + "https://".len();
    Some(&body[start..end]).filter(|host| host.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c)))
}

/// Beehiiv: one table, the HTML of each post in it.
pub(super) fn beehiiv(export: &mut Export, each: &mut Each<'_>) -> Result<(), String> {
    for name in export.archive.matching(|name| name.ends_with(".csv")) {
        for row in rows(export, &name)? {
            let Some(body) = row.get("content_html") else { continue };
            let key = row.get("id").or(row.get("url")).cloned().unwrap_or_else(|| "a row without an id".to_owned());
            let is_published =
                row.get("status").is_none_or(|status| matches!(status.as_str(), "confirmed" | "published"));
            let tags = row.get("content_tags").map(String::as_str).unwrap_or_default().split(';');
            let hints = Hints {
                title: row.get("web_title").or(row.get("email_subject_line")).cloned(),
                date: row.get("created_at").and_then(|date| date::parse(date)),
                tags: tags.map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect(),
                ..Hints::default()
            };
            let url = export.url(row.get("url").map(String::as_str), &key);
            let page = Page { key: key.clone(), url, media: Media::Fragment, body: body.clone(), hints };
            let skip = Skip { what: key, reason: "a draft: it is not published".to_owned() };
            if !each(if is_published { Ok(page) } else { Err(skip) }) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Buttondown: `emails.csv` or `emails.json`, and for each e-mail `emails/SLUG.md`.
pub(super) fn buttondown(export: &mut Export, each: &mut Each<'_>) -> Result<(), String> {
    for row in buttondown_rows(export)? {
        let (Some(slug), subject) = (row.get("slug"), row.get("subject")) else { continue };
        let page = match export.archive.find(&format!("emails/{slug}.md")) {
            None => Err(Skip { what: slug.clone(), reason: "its text is not in the export".to_owned() }),
            Some(name) => export.post(&name).map(|body| {
                let hints = Hints {
                    title: subject.cloned(),
                    date: row.get("publish_date").and_then(|date| date::parse(date)),
                    ..Hints::default()
                };
                let url = export.url(row.get("absolute_url").map(String::as_str), &name);
                Page { key: name, url, media: Media::Markdown, body: without_editor_mark(body), hints }
            }),
        };
        if !each(page) {
            break;
        }
    }
    Ok(())
}

fn buttondown_rows(export: &mut Export) -> Result<Vec<Row>, String> {
    let Some(name) = export.archive.find("emails.json") else {
        let table = export.archive.find("emails.csv").ok_or("it has no `emails.csv`")?;
        return rows(export, &table);
    };
    let document = json_posts::parsed(export, &name)?;
    let row = |email: &serde_json::Value| -> Row {
        let columns = ["slug", "subject", "publish_date", "absolute_url", "status"];
        columns.iter().filter_map(|key| text(email, &[*key]).map(|text| ((*key).to_owned(), text.to_owned()))).collect()
    };
    Ok(document.as_array().into_iter().flatten().map(row).collect())
}

/// The editor notes its mode in a comment that may stand before the first heading, on the same line.
fn without_editor_mark(body: String) -> String {
    let trimmed = body.trim_start();
    let rest = trimmed.strip_prefix("<!-- buttondown-editor-mode:").and_then(|rest| rest.split_once("-->"));
    rest.map_or_else(|| body.clone(), |(_, rest)| rest.trim_start_matches('\n').to_owned())
}
