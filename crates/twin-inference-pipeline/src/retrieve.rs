//! From a question to the passages that the model is given: one hybrid query, neighbours merged, the best within a token budget.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use twin_domain::{
    AuthorId, ChunkId, DocumentInfo, FeatureStore, FeatureViewId, Filter, HybridQuery, ScoredChunk, StoreError,
};
use twin_models::embedding::{EmbedError, Embedder};
use twin_models::prompt::Passage;

use crate::words::{content_words, share};

/// How passages are chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetrievalConfig {
    /// How many candidates the dense and the lexical search contribute each.
    pub candidates: usize,
    /// How many chunks come out of their fusion.
    pub limit: usize,
    /// The most passages the model is given.
    pub max_passages: usize,
    /// The most tokens of the language model that all passages together may have.
    pub max_tokens: usize,
    /// The most chunks of one document, so that one long post does not crowd out the others.
    pub max_per_document: usize,
    /// With a nearest passage below this cosine similarity, a question counts as answered nowhere unless its words say otherwise.
    pub similar: f32,
    /// The similarity below which not even common words count.
    pub dissimilar: f32,
    /// The share of the question's content words that the best passages must have to make up for a low similarity.
    pub word_share: f32,
}

impl Default for RetrievalConfig {
    fn default() -> Self {
        Self {
            candidates: 40,
            limit: 12,
            max_passages: 4,
            max_tokens: 640,
            max_per_document: 2,
            similar: 0.45,
            dissimilar: 0.20,
            word_share: 0.5,
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
    /// The best fused score of its chunks.
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
        Passage { number: self.number, title, text: self.text.trim().to_owned() }
    }
}

/// What retrieval found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retrieval {
    pub query: String,
    /// The passages for the model, best first.
    pub passages: Vec<FoundPassage>,
    /// Whether anything found is near enough to answer from.
    pub relevant: bool,
    pub seconds: f64,
}

/// Finds the passages that answer `question` best.
///
/// `count_tokens` counts with the language model's tokenizer.
///
/// # Errors
/// When the question cannot be embedded or the store cannot be searched.
#[expect(clippy::too_many_arguments, reason = "the stages' parts, each named by its type")]
pub fn retrieve(
    store: &dyn FeatureStore,
    embedder: &dyn Embedder,
    view: &FeatureViewId,
    author: &AuthorId,
    question: &str,
    filter: &Filter,
    config: &RetrievalConfig,
    count_tokens: &dyn Fn(&str) -> usize,
) -> Result<Retrieval, RetrieveError> {
    let begun = Instant::now();
    let query = HybridQuery {
        author: author.clone(),
        text: question.to_owned(),
        embedding: embedder.embed_one(question)?,
        filter: filter.clone(),
        candidates: config.candidates,
        limit: config.limit,
    };
    let found = store.query(view, &query)?;
    let relevant = is_relevant(question, &found, config);
    let passages = within_budget(merge(found, config.max_per_document), config, count_tokens);
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Retrieval { query: question.to_owned(), passages, relevant, seconds })
}

/// Whether the nearest chunk is near by meaning, or at least not far and the best chunks have the question's words.
fn is_relevant(question: &str, found: &[ScoredChunk], config: &RetrievalConfig) -> bool {
    let nearest = found.iter().map(|scored| scored.similarity).fold(f32::NEG_INFINITY, f32::max);
    let asked = content_words(question);
    let in_words = |scored: &ScoredChunk| {
        let given = content_words(&format!("{} {}", scored.document.title, scored.chunk.text));
        share(&asked, &given) >= config.word_share
    };
    nearest >= config.similar || (nearest >= config.dissimilar && found.iter().take(3).any(in_words))
}

/// Chunks that follow each other become one passage, at the place of the better one.
fn merge(found: Vec<ScoredChunk>, max_per_document: usize) -> Vec<FoundPassage> {
    struct Run {
        chunks: Vec<ScoredChunk>,
    }
    let mut runs: Vec<Run> = Vec::new();
    for scored in found {
        let same = |run: &Run| run.chunks[0].chunk.document == scored.chunk.document;
        let of_document: usize = runs.iter().filter(|run| same(run)).map(|run| run.chunks.len()).sum();
        if of_document >= max_per_document {
            continue;
        }
        let beside = |run: &Run| {
            let (first, last) = (run.chunks[0].chunk.ordinal, run.chunks[run.chunks.len() - 1].chunk.ordinal);
            scored.chunk.ordinal + 1 == first || scored.chunk.ordinal == last + 1
        };
        match runs.iter_mut().find(|run| same(run) && beside(run)) {
            Some(run) => {
                run.chunks.push(scored);
                run.chunks.sort_by_key(|scored| scored.chunk.ordinal);
            }
            None => runs.push(Run { chunks: vec![scored] }),
        }
    }
    let passage = |Run { chunks }: Run| FoundPassage {
        number: 0,
        document: chunks[0].document.clone(),
        heading_path: chunks[0].chunk.heading_path.clone(),
        text: chunks.iter().map(|scored| scored.chunk.text.as_str()).collect(),
        chunks: chunks.iter().map(|scored| scored.chunk.id).collect(),
        score: chunks.iter().map(|scored| scored.score).fold(f32::NEG_INFINITY, f32::max),
        similarity: chunks.iter().map(|scored| scored.similarity).fold(f32::NEG_INFINITY, f32::max),
    };
    runs.into_iter().map(passage).collect()
}

/// The first passages that fit, numbered. One that does not fit gives its place to a shorter one after it.
fn within_budget(
    passages: Vec<FoundPassage>,
    config: &RetrievalConfig,
    count_tokens: &dyn Fn(&str) -> usize,
) -> Vec<FoundPassage> {
    let mut room = config.max_tokens;
    let mut chosen: Vec<FoundPassage> = Vec::new();
    for mut passage in passages {
        let prompt = passage.for_prompt();
        let tokens = count_tokens(&prompt.text) + count_tokens(&prompt.title);
        if tokens <= room && chosen.len() < config.max_passages {
            room -= tokens;
            passage.number = chosen.len() + 1;
            chosen.push(passage);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use twin_domain::{Chunk, ChunkKind, Digest, DocumentId};

    use super::*;

    fn scored(document: usize, ordinal: u32, text: &str, similarity: f32) -> ScoredChunk {
        let author = AuthorId::parse("ada").unwrap();
        let url = format!("https://ada.example/{document}");
        let id = DocumentId::new(&author, &url);
        let info = DocumentInfo {
            id,
            author,
            url,
            title: format!("Post {document}"),
            date: None,
            language: None,
            tags: vec![],
            content_hash: Digest::of(text),
        };
        let chunk = Chunk {
            id: ChunkId(uuid::Uuid::from_u128(document as u128 * 100 + u128::from(ordinal))),
            document: id,
            ordinal,
            chunk_count: 10,
            kind: ChunkKind::Prose,
            heading_path: vec![],
            text: text.to_owned(),
            search_text: text.to_owned(),
            not_voice: vec![],
        };
        ScoredChunk { chunk, document: info, score: similarity, similarity }
    }

    #[test]
    fn neighbours_become_one_passage() {
        let found = vec![scored(1, 4, "second. ", 0.9), scored(2, 0, "other", 0.8), scored(1, 3, "first. ", 0.7)];
        let merged = merge(found, 2);
        assert_eq!(merged.len(), 2);
        assert_eq!(merged[0].text, "first. second. ");
        assert_eq!(merged[0].similarity, 0.9);
    }

    #[test]
    fn one_document_does_not_crowd_out_the_others() {
        let found = (0..5).map(|n| scored(1, n * 2, "x", 0.9)).chain([scored(2, 0, "y", 0.1)]).collect();
        let merged = merge(found, 2);
        assert_eq!(merged.iter().filter(|passage| passage.document.title == "Post 1").count(), 2);
        assert!(merged.iter().any(|passage| passage.document.title == "Post 2"));
    }

    #[test]
    fn the_budget_is_filled_and_numbers_have_no_gaps() {
        let config = RetrievalConfig { max_tokens: 8, ..RetrievalConfig::default() };
        let found = vec![
            scored(1, 0, "one two three", 0.9),
            scored(2, 0, "far too long to fit in here", 0.8),
            scored(3, 0, "x", 0.7),
        ];
        let count = |text: &str| text.split_whitespace().count();
        let chosen = within_budget(merge(found, 2), &config, &count);
        assert_eq!(
            chosen.iter().map(|p| (p.number, p.document.title.as_str())).collect::<Vec<_>>(),
            [(1, "Post 1"), (2, "Post 3")]
        );
    }

    #[test]
    fn far_passages_are_relevant_only_by_their_words() {
        let config = RetrievalConfig::default();
        let question = "How do you caulk the garboard seam?";
        assert!(is_relevant(question, &[scored(1, 0, "Anything", 0.6)], &config));
        assert!(is_relevant(question, &[scored(1, 0, "Caulking the garboard seam is slow.", 0.3)], &config));
        assert!(!is_relevant(question, &[scored(1, 0, "The cat was late.", 0.3)], &config));
        assert!(!is_relevant(question, &[], &config));
    }
}
