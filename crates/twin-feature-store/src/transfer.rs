//! Moving a view from one store to another, with its vectors: nothing is embedded again.

use serde::Serialize;
use twin_domain::{CancelFlag, ChunkId, FeatureStore, FeatureViewId, Progress, ProgressUpdate, StoreError};

use crate::failure::{engine, invalid};

/// How many chunks are read and written at a time.
const PAGE: usize = 256;

/// What was moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Transferred {
    pub view: FeatureViewId,
    /// Chunks that were written.
    pub chunks: u64,
    /// Chunks that only the target had, and that were removed there.
    pub removed: u64,
    /// Whether it was stopped before the end; doing it again goes through all of it again and ends in the same state.
    pub interrupted: bool,
}

/// Makes a view of one store the same in another. Authors come along. What of the view only the target has is removed
/// there, document by document. The target does not begin to serve the view.
///
/// # Errors
/// [`StoreError::NotFound`] when `from` has no such view; when either store fails, or the numbers differ afterwards.
pub fn transfer(
    from: &dyn FeatureStore,
    to: &dyn FeatureStore,
    view: &FeatureViewId,
    progress: &dyn Progress,
    cancel: &CancelFlag,
) -> Result<Transferred, StoreError> {
    let described = from.views()?.into_iter().find(|described| described.id() == *view);
    let described = described.ok_or_else(|| StoreError::NotFound { what: format!("feature view `{view}`") })?;
    for author in from.authors()? {
        to.put_author(&author)?;
    }
    to.create_view(&described)?;
    let total = from.count(view, None)?;
    let mut moved = Transferred { view: view.clone(), chunks: 0, removed: 0, interrupted: false };
    let mut after: Option<ChunkId> = None;
    loop {
        if cancel.is_cancelled() {
            return Ok(Transferred { interrupted: true, ..moved });
        }
        let page = from.page(view, None, after, PAGE)?;
        moved.removed += remove_strangers(from, to, view, after, &page)?;
        to.upsert(view, &page)?;
        moved.chunks += page.len() as u64;
        let update =
            ProgressUpdate { stage: "moving", done: moved.chunks, total: Some(total), unit: "chunks", detail: "" };
        progress.update(update);
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.chunk.id),
            _ => break,
        }
    }
    to.optimize(view)?;
    check(from, to, view)?;
    Ok(moved)
}

/// Removes from the target what lies among the ids of a page and is not in it.
fn remove_strangers(
    from: &dyn FeatureStore,
    to: &dyn FeatureStore,
    view: &FeatureViewId,
    after: Option<ChunkId>,
    page: &[twin_domain::EmbeddedChunk],
) -> Result<u64, StoreError> {
    let ids: std::collections::HashSet<ChunkId> = page.iter().map(|chunk| chunk.chunk.id).collect();
    // The last page is followed by nothing, so everything behind it is a stranger too.
    let end = page.last().filter(|_| page.len() == PAGE).map(|last| last.chunk.id);
    let (mut after, mut removed) = (after, 0);
    loop {
        let there = to.page(view, None, after, PAGE)?;
        let within = there.iter().take_while(|chunk| end.is_none_or(|end| chunk.chunk.id <= end));
        for stranger in within.filter(|chunk| !ids.contains(&chunk.chunk.id)) {
            let document = stranger.chunk.document;
            let before = to.count(view, None)?;
            let current = from.chunks(view, document)?.first().map(|(_, info)| info.content_hash.clone());
            to.remove_stale(view, document, current.as_ref())?;
            removed += before.saturating_sub(to.count(view, None)?);
        }
        match there.last() {
            Some(last) if there.len() == PAGE && end.is_none_or(|end| last.chunk.id < end) => {
                after = Some(last.chunk.id)
            }
            _ => return Ok(removed),
        }
    }
}

fn check(from: &dyn FeatureStore, to: &dyn FeatureStore, view: &FeatureViewId) -> Result<(), StoreError> {
    let (expected, there) = (from.count(view, None)?, to.count(view, None)?);
    if expected == there {
        return Ok(());
    }
    let problem =
        format!("{there} chunks arrived of {expected}: let nothing write to either store meanwhile, and do it again");
    Err(if there < expected { engine("move the view whole", problem) } else { invalid("the move", problem) })
}
