//! An n-gram model over any alphabet of at most 2^21 symbols: what character and grammar models have in common. It is made
//! of, and asked about, counts of n-grams rather than text, so that a population can be kept as statistics only.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// The bits a symbol takes in a key; Unicode has fewer than 2^21 characters.
pub(crate) const SYMBOL_BITS: u32 = 21;

/// Stands before the beginning of every text. No character has this number, nor has a word or mark.
const BEFORE: u32 = (1 << SYMBOL_BITS) - 1;

/// An n-gram of up to five symbols, and its length, as one number.
pub(crate) type Key = u128;

/// How often each n-gram of one length occurs.
pub(crate) type Counts = HashMap<Key, u32, BuildHasherDefault<KeyHasher>>;

/// The n-grams of `order` symbols of a text, with how often they occur, in the order of their keys.
pub(crate) fn grams(sequence: &[u32], order: usize) -> Vec<(Key, u32)> {
    let mut keys: Vec<Key> = windows(sequence, order).collect();
    keys.sort_unstable();
    keys.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32)).collect()
}

/// An n-gram for each symbol of a text, which ends in it. The first ones begin before the text does.
pub(super) fn windows(sequence: &[u32], order: usize) -> impl Iterator<Item = Key> + '_ {
    let low = low_bits(order);
    let before: Key = (0..order).fold(1, |key, _| key << SYMBOL_BITS | Key::from(BEFORE));
    sequence.iter().scan(before, move |window, symbol| {
        *window = ((*window << SYMBOL_BITS | Key::from(*symbol)) & low) | (low + 1);
        Some(*window)
    })
}

/// All bits of an n-gram of this length but the leading one, which keeps n-grams of different lengths apart.
fn low_bits(length: usize) -> Key {
    (1 << (SYMBOL_BITS * length as u32)) - 1
}

/// The last `length` symbols of an n-gram; `None` where they begin before the text does.
fn suffix(key: Key, length: usize) -> Option<Key> {
    let low = low_bits(length);
    let first = (key >> (SYMBOL_BITS * (length as u32 - 1))) as u32 & BEFORE;
    (first != BEFORE).then_some(key & low | (low + 1))
}

/// Adds n-grams to counts.
pub(crate) fn add(counts: &mut Counts, grams: &[(Key, u32)]) {
    for (key, count) in grams {
        let sum = counts.entry(*key).or_default();
        *sum = sum.saturating_add(*count);
    }
}

/// An n-gram as such and as the context of the next symbol.
#[derive(Debug, Clone, Copy, Default)]
struct Gram {
    /// How often it occurs.
    count: u32,
    /// How often a symbol follows, and how many different ones do.
    followed: u32,
    followers: u32,
}

/// An n-gram model with interpolated Witten-Bell smoothing (Bell, Cleary and Witten, 1990; Chen and Goodman, 1998, section
/// 2.6): the more different symbols have followed a context, the more weight the shorter context has.
#[derive(Debug, Clone)]
pub(crate) struct SequenceModel {
    order: usize,
    /// The probability of a symbol before anything is known of it.
    uniform: f64,
    grams: HashMap<Key, Gram, BuildHasherDefault<KeyHasher>>,
}

impl SequenceModel {
    /// A model from the counts of all n-grams of `order` symbols.
    pub(crate) fn new<'a>(counts: impl IntoIterator<Item = (&'a Key, &'a u32)>, order: usize, uniform: f64) -> Self {
        let mut all = Counts::default();
        for (key, count) in counts {
            for length in 1..=order {
                let Some(gram) = suffix(*key, length) else { break };
                let sum = all.entry(gram).or_default();
                *sum = sum.saturating_add(*count);
            }
        }
        let mut grams = HashMap::with_capacity_and_hasher(all.len() * 5 / 4, BuildHasherDefault::default());
        for (key, count) in all {
            let gram: &mut Gram = grams.entry(key).or_default();
            gram.count = gram.count.saturating_add(count);
            let context = grams.entry(key >> SYMBOL_BITS).or_default();
            context.followed = context.followed.saturating_add(count);
            context.followers += 1;
        }
        Self { order, uniform, grams }
    }

    /// The probability of the last symbol of an n-gram after the others.
    pub(crate) fn probability(&self, key: Key) -> f64 {
        let mut probability = self.uniform;
        for length in 1..=self.order {
            let Some(gram) = suffix(key, length) else { break };
            let Some(context) = self.grams.get(&(gram >> SYMBOL_BITS)).filter(|context| context.followed > 0) else {
                break; // Longer contexts are unknown as well.
            };
            let count = self.grams.get(&gram).map_or(0, |gram| gram.count);
            let (followed, followers) = (f64::from(context.followed), f64::from(context.followers));
            probability = (f64::from(count) + followers * probability) / (followed + followers);
        }
        probability
    }

    /// The mean number of bits that a symbol takes. Zero for no symbols.
    pub(crate) fn bits(&self, grams: &[(Key, u32)]) -> f64 {
        mean_bits(grams, |key| -self.probability(key).log2())
    }

    /// By how many bits a symbol is likelier under this model than under another, on average. This model's probabilities
    /// are mixed with the other's at `share` to the rest, so that a symbol that one author happens not to have used costs
    /// log2(1 / (1 - share)) bits at most, however little known text there is.
    pub(crate) fn bits_gained(&self, others: &Self, share: f64, grams: &[(Key, u32)]) -> f64 {
        mean_bits(grams, |key| (share * self.probability(key) / others.probability(key) + 1.0 - share).log2())
    }
}

fn mean_bits(grams: &[(Key, u32)], bits: impl Fn(Key) -> f64) -> f64 {
    let (mut sum, mut symbols) = (0.0, 0.0);
    for (key, count) in grams {
        sum += bits(*key) * f64::from(*count);
        symbols += f64::from(*count);
    }
    if symbols > 0.0 { sum / symbols } else { 0.0 }
}

/// One multiplication instead of SipHash: looking up n-grams is all the time that a model takes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write_u128(&mut self, key: u128) {
        // The two halves hold different symbols; the multiplier is 2^64 divided by the golden ratio.
        let folded = (key as u64) ^ ((key >> 64) as u64).rotate_left(32);
        self.0 = (self.0 ^ folded).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u128(u128::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        // The high bits are the good ones and a hash map uses the low ones.
        self.0 ^ (self.0 >> 32)
    }
}
