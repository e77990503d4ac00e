//! Overlap with one reference text: ROUGE and chrF. They reward the topic and copying, so they say whether an answer holds
//! what a reference holds, never whether it sounds like anybody.

use std::collections::HashMap;
use std::hash::Hash;

use serde::{Deserialize, Serialize};

/// Precision, recall and their harmonic mean, 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Rouge {
    pub precision: f64,
    pub recall: f64,
    pub f: f64,
}

impl Rouge {
    fn of(matches: usize, hypothesis: usize, reference: usize) -> Self {
        let share = |whole: usize| if whole == 0 { 0.0 } else { matches as f64 / whole as f64 };
        let (precision, recall) = (share(hypothesis), share(reference));
        let sum = precision + recall;
        Self { precision, recall, f: if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 } }
    }
}

/// ROUGE-N (Lin, 2004) as in `rouge-score` without stemming.
pub fn rouge_n(reference: &str, hypothesis: &str, n: usize) -> Rouge {
    let n = n.max(1);
    let (reference, hypothesis) = (tokens(reference), tokens(hypothesis));
    let grams = |tokens: &[String]| (tokens.len() + 1).saturating_sub(n);
    let matches = common(&counts(hypothesis.windows(n)), &counts(reference.windows(n)));
    Rouge::of(matches, grams(&hypothesis), grams(&reference))
}

/// ROUGE-L: the longest common subsequence of the whole texts. Takes time in proportion to the product of their lengths.
pub fn rouge_l(reference: &str, hypothesis: &str) -> Rouge {
    let (reference, hypothesis) = (tokens(reference), tokens(hypothesis));
    let mut row = vec![0_usize; hypothesis.len() + 1];
    for token in &reference {
        let mut diagonal = 0;
        for (column, other) in hypothesis.iter().enumerate() {
            let above = row[column + 1];
            row[column + 1] = if token == other { diagonal + 1 } else { above.max(row[column]) };
            diagonal = above;
        }
    }
    Rouge::of(row[hypothesis.len()], hypothesis.len(), reference.len())
}

/// chrF2 (Popović, 2015), 0 to 100, as in sacrebleu: character 1- to 6-grams without white space, recall twice as important.
pub fn chrf2(reference: &str, hypothesis: &str) -> f64 {
    let characters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<Vec<char>>();
    let (reference, hypothesis) = (characters(reference), characters(hypothesis));
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
    for n in 1..=6.min(reference.len()).min(hypothesis.len()) {
        let matches = common(&counts(hypothesis.windows(n)), &counts(reference.windows(n))) as f64;
        precision += matches / (hypothesis.len() + 1 - n) as f64;
        recall += matches / (reference.len() + 1 - n) as f64;
        orders += 1.0;
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / orders, recall / orders);
    100.0 * 5.0 * precision * recall / (4.0 * precision + recall)
}

/// Runs of ASCII letters and digits in lower case; everything else separates.
fn tokens(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|token| !token.is_empty()).map(str::to_owned).collect()
}

fn counts<T: Hash + Eq>(grams: impl Iterator<Item = T>) -> HashMap<T, usize> {
    let mut counts = HashMap::new();
    for gram in grams {
        *counts.entry(gram).or_default() += 1;
    }
    counts
}

fn common<T: Hash + Eq>(a: &HashMap<T, usize>, b: &HashMap<T, usize>) -> usize {
    a.iter().map(|(gram, count)| (*count).min(b.get(gram).copied().unwrap_or(0))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_overlap() {
        // Seven words against six, five of them common; in order: the, sat, on, the, mat.
        let (reference, hypothesis) = ("The cat that sat on the mat.", "the dog sat on the mat");
        assert_eq!(rouge_n(reference, hypothesis, 1), Rouge::of(5, 6, 7));
        assert_eq!(rouge_n(reference, hypothesis, 2), Rouge::of(3, 5, 6));
        assert_eq!(rouge_l(reference, hypothesis), Rouge::of(5, 6, 7));
        assert_eq!(rouge_l(reference, "").f, 0.0);
    }

    #[test]
    fn known_chrf() {
        // `ab` against `ac`: one of two characters on either side, no pair.
        assert!((chrf2("a b", "ac") - 25.0).abs() < 1e-9);
        assert!((chrf2("same text", "same text") - 100.0).abs() < 1e-9);
        assert_eq!(chrf2("", "x"), 0.0);
    }
}
