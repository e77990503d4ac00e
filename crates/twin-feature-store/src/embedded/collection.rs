//! One feature view's collection: a shard of the Qdrant engine with a dense vector and a sparse one for each chunk.
//!
//! This version of the engine writes a log ahead of every change and never reads it back, so a change is acknowledged
//! only once it is flushed and was seen to be there. All writing is under one lock, because a flush during a write panics.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use qdrant_edge::bm25_embed::{EdgeBm25, EdgeBm25Config};
use qdrant_edge::external::ordered_float::NotNan;
use qdrant_edge::{
    Filter as EngineFilter, Fusion, NamedQuery, PointId, PointInsertOperations, PointOperations, PointStruct,
    PointStructPersisted, Prefetch, QueryEnum, QueryRequest, Record, ScoringQuery, ScrollRequest, SparseVector,
    UpdateOperation, Vector, VectorInternal, VectorStructInternal, Vectors, WithPayloadInterface, WithVector,
};
use serde_json::Value;
use twin_domain::{EmbeddedChunk, Embedding, FeatureView, FeatureViewId, HybridQuery, ScoredChunk, StoreError};

use super::payload::{decode, encode};
use super::shard::{self, DENSE, SHARD, SPARSE, Shard};
use super::tally::Tally;
use super::{StoreOptions, filter, guard};
use crate::assemble::StoredChunk;
use crate::failure::{damaged, engine, invalid};
use crate::sparse::SparseModel;
use crate::validate;

/// Reciprocal rank fusion with the k = 60 of the paper, which counts ranks from 1; the engine counts them from 0.
const RRF_K: usize = 61;

/// What a new collection, and opening one, may take on the disk: a few of the engine's files of fixed size.
const OPENING_BYTES: u64 = 32 * 1024 * 1024;

/// How many points go into one operation of the engine, and come out of one scroll.
const POINTS_PER_OPERATION: usize = 256;

/// An open collection.
pub(super) struct Collection {
    name: String,
    view: FeatureView,
    id: FeatureViewId,
    shard: Shard,
    bm25: EdgeBm25,
    /// Whoever writes holds it.
    writer: Mutex<Tally>,
    reserve_bytes: u64,
}

impl Collection {
    /// Opens the collection in a view's directory, or makes it if there is none.
    pub fn open(directory: &Path, view: FeatureView, options: &StoreOptions) -> Result<Self, StoreError> {
        let name = view.id().as_str().to_owned();
        let bm25 = sparse_embedder(&view)?;
        let path = directory.join(SHARD);
        // Even opening writes. It may use the reserve, so that what is there can be read on a disk that is nearly full.
        guard::require_space(directory, options.reserve_bytes.min(OPENING_BYTES), 0)?;
        if !path.exists() {
            guard::require_space(directory, options.reserve_bytes, OPENING_BYTES)?;
            shard::create(directory, &name, &view, options)?;
        }
        let shard = Shard::load(&path, &name, &view, options)?;
        let points = guard::reading(&name, || shard.distinct_points(None))?;
        let writer = Mutex::new(Tally::check(&path, &name, points)?);
        Ok(Self { id: view.id(), name, view, shard, bm25, writer, reserve_bytes: options.reserve_bytes })
    }

    /// Writes chunks; durable when it returns.
    pub fn upsert(&self, chunks: &[EmbeddedChunk]) -> Result<(), StoreError> {
        validate::chunks(&self.view, &self.id, chunks)?;
        let points = self.points(chunks)?;
        if points.is_empty() {
            return Ok(());
        }
        let bytes: usize = chunks.iter().map(approximate_bytes).sum();

        let mut tally = self.writer()?;
        guard::require_space(self.shard.path(), self.reserve_bytes, bytes as u64)?;
        let ids: Vec<PointId> = points.iter().map(|point| point.id).collect();
        let added = (ids.len() - self.present(&ids)?) as u64;
        tally.announce(added, 0)?;
        for points in points.chunks(POINTS_PER_OPERATION) {
            let points = PointInsertOperations::PointsList(points.to_vec());
            self.update(PointOperations::UpsertPoints(points))?;
        }
        self.flush()?;
        if self.present(&ids)? != ids.len() {
            return Err(engine("find what it had just written: nothing was acknowledged", "chunks are missing"));
        }
        self.shard.trim_log();
        let count = tally.count() + added;
        tally.settle(count)
    }

    /// Removes what a filter selects; durable when it returns.
    pub fn remove(&self, selected: &EngineFilter) -> Result<(), StoreError> {
        let mut tally = self.writer()?;
        let records = guard::reading(&self.name, || self.shard.scroll_ids(Some(selected.clone())))?;
        let ids: Vec<PointId> = records.into_iter().map(|record| record.id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let removed = ids.len() as u64;
        tally.announce(0, removed)?;
        self.update(PointOperations::DeletePoints { ids })?;
        self.flush()?;
        let count = tally.count().saturating_sub(removed);
        tally.settle(count)
    }

    /// The best chunks for a query, best first; equal ones by id, so that the order is always the same.
    pub fn query(&self, query: &HybridQuery) -> Result<Vec<ScoredChunk>, StoreError> {
        validate::query(&self.view, &query.embedding)?;
        let request = self.request(query);
        if request.prefetches.is_empty() {
            return Ok(Vec::new()); // Words are searched for, and there are none.
        }
        let mut fused = guard::reading(&self.name, || self.shard.query(request))?;
        fused.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
        fused.truncate(query.limit);

        let ids: Vec<PointId> = fused.iter().map(|point| point.id).collect();
        let with_vector = WithVector::Selector(vec![DENSE.to_owned()]);
        let records = guard::reading(&self.name, || self.shard.retrieve(&ids, None, Some(with_vector)))?;
        let scores: HashMap<PointId, f32> = fused.iter().map(|point| (point.id, point.score)).collect();
        let scored = |record: Record| {
            let score = scores.get(&record.id).copied().unwrap_or_default();
            let similarity = self.dense(&record)?.cosine(&query.embedding);
            let StoredChunk { chunk, document, .. } = decode(&self.name, record.payload)?;
            Ok(ScoredChunk { chunk, document, score, similarity })
        };
        records.into_iter().map(scored).collect()
    }

    /// All chunks that a filter selects.
    pub fn scroll(&self, selected: &EngineFilter) -> Result<Vec<StoredChunk>, StoreError> {
        let mut chunks = Vec::new();
        let mut offset = None;
        loop {
            let request = ScrollRequest {
                offset,
                limit: Some(POINTS_PER_OPERATION),
                filter: Some(selected.clone()),
                ..ScrollRequest::default()
            };
            let (records, next) = guard::reading(&self.name, || self.shard.scroll(request))?;
            for record in records {
                chunks.push(decode(&self.name, record.payload)?);
            }
            offset = next;
            if offset.is_none() {
                return Ok(chunks);
            }
        }
    }

    /// How many chunks a filter selects, or there are.
    pub fn count(&self, selected: Option<&EngineFilter>) -> Result<u64, StoreError> {
        guard::reading(&self.name, || self.shard.distinct_points(selected.cloned()))
    }

    /// Lets the engine merge, vacuum and index; true when it did something.
    pub fn optimize(&self) -> Result<bool, StoreError> {
        let _writer = self.writer()?;
        // A merge copies what it merges.
        let bytes = shard::directory_bytes(self.shard.path()).map_err(|error| engine("measure a collection", error))?;
        guard::require_space(self.shard.path(), self.reserve_bytes, bytes)?;
        let done = guard::writing(&self.name, || self.shard.optimize())?;
        self.flush()?;
        Ok(done)
    }

    /// Waits for its turn to write. After a change that failed, what is there now is made durable and counted.
    fn writer(&self) -> Result<MutexGuard<'_, Tally>, StoreError> {
        let mut tally = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if tally.is_unsettled() {
            self.flush()?;
            let points = guard::reading(&self.name, || self.shard.distinct_points(None))?;
            tally.settle(points)?;
        }
        Ok(tally)
    }

    fn points(&self, chunks: &[EmbeddedChunk]) -> Result<Vec<PointStructPersisted>, StoreError> {
        let loaded_at = Timestamp::now().as_microsecond();
        let mut points: HashMap<PointId, PointStructPersisted> = HashMap::with_capacity(chunks.len());
        for EmbeddedChunk { chunk, document, embedding } in chunks {
            let mut vectors = vec![(DENSE, Vector::new_dense(embedding.values()))];
            let SparseVector { indices, values } = self.bm25.embed_document(&chunk.search_text);
            // A text of stop words and signs only has no terms; lexical search cannot find it, dense search can.
            if !indices.is_empty() {
                let sparse = Vector::new_sparse(indices, values);
                vectors.push((SPARSE, sparse.map_err(|error| engine("embed a chunk for lexical search", error))?));
            }
            let payload = encode(chunk, document, loaded_at)?;
            let id = PointId::Uuid(chunk.id.0);
            let point = PointStruct::new(id, Vectors::new_named(vectors), Value::Object(payload.0));
            points.insert(id, point.into());
        }
        let mut points: Vec<_> = points.into_values().collect();
        points.sort_by_key(|point| point.id);
        Ok(points)
    }

    fn request(&self, query: &HybridQuery) -> QueryRequest {
        let admitted = filter::admitted(&query.author, &query.filter);
        let candidates = query.candidates.max(query.limit).max(1);
        let prefetch = |vector: VectorInternal, using: &str| Prefetch {
            prefetches: Vec::new(),
            query: Some(ScoringQuery::Vector(QueryEnum::Nearest(NamedQuery::new(vector, using)))),
            limit: candidates,
            params: None,
            filter: Some(admitted.clone()),
            score_threshold: None,
        };
        let mut prefetches = Vec::new();
        if query.searches.dense() {
            prefetches.push(prefetch(VectorInternal::Dense(query.embedding.values().to_vec()), DENSE));
        }
        let terms = self.bm25.embed_query(&query.text);
        if query.searches.lexical() && !terms.indices.is_empty() {
            prefetches.push(prefetch(VectorInternal::Sparse(terms), SPARSE));
        }
        QueryRequest {
            prefetches,
            query: Some(ScoringQuery::Fusion(Fusion::Rrf { k: RRF_K, weights: None })),
            filter: None,
            score_threshold: None,
            // All that was fused, because the engine breaks ties anew each time and would cut among equals.
            limit: 2 * candidates,
            offset: 0,
            params: None,
            with_vector: WithVector::Bool(false),
            with_payload: WithPayloadInterface::Bool(false),
        }
    }

    fn dense(&self, record: &Record) -> Result<Embedding, StoreError> {
        let bad = |problem: &str| damaged(format!("the collection `{}`", self.name), problem);
        match &record.vector {
            Some(VectorStructInternal::Named(vectors)) => match vectors.get(DENSE) {
                Some(VectorInternal::Dense(values)) => {
                    Embedding::new(values.clone()).map_err(|error| bad(&error.to_string()))
                }
                _ => Err(bad("a chunk has no embedding")),
            },
            _ => Err(bad("a chunk has no vectors")),
        }
    }

    fn present(&self, ids: &[PointId]) -> Result<usize, StoreError> {
        let nothing = (Some(WithPayloadInterface::Bool(false)), Some(WithVector::Bool(false)));
        guard::reading(&self.name, || self.shard.retrieve(ids, nothing.0, nothing.1)).map(|records| records.len())
    }

    fn update(&self, operation: PointOperations) -> Result<(), StoreError> {
        guard::writing(&self.name, || self.shard.update(UpdateOperation::PointOperation(operation)))
    }

    fn flush(&self) -> Result<(), StoreError> {
        guard::writing(&self.name, || {
            self.shard.flush();
            Ok(())
        })
    }
}

impl std::fmt::Debug for Collection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collection").field("name", &self.name).finish_non_exhaustive()
    }
}

fn sparse_embedder(view: &FeatureView) -> Result<EdgeBm25, StoreError> {
    let model = SparseModel::parse(&view.sparse)?;
    let number = |value: f64| NotNan::new(value).map_err(|error| invalid("the sparse model", error));
    let config = EdgeBm25Config {
        k: number(model.k1)?,
        b: number(model.b)?,
        avg_len: number(model.average_length)?,
        language: Some(model.language),
        ..EdgeBm25Config::default()
    };
    EdgeBm25::new(config).map_err(|error| invalid(format!("the sparse model `{}`", view.sparse), error))
}

fn approximate_bytes(embedded: &EmbeddedChunk) -> usize {
    let EmbeddedChunk { chunk, embedding, .. } = embedded;
    // Once in the log and once in the segment, with the sparse vector and the payload's other fields.
    2 * (chunk.text.len() + 3 * chunk.search_text.len() + 4 * embedding.dimension() + 1024)
}
