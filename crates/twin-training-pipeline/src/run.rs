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
use twin_domain::{BaseModel, CancelFlag, Digest, ModelVersionId, Progress, ProgressUpdate, TrainingSet};
use twin_models::language::{
    Adapter, AdapterError, CheckpointError, GenerateError, Llama, TokenizerError, TrainError, Trainer,
};

use crate::curve::{Curve, DrawError, StepPoint, ValidationPoint};
use crate::schedule::learning_rate;

use self::batches::{Cursor, next_batch};
use self::files::RunFiles;
use self::objective::{Look, Objective, Taken};

pub use self::config::{ConfigError, TrainingConfig};
pub use self::manifest::{RunManifest, RunSummary, run, runs};
pub use self::material::Material;
pub use self::options::{OptionsError, Preset, TrainingOptions};
pub use self::pairs::{AnsweredBy, Pair, PairSource, PreferenceConfig, PreferenceReport, Standing};

mod batches;
mod config;
mod files;
mod manifest;
mod material;
mod memory;
mod objective;
mod options;
mod pairs;
#[cfg(test)]
mod tests;

/// How an adapter learns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Supervised fine-tuning on prompts with the author's passages as answers.
    #[default]
    Sft,
    /// Continued pre-training on the posts as they are, without prompts.
    Pretrain,
    /// Elsewhere, as an adapter that was imported.
    Imported,
    /// Direct preference optimisation: the author's passages against a model's answers to the same prompts.
    Dpo,
}

impl Method {
    /// The name in files and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Pretrain => "pretrain",
            Self::Dpo => "dpo",
            Self::Imported => "imported",
        }
    }
}

/// The registered version that a run goes on from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    pub id: ModelVersionId,
    /// The digest of what the version consists of.
    pub content: Digest,
}

/// A version and its adapter.
pub struct Start {
    pub parent: Parent,
    pub adapter: Arc<Adapter>,
}

/// What a run works with, whatever its method.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    pub model: &'a Arc<Llama>,
    pub base: &'a BaseModel,
    pub set: &'a TrainingSet,
    pub config: &'a TrainingConfig,
    /// Where training starts: a fresh adapter when there is no other. DPO keeps near to it.
    pub start: Option<&'a Start>,
    /// The directory that all runs are below.
    pub runs: &'a Path,
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
    #[error(
        "training needs about {needed} MB besides the model, and {available} MB are free: close other programs, or choose a \
         smaller rank than {rank}, shorter sequences (`max_sequence_tokens`) or a smaller base"
    )]
    Memory { needed: u64, available: u64, rank: usize },
    #[error("{found} runs are called `{name}`: `twin runs list` shows them")]
    NoSuchRun { name: String, found: usize },
    #[error("the run cannot be made as it is told")]
    Config(#[from] ConfigError),
    #[error("the trainer failed")]
    Trainer(#[from] TrainError),
    #[error("a checkpoint could not be written or read")]
    TrainerState(#[from] CheckpointError),
    #[error("the adapter could not be written or read")]
    Adapter(#[from] AdapterError),
    #[error("an example could not be turned into tokens")]
    Tokenizer(#[from] TokenizerError),
    #[error("the model could not write an answer to prefer the author's to")]
    Generate(#[from] GenerateError),
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
    #[serde(default)]
    pub method: Method,
    #[serde(default)]
    pub parent: Option<Parent>,
    pub config: TrainingConfig,
    pub train_examples: usize,
    pub calibration_examples: usize,
    /// Steps that were taken.
    pub steps: usize,
    /// The step whose adapter was kept: the one with the lowest calibration loss.
    pub best_step: usize,
    /// Mean loss on the calibration examples before training and at the best step: in nats a token; of DPO, a pair.
    pub calibration_loss_before: f64,
    pub calibration_loss: f64,
    /// Tokens that went through training, prompts included, and those of them in the loss.
    pub tokens: u64,
    pub target_tokens: u64,
    /// Seconds of training, calibration included, over all the times the run was taken up.
    pub seconds: f64,
    /// How long the run was expected to take, where it was long enough for that.
    #[serde(default)]
    pub estimate: Option<Estimate>,
    /// What the run was expected to need besides the model, in bytes.
    #[serde(default)]
    pub memory_bytes: u64,
    /// How pairs that no step was taken on stand, where the method is DPO.
    #[serde(default)]
    pub preference: Option<PreferenceReport>,
}

impl RunReport {
    /// The report of a run that took no step.
    pub(crate) fn of(base: &BaseModel) -> Self {
        Self {
            base: base.clone(),
            method: Method::default(),
            parent: None,
            config: TrainingConfig::default(),
            train_examples: 0,
            calibration_examples: 0,
            steps: 0,
            best_step: 0,
            calibration_loss_before: 0.0,
            calibration_loss: 0.0,
            tokens: 0,
            target_tokens: 0,
            seconds: 0.0,
            estimate: None,
            memory_bytes: 0,
            preference: None,
        }
    }
}

/// An expectation of how long a run takes if it is not stopped early.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// After how many steps it was made.
    pub at_step: usize,
    /// Of all steps that were planned, from the first to the last, with the looks between them.
    pub seconds: f64,
    pub planned_steps: usize,
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
#[serde(default)]
struct Progressed {
    step: usize,
    cursor: Cursor,
    curve: Curve,
    tokens: u64,
    target_tokens: u64,
    seconds: f64,
    looks_without_gain: usize,
    /// Seconds of looks alone, and how many there were.
    look_seconds: f64,
    looks: usize,
    estimate: Option<Estimate>,
}

/// An estimate is made after this many steps.
const ESTIMATE_AT: usize = 20;

/// Trains an adapter, or recognises that this was done. Checkpoints and results are kept below `job.runs`.
///
/// # Errors
/// [`RunError::Cancelled`] when the flag was set, after a checkpoint; otherwise when the trainer or a file fails.
pub fn train(
    job: &Job<'_>,
    material: &Material<'_>,
    progress: &dyn Progress,
    cancel: &CancelFlag,
) -> Result<FinishedRun, RunError> {
    let directory = job.runs.join(run_name(job, material));
    if let Some(report) = finished(&directory) {
        return Ok(FinishedRun { report, directory, recognised: true });
    }
    job.config.check()?;
    // Both answers of a pair are computed together.
    let longest = job.config.max_sequence_tokens * if material.method() == Method::Dpo { 2 } else { 1 };
    let memory_bytes = memory::check(job, longest)?;
    let at = |source| RunError::Io { path: directory.clone(), source };
    fs::create_dir_all(&directory).map_err(at)?;
    RunManifest::of(job, material).keep(&directory).map_err(at)?;
    let files = RunFiles::new(&directory, job.base);
    let objective = material.objective(job, &directory, progress, cancel)?;
    let trainer = fresh_trainer(job)?;
    let (state, taken_up) = (Progressed::default(), (Instant::now(), Progressed::default()));
    let method = material.method();
    let mut run = Run { trainer, job: *job, method, objective, memory_bytes, files, state, taken_up };
    run.take_up()?;
    run.run_to_the_end(progress, cancel)?;
    let report = run.finish(cancel)?;
    Ok(FinishedRun { report, directory, recognised: false })
}

fn fresh_trainer(job: &Job<'_>) -> Result<Trainer, TrainError> {
    let model = Arc::clone(job.model);
    match job.start {
        None => Trainer::new(model, job.config.trainer(None)),
        Some(start) => {
            let config = job.config.trainer(Some(start.adapter.config()));
            Trainer::continuing(model, config, &start.adapter)
        }
    }
}

/// The name of a run: a digest of all that determines its result. Plain fine-tuning has the name it always had.
fn run_name(job: &Job<'_>, material: &Material<'_>) -> String {
    let Job { base, set, config, start, .. } = job;
    let digest = match (start, material) {
        (None, Material::Examples(_)) => Digest::of_json(&(base, &set.content, config)),
        _ => {
            let parent = start.map(|start| &start.parent.content);
            Digest::of_json(&(base, &set.content, config, parent, material.method(), material.told()))
        }
    };
    format!("run-{}", digest.short())
}

fn finished(directory: &Path) -> Option<RunReport> {
    // The report is written last, into a directory that is renamed into place when it is complete.
    let text = fs::read_to_string(directory.join("artefacts/training.json")).ok()?;
    serde_json::from_str(&text).ok()
}

struct Run<'a> {
    trainer: Trainer,
    job: Job<'a>,
    method: Method,
    objective: Objective,
    memory_bytes: u64,
    files: RunFiles,
    state: Progressed,
    /// When this process took the run up, and how much it had done by then.
    taken_up: (Instant, Progressed),
}

impl Run<'_> {
    /// The steps the run has if it is not stopped early.
    fn planned_steps(&self) -> usize {
        let (config, tokens) = (self.job.config, self.objective.lengths().iter().sum::<usize>());
        let by_epochs = (config.epochs * tokens as f64 / config.batch_tokens.max(1) as f64).ceil() as usize;
        by_epochs.clamp(1, config.max_steps.max(1))
    }

    /// Goes back to the last checkpoint, if there is one.
    fn take_up(&mut self) -> Result<(), RunError> {
        if let Some((state, trainer)) = self.files.last_checkpoint()? {
            let config = self.job.config.trainer(self.job.start.map(|start| start.adapter.config()));
            self.trainer = Trainer::resume(Arc::clone(self.job.model), config, &trainer)?;
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
        while self.state.step < steps && self.state.looks_without_gain < self.job.config.patience {
            self.tell(progress, steps);
            if cancel.is_cancelled() {
                self.checkpoint()?;
                return Err(RunError::Cancelled { step: self.state.step });
            }
            self.step(steps)?;
            if self.state.step.is_multiple_of(self.job.config.validate_every.max(1)) || self.state.step == steps {
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
        let began = Instant::now();
        let (config, lengths) = (self.job.config, self.objective.lengths());
        let batch = next_batch(&lengths, config.batch_tokens, config.seed, &mut self.state.cursor);
        let warmup = ((steps as f64 * config.warmup).ceil() as usize).max(1);
        let rate = learning_rate(self.state.step, steps, warmup, config.learning_rate);
        let Taken { loss, parts, target_tokens } = self.objective.accumulate(&mut self.trainer, &batch)?;
        let state = &mut self.state;
        state.step += 1;
        if !loss.is_finite() {
            return Err(RunError::NotFinite { step: state.step, loss, learning_rate: rate });
        }
        let applied = self.trainer.apply(rate as f32, Some(config.clip_norm as f32), parts)?;
        state.tokens += batch.iter().map(|index| lengths[*index] as u64).sum::<u64>();
        state.target_tokens += target_tokens as u64;
        state.curve.steps.push(StepPoint {
            step: state.step,
            loss,
            learning_rate: rate,
            gradient_norm: applied.gradient_norm,
            tokens: state.tokens,
            seconds: began.elapsed().as_secs_f64(),
        });
        if self.state.step == ESTIMATE_AT {
            let (at_step, seconds) = (self.state.step, self.expected(steps));
            self.state.estimate = Some(Estimate { at_step, planned_steps: steps, seconds });
        }
        Ok(())
    }

    /// How long all steps take, at the pace of those that were taken.
    fn expected(&self, steps: usize) -> f64 {
        let (state, config) = (&self.state, self.job.config);
        // The first steps touch memory for the first time.
        let paced = &state.curve.steps[state.curve.steps.len().min(2).min(state.curve.steps.len() / 2)..];
        let a_step = paced.iter().map(|point| point.seconds).sum::<f64>() / paced.len().max(1) as f64;
        let looks = 1 + steps.div_ceil(config.validate_every.max(1));
        a_step * steps as f64 + state.look_seconds / state.looks.max(1) as f64 * looks as f64
    }

    /// Measures the calibration loss.
    fn look(&mut self, cancel: &CancelFlag) -> Result<(), RunError> {
        let (step, began) = (self.state.step, Instant::now());
        let looked = self.objective.look(self.job.model, self.trainer.adapter(), cancel)?;
        let Some(Look { loss, margin, nll }) = looked else { return Err(RunError::Cancelled { step }) };
        let before = self.state.curve.validation.first().and_then(|first| first.nll);
        self.state.look_seconds += began.elapsed().as_secs_f64();
        self.state.looks += 1;
        // An adapter that prefers the author's words but predicts them worse is no better.
        let refused = before.zip(nll).is_some_and(|(before, now)| now > before * pairs::NLL_LIMIT);
        self.state.curve.validation.push(ValidationPoint { step, loss, margin, nll, refused });
        Ok(())
    }

    fn tell(&self, progress: &dyn Progress, steps: usize) {
        let (started, before) = &self.taken_up;
        let rate = (self.state.tokens - before.tokens) as f64 / started.elapsed().as_secs_f64().max(1e-9);
        let detail = match (self.state.curve.steps.last(), self.state.curve.validation.last()) {
            (Some(last), Some(look)) => {
                let left = self.state.estimate.map_or_else(String::new, |_| {
                    let spent: f64 = self.state.curve.steps.iter().map(|step| step.seconds).sum();
                    let left = self.expected(steps) - spent - self.state.look_seconds;
                    format!(" · about {:.0} min of training left", (left / 60.0).max(0.0).ceil())
                });
                format!("loss {:.3} · validation {:.3} · {rate:.0} tokens/s{left}", last.loss, look.loss)
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

    fn finish(mut self, cancel: &CancelFlag) -> Result<RunReport, RunError> {
        self.state.seconds = self.taken_up.1.seconds + self.taken_up.0.elapsed().as_secs_f64();
        let state = &self.state;
        let before = state.curve.validation.first().map_or(0.0, |point| point.loss);
        let unchanged = ValidationPoint { step: 0, loss: before, ..ValidationPoint::default() };
        let best = state.curve.best().unwrap_or(unchanged);
        let adapter = self.files.best(best.step, self.job.model)?;
        let Some(preference) = self.objective.report(&self.job, &adapter, cancel)? else {
            return Err(RunError::Cancelled { step: state.step });
        };
        let (train_examples, calibration_examples) = self.objective.sizes();
        let report = RunReport {
            base: self.job.base.clone(),
            method: self.method,
            parent: self.job.start.map(|start| start.parent.clone()),
            config: self.job.config.clone(),
            train_examples,
            calibration_examples,
            steps: state.step,
            best_step: best.step,
            calibration_loss_before: before,
            calibration_loss: best.loss,
            tokens: state.tokens,
            target_tokens: state.target_tokens,
            seconds: state.seconds,
            estimate: state.estimate,
            memory_bytes: self.memory_bytes,
            preference,
        };
        self.files.finish(&report, &state.curve, &adapter, &self.objective.exported())?;
        Ok(report)
    }
}
