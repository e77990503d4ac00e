//! Models: the catalogue and its downloads, embedding models, language models with LoRA, and the prompt that training,
//! evaluation and serving share.
//!
//! Training and inference use one decoder, documents and queries one embedder. This crate knows no pipeline and no store.

pub mod cache;
pub mod catalogue;
pub mod chat_client;
pub mod download;
pub mod embedding;
pub mod language;
pub mod models;
pub mod onnx;
pub mod prompt;

pub use cache::{ModelCache, ModelError};
pub use download::HubToken;
pub use models::{Models, ModelsConfig, ModelsError};
