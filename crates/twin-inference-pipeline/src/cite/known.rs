//! The sentences of passages, remembered with their vectors: what many ask about is given to the model again and again, and
//! nobody should wait for it to be embedded each time.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use twin_domain::{Digest, Embedding};
use twin_models::embedding::{EmbedError, Embedder};

use super::is_prose;
use crate::retrieve::FoundPassage;
use crate::sentences::sentences;
use crate::words::content_words;

/// The memory for sentences, in bytes, and about how many passages that is.
const REMEMBERED_BYTES: u64 = 64 << 20;
const REMEMBERED_PASSAGES: usize = 2048;

/// A sentence of a passage that an answer may rest on.
#[derive(Debug)]
pub(super) struct Sentence {
    /// Where in the passage's text it begins.
    pub(super) start: usize,
    pub(super) text: String,
    pub(super) words: BTreeSet<String>,
    pub(super) embedding: Embedding,
}

/// The sentence of a passage that is among those of an answer.
pub(super) struct EvidenceSentence {
    /// The citation number of its passage.
    pub(super) passage: usize,
    all: Arc<[Sentence]>,
    index: usize,
}

impl Deref for EvidenceSentence {
    type Target = Sentence;

    fn deref(&self) -> &Sentence {
        &self.all[self.index]
    }
}

/// Passages whose sentences are known. Those of one embedder only.
pub struct KnownPassages(Cache<Digest, Arc<[Sentence]>, Bytes>);

impl Default for KnownPassages {
    fn default() -> Self {
        Self(Cache::with_weighter(REMEMBERED_PASSAGES, REMEMBERED_BYTES, Bytes))
    }
}

impl KnownPassages {
    /// The sentences of passages, which are numbered from 1 without gaps. Those that are not known are embedded together.
    pub(super) fn sentences(
        &self,
        passages: &[FoundPassage],
        embedder: &dyn Embedder,
    ) -> Result<Vec<EvidenceSentence>, EmbedError> {
        let keys: Vec<Digest> = passages.iter().map(|passage| Digest::of(&passage.text)).collect();
        let mut found: Vec<_> = keys.iter().map(|key| self.0.get(key)).collect();
        let unknown = || passages.iter().zip(&found).filter(|(_, known)| known.is_none()).map(|(passage, _)| passage);
        let texts: Vec<Vec<(usize, &str)>> = unknown().map(evidence).collect();
        let flat: Vec<&str> = texts.iter().flatten().map(|(_, text)| *text).collect();
        let mut embeddings = embedder.embed(&flat)?.into_iter();
        let mut made = texts.iter().map(|texts| {
            let sentence = |((start, text), embedding): (&(usize, &str), Embedding)| Sentence {
                start: *start,
                text: (*text).to_owned(),
                words: content_words(text),
                embedding,
            };
            texts.iter().zip(embeddings.by_ref().take(texts.len())).map(sentence).collect::<Arc<[_]>>()
        });
        for (known, key) in found.iter_mut().zip(&keys).filter(|(known, _)| known.is_none()) {
            if let Some(made) = made.next() {
                self.0.insert(key.clone(), Arc::clone(&made));
                *known = Some(made);
            }
        }
        let numbered = found.into_iter().flatten().zip(1..);
        Ok(numbered
            .flat_map(|(all, passage)| {
                (0..all.len()).map(move |index| EvidenceSentence { passage, all: Arc::clone(&all), index })
            })
            .collect())
    }
}

/// The sentences of a passage that an answer may rest on, with where they begin.
fn evidence(passage: &FoundPassage) -> Vec<(usize, &str)> {
    let mut start = 0;
    let mut found = Vec::new();
    for sentence in sentences(&passage.text) {
        let indent = sentence.len() - sentence.trim_start().len();
        let is_order = passage.instructions.iter().any(|order| order == sentence.trim());
        if is_prose(sentence.trim()) && !is_order {
            found.push((start + indent, sentence.trim()));
        }
        start += sentence.len();
    }
    found
}

/// What sentences take in memory.
#[derive(Clone)]
struct Bytes;

impl Weighter<Digest, Arc<[Sentence]>> for Bytes {
    fn weight(&self, _: &Digest, sentences: &Arc<[Sentence]>) -> u64 {
        // Words are kept beside the text, each with what a set and a string take.
        let of = |sentence: &Sentence| {
            sentence.text.len() + 4 * sentence.embedding.dimension() + 64 * sentence.words.len() + 128
        };
        sentences.iter().map(of).sum::<usize>() as u64 + 128
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use twin_models::embedding::ScriptedEmbedder;

    use super::super::tests::passage;
    use super::*;

    /// Counts the texts that it embeds.
    struct Counting(ScriptedEmbedder, AtomicUsize);

    impl Embedder for Counting {
        fn name(&self) -> &str {
            self.0.name()
        }

        fn digest(&self) -> &Digest {
            self.0.digest()
        }

        fn dimension(&self) -> usize {
            self.0.dimension()
        }

        fn max_tokens(&self) -> usize {
            self.0.max_tokens()
        }

        fn count_tokens(&self, text: &str) -> usize {
            self.0.count_tokens(text)
        }

        fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, EmbedError> {
            self.1.fetch_add(texts.len(), Ordering::Relaxed);
            self.0.embed(texts)
        }
    }

    #[test]
    fn sentences_are_embedded_once_and_have_the_number_that_their_passage_has_now() {
        let embedder = Counting(ScriptedEmbedder::default(), AtomicUsize::new(0));
        let known = KnownPassages::default();
        let (oak, putty) =
            ("The mallet is live oak. It has two slots in it.", "The putty takes three kilos of whiting.");
        let texts = |passages: &[FoundPassage]| -> Vec<(usize, String)> {
            let sentences = known.sentences(passages, &embedder).unwrap();
            sentences.iter().map(|sentence| (sentence.passage, sentence.text.clone())).collect()
        };
        let first = texts(&[passage(1, oak)]);
        assert_eq!(first, [(1, "The mallet is live oak.".to_owned()), (1, "It has two slots in it.".to_owned())]);
        let second = texts(&[passage(1, putty), passage(2, oak)]);
        assert_eq!(second[0], (1, putty.to_owned()));
        assert_eq!(second[2], (2, "It has two slots in it.".to_owned()));
        assert_eq!(embedder.1.load(Ordering::Relaxed), 3, "two and one");
    }
}
