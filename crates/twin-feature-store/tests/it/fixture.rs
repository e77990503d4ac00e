use std::path::Path;
use std::sync::Arc;

use jiff::civil::date;
use tempfile::TempDir;
use twin_domain::{
    AuthorId, Chunk, ChunkId, ChunkKind, Digest, Document, DocumentId, DocumentInfo, EmbeddedChunk, Embedding,
    FeatureView, Filter, HybridQuery, Searches,
};

pub const DIMENSION: usize = 32;

/// A directory in memory where the system has one with room. What survives a killed process is the same there as on a
/// disk, and the engine's many syncs, which only a power failure needs, take no time.
pub fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let roomy = fs4::available_space(memory).is_ok_and(|free| free > 4 << 30);
    if roomy { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

pub fn view() -> FeatureView {
    FeatureView {
        cleaner: "clean-1".to_owned(),
        chunker: "structure-1".to_owned(),
        max_chunk_tokens: 220,
        embedder: "letters".to_owned(),
        embedder_digest: Digest::of("letters"),
        dimension: DIMENSION,
        sparse: "bm25 k1=1.2 b=0.75".to_owned(),
    }
}

pub fn author(name: &str) -> AuthorId {
    AuthorId::parse(name).unwrap()
}

/// A document to be: what a test cares about, with defaults for the rest.
#[derive(Debug, Clone)]
pub struct Draft<'a> {
    pub author: &'a str,
    pub url: String,
    pub year: Option<i16>,
    pub tags: Vec<&'a str>,
    pub kind: ChunkKind,
    pub texts: Vec<String>,
}

impl<'a> Draft<'a> {
    pub fn new(author: &'a str, slug: &str, texts: &[&str]) -> Self {
        Self {
            author,
            url: format!("https://example.org/{slug}"),
            year: Some(2020),
            tags: vec![],
            kind: ChunkKind::Prose,
            texts: texts.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    pub fn info(&self) -> DocumentInfo {
        let author = author(self.author);
        let date = self.year.map(|year| date(year, 3, 14));
        let tags: Vec<String> = self.tags.iter().map(|tag| (*tag).to_owned()).collect();
        DocumentInfo {
            id: DocumentId::new(&author, &self.url),
            content_hash: Document::content_hash("A title", date, &tags, &self.texts.concat()),
            url: self.url.clone(),
            title: "A title".to_owned(),
            language: Some("en".to_owned()),
            author,
            date,
            tags,
        }
    }

    /// The document's chunks, one of each text.
    pub fn chunks(&self) -> Vec<EmbeddedChunk> {
        let document = Arc::new(self.info());
        let chunk = |(ordinal, text): (usize, &String)| EmbeddedChunk {
            chunk: Chunk {
                id: ChunkId::new(document.id, &document.content_hash, &view().id(), ordinal as u32),
                document: document.id,
                ordinal: ordinal as u32,
                chunk_count: self.texts.len() as u32,
                kind: self.kind,
                heading_path: vec!["A heading".to_owned()],
                text: text.clone(),
                search_text: text.to_lowercase(),
                not_voice: vec![],
            },
            document: Arc::clone(&document),
            embedding: embed(text),
        };
        self.texts.iter().enumerate().map(chunk).collect()
    }
}

/// A vector of how often each letter stands in a text: near for texts of like letters, whatever the words.
pub fn embed(text: &str) -> Embedding {
    let mut counts = vec![0.1_f32; DIMENSION];
    for character in text.to_lowercase().chars() {
        counts[character as usize % DIMENSION] += 1.0;
    }
    Embedding::new(counts).unwrap()
}

pub fn query(author_name: &str, text: &str) -> HybridQuery {
    HybridQuery {
        author: author(author_name),
        text: text.to_owned(),
        embedding: embed(text),
        filter: Filter::default(),
        searches: Searches::Both,
        candidates: 100,
        limit: 100,
    }
}

/// Numbers that are the same in every run (SplitMix64, Steele et al., 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
