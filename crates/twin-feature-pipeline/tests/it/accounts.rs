//! Services' public APIs, as a server on loopback gives them: what each is asked, and what becomes of its answers.

use serde_json::{Value, json};
use twin_domain::Document;
use twin_feature_pipeline::{IngestReport, Source};
use wiremock::matchers::{body_partial_json, method, path, query_param, query_param_is_missing};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::bench::{Bench, chain, words};

struct Peer {
    server: MockServer,
    bench: Bench,
}

impl Peer {
    async fn new() -> Self {
        let server = MockServer::start().await;
        let mut bench = Bench::new().await;
        bench.options.fetch.allow_net = vec![server.address().to_string()];
        let base = server.uri();
        let services = &mut bench.options.services;
        for address in [
            &mut services.dev_to,
            &mut services.hashnode,
            &mut services.github,
            &mut services.mastodon,
            &mut services.bluesky,
            &mut services.hacker_news,
        ] {
            *address = base.clone();
        }
        Self { server, bench }
    }

    /// Answers an address with these parts of a query.
    async fn answer(&self, at: &str, query: &[(&str, &str)], body: Value) {
        let mut mock = Mock::given(method("GET")).and(path(at));
        for (key, value) in query {
            mock = mock.and(query_param(*key, *value));
        }
        mock.respond_with(ResponseTemplate::new(200).set_body_json(body)).mount(&self.server).await;
    }

    async fn ingest(&self, account: &str) -> (IngestReport, Vec<Document>) {
        let report = self.bench.ingest(&Source::recognise(account).unwrap()).await;
        (report, self.bench.warehouse.documents(&self.bench.author.id).await.unwrap())
    }
}

#[tokio::test]
async fn articles_of_dev_are_read_and_read_again() {
    let mut peer = Peer::new().await;
    let list = json!([{ "id": 1 }, { "id": 2 }]);
    peer.answer("/articles", &[("username", "ada"), ("page", "1")], list).await;
    let article = |n: usize| {
        json!({"id": n, "title": format!("Post {n}"), "body_markdown": format!("It's {}.", words(n, 20)), "published_at": "2024-05-06T07:08:09Z",
            "url": format!("https://dev.to/ada/post-{n}"), "canonical_url": format!("https://ada.example/{n}?utm_source=x"), "tags": ["rust", "web"], "user": {"name": "Ada"}})
    };
    peer.answer("/articles/1", &[], article(1)).await;
    peer.answer("/articles/2", &[], article(2)).await;
    let (report, documents) = peer.ingest("devto:ada").await;
    assert_eq!((report.found, report.new, report.skipped.len()), (2, 2, 0), "{report:?}");
    let info = &documents[0].info;
    assert_eq!(
        (info.url.as_str(), info.tags.len(), info.date.unwrap().to_string().as_str()),
        ("https://ada.example/1", 2, "2024-05-06")
    );
    assert!(documents[0].text.starts_with("It's word"));
    // What the service lists no more is gone.
    peer.server.reset().await;
    peer.answer("/articles", &[], json!([{ "id": 1 }])).await;
    peer.answer("/articles/1", &[], article(1)).await;
    peer.bench.options.remove_gone = true;
    let (report, documents) = peer.ingest("devto:ada").await;
    assert_eq!((report.unchanged, report.removed.len(), documents.len()), (1, 1, 1), "{report:?}");
}

#[tokio::test]
async fn posts_of_hashnode_are_asked_for_page_by_page() {
    let peer = Peer::new().await;
    let page = |n: usize, next: Value| {
        let node = json!({"id": format!("p{n}"), "title": format!("Post {n}"), "url": format!("https://ada.hashnode.dev/{n}"), "publishedAt": "2023-01-02T03:04:05Z",
            "content": {"markdown": words(n, 20)}, "tags": [{"name": "x"}], "author": {"name": "Ada"}});
        let info = json!({"hasNextPage": !next.is_null(), "nextPage": next});
        json!({"data": {"user": {"posts": {"nodes": [node], "pageInfo": info}}}})
    };
    for (n, next) in [(1, json!(2)), (2, Value::Null)] {
        Mock::given(method("POST"))
            .and(path("/"))
            .and(body_partial_json(json!({"variables": {"user": "ada", "page": n}})))
            .respond_with(ResponseTemplate::new(200).set_body_json(page(n, next)))
            .expect(1)
            .mount(&peer.server)
            .await;
    }
    let (report, documents) = peer.ingest("hashnode:ada").await;
    assert_eq!((report.new, documents[1].info.url.as_str()), (2, "https://ada.hashnode.dev/2"), "{report:?}");
}

#[tokio::test]
async fn readmes_of_own_repositories_are_read() {
    let peer = Peer::new().await;
    let repository = |name: &str, fork: bool| json!({"name": name, "fork": fork, "created_at": "2020-02-03T00:00:00Z", "topics": ["cli"]});
    let list = json!([repository("tool", false), repository("theirs", true), repository("bare", false)]);
    peer.answer("/users/ada/repos", &[("type", "owner")], list).await;
    let packed = |text: &str| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    let content = packed(&format!("Tool\n====\n\n{}\n", words(1, 30)));
    let readme = json!({"name": "README.rst", "content": content, "encoding": "base64", "html_url": "https://github.com/ada/tool/blob/main/README.rst"});
    peer.answer("/repos/ada/tool/readme", &[], readme).await;
    let (report, documents) = peer.ingest("https://github.com/ada").await;
    assert_eq!((report.new, report.skipped.len()), (1, 1), "{report:?}");
    assert!(report.skipped[0].what == "1 forks", "{:?}", report.skipped);
    assert_eq!(
        (documents[0].info.title.as_str(), documents[0].info.tags.as_slice()),
        ("Tool", ["cli".to_owned()].as_slice())
    );
}

#[tokio::test]
async fn posts_of_mastodon_are_threads_without_boosts_and_private_ones() {
    let peer = Peer::new().await;
    peer.answer("/api/v1/accounts/lookup", &[("acct", "ada")], json!({"id": "7"})).await;
    let status = |id: &str, text: &str, more: Value| {
        let mut status = json!({"id": id, "created_at": format!("2024-01-02T03:04:0{id}Z"), "visibility": "public", "url": format!("https://social.example/@ada/{id}"),
            "content": format!("<p>{text} <a href=\"x\">#tag</a></p>"), "tags": [{"name": "tag"}], "reblog": null});
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        status
    };
    let first = json!([
        status("5", "secret", json!({"visibility": "private"})),
        status("4", "somebody else's", json!({"reblog": {"id": "9"}})),
        status("3", "and goes on", json!({"in_reply_to_id": "2"})),
    ]);
    let statuses = "/api/v1/accounts/7/statuses";
    Mock::given(path(statuses))
        .and(query_param_is_missing("max_id"))
        .respond_with(ResponseTemplate::new(200).set_body_json(first))
        .mount(&peer.server)
        .await;
    peer.answer(statuses, &[("max_id", "3")], json!([status("2", "It begins", json!({}))])).await;
    peer.answer(statuses, &[("max_id", "2")], json!([])).await;
    let (report, documents) = peer.ingest("@ada@social.example").await;
    assert_eq!((report.new, report.skipped.len()), (1, 1), "{report:?}");
    assert_eq!(documents[0].text, "It begins #tag\n\nand goes on #tag\n");
    assert_eq!(documents[0].info.url, "https://social.example/@ada/2");
}

#[tokio::test]
async fn posts_of_bluesky_are_threads_without_reposts() {
    let peer = Peer::new().await;
    let item = |key: &str, text: &str, parent: Option<&str>, who: &str| {
        let reply =
            parent.map(|parent| json!({"parent": {"uri": format!("at://did:plc:x/app.bsky.feed.post/{parent}")}}));
        let mut record = json!({"text": text, "createdAt": format!("2024-01-02T03:04:{key}Z")});
        if let Some(reply) = reply {
            record["reply"] = reply;
        }
        json!({"post": {"uri": format!("at://did:plc:x/app.bsky.feed.post/{key}"), "author": {"handle": who, "did": "did:plc:x"}, "record": record}})
    };
    let mut repost = item("13", "theirs", None, "bob.example");
    repost["reason"] = json!({"$type": "app.bsky.feed.defs#reasonRepost"});
    let feed = "/app.bsky.feed.getAuthorFeed";
    let first = json!({"feed": [repost, item("12", "and goes on", Some("11"), "ada.example")], "cursor": "c"});
    Mock::given(path(feed))
        .and(query_param_is_missing("cursor"))
        .respond_with(ResponseTemplate::new(200).set_body_json(first))
        .mount(&peer.server)
        .await;
    peer.answer(feed, &[("cursor", "c")], json!({"feed": [item("11", "It begins", None, "ada.example")]})).await;
    let (report, documents) = peer.ingest("bluesky:ada.example").await;
    assert_eq!((report.new, report.skipped.len()), (1, 1), "{report:?}");
    assert_eq!(documents[0].text, "It begins\n\nand goes on\n");
    assert_eq!(documents[0].info.url, "https://bsky.app/profile/ada.example/post/11");
}

#[tokio::test]
async fn comments_on_hacker_news_keep_quotations_apart() {
    let peer = Peer::new().await;
    let comment = json!({"objectID": "1", "created_at": "2024-01-02T03:04:05Z", "created_at_i": 100, "author": "ada", "comment_text": "&gt; what they said<p>It&#x27;s not so.<p><i>Really</i>."});
    let link = json!({"objectID": "2", "created_at": "2024-01-01T00:00:00Z", "created_at_i": 90, "author": "ada", "title": "A page", "url": "https://a.example"});
    let at = "/search_by_date";
    Mock::given(path(at))
        .and(query_param_is_missing("numericFilters"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({"hits": [comment, link]})))
        .mount(&peer.server)
        .await;
    peer.answer(at, &[("numericFilters", "created_at_i<90"), ("tags", "author_ada")], json!({"hits": []})).await;
    let (report, documents) = peer.ingest("hackernews:ada").await;
    assert_eq!((report.new, report.skipped.len()), (1, 1), "{report:?}");
    assert_eq!(documents[0].text, "> what they said\n\nIt's not so.\n\n*Really*.\n");
}

#[tokio::test]
async fn a_service_that_refuses_is_named() {
    let peer = Peer::new().await;
    let account = "devto:nobody";
    let failed = chain(&peer.bench.try_ingest(&Source::recognise(account).unwrap()).await.unwrap_err());
    assert!(failed.contains("devto:nobody") && failed.contains("nobody by that name"), "{failed}");
    peer.answer("/articles", &[], json!({"error": "x"})).await;
    let failed = chain(&peer.bench.try_ingest(&Source::recognise(account).unwrap()).await.unwrap_err());
    assert!(failed.contains("the list of articles is no list"), "{failed}");
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({"errors": [{"message": "Too many requests"}]})))
        .mount(&peer.server)
        .await;
    let failed = chain(&peer.bench.try_ingest(&Source::recognise("hashnode:ada").unwrap()).await.unwrap_err());
    assert!(failed.contains("Too many requests"), "{failed}");
}
