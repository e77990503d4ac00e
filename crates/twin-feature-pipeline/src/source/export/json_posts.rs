//! Exports that are JSON documents: Ghost, WordPress REST, Blogger's API, Curated.

use serde_json::Value;

use super::xml_posts::unescaped;
use super::{Each, Export};
use crate::date;
use crate::page::{Hints, Media, Page};
use crate::report::Skip;

/// The text at a path of keys.
pub(super) fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    let found = path.iter().try_fold(value, |value, key| value.get(key))?;
    found.as_str().map(str::trim).filter(|text| !text.is_empty())
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// Parses a file. serde_json itself refuses nesting deeper than 128.
pub(super) fn parsed(export: &mut Export, name: &str) -> Result<Value, String> {
    let text = export.file(name)?;
    serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| format!("`{name}` is no JSON: {error}"))
}

fn json_files(export: &Export) -> Vec<String> {
    export.archive.matching(|name| name.ends_with(".json"))
}

/// An identifier as text, whether it is written as a number or a string.
fn id(value: &Value) -> String {
    match value.get("id") {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => "without an id".to_owned(),
    }
}

fn draft(what: String) -> Result<Page, Skip> {
    Err(Skip { what, reason: "a draft: it is not published".to_owned() })
}

/// Ghost: `{"db": [{"data": {"posts": [...], "tags": [...], "users": [...]}}]}`, in old exports without `db`.
pub(super) fn ghost(export: &mut Export, each: &mut Each<'_>) -> Result<(), String> {
    for name in json_files(export) {
        let document = parsed(export, &name)?;
        let data = document.pointer("/db/0/data").or(document.get("data")).unwrap_or(&document);
        let site = items(data, "settings").find(|setting| text(setting, &["key"]) == Some("url"));
        let site = site.and_then(|setting| text(setting, &["value"])).map(str::to_owned);
        for post in items(data, "posts") {
            if !each(ghost_post(export, data, post, site.as_deref())) {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn ghost_post(export: &Export, data: &Value, post: &Value, site: Option<&str>) -> Result<Page, Skip> {
    let post_id = id(post);
    let slug = text(post, &["slug"]).unwrap_or(&post_id);
    let key = format!("post {slug}");
    let status = text(post, &["status"]).unwrap_or("published");
    if !matches!(status, "published" | "sent") {
        return draft(key);
    }
    // `lexical` and `mobiledoc` are the editor's; `html` is always rendered beside them.
    let (media, body) = match (text(post, &["html"]), text(post, &["plaintext"])) {
        (Some(html), _) => (Media::Fragment, html.to_owned()),
        (None, plain) => (Media::Text, plain.unwrap_or_default().to_owned()),
    };
    let named = |table: &str, link: &str, name: &str| -> Vec<String> {
        let linked = items(data, link).filter(|row| text(row, &["post_id"]) == Some(post_id.as_str()));
        let ids: Vec<&str> = linked.filter_map(|row| text(row, &["tag_id"]).or(text(row, &["author_id"]))).collect();
        let found = items(data, table).filter(|row| ids.contains(&id(row).as_str()));
        found.filter_map(|row| text(row, &[name])).map(str::to_owned).collect()
    };
    let authors = named("users", "posts_authors", "name");
    let hints = Hints {
        title: text(post, &["title"]).map(str::to_owned),
        date: text(post, &["published_at"]).or(text(post, &["created_at"])).and_then(date::parse),
        // Tags that begin with `#` are internal.
        tags: named("tags", "posts_tags", "name").into_iter().filter(|tag| !tag.starts_with('#')).collect(),
        byline: (!authors.is_empty()).then(|| authors.join(", ")),
        ..Hints::default()
    };
    let on_site = site.map(|site| format!("{}/{slug}/", site.trim_end_matches('/')));
    let url = export.url(text(post, &["canonical_url"]).or(on_site.as_deref()), &key);
    Ok(Page { key, url, media, body, hints })
}

/// WordPress REST: one post or an array of them, with `rendered` HTML.
pub(super) fn wordpress(export: &mut Export, each: &mut Each<'_>) -> Result<(), String> {
    for name in json_files(export) {
        let document = parsed(export, &name)?;
        let posts = document.as_array().map_or_else(|| std::slice::from_ref(&document), Vec::as_slice);
        for post in posts.iter().filter(|post| text(post, &["content", "rendered"]).is_some()) {
            if !each(wordpress_post(export, post)) {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn wordpress_post(export: &Export, post: &Value) -> Result<Page, Skip> {
    let key = format!("{} {}", text(post, &["type"]).unwrap_or("post"), id(post));
    if text(post, &["status"]).unwrap_or("publish") != "publish" {
        return draft(key);
    }
    let embedded = |name: &str| post.get("_embedded").and_then(|all| all.get(name)).and_then(Value::as_array);
    let authors: Vec<&str> =
        embedded("author").into_iter().flatten().filter_map(|author| text(author, &["name"])).collect();
    let terms = embedded("wp:term").into_iter().flatten().filter_map(Value::as_array).flatten();
    let is_tag = |term: &&Value| matches!(text(term, &["taxonomy"]), Some("category" | "post_tag"));
    let hints = Hints {
        title: text(post, &["title", "rendered"]).map(unescaped),
        date: text(post, &["date"]).or(text(post, &["date_gmt"])).and_then(date::parse),
        tags: terms.filter(is_tag).filter_map(|term| text(term, &["name"])).map(unescaped).collect(),
        byline: (!authors.is_empty()).then(|| authors.join(", ")),
        ..Hints::default()
    };
    let url = export.url(text(post, &["link"]), &key);
    let body = text(post, &["content", "rendered"]).unwrap_or_default().to_owned();
    Ok(Page { key, url, media: Media::Fragment, body, hints })
}

/// Blogger's API: an array of posts, or a list with `items`.
pub(super) fn blogger(export: &mut Export, name: &str, each: &mut Each<'_>) -> Result<(), String> {
    let document = parsed(export, name)?;
    let posts = document.as_array().or(document.get("items").and_then(Value::as_array));
    for post in posts.into_iter().flatten().filter(|post| text(post, &["kind"]) == Some("blogger#post")) {
        let key = format!("post {}", id(post));
        let labels = items(post, "labels").filter_map(Value::as_str).map(unescaped).collect();
        let hints = Hints {
            title: text(post, &["title"]).map(str::to_owned),
            date: text(post, &["published"]).and_then(date::parse),
            tags: labels,
            byline: text(post, &["author", "displayName"]).map(unescaped),
            ..Hints::default()
        };
        let url = export.url(text(post, &["url"]), &key);
        let body = text(post, &["content"]).unwrap_or_default().to_owned();
        let is_live = matches!(text(post, &["status"]).unwrap_or("LIVE"), "LIVE");
        let page = Page { key: key.clone(), url, media: Media::Fragment, body, hints };
        if !each(if is_live { Ok(page) } else { draft(key) }) {
            break;
        }
    }
    Ok(())
}

/// Curated: an issue of a newsletter, made of texts and of links with the author's remarks.
pub(super) fn curated(export: &mut Export, each: &mut Each<'_>) -> Result<(), String> {
    for name in json_files(export) {
        let document = parsed(export, &name)?;
        let issues = document.as_array().map_or_else(|| std::slice::from_ref(&document), Vec::as_slice);
        for issue in issues.iter().filter(|issue| issue.get("categories").is_some()) {
            if !each(curated_issue(export, issue)) {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn curated_issue(export: &Export, issue: &Value) -> Result<Page, Skip> {
    let number = issue.get("number").map(Value::to_string).unwrap_or_default();
    let key = format!("issue {number}");
    if text(issue, &["publication_status"]).unwrap_or("published") != "published" {
        return draft(key);
    }
    let mut body = String::new();
    for category in items(issue, "categories") {
        for item in items(category, "items") {
            let title = text(item, &["title"]).map(|title| match text(item, &["url"]) {
                Some(url) => format!("<h3><a href=\"{}\">{}</a></h3>\n", escaped(url), escaped(title)),
                None => format!("<h3>{}</h3>\n", escaped(title)),
            });
            // A text with the issue's own title is its opening.
            body.push_str(&title.filter(|_| text(item, &["type"]) != Some("Text")).unwrap_or_default());
            body.push_str(text(item, &["description"]).unwrap_or_default());
            body.push('\n');
        }
    }
    let hints = Hints {
        title: text(issue, &["title"]).map(str::to_owned),
        date: text(issue, &["published_at"]).and_then(date::parse),
        ..Hints::default()
    };
    let url = export.url(text(issue, &["url"]), &key);
    Ok(Page { key, url, media: Media::Fragment, body, hints })
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
