//! `twin features push` and `pull`: a view from one engine to the other, without embedding anything again.

use std::sync::Arc;

use anyhow::Context;
use twin_feature_store::{Transferred, transfer};

use super::known;
use crate::args::TransferArguments;
use crate::output;
use crate::wiring::{Store, Wiring, blocking};

pub async fn push(wiring: &Wiring, arguments: TransferArguments) -> anyhow::Result<bool> {
    let server = wiring.server(&url(wiring, &arguments)?).await?;
    run(wiring, wiring.local_store().await?, server, arguments).await
}

pub async fn pull(wiring: &Wiring, arguments: TransferArguments) -> anyhow::Result<bool> {
    let server = wiring.server(&url(wiring, &arguments)?).await?;
    run(wiring, server, wiring.local_store().await?, arguments).await
}

fn url(wiring: &Wiring, arguments: &TransferArguments) -> anyhow::Result<String> {
    let url = arguments.url.clone().or_else(|| wiring.config.store.url.clone());
    url.context("no Qdrant server is named: give `--url http://localhost:6334`, or set `store.url` in twin.toml")
}

async fn run(
    wiring: &Wiring,
    from: Arc<dyn Store>,
    to: Arc<dyn Store>,
    arguments: TransferArguments,
) -> anyhow::Result<bool> {
    let view = known(&*from, arguments.view)?;
    let (progress, cancel) = (Arc::clone(&wiring.progress), wiring.cancel.clone());
    let moved = blocking(move || transfer(&*from, &*to, &view, progress.as_ref(), &cancel)).await?;
    output::result(wiring.json, &moved, |Transferred { view, chunks, removed, interrupted }| {
        output::line(format!("{view}: {chunks} chunks copied, {removed} removed that were there only"));
        match interrupted {
            true => output::line("stopped before the end; run the same command again to go on"),
            false => {
                output::line(format!("`twin features switch {view}` lets it serve there, with that store configured"))
            }
        }
    })?;
    Ok(!moved.interrupted)
}
