//! What the services share: collections, each a shard of the engine, and aliases.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qdrant_client::qdrant::CreateCollection;
use qdrant_edge::{EdgeShard, OperationError};
use tempfile::TempDir;
use tonic::Status;

use super::convert;
use crate::fixture;

/// A collection and what it was made with.
pub struct Collection {
    pub shard: EdgeShard,
    pub made_with: CreateCollection,
}

#[derive(Default)]
pub struct State {
    pub collections: BTreeMap<String, Arc<Collection>>,
    /// Alias -> collection.
    pub aliases: BTreeMap<String, String>,
}

/// The state behind the services. It survives the server, as a real server's disk does.
pub struct Engine {
    state: Mutex<State>,
    writes: AtomicUsize,
    made: AtomicUsize,
    // Last, so that it is removed after the collections in it are closed.
    directory: TempDir,
}

impl Engine {
    pub fn new() -> Self {
        Self {
            state: Mutex::default(),
            writes: AtomicUsize::new(0),
            made: AtomicUsize::new(0),
            directory: fixture::directory(),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A collection by its name or an alias of it.
    pub fn collection(&self, name: &str) -> Result<Arc<Collection>, Status> {
        let state = self.state();
        let name = state.aliases.get(name).map_or(name, String::as_str);
        let found = state.collections.get(name).cloned();
        found.ok_or_else(|| Status::not_found(format!("Collection `{name}` doesn't exist!")))
    }

    pub fn make(&self, request: CreateCollection) -> Result<(), Status> {
        let mut state = self.state();
        let name = request.collection_name.clone();
        if state.collections.contains_key(&name) || state.aliases.contains_key(&name) {
            return Err(Status::already_exists(format!("Wrong input: Collection `{name}` already exists!")));
        }
        let shard = EdgeShard::new(&self.new_directory(), convert::config(&request)).map_err(failed)?;
        state.collections.insert(name, Arc::new(Collection { shard, made_with: request }));
        Ok(())
    }

    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::Relaxed)
    }

    pub fn count_write(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    fn new_directory(&self) -> PathBuf {
        let directory = self.directory.path().join(self.made.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir(&directory).unwrap();
        directory
    }
}

/// As the real server reports what the engine refuses.
pub fn failed(error: OperationError) -> Status {
    let text = error.to_string();
    match text.contains("dimension") || text.contains("not existing vector name") {
        true => Status::invalid_argument(format!("Wrong input: {text}")),
        false => Status::internal(format!("Service internal error: {text}")),
    }
}
