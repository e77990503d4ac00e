//! An embedder that needs no model, for tests.

use std::hash::{DefaultHasher, Hash, Hasher};

use twin_domain::{Digest, Embedding};

use super::{EmbedError, Embedder, TokenVectors};

/// Hashes the words of a text into a few dozen dimensions: texts that share words are similar, and nothing has to be
/// downloaded. For tests only; it knows no meaning.
#[derive(Debug)]
pub struct ScriptedEmbedder {
    digest: Digest,
}

const DIMENSION: usize = 64;

impl Default for ScriptedEmbedder {
    fn default() -> Self {
        Self { digest: Digest::of("scripted") }
    }
}

impl Embedder for ScriptedEmbedder {
    fn name(&self) -> &str {
        "scripted"
    }

    fn digest(&self) -> &Digest {
        &self.digest
    }

    fn dimension(&self) -> usize {
        DIMENSION
    }

    fn max_tokens(&self) -> usize {
        256
    }

    fn count_tokens(&self, text: &str) -> usize {
        text.split_whitespace().count()
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, EmbedError> {
        let embed = |(index, text): (usize, &&str)| {
            // The constant component keeps a text without words from having no direction.
            let mut values = vec![0.0; DIMENSION];
            values[0] = 0.1;
            for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
                values[place(word)] += 1.0;
            }
            Embedding::new(values).map_err(|source| EmbedError::Unusable {
                model: self.name().to_owned(),
                index,
                source,
            })
        };
        texts.iter().enumerate().map(embed).collect()
    }

    fn embed_tokens(&self, texts: &[&str]) -> Result<Option<Vec<TokenVectors>>, EmbedError> {
        let tokens = |text: &&str| {
            let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
            let mut values = vec![0.0; words.len() * DIMENSION];
            for (word, vector) in words.iter().zip(values.chunks_exact_mut(DIMENSION)) {
                vector[place(word)] = 1.0;
            }
            TokenVectors::new(DIMENSION, &values, &vec![1.0; words.len()])
        };
        Ok(Some(texts.iter().map(tokens).collect()))
    }
}

/// The dimension of a word.
fn place(word: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    word.to_lowercase().hash(&mut hasher);
    (hasher.finish() % DIMENSION as u64) as usize
}
