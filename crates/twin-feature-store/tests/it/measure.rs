use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qdrant_edge::bm25_embed::{EdgeBm25, EdgeBm25Config};
use twin_domain::{
    Chunk, ChunkId, ChunkKind, Document, DocumentId, DocumentInfo, EmbeddedChunk, Embedding, FeatureStore, FeatureView,
    FeatureViewId, HybridQuery,
};
use twin_feature_store::{EmbeddedFeatureStore, SparseModel, StoreOptions};

use crate::fixture::{Random, author, query, view};

const DIMENSION: usize = 384;

/// Real posts, cut where paragraphs end into passages of about 220 tokens of the embedder.
fn passages() -> Option<Vec<String>> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/dev");
    let files = ["blogs-tech/matklad", "blogs-tech/goblog", "blogs-tech/rustblog", "essays-pd/essays"];
    let mut passages = Vec::new();
    for file in files {
        let lines = std::fs::read_to_string(data.join(format!("{file}.jsonl"))).ok()?;
        for post in lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()) {
            let (title, text) = (post["title"].as_str().unwrap_or_default(), post["text"].as_str().unwrap());
            let mut passage = String::new();
            for paragraph in text.split_inclusive("\n\n") {
                // 1.35 tokens of the embedder to a word of English, measured on these texts.
                let words = |text: &str| text.split_whitespace().count();
                if !passage.is_empty() && words(&passage) + words(paragraph) > 160 {
                    passages.push(format!("{title}\n{passage}"));
                    passage.clear();
                }
                passage.push_str(paragraph);
            }
            passages.push(format!("{title}\n{passage}"));
        }
    }
    Some(passages)
}

#[test]
fn mean_length() {
    let Some(passages) = passages() else {
        return say("the posts to measure are not here: ../shared/data/dev");
    };
    let bm25 = EdgeBm25::new(EdgeBm25Config { b: 0.0.try_into().unwrap(), ..EdgeBm25Config::default() }).unwrap();
    // Without regard to length (b = 0) a term's weight is n (k1 + 1) / (n + k1), which gives back its count n.
    let count = |weight: f32| f64::from(weight) * 1.2 / (2.2 - f64::from(weight));
    let lengths = passages.iter().map(|text| bm25.embed_document(text).values.into_iter().map(count).sum::<f64>());
    let mean = lengths.sum::<f64>() / passages.len() as f64;
    say(&format!("{} passages of real posts have {mean:.1} terms on average", passages.len()));
    let assumed = SparseModel::default().average_length;
    assert!((mean / assumed - 1.0).abs() < 0.25, "{mean} is far from the {assumed} that is assumed");
}

#[test]
fn loading_and_querying_five_thousand_chunks() {
    let Some(passages) = passages().filter(|_| std::env::var_os("TWIN_MEASURE").is_some()) else {
        return say("set TWIN_MEASURE=1, with ../shared/data/dev, to measure");
    };
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedFeatureStore::open_with(directory.path(), StoreOptions::default()).unwrap();
    let view = FeatureView { dimension: DIMENSION, ..view() };
    let id = store.create_view(&view).unwrap();
    let chunks: Vec<_> = passages.iter().take(5000).enumerate().map(|(n, text)| chunk(&id, n, text)).collect();

    let batches: Vec<Duration> = chunks.chunks(128).map(|batch| timed(|| store.upsert(&id, batch).unwrap())).collect();
    let total: Duration = batches.iter().sum();
    let rate = chunks.len() as f64 / total.as_secs_f64();
    say(&format!(
        "loaded {} chunks in {total:.2?}, {rate:.0} per second; a batch of 128: {}",
        chunks.len(),
        spread(batches)
    ));
    say(&format!("queries: {}", spread(queries(&store, &id, &passages))));
    say(&format!("documents: {:.2?}", timed(|| assert_eq!(store.documents(&id, &author("ada")).unwrap().len(), 5000))));
    say(&format!("count: {:.2?}", timed(|| assert_eq!(store.count(&id, None).unwrap(), 5000))));
    say(&format!("optimize: {:.2?}", timed(|| assert!(store.optimize(&id).is_ok()))));
    say(&format!("queries after it: {}", spread(queries(&store, &id, &passages))));

    let more: Vec<_> = passages.iter().enumerate().skip(5000).map(|(n, text)| chunk(&id, n, text)).collect();
    let loaded = timed(|| more.chunks(128).for_each(|batch| store.upsert(&id, batch).unwrap()));
    say(&format!("loaded {} more in {loaded:.2?}", more.len()));
    say(&format!("queries: {}", spread(queries(&store, &id, &passages))));
    say(&format!("optimize, with an index: {:.2?}", timed(|| assert!(store.optimize(&id).unwrap()))));
    say(&format!("queries after it: {}", spread(queries(&store, &id, &passages))));
    say(&format!("count: {:.2?}", timed(|| assert_eq!(store.count(&id, None).unwrap() as usize, passages.len()))));
    drop(store);
    say(&format!("bytes on disk: {}", bytes(directory.path())));
    let opened = timed(|| {
        let store = EmbeddedFeatureStore::open(directory.path()).unwrap();
        assert_eq!(store.count(&id, None).unwrap() as usize, passages.len());
    });
    say(&format!("opened and counted in {opened:.2?}"));
}

fn queries(store: &EmbeddedFeatureStore, id: &FeatureViewId, passages: &[String]) -> Vec<Duration> {
    let mut random = Random(5);
    let ask = |_| {
        let words: Vec<&str> = passages[random.below(5000)].split_whitespace().take(9).collect();
        let text = words.join(" ");
        let asked = HybridQuery { embedding: vector(random.next()), candidates: 50, limit: 8, ..query("ada", &text) };
        timed(|| assert_eq!(store.query(id, &asked).unwrap().len(), 8))
    };
    (0..300).map(ask).collect()
}

fn chunk(view: &FeatureViewId, n: usize, text: &str) -> EmbeddedChunk {
    let url = format!("https://example.org/{n}");
    let info = DocumentInfo {
        id: DocumentId::new(&author("ada"), &url),
        author: author("ada"),
        content_hash: Document::content_hash("", None, &[], text),
        url,
        title: String::new(),
        date: None,
        language: None,
        tags: vec![],
    };
    let chunk = Chunk {
        id: ChunkId::new(info.id, &info.content_hash, view, 0),
        document: info.id,
        ordinal: 0,
        chunk_count: 1,
        kind: ChunkKind::Prose,
        heading_path: vec![],
        text: text.to_owned(),
        search_text: text.to_lowercase(),
        not_voice: vec![],
    };
    EmbeddedChunk { chunk, document: Arc::new(info), embedding: vector(n as u64) }
}

fn vector(seed: u64) -> Embedding {
    let mut random = Random(seed);
    Embedding::new((0..DIMENSION).map(|_| (random.next() as f32 / u64::MAX as f32) - 0.5).collect()).unwrap()
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    format!("p50 {:.2?}, p95 {:.2?}, most {:.2?}", at(0.5), at(0.95), at(1.0))
}

fn bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { bytes(&path) } else { path.metadata().unwrap().len() }).sum()
}

fn say(text: &str) {
    writeln!(std::io::stdout().lock(), "{text}").unwrap();
}
