//! Between our values and the messages of the server's protocol.

use std::collections::HashMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use qdrant_client::Payload;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::vector_output::Vector as OutputVector;
use qdrant_client::qdrant::vectors_output::VectorsOptions;
use qdrant_client::qdrant::{
    self as wire, DatetimeRange, PointId, Timestamp, VectorsOutput, VectorsSelector, WithPayloadSelector,
    WithVectorsSelector,
};
use serde_json::{Map, Value};
use twin_domain::{ChunkId, Embedding, StoreError};
use uuid::Uuid;

use crate::DENSE;
use crate::failure::damaged;
use crate::payload::field;
use crate::selection::{Condition, Selection};

/// A selection as the server has it.
pub(super) fn filter(selection: &Selection) -> wire::Filter {
    wire::Filter {
        must: selection.must.iter().map(condition).collect(),
        must_not: selection.must_not.iter().map(condition).collect(),
        ..wire::Filter::default()
    }
}

fn condition(condition: &Condition) -> wire::Condition {
    match condition {
        Condition::AnyOf(field, values) => match values.as_slice() {
            [value] => wire::Condition::matches(*field, value.clone()),
            values => wire::Condition::matches(*field, values.to_vec()),
        },
        Condition::Days { from, to } => {
            let range = DatetimeRange { gte: from.and_then(midnight), lte: to.and_then(midnight), lt: None, gt: None };
            wire::Condition::datetime_range(field::DATE, range)
        }
    }
}

fn midnight(day: Date) -> Option<Timestamp> {
    let seconds = day.to_zoned_datetime(TimeZone::UTC).ok()?.timestamp().as_second();
    Some(Timestamp { seconds, nanos: 0 })
}

/// The id of a chunk's point.
pub(super) fn point_id(id: Uuid) -> PointId {
    PointId { point_id_options: Some(PointIdOptions::Uuid(id.to_string())) }
}

/// The chunk that a point is.
pub(super) fn chunk_id(collection: &str, id: Option<PointId>) -> Result<ChunkId, StoreError> {
    let uuid = match id.and_then(|id| id.point_id_options) {
        Some(PointIdOptions::Uuid(text)) => text.parse().ok(),
        _ => None,
    };
    uuid.map(ChunkId)
        .ok_or_else(|| damaged(format!("the collection `{collection}`"), "it has a point that is no chunk"))
}

/// A payload in the protocol's terms.
pub(super) fn payload(fields: Map<String, Value>) -> HashMap<String, wire::Value> {
    Payload::from(fields).into()
}

/// A payload as JSON.
pub(super) fn fields(payload: HashMap<String, wire::Value>) -> Map<String, Value> {
    Payload::from(payload).into()
}

/// A point's dense vector.
pub(super) fn embedding(collection: &str, vectors: Option<VectorsOutput>) -> Result<Embedding, StoreError> {
    let bad = |problem: &str| damaged(format!("the collection `{collection}`"), problem);
    let Some(VectorsOptions::Vectors(mut named)) = vectors.and_then(|vectors| vectors.vectors_options) else {
        return Err(bad("a chunk has no vectors"));
    };
    let dense = named.vectors.remove(DENSE).ok_or_else(|| bad("a chunk has no embedding"))?;
    let values = match dense.vector {
        Some(OutputVector::Dense(dense)) => dense.data,
        // Servers before 1.16 have it here.
        #[expect(deprecated, reason = "older servers answer in it")]
        None => dense.data,
        Some(_) => return Err(bad("the embedding of a chunk is not a dense vector")),
    };
    Embedding::new(values).map_err(|error| bad(&error.to_string()))
}

/// Asks for payloads, or for none.
pub(super) fn with_payload(wanted: bool) -> Option<WithPayloadSelector> {
    Some(wire::with_payload_selector::SelectorOptions::Enable(wanted).into())
}

/// Asks for the dense vectors.
pub(super) fn with_dense() -> Option<WithVectorsSelector> {
    let names = vec![DENSE.to_owned()];
    Some(wire::with_vectors_selector::SelectorOptions::Include(VectorsSelector { names }).into())
}
