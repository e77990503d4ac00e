//! One tree as another. The reader view and the writer of Markdown have trees of their own; copying ours into theirs costs
//! a small part of what writing it out as HTML and parsing it again does.

use std::rc::Rc;

use dom_query::{Document, NodeData, NodeId, NodeRef, Tree};
use ego_tree::NodeRef as OwnRef;
use ego_tree::iter::Edge;
use html5ever::tendril::StrTendril;
use html5ever::{Attribute, LocalName, QualName, ns};
use markdown_html5ever as theirs;
use markup5ever_rcdom::{Node as MarkdownNode, NodeData as MarkdownData};
use scraper::node::{Element, Text};
use scraper::{Html, Node};

/// The page for the reader view: elements and texts.
pub(super) fn for_reader(page: &Html) -> Document {
    let document = Document::default();
    let tree = &document.tree;
    let mut open = vec![tree.root_id()];
    for edge in page.tree.root().traverse() {
        match (edge, open.last()) {
            (Edge::Open(node), Some(parent)) => match node.value() {
                Node::Element(element) => {
                    let made = tree.new_element(element.name());
                    element.attrs().for_each(|(name, value)| made.set_attr(name, value));
                    tree.append_child_of(parent, &made.id);
                    open.push(made.id);
                }
                Node::Text(text) => append_text(tree, parent, text),
                _ => {}
            },
            (Edge::Close(node), _) if node.value().is_element() => {
                open.pop();
            }
            _ => {}
        }
    }
    document
}

/// What was taken out between two texts leaves one, as a parser would see it.
fn append_text(tree: &Tree, parent: &NodeId, text: &str) {
    let last = tree.last_child_of(parent);
    let is_longer = last.and_then(|last| {
        tree.update_node(&last.id, |node| match &mut node.data {
            NodeData::Text { contents } => {
                contents.push_slice(text);
                true
            }
            _ => false,
        })
    });
    if is_longer != Some(true) {
        tree.append_child_data_of(parent, NodeData::Text { contents: text.into() });
    }
}

/// A page with a part of the reader view in its body.
pub(super) fn from_reader(part: &NodeRef<'_>) -> Html {
    let (mut page, body) = empty_page();
    // Each node with the one that it goes into, the next one last.
    let mut next = vec![(*part, body)];
    while let Some((node, parent)) = next.pop() {
        let copied = node.query(|node| match &node.data {
            NodeData::Element(element) => {
                let attributes = element.attrs.iter().map(|attribute| Attribute {
                    name: QualName::new(None, ns!(), LocalName::from(&*attribute.name.local)),
                    value: StrTendril::from(&*attribute.value),
                });
                Some(Node::Element(Element::new(
                    QualName::new(None, ns!(html), LocalName::from(&*element.name.local)),
                    attributes.collect(),
                )))
            }
            NodeData::Text { contents } => Some(Node::Text(Text { text: StrTendril::from(&**contents) })),
            _ => None,
        });
        if let (Some(Some(copied)), Some(mut parent)) = (copied, page.tree.get_mut(parent)) {
            let id = parent.append(copied).id();
            next.extend(node.children_it(true).map(|child| (child, id)));
        }
    }
    page
}

/// A page with a part of another in its body, if there is one.
pub(super) fn page_of(part: Option<OwnRef<'_, Node>>) -> Html {
    let (mut page, body) = empty_page();
    part.into_iter().for_each(|part| append_copy(&mut page, body, part));
    page
}

/// Puts paragraphs with the children of other nodes before all that is in the body of a page.
pub(super) fn put_first(page: &mut Html, parts: &[OwnRef<'_, Node>]) {
    let body = page.root_element().children().find(|child| child.value().is_element()).map(|body| body.id());
    for part in parts.iter().rev() {
        let Some(mut body) = body.and_then(|body| page.tree.get_mut(body)) else { return };
        let paragraph = body.prepend(element("p")).id();
        part.children().for_each(|child| append_copy(page, paragraph, child));
    }
}

fn append_copy(page: &mut Html, parent: ego_tree::NodeId, part: OwnRef<'_, Node>) {
    let mut next = vec![(part, parent)];
    while let Some((node, parent)) = next.pop() {
        if let Some(mut parent) = page.tree.get_mut(parent) {
            let id = parent.append(node.value().clone()).id();
            next.extend(node.children().rev().map(|child| (child, id)));
        }
    }
}

/// The page for the writer of Markdown.
pub(super) fn for_markdown(page: &Html) -> Rc<MarkdownNode> {
    let document = MarkdownNode::new(MarkdownData::Document);
    let mut next: Vec<_> = page.tree.root().children().rev().map(|child| (child, document.clone())).collect();
    while let Some((node, parent)) = next.pop() {
        let data = match node.value() {
            Node::Element(element) => {
                let attributes = element.attrs().map(|(name, value)| theirs::Attribute {
                    name: theirs::QualName::new(None, theirs::ns!(), theirs::LocalName::from(name)),
                    value: value.into(),
                });
                // Markdown has no emphasis over several paragraphs, only stray asterisks.
                let name = if is_emphasis_of_blocks(node) { "div" } else { element.name() };
                MarkdownData::Element {
                    name: theirs::QualName::new(None, theirs::ns!(html), theirs::LocalName::from(name)),
                    attrs: attributes.collect::<Vec<_>>().into(),
                    template_contents: None.into(),
                    mathml_annotation_xml_integration_point: false,
                }
            }
            Node::Text(text) => {
                let before = parent.children.borrow().last().cloned();
                if let Some(MarkdownData::Text { contents }) = before.as_deref().map(|node| &node.data) {
                    contents.borrow_mut().push_slice(text);
                    continue;
                }
                MarkdownData::Text { contents: theirs::tendril::StrTendril::from(&**text).into() }
            }
            _ => continue,
        };
        let copy = MarkdownNode::new(data);
        copy.parent.set(Some(Rc::downgrade(&parent)));
        parent.children.borrow_mut().push(copy.clone());
        next.extend(node.children().rev().map(|child| (child, copy.clone())));
    }
    document
}

fn is_emphasis_of_blocks(node: OwnRef<'_, Node>) -> bool {
    const BLOCKS: [&str; 16] = [
        "p",
        "div",
        "ul",
        "ol",
        "dl",
        "li",
        "table",
        "pre",
        "blockquote",
        "section",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
    ];
    let named = |node: OwnRef<'_, Node>, names: &[&str]| {
        node.value().as_element().is_some_and(|element| names.contains(&element.name()))
    };
    named(node, &["b", "strong", "i", "em"]) && node.children().any(|inner| named(inner, &BLOCKS))
}

/// A page with nothing in its body, which is the second of the pair.
fn empty_page() -> (Html, ego_tree::NodeId) {
    let mut page = Html::new_document();
    let body = page.tree.root_mut().append(element("html")).append(element("body")).id();
    (page, body)
}

fn element(name: &str) -> Node {
    Node::Element(Element::new(QualName::new(None, ns!(html), LocalName::from(name)), Vec::new()))
}
