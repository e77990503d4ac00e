//! The passages of the training documents, for prompts that come with passages as they do in use: found by their words, and
//! never of the document that is asked about.

use std::collections::HashSet;

use twin_domain::DocumentId;
use twin_domain::feature_store::StoredDocument;
use twin_models::prompt::Passage;

use super::outline::{self, Outline};
use super::questions::{Rarity, telling_words};

/// What a prompt can be given to read.
#[derive(Default)]
pub(super) struct Library {
    pub(super) rarity: Rarity,
    passages: Vec<Entry>,
}

struct Entry {
    document: DocumentId,
    title: String,
    text: String,
    words: HashSet<String>,
}

impl Library {
    /// The library of documents, in passages of at most `limit` tokens.
    pub(super) fn of(documents: &[&StoredDocument], limit: usize, count_tokens: &dyn Fn(&str) -> usize) -> Self {
        let rarity = Rarity::of(documents.iter().map(|stored| stored.document.text.as_str()));
        let mut passages = Vec::new();
        for stored in documents {
            let text = &stored.document.text;
            for range in outline::passages(text, &Outline::of(text).blocks, limit, count_tokens) {
                let text = text[range].to_owned();
                let words = telling_words(&text).map(str::to_lowercase).collect();
                let (document, title) = (stored.document.info.id, stored.document.info.title.clone());
                passages.push(Entry { document, title, text, words });
            }
        }
        Self { rarity, passages }
    }

    /// The passage of another document that has most of the rare words of `query`. `None` when there is no other document.
    pub(super) fn related(&self, query: &str, not_of: DocumentId) -> Option<(String, String)> {
        let asked: HashSet<String> = telling_words(query).map(str::to_lowercase).collect();
        let score = |entry: &Entry| -> f64 {
            asked.iter().filter(|word| entry.words.contains(*word)).map(|word| self.rarity.of_word(word)).sum()
        };
        let others = self.passages.iter().filter(|entry| entry.document != not_of);
        let scored = others.map(|entry| (score(entry), entry));
        // The first of the best: `max_by` would take the last.
        let best = scored.fold(None, |best: Option<(f64, &Entry)>, next| match best {
            Some(best) if best.0 >= next.0 => Some(best),
            _ => Some(next),
        });
        best.map(|(_, entry)| (entry.title.clone(), entry.text.clone()))
    }
}

/// Titles and texts as numbered passages.
pub(super) fn numbered(texts: impl IntoIterator<Item = (String, String)>) -> Vec<Passage> {
    let number = |(index, (title, text)): (usize, (String, String))| Passage::new(index + 1, title, &text);
    texts.into_iter().enumerate().map(number).collect()
}
