//! One feature view's collection: a shard of the Qdrant engine with a dense vector and a sparse one for each chunk.
//!
//! This version of the engine writes a log ahead of every change and never reads it back, so a change is acknowledged
//! only once it is flushed and was seen to be there. All writing is under one lock, because a flush during a write panics.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use qdrant_edge::{
    NamedQuery, Payload, PointId, PointInsertOperations, PointOperations, PointStruct, PointStructPersisted,
    QuantizationSearchParams, QueryEnum, QueryRequest, Record, ScoringQuery, ScrollRequest, SearchParams, SparseVector,
    UpdateOperation, Vector, VectorInternal, VectorStructInternal, Vectors, WithPayloadInterface, WithVector,
};
use serde_json::Value;
use twin_domain::{
    ChunkId, EmbeddedChunk, Embedding, FeatureView, FeatureViewId, HybridQuery, ScoredChunk, StoreError,
};

use super::shard::{self, SHARD, Shard};
use super::tally::Tally;
use super::{StoreOptions, filter, guard, prefetch};
use crate::assemble::StoredChunk;
use crate::failure::{damaged, engine};
use crate::fuse::{Fused, fuse};
use crate::payload::{decode, encode};
use crate::selection::{self, Selection};
use crate::sparse::SparseEncoder;
use crate::{DENSE, Quantization, SPARSE, validate};

/// What a new collection, and opening one, may take on the disk: a few of the engine's files of fixed size.
const OPENING_BYTES: u64 = 32 * 1024 * 1024;

/// How many points go into one operation of the engine, and come out of one scroll.
const POINTS_PER_OPERATION: usize = 256;

/// The share of a collection, one in so many, that may wait to be indexed: so that indexing costs in proportion to what is
/// loaded, however much is there.
const INDEX_SHARE: u64 = 8;

/// An open collection.
pub(super) struct Collection {
    name: String,
    view: FeatureView,
    id: FeatureViewId,
    shard: Shard,
    sparse: SparseEncoder,
    /// Whoever writes holds it.
    writer: Mutex<Tally>,
    /// How many points are in no index, at most.
    unindexed: AtomicU64,
    index_every: u64,
    reserve_bytes: u64,
    /// Whether vectors are held small for searching.
    quantized: bool,
}

impl Collection {
    /// Opens the collection in a view's directory, or makes it if there is none.
    pub fn open(directory: &Path, view: FeatureView, options: &StoreOptions) -> Result<Self, StoreError> {
        let name = view.id().as_str().to_owned();
        let sparse = SparseEncoder::new(&view)?;
        let path = directory.join(SHARD);
        // Even opening writes. It may use the reserve, so that what is there can be read on a disk that is nearly full.
        guard::require_space(directory, options.reserve_bytes.min(OPENING_BYTES), 0)?;
        if !path.exists() {
            guard::require_space(directory, options.reserve_bytes, OPENING_BYTES)?;
            shard::create(directory, &name, &view, options)?;
        }
        let shard = Shard::load(&path, &name, &view, options)?;
        let tally = Tally::check(&path, &name, shard.segment_points(), || {
            guard::reading(&name, || shard.distinct_points(None))
        })?;
        let writer = Mutex::new(tally);
        let unindexed = AtomicU64::new(shard.unindexed_points());
        let StoreOptions { reserve_bytes, index_every, .. } = *options;
        let quantized = options.quantization != Quantization::None;
        Ok(Self { id: view.id(), name, view, shard, sparse, writer, unindexed, index_every, reserve_bytes, quantized })
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
        tally.settle(count)?;
        // A chunk that is replaced goes to what is not indexed, too.
        let unindexed = self.unindexed.fetch_add(ids.len() as u64, Ordering::Relaxed) + ids.len() as u64;
        if unindexed >= self.index_every.max(count / INDEX_SHARE) {
            self.index_on_the_way();
        }
        Ok(())
    }

    /// Indexes what was written, under the writer's lock. What was written stays acknowledged if that fails, as on a disk
    /// without room for the copy: it is tried again after as much has been written.
    fn index_on_the_way(&self) {
        if let Err(error) = self.optimize_locked() {
            tracing::warn!(%error, collection = %self.name, "what was loaded is not indexed yet");
        }
        self.unindexed.store(0, Ordering::Relaxed);
    }

    /// Removes what is selected; durable when it returns.
    pub fn remove(&self, selected: &Selection) -> Result<(), StoreError> {
        let mut tally = self.writer()?;
        let selected = filter::engine_filter(selected);
        let records = guard::reading(&self.name, || self.shard.scroll_ids(Some(selected)))?;
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

    /// The best chunks for a query, best first.
    pub fn query(&self, query: &HybridQuery) -> Result<Vec<ScoredChunk>, StoreError> {
        validate::query(&self.view, &query.embedding)?;
        let candidates = query.candidates.max(query.limit).max(1);
        let admitted = filter::engine_filter(&selection::admitted(&query.author, &query.filter));
        let nearest = |vector: VectorInternal, using: &str| -> Result<Vec<(ChunkId, f32)>, StoreError> {
            let request = QueryRequest {
                prefetches: Vec::new(),
                query: Some(ScoringQuery::Vector(QueryEnum::Nearest(NamedQuery::new(vector, using)))),
                filter: Some(admitted.clone()),
                score_threshold: None,
                limit: candidates,
                offset: 0,
                params: self.quantized.then(compared_again),
                with_vector: WithVector::Bool(false),
                with_payload: WithPayloadInterface::Bool(false),
            };
            let found = guard::reading(&self.name, || self.shard.query(request))?;
            found.into_iter().map(|point| Ok((self.chunk_id(point.id)?, point.score))).collect()
        };
        let dense = match query.searches.dense() {
            true => nearest(VectorInternal::Dense(query.embedding.values().to_vec()), DENSE)?,
            false => Vec::new(),
        };
        let lexical = match self.sparse.query(&query.text).filter(|_| query.searches.lexical()) {
            Some(terms) => nearest(VectorInternal::Sparse(terms), SPARSE)?,
            None => Vec::new(),
        };
        self.scored(fuse(&query.fusion, dense, lexical, query.limit), &query.embedding)
    }

    /// Chunks with their vectors, by id: the first `limit` of those after `after`.
    pub fn page(
        &self,
        selected: &Selection,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<EmbeddedChunk>, StoreError> {
        let request = ScrollRequest {
            offset: after.map(|after| PointId::Uuid(after.0)),
            // The point at the offset itself comes first.
            limit: Some(limit.saturating_add(usize::from(after.is_some()))),
            filter: Some(filter::engine_filter(selected)),
            with_vector: WithVector::Selector(vec![DENSE.to_owned()]),
            ..ScrollRequest::default()
        };
        let (records, _) = guard::reading(&self.name, || self.shard.scroll(request))?;
        let is_after = |record: &Record| after.is_none_or(|after| record.id > PointId::Uuid(after.0));
        let chunk = |record: Record| {
            let embedding = self.dense(&record)?;
            let StoredChunk { chunk, document, .. } = self.decode(record)?;
            Ok(EmbeddedChunk { chunk, document: Arc::new(document), embedding })
        };
        records.into_iter().filter(is_after).take(limit).map(chunk).collect()
    }

    /// All chunks that are selected.
    pub fn scroll(&self, selected: &Selection) -> Result<Vec<StoredChunk>, StoreError> {
        let mut chunks = Vec::new();
        let mut offset = None;
        loop {
            let request = ScrollRequest {
                offset,
                limit: Some(POINTS_PER_OPERATION),
                filter: Some(filter::engine_filter(selected)),
                ..ScrollRequest::default()
            };
            let (records, next) = guard::reading(&self.name, || self.shard.scroll(request))?;
            for record in records {
                chunks.push(self.decode(record)?);
            }
            offset = next;
            if offset.is_none() {
                return Ok(chunks);
            }
        }
    }

    /// How many chunks are selected, or there are.
    pub fn count(&self, selected: Option<&Selection>) -> Result<u64, StoreError> {
        guard::reading(&self.name, || self.shard.distinct_points(selected.map(filter::engine_filter)))
    }

    /// Lets the engine merge, vacuum and index; true when it did something.
    pub fn optimize(&self) -> Result<bool, StoreError> {
        let _writer = self.writer()?;
        self.optimize_locked()
    }

    /// Reads what queries go through, so that the system has it in memory.
    pub fn prefetch(&self) -> Result<(), StoreError> {
        prefetch::read(self.shard.path()).map_err(|error| engine("read a collection ahead", error))
    }

    fn optimize_locked(&self) -> Result<bool, StoreError> {
        // A merge copies what it merges.
        let bytes = shard::directory_bytes(self.shard.path()).map_err(|error| engine("measure a collection", error))?;
        guard::require_space(self.shard.path(), self.reserve_bytes, bytes)?;
        let done = guard::writing(&self.name, || self.shard.optimize())?;
        self.flush()?;
        self.unindexed.store(0, Ordering::Relaxed);
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
            if let Some(SparseVector { indices, values }) = self.sparse.document(&chunk.search_text) {
                let sparse = Vector::new_sparse(indices, values);
                vectors.push((SPARSE, sparse.map_err(|error| engine("embed a chunk for lexical search", error))?));
            }
            let payload = encode(chunk, document, loaded_at)?;
            let id = PointId::Uuid(chunk.id.0);
            let point = PointStruct::new(id, Vectors::new_named(vectors), Value::Object(payload));
            points.insert(id, point.into());
        }
        let mut points: Vec<_> = points.into_values().collect();
        points.sort_by_key(|point| point.id);
        Ok(points)
    }

    /// The chunks of a fused list with their payloads, in its order.
    fn scored(&self, fused: Vec<Fused>, asked: &Embedding) -> Result<Vec<ScoredChunk>, StoreError> {
        let ids: Vec<PointId> = fused.iter().map(|fused| PointId::Uuid(fused.id.0)).collect();
        let with_vector = WithVector::Selector(vec![DENSE.to_owned()]);
        let records = guard::reading(&self.name, || self.shard.retrieve(&ids, None, Some(with_vector)))?;
        let by_id: HashMap<ChunkId, Fused> = fused.into_iter().map(|fused| (fused.id, fused)).collect();
        // What a writer has removed since it was found is left out.
        let scored = |record: Record| {
            let fused = by_id.get(&self.chunk_id(record.id)?).copied();
            let Some(Fused { score, lexical, .. }) = fused else { return Ok(None) };
            let embedding = self.dense(&record)?;
            let StoredChunk { chunk, document, .. } = self.decode(record)?;
            let similarity = embedding.cosine(asked);
            Ok(Some(ScoredChunk { chunk, document, score, similarity, lexical, embedding }))
        };
        records.into_iter().map(scored).filter_map(Result::transpose).collect()
    }

    fn decode(&self, record: Record) -> Result<StoredChunk, StoreError> {
        let Payload(payload) = record.payload.unwrap_or_default();
        decode(&self.name, payload)
    }

    fn chunk_id(&self, id: PointId) -> Result<ChunkId, StoreError> {
        match id {
            PointId::Uuid(uuid) => Ok(ChunkId(uuid)),
            PointId::NumId(number) => Err(damaged(
                format!("the collection `{}`", self.name),
                format!("it has a point {number}, which is no chunk"),
            )),
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

/// Small vectors find more candidates than are asked for, which are compared again by their full vectors.
fn compared_again() -> SearchParams {
    let quantization = QuantizationSearchParams { ignore: false, rescore: Some(true), oversampling: Some(2.0) };
    SearchParams { quantization: Some(quantization), ..SearchParams::default() }
}

fn approximate_bytes(embedded: &EmbeddedChunk) -> usize {
    let EmbeddedChunk { chunk, embedding, .. } = embedded;
    // Once in the log and once in the segment, with the sparse vector and the payload's other fields.
    2 * (chunk.text.len() + 3 * chunk.search_text.len() + 4 * embedding.dimension() + 1024)
}
