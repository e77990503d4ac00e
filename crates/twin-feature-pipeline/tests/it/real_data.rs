//! Runs over the posts, feeds and pages beside the repository; passed over where they are absent.
#![expect(clippy::print_stderr, reason = "these tests say what they measured, and why they measured nothing")]

use std::path::PathBuf;
use std::time::Instant;

use twin_domain::progress::Silent;
use twin_domain::{AuthorId, CancelFlag, FeatureStore};
use twin_feature_pipeline::clean::{self, CleanOptions};
use twin_feature_pipeline::{Hints, Media, Page, Source, ingest};
use twin_models::{Models, ModelsConfig};
use url::Url;
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::bench::Bench;

/// A folder of the real data, if it is there.
pub(crate) fn data(name: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/dev").join(name);
    let there = folder.is_dir();
    if !there {
        eprintln!("{name} is not there: nothing was tested");
    }
    there.then_some(folder)
}

fn files(folder: &std::path::Path, ending: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|found| found == ending));
    files.sort();
    files
}

#[tokio::test]
async fn blogs_and_essays_are_ingested_and_unchanged_the_second_time() {
    for (set, least) in [("blogs-tech", 600), ("essays-pd", 150)] {
        let Some(folder) = data(set) else { return };
        let mut bench = Bench::new().await;
        bench.options.min_words = 40;
        let mut documents = 0;
        for file in files(&folder, "jsonl") {
            let name = file.file_stem().unwrap().to_string_lossy().into_owned();
            bench.author = twin_domain::Author::new(AuthorId::from_name(&name).unwrap());
            let source = Source::Rows(file);
            let first = bench.ingest(&source).await;
            eprintln!("{name}: {}", serde_json::to_string(&first).unwrap());
            assert_eq!(first.found, first.new + first.skipped.len() + first.duplicates.len());
            assert!(first.chunk_tokens.max <= 220, "prose without code fits: {:?}", first.chunk_tokens);
            documents += first.new;
            bench.embedder.take();
            let begun = Instant::now();
            let second = bench.ingest(&source).await;
            eprintln!("{name}, again: {:.2} s", begun.elapsed().as_secs_f64());
            assert_eq!((second.new, second.changed, second.unchanged), (0, 0, first.new), "{second:?}");
            assert_eq!((bench.embedder.take(), second.chunks_written), (0, 0));
        }
        assert!(documents >= least, "{documents} documents in {set}");
    }
}

#[tokio::test]
async fn untouched_posts_of_four_site_generators_are_ingested() {
    let Some(folder) = data("posts-raw-markdown") else { return };
    let mut bench = Bench::new().await;
    bench.options.min_words = 40;
    let report = bench.ingest(&Source::Folder(folder)).await;
    eprintln!("{}", serde_json::to_string(&report).unwrap());
    assert!(report.new >= 26, "{report:?}");
    let documents = bench.warehouse.documents(&bench.author.id).await.unwrap();
    let posts = documents.iter().filter(|document| !document.info.url.ends_with("README.md"));
    for document in posts {
        let info = &document.info;
        assert!(!info.title.is_empty() && info.date.is_some(), "{} is titled and dated", info.url);
        assert_eq!(info.language.as_deref(), Some("en"), "{}", info.url);
        assert!(!document.text.starts_with("---") && !document.text.starts_with("+++"), "{}", info.url);
    }
    let view = bench.store.serving_view().unwrap().unwrap();
    assert_eq!(bench.store.documents(&view, &bench.author.id).unwrap().len(), documents.len());
}

#[tokio::test]
async fn real_feeds_are_reported_sanely() {
    let Some(folder) = data("feeds-rss-parser/input") else { return };
    let server = MockServer::start().await;
    let mut feeds = Vec::new();
    for file in files(&folder, "rss").into_iter().chain(files(&folder, "atom")).chain(files(&folder, "xml")) {
        let name = format!("/{}", file.file_name().unwrap().to_string_lossy());
        let response = ResponseTemplate::new(200).set_body_raw(fs_err::read(&file).unwrap(), "application/xml");
        Mock::given(path(name.clone())).respond_with(response).mount(&server).await;
        feeds.push(name);
    }
    let (mut read, mut refused) = (0, 0);
    for name in feeds {
        let mut bench = Bench::new().await;
        bench.options.fetch.allow_net = vec![server.address().to_string()];
        // The pages are on servers that must not be asked by a test.
        bench.options.fetch.obey_robots = false;
        bench.options.fetch.connect_timeout = std::time::Duration::from_millis(1);
        bench.options.fetch.timeout = std::time::Duration::from_millis(300);
        bench.options.max_pages = 5;
        let url = Url::parse(&format!("{}{name}", server.uri())).unwrap();
        match bench.try_ingest(&Source::Feed(url)).await {
            Ok(report) => {
                read += 1;
                eprintln!("{name}: found {}, new {}, skipped {}", report.found, report.new, report.skipped.len());
                assert_eq!(
                    report.found,
                    report.new + report.skipped.len() + report.duplicates.len(),
                    "{name}: {report:?}"
                );
            }
            Err(error) => {
                refused += 1;
                eprintln!("{name}: {}", crate::bench::chain(&error));
            }
        }
    }
    assert!(read >= 18 && refused <= 5, "{read} read, {refused} refused");
}

/// `TWIN_SLOW_TESTS=1`, and the model in the cache: the real tokenizer and the real vectors.
#[tokio::test]
async fn a_blog_goes_through_the_real_embedder() {
    let Some(folder) = data("blogs-tech") else { return };
    let cache = std::env::home_dir().unwrap_or_default().join(".cache/twin/models");
    if std::env::var_os("TWIN_SLOW_TESTS").is_none() || !cache.is_dir() {
        eprintln!("TWIN_SLOW_TESTS is not set, or there are no models: nothing was tested");
        return;
    }
    let config = ModelsConfig { offline: true, ..ModelsConfig::new(cache) };
    let load = move || Models::new(config).embedder("all-minilm-l6-v2", &Silent, &CancelFlag::new()).unwrap();
    let embedder = tokio::task::spawn_blocking(load).await.unwrap();
    let bench = Bench::new().await;
    for source in [Source::Rows(folder.join("matklad.jsonl")), Source::Folder(folder.join("../posts-raw-markdown"))] {
        let run = async || {
            let (store, embedder) = (bench.store.clone(), embedder.clone());
            let (warehouse, author, options) = (&bench.warehouse, &bench.author, &bench.options);
            ingest(warehouse, store, embedder, author, &source, options, &Silent, &CancelFlag::new()).await
        };
        let first = run().await.unwrap();
        eprintln!("{}", serde_json::to_string(&first).unwrap());
        assert!(first.chunk_tokens.median > 100 && first.chunk_tokens.p95 <= 220, "{:?}", first.chunk_tokens);
        let second = run().await.unwrap();
        eprintln!("again: {:.2} s", second.seconds.total);
        assert_eq!((second.unchanged, second.chunks_written), (first.new, 0));
    }
}

/// The strings that must and must not be in the main text, by the people of trafilatura.
#[test]
fn main_text_is_found_as_well_as_by_the_best() {
    let Some(folder) = data("extraction-trafilatura") else { return };
    let gold: serde_json::Value = serde_json::from_slice(&fs_err::read(folder.join("gold.json")).unwrap()).unwrap();
    let strings = |value: &serde_json::Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (mut hits, mut misses, mut intruders, mut failed) = (0.0_f64, 0.0, 0.0, 0);
    let begun = Instant::now();
    let pages = gold.as_array().unwrap();
    for case in pages {
        let file = folder.join(case["file"].as_str().unwrap());
        let body = decompressed(&file);
        let url = case["url"].as_str().unwrap().to_owned();
        let page = Page { key: url.clone(), url, media: Media::Html, body, hints: Hints::default() };
        let text = clean::page(&page, &CleanOptions::default()).map(|document| document.text).unwrap_or_else(|_| {
            failed += 1;
            String::new()
        });
        let text = plain(&crate::style::visible(&text).join(" "));
        for wanted in strings(&case["with"]) {
            if text.contains(&plain(&wanted)) { hits += 1.0 } else { misses += 1.0 }
        }
        intruders += strings(&case["without"]).iter().filter(|unwanted| text.contains(&plain(unwanted))).count() as f64;
    }
    let (precision, recall) = (hits / (hits + intruders), hits / (hits + misses));
    let f1 = 2.0 * precision * recall / (precision + recall);
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!(
        "{} pages in {seconds:.1} s: precision {precision:.3}, recall {recall:.3}, F1 {f1:.3}; {failed} without text",
        pages.len()
    );
    assert!(f1 > 0.87, "{f1}");
}

fn decompressed(file: &std::path::Path) -> String {
    let output = std::process::Command::new("gzip").args(["-dc"]).arg(file).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
