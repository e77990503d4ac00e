//! A character n-gram language model. The author's own model against one of other people says whose text it is better than
//! any distance does on posts; on copied text it says so far too loudly, hence the copy gate.

use super::characters;
use super::sequence_model::{Counts, Key, SequenceModel, add, grams};

/// The longest n-grams: about a word, hardly ever a phrase.
const ORDER: usize = 5;

/// The probability of a character before anything is known of it. Only characters that no known text has get it alone.
const UNIFORM: f64 = 1.0 / 4096.0;

/// The weight of the author's own model in a likelihood ratio; the rest is other people's. Of .2, .5, .8 and 1 it is the
/// best for characters and for grammar, on technical posts and on essays.
pub(super) const OWN_SHARE: f64 = 0.8;

/// A character 5-gram model with Witten-Bell smoothing.
#[derive(Debug, Clone)]
pub struct CharModel(SequenceModel);

impl CharModel {
    /// A model of prose; texts do not run into each other.
    pub fn fit<T: AsRef<str>>(proses: &[T]) -> Self {
        let mut counts = Counts::default();
        proses.iter().for_each(|prose| add(&mut counts, &character_grams(prose.as_ref())));
        Self::of(&counts)
    }

    pub(crate) fn of(counts: &Counts) -> Self {
        Self(SequenceModel::new(counts, ORDER, UNIFORM))
    }

    /// The mean number of bits that a character of prose takes under the model. Zero for a text without characters.
    pub fn bits_per_character(&self, prose: &str) -> f64 {
        self.0.bits(&character_grams(prose))
    }

    /// [`bits_gained`] of a text that is known by its n-grams alone.
    pub(crate) fn bits_gained(&self, others: &Self, grams: &[(Key, u32)]) -> f64 {
        self.0.bits_gained(&others.0, OWN_SHARE, grams)
    }
}

impl Default for CharModel {
    fn default() -> Self {
        Self::of(&Counts::default())
    }
}

/// The log-likelihood ratio in bits per character: how much better a text is predicted by the author's model, mixed with one
/// part in five of other people's, than by other people's alone.
pub fn bits_gained(author: &CharModel, others: &CharModel, prose: &str) -> f64 {
    author.bits_gained(others, &character_grams(prose))
}

/// The character n-grams that a model is made of.
pub(crate) fn character_grams(prose: &str) -> Vec<(Key, u32)> {
    grams(&characters(prose).into_iter().map(u32::from).collect::<Vec<_>>(), ORDER)
}

/// The character trigrams of prose with their counts, in the order of their keys.
pub(crate) fn trigrams(prose: &str) -> Vec<(Key, u32)> {
    grams(&characters(prose).into_iter().map(u32::from).collect::<Vec<_>>(), 3)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sequence_model::windows;
    use super::*;

    /// The probability of the last character of a text after the others.
    fn probability(model: &CharModel, text: &str) -> f64 {
        let symbols: Vec<u32> = text.chars().map(u32::from).collect();
        model.0.probability(windows(&symbols, ORDER).last().unwrap())
    }

    #[test]
    fn known_probabilities() {
        let model = CharModel::fit(&["ab"]);
        // Without context: two characters seen, two different ones. P(a) = (1 + 2/4096) / (2 + 2).
        let first = (1.0 + 2.0 * UNIFORM) / 4.0;
        assert!((probability(&model, "a") - first).abs() < 1e-15);
        // After `a` came one character, `b`: P(b | a) = (1 + P(b)) / (1 + 1), and P(b) = P(a).
        assert!((probability(&model, "ab") - (1.0 + first) / 2.0).abs() < 1e-15);
        // After an unknown character the shortest context decides.
        assert!((probability(&model, "xb") - first).abs() < 1e-15);
        assert_eq!(model.bits_per_character(""), 0.0);
        assert!((CharModel::default().bits_per_character("xyz") - 12.0).abs() < 1e-12);
    }

    #[test]
    fn own_text_gains_and_strange_text_loses() {
        let author = CharModel::fit(&["don't cut it. don't wait. it's done."]);
        let others = CharModel::fit(&["the which of whom we had been hearing, perhaps."]);
        assert!(bits_gained(&author, &others, "it's done. don't cut it") > 1.0);
        assert!(bits_gained(&author, &others, "perhaps which of whom") < -1.0);
        // However strange, a character costs no more than the part of the others in the mixture does.
        assert!(bits_gained(&author, &others, "perhaps which of whom") > (1.0 - OWN_SHARE).log2());
        assert_eq!(bits_gained(&author, &others, ""), 0.0);
    }

    proptest! {
        #[test]
        fn probabilities_of_all_characters_sum_to_one(text in "[a-d ]{0,40}", context in "[a-e]{0,6}") {
            let model = CharModel::fit(&[&text]);
            let of = |next: char| probability(&model, &format!("{context}{next}"));
            // Every character that was never seen has the probability of `?`.
            let sum = "abcd ".chars().map(of).sum::<f64>() + (4096.0 - 5.0) * of('?');
            prop_assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        }
    }
}
