//! How many points a collection must have.
//!
//! The engine opens a collection of which a part is missing without a word: a segment without its version file is
//! deleted as unfinished. So the number of points is kept beside it and compared when it is opened.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use twin_domain::StoreError;

use crate::durable;
use crate::failure::{damaged, engine, read_json};

const FILE: &str = "points.json";

/// The number of points of one collection, written before and after each change.
#[derive(Debug)]
pub(super) struct Tally {
    path: PathBuf,
    count: u64,
    /// Whether a change was announced and did not come to its end.
    unsettled: bool,
}

/// A change that a crash cut short leaves any number between the one before and the one after.
#[derive(Debug, Serialize, Deserialize)]
struct Bounds {
    at_least: u64,
    at_most: u64,
}

impl Tally {
    /// Records that a new collection in `shard` is empty.
    pub fn create(shard: &Path) -> Result<(), StoreError> {
        Self { path: shard.join(FILE), count: 0, unsettled: false }.settle(0)
    }

    /// Compares what was recorded with the points that are there. Where the segments' own number is the recorded one, it
    /// is taken; otherwise the points are counted one by one.
    pub fn check(
        shard: &Path,
        collection: &str,
        in_segments: u64,
        count: impl FnOnce() -> Result<u64, StoreError>,
    ) -> Result<Self, StoreError> {
        let path = shard.join(FILE);
        let problem = |text: String| damaged(format!("the collection `{collection}`"), text);
        let bounds: Bounds = read_json(&path)?.ok_or_else(|| problem(format!("`{}` is missing", path.display())))?;
        let settled = bounds.at_least == bounds.at_most;
        if settled && in_segments == bounds.at_least {
            return Ok(Self { path, count: in_segments, unsettled: false });
        }
        let points = count()?;
        if !(bounds.at_least..=bounds.at_most).contains(&points) {
            return Err(problem(format!("it has {points} chunks where at least {} were stored", bounds.at_least)));
        }
        let mut tally = Self { path, count: points, unsettled: false };
        if !settled {
            tally.settle(points)?;
        }
        Ok(tally)
    }

    /// Announces a change that adds so many points and removes so many.
    pub fn announce(&mut self, added: u64, removed: u64) -> Result<(), StoreError> {
        self.unsettled = true;
        self.write(Bounds { at_least: self.count.saturating_sub(removed), at_most: self.count + added })
    }

    /// The number after a change that is durable.
    pub fn settle(&mut self, count: u64) -> Result<(), StoreError> {
        self.write(Bounds { at_least: count, at_most: count })?;
        self.count = count;
        self.unsettled = false;
        Ok(())
    }

    /// Whether the last change failed, so that the points have to be counted.
    pub fn is_unsettled(&self) -> bool {
        self.unsettled
    }

    /// The number after the last change.
    pub fn count(&self) -> u64 {
        self.count
    }

    fn write(&self, bounds: Bounds) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(&bounds).map_err(|error| engine("write JSON", error))?;
        durable::write(&self.path, &bytes).map_err(|error| engine("record the number of chunks", error))
    }
}
