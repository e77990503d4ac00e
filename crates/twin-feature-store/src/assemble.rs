//! Documents put together from their chunks.
//!
//! A crash between loading a changed document and removing its old chunks leaves two versions of it behind. The one that
//! counts is the newest of which no chunk is missing.

use std::collections::BTreeMap;
use std::ops::Range;

use twin_domain::feature_store::StoredDocument;
use twin_domain::{Chunk, Digest, Document, DocumentId, DocumentInfo, StoreError};

use crate::failure::damaged;

/// A chunk as it lies in a collection.
#[derive(Debug, Clone)]
pub(crate) struct StoredChunk {
    pub chunk: Chunk,
    pub document: DocumentInfo,
    /// When it was loaded; only its order means something.
    pub loaded_at: i64,
}

/// The documents that these chunks make up: oldest first, undated ones at the start, ties by URL.
pub(crate) fn documents(chunks: Vec<StoredChunk>) -> Result<Vec<StoredDocument>, StoreError> {
    let mut by_document: BTreeMap<DocumentId, Vec<StoredChunk>> = BTreeMap::new();
    for chunk in chunks {
        by_document.entry(chunk.document.id).or_default().push(chunk);
    }
    let mut documents = by_document.into_values().map(document).collect::<Result<Vec<_>, _>>()?;
    documents.sort_by(|a, b| {
        let key = |stored: &StoredDocument| (stored.document.info.date, stored.document.info.url.clone());
        key(a).cmp(&key(b))
    });
    Ok(documents)
}

/// The chunks of the version that counts, in order. Of a document without a complete version, those of the newest.
pub(crate) fn chunks(chunks: Vec<StoredChunk>) -> Vec<(Chunk, DocumentInfo)> {
    let newest = versions(chunks).into_iter().max_by_key(|version| (is_complete(version), loaded_at(version)));
    newest.unwrap_or_default().into_iter().map(|stored| (stored.chunk, stored.document)).collect()
}

fn document(chunks: Vec<StoredChunk>) -> Result<StoredDocument, StoreError> {
    let url = chunks.first().map(|stored| stored.document.url.clone()).unwrap_or_default();
    let there = chunks.len();
    let complete = versions(chunks).into_iter().filter(|version| is_complete(version)).max_by_key(|v| loaded_at(v));
    let Some(version) = complete else {
        let problem = format!("not all of its chunks are in the feature store ({there} are): load it again");
        return Err(damaged(format!("document `{url}`"), problem));
    };
    let info = version[0].document.clone();
    let text: String = version.iter().map(|stored| stored.chunk.text.as_str()).collect();
    if Document::content_hash(&info.title, info.date, &info.tags, &text) != info.content_hash {
        return Err(damaged(format!("document `{url}`"), "its text is not the one that was loaded: load it again"));
    }
    Ok(StoredDocument { not_voice: not_voice(&version), document: Document { info, text } })
}

/// The chunks of each version of one document, in order.
fn versions(chunks: Vec<StoredChunk>) -> Vec<Vec<StoredChunk>> {
    let mut versions: BTreeMap<Digest, Vec<StoredChunk>> = BTreeMap::new();
    for stored in chunks {
        versions.entry(stored.document.content_hash.clone()).or_default().push(stored);
    }
    let in_order = |mut version: Vec<StoredChunk>| {
        version.sort_by_key(|stored| stored.chunk.ordinal);
        version
    };
    versions.into_values().map(in_order).collect()
}

fn is_complete(version: &[StoredChunk]) -> bool {
    let expected = |(index, stored): (usize, &StoredChunk)| {
        stored.chunk.ordinal as usize == index && stored.chunk.chunk_count as usize == version.len()
    };
    version.iter().enumerate().all(expected)
}

fn loaded_at(version: &[StoredChunk]) -> Option<i64> {
    version.iter().map(|stored| stored.loaded_at).max()
}

/// Ranges of the document's text that are not the author's voice; those that touch are made one.
fn not_voice(version: &[StoredChunk]) -> Vec<Range<usize>> {
    let mut merged: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    for Chunk { text, not_voice, .. } in version.iter().map(|stored| &stored.chunk) {
        let mut ranges = not_voice.clone();
        ranges.sort_by_key(|range| range.start);
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            let range = start + range.start..start + range.end;
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        start += text.len();
    }
    merged
}
