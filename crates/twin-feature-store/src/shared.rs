//! One store for several processes: the one that has it open answers the others.
//!
//! The engine lets one process have a directory open. While `twin serve` has it, other commands reach the same store through
//! a Unix socket in that directory. The system's file permissions say who may: the socket lies in a directory that only the
//! owner can enter. One request goes over a connection at a time: its length as four bytes, then JSON, and the same back.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use fs_err as fs;
use serde::Serialize;
use serde::de::DeserializeOwned;
use twin_domain::feature_store::StoredDocument;
use twin_domain::{
    Author, AuthorId, Chunk, ChunkId, Digest, DocumentId, DocumentInfo, EmbeddedChunk, Example, FeatureStore,
    FeatureView, FeatureViewId, HybridQuery, ScoredChunk, StoreError, Switch, TrainingSet, TrainingSetId,
    TrainingSetStore,
};

use self::wire::{Answer, Envelope, PROTOCOL, Request, WireChunk};
use crate::failure::{damaged, engine};
use crate::training_sets::TrainingSetDirectory;

mod wire;

/// The directory that only the owner can enter, in the store's, and the socket in it.
const DIRECTORY: &str = "shared";
const SOCKET: &str = "store.sock";

/// The longest message, in bytes: all documents of a prolific author are some tens of megabytes.
const LONGEST_MESSAGE: u32 = 512 * 1024 * 1024;

/// How many chunks go in one message.
const UPSERT_CHUNKS: usize = 512;

/// The store as another process of this program has it open.
///
/// Training sets are files that several processes may read and write; only features go through the other process.
#[derive(Debug)]
pub struct SharedFeatureStore {
    socket: PathBuf,
    /// Connections that nobody uses just now.
    idle: Mutex<Vec<UnixStream>>,
    training_sets: TrainingSetDirectory,
}

impl SharedFeatureStore {
    /// Reaches the process that shares the store in `directory`, with training sets in `training_sets`; `None` when no
    /// process does.
    ///
    /// # Errors
    /// When one does and cannot be understood, or the training sets cannot be read.
    pub fn connect(directory: &Path, training_sets: &Path) -> Result<Option<Self>, StoreError> {
        let socket = directory.join(DIRECTORY).join(SOCKET);
        let Ok(stream) = UnixStream::connect(&socket) else { return Ok(None) };
        let training_sets = TrainingSetDirectory::open_shared(training_sets)?;
        let store = Self { socket, idle: Mutex::new(vec![stream]), training_sets };
        // Whether the two understand each other is known before anything is asked for.
        store.serving_view()?;
        Ok(Some(store))
    }

    /// Asks, on a connection that is idle or a new one. A connection on which something went wrong is not used again.
    fn ask<T: DeserializeOwned>(&self, request: Request) -> Result<T, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => UnixStream::connect(&self.socket).map_err(gone)?,
        };
        send(&mut stream, &Envelope { protocol: PROTOCOL, request }).map_err(gone)?;
        let message = receive(&mut stream).map_err(gone)?.ok_or_else(|| gone(io::ErrorKind::UnexpectedEof.into()))?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        let strange = |error| damaged("the answer of the process that has the feature store", error);
        match serde_json::from_slice(&message).map_err(strange)? {
            Answer::Done(value) => serde_json::from_value(value).map_err(strange),
            Answer::Failed(failure) => Err(failure.into()),
        }
    }
}

fn gone(error: io::Error) -> StoreError {
    engine("reach the process that has it open, which has ended or is ending: run the same command again", error)
}

impl FeatureStore for SharedFeatureStore {
    fn put_author(&self, author: &Author) -> Result<(), StoreError> {
        self.ask(Request::PutAuthor(author.clone()))
    }

    fn authors(&self) -> Result<Vec<Author>, StoreError> {
        self.ask(Request::Authors)
    }

    fn create_view(&self, view: &FeatureView) -> Result<FeatureViewId, StoreError> {
        self.ask(Request::CreateView(view.clone()))
    }

    fn views(&self) -> Result<Vec<FeatureView>, StoreError> {
        self.ask(Request::Views)
    }

    fn serving_view(&self) -> Result<Option<FeatureViewId>, StoreError> {
        self.ask(Request::ServingView)
    }

    fn switch(&self, view: &FeatureViewId) -> Result<(), StoreError> {
        self.ask(Request::Switch(view.clone()))
    }

    fn switches(&self) -> Result<Vec<Switch>, StoreError> {
        self.ask(Request::Switches)
    }

    fn remove_view(&self, view: &FeatureViewId) -> Result<(), StoreError> {
        self.ask(Request::RemoveView(view.clone()))
    }

    fn optimize(&self, view: &FeatureViewId) -> Result<bool, StoreError> {
        self.ask(Request::Optimize(view.clone()))
    }

    fn upsert(&self, view: &FeatureViewId, chunks: &[EmbeddedChunk]) -> Result<(), StoreError> {
        // A bad batch is refused whole, so that it is checked whole before its first part is written.
        let whole = |chunks: &[EmbeddedChunk]| chunks.iter().map(WireChunk::from).collect::<Vec<_>>();
        if chunks.len() <= UPSERT_CHUNKS {
            return self.ask(Request::Upsert(view.clone(), whole(chunks)));
        }
        let views = self.views()?;
        let known = views.iter().find(|known| known.id() == *view);
        let known = known.ok_or_else(|| StoreError::NotFound { what: format!("feature view `{view}`") })?;
        crate::validate::chunks(known, view, chunks)?;
        chunks.chunks(UPSERT_CHUNKS).try_for_each(|part| self.ask(Request::Upsert(view.clone(), whole(part))))
    }

    fn remove_stale(
        &self,
        view: &FeatureViewId,
        document: DocumentId,
        keep: Option<&Digest>,
    ) -> Result<(), StoreError> {
        self.ask(Request::RemoveStale { view: view.clone(), document, keep: keep.cloned() })
    }

    fn query(&self, view: &FeatureViewId, query: &HybridQuery) -> Result<Vec<ScoredChunk>, StoreError> {
        self.ask(Request::Query(view.clone(), query.clone()))
    }

    fn page(
        &self,
        view: &FeatureViewId,
        author: Option<&AuthorId>,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<EmbeddedChunk>, StoreError> {
        let request = Request::Page { view: view.clone(), author: author.cloned(), after, limit };
        let chunks: Vec<WireChunk> = self.ask(request)?;
        Ok(chunks.into_iter().map(EmbeddedChunk::from).collect())
    }

    fn chunks(&self, view: &FeatureViewId, document: DocumentId) -> Result<Vec<(Chunk, DocumentInfo)>, StoreError> {
        self.ask(Request::Chunks(view.clone(), document))
    }

    fn documents(&self, view: &FeatureViewId, author: &AuthorId) -> Result<Vec<StoredDocument>, StoreError> {
        self.ask(Request::Documents(view.clone(), author.clone()))
    }

    fn count(&self, view: &FeatureViewId, author: Option<&AuthorId>) -> Result<u64, StoreError> {
        self.ask(Request::Count(view.clone(), author.cloned()))
    }
}

impl TrainingSetStore for SharedFeatureStore {
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

/// That this process answers others about its store, until it is dropped.
#[derive(Debug)]
pub struct Sharing {
    socket: PathBuf,
    guests: Arc<Mutex<Guests>>,
}

#[derive(Debug, Default)]
struct Guests {
    ended: bool,
    /// A handle of every open connection, to end it, by its number.
    streams: BTreeMap<u64, UnixStream>,
}

impl Sharing {
    /// Answers other processes about `store`, which has `directory` open.
    ///
    /// # Errors
    /// When the socket cannot be made, as where the directory's path is longer than the 100 bytes that sockets allow.
    pub fn start(store: Arc<dyn FeatureStore>, directory: &Path) -> Result<Self, StoreError> {
        let failed = |error: io::Error| engine("share it with other commands", error);
        let place = directory.join(DIRECTORY);
        if !place.exists() {
            std::fs::DirBuilder::new().mode(0o700).create(&place).map_err(failed)?;
        }
        let socket = place.join(SOCKET);
        // Left by a process that was killed: the store's lock says that no other has it open.
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&socket).map_err(failed)?;
        let guests = Arc::new(Mutex::new(Guests::default()));
        let let_in = Arc::clone(&guests);
        let accept = move || accept(&listener, &store, &let_in);
        thread::Builder::new().name("shared store".to_owned()).spawn(accept).map_err(failed)?;
        Ok(Self { socket, guests })
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        guests.ended = true;
        for stream in guests.streams.values() {
            // One that has gone already is what is wanted.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        drop(guests);
        // Wakes the thread that waits for the next guest.
        let _ = UnixStream::connect(&self.socket);
        let _ = fs::remove_file(&self.socket);
    }
}

fn accept(listener: &UnixListener, store: &Arc<dyn FeatureStore>, guests: &Arc<Mutex<Guests>>) {
    for (number, stream) in (0..).zip(listener.incoming()) {
        let Ok(stream) = stream else { continue };
        let Ok(handle) = stream.try_clone() else { continue };
        {
            let mut guests = guests.lock().unwrap_or_else(PoisonError::into_inner);
            if guests.ended {
                return;
            }
            guests.streams.insert(number, handle);
        }
        let (store, open) = (Arc::clone(store), Arc::clone(guests));
        let answer = move || {
            answer(stream, store.as_ref());
            open.lock().unwrap_or_else(PoisonError::into_inner).streams.remove(&number);
        };
        if let Err(error) = thread::Builder::new().name("shared store, guest".to_owned()).spawn(answer) {
            tracing::warn!(%error, "another command could not be let in");
            guests.lock().unwrap_or_else(PoisonError::into_inner).streams.remove(&number);
        }
    }
}

/// Answers one guest until it leaves.
fn answer(mut stream: UnixStream, store: &dyn FeatureStore) {
    loop {
        let message = match receive(&mut stream) {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(error) => return tracing::debug!(%error, "another command left in the middle of a request"),
        };
        if let Err(error) = send(&mut stream, &wire::answer(store, &message)) {
            return tracing::debug!(%error, "another command left before its answer");
        }
    }
}

fn send(stream: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len()).ok().filter(|length| *length <= LONGEST_MESSAGE);
    let length = length.ok_or_else(|| io::Error::other(format!("a message of {} bytes is too long", json.len())))?;
    stream.write_all(&length.to_le_bytes())?;
    stream.write_all(&json)
}

/// The next message; `None` when the other side has ended between two.
fn receive(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u32::from_le_bytes(length);
    if length > LONGEST_MESSAGE {
        return Err(io::Error::other(format!("a message of {length} bytes is too long")));
    }
    // Grows with what comes, so that a length alone takes no memory.
    let mut message = Vec::new();
    stream.take(u64::from(length)).read_to_end(&mut message)?;
    if message.len() != length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(message))
}
