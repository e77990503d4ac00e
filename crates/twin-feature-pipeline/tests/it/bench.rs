use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use twin_domain::feature_store::StoredDocument;
use twin_domain::progress::Silent;
use twin_domain::{
    Author, AuthorId, CancelFlag, Chunk, ChunkId, Digest, DocumentId, DocumentInfo, EmbeddedChunk, Embedding,
    FeatureStore, FeatureView, FeatureViewId, HybridQuery, Progress, ScoredChunk, StoreError, Switch,
};
use twin_feature_pipeline::{IngestError, IngestOptions, IngestReport, Source, Warehouse, ingest};
use twin_models::embedding::{EmbedError, Embedder, ScriptedEmbedder};

/// A workplace for one test: a folder with a warehouse, a store, an embedder that counts.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) warehouse: Warehouse,
    pub(crate) store: Arc<MapStore>,
    pub(crate) embedder: Arc<CountingEmbedder>,
    pub(crate) author: Author,
    pub(crate) options: IngestOptions,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let warehouse = Warehouse::open(&folder.path().join("warehouse.sqlite")).await.unwrap();
        let mut options = IngestOptions { min_words: 5, ..IngestOptions::default() };
        options.fetch.delay = std::time::Duration::ZERO;
        Self {
            warehouse,
            store: Arc::new(MapStore::default()),
            embedder: Arc::new(CountingEmbedder::default()),
            author: Author::new(AuthorId::parse("ada").unwrap()),
            options,
            folder,
        }
    }

    /// The folder that posts are written to.
    pub(crate) fn posts(&self) -> PathBuf {
        let posts = self.folder.path().join("posts");
        fs_err::create_dir_all(&posts).unwrap();
        posts
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.posts().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, content).unwrap();
        path
    }

    pub(crate) async fn try_ingest(&self, source: &Source) -> Result<IngestReport, IngestError> {
        self.ingest_watched(source, &Silent, &CancelFlag::new()).await
    }

    pub(crate) async fn ingest_watched(
        &self,
        source: &Source,
        progress: &dyn Progress,
        cancel: &CancelFlag,
    ) -> Result<IngestReport, IngestError> {
        let (store, embedder) = (self.store.clone(), self.embedder.clone());
        ingest(&self.warehouse, store, embedder, &self.author, source, &self.options, progress, cancel).await
    }

    pub(crate) async fn ingest(&self, source: &Source) -> IngestReport {
        self.try_ingest(source).await.unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    pub(crate) async fn ingest_posts(&self) -> IngestReport {
        self.ingest(&Source::Folder(self.posts())).await
    }

    /// The titles of the author's documents in the store, in order.
    pub(crate) fn titles(&self) -> Vec<String> {
        let view = self.store.serving_view().unwrap().expect("a view serves");
        let documents = self.store.documents(&view, &self.author.id).unwrap();
        documents.into_iter().map(|stored| stored.document.info.title).collect()
    }

    /// The digest of all that a run leaves: documents in the warehouse, what it says is indexed, points in the store.
    pub(crate) async fn digest(&self) -> Digest {
        let documents = self.warehouse.documents(&self.author.id).await.unwrap();
        let documents: Vec<_> = documents.into_iter().map(|document| (document.info, document.text)).collect();
        let state = self.store.state().clone();
        let mut indexed = 0;
        for made in &state.views {
            indexed += self.warehouse.chunks_indexed(&self.author.id, &made.id()).await.unwrap();
        }
        Digest::of_json(&(documents, &state.serving, indexed, &state.points))
    }
}

/// A post of enough words, all of its own.
pub(crate) fn words(seed: usize, count: usize) -> String {
    (0..count).map(|n| format!("word{}", seed * 100_000 + n)).collect::<Vec<_>>().join(" ")
}

/// An error with its causes, as a program prints it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("\n  caused by: {error}"));
        cause = error.source();
    }
    text
}

/// The scripted embedder, counting what it embeds, as slow as a test wants.
#[derive(Default)]
pub(crate) struct CountingEmbedder {
    pub(crate) inner: ScriptedEmbedder,
    pub(crate) embedded: AtomicUsize,
    pub(crate) delay: std::time::Duration,
}

impl CountingEmbedder {
    pub(crate) fn take(&self) -> usize {
        self.embedded.swap(0, Ordering::Relaxed)
    }
}

impl Embedder for CountingEmbedder {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn digest(&self) -> &Digest {
        self.inner.digest()
    }

    fn dimension(&self) -> usize {
        self.inner.dimension()
    }

    fn max_tokens(&self) -> usize {
        self.inner.max_tokens()
    }

    fn count_tokens(&self, text: &str) -> usize {
        self.inner.count_tokens(text)
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, EmbedError> {
        self.embedded.fetch_add(texts.len(), Ordering::Relaxed);
        std::thread::sleep(self.delay * u32::try_from(texts.len()).unwrap_or(1));
        self.inner.embed(texts)
    }
}

/// A feature store in a map; with a file it survives the process, as every write must.
#[derive(Default)]
pub(crate) struct MapStore {
    state: Mutex<State>,
    file: Option<PathBuf>,
}

#[derive(Default, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    authors: Vec<Author>,
    pub(crate) views: Vec<FeatureView>,
    pub(crate) serving: Option<FeatureViewId>,
    /// View and chunk id -> chunk.
    pub(crate) points: BTreeMap<String, (Chunk, DocumentInfo, Embedding)>,
}

impl MapStore {
    pub(crate) fn in_file(file: &Path) -> Self {
        let state = fs_err::read(file).map(|bytes| serde_json::from_slice(&bytes).unwrap()).unwrap_or_default();
        Self { state: Mutex::new(state), file: Some(file.to_owned()) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The index is lost, as after a damaged disk.
    pub(crate) fn lose(&self, points: usize) {
        let mut state = self.state();
        for _ in 0..points {
            state.points.pop_first();
        }
    }

    fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        let mut state = self.state();
        let outcome = change(&mut state);
        if let Some(file) = &self.file {
            let part = file.with_extension("part");
            fs_err::write(&part, serde_json::to_vec(&*state).unwrap()).unwrap();
            fs_err::rename(&part, file).unwrap();
        }
        Ok(outcome)
    }
}

impl FeatureStore for MapStore {
    fn put_author(&self, author: &Author) -> Result<(), StoreError> {
        self.write(|state| {
            state.authors.retain(|known| known.id != author.id);
            state.authors.push(author.clone());
        })
    }

    fn authors(&self) -> Result<Vec<Author>, StoreError> {
        Ok(self.state().authors.clone())
    }

    fn create_view(&self, view: &FeatureView) -> Result<FeatureViewId, StoreError> {
        if !self.state().views.contains(view) {
            self.write(|state| state.views.push(view.clone()))?;
        }
        Ok(view.id())
    }

    fn views(&self) -> Result<Vec<FeatureView>, StoreError> {
        Ok(self.state().views.clone())
    }

    fn serving_view(&self) -> Result<Option<FeatureViewId>, StoreError> {
        Ok(self.state().serving.clone())
    }

    fn switch(&self, view: &FeatureViewId) -> Result<(), StoreError> {
        self.write(|state| state.serving = Some(view.clone()))
    }

    fn upsert(&self, view: &FeatureViewId, chunks: &[EmbeddedChunk]) -> Result<(), StoreError> {
        let unknown = || StoreError::NotFound { what: format!("view `{view}`") };
        self.state().views.iter().find(|known| known.id() == *view).ok_or_else(unknown)?;
        self.write(|state| {
            for EmbeddedChunk { chunk, document, embedding } in chunks {
                let point = (chunk.clone(), document.as_ref().clone(), embedding.clone());
                state.points.insert(format!("{view}/{}", chunk.id), point);
            }
        })
    }

    fn remove_stale(
        &self,
        view: &FeatureViewId,
        document: DocumentId,
        keep: Option<&Digest>,
    ) -> Result<(), StoreError> {
        self.write(|state| {
            state.points.retain(|key, (chunk, info, _)| {
                !key.starts_with(view.as_str()) || chunk.document != document || Some(&info.content_hash) == keep
            });
        })
    }

    fn switches(&self) -> Result<Vec<Switch>, StoreError> {
        Ok(self
            .state()
            .serving
            .clone()
            .map(|view| Switch { view, at: jiff::Timestamp::UNIX_EPOCH })
            .into_iter()
            .collect())
    }

    fn remove_view(&self, view: &FeatureViewId) -> Result<(), StoreError> {
        self.write(|state| {
            state.views.retain(|known| known.id() != *view);
            state.points.retain(|key, _| !key.starts_with(view.as_str()));
        })
    }

    fn optimize(&self, _: &FeatureViewId) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn page(
        &self,
        view: &FeatureViewId,
        author: Option<&AuthorId>,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<EmbeddedChunk>, StoreError> {
        let state = self.state();
        let of_view = state.points.iter().filter(|(key, _)| key.starts_with(view.as_str())).map(|(_, point)| point);
        let mut chunks: Vec<EmbeddedChunk> = of_view
            .filter(|point| author.is_none_or(|author| point.1.author == *author))
            .filter(|point| after.is_none_or(|after| point.0.id > after))
            .map(|(chunk, info, embedding)| EmbeddedChunk {
                chunk: chunk.clone(),
                document: Arc::new(info.clone()),
                embedding: embedding.clone(),
            })
            .collect();
        chunks.sort_by_key(|chunk| chunk.chunk.id);
        chunks.truncate(limit);
        Ok(chunks)
    }

    fn query(&self, _: &FeatureViewId, _: &HybridQuery) -> Result<Vec<ScoredChunk>, StoreError> {
        Err(StoreError::Invalid { what: "a query".to_owned(), problem: "this store only keeps".to_owned() })
    }

    fn chunks(&self, view: &FeatureViewId, document: DocumentId) -> Result<Vec<(Chunk, DocumentInfo)>, StoreError> {
        let state = self.state();
        let points =
            state.points.iter().filter(|(key, point)| key.starts_with(view.as_str()) && point.0.document == document);
        let mut chunks: Vec<_> = points.map(|(_, (chunk, info, _))| (chunk.clone(), info.clone())).collect();
        chunks.sort_by_key(|(chunk, _)| chunk.ordinal);
        Ok(chunks)
    }

    fn documents(&self, view: &FeatureViewId, author: &AuthorId) -> Result<Vec<StoredDocument>, StoreError> {
        let infos: BTreeMap<DocumentId, DocumentInfo> = {
            let state = self.state();
            let of_view = state.points.iter().filter(|(key, _)| key.starts_with(view.as_str()));
            let infos = of_view.map(|(_, (_, info, _))| info).filter(|info| info.author == *author);
            infos.map(|info| (info.id, info.clone())).collect()
        };
        let mut documents = Vec::new();
        for info in infos.into_values() {
            let chunks = self.chunks(view, info.id)?;
            assert_eq!(chunks.len(), chunks[0].0.chunk_count as usize, "{} is whole", info.url);
            let text = chunks.iter().map(|(chunk, _)| chunk.text.as_str()).collect();
            documents.push(StoredDocument { document: twin_domain::Document { info, text }, not_voice: Vec::new() });
        }
        documents.sort_by_key(|stored| (stored.document.info.date, stored.document.info.url.clone()));
        Ok(documents)
    }

    fn count(&self, view: &FeatureViewId, author: Option<&AuthorId>) -> Result<u64, StoreError> {
        let state = self.state();
        let points = state.points.iter().filter(|(key, point)| {
            key.starts_with(view.as_str()) && author.is_none_or(|author| point.1.author == *author)
        });
        Ok(points.count() as u64)
    }
}

/// A feature store that keeps no chunks, only how many there are of each document: for runs whose memory is measured.
#[derive(Default)]
pub(crate) struct CountingStore {
    documents: Mutex<BTreeMap<DocumentId, (Digest, u64)>>,
    serving: Mutex<Option<FeatureViewId>>,
}

impl CountingStore {
    fn keeps_none<T>() -> Result<T, StoreError> {
        Err(StoreError::Invalid { what: "a question".to_owned(), problem: "this store only counts".to_owned() })
    }
}

impl FeatureStore for CountingStore {
    fn put_author(&self, _: &Author) -> Result<(), StoreError> {
        Ok(())
    }

    fn authors(&self) -> Result<Vec<Author>, StoreError> {
        Ok(Vec::new())
    }

    fn create_view(&self, view: &FeatureView) -> Result<FeatureViewId, StoreError> {
        Ok(view.id())
    }

    fn views(&self) -> Result<Vec<FeatureView>, StoreError> {
        Ok(Vec::new())
    }

    fn serving_view(&self) -> Result<Option<FeatureViewId>, StoreError> {
        Ok(self.serving.lock().unwrap().clone())
    }

    fn switch(&self, view: &FeatureViewId) -> Result<(), StoreError> {
        *self.serving.lock().unwrap() = Some(view.clone());
        Ok(())
    }

    fn switches(&self) -> Result<Vec<Switch>, StoreError> {
        Ok(Vec::new())
    }

    fn remove_view(&self, _: &FeatureViewId) -> Result<(), StoreError> {
        Ok(())
    }

    fn optimize(&self, _: &FeatureViewId) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn upsert(&self, _: &FeatureViewId, chunks: &[EmbeddedChunk]) -> Result<(), StoreError> {
        let mut documents = self.documents.lock().unwrap();
        for chunk in chunks {
            let info = &chunk.document;
            documents.entry(info.id).or_insert((info.content_hash.clone(), 0)).1 += 1;
        }
        Ok(())
    }

    fn remove_stale(&self, _: &FeatureViewId, document: DocumentId, keep: Option<&Digest>) -> Result<(), StoreError> {
        self.documents.lock().unwrap().retain(|id, (content, _)| *id != document || Some(&*content) == keep);
        Ok(())
    }

    fn count(&self, _: &FeatureViewId, _: Option<&AuthorId>) -> Result<u64, StoreError> {
        Ok(self.documents.lock().unwrap().values().map(|(_, chunks)| chunks).sum())
    }

    fn page(
        &self,
        _: &FeatureViewId,
        _: Option<&AuthorId>,
        _: Option<ChunkId>,
        _: usize,
    ) -> Result<Vec<EmbeddedChunk>, StoreError> {
        Self::keeps_none()
    }

    fn query(&self, _: &FeatureViewId, _: &HybridQuery) -> Result<Vec<ScoredChunk>, StoreError> {
        Self::keeps_none()
    }

    fn chunks(&self, _: &FeatureViewId, _: DocumentId) -> Result<Vec<(Chunk, DocumentInfo)>, StoreError> {
        Self::keeps_none()
    }

    fn documents(&self, _: &FeatureViewId, _: &AuthorId) -> Result<Vec<StoredDocument>, StoreError> {
        Self::keeps_none()
    }
}
