//! When each file came into a repository, and by whom.

use std::collections::HashMap;

use jiff::civil::Date;

use super::program::Git;
use crate::date;

/// Older commits are not looked at: dates are worth having, not waiting for.
const MAX_COMMITS: &str = "--max-count=50000";

/// The commit that brought a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) date: Option<Date>,
    /// Who committed it; nobody for a merge, which somebody else may have done.
    pub(super) author: Option<String>,
}

/// Follows the line of first parents back from `commit` to the commit that brought each file. A file that was moved is
/// followed to where it was before.
pub(super) fn origins(git: &Git, commit: &str, files: impl Iterator<Item = String>) -> HashMap<String, Origin> {
    // A zero cannot be in a path, and so not in what stands between two of them; names of people have no line breaks.
    let log = git.bytes(&[
        "log",
        "--first-parent",
        "--diff-merges=first-parent",
        "--diff-filter=AR",
        "--find-renames=90%",
        "--name-status",
        "-z",
        "--no-ext-diff",
        "--no-textconv",
        "--format=%x01%as%x02%P%x02%an",
        MAX_COMMITS,
        commit,
    ]);
    // A file without a date is still a post.
    parse(&log.unwrap_or_default(), files)
}

/// Reads a log, newest first: a commit's line, then `A`, path or `R…`, old path, new path, each ended by a zero.
fn parse(log: &[u8], files: impl Iterator<Item = String>) -> HashMap<String, Origin> {
    // The path at that time -> the path now.
    let mut open: HashMap<String, String> = files.map(|path| (path.clone(), path)).collect();
    let mut found = HashMap::new();
    let text = String::from_utf8_lossy(log);
    let mut fields = text.split('\0');
    let mut now = Origin::default();
    while let Some(field) = fields.next() {
        let field = field.trim_start_matches('\n');
        if let Some(commit) = field.strip_prefix('\x01') {
            now = origin(commit);
        } else if field == "A" {
            let current = fields.next().and_then(|path| open.remove(path));
            found.extend(current.map(|current| (current, now.clone())));
        } else if field.starts_with('R') {
            let (old, new) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
            if let Some(current) = open.remove(new) {
                open.insert(old.to_owned(), current);
            }
        }
    }
    found
}

fn origin(commit: &str) -> Origin {
    let mut parts = commit.splitn(3, '\x02');
    let mut next = || parts.next().unwrap_or_default().trim();
    let (day, parents, name) = (next(), next(), next());
    let is_merge = parents.split_whitespace().count() > 1;
    Origin { date: date::parse(day), author: (!is_merge && !name.is_empty()).then(|| name.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moved_files_keep_the_date_at_which_they_came() {
        let log = "\x012022-05-06\x02b\x02Ada\0\nR100\0old/a.md\0posts/a.md\0\x012021-03-04\x02c d\x02Bob\0\nA\0b.md\0\x012020-01-02\x02\x02Ada\0\nA\0old/a.md\0A\0other.md\0";
        let found = parse(log.as_bytes(), ["posts/a.md", "b.md", "new.md"].map(str::to_owned).into_iter());
        let origin =
            |day: &str, author: Option<&str>| Origin { date: date::parse(day), author: author.map(str::to_owned) };
        assert_eq!(found.get("posts/a.md"), Some(&origin("2020-01-02", Some("Ada"))));
        assert_eq!(found.get("b.md"), Some(&origin("2021-03-04", None)));
        assert_eq!(found.len(), 2);
    }
}
