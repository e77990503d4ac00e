//! Files that are whole or not there: written beside, synced, renamed.

use std::io::{self, Write};
use std::path::Path;

use fs_err as fs;

/// Replaces `path` with `bytes`. After a crash at any moment the file has the old content or the new.
///
/// # Errors
/// When a file cannot be written; the error names it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("partial");
    let mut file = fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Makes renames in `directory` durable.
///
/// # Errors
/// When the directory cannot be opened or synced.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    // Only Unix lets a directory be opened as a file; elsewhere renames are as durable as the system makes them.
    if cfg!(unix) { fs::File::open(directory)?.sync_all() } else { Ok(()) }
}
