//! Model versions: an adapter with everything it was made of.

use std::collections::{BTreeMap, BTreeSet};
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
    /// What it was made on: operating system, architecture, cores.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    pub created_at: Timestamp,
}

/// What a version is for now. Versions do not change; this does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It does not serve.
    #[default]
    Candidate,
    /// It answers readers, or some of them.
    Production,
    /// It is put aside, and goes with the next clean-up when nothing refers to it.
    Archived,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Candidate => "candidate",
            Self::Production => "production",
            Self::Archived => "archived",
        })
    }
}

/// A remark on a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub text: String,
    pub by: String,
    pub at: Timestamp,
}

/// What is said of a version after it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotations {
    pub archived: bool,
    pub tags: BTreeSet<String>,
    pub notes: Vec<Note>,
    /// Why it must be trained again: posts that it learnt from and that are to be forgotten.
    pub retrain: Vec<Note>,
    /// It was removed, and its number is not given again.
    pub removed: bool,
}

/// Something that is said of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Annotation {
    Archived,
    /// It is a candidate again.
    Restored,
    Tagged {
        tag: String,
    },
    Untagged {
        tag: String,
    },
    Note {
        text: String,
    },
    /// It learnt from something that is to be forgotten.
    Retrain {
        text: String,
    },
    Removed,
}

impl Annotations {
    /// Takes in one more.
    pub fn apply(&mut self, annotation: &Annotation, by: &str, at: Timestamp) {
        let note = |text: &String| Note { text: text.clone(), by: by.to_owned(), at };
        match annotation {
            Annotation::Archived => self.archived = true,
            Annotation::Restored => self.archived = false,
            Annotation::Tagged { tag } => self.tags.extend([tag.clone()]),
            Annotation::Untagged { tag } => self.tags.retain(|known| known != tag),
            Annotation::Note { text } => self.notes.push(note(text)),
            Annotation::Retrain { text } => self.retrain.push(note(text)),
            Annotation::Removed => self.removed = true,
        }
    }
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
