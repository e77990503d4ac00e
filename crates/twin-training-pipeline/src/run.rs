//! A training run: LoRA fine-tuning on a training set, with checkpoints, early stopping and a loss curve.
//!
//! A run lives in a directory named by all that determines its result. Killed at any moment and started again, it goes on
//! from its last checkpoint and ends with the same adapter; a run that ended is recognised and not repeated.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use fs_err as fs;
use serde::{Deserialize, Serialize};
use twin_domain::{BaseModel, CancelFlag, Digest, Example, Progress, ProgressUpdate, Split, TrainingSet};
use twin_models::language::{
    AdamWConfig, AdapterError, CheckpointError, Llama, LoraConfig, Projection, StepLoss, TokenizerError, TrainError,
    Trainer, TrainerConfig, TrainingExample,
};

use crate::curve::{Curve, DrawError, StepPoint, ValidationPoint};
use crate::schedule::learning_rate;

use self::batches::{Cursor, next_batch};
use self::files::RunFiles;

mod batches;
mod files;

/// All that a run is told. Together with the training set and the base model it determines the adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingConfig {
    /// Rank of the adapter's matrices.
    pub rank: usize,
    /// The adapter's output is scaled by `alpha / rank`, so that the rank can change without retuning the rate.
    pub alpha: f32,
    /// Share of the adapter's inputs that are zeroed while training.
    pub dropout: f32,
    /// The projections that get an adapter.
    pub target_modules: Vec<Projection>,
    /// Peak of the learning rate.
    pub learning_rate: f64,
    /// Share of the steps over which the rate rises.
    pub warmup: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Gradients with a larger norm are scaled down to it.
    pub clip_norm: f64,
    /// Gradients are accumulated over at least so many tokens before each step.
    pub batch_tokens: usize,
    /// Longer sequences are cut.
    pub max_sequence_tokens: usize,
    /// The most passes over the examples.
    pub epochs: f64,
    /// The most optimiser steps.
    pub max_steps: usize,
    /// Steps between looks at the calibration examples; a checkpoint is written at each.
    pub validate_every: usize,
    /// The most tokens of calibration examples that a look takes.
    pub validation_tokens: usize,
    /// The run ends after so many looks without a lower loss.
    pub patience: usize,
    /// Seed of initialisation, order and dropout.
    pub seed: u64,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            dropout: 0.05,
            target_modules: Projection::ALL.to_vec(),
            learning_rate: 1e-3,
            warmup: 0.05,
            weight_decay: 0.01,
            clip_norm: 1.0,
            batch_tokens: 1024,
            max_sequence_tokens: 512,
            epochs: 3.0,
            max_steps: 400,
            validate_every: 10,
            // A look costs a third of a step of as many tokens; this many tell one step from the next.
            validation_tokens: 2048,
            patience: 3,
            seed: 17,
        }
    }
}

impl TrainingConfig {
    fn trainer(&self) -> TrainerConfig {
        let lora = LoraConfig {
            rank: self.rank,
            alpha: self.alpha,
            dropout: self.dropout,
            target_modules: self.target_modules.clone(),
            ..LoraConfig::default()
        };
        let adamw = AdamWConfig { weight_decay: self.weight_decay as f32, ..AdamWConfig::default() };
        TrainerConfig { lora, adamw, seed: self.seed, ..TrainerConfig::default() }
    }
}

/// Why a run did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the run was stopped after step {step}; run the same command again to go on from there")]
    Cancelled { step: usize },
    #[error("the loss became {loss} at step {step}: lower the learning rate, now {learning_rate}")]
    NotFinite { step: usize, loss: f64, learning_rate: f64 },
    #[error("no {split} example of training set `{set}` fits into {max_tokens} tokens: allow longer sequences")]
    NothingFits { split: &'static str, set: String, max_tokens: usize },
    #[error("the trainer failed")]
    Trainer(#[from] TrainError),
    #[error("a checkpoint could not be written or read")]
    TrainerState(#[from] CheckpointError),
    #[error("the adapter could not be written or read")]
    Adapter(#[from] AdapterError),
    #[error("an example could not be turned into tokens")]
    Tokenizer(#[from] TokenizerError),
    #[error("the run directory `{path}` could not be used")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the checkpoint `{path}` cannot be read: delete it to go back to the start of the run")]
    Checkpoint {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error(transparent)]
    Draw(#[from] DrawError),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    pub base: BaseModel,
    pub config: TrainingConfig,
    pub train_examples: usize,
    pub calibration_examples: usize,
    /// Steps that were taken.
    pub steps: usize,
    /// The step whose adapter was kept: the one with the lowest calibration loss.
    pub best_step: usize,
    /// Mean loss on the calibration examples before training and at the best step, in nats a token.
    pub calibration_loss_before: f64,
    pub calibration_loss: f64,
    /// Tokens that went through training, prompts included, and those of them in the loss.
    pub tokens: u64,
    pub target_tokens: u64,
    /// Seconds of training, calibration included, over all the times the run was taken up.
    pub seconds: f64,
}

/// A run that ended, and where its files are: the adapter in PEFT's layout, `training.json`, `curve.json`, `curve.svg`.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedRun {
    pub report: RunReport,
    pub directory: PathBuf,
    /// Whether it had ended before and nothing was done now.
    pub recognised: bool,
}

impl FinishedRun {
    /// The directory with the adapter and the reports.
    pub fn artefacts(&self) -> PathBuf {
        self.directory.join("artefacts")
    }
}

/// The state that a checkpoint holds besides the trainer's own.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Progressed {
    step: usize,
    cursor: Cursor,
    curve: Curve,
    tokens: u64,
    target_tokens: u64,
    seconds: f64,
    looks_without_gain: usize,
}

/// Trains an adapter for `base` on `set`, or recognises that this was done. Checkpoints and results are kept below `runs`.
///
/// # Errors
/// [`RunError::Cancelled`] when the flag was set, after a checkpoint; otherwise when the trainer or a file fails.
#[expect(clippy::too_many_arguments, reason = "what a run is made of, each named by its type")]
pub fn train(
    model: &Arc<Llama>,
    base: &BaseModel,
    set: &TrainingSet,
    examples: &[Example],
    config: &TrainingConfig,
    runs: &Path,
    progress: &dyn Progress,
    cancel: &CancelFlag,
) -> Result<FinishedRun, RunError> {
    let directory = runs.join(run_name(base, set, config));
    if let Some(report) = finished(&directory) {
        return Ok(FinishedRun { report, directory, recognised: true });
    }
    let at = |source| RunError::Io { path: directory.clone(), source };
    fs::create_dir_all(&directory).map_err(at)?;

    let mut run = Run {
        trainer: Trainer::new(Arc::clone(model), config.trainer())?,
        model,
        train: sequences(model, set, examples, Split::Train, config)?,
        calibration: within(sequences(model, set, examples, Split::Calibration, config)?, config.validation_tokens),
        config,
        files: RunFiles::new(&directory, base),
        state: Progressed::default(),
        taken_up: (Instant::now(), Progressed::default()),
    };
    run.take_up()?;
    run.run_to_the_end(progress, cancel)?;
    let report = run.finish(base)?;
    Ok(FinishedRun { report, directory, recognised: false })
}

/// The name of the run with this base, set and configuration.
fn run_name(base: &BaseModel, set: &TrainingSet, config: &TrainingConfig) -> String {
    format!("run-{}", Digest::of_json(&(base, &set.content, config)).short())
}

fn finished(directory: &Path) -> Option<RunReport> {
    // The report is written last, into a directory that is renamed into place when it is complete.
    let text = fs::read_to_string(directory.join("artefacts/training.json")).ok()?;
    serde_json::from_str(&text).ok()
}

/// The examples of a split as tokens. A sequence that is too long loses the end of its target, never a part of its prompt.
fn sequences(
    model: &Llama,
    set: &TrainingSet,
    examples: &[Example],
    split: Split,
    config: &TrainingConfig,
) -> Result<Vec<TrainingExample>, RunError> {
    let mut made = Vec::new();
    for example in examples.iter().filter(|example| example.split == split) {
        let Example { prompt, target, complete, not_voice, .. } = example;
        let mut sequence = model.tokenizer().encode_example(prompt, target, *complete, not_voice)?;
        sequence.token_ids.truncate(config.max_sequence_tokens);
        sequence.loss_mask.truncate(config.max_sequence_tokens);
        if sequence.target_tokens() > 0 {
            made.push(sequence);
        }
    }
    let max_tokens = config.max_sequence_tokens;
    let nothing = || RunError::NothingFits { split: split.as_str(), set: set.id.to_string(), max_tokens };
    if made.is_empty() { Err(nothing()) } else { Ok(made) }
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

struct Run<'a> {
    trainer: Trainer,
    model: &'a Arc<Llama>,
    train: Vec<TrainingExample>,
    calibration: Vec<TrainingExample>,
    config: &'a TrainingConfig,
    files: RunFiles,
    state: Progressed,
    /// When this process took the run up, and how much it had done by then.
    taken_up: (Instant, Progressed),
}

impl Run<'_> {
    /// The steps the run has if it is not stopped early.
    fn planned_steps(&self) -> usize {
        let tokens: usize = self.train.iter().map(|sequence| sequence.token_ids.len()).sum();
        let by_epochs = (self.config.epochs * tokens as f64 / self.config.batch_tokens as f64).ceil() as usize;
        by_epochs.clamp(1, self.config.max_steps.max(1))
    }

    /// Goes back to the last checkpoint, if there is one.
    fn take_up(&mut self) -> Result<(), RunError> {
        if let Some((state, trainer)) = self.files.last_checkpoint()? {
            self.trainer = Trainer::resume(Arc::clone(self.model), self.config.trainer(), &trainer)?;
            self.state = state;
        }
        self.taken_up = (Instant::now(), self.state.clone());
        Ok(())
    }

    fn run_to_the_end(&mut self, progress: &dyn Progress, cancel: &CancelFlag) -> Result<(), RunError> {
        let steps = self.planned_steps();
        if self.state.curve.validation.is_empty() {
            self.look(cancel)?;
            self.files.keep_best(0, &self.trainer)?;
        }
        while self.state.step < steps && self.state.looks_without_gain < self.config.patience {
            self.tell(progress, steps);
            if cancel.is_cancelled() {
                self.checkpoint()?;
                return Err(RunError::Cancelled { step: self.state.step });
            }
            self.step(steps)?;
            if self.state.step.is_multiple_of(self.config.validate_every) || self.state.step == steps {
                self.look(cancel)?;
                let gained = self.state.curve.best().is_some_and(|best| best.step == self.state.step);
                self.state.looks_without_gain = if gained { 0 } else { self.state.looks_without_gain + 1 };
                if gained {
                    self.files.keep_best(self.state.step, &self.trainer)?;
                }
                self.checkpoint()?;
            }
        }
        // A run that stops early is complete for whoever watches.
        self.tell(progress, self.state.step);
        Ok(())
    }

    fn step(&mut self, steps: usize) -> Result<(), RunError> {
        let lengths: Vec<usize> = self.train.iter().map(|sequence| sequence.token_ids.len()).collect();
        let batch = next_batch(&lengths, self.config.batch_tokens, self.config.seed, &mut self.state.cursor);
        let warmup = ((steps as f64 * self.config.warmup).ceil() as usize).max(1);
        let rate = learning_rate(self.state.step, steps, warmup, self.config.learning_rate);
        let examples: Vec<TrainingExample> = batch.iter().map(|index| self.train[*index].clone()).collect();
        let StepLoss { nll_sum, target_tokens } = self.trainer.accumulate(&examples)?;
        let loss = nll_sum / target_tokens.max(1) as f64;
        let state = &mut self.state;
        state.step += 1;
        if !loss.is_finite() {
            return Err(RunError::NotFinite { step: state.step, loss, learning_rate: rate });
        }
        let applied = self.trainer.apply(rate as f32, Some(self.config.clip_norm as f32), target_tokens)?;
        state.tokens += batch.iter().map(|index| lengths[*index] as u64).sum::<u64>();
        state.target_tokens += target_tokens as u64;
        state.curve.steps.push(StepPoint {
            step: state.step,
            loss,
            learning_rate: rate,
            gradient_norm: applied.gradient_norm,
            tokens: state.tokens,
        });
        Ok(())
    }

    /// Measures the calibration loss.
    fn look(&mut self, cancel: &CancelFlag) -> Result<(), RunError> {
        let mut nats = 0.0;
        let mut tokens = 0;
        // A few at a time, so that Ctrl-C does not have to wait for all.
        for part in self.calibration.chunks(8) {
            if cancel.is_cancelled() {
                return Err(RunError::Cancelled { step: self.state.step });
            }
            for nll in self.model.nll_batch(Some(self.trainer.adapter()), part)? {
                nats += nll.nats;
                tokens += nll.tokens;
            }
        }
        let loss = nats / tokens.max(1) as f64;
        self.state.curve.validation.push(ValidationPoint { step: self.state.step, loss });
        Ok(())
    }

    fn tell(&self, progress: &dyn Progress, steps: usize) {
        let (started, before) = &self.taken_up;
        let rate = (self.state.tokens - before.tokens) as f64 / started.elapsed().as_secs_f64().max(1e-9);
        let detail = match (self.state.curve.steps.last(), self.state.curve.validation.last()) {
            (Some(last), Some(look)) => {
                format!("loss {:.3} · validation {:.3} · {rate:.0} tokens/s", last.loss, look.loss)
            }
            _ => String::new(),
        };
        let (done, total) = (self.state.step as u64, Some(steps as u64));
        progress.update(ProgressUpdate { stage: "training", done, total, unit: "steps", detail: &detail });
    }

    fn checkpoint(&mut self) -> Result<(), RunError> {
        self.state.seconds = self.taken_up.1.seconds + self.taken_up.0.elapsed().as_secs_f64();
        self.files.checkpoint(&self.state, &self.trainer)
    }

    fn finish(mut self, base: &BaseModel) -> Result<RunReport, RunError> {
        self.state.seconds = self.taken_up.1.seconds + self.taken_up.0.elapsed().as_secs_f64();
        let state = &self.state;
        let before = state.curve.validation.first().map_or(0.0, |point| point.loss);
        let best = state.curve.best().unwrap_or(ValidationPoint { step: 0, loss: before });
        let report = RunReport {
            base: base.clone(),
            config: self.config.clone(),
            train_examples: self.train.len(),
            calibration_examples: self.calibration.len(),
            steps: state.step,
            best_step: best.step,
            calibration_loss_before: before,
            calibration_loss: best.loss,
            tokens: state.tokens,
            target_tokens: state.target_tokens,
            seconds: state.seconds,
        };
        self.files.finish(&report, &state.curve, self.model)?;
        Ok(report)
    }
}
