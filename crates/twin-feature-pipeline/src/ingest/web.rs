//! Collecting from the web: a feed, a page, or a site, of which the posts are found by its feeds, its sitemaps and, where
//! it has none, its links.
//!
//! Every answer is in the warehouse before anything is made of it. A run after a killed one finds the same addresses in
//! the stored answers and asks only for what is not there yet.

use std::collections::HashSet;
use std::sync::Mutex;

use futures::StreamExt;
use reqwest::StatusCode;
use url::Url;

use super::collect::{BATCH, Collected, limit};
use super::{IngestError, Run, in_a_sentence};
use crate::clean::{canonical_url, encoding};
use crate::fetch::{Answer, FetchConfig, FetchError, Fetched, Fetcher, Validators};
use crate::page::{Hints, Media, Page};
use crate::report::IngestReport;
use crate::source::SourceError;
use crate::source::feed::{self, Entry, Found, FoundFeed};
use crate::warehouse::{SourceRun, StoredResponse};

mod account;
mod discover;

pub(super) use self::account::account;

/// How many pages are fetched at a time; each host gets fewer.
const FETCHES: usize = 8;

/// Collects the pages behind an address.
pub(super) async fn pages(
    run: &Run<'_>,
    source: SourceRun,
    url: &Url,
    must_be_feed: bool,
    report: &mut IngestReport,
) -> Result<Collected, IngestError> {
    let web = Web::new(run, source, run.options.fetch.clone())?;
    run.update("fetching", 0, None, "pages", url.as_str());
    match web.look(url, must_be_feed).await? {
        Found::Page(page) => {
            report.found = 1;
            run.warehouse.put_pages(source.id, &[page], run.now).await?;
        }
        Found::Feed(feed) => {
            let entries = web.whole_feed(url, feed, report).await?;
            web.collect(entries, report).await?;
        }
        Found::Site(landing) => {
            let found = web.discover(url, landing, report).await?;
            web.collect(found, report).await?;
        }
    }
    let gone = if run.options.remove_gone && !report.interrupted { web.gone().await? } else { Vec::new() };
    web.confirm().await?;
    // Sitemaps are wrong now and then: what they do not list is asked for before it counts as gone.
    Ok(Collected { source: source.id, skips: Vec::new(), complete: false, gone })
}

struct Web<'a> {
    run: &'a Run<'a>,
    source: SourceRun,
    fetcher: Fetcher,
    /// Addresses of which the server said that nothing changed, to be recorded together.
    confirmed: Mutex<Vec<String>>,
    /// Keys of pages that did not change, to be recorded together.
    unchanged: Mutex<Vec<String>>,
    /// Keys of pages that were had before and of which the server says that they are gone.
    gone: Mutex<Vec<String>>,
}

impl<'a> Web<'a> {
    fn new(run: &'a Run<'a>, source: SourceRun, config: FetchConfig) -> Result<Self, FetchError> {
        let fetcher = Fetcher::new(config)?;
        let (confirmed, unchanged, gone) = Default::default();
        Ok(Self { run, source, fetcher, confirmed, unchanged, gone })
    }
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

    /// The entries of a feed and of the older parts that it leads to.
    async fn whole_feed(
        &self,
        url: &Url,
        feed: FoundFeed,
        report: &mut IngestReport,
    ) -> Result<Vec<Entry>, IngestError> {
        /// No feed is cut into more parts; a feed that leads to itself ends here at the latest.
        const MAX_PARTS: usize = 500;
        if let Some(title) = &feed.title {
            report.notes.push(format!("the feed is “{}”", title.trim()));
        }
        let (mut entries, mut older) = (feed.entries, feed.older);
        let mut seen = HashSet::from([url.to_string()]);
        while let Some(next) = older.take().filter(|next| seen.len() < MAX_PARTS && seen.insert(next.to_string())) {
            if self.run.interrupted(report) || entries.len() >= self.run.options.max_pages {
                break;
            }
            match self.look(&next, true).await {
                Ok(Found::Feed(part)) => {
                    entries.extend(part.entries);
                    older = part.older;
                }
                Ok(_) | Err(IngestError::Source(SourceError::EmptyFeed { .. })) => {}
                Err(IngestError::Source(error)) => {
                    report.notes.push(format!("the feed's older part was left out: {}", in_a_sentence(&error)));
                }
                Err(error) => return Err(error),
            }
        }
        let mut keys = HashSet::new();
        entries.retain(|entry| keys.insert(entry.page.key.clone()));
        Ok(entries)
    }

    /// Fetches the page of each entry and puts it into the warehouse, a batch at a time.
    async fn collect(&self, mut entries: Vec<Entry>, report: &mut IngestReport) -> Result<(), IngestError> {
        limit(self.run, &mut entries, report);
        report.found += entries.len();
        let (total, mut done) = (entries.len(), 0);
        let mut entries = entries.into_iter();
        loop {
            let next: Vec<Entry> = entries.by_ref().take(BATCH).collect();
            if next.is_empty() || self.run.interrupted(report) {
                return Ok(());
            }
            // All of them end before the batch is written: one that waits holds a connection to the warehouse.
            let mut fetches = futures::stream::iter(next).map(|entry| self.entry(entry)).buffer_unordered(FETCHES);
            let mut batch = Vec::with_capacity(BATCH);
            while let Some(fetched) = fetches.next().await {
                let (page, note) = fetched?;
                report.notes.extend(note);
                batch.extend(page);
                done += 1;
                self.run.update("fetching", done, Some(total), "pages", "");
            }
            self.put(&mut batch).await?;
        }
    }

    async fn put(&self, batch: &mut Vec<Page>) -> Result<(), IngestError> {
        self.run.warehouse.put_pages(self.source.id, batch, self.run.now).await?;
        batch.clear();
        self.confirm().await
    }

    /// Fetches an entry's page. A page that cannot be had now is kept as it was had before.
    async fn entry(&self, entry: Entry) -> Result<(Option<Page>, Option<String>), IngestError> {
        let Entry { link, mut page } = entry;
        let outcome = match &link {
            None => Err(Missing { problem: "the feed gives no address for it".to_owned(), is_gone: false }),
            Some(link) => match self.revisit(link, &page).await? {
                Revisit::Unchanged => {
                    lock(&self.unchanged).push(page.key);
                    return Ok((None, None));
                }
                Revisit::Failed(error) => Err(Missing::from(&error)),
                Revisit::Open => self.page(link, &mut page).await?,
            },
        };
        let warehouse = self.run.warehouse;
        let Missing { problem, is_gone } = outcome.err().unwrap_or_default();
        if !problem.is_empty() && warehouse.has_body(self.source.id, &page.key).await? {
            if is_gone && self.run.options.remove_gone {
                lock(&self.gone).push(page.key);
                return Ok((None, None));
            }
            warehouse.touch_page(self.source.id, &page.key, self.run.now).await?;
            return Ok((None, Some(format!("{}: {problem}; the page as fetched before was kept", page.key))));
        }
        page.hints.fetch_problem = Some(problem).filter(|problem| !problem.is_empty());
        Ok((Some(page), None))
    }

    /// Fills in a page's body, or says why there is none.
    async fn page(&self, link: &Url, page: &mut Page) -> Result<Result<(), Missing>, IngestError> {
        Ok(match self.fetch(link).await? {
            Ok(fetched) => fill(page, &fetched).map_err(|problem| Missing { problem, is_gone: false }),
            Err(error) => Err(Missing::from(&error)),
        })
    }

    /// Asks whether a page that was had before changed, where the source says nothing of it that may have. What it says
    /// now is stored, and [`fetch`](Self::fetch) finds it.
    async fn revisit(&self, url: &Url, page: &Page) -> Result<Revisit, IngestError> {
        if !page.hints.is_address_alone() {
            return Ok(Revisit::Open);
        }
        let known = self.run.warehouse.known_response(self.source.id, url.as_str(), &page.key).await?;
        let Some(known) = known else { return Ok(Revisit::Open) };
        if known.fetched_at >= self.source.fresh_since {
            return Ok(Revisit::Unchanged);
        }
        let validators = Validators { etag: known.etag, last_modified: known.last_modified };
        Ok(match self.fetcher.fetch(url, &validators).await {
            Ok(Answer::NotModified) => {
                lock(&self.confirmed).push(url.to_string());
                Revisit::Unchanged
            }
            Ok(Answer::Fetched(fetched)) => self.store(url, &fetched).await.map(|()| Revisit::Open)?,
            Err(error) => Revisit::Failed(error),
        })
    }

    /// Stores an answer.
    async fn store(&self, url: &Url, fetched: &Fetched) -> Result<(), IngestError> {
        let response = StoredResponse {
            final_url: fetched.final_url.clone(),
            content_type: fetched.content_type.clone(),
            etag: fetched.validators.etag.clone(),
            last_modified: fetched.validators.last_modified.clone(),
            body: fetched.body.clone(),
            fetched_at: self.run.now,
        };
        let warehouse = self.run.warehouse;
        Ok(warehouse.put_response(self.source.id, url.as_str(), fetched.status, &response).await?)
    }

    /// Fetches an address, or finds in the warehouse what has not changed since.
    async fn fetch(&self, url: &Url) -> Result<Result<Fetched, FetchError>, IngestError> {
        let stored = self.run.warehouse.response(self.source.id, url.as_str()).await?;
        let stored = match stored {
            Some(stored) if stored.fetched_at >= self.source.fresh_since => return Ok(Ok(from_stored(stored))),
            other => other,
        };
        let known = stored
            .as_ref()
            .map(|stored| Validators { etag: stored.etag.clone(), last_modified: stored.last_modified.clone() });
        match self.fetcher.fetch(url, &known.unwrap_or_default()).await {
            Err(error) => Ok(Err(error)),
            Ok(Answer::NotModified) => {
                lock(&self.confirmed).push(url.to_string());
                // Without a stored answer nobody asked conditionally, so the server may not answer this.
                Ok(stored.map(from_stored).ok_or(FetchError::Status(StatusCode::NOT_MODIFIED)))
            }
            Ok(Answer::Fetched(fetched)) => {
                self.store(url, &fetched).await?;
                Ok(Ok(fetched))
            }
        }
    }

    /// Records the answers that were confirmed, and their pages.
    async fn confirm(&self) -> Result<(), IngestError> {
        let unchanged = std::mem::take(&mut *lock(&self.unchanged));
        self.run.warehouse.touch_pages(self.source.id, &unchanged, self.run.now).await?;
        let confirmed = std::mem::take(&mut *lock(&self.confirmed));
        Ok(self.run.warehouse.confirm_responses(self.source.id, &confirmed, self.run.now).await?)
    }

    /// The keys of pages that this run did not come across and of which the server says that they are gone.
    async fn gone(&self) -> Result<Vec<String>, IngestError> {
        let known = std::mem::take(&mut *lock(&self.gone));
        let mut missing = self.run.warehouse.missing(self.source.id, self.run.now).await?;
        missing.retain(|key| !known.contains(key));
        let checks = futures::stream::iter(missing).map(|key| async move {
            let Ok(url) = Url::parse(&key) else { return Ok(None) };
            let is_gone = self.fetch(&url).await?.is_err_and(|error| is_gone(&error));
            Ok::<_, IngestError>(is_gone.then_some(key))
        });
        let checked: Vec<Result<Option<String>, IngestError>> = checks.buffer_unordered(FETCHES).collect().await;
        known.into_iter().map(Ok).chain(checked.into_iter().filter_map(Result::transpose)).collect()
    }
}

/// Why there is no page now.
#[derive(Default)]
struct Missing {
    problem: String,
    is_gone: bool,
}

impl From<&FetchError> for Missing {
    fn from(error: &FetchError) -> Self {
        Self { problem: in_a_sentence(error), is_gone: is_gone(error) }
    }
}

/// What became of a page that was had before.
enum Revisit {
    Unchanged,
    /// It is to be looked at.
    Open,
    Failed(FetchError),
}

fn is_gone(error: &FetchError) -> bool {
    matches!(error, FetchError::Status(StatusCode::NOT_FOUND | StatusCode::GONE))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Only pushes and takes happen under it, so what a panic left is whole.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A page that is known by its address alone.
fn crawled(url: &Url) -> Page {
    let hints = Hints { crawled: true, ..Hints::default() };
    Page { key: url.to_string(), url: canonical_url(url), media: Media::Html, body: String::new(), hints }
}

/// Puts an answer's text into a page.
fn fill(page: &mut Page, fetched: &Fetched) -> Result<(), String> {
    page.body =
        encoding::decode_page(&fetched.body, fetched.charset().as_deref()).map_err(|error| error.to_string())?;
    if let Ok(url) = Url::parse(&fetched.final_url) {
        page.url = canonical_url(&url);
    }
    Ok(())
}

fn from_stored(stored: StoredResponse) -> Fetched {
    Fetched {
        final_url: stored.final_url,
        status: StatusCode::NOT_MODIFIED.as_u16(),
        content_type: stored.content_type,
        validators: Validators { etag: stored.etag, last_modified: stored.last_modified },
        body: stored.body,
    }
}
