//! What was computed before: the keys and values of sequences that are over, whose beginnings later prompts share. The
//! system message is the same for all questions to a twin, and a conversation's next turn begins with all turns before.

use super::architecture::Architecture;
use super::session::Sequence;

/// A sequence that has so few tokens more than are shared is given away whole instead of copied: they are the end of a turn
/// that the next prompt spells otherwise.
const TAIL: usize = 8;

/// Kept sequences, within a budget of memory; the least recently used goes first.
pub(crate) struct Prefixes {
    budget: usize,
    /// The least recently used first.
    kept: Vec<Kept>,
}

/// A sequence, and the adapter (0 for none) that it was computed with: another one's keys are others.
struct Kept {
    adapter: u64,
    sequence: Sequence,
}

impl Prefixes {
    /// Keeps sequences of at most `budget` bytes together.
    pub(crate) fn new(budget: usize) -> Self {
        Self { budget, kept: Vec::new() }
    }

    /// The longest known beginning of a prompt, of whose tokens the last is left to compute, with room for `capacity`
    /// tokens. Sequences that are still `running` know beginnings too.
    pub(crate) fn recall<'a>(
        &mut self,
        adapter: u64,
        prompt: &[u32],
        capacity: usize,
        running: impl Iterator<Item = (u64, &'a Sequence)>,
        sizes: &Architecture,
    ) -> Sequence {
        let wanted = &prompt[..prompt.len() - 1];
        let of_kept = |kept: &Kept| if kept.adapter == adapter { shared(&kept.sequence, wanted) } else { 0 };
        let best_kept = self.kept.iter().map(of_kept).enumerate().max_by_key(|(_, shared)| *shared);
        let (at, length) = best_kept.unwrap_or((0, 0));
        let others = running.filter(|(of, _)| *of == adapter).map(|(_, sequence)| (shared(sequence, wanted), sequence));
        if let Some((longer, sequence)) = others.max_by_key(|(shared, _)| *shared).filter(|(other, _)| *other > length)
        {
            return sequence.beginning(longer, capacity, sizes);
        }
        if length == 0 {
            let mut fresh = Sequence::default();
            fresh.reserve(capacity, sizes);
            return fresh;
        }
        let used = self.kept.remove(at);
        if used.sequence.tokens().len() <= length + TAIL {
            let mut sequence = used.sequence;
            sequence.truncate(length, sizes);
            sequence.reserve(capacity, sizes);
            return sequence;
        }
        let copy = used.sequence.beginning(length, capacity, sizes);
        self.kept.push(used);
        copy
    }

    /// Keeps a sequence that is over. Those that are a beginning of it need not be kept any more.
    pub(crate) fn keep(&mut self, adapter: u64, mut sequence: Sequence) {
        sequence.shrink();
        if sequence.tokens().is_empty() || sequence.bytes() > self.budget {
            return;
        }
        self.kept.retain(|kept| kept.adapter != adapter || !sequence.tokens().starts_with(kept.sequence.tokens()));
        self.kept.push(Kept { adapter, sequence });
        let mut bytes: usize = self.kept.iter().map(|kept| kept.sequence.bytes()).sum();
        while bytes > self.budget {
            bytes -= self.kept.remove(0).sequence.bytes();
        }
    }
}

fn shared(sequence: &Sequence, prompt: &[u32]) -> usize {
    sequence.tokens().iter().zip(prompt).take_while(|(a, b)| a == b).count()
}
