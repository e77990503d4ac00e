//! The order in which a run sees its examples: shuffled anew for every epoch, from the seed alone, so that a run that is
//! taken up again goes on exactly where it was.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Where a run is in its examples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// How many times all examples were seen.
    pub epoch: u64,
    /// How many examples of this epoch were seen.
    pub position: usize,
}

/// The examples of the next optimiser step, as indices: as many as have at least `batch_tokens` tokens together, and at
/// least one. Moves the cursor past them.
pub(super) fn next_batch(lengths: &[usize], batch_tokens: usize, seed: u64, cursor: &mut Cursor) -> Vec<usize> {
    let mut batch = Vec::new();
    let mut tokens = 0;
    let mut order = shuffled(lengths.len(), seed, cursor.epoch);
    while tokens < batch_tokens && !lengths.is_empty() {
        if cursor.position == order.len() {
            *cursor = Cursor { epoch: cursor.epoch + 1, position: 0 };
            order = shuffled(lengths.len(), seed, cursor.epoch);
        }
        let example = order[cursor.position];
        cursor.position += 1;
        tokens += lengths[example];
        batch.push(example);
    }
    batch
}

fn shuffled(count: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(epoch);
    order.shuffle(&mut random);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_has_every_example_once_and_the_next_another_order() {
        let lengths = vec![10; 40];
        let mut cursor = Cursor::default();
        let mut epoch = || (0..4).flat_map(|_| next_batch(&lengths, 100, 7, &mut cursor)).collect::<Vec<_>>();
        let (first, second) = (epoch(), epoch());
        let sorted = |mut order: Vec<usize>| {
            order.sort_unstable();
            order
        };
        assert_ne!(first, second);
        assert_eq!(sorted(first), (0..40).collect::<Vec<_>>());
        assert_eq!(sorted(second), (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn going_on_from_a_cursor_gives_the_same_batches() {
        let lengths: Vec<usize> = (1..30).collect();
        let mut cursor = Cursor::default();
        let whole: Vec<_> = (0..9).map(|_| next_batch(&lengths, 50, 1, &mut cursor)).collect();
        let mut cursor = Cursor::default();
        for _ in 0..4 {
            next_batch(&lengths, 50, 1, &mut cursor);
        }
        let stored = serde_json::to_string(&cursor).unwrap();
        let mut cursor: Cursor = serde_json::from_str(&stored).unwrap();
        let rest: Vec<_> = (4..9).map(|_| next_batch(&lengths, 50, 1, &mut cursor)).collect();
        assert_eq!(rest, whole[4..]);
    }

    #[test]
    fn no_examples_give_no_batch() {
        assert!(next_batch(&[], 50, 1, &mut Cursor::default()).is_empty());
    }
}
