//! What stands between the engine's way of failing and ours: panics become errors, and a full disk is seen beforehand.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use qdrant_edge::{OperationError, OperationResult};
use twin_domain::StoreError;

use crate::failure::{damaged, engine};

/// Runs a step that reads `collection`. Failing to read, or panicking over what is read, means that the collection is
/// damaged, unless the system is short of something.
pub(super) fn reading<T>(collection: &str, work: impl FnOnce() -> OperationResult<T>) -> Result<T, StoreError> {
    let problem = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) if is_of_the_system(&error) => return Err(engine(format!("read `{collection}`"), error)),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic_text(panic.as_ref()),
    };
    Err(damaged(format!("the collection `{collection}`"), problem))
}

/// Runs a step that writes to `collection`. The engine panics where a flush fails.
pub(super) fn writing<T>(collection: &str, work: impl FnOnce() -> OperationResult<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| engine(format!("write to `{collection}`"), error)),
        Err(panic) => Err(engine(format!("write to `{collection}`"), panic_text(panic.as_ref()))),
    }
}

/// Fails when fewer than `reserve` bytes would be left after writing `bytes`.
pub(super) fn require_space(directory: &Path, reserve: u64, bytes: u64) -> Result<(), StoreError> {
    let free = fs4::available_space(directory).map_err(|error| engine("ask for the free space", error))?;
    if free >= reserve.saturating_add(bytes) {
        return Ok(());
    }
    let problem = format!(
        "only {} MiB are free on the disk of `{}`, and {} MiB must stay free: make room",
        free >> 20,
        directory.display(),
        reserve >> 20
    );
    Err(engine("write", io::Error::new(io::ErrorKind::StorageFull, problem)))
}

/// The engine reports failures of the system as text. A collection is not moved aside for one of these: it would be
/// whole again once the system is.
fn is_of_the_system(error: &OperationError) -> bool {
    let passing = [
        "WouldBlock",
        "Permission denied",
        "Too many open files",
        "No space left",
        "Cannot allocate memory",
        "Input/output error",
        "Read-only file system",
    ];
    let text = error.to_string();
    matches!(error, OperationError::OutOfMemory { .. }) || passing.iter().any(|sign| text.contains(sign))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("the engine panicked: {}", text.unwrap_or("no reason given"))
}
