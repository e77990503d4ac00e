//! What a run learns from, as the tokens that the trainer takes.

use std::path::Path;

use twin_domain::feature_store::StoredDocument;
use twin_domain::{CancelFlag, Example, Progress, Split};
use twin_models::language::TrainingExample;

use super::objective::Objective;
use super::pairs::{self, Pair, PreferenceConfig};
use super::{Job, Method, RunError};

/// What a run learns from.
pub enum Material<'a> {
    /// The examples of a training set: supervised fine-tuning.
    Examples(&'a [Example]),
    /// The documents of a training set as they are: continued pre-training.
    Posts(&'a [StoredDocument]),
    /// The examples of a training set, each of which a model answers as well, after what was edited by hand: DPO.
    Preferences { examples: &'a [Example], edits: &'a [Pair], config: &'a PreferenceConfig },
}

impl Material<'_> {
    /// The method that learns from it.
    pub fn method(&self) -> Method {
        match self {
            Self::Examples(_) => Method::Sft,
            Self::Posts(_) => Method::Pretrain,
            Self::Preferences { .. } => Method::Dpo,
        }
    }

    /// What besides the training set and the configuration of the run determines its result.
    pub(super) fn told(&self) -> serde_json::Value {
        match self {
            Self::Examples(_) | Self::Posts(_) => serde_json::Value::Null,
            Self::Preferences { edits, config, .. } => serde_json::json!({ "config": config, "edits": edits }),
        }
    }

    pub(super) fn objective(
        &self,
        job: &Job<'_>,
        directory: &Path,
        progress: &dyn Progress,
        cancel: &CancelFlag,
    ) -> Result<Objective, RunError> {
        let most = job.config.validation_tokens;
        let likelihood = |of: &dyn Fn(Split) -> Result<Vec<TrainingExample>, RunError>| {
            let (train, calibration) = (of(Split::Train)?, within(of(Split::Calibration)?, most));
            Ok(Objective::Likelihood { train, calibration })
        };
        match self {
            Self::Examples(examples) => likelihood(&|split| of_examples(job, examples, split)),
            Self::Posts(posts) => likelihood(&|split| of_posts(job, posts, split)),
            Self::Preferences { examples, edits, config } => {
                pairs::objective(job, examples, edits, config, directory, progress, cancel)
            }
        }
    }
}

/// The examples of a split as tokens. A sequence that is too long loses the end of its target, never a part of its prompt.
fn of_examples(job: &Job<'_>, examples: &[Example], split: Split) -> Result<Vec<TrainingExample>, RunError> {
    let mut made = Vec::new();
    for example in examples.iter().filter(|example| example.split == split) {
        let Example { prompt, target, complete, not_voice, .. } = example;
        let mut sequence = job.model.tokenizer().encode_example(prompt, target, *complete, not_voice)?;
        sequence.token_ids.truncate(job.config.max_sequence_tokens);
        sequence.loss_mask.truncate(job.config.max_sequence_tokens);
        if sequence.target_tokens() > 0 {
            made.push(sequence);
        }
    }
    some(made, job, split)
}

/// The posts of a split in pieces of the longest sequence that training takes, one after the other.
fn of_posts(job: &Job<'_>, posts: &[StoredDocument], split: Split) -> Result<Vec<TrainingExample>, RunError> {
    let mut made = Vec::new();
    for known in job.set.documents_in(split) {
        let is_it = |stored: &&StoredDocument| {
            stored.document.info.id == known.id && stored.document.info.content_hash == known.content_hash
        };
        let Some(stored) = posts.iter().find(is_it) else { continue };
        let whole = job.model.tokenizer().encode_running_text(&stored.document.text, &stored.not_voice)?;
        let length = job.config.max_sequence_tokens.max(2);
        for (tokens, mask) in whole.token_ids.chunks(length).zip(whole.loss_mask.chunks(length)) {
            let piece = TrainingExample::new(tokens.to_vec(), mask.to_vec());
            if piece.target_tokens() > 0 {
                made.push(piece);
            }
        }
    }
    some(made, job, split)
}

pub(super) fn some<T>(made: Vec<T>, job: &Job<'_>, split: Split) -> Result<Vec<T>, RunError> {
    if !made.is_empty() {
        return Ok(made);
    }
    let (set, max_tokens) = (job.set.id.to_string(), job.config.max_sequence_tokens);
    Err(RunError::NothingFits { split: split.as_str(), set, max_tokens })
}

/// As many sequences as have `max_tokens` together, at least one, spread evenly over all of them.
fn within(mut sequences: Vec<TrainingExample>, max_tokens: usize) -> Vec<TrainingExample> {
    let tokens: usize = sequences.iter().map(|sequence| sequence.token_ids.len()).sum();
    let stride = tokens.div_ceil(max_tokens.max(1)).max(1);
    let mut index = 0;
    sequences.retain(|_| {
        index += 1;
        usize::is_multiple_of(index - 1, stride)
    });
    sequences
}
