//! One process at a time fetches an entry; others wait and find it done.

use std::fs::File;
use std::time::Duration;

use twin_domain::{CancelFlag, Progress};

use super::{ModelCache, ModelError, Step};
use crate::catalogue::Entry;

const POLL: Duration = Duration::from_millis(100);

impl ModelCache {
    /// The lock of an entry. It goes with the file handle, so a killed process holds none.
    pub(crate) fn lock(&self, entry: &Entry, progress: &dyn Progress, cancel: &CancelFlag) -> Result<File, ModelError> {
        let path = self.root().join(format!("{}.lock", entry.name));
        let failed = |source| ModelError::io("lock", &path, 0, source);
        std::fs::create_dir_all(self.root()).map_err(failed)?;
        let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
        let step = Step { entry: entry.name, stage: &format!("wait for {}", entry.name), progress, cancel };
        let mut waited = false;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(std::fs::TryLockError::WouldBlock) => {}
                Err(std::fs::TryLockError::Error(source)) => return Err(failed(source)),
            }
            if cancel.is_cancelled() {
                return Err(step.cancelled());
            }
            step.tell(0, None, "another process is fetching it");
            waited = true;
            std::thread::sleep(POLL);
        }
        if waited {
            step.tell(0, Some(0), "");
        }
        Ok(file)
    }
}
