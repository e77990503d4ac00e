//! The files that go to a repository, and whether what is there is the same.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use fs_err as fs;
use sha1::{Digest as _, Sha1};
use twin_domain::Digest;

use super::client::{RemoteDigest, RemoteFile};
use crate::durable;

/// What a file to push consists of.
#[derive(Debug, Clone)]
pub(super) enum Content {
    File(PathBuf),
    Bytes(Vec<u8>),
}

/// A file to push.
#[derive(Debug, Clone)]
pub(super) struct LocalFile {
    /// Its name in the repository.
    pub path: String,
    pub content: Content,
    pub size: u64,
    pub sha256: Digest,
}

impl LocalFile {
    pub(super) fn of_bytes(path: &str, bytes: Vec<u8>) -> Self {
        let (size, sha256) = (bytes.len() as u64, Digest::of(&bytes));
        Self { path: path.to_owned(), content: Content::Bytes(bytes), size, sha256 }
    }

    pub(super) fn of_file(path: &str, file: &Path) -> io::Result<Self> {
        let (size, sha256) = (fs::metadata(file)?.len(), durable::digest(file)?);
        Ok(Self { path: path.to_owned(), content: Content::File(file.to_owned()), size, sha256 })
    }

    /// The first bytes, by which a hub judges whether it is text.
    pub(super) fn sample(&self) -> io::Result<Vec<u8>> {
        const SAMPLE: u64 = 512;
        let mut sample = Vec::new();
        match &self.content {
            Content::Bytes(bytes) => sample.extend(bytes.iter().take(SAMPLE as usize)),
            Content::File(file) => drop(fs::File::open(file)?.take(SAMPLE).read_to_end(&mut sample)?),
        }
        Ok(sample)
    }

    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        match &self.content {
            Content::Bytes(bytes) => Ok(bytes.clone()),
            Content::File(file) => fs::read(file),
        }
    }

    /// Whether a file of a repository has this content.
    pub(super) fn is(&self, remote: &RemoteFile) -> io::Result<bool> {
        if self.size != remote.size {
            return Ok(false);
        }
        match &remote.digest {
            RemoteDigest::Sha256(digest) => Ok(digest.eq_ignore_ascii_case(self.sha256.as_str())),
            RemoteDigest::GitBlob(digest) => Ok(digest.eq_ignore_ascii_case(&self.git_blob()?)),
        }
    }

    /// The digest by which Git knows a file.
    fn git_blob(&self) -> io::Result<String> {
        let mut hasher = Sha1::new();
        hasher.update(format!("blob {}\0", self.size));
        match &self.content {
            Content::Bytes(bytes) => hasher.update(bytes),
            Content::File(file) => {
                let mut file = fs::File::open(file)?;
                let mut buffer = vec![0; 1 << 20];
                loop {
                    let read = file.read(&mut buffer)?;
                    if read == 0 {
                        break;
                    }
                    hasher.update(&buffer[..read]);
                }
            }
        }
        Ok(hex::encode(hasher.finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_as_git_knows_them() {
        // `printf 'hello\n' | git hash-object --stdin`
        let file = LocalFile::of_bytes("a", b"hello\n".to_vec());
        assert_eq!(file.git_blob().unwrap(), "ce013625030ba8dba906f756967f9e9ca394464a");
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("a"), "hello\n").unwrap();
        let from_disk = LocalFile::of_file("a", &place.path().join("a")).unwrap();
        assert_eq!(from_disk.git_blob().unwrap(), file.git_blob().unwrap());
        assert_eq!(from_disk.sha256, file.sha256);
        assert_eq!(from_disk.sample().unwrap(), b"hello\n");
    }
}
