//! Training sets: immutable, content-addressed examples with the documents they were made from.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{AuthorId, ChatMessage, Digest, DocumentId, FeatureViewId, PromptVersion};

/// The name of a training set: `set-` and twelve digits of the digest of its examples and documents.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrainingSetId(String);

impl TrainingSetId {
    /// The id of a set with this content.
    pub fn new(content: &Digest) -> Self {
        Self(format!("set-{}", content.short()))
    }

    /// Checks that `text` has the form of an id, so that it is safe as a file name.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("set-")?;
        let valid = digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        valid.then(|| Self(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a [`TrainingSetId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a training set: write it as `set-0123456789ab`; `twin dataset list` shows them")]
pub struct TrainingSetIdError(String);

impl FromStr for TrainingSetId {
    type Err = TrainingSetIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).ok_or_else(|| TrainingSetIdError(text.to_owned()))
    }
}

impl fmt::Display for TrainingSetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a document of a training set is for. The newest posts are test, those before them calibration (validation
/// loss, thresholds), the rest train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    Train,
    Calibration,
    Test,
}

impl Split {
    /// The name in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Calibration => "calibration",
            Self::Test => "test",
        }
    }
}

/// How an example's instruction was made. No outside model has a part in any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Title -> the opening of the post.
    WritePost,
    /// Heading -> its section.
    WriteSection,
    /// A heading that is a question -> its section, as an answer.
    AnswerQuestion,
    /// A passage -> the passage after it.
    Continue,
}

impl Task {
    /// The name in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WritePost => "write_post",
            Self::WriteSection => "write_section",
            Self::AnswerQuestion => "answer_question",
            Self::Continue => "continue",
        }
    }
}

/// One example of supervised fine-tuning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    pub split: Split,
    pub task: Task,
    pub document: DocumentId,
    /// The prompt as rendered by the prompt set that serves; the model's turn comes next.
    pub prompt: Vec<ChatMessage>,
    /// The author's own words: a verbatim slice of the document.
    pub target: String,
    /// Whether the target ends its document or section. Only then is the end of the turn in the loss: a passage that goes
    /// on must not teach the model to stop.
    pub complete: bool,
    /// Byte ranges of `target` that are not the author's voice; they are in the input and not in the loss.
    pub not_voice: Vec<std::ops::Range<usize>>,
}

/// A document that a training set was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingDocument {
    pub id: DocumentId,
    pub url: String,
    pub content_hash: Digest,
    pub split: Split,
}

/// The manifest of a training set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingSet {
    pub id: TrainingSetId,
    /// The digest of the examples and documents, of which the id is the start.
    pub content: Digest,
    pub author: AuthorId,
    pub feature_view: FeatureViewId,
    pub prompt: PromptVersion,
    /// The version of the rules that made the examples.
    pub recipe: String,
    pub documents: Vec<TrainingDocument>,
    /// How many examples each `split/task` has.
    pub counts: BTreeMap<String, usize>,
    pub created_at: Timestamp,
}

impl TrainingSet {
    /// The digest of what a set consists of; `created_at` is no part of it.
    pub fn content_digest(
        author: &AuthorId,
        view: &FeatureViewId,
        prompt: &PromptVersion,
        recipe: &str,
        documents: &[TrainingDocument],
        examples: &[Example],
    ) -> Digest {
        Digest::of_json(&(author, view, prompt, recipe, documents, examples))
    }

    /// The documents of one split.
    pub fn documents_in(&self, split: Split) -> impl Iterator<Item = &TrainingDocument> {
        self.documents.iter().filter(move |document| document.split == split)
    }
}
