//! Low-rank adapters (Hu et al. 2021, *LoRA*): `y = W·x + scale · B·(A·dropout(x))`, with `scale = alpha / rank`.
//!
//! All parameters of an adapter lie in one buffer, so that gradients, optimizer moments and checkpoints are buffers of the
//! same layout. The `A` of modules that read the same activation lie one below the other and are applied in one product.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::architecture::Architecture;
use super::matmul::{Into, Matrix, MatrixMut, matmul};

/// A linear module of a decoder layer that an adapter can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Projection {
    #[serde(rename = "q_proj")]
    Query,
    #[serde(rename = "k_proj")]
    Key,
    #[serde(rename = "v_proj")]
    Value,
    #[serde(rename = "o_proj")]
    Output,
    #[serde(rename = "gate_proj")]
    Gate,
    #[serde(rename = "up_proj")]
    Up,
    #[serde(rename = "down_proj")]
    Down,
}

impl Projection {
    /// All seven, in the order of the computation.
    pub const ALL: [Self; 7] = [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    /// The name in Hugging Face's Llama and in PEFT's `target_modules`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "q_proj",
            Self::Key => "k_proj",
            Self::Value => "v_proj",
            Self::Output => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    /// The projection of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|projection| projection.name() == name)
    }

    /// The path inside a layer, as in `self_attn.q_proj`.
    pub(crate) fn path(self) -> String {
        let block = if matches!(self, Self::Gate | Self::Up | Self::Down) { "mlp" } else { "self_attn" };
        format!("{block}.{}", self.name())
    }

    /// Width of what the module makes.
    pub(crate) fn output_width(self, sizes: &Architecture) -> usize {
        match self {
            Self::Query => sizes.query_width(),
            Self::Key | Self::Value => sizes.kv_width(),
            Self::Output | Self::Down => sizes.hidden_size,
            Self::Gate | Self::Up => sizes.intermediate_size,
        }
    }
}

/// Modules that read the same activation and whose results lie side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    AttentionInput,
    AttentionOutput,
    MlpInput,
    MlpOutput,
}

impl Group {
    pub(crate) const ALL: [Self; 4] = [Self::AttentionInput, Self::AttentionOutput, Self::MlpInput, Self::MlpOutput];

    /// The modules of the group, in the order of their results.
    pub(crate) fn projections(self) -> &'static [Projection] {
        match self {
            Self::AttentionInput => &[Projection::Query, Projection::Key, Projection::Value],
            Self::AttentionOutput => &[Projection::Output],
            Self::MlpInput => &[Projection::Gate, Projection::Up],
            Self::MlpOutput => &[Projection::Down],
        }
    }

    /// Width of the activation that the group reads.
    pub(crate) fn input_width(self, sizes: &Architecture) -> usize {
        match self {
            Self::AttentionInput | Self::MlpInput => sizes.hidden_size,
            Self::AttentionOutput => sizes.query_width(),
            Self::MlpOutput => sizes.intermediate_size,
        }
    }

    /// Width of all results side by side.
    pub(crate) fn output_width(self, sizes: &Architecture) -> usize {
        self.projections().iter().map(|projection| projection.output_width(sizes)).sum()
    }
}

/// What kind of adapter to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// Rows of `A` and columns of `B`.
    pub rank: usize,
    /// The adapter's result is scaled by `alpha / rank`, so that the rank can change without retuning the rate.
    pub alpha: f32,
    /// Probability with which an element of an adapter's input is dropped in training. Modules that read the same
    /// activation share its mask.
    pub dropout: f32,
    pub target_modules: Vec<Projection>,
    /// Scale by `alpha / √rank` instead (Kalajdzievski 2023, *rsLoRA*).
    pub use_rslora: bool,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { rank: 16, alpha: 32.0, dropout: 0.05, target_modules: Projection::ALL.to_vec(), use_rslora: false }
    }
}

/// Why a [`LoraConfig`] is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LoraConfigError {
    #[error("the LoRA rank is {rank}: choose one from 1 to {largest}")]
    Rank { rank: usize, largest: usize },
    #[error("the LoRA alpha is {alpha}: choose a positive number")]
    Alpha { alpha: f32 },
    #[error("the LoRA dropout is {dropout}: choose a number from 0 to 0.9")]
    Dropout { dropout: f32 },
    #[error(
        "no module is a target: name at least one of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"
    )]
    NoTargets,
}

impl LoraConfig {
    /// What the adapter's result is multiplied by.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f32;
        self.alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    pub(crate) fn validate(&self, sizes: &Architecture) -> Result<(), LoraConfigError> {
        let largest = sizes.hidden_size.min(1024);
        if self.rank == 0 || self.rank > largest {
            return Err(LoraConfigError::Rank { rank: self.rank, largest });
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return Err(LoraConfigError::Alpha { alpha: self.alpha });
        }
        if !(0.0..=0.9).contains(&self.dropout) {
            return Err(LoraConfigError::Dropout { dropout: self.dropout });
        }
        if self.target_modules.is_empty() {
            return Err(LoraConfigError::NoTargets);
        }
        Ok(())
    }
}

/// Where each matrix of an adapter lies in its buffer: per layer and group, the stacked `A`, then one `B` per target.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layout {
    /// The groups of one layer that have a target.
    groups: Vec<GroupLayout>,
    layer_size: usize,
    layers: usize,
}

#[derive(Debug, Clone, PartialEq)]
struct GroupLayout {
    group: Group,
    input_width: usize,
    a: Range<usize>,
    targets: Vec<TargetLayout>,
}

#[derive(Debug, Clone, PartialEq)]
struct TargetLayout {
    projection: Projection,
    /// Columns of the group's result.
    columns: Range<usize>,
    b: Range<usize>,
}

impl Layout {
    fn new(config: &LoraConfig, sizes: &Architecture) -> Self {
        let mut groups = Vec::new();
        let mut next = 0;
        let mut take = |size: usize| {
            next += size;
            next - size..next
        };
        for group in Group::ALL {
            let mut columns = 0..0;
            let mut wanted = Vec::new();
            for &projection in group.projections() {
                columns = columns.end..columns.end + projection.output_width(sizes);
                if config.target_modules.contains(&projection) {
                    wanted.push((projection, columns.clone()));
                }
            }
            if wanted.is_empty() {
                continue;
            }
            let input_width = group.input_width(sizes);
            let a = take(wanted.len() * config.rank * input_width);
            let targets = wanted.into_iter().map(|(projection, columns)| {
                let b = take(columns.len() * config.rank);
                TargetLayout { projection, columns, b }
            });
            groups.push(GroupLayout { group, input_width, a, targets: targets.collect() });
        }
        Self { groups, layer_size: next, layers: sizes.layers }
    }

    fn size(&self) -> usize {
        self.layer_size * self.layers
    }

    /// Cuts a buffer of this layout into the matrices of one layer's group.
    pub(crate) fn split_mut<'a>(&self, buffer: &'a mut [f32], layer: usize, group: Group) -> Option<GroupMut<'a>> {
        let layout = self.groups.iter().find(|layout| layout.group == group)?;
        let mut rest = &mut buffer[layer * self.layer_size + layout.a.start..];
        let mut take = |size: usize| {
            let (taken, left) = std::mem::take(&mut rest).split_at_mut(size);
            rest = left;
            taken
        };
        let a = take(layout.a.len());
        let b = layout.targets.iter().map(|target| take(target.b.len())).collect();
        Some(GroupMut { a, b })
    }
}

/// The mutable matrices of one group, as a gradient's.
pub(crate) struct GroupMut<'a> {
    pub(crate) a: &'a mut [f32],
    pub(crate) b: Vec<&'a mut [f32]>,
}

/// The matrices of one layer's group.
pub(crate) struct GroupAdapter<'a> {
    pub(crate) rank: usize,
    pub(crate) scale: f32,
    /// `[targets · rank, in]`.
    pub(crate) a: &'a [f32],
    targets: &'a [TargetLayout],
    layer: &'a [f32],
}

impl<'a> GroupAdapter<'a> {
    /// Rows of the stacked `A`.
    pub(crate) fn height(&self) -> usize {
        self.targets.len() * self.rank
    }

    /// Adds `scale · B·A` to the group's matrix, `[out, in]`.
    pub(crate) fn add_to(&self, matrix: &mut [f32], input_width: usize) {
        for (index, (rows, b)) in self.targets().enumerate() {
            let a = &self.a[index * self.rank * input_width..][..self.rank * input_width];
            let into = &mut matrix[rows.start * input_width..rows.end * input_width];
            let (b, a) = (Matrix::new(b, rows.len(), self.rank), Matrix::new(a, self.rank, input_width));
            matmul(MatrixMut::new(into, rows.len(), input_width), Into::Add, self.scale, b, a);
        }
    }

    /// Each target's columns of the result and its `B`, `[out, rank]`.
    pub(crate) fn targets(&self) -> impl Iterator<Item = (Range<usize>, &'a [f32])> {
        let layer = self.layer;
        self.targets.iter().map(move |target| (target.columns.clone(), &layer[target.b.clone()]))
    }
}

/// A LoRA adapter in memory.
#[derive(Debug, Clone)]
pub struct Adapter {
    config: LoraConfig,
    layout: Layout,
    values: Vec<f32>,
    /// Which weights these are: two adapters share it only when one was cloned from the other and neither has changed.
    identity: u64,
}

static NEXT_IDENTITY: AtomicU64 = AtomicU64::new(1);

impl Adapter {
    /// A fresh adapter: `A` drawn from Kaiming's uniform distribution with `a = √5`, that is within `±1/√in`, as PEFT
    /// does, and `B` zero, so that nothing changes yet.
    pub(crate) fn fresh(config: LoraConfig, sizes: &Architecture, seed: u64) -> Result<Self, LoraConfigError> {
        let mut adapter = Self::zero(config, sizes)?;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for layer in adapter.values.chunks_exact_mut(adapter.layout.layer_size) {
            for group in &adapter.layout.groups {
                let bound = 1.0 / (group.input_width as f32).sqrt();
                layer[group.a.clone()].fill_with(|| random.random_range(-bound..bound));
            }
        }
        Ok(adapter)
    }

    /// An adapter of zeros, to be filled.
    pub(crate) fn zero(mut config: LoraConfig, sizes: &Architecture) -> Result<Self, LoraConfigError> {
        config.target_modules.sort();
        config.target_modules.dedup();
        config.validate(sizes)?;
        let layout = Layout::new(&config, sizes);
        let values = vec![0.0; layout.size()];
        Ok(Self { config, layout, values, identity: NEXT_IDENTITY.fetch_add(1, Ordering::Relaxed) })
    }

    /// The same numbers under another configuration of the same shape, as with another dropout.
    pub(crate) fn configured(&self, config: LoraConfig, sizes: &Architecture) -> Result<Self, LoraConfigError> {
        let mut adapter = Self::zero(config, sizes)?;
        adapter.values_mut().copy_from_slice(&self.values);
        Ok(adapter)
    }

    /// How the adapter was made.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// How many numbers the adapter consists of.
    pub fn parameters(&self) -> usize {
        self.values.len()
    }

    /// Distinguishes these weights from all others of this process.
    pub(crate) fn identity(&self) -> u64 {
        self.identity
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }

    /// The numbers, to be changed; what was remembered about the old ones is no longer true.
    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        self.identity = NEXT_IDENTITY.fetch_add(1, Ordering::Relaxed);
        &mut self.values
    }

    /// Whether the adapter was made for a model of these sizes.
    pub(crate) fn fits(&self, sizes: &Architecture) -> bool {
        self.layout == Layout::new(&self.config, sizes)
    }

    /// The part of one layer's group, if the group has a target.
    pub(crate) fn group(&self, layer: usize, group: Group) -> Option<GroupAdapter<'_>> {
        let layout = self.layout.groups.iter().find(|layout| layout.group == group)?;
        let layer = &self.values[layer * self.layout.layer_size..][..self.layout.layer_size];
        Some(GroupAdapter {
            rank: self.config.rank,
            scale: self.config.scale(),
            a: &layer[layout.a.clone()],
            targets: &layout.targets,
            layer,
        })
    }

    /// Every matrix: layer, module, whether it is `B`, shape, and where it lies in the buffer.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = AdapterTensor> + '_ {
        let rank = self.config.rank;
        (0..self.layout.layers).flat_map(move |layer| {
            let start = layer * self.layout.layer_size;
            self.layout.groups.iter().flat_map(move |group| {
                group.targets.iter().enumerate().flat_map(move |(index, target)| {
                    let a = start + group.a.start + index * rank * group.input_width;
                    let b = start + target.b.start;
                    let tensor = |is_b, shape: [usize; 2], first| AdapterTensor {
                        layer,
                        projection: target.projection,
                        is_b,
                        shape,
                        range: first..first + shape[0] * shape[1],
                    };
                    [tensor(false, [rank, group.input_width], a), tensor(true, [target.columns.len(), rank], b)]
                })
            })
        })
    }
}

/// One matrix of an adapter.
#[derive(Debug, Clone)]
pub(crate) struct AdapterTensor {
    pub(crate) layer: usize,
    pub(crate) projection: Projection,
    pub(crate) is_b: bool,
    pub(crate) shape: [usize; 2],
    pub(crate) range: Range<usize>,
}

impl AdapterTensor {
    /// The name under which PEFT saves it.
    pub(crate) fn name(&self) -> String {
        let side = if self.is_b { "lora_B" } else { "lora_A" };
        format!("base_model.model.model.layers.{}.{}.{side}.weight", self.layer, self.projection.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::architecture::Variant;

    pub(crate) fn sizes() -> Architecture {
        Architecture {
            vocab_size: 50,
            hidden_size: 32,
            intermediate_size: 48,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 8,
            rms_epsilon: 1e-5,
            rope_theta: 10_000.0,
            context_length: 64,
            variant: Variant::default(),
        }
    }

    #[test]
    fn the_tensors_cover_the_buffer_exactly_once() {
        for target_modules in [Projection::ALL.to_vec(), vec![Projection::Value, Projection::Down, Projection::Value]] {
            let adapter = Adapter::fresh(LoraConfig { target_modules, ..Default::default() }, &sizes(), 1).unwrap();
            let mut seen = vec![0; adapter.parameters()];
            for tensor in adapter.tensors() {
                seen[tensor.range].iter_mut().for_each(|count| *count += 1);
            }
            assert!(seen.iter().all(|count| *count == 1));
        }
    }

    #[test]
    fn a_fresh_adapter_has_small_a_and_zero_b() {
        let adapter = Adapter::fresh(LoraConfig::default(), &sizes(), 1).unwrap();
        for tensor in adapter.tensors() {
            let values = &adapter.values()[tensor.range.clone()];
            let largest = values.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            let bound = 1.0 / (tensor.shape[1] as f32).sqrt();
            if tensor.is_b {
                assert_eq!(largest, 0.0);
            } else {
                assert!(largest > 0.8 * bound && largest <= bound, "{}: {largest} of {bound}", tensor.name());
            }
        }
    }

    #[test]
    fn group_views_and_tensors_are_the_same_numbers() {
        let mut adapter = Adapter::fresh(LoraConfig::default(), &sizes(), 1).unwrap();
        for (index, value) in adapter.values_mut().iter_mut().enumerate() {
            *value = index as f32;
        }
        let up =
            adapter.tensors().find(|tensor| tensor.layer == 1 && tensor.projection == Projection::Up && tensor.is_b);
        let group = adapter.group(1, Group::MlpInput).unwrap();
        let (columns, b) = group.targets().nth(1).unwrap();
        assert_eq!(columns, 48..96);
        assert_eq!(b[0], up.unwrap().range.start as f32);
        let (layout, mut values) = (adapter.layout().clone(), adapter.values().to_vec());
        let split = layout.split_mut(&mut values, 1, Group::MlpInput).unwrap();
        assert_eq!((&*split.a, &*split.b[1]), (group.a, b));
    }

    #[test]
    fn senseless_configurations_are_refused() {
        let refuse = |change: fn(&mut LoraConfig)| {
            let mut config = LoraConfig::default();
            change(&mut config);
            Adapter::fresh(config, &sizes(), 1).unwrap_err()
        };
        assert!(matches!(refuse(|c| c.rank = 0), LoraConfigError::Rank { .. }));
        assert!(matches!(refuse(|c| c.rank = 33), LoraConfigError::Rank { .. }));
        assert!(matches!(refuse(|c| c.alpha = f32::NAN), LoraConfigError::Alpha { .. }));
        assert!(matches!(refuse(|c| c.dropout = 1.0), LoraConfigError::Dropout { .. }));
        assert!(matches!(refuse(|c| c.target_modules.clear()), LoraConfigError::NoTargets));
    }
}
