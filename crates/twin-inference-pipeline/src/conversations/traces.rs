//! Which answers rest on which posts, and answers without the posts that are to be forgotten.

use serde::Serialize;
use sqlx::Row;
use twin_domain::{AuthorId, DocumentId};

use super::{ConversationError, Conversations};
use crate::cite::{Piece, Support};
use crate::twins::Trace;

/// What stands where a forgotten post was quoted.
const FORGOTTEN: &str = "[forgotten]";

/// An answer with what it was made of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoredAnswer {
    pub conversation: String,
    /// Its number among the answers of the conversation, from 1.
    pub number: usize,
    pub text: String,
    pub trace: Trace,
    pub created_at: String,
}

impl Conversations {
    /// All answers to an author's readers, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn answers(&self, author: &AuthorId) -> Result<Vec<StoredAnswer>, ConversationError> {
        let statement = "SELECT m.conversation, m.content, m.trace, m.created_at,
                 row_number() OVER (PARTITION BY m.conversation ORDER BY m.id) AS number
             FROM messages m JOIN conversations c ON c.id = m.conversation
             WHERE c.author = ? AND m.trace IS NOT NULL ORDER BY m.id";
        let rows = sqlx::query(statement).bind(author.as_str()).fetch_all(&self.pool).await?;
        let answer = |row: &sqlx::sqlite::SqliteRow| {
            Ok(StoredAnswer {
                conversation: row.get("conversation"),
                number: usize::try_from(row.get::<i64, _>("number")).unwrap_or(0),
                text: row.get("content"),
                trace: serde_json::from_str(row.get("trace"))?,
                created_at: row.get("created_at"),
            })
        };
        rows.iter().map(answer).collect()
    }

    /// Takes a post's text out of all answers: the passages they were made from, and what they quote. Gives how many answers
    /// had some of it. What an answer says in other words stays.
    ///
    /// # Errors
    /// When the database fails; then nothing was changed.
    pub async fn forget(&self, document: DocumentId) -> Result<usize, ConversationError> {
        let mut transaction = self.pool.begin().await?;
        let query = sqlx::query("SELECT id, content, trace FROM messages WHERE trace LIKE ?");
        let rows = query.bind(format!("%{document}%")).fetch_all(&mut *transaction).await?;
        let mut changed = 0;
        for row in rows {
            let mut trace: Trace = serde_json::from_str(row.get("trace"))?;
            let mut content: String = row.get("content");
            if !redact(&mut trace, &mut content, document) {
                continue;
            }
            let query = sqlx::query("UPDATE messages SET content = ?, trace = ? WHERE id = ?");
            let query = query.bind(content).bind(serde_json::to_string(&trace)?).bind(row.get::<i64, _>("id"));
            query.execute(&mut *transaction).await?;
            changed += 1;
        }
        // Nobody has seen what shadows answered, so nobody misses it.
        let query = sqlx::query("DELETE FROM shadows WHERE trace LIKE ?").bind(format!("%{document}%"));
        let shadows = query.execute(&mut *transaction).await?.rows_affected();
        transaction.commit().await?;
        if changed > 0 || shadows > 0 {
            // Deleted text stays readable in the log until it is written back.
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.pool).await?;
        }
        Ok(changed)
    }
}

/// Whether something was taken out.
fn redact(trace: &mut Trace, content: &mut String, document: DocumentId) -> bool {
    let of_it: Vec<usize> =
        trace.passages.iter().filter(|passage| passage.document.id == document).map(|passage| passage.number).collect();
    let is_of_it = |piece: &Piece| piece.citations.iter().any(|number| of_it.contains(number));
    let mut changed = false;
    for passage in trace.passages.iter_mut().filter(|passage| of_it.contains(&passage.number)) {
        changed |= passage.text != FORGOTTEN;
        passage.text = FORGOTTEN.to_owned();
        passage.document.title = FORGOTTEN.to_owned();
        passage.heading_path.clear();
    }
    for piece in trace.pieces.iter_mut().filter(|piece| is_of_it(piece)) {
        piece.evidence = None;
        if piece.support == Support::Quotation {
            piece.text = FORGOTTEN.to_owned();
        }
    }
    if changed && !trace.pieces.is_empty() {
        *content = trace.pieces.iter().map(|piece| piece.text.as_str()).collect();
    }
    changed
}
