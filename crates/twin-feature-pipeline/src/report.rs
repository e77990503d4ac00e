//! What a run did, for people and for scripts. Nothing here prints; the binary does.

use serde::{Deserialize, Serialize};
use twin_domain::{AuthorId, FeatureViewId};

use crate::clean::Masked;

pub(crate) mod inventory;

pub use self::inventory::{Holdings, Inventory, LanguageShare, SourceHoldings, Weakness, WeaknessKind};

/// Something that was found and not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// The file, row or address.
    pub what: String,
    /// Why, in a sentence.
    pub reason: String,
}

/// A document that says what another one says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Duplicate {
    /// The file, row or address that was not taken.
    pub what: String,
    /// The URL of the document that was.
    pub of: String,
    /// The share of five-word sequences that both have, 0 to 1 (Jaccard).
    pub similarity: f64,
}

/// How long each stage took, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Finding and reading, or fetching, the pages.
    pub collecting: f64,
    /// Cleaning, boilerplate, duplicates.
    pub cleaning: f64,
    /// Splitting into chunks and counting tokens.
    pub chunking: f64,
    /// The embedding model.
    pub embedding: f64,
    /// The feature store. Chunking, embedding and loading go on at the same time.
    pub loading: f64,
    /// All of it.
    pub total: f64,
}

impl Seconds {
    /// The share of the time after collecting that the embedding model was at work, 0 to 1: how near the run came to the
    /// speed of embedding alone.
    pub fn embedder_share(&self) -> f64 {
        let after = self.total - self.collecting;
        if after > 0.0 { (self.embedding / after).min(1.0) } else { 0.0 }
    }
}

/// The sizes of the chunks written in a run, in tokens of the embedder with title and headings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkStatistics {
    pub min: usize,
    pub median: usize,
    pub p95: usize,
    pub max: usize,
    /// Chunks beyond the embedder's window, of which it sees only the start: code blocks, which are never split.
    pub beyond_window: usize,
}

impl ChunkStatistics {
    /// The statistics of chunks of these sizes.
    pub(crate) fn of(mut tokens: Vec<usize>, window: usize) -> Self {
        tokens.sort_unstable();
        let at =
            |share: f64| tokens.get(((tokens.len().saturating_sub(1)) as f64 * share) as usize).copied().unwrap_or(0);
        let beyond_window = tokens.iter().filter(|count| **count > window).count();
        Self { min: at(0.0), median: at(0.5), p95: at(0.95), max: at(1.0), beyond_window }
    }
}

/// What [`crate::ingest`] did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IngestReport {
    pub author: AuthorId,
    /// The source, and what it was recognised as.
    pub source: String,
    /// The view that the features were made for.
    pub view: FeatureViewId,
    /// Pages the source gave in this run, the skipped ones included.
    pub found: usize,
    /// Documents that were not known before.
    pub new: usize,
    /// Documents whose title, date, tags or text changed.
    pub changed: usize,
    /// Documents that are as they were.
    pub unchanged: usize,
    /// What was found and not taken, with the reason.
    pub skipped: Vec<Skip>,
    /// What was found and not taken because another document says the same.
    pub duplicates: Vec<Duplicate>,
    /// Pages that an earlier run found in this source and this one did not. Their documents are kept.
    pub missing: Vec<String>,
    /// Addresses of documents that the source has no more and that were taken out of the index.
    pub removed: Vec<String>,
    /// Remarks a reader of the report should see, such as boilerplate that was removed.
    pub notes: Vec<String>,
    /// What is masked in the documents of the source.
    pub masked: Masked,
    /// Documents brought into the feature store by this run.
    pub documents_indexed: usize,
    /// Chunks written to the feature store by this run.
    pub chunks_written: usize,
    /// Those of them whose vectors were there already, made of the same text by the same embedder.
    pub chunks_reused: usize,
    /// Tokens embedded by this run, with titles and headings.
    pub tokens_embedded: usize,
    /// Chunks of the author in the view after this run.
    pub chunks_in_view: u64,
    pub chunk_tokens: ChunkStatistics,
    pub seconds: Seconds,
    /// Chunks per second from the first that was cut to the last that was stored; 0 when there were none.
    pub chunks_per_second: f64,
    /// What there is of the author after this run, by source, and what a twin of it will be weak on.
    pub inventory: Option<Inventory>,
    /// Whether the run was asked to stop before the end. What it had done is kept; the next run goes on from there.
    pub interrupted: bool,
}

impl IngestReport {
    /// A report of a run that has not done anything yet.
    pub(crate) fn new(author: AuthorId, source: String, view: FeatureViewId) -> Self {
        Self {
            author,
            source,
            view,
            found: 0,
            new: 0,
            changed: 0,
            unchanged: 0,
            skipped: Vec::new(),
            duplicates: Vec::new(),
            missing: Vec::new(),
            removed: Vec::new(),
            notes: Vec::new(),
            masked: Masked::default(),
            documents_indexed: 0,
            chunks_written: 0,
            chunks_reused: 0,
            tokens_embedded: 0,
            chunks_in_view: 0,
            chunk_tokens: ChunkStatistics::default(),
            seconds: Seconds::default(),
            chunks_per_second: 0.0,
            inventory: None,
            interrupted: false,
        }
    }
}
