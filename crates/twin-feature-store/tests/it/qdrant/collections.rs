//! The service of collections and aliases, and that of health.

use qdrant_client::qdrant::alias_operations::Action;
use qdrant_client::qdrant::collections_server::Collections;
use qdrant_client::qdrant::qdrant_server::Qdrant;
use qdrant_client::qdrant::{
    AliasDescription, ChangeAliases, CollectionClusterInfoRequest, CollectionClusterInfoResponse, CollectionConfig,
    CollectionDescription, CollectionExists, CollectionExistsRequest, CollectionExistsResponse, CollectionInfo,
    CollectionOperationResponse, CollectionParams, CreateCollection, CreateShardKeyRequest, CreateShardKeyResponse,
    DeleteCollection, DeleteShardKeyRequest, DeleteShardKeyResponse, GetCollectionInfoRequest,
    GetCollectionInfoResponse, HealthCheckReply, HealthCheckRequest, ListAliasesRequest, ListAliasesResponse,
    ListCollectionAliasesRequest, ListCollectionsRequest, ListCollectionsResponse, ListShardKeysRequest,
    ListShardKeysResponse, UpdateCollection, UpdateCollectionClusterSetupRequest, UpdateCollectionClusterSetupResponse,
};
use tonic::{Request, Response, Status};

use super::engine::Engine;

#[tonic::async_trait]
impl Qdrant for Engine {
    async fn health_check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckReply>, Status> {
        let (title, version) = ("qdrant - the engine in a test".to_owned(), "1.17.0".to_owned());
        Ok(Response::new(HealthCheckReply { title, version, commit: None }))
    }
}

/// Implements a service of which most calls are not there.
macro_rules! collections {
    ({ $($implemented:tt)* } $($name:ident: $request:ty => $answer:ty,)*) => {
        #[tonic::async_trait]
        impl Collections for Engine {
            $($implemented)*
            $(async fn $name(&self, _: Request<$request>) -> Result<Response<$answer>, Status> {
                Err(Status::unimplemented(stringify!($name)))
            })*
        }
    };
}

collections! {
    {
        async fn get(
            &self,
            request: Request<GetCollectionInfoRequest>,
        ) -> Result<Response<GetCollectionInfoResponse>, Status> {
            let collection = self.collection(&request.into_inner().collection_name)?;
            let params = CollectionParams {
                vectors_config: collection.made_with.vectors_config.clone(),
                sparse_vectors_config: collection.made_with.sparse_vectors_config.clone(),
                ..CollectionParams::default()
            };
            let config = CollectionConfig { params: Some(params), ..CollectionConfig::default() };
            let points_count = Some(collection.shard.info().points_count as u64);
            let result = CollectionInfo { config: Some(config), points_count, ..CollectionInfo::default() };
            Ok(Response::new(GetCollectionInfoResponse { result: Some(result), time: 0.0 }))
        }

        async fn list(
            &self,
            _: Request<ListCollectionsRequest>,
        ) -> Result<Response<ListCollectionsResponse>, Status> {
            let collections =
                self.state().collections.keys().map(|name| CollectionDescription { name: name.clone() }).collect();
            Ok(Response::new(ListCollectionsResponse { collections, time: 0.0 }))
        }

        async fn create(
            &self,
            request: Request<CreateCollection>,
        ) -> Result<Response<CollectionOperationResponse>, Status> {
            self.make(request.into_inner())?;
            Ok(done())
        }

        async fn delete(
            &self,
            request: Request<DeleteCollection>,
        ) -> Result<Response<CollectionOperationResponse>, Status> {
            let name = request.into_inner().collection_name;
            let mut state = self.state();
            state.collections.remove(&name);
            state.aliases.retain(|_, collection| *collection != name);
            Ok(done())
        }

        async fn update_aliases(
            &self,
            request: Request<ChangeAliases>,
        ) -> Result<Response<CollectionOperationResponse>, Status> {
            let mut state = self.state();
            for operation in request.into_inner().actions {
                match operation.action {
                    Some(Action::CreateAlias(alias)) if !state.collections.contains_key(&alias.collection_name) => {
                        return Err(Status::not_found(format!("Collection `{}` doesn't exist!", alias.collection_name)));
                    }
                    Some(Action::CreateAlias(alias)) => {
                        state.aliases.insert(alias.alias_name, alias.collection_name);
                    }
                    _ => return Err(Status::unimplemented("aliases are only made")),
                }
            }
            Ok(done())
        }

        async fn list_aliases(
            &self,
            _: Request<ListAliasesRequest>,
        ) -> Result<Response<ListAliasesResponse>, Status> {
            let state = self.state();
            let alias = |(alias, collection): (&String, &String)| AliasDescription {
                alias_name: alias.clone(),
                collection_name: collection.clone(),
            };
            Ok(Response::new(ListAliasesResponse { aliases: state.aliases.iter().map(alias).collect(), time: 0.0 }))
        }

        async fn collection_exists(
            &self,
            request: Request<CollectionExistsRequest>,
        ) -> Result<Response<CollectionExistsResponse>, Status> {
            let exists = self.collection(&request.into_inner().collection_name).is_ok();
            Ok(Response::new(CollectionExistsResponse { result: Some(CollectionExists { exists }), time: 0.0 }))
        }
    }
    update: UpdateCollection => CollectionOperationResponse,
    list_collection_aliases: ListCollectionAliasesRequest => ListAliasesResponse,
    collection_cluster_info: CollectionClusterInfoRequest => CollectionClusterInfoResponse,
    update_collection_cluster_setup: UpdateCollectionClusterSetupRequest => UpdateCollectionClusterSetupResponse,
    create_shard_key: CreateShardKeyRequest => CreateShardKeyResponse,
    delete_shard_key: DeleteShardKeyRequest => DeleteShardKeyResponse,
    list_shard_keys: ListShardKeysRequest => ListShardKeysResponse,
}

fn done() -> Response<CollectionOperationResponse> {
    Response::new(CollectionOperationResponse { result: true, time: 0.0 })
}
