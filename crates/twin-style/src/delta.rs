//! Delta: how far a text lies from an author in the frequencies of the commonest words.
//!
//! Burrows, "'Delta': a measure of stylistic difference and a guide to likely authorship" (2002); the cosine after Smith and
//! Aldridge (2011), the best of its kind on posts; Eder's weighting after Eder, Rybicki and Kestemont, "Stylometry with R"
//! (2016). The list of words and the z-scores come from known text alone, never from what is measured.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::counts::WordCounts;
use crate::function_words;

/// How two vectors of z-scores are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Burrows' Delta: the mean absolute difference.
    Burrows,
    /// Cosine Delta: one minus the cosine, 0 to 2; 1 when one of the two is all zeros.
    Cosine,
    /// Eder's Delta: as Burrows', the rarer a word the less it weighs, falling evenly to 1/n.
    Eder,
    /// Quadratic Delta (Argamon, 2008): the mean squared difference.
    Quadratic,
}

impl Measure {
    /// The distance of two vectors of z-scores, most frequent feature first. Of unequal vectors the common part counts.
    pub fn between(self, a: &[f64], b: &[f64]) -> f64 {
        let length = a.len().min(b.len());
        let pairs = || a.iter().zip(b);
        let mean = |sum: f64| if length == 0 { 0.0 } else { sum / length as f64 };
        match self {
            Self::Burrows => mean(pairs().map(|(x, y)| (x - y).abs()).sum()),
            Self::Quadratic => mean(pairs().map(|(x, y)| (x - y).powi(2)).sum()),
            Self::Eder => {
                let weight = |rank: usize| (length - rank) as f64 / length as f64;
                mean(pairs().enumerate().map(|(rank, (x, y))| (x - y).abs() * weight(rank)).sum())
            }
            Self::Cosine => {
                let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
                let norms = (dot(a, a) * dot(b, b)).sqrt();
                if norms > 0.0 { 1.0 - dot(a, b) / norms } else { 1.0 }
            }
        }
    }
}

/// Mean and sample standard deviation of every feature over known texts.
#[derive(Debug, Clone, PartialEq)]
pub struct ZScores {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl ZScores {
    /// From the features of known texts, one row each.
    pub fn of<'a>(rows: impl IntoIterator<Item = &'a [f64]>) -> Self {
        let rows: Vec<&[f64]> = rows.into_iter().collect();
        let count = rows.len().max(1) as f64;
        let features = rows.iter().map(|row| row.len()).min().unwrap_or(0);
        let mean: Vec<f64> = (0..features).map(|f| rows.iter().map(|row| row[f]).sum::<f64>() / count).collect();
        let variance =
            |f: usize| rows.iter().map(|row| (row[f] - mean[f]).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
        let deviation = (0..features).map(|f| variance(f).sqrt()).collect();
        Self { mean, deviation }
    }

    /// The z-scores of a row. A feature that does not vary in the known texts is at zero in every text.
    pub fn apply(&self, row: &[f64]) -> Vec<f64> {
        let scaled = |(value, (mean, deviation)): (&f64, (&f64, &f64))| {
            if *deviation > 1e-12 { (value - mean) / deviation } else { 0.0 }
        };
        row.iter().zip(self.mean.iter().zip(&self.deviation)).map(scaled).collect()
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Features {
    /// The most frequent words of the known texts, this many at most.
    MostFrequentWords(usize),
    /// English function words and punctuation: a fixed list that hardly depends on the topic.
    FunctionWords,
}

#[derive(Debug, Clone)]
enum Vocabulary {
    Words(Vec<String>),
    FunctionWords,
}

impl Vocabulary {
    fn frequencies(&self, counts: &WordCounts) -> Vec<f64> {
        match self {
            Self::FunctionWords => function_words::frequencies(counts),
            Self::Words(vocabulary) => {
                let share = |word: &String| f64::from(counts.of_word(word)) / f64::from(counts.total.max(1));
                vocabulary.iter().map(share).collect()
            }
        }
    }
}

/// Known authors, ready to be compared with: the features, their z-scores and each author's mean vector.
#[derive(Debug, Clone)]
pub struct DeltaModel {
    vocabulary: Vocabulary,
    scale: ZScores,
    centroids: BTreeMap<String, Vec<f64>>,
}

impl DeltaModel {
    /// A model of authors with their known units of prose, which should be of about one length. Authors of the same name are
    /// one author. Equally frequent words are taken in the order of the alphabet.
    pub fn fit<T: AsRef<str>>(known: &[(&str, Vec<T>)], features: Features) -> Self {
        let counted = |units: &Vec<T>| units.iter().map(|unit| WordCounts::of(unit.as_ref())).collect::<Vec<_>>();
        let known: Vec<(&str, Vec<WordCounts>)> =
            known.iter().map(|(author, units)| (*author, counted(units))).collect();
        let known: Vec<(&str, &[WordCounts])> =
            known.iter().map(|(author, units)| (*author, units.as_slice())).collect();
        Self::fit_counts(&known, features)
    }

    /// The same from counted units.
    pub(crate) fn fit_counts(known: &[(&str, &[WordCounts])], features: Features) -> Self {
        let vocabulary = match features {
            Features::FunctionWords => Vocabulary::FunctionWords,
            Features::MostFrequentWords(limit) => Vocabulary::Words(most_frequent(known, limit)),
        };
        let units = known.iter().flat_map(|(author, units)| units.iter().map(move |unit| (*author, unit)));
        let rows: Vec<(&str, Vec<f64>)> = units.map(|(author, unit)| (author, vocabulary.frequencies(unit))).collect();
        let scale = ZScores::of(rows.iter().map(|(_, row)| row.as_slice()));
        let mut by_author: BTreeMap<String, Vec<Vec<f64>>> = BTreeMap::new();
        for (author, row) in &rows {
            by_author.entry((*author).to_owned()).or_default().push(scale.apply(row));
        }
        let centroids = by_author.into_iter().map(|(author, rows)| (author, mean_row(&rows))).collect();
        Self { vocabulary, scale, centroids }
    }

    /// The known authors, in the order of the alphabet.
    pub fn authors(&self) -> impl Iterator<Item = &str> + '_ {
        self.centroids.keys().map(String::as_str)
    }

    /// The most frequent words that are counted, most frequent first; empty for function words.
    pub fn vocabulary(&self) -> &[String] {
        match &self.vocabulary {
            Vocabulary::Words(words) => words,
            Vocabulary::FunctionWords => &[],
        }
    }

    /// The z-scores of a unit of prose.
    pub fn z_scores(&self, unit: &str) -> Vec<f64> {
        self.z_scores_of(&WordCounts::of(unit))
    }

    /// The z-scores of a counted unit.
    pub(crate) fn z_scores_of(&self, unit: &WordCounts) -> Vec<f64> {
        self.scale.apply(&self.vocabulary.frequencies(unit))
    }

    /// The mean z-scores of an author's known units; `None` for an author who is not known.
    pub(crate) fn centroid(&self, author: &str) -> Option<&[f64]> {
        self.centroids.get(author).map(Vec::as_slice)
    }

    /// The mean z-scores of every other author, in the order of [`Self::authors`].
    pub(crate) fn other_centroids(&self, author: &str) -> Vec<&[f64]> {
        self.centroids.iter().filter(|(name, _)| *name != author).map(|(_, row)| row.as_slice()).collect()
    }

    /// How far a unit of prose lies from an author; `None` for an author who is not known.
    pub fn distance(&self, unit: &str, author: &str, measure: Measure) -> Option<f64> {
        Some(measure.between(&self.z_scores(unit), self.centroids.get(author)?))
    }

    /// How far a unit of prose lies from every author, in the order of [`Self::authors`].
    pub fn distances(&self, unit: &str, measure: Measure) -> Vec<(&str, f64)> {
        self.distances_of(&WordCounts::of(unit), measure)
    }

    /// The same of a counted unit.
    pub(crate) fn distances_of(&self, unit: &WordCounts, measure: Measure) -> Vec<(&str, f64)> {
        let z = self.z_scores_of(unit);
        self.centroids.iter().map(|(author, centroid)| (author.as_str(), measure.between(&z, centroid))).collect()
    }
}

fn most_frequent(known: &[(&str, &[WordCounts])], limit: usize) -> Vec<String> {
    let mut totals: HashMap<&str, u64> = HashMap::new();
    for (word, count) in known.iter().flat_map(|(_, units)| *units).flat_map(|unit| &unit.words) {
        *totals.entry(word).or_default() += u64::from(*count);
    }
    let mut totals: Vec<(&str, u64)> = totals.into_iter().collect();
    totals.sort_unstable_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
    totals.into_iter().take(limit).map(|(word, _)| word.to_owned()).collect()
}

fn mean_row(rows: &[Vec<f64>]) -> Vec<f64> {
    let features = rows.first().map_or(0, Vec::len);
    (0..features).map(|f| rows.iter().map(|row| row[f]).sum::<f64>() / rows.len() as f64).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_distances() {
        let (a, b) = ([1.0, 2.0, -1.0, 0.0], [0.0, 4.0, -1.0, 4.0]);
        assert_eq!(Measure::Burrows.between(&a, &b), 7.0 / 4.0);
        assert_eq!(Measure::Quadratic.between(&a, &b), 21.0 / 4.0);
        assert_eq!(Measure::Eder.between(&a, &b), (1.0 + 2.0 * 0.75 + 4.0 * 0.25) / 4.0);
        assert!((Measure::Cosine.between(&a, &b) - (1.0 - 9.0 / (6.0_f64 * 33.0).sqrt())).abs() < 1e-12);
        assert_eq!(Measure::Cosine.between(&a, &[0.0; 4]), 1.0);
    }

    #[test]
    fn known_z_scores() {
        // 2, 4, 6: mean 4, sample deviation 2. A feature that never varies says nothing.
        let scale = ZScores::of([&[2.0, 1.0][..], &[4.0, 1.0], &[6.0, 1.0]]);
        assert_eq!(scale.apply(&[6.0, 9.0]), [1.0, 0.0]);
    }

    #[test]
    fn the_vocabulary_is_the_most_frequent_words_with_ties_in_alphabetical_order() {
        let model = DeltaModel::fit(&[("x", vec!["b b a a c"]), ("y", vec!["d c c"])], Features::MostFrequentWords(3));
        assert_eq!(model.vocabulary(), ["c", "a", "b"]);
        assert_eq!(model.authors().collect::<Vec<_>>(), ["x", "y"]);
    }

    #[test]
    fn an_author_is_nearest_to_their_own_words() {
        let plain = vec!["cut it and do not wait", "do it and cut it", "wait and do not cut it"];
        let winding =
            vec!["which had been the case of which we had heard", "we had of which the case", "the case which we had"];
        for features in [Features::MostFrequentWords(20), Features::FunctionWords] {
            let model = DeltaModel::fit(&[("plain", plain.clone()), ("winding", winding.clone())], features);
            for measure in [Measure::Burrows, Measure::Cosine, Measure::Eder, Measure::Quadratic] {
                let distance = |author| model.distance("do not wait and cut", author, measure).unwrap();
                assert!(distance("plain") < distance("winding"), "{features:?} {measure:?}");
            }
            assert_eq!(model.distance("x", "nobody", Measure::Cosine), None);
        }
    }

    proptest! {
        #[test]
        fn distances_are_symmetric_and_zero_to_oneself(a in prop::collection::vec(-3.0..3.0_f64, 1..9), seed in -1.0..1.0_f64) {
            let b: Vec<f64> = a.iter().rev().map(|x| x * seed + 0.1).collect();
            for measure in [Measure::Burrows, Measure::Cosine, Measure::Eder, Measure::Quadratic] {
                prop_assert!((measure.between(&a, &b) - measure.between(&b, &a)).abs() < 1e-12);
                prop_assert!(measure.between(&a, &a).abs() < 1e-12 || a.iter().all(|x| *x == 0.0));
                prop_assert!(measure.between(&a, &b) >= -1e-12);
            }
        }
    }
}
