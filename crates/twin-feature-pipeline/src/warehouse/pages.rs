//! Pages and what cleaning made of each.

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{SourceId, Warehouse, WarehouseError, failed, json, unreadable};
use crate::clean::CleanedDocument;
use crate::page::{Media, Page};
use crate::report::Skip;

/// A page's outcome: its key, and the document or the reason why it is none.
pub(crate) type Cleaned = (String, Result<CleanedDocument, String>);

impl Warehouse {
    /// Records pages that a source gave. One that changed is to be cleaned again.
    pub(crate) async fn put_pages(
        &self,
        source: SourceId,
        pages: &[Page],
        now: Timestamp,
    ) -> Result<(), WarehouseError> {
        let failed = failed("record pages");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for page in pages {
            let statement = "INSERT INTO pages (source, key, url, media, body, hints, digest, first_seen, last_seen)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)
                 ON CONFLICT (source, key) DO UPDATE SET last_seen = excluded.last_seen, url = excluded.url,
                     media = excluded.media, body = excluded.body, hints = excluded.hints, digest = excluded.digest,
                     cleaner = CASE WHEN digest = excluded.digest THEN cleaner END";
            let query = sqlx::query(statement)
                .bind(source.0)
                .bind(&page.key)
                .bind(&page.url)
                .bind(page.media.as_str())
                .bind(&page.body)
                .bind(json(&page.hints)?)
                .bind(page.digest().as_str().to_owned())
                .bind(now.to_string());
            query.execute(&mut *transaction).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    /// Whether a source has given a page with a body under this key.
    pub(crate) async fn has_body(&self, source: SourceId, key: &str) -> Result<bool, WarehouseError> {
        let query = sqlx::query_scalar::<_, bool>("SELECT body <> '' FROM pages WHERE source = ? AND key = ?");
        let found = query.bind(source.0).bind(key).fetch_optional(&self.pool).await.map_err(failed("find a page"))?;
        Ok(found.unwrap_or(false))
    }

    /// Records that pages are still there, whose content was not asked for again.
    pub(crate) async fn touch_page(&self, source: SourceId, key: &str, now: Timestamp) -> Result<(), WarehouseError> {
        let query = sqlx::query("UPDATE pages SET last_seen = ? WHERE source = ? AND key = ?");
        let query = query.bind(now.to_string()).bind(source.0).bind(key);
        query.execute(&self.pool).await.map(drop).map_err(failed("record a page"))
    }

    /// The same for several, at once.
    pub(crate) async fn touch_pages(
        &self,
        source: SourceId,
        keys: &[String],
        now: Timestamp,
    ) -> Result<(), WarehouseError> {
        let failed = failed("record pages");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for key in keys {
            let query = sqlx::query("UPDATE pages SET last_seen = ? WHERE source = ? AND key = ?");
            let query = query.bind(now.to_string()).bind(source.0).bind(key);
            query.execute(&mut *transaction).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    /// The keys of a source's pages that these rules have not cleaned yet, in order.
    pub(crate) async fn keys_to_clean(&self, source: SourceId, cleaner: &str) -> Result<Vec<String>, WarehouseError> {
        let statement = "SELECT key FROM pages WHERE source = ? AND cleaner IS NOT ? ORDER BY key";
        let query = sqlx::query_scalar(statement).bind(source.0).bind(cleaner);
        query.fetch_all(&self.pool).await.map_err(failed("list pages"))
    }

    /// One page.
    pub(crate) async fn page(&self, source: SourceId, key: &str) -> Result<Page, WarehouseError> {
        let query = sqlx::query("SELECT key, url, media, body, hints FROM pages WHERE source = ? AND key = ?");
        let row = query.bind(source.0).bind(key).fetch_one(&self.pool).await.map_err(failed("read a page"))?;
        page(&row)
    }

    /// Records what cleaning made of pages.
    pub(crate) async fn put_cleaned(
        &self,
        source: SourceId,
        cleaner: &str,
        cleaned: &[Cleaned],
    ) -> Result<(), WarehouseError> {
        let failed = failed("record cleaned pages");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for (key, outcome) in cleaned {
            let statement = "UPDATE pages SET cleaner = ?, document = ?, rejection = ? WHERE source = ? AND key = ?";
            let document = outcome.as_ref().ok().map(json).transpose()?;
            let query = sqlx::query(statement)
                .bind(cleaner)
                .bind(document)
                .bind(outcome.as_ref().err())
                .bind(source.0)
                .bind(key);
            query.execute(&mut *transaction).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    /// What cleaning made of each page of a source, by key, one at a time.
    pub(crate) fn cleaned(&self, source: SourceId) -> impl Stream<Item = Result<Cleaned, WarehouseError>> {
        let statement =
            "SELECT key, document, rejection FROM pages WHERE source = ? AND cleaner IS NOT NULL ORDER BY key";
        let read = |row: SqliteRow| {
            let outcome = match row.get::<Option<String>, _>("document") {
                Some(document) => Ok(serde_json::from_str(&document).map_err(unreadable)?),
                None => Err(row.get::<Option<String>, _>("rejection").unwrap_or_default()),
            };
            Ok((row.get("key"), outcome))
        };
        let rows = sqlx::query(statement).bind(source.0).fetch(&self.pool);
        rows.map(move |row| row.map_err(failed("read cleaned pages")).and_then(read))
    }

    /// The document that cleaning made of one page.
    pub(crate) async fn cleaned_page(&self, source: SourceId, key: &str) -> Result<CleanedDocument, WarehouseError> {
        let query = sqlx::query_scalar::<_, String>("SELECT document FROM pages WHERE source = ? AND key = ?");
        let query = query.bind(source.0).bind(key).fetch_one(&self.pool);
        serde_json::from_str(&query.await.map_err(failed("read a cleaned page"))?).map_err(unreadable)
    }

    /// The keys of a source's pages that were not seen at `now`.
    pub(crate) async fn missing(&self, source: SourceId, now: Timestamp) -> Result<Vec<String>, WarehouseError> {
        let query = sqlx::query_scalar("SELECT key FROM pages WHERE source = ? AND last_seen <> ? ORDER BY key");
        query.bind(source.0).bind(now.to_string()).fetch_all(&self.pool).await.map_err(failed("list missing pages"))
    }

    /// Replaces what is recorded as skipped in a source.
    pub(crate) async fn put_skips(
        &self,
        source: SourceId,
        skips: &[Skip],
        now: Timestamp,
    ) -> Result<(), WarehouseError> {
        let failed = failed("record what was skipped");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let query = sqlx::query("DELETE FROM skips WHERE source = ?").bind(source.0);
        query.execute(&mut *transaction).await.map_err(&failed)?;
        for skip in skips {
            let query = sqlx::query("INSERT OR REPLACE INTO skips (source, what, reason, seen_at) VALUES (?, ?, ?, ?)");
            let query = query.bind(source.0).bind(&skip.what).bind(&skip.reason).bind(now.to_string());
            query.execute(&mut *transaction).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(failed)
    }
}

fn page(row: &SqliteRow) -> Result<Page, WarehouseError> {
    let media: String = row.get("media");
    Ok(Page {
        key: row.get("key"),
        url: row.get("url"),
        media: Media::parse(&media).ok_or_else(|| unreadable(format!("unknown medium `{media}`")))?,
        body: row.get("body"),
        hints: serde_json::from_str(row.get("hints")).map_err(unreadable)?,
    })
}
