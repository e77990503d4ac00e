//! Authors, views and switches: JSON in the payloads of a collection of its own, which every process of a cluster sees.

use std::collections::HashMap;

use qdrant_client::qdrant::{
    Condition, CreateCollection, Distance, Filter, GetPoints, PointStruct, PointsIdsList, ScrollPoints, UpsertPoints,
    VectorParams, Vectors, VectorsConfig, vectors_config,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use twin_domain::StoreError;
use uuid::Uuid;

use super::QdrantServer;
use super::convert::{fields, payload, point_id, with_payload};
use crate::failure::{damaged, engine};

const KIND: &str = "kind";
const RECORD: &str = "record";
/// What the ids of records are derived from (UUIDv5); ours alone.
const NAMESPACE: Uuid = Uuid::from_u128(0x8a0c_54d2_91f7_4f2e_8f7e_2b61_9c3d_70aa);
/// How many records come in one answer.
const PAGE: u32 = 256;

/// What is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Author,
    View,
    Switches,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Author => "author",
            Self::View => "view",
            Self::Switches => "switches",
        }
    }
}

impl QdrantServer {
    /// Makes the collection of records if there is none.
    pub(super) fn create_records(&self) -> Result<(), StoreError> {
        let collection = self.records();
        if self.exists(&collection)? {
            return Ok(());
        }
        // Points must have a vector; nobody asks for these.
        let one = VectorParams { size: 1, distance: Distance::Dot.into(), ..VectorParams::default() };
        let request = CreateCollection {
            collection_name: collection.clone(),
            vectors_config: Some(VectorsConfig { config: Some(vectors_config::Config::Params(one)) }),
            replication_factor: self.options.replication_factor,
            write_consistency_factor: self.options.write_consistency_factor,
            ..CreateCollection::default()
        };
        self.create_collection(&collection, request)
    }

    /// Writes a record or replaces it.
    pub(super) fn put_record(&self, kind: Kind, key: &str, record: &impl Serialize) -> Result<(), StoreError> {
        self.create_records()?;
        let text = serde_json::to_string(record).map_err(|error| engine("write JSON", error))?;
        // As text, because the protocol would turn some of JSON's numbers into others.
        let Value::Object(fields) = json!({ KIND: kind.as_str(), "key": key, RECORD: text }) else { return Ok(()) };
        let request = UpsertPoints {
            collection_name: self.records(),
            wait: Some(true),
            points: vec![PointStruct {
                id: Some(point_id(record_id(kind, key))),
                payload: payload(fields),
                vectors: Some(Vectors::from(vec![1.0])),
            }],
            ordering: self.ordering(),
            ..UpsertPoints::default()
        };
        self.connection.call("the record", "write a record", move |client| {
            let request = request.clone();
            async move { client.upsert_points(request).await }
        })?;
        Ok(())
    }

    /// One record.
    pub(super) fn record<T: DeserializeOwned>(&self, kind: Kind, key: &str) -> Result<Option<T>, StoreError> {
        let request = GetPoints {
            collection_name: self.records(),
            ids: vec![point_id(record_id(kind, key))],
            with_payload: with_payload(true),
            ..GetPoints::default()
        };
        let answer = self.connection.call("the records", "read a record", move |client| {
            let request = request.clone();
            async move { client.get_points(request).await }
        });
        match answer {
            // Nothing was ever recorded.
            Err(StoreError::NotFound { .. }) => Ok(None),
            answer => {
                let found = answer?.result.into_iter().next();
                found.map(|point| self.parse(kind, key, point.payload)).transpose()
            }
        }
    }

    /// All records of a kind.
    pub(super) fn all_records<T: DeserializeOwned>(&self, kind: Kind) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        let mut offset = None;
        loop {
            let request = ScrollPoints {
                collection_name: self.records(),
                filter: Some(Filter::must([Condition::matches(KIND, kind.as_str().to_owned())])),
                offset: offset.clone(),
                limit: Some(PAGE),
                with_payload: with_payload(true),
                ..ScrollPoints::default()
            };
            let answer = self.connection.call("the records", "list records", move |client| {
                let request = request.clone();
                async move { client.scroll(request).await }
            });
            let answer = match answer {
                Err(StoreError::NotFound { .. }) => return Ok(found),
                answer => answer?,
            };
            for point in answer.result {
                // One damaged record must not hide the others of a listing; asked for by name it is an error.
                let parsed = self.parse(kind, "of a listing", point.payload);
                found.extend(parsed.inspect_err(|error| tracing::warn!(%error, "left out of a listing")).ok());
            }
            offset = answer.next_page_offset;
            if offset.is_none() {
                return Ok(found);
            }
        }
    }

    /// Removes a record; one that is not there is as good as removed.
    pub(super) fn delete_record(&self, kind: Kind, key: &str) -> Result<(), StoreError> {
        let ids = PointsIdsList { ids: vec![point_id(record_id(kind, key))] };
        self.delete_points(&self.records(), ids.into())
    }

    fn parse<T: DeserializeOwned>(
        &self,
        kind: Kind,
        key: &str,
        payload: HashMap<String, qdrant_client::qdrant::Value>,
    ) -> Result<T, StoreError> {
        let fields: Map<String, Value> = fields(payload);
        let what = || format!("the record of {} `{key}` in `{}`", kind.as_str(), self.records());
        let text = fields.get(RECORD).and_then(Value::as_str).ok_or_else(|| damaged(what(), "it has no text"))?;
        serde_json::from_str(text).map_err(|error| damaged(what(), error))
    }
}

fn record_id(kind: Kind, key: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{}\n{key}", kind.as_str()).as_bytes())
}
