//! The service of points.

use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::points_server::Points;
use qdrant_client::qdrant::{
    BatchResult, ClearPayloadPoints, CountPoints, CountResponse, CountResult, CreateFieldIndexCollection,
    CreateVectorNameRequest, DeleteFieldIndexCollection, DeletePayloadPoints, DeletePointVectors, DeletePoints,
    DeleteVectorNameRequest, DiscoverBatchPoints, DiscoverBatchResponse, DiscoverPoints, DiscoverResponse, FacetCounts,
    FacetResponse, FieldType, GetPoints, GetResponse, PointsOperationResponse, QueryBatchPoints, QueryBatchResponse,
    QueryGroupsResponse, QueryPointGroups, QueryPoints, QueryResponse, RecommendBatchPoints, RecommendBatchResponse,
    RecommendGroupsResponse, RecommendPointGroups, RecommendPoints, RecommendResponse, RetrievedPoint, ScoredPoint,
    ScrollPoints, ScrollResponse, SearchBatchPoints, SearchBatchResponse, SearchGroupsResponse,
    SearchMatrixOffsetsResponse, SearchMatrixPairsResponse, SearchMatrixPoints, SearchPointGroups, SearchPoints,
    SearchResponse, SetPayloadPoints, UpdateBatchPoints, UpdateBatchResponse, UpdatePointVectors, UpdateResult,
    UpdateStatus, UpsertPoints, query, vector_input,
};
use qdrant_edge::{
    CountRequest, CreateIndex, FieldIndexOperations, NamedQuery, PayloadFieldSchema, PayloadSchemaType,
    PointInsertOperations, PointOperations, QueryEnum, QueryRequest, Record, ScoringQuery, ScrollRequest, SparseVector,
    UpdateOperation, VectorInternal, WithPayloadInterface, WithVector,
};
use tonic::{Request, Response, Status};

use super::convert;
use super::engine::{Collection, Engine, failed};

/// Implements a service of which most calls are not there.
macro_rules! points {
    ({ $($implemented:tt)* } $($name:ident: $request:ty => $answer:ty,)*) => {
        #[tonic::async_trait]
        impl Points for Engine {
            $($implemented)*
            $(async fn $name(&self, _: Request<$request>) -> Result<Response<$answer>, Status> {
                Err(Status::unimplemented(stringify!($name)))
            })*
        }
    };
}

points! {
    {
        async fn upsert(
            &self,
            request: Request<UpsertPoints>,
        ) -> Result<Response<PointsOperationResponse>, Status> {
            let request = request.into_inner();
            let collection = self.collection(&request.collection_name)?;
            let points = request.points.into_iter().map(convert::point).collect::<Result<Vec<_>, _>>()?;
            let insert = PointOperations::UpsertPoints(PointInsertOperations::PointsList(points));
            collection.shard.update(UpdateOperation::PointOperation(insert)).map_err(failed)?;
            self.count_write();
            Ok(completed())
        }

        async fn delete(
            &self,
            request: Request<DeletePoints>,
        ) -> Result<Response<PointsOperationResponse>, Status> {
            let request = request.into_inner();
            let collection = self.collection(&request.collection_name)?;
            let delete = match request.points.and_then(|points| points.points_selector_one_of) {
                Some(PointsSelectorOneOf::Points(points)) => {
                    let ids = points.ids.into_iter().map(|id| convert::point_id(Some(id)));
                    PointOperations::DeletePoints { ids: ids.collect::<Result<_, _>>()? }
                }
                Some(PointsSelectorOneOf::Filter(filter)) => {
                    PointOperations::DeletePointsByFilter(convert::filter(Some(filter))?.unwrap_or_default())
                }
                None => return Err(Status::invalid_argument("PointSelector is missing")),
            };
            collection.shard.update(UpdateOperation::PointOperation(delete)).map_err(failed)?;
            Ok(completed())
        }

        async fn get(&self, request: Request<GetPoints>) -> Result<Response<GetResponse>, Status> {
            let request = request.into_inner();
            let collection = self.collection(&request.collection_name)?;
            let ids = request.ids.into_iter().map(|id| convert::point_id(Some(id))).collect::<Result<Vec<_>, _>>()?;
            let (payload, vector) = (convert::with_payload(request.with_payload), convert::with_vector(request.with_vectors));
            let records = collection.shard.retrieve(&ids, Some(payload), Some(vector)).map_err(failed)?;
            Ok(Response::new(GetResponse { result: records.into_iter().map(retrieved).collect(), ..GetResponse::default() }))
        }

        async fn create_field_index(
            &self,
            request: Request<CreateFieldIndexCollection>,
        ) -> Result<Response<PointsOperationResponse>, Status> {
            let request = request.into_inner();
            let collection = self.collection(&request.collection_name)?;
            let schema = match request.field_type() {
                FieldType::Datetime => PayloadSchemaType::Datetime,
                _ => PayloadSchemaType::Keyword,
            };
            let field_name = request.field_name.parse().map_err(|()| Status::invalid_argument("not a JSON path"))?;
            let index = CreateIndex { field_name, field_schema: Some(PayloadFieldSchema::FieldType(schema)) };
            let index = FieldIndexOperations::CreateIndex(index);
            collection.shard.update(UpdateOperation::FieldIndexOperation(index)).map_err(failed)?;
            Ok(completed())
        }

        async fn scroll(&self, request: Request<ScrollPoints>) -> Result<Response<ScrollResponse>, Status> {
            let request = request.into_inner();
            let collection = self.collection(&request.collection_name)?;
            let scroll = ScrollRequest {
                offset: request.offset.map(|offset| convert::point_id(Some(offset))).transpose()?,
                limit: request.limit.map(|limit| limit as usize),
                filter: convert::filter(request.filter)?,
                with_payload: Some(convert::with_payload(request.with_payload)),
                with_vector: convert::with_vector(request.with_vectors),
                order_by: None,
            };
            let (records, next) = collection.shard.scroll(scroll).map_err(failed)?;
            let result = records.into_iter().map(retrieved).collect();
            let next_page_offset = next.map(convert::wire_id);
            Ok(Response::new(ScrollResponse { result, next_page_offset, ..ScrollResponse::default() }))
        }

        async fn count(&self, request: Request<CountPoints>) -> Result<Response<CountResponse>, Status> {
            let request = request.into_inner();
            let collection = self.collection(&request.collection_name)?;
            let count = CountRequest { filter: convert::filter(request.filter)?, exact: request.exact.unwrap_or(true) };
            let count = collection.shard.count(count).map_err(failed)? as u64;
            Ok(Response::new(CountResponse { result: Some(CountResult { count }), ..CountResponse::default() }))
        }

        async fn query_batch(
            &self,
            request: Request<QueryBatchPoints>,
        ) -> Result<Response<QueryBatchResponse>, Status> {
            let request = request.into_inner();
            let collection = self.collection(&request.collection_name)?;
            let found = request.query_points.into_iter().map(|query| search(&collection, query));
            let result = found.collect::<Result<_, _>>()?;
            Ok(Response::new(QueryBatchResponse { result, ..QueryBatchResponse::default() }))
        }
    }
    update_vectors: UpdatePointVectors => PointsOperationResponse,
    delete_vectors: DeletePointVectors => PointsOperationResponse,
    set_payload: SetPayloadPoints => PointsOperationResponse,
    overwrite_payload: SetPayloadPoints => PointsOperationResponse,
    delete_payload: DeletePayloadPoints => PointsOperationResponse,
    clear_payload: ClearPayloadPoints => PointsOperationResponse,
    delete_field_index: DeleteFieldIndexCollection => PointsOperationResponse,
    create_vector_name: CreateVectorNameRequest => PointsOperationResponse,
    delete_vector_name: DeleteVectorNameRequest => PointsOperationResponse,
    search: SearchPoints => SearchResponse,
    search_batch: SearchBatchPoints => SearchBatchResponse,
    search_groups: SearchPointGroups => SearchGroupsResponse,
    recommend: RecommendPoints => RecommendResponse,
    recommend_batch: RecommendBatchPoints => RecommendBatchResponse,
    recommend_groups: RecommendPointGroups => RecommendGroupsResponse,
    discover: DiscoverPoints => DiscoverResponse,
    discover_batch: DiscoverBatchPoints => DiscoverBatchResponse,
    update_batch: UpdateBatchPoints => UpdateBatchResponse,
    query: QueryPoints => QueryResponse,
    query_groups: QueryPointGroups => QueryGroupsResponse,
    facet: FacetCounts => FacetResponse,
    search_matrix_pairs: SearchMatrixPoints => SearchMatrixPairsResponse,
    search_matrix_offsets: SearchMatrixPoints => SearchMatrixOffsetsResponse,
}

fn search(collection: &Collection, request: QueryPoints) -> Result<BatchResult, Status> {
    let vector = match request.query.and_then(|query| query.variant) {
        Some(query::Variant::Nearest(vector)) => vector.variant,
        _ => return Err(Status::unimplemented("queries of this kind")),
    };
    let vector = match vector {
        Some(vector_input::Variant::Dense(dense)) => VectorInternal::Dense(dense.data),
        Some(vector_input::Variant::Sparse(sparse)) => VectorInternal::Sparse(
            SparseVector::new(sparse.indices, sparse.values)
                .map_err(|error| Status::invalid_argument(error.to_string()))?,
        ),
        _ => return Err(Status::unimplemented("vectors of this kind")),
    };
    let using = request.using.unwrap_or_default();
    let query = QueryRequest {
        prefetches: Vec::new(),
        query: Some(ScoringQuery::Vector(QueryEnum::Nearest(NamedQuery::new(vector, using)))),
        filter: convert::filter(request.filter)?,
        score_threshold: None,
        limit: request.limit.unwrap_or(10) as usize,
        offset: 0,
        params: None,
        with_vector: WithVector::Bool(false),
        with_payload: WithPayloadInterface::Bool(false),
    };
    let found = collection.shard.query(query).map_err(failed)?;
    let scored = |point: qdrant_edge::ScoredPoint| ScoredPoint {
        id: Some(convert::wire_id(point.id)),
        score: point.score,
        ..ScoredPoint::default()
    };
    Ok(BatchResult { result: found.into_iter().map(scored).collect() })
}

fn retrieved(record: Record) -> RetrievedPoint {
    RetrievedPoint {
        id: Some(convert::wire_id(record.id)),
        payload: convert::wire_payload(record.payload),
        vectors: convert::wire_vectors(record.vector),
        ..RetrievedPoint::default()
    }
}

fn completed() -> Response<PointsOperationResponse> {
    let result = UpdateResult { operation_id: Some(0), status: UpdateStatus::Completed.into() };
    Response::new(PointsOperationResponse { result: Some(result), ..PointsOperationResponse::default() })
}
