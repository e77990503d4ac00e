//! Whether a text is language at all, without a model: words drawn at random pass every style and copy measure, and one
//! sentence repeated passes some. How often a text repeats itself, and how many of its word triples anybody ever wrote.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::text::words;

/// The share of different 4-grams below which a text repeats itself. Posts of real authors have .98 and more.
pub const MIN_DISTINCT_4: f64 = 0.9;

/// How far below the lowest of the author's units a text may lie: a dozen units do not show the lowest there are. Random words
/// have a twentieth of it.
const FLOOR_SHARE: f64 = 0.75;

/// What a text shows of fluency. Only to be compared with the author's own text of about the same length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Fluency {
    /// Different words over all words, and the same for pairs, triples and fours.
    pub distinct_1: f64,
    pub distinct_2: f64,
    pub distinct_3: f64,
    pub distinct_4: f64,
    /// The share of word triples that stand in a pool of other people's texts.
    pub attested_trigrams: f64,
}

/// Different n-grams of words over all of them (Li et al., 2016), 1 for a text too short to have any.
pub fn distinct(prose: &str, n: usize) -> f64 {
    let words: Vec<String> = words(prose).collect();
    let all = (words.len() + 1).saturating_sub(n.max(1));
    if all == 0 { 1.0 } else { words.windows(n.max(1)).collect::<HashSet<_>>().len() as f64 / all as f64 }
}

/// The word triples of many texts.
#[derive(Debug, Clone, Default)]
pub struct TrigramPool {
    ids: HashMap<String, u32>,
    triples: HashSet<[u32; 3]>,
}

impl TrigramPool {
    /// The triples of prose, which must be neither the author's nor what is measured.
    pub fn new<T: AsRef<str>>(proses: &[T]) -> Self {
        let mut pool = Self::default();
        proses.iter().for_each(|prose| pool.add(prose.as_ref()));
        pool
    }

    /// Adds the triples of a piece of prose.
    pub fn add(&mut self, prose: &str) {
        let mut last = [None; 2];
        for word in words(prose) {
            let next = self.ids.len() as u32;
            let id = *self.ids.entry(word).or_insert(next);
            if let [Some(first), Some(second)] = last {
                self.triples.insert([first, second, id]);
            }
            last = [last[1], Some(id)];
        }
    }

    /// The share of the word triples of prose that stand in the pool, 0 for a text without any.
    pub fn attested(&self, prose: &str) -> f64 {
        let ids: Vec<Option<u32>> = words(prose).map(|word| self.ids.get(&word).copied()).collect();
        let is_attested = |triple: &&[Option<u32>]| match triple {
            [Some(a), Some(b), Some(c)] => self.triples.contains(&[*a, *b, *c]),
            _ => false,
        };
        let all = ids.len().saturating_sub(2);
        if all == 0 { 0.0 } else { ids.windows(3).filter(is_attested).count() as f64 / all as f64 }
    }

    /// All figures of a piece of prose.
    pub fn fluency(&self, prose: &str) -> Fluency {
        Fluency {
            distinct_1: distinct(prose, 1),
            distinct_2: distinct(prose, 2),
            distinct_3: distinct(prose, 3),
            distinct_4: distinct(prose, 4),
            attested_trigrams: self.attested(prose),
        }
    }
}

/// The least that counts as fluent, from the author's own text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FluencyGate {
    pub min_distinct_4: f64,
    pub min_attested_trigrams: f64,
}

impl FluencyGate {
    /// A gate that the author's units of prose pass, but for the lowest one in each full hundred. The pool must not hold them.
    pub fn of<T: AsRef<str>>(pool: &TrigramPool, units: &[T]) -> Self {
        let mut attested: Vec<f64> = units.iter().map(|unit| pool.attested(unit.as_ref())).collect();
        attested.sort_by(f64::total_cmp);
        let floor = attested.get(attested.len() / 100).copied().unwrap_or(0.0);
        Self { min_distinct_4: MIN_DISTINCT_4, min_attested_trigrams: floor * FLOOR_SHARE }
    }

    /// Whether a text of about the length of those units is fluent.
    pub fn passes(&self, fluency: &Fluency) -> bool {
        fluency.distinct_4 >= self.min_distinct_4 && fluency.attested_trigrams >= self.min_attested_trigrams
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_shares() {
        assert_eq!(distinct("a b a b a", 1), 2.0 / 5.0);
        assert_eq!(distinct("a b a b a", 2), 2.0 / 4.0);
        assert_eq!(distinct("a", 4), 1.0);
        let pool = TrigramPool::new(&["one two three four", "five six seven"]);
        // Texts do not run into each other: `three four five` is in none.
        assert_eq!(pool.attested("One two three. Four five six seven"), 3.0 / 5.0);
        assert_eq!(pool.attested("one two"), 0.0);
    }

    #[test]
    fn salad_and_loops_do_not_pass() {
        let pool = TrigramPool::new(&["the cat sat on the mat and the dog lay on the rug by the door of the house"]);
        let gate = FluencyGate::of(&pool, &["the dog lay on the mat and sat", "a cat sat on the rug and slept"]);
        assert!(gate.passes(&pool.fluency("the cat sat on the rug")));
        assert!(!gate.passes(&pool.fluency("rug the on cat mat of door sat")));
        assert!(!gate.passes(&pool.fluency(&"the cat sat on the mat and ".repeat(20))));
    }
}
