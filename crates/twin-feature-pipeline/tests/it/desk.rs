use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use futures::StreamExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use twin_feature_pipeline::Source;
use twin_feature_pipeline::server::{Desk, DeskParts, api, description, pages};
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::bench::{Bench, words};

fn desk(bench: &Bench) -> Desk {
    let (warehouse, store, embedder) = (bench.warehouse.clone(), bench.store.clone(), bench.embedder.clone());
    Desk::new(DeskParts { warehouse, store, embedder, options: bench.options.clone() })
}

async fn ask(router: &Router, method: Method, at: &str, body: Option<Value>) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(at).header("content-type", "application/json");
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let response = router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// The states that are told until nothing runs any more.
async fn watched(router: &Router) -> Vec<Value> {
    let request = Request::builder().uri("/api/ingest/events").body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let mut stream = response.into_body().into_data_stream();
    let (mut text, mut states) = (String::new(), Vec::new());
    let watching = async {
        while let Some(Ok(bytes)) = stream.next().await {
            text.push_str(&String::from_utf8_lossy(&bytes));
            while let Some(end) = text.find("\n\n") {
                let event: String = text.drain(..end + 2).collect();
                let Some(data) = event.lines().find_map(|line| line.strip_prefix("data:")) else { continue };
                let state: Value = serde_json::from_str(data).unwrap();
                let is_over = state["running"] == false && state["source"] != "";
                states.push(state);
                if is_over {
                    return;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), watching).await.unwrap();
    states
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn posts_are_brought_by_address_and_watched() {
    let server = MockServer::builder().disable_request_recording().start().await;
    let post = format!(
        "<html><head><title>One</title></head><body><article><p>It's {}.</p></article></body></html>",
        words(1, 60)
    );
    Mock::given(path("/one"))
        .respond_with(ResponseTemplate::new(200).set_body_raw(post, "text/html"))
        .mount(&server)
        .await;
    let mut bench = Bench::new().await;
    bench.options.fetch.allow_net = vec![server.address().to_string()];
    let router: Router = api(desk(&bench)).merge(pages());
    let request = json!({ "source": format!("{}/one", server.uri()), "author": "Ada Lovelace" });
    let (status, body) = ask(&router, Method::POST, "/api/ingest", Some(request)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let states = watched(&router).await;
    let last = states.last().unwrap();
    assert_eq!((&last["author"], &last["reports"][0]["new"]), (&json!("ada-lovelace"), &json!(1)), "{last}");
    let (_, inventories) = ask(&router, Method::GET, "/api/inventory", None).await;
    assert_eq!(
        (&inventories[0]["documents"], &inventories[0]["sources"][0]["kind"]),
        (&json!(1), &json!("web")),
        "{inventories}"
    );
    assert!(inventories[0]["weaknesses"].as_array().unwrap().iter().any(|weakness| weakness["kind"] == "few_words"));
    let id = inventories[0]["sources"][0]["source"].as_i64().unwrap();
    let at = format!("/api/sources/{id}");
    assert_eq!(ask(&router, Method::PATCH, &at, Some(json!({ "paused": true }))).await.0, StatusCode::NO_CONTENT);
    assert_eq!(ask(&router, Method::GET, "/api/sources", None).await.1[0]["paused"], true);
    assert_eq!(ask(&router, Method::DELETE, &at, None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(ask(&router, Method::DELETE, &at, None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(ask(&router, Method::GET, "/ingest", None).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_page_names_no_files_and_no_private_addresses() {
    let bench = Bench::new().await;
    bench.write("a.md", words(1, 50));
    let router: Router = api(desk(&bench));
    let folder = bench.posts().display().to_string();
    for source in [folder.as_str(), "/etc/passwd", "../x", "file:///etc/passwd", "Cargo.toml", ""] {
        let (status, body) =
            ask(&router, Method::POST, "/api/ingest", Some(json!({ "source": source, "author": "Ada" }))).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{source}: {body}");
        assert!(!body["error"]["message"].as_str().unwrap().is_empty());
    }
    let (status, _) =
        ask(&router, Method::POST, "/api/ingest", Some(json!({ "source": "https://a.org", "author": " " }))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let request = json!({ "source": "http://169.254.169.254/latest", "author": "Ada" });
    assert_eq!(ask(&router, Method::POST, "/api/ingest", Some(request)).await.0, StatusCode::ACCEPTED);
    let states = watched(&router).await;
    let error = states.last().unwrap()["errors"][0].as_str().unwrap().to_owned();
    assert!(error.contains("private or reserved network"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_run_at_a_time_and_it_can_be_stopped() {
    let server = MockServer::builder().disable_request_recording().start().await;
    let slow = ResponseTemplate::new(200)
        .set_body_raw("<html><body>x</body></html>", "text/html")
        .set_delay(Duration::from_secs(2));
    Mock::given(wiremock::matchers::any()).respond_with(slow).mount(&server).await;
    let mut bench = Bench::new().await;
    bench.options.fetch.allow_net = vec![server.address().to_string()];
    let desk = desk(&bench);
    let router: Router = api(desk.clone());
    let request = json!({ "source": server.uri(), "author": "Ada" });
    assert_eq!(ask(&router, Method::POST, "/api/ingest", Some(request.clone())).await.0, StatusCode::ACCEPTED);
    assert_eq!(ask(&router, Method::POST, "/api/ingest", Some(request)).await.0, StatusCode::CONFLICT);
    assert_eq!(ask(&router, Method::DELETE, "/api/ingest", None).await.0, StatusCode::NO_CONTENT);
    tokio::time::timeout(Duration::from_secs(30), desk.stop()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schedule_takes_in_what_changed() {
    let bench = Bench::new().await;
    bench.write("a.md", format!("# A\n\n{}\n", words(1, 50)));
    bench.write("b.md", format!("# B\n\n{}\n", words(2, 50)));
    bench.ingest(&Source::Folder(bench.posts())).await;
    bench.write("c.md", format!("# C\n\n{}\n", words(3, 50)));
    fs_err::remove_file(bench.posts().join("a.md")).unwrap();
    let told: Arc<Mutex<Vec<(usize, usize)>>> = Arc::default();
    let desk = desk(&bench);
    let hear = |outcome: Result<twin_feature_pipeline::Synced, _>| {
        let report = outcome.unwrap().outcome.unwrap();
        told.lock().unwrap().push((report.new, report.removed.len()));
    };
    let twice = async {
        while told.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = desk.on_schedule(Duration::from_millis(50), &hear) => {}
        () = twice => {}
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("nothing was read again"),
    }
    assert_eq!(told.lock().unwrap()[..2], [(1, 1), (0, 0)]);
    assert_eq!(bench.titles(), ["B", "C"]);
}

#[tokio::test]
async fn every_route_is_described_and_every_description_has_its_route() {
    let bench = Bench::new().await;
    let router: Router = api(desk(&bench));
    let description = serde_json::to_value(description()).unwrap();
    let mut described = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(operation["summary"].is_string(), "{method} {path}");
            described.push(format!("{method} {path}"));
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let request = Request::builder().method(method).uri(path.replace("{id}", "7")).body(Body::empty()).unwrap();
            let status = router.clone().oneshot(request).await.unwrap().status();
            // Removing what is not there is the one request that finds its route and not its object.
            let is_found = status != StatusCode::NOT_FOUND || described.last().unwrap() == "delete /api/sources/{id}";
            assert!(is_found && status != StatusCode::METHOD_NOT_ALLOWED, "{described:?}: {status}");
        }
    }
    described.sort();
    assert_eq!(
        described,
        [
            "delete /api/ingest",
            "delete /api/sources/{id}",
            "get /api/ingest/events",
            "get /api/inventory",
            "get /api/sources",
            "patch /api/sources/{id}",
            "post /api/ingest",
            "post /api/ingest/sync",
        ]
    );
}
