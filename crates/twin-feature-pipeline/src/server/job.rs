//! A run as those who watch it see it.

use serde::Serialize;
use tokio::sync::watch;
use twin_domain::{Author, Progress, ProgressUpdate};

use crate::ingest::{IngestError, Synced, in_a_sentence};
use crate::report::IngestReport;

/// How far a stage of the run has come.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Stage {
    stage: String,
    done: u64,
    total: Option<u64>,
    unit: String,
    detail: String,
}

/// What is going on, or what came of the last run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Snapshot {
    pub(super) running: bool,
    /// Whose posts.
    pub(super) author: Option<String>,
    /// What the source was recognised as.
    pub(super) source: String,
    pub(super) stages: Vec<Stage>,
    /// What the run did to each source.
    pub(super) reports: Vec<IngestReport>,
    /// Why a source could not be read.
    pub(super) errors: Vec<String>,
}

/// Tells everybody who watches.
pub(super) struct Watched {
    state: watch::Sender<Snapshot>,
}

impl Watched {
    pub(super) fn begin(state: &watch::Sender<Snapshot>, author: &Author, source: &str) -> Self {
        state.send_replace(Snapshot {
            running: true,
            author: Some(author.id.to_string()),
            source: source.to_owned(),
            ..Snapshot::default()
        });
        Self { state: state.clone() }
    }

    pub(super) fn end(&self, outcome: Result<IngestReport, IngestError>) {
        self.state.send_modify(|state| {
            state.running = false;
            match outcome {
                Ok(report) => state.reports.push(report),
                Err(error) => state.errors.push(in_a_sentence(&error)),
            }
        });
    }

    pub(super) fn end_sync(&self, outcome: &Result<Vec<Synced>, IngestError>) {
        self.state.send_modify(|state| {
            state.running = false;
            match outcome {
                Err(error) => state.errors.push(in_a_sentence(error)),
                Ok(synced) => {
                    for Synced { source, outcome } in synced {
                        match outcome {
                            Ok(report) => state.reports.push(report.clone()),
                            Err(error) => state.errors.push(format!("{}: {}", source.location, in_a_sentence(error))),
                        }
                    }
                }
            }
        });
    }
}

impl Progress for Watched {
    fn update(&self, update: ProgressUpdate<'_>) {
        let ProgressUpdate { stage, done, total, unit, detail } = update;
        let now = Stage { stage: stage.to_owned(), done, total, unit: unit.to_owned(), detail: detail.to_owned() };
        self.state.send_modify(|state| match state.stages.iter_mut().find(|known| known.stage == stage) {
            Some(known) => *known = now,
            None => state.stages.push(now),
        });
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // After a panic, too, nothing runs any more.
        self.state.send_if_modified(|state| std::mem::take(&mut state.running));
    }
}
