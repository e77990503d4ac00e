//! What a page says about itself: title, day, tags and author, from JSON-LD, Open Graph and other meta elements, microdata
//! and what stands where readers look for it. What machines are told comes first, as it is the most exact.

use std::collections::HashMap;

use jiff::civil::Date;
use scraper::{ElementRef, Html};
use serde_json::Value;

use super::one_line_of;
use crate::date;
use crate::page::Hints;

/// Kinds of things (schema.org) that are a page's own text.
const TEXTS: [&str; 12] = [
    "Article",
    "NewsArticle",
    "BlogPosting",
    "TechArticle",
    "ScholarlyArticle",
    "ReportageNewsArticle",
    "OpinionNewsArticle",
    "AnalysisNewsArticle",
    "ReviewNewsArticle",
    "SocialMediaPosting",
    "Report",
    "Review",
];
/// The names under which meta elements have each, best first.
const TITLES: [&str; 5] = ["og:title", "twitter:title", "dc.title", "dcterms.title", "headline"];
const DAYS: [&str; 16] = [
    "article:published_time",
    "datepublished",
    "og:article:published_time",
    "og:published_time",
    "publishdate",
    "publish-date",
    "publish_date",
    "publication_date",
    "pubdate",
    "parsely-pub-date",
    "sailthru.date",
    "dc.date.issued",
    "dc.date",
    "dcterms.created",
    "date",
    "article.published",
];
const AUTHORS: [&str; 8] = [
    "author",
    "article:author",
    "parsely-author",
    "sailthru.author",
    "dc.creator",
    "dcterms.creator",
    "byl",
    "twitter:creator",
];
const TAGS: [&str; 4] = ["article:tag", "parsely-tags", "keywords", "news_keywords"];
/// More are not about the text.
const MAX_TAGS: usize = 30;
/// A longer one is a sentence, not a name.
const MAX_NAME_CHARACTERS: usize = 80;

/// Reads what a page says.
pub(super) fn read(page: &Html) -> Hints {
    let said = Said::collect(page);
    Hints { title: said.title(), date: said.date(), tags: said.tags(), byline: said.byline(), ..Hints::default() }
}

/// What was found, in the order of the page.
#[derive(Default)]
struct Said {
    /// Of meta elements, by name in lower case.
    metas: HashMap<String, Vec<String>>,
    /// Of JSON-LD: the things that are texts.
    texts: Vec<Value>,
    title: Option<String>,
    headings: Vec<String>,
    /// Of microdata and of elements that are classed as the day of publication, or are a time.
    days: Vec<Date>,
    /// Of links and elements that are marked as the author.
    names: Vec<String>,
    tags: Vec<String>,
}

impl Said {
    fn collect(page: &Html) -> Self {
        let mut said = Self::default();
        let mut times = Vec::new();
        for element in page.tree.nodes().filter_map(ElementRef::wrap) {
            match element.value().name() {
                "meta" => said.meta(&element),
                "script" if element.attr("type") == Some("application/ld+json") => said.json_ld(&element),
                "title" if said.title.is_none() => said.title = some(one_line_of(&element)),
                "h1" => said.headings.extend(some(one_line_of(&element))),
                "time" => times.extend(element.attr("datetime").and_then(date::parse)),
                _ => {}
            }
            said.marked(&element);
        }
        said.days.extend(times);
        said
    }

    fn meta(&mut self, meta: &ElementRef<'_>) {
        let name = ["property", "name", "itemprop"].into_iter().find_map(|name| meta.attr(name));
        if let (Some(name), Some(content)) = (name, meta.attr("content").and_then(|content| some(one_line(content)))) {
            self.metas.entry(name.trim().to_ascii_lowercase()).or_default().push(content);
        }
    }

    fn json_ld(&mut self, script: &ElementRef<'_>) {
        let text: String = script.text().collect();
        let Ok(said) = serde_json::from_str::<Value>(text.trim()) else { return };
        let mut open = vec![said];
        while let Some(thing) = open.pop() {
            match thing {
                Value::Array(things) => open.extend(things.into_iter().rev()),
                Value::Object(mut thing) => {
                    open.extend(["@graph", "mainEntity"].into_iter().filter_map(|key| thing.remove(key)));
                    let thing = Value::Object(thing);
                    if strings(&thing["@type"]).iter().any(|kind| TEXTS.contains(&kind.as_str())) {
                        self.texts.push(thing);
                    }
                }
                _ => {}
            }
        }
    }

    /// Elements that are marked as the day, the author or a tag.
    fn marked(&mut self, element: &ElementRef<'_>) {
        let (mut property, mut rel, mut classes) = ("", "", "");
        for (name, value) in element.value().attrs() {
            match name {
                "itemprop" => property = value,
                "rel" => rel = value,
                "class" => classes = value,
                _ => {}
            }
        }
        if property.is_empty() && rel.is_empty() && classes.is_empty() {
            return;
        }
        let has = |list: &str, word: &str| list.split_ascii_whitespace().any(|part| part == word);
        if has(property, "datePublished") || has(classes, "dt-published") {
            let stated = element.attr("datetime").or(element.attr("content")).map(str::to_owned);
            self.days.extend(date::parse(&stated.unwrap_or_else(|| one_line_of(element))));
        }
        if has(rel, "author") || has(property, "author") || has(classes, "p-author") || has(classes, "byline") {
            self.names.extend(name(&one_line_of(element)));
        }
        if has(rel, "tag") || has(rel, "category") || has(classes, "p-category") {
            self.tags.extend(some(one_line_of(element)));
        }
    }

    /// The first of several names that a meta element has.
    fn first(&self, names: &[&str]) -> Option<&String> {
        names.iter().find_map(|name| self.metas.get(*name)?.first())
    }

    fn title(&self) -> Option<String> {
        let stated = self.texts.iter().find_map(|text| some(one_line(text["headline"].as_str()?)));
        let stated = stated.or_else(|| self.first(&TITLES).cloned());
        // One heading of the first rank is the title; several are sections.
        let heading = (self.headings.len() == 1).then(|| self.headings[0].clone());
        stated.or(heading).or_else(|| self.title.clone())
    }

    fn date(&self) -> Option<Date> {
        let day = |key: &'static str| self.texts.iter().find_map(move |text| date::parse(text[key].as_str()?));
        let meta = || DAYS.iter().filter_map(|name| self.metas.get(*name)).flatten().find_map(|text| date::parse(text));
        day("datePublished").or_else(meta).or_else(|| self.days.first().copied()).or_else(|| day("dateCreated"))
    }

    fn byline(&self) -> Option<String> {
        let mut names: Vec<String> = Vec::new();
        let stated = self.texts.iter().map(|text| authors(&text["author"])).find(|names| !names.is_empty());
        names.extend(stated.unwrap_or_default());
        if names.is_empty() {
            names.extend(AUTHORS.iter().filter_map(|key| self.metas.get(*key)).flatten().find_map(|text| name(text)));
        }
        if names.is_empty() {
            names.extend(self.names.first().cloned());
        }
        (!names.is_empty()).then(|| names.join("; "))
    }

    fn tags(&self) -> Vec<String> {
        let stated = self.texts.iter().flat_map(|text| strings(&text["keywords"]));
        let metas = TAGS.iter().filter_map(|name| self.metas.get(*name)).flatten().cloned();
        let mut tags: Vec<String> = Vec::new();
        for list in stated.chain(metas).chain(self.tags.iter().cloned()) {
            for tag in list.split(',').map(one_line).filter(|tag| !tag.is_empty()) {
                if tags.len() < MAX_TAGS && !tags.iter().any(|known| known.eq_ignore_ascii_case(&tag)) {
                    tags.push(tag);
                }
            }
        }
        tags
    }
}

/// The names of one author or several, as JSON-LD writes them.
fn authors(said: &Value) -> Vec<String> {
    match said {
        Value::Array(several) => several.iter().flat_map(authors).collect(),
        Value::Object(one) => one.get("name").map(authors).unwrap_or_default(),
        Value::String(text) => name(text).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// A text or a list of texts.
fn strings(said: &Value) -> Vec<String> {
    match said {
        Value::Array(several) => several.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::String(text) => vec![text.clone()],
        _ => Vec::new(),
    }
}

/// A text as somebody's name: not an address, not a sentence, without the word before it.
fn name(text: &str) -> Option<String> {
    let text = one_line(text);
    let bare = ["by ", "von ", "par ", "por ", "written by ", "posted by "]
        .iter()
        .find(|word| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)))
        .map_or(text.as_str(), |word| text[word.len()..].trim_start());
    let is_name = !bare.is_empty()
        && bare.chars().count() <= MAX_NAME_CHARACTERS
        && !bare.starts_with('@')
        && !bare.contains("://");
    is_name.then(|| bare.to_owned())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clean::html::parse;

    fn check(html: &str) -> (Option<String>, Option<String>, Option<String>, Vec<String>) {
        let hints = read(&parse(html).unwrap());
        (hints.title, hints.date.map(|date| date.to_string()), hints.byline, hints.tags)
    }

    fn said(
        title: &str,
        date: &str,
        byline: &str,
        tags: &[&str],
    ) -> (Option<String>, Option<String>, Option<String>, Vec<String>) {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        (some(title.to_owned()), some(date.to_owned()), some(byline.to_owned()), tags)
    }

    #[test]
    fn what_machines_are_told_comes_first() {
        let html = r#"<title>T — Site</title><meta property="og:title" content="OG"><meta name=date content="2020-01-01">
            <script type="application/ld+json">{"@graph":[{"@type":"WebSite","headline":"no"},{"@type":["BlogPosting"],
            "headline":" The  title","datePublished":"2021-02-03T10:00:00+01:00","author":[{"name":"Ada"},{"name":"By Bob"}],
            "keywords":"one, two"}]}</script><meta property="article:tag" content="Two"><meta property="article:tag" content="three">"#;
        assert_eq!(check(html), said("The title", "2021-02-03", "Ada; Bob", &["one", "two", "three"]));
    }

    #[test]
    fn then_what_stands_on_the_page() {
        let html = "<title>T — Site</title><h1>The <b>title</b></h1><p>By <a rel=author href=/ada>Ada</a>\
            <time datetime=2021-02-03>yesterday</time><a rel=tag>one</a>";
        assert_eq!(check(html), said("The title", "2021-02-03", "Ada", &["one"]));
        assert_eq!(check("<title>T</title><h1>a</h1><h1>b</h1>"), said("T", "", "", &[]));
    }

    #[test]
    fn what_is_no_name_is_no_author() {
        assert_eq!(check("<meta property='article:author' content='https://a.example/ada'>").2, None);
        assert_eq!(check("<meta name=twitter:creator content='@ada'>").2, None);
        assert_eq!(check("<script type='application/ld+json'>{broken</script>"), (None, None, None, Vec::new()));
    }
}
