//! Which files of an entry were checked, and how they looked then. Losing the manifest costs reading the files once more.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::catalogue::ModelFile;

/// The manifest's name in an entry's directory.
pub const MANIFEST: &str = "verified.json";

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Manifest {
    files: BTreeMap<String, Verified>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Verified {
    sha256: String,
    size_bytes: u64,
    /// Nanoseconds since 1970.
    modified_ns: u64,
}

impl Manifest {
    /// What is remembered of the files in `directory`; nothing if that cannot be read.
    pub(super) fn read(directory: &Path) -> Self {
        let json = std::fs::read(directory.join(MANIFEST)).unwrap_or_default();
        serde_json::from_slice(&json).unwrap_or_default()
    }

    /// Whether the file at `path` was found to be `file` and has not changed since, by its size and modification time.
    pub(super) fn vouches_for(&self, file: &ModelFile, path: &Path) -> bool {
        let now = Verified::of(file, path);
        now.is_some() && self.files.get(file.name) == now.as_ref()
    }

    pub(super) fn record(&mut self, file: &ModelFile, path: &Path, present: bool) {
        match Verified::of(file, path).filter(|_| present) {
            Some(verified) => self.files.insert(file.name.to_owned(), verified),
            None => self.files.remove(file.name),
        };
    }

    /// Replaces the manifest in `directory`. A cache that may only be read keeps none, which is slow and not wrong.
    pub(super) fn write(&self, directory: &Path) {
        let write = || -> std::io::Result<()> {
            let mut temporary = tempfile::Builder::new().prefix(super::incoming::TEMPORARY).tempfile_in(directory)?;
            temporary.write_all(&serde_json::to_vec_pretty(self)?)?;
            super::incoming::readable_by_all(temporary.as_file())?;
            temporary.as_file().sync_all()?;
            temporary.persist(directory.join(MANIFEST)).map_err(|error| error.error)?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::debug!(directory = %directory.display(), %error, "the manifest of checked files was not kept");
        }
    }
}

impl Verified {
    fn of(file: &ModelFile, path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let modified_ns = u64::try_from(modified.as_nanos()).ok()?;
        Some(Self { sha256: file.sha256.to_owned(), size_bytes: metadata.len(), modified_ns })
    }
}
