//! `twin serve`: the web page and the API.

use std::sync::Arc;
use std::time::Duration;

use twin_domain::{FeatureStore, ModelRegistry};
use twin_feature_pipeline::server::{self as features, Desk, DeskParts};
use twin_inference_pipeline::conversations::Conversations;
use twin_inference_pipeline::server::{self, Limits, OtherRoutes, ServerConfig, ServerState};
use twin_inference_pipeline::twins::{InferenceConfig, TwinParts, Twins};
use twin_models::language::LanguageModel;
use twin_models::prompt::PromptSet;

use super::sync;
use crate::output;
use crate::wiring::Wiring;

pub async fn run(wiring: &Wiring, bind: Option<String>) -> anyhow::Result<bool> {
    let settings = &wiring.config.server;
    let limits =
        Limits { requests_per_minute: settings.requests_per_minute, tokens_per_minute: settings.tokens_per_minute };
    let config = ServerConfig::new(settings.hosts.clone(), settings.api_key.as_ref().map(|key| key.expose()))
        .with_limits(limits)
        .with_grace(Duration::from_secs(settings.grace_seconds));
    // The socket first: a port that is taken is known at once, not after the models are loaded.
    let listener = server::listen(bind.as_deref().unwrap_or(&settings.bind), &config).await?;
    let address = listener.local_addr()?;
    let twins = twins(wiring).await?;
    prefetch(wiring.store().await?);
    #[cfg(unix)]
    let _shared = wiring.share_store().await?;
    output::line(format!(
        "\nopen http://{address} in a browser; OpenAI clients use http://{address}/v1. Ctrl-C ends it."
    ));
    let cancel = wiring.cancel.clone();
    let stop = async move { stopped(&cancel).await };
    let desk = desk(wiring).await?;
    let follow = Arc::clone(&twins).follow();
    let others = OtherRoutes {
        guarded: features::api(desk.clone()),
        pages: features::pages(),
        description: features::description(),
    };
    let state = ServerState::new(twins, config).with_routes(others);
    tokio::select! {
        () = server::serve(listener, state, stop) => {}
        () = follow => {}
        () = sync::on_schedule(&desk, wiring.config.features.sync_every_hours) => {}
    }
    // What is being brought ends at a safe place; killing it would be safe, too.
    if tokio::time::timeout(CLOSING, desk.stop()).await.is_err() {
        output::remark("a run did not end in time; the next one goes on with it");
    }
    Ok(true)
}

/// Reads the features that serve ahead, beside everything else: the first questions would wait for the disk. Nobody waits for
/// the thread, and it ends with the process.
fn prefetch(store: Arc<dyn FeatureStore>) {
    std::thread::spawn(move || {
        let read = store.serving_view().and_then(|view| view.map_or(Ok(()), |view| store.prefetch(&view)));
        if let Err(error) = read {
            tracing::debug!(%error, "the features were not read ahead");
        }
    });
}

/// How long a run of the page or the schedule may take to come to a safe place.
const CLOSING: Duration = Duration::from_secs(20);

/// Where posts are brought on the page, and kept current.
async fn desk(wiring: &Wiring) -> anyhow::Result<Desk> {
    let store: Arc<dyn FeatureStore> = wiring.store().await?;
    let (warehouse, embedder) = (wiring.warehouse().await?.clone(), wiring.ingest_embedder().await?);
    Ok(Desk::new(DeskParts { warehouse, store, embedder, options: wiring.ingest_options() }))
}

/// The twins of this data directory.
pub async fn twins(wiring: &Wiring) -> anyhow::Result<Arc<Twins>> {
    twins_of(wiring, wiring.store().await?).await
}

/// The same with another view of the feature store.
pub async fn twins_of(wiring: &Wiring, store: Arc<dyn FeatureStore>) -> anyhow::Result<Arc<Twins>> {
    let registry: Arc<dyn ModelRegistry> = wiring.registry()?;
    let model: Arc<dyn LanguageModel> = wiring.answering_model().await?;
    let parts = TwinParts {
        store,
        registry,
        embedder: wiring.embedder().await?,
        model,
        prompts: PromptSet::builtin()?,
        conversations: Conversations::open(&wiring.config.conversations()).await?,
        config: InferenceConfig {
            together: wiring.config.server.together,
            queue: wiring.config.server.queue,
            adapters: wiring.config.server.adapters,
            deadline_seconds: wiring.config.server.deadline_seconds,
            read_ahead: wiring.config.server.read_ahead,
            retrieval: wiring.config.retrieval.clone(),
            ..InferenceConfig::default()
        },
    };
    Ok(Arc::new(Twins::new(parts)?))
}

/// Ends when the process is asked to stop.
pub async fn stopped(cancel: &twin_domain::CancelFlag) {
    while !cancel.is_cancelled() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
