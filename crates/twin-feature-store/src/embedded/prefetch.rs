//! Reading a collection ahead.
//!
//! The engine maps its files, so that opening them is quick and the first queries wait for the disk, page by page. Read in one
//! go, a file is in the system's cache many times sooner.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::DENSE;

/// Beyond this, in bytes, nothing more is read: a collection that is larger belongs on a server. Some 1.5 million chunks.
const MOST: u64 = 4 << 30;

const BUFFER: usize = 1 << 20;

/// Reads what queries of the shard in `path` go through: vectors, graphs, lists of terms and the indexes of payloads. Not the
/// texts, of which a query needs a few. What is gone meanwhile, as when indexing replaces it, is left out.
pub(super) fn read(path: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for segment in directories(&path.join("segments"))? {
        let parts = directories(&segment).or_else(gone)?;
        for part in parts.iter().filter(|part| is_searched(part)) {
            files_below(part, &mut files).or_else(gone)?;
        }
    }
    let (mut buffer, mut left) = (vec![0; BUFFER], MOST);
    for file in files {
        let mut file = match fs::File::open(&file) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                bytes => left = left.saturating_sub(bytes as u64),
            }
            if left == 0 {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn is_searched(part: &Path) -> bool {
    let name = part.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name == "payload_index" || name.starts_with("vector_index-") || name == format!("vector_storage-{DENSE}")
}

fn directories(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    Ok(entries.iter().map(fs::DirEntry::path).filter(|path| path.is_dir()).collect())
}

fn files_below(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.is_dir() {
            files_below(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn gone<T: Default>(error: io::Error) -> io::Result<T> {
    if error.kind() == io::ErrorKind::NotFound { Ok(T::default()) } else { Err(error) }
}
