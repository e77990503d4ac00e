//! Progress and cancellation of long work, without a terminal or a runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A request to stop, shared between whoever asks and whoever works.
#[derive(Debug, Clone, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// A flag that nobody has set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the work to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How far a stage has come.
#[derive(Debug, Clone, Copy)]
pub struct ProgressUpdate<'a> {
    /// The stage's name, as in `embedding`.
    pub stage: &'a str,
    pub done: u64,
    /// How much there is, once it is known.
    pub total: Option<u64>,
    /// What is counted, as in `chunks`.
    pub unit: &'a str,
    /// A remark such as the current loss; empty for none.
    pub detail: &'a str,
}

/// Whoever wants to know how far the work is. Called often, so it must be quick; it must not fail.
pub trait Progress: Send + Sync {
    /// A stage has come this far. The first call for a stage begins it; `done == total` ends it.
    fn update(&self, update: ProgressUpdate<'_>);
}

/// Nobody is watching.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn update(&self, _: ProgressUpdate<'_>) {}
}
