//! Removing a view: it is closed, given another name at once, and then deleted. What a kill leaves is deleted at the next start.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fs_err as fs;
use jiff::Timestamp;
use twin_domain::{FeatureViewId, StoreError};

use super::collection::Collection;
use super::directory_names;
use crate::durable;
use crate::failure::engine;

const REMOVED: &str = "removed-";
/// How long queries that are running may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Closes a collection once nothing uses it any more; gives it back when that takes too long.
pub(super) fn close(mut collection: Arc<Collection>) -> Result<(), Arc<Collection>> {
    let begun = Instant::now();
    loop {
        match Arc::try_unwrap(collection) {
            Ok(collection) => {
                drop(collection);
                return Ok(());
            }
            Err(shared) if begun.elapsed() > PATIENCE => return Err(shared),
            Err(shared) => collection = shared,
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Removes a view's directory.
pub(super) fn remove(directory: &Path, view: &FeatureViewId) -> Result<(), StoreError> {
    let removed = directory.join(format!("{REMOVED}{view}-{}", Timestamp::now().as_microsecond()));
    let renamed = fs::rename(directory.join(view.as_str()), &removed).and_then(|()| durable::sync_directory(directory));
    let deleted = renamed.and_then(|()| fs::remove_dir_all(&removed));
    deleted.map_err(|error| engine("remove a feature view", error))
}

/// Deletes what a killed removal left.
pub(super) fn finish(directory: &Path) -> Result<(), StoreError> {
    for name in directory_names(directory)?.iter().filter(|name| name.starts_with(REMOVED)) {
        let deleted = fs::remove_dir_all(directory.join(name));
        deleted.map_err(|error| engine("finish the removal of a feature view", error))?;
    }
    Ok(())
}
