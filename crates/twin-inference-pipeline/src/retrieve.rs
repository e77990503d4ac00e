//! From a question to the passages that the model is given: one hybrid query, reranked by meaning and rare words, neighbours
//! merged, the best within a token budget.

use std::collections::BTreeSet;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use twin_domain::{
    AuthorId, ChunkId, DocumentId, DocumentInfo, FeatureStore, FeatureViewId, Filter, Fusion, HybridQuery, ScoredChunk,
    Searches, StoreError,
};
use twin_models::embedding::{EmbedError, Embedder};
use twin_models::prompt::Passage;

use crate::words::{Weights, all_words, content_words};

mod context;

/// How passages are chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrievalConfig {
    /// How many candidates the dense and the lexical search contribute each.
    pub candidates: usize,
    /// How many chunks come out of their fusion and are reranked; with few, the nearest by meaning alone can be lost.
    pub limit: usize,
    /// The most passages the model is given.
    pub max_passages: usize,
    /// The most tokens of the language model that all passages together may have.
    pub max_tokens: usize,
    /// The most chunks of one document, so that one long post does not crowd out the others.
    pub max_per_document: usize,
    /// A question whose nearest chunk has at least this cosine similarity counts as answered there.
    pub similar: f32,
    /// With a similarity from here up to `similar`, the question's words help; below it, nothing is relevant.
    pub dissimilar: f32,
    /// What a chunk's similarity must come to together with the weighed share of the question's words that it has.
    pub near: f32,
    /// What the share of the question's content words that a chunk has, rare ones counting more, weighs beside its similarity.
    pub word_weight: f32,
    /// What the best other chunk of the same document weighs: a post of which several parts are near is rather meant than
    /// one with a single sentence that is.
    pub document_weight: f32,
}

impl Default for RetrievalConfig {
    fn default() -> Self {
        Self {
            candidates: 40,
            limit: 40,
            max_passages: 4,
            max_tokens: 700,
            max_per_document: 2,
            // Calibrated with `examples/retrieval_quality.rs` on the questions of `eval/questions` and all-MiniLM-L6-v2.
            similar: 0.48,
            dissimilar: 0.20,
            near: 0.54,
            // Reranking takes the right post to the first place for 37 of the 40 questions that have one, from 32.
            word_weight: 0.5,
            document_weight: 0.2,
        }
    }
}

/// Why retrieval failed.
#[derive(Debug, thiserror::Error)]
pub enum RetrieveError {
    #[error("the question could not be embedded")]
    Embed(#[from] EmbedError),
    #[error("the feature store could not be searched")]
    Store(#[from] StoreError),
}

/// Where to search.
#[derive(Clone, Copy)]
pub struct Corpus<'a> {
    pub store: &'a dyn FeatureStore,
    /// The embedder that the view was made with.
    pub embedder: &'a dyn Embedder,
    pub view: &'a FeatureViewId,
    pub author: &'a AuthorId,
    /// The author's name, which says nothing of a question's subject.
    pub author_name: &'a str,
}

/// A passage that was found, with its citation number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FoundPassage {
    /// From 1; stable within an answer.
    pub number: usize,
    pub document: DocumentInfo,
    pub heading_path: Vec<String>,
    /// The author's own text.
    pub text: String,
    /// The chunks it consists of, in order.
    pub chunks: Vec<ChunkId>,
    /// What passages are ranked by: similarity, word share and the rest of the document, weighed.
    pub score: f32,
    /// The best cosine similarity of its chunks to the question.
    pub similarity: f32,
}

impl FoundPassage {
    /// The passage as the prompt has it.
    pub fn for_prompt(&self) -> Passage {
        let mut title = self.document.title.clone();
        for heading in &self.heading_path {
            title = format!("{title} › {heading}");
        }
        Passage::new(self.number, title, &self.text)
    }
}

/// A chunk that the query returned, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    pub chunk: ChunkId,
    pub document: DocumentId,
    /// Reciprocal rank fusion; comparable within one query only.
    pub score: f32,
    /// The cosine similarity to the question.
    pub similarity: f32,
    /// The share of the question's content words that it has, rare words counting more.
    pub word_share: f32,
    /// The citation number of the passage that it is part of; `None` when there was no room for it.
    pub passage: Option<usize>,
}

/// How a retrieval came to its passages.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RetrievalTrace {
    /// What was searched for; empty when nothing was.
    pub query: String,
    /// Everything that the query returned, as reranked, best first.
    pub candidates: Vec<Candidate>,
    /// The best similarity of any candidate; 0 without candidates.
    pub similarity: f32,
    /// The best word share of any candidate.
    pub word_share: f32,
    /// Whether anything found is near enough to answer from.
    pub relevant: bool,
    pub embed_seconds: f64,
    pub query_seconds: f64,
}

/// What retrieval found.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Retrieval {
    /// The passages for the model, best first.
    pub passages: Vec<FoundPassage>,
    pub trace: RetrievalTrace,
}

/// Finds the passages that answer `question` best.
///
/// `count_tokens` counts with the language model's tokenizer.
///
/// # Errors
/// When the question cannot be embedded or the store cannot be searched.
pub fn retrieve(
    corpus: &Corpus<'_>,
    question: &str,
    filter: &Filter,
    config: &RetrievalConfig,
    count_tokens: &dyn Fn(&str) -> usize,
) -> Result<Retrieval, RetrieveError> {
    let begun = Instant::now();
    let embedding = corpus.embedder.embed_one(question)?;
    let embed_seconds = begun.elapsed().as_secs_f64();
    let query = HybridQuery {
        author: corpus.author.clone(),
        text: question.to_owned(),
        embedding,
        filter: filter.clone(),
        searches: Searches::Both,
        fusion: Fusion::default(),
        candidates: config.candidates,
        limit: config.limit,
    };
    let begun = Instant::now();
    let found = corpus.store.query(corpus.view, &query)?;
    let query_seconds = begun.elapsed().as_secs_f64();
    let found = rerank(found, question, corpus.author_name, config);
    let passages = context::build(&found, config, count_tokens);
    let similarity = found.iter().map(|found| found.scored.similarity).fold(0.0, f32::max);
    let word_share = found.iter().map(|found| found.word_share).fold(0.0, f32::max);
    let trace = RetrievalTrace {
        query: question.to_owned(),
        candidates: candidates(&found, &passages),
        similarity,
        word_share,
        relevant: found.iter().any(|found| is_relevant(found, config)),
        embed_seconds,
        query_seconds,
    };
    Ok(Retrieval { passages, trace })
}

/// A chunk that was found, with what it has of the question's words.
#[derive(Debug, Clone, PartialEq)]
struct Found {
    scored: ScoredChunk,
    word_share: f32,
    /// Similarity, word share and what the rest of the document has, weighed: what chunks are ranked by.
    value: f32,
}

/// Sorts by similarity, by what else of the document is near, and by the share of the question's words, among which the author's name says nothing of the subject.
/// Reciprocal ranks, by which the store fuses, do not know how near a chunk is; here the measures count by their size.
fn rerank(found: Vec<ScoredChunk>, question: &str, author_name: &str, config: &RetrievalConfig) -> Vec<Found> {
    let asked = content_words(question).difference(&content_words(author_name)).cloned().collect();
    let words = |scored: &ScoredChunk| {
        let headings = scored.chunk.heading_path.join(" ");
        content_words(&format!("{} {headings} {}", scored.document.title, scored.chunk.text))
    };
    let given: Vec<BTreeSet<String>> = found.iter().map(words).collect();
    let weights = Weights::new(asked, given.iter());
    let rate = |(scored, words): (ScoredChunk, &BTreeSet<String>)| {
        let word_share = weights.share(words);
        Found { word_share, value: scored.similarity + config.word_weight * word_share, scored }
    };
    let mut reranked: Vec<Found> = found.into_iter().zip(&given).map(rate).collect();
    let best_others: Vec<f32> = (0..reranked.len()).map(|index| best_other(&reranked, index)).collect();
    for (found, other) in reranked.iter_mut().zip(best_others) {
        found.value += config.document_weight * other;
    }
    reranked.sort_by(|a, b| b.value.total_cmp(&a.value));
    reranked
}

/// The value of the best chunk of the same document beside this one, 0 when there is none.
fn best_other(found: &[Found], index: usize) -> f32 {
    let document = found[index].scored.document.id;
    let others =
        found.iter().enumerate().filter(|(other, found)| *other != index && found.scored.document.id == document);
    others.map(|(_, found)| found.value).fold(0.0, f32::max)
}

/// Whether a chunk is near by meaning, or at least not far and with the question's words.
fn is_relevant(found: &Found, config: &RetrievalConfig) -> bool {
    let similarity = found.scored.similarity;
    similarity >= config.similar
        || (similarity >= config.dissimilar && similarity + config.word_weight * found.word_share >= config.near)
}

fn candidates(found: &[Found], passages: &[FoundPassage]) -> Vec<Candidate> {
    let candidate = |Found { scored, word_share, .. }: &Found| Candidate {
        chunk: scored.chunk.id,
        document: scored.document.id,
        score: scored.score,
        similarity: scored.similarity,
        word_share: *word_share,
        passage: passages.iter().find(|p| p.chunks.contains(&scored.chunk.id)).map(|p| p.number),
    };
    found.iter().map(candidate).collect()
}

/// Whether a question leans on what was said before it, so that it cannot be searched for alone: it has hardly a word of
/// its own, or it is short and points back with a pronoun.
pub fn is_follow_up(question: &str) -> bool {
    const SHORT: usize = 8; // Words. Longer questions name their subject even when they have a pronoun.
    const POINTING: [&str; 12] =
        ["it", "its", "it's", "that", "that's", "this", "they", "them", "those", "these", "he", "she"];
    let words = all_words(question);
    let points_back = || words.iter().any(|word| POINTING.contains(&word.as_str()));
    content_words(question).len() < 2 || (question.split_whitespace().count() <= SHORT && points_back())
}

#[cfg(test)]
mod tests;
