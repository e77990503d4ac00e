//! The run's side of the queue: an embedder that lets workers do the work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use twin_domain::{CancelFlag, Digest, Embedding};
use twin_models::embedding::{EmbedError, Embedder, TokenVectors};
use uuid::Uuid;

use super::{Job, Outcome, PAUSE, Queue, decode};

/// How many texts make a job: about two seconds of work.
const JOB_TEXTS: usize = 64;
/// How many texts are handed over at once, so that several workers have something to do.
const BATCH_TEXTS: usize = 1024;
/// Fewer texts than this are not worth the way through the queue.
const FEW_TEXTS: usize = 8;
/// After how long without a job being done it is said that workers may be missing.
const PATIENCE: Duration = Duration::from_secs(60);

/// An embedder that counts tokens itself and lets workers embed. Questions and the like, which are few, it embeds itself.
pub struct QueuedEmbedder {
    /// The same model as the workers have.
    local: Arc<dyn Embedder>,
    queue: Queue,
    runtime: Handle,
    cancel: CancelFlag,
}

impl QueuedEmbedder {
    /// Lets the workers of a queue embed as `local` would. Waiting for them ends when `cancel` is set.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn new(local: Arc<dyn Embedder>, queue: Queue, cancel: CancelFlag) -> Self {
        Self { local, queue, runtime: Handle::current(), cancel }
    }

    fn failed(&self, batch: usize, source: Box<dyn std::error::Error + Send + Sync>) -> EmbedError {
        EmbedError::Run { model: self.local.name().to_owned(), batch, source }
    }

    async fn through_queue(&self, texts: &[&str]) -> Result<Vec<Embedding>, EmbedError> {
        let failed = |error: sqlx::Error| self.failed(texts.len(), self.queue.failed(error).into());
        let job = |part: &[&str]| Job {
            id: Uuid::new_v4().to_string(),
            texts: part.iter().map(|text| (*text).to_owned()).collect(),
        };
        let jobs: Vec<Job> = texts.chunks(JOB_TEXTS).map(job).collect();
        for (place, job) in (0..).zip(&jobs) {
            self.queue.table.put(job, self.local.digest().as_str(), place).await.map_err(failed)?;
        }
        let made = self.collect(&jobs).await;
        // Neither texts nor vectors are left behind, however it ended.
        for job in &jobs {
            self.queue.table.remove(&job.id).await.map_err(failed)?;
        }
        made
    }

    /// Waits for the jobs, one after the other; they end in about that order.
    async fn collect(&self, jobs: &[Job]) -> Result<Vec<Embedding>, EmbedError> {
        let mut made = Vec::new();
        for job in jobs {
            let count = job.texts.len();
            let begun = Instant::now();
            let mut told = false;
            let outcome = loop {
                if self.cancel.is_cancelled() {
                    return Err(self.failed(count, "it was stopped while workers had the texts".into()));
                }
                let found = self.queue.table.outcome(&job.id).await;
                match found.map_err(|error| self.failed(count, self.queue.failed(error).into()))? {
                    Some(outcome) => break outcome,
                    None => tokio::time::sleep(PAUSE).await,
                }
                if begun.elapsed() > PATIENCE && !told {
                    let name = self.local.name();
                    tracing::warn!("texts wait for a worker with {name}: if none runs, start one with `twin worker`");
                    told = true;
                }
            };
            let vectors = match outcome {
                Outcome::Done(vectors) => decode(&vectors, count, self.local.dimension()),
                Outcome::Failed(error) => return Err(self.failed(count, format!("a worker failed: {error}").into())),
            };
            let broken = || self.failed(count, "a worker gave back what are no vectors of these texts".into());
            made.extend(vectors.ok_or_else(broken)?);
        }
        Ok(made)
    }
}

impl Embedder for QueuedEmbedder {
    fn name(&self) -> &str {
        self.local.name()
    }

    fn digest(&self) -> &Digest {
        self.local.digest()
    }

    fn dimension(&self) -> usize {
        self.local.dimension()
    }

    fn max_tokens(&self) -> usize {
        self.local.max_tokens()
    }

    fn count_tokens(&self, text: &str) -> usize {
        self.local.count_tokens(text)
    }

    fn batch(&self) -> usize {
        BATCH_TEXTS
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, EmbedError> {
        if texts.len() < FEW_TEXTS {
            return self.local.embed(texts);
        }
        self.runtime.block_on(self.through_queue(texts))
    }

    fn embed_tokens(&self, texts: &[&str]) -> Result<Option<Vec<TokenVectors>>, EmbedError> {
        self.local.embed_tokens(texts)
    }
}
