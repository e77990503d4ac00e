//! Vectors that were made before, by the text they are of and the embedder that made them.

use std::collections::HashMap;

use sqlx::Row;
use twin_domain::{AuthorId, Digest, DocumentId, Embedding, FeatureViewId};

use super::{Warehouse, WarehouseError, failed};

/// The vectors of one document's chunks, by the digest of the text that was embedded.
pub(crate) type Embeddings = HashMap<Digest, Embedding>;

impl Warehouse {
    /// What an embedder has made of a document's chunks so far.
    pub(crate) async fn embeddings(
        &self,
        document: DocumentId,
        embedder: &Digest,
    ) -> Result<Embeddings, WarehouseError> {
        let query = sqlx::query("SELECT text, vector FROM embeddings WHERE document = ? AND embedder = ?");
        let query = query.bind(document.to_string()).bind(embedder.as_str());
        let rows = query.fetch_all(&self.pool).await.map_err(failed("read embeddings"))?;
        // A row that cannot be read costs no more than embedding its text again.
        let read =
            |row: &sqlx::sqlite::SqliteRow| Some((Digest::parse(row.get("text")).ok()?, decode(row.get("vector"))?));
        Ok(rows.iter().filter_map(read).collect())
    }

    /// Records the vectors of the present content of documents, and forgets those of earlier contents that it has no use for.
    pub(crate) async fn put_embeddings(
        &self,
        embedder: &Digest,
        documents: &[(DocumentId, Digest, Embeddings)],
    ) -> Result<(), WarehouseError> {
        let failed = failed("record embeddings");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for (document, content_hash, embeddings) in documents {
            for (text, embedding) in embeddings {
                let statement = "INSERT INTO embeddings (document, embedder, text, content_hash, vector)
                     VALUES (?, ?, ?, ?, ?)
                     ON CONFLICT (document, embedder, text) DO UPDATE SET content_hash = excluded.content_hash";
                let query = sqlx::query(statement)
                    .bind(document.to_string())
                    .bind(embedder.as_str())
                    .bind(text.as_str())
                    .bind(content_hash.as_str())
                    .bind(encode(embedding));
                query.execute(&mut *transaction).await.map_err(&failed)?;
            }
            let query = sqlx::query("DELETE FROM embeddings WHERE document = ? AND content_hash <> ?");
            let query = query.bind(document.to_string()).bind(content_hash.as_str());
            query.execute(&mut *transaction).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    /// Forgets the vectors of all embedders but these, and of documents that are gone. Gives how many there were.
    ///
    /// # Errors
    /// When the warehouse cannot be written.
    pub async fn forget_embeddings(&self, keep: &[Digest]) -> Result<u64, WarehouseError> {
        let keep: Vec<&str> = keep.iter().map(Digest::as_str).collect();
        let statement = "DELETE FROM embeddings WHERE embedder NOT IN (SELECT value FROM json_each(?))
             OR document IN (SELECT id FROM documents WHERE gone_since IS NOT NULL)";
        let query = sqlx::query(statement).bind(super::json(&keep)?);
        let done = query.execute(&self.pool).await.map_err(failed("forget embeddings"))?;
        Ok(done.rows_affected())
    }

    /// Forgets that anything is in a view, which was removed.
    ///
    /// # Errors
    /// When the warehouse cannot be written.
    pub async fn forget_view(&self, view: &FeatureViewId) -> Result<(), WarehouseError> {
        let query = sqlx::query("DELETE FROM indexed WHERE view = ?").bind(view.as_str());
        query.execute(&self.pool).await.map(drop).map_err(failed("forget a view"))
    }

    /// How many documents of an author are not in a view as they are now.
    ///
    /// # Errors
    /// When the warehouse cannot be read.
    pub async fn documents_missing(&self, author: &AuthorId, view: &FeatureViewId) -> Result<usize, WarehouseError> {
        Ok(self.not_indexed(author, view).await?.len())
    }

    /// How many pages of an author were not cleaned by these rules.
    pub(crate) async fn pages_not_cleaned_by(&self, author: &AuthorId, cleaner: &str) -> Result<u64, WarehouseError> {
        let statement = "SELECT COUNT(*) FROM pages p JOIN sources s ON s.id = p.source
             WHERE s.author = ?1 AND (p.cleaner IS NULL OR substr(p.cleaner, 1, length(?2)) <> ?2)";
        // What follows is how the rules were set.
        let query = sqlx::query_scalar::<_, i64>(statement).bind(author.as_str()).bind(format!("{cleaner} "));
        let count = query.fetch_one(&self.pool).await.map_err(failed("count pages"))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }
}

fn encode(embedding: &Embedding) -> Vec<u8> {
    embedding.values().iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn decode(bytes: Vec<u8>) -> Option<Embedding> {
    let (values, rest) = bytes.as_chunks::<4>();
    let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    if rest.is_empty() { Embedding::new(values).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_comes_back_as_it_was() {
        let embedding = Embedding::new(vec![0.1, -2.5e-7, 3.0]).unwrap();
        assert_eq!(decode(encode(&embedding)), Some(embedding));
        assert_eq!(decode(vec![0; 7]), None);
    }
}
