//! Feature workers: processes, on this or other machines, that embed for a run of ingest. What takes the time when features are
//! made is embedding, and a text and the embedder are all that it needs: a worker keeps nothing, and any number of them may
//! come and go.
//!
//! They meet in a job queue, a table in SQLite on one machine or in PostgreSQL between several. The run that takes posts in puts
//! texts there and takes vectors out ([`QueuedEmbedder`]); a worker ([`Queue::work`]) takes a job for a while: when it does not
//! come back with the vectors by then, the job is another one's. Neither texts nor vectors stay in the table once they are
//! fetched. Three statements are all there is to it, so no library for job queues is used: those that were looked at keep what
//! is done, and fetch ahead.

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool};
use twin_domain::Embedding;
use twin_models::embedding::Embedder;

pub use self::client::QueuedEmbedder;
use self::table::Table;

mod client;
mod table;

/// How long a database that is busy or away is waited for.
const WAIT: Duration = Duration::from_secs(30);
/// How long a worker that has nothing to do, and a run that waits, look away from the queue.
const PAUSE: Duration = Duration::from_millis(100);

/// Texts to embed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Job {
    id: String,
    texts: Vec<String>,
}

/// What became of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// The vectors, as [`encode`] writes them.
    Done(String),
    Failed(String),
}

/// Why the queue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    #[error("`{0}` is no queue: write sqlite:///a/file.sqlite, or postgres://user@host/database")]
    Address(String),
    #[error("the job queue {queue} cannot be used: look whether it runs and this account may write to it")]
    Database {
        queue: String,
        #[source]
        source: sqlx::Error,
    },
}

/// A queue of texts to embed.
#[derive(Clone)]
pub struct Queue {
    /// The address without a password.
    shown: String,
    table: Table,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({})", self.shown)
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Queue {
    /// Opens a queue by its address, `sqlite:///a/file.sqlite` or `postgres://user:password@host/database`, and makes its
    /// tables if they are not there.
    ///
    /// # Errors
    /// [`QueueError::Address`] for an address of another kind; [`QueueError::Database`] when it cannot be reached or written.
    pub async fn open(address: &str) -> Result<Self, QueueError> {
        let shown = without_password(address);
        let failed = |source: sqlx::Error| QueueError::Database { queue: shown.clone(), source };
        let table = if address.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(address).map_err(failed)?;
            let options = options.create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
            Table::Sqlite(SqlitePool::connect_with(options.busy_timeout(WAIT)).await.map_err(failed)?)
        } else if address.starts_with("postgres:") || address.starts_with("postgresql:") {
            let options = PgPoolOptions::new().max_connections(4).acquire_timeout(Duration::from_secs(10));
            Table::Postgres(options.connect(address).await.map_err(failed)?)
        } else {
            return Err(QueueError::Address(shown));
        };
        table.create().await.map_err(failed)?;
        Ok(Self { shown, table })
    }

    /// Embeds what runs with the same embedder put into the queue until `stop` comes; the job in hand is finished then.
    ///
    /// # Errors
    /// When the queue fails, again and again for longer than half a minute.
    pub async fn work(&self, embedder: Arc<dyn Embedder>, stop: impl Future<Output = ()>) -> Result<(), QueueError> {
        let mut stop = std::pin::pin!(stop);
        let mut last_good = Instant::now();
        loop {
            let turn = self.turn(&embedder);
            let pause = match turn.await {
                Ok(true) => Duration::ZERO,
                Ok(false) => PAUSE,
                // A database that restarts is waited for.
                Err(error) if last_good.elapsed() < WAIT => {
                    tracing::warn!(%error, "the queue is asked again");
                    tokio::time::sleep(PAUSE * 10).await;
                    continue;
                }
                Err(error) => return Err(self.failed(error)),
            };
            last_good = Instant::now();
            tokio::select! {
                () = &mut stop => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Does one job; says whether there was one.
    async fn turn(&self, embedder: &Arc<dyn Embedder>) -> Result<bool, sqlx::Error> {
        let Some(job) = self.table.take(embedder.digest().as_str()).await? else { return Ok(false) };
        let (id, embedder) = (job.id, Arc::clone(embedder));
        let work = move || embedder.embed(&job.texts.iter().map(String::as_str).collect::<Vec<_>>());
        let outcome = match tokio::task::spawn_blocking(work).await {
            Ok(Ok(vectors)) => Outcome::Done(encode(&vectors)),
            Ok(Err(error)) => Outcome::Failed(error.to_string()),
            Err(_) => Outcome::Failed("the embedder panicked".to_owned()),
        };
        self.table.finish(&id, &outcome).await?;
        Ok(true)
    }

    fn failed(&self, source: sqlx::Error) -> QueueError {
        QueueError::Database { queue: self.shown.clone(), source }
    }
}

/// Vectors as text: their values as little-endian 32-bit floats, one vector after the other, in base64.
fn encode(vectors: &[Embedding]) -> String {
    let values = vectors.iter().flat_map(|vector| vector.values());
    BASE64_STANDARD.encode(values.flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
}

/// `count` vectors of a dimension; `None` when the text is none of these. What they hold is checked as all vectors are.
fn decode(text: &str, count: usize, dimension: usize) -> Option<Vec<Embedding>> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    let values: Vec<f32> = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    if dimension == 0 || bytes.len() != count * dimension * 4 {
        return None;
    }
    values.chunks_exact(dimension).map(|values| Embedding::new(values.to_vec()).ok()).collect()
}

/// An address as it may be shown.
fn without_password(address: &str) -> String {
    match url::Url::parse(address) {
        Ok(mut url) if url.password().is_some() => {
            // Only an address that cannot have a password refuses one.
            let _ = url.set_password(None);
            url.to_string()
        }
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_come_back_as_they_went() {
        let vectors = vec![Embedding::new(vec![0.25, -1.5]).unwrap(), Embedding::new(vec![1e-7, 3.0]).unwrap()];
        let text = encode(&vectors);
        assert_eq!(decode(&text, 2, 2).unwrap(), vectors);
        assert!(decode(&text, 3, 2).is_none() && decode(&text, 2, 3).is_none() && decode("no", 1, 1).is_none());
    }

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(without_password("postgres://ada:secret@db/twin"), "postgres://ada@db/twin");
        assert_eq!(without_password("sqlite:///tmp/queue.sqlite"), "sqlite:///tmp/queue.sqlite");
    }
}
