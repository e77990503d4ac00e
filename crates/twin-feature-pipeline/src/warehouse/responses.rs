//! What servers last answered, so that the next request can ask whether anything changed.

use jiff::Timestamp;
use sqlx::Row;

use super::{SourceId, Warehouse, WarehouseError, failed, unreadable};

/// A stored answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredResponse {
    /// The address after redirects.
    pub(crate) final_url: String,
    pub(crate) content_type: Option<String>,
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) fetched_at: Timestamp,
}

impl Warehouse {
    /// The last successful answer for an address.
    pub(crate) async fn response(&self, source: SourceId, url: &str) -> Result<Option<StoredResponse>, WarehouseError> {
        let statement = "SELECT final_url, content_type, etag, last_modified, body, fetched_at FROM responses WHERE source = ? AND url = ?";
        let row = sqlx::query(statement).bind(source.0).bind(url).fetch_optional(&self.pool).await;
        let row = row.map_err(failed("find a stored answer"))?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(StoredResponse {
            final_url: row.get("final_url"),
            content_type: row.get("content_type"),
            etag: row.get("etag"),
            last_modified: row.get("last_modified"),
            body: row.get("body"),
            fetched_at: row.get::<String, _>("fetched_at").parse().map_err(unreadable)?,
        }))
    }

    /// Stores a successful answer.
    pub(crate) async fn put_response(
        &self,
        source: SourceId,
        url: &str,
        status: u16,
        response: &StoredResponse,
    ) -> Result<(), WarehouseError> {
        let statement = "INSERT OR REPLACE INTO responses
             (source, url, final_url, status, content_type, etag, last_modified, fetched_at, body)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let query = sqlx::query(statement)
            .bind(source.0)
            .bind(url)
            .bind(&response.final_url)
            .bind(i64::from(status))
            .bind(&response.content_type)
            .bind(&response.etag)
            .bind(&response.last_modified)
            .bind(response.fetched_at.to_string())
            .bind(&response.body);
        query.execute(&self.pool).await.map(drop).map_err(failed("store an answer"))
    }

    /// Records that stored answers were confirmed: nothing has changed since.
    pub(crate) async fn confirm_responses(
        &self,
        source: SourceId,
        urls: &[String],
        now: Timestamp,
    ) -> Result<(), WarehouseError> {
        let failed = failed("record unchanged answers");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for url in urls {
            let query = sqlx::query("UPDATE responses SET fetched_at = ? WHERE source = ? AND url = ?");
            let query = query.bind(now.to_string()).bind(source.0).bind(url);
            query.execute(&mut *transaction).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(failed)
    }
}
