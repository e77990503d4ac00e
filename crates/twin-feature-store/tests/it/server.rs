use std::error::Error;
use std::time::{Duration, Instant};

use qdrant_client::qdrant::{CreateCollectionBuilder, Distance, VectorParamsBuilder};
use twin_domain::{FeatureStore, FeatureView, StoreError};
use twin_feature_store::{QdrantServer, ServerOptions};

use crate::fixture::{self, Draft, author, query, view};
use crate::qdrant::{TestServer, client};

/// The writer keeps writing in many small requests while the server is stopped and started again, five times.
#[test]
fn a_server_that_goes_away_in_the_middle_of_an_upsert_and_comes_back_is_waited_for() {
    let (mut server, directory) = (TestServer::start(None), fixture::directory());
    let options = ServerOptions { batch_bytes: 6_000, ..options(&server) };
    let store = QdrantServer::open(options, directory.path()).unwrap();
    let id = store.create_view(&view()).unwrap();
    let texts: Vec<String> = (0..2_000).map(|n| format!("chunk {n} of a boat ")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let draft = Draft::new("ada", "a", &texts);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| store.upsert(&id, &draft.chunks()));
        for stop in 1..=5 {
            let begun = Instant::now();
            while server.writes() < stop * 60 && begun.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(!writing.is_finished(), "all was written before the server was stopped");
            server.stop();
            std::thread::sleep(Duration::from_millis(300));
            server.resume();
        }
        writing.join().unwrap().unwrap();
    });
    assert_eq!(store.count(&id, None).unwrap(), 2_000);
    let documents = store.documents(&id, &author("ada")).unwrap();
    assert_eq!(documents[0].document.text, draft.texts.concat(), "all of it, once, in order");
}

#[test]
fn a_server_that_stays_away_is_named_with_what_to_look_at() {
    let (mut server, directory) = (TestServer::start(None), fixture::directory());
    let store = QdrantServer::open(impatient(&server), directory.path()).unwrap();
    let id = store.create_view(&view()).unwrap();
    server.stop();
    let error = store.upsert(&id, &Draft::new("ada", "a", &["text"]).chunks()).unwrap_err();
    let said = chain(&error);
    assert!(said.contains(&server.url()) && said.contains("cannot be reached") && said.contains("6334"), "{said}");
    let error = QdrantServer::open(impatient(&server), directory.path()).unwrap_err();
    assert!(chain(&error).contains("cannot be reached"), "{}", chain(&error));
    server.resume();
    store.upsert(&id, &Draft::new("ada", "a", &["text"]).chunks()).unwrap();
    assert_eq!(store.count(&id, None).unwrap(), 1);
}

#[test]
fn a_wrong_or_missing_key_is_said_at_once_and_never_printed() {
    let (server, directory) = (TestServer::start(Some("right")), fixture::directory());
    for key in [None, Some("wrong-secret")] {
        let begun = Instant::now();
        let options = ServerOptions { api_key: key.map(str::to_owned), ..options(&server) };
        assert!(!format!("{options:?}").contains("wrong-secret"));
        let error = QdrantServer::open(options, directory.path()).unwrap_err();
        let said = chain(&error);
        assert!(said.contains("API key") && !said.contains("wrong-secret"), "{said}");
        assert!(begun.elapsed() < Duration::from_secs(2), "it was tried again");
    }
    let options = ServerOptions { api_key: Some("right".to_owned()), ..options(&server) };
    let store = QdrantServer::open(options, directory.path()).unwrap();
    store.create_view(&view()).unwrap();
    assert_eq!(store.version().unwrap(), "1.17.0");
}

#[test]
fn a_collection_that_is_not_ours_is_not_written_to() {
    let (server, directory) = (TestServer::start(None), fixture::directory());
    let options = options(&server);
    let name = format!("{}{}", options.prefix, view().id());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stranger =
        CreateCollectionBuilder::new(name.clone()).vectors_config(VectorParamsBuilder::new(7, Distance::Dot));
    runtime.block_on(client(&options).create_collection(stranger)).unwrap();
    let store = QdrantServer::open(options, directory.path()).unwrap();
    match store.create_view(&view()) {
        Err(StoreError::Invalid { problem, .. }) => {
            assert!(problem.contains(&name) && problem.contains("32"), "{problem}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_url_or_prefix_that_cannot_be_is_refused() {
    let directory = fixture::directory();
    let bad_url = QdrantServer::open(ServerOptions::new("not a url"), directory.path()).unwrap_err();
    assert!(chain(&bad_url).contains("not a url"), "{}", chain(&bad_url));
    let bad_prefix = ServerOptions { prefix: "a/b".to_owned(), ..ServerOptions::new("http://localhost:1") };
    assert!(matches!(QdrantServer::open(bad_prefix, directory.path()), Err(StoreError::Invalid { .. })));
}

/// As commands do it, whose thread is one of an asynchronous runtime.
#[test]
fn the_store_is_called_from_asynchronous_code_and_dropped_there() {
    let (server, directory) = (TestServer::start(None), fixture::directory());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = QdrantServer::open(options(&server), directory.path()).unwrap();
        let id = store.create_view(&view()).unwrap();
        assert_eq!(store.count(&id, None).unwrap(), 0);
    });
}

/// Two processes, as two stores over the same server.
#[test]
fn what_one_process_does_another_sees() {
    let (server, directory) = (TestServer::start(None), fixture::directory());
    let options = options(&server);
    let open = || QdrantServer::open(options.clone(), directory.path()).unwrap();
    let (one, two) = (open(), open());
    let id = one.create_view(&view()).unwrap();
    two.upsert(&id, &Draft::new("ada", "a", &["a boat"]).chunks()).unwrap();
    two.switch(&id).unwrap();
    assert_eq!(one.serving_view().unwrap(), Some(id.clone()));
    assert_eq!(one.query(&id, &query("ada", "boat")).unwrap().len(), 1);
    let other = FeatureView { chunker: "structure-2".to_owned(), ..view() };
    let second = one.create_view(&other).unwrap();
    one.switch(&second).unwrap();
    two.remove_view(&id).unwrap();
    assert!(matches!(one.query(&id, &query("ada", "boat")), Err(StoreError::NotFound { .. })));
    assert_eq!(one.views().unwrap(), [other]);
}

fn options(server: &TestServer) -> ServerOptions {
    ServerOptions { prefix: format!("t{}-", uuid::Uuid::new_v4().simple()), ..ServerOptions::new(server.url()) }
}

fn impatient(server: &TestServer) -> ServerOptions {
    let (timeout, connect_timeout) = (Duration::from_secs(1), Duration::from_secs(1));
    ServerOptions { retries: 1, timeout, connect_timeout, ..options(server) }
}

fn chain(error: &dyn Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
