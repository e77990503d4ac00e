//! Embedding on ONNX Runtime, by fastembed.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use fastembed::{InitOptionsUserDefined, OutputKey, Pooling, TextEmbedding, TokenizerFiles, UserDefinedEmbeddingModel};
use ort::environment::Environment;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokenizers::Tokenizer;
use twin_domain::{Digest, Embedding};

use super::tokens::{TokenVectors, weight_by_rank};
use super::{EmbedError, Embedder};
use crate::catalogue::{Entry, Role};

/// What the model was trained to see (its `sentence_bert_config.json`). The graph takes 512, but gets worse beyond this.
const MAX_TOKENS: usize = 256;
const DIMENSION: usize = 384;
/// A batch is padded to its longest text; so many tokens with the padding keep its activations in a few tens of megabytes.
const BATCH_TOKENS: usize = 2048;
const BATCH_TEXTS: usize = 64;
/// The memory for token vectors of passages, in bytes, and about how many passages that is.
const REMEMBERED_BYTES: u64 = 64 << 20;
const REMEMBERED_PASSAGES: usize = 1024;

// The three small files that fastembed wants beside the tokenizer, reduced to what it reads of them.
const CONFIG: &str = r#"{"pad_token_id": 0}"#;
const TOKENIZER_CONFIG: &str = r#"{"model_max_length": 512, "pad_token": "[PAD]"}"#;
const SPECIAL_TOKENS: &str = r#"{"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"}"#;

/// Where the vectors of the tokens are among the outputs of the graph.
const HIDDEN_STATE: &[OutputKey] = &[OutputKey::ByName("last_hidden_state"), OutputKey::OnlyOne];

/// all-MiniLM-L6-v2: mean pooling over the tokens, vectors of length one.
pub struct FastEmbedder {
    name: &'static str,
    digest: Digest,
    /// Counts: neither cuts nor pads.
    tokenizer: Tokenizer,
    /// Held for one batch at a time, so that a query waits for a batch and not for a corpus.
    model: Mutex<TextEmbedding>,
    /// Token vectors of texts that were asked for lately: the next question finds many of the same passages, and to run
    /// the model over them again takes longer than all the rest of a search.
    remembered: Cache<String, TokenVectors, Bytes>,
}

/// What a text and its token vectors take.
#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<String, TokenVectors> for Bytes {
    fn weight(&self, text: &String, vectors: &TokenVectors) -> u64 {
        (text.len() + vectors.bytes()) as u64
    }
}

impl std::fmt::Debug for FastEmbedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FastEmbedder").field("name", &self.name).field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl FastEmbedder {
    /// Loads the files of `entry` from `directory`, to run on `threads` threads.
    ///
    /// # Errors
    /// [`EmbedError::Load`] when a file cannot be read or is not what it should be.
    pub(crate) fn load(
        entry: &'static Entry,
        directory: &Path,
        environment: Environment,
        threads: usize,
    ) -> Result<Self, EmbedError> {
        let failed = |source| EmbedError::Load { model: entry.name.to_owned(), source };
        let digest = entry.weights_digest().ok_or_else(|| failed("the catalogue entry has no weights".into()))?;
        let (model, tokenizer) = read(entry, directory, environment, threads).map_err(failed)?;
        let remembered = Cache::with_weighter(REMEMBERED_PASSAGES, REMEMBERED_BYTES, Bytes);
        Ok(Self { name: entry.name, digest, tokenizer, model: Mutex::new(model), remembered })
    }

    /// How many tokens the model sees of each text.
    fn lengths(&self, texts: &[&str]) -> Vec<usize> {
        texts.iter().map(|text| self.count_tokens(text).min(MAX_TOKENS)).collect()
    }

    /// The vectors of texts that make one batch.
    fn embed_batch(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let failed = |source| EmbedError::Run { model: self.name.to_owned(), batch: texts.len(), source };
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let vectors = model.embed(texts, Some(texts.len())).map_err(|error| failed(Box::new(error)))?;
        if vectors.len() == texts.len() {
            Ok(vectors)
        } else {
            Err(failed(format!("it gave {} vectors", vectors.len()).into()))
        }
    }

    /// The vectors of the tokens of texts that make one batch.
    fn embed_batch_tokens(&self, texts: &[&str]) -> Result<Vec<TokenVectors>, EmbedError> {
        let failed = |source| EmbedError::Run { model: self.name.to_owned(), batch: texts.len(), source };
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let output = model.transform(texts, Some(texts.len())).map_err(|error| failed(Box::new(error)))?;
        drop(model);
        let batches = output.into_raw();
        let [batch] = batches.as_slice() else { return Err(failed("it did not give one batch".into())) };
        let hidden = batch.select_output(&HIDDEN_STATE).map_err(|error| failed(Box::new(error)))?;
        let [rows, length, dimension] = *hidden.shape() else {
            return Err(failed("its output is not one vector for each token".into()));
        };
        let values = hidden.as_slice().filter(|_| rows == texts.len() && dimension == DIMENSION);
        let values = values.ok_or_else(|| failed("its output has another shape than it should".into()))?;
        let vectors = |(row, text): (usize, &&str)| {
            let seen = batch.attention_mask_array.row(row).iter().filter(|value| **value != 0).count();
            let tokens = seen.saturating_sub(2); // Without the model's own start and end.
            let begin = (row * length + 1) * dimension;
            let ids = self.tokenizer.encode_fast(*text, false).map(|encoding| encoding.get_ids().to_vec());
            let ids = ids.unwrap_or_default().into_iter().take(tokens);
            let values = values.get(begin..begin + tokens * dimension).unwrap_or_default();
            TokenVectors::new(dimension, values, &ids.map(weight_by_rank).collect::<Vec<_>>())
        };
        Ok(texts.iter().enumerate().map(vectors).collect())
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn read(
    entry: &Entry,
    directory: &Path,
    environment: Environment,
    threads: usize,
) -> Result<(TextEmbedding, Tokenizer), Failure> {
    let bytes = |name: &str| fs_err::read(directory.join(name));
    let tokenizer = entry.file(Role::Tokenizer).ok_or("the catalogue entry has no tokenizer")?;
    let tokenizer_files = TokenizerFiles {
        tokenizer_file: bytes(tokenizer.name)?,
        config_file: CONFIG.into(),
        special_tokens_map_file: SPECIAL_TOKENS.into(),
        tokenizer_config_file: TOKENIZER_CONFIG.into(),
    };
    let mut weights = entry.files.iter().filter(|file| file.role == Role::Weights);
    let graph = weights.next().ok_or("the catalogue entry has no weights")?;
    let mut model = UserDefinedEmbeddingModel::new(bytes(graph.name)?, tokenizer_files).with_pooling(Pooling::Mean);
    // The graph names these files; it is handed over from memory and has no directory to find them in.
    for data in weights {
        model = model.with_external_initializer(data.name.to_owned(), bytes(data.name)?);
    }
    let options = InitOptionsUserDefined::new()
        .with_environment(environment)
        .with_max_length(MAX_TOKENS)
        .with_intra_threads(threads)
        // Waiting threads that spin take the cores from whoever else is at work.
        .with_session_config("session.intra_op.allow_spinning", "0");
    let mut model = TextEmbedding::try_new_from_user_defined(model, options)?;
    // `[SEP]` in a text is five characters of that text.
    model.tokenizer.set_encode_special_tokens(true);
    let mut counting = model.tokenizer.clone();
    counting.with_padding(None);
    counting.with_truncation(None)?;
    Ok((model, counting))
}

impl Embedder for FastEmbedder {
    fn name(&self) -> &str {
        self.name
    }

    fn digest(&self) -> &Digest {
        &self.digest
    }

    fn dimension(&self) -> usize {
        DIMENSION
    }

    fn max_tokens(&self) -> usize {
        MAX_TOKENS
    }

    fn count_tokens(&self, text: &str) -> usize {
        // WordPiece has a token for anything, so encoding does not fail; a count that is too high would be the safe side.
        self.tokenizer.encode_fast(text, false).map_or(text.len(), |encoding| encoding.len())
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, EmbedError> {
        let mut embeddings = vec![None; texts.len()];
        for batch in batches(&self.lengths(texts)) {
            let batch_texts: Vec<_> = batch.iter().map(|&index| texts[index]).collect();
            for (index, vector) in batch.into_iter().zip(self.embed_batch(&batch_texts)?) {
                let unusable = |source| EmbedError::Unusable { model: self.name.to_owned(), index, source };
                embeddings[index] = Some(Embedding::new(vector).map_err(unusable)?);
            }
        }
        Ok(embeddings.into_iter().flatten().collect())
    }

    fn embed_tokens(&self, texts: &[&str]) -> Result<Option<Vec<TokenVectors>>, EmbedError> {
        let mut vectors: Vec<Option<TokenVectors>> = texts.iter().map(|text| self.remembered.get(*text)).collect();
        let missing: Vec<usize> = (0..texts.len()).filter(|&index| vectors[index].is_none()).collect();
        let missing_texts: Vec<&str> = missing.iter().map(|&index| texts[index]).collect();
        for batch in batches(&self.lengths(&missing_texts)) {
            let batch_texts: Vec<_> = batch.iter().map(|&place| missing_texts[place]).collect();
            for (place, tokens) in batch.into_iter().zip(self.embed_batch_tokens(&batch_texts)?) {
                self.remembered.insert(missing_texts[place].to_owned(), tokens.clone());
                vectors[missing[place]] = Some(tokens);
            }
        }
        Ok(Some(vectors.into_iter().flatten().collect()))
    }
}

/// Groups texts of about the same length: indices into `lengths` (in tokens), each in exactly one batch, and no batch
/// larger, with its padding, than the limits.
fn batches(lengths: &[usize]) -> Vec<Vec<usize>> {
    let mut order: Vec<_> = (0..lengths.len()).collect();
    // Longest first: if memory runs out, it does so at once and not at the end.
    order.sort_by_key(|&index| std::cmp::Reverse(lengths[index]));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for index in order {
        match batches.last_mut() {
            Some(batch)
                if batch.len() < BATCH_TEXTS && lengths[batch[0]].max(1) * (batch.len() + 1) <= BATCH_TOKENS =>
            {
                batch.push(index);
            }
            _ => batches.push(vec![index]),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_in_one_batch_and_batches_are_bounded() {
        let lengths: Vec<usize> = (0..500).map(|index| (index * 37) % 257).collect();
        let batches = batches(&lengths);
        let mut seen: Vec<_> = batches.concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..500).collect::<Vec<_>>());
        for batch in &batches {
            let longest = batch.iter().map(|&index| lengths[index]).max().unwrap();
            assert!(batch.len() <= BATCH_TEXTS && longest * batch.len() <= BATCH_TOKENS, "{batch:?}");
        }
    }

    #[test]
    fn texts_of_one_length_are_together() {
        assert_eq!(batches(&[5, 256, 5, 256]), [vec![1, 3, 0, 2]]);
        assert!(batches(&[]).is_empty());
    }
}
