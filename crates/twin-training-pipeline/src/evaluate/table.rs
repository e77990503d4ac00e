//! The evaluation as tables, for the model card and the terminal.

use std::fmt::Write as _;

use super::{ArmReport, Distances, EvaluationReport, Prediction};

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
