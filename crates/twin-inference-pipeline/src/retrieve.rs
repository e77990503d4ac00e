//! From a question to the passages that the model is given: one hybrid query, reranked by meaning, tokens and words,
//! neighbours merged, the best within a token budget.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use twin_domain::{
    AuthorId, ChunkId, DocumentId, DocumentInfo, FeatureStore, FeatureViewId, Filter, Fusion, HybridQuery, Searches,
    StoreError,
};
use twin_models::embedding::{EmbedError, Embedder};
use twin_models::language::{GenerateError, LanguageModel};
use twin_models::prompt::Passage;

pub use self::expand::Expansion;
use self::question::Parsed;
use self::rerank::{Found, rerank};
use crate::instructions::without;
use crate::words::{all_words, content_words};

mod context;
mod expand;
pub mod measures;
mod question;
mod rerank;

/// How passages are chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrievalConfig {
    /// How many candidates the dense and the lexical search contribute each.
    pub candidates: usize,
    /// Which of the two is made.
    pub searches: Searches,
    /// How their candidates become one list.
    pub fusion: Fusion,
    /// How many chunks come out of their fusion and are reranked; with few, the nearest by meaning alone can be lost.
    pub limit: usize,
    /// The most passages the model is given.
    pub max_passages: usize,
    /// The most tokens of the language model that all passages together may have.
    pub max_tokens: usize,
    /// How much a chunk loses that says what a chosen one says: its value less this times its greatest similarity to those
    /// chosen (maximal marginal relevance, Carbonell and Goldstein, SIGIR 1998). 0 switches it off.
    pub diversity: f32,
    /// The most chunks of one document, so that one long post does not crowd out the others.
    pub max_per_document: usize,
    /// Whether sentences of passages that speak to a model and not to a reader are left out of the prompt.
    pub leave_out_instructions: bool,
    /// Whether dates and tags that a question names ("posts of 2021") say where to search.
    pub filters_from_question: bool,
    /// Whether words of what is found first, or of what the model answers, are searched for, too.
    pub expansion: Expansion,
    /// What the nearness of a chunk must come to, so that the question can be answered from it. Nearness is its cosine
    /// similarity plus the next two, weighed.
    pub relevant: f32,
    /// Whether what the store found is rated anew by the three that follow; otherwise its own order stands.
    pub rerank: bool,
    /// What late interaction weighs: how well the question's tokens are met by those of the chunk, each seen in its
    /// context. 0 switches it off; without it a question costs some tenths of a second less,
    /// unless all the passages it finds were found lately.
    pub token_weight: f32,
    /// How many chunks, the best by the other measures, are compared so; the rest stands below them.
    pub token_candidates: usize,
    /// What a chunk's BM25 weighs in ranking, as a share of the best one's.
    pub lexical_weight: f32,
    /// What the share of the question's words that a chunk has weighs in its nearness, rare ones counting more.
    pub word_weight: f32,
    /// What the best other chunk of the same document weighs: a post of which several parts are near is rather meant than
    /// one with a single sentence that is.
    pub document_weight: f32,
}

impl Default for RetrievalConfig {
    fn default() -> Self {
        Self {
            candidates: 40,
            searches: Searches::Both,
            fusion: Fusion::ReciprocalRank,
            limit: 40,
            max_passages: 4,
            max_tokens: 700,
            diversity: 0.2,
            max_per_document: 2,
            leave_out_instructions: true,
            filters_from_question: true,
            expansion: Expansion::Off,
            // Weights and threshold were chosen with `examples/retrieval_quality.rs` on the questions of `eval/questions` and
            // on 52 about six real authors, and hold with all-MiniLM-L6-v2: of 80 questions that a post answers, the right
            // post is first for 70, among the first three for 79, and none is refused; of 22 that none answers, 18 are. On
            // 52 more that nothing was chosen on: first for 38 of 40, among three for 40; 8 of 12 refused. That was with 20 chunks
            // compared by their tokens; with 10, those of `eval/questions` come out the same.
            relevant: 1.1,
            rerank: true,
            token_weight: 1.0,
            token_candidates: 10,
            lexical_weight: 0.4,
            word_weight: 1.5,
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
    #[error("the language model could not expand the question")]
    Expand(#[from] GenerateError),
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
    /// What expands questions where [`Expansion::Model`] is configured; without it they are not expanded.
    pub model: Option<&'a dyn LanguageModel>,
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
    /// Its sentences that speak to a model and not to a reader. The model does not get them, and they are not quoted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instructions: Vec<String>,
}

impl FoundPassage {
    /// The passage as the prompt has it.
    pub fn for_prompt(&self) -> Passage {
        let mut title = self.document.title.clone();
        for heading in &self.heading_path {
            title = format!("{title} › {heading}");
        }
        Passage::new(self.number, title, &without(&self.text, &self.instructions))
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
    /// How well its tokens meet the question's.
    #[serde(default)]
    pub token_score: f32,
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
    /// Words that were searched for in addition.
    #[serde(default)]
    pub added: Vec<String>,
    /// Where it was searched: what the caller asked for and what the question names.
    #[serde(default)]
    pub filter: Filter,
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
    #[serde(default)]
    pub rerank_seconds: f64,
}

impl RetrievalTrace {
    /// How long it all took.
    pub fn seconds(&self) -> f64 {
        self.embed_seconds + self.query_seconds + self.rerank_seconds
    }
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
    let asked = if config.filters_from_question { question::parse(question) } else { Parsed::as_it_is(question) };
    let begun = Instant::now();
    let embedding = corpus.embedder.embed_one(&asked.text)?;
    let embed_seconds = begun.elapsed().as_secs_f64();
    let mut query = HybridQuery {
        author: corpus.author.clone(),
        text: asked.text.clone(),
        embedding,
        filter: asked.narrowed(filter),
        searches: config.searches,
        fusion: config.fusion,
        candidates: config.candidates,
        limit: config.limit,
    };
    let begun = Instant::now();
    let mut found = corpus.store.query(corpus.view, &query)?;
    if found.is_empty() && query.filter != *filter {
        // What was taken for a date or a tag may be the subject, and an answer from another year beats none.
        query.filter = filter.clone();
        found = corpus.store.query(corpus.view, &query)?;
    }
    let added = match (config.expansion, corpus.model) {
        _ if !config.searches.lexical() => Vec::new(),
        (Expansion::Rules, _) => expand::words(&asked.text, corpus.author_name, &found),
        (Expansion::Model, Some(model)) => expand::written(model, &asked.text, corpus.author_name)?,
        _ => Vec::new(),
    };
    if !added.is_empty() {
        query.text = format!("{} {}", asked.text, added.join(" "));
        found = corpus.store.query(corpus.view, &query)?;
    }
    let query_seconds = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let found = rerank(found, &asked.text, corpus.author_name, corpus.embedder, config)?;
    let rerank_seconds = begun.elapsed().as_secs_f64();
    let passages = context::build(&found, config, count_tokens);
    let similarity = found.iter().map(|found| found.scored.similarity).fold(0.0, f32::max);
    let word_share = found.iter().map(|found| found.words).fold(0.0, f32::max);
    let trace = RetrievalTrace {
        query: asked.text,
        added,
        filter: query.filter,
        candidates: candidates(&found, &passages),
        similarity,
        word_share,
        relevant: found.iter().any(|found| found.nearness(config) >= config.relevant),
        embed_seconds,
        query_seconds,
        rerank_seconds,
    };
    Ok(Retrieval { passages, trace })
}

fn candidates(found: &[Found], passages: &[FoundPassage]) -> Vec<Candidate> {
    let candidate = |Found { scored, words, tokens, .. }: &Found| Candidate {
        chunk: scored.chunk.id,
        document: scored.document.id,
        score: scored.score,
        similarity: scored.similarity,
        token_score: *tokens,
        word_share: *words,
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
