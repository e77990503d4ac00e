//! Collecting: what a source gives goes into the warehouse as pages, each as soon as it is there.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use futures::StreamExt;
use url::Url;

use super::{IngestError, Run, in_a_sentence};
use crate::clean::{canonical_url, encoding};
use crate::fetch::{Answer, FetchError, Fetched, Fetcher, Validators};
use crate::page::Page;
use crate::report::{IngestReport, Skip};
use crate::source::feed::{self, Entry, Found};
use crate::source::rows::Rows;
use crate::source::{Source, SourceError, folder};
use crate::warehouse::{SourceId, StoredResponse};

/// How many pages are read, and then committed, at a time.
const BATCH: usize = 64;
/// How many entries of a feed are fetched at a time; each host gets fewer.
const FETCHES: usize = 4;

/// The source whose pages are in the warehouse now, and what of it never became a page.
pub(super) struct Collected {
    pub(super) source: SourceId,
    pub(super) skips: Vec<Skip>,
    /// Whether a page that an earlier run saw and this one did not is gone. Feeds only ever hold the newest.
    pub(super) complete: bool,
}

/// Collects the pages of the run's source.
pub(super) async fn pages(run: &Run<'_>, report: &mut IngestReport) -> Result<Collected, IngestError> {
    let begun = Instant::now();
    let location = run.source.location();
    let touch = || run.warehouse.touch_source(&run.author.id, run.source.kind(), &location, run.now);
    let collected = match run.source {
        Source::Folder(path) => {
            let root = path.clone();
            let listing = tokio::task::spawn_blocking(move || folder::list(&root)).await??;
            if listing.others > 0 {
                report.notes.push(format!("{} files of other kinds were passed over", listing.others));
            }
            files(run, touch().await?, path, listing.files, listing.skips, report).await?
        }
        Source::File(path) => {
            fs_err::metadata(path).map_err(|source| SourceError::Read { path: path.clone(), source })?;
            files(run, touch().await?, path, vec![path.clone()], Vec::new(), report).await?
        }
        Source::Rows(path) => {
            let rows = Rows::open(path, run.options.max_document_bytes)?;
            rows_of(run, touch().await?, path, rows, report).await?
        }
        Source::Feed(url) => web(run, touch().await?, url, true, report).await?,
        Source::Web(url) => web(run, touch().await?, url, false, report).await?,
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
    limit(run, &mut files, report);
    report.found = files.len() + skips.len();
    for (batch, paths) in files.chunks(BATCH).enumerate() {
        run.update("reading", batch * BATCH, Some(files.len()), "files", "");
        if run.interrupted(report) {
            break;
        }
        let (root, paths, most) = (root.to_owned(), paths.to_vec(), run.options.max_document_bytes);
        let read = move || paths.iter().map(|path| folder::read(&root, path, most)).collect::<Vec<_>>();
        let (pages, unread) = sorted(tokio::task::spawn_blocking(read).await?);
        skips.extend(unread);
        run.warehouse.put_pages(source, &pages, run.now).await?;
    }
    run.update("reading", files.len(), Some(files.len()), "files", "");
    Ok(Collected { source, skips, complete: true })
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
    Ok(Collected { source, skips, complete: true })
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

fn limit<T>(run: &Run<'_>, found: &mut Vec<T>, report: &mut IngestReport) {
    if found.len() > run.options.max_pages {
        report.notes.push(format!("only the first {} of {} were read", run.options.max_pages, found.len()));
        found.truncate(run.options.max_pages);
    }
}

async fn web(
    run: &Run<'_>,
    source: SourceId,
    url: &Url,
    must_be_feed: bool,
    report: &mut IngestReport,
) -> Result<Collected, IngestError> {
    let fetcher = Fetcher::new(run.options.fetch.clone())?;
    let web = Web { run, source, fetcher };
    run.update("fetching", 0, None, "pages", url.as_str());
    let mut found = web.look(url, must_be_feed).await?;
    if let Found::Announced(feeds) = &found
        && let Some(feed) = feeds.first().cloned()
    {
        report.notes.push(format!("{url} announces the feed {feed}, which was read"));
        found = web.look(&feed, true).await?;
    }
    match found {
        Found::Feed { mut entries, title } => {
            if let Some(title) = title {
                report.notes.push(format!("the feed is “{}”", title.trim()));
            }
            let mut keys = HashSet::new();
            entries.retain(|entry| keys.insert(entry.page.key.clone()));
            limit(run, &mut entries, report);
            report.found = entries.len();
            web.entries(entries, report).await?;
        }
        Found::Page(page) => {
            report.found = 1;
            run.warehouse.put_pages(source, &[page], run.now).await?;
        }
        Found::Announced(_) => {}
    }
    Ok(Collected { source, skips: Vec::new(), complete: false })
}

struct Web<'a> {
    run: &'a Run<'a>,
    source: SourceId,
    fetcher: Fetcher,
}

impl Web<'_> {
    /// Fetches an address and says what it is.
    async fn look(&self, url: &Url, must_be_feed: bool) -> Result<Found, IngestError> {
        let fetched = self.fetch(url).await?;
        let fetched =
            fetched.map_err(|source| SourceError::Fetch { url: url.to_string(), source: Box::new(source) })?;
        let url = url.clone();
        Ok(tokio::task::spawn_blocking(move || feed::recognise(&url, &fetched, must_be_feed)).await??)
    }

    async fn entries(&self, entries: Vec<Entry>, report: &mut IngestReport) -> Result<(), IngestError> {
        let total = entries.len();
        let mut fetches = futures::stream::iter(entries).map(|entry| self.entry(entry)).buffer_unordered(FETCHES);
        let mut done = 0;
        while let Some(fetched) = fetches.next().await {
            report.notes.extend(fetched?);
            done += 1;
            self.run.update("fetching", done, Some(total), "pages", "");
            if self.run.interrupted(report) {
                break;
            }
        }
        Ok(())
    }

    /// Fetches an entry's page and puts it into the warehouse. A page that cannot be had now is kept as it was had before.
    async fn entry(&self, entry: Entry) -> Result<Option<String>, IngestError> {
        let Entry { link, mut page } = entry;
        let problem = match &link {
            None => "the feed gives no address for it".to_owned(),
            Some(link) => match self.page(link, &mut page).await? {
                Ok(()) => String::new(),
                Err(problem) => problem,
            },
        };
        let warehouse = self.run.warehouse;
        if !problem.is_empty() && warehouse.has_body(self.source, &page.key).await? {
            warehouse.touch_page(self.source, &page.key, self.run.now).await?;
            return Ok(Some(format!("{}: {problem}; the page as fetched before was kept", page.key)));
        }
        page.hints.fetch_problem = Some(problem).filter(|problem| !problem.is_empty());
        warehouse.put_pages(self.source, &[page], self.run.now).await?;
        Ok(None)
    }

    /// Fills in a page's body, or says why there is none.
    async fn page(&self, link: &Url, page: &mut Page) -> Result<Result<(), String>, IngestError> {
        let fetched = match self.fetch(link).await? {
            Ok(fetched) => fetched,
            Err(error) => return Ok(Err(in_a_sentence(&error))),
        };
        match encoding::decode_page(&fetched.body, fetched.charset().as_deref()) {
            Err(rejection) => Ok(Err(rejection.to_string())),
            Ok(body) => {
                if let Ok(url) = Url::parse(&fetched.final_url) {
                    page.url = canonical_url(&url);
                }
                page.body = body;
                Ok(Ok(()))
            }
        }
    }

    /// Fetches an address, or finds in the warehouse what has not changed since.
    async fn fetch(&self, url: &Url) -> Result<Result<Fetched, FetchError>, IngestError> {
        let stored = self.run.warehouse.response(self.source, url.as_str()).await?;
        let known = stored
            .as_ref()
            .map(|stored| Validators { etag: stored.etag.clone(), last_modified: stored.last_modified.clone() });
        match self.fetcher.fetch(url, &known.clone().unwrap_or_default()).await {
            Err(error) => Ok(Err(error)),
            Ok(Answer::NotModified) => Ok(stored.map(|stored| from_stored(stored, known.unwrap_or_default())).ok_or(
                // Nobody asked conditionally, so the server may not answer this.
                FetchError::Status(reqwest::StatusCode::NOT_MODIFIED),
            )),
            Ok(Answer::Fetched(fetched)) => {
                let response = StoredResponse {
                    final_url: fetched.final_url.clone(),
                    content_type: fetched.content_type.clone(),
                    etag: fetched.validators.etag.clone(),
                    last_modified: fetched.validators.last_modified.clone(),
                    body: fetched.body.clone(),
                };
                let (warehouse, now) = (self.run.warehouse, self.run.now);
                warehouse.put_response(self.source, url.as_str(), fetched.status, &response, now).await?;
                Ok(Ok(fetched))
            }
        }
    }
}

fn from_stored(stored: StoredResponse, validators: Validators) -> Fetched {
    Fetched {
        final_url: stored.final_url,
        status: reqwest::StatusCode::NOT_MODIFIED.as_u16(),
        content_type: stored.content_type,
        validators,
        body: stored.body,
    }
}
