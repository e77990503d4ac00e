//! Cleaned documents.

use futures::{Stream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use jiff::tz::Offset;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use twin_domain::{AuthorId, Digest, Document, DocumentId, DocumentInfo};

use super::{SourceId, Warehouse, WarehouseError, failed, json, unreadable};
use crate::report::inventory::Counter;
use crate::report::{Inventory, SourceHoldings};

/// A document with the page that it was made from.
#[derive(Debug, Clone)]
pub(crate) struct NewDocument {
    pub(crate) page: String,
    pub(crate) document: Document,
}

/// How many documents of a write were new, changed or as before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoredCounts {
    pub new: usize,
    pub changed: usize,
    pub unchanged: usize,
}

const COLUMNS: &str = "id, author, url, title, date, tags, language, text, content_hash";

impl Warehouse {
    /// Every document of an author that is not gone, oldest first (undated ones at the start, ties by URL).
    ///
    /// # Errors
    /// When the warehouse cannot be read.
    pub async fn documents(&self, author: &AuthorId) -> Result<Vec<Document>, WarehouseError> {
        self.each_document(author).try_collect().await
    }

    /// The same, one at a time.
    pub(crate) fn each_document(&self, author: &AuthorId) -> impl Stream<Item = Result<Document, WarehouseError>> {
        let statement =
            format!("SELECT {COLUMNS} FROM documents WHERE author = ? AND gone_since IS NULL ORDER BY date, url");
        let rows = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(author.as_str()).fetch(&self.pool);
        rows.map(|row| row.map_err(failed("read documents")).and_then(|row| document(&row)))
    }

    /// What there is of an author, by source, and what a twin of it will be weak on.
    ///
    /// # Errors
    /// When the warehouse cannot be read.
    pub async fn inventory(&self, author: &AuthorId) -> Result<Inventory, WarehouseError> {
        let failed = failed("count what there is");
        let statement = "SELECT source, date, language, text FROM documents WHERE author = ? AND gone_since IS NULL";
        let mut rows = sqlx::query(statement).bind(author.as_str()).fetch(&self.pool);
        let mut counter = Counter::default();
        while let Some(row) = rows.try_next().await.map_err(&failed)? {
            let date: Option<String> = row.get("date");
            let language: Option<String> = row.get("language");
            let date = date.and_then(|date| date.parse().ok());
            counter.add(row.get("source"), date, language.as_deref(), row.get("text"));
        }
        drop(rows);
        let today = Offset::UTC.to_datetime(Timestamp::now()).date();
        let (mut by_source, holdings, weaknesses) = counter.finish(today);
        let sources = self.sources(Some(author)).await?.into_iter().map(|source| SourceHoldings {
            holdings: by_source.remove(&source.id).unwrap_or_default(),
            source: source.id,
            kind: source.kind,
            location: source.location,
        });
        Ok(Inventory { author: author.clone(), holdings, sources: sources.collect(), weaknesses })
    }

    /// One document.
    pub(crate) async fn document(&self, id: DocumentId) -> Result<Document, WarehouseError> {
        let statement = format!("SELECT {COLUMNS} FROM documents WHERE id = ?");
        let query = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(id.to_string());
        document(&query.fetch_one(&self.pool).await.map_err(failed("read a document"))?)
    }

    /// Stores the documents of a source, all or none of them.
    pub(crate) async fn put_documents(
        &self,
        source: SourceId,
        documents: &[NewDocument],
        now: Timestamp,
    ) -> Result<StoredCounts, WarehouseError> {
        let failed = failed("store documents");
        let mut counts = StoredCounts::default();
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for NewDocument { page, document } in documents {
            let info = &document.info;
            let query = sqlx::query_scalar::<_, String>(
                "SELECT content_hash FROM documents WHERE id = ? AND gone_since IS NULL",
            );
            let query = query.bind(info.id.to_string());
            match query.fetch_optional(&mut *transaction).await.map_err(&failed)? {
                None => counts.new += 1,
                Some(hash) if hash == info.content_hash.as_str() => counts.unchanged += 1,
                Some(_) => counts.changed += 1,
            }
            let statement = "INSERT INTO documents
                 (id, author, source, page, url, title, date, tags, language, text, content_hash, first_seen, last_seen)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12)
                 ON CONFLICT (id) DO UPDATE SET source = excluded.source, page = excluded.page, url = excluded.url,
                     title = excluded.title, date = excluded.date, tags = excluded.tags, language = excluded.language,
                     text = excluded.text, content_hash = excluded.content_hash, last_seen = excluded.last_seen,
                     gone_since = NULL";
            let query = sqlx::query(statement)
                .bind(info.id.to_string())
                .bind(info.author.as_str())
                .bind(source.0)
                .bind(page)
                .bind(&info.url)
                .bind(&info.title)
                .bind(info.date.map(|date| date.to_string()))
                .bind(json(&info.tags)?)
                .bind(&info.language)
                .bind(&document.text)
                .bind(info.content_hash.as_str())
                .bind(now.to_string());
            query.execute(&mut *transaction).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(failed)?;
        Ok(counts)
    }
}

fn document(row: &SqliteRow) -> Result<Document, WarehouseError> {
    let id: String = row.get("id");
    let date: Option<String> = row.get("date");
    let info = DocumentInfo {
        id: DocumentId(id.parse().map_err(unreadable)?),
        author: AuthorId::parse(row.get("author")).map_err(unreadable)?,
        url: row.get("url"),
        title: row.get("title"),
        date: date.map(|date| date.parse()).transpose().map_err(unreadable)?,
        tags: serde_json::from_str(row.get("tags")).map_err(unreadable)?,
        language: row.get("language"),
        content_hash: Digest::parse(row.get("content_hash")).map_err(unreadable)?,
    };
    Ok(Document { info, text: row.get("text") })
}
