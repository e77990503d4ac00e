//! Passages of documents: what is embedded, found and cited.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::document::NAMESPACE;
use crate::{Digest, DocumentId, DocumentInfo, FeatureViewId};

/// The identity of a chunk: UUIDv5 of document, content hash, feature view and ordinal. Loading the same document
/// twice writes the same points, so it changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChunkId(pub Uuid);

impl ChunkId {
    /// The id of chunk `ordinal` of a document in a feature view.
    pub fn new(document: DocumentId, content_hash: &Digest, view: &FeatureViewId, ordinal: u32) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, format!("{document}\n{content_hash}\n{view}\n{ordinal}").as_bytes()))
    }
}

impl std::fmt::Display for ChunkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What most of a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChunkKind {
    /// The author's own prose, lists and tables.
    Prose,
    /// Somebody else's words.
    Quotation,
    /// A fenced or indented code block.
    Code,
}

impl ChunkKind {
    /// The payload value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prose => "prose",
            Self::Quotation => "quotation",
            Self::Code => "code",
        }
    }
}

/// A passage of a document.
///
/// The texts of a document's chunks, in order and joined without anything between them, are the document's text,
/// byte for byte: the feature store alone can give a document back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    pub id: ChunkId,
    pub document: DocumentId,
    /// The position among the document's chunks, from 0.
    pub ordinal: u32,
    /// How many chunks the document has; `ordinal - 1` and `ordinal + 1` within it are the neighbours.
    pub chunk_count: u32,
    pub kind: ChunkKind,
    /// The titles of the headings above the chunk, outermost first, without the document's title.
    pub heading_path: Vec<String>,
    /// The author's own text: an exact slice of the document.
    pub text: String,
    /// What lexical search sees: title, headings and text, normalised.
    pub search_text: String,
    /// Byte ranges of `text` that are not the author's voice: quotations and code. Training leaves them out of the loss.
    pub not_voice: Vec<Range<usize>>,
}

/// A dense vector: finite, not zero, of the embedder's dimension.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f32>", into = "Vec<f32>")]
pub struct Embedding(Vec<f32>);

/// Why numbers are not an [`Embedding`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmbeddingError {
    #[error("an embedding of no dimensions: the embedder returned nothing")]
    Empty,
    #[error("an embedding with a value that is not finite at position {0}: check the embedding model's files")]
    NotFinite(usize),
    #[error("an embedding of length zero: the text has nothing that the embedder knows")]
    Zero,
}

impl Embedding {
    /// Checks the values. Vector stores accept NaN and zero vectors silently and then misplace them, so it is done here.
    ///
    /// # Errors
    /// When there are no values, one is not finite, or all are zero.
    pub fn new(values: Vec<f32>) -> Result<Self, EmbeddingError> {
        if values.is_empty() {
            return Err(EmbeddingError::Empty);
        }
        if let Some(position) = values.iter().position(|value| !value.is_finite()) {
            return Err(EmbeddingError::NotFinite(position));
        }
        if values.iter().all(|value| *value == 0.0) {
            return Err(EmbeddingError::Zero);
        }
        Ok(Self(values))
    }

    /// The values.
    pub fn values(&self) -> &[f32] {
        &self.0
    }

    /// The number of values.
    pub fn dimension(&self) -> usize {
        self.0.len()
    }

    /// Cosine similarity, -1 to 1; 0 for embeddings of different dimension, which have nothing in common.
    pub fn cosine(&self, other: &Self) -> f32 {
        if self.dimension() != other.dimension() {
            return 0.0;
        }
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        let norms = (dot(&self.0, &self.0) * dot(&other.0, &other.0)).sqrt();
        if norms > 0.0 { dot(&self.0, &other.0) / norms } else { 0.0 }
    }
}

impl TryFrom<Vec<f32>> for Embedding {
    type Error = EmbeddingError;

    fn try_from(values: Vec<f32>) -> Result<Self, Self::Error> {
        Self::new(values)
    }
}

impl From<Embedding> for Vec<f32> {
    fn from(embedding: Embedding) -> Self {
        embedding.0
    }
}

/// A chunk with its vector, ready to be loaded.
#[derive(Debug, Clone)]
pub struct EmbeddedChunk {
    pub chunk: Chunk,
    pub document: Arc<DocumentInfo>,
    pub embedding: Embedding,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_that_would_be_misplaced_are_refused() {
        assert_eq!(Embedding::new(vec![]), Err(EmbeddingError::Empty));
        assert_eq!(Embedding::new(vec![1.0, f32::NAN]), Err(EmbeddingError::NotFinite(1)));
        assert_eq!(Embedding::new(vec![0.0, 0.0]), Err(EmbeddingError::Zero));
    }

    #[test]
    fn cosine_of_known_vectors() {
        let vector = |values: &[f32]| Embedding::new(values.to_vec()).unwrap();
        assert!((vector(&[1.0, 0.0]).cosine(&vector(&[1.0, 1.0])) - 0.5_f32.sqrt()).abs() < 1e-6);
        assert_eq!(vector(&[1.0]).cosine(&vector(&[1.0, 1.0])), 0.0);
    }
}
