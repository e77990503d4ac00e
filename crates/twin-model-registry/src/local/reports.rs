//! Reports of the gate, stored under their digest.

use fs_err as fs;
use twin_domain::{AuthorId, Digest, RegistryError};

use super::{LocalRegistry, failed, unwritable};
use crate::durable;

impl LocalRegistry {
    /// Keeps a report of the gate; the digest by which a promotion names it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_gate_report(&self, author: &AuthorId, report: &[u8]) -> Result<Digest, RegistryError> {
        let digest = Digest::of(report);
        let _lock = self.lock(author)?;
        let directory = self.author(author).join("gate");
        let path = directory.join(format!("{digest}.json"));
        let put = || {
            fs::create_dir_all(&directory)?;
            if path.exists() { Ok(()) } else { durable::write(&path, report) }
        };
        put().map_err(unwritable(&self.directory, "keep a report of the gate"))?;
        Ok(digest)
    }

    /// A report of the gate.
    ///
    /// # Errors
    /// When there is none of this digest, or it is damaged.
    pub fn gate_report(&self, author: &AuthorId, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        let what = format!("the report {} of the gate of `{author}`", digest.short());
        let path = self.author(author).join("gate").join(format!("{digest}.json"));
        if !path.exists() {
            return Err(RegistryError::NotFound { what });
        }
        let report = fs::read(path).map_err(failed("read a report of the gate"))?;
        if Digest::of(&report) == *digest {
            return Ok(report);
        }
        Err(RegistryError::Damaged { what, problem: "it is not what was stored under its digest".to_owned() })
    }
}
