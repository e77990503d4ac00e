//! What came of what: posts, chunks, training sets, models, releases and answers, and the arrows between them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// What a node is. The order is that in which one comes of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Post,
    Chunk,
    TrainingSet,
    Model,
    Release,
    Answer,
}

impl Kind {
    pub const ALL: [Self; 6] = [Self::Post, Self::Chunk, Self::TrainingSet, Self::Model, Self::Release, Self::Answer];

    /// The plural, as a heading.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Post => "posts",
            Self::Chunk => "chunks",
            Self::TrainingSet => "training sets",
            Self::Model => "models",
            Self::Release => "releases",
            Self::Answer => "answers",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    pub kind: Kind,
    pub name: String,
    pub detail: String,
    /// Whether the lineage is of this one.
    pub subject: bool,
}

/// The graph; edges go from what was used to what was made of it, with what became of it.
#[derive(Debug, Default, Serialize)]
pub struct Graph {
    pub nodes: BTreeMap<String, Node>,
    pub edges: BTreeSet<(String, String, String)>,
}

impl Graph {
    /// Adds a node; one that is there keeps its details, unless they were empty.
    pub fn node(&mut self, id: impl ToString, kind: Kind, name: &str, detail: &str) {
        let node = Node { kind, name: name.to_owned(), detail: detail.to_owned(), subject: false };
        let known = self.nodes.entry(id.to_string()).or_insert_with(|| node);
        if known.detail.is_empty() {
            known.detail = detail.to_owned();
        }
    }

    pub fn edge(&mut self, from: impl ToString, to: impl ToString, label: &str) {
        self.edges.insert((from.to_string(), to.to_string(), label.to_owned()));
    }

    pub fn has(&self, id: &str) -> bool {
        self.nodes.contains_key(id)
    }

    /// The nodes of a kind whose ids begin so.
    pub fn named(&self, kind: Kind, beginning: &str) -> BTreeSet<String> {
        let found = self.nodes.iter().filter(|(id, node)| node.kind == kind && id.starts_with(beginning));
        found.map(|(id, _)| id.clone()).collect()
    }

    /// What was made of a node directly.
    pub fn after<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a str> {
        self.edges.iter().filter(move |(from, _, _)| from == id).map(|(_, to, _)| to.as_str())
    }

    /// What the edges between two nodes say.
    pub fn labels<'a>(&'a self, from: &'a str, to: &'a str) -> impl Iterator<Item = &'a str> {
        self.edges.iter().filter(move |(start, end, _)| start == from && end == to).map(|(_, _, label)| label.as_str())
    }

    /// The part of the graph that some nodes came from or that came of them.
    pub fn around(self, subjects: &BTreeSet<String>) -> Self {
        let mut forward: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut backward: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (from, to, _) in &self.edges {
            forward.entry(from).or_default().push(to);
            backward.entry(to).or_default().push(from);
        }
        let reach = |ways: &BTreeMap<&str, Vec<&str>>| {
            let mut reached: BTreeSet<String> = BTreeSet::new();
            let mut open: Vec<&str> = subjects.iter().map(String::as_str).collect();
            while let Some(at) = open.pop() {
                if reached.insert(at.to_owned()) {
                    open.extend(ways.get(at).into_iter().flatten());
                }
            }
            reached
        };
        let (after, before) = (reach(&forward), reach(&backward));
        // An edge from one side to the other would lead around the subject.
        let both = |from: &String, to: &String| {
            (after.contains(from) && after.contains(to)) || (before.contains(from) && before.contains(to))
        };
        let edges = self.edges.iter().filter(|(from, to, _)| both(from, to)).cloned().collect();
        let mut nodes = self.nodes;
        nodes.retain(|id, _| after.contains(id) || before.contains(id));
        for (_, node) in nodes.iter_mut().filter(|(id, _)| subjects.contains(*id)) {
            node.subject = true;
        }
        Self { nodes, edges }
    }

    /// For people: what there is of each kind, in the order in which one comes of the other, with what each came from.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for kind in Kind::ALL {
            let nodes: Vec<_> = self.nodes.iter().filter(|(_, node)| node.kind == kind).collect();
            if nodes.is_empty() {
                continue;
            }
            text.push_str(&format!("{} ({})\n", kind.heading(), nodes.len()));
            for (id, Node { name, detail, subject, .. }) in nodes {
                let mark = if *subject { "*" } else { " " };
                text.push_str(&format!("{mark} {name}{}{detail}\n", if detail.is_empty() { "" } else { "  " }));
                text.push_str(&self.origins(id));
            }
        }
        text
    }

    /// What a node came from, a few of them by name.
    fn origins(&self, id: &str) -> String {
        const NAMED: usize = 4;
        let mut by_label: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (from, _, label) in self.edges.iter().filter(|(_, to, _)| to == id) {
            let name = self.nodes.get(from).map_or(from.as_str(), |node| node.name.as_str());
            by_label.entry(label).or_default().push(name);
        }
        let line = |(label, names): (&str, Vec<&str>)| {
            let more = names.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("    <- {label}: {}{more}\n", names[..names.len().min(NAMED)].join(", "))
        };
        by_label.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two posts, of which one trains a model and both are behind an answer.
    fn graph() -> Graph {
        let mut graph = Graph::default();
        for (id, kind) in [
            ("p1", Kind::Post),
            ("p2", Kind::Post),
            ("c1", Kind::Chunk),
            ("s", Kind::TrainingSet),
            ("ada@v1", Kind::Model),
            ("r", Kind::Release),
            ("a", Kind::Answer),
            ("b", Kind::Answer),
        ] {
            graph.node(id, kind, id, "");
        }
        for (from, to, label) in [
            ("p1", "s", "trains"),
            ("p2", "s", "tests"),
            ("p2", "c1", "cut into"),
            ("c1", "a", "passage 1"),
            ("s", "ada@v1", "trained on"),
            ("ada@v1", "r", "released as"),
            ("r", "a", "answered"),
        ] {
            graph.edge(from, to, label);
        }
        graph
    }

    fn ids(graph: &Graph) -> Vec<&str> {
        graph.nodes.keys().map(String::as_str).collect()
    }

    #[test]
    fn lineage_goes_both_ways_and_no_further() {
        let forward = graph().around(&BTreeSet::from(["p1".to_owned()]));
        assert_eq!(ids(&forward), ["a", "ada@v1", "p1", "r", "s"]);
        let back = graph().around(&BTreeSet::from(["a".to_owned()]));
        assert_eq!(ids(&back), ["a", "ada@v1", "c1", "p1", "p2", "r", "s"]);
        let middle = graph().around(&BTreeSet::from(["r".to_owned()]));
        assert_eq!(ids(&middle), ["a", "ada@v1", "p1", "p2", "r", "s"]);
        assert!(!middle.edges.iter().any(|(from, _, _)| from == "c1"));
        assert!(middle.nodes["r"].subject && !middle.nodes["a"].subject);
    }

    #[test]
    fn a_model_learnt_from_what_trained_it_and_not_from_what_tested_it() {
        let graph = graph();
        let learnt = |post| super::super::learnt_from(&graph, post);
        assert_eq!(learnt("p1").iter().map(ToString::to_string).collect::<Vec<_>>(), ["ada@v1"]);
        assert!(learnt("p2").is_empty());
    }

    #[test]
    fn the_text_names_what_each_came_from() {
        let text = graph().around(&BTreeSet::from(["a".to_owned()])).to_text();
        assert!(text.contains("* a\n    <- answered: r\n    <- passage 1: c1\n"), "{text}");
        assert!(text.starts_with("posts (2)\n"), "{text}");
    }
}
