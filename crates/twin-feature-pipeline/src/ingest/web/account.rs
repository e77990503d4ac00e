//! Collecting somebody's posts from a service's API.

use std::collections::VecDeque;

use futures::StreamExt;
use serde_json::Value;

use super::{Collected, FETCHES, IngestError, Run, SourceError, SourceRun, Web, in_a_sentence, is_gone};
use crate::fetch::{FetchConfig, FetchError};
use crate::ingest::collect::BATCH;
use crate::page::Page;
use crate::report::{IngestReport, Skip};
use crate::source::service::{Account, Ask, begin};

/// Collects an account's posts. What the service does not list any more is gone, if all of the list could be read.
pub(in crate::ingest) async fn account(
    run: &Run<'_>,
    source: SourceRun,
    account: &Account,
    report: &mut IngestReport,
) -> Result<Collected, IngestError> {
    // An API is there for programs; robots.txt is about pages.
    let config = FetchConfig { obey_robots: false, ..run.options.fetch.clone() };
    let web = &Web::new(run, source, config)?;
    let (mut reading, first) = begin(account, &run.options.services)?;
    let (mut open, mut skips, mut answers): (VecDeque<Ask>, Vec<Skip>, usize) = (first.into(), Vec::new(), 0);
    let mut is_whole = true;
    while !open.is_empty() && !run.interrupted(report) {
        let next: Vec<Ask> = open.drain(..open.len().min(FETCHES)).collect();
        let asked = futures::stream::iter(next).map(|ask| async move { (web.ask(&ask).await, ask) }).buffered(FETCHES);
        for (answer, ask) in asked.collect::<Vec<_>>().await {
            answers += 1;
            match answer? {
                Ok(answer) => {
                    let problem = |problem| SourceError::Account { account: account.to_string(), problem };
                    open.extend(reading.take(&ask, &answer).map_err(problem)?);
                }
                // A repository without a README, a post that was taken back since.
                Err(error) if ask.is_detail && is_gone(&error) => {}
                Err(error) if answers == 1 => return Err(refused(account, &ask, error).into()),
                Err(error) => {
                    is_whole = false;
                    skips.push(Skip { what: ask.url.to_string(), reason: in_a_sentence(&error) });
                }
            }
        }
        run.update("fetching", answers, None, "answers", "");
        if answers >= run.options.max_pages {
            report.notes.push(format!("only {answers} answers of the service were read"));
            is_whole = false;
            break;
        }
    }
    let mut pages: Vec<Page> = Vec::new();
    for post in reading.finish() {
        report.found += 1;
        match post {
            Ok(page) => pages.push(page),
            Err(skip) => skips.push(skip),
        }
    }
    for batch in pages.chunks(BATCH) {
        run.warehouse.put_pages(source.id, batch, run.now).await?;
    }
    web.confirm().await?;
    let complete = is_whole && !report.interrupted;
    Ok(Collected { source: source.id, skips, complete, gone: Vec::new() })
}

fn refused(account: &Account, ask: &Ask, error: FetchError) -> SourceError {
    if is_gone(&error) {
        return SourceError::Account {
            account: account.to_string(),
            problem: "the service knows nobody by that name".to_owned(),
        };
    }
    SourceError::Fetch { url: ask.url.to_string(), source: Box::new(error) }
}

impl Web<'_> {
    /// Asks an API, or finds in the warehouse what has not changed since.
    async fn ask(&self, ask: &Ask) -> Result<Result<Value, FetchError>, IngestError> {
        let fetched = match &ask.body {
            None => self.fetch(&ask.url).await?,
            Some(body) => self.fetcher.post(&ask.url, body.to_string()).await,
        };
        let parsed = fetched.and_then(|fetched| {
            serde_json::from_slice(&fetched.body).map_err(|error| FetchError::NotJson(error.to_string()))
        });
        Ok(parsed)
    }
}
