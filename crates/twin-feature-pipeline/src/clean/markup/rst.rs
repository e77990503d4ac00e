//! reStructuredText (docutils.sourceforge.io/docs/ref/rst): titles, code, quotations and links become Markdown; directives
//! that steer a renderer, targets and comments go.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::{Map, Value};

use super::{Converted, outside_code};
use crate::clean::front_matter;
use crate::clean::privacy::pattern;

/// A longer text is not put in place of a name, so that a text cannot blow up.
const MAX_VALUE: usize = 64;

pub(super) fn convert(text: &str) -> Converted {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mut reader = Reader { names: names(&lines), ..Reader::default() };
    reader.blocks(&lines, 0);
    let mut stated = front_matter::interpret(&reader.fields);
    stated.draft |= reader.fields.get("status").and_then(Value::as_str) == Some("draft");
    Converted { stated, markdown: reader.out }
}

/// Where names point (`.. _name: address`) and what they stand for (`.. |name| replace:: text`).
fn names(lines: &[&str]) -> HashMap<String, String> {
    let of_line = |line: &&str| {
        let rest = line.strip_prefix(".. ")?;
        let (name, value) = match rest.strip_prefix('_') {
            Some(target) => target.split_once(": ")?,
            None => rest.strip_prefix('|')?.split_once("| replace:: ")?,
        };
        Some((name.trim_matches('`').to_lowercase(), value.trim().to_owned()))
    };
    lines.iter().filter_map(of_line).collect()
}

#[derive(Default)]
struct Reader {
    out: String,
    names: HashMap<String, String>,
    /// What the document says about itself: fields under its title, or Nikola's comments over it.
    fields: Map<String, Value>,
    /// The signs that titles are adorned with, by level; doubled where there is also a line above.
    levels: Vec<String>,
}

impl Reader {
    /// Reads the lines of one indentation, each line without it.
    fn blocks(&mut self, lines: &[&str], depth: usize) {
        /// Deeper nested texts are not read.
        const MAX_DEPTH: usize = 16;
        if depth > MAX_DEPTH {
            return;
        }
        let mut at = 0;
        while at < lines.len() {
            at += match lines[at] {
                _ if self.title(&lines[at..]) > 0 => self.title_length(&lines[at..]),
                line if line == ".." || line.starts_with(".. ") => self.explicit(&lines[at..], depth),
                line if line.starts_with(">>> ") => self.doctest(&lines[at..]),
                line if line.starts_with("| ") => self.line_block(&lines[at..]),
                line if line.starts_with(' ') => self.indented(&lines[at..], depth),
                line if is_border(line) => 1,
                line if self.field(line) => 1,
                _ => self.paragraph(&lines[at..]),
            };
        }
    }

    /// Writes a title, if one stands here. Says how many lines it has, or 0.
    fn title(&mut self, lines: &[&str]) -> usize {
        let length = self.title_length(lines);
        let (text, style) = match length {
            3 => (lines[1].trim(), format!("{0}{0}", &lines[0][..1])),
            2 => (lines[0], lines[1][..1].to_owned()),
            _ => return 0,
        };
        let level = self.levels.iter().position(|known| *known == style).unwrap_or_else(|| {
            self.levels.push(style);
            self.levels.len() - 1
        });
        let text = self.inline(text);
        self.out.push_str(&format!("\n{} {text}\n\n", "#".repeat((level + 1).min(6))));
        length
    }

    fn title_length(&self, lines: &[&str]) -> usize {
        let text = |at: usize| lines.get(at).filter(|line| !line.trim().is_empty() && !is_rule(line));
        let rule = |at: usize| lines.get(at).filter(|line| is_rule(line));
        let fits = |text: &str, rule: &str| rule.len() + 1 >= text.trim().chars().count();
        match (rule(0), text(0)) {
            (Some(above), _) => match (text(1), rule(2)) {
                (Some(title), Some(below)) if above == below && fits(title, below) => 3,
                _ => 0,
            },
            (None, Some(title)) if !title.starts_with(' ') => {
                usize::from(rule(1).is_some_and(|below| fits(title, below))) * 2
            }
            _ => 0,
        }
    }

    /// Directives, targets, footnotes and comments: all that begins with two dots. Says how many lines it has.
    fn explicit(&mut self, lines: &[&str], depth: usize) -> usize {
        let (inside, length) = body_under(lines);
        let rest = lines[0][2..].trim_start();
        if let Some((label, text)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let text = self.inline(&std::iter::once(text.trim()).chain(inside).collect::<Vec<_>>().join(" "));
            self.out.push_str(&format!("\n[^{}]: {}\n\n", label.trim_start_matches('#'), text.trim()));
        } else if let Some((name, argument)) = rest.split_once("::").filter(|(name, _)| is_name(name)) {
            self.directive(name, argument.trim(), &inside, depth);
        } else if let Some((name, value)) = rest.split_once(": ").filter(|(name, _)| is_name(name)) {
            // Nikola's header: comments of the form `.. title: A post`.
            let value = Value::String(value.trim().to_owned());
            self.fields.entry(name.to_lowercase()).or_insert(value);
        }
        length
    }

    fn directive(&mut self, name: &str, argument: &str, inside: &[&str], depth: usize) {
        let options = inside.iter().take_while(|line| line.starts_with(':')).count();
        let content = &inside[options..];
        match name {
            "code-block" | "code" | "sourcecode" | "highlight" | "parsed-literal" | "math" => {
                self.code(argument, content)
            }
            "epigraph" | "pull-quote" | "highlights" => self.quotation(content, depth),
            "note" | "warning" | "tip" | "important" | "caution" | "attention" | "hint" | "danger" | "error"
            | "seealso" | "admonition" | "topic" | "sidebar" | "container" | "compound" | "rubric" | "deprecated"
            | "versionadded" | "versionchanged" => {
                let first = self.inline(argument);
                self.out.push_str(&format!("\n{first}\n"));
                self.blocks(content, depth + 1);
            }
            _ => {}
        }
    }

    fn code(&mut self, language: &str, lines: &[&str]) {
        let start = lines.iter().take_while(|line| line.is_empty()).count();
        let code = lines[start..].join("\n");
        let longest = code.lines().filter(|line| line.starts_with("```")).map(str::len).max();
        let ticks = "`".repeat(longest.unwrap_or(2).min(64) + 1);
        self.out.push_str(&format!("\n{ticks}{language}\n{}\n{ticks}\n\n", code.trim_end()));
    }

    fn quotation(&mut self, lines: &[&str], depth: usize) {
        let before = std::mem::take(&mut self.out);
        self.blocks(lines, depth + 1);
        let quoted = std::mem::replace(&mut self.out, before);
        self.out.push('\n');
        quoted.trim().lines().for_each(|line| self.out.push_str(&format!("> {line}\n")));
        self.out.push('\n');
    }

    fn doctest(&mut self, lines: &[&str]) -> usize {
        let length = lines.iter().take_while(|line| !line.is_empty()).count();
        self.code("", &lines[..length]);
        length
    }

    /// Lines that keep their breaks.
    fn line_block(&mut self, lines: &[&str]) -> usize {
        let length = lines.iter().take_while(|line| line.starts_with('|')).count();
        for line in &lines[..length] {
            let line = self.inline(line[1..].trim());
            self.out.push_str(&format!("{line}  \n"));
        }
        length
    }

    /// An indented text is a quotation, unless it goes on with an item of a list.
    fn indented(&mut self, lines: &[&str], depth: usize) -> usize {
        let length = lines.iter().take_while(|line| line.is_empty() || line.starts_with(' ')).count();
        let inside = dedented(&lines[..length]);
        let after_item = self.out.trim_end().rsplit('\n').next().is_some_and(|line| ITEM.is_match(line));
        if after_item || inside.iter().any(|line| ITEM.is_match(line)) {
            for line in &lines[..length] {
                let indent = line.len() - line.trim_start().len();
                let text = self.inline(line.trim());
                self.out.push_str(&format!("{}{text}\n", " ".repeat(indent.min(12))));
            }
        } else {
            self.quotation(&inside, depth);
        }
        length
    }

    /// A field under the title; they are gone from the text.
    fn field(&mut self, line: &str) -> bool {
        let Some((name, value)) = line.strip_prefix(':').and_then(|rest| rest.split_once(": ")) else { return false };
        let is_header = self.out.lines().filter(|line| !line.trim().is_empty()).take(2).count() <= 1 && is_name(name);
        if is_header {
            self.fields.entry(name.to_lowercase()).or_insert_with(|| Value::String(value.trim().to_owned()));
        }
        is_header
    }

    fn paragraph(&mut self, lines: &[&str]) -> usize {
        if lines[0].is_empty() {
            self.out.push('\n');
            return 1;
        }
        let length = lines.iter().take_while(|line| !line.is_empty() && !line.starts_with(' ')).count();
        let text = lines[..length].join("\n");
        let (text, opens_code) = match text.strip_suffix("::") {
            Some("") => (String::new(), true),
            Some(before) if before.ends_with([' ', '\n']) => (before.trim_end().to_owned(), true),
            Some(before) => (format!("{before}:"), true),
            None => (text, false),
        };
        let text = self.inline(&AUTO_NUMBER.replace_all(&text, "1. "));
        self.out.push_str(&format!("{text}\n"));
        if !opens_code {
            return length;
        }
        let (inside, under) = body_under(&lines[length - 1..]);
        self.code("", &inside);
        length - 1 + under
    }

    fn inline(&self, text: &str) -> String {
        let text = LINK.replace_all(text, "[$1]($2)");
        let text = ROLE.replace_all(&text, |found: &Captures<'_>| {
            let words = found[2].split('<').next().unwrap_or_default().trim().trim_start_matches('~').to_owned();
            if matches!(&found[1], "code" | "literal" | "math") { format!("``{words}``") } else { words }
        });
        let text = NAMED.replace_all(&text, |found: &Captures<'_>| {
            let address = self.names.get(&found[1].to_lowercase());
            let address = address.filter(|address| address.contains("://") && address.len() <= 512);
            address.map_or_else(|| found[1].to_owned(), |address| format!("[{}]({address})", &found[1]))
        });
        let spans = SINGLE.replace_all(&text, "$1$2$3");
        let spans = outside_code(&spans, |text| {
            let text = FOOTNOTE.replace_all(text, "[^$1]");
            let text = SUBSTITUTION.replace_all(&text, |found: &Captures<'_>| {
                let value = self.names.get(&found[1].to_lowercase());
                value.filter(|value| value.len() <= MAX_VALUE).unwrap_or(&found[1].to_owned()).to_owned()
            });
            REFERENCE.replace_all(&text, "$1$2").into_owned()
        });
        spans.replace("``", "`")
    }
}

static ITEM: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\s*(?:[-*+]|\d{1,4}[.)]|#\.) "));
static AUTO_NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?m)^#\. "));
static LINK: LazyLock<Regex> = LazyLock::new(|| pattern(r"`([^`<>]{1,300}?)\s*<([^`<>\s]{1,500})>`__?"));
static ROLE: LazyLock<Regex> = LazyLock::new(|| pattern(r":([a-z][a-z:+.-]*):`([^`]+)`"));
static NAMED: LazyLock<Regex> = LazyLock::new(|| pattern(r"`([^`<>\n]{1,200})`__?"));
/// Interpreted text in single backticks is no code.
static SINGLE: LazyLock<Regex> = LazyLock::new(|| pattern(r"(^|[^`])`([^`\n]+)`([^`_]|$)"));
static FOOTNOTE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\[#?([\w-]{1,40})\]_"));
static SUBSTITUTION: LazyLock<Regex> = LazyLock::new(|| pattern(r"\|([^|\s][^|\n]{0,60})\|_?"));
static REFERENCE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b([A-Za-z0-9]+)__?([\s.,;:!?)]|$)"));

/// What is indented under a first line, without the indentation, and how many lines both have.
fn body_under<'a>(lines: &[&'a str]) -> (Vec<&'a str>, usize) {
    let under = lines[1..].iter().take_while(|line| line.is_empty() || line.starts_with([' ', '\t'])).count();
    let mut length = under + 1;
    while length > 1 && lines[length - 1].is_empty() {
        length -= 1;
    }
    (dedented(&lines[1..length]), length)
}

fn dedented<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let indent = |line: &&str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let least = lines.iter().filter(|line| !line.is_empty()).map(indent).min().unwrap_or(0);
    lines.iter().map(|line| line.get(least..).unwrap_or_default()).collect()
}

/// A line under or over a title, or between two parts.
fn is_rule(line: &str) -> bool {
    let first = line.chars().next();
    line.len() >= 3 && first.is_some_and(|sign| sign.is_ascii_punctuation() && line.chars().all(|c| c == sign))
}

/// The frame of a table.
fn is_border(line: &str) -> bool {
    let is_grid = line.starts_with('+') && line.len() > 2 && line.chars().all(|c| "+-=".contains(c));
    let is_simple = line.starts_with("==") && line.chars().all(|c| c == '=' || c == ' ');
    is_grid || is_simple || is_rule(line)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 40 && name.chars().all(|c| c.is_alphanumeric() || "-_.:".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let markdown = convert(text).markdown;
        let squeezed = |text: &str| {
            text.trim()
                .lines()
                .filter(|line| !line.trim().is_empty())
                .map(|line| line.trim_end().to_owned())
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert_eq!(squeezed(&markdown), squeezed(expected), "{markdown}");
    }

    #[test]
    fn titles_and_fields_are_read() {
        let text = "=======\nA title\n=======\n:date: 2020-01-02\n:tags: x, y\n:status: draft\n\nText.\n\nPart\n----\n\nMore.\n\nSub\n~~~\n";
        check(text, "# A title\n\nText.\n\n## Part\n\nMore.\n\n### Sub");
        let stated = convert(text).stated;
        assert_eq!(
            (stated.date.unwrap().to_string().as_str(), stated.tags.len(), stated.draft),
            ("2020-01-02", 2, true)
        );
        let nikola = convert(".. title: T\n.. date: 2021-03-04 10:00:00 UTC\n.. tags: a,b\n\nText.\n");
        assert_eq!((nikola.stated.title.as_deref(), nikola.markdown.trim()), (Some("T"), "Text."));
    }

    #[test]
    fn prose_keeps_its_words() {
        check(
            "It's *so* **true** -- ``a_b`` and `the page <https://a.org/x>`_, see `Home`_ or here_.\n\n.. _Home: https://b.org/\n",
            "It's *so* **true** -- `a_b` and [the page](https://a.org/x), see [Home](https://b.org/) or here.",
        );
        check(
            "A :ref:`label <x>` and :code:`f(x)` by |who|. [1]_\n\n.. |who| replace:: Ada\n.. [1] Not final.\n",
            "A label and `f(x)` by Ada. [^1]\n[^1]: Not final.",
        );
        check("* one\n* two\n\n  - inner\n\n#. first\n#. second", "* one\n* two\n  - inner\n1. first\n1. second");
    }

    #[test]
    fn blocks_become_those_of_markdown() {
        check("Look::\n\n    let a = *b*;\n\nEnd.", "Look:\n```\nlet a = *b*;\n```\nEnd.");
        check(".. code-block:: rust\n   :linenos:\n\n   fn a() {}\n\nText.", "```rust\nfn a() {}\n```\nText.");
        check("Mine.\n\n    Their words.\n\nMine again.", "Mine.\n> Their words.\nMine again.");
        check(
            ".. note::\n\n   Mind this.\n\n.. image:: x.png\n   :alt: gone\n\n.. a comment\n   of two lines\n\nSeen.",
            "Mind this.\nSeen.",
        );
        check("| one\n| two\n", "one\ntwo");
    }
}
