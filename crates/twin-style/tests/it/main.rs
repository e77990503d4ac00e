//! The measures against reference programs and against real authors. The data lie beside the repository; where they are
//! absent the tests say so and pass.
#![expect(clippy::print_stderr, reason = "these tests say what they measured, and why they measured nothing")]

use std::path::PathBuf;

/// Delta on the Federalist papers, against a reference in numpy.
mod federalist;
/// Telling technical authors apart, copying base rates, and what a ruler makes of cheats.
mod posts;
/// Verification and overlap figures, against PAN's evaluator, rouge-score and sacrebleu.
mod reference_figures;

/// A file of real data, `None` with a message where it is absent.
fn real_data(path: &str) -> Option<String> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/dev").join(path);
    let text = std::fs::read_to_string(&file).ok();
    if text.is_none() {
        eprintln!("skipped: `{}` is not there", file.display());
    }
    text
}

fn rows(path: &str) -> Option<Vec<serde_json::Value>> {
    Some(real_data(path)?.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// Markdown that says exactly this plain text.
fn as_markdown(plain: &str) -> String {
    let mut markdown = String::with_capacity(plain.len());
    for character in plain.chars() {
        if character.is_ascii_punctuation() {
            markdown.push('\\');
        }
        markdown.push(character);
    }
    markdown
}
