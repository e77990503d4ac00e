//! The table of jobs, in either database. Times are the database's own: machines' clocks differ.

use sqlx::postgres::PgPool;
use sqlx::sqlite::SqlitePool;

use super::{Job, Outcome};

/// For how long a worker has a job to itself. A job is a few seconds' work.
const LEASE_SECONDS: i64 = 30;
/// How often a job is taken before it is given up: a text on which workers die must not kill all of them.
const MOST_TAKEN: i64 = 5;
/// Jobs that nobody asked about for so long are those of a run that was killed.
const FORGOTTEN_SECONDS: i64 = 3600;

const CREATE: &str = "CREATE TABLE IF NOT EXISTS twin_embed_jobs (
    id TEXT PRIMARY KEY, embedder TEXT NOT NULL, texts TEXT NOT NULL, place BIGINT NOT NULL,
    made_at BIGINT NOT NULL, taken_until BIGINT NOT NULL DEFAULT 0, taken BIGINT NOT NULL DEFAULT 0,
    vectors TEXT, error TEXT)";

#[derive(Clone)]
pub(super) enum Table {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// Runs a statement in whichever database it is; `NOW` in it is the time in seconds.
macro_rules! run {
    ($table:expr, $statement:expr, [$($bound:expr),*], $method:ident) => {
        match $table {
            Table::Sqlite(pool) => {
                let statement = $statement.replace("NOW", "CAST(strftime('%s', 'now') AS INTEGER)").replace("SKIP_LOCKED", "");
                sqlx::query_as::<_, Row>(sqlx::AssertSqlSafe(statement))$(.bind($bound))*.$method(pool).await
            }
            Table::Postgres(pool) => {
                let now = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT)";
                let statement = $statement.replace("NOW", now).replace("SKIP_LOCKED", "FOR UPDATE SKIP LOCKED");
                sqlx::query_as::<_, Row>(sqlx::AssertSqlSafe(statement))$(.bind($bound))*.$method(pool).await
            }
        }
    };
}

/// What statements give back: a job's id, and two texts.
type Row = (String, Option<String>, Option<String>);

impl Table {
    pub(super) async fn create(&self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(pool) => sqlx::query(CREATE).execute(pool).await.map(drop),
            // Two processes that create it at once get in each other's way.
            Self::Postgres(pool) => {
                let mut transaction = pool.begin().await?;
                sqlx::query("SELECT pg_advisory_xact_lock(7896201)").execute(&mut *transaction).await?;
                sqlx::query(CREATE).execute(&mut *transaction).await?;
                transaction.commit().await
            }
        }
    }

    /// Adds a job, and removes those of runs that were killed.
    pub(super) async fn put(&self, job: &Job, embedder: &str, place: i64) -> Result<(), sqlx::Error> {
        let texts = serde_json::json!(job.texts).to_string();
        let forgotten =
            format!("DELETE FROM twin_embed_jobs WHERE made_at < NOW - {FORGOTTEN_SECONDS} RETURNING id, NULL, NULL");
        run!(self, forgotten, [], fetch_all)?;
        let insert = "INSERT INTO twin_embed_jobs (id, embedder, texts, place, made_at) VALUES ($1, $2, $3, $4, NOW)
                      RETURNING id, NULL, NULL";
        run!(self, insert, [&job.id, embedder, &texts, place], fetch_all).map(drop)
    }

    /// The job that has waited longest, or been with a worker for too long.
    pub(super) async fn take(&self, embedder: &str) -> Result<Option<Job>, sqlx::Error> {
        let given_up = format!(
            "UPDATE twin_embed_jobs SET error = 'workers that took it did not come back'
             WHERE vectors IS NULL AND error IS NULL AND taken >= {MOST_TAKEN} AND taken_until < NOW RETURNING id, NULL, NULL"
        );
        run!(self, given_up, [], fetch_all)?;
        let take = format!(
            "UPDATE twin_embed_jobs SET taken_until = NOW + {LEASE_SECONDS}, taken = taken + 1 WHERE id = (
                 SELECT id FROM twin_embed_jobs
                 WHERE embedder = $1 AND vectors IS NULL AND error IS NULL AND taken_until < NOW
                 ORDER BY place, id LIMIT 1 SKIP_LOCKED)
             RETURNING id, texts, NULL"
        );
        let row = run!(self, take, [embedder], fetch_optional)?;
        let texts = |text: Option<String>| serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default();
        Ok(row.map(|(id, text, _)| Job { id, texts: texts(text) }))
    }

    /// Records what became of a job, unless another worker was faster.
    pub(super) async fn finish(&self, id: &str, outcome: &Outcome) -> Result<(), sqlx::Error> {
        let (vectors, error) = match outcome {
            Outcome::Done(vectors) => (Some(vectors), None),
            Outcome::Failed(error) => (None, Some(error)),
        };
        let finish = "UPDATE twin_embed_jobs SET vectors = $2, error = $3 WHERE id = $1 AND vectors IS NULL
                      RETURNING id, NULL, NULL";
        run!(self, finish, [id, vectors, error], fetch_all).map(drop)
    }

    /// What became of a job; `None` while nothing has.
    pub(super) async fn outcome(&self, id: &str) -> Result<Option<Outcome>, sqlx::Error> {
        let select = "SELECT id, vectors, error FROM twin_embed_jobs WHERE id = $1";
        Ok(match run!(self, select, [id], fetch_optional)? {
            Some((_, Some(vectors), _)) => Some(Outcome::Done(vectors)),
            Some((_, None, Some(error))) => Some(Outcome::Failed(error)),
            Some((_, None, None)) => None,
            None => Some(Outcome::Failed("it is no longer in the queue".to_owned())),
        })
    }

    pub(super) async fn remove(&self, id: &str) -> Result<(), sqlx::Error> {
        let remove = "DELETE FROM twin_embed_jobs WHERE id = $1 RETURNING id, NULL, NULL";
        run!(self, remove, [id], fetch_all).map(drop)
    }
}
