//! `twin features`: views are built beside the one that serves, compared, switched to and back from, moved and removed.

use anyhow::Context;
use serde::Serialize;
use twin_domain::{AuthorId, FeatureStore, FeatureView, FeatureViewId, StoreError};
use twin_feature_pipeline::views::{references, served_before};

use crate::args::FeaturesCommand;
use crate::output;
use crate::wiring::{Store, Wiring};

mod build;
mod diff;
mod moving;

pub use self::diff::retrieval_diff;

pub async fn run(wiring: &Wiring, command: FeaturesCommand) -> anyhow::Result<bool> {
    match command {
        FeaturesCommand::Build(arguments) => return build::run(wiring, arguments).await,
        FeaturesCommand::List => list(wiring).await?,
        FeaturesCommand::Show { view } => show(wiring, view).await?,
        FeaturesCommand::Diff(arguments) => diff::run(wiring, arguments).await?,
        FeaturesCommand::Switch { view } => switch(wiring, &view).await?,
        FeaturesCommand::Rollback => rollback(wiring).await?,
        FeaturesCommand::Gc { dry_run } => gc(wiring, dry_run).await?,
        FeaturesCommand::Push(arguments) => return moving::push(wiring, arguments).await,
        FeaturesCommand::Pull(arguments) => return moving::pull(wiring, arguments).await,
    }
    Ok(true)
}

/// A view with what it has.
#[derive(Serialize)]
struct Listed {
    id: FeatureViewId,
    serving: bool,
    view: FeatureView,
    chunks: u64,
    authors: Vec<OfAuthor>,
}

#[derive(Serialize)]
struct OfAuthor {
    author: AuthorId,
    chunks: u64,
    /// Documents of the warehouse that are not in the view as they are now.
    missing: usize,
}

async fn listed(wiring: &Wiring, store: &dyn Store, view: FeatureView) -> anyhow::Result<Listed> {
    let (id, warehouse) = (view.id(), wiring.warehouse().await?);
    let mut authors = Vec::new();
    for author in store.authors()? {
        let chunks = store.count(&id, Some(&author.id))?;
        let missing = warehouse.documents_missing(&author.id, &id).await?;
        authors.push(OfAuthor { author: author.id, chunks, missing });
    }
    let serving = store.serving_view()?.as_ref() == Some(&id);
    Ok(Listed { chunks: store.count(&id, None)?, id, serving, view, authors })
}

async fn list(wiring: &Wiring) -> anyhow::Result<()> {
    let store = wiring.store().await?;
    let mut views = Vec::new();
    for view in store.views()? {
        views.push(listed(wiring, &*store, view).await?);
    }
    output::result(wiring.json, &views, |views| {
        let rows = views.iter().map(|listed| {
            let missing: usize = listed.authors.iter().map(|of| of.missing).sum();
            vec![
                listed.id.to_string(),
                if listed.serving { "serving" } else { "" }.to_owned(),
                listed.chunks.to_string(),
                missing.to_string(),
                listed.view.embedder.clone(),
                format!("{} tokens, {}, {}", listed.view.max_chunk_tokens, listed.view.cleaner, listed.view.chunker),
                listed.view.sparse.clone(),
            ]
        });
        output::table(&["view", "", "chunks", "documents missing", "embedder", "made by", "sparse"], rows);
    })
}

async fn show(wiring: &Wiring, view: Option<FeatureViewId>) -> anyhow::Result<()> {
    let store = wiring.store().await?;
    let id = known(&*store, view)?;
    let view = store.views()?.into_iter().find(|view| view.id() == id).ok_or_else(|| not_found(&id))?;
    let listed = listed(wiring, &*store, view).await?;
    let reasons = references(&*store, &*wiring.registry()?)?.remove(&id).unwrap_or_default();
    let switches: Vec<_> = store.switches()?.into_iter().filter(|switch| switch.view == id).collect();
    let as_json = serde_json::json!({ "view": listed, "needed": reasons, "switches": switches });
    output::result(wiring.json, &as_json, |_| {
        let made = &listed.view;
        output::line(format!("{id}{}", if listed.serving { " serves" } else { "" }));
        output::line(format!("  cleaner {}, chunker {}", made.cleaner, made.chunker));
        output::line(format!("  chunks of at most {} tokens", made.max_chunk_tokens));
        let digest = made.embedder_digest.short();
        output::line(format!("  embedder {} ({digest}), {} dimensions", made.embedder, made.dimension));
        output::line(format!("  sparse model {}", made.sparse));
        for OfAuthor { author, chunks, missing } in &listed.authors {
            output::line(format!("  {author}: {chunks} chunks, {missing} documents missing"));
        }
        for switch in &switches {
            output::line(format!("  began to serve {}", switch.at.strftime("%Y-%m-%d %H:%M:%S UTC")));
        }
        let needed =
            if reasons.is_empty() { "nothing: `twin features gc` removes it".to_owned() } else { reasons.join(", ") };
        output::line(format!("  needed by: {needed}"));
    })
}

async fn switch(wiring: &Wiring, view: &FeatureViewId) -> anyhow::Result<()> {
    let store = wiring.store().await?;
    store.switch(view)?;
    output::line(format!("{view} serves"));
    remark_releases(wiring, view)
}

async fn rollback(wiring: &Wiring) -> anyhow::Result<()> {
    let store = wiring.store().await?;
    let before = served_before(&*store)?.context("no other view has served before that is still there")?;
    let serving = store.serving_view()?;
    store.switch(&before)?;
    output::line(format!(
        "{before} serves again, in place of {}",
        serving.map_or_else(String::new, |id| id.to_string())
    ));
    remark_releases(wiring, &before)
}

/// Answers of an author with a release come from the view that the release names.
fn remark_releases(wiring: &Wiring, view: &FeatureViewId) -> anyhow::Result<()> {
    use twin_domain::ModelRegistry;
    let registry = wiring.registry()?;
    for author in registry.authors()? {
        if let Some(release) = registry.serving(&author)?.filter(|release| release.feature_view != *view) {
            output::remark(format!(
                "release {} of {author} goes on with {}, which it was made with; train again to move it",
                release.number, release.feature_view
            ));
        }
    }
    Ok(())
}

/// What became of each view.
#[derive(Serialize)]
struct Collected {
    view: FeatureViewId,
    chunks: u64,
    /// Why it stays; empty for one that goes.
    needed: Vec<String>,
}

async fn gc(wiring: &Wiring, dry_run: bool) -> anyhow::Result<()> {
    let store = wiring.store().await?;
    let reasons = references(&*store, &*wiring.registry()?)?;
    let (mut collected, mut embedders) = (Vec::new(), Vec::new());
    for view in store.views()? {
        let id = view.id();
        let needed = reasons.get(&id).cloned().unwrap_or_default();
        let chunks = store.count(&id, None)?;
        if needed.is_empty() && !dry_run {
            store.remove_view(&id)?;
            wiring.warehouse().await?.forget_view(&id).await?;
        }
        if !needed.is_empty() {
            embedders.push(view.embedder_digest);
        }
        collected.push(Collected { view: id, chunks, needed });
    }
    // Vectors of embedders that no view is left of; without any view, all may be wanted again.
    let vectors = match dry_run || embedders.is_empty() {
        true => 0,
        false => wiring.warehouse().await?.forget_embeddings(&embedders).await?,
    };
    output::result(wiring.json, &collected, |collected| {
        for Collected { view, chunks, needed } in collected {
            output::line(match (needed.is_empty(), dry_run) {
                (true, true) => format!("{view} would be removed with {chunks} chunks"),
                (true, false) => format!("{view} is removed with {chunks} chunks"),
                (false, _) => format!("{view} stays: {}", needed.join(", ")),
            });
        }
        if vectors > 0 {
            output::line(format!("{vectors} vectors are forgotten that nothing is left to use"));
        }
    })
}

/// The view that was named, or the one that serves.
fn known(store: &dyn FeatureStore, view: Option<FeatureViewId>) -> anyhow::Result<FeatureViewId> {
    match view {
        Some(view) => Ok(view),
        None => store.serving_view()?.context("no view serves yet: name one, or `twin ingest` an author's posts first"),
    }
}

fn not_found(view: &FeatureViewId) -> StoreError {
    StoreError::NotFound { what: format!("feature view `{view}`") }
}
