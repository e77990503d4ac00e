//! The evaluation as tables, for the model card and the terminal.

use std::fmt::Write as _;

use twin_style::likeness::RulerQuality;

use super::{ArmReport, Comparison, Distances, EvaluationReport, Prediction};

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

/// The rows of likeness: arm, likeness and the share of units that pass, the gates, the time that writing took.
pub const LIKENESS_HEADER: [&str; 7] =
    ["", "likeness", "accepted at 5%", "told from the author", "known pairs", "verdict", "seconds a text"];

/// One row for each arm whose likeness was measured, in the order of [`LIKENESS_HEADER`].
pub fn likeness_rows(evaluation: &EvaluationReport) -> Vec<[String; 7]> {
    let row = |report: &ArmReport| {
        let assessment = report.assessment.as_ref()?;
        let likeness = assessment.likeness.as_ref();
        let value = likeness.map_or("-".to_owned(), |likeness| {
            let (low, high) = likeness.interval;
            format!("{:.2} [{low:.2}, {high:.2}]", likeness.value)
        });
        Some([
            report.arm.label().to_owned(),
            value,
            likeness.map_or("-".to_owned(), |likeness| format!("{:.0}%", likeness.accepted_share * 100.0)),
            report.told_apart.map_or("-".to_owned(), |auc| format!("{auc:.2}")),
            format!("{:.0}%", assessment.pairs_share * 100.0),
            assessment.verdict(),
            match report.seconds {
                0.0 => "-".to_owned(),
                seconds => format!("{:.1}", seconds / report.samples.len().max(1) as f64),
            },
        ])
    };
    evaluation.arms.iter().filter_map(row).collect()
}

/// What likeness was measured with, in a sentence each.
pub fn ruler(evaluation: &EvaluationReport) -> Vec<String> {
    let Some(likeness) = &evaluation.likeness else { return Vec::new() };
    let mut lines: Vec<String> = likeness.refused.iter().map(|why| format!("no likeness: {why}")).collect();
    lines.extend(likeness.ruler.as_ref().map(|RulerQuality { auc, auc_interval: (low, high), impostor_authors, .. }| {
        format!("the ruler tells the author from {impostor_authors} others with an AUC of {auc:.2} [{low:.2}, {high:.2}]")
    }));
    lines.extend(likeness.detectable_difference.map(|least| {
        format!("with so many texts a difference in likeness of {least:.2} can be seen four times in five")
    }));
    lines
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
