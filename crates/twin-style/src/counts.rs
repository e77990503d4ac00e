//! Texts as counts: all that the measures of likeness look at. Text that is known by its counts alone can be compared with,
//! but not read.

use std::collections::HashMap;

use crate::function_words;
use crate::ngrams::{Counts, Key, add, character_grams, grammar_grams};
use crate::text::{Unit, words};

/// The words and marks of a unit of prose.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct WordCounts {
    /// All words, those that are not counted below included.
    pub(crate) total: u32,
    pub(crate) words: HashMap<String, u32>,
    /// In the order of [`function_words`].
    pub(crate) marks: Vec<u32>,
}

impl WordCounts {
    pub(crate) fn of(prose: &str) -> Self {
        let mut counts = Self { marks: function_words::mark_counts(prose), ..Self::default() };
        for word in words(prose) {
            *counts.words.entry(word).or_default() += 1;
            counts.total += 1;
        }
        counts
    }

    /// How often a word occurs.
    pub(crate) fn of_word(&self, word: &str) -> u32 {
        self.words.get(word).copied().unwrap_or(0)
    }
}

/// A unit of prose that is measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct CountedUnit {
    pub(crate) words: WordCounts,
    pub(crate) characters: Vec<(Key, u32)>,
    pub(crate) grammar: Vec<(Key, u32)>,
    /// What it is resampled with: units of one post vary together.
    pub(crate) post: usize,
}

impl CountedUnit {
    pub(crate) fn of(prose: &str, post: usize) -> Self {
        Self { words: WordCounts::of(prose), characters: character_grams(prose), grammar: grammar_grams(prose), post }
    }
}

/// An author's known text.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct CountedText {
    pub(crate) units: Vec<WordCounts>,
    pub(crate) characters: Counts,
    pub(crate) grammar: Counts,
}

impl CountedText {
    pub(crate) fn of(units: &[Unit]) -> Self {
        let mut text = Self::default();
        for unit in units {
            text.units.push(WordCounts::of(&unit.text));
            add(&mut text.characters, &character_grams(&unit.text));
            add(&mut text.grammar, &grammar_grams(&unit.text));
        }
        text
    }

    pub(crate) fn words(&self) -> usize {
        self.units.iter().map(|unit| unit.total as usize).sum()
    }
}

/// An author in numbers: known text, and newer units to try a ruler on.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct CountedAuthor {
    pub(crate) known: CountedText,
    pub(crate) held_out: Vec<CountedUnit>,
}
