//! Releases, and which of them serves.

use jiff::Timestamp;
use twin_domain::release::{ChangeKind, Promotion};
use twin_domain::{
    Arm, AuthorId, Change, FeatureViewId, Gate, ModelRegistry, ModelVersionId, Occasion, PromptVersion, RegistryError,
    Release,
};

use super::{LocalRegistry, failed, json, unwritable};
use crate::durable;

const HISTORY: &str = "history.jsonl";

impl LocalRegistry {
    pub(super) fn make_release(
        &self,
        model: &ModelVersionId,
        feature_view: &FeatureViewId,
        prompt: &PromptVersion,
    ) -> Result<Release, RegistryError> {
        self.version(model)?;
        let author = model.author.clone();
        let _lock = self.lock(&author)?;
        let known = self.releases(&author)?;
        let same = |release: &&Release| {
            release.model == *model && release.feature_view == *feature_view && release.prompt == *prompt
        };
        if let Some(release) = known.iter().find(same) {
            return Ok(release.clone());
        }
        let release = Release {
            number: known.last().map_or(1, |release| release.number + 1),
            model: model.clone(),
            feature_view: feature_view.clone(),
            prompt: prompt.clone(),
            created_at: Timestamp::now(),
            author,
        };
        let path = self.author(&release.author).join("releases").join(format!("{}.json", release.number));
        let write = || durable::write(&path, &json(&release)?);
        write().map_err(unwritable(&self.directory, "write a release"))?;
        self.steps.taken("release.written");
        Ok(release)
    }

    pub(super) fn read_release(&self, author: &AuthorId, number: u32) -> Result<Release, RegistryError> {
        let what = format!("release {number} of `{author}`");
        let path = self.author(author).join("releases").join(format!("{number}.json"));
        let release: Release = self.read(&path, &what)?;
        if release.number == number && release.author == *author && release.model.author == *author {
            return Ok(release);
        }
        Err(RegistryError::Damaged { what, problem: format!("`{}` describes another release", path.display()) })
    }

    pub(super) fn read_history(&self, author: &AuthorId) -> Result<Vec<Promotion>, RegistryError> {
        let path = self.author(author).join(HISTORY);
        let text = durable::whole_lines(&path).map_err(failed("read the history"))?;
        let promotion = |(index, line): (usize, &[u8])| {
            serde_json::from_slice(line).map_err(|error| RegistryError::Damaged {
                what: format!("the release history of `{author}`"),
                problem: format!("line {} of `{}` cannot be read: {error}", index + 1, path.display()),
            })
        };
        let lines = text.split(|byte| *byte == b'\n').enumerate();
        lines.filter(|(_, line)| !line.is_empty()).map(promotion).collect()
    }

    /// The state from which a change is computed is read under the lock, so two processes that change at once are two
    /// changes, one after the other, and both are on record.
    pub(super) fn record_change(
        &self,
        author: &AuthorId,
        change: &Change,
        occasion: &Occasion,
    ) -> Result<Promotion, RegistryError> {
        // An author that is not there is not made for the sake of its lock.
        if !self.author(author).is_dir() {
            return Err(RegistryError::NotFound { what: format!("author `{author}`") });
        }
        let _lock = self.lock(author)?;
        self.steps.taken("promote.locked");
        let history = self.read_history(author)?;
        let traffic = next(author, &history, change)?;
        if let Some(last) = history.last().filter(|last| is_same_traffic(last, &traffic)) {
            return Ok(last.clone());
        }
        // A version with a damaged file must not begin to serve.
        for number in traffic.releases().chain(traffic.shadow) {
            self.open(&self.read_release(author, number)?.model)?;
        }
        let now = Timestamp::now();
        let entry = Promotion {
            by: occasion.by.clone(),
            reason: occasion.reason.clone(),
            // The order of the lines is the order of events; a clock that was put back must not contradict it.
            at: history.last().map_or(now, |last| now.max(last.at)),
            ..traffic
        };
        let append = || {
            let line = serde_json::to_vec(&entry)?;
            let step = |name: &str| self.steps.taken(&format!("promote.{name}"));
            durable::append_line(&self.author(author).join(HISTORY), &line, step)
        };
        append().map_err(unwritable(&self.directory, "record a promotion"))?;
        Ok(entry)
    }
}

/// The traffic after a change, without who, why and when.
fn next(author: &AuthorId, history: &[Promotion], change: &Change) -> Result<Promotion, RegistryError> {
    let entry = |kind, release| Promotion {
        release,
        kind,
        arms: Vec::new(),
        shadow: None,
        gate: Gate::NotAsked,
        by: String::new(),
        reason: String::new(),
        at: Timestamp::UNIX_EPOCH,
    };
    let refused = |problem: String| RegistryError::Refused { what: format!("the releases of `{author}`"), problem };
    let never = || refused("none was ever promoted; `twin release promote` does it".to_owned());
    match change {
        Change::Promote { release, gate } => {
            Ok(Promotion { gate: gate.clone(), ..entry(ChangeKind::Promote, *release) })
        }
        Change::Rollback => {
            let last = history.last().ok_or_else(never)?;
            let serving = last.release;
            if !last.arms.is_empty() || last.shadow.is_some() {
                return Ok(entry(ChangeKind::Rollback, serving));
            }
            let only = || refused(format!("no release served before {serving} that was not rolled back itself"));
            Ok(entry(ChangeKind::Rollback, before(history).ok_or_else(only)?))
        }
        Change::Split { arms, shadow } => {
            let serving = history.last().ok_or_else(never)?.release;
            check_arms(serving, arms, *shadow).map_err(refused)?;
            Ok(Promotion { arms: arms.clone(), shadow: *shadow, ..entry(ChangeKind::Split, serving) })
        }
    }
}

/// What a rollback goes to: one step back along the releases that served, as with undo. A rollback takes its step off the
/// path, so a second one goes further back instead of forth again.
fn before(history: &[Promotion]) -> Option<u32> {
    let mut path: Vec<u32> = Vec::new();
    for entry in history {
        match entry.kind {
            ChangeKind::Rollback => {
                path.truncate(path.iter().rposition(|release| *release == entry.release).map_or(0, |at| at + 1));
                if path.is_empty() {
                    path.push(entry.release);
                }
            }
            _ if path.last() == Some(&entry.release) => {}
            _ => path.push(entry.release),
        }
    }
    path.pop();
    path.pop()
}

fn check_arms(serving: u32, arms: &[Arm], shadow: Option<u32>) -> Result<(), String> {
    let total: u64 = arms.iter().map(|arm| u64::from(arm.percent)).sum();
    let mut numbers: Vec<u32> = arms.iter().map(|arm| arm.release).chain(shadow).chain([serving]).collect();
    numbers.sort_unstable();
    if numbers.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(format!("each release has one part, and release {serving} has what the others leave"));
    }
    match arms.iter().find(|arm| arm.percent == 0) {
        Some(arm) => {
            Err(format!("release {} would get nothing: give it 1 to 99 percent, or leave it out", arm.release))
        }
        None if total >= 100 => Err(format!("{total} percent are given away, and release {serving} must keep some")),
        None => Ok(()),
    }
}

fn is_same_traffic(a: &Promotion, b: &Promotion) -> bool {
    (a.release, &a.arms, a.shadow) == (b.release, &b.arms, b.shadow)
}
