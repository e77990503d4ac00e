//! What a training run is told.

use serde::{Deserialize, Serialize};
use twin_models::language::{AdamWConfig, LoraConfig, Projection, TrainerConfig};

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

/// A setting with which no run can be made.
#[derive(Debug, thiserror::Error)]
#[error("`{setting}` is {value}, and must be {range}")]
pub struct ConfigError {
    pub setting: &'static str,
    pub value: f64,
    pub range: &'static str,
}

impl TrainingConfig {
    /// Looks at every number that has a range of its own; the rank's depends on the model.
    ///
    /// # Errors
    /// [`ConfigError`] for the first that is outside.
    pub fn check(&self) -> Result<(), ConfigError> {
        let ranges =
            [("above 0", f64::MIN_POSITIVE, f64::MAX), ("from 0 to 1", 0.0, 1.0), ("0 or more", 0.0, f64::MAX)];
        let [positive, share, any] = ranges;
        let whole = ("1 or more", 1.0, f64::MAX);
        let settings = [
            ("alpha", f64::from(self.alpha), positive),
            ("dropout", f64::from(self.dropout), ("from 0 to below 1", 0.0, 1.0 - f64::EPSILON)),
            ("learning_rate", self.learning_rate, positive),
            ("warmup", self.warmup, share),
            ("weight_decay", self.weight_decay, any),
            ("clip_norm", self.clip_norm, positive),
            ("batch_tokens", self.batch_tokens as f64, whole),
            ("max_sequence_tokens", self.max_sequence_tokens as f64, ("2 or more", 2.0, f64::MAX)),
            ("epochs", self.epochs, positive),
            ("max_steps", self.max_steps as f64, whole),
            ("validate_every", self.validate_every as f64, whole),
            ("validation_tokens", self.validation_tokens as f64, whole),
            ("patience", self.patience as f64, whole),
        ];
        let outside = settings.into_iter().find(|(_, value, (_, least, most))| !(least..=most).contains(&value));
        outside.map_or(Ok(()), |(setting, value, (range, ..))| Err(ConfigError { setting, value, range }))
    }

    /// As the trainer takes it. An adapter that training goes on from decides about all but the dropout.
    pub(super) fn trainer(&self, start: Option<&LoraConfig>) -> TrainerConfig {
        let own = LoraConfig {
            rank: self.rank,
            alpha: self.alpha,
            dropout: self.dropout,
            target_modules: self.target_modules.clone(),
            ..LoraConfig::default()
        };
        let lora = start.map_or(own, |start| LoraConfig { dropout: self.dropout, ..start.clone() });
        let adamw = AdamWConfig { weight_decay: self.weight_decay as f32, ..AdamWConfig::default() };
        TrainerConfig { lora, adamw, seed: self.seed, ..TrainerConfig::default() }
    }
}
