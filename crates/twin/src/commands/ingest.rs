//! `twin ingest`: posts into the feature store, with a report of what was taken and what was not.

use twin_domain::{Author, AuthorId, FeatureStore};
use twin_feature_pipeline::{IngestReport, Source};

use super::sources;
use crate::args::IngestArguments;
use crate::output;
use crate::wiring::Wiring;

/// How many skips are shown; `--json` has all.
const SHOWN: usize = 20;

pub async fn run(wiring: &Wiring, arguments: IngestArguments) -> anyhow::Result<bool> {
    let source = Source::recognise(&arguments.source)?;
    output::remark(format!("reading {source}"));
    let author = author(wiring, &arguments).await?;
    let mut options = wiring.ingest_options();
    options.only_by = arguments.byline;
    options.fetch.allow_net.extend(arguments.allow_net);
    let report = ingest(wiring, &author, &source, &options).await?;
    output::result(wiring.json, &report, print)?;
    Ok(!report.interrupted)
}

/// Takes a source in.
pub async fn ingest(
    wiring: &Wiring,
    author: &Author,
    source: &Source,
    options: &twin_feature_pipeline::IngestOptions,
) -> anyhow::Result<IngestReport> {
    let store: std::sync::Arc<dyn FeatureStore> = wiring.store().await?;
    let (warehouse, embedder) = (wiring.warehouse().await?, wiring.ingest_embedder().await?);
    let (progress, cancel) = (wiring.progress.as_ref(), &wiring.cancel);
    Ok(twin_feature_pipeline::ingest(warehouse, store, embedder, author, source, options, progress, cancel).await?)
}

/// The recorded author with what the arguments say anew.
async fn author(wiring: &Wiring, arguments: &IngestArguments) -> anyhow::Result<Author> {
    let mut author = known(wiring, &arguments.author).await?;
    author.name = arguments.name.clone().unwrap_or(author.name);
    author.description = arguments.description.clone().unwrap_or(author.description);
    author.consent = arguments.consent.clone().or(author.consent);
    Ok(author)
}

pub async fn known(wiring: &Wiring, id: &AuthorId) -> anyhow::Result<Author> {
    let recorded = wiring.store().await?.authors()?.into_iter().find(|author| author.id == *id);
    Ok(recorded.unwrap_or_else(|| Author::new(id.clone())))
}

/// The report for people.
pub fn print(report: &IngestReport) {
    let seconds = report.seconds.total;
    output::line(format!(
        "{}: {} found, {} new, {} changed, {} unchanged, {} skipped, {} duplicates",
        report.author,
        report.found,
        report.new,
        report.changed,
        report.unchanged,
        report.skipped.len(),
        report.duplicates.len()
    ));
    output::line(format!(
        "  {} documents and {} chunks loaded in {seconds:.1} s ({:.0} chunks/s), {} chunks in {}",
        report.documents_indexed, report.chunks_written, report.chunks_per_second, report.chunks_in_view, report.view
    ));
    if report.chunks_written > report.chunks_reused {
        let share = report.seconds.embedder_share() * 100.0;
        output::line(format!("  the embedder was at work {share:.0}% of the time after collecting"));
    }
    if report.chunks_reused > 0 {
        output::line(format!("  {} chunks had vectors already, of the same text", report.chunks_reused));
    }
    let skipped = report.skipped.iter().map(|skip| format!("  skipped {}: {}", skip.what, skip.reason));
    let copies = report
        .duplicates
        .iter()
        .map(|copy| format!("  skipped {}: {:.0}% the same as {}", copy.what, copy.similarity * 100.0, copy.of));
    let all: Vec<String> = skipped.chain(copies).collect();
    all.iter().take(SHOWN).for_each(output::line);
    if all.len() > SHOWN {
        output::line(format!("  … and {} more; `--json` shows all", all.len() - SHOWN));
    }
    for missing in report.missing.iter().take(SHOWN) {
        output::line(format!("  gone from the source, kept here: {missing}"));
    }
    let masked = &report.masked;
    if masked.email_addresses + masked.phone_numbers + masked.keys > 0 {
        output::line(format!(
            "  masked: {} e-mail addresses, {} phone numbers, {} keys",
            masked.email_addresses, masked.phone_numbers, masked.keys
        ));
    }
    for removed in report.removed.iter().take(SHOWN) {
        output::line(format!("  gone from the source, taken out: {removed}"));
    }
    report.notes.iter().for_each(|note| output::line(format!("  {note}")));
    if let Some(inventory) = &report.inventory {
        let all = &inventory.holdings;
        output::line(format!(
            "  {} now has {} documents with {} words, {}",
            report.author,
            all.documents,
            all.words,
            sources::dates(all)
        ));
        sources::print_weaknesses(inventory);
    }
    if report.interrupted {
        output::line("  stopped before the end; run the same command again to go on");
    }
}
