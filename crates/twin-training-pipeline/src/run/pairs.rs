//! Preference pairs: the author's own passage against what a model wrote for the same prompt.
//!
//! The answers are those of the version that training starts from, because a model learns most from its own mistakes (Chen
//! et al. 2024, *Self-Play Fine-Tuning*); the base's can be taken instead. That version is the reference of the loss, too
//! (Rafailov et al. 2023): the base with the adapter off is it where training starts from nothing. Answers and reference
//! likelihoods are made once, and one by one kept in the run's directory, so that a run that was killed does not write them
//! again.

use std::io::Write;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use serde::{Deserialize, Serialize};
use twin_domain::{CancelFlag, ChatMessage, Example, Progress, ProgressUpdate, Split};
use twin_models::language::{
    Adapter, FinishReason, GenerateRequest, Input, LanguageModel, PairStanding, PreferenceLoss, PreferencePair,
    Sampling, TrainingExample,
};

use super::material::some;
use super::objective::Objective;
use super::{Job, RunError, TrainingConfig};

/// An adapter whose chosen answers cost more than this times what they cost before is not kept.
pub(super) const NLL_LIMIT: f64 = 1.02;
const FILE: &str = "pairs.jsonl";

/// Whose answers the author's passages are preferred to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnsweredBy {
    /// The version that training starts from; the base where there is none.
    #[default]
    Start,
    /// The base model without an adapter.
    Base,
}

/// How pairs are made and what is learnt from them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PreferenceConfig {
    /// How far the model may go from where it starts: smaller allows more.
    pub beta: f64,
    /// The share of the chosen answer's own loss, which keeps it from becoming less likely together with the rejected one.
    pub nll_weight: f64,
    /// How many pairs to train on, edits included, and how many to calibrate with; as many are kept for the final measure.
    pub pairs: usize,
    pub held_out: usize,
    /// The most tokens of an answer that count.
    pub answer_tokens: usize,
    pub answered_by: AnsweredBy,
}

impl Default for PreferenceConfig {
    fn default() -> Self {
        Self {
            beta: 0.1,
            nll_weight: 1.0,
            pairs: 64,
            held_out: 12,
            answer_tokens: 128,
            answered_by: AnsweredBy::default(),
        }
    }
}

impl PreferenceConfig {
    /// The loss of a pair.
    pub(super) fn loss(&self) -> PreferenceLoss {
        PreferenceLoss { beta: self.beta, nll_weight: self.nll_weight }
    }

    /// The settings of a run that learns from preferences, where `config` says nothing else: a tenth of the learning rate,
    /// steps of some four pairs, no dropout (with which the model would differ from its reference before it has learnt anything).
    pub fn training(config: TrainingConfig) -> TrainingConfig {
        TrainingConfig {
            learning_rate: config.learning_rate / 10.0,
            dropout: 0.0,
            batch_tokens: 2 * config.batch_tokens,
            validate_every: 4,
            epochs: 2.0,
            ..config
        }
    }
}

/// Where a pair comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairSource {
    /// The author's passage, and a model's answer.
    Passage,
    /// What a person made of a model's answer, and that answer.
    Edit,
}

/// Two answers to one prompt, in the fields that TRL reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    #[serde(default = "train")]
    pub split: Split,
    #[serde(default = "edit")]
    pub source: PairSource,
    pub prompt: Vec<ChatMessage>,
    pub chosen: String,
    pub rejected: String,
    /// Whether each answer ends where it ends, so that the end is a part of it.
    #[serde(default = "both")]
    pub complete: (bool, bool),
    /// Byte ranges of `chosen` that are not the author's voice and have no part in the loss.
    #[serde(default)]
    pub not_voice: Vec<Range<usize>>,
}

fn train() -> Split {
    Split::Train
}

fn edit() -> PairSource {
    PairSource::Edit
}

fn both() -> (bool, bool) {
    (true, true)
}

impl Pair {
    /// Reads pairs that people made: JSON lines with `prompt`, `chosen` and `rejected`, as TRL has them.
    ///
    /// # Errors
    /// When the file cannot be read or a line is no pair; the error names the line.
    pub fn read(path: &Path) -> Result<Vec<Self>, PairsError> {
        let text = fs::read_to_string(path)?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines
            .map(|(index, line)| {
                let at = |source| PairsError::Line { path: path.to_owned(), line: index + 1, source };
                serde_json::from_str(line).map_err(at)
            })
            .collect()
    }
}

/// Why pairs could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PairsError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("line {line} of `{path}` is no preference: give `prompt` (a list of messages), `chosen` and `rejected`")]
    Line {
        path: PathBuf,
        line: usize,
        #[source]
        source: serde_json::Error,
    },
}

/// A pair, its tokens and its reference.
pub(super) struct Prepared {
    pair: Pair,
    pub(super) tokens: PreferencePair,
}

impl Prepared {
    pub(super) fn is_edit(&self) -> bool {
        self.pair.source == PairSource::Edit
    }
}

/// A pair as a run keeps it.
#[derive(Serialize, Deserialize)]
struct Kept {
    reference: (f64, f64),
    pair: Pair,
}

/// The pairs' figures together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Mean of `beta · (gain of the chosen answer - gain of the rejected one)` over the reference, in nats.
    pub margin: f64,
    /// The share of the pairs whose margin is above 0.
    pub accuracy: f64,
    /// Mean of the chosen answers' nats a token.
    pub chosen_nll: f64,
}

impl Standing {
    pub(super) fn of(standings: &[PairStanding]) -> Self {
        let share =
            |of: &dyn Fn(&PairStanding) -> f64| standings.iter().map(of).sum::<f64>() / standings.len().max(1) as f64;
        Self {
            margin: share(&|standing| standing.margin),
            accuracy: share(&|standing| f64::from(u8::from(standing.margin > 0.0))),
            chosen_nll: share(&|standing| standing.chosen_nll),
        }
    }
}

/// How pairs of test documents stand, on which neither a step was taken nor the best step chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreferenceReport {
    pub config: PreferenceConfig,
    pub train_pairs: usize,
    /// How many of them people made.
    pub edits: usize,
    pub held_out_pairs: usize,
    pub before: Standing,
    pub after: Standing,
}

/// The pairs as JSON lines that TRL reads.
pub(super) fn exported<'a>(pairs: impl Iterator<Item = &'a Prepared>) -> String {
    let line = |prepared: &Prepared| serde_json::to_string(&prepared.pair).unwrap_or_default() + "\n";
    pairs.map(line).collect()
}

/// Makes the pairs, or reads those that were made before.
pub(super) fn objective(
    job: &Job<'_>,
    examples: &[Example],
    edits: &[Pair],
    config: &PreferenceConfig,
    directory: &Path,
    progress: &dyn Progress,
    cancel: &CancelFlag,
) -> Result<Objective, RunError> {
    let (edits, wanted) = wanted(examples, edits, config);
    let path = directory.join(FILE);
    let failed = |source| RunError::Io { path: path.clone(), source };
    let mut kept = read_kept(&path).map_err(failed)?;
    let total = edits.len() + wanted.len();
    kept.truncate(total);
    let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
    let maker = PairMaker { job, config };
    for index in kept.len()..total {
        let (done, total) = (index as u64, Some(total as u64));
        let detail = "answers that the author's are preferred to";
        progress.update(ProgressUpdate { stage: "answering", done, total, unit: "pairs", detail });
        let pair = match edits.get(index) {
            Some(edit) => (*edit).clone(),
            None => maker.answered(wanted[index - edits.len()], index as u64, cancel)?,
        };
        if cancel.is_cancelled() {
            return Err(RunError::Cancelled { step: 0 });
        }
        let one = Kept { reference: maker.reference(&pair)?, pair };
        let line = serde_json::to_string(&one).map_err(|error| failed(std::io::Error::other(error)))? + "\n";
        file.write_all(line.as_bytes()).and_then(|()| file.sync_data()).map_err(failed)?;
        kept.push(one);
    }
    let done = total as u64;
    progress.update(ProgressUpdate { stage: "answering", done, total: Some(done), unit: "pairs", detail: "" });
    maker.divided(kept)
}

/// The edits and the examples that pairs are made of, in the order they are made in.
fn wanted<'a>(
    examples: &'a [Example],
    edits: &'a [Pair],
    config: &PreferenceConfig,
) -> (Vec<&'a Pair>, Vec<&'a Example>) {
    let edits: Vec<&Pair> = edits.iter().take(config.pairs).collect();
    let most = |split| match split {
        Split::Train => config.pairs - edits.len(),
        Split::Calibration | Split::Test => config.held_out,
    };
    let mut wanted = Vec::new();
    for split in [Split::Train, Split::Calibration, Split::Test] {
        let all: Vec<&Example> = examples.iter().filter(|example| example.split == split).collect();
        let count = most(split).min(all.len());
        // Spread evenly, so that every document and task has its share.
        wanted.extend((0..count).map(|index| all[index * all.len() / count]));
    }
    (edits, wanted)
}

/// What was kept; a last line that was cut off by a kill is taken away.
fn read_kept(path: &Path) -> std::io::Result<Vec<Kept>> {
    let Ok(text) = fs::read_to_string(path) else { return Ok(Vec::new()) };
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    let kept: Vec<Kept> = whole.lines().map_while(|line| serde_json::from_str(line).ok()).collect();
    let sound: usize = whole.lines().take(kept.len()).map(|line| line.len() + 1).sum();
    if sound < text.len() {
        fs::OpenOptions::new().write(true).open(path)?.set_len(sound as u64)?;
    }
    Ok(kept)
}

struct PairMaker<'a> {
    job: &'a Job<'a>,
    config: &'a PreferenceConfig,
}

impl PairMaker<'_> {
    fn start(&self) -> Option<&Arc<Adapter>> {
        self.job.start.map(|start| &start.adapter)
    }

    /// An example's target and what the model answers.
    fn answered(&self, example: &Example, number: u64, cancel: &CancelFlag) -> Result<Pair, RunError> {
        let adapter = match self.config.answered_by {
            AnsweredBy::Start => self.start().cloned(),
            AnsweredBy::Base => None,
        };
        // As drafts are drawn when they are served: these are the answers that are to become better.
        let seed = self.job.config.seed.wrapping_add(number);
        let sampling = Sampling { seed, ..Sampling::draft(self.config.answer_tokens) };
        let request = GenerateRequest { input: Input::Messages(example.prompt.clone()), adapter, sampling };
        let answer = self.job.model.generate(&request, cancel, &mut |_| ControlFlow::Continue(()))?;
        Ok(Pair {
            split: example.split,
            source: PairSource::Passage,
            prompt: example.prompt.clone(),
            chosen: example.target.clone(),
            rejected: answer.text,
            complete: (example.complete, answer.finish_reason == FinishReason::Stop),
            not_voice: example.not_voice.clone(),
        })
    }

    /// Both answers as tokens, cut to the length that counts.
    fn tokens(&self, pair: &Pair) -> Result<(TrainingExample, TrainingExample), RunError> {
        let encode = |answer: &str, complete: bool, not_voice: &[Range<usize>]| -> Result<_, RunError> {
            let tokenizer = self.job.model.tokenizer();
            let prompt = tokenizer.encode_chat(&pair.prompt, true)?.len();
            let mut example = tokenizer.encode_example(&pair.prompt, answer, complete, not_voice)?;
            let length = (prompt + self.config.answer_tokens).min(self.job.config.max_sequence_tokens);
            example.token_ids.truncate(length);
            example.loss_mask.truncate(length);
            Ok(example)
        };
        let chosen = encode(&pair.chosen, pair.complete.0, &pair.not_voice)?;
        Ok((chosen, encode(&pair.rejected, pair.complete.1, &[])?))
    }

    /// The negative log-likelihoods under the model that training starts from.
    fn reference(&self, pair: &Pair) -> Result<(f64, f64), RunError> {
        let (chosen, rejected) = self.tokens(pair)?;
        let nlls = self.job.model.nll_batch(self.start().map(|adapter| &**adapter), &[chosen, rejected])?;
        Ok((nlls[0].nats, nlls[1].nats))
    }

    /// The pairs by split. One whose answers are the same, or one of which is empty, teaches nothing.
    fn divided(&self, kept: Vec<Kept>) -> Result<Objective, RunError> {
        let (mut train, mut calibration, mut test) = (Vec::new(), Vec::new(), Vec::new());
        for Kept { reference, pair } in kept {
            let (chosen, rejected) = self.tokens(&pair)?;
            if chosen == rejected || chosen.target_tokens() == 0 || rejected.target_tokens() == 0 {
                continue;
            }
            let into = match pair.split {
                Split::Train => &mut train,
                Split::Calibration => &mut calibration,
                Split::Test => &mut test,
            };
            into.push(Prepared { pair, tokens: PreferencePair { chosen, rejected, reference } });
        }
        let train = some(train, self.job, Split::Train)?;
        let calibration = some(calibration, self.job, Split::Calibration)?;
        Ok(Objective::Preference { train, calibration, test, config: self.config.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_is_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let pair = Pair {
            split: Split::Train,
            source: PairSource::Passage,
            prompt: vec![ChatMessage::user("Write.")],
            chosen: "One.".into(),
            rejected: "Two.".into(),
            complete: (true, false),
            not_voice: vec![],
        };
        let line = serde_json::to_string(&Kept { reference: (1.0, 2.0), pair: pair.clone() }).unwrap();
        std::fs::write(&path, format!("{line}\n{line}\n{}", &line[..20])).unwrap();
        let kept = read_kept(&path).unwrap();
        assert_eq!(kept.len(), 2);
        assert_eq!(kept[1].pair, pair);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{line}\n{line}\n"));
    }

    #[test]
    fn edits_are_read_as_trl_writes_them_and_a_bad_line_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edits.jsonl");
        let good = r#"{"prompt": [{"role": "user", "content": "Hi"}], "chosen": "Hello.", "rejected": "Greetings!"}"#;
        std::fs::write(&path, format!("{good}\n\n{good}\n")).unwrap();
        let pairs = Pair::read(&path).unwrap();
        assert_eq!(pairs.len(), 2);
        assert_eq!((pairs[0].source, pairs[0].split), (PairSource::Edit, Split::Train));
        std::fs::write(&path, format!("{good}\n{{\"prompt\": 1}}\n")).unwrap();
        assert!(Pair::read(&path).unwrap_err().to_string().starts_with("line 2 of"));
    }
}
