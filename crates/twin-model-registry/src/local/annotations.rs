//! What is said of versions after they were made: stages, tags, notes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use twin_domain::{Annotation, Annotations, AuthorId, ModelVersionId, RegistryError, Stage};

use super::{LocalRegistry, failed, unwritable};
use crate::durable;

const ANNOTATIONS: &str = "annotations.jsonl";
/// The longest tag. Tags are names of Git references on the hub.
const TAG_LENGTH: usize = 64;

/// A line of the log.
#[derive(Serialize, Deserialize)]
struct Event {
    version: u32,
    #[serde(flatten)]
    annotation: Annotation,
    by: String,
    at: Timestamp,
}

impl LocalRegistry {
    /// What is said of each of an author's versions, by number; nothing of those of which nothing is said.
    ///
    /// # Errors
    /// When the log cannot be read, or has a line that no program wrote.
    pub fn annotations(&self, author: &AuthorId) -> Result<BTreeMap<u32, Annotations>, RegistryError> {
        let path = self.author(author).join(ANNOTATIONS);
        let text = durable::whole_lines(&path).map_err(failed("read what is said of versions"))?;
        let mut said: BTreeMap<u32, Annotations> = BTreeMap::new();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let event: Event = serde_json::from_slice(line).map_err(|error| RegistryError::Damaged {
                what: format!("what is said of the versions of `{author}`"),
                problem: format!("line {} of `{}` cannot be read: {error}", index + 1, path.display()),
            })?;
            said.entry(event.version).or_default().apply(&event.annotation, &event.by, event.at);
        }
        Ok(said)
    }

    /// The stage of each version of which more is to be said than that it is a candidate.
    ///
    /// # Errors
    /// When the history or the log cannot be read.
    pub fn stages(&self, author: &AuthorId) -> Result<BTreeMap<u32, Stage>, RegistryError> {
        let said = self.annotations(author)?;
        let archived = said.into_iter().filter(|(_, said)| said.archived);
        let mut stages: BTreeMap<u32, Stage> = archived.map(|(number, _)| (number, Stage::Archived)).collect();
        for model in self.serving_models(author)? {
            stages.insert(model.number, Stage::Production);
        }
        Ok(stages)
    }

    /// Says something of a version. Saying again what is so changes nothing.
    ///
    /// # Errors
    /// [`RegistryError::Refused`] for a tag that another version has, a name that no tag may have, and for archiving what
    /// serves.
    pub fn annotate(&self, id: &ModelVersionId, annotation: &Annotation, by: &str) -> Result<(), RegistryError> {
        if !self.version_directory(id).is_dir() {
            return Err(RegistryError::NotFound { what: format!("model version `{id}`") });
        }
        let _lock = self.lock(&id.author)?;
        let said = self.annotations(&id.author)?;
        let of_this = said.get(&id.number).cloned().unwrap_or_default();
        let changes_nothing = match annotation {
            Annotation::Archived => of_this.archived,
            Annotation::Restored => !of_this.archived,
            Annotation::Tagged { tag } => of_this.tags.contains(tag),
            Annotation::Untagged { tag } => !of_this.tags.contains(tag),
            Annotation::Retrain { text } => of_this.retrain.iter().any(|note| note.text == *text),
            Annotation::Note { .. } | Annotation::Removed => false,
        };
        if changes_nothing {
            return Ok(());
        }
        let refused = |problem: String| RegistryError::Refused { what: format!("model version `{id}`"), problem };
        match annotation {
            Annotation::Tagged { tag } => check_tag(id, tag, &said).map_err(refused)?,
            Annotation::Archived if self.serving_models(&id.author)?.contains(id) => {
                return Err(refused("it serves: roll back or promote another one first".to_owned()));
            }
            _ => {}
        }
        self.append_annotation(id, annotation, by)
    }

    /// The caller has the lock.
    pub(super) fn append_annotation(
        &self,
        id: &ModelVersionId,
        annotation: &Annotation,
        by: &str,
    ) -> Result<(), RegistryError> {
        let event =
            Event { version: id.number, annotation: annotation.clone(), by: by.to_owned(), at: Timestamp::now() };
        let append = || {
            let line = serde_json::to_vec(&event)?;
            let step = |name: &str| self.steps.taken(&format!("annotate.{name}"));
            durable::append_line(&self.author(&id.author).join(ANNOTATIONS), &line, step)
        };
        append().map_err(unwritable(&self.directory, "record what is said of a version"))
    }

    /// The models that answer readers, or answer unseen.
    pub(super) fn serving_models(&self, author: &AuthorId) -> Result<Vec<ModelVersionId>, RegistryError> {
        let Some(last) = self.read_history(author)?.pop() else { return Ok(Vec::new()) };
        let releases = last.releases().chain(last.shadow);
        releases.map(|number| Ok(self.read_release(author, number)?.model)).collect()
    }
}

fn check_tag(id: &ModelVersionId, tag: &str, said: &BTreeMap<u32, Annotations>) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_version = tag.strip_prefix('v').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let starts_well = tag.starts_with(|first: char| first.is_ascii_alphanumeric());
    let ends_well = !tag.ends_with('.') && !tag.ends_with(".lock") && !tag.contains("..");
    if tag.len() > TAG_LENGTH || !starts_well || !ends_well || !tag.bytes().all(allowed) || is_version {
        return Err(format!(
            "`{tag}` is not a tag: use 1 to {TAG_LENGTH} letters, digits, `.`, `-` and `_`, beginning with a letter or a digit; \
             `v` and a number is the version's own name"
        ));
    }
    let holder = said.iter().find(|(_, said)| said.tags.contains(tag) && !said.removed);
    match holder {
        Some((number, _)) if *number != id.number => Err(format!(
            "the tag `{tag}` is on {}@v{number}: `twin registry tag {}@v{number} {tag} --remove` takes it off",
            id.author, id.author
        )),
        _ => Ok(()),
    }
}
