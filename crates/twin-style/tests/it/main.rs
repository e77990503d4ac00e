//! The measures against reference programs and against real authors. The data lie beside the repository; where they are
//! absent the tests say so and pass.
#![expect(clippy::print_stderr, reason = "these tests say what they measured, and why they measured nothing")]

use std::path::PathBuf;

/// What each trick fools, and what stops it.
mod cheats;
/// Every measure on odd and on long texts, and on any number of threads.
mod every_measure;
/// Delta on the Federalist papers, against a reference in numpy.
mod federalist;
/// Text that is no prose, or too much of it, gets a defined answer.
mod odd_inputs;
/// Other people's statistics in place of their texts.
mod population;
/// Telling real authors apart, and copying base rates.
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

/// The posts of a sample author, oldest first.
fn sample_posts(author: &str) -> Vec<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data").join(author).join("posts");
    let read = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(entry.unwrap().path()).unwrap();
    let mut posts: Vec<String> = std::fs::read_dir(folder).unwrap().map(read).collect();
    // The front matter has the date.
    posts.sort_by_key(|post| post.lines().find(|line| line.starts_with("date:")).unwrap_or_default().to_owned());
    posts
}
