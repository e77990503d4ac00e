//! Fine-tuning an adapter: gradients of packed examples, then steps of AdamW.
//!
//! The frozen base is borrowed, never changed. How many examples make a step, the learning rate's course and when to stop
//! are the caller's; for a fixed seed and number of threads the result is the same to the last bit.

use std::ops::{Add, AddAssign};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::backward::BackwardScratch;
use super::decoder::{Decoder, LayerTape, Rows, Scratch, fit};
use super::llama::Llama;
use super::lora::{Adapter, Group, LoraConfig, LoraConfigError};
use super::loss::{CHUNK, LossScratch, Target};
use super::ops::{Dropout, mix};
use super::optimizer::{AdamW, AdamWConfig, norm};

/// Tokens with the ones that are learned.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingExample {
    pub token_ids: Vec<u32>,
    /// Per token, whether it is a target: predicted from those before it. The first token never is.
    pub loss_mask: Vec<bool>,
    /// What the gradient of this example's loss is multiplied by; 1 for supervised fine-tuning. A preference loss uses
    /// others, negative ones too.
    pub weight: f32,
}

impl TrainingExample {
    /// An example of weight 1.
    pub fn new(token_ids: Vec<u32>, loss_mask: Vec<bool>) -> Self {
        Self { token_ids, loss_mask, weight: 1.0 }
    }

    /// How many tokens are targets.
    pub fn target_tokens(&self) -> usize {
        self.loss_mask.iter().skip(1).filter(|target| **target).count()
    }

    /// Checks that the example can be given to a model.
    pub(crate) fn validate(&self, model: &Llama) -> Result<(), TrainError> {
        let (tokens, mask) = (self.token_ids.len(), self.loss_mask.len());
        if tokens != mask {
            return Err(TrainError::MaskLength { tokens, mask });
        }
        let context_length = model.context_length();
        if tokens > context_length {
            return Err(TrainError::TooLong { tokens, context_length });
        }
        let vocab_size = model.sizes().vocab_size;
        match self.token_ids.iter().find(|token| **token as usize >= vocab_size) {
            Some(&token) => Err(TrainError::UnknownToken { token, vocab_size }),
            None => Ok(()),
        }
    }

    /// The targets of this example when its rows start at `first`.
    pub(crate) fn targets(&self, first: usize) -> impl Iterator<Item = Target> + '_ {
        (1..self.token_ids.len())
            .filter(|at| self.loss_mask[*at])
            .map(move |at| Target { row: first + at - 1, token: self.token_ids[at] })
    }
}

/// What to train, and with how much memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainerConfig {
    pub lora: LoraConfig,
    pub adamw: AdamWConfig,
    /// Of the adapter's first values and of dropout.
    pub seed: u64,
    /// Short examples are computed together up to this many tokens. Each still sees only itself.
    pub pack_tokens: usize,
    /// What may be spent on keeping activations for the backward pass. Layers for which it does not suffice are computed a
    /// second time instead.
    pub activation_memory_bytes: usize,
}

impl Default for TrainerConfig {
    fn default() -> Self {
        Self {
            lora: LoraConfig::default(),
            adamw: AdamWConfig::default(),
            seed: 0,
            pack_tokens: 512,
            activation_memory_bytes: 512 << 20,
        }
    }
}

/// Why training or evaluation refused its input or stopped.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("an example has {tokens} tokens and a loss mask of {mask}: give one mask entry per token")]
    MaskLength { tokens: usize, mask: usize },
    #[error("an example has {tokens} tokens, the model's context only {context_length}: cut it into shorter ones")]
    TooLong { tokens: usize, context_length: usize },
    #[error("token {token} is not in the vocabulary of {vocab_size}: the example was made with another tokenizer")]
    UnknownToken { token: u32, vocab_size: usize },
    #[error("the adapter was made for another base model")]
    AdapterMismatch,
    #[error("the model was loaded for answers only, with rounded weights: load all of it to train it")]
    Rounded,
    #[error("the adapter cannot be made")]
    Lora(#[from] LoraConfigError),
    #[error("the gradient is not finite: the step was left out; lower the learning rate if it happens again")]
    NotFinite,
    #[error("a step needs at least one target token, and there was none since the last step")]
    NoTargets,
}

/// A sum of losses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepLoss {
    /// Negative log-likelihood of the targets in nats, unweighted.
    pub nll_sum: f64,
    pub target_tokens: usize,
}

impl StepLoss {
    /// Nats per target; 0 without targets.
    pub fn mean(&self) -> f64 {
        if self.target_tokens == 0 { 0.0 } else { self.nll_sum / self.target_tokens as f64 }
    }
}

impl AddAssign for StepLoss {
    fn add_assign(&mut self, other: Self) {
        self.nll_sum += other.nll_sum;
        self.target_tokens += other.target_tokens;
    }
}

impl Add for StepLoss {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

/// A step that was taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// The Euclidean norm of the mean gradient before clipping.
    pub gradient_norm: f64,
    /// Steps taken so far.
    pub step: u64,
}

/// An adapter in training.
pub struct Trainer {
    model: Arc<Llama>,
    config: TrainerConfig,
    adapter: Adapter,
    gradients: Vec<f32>,
    optimizer: AdamW,
    /// Packs since the last step; part of the dropout's key.
    packs: u64,
    buffers: Buffers,
}

/// Buffers that live as long as the trainer: giving memory back after every step costs a third of the time.
#[derive(Default)]
struct Buffers {
    tapes: Vec<LayerTape>,
    /// For layers that are computed again.
    shared_tape: LayerTape,
    scratch: Scratch,
    back: BackwardScratch,
    loss: LossScratch,
    x: Vec<f32>,
    d_x: Vec<f32>,
}

impl Trainer {
    /// A trainer with a fresh adapter.
    ///
    /// # Errors
    /// [`TrainError::Lora`] when the adapter's configuration makes no sense for the model, [`TrainError::Rounded`] when that
    /// was loaded for answers only.
    pub fn new(model: Arc<Llama>, config: TrainerConfig) -> Result<Self, TrainError> {
        model.dense_weights().ok_or(TrainError::Rounded)?;
        let adapter = Adapter::fresh(config.lora.clone(), model.sizes(), config.seed)?;
        let optimizer = AdamW::new(config.adamw, adapter.parameters());
        Ok(Self::from_parts(model, config, adapter, optimizer))
    }

    /// A trainer that goes on from an adapter, with the optimizer fresh. Of `config.lora` only the dropout counts; the rest is
    /// as the adapter was made.
    ///
    /// # Errors
    /// [`TrainError::AdapterMismatch`] when the adapter is of another model, [`TrainError::Rounded`] as for [`Self::new`].
    pub fn continuing(model: Arc<Llama>, mut config: TrainerConfig, start: &Adapter) -> Result<Self, TrainError> {
        model.dense_weights().ok_or(TrainError::Rounded)?;
        if !start.fits(model.sizes()) {
            return Err(TrainError::AdapterMismatch);
        }
        config.lora = LoraConfig { dropout: config.lora.dropout, ..start.config().clone() };
        let adapter = start.configured(config.lora.clone(), model.sizes())?;
        let optimizer = AdamW::new(config.adamw, adapter.parameters());
        Ok(Self::from_parts(model, config, adapter, optimizer))
    }

    pub(crate) fn from_parts(model: Arc<Llama>, config: TrainerConfig, adapter: Adapter, optimizer: AdamW) -> Self {
        let gradients = vec![0.0; adapter.parameters()];
        Self { model, config, adapter, gradients, optimizer, packs: 0, buffers: Buffers::default() }
    }

    /// Adds the gradient of the examples' summed loss to what has been gathered since the last step.
    ///
    /// # Errors
    /// When an example is malformed; then nothing has been added.
    pub fn accumulate(&mut self, examples: &[TrainingExample]) -> Result<StepLoss, TrainError> {
        examples.iter().try_for_each(|example| example.validate(&self.model))?;
        let mut loss = StepLoss::default();
        for pack in packs(examples, self.config.pack_tokens) {
            let pack: Vec<_> = pack.into_iter().map(|index| &examples[index]).collect();
            loss += self.gradient_of(&pack, &mut |_| pack.iter().map(|example| example.weight).collect());
        }
        Ok(loss)
    }

    /// Takes a step with the gathered gradient divided by `total_targets`, clipped to the norm `clip_norm`, and forgets it.
    ///
    /// # Errors
    /// [`TrainError::NoTargets`] when `total_targets` is 0, [`TrainError::NotFinite`] when the gradient is not; in both
    /// cases the adapter is as before and the gradient is forgotten.
    pub fn apply(
        &mut self,
        learning_rate: f32,
        clip_norm: Option<f32>,
        total_targets: usize,
    ) -> Result<StepReport, TrainError> {
        self.packs = 0;
        if total_targets == 0 {
            self.gradients.fill(0.0);
            return Err(TrainError::NoTargets);
        }
        let Self { model, adapter, optimizer, gradients, .. } = self;
        let gradient_norm = model.install(|| norm(gradients)) / total_targets as f64;
        if !gradient_norm.is_finite() {
            gradients.fill(0.0);
            return Err(TrainError::NotFinite);
        }
        let clip = clip_norm.map_or(1.0, |clip| (f64::from(clip) / gradient_norm.max(1e-12)).min(1.0));
        let scale = (clip / total_targets as f64) as f32;
        model.install(|| optimizer.step(adapter.values_mut(), gradients, scale, learning_rate));
        gradients.fill(0.0);
        Ok(StepReport { gradient_norm, step: optimizer.step })
    }

    /// The adapter as it is now; clone it to keep it.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// Steps taken so far.
    pub fn step(&self) -> u64 {
        self.optimizer.step
    }

    /// What the trainer was made with.
    pub fn config(&self) -> &TrainerConfig {
        &self.config
    }

    pub(crate) fn model(&self) -> &Llama {
        &self.model
    }

    pub(crate) fn optimizer(&self) -> &AdamW {
        &self.optimizer
    }

    /// What has been gathered since the last step, in the adapter's layout.
    #[cfg(test)]
    pub(crate) fn gradients(&self) -> &[f32] {
        &self.gradients
    }

    /// Whether nothing has been gathered since the last step.
    pub(crate) fn is_between_steps(&self) -> bool {
        self.packs == 0
    }

    /// Adds the gradient of one pack. `factors` is told the negative log-likelihood of each example and says what the
    /// gradient of each is multiplied by.
    pub(crate) fn gradient_of(&mut self, pack: &[&TrainingExample], factors: Factors<'_>) -> StepLoss {
        let key = mix(self.config.seed ^ mix(self.optimizer.step ^ mix(self.packs)));
        let dropout = Dropout::new(self.config.lora.dropout, key);
        self.packs += 1;
        let Self { model, config, adapter, gradients, buffers, .. } = self;
        let rows = Rows::packed(pack.iter().map(|example| example.token_ids.len()));
        let kept = kept_layers(model, adapter, rows.len(), config.activation_memory_bytes);
        let decoder = Decoder { adapter: Some(adapter), dropout, ..model.decoder() };
        model.install(|| buffers.run(&decoder, pack, &rows, kept, factors, gradients))
    }
}

/// From the negative log-likelihood of each example in nats to what its gradient is multiplied by.
type Factors<'a> = &'a mut (dyn FnMut(&[f64]) -> Vec<f32> + Send);

impl Buffers {
    /// Forward and backward pass of one pack. The last `kept` layers keep their activations.
    fn run(
        &mut self,
        decoder: &Decoder<'_>,
        pack: &[&TrainingExample],
        rows: &Rows,
        kept: usize,
        factors: Factors<'_>,
        gradients: &mut [f32],
    ) -> StepLoss {
        let layers = decoder.sizes().layers;
        let Self { tapes, shared_tape, scratch, back, loss, x, d_x } = self;
        tapes.resize_with(layers, LayerTape::default);
        let tokens: Vec<u32> = pack.iter().flat_map(|example| example.token_ids.iter().copied()).collect();
        decoder.embed(&tokens, x);
        for (layer, tape) in tapes.iter_mut().enumerate() {
            if layer >= layers - kept {
                decoder.forward_layer(layer, rows, None, x, tape, scratch);
            } else {
                decoder.forward_layer(layer, rows, None, x, shared_tape, scratch);
                std::mem::swap(&mut tape.input, &mut shared_tape.input);
            }
        }
        fit(d_x, x.len()).fill(0.0);
        let targets: Vec<Target> =
            pack.iter().zip(&rows.segments).flat_map(|(example, segment)| example.targets(segment.start)).collect();
        let losses = decoder.cross_entropy(x, &targets, Some(d_x), loss);
        let nlls = nll_of_each(pack, &losses);
        // A row belongs to one example, so its gradient can be multiplied after the fact.
        for (factor, segment) in factors(&nlls).into_iter().zip(&rows.segments) {
            if factor != 1.0 {
                let width = decoder.sizes().hidden_size;
                d_x[segment.start * width..segment.end * width].iter_mut().for_each(|d| *d *= factor);
            }
        }
        for (layer, tape) in tapes.iter().enumerate().rev() {
            if layer >= layers - kept {
                decoder.backward_layer(layer, rows, tape, d_x, gradients, (scratch, back));
            } else {
                fit(x, tape.input.len()).copy_from_slice(&tape.input);
                decoder.forward_layer(layer, rows, None, x, shared_tape, scratch);
                decoder.backward_layer(layer, rows, shared_tape, d_x, gradients, (scratch, back));
            }
        }
        StepLoss { nll_sum: nlls.iter().sum(), target_tokens: targets.len() }
    }
}

/// The sum of each example's losses, which come one example after the other.
fn nll_of_each(pack: &[&TrainingExample], losses: &[f32]) -> Vec<f64> {
    let mut losses = losses.iter().map(|loss| f64::from(*loss));
    pack.iter().map(|example| losses.by_ref().take(example.target_tokens()).sum()).collect()
}

/// What training needs besides the loaded model, in bytes, when the longest pack has `longest` tokens: the adapter with its
/// gradient, both moments and the copies of a checkpoint; activations; the logits of a part of the vocabulary's loss.
///
/// # Errors
/// [`TrainError::Lora`] when the adapter's configuration makes no sense for the model.
pub fn training_memory(model: &Llama, config: &TrainerConfig, longest: usize) -> Result<u64, TrainError> {
    let adapter = Adapter::zero(config.lora.clone(), model.sizes())?;
    let (sizes, rows) = (model.sizes(), longest.max(config.pack_tokens));
    let adapter_buffers = 4 + 6;
    // Two layers' worth for the one that is computed again and its gradients, and the inputs of all.
    let (kept, a_layer) =
        (kept_layers(model, &adapter, rows, config.activation_memory_bytes), layer_bytes(model, &adapter, rows));
    let inputs = sizes.layers * rows * sizes.hidden_size * size_of::<f32>();
    let logits = CHUNK * (sizes.vocab_size + 4 * sizes.hidden_size) * size_of::<f32>();
    let bytes =
        adapter_buffers * adapter.parameters() * size_of::<f32>() + kept * a_layer + 4 * a_layer + inputs + logits;
    Ok(bytes as u64)
}

/// How many layers can keep their activations of `rows` tokens within `memory` bytes.
fn kept_layers(model: &Llama, adapter: &Adapter, rows: usize, memory: usize) -> usize {
    (memory / layer_bytes(model, adapter, rows)).min(model.sizes().layers)
}

/// What the activations of one layer take.
fn layer_bytes(model: &Llama, adapter: &Adapter, rows: usize) -> usize {
    let sizes = model.sizes();
    let heights: usize = Group::ALL.into_iter().filter_map(|group| adapter.group(0, group)).map(|g| g.height()).sum();
    let per_row = 2 * sizes.hidden_size
        + sizes.qkv_width()
        + sizes.query_width()
        + sizes.heads
        + 2 * sizes.intermediate_size
        + if sizes.variant.qk_norm { sizes.query_width() + sizes.kv_width() } else { 0 }
        + if sizes.variant.post_norms { 2 * sizes.hidden_size } else { 0 }
        + heights;
    rows.max(1) * per_row * size_of::<f32>()
}

/// Neighbouring examples, as many as fit into `limit` tokens; one that is longer is alone. Examples without a target are
/// left out.
pub(crate) fn packs(examples: &[TrainingExample], limit: usize) -> Vec<Vec<usize>> {
    let mut packs: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0;
    for (index, example) in examples.iter().enumerate().filter(|(_, example)| example.target_tokens() > 0) {
        let length = example.token_ids.len();
        match packs.last_mut() {
            Some(pack) if tokens + length <= limit => {
                pack.push(index);
                tokens += length;
            }
            _ => {
                packs.push(vec![index]);
                tokens = length;
            }
        }
    }
    packs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(length: usize) -> TrainingExample {
        TrainingExample::new(vec![0; length], vec![true; length])
    }

    #[test]
    fn neighbours_are_packed_in_order() {
        let examples: Vec<_> = [3, 4, 9, 2, 1, 2].map(example).into();
        // The example of one token has no target: nothing precedes it.
        assert_eq!(packs(&examples, 7), [vec![0, 1], vec![2], vec![3, 5]]);
    }

    #[test]
    fn the_first_token_is_no_target() {
        let example = TrainingExample::new(vec![5, 6, 7], vec![true, false, true]);
        assert_eq!(example.target_tokens(), 1);
        let targets: Vec<_> = example.targets(10).map(|target| (target.row, target.token)).collect();
        assert_eq!(targets, [(11, 7)]);
    }
}
