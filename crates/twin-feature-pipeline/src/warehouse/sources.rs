//! Sources: where an author's posts come from, and how far the last run over each came.

use jiff::{SignedDuration, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use twin_domain::{AuthorId, DocumentId};

use super::{SourceId, Warehouse, WarehouseError, failed, unreadable};

/// A run that was broken off longer ago is not gone on with: what it fetched may have changed.
const MAX_BROKEN_OFF: SignedDuration = SignedDuration::from_hours(24);

/// A source as the warehouse has it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StoredSource {
    /// Its number, by which it is named in commands.
    pub id: i64,
    pub author: AuthorId,
    /// `folder`, `file`, `rows`, `export` or `web`.
    pub kind: String,
    /// The path or the address.
    pub location: String,
    pub paused: bool,
    /// Only posts with this byline are taken.
    pub only_by: Option<String>,
    /// When a run over it last began.
    pub last_seen: Timestamp,
    /// Whether that run ended.
    pub complete: bool,
    /// Documents that came from it and are not gone.
    pub documents: u64,
    /// What the last run did not take.
    pub skips: u64,
}

/// A run over a source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SourceRun {
    pub(crate) id: SourceId,
    /// What was fetched since then is not fetched again: the beginning of this run, or of the one it goes on with.
    pub(crate) fresh_since: Timestamp,
}

impl Warehouse {
    /// Records that a run over a source begins, or goes on after one that was killed.
    pub(crate) async fn begin_run(
        &self,
        author: &AuthorId,
        kind: &str,
        location: &str,
        only_by: Option<&str>,
        now: Timestamp,
    ) -> Result<SourceRun, WarehouseError> {
        let failed = failed("record a source");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let statement = "INSERT INTO sources (author, kind, location, first_seen, last_seen) VALUES (?, ?, ?, ?4, ?4)
             ON CONFLICT (author, kind, location) DO UPDATE SET last_seen = excluded.last_seen
             RETURNING id, run_begun, run_ended";
        let query = sqlx::query(statement).bind(author.as_str()).bind(kind).bind(location).bind(now.to_string());
        let row = query.fetch_one(&mut *transaction).await.map_err(&failed)?;
        let id = SourceId(row.get("id"));
        let begun = row.get::<Option<String>, _>("run_begun").and_then(|begun| begun.parse::<Timestamp>().ok());
        let is_broken_off = row.get::<Option<String>, _>("run_ended").is_none();
        let begun = begun.filter(|begun| is_broken_off && now.duration_since(*begun) < MAX_BROKEN_OFF);
        let fresh_since = begun.unwrap_or(now);
        let query = sqlx::query("UPDATE sources SET run_begun = ?, run_ended = NULL, only_by = ? WHERE id = ?");
        let query = query.bind(fresh_since.to_string()).bind(only_by).bind(id.0);
        query.execute(&mut *transaction).await.map_err(&failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(SourceRun { id, fresh_since })
    }

    /// Records that a run over a source came to its end.
    pub(crate) async fn end_run(&self, source: SourceId, now: Timestamp) -> Result<(), WarehouseError> {
        let query = sqlx::query("UPDATE sources SET run_ended = ? WHERE id = ?").bind(now.to_string()).bind(source.0);
        query.execute(&self.pool).await.map(drop).map_err(failed("record the end of a run"))
    }

    /// The sources of an author, or of all, in the order in which they were first read.
    ///
    /// # Errors
    /// When the warehouse cannot be read.
    pub async fn sources(&self, author: Option<&AuthorId>) -> Result<Vec<StoredSource>, WarehouseError> {
        let statement = "SELECT id, author, kind, location, paused, only_by, last_seen, run_ended,
                 (SELECT COUNT(*) FROM documents d WHERE d.source = s.id AND d.gone_since IS NULL) AS documents,
                 (SELECT COUNT(*) FROM skips k WHERE k.source = s.id) AS skips
             FROM sources s WHERE ?1 IS NULL OR author = ?1 ORDER BY id";
        let query = sqlx::query(statement).bind(author.map(AuthorId::as_str));
        let rows = query.fetch_all(&self.pool).await.map_err(failed("list sources"))?;
        rows.iter().map(source).collect()
    }

    /// Lets `sync` pass a source over, or take it along again. Says whether there is such a source.
    ///
    /// # Errors
    /// When the warehouse cannot be written.
    pub async fn pause_source(&self, id: i64, paused: bool) -> Result<bool, WarehouseError> {
        let query = sqlx::query("UPDATE sources SET paused = ? WHERE id = ?").bind(paused).bind(id);
        let done = query.execute(&self.pool).await.map_err(failed("pause a source"))?;
        Ok(done.rows_affected() > 0)
    }

    /// Makes tombstones of all documents of a source, as the first step of its removal.
    pub(crate) async fn bury_source(&self, id: i64, now: Timestamp) -> Result<u64, WarehouseError> {
        let statement = "UPDATE documents SET gone_since = ? WHERE source = ? AND gone_since IS NULL";
        let query = sqlx::query(statement).bind(now.to_string()).bind(id);
        let done = query.execute(&self.pool).await.map_err(failed("remove a source's documents"))?;
        Ok(done.rows_affected())
    }

    /// Removes a source with its pages, answers and documents. What of them is indexed must be out of the index before.
    pub(crate) async fn delete_source(&self, id: i64) -> Result<(), WarehouseError> {
        let query = sqlx::query("DELETE FROM sources WHERE id = ?").bind(id);
        query.execute(&self.pool).await.map(drop).map_err(failed("remove a source"))
    }

    /// Makes tombstones of the documents that were made of these pages, and forgets the pages. Gives the documents'
    /// addresses.
    pub(crate) async fn bury_pages(
        &self,
        source: SourceId,
        keys: &[String],
        now: Timestamp,
    ) -> Result<Vec<String>, WarehouseError> {
        let failed = failed("record documents that are gone");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let mut addresses = Vec::new();
        for key in keys {
            let statement = "UPDATE documents SET gone_since = ?
                 WHERE source = ? AND page = ? AND gone_since IS NULL RETURNING url";
            let query = sqlx::query_scalar(statement).bind(now.to_string()).bind(source.0).bind(key);
            addresses.extend(query.fetch_all(&mut *transaction).await.map_err(&failed)?);
            for statement in
                ["DELETE FROM pages WHERE source = ? AND key = ?", "DELETE FROM responses WHERE source = ? AND url = ?"]
            {
                let query = sqlx::query(statement).bind(source.0).bind(key);
                query.execute(&mut *transaction).await.map_err(&failed)?;
            }
        }
        transaction.commit().await.map_err(failed)?;
        Ok(addresses)
    }

    /// The author's documents that are gone and still in an index: the view and the id.
    pub(crate) async fn gone_but_indexed(
        &self,
        author: &AuthorId,
    ) -> Result<Vec<(String, DocumentId)>, WarehouseError> {
        let statement = "SELECT i.view, i.document FROM indexed i JOIN documents d ON d.id = i.document
             WHERE d.author = ? AND d.gone_since IS NOT NULL";
        let rows = sqlx::query(statement).bind(author.as_str()).fetch_all(&self.pool).await;
        let read = |row: &SqliteRow| {
            let id: String = row.get("document");
            Ok((row.get("view"), DocumentId(id.parse().map_err(unreadable)?)))
        };
        rows.map_err(failed("list what is gone"))?.iter().map(read).collect()
    }

    /// Records that a document that is gone is in a view no more. Its vectors go with it.
    pub(crate) async fn forget_document(&self, view: &str, document: DocumentId) -> Result<(), WarehouseError> {
        let failed = failed("record what is gone");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let query = sqlx::query("DELETE FROM embeddings WHERE document = ?").bind(document.to_string());
        query.execute(&mut *transaction).await.map_err(&failed)?;
        let query = sqlx::query("DELETE FROM indexed WHERE view = ? AND document = ?");
        let query = query.bind(view).bind(document.to_string());
        query.execute(&mut *transaction).await.map_err(&failed)?;
        transaction.commit().await.map_err(failed)
    }
}

fn source(row: &SqliteRow) -> Result<StoredSource, WarehouseError> {
    let count = |name: &str| u64::try_from(row.get::<i64, _>(name)).unwrap_or(0);
    Ok(StoredSource {
        id: row.get("id"),
        author: AuthorId::parse(row.get("author")).map_err(unreadable)?,
        kind: row.get("kind"),
        location: row.get("location"),
        paused: row.get("paused"),
        only_by: row.get("only_by"),
        last_seen: row.get::<String, _>("last_seen").parse().map_err(unreadable)?,
        complete: row.get::<Option<String>, _>("run_ended").is_some(),
        documents: count("documents"),
        skips: count("skips"),
    })
}
