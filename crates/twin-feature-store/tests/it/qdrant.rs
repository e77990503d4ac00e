//! A Qdrant server for tests: the services that the client's crate ships, over the engine that the server itself runs on.
//!
//! With `TWIN_TEST_QDRANT_URL` (and `TWIN_TEST_QDRANT_API_KEY`) the tests use the server at that address instead. Each test
//! has a prefix of its own and removes what it made.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use qdrant_client::Qdrant;
use qdrant_client::qdrant::collections_server::CollectionsServer;
use qdrant_client::qdrant::points_server::PointsServer;
use qdrant_client::qdrant::qdrant_server::QdrantServer as HealthServer;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Status};
use twin_feature_store::{QdrantServer, ServerOptions};

use self::engine::Engine;
use crate::fixture;

mod collections;
mod convert;
mod engine;
mod points;

/// A server in this process that can be stopped and started again with what it has.
pub struct TestServer {
    engine: Arc<Engine>,
    api_key: Option<&'static str>,
    address: SocketAddr,
    running: Option<Runtime>,
}

impl TestServer {
    pub fn start(api_key: Option<&'static str>) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { engine: Arc::new(Engine::new()), api_key, address, running: None };
        server.resume();
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests to write points were answered.
    pub fn writes(&self) -> usize {
        self.engine.writes()
    }

    /// Ends the server in the middle of whatever it does. What it had applied is kept, as the real one's log keeps it.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.running.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }

    /// Starts it again at the same address.
    pub fn resume(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(self.address)).unwrap();
        self.address = listener.local_addr().unwrap();
        let api_key = self.api_key;
        let check = move |request: Request<()>| match api_key {
            Some(key) if request.metadata().get("api-key").is_none_or(|given| given != key) => {
                Err(Status::unauthenticated("Invalid API key or JWT"))
            }
            _ => Ok(request),
        };
        let points = PointsServer::from_arc(Arc::clone(&self.engine)).max_decoding_message_size(64 << 20);
        let server = Server::builder()
            .add_service(InterceptedService::new(points, check))
            .add_service(InterceptedService::new(CollectionsServer::from_arc(Arc::clone(&self.engine)), check))
            .add_service(HealthServer::from_arc(Arc::clone(&self.engine)));
        runtime.spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        self.running = Some(runtime);
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A corner of a server for one test.
pub struct Place {
    options: ServerOptions,
    training_sets: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let prefix = format!("twin-test-{}-", uuid::Uuid::new_v4().simple());
        let api_key = std::env::var("TWIN_TEST_QDRANT_API_KEY").ok();
        let options = ServerOptions { prefix, api_key, ..ServerOptions::new(url()) };
        Self { options, training_sets: fixture::directory() }
    }

    pub fn store(&self) -> QdrantServer {
        QdrantServer::open(self.options.clone(), self.training_sets.path()).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (client, prefix) = (client(&self.options), self.options.prefix.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for collection in client.list_collections().await.unwrap().collections {
                if collection.name.starts_with(&prefix) {
                    client.delete_collection(collection.name).await.unwrap();
                }
            }
        });
    }
}

/// A client that goes around the store.
pub fn client(options: &ServerOptions) -> Qdrant {
    Qdrant::from_url(&options.url).api_key(options.api_key.clone()).skip_compatibility_check().build().unwrap()
}

/// The server that is named, or one that all tests of this process share.
fn url() -> String {
    static SHARED: OnceLock<TestServer> = OnceLock::new();
    std::env::var("TWIN_TEST_QDRANT_URL").unwrap_or_else(|_| SHARED.get_or_init(|| TestServer::start(None)).url())
}
