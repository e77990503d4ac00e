//! One running sequence: keys and values of its tokens, prompts in chunks with dense products, and decoding token by token
//! with eight-bit weights.
//!
//! Adapters are applied beside the weights and never merged into them, so one base serves many.

use twin_domain::CancelFlag;

use super::architecture::Architecture;
use super::attention::{Heads, attend_token};
use super::decoder::{Decoder, LayerCache, LayerTape, Rows, Scratch, fit};
use super::lora::Group;
use super::matvec::{LowRank, Quantized, RowMatrix};
use super::ops::{rms_norm, swiglu};
use super::weights::Weights;

/// Prompt tokens between two looks at the cancel flag.
pub(crate) const PREFILL_CHUNK: usize = 256;

/// The weights for decoding, rounded to eight bits.
pub(crate) struct QuantizedWeights {
    layers: Vec<[Quantized; 4]>,
    head: Quantized,
}

impl QuantizedWeights {
    /// Rounds all matrices; `None` when the model's sizes cannot be divided into blocks.
    pub(crate) fn new(weights: &Weights) -> Option<Self> {
        let sizes = &weights.architecture;
        let layers = weights.layers.iter().map(|layer| {
            Some([
                Quantized::new(&layer.qkv, sizes.hidden_size)?,
                Quantized::new(&layer.output, sizes.query_width())?,
                Quantized::new(&layer.gate_up, sizes.hidden_size)?,
                Quantized::new(&layer.down, sizes.intermediate_size)?,
            ])
        });
        Some(Self { layers: layers.collect::<Option<_>>()?, head: Quantized::new(weights.head(), sizes.hidden_size)? })
    }
}

/// A sequence and what was computed of it.
#[derive(Default)]
pub(crate) struct Session {
    tokens: Vec<u32>,
    caches: Vec<LayerCache>,
    tape: LayerTape,
    scratch: Scratch,
    x: Vec<f32>,
    room: StepRoom,
    logits: Vec<f32>,
}

/// Room for one token.
#[derive(Default)]
struct StepRoom {
    normed: Vec<f32>,
    qkv: Vec<f32>,
    parts: Vec<f32>,
    attended: Vec<f32>,
    gate_up: Vec<f32>,
    activated: Vec<f32>,
    hidden: Vec<f32>,
    result: Vec<f32>,
}

impl Session {
    /// The tokens whose keys and values are there.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// What comes next after the last token, one number per token of the vocabulary.
    pub(crate) fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Forgets all but the first `length` tokens.
    pub(crate) fn truncate(&mut self, length: usize, sizes: &Architecture) {
        self.tokens.truncate(length);
        for cache in &mut self.caches {
            cache.keys.truncate(length * sizes.kv_width());
            cache.values.truncate(length * sizes.kv_width());
        }
    }

    /// Appends `tokens` and computes the logits after the last. Says whether it came to the end; when cancelled, whole
    /// chunks have been appended and no logits computed.
    pub(crate) fn prefill(
        &mut self,
        decoder: &Decoder<'_>,
        quantized: Option<&QuantizedWeights>,
        tokens: &[u32],
        cancel: &CancelFlag,
    ) -> bool {
        self.caches.resize(decoder.sizes().layers, LayerCache::default());
        for tokens in tokens.chunks(PREFILL_CHUNK) {
            if cancel.is_cancelled() {
                return false;
            }
            let rows = Rows::continued(self.tokens.len(), tokens.len());
            decoder.embed(tokens, &mut self.x);
            for (layer, cache) in self.caches.iter_mut().enumerate() {
                decoder.forward_layer(layer, &rows, Some(cache), &mut self.x, &mut self.tape, &mut self.scratch);
            }
            self.tokens.extend_from_slice(tokens);
        }
        let last = self.x.len() - decoder.sizes().hidden_size;
        self.x.drain(..last);
        self.project(decoder, quantized);
        true
    }

    /// Appends one token and computes the logits after it.
    pub(crate) fn step(&mut self, decoder: &Decoder<'_>, quantized: Option<&QuantizedWeights>, token: u32) {
        self.caches.resize(decoder.sizes().layers, LayerCache::default());
        decoder.embed(&[token], &mut self.x);
        for layer in 0..decoder.sizes().layers {
            let matrices = quantized.map(|quantized| &quantized.layers[layer]);
            self.step_attention(decoder, matrices, layer);
            self.step_mlp(decoder, matrices, layer);
        }
        self.tokens.push(token);
        self.project(decoder, quantized);
    }

    fn step_attention(&mut self, decoder: &Decoder<'_>, quantized: Option<&[Quantized; 4]>, layer: usize) {
        let (sizes, weights, room) = (decoder.sizes(), &decoder.weights.layers[layer], &mut self.room);
        let (query, kv) = (sizes.query_width(), sizes.kv_width());
        rms_norm(fit(&mut room.normed, sizes.hidden_size), &self.x, &weights.attention_norm, sizes.rms_epsilon);
        let qkv = fit(&mut room.qkv, sizes.qkv_width());
        let place = Place { layer, group: Group::AttentionInput, dense: &weights.qkv, quantized };
        place.product(decoder, &room.normed, qkv, &mut room.hidden);
        decoder.rope.turn(qkv, sizes.qkv_width(), query + kv, &[self.tokens.len()], false);

        let cache = &mut self.caches[layer];
        cache.keys.extend_from_slice(&qkv[query..query + kv]);
        cache.values.extend_from_slice(&qkv[query + kv..]);
        let attended = fit(&mut room.attended, query);
        attend_token(Heads::of(sizes), &qkv[..query], &cache.keys, &cache.values, &mut room.parts, attended);

        let result = fit(&mut room.result, sizes.hidden_size);
        let place = Place { layer, group: Group::AttentionOutput, dense: &weights.output, quantized };
        place.product(decoder, attended, result, &mut room.hidden);
        self.x.iter_mut().zip(result).for_each(|(x, result)| *x += *result);
    }

    fn step_mlp(&mut self, decoder: &Decoder<'_>, quantized: Option<&[Quantized; 4]>, layer: usize) {
        let (sizes, weights, room) = (decoder.sizes(), &decoder.weights.layers[layer], &mut self.room);
        rms_norm(fit(&mut room.normed, sizes.hidden_size), &self.x, &weights.mlp_norm, sizes.rms_epsilon);
        let gate_up = fit(&mut room.gate_up, 2 * sizes.intermediate_size);
        let place = Place { layer, group: Group::MlpInput, dense: &weights.gate_up, quantized };
        place.product(decoder, &room.normed, gate_up, &mut room.hidden);
        let activated = fit(&mut room.activated, sizes.intermediate_size);
        swiglu(activated, gate_up, sizes.intermediate_size);
        let result = fit(&mut room.result, sizes.hidden_size);
        let place = Place { layer, group: Group::MlpOutput, dense: &weights.down, quantized };
        place.product(decoder, activated, result, &mut room.hidden);
        self.x.iter_mut().zip(result).for_each(|(x, result)| *x += *result);
    }

    fn project(&mut self, decoder: &Decoder<'_>, quantized: Option<&QuantizedWeights>) {
        let (sizes, weights) = (decoder.sizes(), decoder.weights);
        let normed = fit(&mut self.room.normed, sizes.hidden_size);
        rms_norm(normed, &self.x, &weights.final_norm, sizes.rms_epsilon);
        let head = match quantized {
            Some(quantized) => RowMatrix::Quantized(&quantized.head),
            None => RowMatrix::Dense(weights.head()),
        };
        head.product(fit(&mut self.logits, sizes.vocab_size), normed, &[]);
    }
}

/// A group of modules of one layer.
struct Place<'a> {
    layer: usize,
    group: Group,
    dense: &'a [f32],
    quantized: Option<&'a [Quantized; 4]>,
}

impl Place<'_> {
    /// The modules' results for one token, with the adapter's part.
    fn product(&self, decoder: &Decoder<'_>, x: &[f32], y: &mut [f32], hidden: &mut Vec<f32>) {
        let matrix = match self.quantized {
            Some(quantized) => RowMatrix::Quantized(&quantized[self.group as usize]),
            None => RowMatrix::Dense(self.dense),
        };
        let Some(adapter) = decoder.adapter.and_then(|adapter| adapter.group(self.layer, self.group)) else {
            return matrix.product(y, x, &[]);
        };
        let hidden = fit(hidden, adapter.height());
        RowMatrix::Dense(adapter.a).product(hidden, x, &[]);
        hidden.iter_mut().for_each(|hidden| *hidden *= adapter.scale);
        let targets = adapter.targets().zip(hidden.chunks_exact(adapter.rank));
        let additions: Vec<_> =
            targets.map(|((columns, b), hidden)| LowRank { first: columns.start, b, hidden }).collect();
        matrix.product(y, x, &additions);
    }
}
