//! What attacks a crawler and its readers: each is refused or survived, with a reason, in bounded time.

use std::time::{Duration, Instant};

use twin_feature_pipeline::clean::{self, CleanOptions};
use twin_feature_pipeline::{Hints, Media, Page, Source, exercise};
use url::Url;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use crate::bench::{Bench, chain, words};
use crate::real_data::data;

fn page(media: Media, body: String) -> Page {
    let url = "https://a.example/post".to_owned();
    Page { key: url.clone(), url, media, body, hints: Hints::default() }
}

const MARKUP: [Media; 8] =
    [Media::Markdown, Media::Html, Media::Fragment, Media::Text, Media::Mdx, Media::Djot, Media::AsciiDoc, Media::Rst];

/// Nothing that runs may come out of a page that was HTML.
fn assert_inert(text: &str, from: &str) {
    let lower = text.to_lowercase();
    for tag in ["<script", "<iframe", "<svg", "<object", "<embed"] {
        let raw = pulldown_cmark::Parser::new(text).any(|event| match event {
            pulldown_cmark::Event::Html(html) | pulldown_cmark::Event::InlineHtml(html) => {
                html.to_lowercase().contains(tag)
            }
            _ => false,
        });
        assert!(!(lower.contains(tag) && raw), "{tag} from {from} is markup in {text}");
    }
}

#[test]
fn payloads_of_cross_site_scripting_stay_text() {
    let Some(folder) = data("hostile-html-xss") else { return };
    let payloads = fs_err::read_to_string(folder.join("payloads.txt")).unwrap();
    let mut survived = 0;
    for payload in payloads.lines() {
        let body = format!("<article><h1>Title</h1><p>{}</p>{payload}<p>{}</p></article>", words(1, 30), words(2, 30));
        for media in [Media::Html, Media::Fragment] {
            if let Ok(document) = clean::page(&page(media, body.clone()), &CleanOptions::default()) {
                assert_inert(&document.text, payload);
                survived += 1;
            }
        }
    }
    assert!(survived > 1000, "{survived}");
}

#[test]
fn strings_that_break_programs_break_nothing() {
    let Some(folder) = data("hostile-strings") else { return };
    let strings: Vec<String> = serde_json::from_slice(&fs_err::read(folder.join("blns.json")).unwrap()).unwrap();
    for text in &strings {
        for media in MARKUP {
            // Refused or cleaned; either way it ends.
            if let Ok(document) = clean::page(&page(media, text.clone()), &CleanOptions::default()) {
                assert!(document.text.len() <= text.len() * 8 + 64, "{media:?} {text:?}");
            }
        }
    }
    assert!(strings.len() > 500);
}

#[test]
fn the_tests_of_html5lib_are_survived() {
    let Some(folder) = data("hostile-html5lib") else { return };
    let mut inputs = 0;
    for file in fs_err::read_dir(folder.join("tokenizer")).unwrap() {
        let path = file.unwrap().path();
        let Ok(document) = serde_json::from_slice::<serde_json::Value>(&fs_err::read(&path).unwrap()) else { continue };
        let tests =
            document.get("tests").or(document.get("xmlViolationTests")).and_then(|tests| tests.as_array().cloned());
        for test in tests.unwrap_or_default() {
            let Some(input) = test["input"].as_str() else { continue };
            let _ = clean::page(&page(Media::Html, input.to_owned()), &CleanOptions::default());
            inputs += 1;
        }
    }
    for file in fs_err::read_dir(folder.join("encoding")).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let bytes = fs_err::read(path).unwrap();
            for charset in [None, Some("utf-7"), Some("shift_jis"), Some("utf-16le"), Some("no-such-charset")] {
                let _ = clean::decode_page(&bytes, charset);
            }
        }
    }
    assert!(inputs > 1000, "{inputs}");
}

/// A site that never ends: a calendar with a page for each month, products by every choice of filters, folders in folders.
struct Endless;

impl Respond for Endless {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let path = request.url.path().to_owned();
        if path.ends_with(".xml") || path.ends_with(".txt") || path.ends_with("/feed") {
            return ResponseTemplate::new(404);
        }
        let number: u64 =
            path.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte))) % 100_000;
        let links: String = (0..20)
            .map(|n| match n % 4 {
                0 => format!("<a href='/calendar/{}/{}/'>month</a>", 2031 + n, n),
                1 => format!("<a href='/shop?color={n}&size={number}'>filter</a>"),
                2 => format!("<a href='{}/x{n}'>deeper</a>", path.trim_end_matches('/')),
                _ => format!("<a href='/a/b/a/b/a/b/{n}'>round</a>"),
            })
            .collect();
        let text = words(number as usize + 1000, 60);
        let body = format!(
            "<html><head><title>P{number}</title></head><body><article><p>{text}.</p></article>{links}</body></html>"
        );
        ResponseTemplate::new(200).set_body_raw(body, "text/html")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_without_end_ends() {
    let server = MockServer::builder().disable_request_recording().start().await;
    Mock::given(wiremock::matchers::any()).respond_with(Endless).mount(&server).await;
    let mut bench = Bench::new().await;
    bench.options.fetch.allow_net = vec![server.address().to_string()];
    bench.options.max_pages = 150;
    let begun = Instant::now();
    let report = bench.ingest(&Source::Web(Url::parse(&server.uri()).unwrap())).await;
    assert!(report.found <= 200 && report.new <= 200, "{} found", report.found);
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
    let documents = bench.warehouse.documents(&bench.author.id).await.unwrap();
    let trapped = |url: &str| url.contains("/calendar/") || url.contains("color=") || url.contains("/a/b/a/b/a/b");
    assert!(!documents.iter().any(|document| trapped(&document.info.url)));
}

#[tokio::test]
async fn fifty_megabytes_of_nested_tags_cost_a_moment() {
    let bench = Bench::new().await;
    let deep = "<div><ul><li><b>".repeat(50 * 1024 * 1024 / 16);
    let server = MockServer::builder().disable_request_recording().start().await;
    let answer = ResponseTemplate::new(200).set_body_raw(deep.clone(), "text/html");
    Mock::given(wiremock::matchers::path("/deep")).respond_with(answer).mount(&server).await;
    bench.write("deep.html", &deep);
    // As much as a file may have.
    bench.write("less.html", &deep[..4 * 1024 * 1024 - 8]);
    bench.write("good.md", words(1, 50));
    let begun = Instant::now();
    let report = bench.ingest_posts().await;
    let reason = |name: &str| report.skipped.iter().find(|skip| skip.what == name).unwrap().reason.clone();
    assert_eq!(report.new, 1, "{report:?}");
    assert!(
        reason("deep.html").starts_with("too large") && reason("less.html").contains("deep"),
        "{:?}",
        report.skipped
    );
    let mut bench = Bench::new().await;
    bench.options.fetch.allow_net = vec![server.address().to_string()];
    let url = Url::parse(&format!("{}/deep", server.uri())).unwrap();
    let error = chain(&bench.try_ingest(&Source::Web(url)).await.unwrap_err());
    assert!(error.contains("more than 8388608 bytes"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_server_that_lies_about_its_charset_is_read_all_the_same() {
    let text = format!("Na\u{ef}vet\u{e9} \u{2014} it\u{2019}s so. {}", words(1, 40));
    let html = format!(
        "<!doctype html><html><head><meta charset=utf-8><title>Na\u{ef}ve</title></head><body><article><p>{text}</p></article></body></html>"
    );
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(html.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    for (media, bytes) in [
        ("text/html; charset=no-such", html.clone().into_bytes()),
        ("text/html", html.clone().into_bytes()),
        ("text/html; charset=iso-8859-1", utf16),
        ("text/html; charset=\"utf-8\"; charset=latin1", html.clone().into_bytes()),
    ] {
        let server = MockServer::builder().disable_request_recording().start().await;
        let answer = ResponseTemplate::new(200).set_body_raw(bytes, media);
        Mock::given(wiremock::matchers::path("/post")).respond_with(answer).mount(&server).await;
        let mut bench = Bench::new().await;
        bench.options.fetch.allow_net = vec![server.address().to_string()];
        let report = bench.ingest(&Source::Web(Url::parse(&format!("{}/post", server.uri())).unwrap())).await;
        assert_eq!((report.new, bench.titles()), (1, vec!["Na\u{ef}ve".to_owned()]), "{media}: {report:?}");
    }
    // Bytes that are no text in any character set are refused.
    let noise: Vec<u8> = (0..5000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    assert!(clean::decode_page(&noise, Some("utf-8")).is_err());
}

/// Every fuzz target over every hostile input that is at hand, without a fuzzer.
#[test]
fn what_is_fuzzed_holds_for_the_hostile_collections() {
    let (Some(strings), Some(payloads), Some(html5lib)) =
        (data("hostile-strings"), data("hostile-html-xss"), data("hostile-html5lib"))
    else {
        return;
    };
    let strings: Vec<String> = serde_json::from_slice(&fs_err::read(strings.join("blns.json")).unwrap()).unwrap();
    let payloads = fs_err::read_to_string(payloads.join("payloads.txt")).unwrap();
    let mut inputs: Vec<Vec<u8>> = strings.into_iter().map(String::into_bytes).collect();
    inputs.extend(payloads.lines().map(|line| line.as_bytes().to_owned()));
    for folder in ["tokenizer", "encoding"] {
        for file in fs_err::read_dir(html5lib.join(folder)).unwrap() {
            let path = file.unwrap().path();
            if path.is_file() {
                let bytes = fs_err::read(path).unwrap();
                inputs.extend(bytes.chunks(4096).map(<[u8]>::to_vec));
            }
        }
    }
    assert!(inputs.len() > 1000, "{}", inputs.len());
    for (at, input) in inputs.iter().enumerate() {
        // The first byte chooses among the kinds of input that some targets read.
        let chosen = [&[at as u8], input.as_slice()].concat();
        for (_, target) in exercise::TARGETS {
            target(&chosen);
        }
    }
}
