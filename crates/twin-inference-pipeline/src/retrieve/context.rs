//! Which of the found chunks the model is given, and how they are put together. The model reads little, so the budget is
//! filled best first, and chunks that stand next to each other under one heading become one passage.

use twin_domain::ScoredChunk;

use super::{Found, FoundPassage, RetrievalConfig};
use crate::instructions::instructions;

/// The passages, numbered from 1 by their best chunk. A chunk that does not fit gives its place to a shorter one after it.
pub(super) fn build(
    found: &[Found],
    config: &RetrievalConfig,
    count_tokens: &dyn Fn(&str) -> usize,
) -> Vec<FoundPassage> {
    let mut passages: Vec<Run<'_>> = Vec::new();
    let mut room = config.max_tokens;
    let mut left: Vec<&Found> = found.iter().collect();
    while let Some(Found { scored, value, .. }) = next(&mut left, &passages, config.diversity) {
        let of_document = passages.iter().filter(|run| run.first().chunk.document == scored.chunk.document);
        if of_document.map(|run| run.chunks.len()).sum::<usize>() >= config.max_per_document {
            continue;
        }
        let neighbour = passages.iter().position(|run| run.touches(scored));
        let title_tokens = if neighbour.is_none() { count_tokens(&scored.document.title) } else { 0 };
        let Some(rest) = room.checked_sub(count_tokens(&scored.chunk.text) + title_tokens) else { continue };
        match neighbour {
            Some(index) => passages[index].add(scored),
            None if passages.len() < config.max_passages => passages.push(Run { chunks: vec![scored], value: *value }),
            None => continue,
        }
        room = rest;
    }
    let mut passages: Vec<FoundPassage> =
        passages.iter().enumerate().map(|(index, run)| run.passage(index + 1)).collect();
    if config.leave_out_instructions {
        passages.iter_mut().for_each(|passage| passage.instructions = instructions(&passage.text));
    }
    passages
}

/// Takes the best of what is left, where it is worth less the more it says what was chosen already. Among equals, the first.
fn next<'a>(left: &mut Vec<&'a Found>, chosen: &[Run<'_>], diversity: f32) -> Option<&'a Found> {
    let worth = |found: &Found| {
        let similarity = |scored: &&ScoredChunk| found.scored.embedding.cosine(&scored.embedding);
        let said = chosen.iter().flat_map(|run| &run.chunks).map(similarity).fold(0.0, f32::max);
        found.value - diversity * said
    };
    let best = match diversity > 0.0 && !chosen.is_empty() {
        true => left.iter().map(|found| worth(found)).enumerate().rev().max_by(|(_, a), (_, b)| a.total_cmp(b))?.0,
        false => 0,
    };
    (best < left.len()).then(|| left.remove(best))
}

/// Chunks of one document that follow each other, in order. Never empty.
struct Run<'a> {
    chunks: Vec<&'a ScoredChunk>,
    /// Of the best.
    value: f32,
}

impl<'a> Run<'a> {
    fn first(&self) -> &'a ScoredChunk {
        self.chunks[0]
    }

    /// Whether a chunk stands right before or after this run, under the same heading.
    fn touches(&self, scored: &ScoredChunk) -> bool {
        let (first, last) = (&self.first().chunk, &self.chunks[self.chunks.len() - 1].chunk);
        let ordinal = scored.chunk.ordinal;
        first.document == scored.chunk.document
            && first.heading_path == scored.chunk.heading_path
            && (ordinal + 1 == first.ordinal || ordinal == last.ordinal + 1)
    }

    fn add(&mut self, scored: &'a ScoredChunk) {
        self.chunks.push(scored);
        self.chunks.sort_by_key(|scored| scored.chunk.ordinal);
    }

    fn passage(&self, number: usize) -> FoundPassage {
        let best = |value: fn(&ScoredChunk) -> f32| self.chunks.iter().map(|c| value(c)).fold(f32::MIN, f32::max);
        FoundPassage {
            instructions: Vec::new(),
            number,
            document: self.first().document.clone(),
            heading_path: self.first().chunk.heading_path.clone(),
            text: self.chunks.iter().map(|scored| scored.chunk.text.as_str()).collect(),
            chunks: self.chunks.iter().map(|scored| scored.chunk.id).collect(),
            score: self.value,
            similarity: best(|scored| scored.similarity),
        }
    }
}
