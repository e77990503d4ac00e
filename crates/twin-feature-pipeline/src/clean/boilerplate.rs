//! Boilerplate: paragraphs that stand in many documents of a source, such as a footer or a call to subscribe. They are
//! neither knowledge nor voice, and repeated text is what models memorise first (Lee et al., ACL 2022).

use std::collections::{HashMap, HashSet};
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

/// Removes boilerplate from the texts of one source and says what was removed, most frequent first.
pub(crate) fn remove(texts: &mut [&mut String]) -> Vec<Boilerplate> {
    let paragraphs: Vec<Vec<Paragraph>> = texts.iter().map(|text| paragraphs(text)).collect();
    let mut documents: HashMap<&str, usize> = HashMap::new();
    for text in &paragraphs {
        for words in text.iter().map(|paragraph| paragraph.words.as_str()).collect::<HashSet<_>>() {
            *documents.entry(words).or_default() += 1;
        }
    }
    let least = LEAST_DOCUMENTS.max((texts.len() as f64 * LEAST_SHARE).ceil() as usize);
    documents.retain(|_, count| *count >= least);
    let mut removed: HashMap<&str, Boilerplate> = HashMap::new();
    for (text, paragraphs) in texts.iter_mut().zip(&paragraphs) {
        // From the end, so that the ranges before stay right.
        for paragraph in paragraphs.iter().rev() {
            if let Some(count) = documents.get(paragraph.words.as_str()) {
                let start = text[paragraph.range.clone()].split_whitespace().take(12).collect::<Vec<_>>().join(" ");
                removed.entry(&paragraph.words).or_insert(Boilerplate { start, documents: *count });
                text.replace_range(paragraph.range.clone(), "");
            }
        }
        let ends = text.trim_end().len();
        text.truncate(ends);
        text.push('\n');
    }
    let mut removed: Vec<Boilerplate> = removed.into_values().collect();
    removed.sort_by(|a, b| b.documents.cmp(&a.documents).then_with(|| a.start.cmp(&b.start)));
    removed
}

struct Paragraph {
    /// The paragraph and the empty lines after it.
    range: Range<usize>,
    /// Its words, by which it is recognised.
    words: String,
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
            found.push(Paragraph { range: start..next, words: words.join(" ") });
        }
        start = next.max(start + 1);
        while !text.is_char_boundary(start) {
            start += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(texts: &[String]) -> (Vec<String>, Vec<Boilerplate>) {
        let mut texts = texts.to_vec();
        let removed = remove(&mut texts.iter_mut().collect::<Vec<_>>());
        (texts, removed)
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
