//! The four measures of likeness, each as one number: how much nearer a text is to the author than to the impostors.

use serde::{Deserialize, Serialize};

use super::RulerConfig;
use crate::counts::{CountedText, CountedUnit, WordCounts};
use crate::delta::{DeltaModel, Features, Measure};
use crate::impostors::GeneralImpostors;
use crate::ngrams::{CharModel, Counts, GrammarModel};
use crate::stats::{mean, variance};

pub(crate) const MEASURES: usize = 4;

/// A measure that likeness is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// Cosine Delta over the commonest words.
    CommonWords,
    /// Cosine Delta over function words and punctuation.
    FunctionWords,
    /// Bits per character that the author's character model saves over the impostors'.
    Characters,
    /// Bits per word or mark that the author's grammar model saves over the impostors'. The subject has no part in it.
    Grammar,
}

impl Component {
    /// In the order of every array of components.
    pub const ALL: [Self; MEASURES] = [Self::CommonWords, Self::FunctionWords, Self::Characters, Self::Grammar];

    /// The name in tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::CommonWords => "common words",
            Self::FunctionWords => "function words",
            Self::Characters => "characters",
            Self::Grammar => "grammar",
        }
    }
}

/// How many measures stand beside the likeness that counts alone are enough for.
pub(crate) const OTHERS: usize = 3;

/// A measure of the literature that stands beside the likeness and is no part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OtherMeasure {
    /// Burrows' Delta over the commonest words.
    Burrows,
    /// Eder's Delta over the commonest words.
    Eder,
    /// [`GeneralImpostors`] over the commonest words.
    GeneralImpostors,
    /// The cosine of weighted character 4-grams, the baseline of the PAN tasks. It needs text.
    CharacterNgrams,
}

impl OtherMeasure {
    /// Those that counts are enough for, in the order of every array of them.
    pub const COUNTED: [Self; OTHERS] = [Self::Burrows, Self::Eder, Self::GeneralImpostors];

    /// The name in tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Burrows => "Burrows' Delta",
            Self::Eder => "Eder's Delta",
            Self::GeneralImpostors => "General Impostors",
            Self::CharacterNgrams => "character 4-grams",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Measures {
    author: String,
    general_impostors: GeneralImpostors,
    common_words: DeltaModel,
    function_words: DeltaModel,
    characters: Pair<CharModel>,
    grammar: Pair<GrammarModel>,
}

/// A model of the author and one of everybody else.
#[derive(Debug)]
struct Pair<T> {
    own: T,
    others: T,
}

impl Measures {
    /// From known text alone: the author's and that of each impostor.
    pub(crate) fn fit(author: &CountedText, impostors: &[&CountedText], config: &RulerConfig) -> Self {
        // Names are made here, because an impostor may bear the author's.
        let names: Vec<String> = (0..=impostors.len()).map(|index| format!("{index:06}")).collect();
        let all = std::iter::once(&author).chain(impostors).map(|text| text.units.as_slice());
        let known: Vec<(&str, &[WordCounts])> = names.iter().map(String::as_str).zip(all).collect();
        let others = |counts: fn(&CountedText) -> &Counts| {
            let mut sum = Counts::default();
            for (key, count) in impostors.iter().flat_map(|text| counts(text)) {
                let of_key = sum.entry(*key).or_default();
                *of_key = of_key.saturating_add(*count);
            }
            sum
        };
        let common_words = DeltaModel::fit_counts(&known, Features::MostFrequentWords(config.most_frequent_words));
        Self {
            general_impostors: GeneralImpostors::new(common_words.vocabulary().len(), impostors.len(), config.seed),
            common_words,
            function_words: DeltaModel::fit_counts(&known, Features::FunctionWords),
            characters: Pair {
                own: CharModel::of(&author.characters),
                others: CharModel::of(&others(|text| &text.characters)),
            },
            grammar: Pair {
                own: GrammarModel::of(&author.grammar),
                others: GrammarModel::of(&others(|text| &text.grammar)),
            },
            author: names[0].clone(),
        }
    }

    /// The measures of a unit in the order of [`Component::ALL`], each higher for the author.
    pub(crate) fn of(&self, unit: &CountedUnit) -> [f64; MEASURES] {
        [
            self.nearness(&self.common_words, &unit.words),
            self.nearness(&self.function_words, &unit.words),
            self.characters.own.bits_gained(&self.characters.others, &unit.characters),
            self.grammar.own.bits_gained(&self.grammar.others, &unit.grammar),
        ]
    }

    /// The other measures of a unit in the order of [`OtherMeasure::COUNTED`], each higher for the author.
    pub(crate) fn others_of(&self, unit: &CountedUnit) -> [f64; OTHERS] {
        let z = self.common_words.z_scores_of(&unit.words);
        let own = self.common_words.centroid(&self.author).unwrap_or_default();
        [
            self.nearness_by(&self.common_words, &unit.words, Measure::Burrows),
            self.nearness_by(&self.common_words, &unit.words, Measure::Eder),
            self.general_impostors.share(&z, own, &self.common_words.other_centroids(&self.author)),
        ]
    }

    /// The z-scores of a unit's common words and function words.
    pub(crate) fn features(&self, unit: &CountedUnit) -> Vec<f64> {
        let mut features = self.common_words.z_scores_of(&unit.words);
        features.extend(self.function_words.z_scores_of(&unit.words));
        features
    }

    /// How much farther the impostors are on average than the author.
    fn nearness(&self, model: &DeltaModel, unit: &WordCounts) -> f64 {
        self.nearness_by(model, unit, Measure::Cosine)
    }

    fn nearness_by(&self, model: &DeltaModel, unit: &WordCounts, measure: Measure) -> f64 {
        let distances = model.distances_of(unit, measure);
        let of = |own: bool| distances.iter().filter(move |(name, _)| (*name == self.author) == own).map(|(_, d)| *d);
        mean(of(false)) - mean(of(true))
    }
}

/// The middle between author and impostors and the deviation within them, by which a measure is made comparable with others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standard {
    middle: f64,
    deviation: f64,
}

impl Standard {
    /// From the values of the author's units and of the impostors'.
    pub(crate) fn between(author: &[f64], impostors: &[f64]) -> Self {
        Self {
            middle: (mean(author.iter().copied()) + mean(impostors.iter().copied())) / 2.0,
            deviation: ((variance(author) + variance(impostors)) / 2.0).sqrt().max(1e-12),
        }
    }

    /// How many deviations a value lies above the middle.
    pub(crate) fn apply(self, value: f64) -> f64 {
        (value - self.middle) / self.deviation
    }
}
