#![expect(clippy::print_stderr, reason = "these tests say what they measured, and why they measured nothing")]

use std::path::{Path, PathBuf};

use super::*;

#[test]
fn depth_is_counted_without_being_misled() {
    let deep = format!("<rss>{}", "<a>".repeat(300));
    assert!(nests_too_deep(deep.as_bytes()));
    let flat = format!("<rss>{}</rss>", "<a/><b>x</b><!-- <a><a> --><![CDATA[<p><p><p>]]>".repeat(300));
    assert!(!nests_too_deep(flat.as_bytes()));
    assert!(!nests_too_deep(b"<unclosed"));
}

#[test]
fn ids_are_links_only_when_they_are_addresses() {
    let base = Url::parse("https://a.org/feed.xml").unwrap();
    assert_eq!(web_address(&base, "/p/1").unwrap().as_str(), "https://a.org/p/1");
    assert!(web_address(&base, "urn:uuid:1").is_none());
    assert!(web_address(&base, "0123abcd").is_none());
}

/// A feed as a server sends it. The feeds of the set state their content types in their comments.
fn fetched(file: &Path) -> Fetched {
    let body = fs_err::read(file).unwrap();
    let comment = String::from_utf8_lossy(&body[..body.len().min(2000)]).into_owned();
    let stated = comment.lines().find_map(|line| line.trim().to_lowercase().strip_prefix("header:").map(str::to_owned));
    let content_type = stated.and_then(|header| header.trim().strip_prefix("content-type:").map(str::to_owned));
    Fetched {
        final_url: "https://a.org/feed".to_owned(),
        status: 200,
        content_type: content_type.map(|stated| stated.trim().to_owned()),
        validators: crate::fetch::Validators::default(),
        body,
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in fs_err::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path
                .extension()
                .is_some_and(|ending| ["xml", "rss", "atom", "json"].iter().any(|kind| ending == *kind))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn data(name: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/dev").join(name);
    if !folder.is_dir() {
        eprintln!("{name} is not there: nothing was tested");
        return None;
    }
    Some(folder)
}

/// The titles of a feed's entries, or why it was refused.
fn titles(file: &Path) -> Result<Vec<String>, String> {
    match recognise(&Url::parse("https://a.org/feed").unwrap(), &fetched(file), true) {
        Ok(Found::Feed(feed)) => {
            Ok(feed.entries.into_iter().map(|entry| entry.page.hints.title.unwrap_or_default()).collect())
        }
        Ok(other) => Err(format!("{other:?}")),
        Err(SourceError::EmptyFeed { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.to_string()),
    }
}

/// The comment at the top of each feed says what an entry must have, in Python.
fn expectation(file: &Path) -> Option<(usize, Option<String>)> {
    let text = String::from_utf8_lossy(&fs_err::read(file).unwrap()).into_owned();
    let expected = text.lines().find_map(|line| line.trim().strip_prefix("Expect:").map(str::to_owned))?;
    let number: usize = expected.split("entries[").nth(1)?.split(']').next()?.parse().ok()?;
    let title = expected.split("entries[0]['title'] == ").nth(1).and_then(|literal| {
        let literal = literal.trim().trim_start_matches('u');
        let quote = literal.chars().next().filter(|quote| "'\"".contains(*quote))?;
        let inside = literal[1..].strip_suffix(quote)?;
        // Escapes and markup are feedparser's own business.
        (!inside.contains(['\\', '<', '&', quote])).then(|| inside.split_whitespace().collect::<Vec<_>>().join(" "))
    });
    Some((number, title))
}

#[test]
fn every_feed_of_feedparsers_tests_is_read_or_refused_for_a_reason() {
    let Some(folder) = data("feeds-feedparser") else { return };
    let (mut read, mut refused, mut wrong, mut checked) = (0, Vec::new(), Vec::new(), 0);
    let mut dump = String::new();
    for file in files(&folder) {
        let name = file.strip_prefix(&folder).unwrap().display().to_string();
        let found = titles(&file);
        dump.push_str(
            &serde_json::json!({"file": name, "titles": found.as_ref().ok(), "refused": found.as_ref().err()})
                .to_string(),
        );
        dump.push('\n');
        let expected = expectation(&file);
        match found {
            Err(reason) => refused.push(format!("{name}: {reason}")),
            Ok(titles) => {
                read += 1;
                let Some((number, title)) = expected else { continue };
                checked += 1;
                if titles.len() <= number || title.is_some_and(|title| title != titles[0]) {
                    wrong.push(format!("{name}: {titles:?}"));
                }
            }
        }
    }
    if let Some(path) = std::env::var_os("TWIN_FEEDS_OUT") {
        fs_err::write(PathBuf::from(path), dump).unwrap();
    }
    eprintln!("{read} read, {} refused, {checked} checked, {} not as expected", refused.len(), wrong.len());
    refused.iter().chain(&wrong).for_each(|line| eprintln!("{line}"));
    assert!(read >= 1000 && wrong.len() * 100 <= checked, "{} wrong", wrong.len());
}

#[test]
fn real_feeds_have_the_titles_that_rss_parser_finds() {
    let Some(folder) = data("feeds-rss-parser") else { return };
    let mut wrong = Vec::new();
    for file in files(&folder.join("input")) {
        let expected = folder.join("expected").join(file.file_name().unwrap()).with_extension("json");
        let Ok(expected) = fs_err::read(&expected) else {
            assert!(titles(&file).is_err(), "{} has no expectation as it is no feed", file.display());
            continue;
        };
        // One has half a character, as JavaScript may.
        let Ok(expected) = serde_json::from_slice::<serde_json::Value>(&expected) else { continue };
        let items = expected.pointer("/feed/items").or(expected.get("items")).and_then(serde_json::Value::as_array);
        let expected: Vec<String> = items
            .into_iter()
            .flatten()
            .map(|item| item["title"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let found = titles(&file);
        if found.as_ref() != Ok(&expected) {
            wrong.push(format!("{}: {found:?} and not {expected:?}", file.display()));
        }
    }
    wrong.iter().for_each(|line| eprintln!("{line}"));
    assert!(wrong.len() <= 1, "{} wrong", wrong.len());
}
