//! Keeping what is known current: every source again, and the removal of a source.

use std::sync::Arc;

use jiff::Timestamp;
use twin_domain::{Author, AuthorId, CancelFlag, FeatureStore, Progress};
use twin_models::embedding::Embedder;

use super::{IngestError, IngestOptions, ingest, load};
use crate::report::IngestReport;
use crate::source::Source;
use crate::warehouse::{KnownDocument, StoredSource, Warehouse};

/// What became of one source.
#[derive(Debug)]
pub struct Synced {
    pub source: StoredSource,
    /// The report, or why the source could not be read. A source that cannot be read keeps its documents.
    pub outcome: Result<IngestReport, IngestError>,
}

/// Reads every source of an author again that is not paused, taking in only what changed. Documents that a source has no
/// more become tombstones and leave the index.
///
/// # Errors
/// When the warehouse cannot be read. A source that cannot be read is an outcome among the others.
pub async fn sync(
    warehouse: &Warehouse,
    store: Arc<dyn FeatureStore>,
    embedder: Arc<dyn Embedder>,
    author: &Author,
    options: &IngestOptions,
    progress: &dyn Progress,
    cancel: &CancelFlag,
) -> Result<Vec<Synced>, IngestError> {
    let mut synced = Vec::new();
    for source in warehouse.sources(Some(&author.id)).await?.into_iter().filter(|source| !source.paused) {
        if cancel.is_cancelled() {
            break;
        }
        let options = IngestOptions { only_by: source.only_by.clone(), remove_gone: true, ..options.clone() };
        let outcome = match Source::recognise(&source.location) {
            Ok(found) => {
                let (store, embedder) = (store.clone(), embedder.clone());
                ingest(warehouse, store, embedder, author, &found, &options, progress, cancel).await
            }
            Err(error) => Err(error.into()),
        };
        synced.push(Synced { source, outcome });
    }
    Ok(synced)
}

/// Removes a source: its documents leave the index, then everything of it leaves the warehouse. Gives the number of
/// documents. A removal that was killed is finished by the next one, or by the next run for the author.
///
/// # Errors
/// When the warehouse or the store fails.
pub async fn remove_source(
    warehouse: &Warehouse,
    store: Arc<dyn FeatureStore>,
    author: &AuthorId,
    id: i64,
) -> Result<u64, IngestError> {
    let documents = warehouse.bury_source(id, Timestamp::now()).await?;
    load::remove_gone(warehouse, &store, author).await?;
    warehouse.delete_source(id).await?;
    Ok(documents)
}

/// Forgets a document: it leaves the index, then everything of it leaves the warehouse, and no run takes it in again. Doing it
/// again, also after a kill, changes nothing more.
///
/// # Errors
/// When the warehouse or the store fails.
pub async fn forget(
    warehouse: &Warehouse,
    store: Arc<dyn FeatureStore>,
    document: &KnownDocument,
) -> Result<(), IngestError> {
    warehouse.begin_to_forget(document, Timestamp::now()).await?;
    load::remove_gone(warehouse, &store, &document.author).await?;
    warehouse.erase(document.id).await?;
    Ok(())
}
