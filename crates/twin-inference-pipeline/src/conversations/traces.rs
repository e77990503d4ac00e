//! What answers were made of: which rest on which posts, and answers without the posts that are to be forgotten.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use twin_domain::{AuthorId, DocumentId};

use super::{ConversationError, Conversations};
use crate::cite::{Piece, Support};
use crate::twins::{Answer, Trace};

/// How many answers outside of conversations are kept; the oldest go first.
const KEPT: i64 = 1_000;

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

/// Names a trace: an answer of a conversation here, or one to a client of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceId {
    Chat(i64),
    Api(i64),
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chat(number) => write!(f, "chat-{number}"),
            Self::Api(number) => write!(f, "api-{number}"),
        }
    }
}

impl FromStr for TraceId {
    type Err = ConversationError;

    fn from_str(text: &str) -> Result<Self, ConversationError> {
        let number = |text: &str| text.parse().ok();
        let chat = text.strip_prefix("chat-").and_then(number).map(Self::Chat);
        let api = text.strip_prefix("api-").and_then(number).map(Self::Api);
        chat.or(api).ok_or_else(|| ConversationError::NoTrace(text.to_owned()))
    }
}

impl Serialize for TraceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An answer with what was asked and what it was made of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeptTrace {
    pub id: TraceId,
    pub asked: String,
    pub answer: String,
    pub created_at: String,
    pub trace: Trace,
}

fn kept(row: &SqliteRow) -> Result<KeptTrace, ConversationError> {
    let number = row.get("id");
    Ok(KeptTrace {
        id: if row.get::<&str, _>("kind") == "chat" { TraceId::Chat(number) } else { TraceId::Api(number) },
        asked: row.get("asked"),
        answer: row.get("content"),
        created_at: row.get("created_at"),
        trace: serde_json::from_str(row.get("trace"))?,
    })
}

impl Conversations {
    /// Keeps what an answer was made of that belongs to no conversation. The newest thousand are kept.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep(&self, asked: &str, answer: &Answer) -> Result<(), ConversationError> {
        let query = "INSERT INTO traces (author, asked, content, trace, created_at) VALUES (?, ?, ?, ?, ?)";
        let query = sqlx::query(query).bind(answer.trace.author.as_str()).bind(asked).bind(&answer.text);
        let query = query.bind(serde_json::to_string(&answer.trace)?).bind(Timestamp::now().to_string());
        let number = query.execute(&self.pool).await?.last_insert_rowid();
        sqlx::query("DELETE FROM traces WHERE id <= ?").bind(number - KEPT).execute(&self.pool).await?;
        Ok(())
    }

    /// The newest traces first, of one author or of all, at most `limit` and older than `before` (a time as they carry it).
    ///
    /// # Errors
    /// When the database fails.
    pub async fn traces(
        &self,
        author: Option<&str>,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<KeptTrace>, ConversationError> {
        let query = "SELECT * FROM all_traces WHERE (?1 IS NULL OR author = ?1) AND (?2 IS NULL OR created_at < ?2)
             ORDER BY created_at DESC, id DESC LIMIT ?3";
        let query = sqlx::query(query).bind(author).bind(before).bind(limit);
        query.fetch_all(&self.pool).await?.iter().map(kept).collect()
    }

    /// One trace.
    ///
    /// # Errors
    /// [`ConversationError::NoTrace`], or when the database fails.
    pub async fn trace(&self, id: TraceId) -> Result<KeptTrace, ConversationError> {
        let (kind, number) = match id {
            TraceId::Chat(number) => ("chat", number),
            TraceId::Api(number) => ("api", number),
        };
        let query = "SELECT * FROM all_traces WHERE kind = ? AND id = ?";
        let row = sqlx::query(query).bind(kind).bind(number).fetch_optional(&self.pool).await?;
        row.as_ref().map(kept).transpose()?.ok_or_else(|| ConversationError::NoTrace(id.to_string()))
    }

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
        let mut changed = 0;
        for (find, replace) in [
            (
                "SELECT id, content, trace FROM messages WHERE trace LIKE ?",
                "UPDATE messages SET content = ?, trace = ? WHERE id = ?",
            ),
            (
                "SELECT id, content, trace FROM traces WHERE trace LIKE ?",
                "UPDATE traces SET content = ?, trace = ? WHERE id = ?",
            ),
        ] {
            let rows = sqlx::query(find).bind(format!("%{document}%")).fetch_all(&mut *transaction).await?;
            for row in rows {
                let mut trace: Trace = serde_json::from_str(row.get("trace"))?;
                let mut content: String = row.get("content");
                if !redact(&mut trace, &mut content, document) {
                    continue;
                }
                let query = sqlx::query(replace).bind(content).bind(serde_json::to_string(&trace)?);
                query.bind(row.get::<i64, _>("id")).execute(&mut *transaction).await?;
                changed += 1;
            }
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
