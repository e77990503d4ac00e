//! A page: what a source yields before it is cleaned. A file, a row of an export or a fetched page, all in one form.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use twin_domain::Digest;

/// What a page is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Media {
    /// Markdown in any dialect, with or without front matter.
    Markdown,
    /// A whole HTML page: the main text has to be found in it.
    Html,
    /// A piece of HTML, all of which is the post.
    Fragment,
    /// Text without markup.
    Text,
    /// Markdown with components and expressions of JavaScript in it.
    Mdx,
    /// Djot: near to Markdown, with attributes.
    Djot,
    AsciiDoc,
    /// reStructuredText.
    Rst,
}

impl Media {
    /// Every medium.
    const ALL: [Self; 8] =
        [Self::Markdown, Self::Html, Self::Fragment, Self::Text, Self::Mdx, Self::Djot, Self::AsciiDoc, Self::Rst];

    /// The name in the warehouse.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Markdown => "markdown",
            Self::Html => "html",
            Self::Fragment => "fragment",
            Self::Text => "text",
            Self::Mdx => "mdx",
            Self::Djot => "djot",
            Self::AsciiDoc => "asciidoc",
            Self::Rst => "rst",
        }
    }

    /// The medium with this name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|media| media.as_str() == name)
    }
}

/// What the source says about a page. The page itself, where it states the same thing, is believed first, except that a
/// feed's title and date are believed before those guessed from a page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hints {
    pub title: Option<String>,
    pub date: Option<Date>,
    pub tags: Vec<String>,
    /// Who is said to have written it.
    pub byline: Option<String>,
    /// The post as HTML from the feed, for when the page cannot be had or yields less.
    pub feed_content: Option<String>,
    /// Why the page itself could not be had, if it could not.
    pub fetch_problem: Option<String>,
    /// Found by its address alone, in a sitemap or behind a link: it may be no post but a list of posts.
    #[serde(default)]
    pub crawled: bool,
    /// A post of a social network: it may be as short as it likes, and what has no title is called by its first words.
    #[serde(default)]
    pub short_form: bool,
}

impl Hints {
    /// Whether the source says nothing of the page but where it is.
    pub(crate) fn is_address_alone(&self) -> bool {
        *self == Self { crawled: true, ..Self::default() }
    }
}

/// One post as its source gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// What the page is known by within its source: a path in the folder, a row's name, an address.
    pub key: String,
    /// The canonical URL so far; front matter or the page may state a better one.
    pub url: String,
    pub media: Media,
    pub body: String,
    pub hints: Hints,
}

impl Page {
    /// The digest of all that cleaning depends on.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of_json(&(&self.url, self.media, &self.body, &self.hints))
    }
}
