use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use twin_feature_pipeline::Source;
use url::Url;
use wiremock::matchers::{header, header_exists, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::bench::{Bench, chain, words};

struct Site {
    bench: Bench,
    server: MockServer,
}

impl Site {
    async fn new() -> Self {
        let (mut bench, server) = (Bench::new().await, MockServer::start().await);
        bench.options.fetch.allow_net = vec![server.address().to_string()];
        Self { bench, server }
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("{}{path}", self.server.uri())).unwrap()
    }

    async fn answer(&self, at: &str, response: ResponseTemplate) {
        Mock::given(method("GET")).and(path(at)).respond_with(response).mount(&self.server).await;
    }

    async fn page(&self, at: &str, html: &str) {
        self.answer(at, ResponseTemplate::new(200).set_body_raw(html.as_bytes().to_vec(), "text/html; charset=utf-8"))
            .await;
    }

    async fn feed(&self, items: &str) {
        let feed = format!(
            "<?xml version=\"1.0\"?><rss version=\"2.0\" xmlns:content=\"http://purl.org/rss/1.0/modules/content/\"><channel><title>Ada's blog</title>{items}</channel></rss>"
        );
        self.answer("/feed.xml", ResponseTemplate::new(200).set_body_raw(feed.into_bytes(), "application/rss+xml"))
            .await;
    }

    /// The error of ingesting a feed at `/feed.xml`.
    async fn feed_error(&self) -> String {
        chain(&self.bench.try_ingest(&Source::Feed(self.url("/feed.xml"))).await.unwrap_err())
    }
}

fn item(title: &str, link: &str, more: &str) -> String {
    format!(
        "<item><title>{title}</title><link>{link}</link><pubDate>Wed, 07 Sep 2022 14:00:00 GMT</pubDate>{more}</item>"
    )
}

fn article(title: &str, seed: usize) -> String {
    let paragraphs: String =
        (0..6).map(|n| format!("<p>It's paragraph {n}, isn't it? {}.</p>\n", words(seed * 10 + n, 40))).collect();
    format!(
        "<!doctype html><html lang=en><head><title>{title}</title></head><body><nav><a href=/>Home</a></nav><article><h1>{title}</h1>{paragraphs}</article><footer>All rights reserved</footer></body></html>"
    )
}

#[tokio::test]
async fn a_feed_becomes_features_and_falls_back_on_its_own_text() {
    let site = Site::new().await;
    let full = format!("<content:encoded><![CDATA[<p>{}</p>]]></content:encoded>", words(7, 60));
    let items = [
        item("One", "/one", "<category>x</category>"),
        item("Two &amp; a half", "/two?utm_source=feed", ""),
        item("Gone", "/gone", &full),
        item("Lost", "/lost", "<description>Only a summary.</description>"),
    ];
    site.feed(&items.concat()).await;
    site.page("/one", &article("One - Ada's blog", 1)).await;
    site.page("/two", &article("Two", 2)).await;
    let report = site.bench.ingest(&Source::Feed(site.url("/feed.xml"))).await;
    assert_eq!((report.found, report.new, report.skipped.len()), (4, 3, 1), "{report:?}");
    assert_eq!(report.skipped[0].what, site.url("/lost").to_string());
    assert_eq!(
        report.skipped[0].reason,
        "the server answered 404 Not Found; the feed has no full text of the post either"
    );
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("/gone: taken from the feed's own text, as the server answered 404"))
    );
    let documents = site.bench.warehouse.documents(&site.bench.author.id).await.unwrap();
    let one = documents.iter().find(|document| document.info.title == "One").unwrap();
    assert_eq!(one.info.date.unwrap().to_string(), "2022-09-07");
    assert_eq!((one.info.tags.as_slice(), one.info.language.as_deref()), (["x".to_owned()].as_slice(), Some("en")));
    assert!(one.text.starts_with("It's paragraph 0, isn't it?") && !one.text.contains("rights"), "{}", one.text);
    let two = documents.iter().find(|document| document.info.title == "Two & a half").unwrap();
    assert_eq!(two.info.url, site.url("/two").to_string());
}

#[tokio::test]
async fn a_second_run_asks_conditionally_and_embeds_nothing() {
    let site = Site::new().await;
    Mock::given(path("/one"))
        .and(header("if-none-match", "\"v1\""))
        .and(header_exists("if-modified-since"))
        .respond_with(ResponseTemplate::new(304))
        .expect(1)
        .with_priority(1)
        .mount(&site.server)
        .await;
    let page = ResponseTemplate::new(200)
        .insert_header("etag", "\"v1\"")
        .insert_header("last-modified", "Wed, 07 Sep 2022 14:00:00 GMT")
        .set_body_raw(article("One", 1).into_bytes(), "text/html");
    Mock::given(path("/one")).respond_with(page).expect(1).mount(&site.server).await;
    site.feed(&item("One", "/one", "")).await;
    let source = Source::Feed(site.url("/feed.xml"));
    let first = site.bench.ingest(&source).await;
    let digest = site.bench.digest().await;
    site.bench.embedder.take();
    let second = site.bench.ingest(&source).await;
    assert_eq!((first.new, second.new, second.unchanged, second.chunks_written), (1, 0, 1, 0));
    assert_eq!(site.bench.embedder.take(), 0);
    assert_eq!(site.bench.digest().await, digest);
}

#[tokio::test]
async fn a_page_fetched_before_is_kept_when_it_cannot_be_had_now() {
    let site = Site::new().await;
    site.feed(&item("One", "/one", "")).await;
    let ok = ResponseTemplate::new(200).set_body_raw(article("One", 1).into_bytes(), "text/html");
    Mock::given(path("/one")).respond_with(ok).up_to_n_times(1).mount(&site.server).await;
    let source = Source::Feed(site.url("/feed.xml"));
    site.bench.ingest(&source).await;
    let second = site.bench.ingest(&source).await;
    assert_eq!((second.unchanged, second.skipped.len()), (1, 0), "{second:?}");
    assert!(second.notes.iter().any(|note| note.contains("404") && note.contains("kept")), "{:?}", second.notes);
}

#[tokio::test]
async fn a_page_that_announces_a_feed_leads_to_it() {
    let site = Site::new().await;
    site.page(
        "/",
        "<html><head><link rel=alternate type=application/rss+xml href=/feed.xml></head><body>Home</body></html>",
    )
    .await;
    site.feed(&item("One", "/one", "")).await;
    site.page("/one", &article("One", 1)).await;
    let report = site.bench.ingest(&Source::Web(site.url("/"))).await;
    assert_eq!(report.new, 1);
    assert!(report.notes[0].contains("announces the feed"), "{:?}", report.notes);
}

#[tokio::test]
async fn a_page_that_announces_nothing_is_a_post() {
    let site = Site::new().await;
    let latin = article("Na\u{ef}ve", 1).chars().map(|c| c as u8).collect::<Vec<u8>>();
    site.answer("/post", ResponseTemplate::new(200).set_body_raw(latin, "text/html; charset=iso-8859-1")).await;
    let report = site.bench.ingest(&Source::Web(site.url("/post"))).await;
    assert_eq!((report.found, report.new), (1, 1), "{report:?}");
    assert_eq!(site.bench.titles(), ["Naïve"]);
}

#[tokio::test]
async fn what_is_no_feed_is_named() {
    for (body, media, expected) in [
        ("<!doctype html><title>Log in</title><p>x", "text/html", "is not a feed but an HTML page, “Log in”: give"),
        (
            "<?xml version=\"1.0\"?><note>x</note>",
            "application/xml",
            "is not a feed but an XML document that is neither RSS nor Atom",
        ),
        ("{\"a\": 1}", "application/json", "is not a feed but JSON that is no JSON Feed"),
        ("just text", "text/plain", "is not a feed but a text"),
        ("<rss version=\"2.0\"><channel><title>x</title></channel></rss>", "text/xml", "has no entries"),
        ("\0\0\0\0", "application/octet-stream", "is not a feed but not a text"),
        ("x", "image/png", "its content type is image/png, which is no text"),
    ] {
        let site = Site::new().await;
        site.answer("/feed.xml", ResponseTemplate::new(200).set_body_raw(body, media)).await;
        let error = site.feed_error().await;
        assert!(error.contains(expected) && error.contains("/feed.xml"), "{error}");
    }
    let site = Site::new().await;
    assert!(site.feed_error().await.ends_with("could not be fetched\n  caused by: the server answered 404 Not Found"));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_named_in_time() {
    let mut site = Site::new().await;
    site.bench.options.fetch.timeout = Duration::from_millis(500);
    let slow = ResponseTemplate::new(200).set_delay(Duration::from_secs(20));
    Mock::given(path("/feed.xml")).respond_with(slow).mount(&site.server).await;
    let begun = Instant::now();
    let error = site.feed_error().await;
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert!(error.contains("127.0.0.1 did not answer within 500ms; try again later"), "{error}");

    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    site.bench.options.fetch.allow_net = vec![unused.to_string()];
    let source = Source::Web(Url::parse(&format!("http://{unused}/")).unwrap());
    let error = chain(&site.bench.try_ingest(&source).await.unwrap_err());
    assert!(error.contains("no connection to 127.0.0.1: check the address and the network"), "{error}");
}

#[tokio::test]
async fn nothing_inside_is_ever_asked() {
    let mut site = Site::new().await;
    let canary = MockServer::start().await;
    Mock::given(wiremock::matchers::any()).respond_with(ResponseTemplate::new(200)).expect(0).mount(&canary).await;
    let port = canary.address().port();
    let redirect = |to: &str| ResponseTemplate::new(302).insert_header("location", to);
    site.answer("/once", redirect(&canary.uri())).await;
    site.answer("/twice", redirect("/once")).await;
    site.answer("/round", redirect("/round")).await;
    let inside = [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://2130706433:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "/once".to_owned(),
        "/twice".to_owned(),
    ];
    site.feed(
        &inside.iter().chain(["/round".to_owned()].iter()).map(|link| item("Inside", link, "")).collect::<String>(),
    )
    .await;
    let report = site.bench.ingest(&Source::Feed(site.url("/feed.xml"))).await;
    // The number is the first address again.
    assert_eq!((report.found, report.new), (7, 0));
    let private = report.skipped.iter().filter(|skip| skip.reason.contains("private or reserved network")).count();
    assert_eq!((report.skipped.len(), private), (7, 6), "{:?}", report.skipped);
    assert!(report.skipped.iter().any(|skip| skip.reason.contains("more than 5 redirects")));

    for url in inside.iter().filter(|url| url.starts_with("http")) {
        let error = chain(&site.bench.try_ingest(&Source::Web(Url::parse(url).unwrap())).await.unwrap_err());
        assert!(error.contains("private or reserved network: allow it with `--allow-net"), "{error}");
    }
    site.bench.options.fetch.allow_net = Vec::new();
    assert!(site.feed_error().await.contains("private or reserved network"));
}

#[tokio::test]
async fn robots_are_obeyed() {
    let site = Site::new().await;
    let robots = "User-agent: *\nDisallow: /private/\n";
    site.answer("/robots.txt", ResponseTemplate::new(200).set_body_string(robots)).await;
    site.feed(&(item("One", "/one", "") + &item("Two", "/private/two", ""))).await;
    site.page("/one", &article("One", 1)).await;
    Mock::given(path("/private/two")).respond_with(ResponseTemplate::new(200)).expect(0).mount(&site.server).await;
    let report = site.bench.ingest(&Source::Feed(site.url("/feed.xml"))).await;
    assert_eq!(report.new, 1);
    assert!(report.skipped[0].reason.starts_with("its robots.txt forbids it to llm-twin/"), "{:?}", report.skipped);

    let closed = Site::new().await;
    closed.answer("/robots.txt", ResponseTemplate::new(503)).await;
    let error = closed.feed_error().await;
    assert!(error.contains("robots.txt could not be read, which means no"), "{error}");
}

#[tokio::test]
async fn too_much_is_not_read_even_when_it_comes_packed() {
    let mut site = Site::new().await;
    site.bench.options.fetch.max_bytes = 100_000;
    site.feed(&(item("Large", "/large", "") + &item("Packed", "/packed", ""))).await;
    site.page("/large", &"x".repeat(100_001)).await;
    let packed = include_bytes!("../fixtures/web/zeros.gz").to_vec();
    assert!(packed.len() < 10_000);
    let packed = ResponseTemplate::new(200).insert_header("content-encoding", "gzip").set_body_raw(packed, "text/html");
    site.answer("/packed", packed).await;
    let report = site.bench.ingest(&Source::Feed(site.url("/feed.xml"))).await;
    assert_eq!(report.skipped.len(), 2);
    assert!(
        report.skipped.iter().all(|skip| skip.reason.starts_with("more than 100000 bytes")),
        "{:?}",
        report.skipped
    );
}

#[tokio::test]
async fn a_busy_server_is_asked_again() {
    let site = Site::new().await;
    let busy = |status: u16| ResponseTemplate::new(status).insert_header("retry-after", "0");
    Mock::given(path("/one")).respond_with(busy(429)).up_to_n_times(1).with_priority(1).mount(&site.server).await;
    Mock::given(path("/one")).respond_with(busy(503)).up_to_n_times(1).with_priority(2).mount(&site.server).await;
    site.page("/one", &article("One", 1)).await;
    let report = site.bench.ingest(&Source::Web(site.url("/one"))).await;
    assert_eq!(report.new, 1);

    let patient = ResponseTemplate::new(429).insert_header("retry-after", "3600");
    Mock::given(path("/later")).respond_with(patient).expect(1).mount(&site.server).await;
    let begun = Instant::now();
    let error = chain(&site.bench.try_ingest(&Source::Web(site.url("/later"))).await.unwrap_err());
    assert!(error.contains("429 Too Many Requests") && begun.elapsed() < Duration::from_secs(60), "{error}");
}

#[tokio::test]
async fn a_hostile_page_costs_itself_only() {
    let site = Site::new().await;
    site.feed(&(item("One", "/one", "") + &item("Bomb", "/bomb", ""))).await;
    site.page("/one", &article("One", 1)).await;
    site.page("/bomb", &"<div>".repeat(500_000)).await;
    let begun = Instant::now();
    let report = site.bench.ingest(&Source::Feed(site.url("/feed.xml"))).await;
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert_eq!(report.new, 1);
    assert_eq!(report.skipped[0].reason, "the page nests its elements more than 512 deep, as no article does");
}

#[tokio::test]
async fn atom_and_json_feeds_are_read() {
    for (media, feed) in [
        ("application/atom+xml", format!("<feed xmlns=\"http://www.w3.org/2005/Atom\"><title>t</title><id>i</id><entry><id>urn:1</id><title>One</title><updated>2022-09-07T14:00:00Z</updated><content type=\"html\">&lt;p&gt;{}&lt;/p&gt;</content></entry></feed>", words(1, 50))),
        ("application/feed+json", serde_json::json!({"version": "https://jsonfeed.org/version/1.1", "title": "t", "items": [{"id": "1", "title": "One", "date_published": "2022-09-07T14:00:00Z", "content_html": format!("<p>{}</p>", words(1, 50))}]}).to_string()),
    ] {
        let site = Site::new().await;
        site.answer("/feed.xml", ResponseTemplate::new(200).set_body_raw(feed.into_bytes(), media)).await;
        let report = site.bench.ingest(&Source::Feed(site.url("/feed.xml"))).await;
        assert_eq!(report.new, 1, "{media}: {report:?}");
        let documents = site.bench.warehouse.documents(&site.bench.author.id).await.unwrap();
        assert_eq!((documents[0].info.title.as_str(), documents[0].text.trim()), ("One", words(1, 50).as_str()));
    }
}
