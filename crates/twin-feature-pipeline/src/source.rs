//! Where posts come from. [`Source::recognise`] makes a source of what a person types; the modules below read each kind.

use std::fmt;
use std::path::{Path, PathBuf};

use url::Url;

use self::file::FileKind;

pub(crate) mod export;
pub(crate) mod feed;
pub(crate) mod file;
pub(crate) mod folder;
pub(crate) mod git;
pub(crate) mod rows;
pub(crate) mod service;
pub(crate) mod site;
pub(crate) mod wikilinks;

pub use self::export::ExportKind;
pub use self::git::Repository;
pub use self::service::{Account, Service, ServiceAddresses};

/// A place that gives posts of one author, or of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A folder of files with posts, with all folders in it.
    Folder(PathBuf),
    /// One such file.
    File(PathBuf),
    /// A JSON Lines file with a post in each row: `author`, `title`, `date`, `source`, `text`.
    Rows(PathBuf),
    /// A file or folder that a service exported for its user.
    Export(PathBuf, ExportKind),
    /// A Git repository, here or elsewhere, as it was last committed.
    Git(Repository),
    /// Somebody's posts on a service, through its public API.
    Account(Account),
    /// The address of an RSS, Atom or JSON feed.
    Feed(Url),
    /// An address that may be a feed, a page that announces one, or a single post.
    Web(Url),
}

/// Why a source cannot be read at all. What goes wrong with a single post is no error but an entry in the report.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("`{text}` is neither a file, a folder nor a web address: check the spelling, or write it with https://")]
    Unknown { text: String },
    #[error(
        "`{path}` is not a kind of file that posts are read from: use {}, a folder of them, or an export of a blogging service, newsletter or social network",
        kinds()
    )]
    UnknownFile { path: PathBuf },
    #[error("`{text}` is not an address that can be fetched: only http and https are")]
    Scheme { text: String },
    #[error("the folder `{path}` has no posts: {} files are looked for, in it and in all folders in it", kinds())]
    EmptyFolder { path: PathBuf },
    #[error("`{path}` has no rows: each line must be a JSON object with at least a `text`")]
    NoRows { path: PathBuf },
    #[error(
        "the export `{path}` cannot be read: {problem}; ask the service for it again, or unpack it and try the folder"
    )]
    DamagedExport { path: PathBuf, problem: String },
    #[error("`{path}` could not be read: check that it exists and that you may read it")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{text}` is not an address that repositories are cloned from: write it as https://host/name.git")]
    CloneAddress { text: String },
    #[error("the repository {what} cannot be read: {problem}")]
    Git { what: String, problem: String },
    #[error("{account} cannot be read: {problem}")]
    Account { account: String, problem: String },
    #[error("{url} could not be fetched")]
    Fetch {
        url: String,
        #[source]
        source: Box<crate::fetch::FetchError>,
    },
    #[error(
        "{url} is not a feed but {found}: give the address of an RSS, Atom or JSON feed, or of a page that announces one"
    )]
    NotAFeed { url: String, found: String },
    #[error("the feed {url} has no entries")]
    EmptyFeed { url: String },
}

fn kinds() -> String {
    file::KINDS.map(|(ending, _)| format!(".{ending}")).join(" ")
}

impl Source {
    /// Makes a source of what was typed: a path that exists, a web address, or a bare host name such as `example.org/blog`.
    ///
    /// # Errors
    /// When it is none of these, or a file of an unknown kind.
    pub fn recognise(text: &str) -> Result<Self, SourceError> {
        let text = text.trim();
        if let Some(account) = Account::named(text) {
            return Ok(Self::Account(account));
        }
        if text.starts_with("git@") || text.starts_with("ssh://") || text.starts_with("git://") {
            return Err(SourceError::CloneAddress { text: text.to_owned() });
        }
        if let Ok(url) = Url::parse(text)
            && url.has_host()
        {
            return Self::from_url(url, text);
        }
        let path = Path::new(text);
        match fs_err::metadata(path) {
            Ok(metadata) if metadata.is_dir() && git::is_repository(path) => {
                Ok(Self::Git(Repository::Local(path.to_owned())))
            }
            Ok(metadata) if metadata.is_dir() => {
                let export = export::recognise(path)?.map(|kind| Self::Export(path.to_owned(), kind));
                Ok(export.unwrap_or_else(|| Self::Folder(path.to_owned())))
            }
            Ok(_) => Self::from_file(path),
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(SourceError::Read { path: path.to_owned(), source })
            }
            Err(_) => Self::from_host(text),
        }
    }

    fn from_url(url: Url, text: &str) -> Result<Self, SourceError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(SourceError::Scheme { text: text.to_owned() });
        }
        if let Some(account) = Account::at(&url) {
            return Ok(Self::Account(account));
        }
        if git::is_clone_address(&url) {
            return Ok(Self::Git(Repository::Remote(url)));
        }
        let path = url.path().trim_end_matches('/').to_ascii_lowercase();
        let is_feed = [".xml", ".rss", ".atom", ".rdf", "/feed", "/rss", "/atom", "/feed.json"];
        Ok(if is_feed.iter().any(|ending| path.ends_with(ending)) { Self::Feed(url) } else { Self::Web(url) })
    }

    fn from_file(path: &Path) -> Result<Self, SourceError> {
        match ending(path).as_str() {
            "jsonl" | "ndjson" => Ok(Self::Rows(path.to_owned())),
            _ if FileKind::of(path).is_some() => Ok(Self::File(path.to_owned())),
            _ => match export::recognise(path)? {
                Some(kind) => Ok(Self::Export(path.to_owned(), kind)),
                None => Err(SourceError::UnknownFile { path: path.to_owned() }),
            },
        }
    }

    /// A host name needs a dot within it, no spaces, and an ending that is not one of a file.
    fn from_host(text: &str) -> Result<Self, SourceError> {
        let unknown = || SourceError::Unknown { text: text.to_owned() };
        let host = text.split('/').next().unwrap_or_default();
        let looks_like_host = host.contains('.')
            && !host.starts_with('.')
            && host.chars().all(|c| c.is_alphanumeric() || "-.:".contains(c))
            && FileKind::of(Path::new(host)).is_none()
            && !matches!(ending(Path::new(host)).as_str(), "jsonl" | "ndjson" | "zip" | "csv" | "json" | "xml");
        if !looks_like_host {
            return Err(unknown());
        }
        let url = Url::parse(&format!("https://{text}")).map_err(|_| unknown())?;
        Self::from_url(url, text)
    }

    /// The kind, as the warehouse has it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Folder(_) => "folder",
            Self::File(_) => "file",
            Self::Rows(_) => "rows",
            Self::Export(..) => "export",
            Self::Git(_) => "git",
            Self::Account(_) => "account",
            // A page may turn out to be a feed; both are one kind of source.
            Self::Feed(_) | Self::Web(_) => "web",
        }
    }

    /// What identifies the source among those of its kind: the whole path or the address.
    pub(crate) fn location(&self) -> String {
        match self {
            Self::Folder(path) | Self::File(path) | Self::Rows(path) | Self::Export(path, _) => {
                fs_err::canonicalize(path).unwrap_or_else(|_| path.clone()).display().to_string()
            }
            Self::Git(Repository::Local(path)) => {
                fs_err::canonicalize(path).unwrap_or_else(|_| path.clone()).display().to_string()
            }
            Self::Account(account) => account.to_string(),
            Self::Git(Repository::Remote(url)) | Self::Feed(url) | Self::Web(url) => url.to_string(),
        }
    }
}

impl fmt::Display for Source {
    /// What the source was recognised as, in words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "the folder {}", path.display()),
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Rows(path) => write!(f, "the rows of {}", path.display()),
            Self::Export(path, ExportKind::Zip) => write!(f, "the posts in the zip {}", path.display()),
            Self::Export(path, kind) => write!(f, "the {kind} export {}", path.display()),
            Self::Git(Repository::Local(path)) => write!(f, "the Git repository {}", path.display()),
            Self::Git(Repository::Remote(url)) => write!(f, "the Git repository {url}"),
            Self::Account(account) => write!(f, "the posts of {} on {}", account.user, account.service),
            Self::Feed(url) => write!(f, "the feed {url}"),
            Self::Web(url) => write!(f, "the web address {url}"),
        }
    }
}

fn ending(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_recognised() {
        let feed = |text: &str| matches!(Source::recognise(text), Ok(Source::Feed(_)));
        let web = |text: &str| matches!(Source::recognise(text), Ok(Source::Web(_)));
        assert!(feed("https://a.org/index.xml") && feed("http://a.org/feed/") && feed("a.org/atom.xml"));
        assert!(web("https://a.org") && web("a.org/blog") && web("localhost.localdomain:8080/x"));
        assert_eq!(Source::recognise("a.org").unwrap(), Source::Web(Url::parse("https://a.org").unwrap()));
    }

    #[test]
    fn accounts_and_repositories_are_recognised() {
        for text in [
            "devto:ben",
            "https://dev.to/ben",
            "hashnode:ada",
            "https://hashnode.com/@ada",
            "github:ada",
            "https://github.com/ada",
            "mastodon:ada@social.example",
            "@ada@social.example",
            "bluesky:ada.bsky.social",
            "https://bsky.app/profile/ada.bsky.social",
            "hackernews:ada",
            "https://news.ycombinator.com/user?id=ada",
        ] {
            let found = Source::recognise(text).unwrap();
            assert!(matches!(found, Source::Account(_)), "{text}: {found:?}");
            // What the warehouse remembers is recognised again.
            assert_eq!(Source::recognise(&found.location()).unwrap(), found);
        }
        for text in
            ["https://github.com/ada/notes", "https://gitlab.com/a/b/c", "https://a.org/x.git", "codeberg.org/a/b"]
        {
            assert!(matches!(Source::recognise(text), Ok(Source::Git(Repository::Remote(_)))), "{text}");
        }
        for text in ["https://github.com/ada/notes/issues", "https://github.com/", "https://dev.to/ben/a-post-1"] {
            assert!(matches!(Source::recognise(text), Ok(Source::Web(_))), "{text}");
        }
        assert!(matches!(Source::recognise("git@github.com:a/b"), Err(SourceError::CloneAddress { .. })));
    }

    #[test]
    fn what_is_nothing_is_named() {
        for text in ["no/such/folder", "posts.md", "", "notes", "my blog.org", "export.jsonl"] {
            let error = Source::recognise(text).unwrap_err();
            assert!(matches!(error, SourceError::Unknown { .. }), "{text}: {error}");
        }
        assert!(matches!(Source::recognise("ftp://a.org/x"), Err(SourceError::Scheme { .. })));
        assert!(matches!(Source::recognise("file://a.org/etc/passwd"), Err(SourceError::Scheme { .. })));
    }

    #[test]
    fn paths_are_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = folder.path().join(name);
            fs_err::write(&path, "x").unwrap();
            path.display().to_string()
        };
        assert!(matches!(Source::recognise(folder.path().to_str().unwrap()), Ok(Source::Folder(_))));
        assert!(matches!(Source::recognise(&file("a.MD")), Ok(Source::File(_))));
        assert!(matches!(Source::recognise(&file("a.jsonl")), Ok(Source::Rows(_))));
        assert!(matches!(Source::recognise(&file("a.png")), Err(SourceError::UnknownFile { .. })));
    }
}
