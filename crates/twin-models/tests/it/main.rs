//! The catalogue, the cache, downloads and embedding, as other crates use them.

/// The cache: what counts as present, damage, imports.
mod cache;
/// An OpenAI-compatible model on loopback.
mod chat_client;
/// Fetching: from a hub and from packages that fail in every way.
mod download;
/// The real embedding model; skipped where its files are not in the cache.
mod embedding;
/// Models by name.
mod models;
/// A language model that another server runs, on loopback.
mod remote;
/// Entries, hubs and pips that are not real.
mod support;
