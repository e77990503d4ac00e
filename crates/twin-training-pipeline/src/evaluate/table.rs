//! The evaluation as tables, for the model card and the terminal.

use std::fmt::Write as _;

use twin_style::copying::MAX_RUN;
use twin_style::judge::{JudgeReport, Rating};
use twin_style::likeness::RulerQuality;

use super::{Arm, ArmReport, Comparison, Distances, EvaluationReport, Memorisation, Prediction, VersionComparison};

/// The rows of the comparison: arm, words, distances to the author and to others, copying.
pub const HEADER: [&str; 6] = ["", "words", "function words", "4-grams", "copied 8-grams", "longest copied run"];

/// One row for each arm, in the order of [`HEADER`]. Distances are `to the author / to others`.
pub fn rows(evaluation: &EvaluationReport) -> Vec<[String; 6]> {
    let pair = |distances: &Distances| match distances.others {
        Some(others) => format!("{:.3} / {others:.3}", distances.author),
        None => format!("{:.3}", distances.author),
    };
    let row = |ArmReport { arm, style, .. }: &ArmReport| {
        [
            arm.label().to_owned(),
            style.words.to_string(),
            pair(&style.function_words),
            pair(&style.ngrams),
            format!("{:.1}%", style.copying.share * 100.0),
            format!("{} words", style.copying.longest_run),
        ]
    };
    evaluation.arms.iter().map(row).collect()
}

/// Bits per byte in a sentence each.
pub fn predictions(evaluation: &EvaluationReport) -> Vec<String> {
    let line = |whose: &str, prediction: &Prediction| {
        let (low, high) = prediction.gain_interval;
        let Prediction { base, twin, .. } = prediction;
        let documents = prediction.documents.len();
        format!(
            "bits per byte on {documents} posts of {whose}: base {base:.3} -> twin {twin:.3}, gain {:.3} [{low:.3}, {high:.3}]",
            prediction.gain()
        )
    };
    let mut lines = vec![line("the author, held out", &evaluation.author)];
    lines.extend(evaluation.others.as_ref().map(|others| line("other authors", others)));
    lines
}

/// The rows of likeness: arm, likeness with its interval, the share of units that pass, what other measures say, how easily
/// the texts are told from the author's, and the verdict.
pub const LIKENESS_HEADER: [&str; 8] = [
    "",
    "likeness",
    "accepted at 5%",
    "Burrows' Delta",
    "Eder's Delta",
    "General Impostors",
    "told from the author",
    "verdict",
];

/// One row for each arm whose likeness was measured, in the order of [`LIKENESS_HEADER`].
pub fn likeness_rows(evaluation: &EvaluationReport) -> Vec<[String; 8]> {
    let row = |report: &ArmReport| {
        let assessment = report.assessment.as_ref()?;
        let likeness = assessment.likeness.as_ref();
        let value = likeness.map_or("-".to_owned(), |likeness| {
            let (low, high) = likeness.interval;
            format!("{:.2} [{low:.2}, {high:.2}]", likeness.value)
        });
        let other = |index: usize| {
            let value = likeness.and_then(|likeness| likeness.others.get(index)).and_then(|other| other.value);
            value.map_or("-".to_owned(), |value| format!("{value:.2}"))
        };
        Some([
            report.arm.label().to_owned(),
            value,
            likeness.map_or("-".to_owned(), |likeness| format!("{:.0}%", likeness.accepted_share * 100.0)),
            other(0),
            other(1),
            other(2),
            report.told_apart.map_or("-".to_owned(), |auc| format!("{auc:.2}")),
            assessment.verdict(),
        ])
    };
    evaluation.arms.iter().filter_map(row).collect()
}

/// The rows of what the gates look at.
pub const GATES_HEADER: [&str; 8] = [
    "",
    "words",
    "copied 8-grams",
    "longest run",
    "known pairs",
    "distinct-4",
    "triples attested",
    "base bits/byte (as usual as the author's)",
];

/// One row for each arm whose gates were measured, in the order of [`GATES_HEADER`].
pub fn gates_rows(evaluation: &EvaluationReport) -> Vec<[String; 8]> {
    let row = |report: &ArmReport| {
        let assessment = report.assessment.as_ref()?;
        let predictability = report.predictability.as_ref();
        Some([
            report.arm.label().to_owned(),
            assessment.words.to_string(),
            format!("{:.1}%", assessment.copied_share * 100.0),
            assessment.longest_run.to_string(),
            format!("{:.0}%", assessment.pairs_share * 100.0),
            format!("{:.3}", assessment.distinct_4),
            format!("{:.3}", assessment.attested_trigrams),
            predictability.map_or("-".to_owned(), |found| {
                format!("{:.2} ({:.0}%)", found.bits_per_byte, found.usual_share * 100.0)
            }),
        ])
    };
    evaluation.arms.iter().filter_map(row).collect()
}

/// The rows of what writing cost.
pub const COST_HEADER: [&str; 6] =
    ["", "texts", "prompt tokens a text", "new tokens a text", "seconds to the first token", "seconds a text"];

/// One row for each way of writing, in the order of [`COST_HEADER`].
pub fn cost_rows(evaluation: &EvaluationReport) -> Vec<[String; 6]> {
    let written = evaluation.arms.iter().filter(|report| Arm::WRITING.contains(&report.arm));
    let row = |ArmReport { arm, cost, samples, .. }: &ArmReport| {
        let texts = samples.len().max(1) as f64;
        [
            arm.label().to_owned(),
            samples.len().to_string(),
            format!("{:.0}", cost.prompt_tokens as f64 / texts),
            format!("{:.0}", cost.new_tokens as f64 / texts),
            format!("{:.2}", cost.first_token_seconds),
            format!("{:.1}", cost.seconds / texts),
        ]
    };
    written.map(row).collect()
}

/// What likeness was measured with and what is known by heart, in a sentence each.
pub fn remarks(evaluation: &EvaluationReport) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(likeness) = &evaluation.likeness {
        lines.extend(likeness.refused.iter().map(|why| format!("no likeness: {why}")));
        lines.extend(likeness.ruler.as_ref().map(|quality| {
            let RulerQuality { auc, auc_interval: (low, high), impostor_authors, .. } = quality;
            format!(
                "the ruler tells the author from {impostor_authors} others with an AUC of {auc:.2} [{low:.2}, {high:.2}]"
            )
        }));
        lines.extend(likeness.detectable_difference.map(|least| {
            format!("with so many words a difference in likeness of {least:.2} can be seen four times in five")
        }));
    }
    if let Some(gain) = evaluation.author_specific_gain() {
        lines.push(format!("of the gain {gain:+.3} bits per byte is the author's own, beyond what others' posts gain"));
    }
    if let Some(Memorisation { probes, base, twin }) = &evaluation.memorisation {
        lines.push(format!(
            "of {probes} training posts that were begun, the adapter goes on for {:.1} words on average and {} at most \
             (base: {:.1} and {}); {} came back for {MAX_RUN} words or more (base: {})",
            twin.mean_words, twin.most_words, base.mean_words, base.most_words, twin.by_heart, base.by_heart
        ));
    }
    lines
}

/// The rows of comparisons between versions.
pub const VERSIONS_HEADER: [&str; 5] = ["", "of", "less that of", "difference", "p, corrected"];

/// One row for each comparison, in the order of [`VERSIONS_HEADER`].
pub fn version_rows(comparisons: &[VersionComparison]) -> Vec<[String; 5]> {
    let row = |VersionComparison { newer, older, what, difference, corrected_p_value }: &VersionComparison| {
        let (low, high) = difference.interval;
        [
            what.label(),
            newer.clone(),
            older.clone(),
            format!("{:+.3} [{low:+.3}, {high:+.3}]", difference.mean),
            format!("{corrected_p_value:.3}"),
        ]
    };
    comparisons.iter().map(row).collect()
}

/// The rows of what a judge says.
pub const JUDGE_HEADER: [&str; 4] = ["", "strength", "wins", "pairs"];

/// One row for each contestant, in the order of [`JUDGE_HEADER`].
pub fn judge_rows(judged: &JudgeReport) -> Vec<[String; 4]> {
    let row = |rating: &Rating| {
        let (low, high) = rating.interval;
        [
            rating.name.clone(),
            format!("{:+.2} [{low:+.2}, {high:+.2}]", rating.strength),
            format!("{:.1}", rating.wins),
            rating.pairs.to_string(),
        ]
    };
    judged.ratings.iter().map(row).collect()
}

/// How far the judge can be trusted.
pub fn judge_remark(judged: &JudgeReport) -> String {
    let real = judged
        .real_found
        .map_or(String::new(), |share| format!("it prefers what the author wrote in {:.0}% of pairs; ", share * 100.0));
    format!(
        "a model's opinion, not a measure: {real}it says the same in both orders of {:.0}% of pairs and takes the first text in \
         {:.0}% of its choices; {} of {} answers were no verdict",
        judged.consistency * 100.0,
        judged.first_share * 100.0,
        judged.unanswered,
        judged.questions
    )
}

/// The rows of comparisons.
pub const COMPARISON_HEADER: [&str; 4] = ["likeness of", "less that of", "difference", "p, corrected"];

/// One row for each comparison, in the order of [`COMPARISON_HEADER`].
pub fn comparisons(evaluation: &EvaluationReport) -> Vec<[String; 4]> {
    let row = |Comparison { first, second, difference, corrected_p_value }: &Comparison| {
        let (low, high) = difference.interval;
        [
            first.label().to_owned(),
            second.label().to_owned(),
            format!("{:+.2} [{low:+.2}, {high:+.2}]", difference.mean),
            format!("{corrected_p_value:.3}"),
        ]
    };
    evaluation.likeness.iter().flat_map(|likeness| &likeness.comparisons).map(row).collect()
}

/// The whole evaluation as Markdown.
pub fn markdown(evaluation: &EvaluationReport) -> String {
    let mut text = String::from("## Evaluation\n\n");
    for line in predictions(evaluation) {
        let _ = writeln!(text, "- {line}");
    }
    text.push_str(
        "\nThe same titles, written in several ways. Distances are to the author's held-out posts / to other authors' posts; \
         smaller is nearer. A text with more than 3% copied 8-grams, or a copied run of 16 words, is copied rather than written.\n\n",
    );
    let _ = writeln!(text, "| {} |\n|{}", HEADER.join(" | "), " --- |".repeat(HEADER.len()));
    for row in rows(evaluation) {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}
