//! What of the warehouse is in the feature store.

use jiff::Timestamp;
use twin_domain::{AuthorId, Digest, DocumentId, FeatureViewId};

use super::{Warehouse, WarehouseError, failed, unreadable};

impl Warehouse {
    /// The documents of an author whose present content is not in a view, oldest first.
    pub(crate) async fn not_indexed(
        &self,
        author: &AuthorId,
        view: &FeatureViewId,
    ) -> Result<Vec<DocumentId>, WarehouseError> {
        let statement = "SELECT d.id FROM documents d
             LEFT JOIN indexed i ON i.document = d.id AND i.view = ? AND i.content_hash = d.content_hash
             WHERE d.author = ? AND d.gone_since IS NULL AND i.document IS NULL ORDER BY d.date, d.url";
        let query = sqlx::query_scalar::<_, String>(statement).bind(view.as_str()).bind(author.as_str());
        let ids = query.fetch_all(&self.pool).await.map_err(failed("list documents to index"))?;
        ids.iter().map(|id| id.parse().map(DocumentId).map_err(unreadable)).collect()
    }

    /// How many chunks of an author a view must have.
    ///
    /// # Errors
    /// When the warehouse cannot be read.
    pub async fn chunks_indexed(&self, author: &AuthorId, view: &FeatureViewId) -> Result<u64, WarehouseError> {
        let statement = "SELECT COALESCE(SUM(i.chunks), 0) FROM indexed i JOIN documents d ON d.id = i.document
             WHERE d.author = ? AND i.view = ?";
        let query = sqlx::query_scalar::<_, i64>(statement).bind(author.as_str()).bind(view.as_str());
        let sum = query.fetch_one(&self.pool).await.map_err(failed("count indexed chunks"))?;
        Ok(u64::try_from(sum).unwrap_or(0))
    }

    /// Records documents whose chunks the feature store has durably: id, content hash, number of chunks.
    pub(crate) async fn put_indexed(
        &self,
        view: &FeatureViewId,
        documents: &[(DocumentId, Digest, usize)],
        now: Timestamp,
    ) -> Result<(), WarehouseError> {
        let failed = failed("record what is indexed");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for (document, content_hash, chunks) in documents {
            let statement = "INSERT OR REPLACE INTO indexed (document, view, content_hash, chunks, indexed_at)
                 VALUES (?, ?, ?, ?, ?)";
            let query = sqlx::query(statement)
                .bind(document.to_string())
                .bind(view.as_str())
                .bind(content_hash.as_str())
                .bind(i64::try_from(*chunks).unwrap_or(i64::MAX))
                .bind(now.to_string());
            query.execute(&mut *transaction).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    /// Forgets that anything of an author is in a view, so that it is all indexed again.
    pub(crate) async fn forget_indexed(&self, author: &AuthorId, view: &FeatureViewId) -> Result<(), WarehouseError> {
        let statement =
            "DELETE FROM indexed WHERE view = ? AND document IN (SELECT id FROM documents WHERE author = ?)";
        let query = sqlx::query(statement).bind(view.as_str()).bind(author.as_str());
        query.execute(&self.pool).await.map(drop).map_err(failed("forget what is indexed"))
    }
}
