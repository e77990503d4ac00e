//! `twin features build`.

use std::sync::Arc;

use twin_domain::{AuthorId, FeatureStore};
use twin_feature_pipeline::{IngestReport, build_view, feature_view};

use crate::args::BuildArguments;
use crate::commands::ingest::known;
use crate::output;
use crate::wiring::Wiring;

pub async fn run(wiring: &Wiring, arguments: BuildArguments) -> anyhow::Result<bool> {
    let (store, embedder, warehouse) =
        (wiring.store().await?, wiring.ingest_embedder().await?, wiring.warehouse().await?);
    let mut options = wiring.ingest_options();
    options.max_chunk_tokens = arguments.max_chunk_tokens.unwrap_or(options.max_chunk_tokens);
    options.sparse = arguments.sparse.unwrap_or(options.sparse);
    let view = feature_view(embedder.as_ref(), &options).id();
    let authors: Vec<AuthorId> = match arguments.author {
        Some(author) => vec![author],
        None => store.authors()?.into_iter().map(|author| author.id).collect(),
    };
    let mut reports = Vec::new();
    for author in authors {
        let author = known(wiring, &author).await?;
        let (store, embedder): (Arc<dyn FeatureStore>, _) = (store.clone(), embedder.clone());
        let (progress, cancel) = (wiring.progress.as_ref(), &wiring.cancel);
        let report = build_view(warehouse, store, embedder, &author, &options, progress, cancel).await?;
        let interrupted = report.interrupted;
        reports.push(report);
        if interrupted {
            break;
        }
    }
    let whole = reports.iter().all(|report| !report.interrupted);
    if whole && !reports.is_empty() {
        optimize(wiring, &view).await?;
        if arguments.switch {
            store.switch(&view)?;
        }
    }
    let serving = store.serving_view()?;
    output::result(wiring.json, &reports, |reports| {
        if reports.is_empty() {
            output::line("there are no authors: `twin ingest` somebody's posts first");
        }
        reports.iter().for_each(print);
        match serving {
            _ if !whole => output::line("stopped before the end; run the same command again to go on"),
            Some(serving) if serving == view => output::line(format!("{view} serves")),
            Some(serving) => output::line(format!(
                "{view} is built, and {serving} serves: `twin features diff {serving} {view}` compares them, `twin features \
                 switch {view}` lets it serve"
            )),
            None => {}
        }
    })?;
    Ok(whole)
}

/// Merges and indexes, where the engine does not do so by itself.
async fn optimize(wiring: &Wiring, view: &twin_domain::FeatureViewId) -> anyhow::Result<()> {
    let (store, view) = (wiring.store().await?, view.clone());
    crate::wiring::blocking(move || store.optimize(&view)).await?;
    Ok(())
}

fn print(report: &IngestReport) {
    output::line(format!(
        "{}: {} documents and {} chunks loaded in {:.1} s, {} of them with vectors that were there; {} chunks in {}",
        report.author,
        report.documents_indexed,
        report.chunks_written,
        report.seconds.total,
        report.chunks_reused,
        report.chunks_in_view,
        report.view
    ));
}
