//! Mastodon (and others that export ActivityPub): `outbox.json`. Likes, bookmarks and lists are other files, and notes to
//! some only are beside the public ones.

use std::collections::HashMap;

use serde_json::Value;

use super::json_posts::{parsed, text};
use super::threads::{Post, grouped};
use super::{Each, Export};
use crate::date;
use crate::page::{Hints, Media, Page};
use crate::report::Skip;

pub(super) fn posts(export: &mut Export, each: &mut Each<'_>) -> Result<(), String> {
    let name = export.archive.find("outbox.json").or_else(|| export.archive.names().next().map(str::to_owned));
    let outbox = parsed(export, &name.ok_or("it has no `outbox.json`")?)?;
    let (mut posts, mut notes, mut reposts, mut private) = (Vec::new(), HashMap::new(), 0, 0);
    for activity in outbox.get("orderedItems").and_then(Value::as_array).into_iter().flatten() {
        let Some(note) = activity.get("object").filter(|object| object.is_object()) else {
            reposts += usize::from(text(activity, &["type"]) == Some("Announce"));
            continue;
        };
        let kind = text(note, &["type"]);
        if text(activity, &["type"]) != Some("Create")
            || !matches!(kind, Some("Note" | "Article" | "Page" | "Question"))
        {
            continue;
        }
        if !is_public(note) && !is_public(activity) {
            private += 1;
            continue;
        }
        let Some(id) = text(note, &["id"]).or(text(activity, &["id"])) else { continue };
        posts.push(Post {
            id: id.to_owned(),
            answers: text(note, &["inReplyTo"]).map(str::to_owned),
            order: text(note, &["published"]).unwrap_or_default().to_owned(),
            body: without_links(text(note, &["content"]).unwrap_or_default()),
        });
        notes.insert(id.to_owned(), note);
    }
    for group in grouped(posts) {
        let Some(note) = group.first().and_then(|first| notes.get(&first.id)) else { continue };
        let body = group.iter().map(|post| post.body.as_str()).collect::<Vec<_>>().join("\n");
        if !each(Ok(page(export, &group[0].id, note, body))) {
            return Ok(());
        }
    }
    if reposts > 0 {
        each(Err(Skip { what: format!("{reposts} boosts"), reason: "somebody else's words".to_owned() }));
    }
    if private > 0 {
        each(Err(Skip { what: format!("{private} posts"), reason: "they are not public".to_owned() }));
    }
    Ok(())
}

fn page(export: &Export, id: &str, note: &Value, body: String) -> Page {
    let tags = note.get("tag").and_then(Value::as_array).into_iter().flatten();
    let tags = tags.filter(|tag| text(tag, &["type"]) == Some("Hashtag")).filter_map(|tag| text(tag, &["name"]));
    let hints = Hints {
        // The content warning stands above the text, as a title does.
        title: text(note, &["name"]).or(text(note, &["summary"])).map(str::to_owned),
        date: text(note, &["published"]).and_then(date::parse),
        tags: tags.map(|tag| tag.trim_start_matches('#').to_owned()).collect(),
        short_form: text(note, &["type"]) != Some("Article"),
        ..Hints::default()
    };
    let url = export.url(text(note, &["url"]).or(Some(id)), id);
    Page { key: id.to_owned(), url, media: Media::Fragment, body, hints }
}

/// Servers turn mentions, hashtags and addresses into links, of which the text is what was typed.
pub(crate) fn without_links(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some((before, tag)) = rest.split_once("<a ") {
        text.push_str(before);
        rest = tag.split_once('>').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    text.replace("</a>", "")
}

/// "Public" and "unlisted" are addressed to everybody; "followers only" and direct notes are not.
fn is_public(object: &Value) -> bool {
    let everybody = |value: &Value| {
        matches!(value.as_str(), Some("https://www.w3.org/ns/activitystreams#Public" | "as:Public" | "Public"))
    };
    ["to", "cc"].iter().filter_map(|key| object.get(*key)).any(|addressed| match addressed {
        Value::Array(all) => all.iter().any(everybody),
        one => everybody(one),
    })
}
