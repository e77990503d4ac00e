//! Only one process has a store open.
//!
//! The engine has a lock of its own, but it takes it after it has begun to tidy up the directory: a second process
//! would delete what the first is writing. So this lock is taken before the engine is touched.

use std::io::{Read, Seek, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use fs_err as fs;
use twin_domain::StoreError;

use crate::failure::engine;

const FILE: &str = "store.lock";

/// A process that was killed holds its locks until the system has taken its memory back, which takes a moment: whoever
/// starts again at once is not to be refused for that.
const GRACE: Duration = Duration::from_millis(800);
/// The most bytes that are read of what the owner wrote.
const LONGEST_OWNER: u64 = 200;
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// The lock on a store's directory, held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    _file: fs::File,
}

impl DirectoryLock {
    /// Takes the lock, waiting no longer than a process that ends takes to let go of it. The purpose is told to whoever
    /// is refused.
    pub fn acquire(directory: &Path, purpose: &str) -> Result<Self, StoreError> {
        let mut options = fs::OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(directory.join(FILE)).map_err(|error| engine("open its lock", error))?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(std::fs::TryLockError::WouldBlock) if begun.elapsed() < GRACE => thread::sleep(BETWEEN_TRIES),
                Err(std::fs::TryLockError::WouldBlock) => {
                    return Err(StoreError::Locked { path: directory.display().to_string(), owner: owner(&mut file) });
                }
                Err(std::fs::TryLockError::Error(error)) => return Err(engine("take its lock", error)),
            }
        }
        let owner = format!("{} {purpose}", std::process::id());
        let record = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(owner.as_bytes()));
        record.map_err(|error| engine("write its lock", error))?;
        Ok(Self { _file: file })
    }
}

/// The process id that the owner wrote, and what it does: `4711 (twin serve)`.
fn owner(file: &mut fs::File) -> String {
    let mut text = String::new();
    let read = file.take(LONGEST_OWNER).read_to_string(&mut text);
    let (process, purpose) = text.split_once(' ').unwrap_or((&text, ""));
    let known = read.is_ok() && !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit());
    let purpose: String = purpose.chars().filter(|character| !character.is_control()).collect();
    match (known, purpose.trim()) {
        (false, _) => "(unknown)".to_owned(),
        (true, "") => process.to_owned(),
        (true, purpose) => format!("{process} (`{purpose}`)"),
    }
}
