//! Training sets in a directory: immutable, content-addressed, in a form that other programs read.
//!
//! A set is a directory in the layout of a Hugging Face Hub dataset, so that pandas, PyArrow and `datasets` open it:
//!
//! ```text
//! <set>/manifest.json     the `TrainingSet`
//! <set>/README.md         tells `datasets` which file is which split
//! <set>/train.parquet, calibration.parquet, test.parquet
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use twin_domain::{AuthorId, Example, Split, StoreError, TrainingSet, TrainingSetId};
use uuid::Uuid;

use crate::durable;
use crate::failure::{damaged, engine, invalid, read_json};

pub(crate) mod export;
mod table;

const MANIFEST: &str = "manifest.json";
/// Marks a set whose examples were removed.
const FORGOTTEN: &str = "FORGOTTEN";
const NOTICE: &str = "A post in this set is to be forgotten, so its examples were removed.\n";
const SPLITS: [Split; 3] = [Split::Train, Split::Calibration, Split::Test];

/// A directory of training sets.
#[derive(Debug)]
pub(crate) struct TrainingSetDirectory {
    directory: PathBuf,
}

impl TrainingSetDirectory {
    /// Opens the directory, makes it if it is not there, and deletes what a killed process left half written. The caller
    /// has seen to it that no other process is writing.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::open_and_tidy(directory, Duration::ZERO)
    }

    /// Opens the directory where other processes may be writing: only what is a day old counts as left behind.
    pub fn open_shared(directory: &Path) -> Result<Self, StoreError> {
        Self::open_and_tidy(directory, Duration::from_secs(24 * 3600))
    }

    fn open_and_tidy(directory: &Path, left_behind: Duration) -> Result<Self, StoreError> {
        let failed = |error| engine("open the training sets", error);
        fs::create_dir_all(directory).map_err(failed)?;
        for entry in fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let modified = entry.metadata().and_then(|metadata| metadata.modified()).map_err(failed)?;
            let is_old = modified.elapsed().is_ok_and(|age| age >= left_behind);
            if is_old && entry.file_name().to_string_lossy().starts_with("tmp-") {
                fs::remove_dir_all(entry.path()).map_err(failed)?;
            }
        }
        Ok(Self { directory: directory.to_owned() })
    }

    /// Stores a set, whole or not at all. Storing one that is there changes nothing.
    pub fn put(&self, set: &TrainingSet, examples: &[Example]) -> Result<(), StoreError> {
        validate(set, examples)?;
        let target = self.path(&set.id)?;
        if target.exists() {
            return match self.manifest(&set.id)?.content == set.content {
                true => Ok(()),
                false => Err(invalid(format!("training set `{}`", set.id), "another set has the same id")),
            };
        }
        let beside = self.directory.join(format!("tmp-{}", Uuid::new_v4()));
        let written = write(&beside, set, examples);
        let moved = written.and_then(|()| {
            let renamed = fs::rename(&beside, &target).and_then(|()| durable::sync_directory(&self.directory));
            renamed.map_err(|error| engine("name a training set", error))
        });
        if moved.is_err() {
            // What cannot be removed now is removed at the next start.
            let _ = fs::remove_dir_all(&beside);
        }
        moved
    }

    /// A set's manifest.
    pub fn manifest(&self, id: &TrainingSetId) -> Result<TrainingSet, StoreError> {
        let file = self.path(id)?.join(MANIFEST);
        let set: TrainingSet = read_json(&file)?.ok_or_else(|| not_found(id))?;
        if set.id == *id { Ok(set) } else { Err(damaged(format!("`{}`", file.display()), "it is of another set")) }
    }

    /// A set's examples in the order in which they were given, checked against the set's digest.
    pub fn examples(&self, id: &TrainingSetId) -> Result<Vec<Example>, StoreError> {
        let set = self.manifest(id)?;
        if self.path(id)?.join(FORGOTTEN).exists() {
            return Err(forgotten(id));
        }
        let mut rows = Vec::new();
        for split in SPLITS {
            let file = self.path(id)?.join(file_name(split));
            rows.extend(
                table::read(&file, split).map_err(|problem| damaged(format!("`{}`", file.display()), problem))?,
            );
        }
        rows.sort_by_key(|(position, _)| *position);
        let examples: Vec<Example> = rows.into_iter().map(|(_, example)| example).collect();
        match digest(&set, &examples) == set.content {
            true => Ok(examples),
            false => Err(damaged(format!("training set `{id}`"), "its examples are not those that were stored")),
        }
    }

    /// Removes a set's examples. A kill between repeats it: the mark is made first.
    pub fn remove_examples(&self, id: &TrainingSetId) -> Result<(), StoreError> {
        let directory = self.path(id)?;
        self.manifest(id)?;
        let failed = |error| engine("remove the examples of a training set", error);
        durable::write(&directory.join(FORGOTTEN), NOTICE.as_bytes()).map_err(failed)?;
        for split in SPLITS {
            match fs::remove_file(directory.join(file_name(split))) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        durable::sync_directory(&directory).map_err(failed)
    }

    /// All sets of an author, newest first. One that cannot be read is left out; asked for by its id it is an error.
    pub fn of_author(&self, author: &AuthorId) -> Result<Vec<TrainingSet>, StoreError> {
        let entries = fs::read_dir(&self.directory).map_err(|error| engine("list the training sets", error))?;
        let ids = entries.filter_map(|entry| TrainingSetId::parse(&entry.ok()?.file_name().to_string_lossy()));
        let read = |id| self.manifest(&id).inspect_err(|error| tracing::warn!(%error, "left out of a listing")).ok();
        let mut sets: Vec<TrainingSet> = ids.filter_map(read).filter(|set| set.author == *author).collect();
        sort_newest_first(&mut sets);
        Ok(sets)
    }

    fn path(&self, id: &TrainingSetId) -> Result<PathBuf, StoreError> {
        // Ids are read from manifests too, so one may be a path; only the form that sets have is looked for.
        TrainingSetId::parse(id.as_str()).map(|id| self.directory.join(id.as_str())).ok_or_else(|| not_found(id))
    }
}

/// Checks that a manifest is that of these examples.
pub(crate) fn validate(set: &TrainingSet, examples: &[Example]) -> Result<(), StoreError> {
    let problem = if digest(set, examples) != set.content {
        "its digest is not that of its examples and documents"
    } else if set.id != TrainingSetId::new(&set.content) {
        "its id is not the start of its digest"
    } else if set.counts != counts(examples) {
        "its counts are not those of its examples"
    } else {
        return Ok(());
    };
    Err(invalid(format!("training set `{}`", set.id), problem))
}

/// Orders sets as the contract wants them listed.
pub(crate) fn sort_newest_first(sets: &mut [TrainingSet]) {
    sets.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.as_str().cmp(b.id.as_str())));
}

/// There is no set with this id.
pub(crate) fn not_found(id: &TrainingSetId) -> StoreError {
    StoreError::NotFound { what: format!("training set `{id}`") }
}

/// The set's examples were removed.
pub(crate) fn forgotten(id: &TrainingSetId) -> StoreError {
    StoreError::NotFound { what: format!("an example of training set `{id}`, of which a post was forgotten,") }
}

fn digest(set: &TrainingSet, examples: &[Example]) -> twin_domain::Digest {
    TrainingSet::content_digest(&set.author, &set.feature_view, &set.prompt, &set.recipe, &set.documents, examples)
}

fn counts(examples: &[Example]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for example in examples {
        *counts.entry(format!("{}/{}", example.split.as_str(), example.task.as_str())).or_default() += 1;
    }
    counts
}

fn file_name(split: Split) -> String {
    format!("{}.parquet", split.as_str())
}

fn write(directory: &Path, set: &TrainingSet, examples: &[Example]) -> Result<(), StoreError> {
    let failed = |error: std::io::Error| engine("write a training set", error);
    fs::create_dir(directory).map_err(failed)?;
    for split in SPLITS {
        let rows: Vec<_> = examples.iter().enumerate().filter(|(_, example)| example.split == split).collect();
        let bytes = table::encode(&rows).map_err(|error| engine("encode a training set", error))?;
        durable::write(&directory.join(file_name(split)), &bytes).map_err(failed)?;
    }
    durable::write(&directory.join("README.md"), card(set).as_bytes()).map_err(failed)?;
    let manifest = serde_json::to_vec_pretty(set).map_err(|error| engine("write JSON", error))?;
    durable::write(&directory.join(MANIFEST), &manifest).map_err(failed)
}

/// The front matter by which `datasets` knows the files, and a sentence for people.
fn card(set: &TrainingSet) -> String {
    let files: String =
        SPLITS.map(|split| format!("      - split: {}\n        path: {}\n", split.as_str(), file_name(split))).concat();
    format!(
        "---\nconfigs:\n  - config_name: default\n    data_files:\n{files}---\n\nTraining set `{}` of the author `{}`, \
         made from feature view `{}`. `prompt` is JSON: the messages before the model's turn. `target` is the author's \
         own text; `not_voice` is JSON: byte ranges of it that are not the author's words.\n",
        set.id, set.author, set.feature_view
    )
}
