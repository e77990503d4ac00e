//! The document warehouse: SQLite, one file. Sources, pages, documents, and what of them is in the feature store.
//!
//! Acknowledged means committed with `synchronous = FULL`. Every statement of one step is in one transaction, so that a
//! killed process leaves the state before or after a step and never between.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

mod documents;
mod embeddings;
mod forgotten;
mod indexed;
mod pages;
mod responses;
mod sources;

pub(crate) use self::documents::NewDocument;
pub use self::documents::StoredCounts;
pub(crate) use self::embeddings::Embeddings;
pub use self::forgotten::KnownDocument;
pub(crate) use self::pages::Cleaned;
pub(crate) use self::responses::StoredResponse;
pub(crate) use self::sources::SourceRun;
pub use self::sources::StoredSource;

/// The first version without the WAL-reset bug, which could corrupt a database that several connections checkpoint.
const LEAST_SQLITE: (u32, u32, u32) = (3, 51, 3);

/// With fewer bytes on its disk than this, what goes wrong when the warehouse is opened is for want of room.
const LEAST_FREE: u64 = 1 << 20;

/// Why the warehouse could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum WarehouseError {
    #[error("the warehouse `{path}` could not be opened: check that the folder can be written to")]
    Open {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("the warehouse `{path}` could not be opened: its disk is full; make room")]
    Full {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("the warehouse `{path}` could not be brought to this version's tables")]
    Migrate {
        path: PathBuf,
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    #[error("the warehouse `{path}` is damaged: {problem}; put back a copy of it, or remove it and ingest again")]
    Damaged { path: PathBuf, problem: String },
    #[error("SQLite {found} is older than {least}, which the warehouse needs")]
    OldSqlite { found: String, least: String },
    #[error("the warehouse could not {operation}")]
    Query {
        operation: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("the warehouse has a row that cannot be read: {problem}")]
    Row { problem: String },
}

/// An open warehouse. Cloning it is cheap; clones share connections.
#[derive(Debug, Clone)]
pub struct Warehouse {
    pool: SqlitePool,
}

/// A source's number in the warehouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SourceId(i64);

impl Warehouse {
    /// Opens the warehouse in the file `path`, making it and its folder if there is none. The file is checked for damage
    /// and brought to this version's tables.
    ///
    /// # Errors
    /// When the file cannot be opened, is damaged or is no warehouse.
    pub async fn open(path: &Path) -> Result<Self, WarehouseError> {
        // SQLite calls it an I/O error where there is no room for the files beside its own.
        let full = |folder: &Path| fs4::available_space(folder).is_ok_and(|free| free < LEAST_FREE);
        let open = |source| match path.parent().is_some_and(full) {
            true => WarehouseError::Full { path: path.to_owned(), source },
            false => WarehouseError::Open { path: path.to_owned(), source },
        };
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder).map_err(|error| open(sqlx::Error::Io(error)))?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            // What is deleted is overwritten, or it could be read from the file.
            .pragma("secure_delete", "ON")
            .busy_timeout(Duration::from_secs(10));
        let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await.map_err(|source| {
            // "File is not a database" is damage, not a matter of rights.
            match source.as_database_error().map(|error| error.message().to_owned()) {
                Some(problem) if problem.contains("not a database") || problem.contains("malformed") => {
                    WarehouseError::Damaged { path: path.to_owned(), problem }
                }
                _ => open(source),
            }
        })?;
        let warehouse = Self { pool };
        warehouse.check_version().await?;
        warehouse.check_health(path).await?;
        let migrated = sqlx::migrate!().run(&warehouse.pool).await;
        migrated.map_err(|source| WarehouseError::Migrate { path: path.to_owned(), source })?;
        Ok(warehouse)
    }

    /// Lets go of the file. Work that is acknowledged is safe without it.
    pub async fn close(self) {
        self.pool.close().await;
    }

    async fn check_version(&self) -> Result<(), WarehouseError> {
        let query = sqlx::query_scalar::<_, String>("SELECT sqlite_version()");
        let found = query.fetch_one(&self.pool).await.map_err(failed("say its version"))?;
        let mut numbers = found.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        if (next(), next(), next()) < LEAST_SQLITE {
            let (major, minor, patch) = LEAST_SQLITE;
            return Err(WarehouseError::OldSqlite { found, least: format!("{major}.{minor}.{patch}") });
        }
        Ok(())
    }

    async fn check_health(&self, path: &Path) -> Result<(), WarehouseError> {
        let query = sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)");
        let problem = match query.fetch_one(&self.pool).await {
            Ok(verdict) if verdict == "ok" => return Ok(()),
            Ok(verdict) => verdict,
            Err(error) => error.to_string(),
        };
        Err(WarehouseError::Damaged { path: path.to_owned(), problem })
    }
}

/// Makes an error of a failed statement.
fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> WarehouseError {
    move |source| WarehouseError::Query { operation, source }
}

fn unreadable(error: impl std::fmt::Display) -> WarehouseError {
    WarehouseError::Row { problem: error.to_string() }
}

fn json(value: &impl serde::Serialize) -> Result<String, WarehouseError> {
    serde_json::to_string(value).map_err(unreadable)
}
