//! Settling: from a source's pages to the documents of the author.
//!
//! Everything here is computed from the pages in the warehouse, not from what this run happened to fetch, so that a run
//! after a killed one comes to the same documents. The texts are read twice, one at a time: once to count what recurs, and
//! once to make documents of them. A few hundred bytes are held of each.

use std::collections::{BTreeMap, HashSet};
use std::pin::pin;
use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use jiff::civil::Date;
use twin_domain::{Document, DocumentId, DocumentInfo};
use url::Url;

use super::collect::Collected;
use super::{IngestError, Run};
use crate::clean::boilerplate::{Boilerplate, Census, Recurring};
use crate::clean::duplicates::{Seen, Shingles};
use crate::clean::{self, CLEANER, CleanOptions, CleanedDocument, Rejection, normal};
use crate::page::Page;
use crate::report::{Duplicate, IngestReport, Skip};
use crate::warehouse::{Cleaned, NewDocument, SourceId};

/// How many pages are cleaned, or documents stored, and then committed, at a time.
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
    let mut survey = survey(run, source, &gone, report).await?;
    let known = known_documents(run, &mut survey).await?;
    let mut settling =
        Settling { run, source, recurring: survey.census.finish(), known, batch: Vec::with_capacity(BATCH) };
    if settling.settle(survey.posts, report).await? {
        return Ok(());
    }
    let boilerplate = settling.recurring.removed();
    let remark = |removed: &Boilerplate| format!("removed from {} documents: “{}”", removed.documents, removed.start);
    report.notes.extend(boilerplate.iter().map(remark));
    run.warehouse.put_skips(source, &all_skips(report), run.now).await?;
    if complete {
        report.missing = gone;
    }
    report.seconds.cleaning = begun.elapsed().as_secs_f64();
    Ok(())
}

/// Cleans the pages that these rules have not cleaned yet. Says whether it was interrupted.
async fn clean_pages(run: &Run<'_>, source: SourceId, report: &mut IngestReport) -> Result<bool, IngestError> {
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

/// A page that may become a document.
struct Post {
    page: String,
    id: DocumentId,
    url: String,
    date: Option<Date>,
    /// Whether the warehouse has its document already.
    is_known: bool,
}

/// What all pages of a source together say.
struct Survey {
    posts: Vec<Post>,
    census: Census,
}

/// Looks through what cleaning made of the pages, once.
async fn survey(
    run: &Run<'_>,
    source: SourceId,
    gone: &[String],
    report: &mut IngestReport,
) -> Result<Survey, IngestError> {
    run.warehouse.blank_again(source).await?;
    let forgotten = run.warehouse.forgotten(&run.author.id).await?;
    let is_gone: HashSet<&str> = gone.iter().map(String::as_str).collect();
    let (mut posts, mut census, mut found) = (Vec::new(), Census::default(), Vec::new());
    let mut bylines: BTreeMap<String, usize> = BTreeMap::new();
    let mut pages = pin!(run.warehouse.cleaned(source));
    while let Some((page, outcome)) = pages.try_next().await? {
        let document = match outcome.and_then(|document| of_author(run, document)) {
            Ok(document) => document,
            Err(reason) if !is_gone.contains(page.as_str()) => {
                report.skipped.push(Skip { what: page, reason });
                continue;
            }
            Err(_) => continue,
        };
        let id = DocumentId::new(&run.author.id, &document.url);
        if let Some(at) = forgotten.get(&id) {
            found.push(Skip { what: page, reason: format!("it is forgotten since {at}") });
            continue;
        }
        census.count(&document.text);
        report.masked.add(document.masked);
        report.notes.extend(document.note);
        if let Some(byline) = document.byline {
            *bylines.entry(byline).or_default() += 1;
        }
        posts.push(Post { page, id, url: document.url, date: document.date, is_known: false });
    }
    // What was forgotten does not come back, and of its page nothing is kept.
    for skip in found {
        run.warehouse.blank_page(source, &skip.what).await?;
        report.skipped.push(skip);
    }
    name_authors(&bylines, run, report);
    Ok(Survey { posts, census })
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

fn name_authors(bylines: &BTreeMap<String, usize>, run: &Run<'_>, report: &mut IngestReport) {
    if run.options.only_by.is_some() || bylines.len() < 2 {
        return;
    }
    let mut most: Vec<_> = bylines.iter().collect();
    most.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    let most: Vec<String> = most.iter().take(5).map(|(name, count)| format!("{name} ({count})")).collect();
    report.notes.push(format!(
        "the documents name {} authors, most often {}; all were taken: choose one to keep the others' voices out",
        bylines.len(),
        most.join(", ")
    ));
}

/// The author's documents of other sources, by which copies are found; says which of the posts are known.
async fn known_documents(run: &Run<'_>, survey: &mut Survey) -> Result<Seen, IngestError> {
    let ours: HashSet<DocumentId> = survey.posts.iter().map(|post| post.id).collect();
    let (mut seen, mut known) = (Seen::default(), HashSet::new());
    let mut documents = pin!(run.warehouse.each_document(&run.author.id));
    while let Some(document) = documents.try_next().await? {
        // Two of them may be copies from before; both stay as they are.
        if ours.contains(&document.info.id) {
            known.insert(document.info.id);
        } else {
            seen.insert(document.info.id, &Shingles::of(&document.text));
        }
    }
    for post in &mut survey.posts {
        post.is_known = known.contains(&post.id);
    }
    Ok(seen)
}

/// Making documents of the pages that are none twice.
struct Settling<'a> {
    run: &'a Run<'a>,
    source: SourceId,
    recurring: Recurring,
    known: Seen,
    /// What is stored together.
    batch: Vec<NewDocument>,
}

impl Settling<'_> {
    /// Leaves one document of those that say the same: one that is already known before a new one, then the oldest. Says
    /// whether it was interrupted; as each document is settled by what comes before it, the next run then goes on alike.
    async fn settle(&mut self, mut posts: Vec<Post>, report: &mut IngestReport) -> Result<bool, IngestError> {
        posts.sort_by(|a, b| {
            let order = |post: &Post| (!post.is_known, post.date);
            order(a).cmp(&order(b)).then_with(|| (&a.url, &a.page).cmp(&(&b.url, &b.page)))
        });
        let total = posts.len();
        let mut ids = HashSet::new();
        for (done, post) in posts.into_iter().enumerate() {
            let Some(document) = self.trimmed(&post, report).await? else { continue };
            if !ids.insert(post.id) {
                let reason = format!("it has the same address as another page: {}", post.url);
                report.skipped.push(Skip { what: post.page, reason });
                continue;
            }
            let shingles = Shingles::of(&document.text);
            if let Some((of, similarity)) = self.copied(&shingles).await? {
                report.duplicates.push(Duplicate { what: post.page, of, similarity });
                continue;
            }
            self.known.insert(post.id, &shingles);
            self.batch.push(NewDocument { page: post.page, document: finished(self.run, document) });
            if self.batch.len() >= BATCH {
                self.store(report).await?;
                self.run.update("comparing", done + 1, Some(total), "documents", "");
                if self.run.interrupted(report) {
                    return Ok(true);
                }
            }
        }
        self.store(report).await?;
        Ok(false)
    }

    /// The document of a page without boilerplate, if enough of it is left.
    async fn trimmed(
        &mut self,
        post: &Post,
        report: &mut IngestReport,
    ) -> Result<Option<CleanedDocument>, IngestError> {
        let mut document = self.run.warehouse.cleaned_page(self.source, &post.page).await?;
        self.recurring.remove(&mut document.text);
        let (words, least) = (clean::word_count(&document.text), document.least_words(self.run.options.min_words));
        if words < least {
            let reason = Rejection::TooShort { words, least }.to_string();
            report.skipped.push(Skip { what: post.page.clone(), reason });
            return Ok(None);
        }
        Ok(Some(document))
    }

    /// The address of the document that a text is a copy of, with the similarity.
    async fn copied(&self, shingles: &Shingles) -> Result<Option<(String, f64)>, IngestError> {
        for candidate in self.known.candidates(shingles) {
            let waiting = self.batch.iter().map(|new| &new.document).find(|document| document.info.id == candidate);
            let other = match waiting {
                Some(document) => document.clone(),
                None => self.run.warehouse.document(candidate).await?,
            };
            if let Some(similarity) = shingles.similarity_of_copy(&Shingles::of(&other.text)) {
                return Ok(Some((other.info.url, similarity)));
            }
        }
        Ok(None)
    }

    async fn store(&mut self, report: &mut IngestReport) -> Result<(), IngestError> {
        let counts = self.run.warehouse.put_documents(self.source, &self.batch, self.run.now).await?;
        self.batch.clear();
        report.new += counts.new;
        report.changed += counts.changed;
        report.unchanged += counts.unchanged;
        Ok(())
    }
}

fn finished(run: &Run<'_>, cleaned: CleanedDocument) -> Document {
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
