//! Building a view from the documents that are there, beside whatever serves.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use twin_domain::{Author, CancelFlag, FeatureStore, Progress};
use twin_models::embedding::Embedder;

use super::{IngestError, IngestOptions, check_chunk_tokens, feature_view, load};
use crate::clean::CLEANER;
use crate::report::IngestReport;
use crate::warehouse::Warehouse;

/// Brings the view that these options describe up to date with an author's documents. Nothing is fetched or cleaned, and
/// no other view is touched; one that was built in part is gone on with. It begins to serve only if no view does yet.
///
/// # Errors
/// [`IngestError::OldCleaner`] when the documents are of older rules of cleaning than the view would say; otherwise as for
/// [`ingest`](super::ingest).
pub async fn build_view(
    warehouse: &Warehouse,
    store: Arc<dyn FeatureStore>,
    embedder: Arc<dyn Embedder>,
    author: &Author,
    options: &IngestOptions,
    progress: &dyn Progress,
    cancel: &CancelFlag,
) -> Result<IngestReport, IngestError> {
    let (begun, now) = (Instant::now(), Timestamp::now());
    check_chunk_tokens(embedder.as_ref(), options)?;
    let pages = warehouse.pages_not_cleaned_by(&author.id, CLEANER).await?;
    if pages > 0 {
        return Err(IngestError::OldCleaner { pages, author: author.id.clone(), cleaner: CLEANER.to_owned() });
    }
    let view = feature_view(embedder.as_ref(), options);
    let mut report = IngestReport::new(author.id.clone(), "the documents that are known".to_owned(), view.id());
    let load = load::Load { warehouse, store, embedder, author, options, progress, cancel, now, view: view.id() };
    load::features(&load, &view, &mut report).await?;
    report.seconds.total = begun.elapsed().as_secs_f64();
    Ok(report)
}
