//! One post: what the feature pipeline makes of a page or a file.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{AuthorId, Digest};

/// The namespace of all our UUIDv5 names (RFC 9562, section 5.5), itself made once as a random UUID.
pub(crate) const NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_3c0e_55a4_4c8b_9a53_0f5e_2d7b_81c4);

/// The identity of a document: UUIDv5 of the author and the canonical URL. A post keeps its id when its text changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DocumentId(pub Uuid);

impl DocumentId {
    /// The id of the document that `author` published at `canonical_url`.
    pub fn new(author: &AuthorId, canonical_url: &str) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, format!("{author}\n{canonical_url}").as_bytes()))
    }
}

impl std::fmt::Display for DocumentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What is known of a document besides its text. Every chunk of it carries a copy in the feature store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentInfo {
    pub id: DocumentId,
    pub author: AuthorId,
    /// The canonical URL; `file:` for a local file that states none.
    pub url: String,
    pub title: String,
    /// The day of publication, if it is known.
    pub date: Option<Date>,
    /// ISO 639-1 code, if it is known.
    pub language: Option<String>,
    pub tags: Vec<String>,
    /// The digest of title, date, tags and text; it changes when and only when something the features depend on does.
    pub content_hash: Digest,
}

/// A cleaned document: the author's own text as Markdown, with line breaks, contractions and punctuation as published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    pub info: DocumentInfo,
    pub text: String,
}

impl Document {
    /// The content hash of a document with these parts.
    pub fn content_hash(title: &str, date: Option<Date>, tags: &[String], text: &str) -> Digest {
        let date = date.map(|date| date.to_string()).unwrap_or_default();
        let tags = tags.join("\n");
        Digest::of_parts([title.as_bytes(), date.as_bytes(), tags.as_bytes(), text.as_bytes()])
    }
}
