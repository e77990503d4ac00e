//! From Markdown to plain paragraphs. The parser is the one the rest of the house uses, so that what counts as code or as a
//! heading is the same everywhere.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use serde::{Deserialize, Serialize};

use super::normalise;

/// What becomes of block quotes, which are mostly somebody else's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockQuotes {
    Keep,
    Drop,
}

/// How much of each kind of markup a text has: part of its look, not of its words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Markup {
    pub headings: usize,
    pub list_items: usize,
    pub links: usize,
    /// Passages in italics or bold.
    pub emphases: usize,
    pub code_blocks: usize,
    pub block_quotes: usize,
}

/// Counts the markup of a Markdown text.
pub fn markup(markdown: &str) -> Markup {
    let mut markup = Markup::default();
    for event in parse(markdown) {
        let Event::Start(tag) = event else { continue };
        match tag {
            Tag::Heading { .. } => markup.headings += 1,
            Tag::Item => markup.list_items += 1,
            Tag::Link { .. } => markup.links += 1,
            Tag::Emphasis | Tag::Strong => markup.emphases += 1,
            Tag::CodeBlock(_) => markup.code_blocks += 1,
            Tag::BlockQuote(_) => markup.block_quotes += 1,
            _ => {}
        }
    }
    markup
}

/// Markdown that says exactly this plain text.
pub fn as_markdown(plain: &str) -> String {
    let mut markdown = String::with_capacity(plain.len() * 11 / 10);
    for character in plain.chars() {
        if character.is_ascii_punctuation() {
            markdown.push('\\');
        }
        markdown.push(character);
    }
    markdown
}

/// The paragraphs of a Markdown text, normalised, separated by an empty line.
pub(super) fn plain(markdown: &str, quotes: BlockQuotes) -> String {
    let mut out = String::with_capacity(markdown.len());
    // How many elements that are left out are open at this point.
    let mut left_out = 0_usize;
    for event in parse(markdown) {
        match event {
            Event::Start(tag) => {
                left_out += usize::from(is_left_out(&tag, quotes));
                if matches!(tag, Tag::Paragraph | Tag::Item | Tag::FootnoteDefinition(_)) {
                    end_paragraph(&mut out);
                }
            }
            Event::End(end) => {
                left_out = left_out.saturating_sub(usize::from(ends_left_out(end, quotes)));
                if matches!(end, TagEnd::Paragraph | TagEnd::Item | TagEnd::List(_)) {
                    end_paragraph(&mut out);
                }
            }
            _ if left_out > 0 => {}
            Event::Text(text) => out.push_str(&text),
            Event::SoftBreak => out.push(' '),
            Event::HardBreak => out.push('\n'),
            Event::Rule => end_paragraph(&mut out),
            _ => {}
        }
    }
    normalise(&without_addresses(&out))
}

fn parse(markdown: &str) -> Parser<'_> {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS
        | Options::ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS;
    Parser::new_ext(markdown, options)
}

fn is_left_out(tag: &Tag<'_>, quotes: BlockQuotes) -> bool {
    match tag {
        Tag::BlockQuote(_) => quotes == BlockQuotes::Drop,
        Tag::Heading { .. }
        | Tag::CodeBlock(_)
        | Tag::HtmlBlock
        | Tag::Table(_)
        | Tag::Image { .. }
        | Tag::MetadataBlock(_) => true,
        _ => false,
    }
}

fn ends_left_out(end: TagEnd, quotes: BlockQuotes) -> bool {
    match end {
        TagEnd::BlockQuote(_) => quotes == BlockQuotes::Drop,
        TagEnd::Heading(_)
        | TagEnd::CodeBlock
        | TagEnd::HtmlBlock
        | TagEnd::Table
        | TagEnd::Image
        | TagEnd::MetadataBlock(_) => true,
        _ => false,
    }
}

fn end_paragraph(out: &mut String) {
    if !out.is_empty() && !out.ends_with("\n\n") {
        out.push_str("\n\n");
    }
}

/// Without web addresses, bare or in angle brackets: nobody's words.
fn without_addresses(text: &str) -> String {
    let is_address = |token: &&str| token.contains("://") || token.starts_with("www.");
    text.split_inclusive(char::is_whitespace).filter(|token| !is_address(token)).collect()
}
