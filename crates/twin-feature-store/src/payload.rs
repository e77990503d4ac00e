//! What lies with a chunk's vectors: everything that the chunk and its document are.

use std::ops::Range;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use twin_domain::{AuthorId, Chunk, ChunkId, ChunkKind, Digest, DocumentId, DocumentInfo, StoreError};

use crate::assemble::StoredChunk;
use crate::failure::{damaged, engine};

/// The payload fields that are filtered by.
pub(crate) mod field {
    pub const AUTHOR: &str = "author";
    pub const DOCUMENT: &str = "document";
    pub const DATE: &str = "date";
    pub const TAGS: &str = "tags";
    pub const KIND: &str = "kind";
    pub const LANGUAGE: &str = "language";
    pub const CONTENT_HASH: &str = "content_hash";
}

#[derive(Debug, Serialize, Deserialize)]
struct Fields {
    author: AuthorId,
    document: DocumentId,
    url: String,
    title: String,
    date: Option<Date>,
    language: Option<String>,
    tags: Vec<String>,
    content_hash: Digest,
    chunk: ChunkId,
    ordinal: u32,
    chunk_count: u32,
    kind: ChunkKind,
    heading_path: Vec<String>,
    text: String,
    search_text: String,
    not_voice: Vec<Range<usize>>,
    /// Microseconds since 1970; tells the newer version of a document.
    loaded_at: i64,
    /// The digest of chunk and document: the engine has no checksums of its own.
    digest: Digest,
}

/// The payload of a chunk.
pub(crate) fn encode(chunk: &Chunk, document: &DocumentInfo, loaded_at: i64) -> Result<Map<String, Value>, StoreError> {
    let fields = Fields {
        author: document.author.clone(),
        document: document.id,
        url: document.url.clone(),
        title: document.title.clone(),
        date: document.date,
        language: document.language.clone(),
        tags: document.tags.clone(),
        content_hash: document.content_hash.clone(),
        chunk: chunk.id,
        ordinal: chunk.ordinal,
        chunk_count: chunk.chunk_count,
        kind: chunk.kind,
        heading_path: chunk.heading_path.clone(),
        text: chunk.text.clone(),
        search_text: chunk.search_text.clone(),
        not_voice: chunk.not_voice.clone(),
        loaded_at,
        digest: Digest::of_json(&(chunk, document)),
    };
    match serde_json::to_value(fields) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => unreachable!("a struct with named fields is a JSON object"),
        Err(error) => Err(engine("encode a chunk", error)),
    }
}

/// The chunk in a payload, checked against its digest.
pub(crate) fn decode(collection: &str, payload: Map<String, Value>) -> Result<StoredChunk, StoreError> {
    let bad = |problem: &dyn std::fmt::Display| damaged(format!("a chunk in the collection `{collection}`"), problem);
    let fields: Fields = serde_json::from_value(Value::Object(payload)).map_err(|error| bad(&error))?;
    let document = DocumentInfo {
        id: fields.document,
        author: fields.author,
        url: fields.url,
        title: fields.title,
        date: fields.date,
        language: fields.language,
        tags: fields.tags,
        content_hash: fields.content_hash,
    };
    let chunk = Chunk {
        id: fields.chunk,
        document: fields.document,
        ordinal: fields.ordinal,
        chunk_count: fields.chunk_count,
        kind: fields.kind,
        heading_path: fields.heading_path,
        text: fields.text,
        search_text: fields.search_text,
        not_voice: fields.not_voice,
    };
    if Digest::of_json(&(&chunk, &document)) != fields.digest {
        let what = format!("chunk {} of document `{}`", chunk.ordinal, document.url);
        return Err(damaged(what, "it is not what was stored: load the document again"));
    }
    Ok(StoredChunk { chunk, document, loaded_at: fields.loaded_at })
}
