//! HTML pages: found safe to parse, rid of what no reader sees, reduced to the main text, and turned into Markdown.
//!
//! Scripts are never run and nothing is loaded. Comments of readers, navigation and asides are left out by the
//! main-text extraction; this module adds the guards and keeps the author's punctuation.

use html5ever::driver::{self, ParseOpts};
use html5ever::tendril::TendrilSink;
use scraper::{ElementRef, Html, HtmlTreeSink, Selector};
use url::Url;

use super::Rejection;
use crate::page::Hints;

mod main_text;
mod metadata;
mod trees;

/// Deeper pages are not articles. Parsing is quadratic in depth: half a megabyte of `<ul><li>` takes a minute and a half
/// (html5ever issue 788).
const MAX_DEPTH: usize = 512;
const MAX_NODES: usize = 200_000;
/// How much is parsed before depth and size are looked at again.
const PIECE_BYTES: usize = 4096;

/// What a page says about itself, and its main text as Markdown.
#[derive(Debug, Default)]
pub(crate) struct Extracted {
    pub(crate) hints: Hints,
    pub(crate) canonical: Option<Url>,
    pub(crate) language: Option<String>,
    pub(crate) text: String,
}

/// Finds the main text of a page. Runs long on large pages, so it belongs on a thread of its own.
pub(crate) fn extract(mut page: Html, url: Option<&Url>) -> Extracted {
    let canonical = url.and_then(|url| canonical(&page, url));
    let language = attribute(&page, "html[lang]", "lang");
    let hints = metadata::read(&page);
    remove_unseen(&mut page);
    let text = to_markdown(&main_text::find(&page, url));
    Extracted { hints, canonical, language, text }
}

/// Turns a piece of HTML, all of which is text of the post, into Markdown.
pub(crate) fn convert(html: &str) -> Result<String, Rejection> {
    let mut page = parse(html)?;
    remove_unseen(&mut page);
    Ok(to_markdown(&page))
}

/// The feeds that a page announces (`<link rel=alternate>`), in its order; feeds of comments are left out.
pub(crate) fn announced_feeds(page: &Html, url: &Url) -> Vec<Url> {
    let links = select(page, "link[rel~=alternate][href]").filter(|link| {
        let kind = link.attr("type").unwrap_or_default().to_ascii_lowercase();
        let title = link.attr("title").unwrap_or_default().to_lowercase();
        ["application/rss+xml", "application/atom+xml", "application/feed+json"].contains(&kind.as_str())
            && !title.contains("comment")
    });
    links.filter_map(|link| url.join(link.attr("href")?).ok()).collect()
}

/// Whether a page is a list of posts: several articles that are not readers' comments, beside one another.
pub(crate) fn is_listing(page: &Html) -> bool {
    const FEWEST: usize = 3;
    let articles = select(page, "article, .h-entry, .hentry").filter(|article| {
        let classes = article.attr("class").unwrap_or_default().to_lowercase();
        let is_comment = classes.contains("comment") || article.attr("id").is_some_and(|id| id.starts_with("comment"));
        let is_inside = article.ancestors().any(|node| {
            node.value().as_element().is_some_and(|element| {
                matches!(element.name(), "article" | "aside" | "footer" | "nav")
                    || element.classes().any(|class| matches!(class, "h-entry" | "hentry"))
            })
        });
        !is_comment && !is_inside
    });
    let lengths: Vec<usize> = articles.map(|article| article.text().map(str::len).sum()).collect();
    // Related posts stand beside an article as short ones; in a list no one is most of the text.
    let longest = lengths.iter().max().copied().unwrap_or(0);
    lengths.len() >= FEWEST && longest * 2 < lengths.iter().sum::<usize>()
}

/// The title of a page, for messages.
pub(crate) fn title(html: &str) -> Option<String> {
    let page = parse(html).ok()?;
    let title: String = select(&page, "title").next()?.text().collect();
    Some(title.trim().to_owned()).filter(|title| !title.is_empty())
}

/// All text of a piece of HTML but that of scripts, styles and pictures.
pub(crate) fn all_text(html: &str) -> Option<String> {
    let mut page = parse(html).ok()?;
    let unseen: Vec<_> = select(&page, "script, style, svg").map(|element| element.id()).collect();
    for id in unseen {
        if let Some(mut node) = page.tree.get_mut(id) {
            node.detach();
        }
    }
    Some(page.root_element().text().collect::<Vec<_>>().join(" "))
}

/// The text of a piece of HTML on one line; what cannot be parsed safely is given back as it is.
pub(crate) fn text_of(html: &str) -> String {
    if !html.contains(['<', '&']) {
        return html.to_owned();
    }
    parse(html).map_or_else(|_| html.to_owned(), |page| one_line_of(&page.root_element()))
}

/// The text of an element on one line.
pub(crate) fn one_line_of(element: &ElementRef<'_>) -> String {
    element.text().collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Parses piece by piece and stops at a bomb. The depth is that of the tree, not of the tags: only the parser knows which
/// tags nest.
pub(crate) fn parse(html: &str) -> Result<Html, Rejection> {
    let mut parser = driver::parse_document(HtmlTreeSink::new(Html::new_document()), ParseOpts::default());
    let mut seen = 0;
    let mut rest = html;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
        let is_plain = piece.is_ascii() || !piece.contains(is_invisible);
        parser.process(if is_plain { piece.into() } else { piece.replace(is_invisible, "").into() });
        rest = after;
        seen = inspect(&parser.tokenizer.sink.sink, seen)?;
    }
    Ok(parser.finish())
}

/// Measures the nodes that came since the last look and says how many there are.
fn inspect(sink: &HtmlTreeSink, seen: usize) -> Result<usize, Rejection> {
    let page = sink.0.borrow();
    let nodes = page.tree.nodes();
    let count = nodes.len();
    if count > MAX_NODES {
        return Err(Rejection::TooManyNodes { most: MAX_NODES });
    }
    let too_deep = nodes.rev().take(count - seen).any(|node| node.ancestors().nth(MAX_DEPTH).is_some());
    if too_deep { Err(Rejection::TooDeep { most: MAX_DEPTH }) } else { Ok(count) }
}

/// Zero-width characters and overrides of the writing direction: no reader sees them, and they hide text from reviewers.
/// The joiners that scripts and emoji need stay.
pub(crate) fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}' | '\u{2060}' | '\u{feff}' | '\u{ad}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Takes out scripts, hidden elements (text for machines, often meant to mislead them), buttons (also the links that
/// newsletters dress as such) and the marks beside headings.
fn remove_unseen(page: &mut Html) {
    let elements = page.tree.root().descendants().filter_map(ElementRef::wrap);
    let unseen: Vec<_> = elements.filter(is_unseen).map(|element| element.id()).collect();
    for id in unseen {
        if let Some(mut node) = page.tree.get_mut(id) {
            node.detach();
        }
    }
}

/// Looks at each attribute once; selectors for all of this would take longer than parsing.
fn is_unseen(element: &ElementRef<'_>) -> bool {
    const CLASSES: [&str; 6] =
        ["button-wrapper", "subscription-widget-wrap", "headerlink", "anchorjs-link", "sr-only", "visually-hidden"];
    let name = element.value().name();
    matches!(name, "script" | "style" | "template" | "noscript" | "iframe" | "object" | "svg" | "form" | "button")
        || element.value().attrs().any(|(attribute, value)| match attribute {
            "hidden" => true,
            "aria-hidden" => value == "true",
            "class" => value.split_ascii_whitespace().any(|class| CLASSES.contains(&class)),
            "style" => is_styled_away(value),
            "href" => name == "a" && value.starts_with('#') && is_anchor_mark(element),
            _ => false,
        })
}

fn is_styled_away(style: &str) -> bool {
    let style = style.to_ascii_lowercase().replace(char::is_whitespace, "");
    ["display:none", "visibility:hidden", "font-size:0;", "opacity:0;"].iter().any(|hiding| style.contains(hiding))
}

fn is_anchor_mark(element: &ElementRef<'_>) -> bool {
    let text: String = element.text().collect();
    matches!(text.trim(), "" | "#" | "¶" | "§" | "🔗")
}

fn canonical(page: &Html, url: &Url) -> Option<Url> {
    let stated = url.join(&attribute(page, "link[rel~=canonical][href]", "href")?).ok()?;
    // A page may rename itself, not pass for another site's.
    (stated.host_str() == url.host_str() && matches!(stated.scheme(), "http" | "https")).then_some(stated)
}

fn attribute(page: &Html, selector: &'static str, name: &str) -> Option<String> {
    let value = select(page, selector).next()?.attr(name)?.trim().to_owned();
    (!value.is_empty()).then_some(value)
}

/// The elements that a selector finds. Selectors are constants, each of which a test parses.
pub(crate) fn select<'a>(page: &'a Html, selector: &'static str) -> impl Iterator<Item = ElementRef<'a>> {
    let selector = Selector::parse(selector).ok();
    let found = selector.map(|selector| page.select(&selector).collect::<Vec<_>>());
    found.unwrap_or_default().into_iter()
}

fn to_markdown(page: &Html) -> String {
    let options = htmd::options::Options {
        bullet_list_marker: htmd::options::BulletListMarker::Dash,
        ul_bullet_spacing: 1,
        ol_number_spacing: 1,
        ..Default::default()
    };
    let skipped = vec!["script", "style", "head", "img", "picture", "video", "audio"];
    let converter = htmd::HtmlToMarkdown::builder().options(options).skip_tags(skipped).build();
    super::markdown::clean(&unescaped(converter.tree_to_markdown(&trees::for_markdown(page))))
}

/// Takes back escapes that change nothing: they would be strange punctuation in a text that is read, embedded and learnt
/// from. What stays escaped is what Markdown would otherwise take for markup.
fn unescaped(markdown: String) -> String {
    if !markdown.contains('\\') {
        return markdown;
    }
    let code = super::markdown::code_ranges(&markdown);
    let mut code = code.iter().peekable();
    let bytes = markdown.as_bytes();
    let mut text = String::with_capacity(markdown.len());
    let mut from = 0;
    for (at, _) in markdown.match_indices('\\') {
        while code.next_if(|range| range.end <= at).is_some() {}
        let in_code = code.peek().is_some_and(|range| range.start <= at);
        // A backslash that is itself escaped was passed over with its partner.
        if at < from || in_code {
            continue;
        }
        let line = markdown[..at].rfind('\n').map_or(0, |end| end + 1);
        let start = markdown[line..at].trim_matches([' ', '>', '-', '*']);
        let context = Escape {
            at_line_start: start.is_empty(),
            after_number: start.bytes().all(|byte| byte.is_ascii_digit()),
            before: bytes.get(at.wrapping_sub(1)).copied().unwrap_or(b'\n'),
            escaped: bytes.get(at + 1).copied().unwrap_or(b'\n'),
            after: bytes.get(at + 2).copied().unwrap_or(b'\n'),
        };
        text.push_str(&markdown[from..at]);
        from = if context.is_needless() { at + 1 } else { at };
        if context.escaped == b'\\' {
            text.push_str(&markdown[from..at + 2]);
            from = at + 2;
        }
    }
    text.push_str(&markdown[from..]);
    text
}

struct Escape {
    at_line_start: bool,
    /// Nothing but digits stand before on the line: with a full stop it would be a list item.
    after_number: bool,
    before: u8,
    escaped: u8,
    after: u8,
}

impl Escape {
    /// Whether CommonMark 0.31 reads the character the same way without the backslash.
    fn is_needless(&self) -> bool {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || !byte.is_ascii();
        let alone = self.before.is_ascii_whitespace() && self.after.is_ascii_whitespace();
        match self.escaped {
            // No link definitions come out of the conversion, so brackets are links only before `(`, or a task at a line's start.
            b'[' => !self.at_line_start && self.before != b'!',
            b']' => !matches!(self.after, b'(' | b'[' | b':'),
            b'_' => (word(self.before) && word(self.after)) || alone,
            b'*' => alone && !self.at_line_start,
            b'-' | b'+' | b'#' | b'>' | b'=' => !self.at_line_start,
            b'.' => !self.after_number,
            b'~' => !self.at_line_start && self.after != b'~' && self.before != b'~',
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
