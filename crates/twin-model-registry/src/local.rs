//! The registry in a directory:
//!
//! ```text
//! registry.json                          the format; a program that knows only older ones keeps its hands off
//! <author>/versions/v<N>/manifest.json   and the version's files, read-only
//! <author>/versions/v<N>/SHA256SUMS      of all of them, the manifest included; `sha256sum -c` reads it
//! <author>/releases/<N>.json
//! <author>/history.jsonl                 one change of what serves a line; the last one is in force
//! <author>/annotations.jsonl             stages, tags and notes of versions, one event a line
//! <author>/gate/<digest>.json            reports of the gate
//! <author>/index.jsonl                   what a list shows of each version; derived, and made again when it is lost
//! <author>/lock                          held while something is added
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use twin_domain::model_registry::Candidate;
use twin_domain::release::Promotion;
use twin_domain::{
    AuthorId, Change, Digest, FeatureViewId, ModelRegistry, ModelVersion, ModelVersionId, Occasion, PromptVersion,
    RegistryError, Release,
};

use crate::durable;

pub use self::collect::Collected;
pub use self::index::{Listing, VersionSummary};
pub use self::steps::StepObserver;
pub use self::verify::Checked;

mod annotations;
mod collect;
mod index;
mod releases;
mod reports;
mod steps;
mod verify;

const FORMAT_FILE: &str = "registry.json";
/// The newest layout that this program knows.
const FORMAT: u32 = 2;
const MANIFEST: &str = "manifest.json";
const SUMS: &str = "SHA256SUMS";

/// A registry in a local directory. Several processes may use it at once.
#[derive(Debug, Clone)]
pub struct LocalRegistry {
    directory: PathBuf,
    steps: steps::Steps,
}

/// Held while something is added to an author; released when dropped.
struct AuthorLock {
    _file: fs::File,
}

/// What `registry.json` says.
#[derive(Serialize, Deserialize)]
struct FormatFile {
    format: u32,
}

impl LocalRegistry {
    /// Opens a registry, or makes an empty one.
    ///
    /// # Errors
    /// When the directory cannot be made, or [`RegistryError::Newer`] when a newer program has written it.
    pub fn open(directory: &Path) -> Result<Self, RegistryError> {
        if !directory.is_dir() {
            fs::create_dir_all(directory).map_err(unwritable(directory, "make its directory"))?;
        }
        let registry = Self { directory: directory.to_owned(), steps: steps::Steps::default() };
        registry.format()?;
        Ok(registry)
    }

    /// Tells `observer` of each durable step that was taken.
    #[must_use]
    pub fn observed(self, observer: StepObserver) -> Self {
        Self { steps: steps::Steps(Some(observer)), ..self }
    }

    /// Takes in a version that another registry made, with its files, which must be those of its manifest. It keeps its
    /// number where that is free; a version of the same content is returned instead of being made twice.
    ///
    /// # Errors
    /// [`RegistryError::Damaged`] when a file is not the one that the manifest names; otherwise when a file cannot be written.
    pub fn import(&self, version: &ModelVersion, files: &Path) -> Result<ModelVersion, RegistryError> {
        let names = files_of(files)?;
        if !names.iter().eq(version.files.keys()) {
            let problem = "its files are not those of its manifest".to_owned();
            return Err(RegistryError::Damaged { what: format!("model version `{}`", version.id), problem });
        }
        if content_digest(version) != version.content {
            let problem = "its content digest is not that of its manifest".to_owned();
            return Err(RegistryError::Damaged { what: format!("model version `{}`", version.id), problem });
        }
        self.publish(version.clone(), files, names, "import")
    }

    /// A folder for what is being fetched, beside the authors' own. What is in it is no version yet; a later attempt goes on
    /// with it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn incoming(&self, name: &str) -> Result<PathBuf, RegistryError> {
        self.format()?;
        let place = self.directory.join(".incoming").join(name);
        fs::create_dir_all(&place).map_err(unwritable(&self.directory, "make a directory"))?;
        Ok(place)
    }

    fn author(&self, author: &AuthorId) -> PathBuf {
        self.directory.join(author.as_str())
    }

    fn version_directory(&self, id: &ModelVersionId) -> PathBuf {
        self.author(&id.author).join("versions").join(format!("v{}", id.number))
    }

    /// The format in which the registry is written; `None` for one that has none yet.
    fn format(&self) -> Result<Option<u32>, RegistryError> {
        let path = self.directory.join(FORMAT_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let FormatFile { format: found } = self.read(&path, "the format of the registry")?;
        if found <= FORMAT {
            return Ok(Some(found));
        }
        let path = self.directory.display().to_string();
        Err(RegistryError::Newer { path, found, known: FORMAT })
    }

    /// Waits for its turn, then clears away what a killed process left.
    fn lock(&self, author: &AuthorId) -> Result<AuthorLock, RegistryError> {
        let format = self.format()?;
        let lock = || -> io::Result<AuthorLock> {
            if format != Some(FORMAT) {
                self.write_format()?;
            }
            let directory = self.author(author);
            if !directory.join("releases").is_dir() {
                fs::create_dir_all(directory.join("versions"))?;
                fs::create_dir_all(directory.join("releases"))?;
                durable::sync_directory(&directory)?;
                durable::sync_directory(&self.directory)?;
            }
            let file = fs::File::options().create(true).append(true).open(directory.join("lock"))?;
            file.file().lock()?;
            // Not among the versions, of which there may be many to look through.
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with("tmp-") {
                    fs::remove_dir_all(entry.path())?;
                }
            }
            Ok(AuthorLock { _file: file })
        };
        lock().map_err(unwritable(&self.directory, "lock the author"))
    }

    /// Writes the format, one process at a time: they would take the file from under each other.
    fn write_format(&self) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let lock = fs::File::options().create(true).append(true).open(self.directory.join("format.lock"))?;
        lock.file().lock()?;
        durable::write(&self.directory.join(FORMAT_FILE), &json(&FormatFile { format: FORMAT })?)
    }

    fn read<T: DeserializeOwned>(&self, path: &Path, what: &str) -> Result<T, RegistryError> {
        let text = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(RegistryError::NotFound { what: what.to_owned() });
            }
            text => text.map_err(failed("read a file"))?,
        };
        serde_json::from_slice(&text).map_err(|error| RegistryError::Damaged {
            what: what.to_owned(),
            problem: format!("`{}` cannot be read: {error}", path.display()),
        })
    }

    /// The numbers that the names in a directory of an author have, in order.
    fn numbers(
        &self,
        author: &AuthorId,
        directory: &str,
        number: fn(&str) -> Option<u32>,
    ) -> Result<Vec<u32>, RegistryError> {
        let path = self.author(author).join(directory);
        if !path.is_dir() {
            return Ok(Vec::new());
        }
        let list = || -> io::Result<Vec<u32>> {
            let mut numbers = Vec::new();
            for entry in fs::read_dir(&path)? {
                numbers.extend(number(&entry?.file_name().to_string_lossy()));
            }
            numbers.sort_unstable();
            Ok(numbers)
        };
        list().map_err(failed("list a directory"))
    }

    /// Copies files into a version of which everything is known but its number and, for a candidate, its digests.
    fn publish(
        &self,
        mut version: ModelVersion,
        files: &Path,
        names: Vec<String>,
        step: &str,
    ) -> Result<ModelVersion, RegistryError> {
        let taken = |name: &str| self.steps.taken(&format!("{step}.{name}"));
        let author = version.id.author.clone();
        let _lock = self.lock(&author)?;
        taken("locked");
        let versions = self.author(&author).join("versions");
        let place = self.author(&author).join(format!("tmp-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&place).map_err(unwritable(&self.directory, "make a directory"))?;
        let mut digests = BTreeMap::new();
        for name in names {
            let copied = durable::copy(&files.join(&name), &place.join(&name));
            digests.insert(name, copied.map_err(unwritable(&self.directory, "copy a file"))?);
            taken("copied");
        }
        if let Some((name, _)) = version.files.iter().find(|(name, digest)| digests.get(*name) != Some(*digest)) {
            let problem = format!("`{name}` is not the file of its manifest");
            return Err(RegistryError::Damaged { what: format!("model version `{}`", version.id), problem });
        }
        version.files = digests;
        version.content = content_digest(&version);
        // A damaged version is none that could be found again; the same content is then registered anew.
        let given = self.numbers(&author, "versions", version_number)?;
        if let Some(same) = self.version_with(&author, &version.content, given.len())? {
            fs::remove_dir_all(&place).map_err(failed("remove a directory"))?;
            return Ok(same);
        }
        version.id.number = self.free_number(&author, version.id.number, &given)?;
        let publish = || -> io::Result<()> {
            let manifest = json(&version)?;
            durable::write(&place.join(SUMS), sums(&version.files, &manifest).as_bytes())?;
            durable::write(&place.join(MANIFEST), &manifest)?;
            for name in [SUMS, MANIFEST] {
                durable::make_read_only(&place.join(name))?;
            }
            taken("described");
            fs::rename(&place, self.version_directory(&version.id))?;
            taken("renamed");
            durable::sync_directory(&versions)
        };
        publish().map_err(unwritable(&self.directory, "publish a version"))?;
        taken("synced");
        self.add_to_index(&version);
        taken("indexed");
        Ok(version)
    }

    /// The number that was wanted, if it is free and not 0, or the one after all that were ever given, of which `given`, in
    /// order, are there.
    fn free_number(&self, author: &AuthorId, wanted: u32, given: &[u32]) -> Result<u32, RegistryError> {
        let said = self.annotations(author)?;
        let is_free = |number: &u32| given.binary_search(number).is_err() && !said.contains_key(number);
        let last = given.last().max(said.keys().next_back());
        let next = last.map_or(1, |last| last.saturating_add(1));
        Ok(Some(wanted).filter(|number| *number > 0).filter(is_free).unwrap_or(next))
    }
}

impl ModelRegistry for LocalRegistry {
    fn register(&self, candidate: &Candidate, files: &Path) -> Result<ModelVersion, RegistryError> {
        let names = files_of(files)?;
        let version = ModelVersion {
            id: ModelVersionId { author: candidate.author.clone(), number: 0 },
            content: Digest::of([]),
            base: candidate.base.clone(),
            training_set: candidate.training_set.clone(),
            feature_view: candidate.feature_view.clone(),
            prompt: candidate.prompt.clone(),
            hyper_parameters: candidate.hyper_parameters.clone(),
            metrics: candidate.metrics.clone(),
            files: BTreeMap::new(),
            code: candidate.code.clone(),
            environment: environment(),
            created_at: Timestamp::now(),
        };
        self.publish(version, files, names, "register")
    }

    fn authors(&self) -> Result<Vec<AuthorId>, RegistryError> {
        let list = || -> io::Result<Vec<AuthorId>> {
            let mut authors = Vec::new();
            for entry in fs::read_dir(&self.directory)? {
                authors.extend(AuthorId::parse(&entry?.file_name().to_string_lossy()));
            }
            authors.sort();
            Ok(authors)
        };
        let mut with_versions = Vec::new();
        for author in list().map_err(failed("list the authors"))? {
            if !self.numbers(&author, "versions", version_number)?.is_empty() {
                with_versions.push(author);
            }
        }
        Ok(with_versions)
    }

    fn versions(&self, author: &AuthorId) -> Result<Vec<ModelVersion>, RegistryError> {
        let numbers = self.numbers(author, "versions", version_number)?;
        numbers.into_iter().map(|number| self.version(&ModelVersionId { author: author.clone(), number })).collect()
    }

    fn version(&self, id: &ModelVersionId) -> Result<ModelVersion, RegistryError> {
        let (directory, what) = (self.version_directory(id), format!("model version `{id}`"));
        let version: ModelVersion = self.read(&directory.join(MANIFEST), &what)?;
        let manifest = fs::read(directory.join(MANIFEST)).map_err(failed("read a manifest"))?;
        let recorded = fs::read_to_string(directory.join(SUMS)).unwrap_or_default();
        if version.id == *id && recorded == sums(&version.files, &manifest) {
            return Ok(version);
        }
        Err(RegistryError::Damaged { what, problem: format!("`{MANIFEST}` and `{SUMS}` do not agree") })
    }

    fn open(&self, id: &ModelVersionId) -> Result<PathBuf, RegistryError> {
        let version = self.version(id)?;
        let directory = self.version_directory(id);
        let damaged = |problem: String| RegistryError::Damaged { what: format!("model version `{id}`"), problem };
        for (name, expected) in &version.files {
            let found =
                durable::digest(&directory.join(name)).map_err(|error| damaged(format!("`{name}`: {error}")))?;
            if found != *expected {
                return Err(damaged(format!("`{name}` has the digest {found} instead of {expected}")));
            }
        }
        Ok(directory)
    }

    fn create_release(
        &self,
        model: &ModelVersionId,
        feature_view: &FeatureViewId,
        prompt: &PromptVersion,
    ) -> Result<Release, RegistryError> {
        self.make_release(model, feature_view, prompt)
    }

    fn releases(&self, author: &AuthorId) -> Result<Vec<Release>, RegistryError> {
        let numbers = self.numbers(author, "releases", release_number)?;
        numbers.into_iter().map(|number| self.release(author, number)).collect()
    }

    fn release(&self, author: &AuthorId, number: u32) -> Result<Release, RegistryError> {
        self.read_release(author, number)
    }

    fn change(&self, author: &AuthorId, change: &Change, occasion: &Occasion) -> Result<Promotion, RegistryError> {
        self.record_change(author, change, occasion)
    }

    fn serving(&self, author: &AuthorId) -> Result<Option<Release>, RegistryError> {
        let last = self.history(author)?.pop();
        last.map(|last| self.read_release(author, last.release)).transpose()
    }

    fn history(&self, author: &AuthorId) -> Result<Vec<Promotion>, RegistryError> {
        self.read_history(author)
    }
}

fn version_number(name: &str) -> Option<u32> {
    number(name.strip_prefix('v')?)
}

fn release_number(name: &str) -> Option<u32> {
    number(name.strip_suffix(".json")?)
}

/// A number from 1 on, written in the one way in which names have it.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number: &u32| *number > 0 && number.to_string() == text)
}

/// The digest by which a version is known again: what it was made of and what came out. When it was made, how it measured and
/// what describes it in words have no part in it, so a run that was repeated gives the same version.
fn content_digest(version: &ModelVersion) -> Digest {
    let ModelVersion { base, training_set, feature_view, prompt, hyper_parameters, files, .. } = version;
    let weights: BTreeMap<_, _> = files.iter().filter(|(name, _)| name.starts_with("adapter_")).collect();
    Digest::of_json(&(base, training_set, feature_view, prompt, hyper_parameters, weights))
}

/// What a version is made on, as far as it may matter to who makes it again.
fn environment() -> BTreeMap<String, String> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    BTreeMap::from([
        ("os".to_owned(), std::env::consts::OS.to_owned()),
        ("architecture".to_owned(), std::env::consts::ARCH.to_owned()),
        ("cores".to_owned(), cores.to_string()),
    ])
}

/// The digests of a version's files and of its manifest, in the form of `sha256sum`.
fn sums(files: &BTreeMap<String, Digest>, manifest: &[u8]) -> String {
    let lines = files.iter().map(|(name, digest)| format!("{digest}  {name}\n"));
    lines.chain([format!("{}  {MANIFEST}\n", Digest::of(manifest))]).collect()
}

/// The names of the plain files in a directory, in order, of which there must be some. Links, directories and odd names are
/// refused.
fn files_of(directory: &Path) -> Result<Vec<String>, RegistryError> {
    let refused = |problem: String| RegistryError::Invalid { what: format!("`{}`", directory.display()), problem };
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed("read a directory"))? {
        let entry = entry.map_err(failed("read a directory"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_file_name(&name) {
            return Err(refused(format!("`{name}` is not a name that a file of a version may have")));
        }
        if !entry.file_type().map_err(failed("read a directory"))?.is_file() {
            return Err(refused(format!("`{name}` is not a plain file")));
        }
        names.push(name);
    }
    names.sort();
    if names.is_empty() { Err(refused("it is empty".to_owned())) } else { Ok(names) }
}

/// Whether a file of a version may have this name: it is safe in any directory and no name of the registry's own.
pub(crate) fn is_file_name(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    plain && !name.is_empty() && !name.starts_with('.') && ![MANIFEST, SUMS].contains(&name)
}

fn json(value: &impl Serialize) -> io::Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(io::Error::other)
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> RegistryError {
    move |source| RegistryError::Io { operation: operation.to_owned(), source }
}

/// The same for writing, where the right to do so may be missing.
fn unwritable<'a>(directory: &'a Path, operation: &'static str) -> impl Fn(io::Error) -> RegistryError + 'a {
    move |source| match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            RegistryError::ReadOnly { path: directory.display().to_string(), source }
        }
        _ => failed(operation)(source),
    }
}

#[cfg(test)]
mod tests;
