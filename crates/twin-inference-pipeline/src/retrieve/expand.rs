//! Query expansion: words that are looked for beside the question's own in lexical search, all weighing the same.
//!
//! By rules: relevance feedback without a reader, as in RM3 (Abdul-Jaleel et al., TREC 2004), cut down: the words that tell the
//! first few chunks of a first search from the rest. By the language model: the words of a passage that it writes as an answer
//! (query2doc, Wang, Yang and Wei, EMNLP 2023), whether or not it is right.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use twin_domain::{CancelFlag, ChatMessage, ScoredChunk};
use twin_models::language::{GenerateError, GenerateRequest, Input, LanguageModel, Sampling};
use unicode_segmentation::UnicodeSegmentation;

use crate::words::content_words;

/// What is searched for beside the question's own words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expansion {
    /// Nothing.
    #[default]
    Off,
    /// Words of what the question itself finds first, in lexical search.
    Rules,
    /// Words of an answer that the language model makes up. It costs an answer's time.
    Model,
}

/// How many chunks are believed, and how many words are taken from them. Chosen on the collections of `eval/retrieval.toml`.
const BELIEVED: usize = 3;
const WORDS: usize = 5;

/// How long the passage is that the model writes, and how many words are taken from it.
const WRITTEN_TOKENS: usize = 48;
const WRITTEN_WORDS: usize = 12;

/// The words of a passage that the model writes for a question, those of the question left out, in its order.
pub(super) fn written(
    model: &dyn LanguageModel,
    question: &str,
    author_name: &str,
) -> Result<Vec<String>, GenerateError> {
    let ask = format!("Write a short passage that answers the question.\nQuestion: {question}\nPassage:");
    let input = Input::Messages(vec![ChatMessage::user(ask)]);
    let request = GenerateRequest { input, adapter: None, sampling: Sampling::greedy(WRITTEN_TOKENS) };
    let passage = model.generate(&request, &CancelFlag::new(), &mut |_| ControlFlow::Continue(()))?.text;
    let mut known = content_words(question);
    known.extend(content_words(author_name));
    let is_new = |word: &&str| content_words(word).into_iter().any(|stem| known.insert(stem));
    Ok(passage.unicode_words().filter(is_new).take(WRITTEN_WORDS).map(str::to_lowercase).collect())
}

/// The words that tell the first chunks of a list from the others, those of the question left out.
pub(super) fn words(question: &str, author_name: &str, found: &[ScoredChunk]) -> Vec<String> {
    let mut known = content_words(question);
    known.extend(content_words(author_name));
    let counts: Vec<BTreeMap<String, Count>> = found.iter().map(|scored| count(&scored.chunk.text)).collect();
    let mut weights: BTreeMap<&str, (f32, &str)> = BTreeMap::new();
    for chunk in counts.iter().take(BELIEVED) {
        let length = chunk.values().map(|count| count.times).sum::<u32>().max(1) as f32;
        for (stem, Count { times, spelled }) in chunk.iter().filter(|(stem, _)| !known.contains(*stem)) {
            let with = counts.iter().filter(|counts| counts.contains_key(stem)).count() as f32;
            let rarity = ((counts.len() as f32 - with + 0.5) / (with + 0.5)).ln_1p();
            weights.entry(stem).or_insert((0.0, spelled)).0 += *times as f32 / length * rarity;
        }
    }
    let mut weighed: Vec<(f32, &str)> = weights.into_values().collect();
    weighed.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    weighed.into_iter().take(WORDS).map(|(_, word)| word.to_owned()).collect()
}

struct Count {
    times: u32,
    /// As it stands in the text first: the store has endings of its own to cut.
    spelled: String,
}

/// The content words of a text by their stems.
fn count(text: &str) -> BTreeMap<String, Count> {
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    for word in text.unicode_words() {
        let stems: BTreeSet<String> = content_words(word);
        for stem in stems {
            counts.entry(stem).or_insert_with(|| Count { times: 0, spelled: word.to_lowercase() }).times += 1;
        }
    }
    counts
}
