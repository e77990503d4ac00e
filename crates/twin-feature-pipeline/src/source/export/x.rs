//! X (Twitter): the archive's `data/tweets.js`. Direct messages, likes and lists lie beside it and are never opened.

use std::collections::HashMap;

use serde_json::Value;

use super::json_posts::text;
use super::threads::{Post, grouped};
use super::{Each, Export};
use crate::date;
use crate::page::{Hints, Media, Page};
use crate::report::Skip;

pub(super) fn posts(export: &mut Export, each: &mut Each<'_>) -> Result<(), String> {
    let account = user_name(export);
    let notes = notes(export);
    let (mut posts, mut reposts, mut dates) = (Vec::new(), 0, HashMap::new());
    for name in export.archive.matching(is_tweets) {
        for entry in assigned(export, &name)?.as_array().into_iter().flatten() {
            // Older archives have no wrapper.
            let tweet = entry.get("tweet").unwrap_or(entry);
            let Some(id) = text(tweet, &["id_str"]).or(text(tweet, &["id"])) else { continue };
            let written = full_text(tweet);
            if tweet.get("retweeted_status").is_some() || written.starts_with("RT @") {
                reposts += 1;
                continue;
            }
            dates.insert(id.to_owned(), text(tweet, &["created_at"]).and_then(date::parse));
            posts.push(Post {
                id: id.to_owned(),
                answers: text(tweet, &["in_reply_to_status_id_str"]).map(str::to_owned),
                // Ids grow with time; their lengths did too.
                order: format!("{id:0>24}"),
                body: with_links(tweet, whole(written, &notes)),
            });
        }
    }
    for group in grouped(posts) {
        let Some(first) = group.first() else { continue };
        let address = account.as_ref().map(|account| format!("https://x.com/{account}/status/{}", first.id));
        let page = Page {
            key: format!("post {}", first.id),
            url: export.url(address.as_deref(), &first.id),
            media: Media::Text,
            body: group.iter().map(|post| post.body.as_str()).collect::<Vec<_>>().join("\n\n"),
            hints: Hints { date: dates.get(&first.id).copied().flatten(), short_form: true, ..Hints::default() },
        };
        if !each(Ok(page)) {
            return Ok(());
        }
    }
    if reposts > 0 {
        each(Err(Skip { what: format!("{reposts} reposts"), reason: "somebody else's words".to_owned() }));
    }
    Ok(())
}

/// `tweets.js` or, long ago, `tweet.js`, with further parts beside them. Not `deleted-tweets.js`.
fn is_tweets(name: &str) -> bool {
    let Some(stem) = name.rsplit('/').next().and_then(|file| file.strip_suffix(".js")) else { return false };
    let rest = stem.strip_prefix("tweets").or_else(|| stem.strip_prefix("tweet"));
    rest.is_some_and(|rest| rest.strip_prefix("-part").map_or(rest.is_empty(), |n| n.parse::<u32>().is_ok()))
}

/// The value that a script assigns: `window.YTD.tweets.part0 = [...]`.
fn assigned(export: &mut Export, name: &str) -> Result<Value, String> {
    let script = export.file(name)?;
    let start = script.find(['[', '{']).ok_or_else(|| format!("`{name}` assigns nothing"))?;
    serde_json::from_str(script[start..].trim_end().trim_end_matches(';'))
        .map_err(|error| format!("`{name}` is no JSON: {error}"))
}

fn user_name(export: &mut Export) -> Option<String> {
    let name = export.archive.find("account.js")?;
    let account = assigned(export, &name).ok()?;
    text(account.get(0)?, &["account", "username"]).map(str::to_owned)
}

/// The whole texts of long posts, of which `tweets.js` has only the beginnings.
fn notes(export: &mut Export) -> Vec<String> {
    let names =
        export.archive.matching(|name| name.rsplit('/').next().is_some_and(|file| file.starts_with("note-tweet")));
    let mut notes = Vec::new();
    for name in names {
        let Ok(entries) = assigned(export, &name) else { continue };
        let texts =
            entries.as_array().into_iter().flatten().filter_map(|entry| text(entry, &["noteTweet", "core", "text"]));
        notes.extend(texts.map(str::to_owned));
    }
    notes
}

fn full_text(tweet: &Value) -> String {
    let written = text(tweet, &["full_text"]).or(text(tweet, &["text"])).unwrap_or_default();
    // These three are all that is escaped; the ampersand last, or `&amp;lt;` would become `<`.
    written.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// A text that was cut ends in an ellipsis, often with a link to itself after it.
fn whole(written: String, notes: &[String]) -> String {
    const LEAST_COMMON: usize = 20;
    let Some(cut) = written.rfind('…') else { return written };
    let (beginning, rest) = (written[..cut].trim_end(), &written[cut + '…'.len_utf8()..]);
    let is_cut = rest.trim().is_empty() || rest.trim().starts_with("https://t.co/");
    let note = notes.iter().find(|note| note.starts_with(beginning));
    note.filter(|_| is_cut && beginning.len() >= LEAST_COMMON).cloned().unwrap_or(written)
}

/// Shortened links become what they stand for; those to the post's own pictures go.
fn with_links(tweet: &Value, mut written: String) -> String {
    let entities = |kind: &str| tweet.get("entities").and_then(|all| all.get(kind)).and_then(Value::as_array);
    for link in entities("urls").into_iter().flatten() {
        if let (Some(short), Some(long)) = (text(link, &["url"]), text(link, &["expanded_url"])) {
            written = written.replace(short, long);
        }
    }
    for picture in entities("media").into_iter().flatten() {
        if let Some(short) = text(picture, &["url"]) {
            written = written.replace(short, "");
        }
    }
    written.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_files_of_posts_are_opened() {
        for name in ["data/tweets.js", "a/data/tweets-part12.js", "data/tweet.js", "tweets.js"] {
            assert!(is_tweets(name), "{name}");
        }
        for name in
            ["data/deleted-tweets.js", "data/tweetdeck.js", "data/tweet-headers.js", "data/tweets.json", "like.js"]
        {
            assert!(!is_tweets(name), "{name}");
        }
    }

    #[test]
    fn long_posts_are_made_whole() {
        let notes = ["A beginning that is long enough, and its end.".to_owned()];
        assert_eq!(whole("A beginning that is long…".to_owned(), &notes), notes[0]);
        assert_eq!(whole("A beginning that is long… https://t.co/x".to_owned(), &notes), notes[0]);
        assert_eq!(whole("A…".to_owned(), &notes), "A…");
        assert_eq!(
            whole("A beginning that is long… and more".to_owned(), &notes),
            "A beginning that is long… and more"
        );
    }
}
