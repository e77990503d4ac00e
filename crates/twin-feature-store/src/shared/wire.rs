//! What goes over the socket of a shared store.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use twin_domain::{
    Author, AuthorId, Chunk, ChunkId, Digest, DocumentId, DocumentInfo, EmbeddedChunk, Embedding, FeatureStore,
    FeatureView, FeatureViewId, HybridQuery, StoreError,
};

use crate::failure::engine;

/// Counted up when requests or answers change, so that two versions of the program do not misunderstand each other.
pub(super) const PROTOCOL: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Envelope<R> {
    pub protocol: u32,
    pub request: R,
}

/// A call of [`FeatureStore`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    PutAuthor(Author),
    Authors,
    CreateView(FeatureView),
    Views,
    ServingView,
    Switch(FeatureViewId),
    Switches,
    RemoveView(FeatureViewId),
    Optimize(FeatureViewId),
    Upsert(FeatureViewId, Vec<WireChunk>),
    RemoveStale { view: FeatureViewId, document: DocumentId, keep: Option<Digest> },
    Query(FeatureViewId, HybridQuery),
    Page { view: FeatureViewId, author: Option<AuthorId>, after: Option<ChunkId>, limit: usize },
    Chunks(FeatureViewId, DocumentId),
    Documents(FeatureViewId, AuthorId),
    Count(FeatureViewId, Option<AuthorId>),
}

/// An [`EmbeddedChunk`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireChunk {
    chunk: Chunk,
    document: DocumentInfo,
    embedding: Embedding,
}

impl From<&EmbeddedChunk> for WireChunk {
    fn from(EmbeddedChunk { chunk, document, embedding }: &EmbeddedChunk) -> Self {
        Self { chunk: chunk.clone(), document: DocumentInfo::clone(document), embedding: embedding.clone() }
    }
}

impl From<WireChunk> for EmbeddedChunk {
    fn from(WireChunk { chunk, document, embedding }: WireChunk) -> Self {
        Self { chunk, document: Arc::new(document), embedding }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// What the call returned.
    Done(Value),
    Failed(Failure),
}

/// A [`StoreError`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Failure {
    NotFound {
        what: String,
    },
    Locked {
        path: String,
        owner: String,
    },
    Damaged {
        what: String,
        problem: String,
    },
    Invalid {
        what: String,
        problem: String,
    },
    /// The source of an error and what was below it, in one line.
    Engine {
        operation: String,
        source: String,
    },
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { what } => Self::NotFound { what },
            StoreError::Locked { path, owner } => Self::Locked { path, owner },
            StoreError::Damaged { what, problem } => Self::Damaged { what, problem },
            StoreError::Invalid { what, problem } => Self::Invalid { what, problem },
            StoreError::Engine { operation, source } => {
                let causes = std::iter::successors(source.source(), |error| error.source());
                let source = causes.fold(source.to_string(), |said, cause| format!("{said}: {cause}"));
                Self::Engine { operation, source }
            }
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotFound { what } => Self::NotFound { what },
            Failure::Locked { path, owner } => Self::Locked { path, owner },
            Failure::Damaged { what, problem } => Self::Damaged { what, problem },
            Failure::Invalid { what, problem } => Self::Invalid { what, problem },
            Failure::Engine { operation, source } => Self::Engine { operation, source: source.into() },
        }
    }
}

/// Does what a message asks for. Whatever is wrong with it, the process goes on.
pub(super) fn answer(store: &dyn FeatureStore, message: &[u8]) -> Answer {
    let refused = |problem: String| {
        let operation = format!(
            "understand another command: {problem}; if they are of different versions of twin, stop the one that serves"
        );
        Answer::Failed(engine(operation, "nothing was done").into())
    };
    let envelope: Envelope<Value> = match serde_json::from_slice(message) {
        Ok(envelope) => envelope,
        Err(error) => return refused(error.to_string()),
    };
    if envelope.protocol != PROTOCOL {
        return refused(format!("it speaks version {} and this process version {PROTOCOL}", envelope.protocol));
    }
    let request = match serde_json::from_value(envelope.request) {
        Ok(request) => request,
        Err(error) => return refused(error.to_string()),
    };
    match catch_unwind(AssertUnwindSafe(|| perform(store, request))) {
        Ok(Ok(value)) => Answer::Done(value),
        Ok(Err(error)) => Answer::Failed(error.into()),
        Err(_) => Answer::Failed(engine("do what another command asked", "it panicked").into()),
    }
}

fn perform(store: &dyn FeatureStore, request: Request) -> Result<Value, StoreError> {
    match request {
        Request::PutAuthor(author) => store.put_author(&author).and_then(value),
        Request::Authors => store.authors().and_then(value),
        Request::CreateView(view) => store.create_view(&view).and_then(value),
        Request::Views => store.views().and_then(value),
        Request::ServingView => store.serving_view().and_then(value),
        Request::Switch(view) => store.switch(&view).and_then(value),
        Request::Switches => store.switches().and_then(value),
        Request::RemoveView(view) => store.remove_view(&view).and_then(value),
        Request::Optimize(view) => store.optimize(&view).and_then(value),
        Request::Upsert(view, chunks) => {
            let chunks: Vec<EmbeddedChunk> = chunks.into_iter().map(EmbeddedChunk::from).collect();
            store.upsert(&view, &chunks).and_then(value)
        }
        Request::RemoveStale { view, document, keep } => {
            store.remove_stale(&view, document, keep.as_ref()).and_then(value)
        }
        Request::Query(view, query) => store.query(&view, &query).and_then(value),
        Request::Page { view, author, after, limit } => {
            let chunks = store.page(&view, author.as_ref(), after, limit)?;
            value(chunks.iter().map(WireChunk::from).collect::<Vec<_>>())
        }
        Request::Chunks(view, document) => store.chunks(&view, document).and_then(value),
        Request::Documents(view, author) => store.documents(&view, &author).and_then(value),
        Request::Count(view, author) => store.count(&view, author.as_ref()).and_then(value),
    }
}

fn value(result: impl Serialize) -> Result<Value, StoreError> {
    serde_json::to_value(result).map_err(|error| engine("write down an answer", error))
}
