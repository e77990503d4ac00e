//! The feature store in this process: the Qdrant engine on a directory.
//!
//! ```text
//! <dir>/store.lock                  who has the store open
//! <dir>/authors/<author>.json
//! <dir>/serving                     a line for each switch, the id of the view and the time; the last one serves
//! <dir>/<view>/view.json
//! <dir>/<view>/shard/               the collection; rebuilt by the feature pipeline when it is lost
//! <dir>/<view>/damaged-<time>/      a collection that could not be read, moved aside
//! <dir>/removed-<view>-<time>/      a view that is being removed; the rest of it is at the next start
//! <dir>/training-sets/<set>/        manifest.json and a Parquet file for each split
//! ```
//!
//! One process at a time. Queries run side by side, writes to one collection one after another.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fs_err as fs;
use jiff::Timestamp;
use twin_domain::feature_store::StoredDocument;
use twin_domain::{
    Author, AuthorId, Chunk, ChunkId, Digest, DocumentId, DocumentInfo, EmbeddedChunk, Example, FeatureStore,
    FeatureView, FeatureViewId, HybridQuery, ScoredChunk, StoreError, Switch, TrainingSet, TrainingSetId,
    TrainingSetStore,
};

use self::collection::Collection;
use self::lock::DirectoryLock;
use self::shard::SHARD;
use crate::failure::{damaged, engine, invalid, read_json};
use crate::selection::{self, Selection};
use crate::sparse::SparseEncoder;
use crate::training_sets::TrainingSetDirectory;
use crate::{Quantization, assemble, durable};

mod collection;
mod filter;
mod guard;
mod lock;
mod prefetch;
mod removal;
mod serving;
mod shard;
mod tally;

const VIEW: &str = "view.json";

/// How an embedded store works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// How much space on the disk is left alone, in bytes. The engine writes through mapped memory: on a full disk it
    /// would be killed by a signal rather than fail, so writing stops before. Default 256 MiB.
    pub reserve_bytes: u64,
    /// From how many kilobytes of vectors on [`EmbeddedFeatureStore::optimize`] builds an HNSW index. Below, all vectors
    /// are compared, which is exact. Default 10,000: about 6,700 vectors of 384 dimensions.
    pub indexing_threshold_kb: usize,
    /// How many chunks may be written before they are indexed on the way; from the time on that a collection has eight times
    /// as many, an eighth of it may. What is not indexed yet makes writing slower: the engine goes through the whole list of
    /// a term to add one chunk to it. Default 20,000.
    pub index_every: u64,
    /// How vectors are held small for searching; the full ones stay on the disk. Takes effect when a collection is
    /// optimised next. Default none.
    pub quantization: Quantization,
    /// What this process does, as in `twin serve`; whoever is refused because of it is told.
    pub purpose: String,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            reserve_bytes: 256 * 1024 * 1024,
            indexing_threshold_kb: 10_000,
            index_every: 20_000,
            quantization: Quantization::None,
            purpose: String::new(),
        }
    }
}

/// A feature store in a directory, with the engine in this process.
#[derive(Debug)]
pub struct EmbeddedFeatureStore {
    directory: PathBuf,
    options: StoreOptions,
    collections: Mutex<HashMap<FeatureViewId, Slot>>,
    /// Held while a file beside the collections is replaced.
    files: Mutex<()>,
    /// Held while it is decided what serves.
    switching: Mutex<()>,
    training_sets: TrainingSetDirectory,
    // Last, so that it is given back after everything above is closed.
    _lock: DirectoryLock,
}

#[derive(Debug)]
enum Slot {
    Open(Arc<Collection>),
    /// It was found damaged and moved aside. It stays unusable until the store is opened again, so that a server does
    /// not go on with an empty collection.
    Damaged(String),
    /// It is being removed.
    Removed,
}

impl EmbeddedFeatureStore {
    /// Opens the store in `directory`, which is made if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process, or another part of this one, has it open.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::open_with(directory, StoreOptions::default())
    }

    /// [`open`](Self::open) with options.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_with(directory: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        fs::create_dir_all(directory).map_err(|error| engine("make its directory", error))?;
        let lock = DirectoryLock::acquire(directory, &options.purpose)?;
        removal::finish(directory)?;
        let authors = directory.join("authors");
        fs::create_dir_all(&authors).map_err(|error| engine("make a directory", error))?;
        Ok(Self {
            training_sets: TrainingSetDirectory::open(&directory.join("training-sets"))?,
            directory: directory.to_owned(),
            options,
            collections: Mutex::default(),
            files: Mutex::default(),
            switching: Mutex::default(),
            _lock: lock,
        })
    }

    /// Moves a view's collection aside and goes on with an empty one, for features that are to be made again.
    ///
    /// # Errors
    /// When there is no such view or its directory cannot be renamed.
    pub fn reset(&self, view: &FeatureViewId) -> Result<(), StoreError> {
        self.view(view)?;
        let mut slots = lock(&self.collections);
        slots.remove(view);
        if self.view_directory(view).join(SHARD).exists() {
            self.move_aside(view, "it was reset")?;
        }
        Ok(())
    }

    /// The collections that were found damaged and moved aside, of all views. They may be deleted once the features
    /// are rebuilt.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn moved_aside(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut found = Vec::new();
        for id in self.view_ids()? {
            let entries = directory_names(&self.view_directory(&id))?;
            let damaged = entries.into_iter().filter(|name| name.starts_with("damaged-"));
            found.extend(damaged.map(|name| self.view_directory(&id).join(name)));
        }
        Ok(found)
    }

    fn collection(&self, id: &FeatureViewId) -> Result<Arc<Collection>, StoreError> {
        let mut slots = lock(&self.collections);
        match slots.get(id) {
            Some(Slot::Open(collection)) => return Ok(Arc::clone(collection)),
            Some(Slot::Damaged(problem)) => return Err(damaged(format!("the collection `{id}`"), problem)),
            Some(Slot::Removed) => return Err(no_view(id)),
            None => {}
        }
        let view = self.view(id)?;
        match Collection::open(&self.view_directory(id), view, &self.options) {
            Ok(collection) => {
                let collection = Arc::new(collection);
                slots.insert(id.clone(), Slot::Open(Arc::clone(&collection)));
                Ok(collection)
            }
            Err(StoreError::Damaged { what, problem }) => {
                let problem = self.move_aside(id, &problem)?;
                slots.insert(id.clone(), Slot::Damaged(problem.clone()));
                Err(StoreError::Damaged { what, problem })
            }
            Err(error) => Err(error),
        }
    }

    fn move_aside(&self, id: &FeatureViewId, problem: &str) -> Result<String, StoreError> {
        let directory = self.view_directory(id);
        let aside = directory.join(format!("damaged-{}", Timestamp::now().as_microsecond()));
        let moved = fs::rename(directory.join(SHARD), &aside).and_then(|()| durable::sync_directory(&directory));
        moved.map_err(|error| engine("move a damaged collection aside", error))?;
        let aside = aside.display();
        tracing::warn!(view = %id, %aside, problem, "a collection was moved aside");
        Ok(format!(
            "{problem}; it was moved to `{aside}`, and the next start begins with an empty one: ingest the sources again to rebuild it"
        ))
    }

    fn view(&self, id: &FeatureViewId) -> Result<FeatureView, StoreError> {
        let not_found = || no_view(id);
        // Ids can be read from files, so one may be a path; only the form that views have is looked for.
        FeatureViewId::parse(id.as_str()).ok_or_else(not_found)?;
        let file = self.view_directory(id).join(VIEW);
        let view: FeatureView = read_json(&file)?.ok_or_else(not_found)?;
        if view.id() != *id {
            return Err(damaged(format!("`{}`", file.display()), "it describes another feature view"));
        }
        Ok(view)
    }

    fn view_ids(&self) -> Result<Vec<FeatureViewId>, StoreError> {
        let mut ids: Vec<_> =
            directory_names(&self.directory)?.iter().filter_map(|name| FeatureViewId::parse(name)).collect();
        ids.retain(|id| self.view_directory(id).join(VIEW).exists());
        ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        Ok(ids)
    }

    fn view_directory(&self, id: &FeatureViewId) -> PathBuf {
        self.directory.join(id.as_str())
    }

    fn author_file(&self, id: &AuthorId) -> PathBuf {
        self.directory.join("authors").join(format!("{id}.json"))
    }

    fn replace_file(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let _one_at_a_time = lock(&self.files);
        guard::require_space(&self.directory, self.options.reserve_bytes, bytes.len() as u64)?;
        durable::write(path, bytes).map_err(|error| engine("replace a file", error))
    }
}

impl FeatureStore for EmbeddedFeatureStore {
    fn put_author(&self, author: &Author) -> Result<(), StoreError> {
        self.replace_file(&self.author_file(&author.id), &json(author)?)
    }

    fn authors(&self) -> Result<Vec<Author>, StoreError> {
        let names = directory_names(&self.directory.join("authors"))?;
        let ids = names.iter().filter_map(|name| AuthorId::parse(name.strip_suffix(".json")?).ok());
        let mut authors: Vec<Author> = ids.filter_map(|id| or_warn(self.author(&id))).collect();
        authors.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(authors)
    }

    fn author(&self, id: &AuthorId) -> Result<Author, StoreError> {
        let found = read_json(&self.author_file(id))?;
        found.ok_or_else(|| StoreError::NotFound { what: format!("author `{id}`") })
    }

    fn create_view(&self, view: &FeatureView) -> Result<FeatureViewId, StoreError> {
        SparseEncoder::new(view)?;
        if view.dimension == 0 {
            return Err(invalid("the feature view", "its vectors have no dimensions"));
        }
        let id = view.id();
        let directory = self.view_directory(&id);
        fs::create_dir_all(&directory).map_err(|error| engine("make a directory", error))?;
        if !directory.join(VIEW).exists() {
            self.replace_file(&directory.join(VIEW), &json(view)?)?;
            durable::sync_directory(&self.directory).map_err(|error| engine("sync a directory", error))?;
        }
        self.collection(&id)?;
        Ok(id)
    }

    fn views(&self) -> Result<Vec<FeatureView>, StoreError> {
        Ok(self.view_ids()?.iter().filter_map(|id| or_warn(self.view(id))).collect())
    }

    fn serving_view(&self) -> Result<Option<FeatureViewId>, StoreError> {
        Ok(serving::read(&self.directory)?.pop().map(|switch| switch.view))
    }

    fn switch(&self, view: &FeatureViewId) -> Result<(), StoreError> {
        self.collection(view)?;
        let _one_at_a_time = lock(&self.switching);
        let mut switches = serving::read(&self.directory)?;
        switches.push(Switch { view: view.clone(), at: Timestamp::now() });
        self.replace_file(&serving::path(&self.directory), serving::text(&switches).as_bytes())
    }

    fn switches(&self) -> Result<Vec<Switch>, StoreError> {
        serving::read(&self.directory)
    }

    fn remove_view(&self, id: &FeatureViewId) -> Result<(), StoreError> {
        // As long as it is held nothing else can begin to serve.
        let _one_at_a_time = lock(&self.switching);
        self.view(id)?;
        if self.serving_view()?.as_ref() == Some(id) {
            return Err(invalid(format!("the removal of `{id}`"), "it serves: switch to another view first"));
        }
        let open = lock(&self.collections).insert(id.clone(), Slot::Removed);
        if let Some(Slot::Open(collection)) = open
            && let Err(collection) = removal::close(collection)
        {
            lock(&self.collections).insert(id.clone(), Slot::Open(collection));
            return Err(invalid(format!("the removal of `{id}`"), "it is being read or written: try again later"));
        }
        let removed = removal::remove(&self.directory, id);
        lock(&self.collections).remove(id);
        removed
    }

    fn optimize(&self, view: &FeatureViewId) -> Result<bool, StoreError> {
        self.collection(view)?.optimize()
    }

    fn prefetch(&self, view: &FeatureViewId) -> Result<(), StoreError> {
        self.collection(view)?.prefetch()
    }

    fn upsert(&self, view: &FeatureViewId, chunks: &[EmbeddedChunk]) -> Result<(), StoreError> {
        self.collection(view)?.upsert(chunks)
    }

    fn remove_stale(
        &self,
        view: &FeatureViewId,
        document: DocumentId,
        keep: Option<&Digest>,
    ) -> Result<(), StoreError> {
        self.collection(view)?.remove(&selection::stale(document, keep))
    }

    fn query(&self, view: &FeatureViewId, query: &HybridQuery) -> Result<Vec<ScoredChunk>, StoreError> {
        self.collection(view)?.query(query)
    }

    fn page(
        &self,
        view: &FeatureViewId,
        author: Option<&AuthorId>,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<EmbeddedChunk>, StoreError> {
        let selected = author.map_or_else(Selection::default, selection::author);
        self.collection(view)?.page(&selected, after, limit)
    }

    fn chunks(&self, view: &FeatureViewId, document: DocumentId) -> Result<Vec<(Chunk, DocumentInfo)>, StoreError> {
        self.collection(view)?.scroll(&selection::document(document)).map(assemble::chunks)
    }

    fn documents(&self, view: &FeatureViewId, author: &AuthorId) -> Result<Vec<StoredDocument>, StoreError> {
        self.collection(view)?.scroll(&selection::author(author)).and_then(assemble::documents)
    }

    fn count(&self, view: &FeatureViewId, author: Option<&AuthorId>) -> Result<u64, StoreError> {
        self.collection(view)?.count(author.map(selection::author).as_ref())
    }
}

impl TrainingSetStore for EmbeddedFeatureStore {
    fn put_training_set(&self, set: &TrainingSet, examples: &[Example]) -> Result<(), StoreError> {
        let _one_at_a_time = lock(&self.files);
        let bytes: usize = examples.iter().map(|example| example.target.len() + 1024).sum();
        guard::require_space(&self.directory, self.options.reserve_bytes, bytes as u64)?;
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
        let _one_at_a_time = lock(&self.files);
        self.training_sets.remove_examples(id)
    }
}

fn no_view(id: &FeatureViewId) -> StoreError {
    StoreError::NotFound { what: format!("feature view `{id}`") }
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec_pretty(value).map_err(|error| engine("write JSON", error))
}

/// One damaged record must not hide the others of a listing; asked for by name it is an error.
fn or_warn<T>(found: Result<T, StoreError>) -> Option<T> {
    found.inspect_err(|error| tracing::warn!(%error, "left out of a listing")).ok()
}

fn directory_names(directory: &Path) -> Result<Vec<String>, StoreError> {
    let entries = fs::read_dir(directory).map_err(|error| engine("read a directory", error))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    names.collect::<std::io::Result<_>>().map_err(|error| engine("read a directory", error))
}

/// What a mutex guards here is whole between any two statements, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
