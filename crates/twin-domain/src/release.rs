//! Releases: what serves.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{AuthorId, FeatureViewId, ModelVersionId};

/// The version of a set of prompt templates: its name and the start of the digest of its texts, as in `twin-1+3fa85f64`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PromptVersion(pub String);

impl fmt::Display for PromptVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The triple that answers: model version, feature view and prompt version. Promoting and rolling back act on releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub author: AuthorId,
    /// Counts from 1 for each author. A rollback is a new entry in the history, not a new release.
    pub number: u32,
    pub model: ModelVersionId,
    pub feature_view: FeatureViewId,
    pub prompt: PromptVersion,
    pub created_at: Timestamp,
}

/// An entry in an author's release history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    pub release: u32,
    /// Why, in the words of whoever did it.
    pub reason: String,
    pub at: Timestamp,
}
