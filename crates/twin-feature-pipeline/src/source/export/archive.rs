//! An export as its files: a zip, a folder, or one file. Nothing is unpacked to disk, and what a zip may do is bounded
//! while it is read: how many files, how many bytes, how much a byte may become.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry::Vacant;
use std::io::{Cursor, Read, Seek};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use super::SourceError;
use crate::report::Skip;

/// More files than any account's export has; the names alone would fill the memory.
const MAX_ENTRIES: usize = 50_000;
/// The most bytes that are read out of one export, after decompression.
const MAX_TOTAL_BYTES: u64 = 1024 * 1024 * 1024;
/// Text becomes three to ten times its compressed size; a bomb a thousand times.
const MAX_RATIO: u64 = 100;
/// Small files may compress as well as they like.
const RATIO_FREE_BYTES: u64 = 1024 * 1024;
const MAX_DEPTH: usize = 8;

/// An export that is open for reading.
pub(crate) struct Archive {
    /// The name of the export without its ending, for addresses of posts that have none.
    pub(crate) name: String,
    /// What was found in it and will not be read.
    pub(crate) skips: Vec<Skip>,
    entries: BTreeMap<String, Entry>,
    zip: Option<ZipArchive<Box<dyn ReadSeek>>>,
    /// How many bytes may still be read.
    budget: u64,
}

/// What a zip can be read from.
trait ReadSeek: Read + Seek + Send {}

impl<T: Read + Seek + Send> ReadSeek for T {}

enum Entry {
    InZip(usize),
    OnDisk(PathBuf),
    InMemory(Vec<u8>),
}

impl Archive {
    /// Opens an export.
    ///
    /// # Errors
    /// When it cannot be read, or is a zip that is damaged or has too many files.
    pub(crate) fn open(path: &Path) -> Result<Self, SourceError> {
        let unreadable = |source| SourceError::Read { path: path.to_owned(), source };
        let metadata = fs_err::metadata(path).map_err(unreadable)?;
        let mut archive = Self {
            name: name_of(path),
            skips: Vec::new(),
            entries: BTreeMap::new(),
            zip: None,
            budget: MAX_TOTAL_BYTES,
        };
        if metadata.is_dir() {
            archive.walk(path, "", 0).map_err(unreadable)?;
        } else if is_zip(path).map_err(unreadable)? {
            archive.open_zip(path)?;
        } else {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            archive.entries.insert(name, Entry::OnDisk(path.to_owned()));
        }
        Ok(archive)
    }

    /// Opens a zip that is in memory, as word processors and books are.
    ///
    /// # Errors
    /// In a sentence: it is no zip, is damaged or has too many files.
    pub(crate) fn of_bytes(bytes: Vec<u8>) -> Result<Self, String> {
        let mut archive = Self {
            name: String::new(),
            skips: Vec::new(),
            entries: BTreeMap::new(),
            zip: None,
            budget: MAX_TOTAL_BYTES,
        };
        archive.take_zip(Box::new(Cursor::new(bytes)))?;
        Ok(archive)
    }

    /// One file that is in memory.
    pub(crate) fn of_file(name: &str, bytes: Vec<u8>) -> Self {
        let entries = BTreeMap::from([(name.to_owned(), Entry::InMemory(bytes))]);
        Self { name: name.to_owned(), skips: Vec::new(), entries, zip: None, budget: MAX_TOTAL_BYTES }
    }

    fn walk(&mut self, folder: &Path, prefix: &str, depth: usize) -> std::io::Result<()> {
        for entry in fs_err::read_dir(folder)? {
            let (entry, kind) = entry.and_then(|entry| entry.file_type().map(|kind| (entry, kind)))?;
            let file_name = entry.file_name().to_string_lossy().into_owned();
            if file_name.starts_with('.') || self.entries.len() >= MAX_ENTRIES {
                continue;
            }
            let name = format!("{prefix}{file_name}");
            if kind.is_dir() && depth < MAX_DEPTH {
                self.walk(&entry.path(), &format!("{name}/"), depth + 1)?;
            } else if kind.is_file() {
                self.entries.insert(name, Entry::OnDisk(entry.path()));
            }
        }
        Ok(())
    }

    fn open_zip(&mut self, path: &Path) -> Result<(), SourceError> {
        let damaged = |problem: String| SourceError::DamagedExport { path: path.to_owned(), problem };
        let file = fs_err::File::open(path).map_err(|source| SourceError::Read { path: path.to_owned(), source })?;
        self.take_zip(Box::new(file)).map_err(damaged)
    }

    fn take_zip(&mut self, file: Box<dyn ReadSeek>) -> Result<(), String> {
        let zip = ZipArchive::new(file).map_err(|error| error.to_string())?;
        if zip.len() > MAX_ENTRIES {
            return Err(format!("it has {} files; at most {MAX_ENTRIES} are read", zip.len()));
        }
        for index in 0..zip.len() {
            let Ok(entry) = zip.by_index_data(index) else { continue };
            let name = entry.name().map(|name| name.into_owned()).unwrap_or_default();
            if entry.is_dir() || is_hidden(&name) {
                continue;
            }
            let problem = if entry.enclosed_name().is_none() || name.contains('\\') {
                "its name leads out of the archive"
            } else if entry.is_symlink() {
                "a symbolic link: what it points to is not read"
            } else if entry.encrypted() {
                "it is encrypted: take the archive's password off and try again"
            } else if let Vacant(place) = self.entries.entry(name.clone()) {
                place.insert(Entry::InZip(index));
                continue;
            } else {
                "another file of the archive has the same name"
            };
            self.skips.push(Skip { what: name.escape_debug().to_string(), reason: problem.to_owned() });
        }
        self.zip = Some(zip);
        Ok(())
    }

    pub(crate) fn is_zip(&self) -> bool {
        self.zip.is_some()
    }

    /// The names of all files, in order, with `/` between folders.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The name of the file at `path`, wherever in the archive its top folder is; the one nearest the top.
    pub(crate) fn find(&self, path: &str) -> Option<String> {
        let ends = |name: &&str| *name == path || name.strip_suffix(path).is_some_and(|before| before.ends_with('/'));
        self.names().filter(ends).min_by_key(|name| name.len()).map(str::to_owned)
    }

    /// The names that pass.
    pub(crate) fn matching(&self, passes: impl Fn(&str) -> bool) -> Vec<String> {
        self.names().filter(|name| passes(name)).map(str::to_owned).collect()
    }

    /// Reads a file of at most `most` bytes.
    ///
    /// # Errors
    /// In a sentence: it is not there, cannot be read, is too large, or does what only bombs do.
    pub(crate) fn read(&mut self, name: &str, most: u64) -> Result<Vec<u8>, String> {
        let most = most.min(self.budget);
        let bytes = match self.entries.get(name) {
            None => return Err("it is not in the export".to_owned()),
            Some(Entry::InMemory(bytes)) => bounded(&mut bytes.as_slice(), most, u64::MAX),
            Some(Entry::OnDisk(path)) => {
                let mut file = fs_err::File::open(path).map_err(|error| error.to_string())?;
                bounded(&mut file, most, u64::MAX)
            }
            Some(Entry::InZip(index)) => {
                let zip = self.zip.as_mut().ok_or("the archive is closed")?;
                let mut file = zip.by_index(*index).map_err(|error| error.to_string())?;
                let stored = file.entry().compressed_size();
                bounded(&mut file, most, stored)
            }
        }?;
        self.budget -= bytes.len() as u64;
        Ok(bytes)
    }

    /// The first bytes of a file, enough to see what it is.
    pub(crate) fn start(&mut self, name: &str) -> String {
        const ENOUGH: u64 = 8 * 1024;
        let mut bytes = Vec::new();
        match self.entries.get(name) {
            None => {}
            Some(Entry::InMemory(known)) => bytes.extend(known.iter().take(ENOUGH as usize)),
            Some(Entry::OnDisk(path)) => {
                let _ = fs_err::File::open(path).and_then(|file| file.take(ENOUGH).read_to_end(&mut bytes));
            }
            Some(Entry::InZip(index)) => {
                if let Some(Ok(file)) = self.zip.as_mut().map(|zip| zip.by_index(*index)) {
                    // What is read until an error is enough to look at.
                    let _ = file.take(ENOUGH).read_to_end(&mut bytes);
                }
            }
        }
        String::from_utf8_lossy(&bytes).trim_start_matches('\u{feff}').to_owned()
    }
}

/// Reads piece by piece, so that a bomb is noticed before it has filled the memory.
fn bounded(reader: &mut dyn Read, most: u64, stored: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut piece = [0_u8; 64 * 1024];
    loop {
        let count = reader.read(&mut piece).map_err(|error| error.to_string())?;
        if count == 0 {
            return Ok(bytes);
        }
        let size = (bytes.len() + count) as u64;
        if size > most {
            return Err(format!("more than {most} bytes, the most that is read of it"));
        }
        if size > RATIO_FREE_BYTES && size > stored.saturating_mul(MAX_RATIO) {
            return Err(format!("its {stored} bytes become more than {MAX_RATIO} times as many, as only bombs do"));
        }
        bytes.extend_from_slice(&piece[..count]);
    }
}

/// Whether the file begins like a zip.
fn is_zip(path: &Path) -> std::io::Result<bool> {
    let mut start = Vec::new();
    fs_err::File::open(path)?.take(4).read_to_end(&mut start)?;
    Ok(start == b"PK\x03\x04" || start == b"PK\x05\x06")
}

/// Files of operating systems beside the user's own.
fn is_hidden(name: &str) -> bool {
    name.split('/').any(|part| (part.starts_with('.') && part != "..") || part == "__MACOSX")
}

fn name_of(path: &Path) -> String {
    let whole = fs_err::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let stem = if whole.is_dir() { whole.file_name() } else { whole.file_stem() };
    stem.unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::write::SimpleFileOptions;

    use super::*;

    fn zipped(files: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::with_suffix(".zip").unwrap();
        let mut zip = zip::ZipWriter::new(file.reopen().unwrap());
        for (name, bytes) in files {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap();
        file
    }

    #[test]
    fn files_are_found_wherever_the_top_folder_is() {
        let file = zipped(&[("twitter-2023/data/tweets.js", b"x"), ("twitter-2023/data/a/tweets.js", b"y")]);
        let mut archive = Archive::open(file.path()).unwrap();
        let found = archive.find("data/tweets.js").unwrap();
        assert_eq!(archive.read(&found, 10).unwrap(), b"x");
        assert_eq!(archive.find("weets.js"), None);
        assert!(archive.read("nothing", 10).unwrap_err().contains("not in the export"));
        assert!(archive.read(&found, 0).unwrap_err().contains("more than 0 bytes"));
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        let file = zipped(&[("../../etc/passwd", b"x"), ("/abs.md", b"x"), ("a\\..\\b.md", b"x"), ("ok.md", b"x")]);
        let archive = Archive::open(file.path()).unwrap();
        let names: Vec<&str> = archive.names().collect();
        assert!(names.contains(&"ok.md") && !names.iter().any(|name| name.contains("..")), "{names:?}");
        assert!(archive.skips.iter().any(|skip| skip.reason.contains("leads out")), "{:?}", archive.skips);
    }

    #[test]
    fn bombs_are_seen_while_they_inflate() {
        let file = zipped(&[("bomb.html", &vec![b' '; 200 << 20][..])]);
        let mut archive = Archive::open(file.path()).unwrap();
        let error = archive.read("bomb.html", u64::MAX).unwrap_err();
        assert!(error.contains("bombs"), "{error}");
        // Its start, by which it is recognised, is small whatever comes after.
        assert!(archive.start("bomb.html").len() <= 8192);
    }

    #[test]
    fn a_damaged_zip_is_named() {
        let file = tempfile::NamedTempFile::with_suffix(".zip").unwrap();
        fs_err::write(file.path(), b"PK\x03\x04 and then nothing").unwrap();
        assert!(matches!(Archive::open(file.path()), Err(SourceError::DamagedExport { .. })));
    }
}
