//! A character n-gram language model. The author's own model against one of other people says whose text it is better than
//! any distance does on posts; on copied text it says so far too loudly, hence the copy gate.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::characters;

/// The longest n-grams: about a word, hardly ever a phrase.
const ORDER: usize = 5;

/// The probability of a character before anything is known of it. Only characters that no known text has get it alone.
const UNIFORM: f64 = 1.0 / 4096.0;

/// The bits a character takes in a key; Unicode has fewer than 2^21.
const CHARACTER_BITS: u32 = 21;

/// An n-gram of up to five characters, and its length, as one number.
type Key = u128;

/// An n-gram as such and as the context of the next character.
#[derive(Debug, Clone, Copy, Default)]
struct Gram {
    /// How often it occurs.
    count: u32,
    /// How often a character follows, and how many different ones do.
    followed: u32,
    followers: u32,
}

/// A character 5-gram model with interpolated Witten-Bell smoothing (Bell, Cleary and Witten, 1990; Chen and Goodman, 1998,
/// section 2.6): the more different characters have followed a context, the more weight the shorter context has.
#[derive(Debug, Clone, Default)]
pub struct CharModel {
    grams: Grams,
}

type Grams = HashMap<Key, Gram, BuildHasherDefault<KeyHasher>>;

impl CharModel {
    /// A model of prose; texts do not run into each other.
    pub fn fit<T: AsRef<str>>(proses: &[T]) -> Self {
        let mut grams = Grams::default();
        for prose in proses {
            let characters = characters(prose.as_ref());
            for at in 0..characters.len() {
                for length in 1..=ORDER.min(at + 1) {
                    let gram = grams.entry(key(&characters[at + 1 - length..=at])).or_default();
                    gram.count = gram.count.saturating_add(1);
                }
            }
        }
        // Contexts follow from the n-grams, of which there are far fewer than places.
        let counts: Vec<(Key, u32)> = grams.iter().map(|(key, gram)| (*key, gram.count)).collect();
        for (key, count) in counts {
            let context = grams.entry(key >> CHARACTER_BITS).or_default();
            context.followed = context.followed.saturating_add(count);
            context.followers += 1;
        }
        Self { grams }
    }

    /// The mean number of bits that a character of prose takes under the model. Zero for a text without characters.
    pub fn bits_per_character(&self, prose: &str) -> f64 {
        let characters = characters(prose);
        let bits: f64 = (0..characters.len()).map(|at| -self.probability(&characters, at).log2()).sum();
        bits / characters.len().max(1) as f64
    }

    /// The probability of the character at `at` after those before it.
    fn probability(&self, characters: &[char], at: usize) -> f64 {
        let mut probability = UNIFORM;
        for length in 1..=ORDER.min(at + 1) {
            let gram = &characters[at + 1 - length..=at];
            let Some(context) = self.grams.get(&key(&gram[..length - 1])).filter(|context| context.followed > 0) else {
                break; // Longer contexts are unknown as well.
            };
            let count = self.grams.get(&key(gram)).map_or(0, |gram| gram.count);
            let (followed, followers) = (f64::from(context.followed), f64::from(context.followers));
            probability = (f64::from(count) + followers * probability) / (followed + followers);
        }
        probability
    }
}

/// The log-likelihood ratio of two models in bits per character: how much better the author's model predicts a text than the
/// model of other people does.
pub fn bits_gained(author: &CharModel, others: &CharModel, prose: &str) -> f64 {
    others.bits_per_character(prose) - author.bits_per_character(prose)
}

/// One multiplication instead of SipHash: looking up n-grams is all the time that a model takes.
#[derive(Debug, Clone, Copy, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write_u128(&mut self, key: u128) {
        // The two halves hold different characters; the multiplier is 2^64 divided by the golden ratio.
        let folded = (key as u64) ^ ((key >> 64) as u64).rotate_left(32);
        self.0 = (self.0 ^ folded).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u128(u128::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        // The high bits are the good ones and a hash map uses the low ones.
        self.0 ^ (self.0 >> 32)
    }
}

fn key(gram: &[char]) -> Key {
    // The leading one keeps n-grams of different lengths apart.
    gram.iter().fold(1, |key, character| key << CHARACTER_BITS | Key::from(*character as u32))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_probabilities() {
        let model = CharModel::fit(&["ab"]);
        // Without context: two characters seen, two different ones. P(a) = (1 + 2/4096) / (2 + 2).
        let first = (1.0 + 2.0 * UNIFORM) / 4.0;
        assert!((model.probability(&['a'], 0) - first).abs() < 1e-15);
        // After `a` came one character, `b`: P(b | a) = (1 + P(b)) / (1 + 1), and P(b) = P(a).
        assert!((model.probability(&['a', 'b'], 1) - (1.0 + first) / 2.0).abs() < 1e-15);
        // After an unknown character the shortest context decides.
        assert!((model.probability(&['x', 'b'], 1) - first).abs() < 1e-15);
        assert_eq!(model.bits_per_character(""), 0.0);
        assert!((CharModel::default().bits_per_character("xyz") - 12.0).abs() < 1e-12);
    }

    #[test]
    fn own_text_gains_and_strange_text_loses() {
        let author = CharModel::fit(&["don't cut it. don't wait. it's done."]);
        let others = CharModel::fit(&["the which of whom we had been hearing, perhaps."]);
        assert!(bits_gained(&author, &others, "it's done. don't cut it") > 1.0);
        assert!(bits_gained(&author, &others, "perhaps which of whom") < -1.0);
    }

    proptest! {
        #[test]
        fn probabilities_of_all_characters_sum_to_one(text in "[a-d ]{0,40}", context in "[a-e]{0,6}") {
            let model = CharModel::fit(&[&text]);
            let mut characters: Vec<char> = context.chars().chain(['?']).collect();
            let last = characters.len() - 1;
            let mut probability = |next| {
                characters[last] = next;
                model.probability(&characters, last)
            };
            // Every character that was never seen has the probability of `?`.
            let sum = "abcd ".chars().map(&mut probability).sum::<f64>() + (4096.0 - 5.0) * probability('?');
            prop_assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        }
    }
}
