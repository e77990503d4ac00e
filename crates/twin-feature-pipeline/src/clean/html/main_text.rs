//! The main text of a page, by two readers: the algorithm of Firefox's reader view (`dom_smoothie`) and that of
//! trafilatura (`rs-trafilatura`). The first finds more of the text, the second lets less through that is not of it. So
//! the first one's text is taken, less the short pieces that the second leaves out: dates, credits, share lines, links
//! to other posts. `eval/extraction` has the figures.

use std::collections::HashSet;

use dom_smoothie::Readability;
use scraper::{ElementRef, Html};
use url::Url;

use super::{Rejection, parse, select};

/// A piece with more words is prose whatever the second reader says. Twelve to twenty score alike.
const SHORT_WORDS: usize = 16;
/// A piece counts as read when its beginning is in the other text; the readers end pieces differently.
const COMPARED_CHARACTERS: usize = 60;

const BLOCKS: &str = "p, li, h1, h2, h3, h4, h5, h6, td, th, blockquote, div, section, article, dt, dd, figcaption, \
     figure, table, ul, ol, tr, dl, tbody, header, footer, pre";

/// The main text as HTML, from the page without what no reader sees. `other` is what the second reader made of it, as
/// HTML and as text.
pub(super) fn find(page: &str, url: Option<&Url>, other_html: &str, other_text: &str) -> Result<String, Rejection> {
    let Some(content) = reader_view(page, url) else { return Ok(other_html.to_owned()) };
    let mut content = parse(&content)?;
    let other = one_line(other_text);
    if other.is_empty() {
        return Ok(content.html());
    }
    remove_short_pieces(&mut content, &other);
    Ok(content.html())
}

fn reader_view(page: &str, url: Option<&Url>) -> Option<String> {
    let mut readability = Readability::new(page, url.map(Url::as_str), None).ok()?;
    let article = readability.parse().ok()?;
    let content = article.content.to_string();
    (!content.trim().is_empty()).then_some(content)
}

/// Takes out blocks without blocks in them that are short and not in the other text. Code stays; cells stay in their
/// tables, empty.
fn remove_short_pieces(content: &mut Html, other: &str) {
    let blocks: HashSet<_> = select(content, BLOCKS).map(|block| block.id()).collect();
    let is_leaf = |block: &ElementRef<'_>| !block.descendants().skip(1).any(|node| blocks.contains(&node.id()));
    let is_unread = |block: &ElementRef<'_>| {
        let text = one_line(&block.text().collect::<String>());
        let words = text.split(' ').count();
        let beginning: String = text.chars().take(COMPARED_CHARACTERS).collect();
        !text.is_empty() && words <= SHORT_WORDS && !other.contains(&beginning)
    };
    let in_code = |block: &ElementRef<'_>| {
        let mut around = std::iter::once(**block).chain(block.ancestors());
        around.any(|node| node.value().as_element().is_some_and(|element| element.name() == "pre"))
    };
    let unread: Vec<_> = select(content, BLOCKS)
        .filter(|block| is_leaf(block) && !in_code(block) && is_unread(block))
        .map(|block| (block.id(), matches!(block.value().name(), "td" | "th")))
        .collect();
    for (id, is_cell) in unread {
        let children: Vec<_> = match content.tree.get(id) {
            Some(node) if is_cell => node.children().map(|child| child.id()).collect(),
            _ => vec![id],
        };
        for child in children {
            if let Some(mut node) = content.tree.get_mut(child) {
                node.detach();
            }
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
