//! The model registry: immutable model versions and the releases that serve, in a directory.
//!
//! A version is copied beside, synced and renamed, so it is there whole or not at all. What serves is the last line of an
//! append-only history, so every promotion and rollback stays on record. What is said of versions afterwards (stage, tags,
//! notes) is a log of the same kind.

mod durable;
pub mod hub;
mod local;

pub use local::{Checked, Collected, Listing, LocalRegistry, StepObserver, VersionSummary};
