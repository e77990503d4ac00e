//! Embedding models: documents and queries go through the same one.

use twin_domain::{Digest, Embedding};

pub use self::fast::FastEmbedder;
pub use self::scripted::ScriptedEmbedder;
pub use self::tokens::TokenVectors;

mod fast;
mod scripted;
mod tokens;

/// Why a text could not be embedded.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The model's files are missing or not what they should be.
    #[error("the embedding model `{model}` could not be loaded")]
    Load {
        model: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The model ran and failed.
    #[error("the embedding model `{model}` failed on a batch of {batch} texts")]
    Run {
        model: String,
        batch: usize,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The model gave a vector that no store may hold.
    #[error("the embedding model `{model}` gave an unusable vector for text {index} of the batch")]
    Unusable {
        model: String,
        index: usize,
        #[source]
        source: twin_domain::chunk::EmbeddingError,
    },
}

/// A model that turns texts into vectors of one dimension. Synchronous and CPU-bound: async code calls it from a
/// blocking thread.
pub trait Embedder: Send + Sync {
    /// The catalogue name.
    fn name(&self) -> &str;

    /// The digest of the weights.
    fn digest(&self) -> &Digest;

    /// The number of values of each vector.
    fn dimension(&self) -> usize;

    /// The most tokens the model sees of a text; the rest is cut off.
    fn max_tokens(&self) -> usize;

    /// How many tokens a text has, without the model's own start and end tokens.
    fn count_tokens(&self, text: &str) -> usize;

    /// How many texts of like length are best given in one call.
    fn batch(&self) -> usize {
        64
    }

    /// One vector for each text, in their order. Batches are sorted by length inside, so that little is padded.
    ///
    /// # Errors
    /// [`EmbedError::Run`] when the model fails, [`EmbedError::Unusable`] for a vector that is not finite or is zero.
    fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, EmbedError>;

    /// The vectors of each text's tokens, for late interaction; `None` of a model that does not give them. A text that is
    /// too long is cut off as in [`Embedder::embed`].
    ///
    /// # Errors
    /// [`EmbedError::Run`] when the model fails.
    fn embed_tokens(&self, _texts: &[&str]) -> Result<Option<Vec<TokenVectors>>, EmbedError> {
        Ok(None)
    }

    /// The vector of a single text.
    ///
    /// # Errors
    /// As [`Embedder::embed`].
    fn embed_one(&self, text: &str) -> Result<Embedding, EmbedError> {
        let mut embeddings = self.embed(&[text])?;
        embeddings.pop().ok_or_else(|| EmbedError::Unusable {
            model: self.name().to_owned(),
            index: 0,
            source: twin_domain::chunk::EmbeddingError::Empty,
        })
    }
}
