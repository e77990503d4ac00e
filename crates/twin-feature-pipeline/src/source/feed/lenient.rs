//! Feeds that are not well-formed, of which there are many: read element by element, whatever the version says.

use url::Url;

use super::{Entry, FoundFeed, LEAST_WORDS_OF_A_POST, as_entry};
use crate::clean::html;
use crate::date;
use crate::page::Hints;
use crate::source::export::records::{Field, Record, each_record};

/// The entries of whatever looks like a feed. `None` for what does not.
pub(super) fn read(text: &str, base: &Url) -> Option<FoundFeed> {
    let root = root(text)?;
    if !matches!(root.as_str(), "rss" | "rdf" | "feed" | "channel" | "item" | "entry") {
        return None;
    }
    let (mut entries, mut title, mut older) = (Vec::new(), None, None);
    // What stands before the point where it cannot be read on is kept.
    let _ = each_record(text, &is_entry, &mut |record| {
        entries.push(entry(&record, base));
        true
    });
    let _ = each_record(text, &|name| matches!(local(name).as_str(), "channel" | "feed"), &mut |record| {
        title = first(&record, &["title"]).map(words);
        let next = links(&record).find(|(rel, _)| matches!(*rel, "next" | "prev-archive"));
        older = next.and_then(|(_, href)| base.join(href).ok());
        false
    });
    Some(FoundFeed { title: title.filter(|title: &String| !title.is_empty()), entries, older })
}

/// The name of the outermost element.
fn root(text: &str) -> Option<String> {
    let mut rest = text;
    loop {
        rest = &rest[rest.find('<')? + 1..];
        match rest.chars().next()? {
            '?' => {}
            // A declaration may have tags within.
            '!' if rest.starts_with("!--") => rest = &rest[rest.find("-->")?..],
            '!' => rest = &rest[rest.find('>')?..],
            _ => return Some(local(rest.split(|c: char| c.is_whitespace() || "/>".contains(c)).next()?)),
        }
    }
}

fn is_entry(name: &str) -> bool {
    matches!(local(name).as_str(), "item" | "entry")
}

/// The name without its prefix, in lower case.
fn local(name: &str) -> String {
    name.rsplit(':').next().unwrap_or(name).to_ascii_lowercase()
}

fn fields<'a>(record: &'a Record, name: &'a str) -> impl Iterator<Item = &'a Field> {
    // Media and iTunes have titles and descriptions of their own.
    let foreign = |field: &Field| {
        ["media:", "itunes:", "geo:"].iter().any(|prefix| field.name.to_ascii_lowercase().starts_with(prefix))
    };
    record.fields.iter().filter(move |field| local(&field.name) == name && !foreign(field))
}

fn first<'a>(record: &'a Record, names: &[&'a str]) -> Option<&'a Field> {
    names.iter().find_map(|name| fields(record, name).find(|field| !field.text.trim().is_empty()))
}

/// Relation and address of each link.
fn links(record: &Record) -> impl Iterator<Item = (&str, &str)> {
    fields(record, "link").map(|field| {
        let href = field.attribute("href").unwrap_or(field.text.trim());
        (field.attribute("rel").unwrap_or("alternate"), href)
    })
}

fn words(field: &Field) -> String {
    html::text_of(field.text.trim()).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn entry(record: &Record, base: &Url) -> Entry {
    let id = first(record, &["guid", "id"]).map(|field| field.text.trim().to_owned()).unwrap_or_default();
    let permalink = fields(record, "guid").find(|guid| guid.attribute("isPermaLink") != Some("false"));
    let link = links(record).find(|(rel, href)| *rel == "alternate" && !href.is_empty()).map(|(_, href)| href);
    let link = link.or(permalink.map(|guid| guid.text.trim())).or(Some(id.as_str()));
    let written = ["pubdate", "published", "date", "issued", "created", "updated", "modified", "lastbuilddate"];
    let author = first(record, &["creator", "author"]).map(|author| {
        let name = author.inner.iter().find(|(name, _)| local(name) == "name").map(|(_, name)| name.trim());
        name.map_or_else(|| words(author), str::to_owned)
    });
    let tag = |tag: &Field| tag.attribute("term").map_or_else(|| words(tag), str::to_owned);
    let hints = Hints {
        title: first(record, &["title"]).map(words).filter(|title| !title.is_empty()),
        date: written.iter().filter_map(|name| first(record, &[name])).find_map(|field| date::parse(&field.text)),
        tags: fields(record, "category").chain(fields(record, "subject")).map(tag).take(32).collect(),
        byline: author.filter(|author| !author.is_empty()),
        feed_content: full_text(record),
        ..Hints::default()
    };
    as_entry(link, &id, base, hints)
}

fn full_text(record: &Record) -> Option<String> {
    let content = first(record, &["encoded", "content", "body", "xhtml", "fullitem"]).map(body);
    let summary = first(record, &["description", "summary"]).map(body);
    let summary = summary.filter(|text| text.split_whitespace().count() >= LEAST_WORDS_OF_A_POST);
    content.or(summary)
}

/// Escaped HTML is text; XHTML is elements.
fn body(field: &Field) -> String {
    if field.inner.is_empty() { field.text.clone() } else { field.markup.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(feed: &str, titles: &[&str]) {
        let found = read(feed, &Url::parse("https://a.org/feed").unwrap());
        let found: Vec<String> = found
            .map(|feed| feed.entries)
            .unwrap_or_default()
            .into_iter()
            .map(|entry| entry.page.hints.title.unwrap_or_default())
            .collect();
        assert_eq!(found, titles, "{feed}");
    }

    #[test]
    fn what_is_not_well_formed_is_read() {
        check("<rss><channel><item><title>A & B &nbsp; &eacute;</title></item><item><title>C", &["A & B é"]);
        check(
            "<?xml version='1.0'?><!DOCTYPE rss [<!ENTITY x 'y'>]><rss><item><title>A</b></title></item></rss>",
            &["A"],
        );
        check("<rdf:RDF><channel><title>t</title></channel><item><title>A</title></item></rdf:RDF>", &["A"]);
        check(
            "<atom:feed><atom:entry><atom:title type='html'>&lt;b>A&lt;/b></atom:title></atom:entry></atom:feed>",
            &["A"],
        );
        check("<RSS><ITEM><TITLE>A</TITLE><media:title>no</media:title></ITEM></RSS>", &["A"]);
        check("<html><item><title>A</title></item></html>", &[]);
    }

    #[test]
    fn elements_of_a_post_are_kept() {
        let feed = "<feed><entry><id>1</id><content type='xhtml'><div><p>It &amp; <b>that</b></p></div></content></entry></feed>";
        let found = read(feed, &Url::parse("https://a.org/feed").unwrap()).unwrap();
        let content = found.entries[0].page.hints.feed_content.as_deref();
        assert_eq!(content, Some("<div><p>It &amp; <b>that</b></p></div>"));
    }
}
