//! From a tagged commit to a registered version.

use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::Serialize;
use twin_domain::{Annotation, ModelVersion, ModelVersionId, RegistryError};

use super::client::{HubClient, RemoteFile};
use super::push::REGISTERED_CARD;
use super::{HubError, Repository, transfer};
use crate::LocalRegistry;

/// The largest manifest that is read.
const MANIFEST_BYTES: u64 = 4 * 1024 * 1024;
/// The most files of a version.
const MOST_FILES: usize = 200;

/// What a pull came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pulled {
    /// The version as it is registered here.
    pub model: ModelVersionId,
    /// What it is called where it comes from.
    pub original: ModelVersionId,
    /// The repository's other tags of that commit that are tags of the version here now. One that another version has here
    /// stays where it is.
    pub tags: Vec<String>,
    pub commit: String,
}

impl HubClient {
    /// Fetches a version by its tag, as in `v3`, or another revision, and registers it. Interrupted, it goes on where it
    /// stopped; a version that is here already is not made twice.
    ///
    /// # Errors
    /// [`HubError::NotAVersion`] when the commit has no manifest, [`HubError::WrongContent`] when a file is not the one of the
    /// manifest; otherwise when the hub refuses, fails or cannot be reached.
    pub async fn pull(
        &self,
        registry: &LocalRegistry,
        repository: &Repository,
        revision: &str,
    ) -> Result<Pulled, HubError> {
        let references = self.references(repository).await?;
        let named = references.tags.iter().chain(&references.branches).find(|found| found.name == revision);
        // All of it comes of one commit, whatever is pushed meanwhile.
        let commit = match named {
            Some(found) => found.target_commit.clone(),
            None if is_commit(revision) => revision.to_owned(),
            None => return Err(HubError::NotFound { what: format!("{repository} at {revision}") }),
        };
        if !is_commit(&commit) {
            let operation = format!("list the tags of {repository}");
            return Err(HubError::Malformed { operation, problem: "a tag is of no commit".to_owned() });
        }
        let not_a_version = |problem: String| HubError::NotAVersion {
            repository: repository.to_string(),
            revision: revision.to_owned(),
            problem,
        };
        let there = self.tree(repository, &commit).await?;
        let find = |path: &str| {
            let found = there.iter().find(|file| file.path == path);
            found.ok_or_else(|| not_a_version(format!("it has no `{path}`")))
        };
        let place = registry.incoming(&format!("{}-{commit}", repository.name))?;
        let (files, manifest) = (place.join("files"), place.join("manifest.json"));
        fs::create_dir_all(&files)?;
        self.taken("pull.begun");
        let listed = find("manifest.json")?;
        if listed.size > MANIFEST_BYTES {
            return Err(not_a_version("its manifest is too large".to_owned()));
        }
        self.download(repository, &commit, listed, &manifest).await?;
        let version = read_manifest(&manifest).map_err(not_a_version)?;
        for (name, digest) in &version.files {
            let remote = if name == "README.md" { REGISTERED_CARD } else { name };
            let target = files.join(name);
            self.fetch(repository, &commit, find(remote)?, &target).await?;
            transfer::check(repository, name, &target, digest)?;
            self.taken("pull.checked");
        }
        let registered = registry.import(&version, &files)?;
        self.taken("pull.registered");
        remove(place).await?;
        let tags = references.tags.into_iter().filter(|tag| tag.target_commit == commit).map(|tag| tag.name);
        let tags = call(registry, &registered.id, tags)?;
        Ok(Pulled { model: registered.id, original: version.id, tags, commit })
    }

    async fn fetch(
        &self,
        repository: &Repository,
        commit: &str,
        file: &RemoteFile,
        target: &Path,
    ) -> Result<(), HubError> {
        if file.size == 0 {
            return Ok(fs::write(target, [])?);
        }
        self.download(repository, commit, file, target).await
    }

    /// The tags of a repository, with their commits, by name.
    ///
    /// # Errors
    /// When the hub refuses, fails or cannot be reached.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<(String, String)>, HubError> {
        let mut tags: Vec<(String, String)> =
            self.references(repository).await?.tags.into_iter().map(|tag| (tag.name, tag.target_commit)).collect();
        // By number where they have one: v9 before v10.
        let number = |name: &str| name.strip_prefix('v').and_then(|number| number.parse::<u32>().ok());
        tags.sort_by(|(a, _), (b, _)| (number(a), a).cmp(&(number(b), b)));
        Ok(tags)
    }
}

/// Gives a version those of the names that it may have.
fn call(
    registry: &LocalRegistry,
    id: &ModelVersionId,
    names: impl Iterator<Item = String>,
) -> Result<Vec<String>, HubError> {
    let mut given = Vec::new();
    for tag in names {
        match registry.annotate(id, &Annotation::Tagged { tag: tag.clone() }, "pull") {
            Ok(()) => given.push(tag),
            // `v<N>`, or the name of another version.
            Err(RegistryError::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(given)
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Names in a manifest become names of files here, so only what a version may have is let through.
fn read_manifest(path: &Path) -> Result<ModelVersion, String> {
    let text = fs::read(path).map_err(|error| error.to_string())?;
    let version: ModelVersion =
        serde_json::from_slice(&text).map_err(|error| format!("its manifest cannot be read: {error}"))?;
    if version.files.len() > MOST_FILES {
        return Err(format!("it has {} files", version.files.len()));
    }
    match version.files.keys().find(|name| !crate::local::is_file_name(name)) {
        Some(name) => Err(format!("its manifest names a file `{name}`")),
        None if version.files.is_empty() => Err("its manifest names no file".to_owned()),
        None => Ok(version),
    }
}

/// What was fetched is registered as a copy of its own.
async fn remove(place: PathBuf) -> Result<(), HubError> {
    Ok(tokio::fs::remove_dir_all(place).await?)
}
