//! The inference pipeline: retrieve -> prompt -> generate -> cite, and the server with its API and pages.
//!
//! It reads the feature store and the model registry and writes to neither; conversations are its own. It knows no other
//! pipeline.

pub mod cite;
pub mod conversations;
pub mod experiment;
pub mod generator;
pub mod instructions;
pub mod retrieve;
pub mod sentences;
pub mod server;
pub mod twins;
mod words;
