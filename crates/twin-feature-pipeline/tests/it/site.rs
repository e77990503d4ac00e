#![expect(clippy::print_stderr, reason = "these tests say what they measured")]

use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use twin_domain::FeatureStore;
use twin_feature_pipeline::{Source, Warehouse, ingest};
use url::Url;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use crate::bench::{Bench, CountingStore, MapStore, words};

/// A site of many pages that counts how often each is asked for, answers 304 to those who have it, and knows no others.
#[derive(Clone, Default)]
struct Pages {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    bodies: HashMap<String, (Vec<u8>, &'static str)>,
    /// Requests by path, with those that were answered in full.
    requests: HashMap<String, usize>,
    full: usize,
    unchanged: usize,
}

impl Respond for Pages {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut state = self.state.lock().unwrap();
        let path = match request.url.query() {
            Some(query) => format!("{}?{query}", request.url.path()),
            None => request.url.path().to_owned(),
        };
        *state.requests.entry(path.clone()).or_default() += 1;
        let Some((body, media)) = state.bodies.get(&path).cloned() else { return ResponseTemplate::new(404) };
        let etag = format!("\"{}-{}\"", body.len(), body.iter().map(|byte| u64::from(*byte)).sum::<u64>());
        if request.headers.get("if-none-match").is_some_and(|known| known == etag.as_str()) {
            state.unchanged += 1;
            return ResponseTemplate::new(304);
        }
        state.full += 1;
        ResponseTemplate::new(200).insert_header("etag", etag.as_str()).set_body_raw(body, media)
    }
}

impl Pages {
    fn put(&self, path: &str, body: impl Into<Vec<u8>>, media: &'static str) {
        self.state.lock().unwrap().bodies.insert(path.to_owned(), (body.into(), media));
    }

    fn remove(&self, path: &str) {
        self.state.lock().unwrap().bodies.remove(path);
    }

    fn post(&self, path: &str, seed: usize, links: &str) {
        self.put(path, post(seed, links), "text/html");
    }

    /// The most requests for any post.
    fn most_requests(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        let posts = state.requests.iter().filter(|(path, _)| path.starts_with("/posts/"));
        let counts: Vec<usize> = posts.map(|(_, count)| *count).collect();
        (counts.iter().max().copied().unwrap_or(0), counts.len())
    }

    fn reset(&self) -> (usize, usize) {
        let mut state = self.state.lock().unwrap();
        state.requests.clear();
        (std::mem::take(&mut state.full), std::mem::take(&mut state.unchanged))
    }

    async fn serve(&self) -> MockServer {
        let server = MockServer::builder().disable_request_recording().start().await;
        Mock::given(wiremock::matchers::any()).respond_with(self.clone()).mount(&server).await;
        server
    }
}

fn post(seed: usize, links: &str) -> String {
    format!(
        "<!doctype html><html lang=en><head><title>Post {seed}</title><meta property='og:type' content='article'></head><body><nav><a href=/>Home</a></nav><article><h1>Post {seed}</h1><p>It's {}.</p><p>And {}.</p></article><nav>{links}</nav></body></html>",
        words(seed * 2, 60),
        words(seed * 2 + 1, 60)
    )
}

fn gzipped(text: &str) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap()
}

/// A site with a front page, a robots.txt, an index of two packed sitemaps, and posts, two of which robots may not read.
fn with_sitemap(base: &str, count: usize) -> Pages {
    let pages = Pages::default();
    pages.put("/", "<html><head><title>Home</title></head><body><h1>Ada</h1></body></html>", "text/html");
    pages.put(
        "/robots.txt",
        format!("User-agent: *\nDisallow: /posts/private\nSitemap: {base}/maps/index.xml\n"),
        "text/plain",
    );
    let index = "<sitemapindex><sitemap><loc>BASE/maps/a.xml.gz</loc></sitemap><sitemap><loc>BASE/maps/b.xml.gz</loc></sitemap></sitemapindex>";
    pages.put("/maps/index.xml", index.replace("BASE", base), "application/xml");
    let mut addresses: Vec<String> = (0..count).map(|n| format!("/posts/{n}")).collect();
    addresses.iter().enumerate().for_each(|(n, path)| pages.post(path, n, ""));
    addresses.extend([
        "/posts/private-1".to_owned(),
        "/posts/private-2".to_owned(),
        "/tag/x".to_owned(),
        "/".to_owned(),
    ]);
    pages.post("/posts/private-1", 1_000_001, "");
    for (name, half) in ["/maps/a.xml.gz", "/maps/b.xml.gz"].iter().zip(addresses.chunks(addresses.len().div_ceil(2))) {
        let urls: String = half.iter().map(|path| format!("<url><loc>{base}{path}</loc></url>")).collect();
        pages.put(name, gzipped(&format!("<urlset>{urls}</urlset>")), "application/gzip");
    }
    pages
}

/// A server whose pages name its own address.
async fn served(make: impl FnOnce(&str) -> Pages) -> (MockServer, Pages) {
    let server = MockServer::builder().disable_request_recording().start().await;
    let pages = make(&server.uri());
    Mock::given(wiremock::matchers::any()).respond_with(pages.clone()).mount(&server).await;
    (server, pages)
}

async fn bench_for(server: &MockServer) -> (Bench, Source) {
    let mut bench = Bench::new().await;
    bench.options.fetch.allow_net = vec![server.address().to_string()];
    let source = Source::Web(Url::parse(&server.uri()).unwrap());
    (bench, source)
}

#[tokio::test]
async fn a_site_is_read_by_its_sitemaps_once_and_asked_politely_again() {
    let (server, pages) = served(|base| with_sitemap(base, 60)).await;
    let (bench, source) = bench_for(&server).await;
    let first = bench.ingest(&source).await;
    assert_eq!((first.found, first.new, first.skipped.len()), (62, 60, 2), "{first:?}");
    assert!(first.skipped.iter().all(|skip| skip.reason.contains("robots.txt forbids")), "{:?}", first.skipped);
    assert_eq!(pages.most_requests(), (1, 60));
    pages.reset();
    bench.embedder.take();
    let second = bench.ingest(&source).await;
    assert_eq!((second.new, second.changed, second.unchanged, second.chunks_written), (0, 0, 60, 0), "{second:?}");
    let (full, unchanged) = pages.reset();
    // robots.txt is asked for anew in every run.
    assert!(full <= 1 && unchanged >= 60, "{full} in full, {unchanged} unchanged");
}

#[tokio::test]
async fn a_site_without_sitemap_is_followed_from_page_to_page() {
    let pages = Pages::default();
    let list = |from: usize, next: &str| {
        let links: String =
            (from..from + 5).map(|n| format!("<article><a href=/posts/{n}>Post {n}</a></article>")).collect();
        format!(
            "<html><body>{links}<a href='{next}'>older</a><a href=/calendar/2031/01>calendar</a><a href='/?sort=x&dir=y'>sorted</a></body></html>"
        )
    };
    pages.put("/", list(0, "/page/2"), "text/html");
    pages.put("/page/2", list(5, "/page/3"), "text/html");
    pages.put("/page/3", list(10, "https://elsewhere.example/"), "text/html");
    (0..15).for_each(|n| pages.post(&format!("/posts/{n}"), n, "<a href=/about>About</a>"));
    pages.post("/about", 99, "");
    let server = pages.serve().await;
    let (bench, source) = bench_for(&server).await;
    let report = bench.ingest(&source).await;
    assert_eq!((report.new, report.skipped.len()), (16, 0), "{report:?}");
    assert_eq!(pages.most_requests(), (1, 15));
    assert!(
        !pages.state.lock().unwrap().requests.keys().any(|path| path.contains("calendar") || path.contains("sort"))
    );
}

#[tokio::test]
async fn a_paged_feed_is_read_to_its_end() {
    let pages = Pages::default();
    let feed = |n: usize, next: &str| {
        format!(
            "<feed xmlns='http://www.w3.org/2005/Atom'><id>f</id><title>t</title><updated>2022-09-07T14:00:00Z</updated>{next}<entry><id>e{n}</id><title>Post {n}</title><updated>2022-09-07T14:00:00Z</updated><link href='/posts/{n}'/></entry></feed>"
        )
    };
    pages.put("/feed.xml", feed(1, "<link rel='next' href='/feed-2.xml'/>"), "application/atom+xml");
    pages.put("/feed-2.xml", feed(2, "<link rel='prev-archive' href='/feed-3.xml'/>"), "application/atom+xml");
    pages.put("/feed-3.xml", feed(3, "<link rel='next' href='/feed.xml'/>"), "application/atom+xml");
    (1..=3).for_each(|n| pages.post(&format!("/posts/{n}"), n, ""));
    let server = pages.serve().await;
    let (bench, _) = bench_for(&server).await;
    let report = bench.ingest(&Source::Feed(Url::parse(&format!("{}/feed.xml", server.uri())).unwrap())).await;
    assert_eq!((report.found, report.new), (3, 3), "{report:?}");
}

#[tokio::test]
async fn what_is_deleted_leaves_the_index_and_may_come_back() {
    let (server, pages) = served(|base| with_sitemap(base, 8)).await;
    let (mut bench, source) = bench_for(&server).await;
    bench.ingest(&source).await;
    let view = bench.store.serving_view().unwrap().unwrap();
    let chunks = bench.store.count(&view, Some(&bench.author.id)).unwrap();
    pages.remove("/posts/3");
    pages.post("/posts/4", 44, "");
    bench.options.remove_gone = true;
    let report = bench.ingest(&source).await;
    // Its address is still in the sitemap, and the page as it was had is no proof that it is there.
    assert_eq!((report.changed, report.removed.len(), report.unchanged), (1, 1, 6), "{report:?}");
    assert!(report.removed[0].ends_with("/posts/3"));
    assert!(bench.store.count(&view, Some(&bench.author.id)).unwrap() < chunks);
    assert_eq!(bench.titles().len(), 7);
    pages.post("/posts/3", 3, "");
    let report = bench.ingest(&source).await;
    assert_eq!((report.new, report.unchanged), (1, 7), "{report:?}");
    assert_eq!(bench.titles().len(), 8);
}

#[tokio::test]
async fn sync_reads_every_source_that_is_not_paused() {
    let (server, pages) = served(|base| with_sitemap(base, 4)).await;
    let (bench, source) = bench_for(&server).await;
    bench.ingest(&source).await;
    bench.write("a.md", format!("# A\n\n{}\n", words(500, 40)));
    bench.write("b.md", format!("# B\n\n{}\n", words(501, 40)));
    bench.ingest_posts().await;
    let sync = async || {
        let (store, embedder) = (bench.store.clone(), bench.embedder.clone());
        let silent = twin_domain::progress::Silent;
        let cancel = twin_domain::CancelFlag::new();
        twin_feature_pipeline::sync(&bench.warehouse, store, embedder, &bench.author, &bench.options, &silent, &cancel)
            .await
            .unwrap()
    };
    assert_eq!(sync().await.len(), 2);
    fs_err::remove_file(bench.posts().join("a.md")).unwrap();
    pages.post("/posts/new", 600, "");
    let sources = bench.warehouse.sources(None).await.unwrap();
    assert_eq!(sources.iter().map(|source| source.documents).collect::<Vec<_>>(), [4, 2]);
    assert!(sources.iter().all(|source| source.complete && !source.paused));
    let outcomes = sync().await;
    let folder = outcomes[1].outcome.as_ref().unwrap();
    assert_eq!((folder.removed.len(), folder.unchanged), (1, 1), "{folder:?}");

    assert!(bench.warehouse.pause_source(sources[0].id, true).await.unwrap());
    assert!(!bench.warehouse.pause_source(99, true).await.unwrap());
    pages.reset();
    assert_eq!(sync().await.len(), 1);
    assert_eq!(pages.reset(), (0, 0));

    let store = bench.store.clone();
    let removed = twin_feature_pipeline::remove_source(&bench.warehouse, store, &bench.author.id, sources[0].id).await;
    assert_eq!(removed.unwrap(), 4);
    assert_eq!(bench.titles(), ["B"]);
    assert_eq!(bench.warehouse.sources(None).await.unwrap().len(), 1);
}

/// Where the child finds its folder and its site; set by the parent only.
const FOLDER: &str = "TWIN_SITE_TEST_FOLDER";
const SITE: &str = "TWIN_SITE_TEST_SITE";

async fn durable_bench(folder: &std::path::Path, address: &str) -> Bench {
    let mut bench = Bench::new().await;
    bench.warehouse = Warehouse::open(&folder.join("warehouse.sqlite")).await.unwrap();
    bench.store = Arc::new(MapStore::in_file(&folder.join("store.json")));
    bench.options.fetch.allow_net = vec![address.to_owned()];
    bench
}

/// Not a test by itself: the process that is killed.
#[tokio::test]
async fn site_child() {
    let (Ok(folder), Ok(site)) = (std::env::var(FOLDER), std::env::var(SITE)) else { return };
    let url = Url::parse(&site).unwrap();
    let address = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    durable_bench(std::path::Path::new(&folder), &address).await.ingest(&Source::Web(url)).await;
}

/// A run over a site of so many pages is killed when a third or so of them were asked for, and goes on: all is as after one
/// clean run, and nothing was asked for twice but what was on its way.
async fn killed_and_gone_on_with(count: usize) {
    let (server, pages) = served(|base| with_sitemap(base, count)).await;
    let (bench, source) = bench_for(&server).await;
    bench.ingest(&source).await;
    let expected = bench.digest().await;
    pages.reset();
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "site::site_child", "--nocapture"])
        .env(FOLDER, folder.path())
        .env(SITE, server.uri())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while pages.most_requests().1 < count * 2 / 5 && begun.elapsed() < Duration::from_secs(120) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = pages.most_requests().1;
    assert!((count * 2 / 5..count).contains(&before), "killed in the middle: {before}");
    let address = server.address().to_string();
    let mut bench = durable_bench(folder.path(), &address).await;
    // It was killed before anything was embedded, so there is no store to go on with, and a new one need not be durable.
    assert!(!folder.path().join("store.json").exists());
    bench.store = Arc::new(MapStore::default());
    bench.ingest(&source).await;
    assert_eq!(bench.digest().await, expected);
    let (most, asked) = pages.most_requests();
    let state = pages.state.lock().unwrap();
    let again = state.requests.iter().filter(|(path, count)| path.starts_with("/posts/") && **count > 1).count();
    eprintln!("killed after {before} of {count} pages; {again} were asked for again");
    // Those that were on their way when the process was killed had not been stored.
    assert!(asked == count && most <= 2 && again <= 8, "{again} of {asked} asked again, {most} times at most");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_crawl_goes_on_without_asking_again() {
    killed_and_gone_on_with(150).await;
}

/// `TWIN_SLOW_TESTS=1`: the same with a site of 2,000 pages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_crawl_of_two_thousand_pages_goes_on() {
    if std::env::var_os("TWIN_SLOW_TESTS").is_none() {
        eprintln!("TWIN_SLOW_TESTS is not set: nothing was killed");
        return;
    }
    killed_and_gone_on_with(2_000).await;
}

/// `TWIN_SLOW_TESTS=1`: how long a site of 2,000 pages takes, and how long when nothing changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_of_two_thousand_pages() {
    if std::env::var_os("TWIN_SLOW_TESTS").is_none() {
        eprintln!("TWIN_SLOW_TESTS is not set: nothing was measured");
        return;
    }
    let (server, pages) = served(|base| with_sitemap(base, 2000)).await;
    let (bench, source) = bench_for(&server).await;
    let begun = Instant::now();
    let first = bench.ingest(&source).await;
    let took = begun.elapsed();
    assert_eq!((first.new, pages.most_requests()), (2000, (1, 2000)));
    pages.reset();
    let begun = Instant::now();
    let second = bench.ingest(&source).await;
    eprintln!("first {took:?}: {:?}\nsecond {:?}: {:?}", first.seconds, begun.elapsed(), second.seconds);
    let (full, unchanged) = pages.reset();
    eprintln!("second run: {full} in full, {unchanged} unchanged");
    assert!(full <= 1 && second.unchanged == 2000);
}

/// Not a test by itself: the process whose memory is measured.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn measured_child() {
    let (Ok(folder), Ok(site)) = (std::env::var(MEASURED), std::env::var(SITE)) else { return };
    let url = Url::parse(&site).unwrap();
    let address = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let mut bench = durable_bench(std::path::Path::new(&folder), &address).await;
    // The pages that robots may not read count as well.
    bench.options.max_pages = 30_000;
    let (silent, cancel) = (twin_domain::progress::Silent, twin_domain::CancelFlag::new());
    let (store, embedder) = (Arc::new(CountingStore::default()), bench.embedder.clone());
    let (warehouse, author, options) = (&bench.warehouse, &bench.author, &bench.options);
    let report =
        ingest(warehouse, store, embedder, author, &Source::Web(url), options, &silent, &cancel).await.unwrap();
    let status = fs_err::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    eprintln!(
        "{}",
        serde_json::json!({ "new": report.new, "peak_kb": peak.parse::<u64>().unwrap(), "seconds": report.seconds })
    );
}

/// Where the measured child finds its folder; set by the parent only.
const MEASURED: &str = "TWIN_SITE_TEST_MEASURED";

/// The most memory that a run over a site of so many pages has at a time, in megabytes.
async fn peak(pages: usize) -> f64 {
    let (server, _) = served(|base| with_sitemap(base, pages)).await;
    let folder = tempfile::tempdir().unwrap();
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "site::measured_child", "--nocapture"]).env(MEASURED, folder.path()).env(SITE, server.uri());
    let output = child.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = said.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{said}"));
    eprintln!("{pages} pages: {line}");
    let measured: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(measured["new"], pages);
    measured["peak_kb"].as_f64().unwrap() / 1024.0
}

/// `TWIN_SLOW_TESTS=1`: ten times the pages, and hardly more memory.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_grow_with_a_site() {
    if std::env::var_os("TWIN_SLOW_TESTS").is_none() {
        eprintln!("TWIN_SLOW_TESTS is not set: nothing was measured");
        return;
    }
    let (few, many) = (peak(2_000).await, peak(20_000).await);
    assert!(many < few + 30.0, "{few:.0} MB for 2,000 pages, {many:.0} MB for 20,000");
}
