//! Whose voice it is. Every document, feature and model belongs to exactly one author.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A short, URL-safe name of an author: 1 to 63 of `a-z`, `0-9` and `-`, starting with a letter or a digit.
///
/// The restriction makes the id usable as a directory name, a model name and a payload value without escaping.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AuthorId(String);

/// Why a text is not an [`AuthorId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an author id: use 1 to 63 of a-z, 0-9 and -, starting with a letter or a digit, as in `ada-lovelace`"
)]
pub struct AuthorIdError(String);

impl AuthorId {
    /// Checks `text` and makes an id of it.
    ///
    /// # Errors
    /// When `text` has other characters than the allowed ones, is empty or is longer than 63.
    pub fn parse(text: &str) -> Result<Self, AuthorIdError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let valid = (1..=63).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(allowed);
        if valid { Ok(Self(text.to_owned())) } else { Err(AuthorIdError(text.to_owned())) }
    }

    /// Makes an id of any text that has at least one letter or digit: `"Ada Lovelace's blog"` becomes `ada-lovelace-s-blog`.
    pub fn from_name(name: &str) -> Result<Self, AuthorIdError> {
        let mut slug = String::with_capacity(name.len());
        for character in name.to_lowercase().chars() {
            if character.is_ascii_alphanumeric() {
                slug.push(character);
            } else if !slug.is_empty() && !slug.ends_with('-') {
                slug.push('-');
            }
        }
        slug.truncate(63);
        Self::parse(slug.trim_matches('-')).map_err(|_| AuthorIdError(name.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AuthorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AuthorId {
    type Err = AuthorIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for AuthorId {
    type Error = AuthorIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<AuthorId> for String {
    fn from(id: AuthorId) -> Self {
        id.0
    }
}

/// What is known of an author besides the texts. Shown on the pages and used in prompts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// The id; in `author.toml` it is called `slug`.
    #[serde(alias = "slug")]
    pub id: AuthorId,
    /// The name as the author writes it.
    pub name: String,
    /// One sentence in the third person; empty when nothing is known.
    #[serde(default)]
    pub description: String,
    /// ISO 639-1 code of the main language of the texts.
    #[serde(default = "english")]
    pub language: String,
    /// The author's own site, if there is one.
    #[serde(default)]
    pub site: Option<String>,
    /// The recorded consent to make a twin, in the words in which it was given; publishing needs it.
    #[serde(default)]
    pub consent: Option<String>,
    /// Questions a reader may start with.
    #[serde(default)]
    pub suggested_questions: Vec<String>,
    /// Subjects a draft may start from.
    #[serde(default)]
    pub suggested_topics: Vec<String>,
}

impl Author {
    /// An author of whom only the id is known.
    pub fn new(id: AuthorId) -> Self {
        let name = id.as_str().to_owned();
        Self {
            id,
            name,
            description: String::new(),
            language: english(),
            site: None,
            consent: None,
            suggested_questions: Vec::new(),
            suggested_topics: Vec::new(),
        }
    }
}

fn english() -> String {
    "en".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_safe_as_directory_names() {
        for good in ["a", "ada-lovelace", "7", "x-1-y"] {
            assert!(AuthorId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "..", "a/b", "Ada", "a b", "é", &"a".repeat(64)] {
            assert!(AuthorId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_become_ids() {
        assert_eq!(AuthorId::from_name("Ada Lovelace's blog!").unwrap().as_str(), "ada-lovelace-s-blog");
        assert!(AuthorId::from_name("!!!").is_err());
    }
}
