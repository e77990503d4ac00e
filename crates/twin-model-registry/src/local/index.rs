//! What a list shows of each version, in one file, so that ten thousand of them are listed at once.
//!
//! The index is derived: a version that it misses is read from its manifest, and a line that cannot be read, or is of a version
//! that is gone, counts for nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use twin_domain::{
    AuthorId, Digest, FeatureViewId, ModelRegistry, ModelVersion, ModelVersionId, RegistryError, TrainingSetId,
};

use super::{LocalRegistry, version_number};
use crate::durable;

const INDEX: &str = "index.jsonl";
/// The figures by which versions are told apart in a list.
const FIGURES: [&str; 3] = ["bits_per_byte.author.base", "bits_per_byte.author.twin", "bits_per_byte.author.gain.low"];

/// A version as a list shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionSummary {
    pub number: u32,
    pub content: Digest,
    /// The catalogue name of the base model.
    pub base: String,
    pub training_set: TrainingSetId,
    pub feature_view: FeatureViewId,
    /// Some of the metrics.
    pub figures: BTreeMap<String, f64>,
    pub code: String,
    pub created_at: Timestamp,
}

/// An author's versions as a list shows them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listing {
    /// Oldest first.
    pub versions: Vec<VersionSummary>,
    /// Numbers of versions that cannot be read.
    pub unreadable: Vec<u32>,
}

impl From<&ModelVersion> for VersionSummary {
    fn from(version: &ModelVersion) -> Self {
        let figure = |name: &str| Some((name.to_owned(), *version.metrics.get(name)?));
        Self {
            number: version.id.number,
            content: version.content.clone(),
            base: version.base.name.clone(),
            training_set: version.training_set.clone(),
            feature_view: version.feature_view.clone(),
            figures: FIGURES.into_iter().filter_map(figure).collect(),
            code: version.code.clone(),
            created_at: version.created_at,
        }
    }
}

impl LocalRegistry {
    /// An author's versions in short. One that cannot be read costs only itself.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn list(&self, author: &AuthorId) -> Result<Listing, RegistryError> {
        let mut known = self.index(author);
        let (mut versions, mut unreadable) = (Vec::new(), Vec::new());
        for number in self.numbers(author, "versions", version_number)? {
            let summary = known.remove(&number).or_else(|| {
                let version = self.version(&ModelVersionId { author: author.clone(), number }).ok()?;
                Some(VersionSummary::from(&version))
            });
            match summary {
                Some(summary) => versions.push(summary),
                None => unreadable.push(number),
            }
        }
        Ok(Listing { versions, unreadable })
    }

    /// The version of this content, if there is one among the author's `count` that can be read. Makes the index again when it
    /// is not complete; the caller has the lock.
    pub(super) fn version_with(
        &self,
        author: &AuthorId,
        content: &Digest,
        count: usize,
    ) -> Result<Option<ModelVersion>, RegistryError> {
        let text = durable::whole_lines(&self.author(author).join(INDEX)).unwrap_or_default();
        let is_complete = memchr::memchr_iter(b'\n', &text).count() == count;
        // Most contents are new: then nothing needs to be parsed.
        if is_complete && memchr::memmem::find(&text, content.as_str().as_bytes()).is_none() {
            return Ok(None);
        }
        if !is_complete {
            self.rebuild_index(author);
        }
        let listing = self.list(author)?;
        let same = listing.versions.into_iter().filter(|summary| summary.content == *content);
        let version = |summary: VersionSummary| {
            let id = ModelVersionId { author: author.clone(), number: summary.number };
            self.version(&id).ok().filter(|version| version.content == *content)
        };
        Ok(same.filter_map(version).next())
    }

    /// Adds a version. The index is never needed, so its failure is none.
    pub(super) fn add_to_index(&self, version: &ModelVersion) {
        let line = serde_json::to_vec(&VersionSummary::from(version)).unwrap_or_default();
        let _ = durable::append_line(&self.author(&version.id.author).join(INDEX), &line, |_| {});
    }

    /// Writes the index anew; the caller has the lock.
    pub(super) fn rebuild_index(&self, author: &AuthorId) {
        let Ok(listing) = self.list(author) else { return };
        let line = |summary: &VersionSummary| {
            let mut line = serde_json::to_vec(summary).unwrap_or_default();
            line.push(b'\n');
            line
        };
        let text: Vec<u8> = listing.versions.iter().flat_map(line).collect();
        // An old index is as right as a new one.
        let _ = durable::write(&self.author(author).join(INDEX), &text);
    }

    fn index(&self, author: &AuthorId) -> BTreeMap<u32, VersionSummary> {
        let text = durable::whole_lines(&self.author(author).join(INDEX)).unwrap_or_default();
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let summaries = lines.filter_map(|line| serde_json::from_slice::<VersionSummary>(line).ok());
        summaries.map(|summary| (summary.number, summary)).collect()
    }
}
