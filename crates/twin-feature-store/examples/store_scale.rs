//! How a feature store does with many chunks: loading, size, hybrid queries by author, recall against exact search, opening.
//!
//! ```text
//! cargo run --release --workspace --example store_scale -- --chunks 1000000 --authors 100 --out eval/results
//! cargo run --release --workspace --example store_scale -- --chunks 100000 --url http://localhost:6334
//! ```
//!
//! Chunks are made up, always the same ones for a seed. Texts have as many terms as passages of real blogs have (84, of a
//! vocabulary with Zipf's frequencies) and stop words between. Vectors have 384 dimensions of which some 64 matter, lie
//! around topics, and have noise: nearest neighbours are about as hard to find as among those of a text embedder. A few
//! authors have most chunks: the sizes follow Zipf's law, and authors are asked for as often as their share of all chunks.
//!
//! Beside the time on the clock stands the time on a processor (`cpu_`), which is what it would take if the machine had
//! nothing else to do; on Linux, and for the engine in this process, whose queries and writes run on the thread that asks.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use twin_domain::{
    AuthorId, Chunk, ChunkId, ChunkKind, Digest, Document, DocumentId, DocumentInfo, EmbeddedChunk, Embedding,
    FeatureStore, FeatureView, FeatureViewId, Filter, Fusion, HybridQuery, Searches,
};
use twin_feature_store::{EmbeddedFeatureStore, QdrantServer, Quantization, ServerOptions, StoreOptions};

const DIMENSION: usize = 384;
/// The dimensions that matter.
const LATENT: usize = 64;
const TOPICS: usize = 400;
const TERMS: usize = 84;
const VOCABULARY: usize = 40_000;
/// Chunks of a document.
const CHUNKS_PER_DOCUMENT: usize = 8;
const STOP_WORDS: [&str; 12] = ["the", "of", "and", "to", "a", "in", "that", "it", "is", "was", "for", "on"];

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let options = Options::parse(std::env::args().skip(1))?;
    let corpus = Corpus::new(&options);
    let mut report = json!({
        "benchmark": "feature store at scale",
        "engine": if options.url.is_some() { "Qdrant server" } else { "Qdrant Edge, in process" },
        "chunks": options.chunks, "authors": options.authors, "dimension": DIMENSION, "seed": options.seed,
        "largest_author_chunks": corpus.largest_author(), "batch": options.batch, "cpus": cpus(),
        "quantization": options.quantization,
    });
    let scratch = tempfile::tempdir_in(&options.directory)?;
    let directory = options.store.as_deref().unwrap_or(scratch.path());
    let (store, view) = (open(&options, directory)?, view());
    let id = store.create_view(&view)?;
    if store.count(&id, None)? != options.chunks as u64 {
        merge(&mut report, load_and_index(&*store, &id, &corpus, &options)?);
    }
    report["peak_memory_mib"] = json!(peak_memory_mib());
    drop(store);

    if options.url.is_none() {
        let bytes = directory_bytes(directory)?;
        report["bytes_per_chunk"] = json!(bytes / options.chunks as u64);
        report["cold_open"] = cold_open(&options, directory, &id, &corpus)?;
        say(&format!("{} bytes a chunk; opened: {}", report["bytes_per_chunk"], report["cold_open"]));
    }
    write_report(&options, &report)
}

/// Loads, asks, indexes and asks again.
fn load_and_index(
    store: &dyn FeatureStore,
    id: &FeatureViewId,
    corpus: &Corpus,
    options: &Options,
) -> Result<Value, Failure> {
    let mut recall = RecallQuestions::new(corpus, options.queries.min(300));
    let mut report = load(store, id, corpus, options, &mut recall)?;
    let exact = measure(store, id, corpus, options.queries.min(100))?;
    say(&format!("before indexing: {exact}"));
    report["hybrid_query_before_indexing"] = exact;
    let (begun, cpu_before) = (Instant::now(), process_cpu_seconds());
    store.optimize(id)?;
    report["index_seconds"] = seconds(begun);
    report["index_cpu_seconds"] = json!(process_cpu_seconds().zip(cpu_before).map(|(after, before)| after - before));
    say(&format!("indexed in {} s, {} on processors", report["index_seconds"], report["index_cpu_seconds"]));
    let indexed = measure(store, id, corpus, options.queries)?;
    say(&format!("indexed: {indexed}"));
    report["hybrid_query"] = indexed;
    report["recall_at_10"] = json!(recall.measure(store, id)?);
    say(&format!("recall@10 against exact search: {}", report["recall_at_10"]));
    Ok(report)
}

struct Options {
    chunks: usize,
    authors: usize,
    queries: usize,
    batch: usize,
    seed: u64,
    quantization: Quantization,
    directory: PathBuf,
    /// Where the store is kept; one that is there with all chunks is not loaded again.
    store: Option<PathBuf>,
    url: Option<String>,
    out: Option<PathBuf>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut options = Self {
            chunks: 100_000,
            authors: 100,
            queries: 2_000,
            batch: 1_024,
            seed: 7,
            quantization: Quantization::None,
            directory: std::env::temp_dir(),
            store: None,
            url: None,
            out: None,
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("`{name}` needs a value"))?;
            match name.as_str() {
                "--chunks" => options.chunks = value.parse()?,
                "--authors" => options.authors = value.parse()?,
                "--queries" => options.queries = value.parse()?,
                "--batch" => options.batch = value.parse()?,
                "--seed" => options.seed = value.parse()?,
                "--quantization" => options.quantization = serde_json::from_value(value.into())?,
                "--dir" => options.directory = value.into(),
                "--store" => options.store = Some(value.into()),
                "--url" => options.url = Some(value),
                "--out" => options.out = Some(value.into()),
                _ => return Err(format!("`{name}` is not an option").into()),
            }
        }
        Ok(options)
    }
}

fn open(options: &Options, directory: &Path) -> Result<Box<dyn FeatureStore>, Failure> {
    Ok(match &options.url {
        Some(url) => {
            let prefix = format!("bench-{}-", std::process::id());
            let quantization = options.quantization;
            let server = ServerOptions { prefix, quantization, ..ServerOptions::new(url.clone()) };
            Box::new(QdrantServer::open(server, directory)?)
        }
        None => {
            let quantization = options.quantization;
            Box::new(EmbeddedFeatureStore::open_with(
                directory,
                StoreOptions { quantization, ..StoreOptions::default() },
            )?)
        }
    })
}

fn view() -> FeatureView {
    FeatureView {
        cleaner: "none".to_owned(),
        chunker: "none".to_owned(),
        max_chunk_tokens: 220,
        embedder: "made-up".to_owned(),
        embedder_digest: Digest::of("made-up"),
        dimension: DIMENSION,
        sparse: "bm25 k1=1.2 b=0.75 forms=stem+word".to_owned(),
    }
}

/// Loads all chunks; each upsert is durable when it returns.
fn load(
    store: &dyn FeatureStore,
    id: &FeatureViewId,
    corpus: &Corpus,
    options: &Options,
    recall: &mut RecallQuestions,
) -> Result<Value, Failure> {
    let (mut spent, mut slowest, mut told) = (Duration::ZERO, Duration::ZERO, Instant::now());
    let mut on_cpu = Duration::ZERO;
    for start in (0..options.chunks).step_by(options.batch) {
        let batch: Vec<EmbeddedChunk> =
            (start..(start + options.batch).min(options.chunks)).map(|n| corpus.chunk(id, n)).collect();
        batch.iter().for_each(|chunk| recall.see(chunk));
        let (begun, cpu_before) = (Instant::now(), cpu_time());
        store.upsert(id, &batch)?;
        spent += begun.elapsed();
        on_cpu += cpu_time().saturating_sub(cpu_before);
        slowest = slowest.max(begun.elapsed());
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            say(&format!("  {} chunks in {:.0} s", start + batch.len(), spent.as_secs_f64()));
        }
    }
    let rate = options.chunks as f64 / spent.as_secs_f64();
    say(&format!("loaded {} chunks in {:.1} s: {rate:.0} a second", options.chunks, spent.as_secs_f64()));
    Ok(json!({
        "load_seconds": spent.as_secs_f64(),
        "load_chunks_per_second": rate,
        "load_chunks_per_cpu_second": options.chunks as f64 / on_cpu.as_secs_f64().max(1e-9),
        "slowest_batch_ms": slowest.as_secs_f64() * 1e3,
    }))
}

/// Hybrid queries with an author filter, one after another.
fn measure(store: &dyn FeatureStore, id: &FeatureViewId, corpus: &Corpus, queries: usize) -> Result<Value, Failure> {
    let (mut times, mut cpu_times) = (Vec::with_capacity(queries), Vec::with_capacity(queries));
    let mut answered = 0;
    for n in 0..queries {
        let query = corpus.query(n, Searches::Both, 40, 10);
        let (begun, cpu_before) = (Instant::now(), cpu_time());
        let found = store.query(id, &query)?;
        times.push(begun.elapsed());
        cpu_times.push(cpu_time().saturating_sub(cpu_before));
        answered += usize::from(found.iter().any(|found| found.chunk.id == corpus.chunk_id(id, corpus.asked(n))));
    }
    times.sort();
    cpu_times.sort();
    let at =
        |times: &[Duration], share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
    Ok(json!({
        "queries": queries,
        "p50_ms": at(&times, 0.5), "p99_ms": at(&times, 0.99), "most_ms": at(&times, 1.0),
        "cpu_p50_ms": at(&cpu_times, 0.5), "cpu_p99_ms": at(&cpu_times, 0.99), "cpu_most_ms": at(&cpu_times, 1.0),
        "finds_what_was_asked_for": answered as f64 / queries as f64,
    }))
}

/// Opening, the first query, reading ahead and the queries after it, with nothing of the files in memory where the system
/// allows to say so.
fn cold_open(options: &Options, directory: &Path, id: &FeatureViewId, corpus: &Corpus) -> Result<Value, Failure> {
    let dropped = std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok();
    let begun = Instant::now();
    let store = open(options, directory)?;
    store.switch(id)?;
    let opened = seconds(begun);
    let begun = Instant::now();
    store.query(id, &corpus.query(0, Searches::Both, 40, 10))?;
    let first = seconds(begun);
    let count = store.count(id, None)?;
    if count != options.chunks as u64 {
        return Err(format!("{count} chunks are there after opening").into());
    }
    let begun = Instant::now();
    store.prefetch(id)?;
    let ahead = seconds(begun);
    Ok(json!({
        "open_seconds": opened, "first_query_seconds": first, "page_cache_dropped": dropped,
        "read_ahead_seconds": ahead, "hybrid_query": measure(&*store, id, corpus, options.queries)?,
    }))
}

/// Questions whose exact answers are found while everything is loaded.
struct RecallQuestions {
    questions: Vec<(HybridQuery, Vec<(f32, ChunkId)>)>,
}

impl RecallQuestions {
    fn new(corpus: &Corpus, count: usize) -> Self {
        Self { questions: (0..count).map(|n| (corpus.query(n, Searches::Dense, 10, 10), Vec::new())).collect() }
    }

    fn see(&mut self, chunk: &EmbeddedChunk) {
        for (query, best) in self.questions.iter_mut().filter(|(query, _)| query.author == chunk.document.author) {
            let similarity: f32 =
                chunk.embedding.values().iter().zip(query.embedding.values()).map(|(a, b)| a * b).sum();
            if best.len() < 10 || similarity > best[9].0 {
                let at = best.partition_point(|(other, _)| *other >= similarity);
                best.insert(at, (similarity, chunk.chunk.id));
                best.truncate(10);
            }
        }
    }

    /// The mean share of the ten nearest that the store finds.
    fn measure(&self, store: &dyn FeatureStore, id: &FeatureViewId) -> Result<f64, Failure> {
        let mut sum = 0.0;
        for (query, best) in &self.questions {
            let found = store.query(id, query)?;
            let hits = found.iter().filter(|found| best.iter().any(|(_, id)| *id == found.chunk.id)).count();
            sum += hits as f64 / best.len().max(1) as f64;
        }
        Ok(sum / self.questions.len() as f64)
    }
}

/// Made-up chunks by number.
struct Corpus {
    seed: u64,
    chunks: usize,
    /// The first chunk of each author, and the end.
    starts: Vec<usize>,
    words: Vec<String>,
    /// Cumulated frequencies of the words.
    frequencies: Vec<f64>,
    topics: Vec<Vec<f32>>,
    /// From what matters to all dimensions.
    projection: Vec<[f32; LATENT]>,
}

impl Corpus {
    fn new(options: &Options) -> Self {
        let mut random = Random(options.seed);
        let syllables = ["ka", "lo", "mi", "ren", "tu", "vas", "po", "shi", "dor", "el", "fin", "gra", "hu", "jen"];
        let mut word =
            || (0..2 + random.below(3)).map(|_| syllables[random.below(syllables.len())]).collect::<String>();
        let words = (0..VOCABULARY).map(|n| format!("{}{}", word(), base_26(n))).collect();
        let frequencies = cumulated((1..=VOCABULARY).map(|rank| 1.0 / (rank as f64 + 2.7)));
        let shares = cumulated((1..=options.authors).map(|rank| 1.0 / rank as f64));
        let starts = std::iter::once(0.0).chain(shares).map(|share| (share * options.chunks as f64) as usize).collect();
        let topics = (0..TOPICS).map(|_| (0..LATENT).map(|_| random.normal()).collect()).collect();
        // The first dimensions vary most, as the principal components of real embeddings do.
        let spread = |k: usize| 1.0 / (1.0 + k as f32 / 16.0);
        let projection = (0..DIMENSION).map(|_| std::array::from_fn(|k| random.normal() * spread(k))).collect();
        Self { seed: options.seed, chunks: options.chunks, starts, words, frequencies, topics, projection }
    }

    fn largest_author(&self) -> usize {
        self.starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }

    /// The chunk that question `n` is about.
    fn asked(&self, n: usize) -> usize {
        Random(self.seed ^ 0x5eed_0000 ^ n as u64).below(self.chunks)
    }

    fn author(&self, chunk: usize) -> AuthorId {
        let author = self.starts.partition_point(|start| *start <= chunk) - 1;
        AuthorId::parse(&format!("author-{author}")).expect("the name has only letters, digits and a hyphen")
    }

    fn random(&self, chunk: usize, purpose: u64) -> Random {
        Random(self.seed.wrapping_mul(0x9e37) ^ (chunk as u64) << 3 ^ purpose)
    }

    fn terms(&self, chunk: usize) -> Vec<&str> {
        let mut random = self.random(chunk, 1);
        let word = |random: &mut Random| {
            let rank = self.frequencies.partition_point(|share| *share < random.share());
            self.words[rank.min(VOCABULARY - 1)].as_str()
        };
        (0..TERMS / 2 + random.below(TERMS)).map(|_| word(&mut random)).collect()
    }

    fn latent(&self, chunk: usize) -> Vec<f32> {
        let mut random = self.random(chunk, 2);
        let topic = &self.topics[random.below(TOPICS)];
        topic.iter().map(|of_topic| 0.8 * of_topic + random.normal()).collect()
    }

    fn vector(&self, latent: &[f32], random: &mut Random) -> Embedding {
        let value = |row: &[f32; LATENT]| {
            let known: f32 = row.iter().zip(latent).map(|(a, b)| a * b).sum();
            known + 0.6 * random.normal()
        };
        let mut values: Vec<f32> = self.projection.iter().map(value).collect();
        let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        values.iter_mut().for_each(|value| *value /= length);
        Embedding::new(values).expect("the values are finite and not all zero")
    }

    fn document(&self, chunk: usize) -> DocumentInfo {
        let (author, number) = (self.author(chunk), chunk / CHUNKS_PER_DOCUMENT);
        let url = format!("https://example.org/{author}/{number}");
        let date = jiff::civil::date(2000, 1, 1) + jiff::Span::new().days((number % 9_000) as i64);
        let tags = vec![format!("tag-{}", number % 50)];
        DocumentInfo {
            id: DocumentId::new(&author, &url),
            content_hash: Document::content_hash(&url, Some(date), &tags, ""),
            title: format!("Post {number}"),
            date: Some(date),
            language: Some("en".to_owned()),
            author,
            url,
            tags,
        }
    }

    fn chunk_id(&self, view: &FeatureViewId, chunk: usize) -> ChunkId {
        let document = self.document(chunk);
        ChunkId::new(document.id, &document.content_hash, view, (chunk % CHUNKS_PER_DOCUMENT) as u32)
    }

    fn chunk(&self, view: &FeatureViewId, number: usize) -> EmbeddedChunk {
        let document = self.document(number);
        let terms = self.terms(number);
        let text: Vec<&str> =
            terms.iter().enumerate().flat_map(|(n, term)| [*term, STOP_WORDS[n % STOP_WORDS.len()]]).collect();
        let (text, ordinal) = (text.join(" "), (number % CHUNKS_PER_DOCUMENT) as u32);
        let chunk = Chunk {
            id: ChunkId::new(document.id, &document.content_hash, view, ordinal),
            document: document.id,
            ordinal,
            chunk_count: CHUNKS_PER_DOCUMENT as u32,
            kind: ChunkKind::Prose,
            heading_path: vec![format!("Part {ordinal}")],
            search_text: format!("{} {text}", document.title),
            text,
            not_voice: vec![],
        };
        let embedding = self.vector(&self.latent(number), &mut self.random(number, 3));
        EmbeddedChunk { chunk, document: Arc::new(document), embedding }
    }

    /// A question about a chunk: some of its terms, and a vector near its own.
    fn query(&self, n: usize, searches: Searches, candidates: usize, limit: usize) -> HybridQuery {
        let chunk = self.asked(n);
        let mut random = self.random(chunk, 4 ^ (n as u64) << 20);
        let terms = self.terms(chunk);
        let text: Vec<&str> = (0..8).map(|_| terms[random.below(terms.len())]).collect();
        let latent: Vec<f32> = self.latent(chunk).into_iter().map(|value| value + 0.5 * random.normal()).collect();
        HybridQuery {
            author: self.author(chunk),
            text: text.join(" "),
            embedding: self.vector(&latent, &mut random),
            filter: Filter::default(),
            searches,
            fusion: Fusion::default(),
            candidates,
            limit,
        }
    }
}

/// SplitMix64 (Steele et al., 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About normal with mean 0 and variance 1: the sum of four uniform numbers.
    fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: u64 = (0..4).map(|part| bits >> (16 * part) & 0xffff).sum();
        (sum as f32 / 65_536.0 - 2.0) * 1.732
    }
}

fn cumulated(weights: impl Iterator<Item = f64>) -> Vec<f64> {
    let weights: Vec<f64> = weights.collect();
    let total: f64 = weights.iter().sum();
    weights
        .iter()
        .scan(0.0, |sum, weight| {
            *sum += weight / total;
            Some(*sum)
        })
        .collect()
}

fn base_26(mut number: usize) -> String {
    let mut text = String::new();
    loop {
        text.insert(0, char::from(b'a' + (number % 26) as u8));
        number /= 26;
        if number == 0 {
            return text;
        }
    }
}

fn write_report(options: &Options, report: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(report)?;
    say(&text);
    if let Some(out) = &options.out {
        let engine = if options.url.is_some() { "server" } else { "embedded" };
        let quantization = match options.quantization {
            Quantization::None => "",
            Quantization::Scalar => "-scalar",
            Quantization::Binary => "-binary",
        };
        std::fs::create_dir_all(out)?;
        std::fs::write(out.join(format!("store-{engine}-{}{quantization}.json", options.chunks)), text + "\n")?;
    }
    Ok(())
}

fn merge(report: &mut Value, more: Value) {
    if let (Some(report), Value::Object(more)) = (report.as_object_mut(), more) {
        report.extend(more);
    }
}

fn seconds(begun: Instant) -> Value {
    json!((begun.elapsed().as_secs_f64() * 1e3).round() / 1e3)
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

/// How long this thread was on a processor so far; zero where the system does not say.
fn cpu_time() -> Duration {
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = spent.and_then(|text| text.split_whitespace().next()?.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// How long all threads of this process were on processors so far.
fn process_cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in parentheses, may have anything in it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / 100.0)
}

/// The most memory that the process ever had, as Linux counts it; mapped files in memory are part of it.
fn peak_memory_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

fn directory_bytes(directory: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        // What is allocated counts, not what is reserved: the engine makes sparse files.
        bytes += if metadata.is_dir() { directory_bytes(&entry.path())? } else { allocated(&metadata) };
    }
    Ok(bytes)
}

#[cfg(unix)]
fn allocated(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(not(unix))]
fn allocated(metadata: &std::fs::Metadata) -> u64 {
    metadata.len()
}

fn say(text: &str) {
    // A reader that has gone away is no reason to stop.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
