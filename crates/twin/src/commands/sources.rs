//! `twin sources`: the places that posts come from.

use std::collections::BTreeSet;

use anyhow::bail;
use twin_domain::{AuthorId, FeatureStore};
use twin_feature_pipeline::{Holdings, Inventory, StoredSource, remove_source};

use crate::args::SourcesCommand;
use crate::output;
use crate::wiring::Wiring;

pub async fn run(wiring: &Wiring, command: SourcesCommand) -> anyhow::Result<bool> {
    match command {
        SourcesCommand::List { author } => list(wiring, author).await?,
        SourcesCommand::Report { author } => report(wiring, author).await?,
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

async fn report(wiring: &Wiring, author: Option<AuthorId>) -> anyhow::Result<()> {
    let warehouse = wiring.warehouse().await?;
    let sources = warehouse.sources(author.as_ref()).await?;
    let authors: BTreeSet<AuthorId> = sources.into_iter().map(|source| source.author).collect();
    let mut inventories = Vec::new();
    for author in authors {
        inventories.push(warehouse.inventory(&author).await?);
    }
    output::result(wiring.json, &inventories, |inventories| inventories.iter().for_each(print_inventory))
}

/// An inventory for people.
fn print_inventory(inventory: &Inventory) {
    let row = |name: String, holdings: &Holdings| {
        let languages = holdings.languages.iter().map(|share| format!("{} {}", share.language, share.documents));
        vec![
            name,
            holdings.documents.to_string(),
            holdings.words.to_string(),
            dates(holdings),
            languages.collect::<Vec<_>>().join(", "),
        ]
    };
    let sources =
        inventory.sources.iter().map(|source| row(format!("{} {}", source.source, source.location), &source.holdings));
    let all = row(inventory.author.to_string(), &inventory.holdings);
    output::table(&["", "documents", "words", "dates", "languages"], sources.chain([all]));
    print_weaknesses(inventory);
}

/// What a twin will be weak on.
pub fn print_weaknesses(inventory: &Inventory) {
    for weakness in &inventory.weaknesses {
        output::line(format!("  weak: {}", weakness.message));
    }
}

/// The days that documents are of.
pub fn dates(holdings: &Holdings) -> String {
    match (holdings.oldest, holdings.newest) {
        (Some(oldest), Some(newest)) if oldest != newest => format!("{oldest} to {newest}"),
        (Some(day), _) => day.to_string(),
        _ => "no dates".to_owned(),
    }
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
