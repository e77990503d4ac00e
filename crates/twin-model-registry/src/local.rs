//! The registry in a directory:
//!
//! ```text
//! <author>/versions/v<N>/manifest.json   and the version's files, read-only
//! <author>/versions/v<N>/SHA256SUMS      of all of them, the manifest included; `sha256sum -c` reads it
//! <author>/releases/<N>.json
//! <author>/history.jsonl                 one promotion a line; the last one serves
//! <author>/lock                          held while something is added
//! ```

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use fs_err as fs;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use twin_domain::model_registry::Candidate;
use twin_domain::release::Promotion;
use twin_domain::{
    AuthorId, BaseModel, Digest, FeatureViewId, ModelRegistry, ModelVersion, ModelVersionId, PromptVersion,
    RegistryError, Release, TrainingSetId,
};

use crate::durable;

const MANIFEST: &str = "manifest.json";
const SUMS: &str = "SHA256SUMS";
const HISTORY: &str = "history.jsonl";

/// A registry in a local directory. Several processes may use it at once.
#[derive(Debug, Clone)]
pub struct LocalRegistry {
    directory: PathBuf,
}

/// Held while something is added to an author; released when dropped.
struct AuthorLock {
    _file: fs::File,
}

impl LocalRegistry {
    /// Opens a registry, or makes an empty one.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(directory: &Path) -> Result<Self, RegistryError> {
        fs::create_dir_all(directory).map_err(failed("make its directory"))?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// Checks everything that is kept of an author; what is wrong, or nothing.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    pub fn verify(&self, author: &AuthorId) -> Result<Vec<RegistryError>, RegistryError> {
        let mut problems = Vec::new();
        for number in self.numbers(author, "versions", version_number)? {
            problems.extend(self.open(&ModelVersionId { author: author.clone(), number }).err());
        }
        let mut releases = Vec::new();
        for number in self.numbers(author, "releases", release_number)? {
            match self.release(author, number) {
                Ok(release) => releases.push(release),
                Err(error) => problems.push(error),
            }
        }
        problems.extend(releases.iter().filter_map(|release| self.version(&release.model).err()));
        problems.extend(self.history(author).err());
        Ok(problems)
    }

    fn author(&self, author: &AuthorId) -> PathBuf {
        self.directory.join(author.as_str())
    }

    fn version_directory(&self, id: &ModelVersionId) -> PathBuf {
        self.author(&id.author).join("versions").join(format!("v{}", id.number))
    }

    /// Waits for its turn, then clears away what a killed process left.
    fn lock(&self, author: &AuthorId) -> Result<AuthorLock, RegistryError> {
        let lock = || -> io::Result<AuthorLock> {
            let directory = self.author(author);
            if !directory.join("releases").is_dir() {
                fs::create_dir_all(directory.join("versions"))?;
                fs::create_dir_all(directory.join("releases"))?;
                durable::sync_directory(&directory)?;
                durable::sync_directory(&self.directory)?;
            }
            let file = fs::File::options().create(true).append(true).open(directory.join("lock"))?;
            file.file().lock()?;
            for entry in fs::read_dir(directory.join("versions"))? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with("tmp-") {
                    fs::remove_dir_all(entry.path())?;
                }
            }
            Ok(AuthorLock { _file: file })
        };
        lock().map_err(failed("lock the author"))
    }

    /// The versions whose manifests can be read, oldest first.
    fn readable_versions(&self, author: &AuthorId) -> Result<Vec<ModelVersion>, RegistryError> {
        let numbers = self.numbers(author, "versions", version_number)?;
        let version = |number| self.version(&ModelVersionId { author: author.clone(), number }).ok();
        Ok(numbers.into_iter().filter_map(version).collect())
    }

    fn release(&self, author: &AuthorId, number: u32) -> Result<Release, RegistryError> {
        let what = format!("release {number} of `{author}`");
        let path = self.author(author).join("releases").join(format!("{number}.json"));
        let release: Release = self.read(&path, &what)?;
        if release.number == number && release.author == *author && release.model.author == *author {
            return Ok(release);
        }
        Err(RegistryError::Damaged { what, problem: format!("`{}` describes another release", path.display()) })
    }

    /// Appends a line to an author's history. What a crash cut short is cut off first, so that every line that ends is whole.
    fn append(&self, author: &AuthorId, promotion: &Promotion) -> io::Result<()> {
        let mut file =
            fs::File::options().create(true).read(true).append(true).open(self.author(author).join(HISTORY))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64)?;
        let mut line = serde_json::to_vec(promotion)?;
        line.push(b'\n');
        file.write_all(&line)?;
        file.sync_all()?;
        durable::sync_directory(&self.author(author))
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

    /// The numbers that the names in a directory of an author have.
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
}

impl ModelRegistry for LocalRegistry {
    fn register(&self, candidate: &Candidate, files: &Path) -> Result<ModelVersion, RegistryError> {
        let names = files_of(files)?;
        let _lock = self.lock(&candidate.author)?;
        let versions = self.author(&candidate.author).join("versions");
        let place = versions.join(format!("tmp-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&place).map_err(failed("make a directory"))?;
        let mut digests = BTreeMap::new();
        for name in names {
            let digest = durable::copy(&files.join(&name), &place.join(&name)).map_err(failed("copy a file"))?;
            digests.insert(name, digest);
        }
        let content = content_digest(
            &candidate.base,
            &candidate.training_set,
            &candidate.feature_view,
            &candidate.prompt,
            &candidate.hyper_parameters,
            &digests,
        );
        // A damaged version is none that could be found again; the same content is then registered anew.
        let known = self.readable_versions(&candidate.author)?;
        if let Some(same) = known.iter().find(|version| version.content == content) {
            fs::remove_dir_all(&place).map_err(failed("remove a directory"))?;
            return Ok(same.clone());
        }
        let taken = self.numbers(&candidate.author, "versions", version_number)?;
        let number = taken.last().map_or(1, |last| last.saturating_add(1));
        let version = ModelVersion {
            id: ModelVersionId { author: candidate.author.clone(), number },
            content,
            base: candidate.base.clone(),
            training_set: candidate.training_set.clone(),
            feature_view: candidate.feature_view.clone(),
            prompt: candidate.prompt.clone(),
            hyper_parameters: candidate.hyper_parameters.clone(),
            metrics: candidate.metrics.clone(),
            files: digests,
            code: candidate.code.clone(),
            created_at: Timestamp::now(),
        };
        let publish = || -> io::Result<()> {
            let manifest = json(&version)?;
            durable::write(&place.join(SUMS), sums(&version.files, &manifest).as_bytes())?;
            durable::write(&place.join(MANIFEST), &manifest)?;
            for name in [SUMS, MANIFEST] {
                durable::make_read_only(&place.join(name))?;
            }
            fs::rename(&place, self.version_directory(&version.id))?;
            durable::sync_directory(&versions)
        };
        publish().map_err(failed("publish a version"))?;
        Ok(version)
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
        self.version(model)?;
        let author = model.author.clone();
        let _lock = self.lock(&author)?;
        let known = self.releases(&author)?;
        let same = |release: &&Release| {
            release.model == *model && release.feature_view == *feature_view && release.prompt == *prompt
        };
        if let Some(release) = known.iter().find(same) {
            return Ok(release.clone());
        }
        let release = Release {
            number: known.last().map_or(1, |release| release.number + 1),
            model: model.clone(),
            feature_view: feature_view.clone(),
            prompt: prompt.clone(),
            created_at: Timestamp::now(),
            author,
        };
        let path = self.author(&release.author).join("releases").join(format!("{}.json", release.number));
        let write = || durable::write(&path, &json(&release)?);
        write().map_err(failed("write a release"))?;
        Ok(release)
    }

    fn releases(&self, author: &AuthorId) -> Result<Vec<Release>, RegistryError> {
        let numbers = self.numbers(author, "releases", release_number)?;
        numbers.into_iter().map(|number| self.release(author, number)).collect()
    }

    fn promote(&self, author: &AuthorId, release: u32, reason: &str) -> Result<(), RegistryError> {
        let found = self.release(author, release)?;
        // A version with a damaged file must not begin to serve.
        self.open(&found.model)?;
        let _lock = self.lock(author)?;
        if self.history(author)?.last().is_some_and(|last| last.release == release) {
            return Ok(());
        }
        let promotion = Promotion { release, reason: reason.to_owned(), at: Timestamp::now() };
        self.append(author, &promotion).map_err(failed("record a promotion"))
    }

    fn serving(&self, author: &AuthorId) -> Result<Option<Release>, RegistryError> {
        let last = self.history(author)?.pop();
        last.map(|last| self.release(author, last.release)).transpose()
    }

    fn history(&self, author: &AuthorId) -> Result<Vec<Promotion>, RegistryError> {
        let path = self.author(author).join(HISTORY);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text.map_err(failed("read the history"))?,
        };
        let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        // What follows the last line break was never acknowledged: nothing, or a line that a crash cut short.
        lines.pop();
        let promotion = |(index, line): (usize, &[u8])| {
            serde_json::from_slice(line).map_err(|error| RegistryError::Damaged {
                what: format!("the release history of `{author}`"),
                problem: format!("line {} of `{}` cannot be read: {error}", index + 1, path.display()),
            })
        };
        lines.into_iter().enumerate().filter(|(_, line)| !line.is_empty()).map(promotion).collect()
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
fn content_digest(
    base: &BaseModel,
    training_set: &TrainingSetId,
    feature_view: &FeatureViewId,
    prompt: &PromptVersion,
    hyper_parameters: &serde_json::Value,
    files: &BTreeMap<String, Digest>,
) -> Digest {
    let weights: BTreeMap<_, _> = files.iter().filter(|(name, _)| name.starts_with("adapter_")).collect();
    Digest::of_json(&(base, training_set, feature_view, prompt, hyper_parameters, weights))
}

/// The digests of a version's files and of its manifest, in the form of `sha256sum`.
fn sums(files: &BTreeMap<String, Digest>, manifest: &[u8]) -> String {
    let lines = files.iter().map(|(name, digest)| format!("{digest}  {name}\n"));
    lines.chain([format!("{}  {MANIFEST}\n", Digest::of(manifest))]).collect()
}

/// The names of the plain files in a directory, of which there must be some. Links, directories and odd names are refused.
fn files_of(directory: &Path) -> Result<Vec<String>, RegistryError> {
    let refused = |problem: String| RegistryError::Invalid { what: format!("`{}`", directory.display()), problem };
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed("read a directory"))? {
        let entry = entry.map_err(failed("read a directory"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        if !plain || name.starts_with('.') || [MANIFEST, SUMS].contains(&name.as_str()) {
            return Err(refused(format!("`{name}` is not a name that a file of a version may have")));
        }
        if !entry.file_type().map_err(failed("read a directory"))?.is_file() {
            return Err(refused(format!("`{name}` is not a plain file")));
        }
        names.push(name);
    }
    if names.is_empty() { Err(refused("it is empty".to_owned())) } else { Ok(names) }
}

fn json(value: &impl Serialize) -> io::Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(io::Error::other)
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> RegistryError {
    move |source| RegistryError::Io { operation: operation.to_owned(), source }
}

#[cfg(test)]
mod tests;
