//! The feature pipeline: sources -> pages -> cleaned documents -> chunks -> embeddings -> feature store.
//!
//! [`ingest`] is the way in; it reads like the pipeline. The [`Warehouse`] (SQLite) holds pages and documents and is the
//! truth; the feature store is derived from it and can be made again at any time. This crate knows no other pipeline and
//! no vector database: it writes through the [`twin_domain::FeatureStore`] trait.

pub mod chunk;
pub mod clean;
mod date;
pub mod exercise;
pub mod fetch;
mod ingest;
mod page;
mod report;
pub mod server;
pub mod source;
pub mod views;
pub mod warehouse;
pub mod workers;

pub use self::ingest::{
    IngestError, IngestOptions, Synced, build_view, feature_view, forget, ingest, remove_source, sync,
};
pub use self::page::{Hints, Media, Page};
pub use self::report::{
    ChunkStatistics, Duplicate, Holdings, IngestReport, Inventory, LanguageShare, Seconds, Skip, SourceHoldings,
    Weakness, WeaknessKind,
};
pub use self::source::{Account, ExportKind, Repository, Service, ServiceAddresses, Source, SourceError};
pub use self::warehouse::{KnownDocument, StoredSource, Warehouse, WarehouseError};
