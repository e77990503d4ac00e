//! The pipeline itself: collect, clean, load.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use twin_domain::{Author, CancelFlag, FeatureStore, FeatureView, FeatureViewId, Progress, ProgressUpdate, StoreError};
use twin_models::embedding::{EmbedError, Embedder};

use crate::chunk::CHUNKER;
use crate::clean::CLEANER;
use crate::fetch::{FetchConfig, FetchError};
use crate::report::IngestReport;
use crate::source::{ServiceAddresses, Source, SourceError};
use crate::warehouse::{Warehouse, WarehouseError};

mod build;
mod collect;
mod git;
mod load;
mod settle;
mod sync;
mod web;

pub use self::build::build_view;
pub use self::sync::{Synced, forget, remove_source, sync};

/// How a source is ingested.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    /// The most tokens of a chunk, title and headings included. Part of the feature view.
    pub max_chunk_tokens: usize,
    /// The sparse model of the feature store, as it names it. Part of the feature view.
    pub sparse: String,
    /// Shorter documents are not taken.
    pub min_words: usize,
    /// Whether e-mail addresses, phone numbers and keys are masked before anything is embedded.
    pub mask_private: bool,
    /// Files and rows with more text are not read.
    pub max_document_bytes: u64,
    /// The most pages taken from a source.
    pub max_pages: usize,
    /// Take only documents whose byline has this name; those without a byline are taken.
    pub only_by: Option<String>,
    /// Whether documents that the source has no more become tombstones and leave the index. They are kept otherwise.
    pub remove_gone: bool,
    /// How many chunks are embedded and loaded at a time. One such batch is prepared, one embedded and one stored at once,
    /// and a killed run repeats at most these.
    pub batch_chunks: usize,
    pub fetch: FetchConfig,
    /// Where the APIs of services are.
    pub services: ServiceAddresses,
    /// The folder in which clones of repositories are kept, so that the next run fetches only what is new.
    pub clones: Option<std::path::PathBuf>,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            // The embedding model cuts off at 256; the rest is room for what differs when chunks are joined.
            max_chunk_tokens: 220,
            sparse: "bm25 k1=1.2 b=0.75 forms=stem+word".to_owned(),
            min_words: 40,
            mask_private: true,
            max_document_bytes: 4 * 1024 * 1024,
            max_pages: 20_000,
            only_by: None,
            remove_gone: false,
            batch_chunks: 256,
            fetch: FetchConfig::default(),
            services: ServiceAddresses::default(),
            clones: None,
        }
    }
}

/// Why a run ended without a report. What was done before is kept, and running again goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
    #[error("the features could not be stored")]
    Store(#[from] StoreError),
    #[error("the chunks could not be embedded")]
    Embed(#[from] EmbedError),
    #[error("chunks of {asked} tokens do not fit the embedder `{embedder}`, which sees {window}: ask for fewer")]
    ChunkTokens { asked: usize, embedder: String, window: usize },
    #[error("the feature store has {there} chunks of the author after loading, but {expected} were loaded: run again")]
    Lost { there: u64, expected: u64 },
    #[error(
        "{pages} pages of `{author}` were cleaned by older rules than `{cleaner}`: `twin sync --author {author}` cleans them again, then build"
    )]
    OldCleaner { pages: u64, author: twin_domain::AuthorId, cleaner: String },
    #[error("a worker of the pipeline panicked")]
    Panicked(#[from] tokio::task::JoinError),
}

/// The feature view that a run with these options makes features for.
pub fn feature_view(embedder: &dyn Embedder, options: &IngestOptions) -> FeatureView {
    FeatureView {
        cleaner: CLEANER.to_owned(),
        chunker: CHUNKER.to_owned(),
        max_chunk_tokens: options.max_chunk_tokens,
        embedder: embedder.name().to_owned(),
        embedder_digest: embedder.digest().clone(),
        dimension: embedder.dimension(),
        sparse: options.sparse.clone(),
    }
}

/// Brings the posts of a source into the feature store: pages are collected into the warehouse, cleaned to documents, and
/// those that are not yet in the view are chunked, embedded and loaded.
///
/// Each step commits before the next begins and repeats safely: a run that was killed or interrupted at any moment and
/// then run again ends in the state of one clean run. Documents that the source no longer has are reported, and kept
/// unless the options say otherwise.
///
/// # Errors
/// When the source cannot be read at all, or the warehouse, the embedder or the store fails. A single bad page is an
/// entry in the report.
#[expect(clippy::too_many_arguments, reason = "the pipeline's parts, each named by its type; they are bundled inside")]
pub async fn ingest(
    warehouse: &Warehouse,
    store: Arc<dyn FeatureStore>,
    embedder: Arc<dyn Embedder>,
    author: &Author,
    source: &Source,
    options: &IngestOptions,
    progress: &dyn Progress,
    cancel: &CancelFlag,
) -> Result<IngestReport, IngestError> {
    let (begun, now) = (Instant::now(), Timestamp::now());
    let view = feature_view(embedder.as_ref(), options);
    let run = Run { warehouse, store, embedder, author, source, options, progress, cancel, now, view: view.id() };
    check_chunk_tokens(run.embedder.as_ref(), options)?;
    let mut report = IngestReport::new(author.id.clone(), source.to_string(), view.id());

    let pages = collect::pages(&run, &mut report).await?;
    let collected = pages.source;
    if !run.interrupted(&mut report) {
        settle::documents(&run, pages, &mut report).await?;
    }
    if !run.interrupted(&mut report) {
        load::features(&run.load(), &view, &mut report).await?;
    }
    if !report.interrupted {
        warehouse.end_run(collected, Timestamp::now()).await?;
        report.inventory = Some(warehouse.inventory(&author.id).await?);
    }
    report.seconds.total = begun.elapsed().as_secs_f64();
    Ok(report)
}

/// What the stages of one run share.
struct Run<'a> {
    warehouse: &'a Warehouse,
    store: Arc<dyn FeatureStore>,
    embedder: Arc<dyn Embedder>,
    author: &'a Author,
    source: &'a Source,
    options: &'a IngestOptions,
    progress: &'a dyn Progress,
    cancel: &'a CancelFlag,
    /// The time of the run: one for all rows, by which what this run saw is told from what it did not.
    now: Timestamp,
    view: FeatureViewId,
}

/// Checks that chunks of the size that is asked for fit the embedder's window.
fn check_chunk_tokens(embedder: &dyn Embedder, options: &IngestOptions) -> Result<(), IngestError> {
    // Two of the window are the model's own start and end tokens.
    let (window, asked) = (embedder.max_tokens(), options.max_chunk_tokens);
    if asked == 0 || asked + 2 > window {
        return Err(IngestError::ChunkTokens { asked, embedder: embedder.name().to_owned(), window });
    }
    Ok(())
}

impl Run<'_> {
    fn load(&self) -> load::Load<'_> {
        load::Load {
            warehouse: self.warehouse,
            store: self.store.clone(),
            embedder: self.embedder.clone(),
            author: self.author,
            options: self.options,
            progress: self.progress,
            cancel: self.cancel,
            now: self.now,
            view: self.view.clone(),
        }
    }

    fn interrupted(&self, report: &mut IngestReport) -> bool {
        report.interrupted |= self.cancel.is_cancelled();
        report.interrupted
    }

    fn update(&self, stage: &str, done: usize, total: Option<usize>, unit: &str, detail: &str) {
        let total = total.map(|total| total as u64);
        self.progress.update(ProgressUpdate { stage, done: done as u64, total, unit, detail });
    }
}

/// An error with its causes as one sentence, for reports.
pub(crate) fn in_a_sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
