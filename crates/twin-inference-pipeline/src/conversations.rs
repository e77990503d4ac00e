//! Conversations and what each answer was made of, in a SQLite file of the inference pipeline's own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row, SqlitePool};
use twin_domain::{AuthorId, ChatMessage, Role};
use uuid::Uuid;

use crate::twins::Trace;

pub use self::outcomes::{Outcome, OutcomeKind, ShadowAnswer, edit_distance};
pub use self::traces::{KeptTrace, StoredAnswer, TraceId};

mod outcomes;
mod traces;

/// The most conversations a list has.
const LISTED: i64 = 200;
/// The length of a conversation's title, in characters.
const TITLE_CHARACTERS: usize = 80;

/// Why conversations could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ConversationError {
    #[error("there is no conversation `{0}`")]
    NotFound(String),
    #[error("there is no trace `{0}`")]
    NoTrace(String),
    #[error("the conversations in `{path}` could not be opened")]
    Open {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the conversations could not be read or written")]
    Database(#[from] sqlx::Error),
    #[error("what an answer was made of could not be read or written")]
    Trace(#[from] serde_json::Error),
}

/// An entry of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationSummary {
    pub id: String,
    pub author: AuthorId,
    /// The beginning of the first request.
    pub title: String,
    pub updated_at: String,
}

/// A turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredMessage {
    pub role: Role,
    pub content: String,
    /// What an answer was made of; `None` for the reader's turns.
    pub trace: Option<Trace>,
    pub created_at: String,
}

/// A conversation with all its turns, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    #[serde(flatten)]
    pub summary: ConversationSummary,
    pub messages: Vec<StoredMessage>,
}

/// The conversations of one server.
#[derive(Debug, Clone)]
pub struct Conversations {
    pool: SqlitePool,
}

impl Conversations {
    /// Opens the file, or makes it. A turn that was recorded survives a killed process and a power failure.
    ///
    /// # Errors
    /// [`ConversationError::Open`] when the file cannot be used.
    pub async fn open(path: &Path) -> Result<Self, ConversationError> {
        let at =
            |source: Box<dyn std::error::Error + Send + Sync>| ConversationError::Open { path: path.into(), source };
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent).map_err(|source| at(source.into()))?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            // What is deleted is overwritten, or it could be read from the file.
            .pragma("secure_delete", "ON")
            .busy_timeout(Duration::from_secs(10));
        let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await;
        let pool = pool.map_err(|source| at(source.into()))?;
        sqlx::migrate!().run(&pool).await.map_err(|source| at(source.into()))?;
        Ok(Self { pool })
    }

    /// Begins a conversation with the reader's first words.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn begin(&self, author: &AuthorId, first: &str) -> Result<String, ConversationError> {
        let id = Self::new_id();
        self.begin_as(&id, author, first).await?;
        Ok(id)
    }

    /// An id that no conversation has.
    pub fn new_id() -> String {
        Uuid::new_v4().to_string()
    }

    /// Begins a conversation under an id that no other one has.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn begin_as(&self, id: &str, author: &AuthorId, first: &str) -> Result<(), ConversationError> {
        let title: String = first.split_whitespace().collect::<Vec<_>>().join(" ");
        let title: String = title.chars().take(TITLE_CHARACTERS).collect();
        let now = Timestamp::now().to_string();
        sqlx::query("INSERT INTO conversations (id, author, title, created_at, updated_at) VALUES (?, ?, ?, ?, ?)")
            .bind(id)
            .bind(author.as_str())
            .bind(title)
            .bind(&now)
            .bind(&now)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Adds a turn.
    ///
    /// # Errors
    /// When the database fails, or the conversation was deleted meanwhile.
    pub async fn add(&self, id: &str, message: &ChatMessage, trace: Option<&Trace>) -> Result<(), ConversationError> {
        let trace = trace.map(serde_json::to_string).transpose()?;
        let now = Timestamp::now().to_string();
        let mut transaction = self.pool.begin().await?;
        sqlx::query("INSERT INTO messages (conversation, role, content, trace, created_at) VALUES (?, ?, ?, ?, ?)")
            .bind(id)
            .bind(message.role.as_str())
            .bind(&message.content)
            .bind(trace)
            .bind(&now)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("UPDATE conversations SET updated_at = ? WHERE id = ?")
            .bind(&now)
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The newest conversations first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list(&self) -> Result<Vec<ConversationSummary>, ConversationError> {
        let rows =
            sqlx::query("SELECT id, author, title, updated_at FROM conversations ORDER BY updated_at DESC LIMIT ?")
                .bind(LISTED)
                .fetch_all(&self.pool)
                .await?;
        Ok(rows.iter().filter_map(summary).collect())
    }

    /// One conversation.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`], or when the database fails.
    pub async fn get(&self, id: &str) -> Result<Conversation, ConversationError> {
        let row = sqlx::query("SELECT id, author, title, updated_at FROM conversations WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        let not_found = || ConversationError::NotFound(id.to_owned());
        let summary = row.as_ref().and_then(summary).ok_or_else(not_found)?;
        let rows =
            sqlx::query("SELECT role, content, trace, created_at FROM messages WHERE conversation = ? ORDER BY id")
                .bind(id)
                .fetch_all(&self.pool)
                .await?;
        let mut messages = Vec::with_capacity(rows.len());
        for row in rows {
            let role = if row.get::<&str, _>("role") == Role::User.as_str() { Role::User } else { Role::Assistant };
            let trace: Option<String> = row.get("trace");
            messages.push(StoredMessage {
                role,
                content: row.get("content"),
                trace: trace.map(|json| serde_json::from_str(&json)).transpose()?,
                created_at: row.get("created_at"),
            });
        }
        Ok(Conversation { summary, messages })
    }

    /// Removes a conversation and all its turns.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`], or when the database fails.
    pub async fn delete(&self, id: &str) -> Result<(), ConversationError> {
        let done = sqlx::query("DELETE FROM conversations WHERE id = ?").bind(id).execute(&self.pool).await?;
        if done.rows_affected() == 0 { Err(ConversationError::NotFound(id.to_owned())) } else { Ok(()) }
    }

    /// Whether the database answers.
    pub async fn is_ready(&self) -> bool {
        sqlx::query("SELECT 1").execute(&self.pool).await.is_ok()
    }
}

/// `None` for a row with an author id that this version does not allow, which it never writes.
fn summary(row: &sqlx::sqlite::SqliteRow) -> Option<ConversationSummary> {
    Some(ConversationSummary {
        id: row.get("id"),
        author: AuthorId::parse(row.get("author")).ok()?,
        title: row.get("title"),
        updated_at: row.get("updated_at"),
    })
}
