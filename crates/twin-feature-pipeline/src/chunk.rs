//! Chunking: from a document to passages that the embedder sees whole.
//!
//! Chunks follow the structure of the text: sections, then blocks, list items, sentences, words. They are slices of the
//! document that touch each other, so that their concatenation is the document, byte for byte. Code blocks are never split.

use std::ops::Range;

use twin_domain::{Chunk, ChunkId, ChunkKind, Document, FeatureViewId};
use twin_models::embedding::Embedder;

use crate::clean::normal;

use self::outline::Outline;

mod outline;
mod sentence;
mod split;

/// The version of the rules in this module; part of every feature view. Raise it when any of them changes what comes out.
pub const CHUNKER: &str = "structure-1";

/// The embedder sees a few hundred tokens; of a very long code block it need not be handed more than this.
const MAX_EMBEDDED_BYTES: usize = 16 * 1024;

/// A chunk with the text that is embedded for it.
#[derive(Debug, Clone)]
pub struct PreparedChunk {
    pub chunk: Chunk,
    /// Title and headings, then the chunk's text.
    pub embedding_text: String,
    /// The tokens of `embedding_text`.
    pub tokens: usize,
}

/// Splits a document into chunks of at most `max_tokens` tokens, title and headings included. Only a code block, which
/// stays whole, can make a longer one.
pub fn split(
    document: &Document,
    view: &FeatureViewId,
    max_tokens: usize,
    embedder: &dyn Embedder,
) -> Vec<PreparedChunk> {
    let outline = Outline::of(&document.text);
    let title = document.info.title.as_str();
    let prefixes: Vec<String> =
        outline.sections.iter().map(|section| prefix(title, &section.path, max_tokens / 3, embedder)).collect();
    let budgets: Vec<usize> =
        prefixes.iter().map(|prefix| max_tokens.saturating_sub(embedder.count_tokens(prefix)).max(1)).collect();
    let passages = split::passages(&document.text, &outline, &budgets, embedder);
    let count = u32::try_from(passages.len()).unwrap_or(u32::MAX);
    let prepare = |(ordinal, passage): (usize, split::Passage)| {
        let ordinal = u32::try_from(ordinal).unwrap_or(u32::MAX);
        let text = &document.text[passage.range.clone()];
        let heading_path = outline.sections[passage.section].path.clone();
        let chunk = Chunk {
            id: ChunkId::new(document.info.id, &document.info.content_hash, view, ordinal),
            document: document.info.id,
            ordinal,
            chunk_count: count,
            kind: kind(&outline, &passage.range),
            search_text: normal::search_text(title, &heading_path, text),
            heading_path,
            text: text.to_owned(),
            not_voice: within(&outline.not_voice, &passage.range),
        };
        let end = text.floor_char_boundary(MAX_EMBEDDED_BYTES);
        let embedding_text = format!("{}{}", prefixes[passage.section], &text[..end]);
        let tokens = embedder.count_tokens(&embedding_text);
        PreparedChunk { chunk, embedding_text, tokens }
    };
    passages.into_iter().enumerate().map(prepare).collect()
}

/// Byte ranges of a text that are not the author's voice: block quotes, code blocks and raw HTML, in order and disjoint.
pub fn not_voice(text: &str) -> Vec<Range<usize>> {
    Outline::of(text).not_voice
}

/// What is embedded before each passage of a section: `Title › Heading › Subheading`. Where that is too long the outer
/// headings go first, then the end of the title.
fn prefix(title: &str, path: &[String], most: usize, embedder: &dyn Embedder) -> String {
    for outer in 0..=path.len() {
        let parts: Vec<&str> = std::iter::once(title).chain(path[outer..].iter().map(String::as_str)).collect();
        let prefix = format!("{}\n\n", parts.join(" › "));
        if embedder.count_tokens(&prefix) <= most {
            return prefix;
        }
    }
    let mut words: Vec<&str> = title.split_whitespace().take(most).collect();
    while words.len() > 1 && embedder.count_tokens(&words.join(" ")) > most {
        words.truncate(words.len() / 2);
    }
    let short: String = words.join(" ").chars().take(most * 4).collect();
    format!("{short}\n\n")
}

/// What most of the bytes are.
fn kind(outline: &Outline, range: &Range<usize>) -> ChunkKind {
    let share = |ranges: &[Range<usize>]| within(ranges, range).iter().map(Range::len).sum::<usize>() * 2;
    if share(&outline.code) > range.len() {
        ChunkKind::Code
    } else if share(&outline.quotations) > range.len() {
        ChunkKind::Quotation
    } else {
        ChunkKind::Prose
    }
}

/// The parts of `ranges` that lie within `slice`, counted from its start.
fn within(ranges: &[Range<usize>], slice: &Range<usize>) -> Vec<Range<usize>> {
    let parts = ranges.iter().filter_map(|range| {
        let (start, end) = (range.start.max(slice.start), range.end.min(slice.end));
        (start < end).then(|| start - slice.start..end - slice.start)
    });
    parts.collect()
}

#[cfg(test)]
mod tests;
