//! A lineage as a picture: one column for each kind, from posts on the left to answers on the right.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::graph::{Graph, Kind, Node};

const COLUMN: usize = 230;
const BOX_WIDTH: usize = 190;
const ROW: usize = 46;
const BOX_HEIGHT: usize = 34;
const MARGIN: usize = 20;
const HEAD: usize = 50;
/// How many characters of a name fit into a box.
const FITTING: usize = 30;
/// The most boxes of a column; the rest is counted in one more.
const ROWS: usize = 40;

/// Draws a lineage.
pub fn draw(graph: &Graph) -> String {
    let columns: Vec<(Kind, Vec<(&String, &Node)>)> = Kind::ALL
        .into_iter()
        .map(|kind| (kind, graph.nodes.iter().filter(|(_, node)| node.kind == kind).collect::<Vec<_>>()))
        .filter(|(_, nodes)| !nodes.is_empty())
        .collect();
    let mut places: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (column, (_, nodes)) in columns.iter().enumerate() {
        for (row, (id, _)) in nodes.iter().enumerate() {
            places.insert(id, (MARGIN + column * COLUMN, HEAD + row.min(ROWS) * ROW));
        }
    }
    let rows = columns.iter().map(|(_, nodes)| nodes.len().min(ROWS + 1)).max().unwrap_or(0);
    let (width, height) = (MARGIN * 2 + columns.len() * COLUMN, HEAD + rows * ROW + MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<title>Lineage</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fbf9f5\"/>\n"
    );
    for (from, to, label) in &graph.edges {
        if let (Some(from), Some(to)) = (places.get(from.as_str()), places.get(to.as_str())) {
            arrow(&mut svg, *from, *to, label);
        }
    }
    for (column, (kind, nodes)) in columns.iter().enumerate() {
        let x = MARGIN + column * COLUMN;
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"30\" font-weight=\"600\" fill=\"#69645a\">{} ({})</text>",
            kind.heading(),
            nodes.len()
        );
        for (id, node) in nodes.iter().take(ROWS) {
            boxed(&mut svg, places[id.as_str()], &node.name, &node.detail, node.subject);
        }
        if nodes.len() > ROWS {
            boxed(&mut svg, (x, HEAD + ROWS * ROW), &format!("and {} more", nodes.len() - ROWS), "", false);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn arrow(svg: &mut String, from: (usize, usize), to: (usize, usize), label: &str) {
    let (x1, y1, x2, y2) = (from.0 + BOX_WIDTH, from.1 + BOX_HEIGHT / 2, to.0, to.1 + BOX_HEIGHT / 2);
    let middle = usize::midpoint(x1, x2);
    let _ = writeln!(
        svg,
        "<path d=\"M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}\" fill=\"none\" stroke=\"#b9b2a3\"><title>{}</title></path>",
        escaped(label)
    );
}

fn boxed(svg: &mut String, (x, y): (usize, usize), name: &str, detail: &str, subject: bool) {
    let fill = if subject { "#e4eeeb" } else { "#ffffff" };
    let stroke = if subject { "#1d5f57" } else { "#e3ded3" };
    let _ = writeln!(
        svg,
        "<g><title>{name} {detail}</title><rect x=\"{x}\" y=\"{y}\" width=\"{BOX_WIDTH}\" height=\"{BOX_HEIGHT}\" rx=\"6\" \
         fill=\"{fill}\" stroke=\"{stroke}\"/><text x=\"{}\" y=\"{}\" fill=\"#23211d\">{shown}</text></g>",
        x + 8,
        y + 21,
        name = escaped(name),
        detail = escaped(detail),
        shown = escaped(&shortened(name)),
    );
}

/// The end of an address says more than its beginning.
fn shortened(name: &str) -> String {
    let count = name.chars().count();
    if count <= FITTING {
        return name.to_owned();
    }
    let end: String = name.chars().skip(count - FITTING + 1).collect();
    format!("…{end}")
}

/// Names and addresses come from pages: as text of an XML document. Characters that XML does not have are left out.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => {}
            character if character.is_control() => safe.push(' '),
            character => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_pages_stays_text_and_many_nodes_are_counted() {
        let mut graph = Graph::default();
        graph.node("p", Kind::Post, "javascript:alert('<x>')&\u{0}", "\"<script>\"");
        for n in 0..100 {
            graph.node(n, Kind::Chunk, &format!("chunk {n}"), "");
            graph.edge("p", n, "cut into");
        }
        let svg = draw(&graph);
        assert!(!svg.contains("<script>") && svg.contains("&lt;script&gt;"), "{svg}");
        assert!(!svg.contains('\u{0}') && svg.contains("and 60 more"));
        assert_eq!(svg.matches("<path").count(), 100);
        assert_eq!(svg.matches("<g>").count(), 1 + ROWS + 1);
    }
}
