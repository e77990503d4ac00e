//! The engine's shard, opened and closed without surprises.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use fs_err as fs;
use qdrant_edge::{
    BinaryQuantizationConfig, CountRequest, CreateIndex, DatetimeIndexParams, Distance, EdgeConfig,
    EdgeOptimizersConfig, EdgeShard, EdgeSparseVectorParams, EdgeVectorParams, FieldIndexOperations,
    Filter as EngineFilter, HnswIndexConfig, KeywordIndexParams, Modifier, OperationResult, PayloadFieldSchema,
    PayloadSchemaParams, PointId, QuantizationConfig, Record, ScalarQuantizationConfig, ScalarType, ScrollRequest,
    UpdateOperation, WalOptions, WithPayloadInterface,
};
use twin_domain::{FeatureView, StoreError};

use super::tally::Tally;
use super::{StoreOptions, filter, guard};
use crate::failure::engine;
use crate::payload::field;
use crate::{DENSE, Quantization, SPARSE, durable};

/// The name of the shard's directory in its view's.
pub(super) const SHARD: &str = "shard";

/// The engine's log grows in segments of this size.
const WAL_SEGMENT_BYTES: usize = 8 * 1024 * 1024;

/// Up to so many parts an indexed part is left as it is; beyond, small ones are merged. More of them make loading cheaper and
/// queries dearer.
const SEGMENTS: usize = 8;

/// How many neighbours a vector has in its author's graph; Qdrant's default.
const GRAPH_LINKS: usize = 16;

/// A shard that reports a failed flush when it is closed, where the engine's own panics.
pub(super) struct Shard {
    /// `None` only while it is dropped.
    engine: Option<EdgeShard>,
}

impl Shard {
    /// Opens the shard in `path`.
    pub fn load(path: &Path, name: &str, view: &FeatureView, options: &StoreOptions) -> Result<Self, StoreError> {
        guard::reading(name, || {
            trim_log(path)?;
            load(path, view, options).map(|shard| Self { engine: Some(shard) })
        })
    }

    /// Deletes what the engine's log no longer needs. What cannot be deleted while it is open is when it is opened next.
    pub fn trim_log(&self) {
        if let Err(error) = trim_log(self.path()) {
            tracing::debug!(%error, "the engine's log was not trimmed");
        }
    }

    /// The points of all segments together: quick, and exact unless a crash left a point in two of them.
    pub fn segment_points(&self) -> u64 {
        self.info().points_count as u64
    }

    /// How many points at most are in no index. The engine counts as indexed only what is in a graph, and authors with few
    /// chunks need none.
    pub fn unindexed_points(&self) -> u64 {
        let info = self.info();
        info.points_count.saturating_sub(info.indexed_vectors_count) as u64
    }

    /// How many points a filter selects, or there are. The engine's own count is quick, but counts a point twice that
    /// lies in two segments, as a crash can leave it.
    pub fn distinct_points(&self, selected: Option<EngineFilter>) -> OperationResult<u64> {
        if self.info().segments_count <= 1 {
            return self.count(CountRequest { filter: selected, exact: true }).map(|count| count as u64);
        }
        let ids: BTreeSet<PointId> = self.scroll_ids(selected)?.into_iter().map(|record| record.id).collect();
        Ok(ids.len() as u64)
    }

    /// What a filter selects, without payloads and vectors.
    pub fn scroll_ids(&self, selected: Option<EngineFilter>) -> OperationResult<Vec<Record>> {
        let request = ScrollRequest {
            limit: Some(u32::MAX as usize),
            filter: selected,
            with_payload: Some(WithPayloadInterface::Bool(false)),
            ..ScrollRequest::default()
        };
        self.scroll(request).map(|(records, _)| records)
    }
}

impl Deref for Shard {
    type Target = EdgeShard;

    fn deref(&self) -> &EdgeShard {
        self.engine.as_ref().expect("the shard is taken out only when it is dropped")
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        let shard = self.engine.take();
        if let Err(problem) = guard::caught(|| drop(shard)) {
            tracing::error!("a collection was not flushed when it was closed: {problem}");
        }
    }
}

/// Opens the engine's shard. This process has the store's lock, so that nobody else has the engine's; but a process that
/// this one is just starting may hold a copy of it for a moment, from before it became another program.
fn load(path: &Path, view: &FeatureView, options: &StoreOptions) -> OperationResult<EdgeShard> {
    const PATIENCE: Duration = Duration::from_millis(800);
    let begun = Instant::now();
    loop {
        match EdgeShard::load(path, Some(engine_config(view, options))) {
            Err(error) if begun.elapsed() < PATIENCE && error.to_string().contains("WouldBlock") => {
                thread::sleep(Duration::from_millis(20));
            }
            loaded => return loaded,
        }
    }
}

/// Makes an empty shard in a view's directory: beside, then renamed, so that none is ever there in part.
pub(super) fn create(
    directory: &Path,
    name: &str,
    view: &FeatureView,
    options: &StoreOptions,
) -> Result<(), StoreError> {
    let beside = directory.join("shard.partial");
    let failed = |error: std::io::Error| engine("make a collection", error);
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(failed)?;
    }
    fs::create_dir_all(&beside).map_err(failed)?;
    guard::writing(name, || {
        let shard = EdgeShard::new(&beside, engine_config(view, options))?;
        for (field, schema) in payload_indexes() {
            let field_schema = Some(PayloadFieldSchema::FieldParams(schema));
            let index = CreateIndex { field_name: filter::key(field), field_schema };
            shard.update(UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(index)))?;
        }
        shard.flush();
        Ok(())
    })?;
    Tally::create(&beside)?;
    let renamed = fs::rename(&beside, directory.join(SHARD)).and_then(|()| durable::sync_directory(directory));
    renamed.map_err(failed)
}

/// The size of all files in a directory.
pub(super) fn directory_bytes(directory: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { directory_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

/// The indexes of payloads. Every query names its author, so an author's vectors have a graph of their own, and there is no
/// other: Qdrant's way of keeping many tenants in one collection. Mapped, they are opened without reading all of them.
fn payload_indexes() -> impl Iterator<Item = (&'static str, PayloadSchemaParams)> {
    let keyword = |field: &'static str| {
        let is_author = field == field::AUTHOR;
        let index = KeywordIndexParams {
            is_tenant: Some(is_author),
            enable_hnsw: Some(is_author),
            on_disk: Some(true),
            ..KeywordIndexParams::default()
        };
        (field, PayloadSchemaParams::Keyword(index))
    };
    let date = DatetimeIndexParams { enable_hnsw: Some(false), on_disk: Some(true), ..DatetimeIndexParams::default() };
    [field::AUTHOR, field::DOCUMENT, field::TAGS, field::KIND, field::LANGUAGE]
        .into_iter()
        .map(keyword)
        .chain([(field::DATE, PayloadSchemaParams::Datetime(date))])
}

fn engine_config(view: &FeatureView, options: &StoreOptions) -> EdgeConfig {
    let dense = EdgeVectorParams::builder(view.dimension, Distance::Cosine).on_disk(true).build();
    // Mapped, an index is opened without reading all of it.
    let sparse = EdgeSparseVectorParams::builder().modifier(Modifier::Idf).on_disk(true).build();
    let optimizers = EdgeOptimizersConfig {
        indexing_threshold: Some(options.indexing_threshold_kb),
        default_segment_number: Some(SEGMENTS),
        ..EdgeOptimizersConfig::default()
    };
    let config = match quantization(options.quantization) {
        Some(quantization) => EdgeConfig::builder().quantization_config(quantization),
        None => EdgeConfig::builder(),
    };
    config
        .vector(DENSE, dense)
        .sparse_vector(SPARSE, sparse)
        .optimizers(optimizers)
        // No graph of all vectors, one for each author who has enough. And a laptop has other things to do.
        .hnsw_config(HnswIndexConfig {
            m: 0,
            payload_m: Some(GRAPH_LINKS),
            max_indexing_threads: 2,
            ..HnswIndexConfig::default()
        })
        .wal_options(WalOptions { segment_capacity: WAL_SEGMENT_BYTES, ..WalOptions::default() })
        .build()
}

fn quantization(quantization: Quantization) -> Option<QuantizationConfig> {
    match quantization {
        Quantization::None => None,
        // The share of values that is not cut off and the place, as Qdrant recommends them.
        Quantization::Scalar => Some(QuantizationConfig::from(ScalarQuantizationConfig {
            r#type: ScalarType::Int8,
            quantile: Some(0.99),
            always_ram: Some(true),
        })),
        Quantization::Binary => Some(QuantizationConfig::from(BinaryQuantizationConfig {
            always_ram: Some(true),
            encoding: None,
            query_encoding: None,
        })),
    }
}

/// Deletes the closed segments of the engine's log but the last, which says what number the next operation gets. The
/// engine itself never deletes them, and never reads them.
fn trim_log(shard: &Path) -> std::io::Result<()> {
    let mut closed = Vec::new();
    for entry in fs::read_dir(shard.join("wal"))? {
        let path = entry?.path();
        let start = path.file_name().and_then(|name| name.to_str()?.strip_prefix("closed-")?.parse::<u64>().ok());
        closed.extend(start.map(|start| (start, path)));
    }
    closed.sort();
    closed.pop();
    closed.into_iter().try_for_each(|(_, path)| fs::remove_file(path))
}
