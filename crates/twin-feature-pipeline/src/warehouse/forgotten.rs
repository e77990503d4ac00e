//! Documents that are to be forgotten, and stay so.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::Row;
use twin_domain::{AuthorId, DocumentId};

use super::{SourceId, Warehouse, WarehouseError, failed, unreadable};

/// A document by which it is found again.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct KnownDocument {
    pub id: DocumentId,
    pub author: AuthorId,
    pub url: String,
    /// Empty for one that is forgotten.
    pub title: String,
    /// When it was forgotten.
    pub forgotten_at: Option<Timestamp>,
}

impl Warehouse {
    /// The documents with this address or id, the forgotten ones as well. The same address may be of several authors.
    ///
    /// # Errors
    /// When the warehouse cannot be read.
    pub async fn find_documents(&self, address_or_id: &str) -> Result<Vec<KnownDocument>, WarehouseError> {
        let statement = "SELECT id, author, url, title, NULL AS forgotten_at FROM documents WHERE id = ?1 OR url = ?1
             UNION SELECT document, author, url, '', forgotten_at FROM forgotten
                 WHERE (document = ?1 OR url = ?1) AND document NOT IN (SELECT id FROM documents)
             ORDER BY author, url";
        let rows = sqlx::query(statement).bind(address_or_id).fetch_all(&self.pool).await;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            let at: Option<String> = row.get("forgotten_at");
            Ok(KnownDocument {
                id: DocumentId(row.get::<String, _>("id").parse().map_err(unreadable)?),
                author: AuthorId::parse(row.get("author")).map_err(unreadable)?,
                url: row.get("url"),
                title: row.get("title"),
                forgotten_at: at.map(|at| at.parse()).transpose().map_err(unreadable)?,
            })
        };
        rows.map_err(failed("find a document"))?.iter().map(read).collect()
    }

    /// Makes a tombstone of a document that is not to come back. It is the first step of forgetting it.
    pub(crate) async fn begin_to_forget(&self, document: &KnownDocument, now: Timestamp) -> Result<(), WarehouseError> {
        let failed = failed("record what is to be forgotten");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let statement = "INSERT INTO forgotten (document, author, url, forgotten_at) VALUES (?, ?, ?, ?)
             ON CONFLICT (document) DO NOTHING";
        let query = sqlx::query(statement).bind(document.id.to_string()).bind(document.author.as_str());
        let query = query.bind(&document.url).bind(now.to_string());
        query.execute(&mut *transaction).await.map_err(&failed)?;
        let query = sqlx::query("UPDATE documents SET gone_since = ? WHERE id = ? AND gone_since IS NULL");
        let query = query.bind(now.to_string()).bind(document.id.to_string());
        query.execute(&mut *transaction).await.map_err(&failed)?;
        transaction.commit().await.map_err(failed)
    }

    /// Removes a document with its page, what a server answered for it, and its vectors. It must be out of the index before.
    pub(crate) async fn erase(&self, document: DocumentId) -> Result<(), WarehouseError> {
        let failed = failed("forget a document");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let query = sqlx::query("SELECT source, page, url FROM documents WHERE id = ?").bind(document.to_string());
        if let Some(row) = query.fetch_optional(&mut *transaction).await.map_err(&failed)? {
            let (source, page, url): (i64, String, String) = (row.get("source"), row.get("page"), row.get("url"));
            for (statement, key) in [
                (BLANK_PAGE, &page),
                ("DELETE FROM responses WHERE source = ?1 AND (url = ?2 OR final_url = ?2)", &page),
                ("DELETE FROM responses WHERE source = ?1 AND (url = ?2 OR final_url = ?2)", &url),
            ] {
                let query = sqlx::query(statement).bind(source).bind(key);
                query.execute(&mut *transaction).await.map_err(&failed)?;
            }
        }
        let query = sqlx::query("DELETE FROM documents WHERE id = ?").bind(document.to_string());
        query.execute(&mut *transaction).await.map_err(&failed)?;
        transaction.commit().await.map_err(failed)?;
        self.write_back().await
    }

    /// Takes the text out of a page of a document that is forgotten and was found again.
    pub(crate) async fn blank_page(&self, source: SourceId, key: &str) -> Result<(), WarehouseError> {
        let query = sqlx::query(BLANK_PAGE).bind(source.0).bind(key);
        query.execute(&self.pool).await.map(drop).map_err(failed("forget a page"))?;
        self.write_back().await
    }

    /// The same for the pages of a source that were blanked before and that the source gave again unchanged.
    pub(crate) async fn blank_again(&self, source: SourceId) -> Result<(), WarehouseError> {
        let statement = "UPDATE pages SET body = '', hints = '{\"tags\":[]}'
             WHERE source = ? AND rejection = 'it was forgotten' AND body <> ''";
        let done = sqlx::query(statement).bind(source.0).execute(&self.pool).await.map_err(failed("forget pages"))?;
        if done.rows_affected() > 0 { self.write_back().await } else { Ok(()) }
    }

    /// Deleted text stays readable in SQLite's log until it is written back.
    async fn write_back(&self) -> Result<(), WarehouseError> {
        let query = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)");
        query.execute(&self.pool).await.map(drop).map_err(failed("forget a document"))
    }

    /// The author's documents that are forgotten, with the time.
    pub(crate) async fn forgotten(&self, author: &AuthorId) -> Result<BTreeMap<DocumentId, String>, WarehouseError> {
        let query = sqlx::query("SELECT document, forgotten_at FROM forgotten WHERE author = ?").bind(author.as_str());
        let rows = query.fetch_all(&self.pool).await.map_err(failed("list what is forgotten"))?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            let id: String = row.get("document");
            Ok((DocumentId(id.parse().map_err(unreadable)?), row.get("forgotten_at")))
        };
        rows.iter().map(read).collect()
    }
}

/// The page itself stays, so that the next run knows it.
const BLANK_PAGE: &str =
    "UPDATE pages SET body = '', hints = '{\"tags\":[]}', document = NULL, rejection = 'it was forgotten'
     WHERE source = ?1 AND key = ?2";
