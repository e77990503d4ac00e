//! Front matter: what static site generators let an author state above a post. YAML between `---` lines (Jekyll, Hugo,
//! Astro and most others), TOML between `+++` lines (Hugo, Zola).

use jiff::civil::Date;
use serde_json::{Map, Value};

use crate::date;

/// Longer front matter is taken for text that happens to stand between two rules.
const MAX_BYTES: usize = 64 * 1024;
const MAX_TAGS: usize = 32;

/// What a post states about itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FrontMatter {
    pub(crate) title: Option<String>,
    pub(crate) date: Option<Date>,
    pub(crate) tags: Vec<String>,
    /// `canonical_url`, `canonical`, `url`, `permalink`, `path` or `slug`, in this order: an absolute URL or a path.
    pub(crate) url: Option<String>,
    pub(crate) draft: bool,
    pub(crate) byline: Option<String>,
    pub(crate) language: Option<String>,
}

impl FrontMatter {
    /// What is stated here, or else in `other`.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            title: self.title.or(other.title),
            date: self.date.or(other.date),
            tags: if self.tags.is_empty() { other.tags } else { self.tags },
            url: self.url.or(other.url),
            draft: self.draft || other.draft,
            byline: self.byline.or(other.byline),
            language: self.language.or(other.language),
        }
    }
}

/// Takes the front matter off a post. A post without any is all body.
pub(crate) fn split(text: &str) -> (FrontMatter, &str) {
    for (fence, ends, read) in
        [("---", ["---", "..."], yaml as fn(&str) -> Map<String, Value>), ("+++", ["+++", "+++"], toml_table)]
    {
        if let Some((header, body)) = between(text, fence, ends) {
            return (interpret(&read(header)), body);
        }
    }
    (FrontMatter::default(), text)
}

fn between<'a>(text: &'a str, fence: &str, ends: [&str; 2]) -> Option<(&'a str, &'a str)> {
    let mut lines = text.split_inclusive('\n');
    let first = lines.next()?;
    if first.trim_end() != fence {
        return None;
    }
    let mut at = first.len();
    for line in lines {
        if ends.contains(&line.trim_end()) {
            return Some((&text[first.len()..at], &text[at + line.len()..]));
        }
        at += line.len();
        if at > MAX_BYTES {
            return None;
        }
    }
    None
}

/// Front matter that is no YAML, such as `title: Rust: a tour`, is read line by line: a slip there must not cost the post.
fn yaml(header: &str) -> Map<String, Value> {
    match serde_saphyr::from_str::<Value>(header) {
        Ok(Value::Object(map)) => map,
        _ => by_line(header, ':'),
    }
}

fn toml_table(header: &str) -> Map<String, Value> {
    match toml::from_str::<toml::Table>(header) {
        Ok(table) => table.into_iter().map(|(key, value)| (key, json(value))).collect(),
        Err(_) => by_line(header, '='),
    }
}

fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Boolean(flag) => Value::Bool(flag),
        toml::Value::Array(values) => Value::Array(values.into_iter().map(json).collect()),
        toml::Value::Table(table) => Value::Object(table.into_iter().map(|(key, value)| (key, json(value))).collect()),
        // Datetimes are the reason for not going through serde: there they become a table of one private key.
        other => Value::String(other.to_string()),
    }
}

fn by_line(header: &str, separator: char) -> Map<String, Value> {
    let pairs = header.lines().filter(|line| !line.starts_with([' ', '\t', '#'])).filter_map(|line| {
        let (key, value) = line.split_once(separator)?;
        let value = value.trim().trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| (key.trim().to_owned(), Value::String(value.to_owned())))
    });
    pairs.collect()
}

/// What the fields of a header mean.
pub(crate) fn interpret(map: &Map<String, Value>) -> FrontMatter {
    let map: Map<String, Value> = map.iter().map(|(key, value)| (key.to_lowercase(), value.clone())).collect();
    let first = |keys: &[&str]| keys.iter().find_map(|key| map.get(*key).and_then(text));
    let dates = ["date", "pubdate", "publishdate", "published", "publish_date", "created", "date_published"];
    let is = |key: &str, wanted: bool| match map.get(key) {
        Some(Value::Bool(flag)) => *flag == wanted,
        Some(Value::String(text)) => text.eq_ignore_ascii_case(if wanted { "true" } else { "false" }),
        _ => false,
    };
    FrontMatter {
        title: first(&["title"]),
        date: dates.iter().find_map(|key| map.get(*key).and_then(text).and_then(|text| date::parse(&text))),
        tags: tags(&map),
        url: first(&["canonical_url", "canonical", "canonicalurl", "url", "permalink", "path", "slug"]),
        draft: is("draft", true)
            || is("published", false)
            || map.get("status").and_then(Value::as_str) == Some("draft"),
        byline: first(&["author", "authors", "by"]),
        language: first(&["lang", "language", "locale"]),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(values) => {
            let names: Vec<String> = values.iter().filter_map(text).collect();
            (!names.is_empty()).then(|| names.join(", "))
        }
        Value::Object(map) => map.get("name").and_then(text),
        _ => None,
    }
}

fn tags(map: &Map<String, Value>) -> Vec<String> {
    let taxonomies = map.get("taxonomies").and_then(Value::as_object);
    let mut tags: Vec<String> = Vec::new();
    for key in ["tags", "tag", "categories", "category", "keywords"] {
        for value in [map.get(key), taxonomies.and_then(|inner| inner.get(key))].into_iter().flatten() {
            let found = match value {
                Value::Array(values) => values.iter().filter_map(text).collect(),
                value => text(value)
                    .map(|text| text.split(',').map(|tag| tag.trim().to_owned()).collect())
                    .unwrap_or_default(),
            };
            let found: Vec<String> = found;
            tags.extend(found.into_iter().filter(|tag| !tag.is_empty()));
        }
    }
    let mut seen = std::collections::HashSet::new();
    tags.retain(|tag| seen.insert(tag.to_lowercase()));
    tags.truncate(MAX_TAGS);
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_is_read() {
        let post = "---\ntitle: \"A: post\"\npubDate: 2022-09-07\ntags: [Rust, web]\ncategories: Rust, Tools\ncanonical_url: https://a.org/p\ndraft: false\nauthor: Ann\n---\n\nBody.\n";
        let (front, body) = split(post);
        assert_eq!(body, "\nBody.\n");
        assert_eq!(front.title.as_deref(), Some("A: post"));
        assert_eq!(front.date, Some(Date::new(2022, 9, 7).unwrap()));
        assert_eq!(front.tags, ["Rust", "web", "Tools"]);
        assert_eq!(front.url.as_deref(), Some("https://a.org/p"));
        assert_eq!(front.byline.as_deref(), Some("Ann"));
        assert!(!front.draft);
    }

    #[test]
    fn toml_is_read_with_its_own_dates() {
        let post = "+++\ndate = 2022-09-07T14:00:00-04:00\ntitle = \"T\"\npath = \"2014/12/12/x\"\nauthors = [\"Ann\", \"Bob\"]\n[taxonomies]\ntags = [\"a\"]\n+++\nBody";
        let (front, body) = split(post);
        assert_eq!(body, "Body");
        assert_eq!(front.date, Some(Date::new(2022, 9, 7).unwrap()));
        assert_eq!((front.byline.as_deref(), front.tags.as_slice()), (Some("Ann, Bob"), ["a".to_owned()].as_slice()));
    }

    #[test]
    fn front_matter_with_a_slip_does_not_cost_the_post() {
        let (front, body) = split("---\ntitle: Rust: a tour\ndate: 2020-01-02\n\tx: [\n---\nBody");
        assert_eq!((front.title.as_deref(), body), (Some("Rust: a tour"), "Body"));
        assert_eq!(front.date, Some(Date::new(2020, 1, 2).unwrap()));
    }

    #[test]
    fn drafts_are_recognised() {
        assert!(split("---\ndraft: true\n---\n").0.draft);
        assert!(split("---\npublished: false\n---\n").0.draft);
        assert!(!split("---\npublished: 2020-01-01\n---\n").0.draft);
    }

    #[test]
    fn a_rule_at_the_start_is_no_front_matter() {
        let text = "---\nA post that starts with a rule.\n";
        assert_eq!(split(text), (FrontMatter::default(), text));
        assert_eq!(split("").1, "");
    }
}
