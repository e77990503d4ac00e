//! The model registry: immutable model versions and the releases that serve, in a directory.
//!
//! A version is copied beside, synced and renamed, so it is there whole or not at all. What serves is the last line of an
//! append-only history, so every promotion and rollback stays on record.

mod durable;
mod local;

pub use local::LocalRegistry;
