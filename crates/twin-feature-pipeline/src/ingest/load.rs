//! Loading: documents that are not in the view are chunked, embedded and written to the feature store.
//!
//! What was embedded before, by the same embedder from the same text, is not embedded again, whichever view it was for.
//! A document counts as indexed only after the store has acknowledged all its chunks and let go of stale ones. Chunk ids
//! follow from the content, so what a killed run had already written is written again and nothing is there twice.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;
use twin_domain::{
    Author, AuthorId, CancelFlag, Digest, DocumentId, DocumentInfo, EmbeddedChunk, Embedding, FeatureStore,
    FeatureView, FeatureViewId, Progress, ProgressUpdate,
};
use twin_models::embedding::{EmbedError, Embedder};

use super::{IngestError, IngestOptions};
use crate::chunk::{self, PreparedChunk};
use crate::report::{ChunkStatistics, IngestReport};
use crate::warehouse::{Embeddings, Warehouse};

/// How many chunks the store gets in one call.
const UPSERT_BATCH: usize = 128;

/// What loading works with.
pub(super) struct Load<'a> {
    pub(super) warehouse: &'a Warehouse,
    pub(super) store: Arc<dyn FeatureStore>,
    pub(super) embedder: Arc<dyn Embedder>,
    pub(super) author: &'a Author,
    pub(super) options: &'a IngestOptions,
    pub(super) progress: &'a dyn Progress,
    pub(super) cancel: &'a CancelFlag,
    pub(super) now: Timestamp,
    pub(super) view: FeatureViewId,
}

impl Load<'_> {
    fn interrupted(&self, report: &mut IngestReport) -> bool {
        report.interrupted |= self.cancel.is_cancelled();
        report.interrupted
    }
}

/// Brings the view up to date with the author's documents. The next documents are chunked, and the last ones stored, while
/// the embedder works, which is the slowest by far.
pub(super) async fn features(run: &Load<'_>, view: &FeatureView, report: &mut IngestReport) -> Result<(), IngestError> {
    prepare_store(run, view.clone(), report).await?;
    remove_gone(run.warehouse, &run.store, &run.author.id).await?;
    let begun = Instant::now();
    let pending = run.warehouse.not_indexed(&run.author.id, &run.view).await?;
    let documents = pending.len();
    let (to_embed, prepared) = mpsc::channel(1);
    let (to_store, embedded) = mpsc::channel(1);
    // A stage that fails lets go of its channels, which ends the others.
    let (chunking, embedding, stored) =
        tokio::join!(prepare(run, pending, to_embed), embed(run, documents, prepared, to_store), store(run, embedded));
    let (chunking, embedding, stored) = (chunking?, embedding?, stored?);
    report.seconds.chunking = chunking.as_secs_f64();
    report.seconds.embedding = embedding.busy.as_secs_f64();
    report.seconds.loading = stored.busy.as_secs_f64();
    report.documents_indexed = stored.documents;
    report.chunks_written = stored.tokens.len();
    report.chunks_reused = embedding.reused;
    report.tokens_embedded = embedding.tokens;
    let seconds = begun.elapsed().as_secs_f64();
    report.chunks_per_second = if stored.tokens.is_empty() { 0.0 } else { stored.tokens.len() as f64 / seconds };
    report.chunk_tokens = ChunkStatistics::of(stored.tokens, run.embedder.max_tokens());
    if run.interrupted(report) {
        return Ok(());
    }
    finish(run, report).await
}

/// Makes the view if it is not there, and notices an index that was lost: the warehouse is the truth.
async fn prepare_store(run: &Load<'_>, view: FeatureView, report: &mut IngestReport) -> Result<(), IngestError> {
    let (author, view_id) = (run.author.clone(), run.view.clone());
    let there = with_store(run, move |store| {
        store.create_view(&view)?;
        store.put_author(&author)?;
        store.count(&view_id, Some(&author.id))
    })
    .await?;
    let expected = run.warehouse.chunks_indexed(&run.author.id, &run.view).await?;
    // More than expected is what a killed run wrote and did not record; its documents are loaded again anyway.
    if there < expected {
        report
            .notes
            .push(format!("the feature store had {there} of {expected} chunks: all of the author's are loaded again"));
        run.warehouse.forget_indexed(&run.author.id, &run.view).await?;
    }
    Ok(())
}

/// Takes documents that are gone out of every view. A run that is killed in between does it again.
pub(super) async fn remove_gone(
    warehouse: &Warehouse,
    store: &Arc<dyn FeatureStore>,
    author: &AuthorId,
) -> Result<(), IngestError> {
    for (view, document) in warehouse.gone_but_indexed(author).await? {
        let (store, of_view) = (store.clone(), view.clone());
        let remove = move || match store.views()?.into_iter().find(|there| there.id().as_str() == of_view) {
            Some(there) => store.remove_stale(&there.id(), document, None),
            None => Ok(()),
        };
        tokio::task::spawn_blocking(remove).await??;
        warehouse.forget_document(&view, document).await?;
    }
    Ok(())
}

async fn with_store<T: Send + 'static>(
    run: &Load<'_>,
    work: impl FnOnce(&dyn FeatureStore) -> Result<T, twin_domain::StoreError> + Send + 'static,
) -> Result<T, IngestError> {
    let store = run.store.clone();
    Ok(tokio::task::spawn_blocking(move || work(store.as_ref())).await??)
}

/// Documents that are loaded together.
#[derive(Default)]
struct Window {
    /// Each with the digest of its content and the number of its chunks.
    documents: Vec<(DocumentId, Digest, usize)>,
    chunks: Vec<Pending>,
}

/// A chunk on its way to the store.
struct Pending {
    document: Arc<DocumentInfo>,
    prepared: PreparedChunk,
    /// The digest of the text that is embedded.
    text: Digest,
    embedding: Option<Embedding>,
}

/// Cuts the documents into chunks, with the vectors that were made before, and says how long that took.
async fn prepare(
    run: &Load<'_>,
    documents: Vec<DocumentId>,
    windows: mpsc::Sender<Window>,
) -> Result<Duration, IngestError> {
    let (mut busy, mut window) = (Duration::ZERO, Window::default());
    for id in documents {
        if run.cancel.is_cancelled() {
            return Ok(busy);
        }
        let begun = Instant::now();
        let document = run.warehouse.document(id).await?;
        let known = run.warehouse.embeddings(id, run.embedder.digest()).await?;
        let (embedder, view, most) = (run.embedder.clone(), run.view.clone(), run.options.max_chunk_tokens);
        let info = Arc::new(document.info.clone());
        let split = move || chunk::split(&document, &view, most, embedder.as_ref());
        let chunks = tokio::task::spawn_blocking(split).await?;
        window.documents.push((info.id, info.content_hash.clone(), chunks.len()));
        window.chunks.extend(chunks.into_iter().map(|prepared| {
            let text = Digest::of(&prepared.embedding_text);
            let embedding = known.get(&text).cloned();
            Pending { document: info.clone(), prepared, text, embedding }
        }));
        busy += begun.elapsed();
        if window.chunks.len() >= run.options.batch_chunks && windows.send(std::mem::take(&mut window)).await.is_err() {
            return Ok(busy);
        }
    }
    if !window.documents.is_empty() {
        // Nobody listening means that a later stage failed, and says why.
        let _ = windows.send(window).await;
    }
    Ok(busy)
}

/// What embedding did.
#[derive(Default)]
struct Embedded {
    /// The time in the embedder.
    busy: Duration,
    reused: usize,
    tokens: usize,
}

/// Embeds one window after the other, until there are no more or the run is interrupted.
async fn embed(
    run: &Load<'_>,
    documents: usize,
    mut windows: mpsc::Receiver<Window>,
    embedded: mpsc::Sender<Window>,
) -> Result<Embedded, IngestError> {
    let (mut did, mut progress) = (Embedded::default(), Told { documents: 0, of: documents, chunks: 0 });
    while let Some(mut window) = windows.recv().await {
        did.reused += window.chunks.iter().filter(|chunk| chunk.embedding.is_some()).count();
        if !embed_missing(run, &mut window, &progress, &mut did).await? {
            break;
        }
        progress.documents += window.documents.len();
        progress.chunks += window.chunks.len();
        progress.tell(run, 0.0, &window);
        if embedded.send(window).await.is_err() {
            break;
        }
    }
    Ok(did)
}

/// Embeds each text of a window that has no vector yet once, those of like length together, so that little is padded. Says
/// whether it came to the end.
async fn embed_missing(
    run: &Load<'_>,
    window: &mut Window,
    progress: &Told,
    did: &mut Embedded,
) -> Result<bool, IngestError> {
    let missing = window.chunks.iter().filter(|chunk| chunk.embedding.is_none());
    let texts: BTreeMap<(usize, &Digest), &str> =
        missing.map(|chunk| ((chunk.prepared.tokens, &chunk.text), chunk.prepared.embedding_text.as_str())).collect();
    let texts: Vec<(usize, Digest, String)> =
        texts.into_iter().map(|((tokens, digest), text)| (tokens, digest.clone(), text.to_owned())).collect();
    let mut vectors: HashMap<Digest, Embedding> = HashMap::with_capacity(texts.len());
    // Also how often progress is told.
    let most = run.embedder.batch().max(1);
    for (batch, of_batch) in texts.chunks(most).enumerate() {
        progress.tell(run, (batch * most) as f64 / texts.len() as f64, window);
        if run.cancel.is_cancelled() {
            return Ok(false);
        }
        let inputs: Vec<String> = of_batch.iter().map(|(_, _, text)| text.clone()).collect();
        let embedder = run.embedder.clone();
        let begun = Instant::now();
        let work = move || embedder.embed(&inputs.iter().map(String::as_str).collect::<Vec<_>>());
        let made = match tokio::task::spawn_blocking(work).await? {
            // Who waits for workers is told of the end of the run as an error.
            Err(_) if run.cancel.is_cancelled() => return Ok(false),
            made => made?,
        };
        did.busy += begun.elapsed();
        vectors.extend(of_batch.iter().map(|(_, digest, _)| digest.clone()).zip(made));
        did.tokens += of_batch.iter().map(|(tokens, ..)| tokens).sum::<usize>();
    }
    for chunk in window.chunks.iter_mut().filter(|chunk| chunk.embedding.is_none()) {
        chunk.embedding = vectors.get(&chunk.text).cloned();
    }
    Ok(!run.cancel.is_cancelled())
}

/// How far embedding has come.
struct Told {
    documents: usize,
    of: usize,
    chunks: usize,
}

impl Told {
    /// Tells it, with a part of a window.
    fn tell(&self, run: &Load<'_>, part: f64, window: &Window) {
        let of_window = |count: usize| (count as f64 * part) as usize;
        let done = self.documents + of_window(window.documents.len());
        let detail = format!("{} chunks", self.chunks + of_window(window.chunks.len()));
        run.progress.update(ProgressUpdate {
            stage: "embedding",
            done: done as u64,
            total: Some(self.of as u64),
            unit: "documents",
            detail: &detail,
        });
    }
}

/// What was stored.
#[derive(Default)]
struct Stored {
    busy: Duration,
    documents: usize,
    /// The sizes of all chunks.
    tokens: Vec<usize>,
}

/// Writes one window after the other to the store, and records it.
async fn store(run: &Load<'_>, mut windows: mpsc::Receiver<Window>) -> Result<Stored, IngestError> {
    let mut stored = Stored::default();
    while let Some(Window { documents, chunks }) = windows.recv().await {
        let begun = Instant::now();
        run.warehouse.put_embeddings(run.embedder.digest(), &by_document(&chunks)).await?;
        stored.documents += documents.len();
        stored.tokens.extend(chunks.iter().map(|chunk| chunk.prepared.tokens));
        let embedded = chunks.into_iter().map(|Pending { document, prepared, embedding, .. }| {
            let embedding = embedding.ok_or_else(|| IngestError::Embed(unusable(run)))?;
            Ok(EmbeddedChunk { chunk: prepared.chunk, document, embedding })
        });
        let embedded: Vec<EmbeddedChunk> = embedded.collect::<Result<_, IngestError>>()?;
        let (view, stale) = (run.view.clone(), documents.clone());
        with_store(run, move |store| {
            embedded.chunks(UPSERT_BATCH).try_for_each(|batch| store.upsert(&view, batch))?;
            stale.iter().try_for_each(|(id, content_hash, _)| store.remove_stale(&view, *id, Some(content_hash)))
        })
        .await?;
        run.warehouse.put_indexed(&run.view, &documents, run.now).await?;
        stored.busy += begun.elapsed();
    }
    Ok(stored)
}

/// An embedder that gives fewer vectors than it got texts.
fn unusable(run: &Load<'_>) -> EmbedError {
    let source = twin_domain::chunk::EmbeddingError::Empty;
    EmbedError::Unusable { model: run.embedder.name().to_owned(), index: 0, source }
}

/// Compares store and warehouse, and lets the view serve if none does yet.
async fn finish(run: &Load<'_>, report: &mut IngestReport) -> Result<(), IngestError> {
    let (view, author) = (run.view.clone(), run.author.id.clone());
    let expected = run.warehouse.chunks_indexed(&author, &view).await?;
    let (there, serving) = with_store(run, move |store| {
        if store.serving_view()?.is_none() {
            store.switch(&view)?;
        }
        Ok((store.count(&view, Some(&author))?, store.serving_view()?))
    })
    .await?;
    if there < expected {
        return Err(IngestError::Lost { there, expected });
    }
    if there > expected {
        let strangers = there - expected;
        report
            .notes
            .push(format!("the feature store has {strangers} more chunks of the author than the warehouse knows of"));
    }
    if let Some(serving) = serving.filter(|serving| *serving != run.view) {
        report.notes.push(format!("these features are of {}, while {serving} serves", run.view));
    }
    report.chunks_in_view = there;
    Ok(())
}

/// The vectors of each document of a window.
fn by_document(pending: &[Pending]) -> Vec<(DocumentId, Digest, Embeddings)> {
    let mut documents: Vec<(DocumentId, Digest, Embeddings)> = Vec::new();
    for chunk in pending {
        if documents.last().is_none_or(|(id, ..)| *id != chunk.document.id) {
            documents.push((chunk.document.id, chunk.document.content_hash.clone(), Embeddings::new()));
        }
        if let (Some((_, _, embeddings)), Some(embedding)) = (documents.last_mut(), &chunk.embedding) {
            embeddings.insert(chunk.text.clone(), embedding.clone());
        }
    }
    documents
}
