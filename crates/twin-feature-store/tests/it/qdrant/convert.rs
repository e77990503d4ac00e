//! Between the protocol's messages and the engine's types.

use std::collections::HashMap;

use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{
    self as wire, CreateCollection, DatetimeRange, DenseVector, NamedVectorsOutput, Timestamp, VectorOutput,
    VectorsOutput, vector, vector_output, vectors, vectors_output, with_payload_selector, with_vectors_selector,
};
use qdrant_edge::{
    Condition, DateTimeWrapper, Distance, EdgeConfig, EdgeOptimizersConfig, EdgeSparseVectorParams, EdgeVectorParams,
    FieldCondition, Filter, Match, Modifier, Payload, PointId, PointStruct, PointStructPersisted, Range, Vector,
    VectorInternal, VectorStructInternal, Vectors, WithPayloadInterface, WithVector,
};
use serde_json::{Map, Value};
use tonic::Status;

pub fn config(request: &CreateCollection) -> EdgeConfig {
    let mut config = EdgeConfig::builder().optimizers(EdgeOptimizersConfig::default());
    let named: Vec<(String, wire::VectorParams)> = match request.vectors_config.clone().and_then(|of| of.config) {
        Some(Config::Params(params)) => vec![(String::new(), params)],
        Some(Config::ParamsMap(map)) => map.map.into_iter().collect(),
        None => Vec::new(),
    };
    for (name, params) in named {
        let distance = match params.distance() {
            wire::Distance::Cosine => Distance::Cosine,
            _ => Distance::Dot,
        };
        config = config.vector(name, EdgeVectorParams::builder(params.size as usize, distance).build());
    }
    for (name, params) in request.sparse_vectors_config.clone().map(|of| of.map).unwrap_or_default() {
        let sparse = EdgeSparseVectorParams::builder();
        let has_idf = params.modifier == Some(wire::Modifier::Idf.into());
        config =
            config.sparse_vector(name, if has_idf { sparse.modifier(Modifier::Idf).build() } else { sparse.build() });
    }
    config.build()
}

pub fn point_id(id: Option<wire::PointId>) -> Result<PointId, Status> {
    match id.and_then(|id| id.point_id_options) {
        Some(PointIdOptions::Uuid(text)) => {
            text.parse().map(PointId::Uuid).map_err(|_| Status::invalid_argument("Unable to parse UUID"))
        }
        Some(PointIdOptions::Num(number)) => Ok(PointId::NumId(number)),
        None => Err(Status::invalid_argument("Empty ID is not allowed")),
    }
}

pub fn wire_id(id: PointId) -> wire::PointId {
    match id {
        PointId::NumId(number) => number.into(),
        PointId::Uuid(uuid) => uuid.to_string().into(),
    }
}

pub fn point(point: wire::PointStruct) -> Result<PointStructPersisted, Status> {
    let named = match point.vectors.and_then(|vectors| vectors.vectors_options) {
        Some(vectors::VectorsOptions::Vector(vector)) => vec![(String::new(), vector)],
        Some(vectors::VectorsOptions::Vectors(named)) => named.vectors.into_iter().collect(),
        None => Vec::new(),
    };
    let named = named.into_iter().map(|(name, vector)| Ok((name, stored(vector)?)));
    let named = named.collect::<Result<Vec<_>, Status>>()?;
    let payload: Map<String, Value> = qdrant_client::Payload::from(point.payload).into();
    Ok(PointStruct::new(point_id(point.id)?, Vectors::new_named(named), Value::Object(payload)).into())
}

fn stored(vector: wire::Vector) -> Result<Vector, Status> {
    #[expect(deprecated, reason = "what conversions of the client still make")]
    match vector.vector {
        Some(vector::Vector::Dense(dense)) => Ok(Vector::new_dense(dense.data)),
        Some(vector::Vector::Sparse(sparse)) => {
            Vector::new_sparse(sparse.indices, sparse.values).map_err(super::engine::failed)
        }
        None => match vector.indices {
            None => Ok(Vector::new_dense(vector.data)),
            Some(indices) => Vector::new_sparse(indices.data, vector.data).map_err(super::engine::failed),
        },
        Some(_) => Err(Status::unimplemented("vectors of this kind")),
    }
}

pub fn filter(filter: Option<wire::Filter>) -> Result<Option<Filter>, Status> {
    let Some(wire::Filter { must, must_not, should, .. }) = filter else { return Ok(None) };
    let conditions = |of: Vec<wire::Condition>| {
        let conditions = of.into_iter().map(condition).collect::<Result<Vec<_>, _>>()?;
        Ok::<_, Status>((!conditions.is_empty()).then_some(conditions))
    };
    let (must, must_not, should) = (conditions(must)?, conditions(must_not)?, conditions(should)?);
    Ok(Some(Filter { must, must_not, should, ..Filter::new() }))
}

fn condition(condition: wire::Condition) -> Result<Condition, Status> {
    let Some(ConditionOneOf::Field(field)) = condition.condition_one_of else {
        return Err(Status::unimplemented("conditions of this kind"));
    };
    let key = field.key.parse().map_err(|()| Status::invalid_argument("not a JSON path"))?;
    Ok(Condition::Field(match (field.r#match.and_then(|of| of.match_value), field.datetime_range) {
        (Some(MatchValue::Keyword(value)), _) => FieldCondition::new_match(key, Match::from(value)),
        (Some(MatchValue::Keywords(values)), _) => FieldCondition::new_match(key, Match::from(values.strings)),
        (None, Some(DatetimeRange { lt, gt, gte, lte })) => {
            let range = Range { lt: time(lt), gt: time(gt), gte: time(gte), lte: time(lte) };
            FieldCondition::new_datetime_range(key, range)
        }
        _ => return Err(Status::unimplemented("field conditions of this kind")),
    }))
}

fn time(time: Option<Timestamp>) -> Option<DateTimeWrapper> {
    let time = jiff::Timestamp::from_second(time?.seconds).unwrap();
    Some(time.to_string().parse::<DateTimeWrapper>().unwrap())
}

pub fn with_payload(selector: Option<wire::WithPayloadSelector>) -> WithPayloadInterface {
    match selector.and_then(|selector| selector.selector_options) {
        Some(with_payload_selector::SelectorOptions::Enable(wanted)) => WithPayloadInterface::Bool(wanted),
        _ => WithPayloadInterface::Bool(false),
    }
}

pub fn with_vector(selector: Option<wire::WithVectorsSelector>) -> WithVector {
    match selector.and_then(|selector| selector.selector_options) {
        Some(with_vectors_selector::SelectorOptions::Enable(wanted)) => WithVector::Bool(wanted),
        Some(with_vectors_selector::SelectorOptions::Include(names)) => WithVector::Selector(names.names),
        None => WithVector::Bool(false),
    }
}

pub fn wire_payload(payload: Option<Payload>) -> HashMap<String, wire::Value> {
    qdrant_client::Payload::from(payload.unwrap_or_default().0).into()
}

pub fn wire_vectors(vectors: Option<VectorStructInternal>) -> Option<VectorsOutput> {
    let Some(VectorStructInternal::Named(named)) = vectors else { return None };
    let output = |vector: VectorInternal| match vector {
        VectorInternal::Dense(data) => Some(VectorOutput {
            vector: Some(vector_output::Vector::Dense(DenseVector { data })),
            ..VectorOutput::default()
        }),
        _ => None,
    };
    let vectors = named.into_iter().filter_map(|(name, vector)| Some((name, output(vector)?))).collect();
    Some(VectorsOutput {
        vectors_options: Some(vectors_output::VectorsOptions::Vectors(NamedVectorsOutput { vectors })),
    })
}
