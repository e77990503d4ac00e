//! Content words: what a question or a sentence is about, for comparing texts by their words.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::LazyLock;

use unicode_segmentation::UnicodeSegmentation;

/// Words that say nothing of the subject. Names of people are no part of it: the caller takes those out where they do not count.
const STOP_WORDS: &str = "a about after again all also am an and any are as at be because been before being between both but by can \
could did do does doing don't down during each ever every few for from further get give go goes going got had has have having he her \
here hers him his how i if in into is it its it's just know let like made make makes many may me might mine more most much must my no \
nor not now of off on once one only or other our ours out over own people really said same say says she should so some something \
such take tell than that that's the their theirs them then there these they thing things think this those through to too under until \
up upon us use used very want was way we well were what what's when where which while who whom whose why will with would write written \
wrote yes yet you your yours";

/// The content words of a text in lower case, plurals and possessives cut, numbers in digits, each once.
pub fn content_words(text: &str) -> BTreeSet<String> {
    content(text).collect()
}

/// How often a text has each of its content words.
pub fn word_counts(text: &str) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for word in content(text) {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

fn content(text: &str) -> impl Iterator<Item = String> {
    static STOP: LazyLock<HashSet<&str>> = LazyLock::new(|| STOP_WORDS.split_whitespace().collect());
    let words = text.unicode_words().map(|word| word.to_lowercase().replace('’', "'"));
    words
        .filter(|word| !STOP.contains(word.as_str()))
        .map(|word| number_word(&word).unwrap_or_else(|| stem(&word)))
        .filter(|word| !word.is_empty())
}

/// A word without the endings that change most: enough to meet its other forms, no more.
fn stem(word: &str) -> String {
    let word = word.strip_suffix("'s").unwrap_or(word);
    let endings = ["ies", "ing", "ed", "es", "s", "e", "y"];
    let cut = endings.into_iter().filter_map(|ending| word.strip_suffix(ending)).find(|stem| stem.chars().count() >= 3);
    cut.unwrap_or(word).to_owned()
}

/// The numbers of a text by value, in digits or in words: `1,400` and `1400` are one, and so are `six` and `6`.
pub fn numbers(text: &str) -> BTreeSet<String> {
    let candidates = text.split(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ',')));
    let digits = candidates.map(|number| number.trim_matches(['.', ',']).replace(',', ""));
    let words = text.unicode_words().filter_map(|word| number_word(&word.to_lowercase()));
    digits.filter(|number| !number.is_empty()).chain(words).collect()
}

/// `one` is left out: it is a pronoun more often than a count.
fn number_word(word: &str) -> Option<String> {
    const UNITS: &str = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen \
                         seventeen eighteen nineteen";
    const TENS: &str = "twenty thirty forty fifty sixty seventy eighty ninety";
    let position = |list: &str| list.split_whitespace().position(|entry| entry == word);
    let value = position(UNITS).map(|at| at + 2).or_else(|| position(TENS).map(|at| (at + 2) * 10));
    value.map(|value| value.to_string())
}

/// The words of a sentence that spelling shows to be names, in lower case and without possessives: those with a capital
/// that do not begin the sentence or something quoted in it.
pub fn names(sentence: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut begins = true;
    for word in sentence.split_word_bounds() {
        let starts_with_letter = word.chars().next().is_some_and(char::is_alphanumeric);
        if starts_with_letter {
            let capital = word.chars().next().is_some_and(char::is_uppercase);
            if capital && !begins && !is_first_person(word) {
                found.insert(bare(word));
            }
            begins = false;
        } else if word.contains(['.', '!', '?', ':', '“', '"', '‘', '*', '\n']) {
            begins = true;
        }
    }
    found
}

fn is_first_person(word: &str) -> bool {
    word == "I" || word.starts_with("I'") || word.starts_with("I’")
}

/// Every word of a text in lower case and without possessives, for looking up names.
pub fn all_words(text: &str) -> BTreeSet<String> {
    text.unicode_words().map(bare).collect()
}

fn bare(word: &str) -> String {
    let word = word.to_lowercase().replace('’', "'");
    word.strip_suffix("'s").unwrap_or(&word).to_owned()
}

/// The share of `asked` that is in `given`, 0 when nothing is asked.
pub fn share(asked: &BTreeSet<String>, given: &BTreeSet<String>) -> f32 {
    if asked.is_empty() { 0.0 } else { asked.intersection(given).count() as f32 / asked.len() as f32 }
}

/// How much each word of a question tells, by its rarity among the texts that were found for it (the weight of BM25): what a
/// boat-builder is asked about boats all texts share, and whether one says `trailer` decides.
pub struct Weights(BTreeMap<String, f32>);

impl Weights {
    /// Weighs the words of a question among the words of texts.
    pub fn new<'a>(asked: BTreeSet<String>, texts: impl Iterator<Item = &'a BTreeSet<String>> + Clone) -> Self {
        let count = texts.clone().count() as f32;
        let weight = |word: &String| {
            let with = texts.clone().filter(|words| words.contains(word)).count() as f32;
            ((count - with + 0.5) / (with + 0.5)).ln_1p()
        };
        Self(asked.into_iter().map(|word| (weight(&word), word)).map(|(weight, word)| (word, weight)).collect())
    }

    /// The share of the question's weight that a text has, 0 when nothing is asked.
    pub fn share(&self, given: &BTreeSet<String>) -> f32 {
        let all: f32 = self.0.values().sum();
        let common: f32 = self.0.iter().filter(|(word, _)| given.contains(*word)).map(|(_, weight)| weight).sum();
        if all > 0.0 { common / all } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_forms_of_a_word_meet() {
        let set = content_words;
        assert_eq!(set("caulked seams"), set("The caulking of a seam"));
        assert_eq!(set("Ivo's twelve volts"), set("12 volts of Ivo"));
        assert_eq!(set("What did you write about it?"), BTreeSet::new());
    }

    #[test]
    fn numbers_are_compared_by_value() {
        assert_eq!(numbers("£1,400 and 3.5 kg."), set(["1400", "3.5"]));
        assert_eq!(numbers("Six weeks, and 6 more; forty in all. One does."), set(["6", "40"]));
    }

    #[test]
    fn names_are_capitals_inside_a_sentence() {
        assert_eq!(
            names("Dorcas told Old Stott that I've met Dr. Pym's cat in May."),
            set(["old", "stott", "dr", "may"])
        );
        assert_eq!(names("He said: “Never on a Sunday”, and left."), set(["sunday"]));
        assert!(all_words("Dr Pym’s cat").contains("pym"));
    }

    #[test]
    fn a_rare_word_counts_more_than_one_that_every_text_has() {
        let texts = [["boat", "trailer"], ["boat", "oar"], ["boat", "mast"], ["boat", "sail"]].map(set);
        let weights = Weights::new(set(["boat", "trailer"]), texts.iter());
        assert!(weights.share(&texts[1]) < 0.2, "the trailer is what was asked about");
        assert_eq!(weights.share(&texts[0]), 1.0);
        assert_eq!(Weights::new(BTreeSet::new(), texts.iter()).share(&texts[0]), 0.0);
    }

    fn set<const N: usize>(words: [&str; N]) -> BTreeSet<String> {
        words.map(str::to_owned).into()
    }
}
