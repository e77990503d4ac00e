//! How much of a text stands word for word in known texts.
//!
//! New posts of a real author share hardly anything with their old ones: per 500 words, 95% have a longest common run of at
//! most 11 words and share at most 1.4% of their 8-grams. What lies far above that was copied.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::text::{prose, words};

/// The length of the word n-grams whose share is taken.
const GRAM: usize = 8;

/// The share of 8-grams above which a text counts as copied: the 99th percentile of real new posts.
pub const MAX_SHARE: f64 = 0.03;

/// The longest common run, in words, below which a text does not count as copied: above the 99th percentile of real new
/// posts, which is 15.
pub const MAX_RUN: usize = 16;

/// What of a text was found in the known texts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CopyReport {
    /// The share of the text's 8-word sequences that stand in a known text, 0 to 1.
    pub share: f64,
    /// The longest sequence of words that stands in a known text, in words.
    pub longest_run: usize,
    /// That sequence, in lower case and without punctuation.
    pub longest_text: String,
    /// The index of the known text it stands in.
    pub source: Option<usize>,
}

impl CopyReport {
    /// Whether the text is copied rather than new.
    pub fn is_copied(&self) -> bool {
        self.share > MAX_SHARE || self.longest_run >= MAX_RUN
    }
}

/// Known texts, prepared for finding copies of them.
#[derive(Debug)]
pub struct CopyIndex {
    ids: HashMap<String, u32>,
    /// The words of each text as numbers.
    texts: Vec<Vec<u32>>,
    /// Where each pair of words stands: text and position. Pairs are rare enough to be candidates and short enough for any
    /// run worth reporting.
    pairs: HashMap<(u32, u32), Vec<(u32, u32)>>,
}

impl CopyIndex {
    /// An index of Markdown texts.
    pub fn new(known: &[&str]) -> Self {
        let mut ids = HashMap::new();
        let mut number = |word: String| {
            let next = ids.len() as u32;
            *ids.entry(word).or_insert(next)
        };
        let texts: Vec<Vec<u32>> = known.iter().map(|text| words(&prose(text)).map(&mut number).collect()).collect();
        let mut pairs: HashMap<(u32, u32), Vec<(u32, u32)>> = HashMap::new();
        for (index, text) in texts.iter().enumerate() {
            for (position, pair) in text.windows(2).enumerate() {
                pairs.entry((pair[0], pair[1])).or_default().push((index as u32, position as u32));
            }
        }
        Self { ids, texts, pairs }
    }

    /// What of a Markdown text stands in the known texts.
    pub fn report(&self, text: &str) -> CopyReport {
        let spoken: Vec<String> = words(&prose(text)).collect();
        // A word that no known text has breaks every run.
        let text: Vec<Option<u32>> = spoken.iter().map(|word| self.ids.get(word).copied()).collect();
        let mut copied = 0;
        let mut longest = CopyReport::default();
        for start in 0..text.len() {
            let (run, source) = self.longest_from(&text[start..]);
            copied += usize::from(run >= GRAM);
            if run > longest.longest_run {
                let longest_text = spoken[start..start + run].join(" ");
                longest = CopyReport { share: 0.0, longest_run: run, longest_text, source };
            }
        }
        let grams = (text.len() + 1).saturating_sub(GRAM).max(1);
        CopyReport { share: copied as f64 / grams as f64, ..longest }
    }

    /// The longest beginning of `text` that stands in a known text, and in which.
    fn longest_from(&self, text: &[Option<u32>]) -> (usize, Option<usize>) {
        let [Some(first), Some(second), ..] = text else { return (0, None) };
        let places = self.pairs.get(&(*first, *second)).map_or(&[][..], Vec::as_slice);
        let run = |(index, position): &(u32, u32)| {
            let known = &self.texts[*index as usize][*position as usize..];
            let length = text.iter().zip(known).take_while(|(a, b)| **a == Some(**b)).count();
            (length, Some(*index as usize))
        };
        places.iter().map(run).max_by_key(|(length, _)| *length).unwrap_or((0, None))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_copied_passage_is_found_and_named() {
        let index =
            CopyIndex::new(&["One two three.", "The old putty was whiting, linseed oil and red lead, she said."]);
        let report =
            index.report("He wrote: the old putty was whiting, linseed oil and red lead. Then more words came.");
        assert_eq!(report.longest_run, 10);
        assert_eq!(report.longest_text, "the old putty was whiting linseed oil and red lead");
        assert_eq!(report.source, Some(1));
        assert!((report.share - 3.0 / 9.0).abs() < 1e-12);
        assert!(report.is_copied());
    }

    #[test]
    fn new_text_is_new() {
        let report = CopyIndex::new(&["the cat sat on the mat"]).report("a dog lay on a rug");
        assert_eq!((report.share, report.longest_run), (0.0, 0));
        assert!(!report.is_copied());
        assert_eq!(CopyIndex::new(&[]).report(""), CopyReport::default());
    }

    proptest! {
        #[test]
        fn agrees_with_comparing_everything(known in "[ab]{1,2}( [abc]{1,2}){0,30}", text in "[ab]{1,2}( [abc]{1,2}){0,30}") {
            let (k, t): (Vec<&str>, Vec<&str>) = (known.split(' ').collect(), text.split(' ').collect());
            let mut longest = 0;
            for i in 0..t.len() {
                for j in 0..k.len() {
                    longest = longest.max(t[i..].iter().zip(&k[j..]).take_while(|(a, b)| a == b).count());
                }
            }
            // Single words are no runs.
            let expected = if longest < 2 { 0 } else { longest };
            prop_assert_eq!(CopyIndex::new(&[&known]).report(&text).longest_run, expected);
        }
    }
}
