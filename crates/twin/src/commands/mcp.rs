//! `twin mcp`: the twins as tools of another program, which starts this one and talks to it over its standard streams.

use std::sync::Arc;

use twin_inference_pipeline::server::{ServerConfig, ServerState, serve_streams};

use super::serve::twins;
use crate::wiring::Wiring;

pub async fn run(wiring: &Wiring) -> anyhow::Result<bool> {
    let twins = twins(wiring).await?;
    let state = ServerState::new(Arc::clone(&twins), ServerConfig::default());
    let cancel = wiring.cancel.clone();
    tokio::select! {
        served = serve_streams(state, tokio::io::stdin(), tokio::io::stdout()) => served?,
        () = twins.follow() => {}
        () = super::serve::stopped(&cancel) => {}
    }
    Ok(true)
}
