//! Character n-grams: spelling, inflection, punctuation and the edges of words, all at once.

use std::collections::HashMap;

use crate::text::prose;

pub(crate) use self::grammar::grammar_grams;
pub use self::grammar::{GrammarModel, grammar_bits_gained};
pub use self::language_model::{CharModel, bits_gained};
pub(crate) use self::language_model::{character_grams, trigrams};
pub(crate) use self::sequence_model::{Counts, Key, add};

mod grammar;
mod language_model;
mod sequence_model;

/// The length of the n-grams. At four they tell authors of one genre apart and still recur in a post (the baseline of the PAN
/// authorship verification tasks).
const LENGTH: usize = 4;

/// The character 4-grams of a text with their counts.
#[derive(Debug, Clone, PartialEq)]
pub struct NgramProfile(HashMap<[char; LENGTH], f64>);

impl NgramProfile {
    /// The profile of a Markdown text: lower case, runs of white space as one space.
    pub fn of(markdown: &str) -> Self {
        Self::of_prose(&prose(markdown))
    }

    /// The same of prose.
    pub fn of_prose(prose: &str) -> Self {
        let characters = characters(prose);
        let mut counts = HashMap::new();
        for window in characters.windows(LENGTH) {
            if let Ok(gram) = <[char; LENGTH]>::try_from(window) {
                *counts.entry(gram).or_default() += 1.0;
            }
        }
        Self(counts)
    }
}

/// The characters of prose as n-grams see them: lower case, digits left out, runs of white space as one space.
fn characters(prose: &str) -> Vec<char> {
    let mut characters = Vec::with_capacity(prose.len());
    for character in prose.chars().flat_map(char::to_lowercase).filter(|character| !character.is_numeric()) {
        match character.is_whitespace() {
            true if characters.last().is_none_or(|last| *last == ' ') => {}
            true => characters.push(' '),
            false => characters.push(character),
        }
    }
    characters
}

/// How many of the known texts have each n-gram, by which common n-grams weigh less.
#[derive(Debug, Clone)]
pub struct Weights {
    documents: f64,
    frequency: HashMap<[char; LENGTH], f64>,
}

impl Weights {
    /// The weights from known texts, which must not be the ones that are measured later.
    pub fn of(known: &[NgramProfile]) -> Self {
        let mut frequency = HashMap::new();
        for gram in known.iter().flat_map(|profile| profile.0.keys()) {
            *frequency.entry(*gram).or_default() += 1.0;
        }
        Self { documents: known.len() as f64, frequency }
    }

    /// One minus the cosine of the tf-idf vectors, from 0 (same) to 1 (nothing in common).
    pub fn distance(&self, a: &NgramProfile, b: &NgramProfile) -> f64 {
        let weight = |gram: &[char; LENGTH], count: f64| {
            let seen = self.frequency.get(gram).copied().unwrap_or(0.0);
            // Smoothed inverse document frequency, never zero, so that a text is always nearest to itself.
            (1.0 + count.ln()) * (1.0 + ((1.0 + self.documents) / (1.0 + seen)).ln())
        };
        // Summed in order of size or of the n-grams: a hash map's own order would change the last digits from run to run.
        let norm = |profile: &NgramProfile| {
            let mut squares: Vec<f64> = profile.0.iter().map(|(gram, count)| weight(gram, *count).powi(2)).collect();
            squares.sort_unstable_by(f64::total_cmp);
            squares.into_iter().sum::<f64>().sqrt()
        };
        let mut common: Vec<_> = a.0.iter().filter_map(|(gram, count)| Some((gram, count, b.0.get(gram)?))).collect();
        common.sort_unstable_by_key(|(gram, ..)| **gram);
        let dot: f64 = common.into_iter().map(|(gram, x, y)| weight(gram, *x) * weight(gram, *y)).sum();
        let norms = norm(a) * norm(b);
        if norms > 0.0 { (1.0 - dot / norms).clamp(0.0, 1.0) } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_text_is_at_nought_and_strange_text_at_one() {
        let profile = NgramProfile::of;
        let weights = Weights::of(&[profile("the cat sat on the mat"), profile("a dog lay on the rug")]);
        assert!(weights.distance(&profile("the cat sat"), &profile("the cat sat")) < 1e-9);
        assert_eq!(weights.distance(&profile("the cat sat"), &profile("xyzzy quux")), 1.0);
        assert_eq!(weights.distance(&profile(""), &profile("xyzzy quux")), 1.0);
    }

    #[test]
    fn more_in_common_is_nearer() {
        let profile = NgramProfile::of;
        let weights = Weights::of(&[profile("caulking the seam"), profile("watching the sky")]);
        let text = profile("we were caulking the garboard seam");
        assert!(
            weights.distance(&text, &profile("caulking a seam")) < weights.distance(&text, &profile("watching a sky"))
        );
    }
}
