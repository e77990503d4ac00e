//! The page on which posts are brought, and its API: ingest by address, watch it, see what there is and what was not taken,
//! pause and remove sources.
//!
//! Whoever mounts these routes guards them: host names, other sites' requests and the API key are the server's business.
//! Nothing here reads a path: a page may name addresses and accounts only, and the crawler's guard decides which are asked.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::routing::{get, patch, post};
use tokio::sync::watch;
use twin_domain::{Author, AuthorId, CancelFlag, FeatureStore};
use twin_models::embedding::Embedder;

use self::job::{Snapshot, Watched};
use crate::ingest::{IngestError, IngestOptions, Synced};
use crate::warehouse::Warehouse;

mod api;
mod job;

/// What a run needs.
pub struct DeskParts {
    pub warehouse: Warehouse,
    pub store: Arc<dyn FeatureStore>,
    pub embedder: Arc<dyn Embedder>,
    pub options: IngestOptions,
}

/// Where posts are brought: one run at a time, which everybody who looks can watch.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    parts: DeskParts,
    /// Held by the run.
    running: Arc<tokio::sync::Mutex<()>>,
    state: watch::Sender<Snapshot>,
    cancel: Mutex<CancelFlag>,
}

impl Desk {
    /// A desk at which nothing runs yet.
    pub fn new(parts: DeskParts) -> Self {
        let (state, _) = watch::channel(Snapshot::default());
        let (running, cancel) = (Arc::default(), Mutex::new(CancelFlag::new()));
        Self(Arc::new(Inner { parts, running, state, cancel }))
    }

    /// Reads every source of an author again, after the run that is going on.
    ///
    /// # Errors
    /// As for [`crate::sync`].
    pub async fn sync(&self, author: &Author) -> Result<Vec<Synced>, IngestError> {
        let _turn = self.0.running.lock().await;
        let DeskParts { warehouse, store, embedder, options } = &self.0.parts;
        let (watched, cancel) = (Watched::begin(&self.0.state, author, "all sources"), self.fresh_cancel());
        let synced = crate::sync(warehouse, store.clone(), embedder.clone(), author, options, &watched, &cancel).await;
        watched.end_sync(&synced);
        synced
    }

    /// Reads every source of every author again each time `every` has passed, and tells of each. Does not end by itself.
    pub async fn on_schedule(&self, every: Duration, tell: &(dyn Fn(Result<Synced, IngestError>) + Send + Sync)) {
        loop {
            tokio::time::sleep(every).await;
            match self.sync_all().await {
                Ok(synced) => synced.into_iter().for_each(|synced| tell(Ok(synced))),
                Err(error) => tell(Err(error)),
            }
        }
    }

    async fn sync_all(&self) -> Result<Vec<Synced>, IngestError> {
        let DeskParts { warehouse, store, .. } = &self.0.parts;
        let with_sources: BTreeSet<AuthorId> =
            warehouse.sources(None).await?.into_iter().map(|source| source.author).collect();
        let known = store.clone();
        let known = tokio::task::spawn_blocking(move || known.authors()).await??;
        let mut synced = Vec::new();
        for id in with_sources {
            let author = known.iter().find(|author| author.id == id).cloned();
            synced.extend(self.sync(&author.unwrap_or_else(|| Author::new(id))).await?);
        }
        Ok(synced)
    }

    /// Asks the run to stop at the next safe place and waits until it has.
    pub async fn stop(&self) {
        self.cancel();
        let _turn = self.0.running.lock().await;
    }

    fn cancel(&self) {
        self.0.cancel.lock().unwrap_or_else(PoisonError::into_inner).cancel();
    }

    fn fresh_cancel(&self) -> CancelFlag {
        let mut cancel = self.0.cancel.lock().unwrap_or_else(PoisonError::into_inner);
        *cancel = CancelFlag::new();
        cancel.clone()
    }
}

/// The API, for whoever guards it.
pub fn api<S: Clone + Send + Sync + 'static>(desk: Desk) -> Router<S> {
    Router::new()
        .route("/api/ingest", post(api::ingest).delete(api::stop))
        .route("/api/ingest/events", get(api::events))
        .route("/api/ingest/sync", post(api::sync))
        .route("/api/inventory", get(api::inventory))
        .route("/api/sources", get(api::sources))
        .route("/api/sources/{id}", patch(api::change_source).delete(api::remove_source))
        .with_state(desk)
}

/// What these routes take and give, for the description of the whole API.
pub fn description() -> utoipa::openapi::OpenApi {
    <api::Description as utoipa::OpenApi>::openapi()
}

/// The page's files.
pub fn pages<S: Clone + Send + Sync + 'static>() -> Router<S> {
    const FILES: [(&str, &str, &str); 3] = [
        ("/ingest", "text/html; charset=utf-8", include_str!("pages/ingest.html")),
        ("/ingest.css", "text/css; charset=utf-8", include_str!("pages/ingest.css")),
        ("/ingest.js", "text/javascript; charset=utf-8", include_str!("pages/ingest.js")),
    ];
    // Always asked for anew, so that an updated server never meets an old script.
    let serve = |kind, text| get(move || async move { ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], text) });
    FILES.into_iter().fold(Router::new(), |router, (path, kind, text)| router.route(path, serve(kind, text)))
}
