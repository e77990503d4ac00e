//! Boilerplate: paragraphs that stand in many documents of a source, such as a footer or a call to subscribe. They are
//! neither knowledge nor voice, and repeated text is what models memorise first (Lee et al., ACL 2022).

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::ops::Range;

use super::{markdown, normal};

/// A paragraph in fewer documents is a habit of the author's.
const LEAST_DOCUMENTS: usize = 3;
/// The share of a source's documents that a paragraph must stand in.
const LEAST_SHARE: f64 = 0.2;
/// Shorter paragraphs ("That is:", "Thanks for reading!") are turns of phrase, and voice.
const LEAST_WORDS: usize = 5;

/// A paragraph that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Boilerplate {
    /// Its first words.
    pub(crate) start: String,
    /// How many documents it stood in.
    pub(crate) documents: usize,
}

/// In how many documents of a source each paragraph stands: a number for each paragraph, no text.
#[derive(Debug, Default)]
pub(crate) struct Census {
    documents: usize,
    paragraphs: HashMap<u64, u32>,
}

impl Census {
    /// Counts the paragraphs of one more document.
    pub(crate) fn count(&mut self, text: &str) {
        self.documents += 1;
        for paragraph in paragraphs(text).into_iter().map(|paragraph| paragraph.words).collect::<HashSet<_>>() {
            *self.paragraphs.entry(paragraph).or_default() += 1;
        }
    }

    /// The paragraphs that are boilerplate.
    pub(crate) fn finish(self) -> Recurring {
        let least = LEAST_DOCUMENTS.max((self.documents as f64 * LEAST_SHARE).ceil() as usize);
        let recurring = self.paragraphs.into_iter().map(|(words, count)| (words, count as usize));
        let documents = recurring.filter(|(_, count)| *count >= least).collect();
        Recurring { documents, removed: HashMap::new() }
    }
}

/// The boilerplate of a source.
#[derive(Debug)]
pub(crate) struct Recurring {
    /// How many documents each paragraph stands in.
    documents: HashMap<u64, usize>,
    removed: HashMap<u64, Boilerplate>,
}

impl Recurring {
    /// Removes it from a text.
    pub(crate) fn remove(&mut self, text: &mut String) {
        // From the end, so that the ranges before stay right.
        for paragraph in paragraphs(text).into_iter().rev() {
            if let Some(documents) = self.documents.get(&paragraph.words).copied() {
                let start = || text[paragraph.range.clone()].split_whitespace().take(12).collect::<Vec<_>>().join(" ");
                self.removed.entry(paragraph.words).or_insert_with(|| Boilerplate { start: start(), documents });
                text.replace_range(paragraph.range, "");
            }
        }
        let ends = text.trim_end().len();
        text.truncate(ends);
        text.push('\n');
    }

    /// What was removed, most frequent first.
    pub(crate) fn removed(self) -> Vec<Boilerplate> {
        let mut removed: Vec<Boilerplate> = self.removed.into_values().collect();
        removed.sort_by(|a, b| b.documents.cmp(&a.documents).then_with(|| a.start.cmp(&b.start)));
        removed
    }
}

struct Paragraph {
    /// The paragraph and the empty lines after it.
    range: Range<usize>,
    /// The hash of its words, by which it is recognised.
    words: u64,
}

/// The paragraphs between empty lines that may be boilerplate: not headings, not code, not too short.
fn paragraphs(text: &str) -> Vec<Paragraph> {
    let code = markdown::code_ranges(text);
    let mut found = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let end = text[start..].find("\n\n").map_or(text.len(), |offset| start + offset);
        let next = end + text[end..].bytes().take_while(|byte| *byte == b'\n').count();
        let paragraph = &text[start..end];
        // Code spans are part of a sentence; a paragraph that begins in code is in a block.
        let at = code.partition_point(|range| range.end <= start);
        let in_code = code.get(at).is_some_and(|range| range.start <= start || range.end > end);
        let words = normal::words(paragraph);
        if !in_code && !paragraph.starts_with('#') && words.len() >= LEAST_WORDS {
            found.push(Paragraph { range: start..next, words: hash(&words) });
        }
        start = next.max(start + 1);
        while !text.is_char_boundary(start) {
            start += 1;
        }
    }
    found
}

fn hash(words: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    words.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(texts: &[String]) -> (Vec<String>, Vec<Boilerplate>) {
        let mut texts = texts.to_vec();
        let mut census = Census::default();
        texts.iter().for_each(|text| census.count(text));
        let mut recurring = census.finish();
        texts.iter_mut().for_each(|text| recurring.remove(text));
        (texts, recurring.removed())
    }

    #[test]
    fn a_footer_goes_and_habits_stay() {
        let post = |n: usize| {
            format!(
                "## What is this about, then?\n\nThat is:\n\nPost number {n} is about é.\n\nSubscribe to my *newsletter* and never miss a post!\n"
            )
        };
        let (texts, removed) = run(&(0..4).map(post).collect::<Vec<_>>());
        assert_eq!(texts[1], "## What is this about, then?\n\nThat is:\n\nPost number 1 is about é.\n");
        assert_eq!(
            removed,
            [Boilerplate { start: "Subscribe to my *newsletter* and never miss a post!".to_owned(), documents: 4 }]
        );
    }

    #[test]
    fn what_stands_in_few_documents_stays() {
        let footer = "\n\nSubscribe to my newsletter and never miss one!\n";
        let with = |n: usize| format!("Text {n}.{}", if n < 3 { footer } else { "\n" });
        let texts: Vec<String> = (0..16).map(with).collect();
        assert_eq!(run(&texts).0, texts, "3 of 16 is less than a fifth");
        assert_eq!(run(&texts[..2]).0, texts[..2], "two documents are too few");
    }

    #[test]
    fn code_is_never_boilerplate() {
        let texts: Vec<String> = (0..4)
            .map(|n| format!("Text {n}.\n\n```\nuse a very long preamble here;\n\nuse it again and again here;\n```\n"))
            .collect();
        assert_eq!(run(&texts).0, texts);
    }
}
