//! A folder of files, or one file.

use std::io::Read;
use std::path::{Path, PathBuf};

use url::Url;

use super::SourceError;
use super::file::{self, FileKind};
use crate::clean::Rejection;
use crate::page::Page;
use crate::report::Skip;

/// Deeper folders are not walked.
const MAX_DEPTH: usize = 32;

/// What a walk through a folder found.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The files to read, in the order of their paths.
    pub(crate) files: Vec<PathBuf>,
    /// What was seen and will not be read.
    pub(crate) skips: Vec<Skip>,
    /// How many files of other kinds there are.
    pub(crate) others: usize,
}

/// Lists the posts of a folder. Hidden files and folders are passed over; symbolic links are not followed, so that
/// nothing outside the folder is read and nothing twice.
///
/// # Errors
/// When the folder itself cannot be read, or has no posts.
pub(crate) fn list(folder: &Path) -> Result<Listing, SourceError> {
    let mut listing = Listing::default();
    let top = entries(folder).map_err(|source| SourceError::Read { path: folder.to_owned(), source })?;
    walk(folder, top, 0, &mut listing);
    if listing.files.is_empty() && listing.skips.is_empty() {
        return Err(SourceError::EmptyFolder { path: folder.to_owned() });
    }
    Ok(listing)
}

fn entries(folder: &Path) -> std::io::Result<Vec<fs_err::DirEntry>> {
    let mut entries = fs_err::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs_err::DirEntry::file_name);
    Ok(entries)
}

fn walk(root: &Path, found: Vec<fs_err::DirEntry>, depth: usize, listing: &mut Listing) {
    for entry in found {
        let path = entry.path();
        let mut skip = |reason: String| listing.skips.push(Skip { what: key(root, &path), reason });
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        match entry.file_type() {
            Err(error) => skip(error.to_string()),
            Ok(kind) if kind.is_symlink() && (FileKind::of(&path).is_some() || path.is_dir()) => {
                skip("a symbolic link: what it points to is not read".to_owned());
            }
            Ok(kind) if kind.is_dir() && depth >= MAX_DEPTH => skip(format!("more than {MAX_DEPTH} folders deep")),
            Ok(kind) if kind.is_dir() => match entries(&path) {
                Ok(inner) => walk(root, inner, depth + 1, listing),
                Err(error) => skip(error.to_string()),
            },
            Ok(kind) if kind.is_file() && FileKind::of(&path).is_some() => listing.files.push(path),
            Ok(_) => listing.others += 1,
        }
    }
}

/// Reads the posts in one file of a folder. `root` is the folder, or the file itself when it is the whole source.
pub(crate) fn read(root: &Path, path: &Path, most_bytes: u64) -> Vec<Result<Page, Skip>> {
    let key = key(root, path);
    let kind = FileKind::of(path).unwrap_or(FileKind::Text(crate::page::Media::Text));
    match read_at_most(path, kind.most_bytes(most_bytes)) {
        Ok(bytes) => file::pages(kind, bytes, &key, &file_url(root, &key), most_bytes),
        Err(reason) => vec![Err(Skip { what: key, reason })],
    }
}

/// The size is looked at before anything is read, and again while reading: a file may grow, or lie.
fn read_at_most(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let too_large = |bytes| Rejection::TooLarge { bytes, most }.to_string();
    let file = fs_err::File::open(path).map_err(|error| error.to_string())?;
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    if size > most {
        return Err(too_large(size));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > most { Err(too_large(bytes.len() as u64)) } else { Ok(bytes) }
}

/// The path within the folder, with `/` on every system.
fn key(root: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(root).ok().filter(|relative| !relative.as_os_str().is_empty());
    let relative = relative.or_else(|| path.file_name().map(Path::new)).unwrap_or(path);
    relative.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// The URL of a file that states none: `file:` with the name of the folder and the path in it. The folder's own place on
/// the machine is left out, so that it can be moved and tells readers nothing.
fn file_url(root: &Path, key: &str) -> String {
    let whole = fs_err::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let path = if name.is_empty() || name == key { key.to_owned() } else { format!("{name}/{key}") };
    escaped_file_url(&path)
}

/// `file:` and the path, with what a URL may not have percent-encoded.
pub(super) fn escaped_file_url(path: &str) -> String {
    // A parsed `file:///…` has its path encoded by the URL standard's rules.
    match Url::parse("file:///") {
        Ok(mut url) => {
            url.set_path(path);
            format!("file:{}", url.path().trim_start_matches('/'))
        }
        Err(_) => format!("file:{path}"),
    }
}
