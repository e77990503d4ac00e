//! `twin worker`: embeds for runs of `twin ingest` elsewhere.

use std::time::Duration;

use anyhow::Context;
use twin_feature_pipeline::workers::Queue;

use crate::args::WorkerArguments;
use crate::output;
use crate::wiring::Wiring;

pub async fn run(wiring: &Wiring, arguments: WorkerArguments) -> anyhow::Result<bool> {
    let configured = wiring.config.features.queue.as_ref().map(|queue| queue.expose().to_owned());
    let address = arguments.queue.or(configured);
    let address = address.context("which queue? Name it with --queue, or as features.queue in twin.toml")?;
    let (queue, embedder) = (Queue::open(&address).await?, wiring.embedder().await?);
    output::remark(format!("embedding with {} for whoever asks through {queue}; Ctrl-C ends it", embedder.name()));
    let cancel = wiring.cancel.clone();
    let stop = async move {
        while !cancel.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    queue.work(embedder, stop).await?;
    Ok(true)
}
