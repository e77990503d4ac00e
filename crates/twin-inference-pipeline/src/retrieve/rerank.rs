//! Reranking: what the store found, ranked by how near each chunk is to the question as a whole, how well its tokens meet
//! the question's, and its BM25.
//!
//! Reciprocal ranks, by which the store fuses, do not know how near a chunk is; here the measures count by their size.
//! Whether anything found is an answer at all is told by its nearness: similarity, tokens, and the share of the question's
//! words, which lie between 0 and 1 for every question (cosines can be less).

use std::collections::BTreeMap;

use twin_domain::ScoredChunk;
use twin_models::embedding::{EmbedError, Embedder};

use super::RetrievalConfig;
use crate::words::{content_words, word_counts};

/// A chunk that was found, with how it compares to the question.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub scored: ScoredChunk,
    /// The share of the question's words that it has ([`Lexical::share`]).
    pub words: f32,
    /// Its score in the store's lexical search as a share of the best one's, 0 when that did not find it.
    pub lexical: f32,
    /// How well its tokens meet the question's. The similarity of the whole where there are no token vectors.
    pub tokens: f32,
    /// What chunks are ranked by: all of these and the rest of the document, weighed.
    pub value: f32,
}

impl Found {
    /// What it is ranked by, the document left aside. Scores of the store's BM25 know how rare a word is in all that the
    /// author wrote, but only compare the chunks of one question.
    fn rank(&self, config: &RetrievalConfig) -> f32 {
        self.scored.similarity + config.token_weight * self.tokens + config.lexical_weight * self.lexical
    }

    /// How near it is to the question, on a scale that is the same for every question.
    pub fn nearness(&self, config: &RetrievalConfig) -> f32 {
        self.scored.similarity + config.token_weight * self.tokens + config.word_weight * self.words
    }
}

/// Rates and sorts what was found. The author's name, which is in the question or not, says nothing of the subject.
pub(super) fn rerank(
    found: Vec<ScoredChunk>,
    question: &str,
    author_name: &str,
    embedder: &dyn Embedder,
    config: &RetrievalConfig,
) -> Result<Vec<Found>, EmbedError> {
    let texts: Vec<String> = found.iter().map(in_context).collect();
    let words = Lexical::new(question, author_name, &texts);
    let best = found.iter().filter_map(|scored| scored.lexical).fold(0.0, f32::max);
    let rate = |(index, scored): (usize, ScoredChunk)| {
        // Until its tokens are compared, the similarity of the whole stands for them.
        let lexical = if best > 0.0 { scored.lexical.unwrap_or(0.0) / best } else { 0.0 };
        let found = Found { words: words.share(index), lexical, tokens: scored.similarity, value: 0.0, scored };
        Found { value: found.rank(config), ..found }
    };
    let mut rated: Vec<Found> = found.into_iter().enumerate().map(rate).collect();
    if !config.rerank {
        return Ok(rated);
    }
    by_value(&mut rated);
    let compared = if config.token_weight > 0.0 { config.token_candidates.min(rated.len()) } else { 0 };
    compare_tokens(&mut rated[..compared], question, embedder)?;
    let ranks: Vec<f32> = rated.iter().map(|found| found.rank(config)).collect();
    let weakest = ranks.iter().copied().fold(f32::INFINITY, f32::min);
    for index in 0..rated.len() {
        // What was not found of a document is hardly nearer than the last that was.
        let other = best_other(&rated, &ranks, index).unwrap_or(weakest);
        rated[index].value = ranks[index] + config.document_weight * other;
    }
    let (first, rest) = rated.split_at_mut(compared);
    by_value(first);
    by_value(rest);
    Ok(rated)
}

fn by_value(found: &mut [Found]) {
    found.sort_by(|a, b| b.value.total_cmp(&a.value));
}

/// A chunk under its title and headings, as it was embedded.
fn in_context(scored: &ScoredChunk) -> String {
    let mut text = scored.document.title.clone();
    for heading in &scored.chunk.heading_path {
        text = format!("{text} › {heading}");
    }
    format!("{text}\n\n{}", scored.chunk.text)
}

/// Late interaction of the question with each chunk, if the embedder gives token vectors.
fn compare_tokens(found: &mut [Found], question: &str, embedder: &dyn Embedder) -> Result<(), EmbedError> {
    if found.is_empty() {
        return Ok(());
    }
    let question = embedder.embed_tokens(&[question])?.and_then(|mut vectors| vectors.pop());
    let Some(question) = question.filter(|question| !question.is_empty()) else { return Ok(()) };
    let texts: Vec<String> = found.iter().map(|found| in_context(&found.scored)).collect();
    let passages = embedder.embed_tokens(&texts.iter().map(String::as_str).collect::<Vec<_>>())?;
    for (found, passage) in found.iter_mut().zip(passages.unwrap_or_default()) {
        found.tokens = question.late_interaction(&passage);
    }
    Ok(())
}

/// The rank value of the best chunk of the same document beside this one, if another was found.
fn best_other(found: &[Found], ranks: &[f32], index: usize) -> Option<f32> {
    let document = found[index].scored.document.id;
    let others =
        found.iter().enumerate().filter(|(other, found)| *other != index && found.scored.document.id == document);
    others.map(|(other, _)| ranks[other]).max_by(f32::total_cmp)
}

/// BM25 (Robertson and Zaragoza, 2009) among the texts that were found, as a share of the most that a text could have.
///
/// Rarity is counted among the texts found for this question: what they all share does not tell one from another.
struct Lexical {
    shares: Vec<f32>,
}

impl Lexical {
    /// BM25's k1, how soon the repetition of a word stops to count, and b, how much the length of a text counts.
    const SATURATION: f32 = 1.2;
    const LENGTH: f32 = 0.75;

    fn new(question: &str, author_name: &str, texts: &[String]) -> Self {
        let mut asked = content_words(question);
        for name in content_words(author_name) {
            asked.remove(&name);
        }
        let counts: Vec<BTreeMap<String, u32>> = texts.iter().map(|text| word_counts(text)).collect();
        let lengths: Vec<f32> = counts.iter().map(|words| words.values().sum::<u32>() as f32).collect();
        let mean = lengths.iter().sum::<f32>() / lengths.len().max(1) as f32;
        let mut shares = vec![0.0; texts.len()];
        let mut most = 0.0;
        for word in asked {
            let with = counts.iter().filter(|words| words.contains_key(&word)).count() as f32;
            let rarity = ((texts.len() as f32 - with + 0.5) / (with + 0.5)).ln_1p();
            most += rarity;
            for ((share, words), length) in shares.iter_mut().zip(&counts).zip(&lengths) {
                let count = words.get(&word).copied().unwrap_or(0) as f32;
                let length = 1.0 - Self::LENGTH + Self::LENGTH * length / mean.max(1.0);
                *share += rarity * count / (count + Self::SATURATION * length);
            }
        }
        if most > 0.0 {
            shares.iter_mut().for_each(|share| *share /= most);
        }
        Self { shares }
    }

    /// 0 to 1: 0 when the text has no word of the question, or nothing is asked.
    fn share(&self, index: usize) -> f32 {
        self.shares[index]
    }
}
