//! Loading: documents that are not in the view are chunked, embedded and written to the feature store.
//!
//! What was embedded before, by the same embedder from the same text, is not embedded again, whichever view it was for.
//! A document counts as indexed only after the store has acknowledged all its chunks and let go of stale ones. Chunk ids
//! follow from the content, so what a killed run had already written is written again and nothing is there twice.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use twin_domain::{
    Author, AuthorId, CancelFlag, Digest, DocumentInfo, EmbeddedChunk, Embedding, FeatureStore, FeatureView,
    FeatureViewId, Progress, ProgressUpdate,
};
use twin_models::embedding::Embedder;

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

/// Brings the view up to date with the author's documents.
pub(super) async fn features(run: &Load<'_>, view: &FeatureView, report: &mut IngestReport) -> Result<(), IngestError> {
    prepare_store(run, view.clone(), report).await?;
    remove_gone(run.warehouse, &run.store, &run.author.id).await?;
    let pending = run.warehouse.not_indexed(&run.author.id, &run.view).await?;
    let mut loader = Loader { run, pending: pending.len(), window: Vec::new(), tokens: Vec::new(), embedded: 0 };
    for id in pending {
        if run.interrupted(report) {
            return Ok(());
        }
        let begun = Instant::now();
        let document = run.warehouse.document(id).await?;
        let (embedder, view_id, most) = (run.embedder.clone(), run.view.clone(), run.options.max_chunk_tokens);
        let info = Arc::new(document.info.clone());
        let split = move || chunk::split(&document, &view_id, most, embedder.as_ref());
        let chunks = tokio::task::spawn_blocking(split).await?;
        report.seconds.chunking += begun.elapsed().as_secs_f64();
        loader.window.push((info, chunks));
        if loader.window.iter().map(|(_, chunks)| chunks.len()).sum::<usize>() >= run.options.batch_chunks {
            loader.flush(report).await?;
        }
    }
    loader.flush(report).await?;
    if run.interrupted(report) {
        return Ok(());
    }
    loader.finish(report).await
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

struct Loader<'a> {
    run: &'a Load<'a>,
    /// How many documents there were to load.
    pending: usize,
    /// The documents that are loaded together.
    window: Vec<(Arc<DocumentInfo>, Vec<PreparedChunk>)>,
    /// The sizes of all chunks loaded.
    tokens: Vec<usize>,
    /// The tokens of those that were embedded.
    embedded: usize,
}

/// A chunk of the window on its way to the store.
struct Pending<'w> {
    document: &'w Arc<DocumentInfo>,
    prepared: &'w PreparedChunk,
    /// The digest of the text that is embedded.
    text: Digest,
    embedding: Option<Embedding>,
}

impl Loader<'_> {
    /// Embeds and loads the window, unless the run is interrupted meanwhile.
    async fn flush(&mut self, report: &mut IngestReport) -> Result<(), IngestError> {
        let window = std::mem::take(&mut self.window);
        let begun = Instant::now();
        let Some(embedded) = self.embed(&window, report).await? else { return Ok(()) };
        report.seconds.embedding += begun.elapsed().as_secs_f64();

        let begun = Instant::now();
        let documents: Vec<_> =
            window.iter().map(|(info, chunks)| (info.id, info.content_hash.clone(), chunks.len())).collect();
        let (view, stale) = (self.run.view.clone(), documents.clone());
        with_store(self.run, move |store| {
            embedded.chunks(UPSERT_BATCH).try_for_each(|batch| store.upsert(&view, batch))?;
            stale.iter().try_for_each(|(id, content_hash, _)| store.remove_stale(&view, *id, Some(content_hash)))
        })
        .await?;
        self.run.warehouse.put_indexed(&self.run.view, &documents, self.run.now).await?;
        report.seconds.loading += begun.elapsed().as_secs_f64();

        let sizes = window.iter().flat_map(|(_, chunks)| chunks).map(|prepared| prepared.tokens);
        self.tokens.extend(sizes);
        report.documents_indexed += documents.len();
        report.chunks_written = self.tokens.len();
        self.tell(report.documents_indexed, report.chunks_written);
        Ok(())
    }

    /// The window's chunks with their vectors, in order; nothing if the run is interrupted.
    async fn embed(
        &mut self,
        window: &[(Arc<DocumentInfo>, Vec<PreparedChunk>)],
        report: &mut IngestReport,
    ) -> Result<Option<Vec<EmbeddedChunk>>, IngestError> {
        let (warehouse, embedder) = (self.run.warehouse, self.run.embedder.digest().clone());
        let mut pending = Vec::new();
        for (document, chunks) in window {
            let known = warehouse.embeddings(document.id, &embedder).await?;
            for prepared in chunks {
                let text = Digest::of(&prepared.embedding_text);
                let embedding = known.get(&text).cloned();
                pending.push(Pending { document, prepared, text, embedding });
            }
        }
        report.chunks_reused += pending.iter().filter(|chunk| chunk.embedding.is_some()).count();
        if !self.embed_missing(&mut pending, window.len(), report).await? {
            return Ok(None);
        }
        let embeddings = by_document(&pending);
        warehouse.put_embeddings(&embedder, &embeddings).await?;
        let missing = || IngestError::Embed(self.unusable());
        let embedded = pending.into_iter().map(|Pending { document, prepared, embedding, .. }| {
            let embedding = embedding.ok_or_else(missing)?;
            Ok(EmbeddedChunk { chunk: prepared.chunk.clone(), document: document.clone(), embedding })
        });
        embedded.collect::<Result<_, IngestError>>().map(Some)
    }

    /// Embeds each text that has no vector yet once, those of like length together, so that little is padded. Says whether
    /// it came to the end.
    async fn embed_missing(
        &mut self,
        pending: &mut [Pending<'_>],
        documents: usize,
        report: &mut IngestReport,
    ) -> Result<bool, IngestError> {
        let missing = pending.iter().filter(|chunk| chunk.embedding.is_none());
        let texts: BTreeMap<(usize, &Digest), &str> = missing
            .map(|chunk| ((chunk.prepared.tokens, &chunk.text), chunk.prepared.embedding_text.as_str()))
            .collect();
        let texts: Vec<(usize, Digest, String)> =
            texts.into_iter().map(|((tokens, digest), text)| (tokens, digest.clone(), text.to_owned())).collect();
        let mut vectors: HashMap<Digest, Embedding> = HashMap::with_capacity(texts.len());
        // Also how often progress is told.
        let most = self.run.embedder.batch().max(1);
        for (batch, of_batch) in texts.chunks(most).enumerate() {
            let before = batch * most;
            self.tell(report.documents_indexed + documents * before / texts.len(), self.tokens.len() + before);
            if self.run.interrupted(report) {
                return Ok(false);
            }
            let inputs: Vec<String> = of_batch.iter().map(|(_, _, text)| text.clone()).collect();
            let embedder = self.run.embedder.clone();
            let work = move || embedder.embed(&inputs.iter().map(String::as_str).collect::<Vec<_>>());
            let made = tokio::task::spawn_blocking(work).await??;
            vectors.extend(of_batch.iter().map(|(_, digest, _)| digest.clone()).zip(made));
            self.embedded += of_batch.iter().map(|(tokens, ..)| tokens).sum::<usize>();
        }
        for chunk in pending.iter_mut().filter(|chunk| chunk.embedding.is_none()) {
            chunk.embedding = vectors.get(&chunk.text).cloned();
        }
        Ok(!self.run.interrupted(report))
    }

    /// An embedder that gives fewer vectors than it got texts.
    fn unusable(&self) -> twin_models::embedding::EmbedError {
        let source = twin_domain::chunk::EmbeddingError::Empty;
        twin_models::embedding::EmbedError::Unusable { model: self.run.embedder.name().to_owned(), index: 0, source }
    }

    fn tell(&self, documents: usize, chunks: usize) {
        let (done, total) = (documents as u64, Some(self.pending as u64));
        let detail = format!("{chunks} chunks");
        self.run.progress.update(ProgressUpdate {
            stage: "embedding",
            done,
            total,
            unit: "documents",
            detail: &detail,
        });
    }

    /// Compares store and warehouse, and lets the view serve if none does yet.
    async fn finish(self, report: &mut IngestReport) -> Result<(), IngestError> {
        let (view, author) = (self.run.view.clone(), self.run.author.id.clone());
        let expected = self.run.warehouse.chunks_indexed(&author, &view).await?;
        let (there, serving) = with_store(self.run, move |store| {
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
            report.notes.push(format!(
                "the feature store has {strangers} more chunks of the author than the warehouse knows of"
            ));
        }
        if let Some(serving) = serving.filter(|serving| *serving != self.run.view) {
            report.notes.push(format!("these features are of {}, while {serving} serves", self.run.view));
        }
        report.chunks_in_view = there;
        report.tokens_embedded = self.embedded;
        let seconds = report.seconds.embedding + report.seconds.loading;
        report.chunks_per_second = if seconds > 0.0 { self.tokens.len() as f64 / seconds } else { 0.0 };
        report.chunk_tokens = ChunkStatistics::of(self.tokens, self.run.embedder.max_tokens());
        Ok(())
    }
}

/// The vectors of each document of a window.
fn by_document(pending: &[Pending<'_>]) -> Vec<(twin_domain::DocumentId, Digest, Embeddings)> {
    let mut documents: Vec<(twin_domain::DocumentId, Digest, Embeddings)> = Vec::new();
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
