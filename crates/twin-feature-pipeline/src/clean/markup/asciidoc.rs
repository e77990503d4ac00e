//! AsciiDoc (docs.asciidoctor.org/asciidoc/latest), line by line: headings, lists, quotations, code and links become
//! Markdown; attributes, anchors, pictures and includes go.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::{Map, Value};

use super::{Converted, outside_code};
use crate::clean::front_matter;
use crate::clean::privacy::pattern;

/// A longer value is not put in place of its name, so that a text cannot blow up.
const MAX_VALUE: usize = 64;

pub(super) fn convert(text: &str) -> Converted {
    let (header, body) = header(text);
    let mut reader = Reader { attributes: header.clone(), ..Reader::default() };
    let mut lines = body.lines();
    while let Some(line) = lines.next() {
        reader.line(line.trim_end(), &mut lines);
    }
    for (number, note) in reader.footnotes.iter().enumerate() {
        reader.out.push_str(&format!("\n[^{}]: {note}\n", number + 1));
    }
    Converted { stated: front_matter::interpret(&meaning(header)), markdown: reader.out }
}

/// The title, the author and revision lines and the attributes above the text.
fn header(text: &str) -> (Map<String, Value>, &str) {
    let mut found = Map::new();
    let (mut at, mut seen_title) = (0, false);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let trimmed = line.trim_end();
        if let Some((name, value)) = attribute(trimmed) {
            found.insert(name.to_lowercase(), Value::String(value.to_owned()));
        } else if let Some(title) = trimmed.strip_prefix("= ").filter(|_| !seen_title) {
            seen_title = true;
            found.insert("title".to_owned(), Value::String(title.trim().to_owned()));
        } else if seen_title && number < 8 && !trimmed.is_empty() && AUTHOR.is_match(trimmed) {
            let name = trimmed.split('<').next().unwrap_or_default().trim();
            found.entry("author").or_insert_with(|| Value::String(name.to_owned()));
        } else if seen_title && number < 8 && REVISION.is_match(trimmed) {
            let date = trimmed.rsplit(',').next().unwrap_or_default();
            found.entry("revdate").or_insert_with(|| Value::String(date.trim().to_owned()));
        } else if !((trimmed.starts_with("//") && !trimmed.starts_with("////"))
            || (trimmed.is_empty() && found.is_empty()))
        {
            break;
        }
        at += line.len();
    }
    (found, &text[at..])
}

static AUTHOR: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\p{Lu}[\w.'-]*(?: [\w.'-]+){1,3}(?: <[^<>\s]+>)?$"));
static REVISION: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(?:v[\d.]+, *)?\d{4}-\d{2}-\d{2}$"));

/// `:name: value`
fn attribute(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix(':')?.split_once(':')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "-_!".contains(c));
    (is_name && (value.is_empty() || value.starts_with(' '))).then(|| (name, value.trim()))
}

/// The names that site generators (JBake, Hugo, Jekyll, Antora) give to the usual fields.
fn meaning(attributes: Map<String, Value>) -> Map<String, Value> {
    const NAMES: [(&str, &str); 12] = [
        ("revdate", "date"),
        ("docdate", "date"),
        ("jbake-date", "date"),
        ("page-date", "date"),
        ("published_at", "date"),
        ("jbake-tags", "tags"),
        ("page-tags", "tags"),
        ("hp-tags", "tags"),
        ("keywords", "tags"),
        ("jbake-status", "status"),
        ("page-author", "author"),
        ("page-permalink", "permalink"),
    ];
    let mut named = attributes;
    for (from, to) in NAMES {
        if let Some(value) = named.get(from).cloned() {
            named.entry(to).or_insert(value);
        }
    }
    named
}

#[derive(Default)]
struct Reader {
    attributes: Map<String, Value>,
    out: String,
    footnotes: Vec<String>,
    /// The language of the code block that an attribute line announces; empty for one without a language.
    source: Option<String>,
    /// Whether an attribute line says that the next paragraph is quoted.
    quoted: bool,
}

impl Reader {
    fn line<'a>(&mut self, line: &str, lines: &mut impl Iterator<Item = &'a str>) {
        if let Some(fence) = delimiter(line) {
            return self.block(fence, line, lines);
        }
        if let Some(inside) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return self.announce(inside);
        }
        if is_directive(line) {
            return;
        }
        if let Some((name, value)) = attribute(line) {
            self.attributes.insert(name.to_lowercase(), Value::String(value.to_owned()));
            return;
        }
        let depth = line.bytes().take_while(|byte| *byte == b'=').count();
        let text = if (1..=6).contains(&depth) && line[depth..].starts_with(' ') {
            format!("{} {}", "#".repeat(depth), self.inline(line[depth..].trim()))
        } else if line == "'''" {
            "---".to_owned()
        } else if line == "+" || line == "<<<" {
            String::new()
        } else if let Some((indent, marker, text)) = item(line) {
            format!("{}{marker} {}", " ".repeat(indent), self.inline(text))
        } else if let Some((term, text)) = line.split_once("::").filter(|(term, text)| is_term(term, text)) {
            format!("{}: {}", self.inline(term.trim()), self.inline(text.trim()))
        } else {
            // A block's title is a dot and its words.
            let title = line.strip_prefix('.').filter(|rest| rest.starts_with(|c: char| c.is_alphanumeric()));
            self.inline(title.unwrap_or(line))
        };
        self.quoted &= !line.is_empty();
        self.out.push_str(if self.quoted { "> " } else { "" });
        match text.strip_suffix(" +") {
            Some(broken) => self.out.push_str(&format!("{broken}  ")),
            None => self.out.push_str(&text),
        }
        self.out.push('\n');
    }

    /// A line of attributes over a block: `[source,rust]`, `[quote, Ada]`, `[[anchor]]`.
    fn announce(&mut self, inside: &str) {
        let mut parts = inside.split(',').map(str::trim);
        let kind = parts.next().unwrap_or_default().split(['%', '#', '.']).next().unwrap_or_default();
        match kind {
            "source" | "listing" | "literal" => self.source = Some(parts.next().unwrap_or_default().to_owned()),
            "quote" | "verse" => self.quoted = true,
            _ => {}
        }
    }

    /// A block between two lines of the same signs.
    fn block<'a>(&mut self, fence: Fence, line: &str, lines: &mut impl Iterator<Item = &'a str>) {
        let source = self.source.take();
        let inside: Vec<&str> = match fence {
            // What is in it is read like the rest; its lines are only frames.
            Fence::Open => return,
            _ => lines.take_while(|next| next.trim_end() != closing(line)).collect(),
        };
        match fence {
            Fence::Code => {
                let language = source.unwrap_or_else(|| line.trim_start_matches(['`', '-', '.']).trim().to_owned());
                let longest = inside.iter().filter(|line| line.starts_with("```")).map(|line| line.len()).max();
                let ticks = "`".repeat(longest.unwrap_or(2).min(64) + 1);
                self.out.push_str(&format!("\n{ticks}{language}\n{}\n{ticks}\n", inside.join("\n")));
            }
            Fence::Quote => {
                let mut quotation = Self { attributes: std::mem::take(&mut self.attributes), ..Self::default() };
                let mut lines = inside.into_iter();
                while let Some(line) = lines.next() {
                    quotation.line(line.trim_end(), &mut lines);
                }
                self.attributes = quotation.attributes;
                self.out.push('\n');
                quotation.out.lines().for_each(|line| self.out.push_str(&format!("> {line}\n")));
                self.out.push('\n');
            }
            Fence::Table => {
                for cells in inside.iter().filter(|line| line.contains('|')) {
                    let cells = cells.split('|').skip(1).map(|cell| self.inline(cell.trim()));
                    let row = cells.filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join(", ");
                    self.out.push_str(&format!("- {row}\n"));
                }
            }
            Fence::Left | Fence::Open => {}
        }
        self.quoted = false;
    }

    /// What stands within a line.
    fn inline(&mut self, text: &str) -> String {
        let text = FOOTNOTE.replace_all(text, |found: &Captures<'_>| {
            self.footnotes.push(found[1].trim().to_owned());
            format!("[^{}]", self.footnotes.len())
        });
        let attributes = &self.attributes;
        outside_code(&text, |text| {
            let text = REFERENCE.replace_all(text, |found: &Captures<'_>| {
                let value = attributes.get(&found[1].to_lowercase()).and_then(Value::as_str);
                value.filter(|value| value.len() <= MAX_VALUE).unwrap_or(&found[0]).to_owned()
            });
            let text = LINK.replace_all(&text, |found: &Captures<'_>| {
                let label = found[2].split(',').next().unwrap_or_default().trim_end_matches('^').trim();
                if label.is_empty() { found[1].to_owned() } else { format!("[{label}]({})", &found[1]) }
            });
            // What leads to a place in the author's own work is its words.
            let text = INNER_LINK.replace_all(&text, |found: &Captures<'_>| {
                found[1].split(',').next().unwrap_or_default().trim_end_matches('^').trim().to_owned()
            });
            let text = UNSEEN.replace_all(&text, "");
            let text = WORDS.replace_all(&text, |found: &Captures<'_>| {
                let words = found.iter().skip(1).flatten().last().map(|words| words.as_str()).unwrap_or_default();
                words.rsplit_once(',').map_or(words, |(_, label)| label).trim().to_owned()
            });
            let text = MARKED.replace_all(&text, "$1$2");
            STRONG.replace_all(&text, "$1**$2**").into_owned()
        })
    }
}

static FOOTNOTE: LazyLock<Regex> = LazyLock::new(|| pattern(r"footnote:[\w-]*\[([^\[\]]*)\]"));
static REFERENCE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\{([A-Za-z0-9_-]{1,64})\}"));
static LINK: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?:link:)?((?:https?://|mailto:)[^\s\[\]<>]+)\[([^\[\]]*)\]"));
static INNER_LINK: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?:link|xref):[^\s\[\]<>]+\[([^\[\]]*)\]"));
static UNSEEN: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?:image|icon|indexterm2?|anchor):[^\s\[\]]*\[[^\[\]]*\]|\[\[[^\[\]]*\]\]|\(\(\([^()]*\)\)\)")
});
/// `<<id,words>>`, `kbd:[words]`, `pass:[words]`.
static WORDS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"<<([^<>]*)>>|(?:kbd|btn|menu|pass|stem|latexmath):\w*\[([^\[\]]*)\]"));
/// `[.role]#words#`
static MARKED: LazyLock<Regex> = LazyLock::new(|| pattern(r"\[\.[\w.-]+\]#([^#]+)#|##([^#]+)##"));
static STRONG: LazyLock<Regex> = LazyLock::new(|| pattern(r"(^|[\s(\x22'_])\*([^\s*](?:[^*]*[^\s*])?)\*"));

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fence {
    Code,
    Quote,
    Table,
    /// Comments and raw passages: left out.
    Left,
    /// Examples, side notes and groups.
    Open,
}

fn delimiter(line: &str) -> Option<Fence> {
    let only = |sign: char, least: usize| line.len() >= least && line.chars().all(|c| c == sign);
    match line {
        _ if only('-', 4) || only('.', 4) || line.starts_with("```") => Some(Fence::Code),
        _ if only('_', 4) => Some(Fence::Quote),
        _ if only('/', 4) || only('+', 4) => Some(Fence::Left),
        _ if only('=', 4) || only('*', 4) || line == "--" => Some(Fence::Open),
        "|===" | ",===" | ":===" => Some(Fence::Table),
        _ => None,
    }
}

/// The line that ends a block.
fn closing(line: &str) -> &str {
    if line.starts_with("```") { "```" } else { line }
}

fn is_directive(line: &str) -> bool {
    const DIRECTIVES: [&str; 9] =
        ["include::", "image::", "video::", "audio::", "toc::", "ifdef::", "ifndef::", "endif::", "ifeval::"];
    line.starts_with("//") || DIRECTIVES.iter().any(|directive| line.starts_with(directive))
}

/// An item of a list: its indent in Markdown, its marker, its text.
fn item(line: &str) -> Option<(usize, &'static str, &str)> {
    let trimmed = line.trim_start();
    let sign = trimmed.chars().next().filter(|sign| "*.-".contains(*sign))?;
    let depth = trimmed.chars().take_while(|c| *c == sign).count();
    let text = trimmed[depth..].strip_prefix(' ')?;
    let fits = depth <= if sign == '-' { 1 } else { 6 };
    let marker = if sign == '.' { "1." } else { "-" };
    fits.then(|| ((depth - 1) * (marker.len() + 1), marker, text.trim_start()))
}

/// `term:: text`, but not a name in code such as `std::fmt`.
fn is_term(term: &str, text: &str) -> bool {
    !term.is_empty() && !term.contains('`') && (text.is_empty() || text.starts_with(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(convert(text).markdown.trim(), expected.trim());
    }

    #[test]
    fn the_header_says_what_it_is() {
        let text = "= A *title*\nAda Lovelace <ada@a.org>\nv1.0, 2020-01-02\n:keywords: x, y\n:lang: en\n\nText.\n";
        let converted = convert(text);
        assert_eq!(converted.markdown.trim(), "Text.");
        let stated = converted.stated;
        assert_eq!((stated.title.as_deref(), stated.byline.as_deref()), (Some("A *title*"), Some("Ada Lovelace")));
        assert_eq!((stated.date.unwrap().to_string().as_str(), stated.tags.len()), ("2020-01-02", 2));
    }

    #[test]
    fn prose_keeps_its_words() {
        check(
            "== Head\n\nIt's *so* -- _really_ `a*b*c` +\nnext; 2 * 3 * 4.",
            "## Head\n\nIt's **so** -- _really_ `a*b*c`  \nnext; 2 * 3 * 4.",
        );
        check(
            "See https://a.org/x[the page^], link:b.html[that], <<sec,here>>, a[0] and https://c.org.",
            "See [the page](https://a.org/x), that, here, a[0] and https://c.org.",
        );
        check(":v: 1.2\nVersion {v} of {none}.footnote:[Not final.]", "Version 1.2 of {none}.[^1]\n\n[^1]: Not final.");
        check("* one\n** two\n. first\n.. second\nterm:: text", "- one\n  - two\n1. first\n   1. second\nterm: text");
    }

    #[test]
    fn blocks_become_those_of_markdown() {
        check("[source,rust]\n----\nlet a = \"*b*\"; // <1>\n----\n", "```rust\nlet a = \"*b*\"; // <1>\n```");
        check("[quote, Ada]\n____\nTheir words.\n\nMore.\n____\nMine.", "> Their words.\n> \n> More.\n\nMine.");
        check("////\nhidden\n////\nimage::x.png[]\n// gone\nSeen.", "Seen.");
        check("|===\n|a |b\n|c |d\n|===", "- a, b\n- c, d");
    }
}
