//! From what goes wrong below to a [`StoreError`].

use std::error::Error;
use std::fmt::Display;
use std::path::Path;

use serde::de::DeserializeOwned;
use twin_domain::StoreError;

use fs_err as fs;

/// The engine or the file system failed at `operation`.
pub(crate) fn engine(operation: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
    StoreError::Engine { operation: operation.into(), source: source.into() }
}

/// What was read is not what was written.
pub(crate) fn damaged(what: impl Into<String>, problem: impl Display) -> StoreError {
    StoreError::Damaged { what: what.into(), problem: problem.to_string() }
}

/// What was given cannot be stored.
pub(crate) fn invalid(what: impl Into<String>, problem: impl Display) -> StoreError {
    StoreError::Invalid { what: what.into(), problem: problem.to_string() }
}

/// Reads a JSON file that this crate wrote; `None` when there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(engine("read a file", error)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| damaged(format!("`{}`", path.display()), error))
}
