//! Exact and near duplicates among the documents of an author: cross-posts, imports of the same blog from two sources,
//! drafts beside their published form. They would be cited twice and leak between training and test.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};

use super::normal;

/// Broder (1997): documents as sets of w-word shingles.
const SHINGLE_WORDS: usize = 5;
/// Jaccard similarity above which two documents are the same post.
const THRESHOLD: f64 = 0.9;
/// How many of its smallest shingle hashes a document is looked up by. Two documents above the threshold share none of
/// their sixteen smallest with a probability of about 0.1^16.
const SKETCH: usize = 16;

/// The documents seen so far, by their shingles.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    documents: Vec<(String, HashSet<u64>)>,
    by_hash: HashMap<u64, Vec<usize>>,
}

impl Seen {
    /// The document that `text` is a duplicate of, with the similarity; if there is none, `text` is remembered as `name`.
    pub(crate) fn duplicate_or_insert(&mut self, name: &str, text: &str) -> Option<(String, f64)> {
        let shingles = shingles(text);
        let sketch: BTreeSet<u64> = shingles.iter().copied().collect();
        let sketch: Vec<u64> = sketch.into_iter().take(SKETCH).collect();
        let candidates: BTreeSet<usize> =
            sketch.iter().filter_map(|hash| self.by_hash.get(hash)).flatten().copied().collect();
        for candidate in candidates {
            let (of, other) = &self.documents[candidate];
            let similarity = jaccard(&shingles, other);
            if similarity > THRESHOLD {
                return Some((of.clone(), similarity));
            }
        }
        for hash in sketch {
            self.by_hash.entry(hash).or_default().push(self.documents.len());
        }
        self.documents.push((name.to_owned(), shingles));
        None
    }
}

fn shingles(text: &str) -> HashSet<u64> {
    let words = normal::words(text);
    let width = SHINGLE_WORDS.min(words.len().max(1));
    words.windows(width).map(hash).collect()
}

fn hash(words: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    words.hash(&mut hasher);
    hasher.finish()
}

fn jaccard(a: &HashSet<u64>, b: &HashSet<u64>) -> f64 {
    let shared = a.intersection(b).count();
    let all = a.len() + b.len() - shared;
    if all == 0 { 1.0 } else { shared as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(words: std::ops::Range<usize>) -> String {
        words.map(|n| format!("word{n} ")).collect()
    }

    #[test]
    fn copies_are_found_whatever_their_marks() {
        let mut seen = Seen::default();
        assert_eq!(seen.duplicate_or_insert("a", "One *two* three four five six seven."), None);
        assert_eq!(seen.duplicate_or_insert("b", "one two, three four — five SIX seven"), Some(("a".to_owned(), 1.0)));
    }

    #[test]
    fn the_similarity_is_that_of_the_shingles() {
        let mut seen = Seen::default();
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
        let mut seen = Seen::default();
        for n in 0..200 {
            assert_eq!(seen.duplicate_or_insert(&n.to_string(), &text(n * 1000..n * 1000 + 300)), None);
        }
        for n in 0..200 {
            let near = text(n * 1000 + 10..n * 1000 + 300);
            assert_eq!(seen.duplicate_or_insert("near", &near).map(|(of, _)| of), Some(n.to_string()));
        }
    }
}
