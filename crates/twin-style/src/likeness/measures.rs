//! The three measures of likeness, each as one number: how much nearer a text is to the author than to the impostors.

use serde::{Deserialize, Serialize};

use super::RulerConfig;
use crate::delta::{DeltaModel, Features, Measure};
use crate::ngrams::{CharModel, bits_gained};
use crate::stats::mean;
use crate::text::Unit;

pub(super) const MEASURES: usize = 3;

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
}

impl Component {
    /// In the order of every array of components.
    pub const ALL: [Self; MEASURES] = [Self::CommonWords, Self::FunctionWords, Self::Characters];
}

#[derive(Debug)]
pub(super) struct Measures {
    author: String,
    common_words: DeltaModel,
    function_words: DeltaModel,
    own: CharModel,
    others: CharModel,
}

impl Measures {
    /// From known text alone: the author's units and those of each impostor.
    pub(super) fn fit(author: &[Unit], impostors: &[Vec<Unit>], config: &RulerConfig) -> Self {
        // Names are made here, because an impostor may bear the author's.
        let names: Vec<String> = (0..=impostors.len()).map(|index| format!("{index:06}")).collect();
        let texts = |units: &[Unit]| units.iter().map(|unit| unit.text.clone()).collect::<Vec<_>>();
        let all = std::iter::once(texts(author)).chain(impostors.iter().map(|units| texts(units)));
        let known: Vec<(&str, Vec<String>)> = names.iter().map(String::as_str).zip(all).collect();
        let others: Vec<&String> = known.iter().skip(1).flat_map(|(_, texts)| texts).collect();
        Self {
            common_words: DeltaModel::fit(&known, Features::MostFrequentWords(config.most_frequent_words)),
            function_words: DeltaModel::fit(&known, Features::FunctionWords),
            own: CharModel::fit(&texts(author)),
            others: CharModel::fit(&others),
            author: names[0].clone(),
        }
    }

    /// The measures of a piece of prose in the order of [`Component::ALL`], each higher for the author.
    pub(super) fn of(&self, prose: &str) -> [f64; MEASURES] {
        [
            self.nearness(&self.common_words, prose),
            self.nearness(&self.function_words, prose),
            bits_gained(&self.own, &self.others, prose),
        ]
    }

    /// How much farther the impostors are on average than the author.
    fn nearness(&self, model: &DeltaModel, prose: &str) -> f64 {
        let distances = model.distances(prose, Measure::Cosine);
        let of = |own: bool| distances.iter().filter(move |(name, _)| (*name == self.author) == own).map(|(_, d)| *d);
        mean(of(false)) - mean(of(true))
    }
}
