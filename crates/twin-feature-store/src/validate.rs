//! What may be stored. Everything is checked before anything is written, because the engine applies a bad batch half.

use jiff::civil::Date;
use twin_domain::{ChunkId, EmbeddedChunk, Embedding, FeatureView, FeatureViewId, StoreError};

use crate::failure::invalid;

/// Checks a batch for a view.
pub(crate) fn chunks(view: &FeatureView, id: &FeatureViewId, chunks: &[EmbeddedChunk]) -> Result<(), StoreError> {
    chunks.iter().try_for_each(|embedded| {
        let what = || format!("chunk {} of `{}`", embedded.chunk.ordinal, embedded.document.url);
        chunk(id, embedded)
            .and_then(|()| embedding(view, &embedded.embedding))
            .map_err(|problem| invalid(what(), problem))
    })
}

/// Checks that a query's vector can be compared with those of a view.
pub(crate) fn query(view: &FeatureView, vector: &Embedding) -> Result<(), StoreError> {
    embedding(view, vector).map_err(|problem| invalid("the query", problem))
}

fn chunk(view: &FeatureViewId, embedded: &EmbeddedChunk) -> Result<(), String> {
    let EmbeddedChunk { chunk, document, .. } = embedded;
    let problem = if chunk.document != document.id {
        "it is not of the document that came with it"
    } else if chunk.ordinal >= chunk.chunk_count {
        "its ordinal is not below the number of chunks"
    } else if chunk.id != ChunkId::new(document.id, &document.content_hash, view, chunk.ordinal) {
        "its id is not the one of this document, content and feature view"
    } else if !chunk.not_voice.iter().all(|range| chunk.text.get(range.clone()).is_some()) {
        "a range that is not the author's voice lies outside of the text or cuts a character"
    } else if !document.date.is_none_or(is_four_digit_year) {
        "its date lies before the year 1 or after 9999"
    } else {
        return Ok(());
    };
    Err(problem.to_owned())
}

fn embedding(view: &FeatureView, embedding: &Embedding) -> Result<(), String> {
    let dimension = embedding.dimension();
    if dimension != view.dimension {
        return Err(format!("its embedding has {dimension} dimensions and the feature view has {}", view.dimension));
    }
    // The engine divides by the length, computed in 32 bits: one that overflows or vanishes there would store NaN.
    let square: f32 = embedding.values().iter().map(|value| value * value).sum();
    if square.is_normal() {
        Ok(())
    } else {
        Err("the length of its embedding is beyond what can be normalised".to_owned())
    }
}

fn is_four_digit_year(date: Date) -> bool {
    (1..=9999).contains(&date.year())
}
