//! Collecting from a Git repository: cloned first, if it is elsewhere.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use twin_domain::Digest;
use url::Url;

use super::collect::{Collected, streamed};
use super::{IngestError, Run};
use crate::fetch::Fetcher;
use crate::report::IngestReport;
use crate::source::git::program;
use crate::source::{Repository, SourceError, git};
use crate::warehouse::SourceId;

pub(super) async fn posts(
    run: &Run<'_>,
    source: SourceId,
    repository: &Repository,
    report: &mut IngestReport,
) -> Result<Collected, IngestError> {
    // Where nothing is kept, a clone is gone at the end of the run.
    let temporary;
    let (place, origin) = match repository {
        Repository::Local(path) => (path.clone(), None),
        Repository::Remote(url) => {
            let name: String =
                Digest::of(url.as_str()).as_str().chars().filter(char::is_ascii_hexdigit).take(32).collect();
            let place = match &run.options.clones {
                Some(clones) => clones.join(name),
                None => {
                    temporary = Temporary(std::env::temp_dir().join(format!("twin-{}-{name}", std::process::id())));
                    temporary.0.clone()
                }
            };
            cloned(run, url, place.clone()).await?;
            (place, Some(url.clone()))
        }
    };
    let most = run.options.max_document_bytes;
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let collected = streamed(run, source, report, move |each| {
        let note = git::read(&place, origin.as_ref(), most, each)?;
        // Nobody waits for it after an error.
        let _ = sender.send(note);
        Ok(())
    })
    .await?;
    report.notes.extend(receiver.await.ok());
    Ok(collected)
}

async fn cloned(run: &Run<'_>, url: &Url, place: PathBuf) -> Result<(), IngestError> {
    let addresses = Fetcher::new(run.options.fetch.clone())?.addresses(url).await?;
    let (stop, address) = (Arc::new(AtomicBool::new(false)), url.clone());
    let asked = stop.clone();
    run.update("cloning", 0, None, "repositories", url.as_str());
    let mut work = tokio::task::spawn_blocking(move || program::clone(&address, &addresses, &place, &asked));
    let done = loop {
        tokio::select! {
            done = &mut work => break done?,
            () = tokio::time::sleep(Duration::from_millis(200)) => {
                stop.store(run.cancel.is_cancelled(), Ordering::Relaxed);
            }
        }
    };
    run.update("cloning", 1, Some(1), "repositories", "");
    Ok(done.map_err(|problem| SourceError::Git { what: url.to_string(), problem })?)
}

/// A folder that goes when nobody needs it any more.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs_err::remove_dir_all(&self.0);
    }
}
