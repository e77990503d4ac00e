//! The feature store: embedded chunks in Qdrant collections, and training sets as Parquet.
//!
//! The three pipelines meet here and in the model registry. [`EmbeddedFeatureStore`] runs the Qdrant engine in this
//! process on a directory; [`InMemoryFeatureStore`] keeps everything in memory, for tests. Both pass one suite of
//! contract tests. No other crate names a type of Qdrant.

mod assemble;
mod durable;
mod embedded;
mod failure;
mod memory;
mod sparse;
mod training_sets;
mod validate;

pub use embedded::{EmbeddedFeatureStore, StoreOptions};
pub use memory::InMemoryFeatureStore;
pub use sparse::SparseModel;
