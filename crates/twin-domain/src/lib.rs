//! The nouns of LLM Twin: authors, documents, chunks, feature views, training sets, model versions and
//! releases, and the traits of the two stores in which the three pipelines meet.
//!
//! Everything here is a plain value or a trait. There is no I/O, no async and no knowledge of an engine, so
//! every other crate may depend on this one and this one depends on none of them.

pub mod author;
pub mod chat;
pub mod chunk;
pub mod digest;
pub mod document;
pub mod feature_store;
pub mod feature_view;
pub mod model_registry;
pub mod model_version;
pub mod progress;
pub mod release;
pub mod training_set;

pub use author::{Author, AuthorId};
pub use chat::{ChatMessage, Role};
pub use chunk::{Chunk, ChunkId, ChunkKind, EmbeddedChunk, Embedding};
pub use digest::Digest;
pub use document::{Document, DocumentId, DocumentInfo};
pub use feature_store::{
    FeatureStore, Filter, Fusion, HybridQuery, ScoredChunk, Searches, StoreError, Switch, TrainingSetStore,
};
pub use feature_view::{FeatureView, FeatureViewId};
pub use model_registry::{ModelRegistry, RegistryError};
pub use model_version::{Annotation, Annotations, BaseModel, ModelVersion, ModelVersionId, Note, Stage};
pub use progress::{CancelFlag, Progress, ProgressUpdate};
pub use release::{Arm, Change, Gate, Occasion, Promotion, PromptVersion, Release, Traffic};
pub use training_set::{Example, Split, Task, TrainingSet, TrainingSetId};
