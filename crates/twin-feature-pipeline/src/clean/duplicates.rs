//! Exact and near duplicates among the documents of an author: cross-posts, imports of the same blog from two sources,
//! drafts beside their published form. They would be cited twice and leak between training and test.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};

use twin_domain::DocumentId;

use super::normal;

/// Broder (1997): documents as sets of w-word shingles.
const SHINGLE_WORDS: usize = 5;
/// Jaccard similarity above which two documents are the same post.
const THRESHOLD: f64 = 0.9;
/// How many of its smallest shingle hashes a document is looked up by.
const SKETCH: usize = 16;
/// Two documents above the threshold share about nine tenths of their sketches; that they share no more than a third happens
/// to one pair in thirty million. What shares less is not read to be compared.
const SKETCH_PART: usize = 3;

/// The word sequences of a text.
pub(crate) struct Shingles(HashSet<u64>);

impl Shingles {
    pub(crate) fn of(text: &str) -> Self {
        let words = normal::words(text);
        let width = SHINGLE_WORDS.min(words.len().max(1));
        Self(words.windows(width).map(hash).collect())
    }

    /// The share of shingles that both have (Jaccard), if it makes them the same post.
    pub(crate) fn similarity_of_copy(&self, other: &Self) -> Option<f64> {
        let shared = self.0.intersection(&other.0).count();
        let all = self.0.len() + other.0.len() - shared;
        let similarity = if all == 0 { 1.0 } else { shared as f64 / all as f64 };
        (similarity > THRESHOLD).then_some(similarity)
    }

    /// The smallest hashes, of which the lower half tells them apart: the upper half of small numbers says little.
    fn sketch(&self) -> Vec<u32> {
        let sorted: BTreeSet<u64> = self.0.iter().copied().collect();
        sorted.into_iter().take(SKETCH).map(|hash| hash as u32).collect()
    }
}

/// The documents seen so far, by their sketches: some 400 bytes each, whatever their length. Which of them really are alike
/// only their texts say.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    documents: Vec<DocumentId>,
    /// For each hash the last of the entries that have it.
    last: HashMap<u32, u32>,
    entries: Vec<Entry>,
}

/// That a document has a hash, and the entry before it with the same one.
#[derive(Debug)]
struct Entry {
    document: u32,
    before: Option<u32>,
}

impl Seen {
    /// The documents that may be the same as a text with these shingles, in the order in which they were seen.
    pub(crate) fn candidates(&self, shingles: &Shingles) -> Vec<DocumentId> {
        let sketch = shingles.sketch();
        let mut shared: HashMap<u32, usize> = HashMap::new();
        for hash in &sketch {
            let mut next = self.last.get(hash).copied();
            while let Some(entry) = next.and_then(|next| self.entries.get(next as usize)) {
                *shared.entry(entry.document).or_default() += 1;
                next = entry.before;
            }
        }
        shared.retain(|_, count| *count * SKETCH_PART > sketch.len());
        let mut candidates: Vec<u32> = shared.into_keys().collect();
        candidates.sort_unstable();
        candidates.into_iter().filter_map(|at| self.documents.get(at as usize).copied()).collect()
    }

    /// Remembers a document.
    pub(crate) fn insert(&mut self, document: DocumentId, shingles: &Shingles) {
        let at = self.documents.len() as u32;
        self.documents.push(document);
        for hash in shingles.sketch() {
            let entry = self.entries.len() as u32;
            let before = self.last.insert(hash, entry);
            self.entries.push(Entry { document: at, before });
        }
    }
}

fn hash(words: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    words.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use twin_domain::AuthorId;

    use super::*;

    /// Documents with their texts, as the warehouse has them.
    #[derive(Default)]
    struct Known {
        seen: Seen,
        texts: HashMap<DocumentId, (String, String)>,
    }

    impl Known {
        /// The document that `text` is a copy of, with the similarity; if there is none, `text` is remembered as `name`.
        fn duplicate_or_insert(&mut self, name: &str, text: &str) -> Option<(String, f64)> {
            let shingles = Shingles::of(text);
            for candidate in self.seen.candidates(&shingles) {
                let (of, other) = &self.texts[&candidate];
                if let Some(similarity) = shingles.similarity_of_copy(&Shingles::of(other)) {
                    return Some((of.clone(), similarity));
                }
            }
            let id = DocumentId::new(&AuthorId::parse("ada").unwrap(), name);
            self.seen.insert(id, &shingles);
            self.texts.insert(id, (name.to_owned(), text.to_owned()));
            None
        }
    }

    fn text(words: std::ops::Range<usize>) -> String {
        words.map(|n| format!("word{n} ")).collect()
    }

    #[test]
    fn copies_are_found_whatever_their_marks() {
        let mut seen = Known::default();
        assert_eq!(seen.duplicate_or_insert("a", "One *two* three four five six seven."), None);
        assert_eq!(seen.duplicate_or_insert("b", "one two, three four — five SIX seven"), Some(("a".to_owned(), 1.0)));
    }

    #[test]
    fn the_similarity_is_that_of_the_shingles() {
        let mut seen = Known::default();
        seen.duplicate_or_insert("a", &text(0..1000));
        // 996 shingles; without the last 50 words 946, all of them shared: 946 / 996.
        let (of, similarity) = seen.duplicate_or_insert("b", &text(0..950)).unwrap();
        assert_eq!(of, "a");
        assert!((similarity - 946.0 / 996.0).abs() < 1e-9);
        // 846 / 996 < 0.9
        assert_eq!(seen.duplicate_or_insert("c", &text(0..850)), None);
    }

    #[test]
    fn every_near_duplicate_is_found_among_many() {
        let mut seen = Known::default();
        for n in 0..200 {
            assert_eq!(seen.duplicate_or_insert(&n.to_string(), &text(n * 1000..n * 1000 + 300)), None);
        }
        for n in 0..200 {
            let near = text(n * 1000 + 10..n * 1000 + 300);
            assert_eq!(seen.duplicate_or_insert("near", &near).map(|(of, _)| of), Some(n.to_string()));
        }
    }
    #[test]
    fn what_shares_a_phrase_is_not_even_compared() {
        let mut seen = Known::default();
        for n in 0..50 {
            seen.duplicate_or_insert(&n.to_string(), &format!("{} {}", text(0..20), text(n * 1000..n * 1000 + 300)));
        }
        let phrase = Shingles::of(&format!("{} {}", text(0..20), text(90_000..90_300)));
        assert_eq!(seen.seen.candidates(&phrase), []);
    }
}
