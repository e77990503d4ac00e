//! A collection in the layout of BEIR (Thakur et al., NeurIPS 2021), chunked, embedded and loaded as posts are.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use twin_domain::{AuthorId, Document, DocumentId, DocumentInfo, EmbeddedChunk, FeatureStore, FeatureView};
use twin_feature_pipeline::chunk;
use twin_feature_store::EmbeddedFeatureStore;
use twin_inference_pipeline::retrieve::measures::Judgements;
use twin_models::embedding::Embedder;

/// How many chunks are embedded and loaded at a time.
const BATCH: usize = 256;

/// Whose documents they are. A collection has no author; a store knows nobody without.
const NOBODY: &str = "collection";

#[derive(Debug, Deserialize)]
struct CorpusRow {
    #[serde(rename = "_id")]
    id: String,
    #[serde(default)]
    title: String,
    text: String,
}

/// A query with what is relevant to it.
#[derive(Debug)]
pub struct Query {
    pub text: String,
    pub judgements: Judgements,
    pub exclude: Option<DocumentId>,
}

#[derive(Debug, Deserialize)]
struct QueryRow {
    #[serde(rename = "_id")]
    id: String,
    text: String,
    exclude: Option<String>,
}

/// A collection, loaded.
pub struct Collection {
    pub store: EmbeddedFeatureStore,
    pub view: FeatureView,
    pub author: AuthorId,
    /// The collection's own name of each document.
    pub names: BTreeMap<DocumentId, String>,
    pub chunks: usize,
    pub queries: Vec<Query>,
}

impl Collection {
    /// Reads `directory` and loads it into a new store in `scratch`. `progress` is told of documents done and in all.
    pub fn load(
        directory: &Path,
        scratch: &Path,
        view: FeatureView,
        embedder: &dyn Embedder,
        progress: impl Fn(usize, usize),
    ) -> anyhow::Result<Self> {
        let author = AuthorId::parse(NOBODY)?;
        let corpus: Vec<CorpusRow> = rows(&directory.join("corpus.jsonl"))?;
        let store = EmbeddedFeatureStore::open(scratch)?;
        let id = store.create_view(&view)?;
        let (mut names, mut waiting, mut chunks) = (BTreeMap::new(), Vec::new(), 0);
        let total = corpus.len();
        for (index, row) in corpus.into_iter().enumerate() {
            let document = document(&author, &row);
            let info = Arc::new(document.info.clone());
            let prepared = chunk::split(&document, &id, view.max_chunk_tokens, embedder);
            chunks += prepared.len();
            waiting.extend(prepared.into_iter().map(|prepared| (prepared, Arc::clone(&info))));
            names.insert(info.id, row.id);
            if waiting.len() >= BATCH || index + 1 == total {
                let texts: Vec<&str> = waiting.iter().map(|(chunk, _)| chunk.embedding_text.as_str()).collect();
                let embeddings = embedder.embed(&texts)?;
                let loaded = waiting.drain(..).zip(embeddings);
                let loaded = loaded.map(|((prepared, document), embedding)| EmbeddedChunk {
                    chunk: prepared.chunk,
                    document,
                    embedding,
                });
                store.upsert(&id, &loaded.collect::<Vec<_>>())?;
                progress(index + 1, total);
            }
        }
        let queries = queries(directory, &author)?;
        Ok(Self { store, view, author, names, chunks, queries })
    }
}

/// An empty abstract is a document that nothing finds.
fn document(author: &AuthorId, row: &CorpusRow) -> Document {
    let url = url(&row.id);
    let info = DocumentInfo {
        id: DocumentId::new(author, &url),
        author: author.clone(),
        url,
        title: row.title.clone(),
        date: None,
        language: None,
        tags: Vec::new(),
        content_hash: Document::content_hash(&row.title, None, &[], &row.text),
    };
    Document { info, text: row.text.clone() }
}

fn url(id: &str) -> String {
    format!("collection:{id}")
}

/// The queries that something is judged relevant to.
fn queries(directory: &Path, author: &AuthorId) -> anyhow::Result<Vec<Query>> {
    let mut judged = judgements(&directory.join("qrels.tsv"))?;
    let rows: Vec<QueryRow> = rows(&directory.join("queries.jsonl"))?;
    let query = |row: QueryRow| {
        let judgements = judged.remove(&row.id)?;
        let exclude = row.exclude.map(|id| DocumentId::new(author, &url(&id)));
        Some(Query { text: row.text, judgements, exclude })
    };
    Ok(rows.into_iter().filter_map(query).collect())
}

fn judgements(file: &Path) -> anyhow::Result<BTreeMap<String, Judgements>> {
    let mut judged: BTreeMap<String, Judgements> = BTreeMap::new();
    // The first line is a header.
    for (index, line) in fs_err::read_to_string(file)?.lines().enumerate().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let parsed = match fields.as_slice() {
            [query, document, gain] => gain.trim().parse().ok().map(|gain: u32| (*query, *document, gain)),
            _ => None,
        };
        let (query, document, gain) = parsed.with_context(|| {
            format!("`{}`, line {}: not a query, a document and a whole number", file.display(), index + 1)
        })?;
        judged.entry(query.to_owned()).or_default().insert(document.to_owned(), gain);
    }
    judged.retain(|_, judgements| judgements.values().any(|gain| *gain > 0));
    Ok(judged)
}

fn rows<T: DeserializeOwned>(file: &Path) -> anyhow::Result<Vec<T>> {
    let row = |(index, line): (usize, &str)| {
        serde_json::from_str(line).with_context(|| format!("`{}`, line {}", file.display(), index + 1))
    };
    fs_err::read_to_string(file)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(row).collect()
}
