//! A feature store without some documents: an index out of which a post was taken, while it stays where it is.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use twin_domain::feature_store::StoredDocument;
use twin_domain::{
    Author, AuthorId, Chunk, ChunkId, Digest, DocumentId, DocumentInfo, EmbeddedChunk, FeatureStore, FeatureView,
    FeatureViewId, HybridQuery, ScoredChunk, StoreError, Switch,
};

/// Hides documents from whoever reads. Writes go through.
pub struct Withheld {
    inner: Arc<dyn FeatureStore>,
    hidden: RwLock<BTreeSet<DocumentId>>,
}

impl Withheld {
    pub fn new(inner: Arc<dyn FeatureStore>) -> Self {
        Self { inner, hidden: RwLock::default() }
    }

    /// Hides these documents and no others.
    pub fn hide(&self, documents: impl IntoIterator<Item = DocumentId>) {
        *self.hidden.write().unwrap_or_else(PoisonError::into_inner) = documents.into_iter().collect();
    }

    fn hides(&self, document: DocumentId) -> bool {
        self.hidden.read().unwrap_or_else(PoisonError::into_inner).contains(&document)
    }
}

impl FeatureStore for Withheld {
    fn put_author(&self, author: &Author) -> Result<(), StoreError> {
        self.inner.put_author(author)
    }

    fn authors(&self) -> Result<Vec<Author>, StoreError> {
        self.inner.authors()
    }

    fn create_view(&self, view: &FeatureView) -> Result<FeatureViewId, StoreError> {
        self.inner.create_view(view)
    }

    fn views(&self) -> Result<Vec<FeatureView>, StoreError> {
        self.inner.views()
    }

    fn serving_view(&self) -> Result<Option<FeatureViewId>, StoreError> {
        self.inner.serving_view()
    }

    fn switch(&self, view: &FeatureViewId) -> Result<(), StoreError> {
        self.inner.switch(view)
    }

    fn switches(&self) -> Result<Vec<Switch>, StoreError> {
        self.inner.switches()
    }

    fn remove_view(&self, view: &FeatureViewId) -> Result<(), StoreError> {
        self.inner.remove_view(view)
    }

    fn optimize(&self, view: &FeatureViewId) -> Result<bool, StoreError> {
        self.inner.optimize(view)
    }

    fn page(
        &self,
        view: &FeatureViewId,
        author: Option<&AuthorId>,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<EmbeddedChunk>, StoreError> {
        let (mut page, mut after) = (Vec::new(), after);
        // A page that is not full would be taken for the last one.
        while page.len() < limit {
            let wanted = limit - page.len();
            let read = self.inner.page(view, author, after, wanted)?;
            let last = read.len() < wanted;
            after = read.last().map(|embedded| embedded.chunk.id).or(after);
            page.extend(read.into_iter().filter(|embedded| !self.hides(embedded.document.id)));
            if last {
                break;
            }
        }
        Ok(page)
    }

    fn upsert(&self, view: &FeatureViewId, chunks: &[EmbeddedChunk]) -> Result<(), StoreError> {
        self.inner.upsert(view, chunks)
    }

    fn remove_stale(
        &self,
        view: &FeatureViewId,
        document: DocumentId,
        keep: Option<&Digest>,
    ) -> Result<(), StoreError> {
        self.inner.remove_stale(view, document, keep)
    }

    fn query(&self, view: &FeatureViewId, query: &HybridQuery) -> Result<Vec<ScoredChunk>, StoreError> {
        let mut query = query.clone();
        query.filter.without.extend(self.hidden.read().unwrap_or_else(PoisonError::into_inner).iter().copied());
        self.inner.query(view, &query)
    }

    fn chunks(&self, view: &FeatureViewId, document: DocumentId) -> Result<Vec<(Chunk, DocumentInfo)>, StoreError> {
        if self.hides(document) { Ok(Vec::new()) } else { self.inner.chunks(view, document) }
    }

    fn documents(&self, view: &FeatureViewId, author: &AuthorId) -> Result<Vec<StoredDocument>, StoreError> {
        let mut documents = self.inner.documents(view, author)?;
        documents.retain(|stored| !self.hides(stored.document.info.id));
        Ok(documents)
    }

    fn count(&self, view: &FeatureViewId, author: Option<&AuthorId>) -> Result<u64, StoreError> {
        self.inner.count(view, author)
    }
}
