//! Releases: what serves.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{AuthorId, Digest, FeatureViewId, ModelVersionId};

/// The version of a set of prompt templates: its name and the start of the digest of its texts, as in `twin-1+3fa85f64`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PromptVersion(pub String);

impl fmt::Display for PromptVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The triple that answers: model version, feature view and prompt version. Promoting and rolling back act on releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub author: AuthorId,
    /// Counts from 1 for each author. A rollback is a new entry in the history, not a new release.
    pub number: u32,
    pub model: ModelVersionId,
    pub feature_view: FeatureViewId,
    pub prompt: PromptVersion,
    pub created_at: Timestamp,
}

/// Who does something to what serves, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occasion {
    /// A person's or a program's name.
    pub by: String,
    /// Why, in their words.
    pub reason: String,
}

impl Occasion {
    /// `by` does it for `reason`.
    pub fn new(by: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { by: by.into(), reason: reason.into() }
    }
}

/// What the gate had to say to a promotion.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Gate {
    /// It was not asked: a rollback, a split, or the first release of an author.
    #[default]
    NotAsked,
    /// The candidate passed; the report is stored under its digest.
    Passed { report: Digest },
    /// It was promoted by force, against the report where there is one.
    Forced { report: Option<Digest> },
}

/// A release that has a share of the conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arm {
    pub release: u32,
    /// How many of a hundred new conversations it gets.
    pub percent: u32,
}

/// What is to become of an author's traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// One release gets all new conversations, and shadows end.
    Promote { release: u32, gate: Gate },
    /// One step back: a split or a shadow ends, or else the release that served before serves again. What answered until
    /// then and does not any more is withdrawn.
    Rollback,
    /// `arms` get their shares and the release that serves the rest. Without arms, it gets all again. `shadow` answers, too,
    /// unseen.
    Split { arms: Vec<Arm>, shadow: Option<u32> },
}

/// What kind of change an entry of the history records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    #[default]
    Promote,
    Rollback,
    Split,
}

/// An entry in an author's release history: all of the traffic from then on, so that the last entry alone says what serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// The release that serves, or has what the arms leave.
    pub release: u32,
    #[serde(default)]
    pub kind: ChangeKind,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arms: Vec<Arm>,
    /// A release that answers, too, and whose answers nobody sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<u32>,
    #[serde(default)]
    pub gate: Gate,
    #[serde(default)]
    pub by: String,
    /// Why, in the words of whoever did it.
    pub reason: String,
    /// Never earlier than the entry before it, whatever the clock says.
    pub at: Timestamp,
}

/// Which releases answer an author's readers now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Has whatever the arms leave.
    pub release: u32,
    pub arms: Vec<Arm>,
    pub shadow: Option<u32>,
    /// Releases that a rollback took away: conversations that began with them go on with others.
    pub withdrawn: BTreeSet<u32>,
    /// Since when.
    pub since: Timestamp,
}

impl Traffic {
    /// What a history comes to; `None` for an empty one.
    pub fn of(history: &[Promotion]) -> Option<Self> {
        let mut withdrawn = BTreeSet::new();
        let mut before: Option<&Promotion> = None;
        for entry in history {
            if entry.kind == ChangeKind::Rollback {
                withdrawn.extend(before.into_iter().flat_map(Promotion::releases));
            }
            for release in entry.releases() {
                withdrawn.remove(&release);
            }
            before = Some(entry);
        }
        before.map(|last| Self {
            release: last.release,
            arms: last.arms.clone(),
            shadow: last.shadow,
            withdrawn,
            since: last.at,
        })
    }

    /// The release that a conversation goes to. The same conversation always goes to the same one, and one that an arm has
    /// stays with it when the arm's share grows, as the hash is of the releases and not of the shares.
    pub fn release_for(&self, author: &AuthorId, conversation: &str) -> u32 {
        let mut key: Vec<String> = vec![author.to_string(), self.release.to_string()];
        key.extend(self.arms.iter().map(|arm| arm.release.to_string()));
        key.push(conversation.to_owned());
        let digest = Digest::of_parts(key.iter().map(String::as_bytes));
        // The first 32 bits as a number from 0 to 100.
        let bits = u32::from_str_radix(&digest.as_str()[..8], 16).unwrap_or_default();
        let mut at = f64::from(bits) / 2_f64.powi(32) * 100.0;
        for arm in &self.arms {
            if at < f64::from(arm.percent) {
                return arm.release;
            }
            at -= f64::from(arm.percent);
        }
        self.release
    }

    /// Whether a conversation that began with a release may go on with it.
    pub fn keeps(&self, release: u32) -> bool {
        !self.withdrawn.contains(&release)
    }
}

impl Promotion {
    /// The releases that readers get answers from.
    pub fn releases(&self) -> impl Iterator<Item = u32> {
        std::iter::once(self.release).chain(self.arms.iter().map(|arm| arm.release))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: ChangeKind, release: u32, arms: &[Arm]) -> Promotion {
        Promotion {
            release,
            kind,
            arms: arms.to_vec(),
            shadow: None,
            gate: Gate::NotAsked,
            by: "ada".into(),
            reason: String::new(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn an_entry_of_an_older_program_can_be_read() {
        let old = r#"{"release":2,"reason":"better","at":"2026-01-01T00:00:00Z"}"#;
        let entry: Promotion = serde_json::from_str(old).unwrap();
        assert_eq!((entry.release, entry.kind, entry.gate), (2, ChangeKind::Promote, Gate::NotAsked));
    }

    #[test]
    fn shares_are_kept_and_conversations_stay_when_an_arm_grows() {
        let author = AuthorId::parse("ada").unwrap();
        let traffic = |percent| Traffic::of(&[entry(ChangeKind::Split, 1, &[Arm { release: 2, percent }])]).unwrap();
        let (ten, half) = (traffic(10), traffic(50));
        let (mut few, mut many) = (0, 0);
        for conversation in (0..10_000).map(|n| n.to_string()) {
            let (early, late) = (ten.release_for(&author, &conversation), half.release_for(&author, &conversation));
            assert!(early != 2 || late == 2, "{conversation} left its arm when the arm grew");
            few += u32::from(early == 2);
            many += u32::from(late == 2);
        }
        // Four standard deviations of a binomial of 10,000.
        assert!((880..=1120).contains(&few) && (4800..=5200).contains(&many), "{few} {many}");
    }

    #[test]
    fn a_rollback_withdraws_what_served_until_it_serves_again() {
        let mut history = vec![entry(ChangeKind::Promote, 1, &[]), entry(ChangeKind::Promote, 2, &[])];
        assert!(Traffic::of(&history).unwrap().keeps(1), "a conversation goes on with its release after a promotion");
        history.push(entry(ChangeKind::Rollback, 1, &[]));
        assert!(!Traffic::of(&history).unwrap().keeps(2));
        history.push(entry(ChangeKind::Promote, 2, &[]));
        assert!(Traffic::of(&history).unwrap().keeps(2));
        assert_eq!(Traffic::of(&[]), None);
    }
}
