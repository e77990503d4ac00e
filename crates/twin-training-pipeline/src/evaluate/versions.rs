//! Two versions of one author's model, on the same requests and documents.

use serde::{Deserialize, Serialize};
use twin_style::assessment::Assessor;
use twin_style::stats::{Difference, holm, paired_difference};

use super::{Arm, EvaluationReport};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compared {
    /// Likeness, on the scale of the newer version's ruler.
    Likeness(Arm),
    /// Bits per byte that the adapter saves on the author's held-out documents.
    BitsSaved,
}

impl Compared {
    /// The name in tables.
    pub fn label(self) -> String {
        match self {
            Self::Likeness(arm) => format!("likeness, {}", arm.label()),
            Self::BitsSaved => "bits per byte saved".to_owned(),
        }
    }
}

/// How much more one version has of something than another, pair by pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionComparison {
    pub newer: String,
    pub older: String,
    pub what: Compared,
    pub difference: Difference,
    /// The p-value, corrected for the number of comparisons (Holm).
    pub corrected_p_value: f64,
}

/// Compares every version with the one before it. Only what both have on the same requests or documents is compared.
pub(super) fn compare(
    assessor: Option<&Assessor>,
    reports: &[(String, EvaluationReport)],
    seed: u64,
) -> Vec<VersionComparison> {
    let mut found: Vec<(String, String, Compared, Difference)> = Vec::new();
    for pair in reports.windows(2) {
        let [(older, before), (newer, after)] = pair else { continue };
        let names = || (newer.clone(), older.clone());
        for arm in Arm::WRITING.into_iter().filter(|arm| arm.has_adapter()) {
            if let Some(difference) = assessor.and_then(|assessor| likeness(assessor, arm, after, before)) {
                let (newer, older) = names();
                found.push((newer, older, Compared::Likeness(arm), difference));
            }
        }
        if let Some(difference) = bits_saved(after, before, seed) {
            let (newer, older) = names();
            found.push((newer, older, Compared::BitsSaved, difference));
        }
    }
    let corrected = holm(&found.iter().map(|(.., difference)| difference.p_value).collect::<Vec<_>>());
    found
        .into_iter()
        .zip(corrected)
        .map(|((newer, older, what, difference), corrected_p_value)| VersionComparison {
            newer,
            older,
            what,
            difference,
            corrected_p_value,
        })
        .collect()
}

fn likeness(assessor: &Assessor, arm: Arm, after: &EvaluationReport, before: &EvaluationReport) -> Option<Difference> {
    let (after, before) = (after.arm(arm)?, before.arm(arm)?);
    let titles = |report: &super::ArmReport| report.samples.iter().map(|one| one.title.clone()).collect::<Vec<_>>();
    if titles(after) != titles(before) {
        return None;
    }
    assessor.ruler().difference(&after.texts(), &before.texts()).ok()
}

fn bits_saved(after: &EvaluationReport, before: &EvaluationReport, seed: u64) -> Option<Difference> {
    let mut pairs = (Vec::new(), Vec::new());
    for document in &after.author.documents {
        if let Some(same) = before.author.documents.iter().find(|other| other.url == document.url) {
            pairs.0.push(document.base - document.twin);
            pairs.1.push(same.base - same.twin);
        }
    }
    paired_difference(&pairs.0, &pairs.1, seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{DocumentBits, EvaluationConfig, Prediction};

    fn report(saved: &[f64]) -> EvaluationReport {
        let document = |(index, saved): (usize, &f64)| DocumentBits {
            url: format!("https://ada.example/{index}"),
            bytes: 1000,
            base: 1.5 + index as f64 / 10.0,
            twin: 1.5 + index as f64 / 10.0 - saved,
        };
        let author = Prediction {
            base: 1.5,
            twin: 1.4,
            gain_interval: (0.0, 0.2),
            documents: saved.iter().enumerate().map(document).collect(),
        };
        EvaluationReport {
            config: EvaluationConfig::default(),
            author,
            others: None,
            arms: Vec::new(),
            likeness: None,
            memorisation: None,
        }
    }

    #[test]
    fn each_version_is_paired_with_the_one_before_it() {
        let reports =
            [("v1", vec![0.1, 0.2, 0.1, 0.2, 0.1]), ("v2", vec![0.2, 0.3, 0.2, 0.3, 0.2]), ("v3", vec![0.2; 2])];
        let reports = reports.map(|(name, saved)| (name.to_owned(), report(&saved)));
        let found = compare(None, &reports, 17);
        let names: Vec<_> = found.iter().map(|one| (one.newer.as_str(), one.older.as_str(), one.what)).collect();
        assert_eq!(names, [("v2", "v1", Compared::BitsSaved), ("v3", "v2", Compared::BitsSaved)]);
        assert!((found[0].difference.mean - 0.1).abs() < 1e-9 && found[0].difference.is_above_zero());
        // Five pairs of one sign: 2 of 32 orders are as far out, and there are two comparisons.
        assert!((found[0].corrected_p_value - 2.0 / 16.0).abs() < 1e-9, "{found:?}");
        assert_eq!(found[1].difference.pairs, 2, "only what both have");
        assert!(compare(None, &reports[..1], 17).is_empty());
    }
}
