//! `twin serve`: the web page and the API.

use std::sync::Arc;

use twin_domain::{FeatureStore, ModelRegistry};
use twin_inference_pipeline::conversations::Conversations;
use twin_inference_pipeline::server::{self, ServerConfig, ServerState};
use twin_inference_pipeline::twins::{InferenceConfig, TwinParts, Twins};
use twin_models::language::LanguageModel;
use twin_models::prompt::PromptSet;

use super::sync;
use crate::output;
use crate::wiring::Wiring;

pub async fn run(wiring: &Wiring, bind: Option<String>) -> anyhow::Result<bool> {
    let settings = &wiring.config.server;
    let config = ServerConfig::new(settings.hosts.clone(), settings.api_key.as_ref().map(|key| key.expose()));
    // The socket first: a port that is taken is known at once, not after the models are loaded.
    let listener = server::listen(bind.as_deref().unwrap_or(&settings.bind), &config).await?;
    let address = listener.local_addr()?;
    let twins = twins(wiring).await?;
    output::line(format!(
        "\nopen http://{address} in a browser; OpenAI clients use http://{address}/v1. Ctrl-C ends it."
    ));
    let cancel = wiring.cancel.clone();
    let stop = async move { stopped(&cancel).await };
    tokio::select! {
        () = server::serve(listener, ServerState::new(twins, config), stop) => {}
        () = sync::on_schedule(wiring, wiring.config.features.sync_every_hours) => {}
    }
    Ok(true)
}

/// The twins of this data directory.
pub async fn twins(wiring: &Wiring) -> anyhow::Result<Arc<Twins>> {
    twins_of(wiring, wiring.store().await?).await
}

/// The same with another view of the feature store.
pub async fn twins_of(wiring: &Wiring, store: Arc<dyn FeatureStore>) -> anyhow::Result<Arc<Twins>> {
    let registry: Arc<dyn ModelRegistry> = wiring.registry()?;
    let model: Arc<dyn LanguageModel> = wiring.language_model().await?;
    let parts = TwinParts {
        store,
        registry,
        embedder: wiring.embedder().await?,
        model,
        prompts: PromptSet::builtin()?,
        conversations: Conversations::open(&wiring.config.conversations()).await?,
        config: InferenceConfig { queue: wiring.config.server.queue, ..InferenceConfig::default() },
    };
    Ok(Arc::new(Twins::new(parts)?))
}

/// Ends when the process is asked to stop.
async fn stopped(cancel: &twin_domain::CancelFlag) {
    while !cancel.is_cancelled() {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
