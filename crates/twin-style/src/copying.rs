//! How much of a text stands word for word in known texts, outside quotation marks.
//!
//! New posts of a real author share hardly anything with their old ones: per 500 words, 95% have a longest common run of at
//! most 11 words and share at most 1.4% of their 8-grams. What lies far above that was copied. Paragraphs that stand in
//! three or more of the known texts are no part of this: whoever repeats a signature copies nothing.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use self::suffixes::SuffixArray;
use crate::text::{paragraphs, prose, prose_with_quotes, without_boilerplate, word_count, words};

mod suffixes;

/// The length of the word n-grams whose share is taken.
const GRAM: usize = 8;

/// The share of 8-grams above which a text counts as copied: the 99th percentile of real new posts.
pub const MAX_SHARE: f64 = 0.03;

/// The longest common run, in words, from which on a text counts as copied: above the 99th percentile of real new posts,
/// which is 15.
pub const MAX_RUN: usize = 16;

/// The share of word pairs above which a text is stitched together from known ones. Of real new posts' pairs .25 to .69
/// stand in the same author's old posts, however many of those there are; of shuffled sentences and of Markov chains all do.
pub const MAX_PAIRS: f64 = 0.85;

/// What of a text was found in the known texts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CopyReport {
    /// The share of the text's 8-word sequences that stand in a known text, 0 to 1.
    pub share: f64,
    /// The longest sequence of words that stands in a known text, in words. Single words are no sequence.
    pub longest_run: usize,
    /// That sequence, in lower case and without punctuation.
    pub longest_text: String,
    /// The index of the known text it stands in.
    pub source: Option<usize>,
    /// The share of the text's pairs of neighbouring words that stand in a known text, 0 to 1.
    #[serde(default)]
    pub pairs_share: f64,
    /// The share of the text's words that are quoted, in quotation marks or block quotes. They count neither as copied nor
    /// as written, so a text that is all quotation shows here.
    #[serde(default)]
    pub quoted_share: f64,
    /// The known texts that have an 8-word sequence of the text, one for each place where such sequences begin to agree.
    #[serde(default)]
    pub sources: Vec<usize>,
}

impl CopyReport {
    /// Whether the text is copied rather than new.
    pub fn is_copied(&self) -> bool {
        self.share > MAX_SHARE || self.longest_run >= MAX_RUN
    }

    /// Whether the text is put together from pieces of known texts, be they two words long. Only for texts of a few hundred
    /// words: a short one may have nothing but common pairs.
    pub fn is_stitched(&self) -> bool {
        self.pairs_share > MAX_PAIRS
    }
}

/// Known texts, prepared for finding copies of them.
#[derive(Debug)]
pub struct CopyIndex {
    ids: HashMap<String, u32>,
    suffixes: SuffixArray,
}

impl CopyIndex {
    /// An index of Markdown texts, block quotes included and boilerplate left out.
    pub fn new(known: &[&str]) -> Self {
        let mut ids = HashMap::new();
        let mut number = |word: String| {
            let next = ids.len() as u32;
            *ids.entry(word).or_insert(next)
        };
        let proses: Vec<String> = known.iter().map(|text| prose_with_quotes(text)).collect();
        let proses = without_boilerplate(&proses);
        let texts: Vec<Vec<u32>> = proses.iter().map(|prose| words(prose).map(&mut number).collect()).collect();
        Self { suffixes: SuffixArray::new(&texts), ids }
    }

    /// What of a Markdown text stands in the known texts.
    pub fn report(&self, text: &str) -> CopyReport {
        self.find(&prose(text), word_count(&prose_with_quotes(text)))
    }

    /// The same for prose, which has no block quotes.
    pub fn report_prose(&self, prose: &str) -> CopyReport {
        self.find(prose, word_count(prose))
    }

    /// The longest runs of eight words and more of a Markdown text that stand in the known texts, outside quotations, in the
    /// text's order, in lower case and without punctuation.
    pub fn copied_runs(&self, text: &str) -> Vec<String> {
        let mut runs = Vec::new();
        for stretch in unquoted(&prose(text)) {
            let ids: Vec<Option<u32>> = stretch.iter().map(|word| self.ids.get(word).copied()).collect();
            let mut start = 0;
            while start < ids.len() {
                let (run, _) = self.suffixes.longest_prefix(&ids[start..]);
                if run >= GRAM {
                    runs.push(stretch[start..start + run].join(" "));
                }
                start += if run >= GRAM { run } else { 1 };
            }
        }
        runs
    }

    /// Looks for prose that is what is left of `all` words when block quotes are gone.
    fn find(&self, prose: &str, all: usize) -> CopyReport {
        let stretches = unquoted(prose);
        let written: usize = stretches.iter().map(Vec::len).sum();
        let mut report = CopyReport {
            quoted_share: 1.0 - if all == 0 { 1.0 } else { written as f64 / all as f64 },
            ..CopyReport::default()
        };
        let of_length =
            |length: usize| stretches.iter().map(|one| (one.len() + 1).saturating_sub(length)).sum::<usize>();
        let (mut copied, mut pairs) = (0, 0);
        let mut sources = BTreeSet::new();
        for stretch in &stretches {
            let found = self.search(stretch, &mut report, &mut sources);
            (copied, pairs) = (copied + found.0, pairs + found.1);
        }
        report.share = copied as f64 / of_length(GRAM).max(1) as f64;
        report.pairs_share = pairs as f64 / of_length(2).max(1) as f64;
        report.sources = sources.into_iter().collect();
        report
    }

    /// Looks for one stretch of words, notes the longest run and returns the numbers of copied 8-grams and pairs.
    fn search(&self, stretch: &[String], report: &mut CopyReport, sources: &mut BTreeSet<usize>) -> (usize, usize) {
        let ids: Vec<Option<u32>> = stretch.iter().map(|word| self.ids.get(word).copied()).collect();
        let (mut copied, mut pairs) = (0, 0);
        let mut before = 0;
        for start in 0..ids.len() {
            let (run, source) = self.suffixes.longest_prefix(&ids[start..]);
            copied += usize::from(run >= GRAM);
            pairs += usize::from(run >= 2);
            // A run that only goes on from the one before it is the same passage.
            if run >= GRAM && run >= before {
                sources.extend(source);
            }
            before = run;
            if run > report.longest_run.max(1) {
                report.longest_run = run;
                report.longest_text = stretch[start..start + run].join(" ");
                report.source = source;
            }
        }
        (copied, pairs)
    }
}

/// How many words two texts have in common from their beginnings on, case and punctuation apart.
pub fn words_in_common(a: &str, b: &str) -> usize {
    words(a).zip(words(b)).take_while(|(a, b)| a == b).count()
}

/// The words of prose in stretches, broken where something is quoted.
fn unquoted(prose: &str) -> Vec<Vec<String>> {
    let mut stretches = vec![Vec::new()];
    for paragraph in paragraphs(prose) {
        let mut rest = paragraph;
        while let Some((before, _, after)) = split_at_quotation(rest) {
            add_words(&mut stretches, before);
            stretches.push(Vec::new());
            rest = after;
        }
        add_words(&mut stretches, rest);
    }
    stretches
}

fn add_words(stretches: &mut [Vec<String>], text: &str) {
    if let Some(last) = stretches.last_mut() {
        last.extend(words(text));
    }
}

/// A paragraph before, inside and after its first quotation. A mark that is never closed quotes nothing, and one after a
/// letter or digit (`22"`) opens nothing.
fn split_at_quotation(text: &str) -> Option<(&str, &str, &str)> {
    let opens = |at: &usize| {
        let before = text[..*at].chars().next_back();
        let after = text[at + 1..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && after.is_some_and(|next| !next.is_whitespace())
    };
    let open = text.match_indices('"').map(|(at, _)| at).find(opens)?;
    let close = open + 1 + text[open + 1..].find('"')?;
    Some((&text[..open], &text[open + 1..close], &text[close + 1..]))
}

#[cfg(test)]
mod tests;
