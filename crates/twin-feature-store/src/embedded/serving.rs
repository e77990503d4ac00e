//! Which view serves, and which ones did before: a file of one line for each switch, replaced as a whole.

use std::path::{Path, PathBuf};

use fs_err as fs;
use jiff::Timestamp;
use twin_domain::{FeatureViewId, StoreError, Switch};

use crate::failure::{damaged, engine};

const FILE: &str = "serving";
/// How many switches are remembered.
const REMEMBERED: usize = 100;

/// Where it is written.
pub(super) fn path(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

/// The switches that are remembered, oldest first.
pub(super) fn read(directory: &Path) -> Result<Vec<Switch>, StoreError> {
    let file = path(directory);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(engine("read which view serves", error)),
    };
    let switches: Option<Vec<Switch>> = text.lines().map(switch).collect();
    let problem = "it does not name a feature view: switch to one again";
    switches.filter(|switches| !switches.is_empty()).ok_or_else(|| damaged(format!("`{}`", file.display()), problem))
}

/// The file's text.
pub(super) fn text(switches: &[Switch]) -> String {
    let kept = &switches[switches.len().saturating_sub(REMEMBERED)..];
    kept.iter().map(|Switch { view, at }| format!("{view} {at}\n")).collect()
}

/// Versions before this one wrote the id alone.
fn switch(line: &str) -> Option<Switch> {
    let (view, at) = line.split_once(' ').unwrap_or((line, ""));
    let at = if at.is_empty() { Timestamp::UNIX_EPOCH } else { at.parse().ok()? };
    Some(Switch { view: FeatureViewId::parse(view)?, at })
}
