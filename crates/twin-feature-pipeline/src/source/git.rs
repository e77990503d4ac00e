//! A Git repository: the prose in what was last committed. READMEs, documentation and posts are taken, each dated by the
//! commit that brought it, where its own text or name does not say better.
//!
//! The `git` program does what Git does; whoever has a repository has it. It is told to run nothing that a repository's own
//! configuration asks for, and to talk to no host but the one whose address was checked.

use std::path::{Path, PathBuf};

use url::Url;

use self::program::Git;
use super::SourceError;
use super::export::Each;
use super::file::{self, FileKind};
use super::folder::escaped_file_url;
use crate::date;
use crate::page::Media;
use crate::report::Skip;

mod history;
pub(crate) mod program;

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repository {
    Local(PathBuf),
    /// An address that it is cloned from.
    Remote(Url),
}

/// More files than any repository of prose has.
const MAX_ENTRIES: usize = 200_000;

/// Whether a folder is a repository, with or without files checked out.
pub(crate) fn is_repository(folder: &Path) -> bool {
    let is_bare = || folder.join("HEAD").is_file() && folder.join("objects").is_dir() && folder.join("refs").is_dir();
    folder.join(".git").exists() || is_bare()
}

/// Whether an address is one of a repository and not of a page: it says so, or the host has nothing else there.
pub(crate) fn is_clone_address(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches("www.");
    let path: Vec<&str> = url.path_segments().into_iter().flatten().filter(|part| !part.is_empty()).collect();
    let is_plain = path.len() >= 2 && url.query().is_none() && !path.contains(&"-");
    match host {
        "github.com" | "codeberg.org" | "bitbucket.org" => path.len() == 2 && is_plain,
        "gitlab.com" => is_plain,
        _ => path.last().is_some_and(|last| last.ends_with(".git")),
    }
}

/// A file that is taken.
struct Found {
    path: String,
    id: String,
    size: u64,
    kind: FileKind,
}

/// Reads the prose of a repository's last commit. `origin` is the address that it was cloned from. Says what was read.
///
/// # Errors
/// When it is no repository, has no commit or no prose.
pub(crate) fn read(
    place: &Path,
    origin: Option<&Url>,
    most_bytes: u64,
    each: &mut Each<'_>,
) -> Result<String, SourceError> {
    let what = origin.map_or_else(|| place.display().to_string(), Url::to_string);
    let problem = |problem: String| SourceError::Git { what: what.clone(), problem };
    let git = Git::at(place);
    let nothing = |_| problem("nothing is committed in it yet, or it is no repository that may be read".to_owned());
    let commit = git.text(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).map_err(nothing)?;
    let commit = commit.trim();
    let found = listed(&git.bytes(&["ls-tree", "-r", "-l", "-z", commit]).map_err(problem)?);
    if found.is_empty() {
        return Err(problem("its last commit has no files that posts are read from".to_owned()));
    }
    let mut history = history::origins(&git, commit, found.iter().map(|found| found.path.clone()));
    let web = web_address(&git, origin);
    let name = place_name(place, origin);
    let total = found.len();
    for Found { path, id, size, kind } in found {
        let own = || escaped_file_url(&format!("{name}/{path}"));
        let url = web.as_deref().map_or_else(own, |web| format!("{web}{}", encoded(&path)));
        let mut posts = match contents(&git, &id, size, kind.most_bytes(most_bytes)) {
            Ok(bytes) => file::pages(kind, bytes, &path, &url, most_bytes),
            Err(reason) => vec![Err(Skip { what: path.clone(), reason })],
        };
        let origin = history.remove(&path).unwrap_or_default();
        for page in posts.iter_mut().flatten() {
            // The day in a name is the author's own; that of the commit may be the day of a move.
            let hints = &mut page.hints;
            hints.date = hints.date.or_else(|| date::in_path(&path)).or(origin.date);
            hints.byline = hints.byline.take().or_else(|| origin.author.clone());
        }
        if !posts.into_iter().all(&mut *each) {
            break;
        }
    }
    Ok(format!("{total} files of prose were read as of commit {}", commit.get(..10).unwrap_or(commit)))
}

fn contents(git: &Git, id: &str, size: u64, most: u64) -> Result<Vec<u8>, String> {
    if size > most {
        return Err(crate::clean::Rejection::TooLarge { bytes: size, most }.to_string());
    }
    git.bytes(&["cat-file", "blob", id])
}

/// The files of prose in what `ls-tree -r -l -z` lists: `mode type id size<tab>path`, each ended by a zero.
fn listed(listing: &[u8]) -> Vec<Found> {
    let entries = listing.split(|byte| *byte == 0).take(MAX_ENTRIES);
    let found = entries.filter_map(|entry| {
        let entry = std::str::from_utf8(entry).ok()?;
        let (about, path) = entry.split_once('\t')?;
        let about: Vec<&str> = about.split_whitespace().collect();
        // Links to other files (mode 120000) and other repositories are not read.
        let [mode, "blob", id, size] = about.as_slice() else { return None };
        let kind = prose(path).filter(|_| mode.starts_with("100"))?;
        Some(Found { path: path.to_owned(), id: (*id).to_owned(), size: size.parse().ok()?, kind })
    });
    found.collect()
}

/// What of a repository's files is prose: in most, text files and pages are data or output.
fn prose(path: &str) -> Option<FileKind> {
    const NOT_OWN: [&str; 9] = [
        "license",
        "licence",
        "copying",
        "notice",
        "changelog",
        "code_of_conduct",
        "security",
        "summary",
        "pull_request_template",
    ];
    const FOREIGN: [&str; 14] = [
        "node_modules",
        "vendor",
        "third_party",
        "third-party",
        "external",
        "target",
        "dist",
        "build",
        "out",
        "_site",
        "public",
        "fixtures",
        "testdata",
        "snapshots",
    ];
    const OF_POSTS: [&str; 7] = ["post", "blog", "content", "article", "essay", "writing", "note"];
    let lower = path.to_lowercase();
    let (folders, name) = lower.rsplit_once('/').unwrap_or(("", &lower));
    let is_foreign = |folder: &str| folder.starts_with('.') || FOREIGN.contains(&folder);
    let stem = name.split('.').next().unwrap_or_default();
    let kind = FileKind::of(Path::new(name))?;
    let is_own = !folders.split('/').any(is_foreign) && !NOT_OWN.iter().any(|other| stem.starts_with(other));
    let is_prose = match kind {
        FileKind::Text(Media::Html | Media::Text) => {
            stem == "readme" || OF_POSTS.iter().any(|folder| folders.contains(folder))
        }
        _ => true,
    };
    (is_own && is_prose).then_some(kind)
}

fn place_name(place: &Path, origin: Option<&Url>) -> String {
    let whole = || fs_err::canonicalize(place).unwrap_or_else(|_| place.to_owned());
    let named = origin.map_or_else(whole, |url| PathBuf::from(url.path()));
    named.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Where the repository's host shows its files, if it is one of the known.
fn web_address(git: &Git, origin: Option<&Url>) -> Option<String> {
    let origin = match origin {
        Some(url) => url.to_string(),
        None => git.text(&["config", "--get", "remote.origin.url"]).ok()?,
    };
    // `git@github.com:ada/notes.git` is the address of people who may write to it.
    let bare = origin.trim().trim_start_matches("https://").trim_start_matches("ssh://").trim_start_matches("git@");
    let (host, path) = bare.split_once(['/', ':'])?;
    let path = path.trim_matches('/').trim_end_matches(".git");
    match host {
        "github.com" => Some(format!("https://{host}/{path}/blob/HEAD/")),
        "gitlab.com" => Some(format!("https://{host}/{path}/-/blob/HEAD/")),
        "codeberg.org" | "bitbucket.org" => Some(format!("https://{host}/{path}/src/HEAD/")),
        _ => None,
    }
}

fn encoded(path: &str) -> String {
    escaped_file_url(path).trim_start_matches("file:").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_told_from_data() {
        for path in ["README.md", "docs/guide.rst", "content/posts/a.html", "_posts/2020-01-02-x.txt", "a/b.adoc"] {
            assert!(prose(path).is_some(), "{path}");
        }
        for path in [
            "LICENSE.md",
            "requirements.txt",
            "src/page.html",
            "main.rs",
            "docs/x.png",
            ".github/x.md",
            "a/vendor/README.md",
        ] {
            assert!(prose(path).is_none(), "{path}");
        }
    }

    #[test]
    fn listings_are_read() {
        let listing = b"100644 blob aa 12\tREADME.md\x00120000 blob bb 3\tlink.md\x00160000 commit cc -\tsub\x00100755 blob dd 7\tdocs/a b.md\0";
        let found: Vec<(String, u64)> = listed(listing).into_iter().map(|found| (found.path, found.size)).collect();
        assert_eq!(found, [("README.md".to_owned(), 12), ("docs/a b.md".to_owned(), 7)]);
    }
}
