//! A feature store in memory, for the tests of whatever uses one: exact cosine, a small BM25, the same fusion.
//!
//! Its BM25 neither stems nor drops stop words, so lexical ranks can differ from the embedded store's. Nothing is
//! durable and nothing is locked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;
use twin_domain::feature_store::StoredDocument;
use twin_domain::{
    Author, AuthorId, Chunk, ChunkId, Digest, DocumentId, DocumentInfo, EmbeddedChunk, Example, FeatureStore,
    FeatureView, FeatureViewId, HybridQuery, ScoredChunk, StoreError, Switch, TrainingSet, TrainingSetId,
    TrainingSetStore,
};

use crate::assemble::{self, StoredChunk};
use crate::failure::invalid;
use crate::fuse::{Fused, fuse, in_order};
use crate::sparse::SparseModel;
use crate::{training_sets, validate};

/// A feature store in memory.
#[derive(Debug, Default)]
pub struct InMemoryFeatureStore {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    authors: BTreeMap<AuthorId, Author>,
    collections: BTreeMap<String, Collection>,
    switches: Vec<Switch>,
    training_sets: BTreeMap<String, (TrainingSet, Vec<Example>)>,
    /// Sets without their examples.
    forgotten_sets: BTreeSet<String>,
}

#[derive(Debug)]
struct Collection {
    view: FeatureView,
    sparse: SparseModel,
    points: BTreeMap<ChunkId, Point>,
    /// Counts the loads; stands for the time of loading.
    loads: i64,
}

#[derive(Debug)]
struct Point {
    embedded: EmbeddedChunk,
    loaded_at: i64,
}

impl InMemoryFeatureStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn collection(&self, id: &FeatureViewId) -> Result<&Collection, StoreError> {
        self.collections.get(id.as_str()).ok_or_else(|| no_view(id))
    }

    fn collection_mut(&mut self, id: &FeatureViewId) -> Result<&mut Collection, StoreError> {
        self.collections.get_mut(id.as_str()).ok_or_else(|| no_view(id))
    }
}

fn no_view(id: &FeatureViewId) -> StoreError {
    StoreError::NotFound { what: format!("feature view `{id}`") }
}

impl FeatureStore for InMemoryFeatureStore {
    fn put_author(&self, author: &Author) -> Result<(), StoreError> {
        self.write().authors.insert(author.id.clone(), author.clone());
        Ok(())
    }

    fn authors(&self) -> Result<Vec<Author>, StoreError> {
        Ok(self.read().authors.values().cloned().collect())
    }

    fn create_view(&self, view: &FeatureView) -> Result<FeatureViewId, StoreError> {
        let sparse = SparseModel::parse(&view.sparse)?;
        if view.dimension == 0 {
            return Err(invalid("the feature view", "its vectors have no dimensions"));
        }
        let id = view.id();
        let empty = || Collection { view: view.clone(), sparse, points: BTreeMap::new(), loads: 0 };
        self.write().collections.entry(id.as_str().to_owned()).or_insert_with(empty);
        Ok(id)
    }

    fn views(&self) -> Result<Vec<FeatureView>, StoreError> {
        Ok(self.read().collections.values().map(|collection| collection.view.clone()).collect())
    }

    fn serving_view(&self) -> Result<Option<FeatureViewId>, StoreError> {
        Ok(self.read().switches.last().map(|switch| switch.view.clone()))
    }

    fn switch(&self, view: &FeatureViewId) -> Result<(), StoreError> {
        let mut state = self.write();
        state.collection(view)?;
        state.switches.push(Switch { view: view.clone(), at: Timestamp::now() });
        Ok(())
    }

    fn switches(&self) -> Result<Vec<Switch>, StoreError> {
        Ok(self.read().switches.clone())
    }

    fn remove_view(&self, view: &FeatureViewId) -> Result<(), StoreError> {
        let mut state = self.write();
        state.collection(view)?;
        if state.switches.last().is_some_and(|switch| switch.view == *view) {
            return Err(invalid(format!("the removal of `{view}`"), "it serves: switch to another view first"));
        }
        state.collections.remove(view.as_str());
        Ok(())
    }

    fn optimize(&self, view: &FeatureViewId) -> Result<bool, StoreError> {
        self.read().collection(view)?;
        Ok(false)
    }

    fn upsert(&self, view: &FeatureViewId, chunks: &[EmbeddedChunk]) -> Result<(), StoreError> {
        let mut state = self.write();
        let collection = state.collection_mut(view)?;
        validate::chunks(&collection.view, view, chunks)?;
        collection.loads += 1;
        for embedded in chunks {
            let point = Point { embedded: embedded.clone(), loaded_at: collection.loads };
            collection.points.insert(embedded.chunk.id, point);
        }
        Ok(())
    }

    fn remove_stale(
        &self,
        view: &FeatureViewId,
        document: DocumentId,
        keep: Option<&Digest>,
    ) -> Result<(), StoreError> {
        let kept = |point: &Point| {
            let info = &point.embedded.document;
            info.id != document || keep == Some(&info.content_hash)
        };
        self.write().collection_mut(view)?.points.retain(|_, point| kept(point));
        Ok(())
    }

    fn query(&self, view: &FeatureViewId, query: &HybridQuery) -> Result<Vec<ScoredChunk>, StoreError> {
        let state = self.read();
        let collection = state.collection(view)?;
        validate::query(&collection.view, &query.embedding)?;
        Ok(collection.query(query))
    }

    fn page(
        &self,
        view: &FeatureViewId,
        author: Option<&AuthorId>,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<EmbeddedChunk>, StoreError> {
        let state = self.read();
        let points = state.collection(view)?.points.iter();
        let chunks = points.filter(|(id, point)| {
            after.is_none_or(|after| **id > after)
                && author.is_none_or(|author| point.embedded.document.author == *author)
        });
        Ok(chunks.take(limit).map(|(_, point)| point.embedded.clone()).collect())
    }

    fn chunks(&self, view: &FeatureViewId, document: DocumentId) -> Result<Vec<(Chunk, DocumentInfo)>, StoreError> {
        let state = self.read();
        Ok(assemble::chunks(state.collection(view)?.stored(|info| info.id == document)))
    }

    fn documents(&self, view: &FeatureViewId, author: &AuthorId) -> Result<Vec<StoredDocument>, StoreError> {
        let state = self.read();
        assemble::documents(state.collection(view)?.stored(|info| info.author == *author))
    }

    fn count(&self, view: &FeatureViewId, author: Option<&AuthorId>) -> Result<u64, StoreError> {
        let state = self.read();
        let points = state.collection(view)?.points.values();
        let of_author = |point: &&Point| author.is_none_or(|author| point.embedded.document.author == *author);
        Ok(points.filter(of_author).count() as u64)
    }
}

impl TrainingSetStore for InMemoryFeatureStore {
    fn put_training_set(&self, set: &TrainingSet, examples: &[Example]) -> Result<(), StoreError> {
        training_sets::validate(set, examples)?;
        let stored = || (set.clone(), examples.to_vec());
        self.write().training_sets.entry(set.id.as_str().to_owned()).or_insert_with(stored);
        Ok(())
    }

    fn training_set(&self, id: &TrainingSetId) -> Result<TrainingSet, StoreError> {
        let state = self.read();
        let found = state.training_sets.get(id.as_str());
        found.map(|(set, _)| set.clone()).ok_or_else(|| training_sets::not_found(id))
    }

    fn examples(&self, id: &TrainingSetId) -> Result<Vec<Example>, StoreError> {
        let state = self.read();
        if state.forgotten_sets.contains(id.as_str()) {
            return Err(training_sets::forgotten(id));
        }
        let found = state.training_sets.get(id.as_str());
        found.map(|(_, examples)| examples.clone()).ok_or_else(|| training_sets::not_found(id))
    }

    fn training_sets(&self, author: &AuthorId) -> Result<Vec<TrainingSet>, StoreError> {
        let state = self.read();
        let sets = state.training_sets.values().map(|(set, _)| set);
        let mut sets: Vec<_> = sets.filter(|set| set.author == *author).cloned().collect();
        training_sets::sort_newest_first(&mut sets);
        Ok(sets)
    }

    fn remove_examples(&self, id: &TrainingSetId) -> Result<(), StoreError> {
        let mut state = self.write();
        let found = state.training_sets.get_mut(id.as_str()).ok_or_else(|| training_sets::not_found(id))?;
        found.1.clear();
        state.forgotten_sets.insert(id.as_str().to_owned());
        Ok(())
    }
}

impl Collection {
    fn stored(&self, wanted: impl Fn(&DocumentInfo) -> bool) -> Vec<StoredChunk> {
        let points = self.points.values().filter(|point| wanted(&point.embedded.document));
        let stored = |point: &Point| StoredChunk {
            chunk: point.embedded.chunk.clone(),
            document: point.embedded.document.as_ref().clone(),
            loaded_at: point.loaded_at,
        };
        points.map(stored).collect()
    }

    fn query(&self, query: &HybridQuery) -> Vec<ScoredChunk> {
        let admitted = self.points.values().map(|point| &point.embedded).filter(|embedded| {
            embedded.document.author == query.author && query.filter.admits(&embedded.chunk, &embedded.document)
        });
        let admitted: Vec<&EmbeddedChunk> = admitted.collect();
        let candidates = query.candidates.max(query.limit).max(1);
        let cosine = |embedded: &EmbeddedChunk| embedded.embedding.cosine(&query.embedding);

        let near = |embedded: &&EmbeddedChunk| (embedded.chunk.id, cosine(embedded));
        let dense = if query.searches.dense() { admitted.iter().map(near).collect() } else { Vec::new() };
        let lexical = if query.searches.lexical() { self.lexical(&query.text, &admitted) } else { Vec::new() };
        let (dense, lexical) = (best(dense, candidates), best(lexical, candidates));
        let by_id: HashMap<ChunkId, &EmbeddedChunk> = admitted.iter().map(|found| (found.chunk.id, *found)).collect();
        let scored = |Fused { id, score, lexical }: Fused| ScoredChunk {
            chunk: by_id[&id].chunk.clone(),
            document: by_id[&id].document.as_ref().clone(),
            score,
            similarity: cosine(by_id[&id]),
            lexical,
            embedding: by_id[&id].embedding.clone(),
        };
        fuse(&query.fusion, dense, lexical, query.limit).into_iter().map(scored).collect()
    }

    /// BM25 of each chunk that has a term of `text`. Document frequencies are those of the whole collection.
    fn lexical(&self, text: &str, among: &[&EmbeddedChunk]) -> Vec<(ChunkId, f32)> {
        let all: Vec<BTreeSet<String>> =
            self.points.values().map(|point| terms(&point.embedded.chunk.search_text).into_iter().collect()).collect();
        let rarity = |term: &String| {
            let with = all.iter().filter(|terms| terms.contains(term)).count() as f64;
            (1.0 + (all.len() as f64 - with + 0.5) / (with + 0.5)).ln()
        };
        let wanted: BTreeMap<String, f64> = terms(text).into_iter().map(|term| (term.clone(), rarity(&term))).collect();
        let score = |embedded: &&EmbeddedChunk| {
            let terms = terms(&embedded.chunk.search_text);
            let weight = |(wanted, rarity): (&String, &f64)| {
                let count = terms.iter().filter(|term| *term == wanted).count() as f64;
                rarity * self.sparse.term_weight(count, terms.len() as f64)
            };
            (embedded.chunk.id, wanted.iter().map(weight).sum::<f64>() as f32)
        };
        among.iter().map(score).filter(|(_, score)| *score > 0.0).collect()
    }
}

/// Those with the highest scores, best first, equal ones by id.
fn best(scored: Vec<(ChunkId, f32)>, limit: usize) -> Vec<(ChunkId, f32)> {
    let mut best = in_order(scored);
    best.truncate(limit);
    best
}

fn terms(text: &str) -> Vec<String> {
    let words = text.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}
