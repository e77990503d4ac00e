//! The main text of a page: the algorithm of Firefox's reader view (`dom_smoothie`) finds it; then rules take out what of it
//! is not the text (pictures' captions, pointers to other pages, dates and credits, [`marks`] says which), and put the
//! paragraphs between the title and the text back, which the algorithm often takes for a part of the page's head.
//! `eval/extraction` has the figures.

use std::collections::{HashMap, HashSet};

use dom_smoothie::{Config, ParsePolicy, Readability};
use ego_tree::{NodeId, NodeRef};
use scraper::{ElementRef, Html, Node};
use url::Url;

use super::trees::{for_reader, from_reader, page_of, put_first};
use marks::{is_caption, is_marked, is_out_of_the_text};
use pieces::{Piece, leaves, level, of_page, one_line, share_of_links, words_of};

mod marks;
mod pieces;

/// What the reader view calls the element that it puts the text in.
const READER_VIEW: &str = "#readability-page-1";
/// Longer captions are texts of their own.
const MOST_CAPTION_WORDS: usize = 80;
/// A marked part with more prose, or with more than a quarter of the page's text, is marked wrongly.
const MOST_MARKED_PROSE: usize = 40;
/// A list with longer items is no list of links.
const MOST_LINK_WORDS: usize = 25;
/// So many words in paragraphs beside one another are a text that a much shorter one is not preferred to.
const LEAST_DENSE_WORDS: usize = 50;

/// The main text as a page of its own. `page` is without what no reader sees.
pub(super) fn find(page: &Html, url: Option<&Url>) -> Html {
    let densest = densest(page);
    let whole = || page_of(densest.map(|(element, _)| element).or_else(|| elements(page).next()).as_deref().copied());
    let mut content = reader_view(page, url).unwrap_or_else(whole);
    if let Some((_, words)) = densest
        && words >= LEAST_DENSE_WORDS
        && words_of(&content.root_element()) * 3 < words
    {
        content = whole();
    }
    remove_marked(&mut content);
    let pieces = of_page(&content, url);
    let opening = opening(page, &pieces, url);
    let mut removed: Vec<NodeId> =
        pieces.iter().filter(|piece| is_out_of_the_text(piece)).map(|piece| piece.id).collect();
    removed.extend(lists_of_links(&content, &pieces));
    detach(&mut content, &removed);
    put_first(&mut content, &opening);
    content
}

/// Its strictest way first, whose result is the reader view's own where it is long enough: asked for all of its ways, it copies
/// the page before each.
fn reader_view(page: &Html, url: Option<&Url>) -> Option<Html> {
    // Classes say what the parts are; what the page says about itself is read elsewhere.
    let config = Config { keep_classes: true, disable_json_ld: true, ..Config::default() };
    let enough = config.char_threshold;
    let read = |every_way: bool| {
        let copy = for_reader(page);
        // It takes the body for granted, and a page of frames has none.
        copy.body()?;
        let mut readability = Readability::with_document(copy, url.map(Url::as_str), Some(config.clone())).ok()?;
        let done = if every_way { readability.parse() } else { readability.parse_with_policy(ParsePolicy::Strict) };
        done.ok()?;
        let view = readability.doc.select(READER_VIEW);
        let view = view.nodes().first()?;
        (every_way || view.normalized_char_count() >= enough).then(|| from_reader(view))
    };
    read(false).or_else(|| read(true))
}

/// The element with the most words in paragraphs that stand directly in it, and their number.
fn densest(page: &Html) -> Option<(ElementRef<'_>, usize)> {
    let words = |element: &ElementRef<'_>| -> usize {
        let paragraphs = element.child_elements().filter(|child| child.value().name() == "p");
        let prose = paragraphs.filter(|paragraph| share_of_links(paragraph) < 0.5);
        prose.map(|paragraph| words_of(&paragraph)).filter(|words| *words >= 8).sum()
    };
    let parts = elements(page)
        .filter(|part| matches!(part.value().name(), "article" | "main" | "section" | "div" | "td" | "body"))
        .map(|element| (element, words(&element)));
    // The last of several is the innermost.
    parts.max_by_key(|(_, words)| *words).filter(|(_, words)| *words > 0)
}

/// The elements of a page, in its order.
fn elements(page: &Html) -> impl Iterator<Item = ElementRef<'_>> {
    page.tree.root().descendants().filter_map(ElementRef::wrap)
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
    let marked = elements(content).filter(|part| {
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
    let is_list = |node: &NodeRef<'_, Node>| {
        node.value().as_element().is_some_and(|element| matches!(element.name(), "ul" | "ol"))
    };
    // Each list that there is text in, and whether all of it is links.
    let mut lists: HashMap<NodeId, bool> = HashMap::new();
    for piece in pieces {
        let is_pointer = piece.is_linked_within_site() && piece.words <= MOST_LINK_WORDS;
        let Some(node) = content.tree.get(piece.id) else { continue };
        for list in std::iter::once(node).chain(node.ancestors()).filter(is_list) {
            *lists.entry(list.id()).or_insert(true) &= is_pointer;
        }
    }
    lists.into_iter().filter(|(_, is_of_links)| *is_of_links).map(|(list, _)| list).collect()
}

/// The prose between the page's title and the beginning of the text, unless it is more than half of the text.
fn opening<'a>(page: &'a Html, text: &[Piece], url: Option<&Url>) -> Vec<NodeRef<'a, Node>> {
    let Some(first) = text.iter().find(|piece| piece.is_prose()) else { return Vec::new() };
    // The blocks since the last title, if there was one.
    let mut since_title: Option<Vec<ElementRef<'_>>> = None;
    let begins = leaves(page).any(|leaf| {
        let text = one_line(&leaf);
        match (level(&leaf), &mut since_title) {
            _ if text == first.text => return true,
            (1, _) if !text.is_empty() => since_title = Some(Vec::new()),
            (_, Some(since)) => since.push(leaf),
            _ => {}
        }
        false
    });
    let Some(before) = since_title.filter(|_| begins) else { return Vec::new() };
    let known: HashSet<&str> = text.iter().map(|piece| piece.text.as_str()).collect();
    let missing: Vec<Piece> = before
        .into_iter()
        .filter_map(|leaf| Piece::of(leaf, url))
        .filter(|piece| piece.is_prose() && piece.words >= 12 && !known.contains(piece.text.as_str()))
        .filter(|piece| !is_out_of_the_text(piece) && !is_beside_the_text(page, piece))
        .collect();
    let words = |pieces: &[Piece]| pieces.iter().map(|piece| piece.words).sum::<usize>();
    if words(&missing) * 2 > words(text) {
        return Vec::new();
    }
    missing.iter().filter_map(|piece| page.tree.get(piece.id)).collect()
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
