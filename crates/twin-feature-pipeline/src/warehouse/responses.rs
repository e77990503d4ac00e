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

/// A stored answer without what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownResponse {
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
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

    /// What is known of an address whose last answer is what a page has: enough to ask whether it changed, without reading
    /// the body. A run that was killed may have stored an answer from which no page was made yet.
    pub(crate) async fn known_response(
        &self,
        source: SourceId,
        url: &str,
        page: &str,
    ) -> Result<Option<KnownResponse>, WarehouseError> {
        let statement = "SELECT r.etag, r.last_modified, r.fetched_at, p.last_seen FROM responses r
             JOIN pages p ON p.source = r.source AND p.key = ?3
             WHERE r.source = ?1 AND r.url = ?2 AND p.body <> ''";
        let row = sqlx::query(statement).bind(source.0).bind(url).bind(page).fetch_optional(&self.pool).await;
        let row = row.map_err(failed("find a stored answer"))?;
        let Some(row) = row else { return Ok(None) };
        let time = |column| row.get::<String, _>(column).parse::<Timestamp>().map_err(unreadable);
        let fetched_at = time("fetched_at")?;
        let known = KnownResponse { etag: row.get("etag"), last_modified: row.get("last_modified"), fetched_at };
        Ok(Some(known).filter(|known| time("last_seen").is_ok_and(|seen| seen >= known.fetched_at)))
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
