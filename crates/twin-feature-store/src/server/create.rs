//! Making a view's collection: vectors, shards, replicas and payload indexes.

use std::collections::HashMap;

use qdrant_client::qdrant::{
    BinaryQuantization, CreateCollection, CreateFieldIndexCollection, Distance, FieldType, KeywordIndexParams,
    Modifier, PayloadIndexParams, QuantizationConfig, QuantizationType, ScalarQuantization, SparseVectorConfig,
    SparseVectorParams, VectorParams, VectorParamsMap, VectorsConfig, payload_index_params, quantization_config,
    vectors_config,
};
use twin_domain::{FeatureView, StoreError};

use super::QdrantServer;
use crate::failure::invalid;
use crate::payload::field;
use crate::{DENSE, Quantization, SPARSE};

impl QdrantServer {
    /// Makes a view's collection with its indexes, or checks that the one there is can hold the view.
    pub(super) fn create_view_collection(&self, collection: &str, view: &FeatureView) -> Result<(), StoreError> {
        if self.exists(collection)? {
            self.check_dimension(collection, view)?;
        } else {
            self.create_collection(collection, self.collection_request(collection, view))?;
        }
        // Also where the collection is there: a process that was killed may not have come to them.
        for field in [field::AUTHOR, field::DOCUMENT, field::TAGS, field::KIND, field::LANGUAGE] {
            self.create_index(collection, field, FieldType::Keyword)?;
        }
        self.create_index(collection, field::DATE, FieldType::Datetime)
    }

    fn collection_request(&self, collection: &str, view: &FeatureView) -> CreateCollection {
        let options = &self.options;
        #[expect(deprecated, reason = "servers before 1.19 know this name only, and later ones still do")]
        let dense = VectorParams {
            size: view.dimension as u64,
            distance: Distance::Cosine.into(),
            on_disk: Some(options.on_disk_vectors),
            quantization_config: quantization(options.quantization),
            ..VectorParams::default()
        };
        let sparse = SparseVectorParams { index: None, modifier: Some(Modifier::Idf.into()) };
        let vectors = VectorParamsMap { map: HashMap::from([(DENSE.to_owned(), dense)]) };
        CreateCollection {
            collection_name: collection.to_owned(),
            vectors_config: Some(VectorsConfig { config: Some(vectors_config::Config::ParamsMap(vectors)) }),
            sparse_vectors_config: Some(SparseVectorConfig { map: HashMap::from([(SPARSE.to_owned(), sparse)]) }),
            shard_number: options.shard_number,
            replication_factor: options.replication_factor,
            write_consistency_factor: options.write_consistency_factor,
            ..CreateCollection::default()
        }
    }

    fn create_index(&self, collection: &str, field: &'static str, field_type: FieldType) -> Result<(), StoreError> {
        // An author's chunks are stored together, and searched as a collection of their own.
        let tenant = KeywordIndexParams { is_tenant: Some(true), ..KeywordIndexParams::default() };
        let tenant = payload_index_params::IndexParams::KeywordIndexParams(tenant);
        let request = CreateFieldIndexCollection {
            collection_name: collection.to_owned(),
            wait: Some(true),
            field_name: field.to_owned(),
            field_type: Some(field_type.into()),
            field_index_params: (field == field::AUTHOR).then_some(PayloadIndexParams { index_params: Some(tenant) }),
            ordering: self.ordering(),
            ..CreateFieldIndexCollection::default()
        };
        let what = format!("the collection `{collection}`");
        self.connection.call(&what, "index a field", move |client| {
            let request = request.clone();
            async move { client.create_field_index(request).await }
        })?;
        Ok(())
    }

    /// A collection of this name may have been made by something else.
    fn check_dimension(&self, collection: &str, view: &FeatureView) -> Result<(), StoreError> {
        let (what, name) = (format!("the collection `{collection}`"), collection.to_owned());
        let info = self.connection.call(&what, "look at a collection", move |client| {
            let name = name.clone();
            async move { client.collection_info(name).await }
        })?;
        let params = info.result.and_then(|info| info.config?.params?.vectors_config?.config);
        let there = match params {
            Some(vectors_config::Config::ParamsMap(map)) => map.map.get(DENSE).map(|params| params.size),
            _ => None,
        };
        if there == Some(view.dimension as u64) {
            return Ok(());
        }
        let there = there.map_or("no vector `dense`".to_owned(), |there| format!("vectors of {there} dimensions"));
        let problem = format!(
            "the server's collection `{collection}` has {there}, and the view's have {}: it was not made by this program; \
             remove it, or choose another prefix",
            view.dimension
        );
        Err(invalid(format!("feature view `{}`", view.id()), problem))
    }
}

fn quantization(quantization: Quantization) -> Option<QuantizationConfig> {
    let quantization = match quantization {
        Quantization::None => return None,
        // The share of values that is not cut off, as Qdrant recommends it.
        #[expect(deprecated, reason = "servers before 1.19 know this name only, and later ones still do")]
        Quantization::Scalar => quantization_config::Quantization::Scalar(ScalarQuantization {
            r#type: QuantizationType::Int8.into(),
            quantile: Some(0.99),
            always_ram: Some(true),
            ..ScalarQuantization::default()
        }),
        #[expect(deprecated, reason = "servers before 1.19 know this name only, and later ones still do")]
        Quantization::Binary => quantization_config::Quantization::Binary(BinaryQuantization {
            always_ram: Some(true),
            ..BinaryQuantization::default()
        }),
    };
    Some(QuantizationConfig { quantization: Some(quantization) })
}
