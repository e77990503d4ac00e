//! Splitting by document and by date: the newest posts are test, those before them calibration, the rest train.
//!
//! A split at random would let a model see the week before and the week after a test post. Documents that are nearly the
//! same stay on one side, or the test would ask for what was learnt by heart.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use twin_domain::Split;
use twin_domain::feature_store::StoredDocument;

use super::DatasetConfig;

/// With fewer documents no side of the split would have anything to say.
pub(super) const MIN_DOCUMENTS: usize = 5;

/// How alike two documents may be, as the Jaccard index of their word 5-grams, and stay on different sides.
pub(super) const NEAR_DUPLICATE: f64 = 0.5;

/// The split of each document; `documents` are in order of their dates.
pub(super) fn by_date(documents: &[StoredDocument], config: &DatasetConfig) -> Vec<Split> {
    let count = documents.len();
    let part = |share: f64| ((count as f64 * share).round() as usize).max(1);
    let test = part(config.test_share).max(2).min(count);
    let calibration = part(config.calibration_share).min(count - test);
    let mut splits = vec![Split::Train; count - test - calibration];
    splits.resize(count - test, Split::Calibration);
    splits.resize(count, Split::Test);

    let sketches: Vec<Sketch> = documents.iter().map(|stored| Sketch::of(&stored.document.text)).collect();
    // Oldest first, so that a chain of copies ends up where its first member is.
    for later in 0..count {
        for earlier in 0..later {
            if splits[earlier] != splits[later] && sketches[earlier].similarity(&sketches[later]) > NEAR_DUPLICATE {
                splits[later] = splits[earlier];
            }
        }
    }
    splits
}

/// The 256 smallest hashes of a text's word 5-grams (bottom-k sketch; Broder, "On the resemblance and containment of
/// documents", 1997). Estimates the Jaccard index within a few percent, without comparing whole texts.
pub(super) struct Sketch(BTreeSet<u64>);

const SKETCH_SIZE: usize = 256;

impl Sketch {
    pub(super) fn of(text: &str) -> Self {
        let words: Vec<String> = text
            .split(|character: char| !character.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase)
            .collect();
        let hash = |gram: &[String]| {
            let mut hasher = DefaultHasher::new();
            gram.hash(&mut hasher);
            hasher.finish()
        };
        let mut hashes: BTreeSet<u64> = words.windows(5).map(hash).collect();
        while hashes.len() > SKETCH_SIZE {
            hashes.pop_last();
        }
        Self(hashes)
    }

    pub(super) fn similarity(&self, other: &Self) -> f64 {
        let union: Vec<&u64> = self.0.union(&other.0).take(SKETCH_SIZE).collect();
        let both = union.iter().filter(|hash| self.0.contains(hash) && other.0.contains(hash)).count();
        if union.is_empty() { 0.0 } else { both as f64 / union.len() as f64 }
    }
}
