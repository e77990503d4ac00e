//! How far a text lies from the author's held-out posts and from other authors', and how much of it is copied.

use serde::{Deserialize, Serialize};
use twin_domain::feature_store::StoredDocument;
use twin_style::copying::{CopyIndex, CopyReport};
use twin_style::function_words::{Profile, Scale};
use twin_style::ngrams::{NgramProfile, Weights};
use twin_style::text::{prose, words};

/// The distances of a text to two sides. Nearer to the author than to the others is what a twin is for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Distances {
    /// To the author's held-out posts.
    pub author: f64,
    /// To the other authors' posts; `None` when there are none.
    pub others: Option<f64>,
}

/// The figures of everything an arm wrote, joined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StyleFigures {
    pub words: usize,
    /// Cosine Delta of function words and punctuation, 0 to 2.
    pub function_words: Distances,
    /// Cosine distance of weighted character 4-grams, 0 to 1.
    pub ngrams: Distances,
    /// What stands word for word in a training post.
    pub copying: CopyReport,
}

/// What texts are measured against. The scales come from training posts and other authors' posts, never from the text
/// that is measured.
pub(super) struct Ruler {
    scale: Scale,
    weights: Weights,
    author: (Profile, NgramProfile),
    others: Option<(Profile, NgramProfile)>,
    copies: CopyIndex,
}

impl Ruler {
    pub(super) fn new(train: &[StoredDocument], test: &[StoredDocument], others: &[StoredDocument]) -> Self {
        let known: Vec<&str> = train.iter().chain(others).map(text).collect();
        let joined = |documents: &[StoredDocument]| {
            let texts: Vec<&str> = documents.iter().map(text).collect();
            let joined = texts.join("\n\n");
            (Profile::of(&joined), NgramProfile::of(&joined))
        };
        Self {
            scale: Scale::of(&known.iter().map(|text| Profile::of(text)).collect::<Vec<_>>()),
            weights: Weights::of(&known.iter().map(|text| NgramProfile::of(text)).collect::<Vec<_>>()),
            author: joined(test),
            others: (!others.is_empty()).then(|| joined(others)),
            copies: CopyIndex::new(&train.iter().map(text).collect::<Vec<_>>()),
        }
    }

    /// The training posts, for finding copies of them.
    pub(super) fn copies(&self) -> &CopyIndex {
        &self.copies
    }

    pub(super) fn measure(&self, texts: &[&str]) -> StyleFigures {
        let joined = texts.join("\n\n");
        let (profile, ngrams) = (Profile::of(&joined), NgramProfile::of(&joined));
        let delta = |other: &Profile| self.scale.cosine_delta(&profile, other);
        let distance = |other: &NgramProfile| self.weights.distance(&ngrams, other);
        let others = self.others.as_ref();
        StyleFigures {
            words: words(&prose(&joined)).count(),
            function_words: Distances { author: delta(&self.author.0), others: others.map(|(other, _)| delta(other)) },
            ngrams: Distances { author: distance(&self.author.1), others: others.map(|(_, other)| distance(other)) },
            copying: self.copies.report(&joined),
        }
    }
}

fn text(stored: &StoredDocument) -> &str {
    &stored.document.text
}
