//! The contract of the feature store: features for inference, features and labels for training.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::{
    Author, AuthorId, Chunk, ChunkId, ChunkKind, Document, DocumentId, DocumentInfo, EmbeddedChunk, Embedding, Example,
    FeatureView, FeatureViewId, TrainingSet, TrainingSetId,
};

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such thing in the store.
    #[error("{what} is not in the feature store: check the name, or ingest the posts first")]
    NotFound { what: String },
    /// Another process has the store open.
    #[error(
        "the feature store `{path}` is in use by process {owner}, and one process at a time can have it open: stop that one, or wait for it to end"
    )]
    Locked { path: String, owner: String },
    /// What was read is not what was written.
    #[error("{what} is damaged: {problem}")]
    Damaged { what: String, problem: String },
    /// What was given cannot be stored.
    #[error("{what} cannot be stored: {problem}")]
    Invalid { what: String, problem: String },
    /// The engine behind the store failed.
    #[error("the feature store could not {operation}")]
    Engine {
        operation: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Which chunks a query may return. An empty filter lets everything of the author through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Documents published on this day or later.
    pub from: Option<Date>,
    /// Documents published on this day or earlier.
    pub to: Option<Date>,
    /// Documents with at least one of these tags; empty means any.
    pub tags: Vec<String>,
    /// Chunks of one of these kinds; empty means any.
    pub kinds: Vec<ChunkKind>,
    /// Documents in one of these languages (ISO 639-1); empty means any.
    pub languages: Vec<String>,
    /// Documents that must not be returned, such as the one a test question was made from.
    pub without: Vec<DocumentId>,
}

impl Filter {
    /// Whether a chunk of a document passes. A document without a date passes only where no date is asked for.
    pub fn admits(&self, chunk: &Chunk, document: &DocumentInfo) -> bool {
        let after = |from| document.date.is_some_and(|date| date >= from);
        let before = |to| document.date.is_some_and(|date| date <= to);
        self.from.is_none_or(after)
            && self.to.is_none_or(before)
            && (self.tags.is_empty() || document.tags.iter().any(|tag| self.tags.contains(tag)))
            && (self.kinds.is_empty() || self.kinds.contains(&chunk.kind))
            && (self.languages.is_empty() || document.language.as_ref().is_some_and(|of| self.languages.contains(of)))
            && !self.without.contains(&document.id)
    }
}

/// Which searches a query makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Searches {
    /// By meaning and by words.
    #[default]
    Both,
    /// By the embedding alone.
    Dense,
    /// By BM25 alone.
    Lexical,
}

impl Searches {
    /// Whether embeddings are compared.
    pub fn dense(self) -> bool {
        self != Self::Lexical
    }

    /// Whether words are compared.
    pub fn lexical(self) -> bool {
        self != Self::Dense
    }
}

/// How the candidates of the two searches become one list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fusion {
    /// By reciprocal rank (Cormack et al., SIGIR 2009; k = 60): each search gives `1 / (60 + rank)`, ranks counting from 1.
    #[default]
    ReciprocalRank,
    /// By score: each search's are scaled to 0 for its worst candidate and 1 for its best, and weighed (a convex combination;
    /// Bruch et al., TOIS 2023). What a search did not find has 0 from it.
    Score {
        /// What dense search weighs, 0 to 1; lexical search has the rest.
        dense_weight: f32,
    },
}

/// A hybrid query: dense and BM25 candidates, fused.
///
/// The author is part of the query and not of the filter, so that no query can see another author's chunks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HybridQuery {
    pub author: AuthorId,
    /// The text that lexical search looks for.
    pub text: String,
    /// The same text as the embedder of the view sees it.
    pub embedding: Embedding,
    pub filter: Filter,
    pub searches: Searches,
    pub fusion: Fusion,
    /// How many candidates each of the two searches contributes.
    pub candidates: usize,
    /// How many chunks come back.
    pub limit: usize,
}

/// A chunk that a query found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredChunk {
    pub chunk: Chunk,
    pub document: DocumentInfo,
    /// The fused score; higher is better, comparable within one query only.
    pub score: f32,
    /// The cosine similarity of query and chunk, -1 to 1; comparable between queries.
    pub similarity: f32,
    /// The BM25 score, where lexical search found it.
    pub lexical: Option<f32>,
    /// The chunk's vector, by which chunks can be compared with each other. Its length may have been made 1.
    pub embedding: Embedding,
}

/// That a view began to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    pub view: FeatureViewId,
    pub at: Timestamp,
}

/// Where features live. Implementations are synchronous: callers in async code use a blocking thread.
///
/// Every write is durable when it returns: it survives a killed process.
pub trait FeatureStore: Send + Sync {
    /// Records an author or replaces the record.
    fn put_author(&self, author: &Author) -> Result<(), StoreError>;

    /// All recorded authors, by id.
    fn authors(&self) -> Result<Vec<Author>, StoreError>;

    /// One author; [`StoreError::NotFound`] for an unknown one.
    fn author(&self, id: &AuthorId) -> Result<Author, StoreError> {
        let found = self.authors()?.into_iter().find(|author| author.id == *id);
        found.ok_or_else(|| StoreError::NotFound { what: format!("author `{id}`") })
    }

    /// Makes an empty collection for a view, or finds the one there is.
    fn create_view(&self, view: &FeatureView) -> Result<FeatureViewId, StoreError>;

    /// All views.
    fn views(&self) -> Result<Vec<FeatureView>, StoreError>;

    /// The view that serves, if one was ever switched to.
    fn serving_view(&self) -> Result<Option<FeatureViewId>, StoreError>;

    /// Lets a view serve. Atomic: a reader sees the old one or the new one.
    fn switch(&self, view: &FeatureViewId) -> Result<(), StoreError>;

    /// The switches that are remembered, oldest first; the last one made the view that serves. Older ones may be forgotten.
    fn switches(&self) -> Result<Vec<Switch>, StoreError>;

    /// Removes a view with its chunks. One that serves is [`StoreError::Invalid`].
    fn remove_view(&self, view: &FeatureViewId) -> Result<(), StoreError>;

    /// Merges what many writes left scattered and builds the indexes for searching, where the engine does not do so by
    /// itself. Pays at the end of a load; true when there was something to do. Queries go on meanwhile.
    fn optimize(&self, view: &FeatureViewId) -> Result<bool, StoreError>;

    /// Reads what queries of a view go through, so that the first ones need not wait for the disk. Takes seconds for a large
    /// view, and does nothing where the engine is another process.
    fn prefetch(&self, view: &FeatureViewId) -> Result<(), StoreError> {
        let _ = view;
        Ok(())
    }

    /// Writes chunks; those with the same id are replaced.
    fn upsert(&self, view: &FeatureViewId, chunks: &[EmbeddedChunk]) -> Result<(), StoreError>;

    /// Removes all chunks of a document except those with `keep`'s content hash. `None` removes the document.
    fn remove_stale(
        &self,
        view: &FeatureViewId,
        document: DocumentId,
        keep: Option<&crate::Digest>,
    ) -> Result<(), StoreError>;

    /// The chunks that answer a query best, best first.
    fn query(&self, view: &FeatureViewId, query: &HybridQuery) -> Result<Vec<ScoredChunk>, StoreError>;

    /// Chunks with their vectors, ordered by id: the first `limit` of those after `after`, of one author or of all. Fewer
    /// than `limit` are the last ones.
    fn page(
        &self,
        view: &FeatureViewId,
        author: Option<&AuthorId>,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<EmbeddedChunk>, StoreError>;

    /// The chunks of one document, in order.
    fn chunks(&self, view: &FeatureViewId, document: DocumentId) -> Result<Vec<(Chunk, DocumentInfo)>, StoreError>;

    /// All documents of an author, put together from their chunks, oldest first (undated ones at the start, ties by URL).
    /// A document of which a chunk is missing is [`StoreError::Damaged`].
    fn documents(&self, view: &FeatureViewId, author: &AuthorId) -> Result<Vec<StoredDocument>, StoreError>;

    /// How many chunks a view has, of one author or of all.
    fn count(&self, view: &FeatureViewId, author: Option<&AuthorId>) -> Result<u64, StoreError>;
}

/// A document as the feature store gives it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredDocument {
    pub document: Document,
    /// Byte ranges of the text that are not the author's voice, merged and in order.
    pub not_voice: Vec<std::ops::Range<usize>>,
}

/// Where training sets live: immutable and content-addressed.
pub trait TrainingSetStore: Send + Sync {
    /// Stores a set. Storing one that is there changes nothing.
    fn put_training_set(&self, set: &TrainingSet, examples: &[Example]) -> Result<(), StoreError>;

    /// A set's manifest.
    fn training_set(&self, id: &TrainingSetId) -> Result<TrainingSet, StoreError>;

    /// A set's examples, checked against its digest.
    fn examples(&self, id: &TrainingSetId) -> Result<Vec<Example>, StoreError>;

    /// All sets of an author, newest first.
    fn training_sets(&self, author: &AuthorId) -> Result<Vec<TrainingSet>, StoreError>;

    /// Removes a set's examples, which quote posts, and keeps its manifest, by which models are traced to posts. Its examples
    /// are [`StoreError::NotFound`] from then on. Removing them again changes nothing.
    fn remove_examples(&self, id: &TrainingSetId) -> Result<(), StoreError>;
}
