//! Collecting: what a source gives goes into the warehouse as pages, each as soon as it is there.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{IngestError, Run, git, web};
use crate::page::Page;
use crate::report::{IngestReport, Skip};
use crate::source::rows::Rows;
use crate::source::{ExportKind, Source, SourceError, export, folder};
use crate::warehouse::SourceId;

/// How many pages are read, and then committed, at a time.
pub(super) const BATCH: usize = 64;

/// The source whose pages are in the warehouse now, and what of it never became a page.
pub(super) struct Collected {
    pub(super) source: SourceId,
    pub(super) skips: Vec<Skip>,
    /// Whether a page that an earlier run saw and this one did not is gone. Feeds only ever hold the newest.
    pub(super) complete: bool,
    /// Where that does not follow: the keys of pages of which the server says that they are gone.
    pub(super) gone: Vec<String>,
}

/// Collects the pages of the run's source.
pub(super) async fn pages(run: &Run<'_>, report: &mut IngestReport) -> Result<Collected, IngestError> {
    let begun = Instant::now();
    let location = run.source.location();
    let only_by = run.options.only_by.as_deref();
    let begin = || run.warehouse.begin_run(&run.author.id, run.source.kind(), &location, only_by, run.now);
    let collected = match run.source {
        Source::Folder(path) => {
            let root = path.clone();
            let listing = tokio::task::spawn_blocking(move || folder::list(&root)).await??;
            if listing.others > 0 {
                report.notes.push(format!("{} files of other kinds were passed over", listing.others));
            }
            files(run, begin().await?.id, path, listing.files, listing.skips, report).await?
        }
        Source::File(path) => {
            fs_err::metadata(path).map_err(|source| SourceError::Read { path: path.clone(), source })?;
            files(run, begin().await?.id, path, vec![path.clone()], Vec::new(), report).await?
        }
        Source::Rows(path) => {
            let rows = Rows::open(path, run.options.max_document_bytes)?;
            rows_of(run, begin().await?.id, path, rows, report).await?
        }
        Source::Export(path, kind) => posts_of(run, begin().await?.id, path, *kind, report).await?,
        Source::Git(repository) => git::posts(run, begin().await?.id, repository, report).await?,
        Source::Account(account) => web::account(run, begin().await?, account, report).await?,
        Source::Feed(url) => web::pages(run, begin().await?, url, true, report).await?,
        Source::Web(url) => web::pages(run, begin().await?, url, false, report).await?,
    };
    report.seconds.collecting = begun.elapsed().as_secs_f64();
    Ok(collected)
}

async fn files(
    run: &Run<'_>,
    source: SourceId,
    root: &Path,
    mut files: Vec<PathBuf>,
    mut skips: Vec<Skip>,
    report: &mut IngestReport,
) -> Result<Collected, IngestError> {
    let complete = limit(run, &mut files, report);
    report.found = skips.len();
    for (batch, paths) in files.chunks(BATCH).enumerate() {
        run.update("reading", batch * BATCH, Some(files.len()), "files", "");
        if run.interrupted(report) {
            break;
        }
        let (root, paths, most) = (root.to_owned(), paths.to_vec(), run.options.max_document_bytes);
        let read = move || paths.iter().flat_map(|path| folder::read(&root, path, most)).collect::<Vec<_>>();
        let posts = tokio::task::spawn_blocking(read).await?;
        report.found += posts.len();
        let (pages, unread) = sorted(posts);
        skips.extend(unread);
        run.warehouse.put_pages(source, &pages, run.now).await?;
    }
    run.update("reading", files.len(), Some(files.len()), "files", "");
    Ok(Collected { source, skips, complete, gone: Vec::new() })
}

async fn rows_of(
    run: &Run<'_>,
    source: SourceId,
    path: &Path,
    mut rows: Rows,
    report: &mut IngestReport,
) -> Result<Collected, IngestError> {
    let mut skips = Vec::new();
    while !run.interrupted(report) && report.found < run.options.max_pages {
        let read = move || (rows.by_ref().take(BATCH).collect::<Vec<_>>(), rows);
        let batch;
        (batch, rows) = tokio::task::spawn_blocking(read).await?;
        if batch.is_empty() {
            break;
        }
        report.found += batch.len();
        let (pages, unread) = sorted(batch);
        skips.extend(unread);
        run.warehouse.put_pages(source, &pages, run.now).await?;
        run.update("reading", report.found, None, "rows", "");
    }
    if report.found == 0 && !report.interrupted {
        return Err(SourceError::NoRows { path: path.to_owned() }.into());
    }
    run.update("reading", report.found, Some(report.found), "rows", "");
    let complete = report.found < run.options.max_pages;
    Ok(Collected { source, skips, complete, gone: Vec::new() })
}

async fn posts_of(
    run: &Run<'_>,
    source: SourceId,
    path: &Path,
    kind: ExportKind,
    report: &mut IngestReport,
) -> Result<Collected, IngestError> {
    let (path, most_bytes) = (path.to_owned(), run.options.max_document_bytes);
    streamed(run, source, report, move |each| export::read(&path, kind, most_bytes, each)).await
}

/// Reads on a thread of its own, which waits while pages are committed, so that few are in memory at a time.
pub(super) async fn streamed(
    run: &Run<'_>,
    source: SourceId,
    report: &mut IngestReport,
    read: impl FnOnce(&mut export::Each<'_>) -> Result<(), SourceError> + Send + 'static,
) -> Result<Collected, IngestError> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(BATCH);
    // Nobody listening means that the run was interrupted.
    let reading = tokio::task::spawn_blocking(move || read(&mut |post| sender.blocking_send(post).is_ok()));
    let (mut skips, mut batch) = (Vec::new(), Vec::with_capacity(BATCH));
    while receiver.recv_many(&mut batch, BATCH).await > 0 {
        if run.interrupted(report) || report.found >= run.options.max_pages {
            break;
        }
        report.found += batch.len();
        let (pages, unread) = sorted(std::mem::take(&mut batch));
        skips.extend(unread);
        run.warehouse.put_pages(source, &pages, run.now).await?;
        run.update("reading", report.found, None, "posts", "");
    }
    drop(receiver);
    reading.await??;
    let complete = !report.interrupted && report.found < run.options.max_pages;
    Ok(Collected { source, skips, complete, gone: Vec::new() })
}

fn sorted(read: Vec<Result<Page, Skip>>) -> (Vec<Page>, Vec<Skip>) {
    let (mut pages, mut skips) = (Vec::new(), Vec::new());
    for outcome in read {
        match outcome {
            Ok(page) => pages.push(page),
            Err(skip) => skips.push(skip),
        }
    }
    (pages, skips)
}

/// Cuts what was found to what may be read. Says whether it is whole.
pub(super) fn limit<T>(run: &Run<'_>, found: &mut Vec<T>, report: &mut IngestReport) -> bool {
    let is_whole = found.len() <= run.options.max_pages;
    if !is_whole {
        report.notes.push(format!("only the first {} of {} were read", run.options.max_pages, found.len()));
        found.truncate(run.options.max_pages);
    }
    is_whole
}
