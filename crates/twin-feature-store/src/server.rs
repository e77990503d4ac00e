//! The feature store on a Qdrant server or cluster.
//!
//! ```text
//! <prefix>records             authors, views and switches, as JSON
//! <prefix><view>              a collection for each view
//! <prefix>features            an alias: the collection of the view that serves
//! ```
//!
//! Any number of processes may use it at the same time. Training sets are files, and stay in a directory.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::{
    CreateAlias, CreateCollection, DeletePoints, PointsOperationResponse, PointsSelector, UpdateStatus, WriteOrdering,
    WriteOrderingType,
};
use serde::{Deserialize, Serialize};
use twin_domain::feature_store::StoredDocument;
use twin_domain::{
    Author, AuthorId, Chunk, ChunkId, Digest, DocumentId, DocumentInfo, EmbeddedChunk, Example, FeatureStore,
    FeatureView, FeatureViewId, HybridQuery, ScoredChunk, StoreError, Switch, TrainingSet, TrainingSetId,
    TrainingSetStore,
};

use self::collection::Collection;
use self::connection::Connection;
use self::records::Kind;
use crate::failure::{engine, invalid};
use crate::selection::{self, Selection};
use crate::training_sets::TrainingSetDirectory;
use crate::{Quantization, assemble};

mod collection;
mod connection;
mod convert;
mod create;
mod records;

/// How many switches are remembered.
const REMEMBERED: usize = 100;
/// The key of the only record of its kind.
const SWITCHES: &str = "switches";

/// In which order the replicas of a cluster apply writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WriteOrder {
    /// Any order; fastest.
    #[default]
    Weak,
    /// Through a leader that is chosen anew when it fails.
    Medium,
    /// Through one leader; writes fail while it is away.
    Strong,
}

/// Which server, and how collections are made and written there.
#[derive(Clone, PartialEq)]
pub struct ServerOptions {
    /// The address of the server's gRPC port, as in `http://localhost:6334`; with `https` the connection is encrypted.
    pub url: String,
    /// The key that the server was started with. Never printed.
    pub api_key: Option<String>,
    /// What the names of all collections and aliases begin with, so that several installations can share a server.
    pub prefix: String,
    /// Into how many shards a collection is divided; the server decides when it is not said. Only for new collections,
    /// like all that follows up to `quantization`.
    pub shard_number: Option<u32>,
    /// How many copies there are of each shard.
    pub replication_factor: Option<u32>,
    /// How many copies must have a write before it is acknowledged.
    pub write_consistency_factor: Option<u32>,
    /// Whether full vectors stay on the disk and are read from there.
    pub on_disk_vectors: bool,
    /// How vectors are held small for searching.
    pub quantization: Quantization,
    pub write_order: WriteOrder,
    /// How long a request may take.
    pub timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How often a request is sent again when the server cannot be reached or is overloaded. The waits between grow from
    /// 0.2 to 5 seconds; the default of 6 bridges some 11 seconds.
    pub retries: u32,
    /// About how many bytes of chunks go into one request.
    pub batch_bytes: usize,
}

impl ServerOptions {
    /// The server at this address, with the defaults.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            api_key: None,
            prefix: "twin-".to_owned(),
            shard_number: None,
            replication_factor: None,
            write_consistency_factor: None,
            on_disk_vectors: true,
            quantization: Quantization::None,
            write_order: WriteOrder::Weak,
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            retries: 6,
            batch_bytes: 4 * 1024 * 1024,
        }
    }
}

impl std::fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerOptions").field("url", &self.url).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// A feature store on a Qdrant server.
pub struct QdrantServer {
    options: ServerOptions,
    connection: Connection,
    /// Views never change, so what was read once stays right until the view is removed.
    collections: Mutex<HashMap<FeatureViewId, Arc<Collection>>>,
    training_sets: TrainingSetDirectory,
}

impl QdrantServer {
    /// Connects to a server. Training sets are kept in a directory, which is made if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a prefix with other characters than `a-z`, `0-9`, `-` and `_`;
    /// [`StoreError::Engine`] when the server cannot be reached or refuses the key.
    pub fn open(options: ServerOptions, training_sets: &Path) -> Result<Self, StoreError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        if !options.prefix.bytes().all(allowed) {
            return Err(invalid(format!("the prefix `{}`", options.prefix), "use a-z, 0-9, - and _ only"));
        }
        let store = Self {
            connection: Connection::new(&options)?,
            options,
            collections: Mutex::default(),
            training_sets: TrainingSetDirectory::open_shared(training_sets)?,
        };
        // Health is answered without a key; this is not.
        store.serving_view()?;
        Ok(store)
    }

    /// The version of the server.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn version(&self) -> Result<String, StoreError> {
        let check = |client: qdrant_client::Qdrant| async move { client.health_check().await };
        self.connection.call("the server", "reach it", check).map(|reply| reply.version)
    }

    fn collection(&self, id: &FeatureViewId) -> Result<Arc<Collection>, StoreError> {
        if let Some(known) = self.known().get(id) {
            return Ok(Arc::clone(known));
        }
        let not_found = || StoreError::NotFound { what: format!("feature view `{id}`") };
        // Ids can be read from files, so one may be anything; only the form that views have is looked for.
        FeatureViewId::parse(id.as_str()).ok_or_else(not_found)?;
        let view: FeatureView = self.record(Kind::View, id.as_str())?.ok_or_else(not_found)?;
        let collection = Arc::new(Collection::new(self.collection_name(id), view)?);
        self.known().insert(id.clone(), Arc::clone(&collection));
        Ok(collection)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<FeatureViewId, Arc<Collection>>> {
        self.collections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn collection_name(&self, id: &FeatureViewId) -> String {
        format!("{}{id}", self.options.prefix)
    }

    fn records(&self) -> String {
        format!("{}records", self.options.prefix)
    }

    fn alias(&self) -> String {
        format!("{}features", self.options.prefix)
    }

    fn ordering(&self) -> Option<WriteOrdering> {
        let order = match self.options.write_order {
            WriteOrder::Weak => WriteOrderingType::Weak,
            WriteOrder::Medium => WriteOrderingType::Medium,
            WriteOrder::Strong => WriteOrderingType::Strong,
        };
        Some(WriteOrdering { r#type: order.into() })
    }

    fn exists(&self, collection: &str) -> Result<bool, StoreError> {
        let name = collection.to_owned();
        self.connection.call(&format!("the collection `{collection}`"), "look for a collection", move |client| {
            let name = name.clone();
            async move { client.collection_exists(name).await }
        })
    }

    /// Makes a collection. That another process made it meanwhile is as good.
    fn create_collection(&self, collection: &str, request: CreateCollection) -> Result<(), StoreError> {
        let what = format!("the collection `{collection}`");
        let made = self.connection.call(&what, "make a collection", move |client| {
            let request = request.clone();
            async move { client.create_collection(request).await }
        });
        match made {
            Ok(_) => Ok(()),
            Err(error) => match self.exists(collection) {
                Ok(true) => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn delete_points(&self, collection: &str, points: PointsSelectorOneOf) -> Result<(), StoreError> {
        let request = DeletePoints {
            collection_name: collection.to_owned(),
            wait: Some(true),
            points: Some(PointsSelector { points_selector_one_of: Some(points) }),
            ordering: self.ordering(),
            ..DeletePoints::default()
        };
        let answer = self.connection.call(&format!("the collection `{collection}`"), "remove", move |client| {
            let request = request.clone();
            async move { client.delete_points(request).await }
        })?;
        applied("remove", answer)
    }
}

/// Checks that a write was applied and not only queued.
fn applied(operation: &str, answer: PointsOperationResponse) -> Result<(), StoreError> {
    match answer.result.map(|result| result.status()) {
        Some(UpdateStatus::Completed) => Ok(()),
        status => Err(engine(operation, format!("the server did not say that it is done, but {status:?}"))),
    }
}

impl std::fmt::Debug for QdrantServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QdrantServer").field("options", &self.options).finish_non_exhaustive()
    }
}

impl FeatureStore for QdrantServer {
    fn put_author(&self, author: &Author) -> Result<(), StoreError> {
        self.put_record(Kind::Author, author.id.as_str(), author)
    }

    fn authors(&self) -> Result<Vec<Author>, StoreError> {
        let mut authors: Vec<Author> = self.all_records(Kind::Author)?;
        authors.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(authors)
    }

    fn author(&self, id: &AuthorId) -> Result<Author, StoreError> {
        let found = self.record(Kind::Author, id.as_str())?;
        found.ok_or_else(|| StoreError::NotFound { what: format!("author `{id}`") })
    }

    fn create_view(&self, view: &FeatureView) -> Result<FeatureViewId, StoreError> {
        let id = view.id();
        if view.dimension == 0 {
            return Err(invalid("the feature view", "its vectors have no dimensions"));
        }
        let collection = Collection::new(self.collection_name(&id), view.clone())?;
        self.create_view_collection(&collection.name, view)?;
        self.put_record(Kind::View, id.as_str(), view)?;
        self.known().insert(id.clone(), Arc::new(collection));
        Ok(id)
    }

    fn views(&self) -> Result<Vec<FeatureView>, StoreError> {
        let mut views: Vec<FeatureView> = self.all_records(Kind::View)?;
        views.sort_by_key(FeatureView::id);
        Ok(views)
    }

    fn serving_view(&self) -> Result<Option<FeatureViewId>, StoreError> {
        let list = |client: qdrant_client::Qdrant| async move { client.list_aliases().await };
        let aliases = self.connection.call("the aliases", "ask which view serves", list)?.aliases;
        let serving = aliases.into_iter().find(|alias| alias.alias_name == self.alias());
        let id = |collection: String| {
            let id = collection.strip_prefix(&self.options.prefix).and_then(FeatureViewId::parse);
            let problem =
                "the alias of what serves points to a collection that is no feature view: switch to one again";
            id.ok_or_else(|| crate::failure::damaged(format!("`{collection}`"), problem))
        };
        serving.map(|alias| id(alias.collection_name)).transpose()
    }

    fn switch(&self, view: &FeatureViewId) -> Result<(), StoreError> {
        let collection = self.collection(view)?;
        let mut switches = self.switches()?;
        // An alias that is there is pointed elsewhere in one step.
        let request = CreateAlias { collection_name: collection.name.clone(), alias_name: self.alias() };
        self.connection.call(&format!("feature view `{view}`"), "switch", move |client| {
            let request = request.clone();
            async move { client.create_alias(request).await }
        })?;
        switches.push(Switch { view: view.clone(), at: Timestamp::now() });
        let kept = switches.split_off(switches.len().saturating_sub(REMEMBERED));
        self.put_record(Kind::Switches, SWITCHES, &kept)
    }

    fn switches(&self) -> Result<Vec<Switch>, StoreError> {
        let mut switches: Vec<Switch> = self.record(Kind::Switches, SWITCHES)?.unwrap_or_default();
        // What the alias says is what serves; a process may have been killed before it wrote that down.
        let serving = self.serving_view()?;
        if let Some(view) = serving.filter(|view| switches.last().is_none_or(|last| last.view != *view)) {
            switches.push(Switch { view, at: Timestamp::now() });
        }
        Ok(switches)
    }

    fn remove_view(&self, id: &FeatureViewId) -> Result<(), StoreError> {
        let collection = self.collection(id)?;
        if self.serving_view()?.as_ref() == Some(id) {
            return Err(invalid(format!("the removal of `{id}`"), "it serves: switch to another view first"));
        }
        // The record first: without it nobody begins to use the collection.
        self.delete_record(Kind::View, id.as_str())?;
        self.known().remove(id);
        let name = collection.name.clone();
        self.connection.call(&format!("feature view `{id}`"), "remove a feature view", move |client| {
            let name = name.clone();
            async move { client.delete_collection(name).await }
        })?;
        Ok(())
    }

    /// The server does so by itself.
    fn optimize(&self, view: &FeatureViewId) -> Result<bool, StoreError> {
        self.collection(view).map(|_| false)
    }

    fn upsert(&self, view: &FeatureViewId, chunks: &[EmbeddedChunk]) -> Result<(), StoreError> {
        self.upsert_chunks(&*self.collection(view)?, chunks)
    }

    fn remove_stale(
        &self,
        view: &FeatureViewId,
        document: DocumentId,
        keep: Option<&Digest>,
    ) -> Result<(), StoreError> {
        let stale = convert::filter(&selection::stale(document, keep));
        self.delete_points(&self.collection(view)?.name, PointsSelectorOneOf::Filter(stale))
    }

    fn query(&self, view: &FeatureViewId, query: &HybridQuery) -> Result<Vec<ScoredChunk>, StoreError> {
        self.query_chunks(&*self.collection(view)?, query)
    }

    fn page(
        &self,
        view: &FeatureViewId,
        author: Option<&AuthorId>,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<EmbeddedChunk>, StoreError> {
        let selected = author.map_or_else(Selection::default, selection::author);
        self.page_of(&*self.collection(view)?, &selected, after, limit)
    }

    fn chunks(&self, view: &FeatureViewId, document: DocumentId) -> Result<Vec<(Chunk, DocumentInfo)>, StoreError> {
        self.scroll_chunks(&*self.collection(view)?, &selection::document(document)).map(assemble::chunks)
    }

    fn documents(&self, view: &FeatureViewId, author: &AuthorId) -> Result<Vec<StoredDocument>, StoreError> {
        self.scroll_chunks(&*self.collection(view)?, &selection::author(author)).and_then(assemble::documents)
    }

    fn count(&self, view: &FeatureViewId, author: Option<&AuthorId>) -> Result<u64, StoreError> {
        let selected = author.map_or_else(Selection::default, selection::author);
        self.count_chunks(&*self.collection(view)?, &selected)
    }
}

impl TrainingSetStore for QdrantServer {
    fn put_training_set(&self, set: &TrainingSet, examples: &[Example]) -> Result<(), StoreError> {
        self.training_sets.put(set, examples)
    }

    fn training_set(&self, id: &TrainingSetId) -> Result<TrainingSet, StoreError> {
        self.training_sets.manifest(id)
    }

    fn examples(&self, id: &TrainingSetId) -> Result<Vec<Example>, StoreError> {
        self.training_sets.examples(id)
    }

    fn training_sets(&self, author: &AuthorId) -> Result<Vec<TrainingSet>, StoreError> {
        self.training_sets.of_author(author)
    }

    fn remove_examples(&self, id: &TrainingSetId) -> Result<(), StoreError> {
        self.training_sets.remove_examples(id)
    }
}
