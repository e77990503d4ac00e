//! A page as pieces: the blocks without blocks in them, in order.

use ego_tree::{NodeId, NodeRef};
use scraper::{ElementRef, Html, Node};
use url::Url;

/// A block without blocks in it.
pub(super) struct Piece {
    pub(super) id: NodeId,
    /// On one line.
    pub(super) text: String,
    pub(super) words: usize,
    /// 1 to 6 of a heading, else 0.
    pub(super) level: u8,
    pub(super) in_code: bool,
    /// The characters of all, of links to other pages, and of links to other pages of the site.
    characters: usize,
    linked: usize,
    linked_within_site: usize,
}

impl Piece {
    /// Whether it is a sentence or more of running text.
    pub(super) fn is_prose(&self) -> bool {
        self.level == 0 && self.words >= 10 && self.linked * 2 < self.characters
    }

    /// Whether a third of it or so is a link to another page.
    pub(super) fn is_partly_linked(&self) -> bool {
        self.linked * 10 >= self.characters * 3
    }

    /// Whether it is little but a link to another page of the site.
    pub(super) fn is_linked_within_site(&self) -> bool {
        self.linked_within_site * 10 >= self.characters * 8
    }
}

/// The pieces of a page that is at `url`.
pub(super) fn of_page(page: &Html, url: Option<&Url>) -> Vec<Piece> {
    leaves(page).filter_map(|leaf| Piece::of(leaf, url)).collect()
}

/// The blocks of a page without blocks in them.
pub(super) fn leaves(page: &Html) -> impl Iterator<Item = ElementRef<'_>> {
    let blocks = page.tree.root().descendants().filter(|node| is_block(*node));
    blocks.filter(|block| !block.descendants().skip(1).any(is_block)).filter_map(ElementRef::wrap)
}

impl Piece {
    /// A block of a page that is at `url`, if there is text in it.
    pub(super) fn of(block: ElementRef<'_>, url: Option<&Url>) -> Option<Self> {
        let text = one_line(&block);
        if text.is_empty() {
            return None;
        }
        let (mut linked, mut linked_within_site) = (0, 0);
        for link in links(&block) {
            let Some(target) = target(&link, url) else { continue };
            let is_same_site = url.is_some_and(|url| site(url).is_some() && site(url) == site(&target));
            if is_same_site && url.is_some_and(|url| url.path() == target.path()) {
                continue;
            }
            let characters = one_line(&link).chars().count();
            linked += characters;
            linked_within_site += if is_same_site { characters } else { 0 };
        }
        let level = level(&block);
        let mut around = std::iter::once(*block).chain(block.ancestors());
        let in_code = around
            .any(|node| node.value().as_element().is_some_and(|element| matches!(element.name(), "pre" | "code")));
        let (words, characters) = (text.split(' ').count(), text.chars().count());
        Some(Self { id: block.id(), text, words, level, in_code, characters, linked, linked_within_site })
    }
}

/// 1 to 6 of a heading, else 0.
pub(super) fn level(block: &ElementRef<'_>) -> u8 {
    block.value().name().strip_prefix('h').and_then(|level| level.parse().ok()).unwrap_or(0)
}

/// How much text an element has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) words: usize,
    /// On one line, with one space between words.
    bytes: usize,
}

impl Extent {
    pub(super) fn of(element: &ElementRef<'_>) -> Self {
        let (mut words, mut bytes) = (0, 0);
        each_word(element, |word, is_new| {
            words += usize::from(is_new);
            bytes += word.len() + usize::from(is_new && bytes > 0);
        });
        Self { words, bytes }
    }
}

/// How many words an element has.
pub(super) fn words_of(element: &ElementRef<'_>) -> usize {
    Extent::of(element).words
}

/// The share of an element's text that is in links, 0 to 1.
pub(super) fn share_of_links(element: &ElementRef<'_>) -> f64 {
    let linked: usize = links(element).map(|link| Extent::of(&link).bytes).sum();
    if linked == 0 { 0.0 } else { linked as f64 / Extent::of(element).bytes.max(1) as f64 }
}

fn links<'a>(element: &ElementRef<'a>) -> impl Iterator<Item = ElementRef<'a>> {
    let elements = element.descendants().filter_map(ElementRef::wrap);
    elements.filter(|element| element.value().name() == "a" && element.attr("href").is_some())
}

fn target(link: &ElementRef<'_>, url: Option<&Url>) -> Option<Url> {
    let address = link.attr("href")?;
    match url {
        Some(url) => url.join(address).ok(),
        None => Url::parse(address).ok(),
    }
}

fn site(url: &Url) -> Option<&str> {
    url.host_str().map(|host| host.trim_start_matches("www."))
}

/// The text of an element on one line, with one space between words.
pub(super) fn one_line(element: &ElementRef<'_>) -> String {
    let mut line = String::new();
    each_word(element, |word, is_new| {
        if is_new && !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    });
    line
}

/// Each word of an element, and whether it is one or the rest of the last: elements also end within words.
fn each_word(element: &ElementRef<'_>, mut take: impl FnMut(&str, bool)) {
    let mut is_apart = true;
    for text in element.text() {
        is_apart |= text.starts_with(char::is_whitespace);
        for word in text.split_whitespace() {
            take(word, is_apart);
            is_apart = true;
        }
        is_apart = text.chars().next_back().map_or(is_apart, char::is_whitespace);
    }
}

fn is_block(node: NodeRef<'_, Node>) -> bool {
    let Some(element) = node.value().as_element() else { return false };
    matches!(
        element.name(),
        "p" | "li"
            | "h1"
            | "h2"
            | "h3"
            | "h4"
            | "h5"
            | "h6"
            | "td"
            | "th"
            | "blockquote"
            | "div"
            | "section"
            | "article"
            | "dt"
            | "dd"
            | "figcaption"
            | "figure"
            | "table"
            | "ul"
            | "ol"
            | "tr"
            | "dl"
            | "tbody"
            | "header"
            | "footer"
            | "pre"
    )
}
