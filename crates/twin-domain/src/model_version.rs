//! Model versions: an adapter with everything it was made of.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{AuthorId, Digest, FeatureViewId, PromptVersion, TrainingSetId};

/// A model version is known by its author and a number that counts from 1: `ada@v3`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelVersionId {
    pub author: AuthorId,
    pub number: u32,
}

/// Why a text is not a [`ModelVersionId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a model version: write the author and the number, as in `ada-lovelace@v3`")]
pub struct ModelVersionIdError(String);

impl fmt::Display for ModelVersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@v{}", self.author, self.number)
    }
}

impl FromStr for ModelVersionId {
    type Err = ModelVersionIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (author, number) = text.split_once("@v")?;
            let number = number.parse().ok().filter(|number| *number > 0)?;
            Some(Self { author: AuthorId::parse(author).ok()?, number })
        };
        parse().ok_or_else(|| ModelVersionIdError(text.to_owned()))
    }
}

impl TryFrom<String> for ModelVersionId {
    type Error = ModelVersionIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ModelVersionId> for String {
    fn from(id: ModelVersionId) -> Self {
        id.to_string()
    }
}

/// The model that an adapter belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseModel {
    /// The catalogue name.
    pub name: String,
    /// The repository on the Hugging Face Hub, by which PEFT knows the model.
    pub hub: String,
    /// The digest of the weights file.
    pub digest: Digest,
}

/// An immutable, content-addressed model version with its lineage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelVersion {
    pub id: ModelVersionId,
    /// The digest of base, lineage, hyper-parameters and adapter weights. Registering the same content twice gives the same version.
    pub content: Digest,
    pub base: BaseModel,
    pub training_set: TrainingSetId,
    pub feature_view: FeatureViewId,
    pub prompt: PromptVersion,
    /// All that the training run was told, seed included.
    pub hyper_parameters: serde_json::Value,
    /// The figures by which versions are compared, such as `bits_per_byte.author.twin`.
    pub metrics: BTreeMap<String, f64>,
    /// Every file of the version with its digest.
    pub files: BTreeMap<String, Digest>,
    /// The version of this program that made it.
    pub code: String,
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_as_they_are_written() {
        let id: ModelVersionId = "ada@v12".parse().unwrap();
        assert_eq!(id.number, 12);
        assert_eq!(id.to_string(), "ada@v12");
        for bad in ["ada", "ada@v0", "ada@v-1", "@v1", "ada@1", "../x@v1"] {
            assert!(bad.parse::<ModelVersionId>().is_err(), "{bad}");
        }
    }
}
