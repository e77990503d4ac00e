//! A version of *how* features are made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The name of a feature view: `features-` and twelve digits of the digest of all that makes it what it is. The same
/// cleaner, chunker, embedder weights and sparse model always give the same id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeatureViewId(String);

impl FeatureViewId {
    /// Checks that `text` has the form of an id, so that it is safe as a file name.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("features-")?;
        let valid = digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        valid.then(|| Self(text.to_owned()))
    }

    /// The id as text; also the name of the Qdrant collection.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a [`FeatureViewId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a feature view: write it as `features-0123456789ab`; `twin features list` shows them")]
pub struct FeatureViewIdError(String);

impl FromStr for FeatureViewId {
    type Err = FeatureViewIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).ok_or_else(|| FeatureViewIdError(text.to_owned()))
    }
}

impl fmt::Display for FeatureViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How the features of a view are made. One Qdrant collection each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureView {
    /// The version of the cleaning rules.
    pub cleaner: String,
    /// The version of the chunking rules.
    pub chunker: String,
    /// The most tokens, of the embedder's tokenizer, that a chunk with its title and headings may have.
    pub max_chunk_tokens: usize,
    /// The catalogue name of the embedding model.
    pub embedder: String,
    /// The digest of the embedding model's weights.
    pub embedder_digest: Digest,
    /// The dimension of the dense vectors.
    pub dimension: usize,
    /// The sparse model and its parameters, as in `bm25 k1=1.2 b=0.75`.
    pub sparse: String,
}

impl FeatureView {
    /// The view's id.
    pub fn id(&self) -> FeatureViewId {
        FeatureViewId(format!("features-{}", Digest::of_json(self).short()))
    }
}
