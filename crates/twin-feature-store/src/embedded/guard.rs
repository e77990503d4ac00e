//! What stands between the engine's way of failing and ours: panics become errors, and a full disk is seen beforehand.

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Once;

use qdrant_edge::{OperationError, OperationResult};
use twin_domain::StoreError;

use crate::failure::{damaged, engine};

/// Runs a step that reads `collection`. Failing to read, or panicking over what is read, means that the collection is
/// damaged, unless the system is short of something.
pub(super) fn reading<T>(collection: &str, work: impl FnOnce() -> OperationResult<T>) -> Result<T, StoreError> {
    let problem = match caught(work) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) if is_of_the_system(&error) => return Err(engine(format!("read `{collection}`"), error)),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic,
    };
    Err(damaged(format!("the collection `{collection}`"), problem))
}

/// Runs a step that writes to `collection`. The engine panics where a flush fails.
pub(super) fn writing<T>(collection: &str, work: impl FnOnce() -> OperationResult<T>) -> Result<T, StoreError> {
    match caught(work) {
        Ok(result) => result.map_err(|error| engine(format!("write to `{collection}`"), error)),
        Err(panic) => Err(engine(format!("write to `{collection}`"), panic)),
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

thread_local! {
    /// Whether this thread runs a step of the engine.
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

/// Runs a step of the engine; a panic becomes its text, and goes to the log instead of the terminal, where the error that is
/// made of it says what happened.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    // A hook cannot be set while a panic unwinds, which may be what closes a collection.
    if !std::thread::panicking() {
        HOOK.call_once(quieten);
    }
    let outer = WITHIN.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panic_text(panic.as_ref()));
    WITHIN.set(outer);
    result
}

/// Sets a hook that leaves panics outside the engine to the one that was set before.
fn quieten() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if WITHIN.get() {
            tracing::debug!("the engine panicked: {panic}");
        } else {
            others(panic);
        }
    }));
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("the engine panicked: {}", text.unwrap_or("no reason given"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_and_the_next_step_runs() {
        let failed: Result<(), StoreError> = writing("shelf", || panic!("flush of {} failed", "segment 3"));
        let text = format!("{:?}", failed.unwrap_err());
        assert!(text.contains("shelf") && text.contains("flush of segment 3 failed"), "{text}");
        assert_eq!(writing("shelf", || Ok(7)).unwrap(), 7);
    }
}
