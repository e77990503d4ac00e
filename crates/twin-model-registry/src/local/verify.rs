//! Checking everything that is kept.

use twin_domain::{AuthorId, ModelRegistry, ModelVersionId, RegistryError};

use super::{LocalRegistry, release_number, version_number};

/// Something that was checked.
#[derive(Debug)]
pub struct Checked {
    /// As in ``model version `ada@v3` ``.
    pub what: String,
    /// What is wrong with it; `None` when it is as it was written.
    pub problem: Option<RegistryError>,
}

impl LocalRegistry {
    /// Checks everything that is kept of an author; what is wrong, or nothing.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    pub fn verify(&self, author: &AuthorId) -> Result<Vec<RegistryError>, RegistryError> {
        let mut problems = Vec::new();
        self.verify_each(author, &mut |checked| {
            problems.extend(checked.problem);
            true
        })?;
        Ok(problems)
    }

    /// The same, telling of each version, release and log once it was checked. Files are read in pieces. `false` ends it.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    pub fn verify_each(&self, author: &AuthorId, told: &mut dyn FnMut(Checked) -> bool) -> Result<(), RegistryError> {
        for number in self.numbers(author, "versions", version_number)? {
            let id = ModelVersionId { author: author.clone(), number };
            let problem = self.open(&id).err();
            if !told(Checked { what: format!("model version `{id}`"), problem }) {
                return Ok(());
            }
        }
        for number in self.numbers(author, "releases", release_number)? {
            let release = self.read_release(author, number).and_then(|release| self.version(&release.model));
            if !told(Checked { what: format!("release {number} of `{author}`"), problem: release.err() }) {
                return Ok(());
            }
        }
        let history = self.read_history(author).err();
        told(Checked { what: format!("the release history of `{author}`"), problem: history });
        let said = self.annotations(author).err();
        told(Checked { what: format!("what is said of the versions of `{author}`"), problem: said });
        Ok(())
    }
}
