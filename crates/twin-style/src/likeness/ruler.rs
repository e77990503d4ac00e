//! The ruler: fitted on known text, tried on held-out text of the author and of impostors, and refused if it fails there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::measures::{Component, MEASURES, Measures};
use super::{AuthorTexts, Refusal, RulerConfig};
use crate::stats::{Verification, auc, bootstrap_groups, cllr, mean, threshold_at_false_accept, variance};
use crate::text::{Unit, prose, units, without_boilerplate, word_count};

/// The fewest held-out units of either side on which a ruler can be tried.
const MIN_HELD_OUT_UNITS: usize = 2;

/// How well a ruler tells the author from the impostors, on text it was not fitted to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RulerQuality {
    pub auc: f64,
    /// A 95% bootstrap interval of the AUC over posts.
    pub auc_interval: (f64, f64),
    /// The AUC of every measure alone.
    pub component_auc: [(Component, f64); MEASURES],
    /// PAN's figures, for probabilities from two normal distributions fitted to the same units (so somewhat flattering).
    pub verification: Verification,
    /// The cost of those log-likelihood ratios in bits: 1 is what knowing nothing costs.
    pub cllr: f64,
    /// The score above which a unit is accepted as the author's.
    pub threshold: f64,
    /// The share of the author's held-out units that are accepted.
    pub true_accept: f64,
    pub known_words: usize,
    pub author_units: usize,
    pub impostor_units: usize,
    pub impostor_authors: usize,
}

/// A fitted ruler.
#[derive(Debug)]
pub struct Ruler {
    pub(super) config: RulerConfig,
    pub(super) quality: RulerQuality,
    measures: Measures,
    scale: [Standard; MEASURES],
    pub(super) author: Sample,
    pub(super) impostors: Sample,
}

impl Ruler {
    /// Makes a ruler. Paragraphs that an author repeats from post to post are left out.
    ///
    /// # Errors
    /// A [`Refusal`] when the author has too little text, there is nobody to compare with, or the two cannot be told apart.
    pub fn fit(author: &AuthorTexts<'_>, impostors: &[AuthorTexts<'_>], config: RulerConfig) -> Result<Self, Refusal> {
        let name = || author.name.clone();
        let own = Corpus::of(author, &config);
        let others: Vec<Corpus> = impostors.iter().map(|texts| Corpus::of(texts, &config)).collect();
        let others: Vec<Corpus> = others.into_iter().filter(|other| !other.known.is_empty()).collect();
        let (words, needed) = (own.known_words, config.min_known_words);
        if words < needed || own.known.is_empty() {
            return Err(Refusal::TooLittleKnownText { author: name(), words, needed });
        }
        if others.is_empty() {
            return Err(Refusal::NoImpostors { author: name() });
        }
        let known: Vec<Vec<Unit>> = others.iter().map(|other| other.known.clone()).collect();
        let measures = Measures::fit(&own.known, &known, &config);
        let author_raw = own.measured(&measures, 0);
        let mut impostors_raw = Vec::new();
        for (index, other) in others.iter().enumerate() {
            impostors_raw.extend(other.measured(&measures, index));
        }
        for (author, raw) in [(name(), &author_raw), ("the other authors".to_owned(), &impostors_raw)] {
            let (units, needed, unit_words) = (raw.len(), MIN_HELD_OUT_UNITS, config.unit_words);
            if units < needed {
                return Err(Refusal::TooLittleHeldOutText { author, units, needed, unit_words });
            }
        }
        let scale = std::array::from_fn(|index| Standard::of(&author_raw, &impostors_raw, index));
        let author_sample = Sample(author_raw.into_iter().map(|raw| raw.scored(&scale)).collect());
        let impostor_sample = Sample(impostors_raw.into_iter().map(|raw| raw.scored(&scale)).collect());
        let quality = quality(&author_sample, &impostor_sample, own.known_words, others.len(), &config);
        match quality {
            // Without a distance between the two there is no scale either.
            Some(quality) if quality.auc >= config.min_auc && author_sample.mean() > impostor_sample.mean() => {
                Ok(Self { config, quality, measures, scale, author: author_sample, impostors: impostor_sample })
            }
            found => Err(Refusal::CannotTellApart {
                author: name(),
                auc: found.map_or(0.5, |quality| quality.auc),
                needed: config.min_auc,
                impostor_authors: others.len(),
            }),
        }
    }

    /// How good the ruler is.
    pub fn quality(&self) -> &RulerQuality {
        &self.quality
    }

    /// How it was made.
    pub fn config(&self) -> &RulerConfig {
        &self.config
    }

    /// The raw score of a piece of prose of about a unit's length: the mean of the standardised measures.
    pub fn score(&self, prose: &str) -> f64 {
        standardised(&self.scale, &self.measures.of(prose))
    }

    pub(super) fn score_unit(&self, unit: &Unit) -> Scored {
        Raw { components: self.measures.of(&unit.text), cluster: cluster(unit, 0) }.scored(&self.scale)
    }
}

/// The prose of one author in units.
struct Corpus {
    known: Vec<Unit>,
    known_words: usize,
    held_out: Vec<Unit>,
}

impl Corpus {
    fn of(texts: &AuthorTexts<'_>, config: &RulerConfig) -> Self {
        let proses: Vec<String> = texts.known.iter().chain(&texts.held_out).map(|text| prose(text)).collect();
        let proses = without_boilerplate(&proses);
        let (known, held_out) = proses.split_at(texts.known.len());
        let mut words = 0;
        let newest = known.iter().rev().take_while(|prose| {
            let before = words;
            words += word_count(prose);
            before < config.max_known_words
        });
        let mut newest: Vec<&String> = newest.collect();
        newest.reverse();
        let known = units(&newest, config.unit_words);
        let known_words = known.iter().map(|unit| unit.words).sum();
        // A short rest is nothing to try a ruler on.
        let mut held_out = units(held_out, config.unit_words);
        held_out.retain(|unit| unit.words * 2 >= config.unit_words);
        Self { known, known_words, held_out }
    }

    fn measured(&self, measures: &Measures, author: usize) -> Vec<Raw> {
        let raw = |unit: &Unit| Raw { components: measures.of(&unit.text), cluster: cluster(unit, author) };
        self.held_out.iter().map(raw).collect()
    }
}

/// Units of one post vary together, so they are resampled together: author and first document.
fn cluster(unit: &Unit, author: usize) -> (usize, usize) {
    (author, unit.documents.first().copied().unwrap_or(0))
}

struct Raw {
    components: [f64; MEASURES],
    cluster: (usize, usize),
}

impl Raw {
    fn scored(self, scale: &[Standard; MEASURES]) -> Scored {
        Scored { score: standardised(scale, &self.components), components: self.components, cluster: self.cluster }
    }
}

/// A unit with its measures and its score.
#[derive(Debug)]
pub(super) struct Scored {
    pub(super) score: f64,
    pub(super) components: [f64; MEASURES],
    cluster: (usize, usize),
}

/// Units of one side.
#[derive(Debug)]
pub(super) struct Sample(Vec<Scored>);

impl Sample {
    pub(super) fn scores(&self) -> Vec<f64> {
        self.0.iter().map(|unit| unit.score).collect()
    }

    pub(super) fn mean(&self) -> f64 {
        mean(self.0.iter().map(|unit| unit.score))
    }

    pub(super) fn component_mean(&self, index: usize) -> f64 {
        mean(self.0.iter().map(|unit| unit.components[index]))
    }

    pub(super) fn clusters(&self) -> Vec<Vec<f64>> {
        clusters(&self.0)
    }
}

/// The scores of units by post.
pub(super) fn clusters(units: &[Scored]) -> Vec<Vec<f64>> {
    let mut clusters: BTreeMap<_, Vec<f64>> = BTreeMap::new();
    for unit in units {
        clusters.entry(unit.cluster).or_default().push(unit.score);
    }
    clusters.into_values().collect()
}

/// The middle between author and impostors and the deviation within them, by which a measure is made comparable with others.
#[derive(Debug, Clone, Copy)]
struct Standard {
    middle: f64,
    deviation: f64,
}

impl Standard {
    fn of(author: &[Raw], impostors: &[Raw], index: usize) -> Self {
        let values = |raws: &[Raw]| raws.iter().map(|raw| raw.components[index]).collect::<Vec<f64>>();
        let (author, impostors) = (values(author), values(impostors));
        Self {
            middle: (mean(author.iter().copied()) + mean(impostors.iter().copied())) / 2.0,
            deviation: ((variance(&author) + variance(&impostors)) / 2.0).sqrt().max(1e-12),
        }
    }
}

fn standardised(scale: &[Standard; MEASURES], components: &[f64; MEASURES]) -> f64 {
    mean(scale.iter().zip(components).map(|(standard, value)| (value - standard.middle) / standard.deviation))
}

fn quality(
    author: &Sample,
    impostors: &Sample,
    known_words: usize,
    impostor_authors: usize,
    config: &RulerConfig,
) -> Option<RulerQuality> {
    let (own, others) = (author.scores(), impostors.scores());
    let cases = |own: &[f64], others: &[f64]| -> Vec<(f64, bool)> {
        own.iter().map(|score| (*score, true)).chain(others.iter().map(|score| (*score, false))).collect()
    };
    let component_auc = |index: usize| {
        let values = |sample: &Sample| sample.0.iter().map(|unit| unit.components[index]).collect::<Vec<f64>>();
        auc(&cases(&values(author), &values(impostors))).unwrap_or(f64::NAN)
    };
    let (own_posts, other_posts) = (author.clusters(), impostors.clusters());
    let auc_interval = bootstrap_groups(&[own_posts.len(), other_posts.len()], config.seed, |drawn| {
        let flat = |posts: &[Vec<f64>], drawn: &[usize]| {
            drawn.iter().flat_map(|post| posts[*post].clone()).collect::<Vec<_>>()
        };
        auc(&cases(&flat(&own_posts, &drawn[0]), &flat(&other_posts, &drawn[1]))).unwrap_or(f64::NAN)
    });
    let ratios = log_likelihood_ratios(&own, &others);
    let probabilities: Vec<(f64, bool)> =
        ratios.iter().map(|(ratio, same)| (1.0 / (1.0 + (-ratio).exp()), *same)).collect();
    let threshold = threshold_at_false_accept(&others, config.false_accept);
    Some(RulerQuality {
        auc: auc(&cases(&own, &others))?,
        auc_interval,
        component_auc: std::array::from_fn(|index| (Component::ALL[index], component_auc(index))),
        verification: Verification::of(&probabilities)?,
        cllr: cllr(&ratios)?,
        threshold,
        true_accept: mean(own.iter().map(|score| f64::from(u8::from(*score > threshold)))),
        known_words,
        author_units: own.len(),
        impostor_units: others.len(),
        impostor_authors,
    })
}

/// Log-likelihood ratios from a normal distribution for either side, with one variance.
fn log_likelihood_ratios(own: &[f64], others: &[f64]) -> Vec<(f64, bool)> {
    let (high, low) = (mean(own.iter().copied()), mean(others.iter().copied()));
    let pooled = ((variance(own) + variance(others)) / 2.0).max(1e-12);
    let ratio = |score: f64| (score - (high + low) / 2.0) * (high - low) / pooled;
    own.iter().map(|score| (ratio(*score), true)).chain(others.iter().map(|score| (ratio(*score), false))).collect()
}
