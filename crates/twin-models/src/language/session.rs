//! Running sequences: their keys and values, prompts in chunks, and decoding of several sequences in one step, each a token
//! or a token together with a guess of those after it.
//!
//! Adapters are applied beside the weights and never merged into them, so one base serves many, also in one step.

use std::ops::Range;

use rayon::prelude::*;

use super::architecture::Architecture;
use super::attention::{Heads, attend_token};
use super::decoder::{Decoder, LayerCache, LayerTape, Rows, Scratch, fit};
use super::lora::{Adapter, Group};
use super::matvec::{LowRank, ProductRoom, RowMatrix};
use super::ops::{gated, rms_norm};
use super::quantized::Quantized;
use super::weights::{LayerWeights, Weights};

/// Prompt tokens that are computed at once, and so between two steps of others. Always as many, whoever else is there: products
/// in f32 may come to other last bits in other parts.
pub(crate) const PREFILL_CHUNK: usize = 128;

/// The weights in eight bits, for serving.
pub(crate) struct QuantizedWeights {
    pub(crate) layers: Vec<[Quantized; 4]>,
    pub(crate) head: Quantized,
}

impl QuantizedWeights {
    /// Rounds all matrices; `None` when the model's sizes cannot be divided into blocks.
    pub(crate) fn new(weights: &Weights) -> Option<Self> {
        let layers = weights.layers.iter().map(|layer| Self::layer(&weights.architecture, layer));
        Self::of_layers(layers.collect::<Option<_>>()?, weights)
    }

    /// Rounds the matrices of a layer.
    pub(crate) fn layer(sizes: &Architecture, layer: &LayerWeights) -> Option<[Quantized; 4]> {
        Some([
            Quantized::new(&layer.qkv, sizes.hidden_size)?,
            Quantized::new(&layer.output, sizes.query_width())?,
            Quantized::new(&layer.gate_up, sizes.hidden_size)?,
            Quantized::new(&layer.down, sizes.intermediate_size)?,
        ])
    }

    /// From layers that were rounded before; the output layer is rounded here.
    pub(crate) fn of_layers(layers: Vec<[Quantized; 4]>, weights: &Weights) -> Option<Self> {
        Some(Self { layers, head: Quantized::new(weights.head(), weights.architecture.hidden_size)? })
    }

    /// Of all matrices.
    pub(crate) fn bytes(&self) -> usize {
        self.layers.iter().flatten().chain([&self.head]).map(Quantized::bytes).sum()
    }
}

/// Tokens with their keys and values in every layer.
#[derive(Default)]
pub(crate) struct Sequence {
    tokens: Vec<u32>,
    caches: Vec<LayerCache>,
}

impl Sequence {
    /// The tokens whose keys and values are there.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Forgets all but the first `length` tokens.
    pub(crate) fn truncate(&mut self, length: usize, sizes: &Architecture) {
        self.tokens.truncate(length);
        for cache in &mut self.caches {
            cache.keys.truncate(length * sizes.kv_width());
            cache.values.truncate(length * sizes.kv_width());
        }
    }

    /// A copy of the first `length` tokens with room for `capacity`.
    pub(crate) fn beginning(&self, length: usize, capacity: usize, sizes: &Architecture) -> Self {
        let copied = |from: &Vec<f32>| {
            let mut copy = Vec::with_capacity(capacity.max(length) * sizes.kv_width());
            copy.extend_from_slice(&from[..length * sizes.kv_width()]);
            copy
        };
        let caches = self
            .caches
            .iter()
            .map(|cache| LayerCache { keys: copied(&cache.keys), values: copied(&cache.values) })
            .collect();
        Self { tokens: self.tokens[..length].to_vec(), caches }
    }

    /// Makes room for `capacity` tokens in all.
    pub(crate) fn reserve(&mut self, capacity: usize, sizes: &Architecture) {
        self.caches.resize(sizes.layers, LayerCache::default());
        for cache in &mut self.caches {
            for buffer in [&mut cache.keys, &mut cache.values] {
                buffer.reserve_exact((capacity * sizes.kv_width()).saturating_sub(buffer.len()));
            }
        }
    }

    /// Gives room back that no token has come to use.
    pub(crate) fn shrink(&mut self) {
        for cache in &mut self.caches {
            cache.keys.shrink_to_fit();
            cache.values.shrink_to_fit();
        }
    }

    /// Bytes of memory that it holds.
    pub(crate) fn bytes(&self) -> usize {
        let numbers = self.caches.iter().map(|cache| cache.keys.capacity() + cache.values.capacity()).sum::<usize>();
        numbers * size_of::<f32>()
    }
}

/// What one sequence has to compute in a step.
pub(crate) struct Turn<'a> {
    pub(crate) sequence: &'a mut Sequence,
    pub(crate) adapter: Option<&'a Adapter>,
    /// Appended to the sequence.
    pub(crate) tokens: &'a [u32],
}

/// What computing needs besides sequences: room that all of them use in turn.
#[derive(Default)]
pub(crate) struct Workspace {
    tape: LayerTape,
    scratch: Scratch,
    x: Vec<f32>,
    room: StepRoom,
    logits: Vec<f32>,
}

/// Room for the tokens of one step.
#[derive(Default)]
struct StepRoom {
    products: ProductRoom,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    raw_qk: Vec<f32>,
    /// Of each token.
    parts: Vec<Vec<f32>>,
    attended: Vec<f32>,
    gate_up: Vec<f32>,
    activated: Vec<f32>,
    hidden: Vec<f32>,
    result: Vec<f32>,
}

/// The rows of a step that one adapter is for.
struct Voice<'a> {
    adapter: &'a Adapter,
    rows: Range<usize>,
}

impl Workspace {
    /// What comes next after the tokens of the last step (of a prompt, after its last token only): one number per token of
    /// the vocabulary for each.
    pub(crate) fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Appends a part of a prompt to a sequence, and computes what comes after it if it is the `last` one.
    pub(crate) fn prefill(&mut self, decoder: &Decoder<'_>, sequence: &mut Sequence, tokens: &[u32], last: bool) {
        sequence.caches.resize(decoder.sizes().layers, LayerCache::default());
        let rows = Rows::continued(sequence.tokens.len(), tokens.len());
        decoder.embed(tokens, &mut self.x);
        for (layer, cache) in sequence.caches.iter_mut().enumerate() {
            decoder.forward_layer(layer, &rows, Some(cache), &mut self.x, &mut self.tape, &mut self.scratch);
        }
        sequence.tokens.extend_from_slice(tokens);
        if last {
            let before = self.x.len() - decoder.sizes().hidden_size;
            self.x.drain(..before);
            // The first token decides how an answer goes, so it is computed like the prompt.
            self.project(decoder, 1, RowMatrix::Fine);
        }
    }

    /// Appends a few tokens to each of some sequences and computes the logits after each of them, to the same bits as if
    /// they came one by one. The decoder's own adapter does not count. Turns of the same adapter are quickest side by side.
    pub(crate) fn step(&mut self, decoder: &Decoder<'_>, turns: &mut [Turn<'_>]) {
        self.x.clear();
        let (mut positions, mut voices) = (Vec::new(), Vec::<Voice<'_>>::new());
        for turn in turns.iter_mut() {
            let past = turn.sequence.tokens.len();
            let first = positions.len();
            positions.extend(past..past + turn.tokens.len());
            turn.sequence.caches.resize(decoder.sizes().layers, LayerCache::default());
            turn.sequence.tokens.extend_from_slice(turn.tokens);
            let Some(adapter) = turn.adapter else { continue };
            match voices.last_mut() {
                Some(voice) if voice.rows.end == first && std::ptr::eq(voice.adapter, adapter) => {
                    voice.rows.end = positions.len();
                }
                _ => voices.push(Voice { adapter, rows: first..positions.len() }),
            }
        }
        let tokens: Vec<u32> = turns.iter().flat_map(|turn| turn.tokens).copied().collect();
        decoder.embed(&tokens, &mut self.x);
        self.room.parts.resize_with(tokens.len().max(self.room.parts.len()), Vec::new);
        for layer in 0..decoder.sizes().layers {
            self.step_attention(decoder, layer, turns, &voices, &positions);
            self.step_mlp(decoder, layer, &voices, tokens.len());
        }
        self.project(decoder, tokens.len(), RowMatrix::Quantized);
    }

    fn step_attention(
        &mut self,
        decoder: &Decoder<'_>,
        layer: usize,
        turns: &mut [Turn<'_>],
        voices: &[Voice<'_>],
        positions: &[usize],
    ) {
        let (sizes, weights, room) = (decoder.sizes(), &decoder.weights.layers[layer], &mut self.room);
        let (count, query, kv, width) = (positions.len(), sizes.query_width(), sizes.kv_width(), sizes.qkv_width());
        let normed = fit(&mut room.normed, count * sizes.hidden_size);
        rms_norm(normed, &self.x, &weights.attention_norm, sizes.rms_epsilon);
        let qkv = fit(&mut room.qkv, count * width);
        let place = Place { decoder, layer, group: Group::AttentionInput, dense: &weights.qkv, voices };
        place.product(normed, qkv, count, &mut room.hidden, &mut room.products);
        decoder.finish_qkv(layer, qkv, positions, &mut room.raw_qk);

        let mut rows = qkv.chunks_exact(width);
        for turn in turns.iter_mut() {
            let cache = &mut turn.sequence.caches[layer];
            for qkv in rows.by_ref().take(turn.tokens.len()) {
                cache.keys.extend_from_slice(&qkv[query..query + kv]);
                cache.values.extend_from_slice(&qkv[query + kv..]);
            }
        }
        let heads = Heads::of(sizes, layer);
        let caches = turns.iter().flat_map(|turn| turn.tokens.iter().map(|_| &turn.sequence.caches[layer]));
        let caches: Vec<&LayerCache> = caches.collect();
        let attended = fit(&mut room.attended, count * query);
        let rows = attended.par_chunks_exact_mut(query).zip(room.parts.par_iter_mut());
        let rows = rows.zip(qkv.par_chunks_exact(width)).zip(positions.par_iter().zip(&caches));
        rows.for_each(|(((attended, parts), qkv), (position, cache))| {
            let seen = (position + 1) * kv;
            attend_token(heads, &qkv[..query], &cache.keys[..seen], &cache.values[..seen], parts, attended);
        });

        let result = fit(&mut room.result, count * sizes.hidden_size);
        let place = Place { group: Group::AttentionOutput, dense: &weights.output, ..place };
        place.product(attended, result, count, &mut room.hidden, &mut room.products);
        let norm = weights.post_norms.as_ref().map(|norms| &norms[0]);
        add_result(&mut self.x, result, norm, sizes.rms_epsilon, &mut room.normed);
    }

    fn step_mlp(&mut self, decoder: &Decoder<'_>, layer: usize, voices: &[Voice<'_>], count: usize) {
        let (sizes, weights, room) = (decoder.sizes(), &decoder.weights.layers[layer], &mut self.room);
        let normed = fit(&mut room.normed, count * sizes.hidden_size);
        rms_norm(normed, &self.x, &weights.mlp_norm, sizes.rms_epsilon);
        let gate_up = fit(&mut room.gate_up, count * 2 * sizes.intermediate_size);
        let place = Place { decoder, layer, group: Group::MlpInput, dense: &weights.gate_up, voices };
        place.product(normed, gate_up, count, &mut room.hidden, &mut room.products);
        let activated = fit(&mut room.activated, count * sizes.intermediate_size);
        gated(activated, gate_up, sizes.intermediate_size, sizes.variant.gelu);
        let result = fit(&mut room.result, count * sizes.hidden_size);
        let place = Place { group: Group::MlpOutput, dense: &weights.down, ..place };
        place.product(activated, result, count, &mut room.hidden, &mut room.products);
        let norm = weights.post_norms.as_ref().map(|norms| &norms[1]);
        add_result(&mut self.x, result, norm, sizes.rms_epsilon, &mut room.normed);
    }

    /// Computes the logits after `count` tokens, with a rounded matrix in the given form.
    fn project<'a>(
        &mut self,
        decoder: &Decoder<'a>,
        count: usize,
        rounded: impl FnOnce(&'a Quantized) -> RowMatrix<'a>,
    ) {
        let (sizes, weights) = (decoder.sizes(), decoder.weights);
        let normed = fit(&mut self.room.normed, count * sizes.hidden_size);
        rms_norm(normed, &self.x, &weights.final_norm, sizes.rms_epsilon);
        let head = match decoder.quantized {
            Some(quantized) => rounded(&quantized.head),
            None => RowMatrix::Dense(weights.head()),
        };
        let logits = fit(&mut self.logits, count * sizes.vocab_size);
        head.product(logits, normed, count, &[], &mut self.room.products);
    }
}

/// Adds what attention or MLP made to `x`, through a norm where there is one.
fn add_result(x: &mut [f32], result: &[f32], norm: Option<&Vec<f32>>, epsilon: f32, room: &mut Vec<f32>) {
    let added = match norm {
        None => result,
        Some(norm) => {
            let normed = fit(room, result.len());
            rms_norm(normed, result, norm, epsilon);
            normed
        }
    };
    x.iter_mut().zip(added).for_each(|(x, added)| *x += *added);
}

/// A group of modules of one layer, and the adapters of a step's rows.
#[derive(Clone, Copy)]
struct Place<'a> {
    decoder: &'a Decoder<'a>,
    layer: usize,
    group: Group,
    dense: &'a [f32],
    voices: &'a [Voice<'a>],
}

impl Place<'_> {
    /// The modules' results for some tokens, with the adapters' parts.
    fn product(&self, x: &[f32], y: &mut [f32], count: usize, hidden: &mut Vec<f32>, room: &mut ProductRoom) {
        let matrix = match self.decoder.quantized {
            Some(quantized) => RowMatrix::Quantized(&quantized.layers[self.layer][self.group as usize]),
            None => RowMatrix::Dense(self.dense),
        };
        let width = x.len() / count;
        let mut voices = Vec::new();
        for voice in self.voices {
            voices.extend(voice.adapter.group(self.layer, self.group).map(|adapter| (voice.rows.clone(), adapter)));
        }
        let mut rest = fit(hidden, voices.iter().map(|(rows, adapter)| rows.len() * adapter.height()).sum());
        let mut additions = Vec::new();
        for (rows, adapter) in &voices {
            let (hidden, left) = std::mem::take(&mut rest).split_at_mut(rows.len() * adapter.height());
            rest = left;
            let x = &x[rows.start * width..rows.end * width];
            RowMatrix::Dense(adapter.a).product(hidden, x, rows.len(), &[], room);
            hidden.iter_mut().for_each(|hidden| *hidden *= adapter.scale);
            let hidden = &*hidden;
            additions.extend(adapter.targets().enumerate().map(|(index, (columns, b))| LowRank {
                inputs: rows.clone(),
                first: columns.start,
                b,
                rank: adapter.rank,
                hidden: &hidden[index * adapter.rank..],
                stride: adapter.height(),
            }));
        }
        matrix.product(y, x, count, &additions, room);
    }
}
