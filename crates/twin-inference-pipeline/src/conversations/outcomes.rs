//! How answers fared, and what was answered unseen.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::Row;
use twin_domain::AuthorId;

use super::{ConversationError, Conversations};
use crate::twins::Answer;

/// What is counted of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// The reader said so: 1, or 0 for the opposite.
    Helpful,
    /// The reader asked for another answer: 1, or 0 for an answer that was left.
    Regenerated,
    /// The reader took a copy: 1, or 0 for an answer that was not copied.
    Copied,
    /// Seconds from the request to the end of the answer.
    Seconds,
    /// How much of a draft is different in what was published, 0 to 1.
    EditDistance,
}

impl OutcomeKind {
    pub const ALL: [Self; 5] = [Self::Helpful, Self::Regenerated, Self::Copied, Self::Seconds, Self::EditDistance];

    fn as_str(self) -> &'static str {
        match self {
            Self::Helpful => "helpful",
            Self::Regenerated => "regenerated",
            Self::Copied => "copied",
            Self::Seconds => "seconds",
            Self::EditDistance => "edit_distance",
        }
    }
}

impl std::fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Helpful => "found helpful",
            Self::Regenerated => "asked for again",
            Self::Copied => "copied",
            Self::Seconds => "seconds an answer",
            Self::EditDistance => "changed before publishing",
        })
    }
}

/// One figure of one conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub release: u32,
    pub conversation: String,
    pub kind: OutcomeKind,
    pub value: f64,
}

/// What a release answered unseen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShadowAnswer {
    pub release: u32,
    /// What the reader saw instead.
    pub seen: String,
    pub text: String,
    pub seconds: f64,
    pub created_at: String,
}

impl Conversations {
    /// Lets a conversation go with a release from now on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn assign(&self, id: &str, release: Option<u32>) -> Result<(), ConversationError> {
        let query = sqlx::query("UPDATE conversations SET release = ? WHERE id = ?").bind(release).bind(id);
        query.execute(&self.pool).await?;
        Ok(())
    }

    /// The release that a conversation goes with.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn assigned(&self, id: &str) -> Result<Option<u32>, ConversationError> {
        let query = sqlx::query_scalar::<_, Option<u32>>("SELECT release FROM conversations WHERE id = ?").bind(id);
        Ok(query.fetch_optional(&self.pool).await?.flatten())
    }

    /// Records a figure of an author's conversation.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record(&self, author: &AuthorId, outcome: &Outcome) -> Result<(), ConversationError> {
        sqlx::query("INSERT INTO outcomes (author, release, conversation, kind, value, at) VALUES (?, ?, ?, ?, ?, ?)")
            .bind(author.as_str())
            .bind(outcome.release)
            .bind(&outcome.conversation)
            .bind(outcome.kind.as_str())
            .bind(outcome.value)
            .bind(Timestamp::now().to_string())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The last answer of a conversation: which release gave it, and its text.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`] when there is no such conversation or it has no answer.
    pub async fn last_answer(&self, id: &str) -> Result<(Option<u32>, String), ConversationError> {
        let conversation = self.get(id).await?;
        let answer =
            conversation.messages.into_iter().rev().find_map(|message| Some((message.trace?, message.content)));
        let (trace, text) = answer.ok_or_else(|| ConversationError::NotFound(format!("{id}, with an answer")))?;
        Ok((trace.release, text))
    }

    /// What was recorded of an author's conversations since a time, in the order in which it was.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn outcomes(&self, author: &AuthorId, since: Timestamp) -> Result<Vec<Outcome>, ConversationError> {
        let statement =
            "SELECT release, conversation, kind, value FROM outcomes WHERE author = ? AND at >= ? ORDER BY id";
        let query = sqlx::query(statement).bind(author.as_str()).bind(since.to_string());
        let rows = query.fetch_all(&self.pool).await?;
        let outcome = |row: &sqlx::sqlite::SqliteRow| {
            let name: String = row.get("kind");
            // A kind that a newer program records counts for nothing here.
            let kind = OutcomeKind::ALL.into_iter().find(|kind| kind.as_str() == name)?;
            let (release, conversation, value) = (row.get("release"), row.get("conversation"), row.get("value"));
            Some(Outcome { release, conversation, kind, value })
        };
        Ok(rows.iter().filter_map(outcome).collect())
    }

    /// Keeps what a release answered unseen beside the last answer of a conversation.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_shadow(&self, conversation: &str, answer: &Answer) -> Result<(), ConversationError> {
        let statement = "INSERT INTO shadows (message, author, release, content, trace, created_at)
             SELECT max(id), ?, ?, ?, ?, ? FROM messages WHERE conversation = ? AND trace IS NOT NULL HAVING max(id) > 0";
        sqlx::query(statement)
            .bind(answer.trace.author.as_str())
            .bind(answer.trace.release.unwrap_or(0))
            .bind(&answer.text)
            .bind(serde_json::to_string(&answer.trace)?)
            .bind(Timestamp::now().to_string())
            .bind(conversation)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// What was answered unseen for an author since a time, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn shadows(&self, author: &AuthorId, since: Timestamp) -> Result<Vec<ShadowAnswer>, ConversationError> {
        let statement = "SELECT s.release, s.content, s.created_at, m.content AS seen,
                 json_extract(s.trace, '$.total_seconds') AS seconds
             FROM shadows s JOIN messages m ON m.id = s.message
             WHERE s.author = ? AND s.created_at >= ? ORDER BY s.id DESC";
        let query = sqlx::query(statement).bind(author.as_str()).bind(since.to_string());
        let shadow = |row: &sqlx::sqlite::SqliteRow| ShadowAnswer {
            release: row.get("release"),
            seen: row.get("seen"),
            text: row.get("content"),
            seconds: row.get("seconds"),
            created_at: row.get("created_at"),
        };
        Ok(query.fetch_all(&self.pool).await?.iter().map(shadow).collect())
    }
}

/// How much of a draft is different in what was published: the edits by word (Levenshtein) over the length of the longer one.
pub fn edit_distance(draft: &str, published: &str) -> f64 {
    const MOST: usize = 4000; // Words; the cost is the product of both lengths.
    let (a, b): (Vec<&str>, Vec<&str>) =
        (draft.split_whitespace().take(MOST).collect(), published.split_whitespace().take(MOST).collect());
    let longer = a.len().max(b.len());
    if longer == 0 {
        return 0.0;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, word) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(word != other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()] as f64 / longer as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted_by_word() {
        let near = |a, b, expected: f64| assert!((edit_distance(a, b) - expected).abs() < 1e-9, "{a} {b}");
        near("the cat sat", "the cat  sat\n", 0.0);
        near("the cat sat", "the dog sat down", 0.5);
        near("", "new words", 1.0);
        near("", "", 0.0);
    }
}
