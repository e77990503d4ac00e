//! The contract of the model registry.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::release::{Change, Gate, Occasion, Promotion, Traffic};
use crate::{AuthorId, BaseModel, FeatureViewId, ModelVersion, ModelVersionId, PromptVersion, Release, TrainingSetId};

/// Why the registry could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no such thing in the registry.
    #[error("{what} is not in the model registry: `twin registry list` shows what is")]
    NotFound { what: String },
    /// What was read is not what was written.
    #[error("{what} is damaged: {problem}")]
    Damaged { what: String, problem: String },
    /// What was given cannot be registered.
    #[error("{what} cannot be registered: {problem}")]
    Invalid { what: String, problem: String },
    /// What was asked would contradict what the registry has.
    #[error("{what}: {problem}")]
    Refused { what: String, problem: String },
    /// A newer version of this program made it.
    #[error(
        "the model registry `{path}` is of format {found}, and this program knows formats up to {known}: a newer version of \
         twin has written it, so use that one; nothing was changed"
    )]
    Newer { path: String, found: u32, known: u32 },
    /// The registry may be read and not written.
    #[error(
        "the model registry `{path}` cannot be written: get the right to write there, or use another with --data-dir"
    )]
    ReadOnly {
        path: String,
        #[source]
        source: std::io::Error,
    },
    /// A file could not be read or written; the error names it.
    #[error("the model registry could not {operation}")]
    Io {
        operation: String,
        #[source]
        source: std::io::Error,
    },
}

/// A trained and evaluated model that is not yet registered.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub author: AuthorId,
    pub base: BaseModel,
    pub training_set: TrainingSetId,
    pub feature_view: FeatureViewId,
    pub prompt: PromptVersion,
    pub hyper_parameters: serde_json::Value,
    pub metrics: BTreeMap<String, f64>,
    pub code: String,
}

/// Where model versions and releases live.
pub trait ModelRegistry: Send + Sync {
    /// Copies every file of `files` into a new immutable version. A version with the same content is returned instead of
    /// being made twice. Never is a part of a version visible.
    fn register(&self, candidate: &Candidate, files: &Path) -> Result<ModelVersion, RegistryError>;

    /// The authors with at least one version.
    fn authors(&self) -> Result<Vec<AuthorId>, RegistryError>;

    /// All versions of an author, oldest first.
    fn versions(&self, author: &AuthorId) -> Result<Vec<ModelVersion>, RegistryError>;

    /// One version.
    fn version(&self, id: &ModelVersionId) -> Result<ModelVersion, RegistryError>;

    /// A directory with the version's files, each checked against its digest.
    fn open(&self, id: &ModelVersionId) -> Result<PathBuf, RegistryError>;

    /// Makes a release, or finds the one with the same triple.
    fn create_release(
        &self,
        model: &ModelVersionId,
        feature_view: &FeatureViewId,
        prompt: &PromptVersion,
    ) -> Result<Release, RegistryError>;

    /// All releases of an author, oldest first.
    fn releases(&self, author: &AuthorId) -> Result<Vec<Release>, RegistryError>;

    /// One release.
    fn release(&self, author: &AuthorId, number: u32) -> Result<Release, RegistryError>;

    /// Changes what serves, and records who did it, when and why. Atomic: a reader sees what served before or what serves
    /// now. Asking for what is so already changes nothing. The entry that is in force afterwards.
    fn change(&self, author: &AuthorId, change: &Change, occasion: &Occasion) -> Result<Promotion, RegistryError>;

    /// Lets a release serve without a gate.
    fn promote(&self, author: &AuthorId, release: u32, occasion: &Occasion) -> Result<(), RegistryError> {
        self.change(author, &Change::Promote { release, gate: Gate::NotAsked }, occasion).map(drop)
    }

    /// The release that serves, if one was ever promoted.
    fn serving(&self, author: &AuthorId) -> Result<Option<Release>, RegistryError>;

    /// Every change of what serves, oldest first.
    fn history(&self, author: &AuthorId) -> Result<Vec<Promotion>, RegistryError>;

    /// Which releases answer; `None` when none was ever promoted.
    fn traffic(&self, author: &AuthorId) -> Result<Option<Traffic>, RegistryError> {
        Ok(Traffic::of(&self.history(author)?))
    }
}
