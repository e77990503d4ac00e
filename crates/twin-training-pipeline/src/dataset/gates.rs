//! The data gates: what a training set must not have. A set that fails one is not stored, and the error names the gate
//! and the example.

use std::collections::{HashMap, HashSet};

use twin_domain::feature_store::StoredDocument;
use twin_domain::training_set::TrainingDocument;
use twin_domain::{DocumentId, Example, Split};

use super::split::{NEAR_DUPLICATE, Sketch};

/// Why a training set was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    #[error("data gate `verbatim`: a {task} target is not in the text of {url}: {excerpt}")]
    NotVerbatim { task: &'static str, url: String, excerpt: String },
    #[error("data gate `prompt`: a {task} example of {url} has an empty or unfilled prompt: {excerpt}")]
    BadPrompt { task: &'static str, url: String, excerpt: String },
    #[error(
        "data gate `near duplicates`: {first} and {second} are nearly the same and on different sides of the split"
    )]
    NearDuplicates { first: String, second: String },
    #[error("data gate `repeated`: two {task} examples of {url} are the same: {excerpt}")]
    Repeated { task: &'static str, url: String, excerpt: String },
    #[error("data gate `sides`: {url} is on both sides of the split")]
    BothSides { url: String },
}

/// Checks examples against the documents they were made from.
///
/// # Errors
/// The first gate that refuses.
pub fn check(examples: &[Example], documents: &[TrainingDocument], stored: &[StoredDocument]) -> Result<(), GateError> {
    let sources: HashMap<DocumentId, &StoredDocument> = stored.iter().map(|s| (s.document.info.id, s)).collect();
    one_side_each(examples, documents)?;
    no_near_duplicates_across(documents, &sources)?;
    let mut seen = HashSet::new();
    for example in examples {
        let Some(source) = sources.get(&example.document) else {
            return Err(GateError::BothSides { url: example.document.to_string() });
        };
        let task = example.task.as_str();
        let url = || source.document.info.url.clone();
        if example.target.trim().is_empty() || !source.document.text.contains(&example.target) {
            return Err(GateError::NotVerbatim { task, url: url(), excerpt: excerpt(&example.target) });
        }
        if let Some(message) = example.prompt.iter().find(|message| unfilled(&message.content, &source.document.text)) {
            return Err(GateError::BadPrompt { task, url: url(), excerpt: excerpt(&message.content) });
        }
        if example.prompt.is_empty() {
            return Err(GateError::BadPrompt { task, url: url(), excerpt: String::new() });
        }
        if !seen.insert((example.task, example.document, &example.prompt, &example.target)) {
            return Err(GateError::Repeated { task, url: url(), excerpt: excerpt(&example.target) });
        }
    }
    Ok(())
}

/// A message without words, or with a template's mark that the document does not have itself.
fn unfilled(message: &str, document: &str) -> bool {
    let mark = |mark: &str| message.contains(mark) && !document.contains(mark);
    message.trim().is_empty() || mark("{{") || mark("{%")
}

fn one_side_each(examples: &[Example], documents: &[TrainingDocument]) -> Result<(), GateError> {
    let mut sides: HashMap<DocumentId, Split> = HashMap::new();
    let mut urls: HashMap<DocumentId, &str> = HashMap::new();
    let listed = documents.iter().map(|document| {
        urls.insert(document.id, &document.url);
        (document.id, document.split)
    });
    let listed: Vec<_> = listed.collect();
    for (id, split) in listed.into_iter().chain(examples.iter().map(|example| (example.document, example.split))) {
        if *sides.entry(id).or_insert(split) != split {
            let url = urls.get(&id).map_or_else(|| id.to_string(), |url| (*url).to_owned());
            return Err(GateError::BothSides { url });
        }
    }
    Ok(())
}

fn no_near_duplicates_across(
    documents: &[TrainingDocument],
    sources: &HashMap<DocumentId, &StoredDocument>,
) -> Result<(), GateError> {
    let sketch = |document: &TrainingDocument| sources.get(&document.id).map(|s| Sketch::of(&s.document.text));
    let sketches: Vec<_> = documents.iter().filter_map(|d| Some((d, sketch(d)?))).collect();
    for (index, (first, a)) in sketches.iter().enumerate() {
        for (second, b) in &sketches[index + 1..] {
            if first.split != second.split && a.similarity(b) > NEAR_DUPLICATE {
                return Err(GateError::NearDuplicates { first: first.url.clone(), second: second.url.clone() });
            }
        }
    }
    Ok(())
}

fn excerpt(text: &str) -> String {
    let start: String = text.chars().take(80).collect();
    if start.len() < text.len() { format!("{start} …") } else { start }
}
