//! The second text of a document: normalised for lexical search, comparison and detection. The reader never sees it and
//! nothing learns from it; the author's own text is elsewhere and stays as it is.

use pulldown_cmark::{Event, Parser, Tag, TagEnd};
use unicode_normalization::UnicodeNormalization;

use super::{html, markdown};

/// What lexical search sees of a passage: its words and those of the titles above it, without Markdown's marks, in lower
/// case, with typographic quotes, dashes and ligatures as ASCII and single spaces.
pub(crate) fn search_text(title: &str, heading_path: &[String], passage: &str) -> String {
    let mut text = String::with_capacity(title.len() + passage.len());
    for part in std::iter::once(title).chain(heading_path.iter().map(String::as_str)) {
        push_normal(&mut text, part);
    }
    push_normal(&mut text, &unmarked(passage, true));
    text
}

/// The words of a text in lower case, letters and digits only.
pub(crate) fn words(text: &str) -> Vec<String> {
    let lower = text.nfkc().collect::<String>().to_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The text without Markdown's marks and without code.
pub(crate) fn prose(text: &str) -> String {
    unmarked(text, false)
}

fn push_normal(text: &mut String, part: &str) {
    let part: String = part.chars().filter(|character| !html::is_invisible(*character)).collect();
    for word in part.nfkc().collect::<String>().to_lowercase().split_whitespace() {
        if !text.is_empty() {
            text.push(' ');
        }
        for character in word.chars() {
            push_ascii_punctuation(text, character);
        }
    }
}

fn push_ascii_punctuation(text: &mut String, character: char) {
    match character {
        '‘' | '’' | '‚' | '‛' | '′' => text.push('\''),
        '“' | '”' | '„' | '‟' | '″' | '«' | '»' => text.push('"'),
        '‐' | '‑' | '‒' | '–' | '—' | '―' | '−' => text.push('-'),
        '…' => text.push_str("..."),
        other => text.push(other),
    }
}

fn unmarked(text: &str, with_code: bool) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut in_code = false;
    for event in Parser::new_ext(text, markdown::options()) {
        match event {
            Event::Start(Tag::CodeBlock(_)) => in_code = true,
            Event::End(TagEnd::CodeBlock) => in_code = false,
            Event::Text(text) if with_code || !in_code => plain.push_str(&text),
            Event::Code(code) if with_code => plain.push_str(&code),
            Event::SoftBreak | Event::HardBreak | Event::Rule => plain.push(' '),
            // Inline marks end within words; blocks and cells do not.
            Event::End(
                TagEnd::Paragraph
                | TagEnd::Heading(_)
                | TagEnd::Item
                | TagEnd::TableCell
                | TagEnd::Table
                | TagEnd::HtmlBlock,
            ) => plain.push('\n'),
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_sees_words_and_not_marks() {
        let passage = "## Own heading\n\nIt’s *very* “im-\nportant” — see [this  link](https://a.org/x), `foo_bar`…\n\n- One\n- ﬁle\u{200b}s\n";
        assert_eq!(
            search_text("The Title", &["Own heading".to_owned()], passage),
            "the title own heading own heading it's very \"im- portant\" - see this link, foo_bar... one files"
        );
    }

    #[test]
    fn words_are_bare() {
        assert_eq!(words("Don’t — STOP, at 3.5!"), ["don", "t", "stop", "at", "3", "5"]);
    }

    #[test]
    fn prose_has_no_code() {
        assert_eq!(prose("a `b` c\n\n```\nd\n```\n").split_whitespace().collect::<Vec<_>>(), ["a", "c"]);
    }
}
