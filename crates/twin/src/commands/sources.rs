//! `twin sources`: the places that posts come from.

use anyhow::bail;
use twin_domain::{AuthorId, FeatureStore};
use twin_feature_pipeline::{StoredSource, remove_source};

use crate::args::SourcesCommand;
use crate::output;
use crate::wiring::Wiring;

pub async fn run(wiring: &Wiring, command: SourcesCommand) -> anyhow::Result<bool> {
    match command {
        SourcesCommand::List { author } => list(wiring, author).await?,
        SourcesCommand::Pause { source } => pause(wiring, source, true).await?,
        SourcesCommand::Resume { source } => pause(wiring, source, false).await?,
        SourcesCommand::Remove { source } => remove(wiring, source).await?,
    }
    Ok(true)
}

async fn list(wiring: &Wiring, author: Option<AuthorId>) -> anyhow::Result<()> {
    let sources = wiring.warehouse().await?.sources(author.as_ref()).await?;
    output::result(wiring.json, &sources, |sources| {
        let state = |source: &StoredSource| match (source.paused, source.complete) {
            (true, _) => "paused",
            (false, true) => "read",
            (false, false) => "broken off",
        };
        let row = |source: &StoredSource| {
            vec![
                source.id.to_string(),
                source.author.to_string(),
                source.kind.clone(),
                source.location.clone(),
                source.documents.to_string(),
                source.skips.to_string(),
                state(source).to_owned(),
                source.last_seen.strftime("%Y-%m-%d %H:%M").to_string(),
            ]
        };
        let header = ["source", "author", "kind", "location", "documents", "skipped", "state", "last read (UTC)"];
        output::table(&header, sources.iter().map(row));
    })
}

async fn pause(wiring: &Wiring, source: i64, paused: bool) -> anyhow::Result<()> {
    if !wiring.warehouse().await?.pause_source(source, paused).await? {
        bail!("there is no source {source}: `twin sources list` shows them");
    }
    output::line(format!("source {source} is {}", if paused { "paused" } else { "read again" }));
    Ok(())
}

async fn remove(wiring: &Wiring, source: i64) -> anyhow::Result<()> {
    let warehouse = wiring.warehouse().await?;
    let Some(found) = warehouse.sources(None).await?.into_iter().find(|found| found.id == source) else {
        bail!("there is no source {source}: `twin sources list` shows them");
    };
    let store: std::sync::Arc<dyn FeatureStore> = wiring.store().await?;
    let documents = remove_source(warehouse, store, &found.author, source).await?;
    output::line(format!("removed {} with {documents} documents; models that learnt from them stay", found.location));
    Ok(())
}
