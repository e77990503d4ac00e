//! From a registered version to a tagged commit.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use fs_err as fs;
use serde::Serialize;
use serde_json::{Value, json};
use twin_domain::{ModelRegistry, ModelVersion, ModelVersionId};

use super::client::{HubClient, RemoteFile};
use super::files::LocalFile;
use super::{HubError, Repository, card};
use crate::LocalRegistry;

/// The name of the registered model card in a repository, where the Hub's own card has the name `README.md`.
pub(super) const REGISTERED_CARD: &str = "registered-card.md";
/// How often a push begins anew because somebody else pushes, too.
const ATTEMPTS: usize = 4;
/// The Hub puts it into every repository.
const ATTRIBUTES: &str = ".gitattributes";

/// How something is pushed.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// Whether a repository that is made for it can be seen by its owner alone. One that is there stays as it is.
    pub private: bool,
    /// The Hub's name of a licence, as in `apache-2.0`; `other` says that it is not one of the usual ones.
    pub license: String,
    /// The repository of the training set, if it was pushed.
    pub dataset: Option<String>,
}

impl Default for PushOptions {
    fn default() -> Self {
        Self { private: true, license: "other".to_owned(), dataset: None }
    }
}

/// What a push came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pushed {
    pub repository: String,
    pub tag: String,
    /// What the version is called besides, as in `thesis`; the hub's tags of these names are on this commit now.
    pub also: Vec<String>,
    pub commit: String,
    /// The files that were sent; none when all of it was there.
    pub sent: Vec<String>,
}

impl HubClient {
    /// Pushes a version as a commit with the tag `v<N>`. Pushing it again changes nothing; after an interruption it goes on.
    ///
    /// # Errors
    /// [`HubError::TagTaken`] when another version has the tag; otherwise when the hub refuses, fails or cannot be reached.
    pub async fn push(
        &self,
        registry: &LocalRegistry,
        id: &ModelVersionId,
        repository: &Repository,
        options: &PushOptions,
    ) -> Result<Pushed, HubError> {
        let version = registry.version(id)?;
        let directory = registry.open(id)?;
        let files = files_of_version(&version, &directory, repository, options)?;
        let tag = format!("v{}", id.number);
        let pushed = self.push_files(repository, files, &tag, &id.to_string(), options.private).await?;
        let said = registry.annotations(&id.author)?.remove(&id.number).unwrap_or_default();
        self.call(repository, &pushed.commit, &said.tags).await?;
        Ok(Pushed { also: said.tags.into_iter().collect(), ..pushed })
    }

    /// Puts the registry's own tags on a commit. Unlike `v<N>` they may go from one version to another, here as there.
    async fn call(
        &self,
        repository: &Repository,
        commit: &str,
        tags: impl IntoIterator<Item = &String>,
    ) -> Result<(), HubError> {
        let mut there: Option<BTreeMap<String, String>> = None;
        for tag in tags {
            if there.is_none() {
                there = Some(self.tags(repository).await?.into_iter().collect());
            }
            match there.as_ref().and_then(|there| there.get(tag)) {
                Some(found) if found == commit => continue,
                Some(_) => self.untag(repository, tag).await?,
                None => {}
            }
            self.tag(repository, commit, tag).await?;
            self.taken("push.called");
        }
        Ok(())
    }

    /// Pushes the files of a directory and of those in it, such as those of a training set, as a commit with a tag.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub async fn push_directory(
        &self,
        directory: &Path,
        repository: &Repository,
        tag: &str,
        summary: &str,
        private: bool,
    ) -> Result<Pushed, HubError> {
        let mut files = Vec::new();
        collect(directory, "", &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        self.push_files(repository, files, tag, summary, private).await
    }

    async fn push_files(
        &self,
        repository: &Repository,
        files: Vec<LocalFile>,
        tag: &str,
        summary: &str,
        private: bool,
    ) -> Result<Pushed, HubError> {
        self.create(repository, private).await?;
        self.taken("push.created");
        if let Some(commit) = self.tagged(repository, tag, &files).await? {
            return Ok(pushed(repository, tag, commit, Vec::new()));
        }
        let (commit, sent) = self.commit_files(repository, &files, summary).await?;
        self.taken("push.committed");
        if !self.tag(repository, &commit, tag).await? && self.tagged(repository, tag, &files).await?.is_none() {
            return Err(HubError::TagTaken { repository: repository.to_string(), tag: tag.to_owned() });
        }
        self.taken("push.tagged");
        Ok(pushed(repository, tag, commit, sent))
    }

    /// The commit of a tag with these files; `None` without the tag.
    async fn tagged(
        &self,
        repository: &Repository,
        tag: &str,
        files: &[LocalFile],
    ) -> Result<Option<String>, HubError> {
        let tags = self.references(repository).await?.tags;
        let Some(found) = tags.into_iter().find(|found| found.name == tag) else { return Ok(None) };
        let there = self.tree(repository, &found.target_commit).await?;
        if Difference::between(files, &there)?.is_empty() {
            return Ok(Some(found.target_commit));
        }
        Err(HubError::TagTaken { repository: repository.to_string(), tag: tag.to_owned() })
    }

    /// Makes the main branch have these files and no others. Whatever an attempt came to is seen from the repository itself:
    /// the answer to a commit may be lost although the commit was made.
    async fn commit_files(
        &self,
        repository: &Repository,
        files: &[LocalFile],
        summary: &str,
    ) -> Result<(String, Vec<String>), HubError> {
        let mut failure = None;
        let mut sent = Vec::new();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(200 << attempt)).await;
            }
            let branches = self.references(repository).await?.branches;
            let head = branches.into_iter().find(|branch| branch.name == "main").map(|branch| branch.target_commit);
            let there = match &head {
                Some(head) => self.tree(repository, head).await?,
                None => Vec::new(),
            };
            let difference = Difference::between(files, &there)?;
            if let Some(head) = head.clone().filter(|_| difference.is_empty()) {
                return Ok((head, sent));
            }
            let operations = self.operations(repository, &difference).await?;
            sent = difference.changed.iter().map(|file| file.path.clone()).collect();
            match self.commit(repository, head.as_deref(), summary, &operations).await {
                // The next turn sees whether it has these files.
                Ok(_) => failure = None,
                Err(error @ (HubError::Failing { .. } | HubError::Unreachable { .. })) => failure = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(failure.unwrap_or_else(|| HubError::Busy { repository: repository.to_string() }))
    }

    /// Uploads what is large and describes the commit.
    async fn operations(&self, repository: &Repository, difference: &Difference<'_>) -> Result<Vec<Value>, HubError> {
        let mut described = Vec::new();
        for file in &difference.changed {
            let sample = BASE64_STANDARD.encode(file.sample()?);
            described.push(json!({ "path": file.path, "size": file.size, "sample": sample }));
        }
        let modes = if described.is_empty() { Vec::new() } else { self.preupload(repository, &described).await? };
        let is_large = |file: &&&LocalFile| modes.iter().any(|(path, large)| *path == file.path && *large);
        let large: Vec<&LocalFile> = difference.changed.iter().filter(is_large).copied().collect();
        self.upload(repository, &large).await?;
        let mut operations = Vec::new();
        for file in &difference.changed {
            operations.push(if is_large(&file) {
                let value = json!({ "path": file.path, "algo": "sha256", "oid": file.sha256, "size": file.size });
                json!({ "key": "lfsFile", "value": value })
            } else {
                let content = BASE64_STANDARD.encode(file.read()?);
                json!({ "key": "file", "value": { "path": file.path, "content": content, "encoding": "base64" } })
            });
        }
        let deleted = |path: &String| json!({ "key": "deletedFile", "value": { "path": path } });
        operations.extend(difference.superfluous.iter().map(deleted));
        Ok(operations)
    }
}

/// The plain files below a directory; `above` is its path in the repository.
fn collect(directory: &Path, above: &str, files: &mut Vec<LocalFile>) -> Result<(), HubError> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = format!("{above}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        if kind.is_file() {
            files.push(LocalFile::of_file(&path, &entry.path())?);
        } else if kind.is_dir() {
            collect(&entry.path(), &format!("{path}/"), files)?;
        }
    }
    Ok(())
}

fn pushed(repository: &Repository, tag: &str, commit: String, sent: Vec<String>) -> Pushed {
    Pushed { repository: repository.to_string(), tag: tag.to_owned(), also: Vec::new(), commit, sent }
}

/// What a commit has to change.
struct Difference<'a> {
    changed: Vec<&'a LocalFile>,
    superfluous: Vec<String>,
}

impl<'a> Difference<'a> {
    fn between(files: &'a [LocalFile], there: &[RemoteFile]) -> Result<Self, HubError> {
        let mut changed = Vec::new();
        for file in files {
            let same = match there.iter().find(|remote| remote.path == file.path) {
                Some(remote) => file.is(remote)?,
                None => false,
            };
            if !same {
                changed.push(file);
            }
        }
        let wanted = |path: &str| path == ATTRIBUTES || files.iter().any(|file| file.path == path);
        let superfluous = there.iter().filter(|remote| !wanted(&remote.path)).map(|remote| remote.path.clone());
        Ok(Self { changed, superfluous: superfluous.collect() })
    }

    fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.superfluous.is_empty()
    }
}

fn files_of_version(
    version: &ModelVersion,
    directory: &Path,
    repository: &Repository,
    options: &PushOptions,
) -> Result<Vec<LocalFile>, HubError> {
    let mut files = Vec::new();
    for name in version.files.keys() {
        let path = if name == "README.md" { REGISTERED_CARD } else { name };
        files.push(LocalFile::of_file(path, &directory.join(name))?);
    }
    files.push(LocalFile::of_file("manifest.json", &directory.join("manifest.json"))?);
    let own = fs::read_to_string(directory.join("README.md")).unwrap_or_default();
    let card = card::card(version, &repository.to_string(), &options.license, options.dataset.as_deref(), &own);
    files.push(LocalFile::of_bytes("README.md", card.into_bytes()));
    Ok(files)
}
