//! The main text of a page: the algorithm of Firefox's reader view (`dom_smoothie`) finds it; then rules take out what of it
//! is not the text (pictures' captions, pointers to other pages, dates and credits, [`marks`] says which), and put the
//! paragraphs between the title and the text back, which the algorithm often takes for a part of the page's head.
//! `eval/extraction` has the figures.

use std::collections::HashSet;

use dom_smoothie::{Config, Readability};
use ego_tree::NodeId;
use scraper::{ElementRef, Html};
use url::Url;

use super::{Rejection, parse, select};
use marks::{is_caption, is_marked, is_out_of_the_text};
use pieces::{Piece, of_page, share_of_links, words_of};

mod marks;
mod pieces;

/// Longer captions are texts of their own.
const MOST_CAPTION_WORDS: usize = 80;
/// A marked part with more prose, or with more than a quarter of the page's text, is marked wrongly.
const MOST_MARKED_PROSE: usize = 40;
/// A list with longer items is no list of links.
const MOST_LINK_WORDS: usize = 25;
/// So many words in paragraphs beside one another are a text that a much shorter one is not preferred to.
const LEAST_DENSE_WORDS: usize = 50;

/// The main text as HTML. `visible` is the page as HTML, without what no reader sees.
pub(super) fn find(page: &Html, visible: &str, url: Option<&Url>) -> Result<String, Rejection> {
    let mut content = match reader_view(visible, url) {
        Some(view) => parse(&view)?,
        None => parse(&densest(page).map_or_else(|| visible.to_owned(), |(element, _)| element.html()))?,
    };
    if let Some((element, words)) = densest(page)
        && words >= LEAST_DENSE_WORDS
        && words_of(&content.root_element()) * 3 < words
    {
        content = parse(&element.html())?;
    }
    remove_marked(&mut content);
    let pieces = of_page(&content, url);
    let opening = opening(page, &pieces, url);
    let removed: HashSet<NodeId> =
        pieces.iter().filter(|piece| is_out_of_the_text(piece)).map(|piece| piece.id).collect();
    let removed: Vec<NodeId> = removed.into_iter().chain(lists_of_links(&content, &pieces)).collect();
    detach(&mut content, &removed);
    Ok(format!("{opening}{}", content.html()))
}

fn reader_view(visible: &str, url: Option<&Url>) -> Option<String> {
    // Classes say what the parts are; what the page says about itself is read elsewhere.
    let config = Config { keep_classes: true, disable_json_ld: true, ..Config::default() };
    let mut readability = Readability::new(visible, url.map(Url::as_str), Some(config)).ok()?;
    let content = readability.parse().ok()?.content.to_string();
    (!content.trim().is_empty()).then_some(content)
}

/// The element with the most words in paragraphs that stand directly in it, and their number.
fn densest(page: &Html) -> Option<(ElementRef<'_>, usize)> {
    let words = |element: &ElementRef<'_>| -> usize {
        let paragraphs = element.child_elements().filter(|child| child.value().name() == "p");
        let prose = paragraphs.filter(|paragraph| share_of_links(paragraph) < 0.5);
        prose.map(|paragraph| words_of(&paragraph)).filter(|words| *words >= 8).sum()
    };
    let parts = select(page, "article, main, section, div, td, body").map(|element| (element, words(&element)));
    // The last of several is the innermost.
    parts.max_by_key(|(_, words)| *words).filter(|(_, words)| *words > 0)
}

/// Takes out captions, and parts whose classes say that they are something else than the text.
fn remove_marked(content: &mut Html) {
    let all = words_of(&content.root_element());
    let prose = |part: &ElementRef<'_>| -> usize {
        let paragraphs =
            part.descendants().filter_map(ElementRef::wrap).filter(|element| element.value().name() == "p");
        let prose = paragraphs.filter(|paragraph| share_of_links(paragraph) < 0.4);
        prose.map(|paragraph| words_of(&paragraph)).filter(|words| *words >= 10).sum()
    };
    let kept = ["html", "body", "code", "pre", "table", "h1", "h2"];
    let marked = select(content, "figcaption, [class], [id]").filter(|part| {
        if is_caption(part) {
            return words_of(part) < MOST_CAPTION_WORDS;
        }
        !kept.contains(&part.value().name())
            && is_marked(part)
            && words_of(part) * 4 < all
            && (prose(part) < MOST_MARKED_PROSE || share_of_links(part) > 0.5)
    });
    let marked: Vec<NodeId> = marked.map(|part| part.id()).collect();
    detach(content, &marked);
}

/// Lists of nothing but links to other pages of the site.
fn lists_of_links(content: &Html, pieces: &[Piece]) -> Vec<NodeId> {
    let is_pointer = |piece: &Piece| piece.is_linked_within_site() && piece.words <= MOST_LINK_WORDS;
    let lists = select(content, "ul, ol").filter(|list| {
        let inside: HashSet<NodeId> = list.descendants().map(|node| node.id()).collect();
        let mut inside = pieces.iter().filter(|piece| inside.contains(&piece.id)).peekable();
        inside.peek().is_some() && inside.all(is_pointer)
    });
    lists.map(|list| list.id()).collect()
}

/// The prose between the page's title and the beginning of the text, as HTML, unless it is more than half of the text.
fn opening(page: &Html, text: &[Piece], url: Option<&Url>) -> String {
    let Some(first) = text.iter().find(|piece| piece.is_prose()) else { return String::new() };
    let all = of_page(page, url);
    let Some(begin) = all.iter().position(|piece| piece.text == first.text) else { return String::new() };
    let Some(title) = all[..begin].iter().rposition(|piece| piece.level == 1) else { return String::new() };
    let known: HashSet<&str> = text.iter().map(|piece| piece.text.as_str()).collect();
    let missing: Vec<&Piece> = all[title + 1..begin]
        .iter()
        .filter(|piece| piece.is_prose() && piece.words >= 12 && !known.contains(piece.text.as_str()))
        .filter(|piece| !is_out_of_the_text(piece) && !is_beside_the_text(page, piece))
        .collect();
    let words = |pieces: &mut dyn Iterator<Item = &Piece>| pieces.map(|piece| piece.words).sum::<usize>();
    if words(&mut missing.iter().copied()) * 2 > words(&mut text.iter()) {
        return String::new();
    }
    let elements = missing.into_iter().filter_map(|piece| ElementRef::wrap(page.tree.get(piece.id)?));
    elements.map(|element| format!("<p>{}</p>", element.inner_html())).collect()
}

fn is_beside_the_text(page: &Html, piece: &Piece) -> bool {
    let Some(node) = page.tree.get(piece.id) else { return true };
    let mut around = std::iter::once(node).chain(node.ancestors()).filter_map(ElementRef::wrap);
    around.any(|element| match element.value().name() {
        "nav" | "aside" | "footer" | "form" => true,
        "html" | "body" | "main" | "article" => is_caption(&element),
        _ => is_marked(&element) || is_caption(&element),
    })
}

/// Takes nodes out; cells stay in their tables, empty.
fn detach(content: &mut Html, nodes: &[NodeId]) {
    for id in nodes {
        let Some(node) = content.tree.get(*id) else { continue };
        let is_cell = node.value().as_element().is_some_and(|element| matches!(element.name(), "td" | "th"));
        let gone: Vec<NodeId> = if is_cell { node.children().map(|child| child.id()).collect() } else { vec![*id] };
        for id in gone {
            if let Some(mut node) = content.tree.get_mut(id) {
                node.detach();
            }
        }
    }
}

#[cfg(test)]
mod tests;
