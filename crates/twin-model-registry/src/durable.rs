//! Files and directories that survive a killed process and a power failure.

use std::io::{self, Read, Seek, Write};
use std::path::Path;

use fs_err as fs;
use sha2::{Digest as _, Sha256};
use twin_domain::Digest;

/// Writes a file beside and renames it into place.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("partial");
    let mut file = fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Appends a line. What a crash cut short is cut off first, so that every line that ends is whole. `step` is told of
/// `trimmed`, `written` and `synced`.
pub(crate) fn append_line(path: &Path, line: &[u8], step: impl Fn(&str)) -> io::Result<()> {
    let mut file = fs::File::options().create(true).read(true).append(true).open(path)?;
    if !ends_with_line_break(&mut file)? {
        let mut text = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut text)?;
        file.set_len(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end as u64 + 1))?;
    }
    step("trimmed");
    let mut line = line.to_vec();
    line.push(b'\n');
    file.write_all(&line)?;
    step("written");
    file.sync_all()?;
    path.parent().map_or(Ok(()), sync_directory)?;
    step("synced");
    Ok(())
}

/// An empty file does, too: it needs no line break.
fn ends_with_line_break(file: &mut fs::File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(io::SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// The lines of a file that were acknowledged; none when there is no file.
pub(crate) fn whole_lines(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    // What follows the last line break was never acknowledged: nothing, or a line that a crash cut short.
    text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
    Ok(text)
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    // Only Unix lets a directory be opened as a file; elsewhere renames are as durable as the system makes them.
    if cfg!(unix) { fs::File::open(directory)?.sync_all() } else { Ok(()) }
}

/// Copies a file and syncs it. The digest is of the bytes that were written.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<Digest> {
    let mut source = fs::File::open(from)?;
    let mut target = fs::File::create(to)?;
    let digest = read_through(&mut source, |bytes| target.write_all(bytes))?;
    target.sync_all()?;
    make_read_only(to)?;
    Ok(digest)
}

/// Takes away the permission to write a file.
pub(crate) fn make_read_only(path: &Path) -> io::Result<()> {
    let mut permissions = fs::metadata(path)?.permissions();
    permissions.set_readonly(true);
    fs::set_permissions(path, permissions)
}

/// The digest of a file.
pub(crate) fn digest(path: &Path) -> io::Result<Digest> {
    read_through(&mut fs::File::open(path)?, |_| Ok(()))
}

fn read_through(source: &mut impl Read, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = source.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        each(&buffer[..read])?;
    }
    Digest::parse(&hex::encode(hasher.finalize())).map_err(io::Error::other)
}
