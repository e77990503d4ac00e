//! A suffix array over the words of several texts: the longest piece that begins at a place is found by binary search, in
//! about the same time for natural text as for text made to be slow.

use std::cmp::Ordering;

/// What stands after each text. No word has this number, so that nothing runs from one text into the next.
const END: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct SuffixArray {
    /// All texts, an [`END`] after each.
    words: Vec<u32>,
    /// Where each text begins.
    starts: Vec<usize>,
    /// The positions in `words`, in the order of what follows them.
    order: Vec<u32>,
}

impl SuffixArray {
    pub(super) fn new(texts: &[Vec<u32>]) -> Self {
        let mut words = Vec::new();
        let mut starts = Vec::new();
        for text in texts {
            starts.push(words.len());
            words.extend(text);
            words.push(END);
        }
        Self { order: sort_suffixes(&words), words, starts }
    }

    /// The length of the longest beginning of `text` that stands in a text, and the index of that text. `None` is a word that
    /// no text has.
    pub(super) fn longest_prefix(&self, text: &[Option<u32>]) -> (usize, Option<usize>) {
        let at = self.order.partition_point(|position| self.compare(*position, text) == Ordering::Less);
        // What agrees longest stands next to where the text itself would.
        let neighbours = [at.checked_sub(1), Some(at)].into_iter().flatten();
        let candidates = neighbours.filter_map(|index| self.order.get(index));
        let run = |position: &u32| (self.common(*position, text), *position);
        match candidates.map(run).max_by_key(|(length, position)| (*length, std::cmp::Reverse(*position))) {
            Some((length, position)) if length > 0 => {
                (length, Some(self.starts.partition_point(|start| *start <= position as usize) - 1))
            }
            _ => (0, None),
        }
    }

    fn common(&self, position: u32, text: &[Option<u32>]) -> usize {
        self.words[position as usize..].iter().zip(text).take_while(|(known, word)| Some(**known) == **word).count()
    }

    fn compare(&self, position: u32, text: &[Option<u32>]) -> Ordering {
        let known = &self.words[position as usize..];
        let common = self.common(position, text);
        match (known.get(common), text.get(common)) {
            (_, None) => Ordering::Greater, // All of the text stands here.
            (None, Some(_)) => Ordering::Less,
            (Some(known), Some(word)) => known.cmp(&word.unwrap_or(END)),
        }
    }
}

/// Sorts by the first word, then by the first two, four, eight, until all differ (Manber and Myers, 1993).
fn sort_suffixes(words: &[u32]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..words.len() as u32).collect();
    let mut ranks: Vec<u32> = words.to_vec();
    let mut length = 1;
    // By one word first, so that ranks are places from here on.
    order.sort_unstable_by_key(|position| (ranks[*position as usize], *position));
    let mut distinct = rank(&order, &mut ranks, |ranks, position| (u64::from(ranks[position]), 0));
    while distinct < words.len() {
        let key = |ranks: &[u32], position: usize| {
            // Shorter suffixes come first.
            (u64::from(ranks[position]), ranks.get(position + length).map_or(0, |rank| u64::from(*rank) + 1))
        };
        order.sort_unstable_by_key(|position| key(&ranks, *position as usize));
        distinct = rank(&order, &mut ranks, key);
        length *= 2;
    }
    order
}

/// Gives every position the rank of its key among all, in sorted order; returns the number of different keys.
fn rank(order: &[u32], ranks: &mut Vec<u32>, key: impl Fn(&[u32], usize) -> (u64, u64)) -> usize {
    let mut fresh = vec![0; ranks.len()];
    let mut distinct = 0;
    let mut before = None;
    for position in order {
        let key = Some(key(ranks, *position as usize));
        distinct += u32::from(key != before);
        fresh[*position as usize] = distinct - 1;
        before = key;
    }
    *ranks = fresh;
    distinct as usize
}
