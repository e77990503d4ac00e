//! Texts that fool a measure of style, made on purpose, so that every measure can be seen to be fooled and every one of them
//! to be stopped by another. Each is made from an author's known prose and from other people's; the same seed makes the same
//! texts.

use std::collections::{HashMap, HashSet};

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::function_words;
use crate::text::{sentences, units, words};

/// A way to seem like the author without writing like one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cheat {
    /// Passages of known posts.
    Copied,
    /// The author's own sentences in another order.
    ShuffledSentences,
    /// Each word drawn from what has followed the two before it.
    Markov2,
    /// Each word drawn from what has followed the one before it.
    Markov1,
    /// The author's words in no order.
    RandomWords,
    /// One sentence of the author, again and again.
    LoopedSentence,
    /// Another author, with as many dashes as this one uses.
    ImpostorWithDashes,
    /// What other authors wrote nearest to this one's subjects.
    ImpostorOnTopic,
}

impl Cheat {
    /// In the order of the table.
    pub const ALL: [Self; 8] = [
        Self::Copied,
        Self::ShuffledSentences,
        Self::Markov2,
        Self::Markov1,
        Self::RandomWords,
        Self::LoopedSentence,
        Self::ImpostorWithDashes,
        Self::ImpostorOnTopic,
    ];

    /// The name in tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Copied => "copied from known posts",
            Self::ShuffledSentences => "own sentences, shuffled",
            Self::Markov2 => "Markov chain of order 2",
            Self::Markov1 => "Markov chain of order 1",
            Self::RandomWords => "random words of the author",
            Self::LoopedSentence => "one sentence, looped",
            Self::ImpostorWithDashes => "impostor with the author's dashes",
            Self::ImpostorOnTopic => "impostor on the author's topic",
        }
    }

    /// `count` texts of about `length` words. Fewer where there is not enough to make them of.
    pub fn texts(self, known: &str, impostors: &[String], count: usize, length: usize, seed: u64) -> Vec<String> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let tokens: Vec<&str> = known.split_whitespace().collect();
        if tokens.is_empty() {
            return Vec::new();
        }
        match self {
            Self::Copied => {
                let places = tokens.len().saturating_sub(length).max(1);
                let passage = |index: usize| tokens.iter().skip(index * places / count.max(1)).take(length);
                (0..count).map(|index| passage(index).copied().collect::<Vec<_>>().join(" ")).collect()
            }
            Self::ShuffledSentences => shuffled_sentences(known, count, length, &mut random),
            Self::Markov2 => (0..count).map(|_| markov(&tokens, 2, length, &mut random)).collect(),
            Self::Markov1 => (0..count).map(|_| markov(&tokens, 1, length, &mut random)).collect(),
            Self::RandomWords => {
                let mut text = || {
                    let drawn: Vec<&str> = (0..length).map(|_| tokens[random.random_range(0..tokens.len())]).collect();
                    drawn.join(" ")
                };
                (0..count).map(|_| text()).collect()
            }
            Self::LoopedSentence => looped(known, count, length, &mut random),
            Self::ImpostorWithDashes => {
                impostors.choose_multiple(&mut random, count).map(|text| with_dashes(text, dash_rate(known))).collect()
            }
            Self::ImpostorOnTopic => nearest_in_topic(known, impostors, count),
        }
    }
}

fn all_sentences(known: &str) -> Vec<&str> {
    sentences(known).into_iter().map(|range| &known[range]).collect()
}

fn shuffled_sentences(known: &str, count: usize, length: usize, random: &mut ChaCha8Rng) -> Vec<String> {
    let mut sentences = all_sentences(known);
    sentences.shuffle(random);
    let units = units(&[sentences.join(" ")], length);
    units.into_iter().take(count).map(|unit| unit.text).collect()
}

fn looped(known: &str, count: usize, length: usize, random: &mut ChaCha8Rng) -> Vec<String> {
    let words = |sentence: &&str| sentence.split_whitespace().count();
    let sentences: Vec<&str> = all_sentences(known).into_iter().filter(|one| (8..30).contains(&words(one))).collect();
    let repeated = |sentence: &&str| vec![*sentence; length.div_ceil(words(sentence).max(1))].join(" ");
    sentences.choose_multiple(random, count).map(repeated).collect()
}

fn markov(tokens: &[&str], order: usize, length: usize, random: &mut ChaCha8Rng) -> String {
    let mut followers: HashMap<&[&str], Vec<&str>> = HashMap::new();
    for window in tokens.windows(order + 1) {
        followers.entry(&window[..order]).or_default().push(window[order]);
    }
    let mut text: Vec<&str> = Vec::with_capacity(length);
    while text.len() < length {
        let context = &text[text.len().saturating_sub(order)..];
        match followers.get(context).and_then(|next| next.choose(random)) {
            Some(next) => text.push(next),
            // The end of what is known, or the beginning: anywhere.
            None => {
                let start = random.random_range(0..tokens.len());
                text.extend(tokens.iter().skip(start).take(order));
            }
        }
    }
    text.join(" ")
}

/// Dashes in a thousand words.
fn dash_rate(prose: &str) -> f64 {
    prose.matches(" - ").count() as f64 * 1000.0 / words(prose).count().max(1) as f64
}

/// Turns as many commas into dashes as it takes.
fn with_dashes(text: &str, rate: f64) -> String {
    let missing = ((rate - dash_rate(text)) * words(text).count() as f64 / 1000.0).round().max(0.0) as usize;
    text.replacen(", ", " - ", missing)
}

/// The texts that share most of their different content words with the known text, in the order in which they were given.
fn nearest_in_topic(known: &str, texts: &[String], count: usize) -> Vec<String> {
    let content = |text: &str| words(text).filter(|word| !function_words::contains(word)).collect::<HashSet<_>>();
    let topic = content(known);
    let mut order: Vec<(usize, usize)> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let own = content(text);
            let shared = own.iter().filter(|word| topic.contains(*word)).count();
            (shared * 1000 / own.len().max(1), index)
        })
        .collect();
    order.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    order.into_iter().take(count).map(|(_, index)| texts[index].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &str = "The cat sat on the mat all day long. The dog, who was old, lay on the rug. A cat is not a dog, and a dog is not a cat. \
                         It rains on the mat and on the rug - and on the cat.";

    #[test]
    fn each_is_what_it_says() {
        let dull = "Planes, trains, and ships, all of them. ".repeat(10);
        let impostors = [dull, "The cat and the dog sat there.".to_owned()];
        let make = |cheat: Cheat| cheat.texts(KNOWN, &impostors, 2, 20, 7);
        for cheat in Cheat::ALL {
            assert!(!make(cheat).is_empty(), "{cheat:?}");
            assert_eq!(make(cheat), make(cheat), "the same seed makes the same text");
            assert!(cheat.texts("", &impostors, 2, 20, 7).is_empty());
        }
        assert!(make(Cheat::Copied).iter().all(|text| KNOWN.contains(text.as_str())));
        let tokens: Vec<&str> = KNOWN.split_whitespace().collect();
        let pairs: HashSet<&[&str]> = tokens.windows(2).collect();
        let chain = &make(Cheat::Markov1)[0];
        let chain: Vec<&str> = chain.split(' ').collect();
        assert_eq!(chain.len(), 20);
        assert!(chain.windows(2).filter(|pair| pairs.contains(pair)).count() >= 15);
        assert!(make(Cheat::ImpostorWithDashes).concat().contains(" - "));
        assert_eq!(make(Cheat::ImpostorOnTopic)[0], impostors[1]);
        let looped = &make(Cheat::LoopedSentence)[0];
        assert!(looped.split(". ").collect::<HashSet<_>>().len() <= 2, "{looped}");
    }
}
