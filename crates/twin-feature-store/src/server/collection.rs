//! The collection of one feature view on a server.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use qdrant_client::qdrant::{
    CountPoints, GetPoints, NamedVectors, PointStruct, Query, QueryBatchPoints, QueryPoints, RetrievedPoint,
    ScrollPoints, SearchParams, UpsertPoints, Vector, VectorInput, Vectors, query, vectors,
};
use twin_domain::{
    ChunkId, EmbeddedChunk, Embedding, FeatureView, FeatureViewId, HybridQuery, ScoredChunk, StoreError,
};

use super::QdrantServer;
use super::convert::{chunk_id, embedding, fields, filter, payload, point_id, with_dense, with_payload};
use crate::assemble::StoredChunk;
use crate::failure::engine;
use crate::fuse::{Fused, fuse};
use crate::payload::{decode, encode};
use crate::selection::{self, Selection};
use crate::sparse::SparseEncoder;
use crate::{DENSE, Quantization, SPARSE, validate};

/// How many points come in one answer.
const PAGE: usize = 256;

/// A view that is on the server.
pub(super) struct Collection {
    pub id: FeatureViewId,
    /// The collection's name.
    pub name: String,
    pub view: FeatureView,
    sparse: SparseEncoder,
}

impl Collection {
    pub fn new(name: String, view: FeatureView) -> Result<Self, StoreError> {
        Ok(Self { id: view.id(), name, sparse: SparseEncoder::new(&view)?, view })
    }

    fn what(&self) -> String {
        format!("feature view `{}`", self.id)
    }

    /// Chunks as points, those of one id once, in the order of the ids.
    fn points(&self, chunks: &[EmbeddedChunk]) -> Result<BTreeMap<ChunkId, (usize, PointStruct)>, StoreError> {
        let loaded_at = Timestamp::now().as_microsecond();
        let mut points = BTreeMap::new();
        for EmbeddedChunk { chunk, document, embedding } in chunks {
            let mut vectors = HashMap::from([(DENSE.to_owned(), Vector::from(embedding.values().to_vec()))]);
            if let Some(sparse) = self.sparse.document(&chunk.search_text) {
                vectors.insert(SPARSE.to_owned(), Vector::new_sparse(sparse.indices, sparse.values));
            }
            let point = PointStruct {
                id: Some(point_id(chunk.id.0)),
                payload: payload(encode(chunk, document, loaded_at)?),
                vectors: Some(Vectors {
                    vectors_options: Some(vectors::VectorsOptions::Vectors(NamedVectors { vectors })),
                }),
            };
            // Dense and sparse vector, texts, and some for the names of fields.
            let bytes = 4 * embedding.dimension() + chunk.text.len() + 3 * chunk.search_text.len() + 1024;
            points.insert(chunk.id, (bytes, point));
        }
        Ok(points)
    }
}

impl QdrantServer {
    /// Writes chunks in requests of a limited size. When it returns the server has applied all of them.
    pub(super) fn upsert_chunks(&self, collection: &Collection, chunks: &[EmbeddedChunk]) -> Result<(), StoreError> {
        validate::chunks(&collection.view, &collection.id, chunks)?;
        let (mut batch, mut size) = (Vec::new(), 0);
        for (bytes, point) in collection.points(chunks)?.into_values() {
            if !batch.is_empty() && size + bytes > self.options.batch_bytes {
                self.upsert_points(collection, std::mem::take(&mut batch))?;
                size = 0;
            }
            batch.push(point);
            size += bytes;
        }
        if batch.is_empty() { Ok(()) } else { self.upsert_points(collection, batch) }
    }

    fn upsert_points(&self, collection: &Collection, points: Vec<PointStruct>) -> Result<(), StoreError> {
        let request = UpsertPoints {
            collection_name: collection.name.clone(),
            wait: Some(true),
            points,
            ordering: self.ordering(),
            ..UpsertPoints::default()
        };
        let answer = self.connection.call(&collection.what(), "write chunks", move |client| {
            let request = request.clone();
            async move { client.upsert_points(request).await }
        })?;
        super::applied("write chunks", answer)
    }

    /// The best chunks for a query, best first.
    pub(super) fn query_chunks(
        &self,
        collection: &Collection,
        asked: &HybridQuery,
    ) -> Result<Vec<ScoredChunk>, StoreError> {
        validate::query(&collection.view, &asked.embedding)?;
        let admitted = filter(&selection::admitted(&asked.author, &asked.filter));
        let nearest = |vector: VectorInput, using: &str| QueryPoints {
            collection_name: collection.name.clone(),
            query: Some(Query { variant: Some(query::Variant::Nearest(vector)) }),
            using: Some(using.to_owned()),
            filter: Some(admitted.clone()),
            params: self.search_params(),
            limit: Some(asked.candidates.max(asked.limit).max(1) as u64),
            with_payload: with_payload(false),
            ..QueryPoints::default()
        };
        let dense = VectorInput::new_dense(asked.embedding.values().to_vec());
        let dense = asked.searches.dense().then(|| nearest(dense, DENSE));
        let lexical = collection.sparse.query(&asked.text).filter(|_| asked.searches.lexical());
        let lexical = lexical.map(|terms| nearest(VectorInput::new_sparse(terms.indices, terms.values), SPARSE));
        let has_dense = dense.is_some();
        let mut found = self.search(collection, dense.into_iter().chain(lexical).collect())?.into_iter();
        let dense = if has_dense { found.next().unwrap_or_default() } else { Vec::new() };
        let lexical = found.next().unwrap_or_default();
        self.scored(collection, fuse(&asked.fusion, dense, lexical, asked.limit), &asked.embedding)
    }

    /// What each of several searches found, in one request.
    fn search(
        &self,
        collection: &Collection,
        query_points: Vec<QueryPoints>,
    ) -> Result<Vec<Vec<(ChunkId, f32)>>, StoreError> {
        if query_points.is_empty() {
            return Ok(Vec::new());
        }
        let request =
            QueryBatchPoints { collection_name: collection.name.clone(), query_points, ..QueryBatchPoints::default() };
        let answer = self.connection.call(&collection.what(), "search", move |client| {
            let request = request.clone();
            async move { client.query_batch(request).await }
        })?;
        let ids = |found: qdrant_client::qdrant::BatchResult| {
            let scored = found.result.into_iter();
            scored.map(|point| Ok((chunk_id(&collection.name, point.id)?, point.score))).collect()
        };
        answer.result.into_iter().map(ids).collect()
    }

    /// Quantised vectors find candidates, more than are asked for, that are compared again by their full vectors.
    fn search_params(&self) -> Option<SearchParams> {
        let quantization = qdrant_client::qdrant::QuantizationSearchParams {
            ignore: Some(false),
            rescore: Some(true),
            oversampling: Some(2.0),
        };
        let is_quantised = self.options.quantization != Quantization::None;
        is_quantised.then(|| SearchParams { quantization: Some(quantization), ..SearchParams::default() })
    }

    /// The chunks of a fused list with their payloads, in its order. What was removed meanwhile is left out.
    fn scored(
        &self,
        collection: &Collection,
        fused: Vec<Fused>,
        asked: &Embedding,
    ) -> Result<Vec<ScoredChunk>, StoreError> {
        if fused.is_empty() {
            return Ok(Vec::new());
        }
        let request = GetPoints {
            collection_name: collection.name.clone(),
            ids: fused.iter().map(|fused| point_id(fused.id.0)).collect(),
            with_payload: with_payload(true),
            with_vectors: with_dense(),
            ..GetPoints::default()
        };
        let answer = self.connection.call(&collection.what(), "read chunks", move |client| {
            let request = request.clone();
            async move { client.get_points(request).await }
        })?;
        let mut by_id = HashMap::new();
        for point in answer.result {
            let embedded = self.embedded(collection, point)?;
            by_id.insert(embedded.chunk.id, embedded);
        }
        let scored = |Fused { id, score, lexical }: Fused| {
            let EmbeddedChunk { chunk, document, embedding } = by_id.remove(&id)?;
            let (document, similarity) = (Arc::unwrap_or_clone(document), embedding.cosine(asked));
            Some(ScoredChunk { chunk, document, score, similarity, lexical, embedding })
        };
        Ok(fused.into_iter().filter_map(scored).collect())
    }

    /// Chunks with their vectors, by id: the first `limit` of those after `after`.
    pub(super) fn page_of(
        &self,
        collection: &Collection,
        selected: &Selection,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<EmbeddedChunk>, StoreError> {
        let request = ScrollPoints {
            // The point at the offset itself comes first.
            offset: after.map(|after| point_id(after.0)),
            limit: Some(u32::try_from(limit.saturating_add(1)).unwrap_or(u32::MAX)),
            with_vectors: with_dense(),
            ..self.scroll_request(collection, selected)
        };
        let answer = self.connection.call(&collection.what(), "read chunks", move |client| {
            let request = request.clone();
            async move { client.scroll(request).await }
        })?;
        let chunks = answer.result.into_iter().map(|point| self.embedded(collection, point));
        let is_after = |chunk: &EmbeddedChunk| after.is_none_or(|after| chunk.chunk.id > after);
        chunks.filter(|chunk| chunk.as_ref().map_or(true, is_after)).take(limit).collect()
    }

    /// All chunks that are selected.
    pub(super) fn scroll_chunks(
        &self,
        collection: &Collection,
        selected: &Selection,
    ) -> Result<Vec<StoredChunk>, StoreError> {
        let mut chunks = Vec::new();
        let mut offset = None;
        loop {
            let request = ScrollPoints {
                offset: offset.clone(),
                limit: Some(PAGE as u32),
                ..self.scroll_request(collection, selected)
            };
            let answer = self.connection.call(&collection.what(), "read chunks", move |client| {
                let request = request.clone();
                async move { client.scroll(request).await }
            })?;
            for point in answer.result {
                chunks.push(decode(&collection.name, fields(point.payload))?);
            }
            offset = answer.next_page_offset;
            if offset.is_none() {
                return Ok(chunks);
            }
        }
    }

    /// How many chunks are selected.
    pub(super) fn count_chunks(&self, collection: &Collection, selected: &Selection) -> Result<u64, StoreError> {
        let request = CountPoints {
            collection_name: collection.name.clone(),
            filter: Some(filter(selected)),
            exact: Some(true),
            ..CountPoints::default()
        };
        let answer = self.connection.call(&collection.what(), "count chunks", move |client| {
            let request = request.clone();
            async move { client.count(request).await }
        })?;
        answer.result.map(|result| result.count).ok_or_else(|| engine("count chunks", "the server gave no number"))
    }

    fn scroll_request(&self, collection: &Collection, selected: &Selection) -> ScrollPoints {
        ScrollPoints {
            collection_name: collection.name.clone(),
            filter: Some(filter(selected)),
            with_payload: with_payload(true),
            ..ScrollPoints::default()
        }
    }

    fn embedded(&self, collection: &Collection, point: RetrievedPoint) -> Result<EmbeddedChunk, StoreError> {
        let embedding = embedding(&collection.name, point.vectors)?;
        let StoredChunk { chunk, document, .. } = decode(&collection.name, fields(point.payload))?;
        Ok(EmbeddedChunk { chunk, document: Arc::new(document), embedding })
    }
}
