//! Bytes on their way into the cache: counted, hashed and written beside, and renamed into place only when they are what
//! the catalogue says.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use twin_domain::{CancelFlag, Digest, Progress, ProgressUpdate};

use super::ModelError;
use crate::catalogue::ModelFile;

/// How files that are being written are called.
pub(super) const TEMPORARY: &str = ".incoming-";

const BUFFER_BYTES: usize = 1 << 20;

/// One step of the work: whom to tell, and when to stop.
#[derive(Clone, Copy)]
pub(crate) struct Step<'a> {
    /// The entry's name.
    pub entry: &'a str,
    /// The stage's name, as in `unpack model.onnx`.
    pub stage: &'a str,
    pub progress: &'a dyn Progress,
    pub cancel: &'a CancelFlag,
}

impl Step<'_> {
    /// Tells how many bytes are done.
    pub(crate) fn tell(&self, done: u64, total: Option<u64>, detail: &str) {
        self.progress.update(ProgressUpdate { stage: self.stage, done, total, unit: "bytes", detail });
    }

    /// The error for work that was stopped.
    pub(crate) fn cancelled(&self) -> ModelError {
        ModelError::Cancelled { entry: self.entry.to_owned() }
    }
}

/// Why bytes did not come in.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// The source failed, or its bytes are not the file's: another source may do better.
    Source(Box<dyn std::error::Error + Send + Sync>),
    /// No source can help: the disk is full, the directory cannot be written to, or somebody asked to stop.
    Fatal(ModelError),
}

impl Incoming {
    pub(crate) fn source(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Source(error.into())
    }

    /// As an error about the file that was the source.
    pub(crate) fn into_model_error(self, action: &'static str, path: &Path) -> ModelError {
        match self {
            Self::Fatal(error) => error,
            Self::Source(error) => match error.downcast::<std::io::Error>() {
                Ok(source) => ModelError::io(action, path, 0, *source),
                Err(error) => ModelError::io(action, path, 0, std::io::Error::other(error)),
            },
        }
    }
}

impl From<ModelError> for Incoming {
    fn from(error: ModelError) -> Self {
        Self::Fatal(error)
    }
}

impl fmt::Display for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(error) => write!(f, "{}", chain(error.as_ref())),
            Self::Fatal(error) => write!(f, "{}", chain(error)),
        }
    }
}

/// An error and its causes on one line. For the account of several attempts, which has no single source to chain to.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

/// That the bytes of a source are not the file's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WrongContent {
    #[error("it gave the wrong bytes: their SHA-256 is {found}")]
    Digest { found: Digest },
    #[error("it gave {found} bytes, and the file has {expected}")]
    Short { found: u64, expected: u64 },
    #[error("it gave more than the {expected} bytes that the file has")]
    Long { expected: u64 },
}

/// A file being written whose digest and length are known as it grows.
pub(crate) struct HashingFile {
    file: File,
    hasher: Sha256,
    written: u64,
}

impl HashingFile {
    pub(crate) fn new(file: File) -> Self {
        Self { file, hasher: Sha256::new(), written: 0 }
    }

    /// A file of which a part is there already. It is read to its end and goes on from there.
    pub(crate) fn resume(mut file: File) -> std::io::Result<Self> {
        let mut hasher = Sha256::new();
        let mut written = 0;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Self { file, hasher, written }),
                count => {
                    hasher.update(&buffer[..count]);
                    written += count as u64;
                }
            }
        }
    }

    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Appends `bytes`, unless that would be more than `file` has.
    pub(crate) fn push(&mut self, bytes: &[u8], file: &ModelFile, path: &Path) -> Result<(), Incoming> {
        self.written += bytes.len() as u64;
        if self.written > file.size_bytes {
            return Err(Incoming::source(WrongContent::Long { expected: file.size_bytes }));
        }
        self.hasher.update(bytes);
        let failed = |source| ModelError::io("write", path, file.size_bytes, source);
        Ok(self.file.write_all(bytes).map_err(failed)?)
    }

    /// Makes it durable, if it is `file`.
    pub(crate) fn finish(self, file: &ModelFile, path: &Path) -> Result<(), Incoming> {
        if self.written < file.size_bytes {
            let short = WrongContent::Short { found: self.written, expected: file.size_bytes };
            return Err(Incoming::source(short));
        }
        let found = hex::encode(self.hasher.finalize());
        if found != file.sha256 {
            let found = Digest::parse(&found).expect("SHA-256 in hexadecimal is a digest");
            return Err(Incoming::source(WrongContent::Digest { found }));
        }
        let failed = |source| ModelError::io("write", path, file.size_bytes, source);
        Ok(self.file.sync_all().map_err(failed)?)
    }
}

/// Copies `source` to `directory` under the file's name, if it is `file`. Nothing is left behind if it is not.
pub(crate) fn copy_verified(
    source: &mut dyn Read,
    file: &ModelFile,
    directory: &Path,
    step: &Step<'_>,
) -> Result<(), Incoming> {
    let failed = |source| ModelError::io("write to", directory, file.size_bytes, source);
    std::fs::create_dir_all(directory).map_err(failed)?;
    let temporary = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(directory).map_err(failed)?;
    let path = temporary.path().to_owned();
    let mut target = HashingFile::new(temporary.as_file().try_clone().map_err(failed)?);
    let mut buffer = vec![0; BUFFER_BYTES];
    step.tell(0, Some(file.size_bytes), "");
    loop {
        if step.cancel.is_cancelled() {
            return Err(step.cancelled().into());
        }
        match source.read(&mut buffer).map_err(Incoming::source)? {
            0 => break,
            count => target.push(&buffer[..count], file, &path)?,
        }
        step.tell(target.written(), Some(file.size_bytes), "");
    }
    target.finish(file, &path)?;
    readable_by_all(temporary.as_file()).map_err(failed)?;
    temporary.persist(directory.join(file.name)).map_err(|error| failed(error.error))?;
    Ok(sync_directory(directory).map_err(failed)?)
}

/// The digest of what is left of `source`.
pub(crate) fn hash(source: &mut dyn Read, size_bytes: u64, step: &Step<'_>) -> Result<Digest, Incoming> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut done = 0;
    loop {
        if step.cancel.is_cancelled() {
            return Err(step.cancelled().into());
        }
        match source.read(&mut buffer).map_err(Incoming::source)? {
            0 => break,
            count => {
                hasher.update(&buffer[..count]);
                done += count as u64;
            }
        }
        step.tell(done, Some(size_bytes), "");
    }
    Ok(Digest::parse(&hex::encode(hasher.finalize())).expect("SHA-256 in hexadecimal is a digest"))
}

/// Temporary files are their owner's alone; a cache may be shared.
#[cfg(unix)]
pub(super) fn readable_by_all(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
pub(super) fn readable_by_all(_: &File) -> std::io::Result<()> {
    Ok(())
}

/// Makes a rename in `directory` durable.
pub(crate) fn sync_directory(directory: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::catalogue::Role;

    #[test]
    fn a_full_disk_is_told_as_one() {
        let file = ModelFile {
            name: "weights.bin",
            role: Role::Weights,
            sha256: "",
            size_bytes: 1 << 20,
            hub: None,
            package: None,
        };
        let path = Path::new("/dev/full");
        let mut target = HashingFile::new(File::options().write(true).open(path).unwrap());
        let error = target.push(&[0; 1 << 16], &file, path).unwrap_err();
        assert!(matches!(&error, Incoming::Fatal(ModelError::DiskFull { needed_bytes: 1_048_576, .. })), "{error}");
        assert!(error.to_string().starts_with("the disk is full: /dev/full needs 1048576 bytes"), "{error}");
    }
}
