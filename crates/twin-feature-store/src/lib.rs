//! The feature store: embedded chunks in Qdrant collections, and training sets as Parquet.
//!
//! The three pipelines meet here and in the model registry. [`EmbeddedFeatureStore`] runs the Qdrant engine in this
//! process on a directory; [`QdrantServer`] speaks to a Qdrant server or cluster; [`SharedFeatureStore`] to another process of
//! this program that has the directory open; [`InMemoryFeatureStore`] keeps everything in memory, for tests. All of them pass
//! one suite of contract tests. No other crate names a type of Qdrant.

use serde::{Deserialize, Serialize};

mod assemble;
mod durable;
mod embedded;
mod failure;
mod fuse;
mod memory;
mod payload;
mod selection;
mod server;
#[cfg(unix)]
mod shared;
mod sparse;
mod training_sets;
mod transfer;
mod validate;

pub use embedded::{EmbeddedFeatureStore, StoreOptions};
pub use memory::InMemoryFeatureStore;
pub use server::{QdrantServer, ServerOptions, WriteOrder};
#[cfg(unix)]
pub use shared::{SharedFeatureStore, Sharing};
pub use sparse::{Forms, SparseModel};
pub use training_sets::export::{ExportFormat, export};
pub use transfer::{Transferred, transfer};

/// The name of the vector that the embedder makes.
const DENSE: &str = "dense";
/// The name of the vector of term weights.
const SPARSE: &str = "bm25";

/// How vectors are held small for searching. The candidates that are found are compared again by their full vectors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantization {
    /// As they are: four bytes a dimension.
    #[default]
    None,
    /// One byte a dimension.
    Scalar,
    /// One bit a dimension; for embedders of 1,000 and more dimensions.
    Binary,
}
