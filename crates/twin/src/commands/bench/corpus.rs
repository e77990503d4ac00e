//! Texts of many authors from JSON lines.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;
use twin_style::text::{normalise, units, without_boilerplate, word_count};
use twin_style::verification::Candidate;

/// One text.
#[derive(Debug, Clone, Deserialize)]
pub struct Row {
    pub author: String,
    #[serde(default)]
    pub date: String,
    /// Plain prose.
    pub text: String,
}

/// The rows of a file, in the order of the file.
pub fn rows(file: &Path) -> anyhow::Result<Vec<Row>> {
    let text = fs_err::read_to_string(file)?;
    let row = |(index, line): (usize, &str)| {
        serde_json::from_str(line)
            .with_context(|| format!("line {} of `{}` is not a text with its author", index + 1, file.display()))
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(row).collect()
}

/// The prose of each author, oldest first, without the paragraphs that one of them repeats.
pub fn by_author(rows: Vec<Row>) -> BTreeMap<String, Vec<String>> {
    let mut authors: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for row in rows {
        authors.entry(row.author).or_default().push((row.date, normalise(&row.text)));
    }
    let prose = |(name, mut dated): (String, Vec<(String, String)>)| {
        // Stable: undated texts stay in the order of their file.
        dated.sort_by(|(a, _), (b, _)| a.cmp(b));
        (name, without_boilerplate(&dated.into_iter().map(|(_, text)| text).collect::<Vec<_>>()))
    };
    authors.into_iter().map(prose).collect()
}

/// Parts an author's texts: the first 60% of the words are known (the newest 40,000 of them), and of the rest at most
/// `most` pieces of a unit's length are questioned, evenly spread.
pub fn candidate(name: &str, texts: &[String], unit_words: usize, most: usize) -> Candidate {
    let total: usize = texts.iter().map(|text| word_count(text)).sum();
    let mut words = 0;
    let known = texts.iter().take_while(|text| {
        let before = words;
        words += word_count(text);
        before * 10 < total * 6
    });
    let (known, rest) = texts.split_at(known.count());
    let mut kept = 0;
    let first = known.iter().rposition(|text| {
        kept += word_count(text);
        kept >= 40_000
    });
    let pieces: Vec<String> = units(&[rest.join("\n\n")], unit_words)
        .into_iter()
        .filter(|unit| unit.words * 10 >= unit_words * 9)
        .map(|unit| unit.text)
        .collect();
    let step = (pieces.len() as f64 / most as f64).max(1.0);
    let spread = (0..pieces.len().min(most)).filter_map(|index| pieces.get((index as f64 * step) as usize));
    Candidate {
        name: name.to_owned(),
        known: known[first.unwrap_or(0)..].to_vec(),
        questioned: spread.cloned().collect(),
    }
}
