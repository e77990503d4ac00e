//! `twin sync`: every source again, and what changed of each.

use std::collections::BTreeSet;

use serde::Serialize;
use twin_domain::{AuthorId, FeatureStore, Progress};
use twin_feature_pipeline::server::Desk;
use twin_feature_pipeline::{IngestReport, StoredSource, Synced};

use super::ingest;
use crate::args::SyncArguments;
use crate::output;
use crate::wiring::Wiring;

/// What became of a source, for scripts.
#[derive(Serialize)]
struct Outcome {
    source: StoredSource,
    report: Option<IngestReport>,
    error: Option<String>,
}

/// Passes when every source could be read.
pub async fn run(wiring: &Wiring, arguments: SyncArguments) -> anyhow::Result<bool> {
    let authors = authors(wiring, arguments.author).await?;
    let mut outcomes = Vec::new();
    for author in authors {
        let synced = sync(wiring, author, &arguments.allow_net, wiring.progress.as_ref()).await?;
        outcomes.extend(synced.into_iter().map(outcome));
    }
    output::result(wiring.json, &outcomes, |outcomes| print(outcomes))?;
    Ok(outcomes.iter().all(|outcome| outcome.error.is_none()))
}

/// Whoever has sources.
async fn authors(wiring: &Wiring, named: Option<AuthorId>) -> anyhow::Result<BTreeSet<AuthorId>> {
    let sources = wiring.warehouse().await?.sources(named.as_ref()).await?;
    Ok(sources.into_iter().map(|source| source.author).collect())
}

async fn sync(
    wiring: &Wiring,
    author: AuthorId,
    allow_net: &[String],
    progress: &dyn Progress,
) -> anyhow::Result<Vec<Synced>> {
    let author = ingest::known(wiring, &author).await?;
    let store: std::sync::Arc<dyn FeatureStore> = wiring.store().await?;
    let (warehouse, embedder) = (wiring.warehouse().await?, wiring.ingest_embedder().await?);
    let mut options = wiring.ingest_options();
    options.fetch.allow_net.extend_from_slice(allow_net);
    let cancel = &wiring.cancel;
    Ok(twin_feature_pipeline::sync(warehouse, store, embedder, &author, &options, progress, cancel).await?)
}

/// Reads every source again each time so many hours have passed; never, when there are none. Does not end by itself.
pub async fn on_schedule(desk: &Desk, hours: f64) {
    if hours.is_nan() || hours <= 0.0 {
        return std::future::pending().await;
    }
    // A year is as good as never.
    let every = std::time::Duration::from_secs_f64(hours.min(24.0 * 365.0) * 3600.0);
    desk.on_schedule(every, &|outcome| match outcome {
        Ok(Synced { source, outcome: Ok(report) }) => output::remark(format!(
            "{}: {} new, {} changed, {} removed",
            source.location,
            report.new,
            report.changed,
            report.removed.len()
        )),
        Ok(Synced { source, outcome: Err(error) }) => {
            output::remark(format!("{}: {:#}", source.location, anyhow::Error::from(error)));
        }
        Err(error) => output::remark(format!("the sources could not be read again: {:#}", anyhow::Error::from(error))),
    })
    .await;
}

fn outcome(synced: Synced) -> Outcome {
    let Synced { source, outcome } = synced;
    match outcome {
        Ok(report) => Outcome { source, report: Some(report), error: None },
        Err(error) => {
            let error = format!("{:#}", anyhow::Error::from(error));
            Outcome { source, report: None, error: Some(error) }
        }
    }
}

fn print(outcomes: &[Outcome]) {
    if outcomes.is_empty() {
        output::line("there are no sources to read: `twin ingest` adds one");
    }
    for outcome in outcomes {
        output::line(format!("{} {}", outcome.source.id, outcome.source.location));
        match (&outcome.report, &outcome.error) {
            (Some(report), _) => ingest::print(report),
            (None, error) => output::line(format!("  not read: {}", error.as_deref().unwrap_or("unknown"))),
        }
    }
}
