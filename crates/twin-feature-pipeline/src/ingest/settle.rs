//! Settling: from a source's pages to the documents of the author.
//!
//! Everything here is computed from the pages in the warehouse, not from what this run happened to fetch, so that a run
//! after a killed one comes to the same documents.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use futures::StreamExt;
use twin_domain::{Document, DocumentId, DocumentInfo};
use url::Url;

use super::collect::Collected;
use super::{IngestError, Run};
use crate::clean::duplicates::Seen;
use crate::clean::{self, CLEANER, CleanOptions, CleanedDocument, Rejection, boilerplate, normal};
use crate::page::Page;
use crate::report::{Duplicate, IngestReport, Skip};
use crate::warehouse::{Cleaned, NewDocument};

/// How many pages are cleaned, and then committed, at a time.
const BATCH: usize = 32;
/// Cleaning is computation: as many at a time as small machines have cores.
const WORKERS: usize = 2;

/// Cleans the collected pages and stores the documents.
pub(super) async fn documents(
    run: &Run<'_>,
    collected: Collected,
    report: &mut IngestReport,
) -> Result<(), IngestError> {
    let begun = Instant::now();
    let Collected { source, skips, complete, gone: confirmed_gone } = collected;
    report.skipped = skips;
    if clean_pages(run, source, report).await? {
        return Ok(());
    }
    let mut gone = run.warehouse.missing(source, run.now).await?;
    if run.options.remove_gone {
        let buried = if complete { std::mem::take(&mut gone) } else { confirmed_gone };
        report.removed = run.warehouse.bury_pages(source, &buried, run.now).await?;
    }
    let outcomes = run.warehouse.cleaned(source).await?;
    let others = run.warehouse.documents(&run.author.id).await?;
    let is_gone: HashSet<&str> = gone.iter().map(String::as_str).collect();
    let mut cleaned = Vec::new();
    for (key, outcome) in outcomes {
        match outcome.map_err(|reason| reason.to_owned()).and_then(|document| of_author(run, document)) {
            Ok(document) => cleaned.push((key, document)),
            Err(reason) if !is_gone.contains(key.as_str()) => report.skipped.push(Skip { what: key, reason }),
            Err(_) => {}
        }
    }
    leave_out_forgotten(run, source, &mut cleaned, report).await?;
    cleaned.iter().for_each(|(_, document)| report.masked.add(document.masked));
    name_authors(&cleaned, run, report);
    report.notes.extend(cleaned.iter().filter_map(|(_, document)| document.note.clone()));
    remove_boilerplate(&mut cleaned, run, report);
    let documents = distinct(run, cleaned, &others, report);
    let counts = run.warehouse.put_documents(source, &documents, run.now).await?;
    run.warehouse.put_skips(source, &all_skips(report), run.now).await?;
    (report.new, report.changed, report.unchanged) = (counts.new, counts.changed, counts.unchanged);
    if complete {
        report.missing = gone;
    }
    report.seconds.cleaning = begun.elapsed().as_secs_f64();
    Ok(())
}

/// Cleans the pages that these rules have not cleaned yet. Says whether it was interrupted.
async fn clean_pages(
    run: &Run<'_>,
    source: crate::warehouse::SourceId,
    report: &mut IngestReport,
) -> Result<bool, IngestError> {
    let site = run.author.site.as_deref().and_then(|site| Url::parse(site).ok());
    let (min_words, mask_private) = (run.options.min_words, run.options.mask_private);
    let options = CleanOptions { site, min_words, mask_private };
    let site = options.site.as_ref().map(Url::as_str).unwrap_or_default();
    let cleaner = format!("{CLEANER} min_words={min_words} mask={mask_private} site={site}");
    let keys = run.warehouse.keys_to_clean(source, &cleaner).await?;
    for (batch, keys_of_batch) in keys.chunks(BATCH).enumerate() {
        run.update("cleaning", batch * BATCH, Some(keys.len()), "pages", "");
        if run.interrupted(report) {
            return Ok(true);
        }
        let mut pages = Vec::with_capacity(BATCH);
        for key in keys_of_batch {
            pages.push(run.warehouse.page(source, key).await?);
        }
        let cleaning = futures::stream::iter(pages).map(|page| clean_page(page, options.clone())).buffered(WORKERS);
        let cleaned: Vec<Result<Cleaned, IngestError>> = cleaning.collect().await;
        let cleaned = cleaned.into_iter().collect::<Result<Vec<_>, _>>()?;
        run.warehouse.put_cleaned(source, &cleaner, &cleaned).await?;
    }
    run.update("cleaning", keys.len(), Some(keys.len()), "pages", "");
    Ok(false)
}

async fn clean_page(page: Page, options: CleanOptions) -> Result<Cleaned, IngestError> {
    let key = page.key.clone();
    let work = move || clean::guarded(move || clean::page(&page, &options));
    let outcome = tokio::task::spawn_blocking(work).await?;
    Ok((key, outcome.map_err(|rejection| rejection.to_string())))
}

/// What was forgotten does not come back, and of its page nothing is kept.
async fn leave_out_forgotten(
    run: &Run<'_>,
    source: crate::warehouse::SourceId,
    cleaned: &mut Vec<(String, CleanedDocument)>,
    report: &mut IngestReport,
) -> Result<(), IngestError> {
    run.warehouse.blank_again(source).await?;
    let forgotten = run.warehouse.forgotten(&run.author.id).await?;
    let mut found = Vec::new();
    cleaned.retain(|(key, document)| match forgotten.get(&DocumentId::new(&run.author.id, &document.url)) {
        None => true,
        Some(at) => {
            found.push(Skip { what: key.clone(), reason: format!("it is forgotten since {at}") });
            false
        }
    });
    for skip in found {
        run.warehouse.blank_page(source, &skip.what).await?;
        report.skipped.push(skip);
    }
    Ok(())
}

/// Guest posts are not the author's voice.
fn of_author(run: &Run<'_>, document: CleanedDocument) -> Result<CleanedDocument, String> {
    let Some(wanted) = &run.options.only_by else { return Ok(document) };
    let Some(byline) = &document.byline else { return Ok(document) };
    let (names, wanted_words) = (normal::words(byline), normal::words(wanted));
    if !wanted_words.is_empty() && names.windows(wanted_words.len()).any(|name| name == wanted_words) {
        return Ok(document);
    }
    Err(Rejection::OtherAuthor { byline: byline.clone(), wanted: wanted.clone() }.to_string())
}

fn name_authors(cleaned: &[(String, CleanedDocument)], run: &Run<'_>, report: &mut IngestReport) {
    let mut bylines: BTreeMap<&str, usize> = BTreeMap::new();
    for byline in cleaned.iter().filter_map(|(_, document)| document.byline.as_deref()) {
        *bylines.entry(byline).or_default() += 1;
    }
    if run.options.only_by.is_some() || bylines.len() < 2 {
        return;
    }
    let mut most: Vec<_> = bylines.iter().collect();
    most.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), **name));
    let most: Vec<String> = most.iter().take(5).map(|(name, count)| format!("{name} ({count})")).collect();
    report.notes.push(format!(
        "the documents name {} authors, most often {}; all were taken: choose one to keep the others' voices out",
        bylines.len(),
        most.join(", ")
    ));
}

fn remove_boilerplate(cleaned: &mut Vec<(String, CleanedDocument)>, run: &Run<'_>, report: &mut IngestReport) {
    let mut texts: Vec<&mut String> = cleaned.iter_mut().map(|(_, document)| &mut document.text).collect();
    for removed in boilerplate::remove(&mut texts) {
        report.notes.push(format!("removed from {} documents: “{}”", removed.documents, removed.start));
    }
    let least = run.options.min_words;
    cleaned.retain(|(key, document)| {
        let (words, least) = (clean::word_count(&document.text), document.least_words(least));
        if words < least {
            let reason = Rejection::TooShort { words, least }.to_string();
            report.skipped.push(Skip { what: key.clone(), reason });
        }
        words >= least
    });
}

/// Leaves one document of those that say the same: one that is already known before a new one, then the oldest.
fn distinct(
    run: &Run<'_>,
    cleaned: Vec<(String, CleanedDocument)>,
    others: &[Document],
    report: &mut IngestReport,
) -> Vec<NewDocument> {
    let known: HashSet<DocumentId> = others.iter().map(|other| other.info.id).collect();
    let mut documents: Vec<NewDocument> =
        cleaned.into_iter().map(|(page, cleaned)| NewDocument { page, document: document(run, cleaned) }).collect();
    documents.sort_by_cached_key(|NewDocument { page, document }| {
        let info = &document.info;
        (!known.contains(&info.id), info.date, info.url.clone(), page.clone())
    });
    let ours: HashSet<DocumentId> = documents.iter().map(|new| new.document.info.id).collect();
    let mut seen = Seen::default();
    for other in others.iter().filter(|other| !ours.contains(&other.info.id)) {
        // Two of them may be duplicates from before; both stay as they are.
        let _ = seen.duplicate_or_insert(&other.info.url, &other.text);
    }
    let mut ids = HashSet::new();
    documents.retain(|NewDocument { page, document }| {
        let info = &document.info;
        if !ids.insert(info.id) {
            let reason = format!("it has the same address as another page: {}", info.url);
            report.skipped.push(Skip { what: page.clone(), reason });
            return false;
        }
        match seen.duplicate_or_insert(&info.url, &document.text) {
            None => true,
            Some((of, similarity)) => {
                report.duplicates.push(Duplicate { what: page.clone(), of, similarity });
                false
            }
        }
    });
    documents
}

fn document(run: &Run<'_>, cleaned: CleanedDocument) -> Document {
    let CleanedDocument { url, title, date, tags, language, text, .. } = cleaned;
    let author = run.author.id.clone();
    let content_hash = Document::content_hash(&title, date, &tags, &text);
    let id = DocumentId::new(&author, &url);
    Document { info: DocumentInfo { id, author, url, title, date, language, tags, content_hash }, text }
}

fn all_skips(report: &IngestReport) -> Vec<Skip> {
    let duplicates = report.duplicates.iter().map(|duplicate| Skip {
        what: duplicate.what.clone(),
        reason: format!("{:.0}% the same as {}", duplicate.similarity * 100.0, duplicate.of),
    });
    report.skipped.iter().cloned().chain(duplicates).collect()
}
