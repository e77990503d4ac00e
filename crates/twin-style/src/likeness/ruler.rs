//! The ruler: fitted on known text, tried on held-out text of the author and of impostors, and refused if it fails there.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::measures::{Component, MEASURES, Measures, OTHERS, OtherMeasure, Standard};
use super::{AuthorTexts, Others, Refusal, RulerConfig};
use crate::counts::{CountedAuthor, CountedText, CountedUnit};
use crate::population::Population;
use crate::stats::{
    Verification, auc, bootstrap_groups, calibration_error, cllr, mean, threshold_at_false_accept, variance,
};
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
    /// The AUC of the measures that stand beside the likeness.
    #[serde(default)]
    pub other_auc: Vec<(OtherMeasure, f64)>,
    /// PAN's figures, for probabilities from two normal distributions fitted to all other posts.
    pub verification: Verification,
    /// The expected calibration error of those probabilities.
    #[serde(default)]
    pub calibration_error: f64,
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
    /// What is measured is cut down to what this counts.
    population: Option<Arc<Population>>,
}

impl Ruler {
    /// Makes a ruler. Paragraphs that an author repeats from post to post are left out.
    ///
    /// # Errors
    /// A [`Refusal`] when the author has too little text, there is nobody to compare with, or the two cannot be told apart.
    pub fn fit(author: &AuthorTexts<'_>, impostors: &[AuthorTexts<'_>], config: RulerConfig) -> Result<Self, Refusal> {
        Self::fit_among(author, &Others { texts: impostors, ..Others::default() }, config)
    }

    /// The same with a population among the impostors. Its units decide how long units are.
    ///
    /// # Errors
    /// As [`Self::fit`].
    pub fn fit_among(author: &AuthorTexts<'_>, others: &Others<'_>, config: RulerConfig) -> Result<Self, Refusal> {
        let population = others.population.as_ref();
        let config = RulerConfig { unit_words: population.map_or(config.unit_words, |one| one.unit_words()), ..config };
        let count = |texts: &AuthorTexts<'_>| {
            let author = counted(texts, &config);
            match population {
                Some(population) => population.restricted(author),
                None => author,
            }
        };
        let texts: Vec<CountedAuthor> = others.texts.iter().map(count).collect();
        let mut without = vec![author.name.as_str()];
        without.extend(others.without.iter().map(String::as_str));
        let members = population.map(|population| population.authors(&without, others.genres)).unwrap_or_default();
        let impostors: Vec<&CountedAuthor> = texts.iter().chain(members).collect();
        let mut ruler = Self::fit_counted(&author.name, &count(author), &impostors, config)?;
        ruler.population = population.cloned();
        Ok(ruler)
    }

    /// The same from counts.
    pub(crate) fn fit_counted(
        name: &str,
        author: &CountedAuthor,
        impostors: &[&CountedAuthor],
        config: RulerConfig,
    ) -> Result<Self, Refusal> {
        let name = || name.to_owned();
        let others: Vec<&&CountedAuthor> = impostors.iter().filter(|other| !other.known.units.is_empty()).collect();
        let (words, needed) = (author.known.words(), config.min_known_words);
        if words < needed || author.known.units.is_empty() {
            return Err(Refusal::TooLittleKnownText { author: name(), words, needed });
        }
        if others.is_empty() {
            return Err(Refusal::NoImpostors { author: name() });
        }
        let known: Vec<&CountedText> = others.iter().map(|other| &other.known).collect();
        let measures = Measures::fit(&author.known, &known, &config);
        let author_raw = measured(author, &measures, 0);
        let mut impostors_raw = Vec::new();
        for (index, other) in others.iter().enumerate() {
            impostors_raw.extend(measured(other, &measures, index));
        }
        for (author, raw) in [(name(), &author_raw), ("the other authors".to_owned(), &impostors_raw)] {
            let (units, needed, unit_words) = (raw.len(), MIN_HELD_OUT_UNITS, config.unit_words);
            if units < needed {
                return Err(Refusal::TooLittleHeldOutText { author, units, needed, unit_words });
            }
        }
        let values = |raws: &[Raw], index: usize| raws.iter().map(|raw| raw.components[index]).collect::<Vec<f64>>();
        let scale =
            std::array::from_fn(|index| Standard::between(&values(&author_raw, index), &values(&impostors_raw, index)));
        let author_sample = Sample(author_raw.into_iter().map(|raw| raw.scored(&scale)).collect());
        let impostor_sample = Sample(impostors_raw.into_iter().map(|raw| raw.scored(&scale)).collect());
        let quality = quality(&author_sample, &impostor_sample, words, others.len(), &config);
        match quality {
            // Without a distance between the two there is no scale either.
            Some(quality) if quality.auc >= config.min_auc && author_sample.mean() > impostor_sample.mean() => {
                Ok(Self {
                    config,
                    quality,
                    measures,
                    scale,
                    author: author_sample,
                    impostors: impostor_sample,
                    population: None,
                })
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
        standardised(&self.scale, &self.measures.of(&self.restricted(CountedUnit::of(prose, 0))))
    }

    /// How a piece of prose uses common words and function words, as z-scores: where it lies among other texts.
    pub fn features(&self, prose: &str) -> Vec<f64> {
        self.measures.features(&self.restricted(CountedUnit::of(prose, 0)))
    }

    pub(super) fn score_unit(&self, unit: &Unit) -> Scored {
        let counted = self.restricted(CountedUnit::of(&unit.text, first_document(unit)));
        Raw::of(&self.measures, &counted, 0).scored(&self.scale)
    }

    fn restricted(&self, unit: CountedUnit) -> CountedUnit {
        match &self.population {
            Some(population) => population.restricted_unit(unit),
            None => unit,
        }
    }
}

/// An author's posts in numbers: the newest known text as far as it is needed, and the held-out units.
pub(crate) fn counted(texts: &AuthorTexts<'_>, config: &RulerConfig) -> CountedAuthor {
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
    // A short rest is nothing to try a ruler on.
    let mut held_out = units(held_out, config.unit_words);
    held_out.retain(|unit| unit.words * 2 >= config.unit_words);
    CountedAuthor {
        known: CountedText::of(&units(&newest, config.unit_words)),
        held_out: held_out.iter().map(|unit| CountedUnit::of(&unit.text, first_document(unit))).collect(),
    }
}

fn measured(author: &CountedAuthor, measures: &Measures, number: usize) -> Vec<Raw> {
    author.held_out.par_iter().map(|unit| Raw::of(measures, unit, number)).collect()
}

/// Units of one post vary together, so they are resampled together, by author and first document.
fn first_document(unit: &Unit) -> usize {
    unit.documents.first().copied().unwrap_or(0)
}

struct Raw {
    components: [f64; MEASURES],
    others: [f64; OTHERS],
    cluster: (usize, usize),
}

impl Raw {
    fn of(measures: &Measures, unit: &CountedUnit, author: usize) -> Self {
        Self { components: measures.of(unit), others: measures.others_of(unit), cluster: (author, unit.post) }
    }

    fn scored(self, scale: &[Standard; MEASURES]) -> Scored {
        let Self { components, others, cluster } = self;
        Scored { score: standardised(scale, &components), components, others, cluster }
    }
}

/// A unit with its measures and its score.
#[derive(Debug)]
pub(super) struct Scored {
    pub(super) score: f64,
    pub(super) components: [f64; MEASURES],
    pub(super) others: [f64; OTHERS],
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

    pub(super) fn other_mean(&self, index: usize) -> f64 {
        mean(self.0.iter().map(|unit| unit.others[index]))
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

fn standardised(scale: &[Standard; MEASURES], components: &[f64; MEASURES]) -> f64 {
    mean(scale.iter().zip(components).map(|(standard, value)| standard.apply(*value)))
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
    let auc_of = |value: &dyn Fn(&Scored) -> f64| {
        let values = |sample: &Sample| sample.0.iter().map(value).collect::<Vec<f64>>();
        auc(&cases(&values(author), &values(impostors))).unwrap_or(f64::NAN)
    };
    let component_auc = |index: usize| (Component::ALL[index], auc_of(&|unit| unit.components[index]));
    let other_auc = |index: usize| (OtherMeasure::COUNTED[index], auc_of(&|unit| unit.others[index]));
    let (own_posts, other_posts) = (author.clusters(), impostors.clusters());
    let auc_interval = bootstrap_groups(&[own_posts.len(), other_posts.len()], config.seed, |drawn| {
        let flat = |posts: &[Vec<f64>], drawn: &[usize]| {
            drawn.iter().flat_map(|post| posts[*post].clone()).collect::<Vec<_>>()
        };
        auc(&cases(&flat(&own_posts, &drawn[0]), &flat(&other_posts, &drawn[1]))).unwrap_or(f64::NAN)
    });
    let ratios = log_likelihood_ratios(&own_posts, &other_posts);
    let probabilities: Vec<(f64, bool)> =
        ratios.iter().map(|(ratio, same)| (1.0 / (1.0 + (-ratio).exp()), *same)).collect();
    let threshold = threshold_at_false_accept(&others, config.false_accept);
    Some(RulerQuality {
        auc: auc(&cases(&own, &others))?,
        auc_interval,
        component_auc: std::array::from_fn(component_auc),
        other_auc: (0..OTHERS).map(other_auc).collect(),
        verification: Verification::of(&probabilities)?,
        calibration_error: calibration_error(&probabilities),
        cllr: cllr(&ratios)?,
        threshold,
        true_accept: mean(own.iter().map(|score| f64::from(u8::from(*score > threshold)))),
        known_words,
        author_units: own.len(),
        impostor_units: others.len(),
        impostor_authors,
    })
}

/// Log-likelihood ratios from a normal distribution for either side, with one variance, both fitted without the post that is
/// judged.
fn log_likelihood_ratios(own: &[Vec<f64>], others: &[Vec<f64>]) -> Vec<(f64, bool)> {
    let rest = |posts: &[Vec<f64>], without: Option<usize>| -> Vec<f64> {
        let kept = posts.iter().enumerate().filter(|(index, _)| Some(*index) != without);
        let kept: Vec<f64> = kept.flat_map(|(_, scores)| scores.iter().copied()).collect();
        // A side of one post has only itself.
        if kept.is_empty() { posts.concat() } else { kept }
    };
    let (all_own, all_others) = (rest(own, None), rest(others, None));
    let judged = |posts: &[Vec<f64>], is_own: bool| -> Vec<(f64, bool)> {
        let of_post = |(index, scores): (usize, &Vec<f64>)| {
            let less = rest(posts, Some(index));
            let (own, others) = if is_own { (&less, &all_others) } else { (&all_own, &less) };
            let (high, low) = (mean(own.iter().copied()), mean(others.iter().copied()));
            let pooled = ((variance(own) + variance(others)) / 2.0).max(1e-12);
            let ratio = |score: &f64| ((score - (high + low) / 2.0) * (high - low) / pooled, is_own);
            scores.iter().map(ratio).collect::<Vec<_>>()
        };
        posts.iter().enumerate().flat_map(of_post).collect()
    };
    [judged(own, true), judged(others, false)].concat()
}
