//! Likeness: how much a text reads like an author, on a scale from other people (0) to the author's own new posts (1).
//!
//! A [`Ruler`] is made from the author's known and held-out posts and those of impostors, and is refused where it cannot tell
//! them apart. Four measures that err differently go into it: Cosine Delta over the commonest words, Cosine Delta over
//! function words and punctuation, and the log-likelihood ratios of character models and of grammar models. Copied and
//! garbled text can score above the author, so that is flagged ([`Likeness::is_over_imitation`]), and [`crate::copying`] and
//! [`crate::fluency`] are the gates beside it.

use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::ruler::Scored;
use crate::population::Population;
use crate::stats::{Difference, bootstrap_groups, mean, quantile, variance};
use crate::text::{prose, units, word_count};

pub use self::measures::{Component, OtherMeasure};
pub(crate) use self::measures::{MEASURES, Measures, OTHERS, Standard};
pub(crate) use self::ruler::counted;
pub use self::ruler::{Ruler, RulerQuality};

mod measures;
mod ruler;

/// How many samples of the author's units the author's range is taken from.
const RANGE_SAMPLES: usize = 2000;

/// How a ruler is made. The defaults are those under which it was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RulerConfig {
    /// The length of what is scored at a time, in words. What is measured should come to about as much.
    pub unit_words: usize,
    /// How many of the commonest words are counted.
    pub most_frequent_words: usize,
    /// The least known text of the author, in words. At 2,000 words the ruler's AUC is .83, at 5,000 .90.
    pub min_known_words: usize,
    /// The most known text of each author, the newest. More makes no difference.
    pub max_known_words: usize,
    /// The least AUC of author against impostors at which the ruler is one.
    pub min_auc: f64,
    /// The share of impostor units that are accepted as the author's.
    pub false_accept: f64,
    /// The seed of all intervals.
    pub seed: u64,
}

impl Default for RulerConfig {
    fn default() -> Self {
        Self {
            unit_words: crate::text::UNIT_WORDS,
            most_frequent_words: 500,
            min_known_words: 5_000,
            max_known_words: 40_000,
            min_auc: 0.8,
            false_accept: 0.05,
            seed: 17,
        }
    }
}

/// The posts of one author as Markdown, in two parts that share no post: what is known, and newer ones to try the ruler on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorTexts<'a> {
    pub name: String,
    /// Oldest first.
    pub known: Vec<&'a str>,
    pub held_out: Vec<&'a str>,
}

impl<'a> AuthorTexts<'a> {
    /// Parts posts, oldest first, after `known_share` of their words. With two posts or more neither part is empty.
    pub fn by_date(name: &str, posts: &[&'a str], known_share: f64) -> Self {
        let words: Vec<usize> = posts.iter().map(|post| word_count(&prose(post))).collect();
        let wanted = words.iter().sum::<usize>() as f64 * known_share;
        let so_far = words.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        let known = so_far.take_while(|sum| (*sum as f64) < wanted).count() + 1;
        let most = posts.len().saturating_sub(usize::from(posts.len() > 1));
        let known = known.min(most);
        Self { name: name.to_owned(), known: posts[..known].to_vec(), held_out: posts[known..].to_vec() }
    }
}

/// Who an author is compared with.
#[derive(Debug, Clone, Default)]
pub struct Others<'a> {
    /// Other people's posts.
    pub texts: &'a [AuthorTexts<'a>],
    /// People who are known by their statistics. Whoever bears the author's name is left out of it.
    pub population: Option<Arc<Population>>,
    /// Who else is left out of the population: other names of the author's.
    pub without: &'a [String],
    /// The genres of the population that are used; all, when none is named.
    pub genres: &'a [String],
}

/// Why there is no figure. A figure from such texts would mean nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Refusal {
    #[error("`{author}` has {words} words of known text and {needed} are needed: ingest more posts")]
    TooLittleKnownText { author: String, words: usize, needed: usize },
    #[error(
        "`{author}` has {units} held-out units of about {unit_words} words and {needed} are needed: hold out more posts"
    )]
    TooLittleHeldOutText { author: String, units: usize, needed: usize, unit_words: usize },
    #[error(
        "there is no other author to compare `{author}` with: ingest another author of the same kind of posts, or use a population"
    )]
    NoImpostors { author: String },
    #[error(
        "`{author}` cannot be told apart from the other authors with this text: the AUC is {auc:.2} and {needed:.2} is needed"
    )]
    CannotTellApart { author: String, auc: f64, needed: f64, impostor_authors: usize },
    #[error("the text to measure has {words} words and {needed} are needed: write more of it, or join several texts")]
    TooLittleText { words: usize, needed: usize },
    #[error("{first} texts cannot be paired with {second}: measure answers to the same prompts, in the same order")]
    NotPaired { first: usize, second: usize },
}

/// The likeness by one of the measures alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ComponentLikeness {
    pub component: Component,
    /// `None` when this measure alone does not put the author above the impostors.
    pub value: Option<f64>,
}

/// The same by a measure that is no part of the likeness.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OtherLikeness {
    pub measure: OtherMeasure,
    /// `None` when this measure does not put the author above the impostors.
    pub value: Option<f64>,
}

/// How much texts read like the author.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Likeness {
    /// 0 = other people, 1 = the author's own held-out posts. Real text lies outside at times.
    pub value: f64,
    /// A 95% bootstrap interval over texts, the author's held-out posts and the impostors' posts, all three resampled.
    pub interval: (f64, f64),
    /// What 95% of samples of the author's own held-out units get that are as many as these units.
    pub author_range: (f64, f64),
    pub components: [ComponentLikeness; MEASURES],
    /// What other measures say, on the same scale.
    #[serde(default)]
    pub others: Vec<OtherLikeness>,
    /// The share of units that pass for the author's at the ruler's false-accept rate.
    pub accepted_share: f64,
    pub units: usize,
    pub words: usize,
    /// The likeness of every unit.
    #[serde(default)]
    pub of_units: Vec<f64>,
    /// How many other authors the zero of the scale is made of. With few of them it says "unlike these", not "unlike people".
    pub impostor_authors: usize,
}

impl Likeness {
    /// Whether the texts are more like the author than the author is: a sign of copying or garbling, not of quality.
    pub fn is_over_imitation(&self) -> bool {
        self.value > self.author_range.1
    }
}

impl Ruler {
    /// The likeness of Markdown texts, measured in units of the ruler's length.
    ///
    /// # Errors
    /// [`Refusal::TooLittleText`] when they come to less than half a unit.
    pub fn likeness(&self, texts: &[&str]) -> Result<Likeness, Refusal> {
        let proses: Vec<String> = texts.iter().map(|text| prose(text)).collect();
        let units = units(&proses, self.config.unit_words);
        let words = units.iter().map(|unit| unit.words).sum();
        self.check_length(words)?;
        let scored: Vec<Scored> = units.par_iter().map(|unit| self.score_unit(unit)).collect();
        let scores: Vec<f64> = scored.iter().map(|unit| unit.score).collect();
        let component = |index: usize, component| ComponentLikeness {
            component,
            value: between(
                mean(scored.iter().map(|unit| unit.components[index])),
                self.author.component_mean(index),
                self.impostors.component_mean(index),
            ),
        };
        let other = |index: usize| OtherLikeness {
            measure: OtherMeasure::COUNTED[index],
            value: between(
                mean(scored.iter().map(|unit| unit.others[index])),
                self.author.other_mean(index),
                self.impostors.other_mean(index),
            ),
        };
        Ok(Likeness {
            value: self.on_scale(mean(scores.iter().copied())),
            interval: self.interval(&scored),
            author_range: self.author_range(scored.len()),
            components: std::array::from_fn(|index| component(index, Component::ALL[index])),
            others: (0..OTHERS).map(other).collect(),
            accepted_share: mean(scores.iter().map(|score| f64::from(u8::from(*score > self.quality.threshold)))),
            of_units: scores.iter().map(|score| self.on_scale(*score)).collect(),
            units: scored.len(),
            words,
            impostor_authors: self.quality.impostor_authors,
        })
    }

    /// The likeness of one unit of prose, without an interval, and whether it is accepted as the author's.
    pub(crate) fn likeness_of_unit(&self, prose: &str) -> (f64, bool) {
        let score = self.score(prose);
        (self.on_scale(score), score > self.quality.threshold)
    }

    /// By how much the first texts read more like the author than the second ones, on the scale of likeness. The texts are
    /// answers to the same prompts in the same order; prompts are joined until both sides make a unit.
    ///
    /// # Errors
    /// [`Refusal::NotPaired`] when there are not as many of both, [`Refusal::TooLittleText`] when either side comes to less
    /// than half a unit.
    pub fn difference(&self, first: &[&str], second: &[&str]) -> Result<Difference, Refusal> {
        if first.len() != second.len() {
            return Err(Refusal::NotPaired { first: first.len(), second: second.len() });
        }
        let pairs = self.paired(first, second);
        for side in [0, 1] {
            self.check_length(pairs.iter().map(|pair| word_count(&pair[side])).sum())?;
        }
        let width = self.author.mean() - self.impostors.mean();
        let gap = |[first, second]: &[String; 2]| (self.score(first) - self.score(second)) / width;
        let gaps: Vec<f64> = pairs.iter().map(gap).collect();
        Ok(Difference::of(&gaps, self.config.seed))
    }

    /// The least difference in likeness that a comparison of so many units on either side will see four times in five, at a
    /// significance of 5%. To be known before anything is measured.
    pub fn detectable_difference(&self, units: usize) -> f64 {
        // 1.96 and 0.84: the normal quantiles of 97.5% and 80%.
        let deviation = variance(&self.author.scores()).sqrt() / (self.author.mean() - self.impostors.mean());
        (1.96 + 0.84) * deviation * (2.0 / units.max(1) as f64).sqrt()
    }

    /// The likeness of the author's held-out units and of the impostors', one by one: what the scale is made of.
    pub fn scale(&self) -> [Vec<f64>; 2] {
        [&self.author, &self.impostors]
            .map(|side| side.scores().into_iter().map(|score| self.on_scale(score)).collect())
    }

    /// Prose of both sides, joined prompt by prompt until both are as long as a unit.
    fn paired(&self, first: &[&str], second: &[&str]) -> Vec<[String; 2]> {
        let is_long = |pair: &[String; 2]| pair.iter().all(|side| word_count(side) >= self.config.unit_words);
        let mut pairs: Vec<[String; 2]> = Vec::new();
        for (first, second) in first.iter().zip(second) {
            let next = [prose(first), prose(second)];
            match pairs.last_mut().filter(|last| !is_long(last)) {
                Some(last) => join(last, &next),
                None => pairs.push(next),
            }
        }
        // What is left at the end is too short to stand alone.
        if pairs.len() > 1
            && let Some(rest) = pairs.pop_if(|last| !is_long(last))
            && let Some(last) = pairs.last_mut()
        {
            join(last, &rest);
        }
        pairs
    }

    fn check_length(&self, words: usize) -> Result<(), Refusal> {
        let needed = self.config.unit_words.div_ceil(2);
        if words < needed { Err(Refusal::TooLittleText { words, needed }) } else { Ok(()) }
    }

    fn on_scale(&self, score: f64) -> f64 {
        (score - self.impostors.mean()) / (self.author.mean() - self.impostors.mean())
    }

    fn interval(&self, scored: &[Scored]) -> (f64, f64) {
        let groups = [ruler::clusters(scored), self.author.clusters(), self.impostors.clusters()];
        let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
        bootstrap_groups(&sizes, self.config.seed, |drawn| {
            let drawn_mean =
                |group: usize| mean(drawn[group].iter().flat_map(|cluster| groups[group][*cluster].iter().copied()));
            let (author, impostors) = (drawn_mean(1), drawn_mean(2));
            // A sample in which the author is no further than others has no scale.
            if author > impostors { (drawn_mean(0) - impostors) / (author - impostors) } else { f64::NAN }
        })
    }

    fn author_range(&self, units: usize) -> (f64, f64) {
        let scores = self.author.scores();
        let mut random = ChaCha8Rng::seed_from_u64(self.config.seed);
        let mut sample = || mean((0..units).map(|_| scores[random.random_range(0..scores.len())]));
        let means: Vec<f64> = (0..RANGE_SAMPLES).map(|_| self.on_scale(sample())).collect();
        (quantile(&means, 0.025), quantile(&means, 0.975))
    }
}

/// A value on the scale on which impostors are at 0 and the author at 1. `None` where the author is not above them.
fn between(value: f64, author: f64, impostors: f64) -> Option<f64> {
    (author > impostors).then(|| (value - impostors) / (author - impostors))
}

fn join(to: &mut [String; 2], more: &[String; 2]) {
    for (to, more) in to.iter_mut().zip(more) {
        to.push_str("\n\n");
        to.push_str(more);
    }
}

#[cfg(test)]
mod tests;
