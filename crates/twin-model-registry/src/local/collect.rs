//! Removing versions that were put aside and that nothing refers to.

use fs_err as fs;
use serde::Serialize;
use twin_domain::{Annotation, AuthorId, ModelRegistry, ModelVersionId, RegistryError};

use super::{LocalRegistry, unwritable};
use crate::durable;

/// What became of a version that was put aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Collected {
    pub model: ModelVersionId,
    /// The size of its files.
    pub bytes: u64,
    /// What refers to it, so that it stays; empty for one that goes.
    pub kept_by: Vec<String>,
}

impl LocalRegistry {
    /// Removes the archived versions to which no release and no tag refers. Their numbers are not given again.
    ///
    /// # Errors
    /// When something cannot be read or removed; what was removed until then is.
    pub fn collect(&self, author: &AuthorId, dry_run: bool, by: &str) -> Result<Vec<Collected>, RegistryError> {
        if !self.author(author).is_dir() {
            return Ok(Vec::new());
        }
        let _lock = if dry_run { None } else { Some(self.lock(author)?) };
        let releases = self.releases(author)?;
        let mut collected = Vec::new();
        for (number, said) in self.annotations(author)?.into_iter().filter(|(_, said)| said.archived) {
            let model = ModelVersionId { author: author.clone(), number };
            let directory = self.version_directory(&model);
            if !directory.is_dir() {
                continue;
            }
            let by_releases = releases.iter().filter(|release| release.model == model);
            let mut kept_by: Vec<String> = by_releases.map(|release| format!("release {}", release.number)).collect();
            kept_by.extend(said.tags.iter().map(|tag| format!("tag {tag}")));
            let bytes = size(&directory);
            if kept_by.is_empty() && !dry_run {
                self.remove(&model, by)?;
            }
            collected.push(Collected { model, bytes, kept_by });
        }
        if !dry_run && collected.iter().any(|one| one.kept_by.is_empty()) {
            self.rebuild_index(author);
        }
        Ok(collected)
    }

    /// First it is on record that the number is taken for good; then the version goes as a whole.
    fn remove(&self, model: &ModelVersionId, by: &str) -> Result<(), RegistryError> {
        self.append_annotation(model, &Annotation::Removed, by)?;
        self.steps.taken("collect.recorded");
        let author = self.author(&model.author);
        let beside = author.join(format!("tmp-{}", uuid::Uuid::new_v4()));
        let remove = || {
            fs::rename(self.version_directory(model), &beside)?;
            durable::sync_directory(&author.join("versions"))?;
            self.steps.taken("collect.renamed");
            fs::remove_dir_all(&beside)
        };
        remove().map_err(unwritable(&self.directory, "remove a version"))
    }
}

fn size(directory: &std::path::Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}
