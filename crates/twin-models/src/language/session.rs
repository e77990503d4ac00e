//! One running sequence: keys and values of its tokens, prompts in chunks with dense products, and decoding with eight-bit
//! weights: token by token, or a token together with a guess of those after it.
//!
//! Adapters are applied beside the weights and never merged into them, so one base serves many.

use twin_domain::CancelFlag;

use super::architecture::Architecture;
use super::attention::{Heads, attend_token};
use super::decoder::{Decoder, LayerCache, LayerTape, Rows, Scratch, fit};
use super::lora::Group;
use super::matvec::{LowRank, ProductRoom, Quantized, RowMatrix};
use super::ops::{gated, rms_norm};
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

/// Room for the tokens of one step.
#[derive(Default)]
struct StepRoom {
    products: ProductRoom,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    raw_qk: Vec<f32>,
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

    /// What comes next after the tokens of the last step (of a prompt, after its last token only): one number per token of
    /// the vocabulary for each.
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
        self.project(decoder, quantized, 1);
        true
    }

    /// Appends a few tokens and computes the logits after each of them, to the same bits as if they came one by one.
    pub(crate) fn step(&mut self, decoder: &Decoder<'_>, quantized: Option<&QuantizedWeights>, tokens: &[u32]) {
        self.caches.resize(decoder.sizes().layers, LayerCache::default());
        decoder.embed(tokens, &mut self.x);
        let positions: Vec<usize> = (self.tokens.len()..self.tokens.len() + tokens.len()).collect();
        for layer in 0..decoder.sizes().layers {
            let matrices = quantized.map(|quantized| &quantized.layers[layer]);
            self.step_attention(decoder, matrices, layer, &positions);
            self.step_mlp(decoder, matrices, layer, tokens.len());
        }
        self.tokens.extend_from_slice(tokens);
        self.project(decoder, quantized, tokens.len());
    }

    fn step_attention(
        &mut self,
        decoder: &Decoder<'_>,
        quantized: Option<&[Quantized; 4]>,
        layer: usize,
        positions: &[usize],
    ) {
        let (sizes, weights, room) = (decoder.sizes(), &decoder.weights.layers[layer], &mut self.room);
        let (count, query, kv) = (positions.len(), sizes.query_width(), sizes.kv_width());
        let normed = fit(&mut room.normed, count * sizes.hidden_size);
        rms_norm(normed, &self.x, &weights.attention_norm, sizes.rms_epsilon);
        let qkv = fit(&mut room.qkv, count * sizes.qkv_width());
        let place = Place { layer, group: Group::AttentionInput, dense: &weights.qkv, quantized };
        place.product(decoder, normed, qkv, count, &mut room.hidden, &mut room.products);
        decoder.finish_qkv(layer, qkv, positions, &mut room.raw_qk);

        let (cache, heads) = (&mut self.caches[layer], Heads::of(sizes, layer));
        let attended = fit(&mut room.attended, count * query);
        for (qkv, attended) in qkv.chunks_exact(sizes.qkv_width()).zip(attended.chunks_exact_mut(query)) {
            cache.keys.extend_from_slice(&qkv[query..query + kv]);
            cache.values.extend_from_slice(&qkv[query + kv..]);
            attend_token(heads, &qkv[..query], &cache.keys, &cache.values, &mut room.parts, attended);
        }

        let result = fit(&mut room.result, count * sizes.hidden_size);
        let place = Place { layer, group: Group::AttentionOutput, dense: &weights.output, quantized };
        place.product(decoder, attended, result, count, &mut room.hidden, &mut room.products);
        let norm = weights.post_norms.as_ref().map(|norms| &norms[0]);
        add_result(&mut self.x, result, norm, sizes.rms_epsilon, &mut room.normed);
    }

    fn step_mlp(&mut self, decoder: &Decoder<'_>, quantized: Option<&[Quantized; 4]>, layer: usize, count: usize) {
        let (sizes, weights, room) = (decoder.sizes(), &decoder.weights.layers[layer], &mut self.room);
        let normed = fit(&mut room.normed, count * sizes.hidden_size);
        rms_norm(normed, &self.x, &weights.mlp_norm, sizes.rms_epsilon);
        let gate_up = fit(&mut room.gate_up, count * 2 * sizes.intermediate_size);
        let place = Place { layer, group: Group::MlpInput, dense: &weights.gate_up, quantized };
        place.product(decoder, normed, gate_up, count, &mut room.hidden, &mut room.products);
        let activated = fit(&mut room.activated, count * sizes.intermediate_size);
        gated(activated, gate_up, sizes.intermediate_size, sizes.variant.gelu);
        let result = fit(&mut room.result, count * sizes.hidden_size);
        let place = Place { layer, group: Group::MlpOutput, dense: &weights.down, quantized };
        place.product(decoder, activated, result, count, &mut room.hidden, &mut room.products);
        let norm = weights.post_norms.as_ref().map(|norms| &norms[1]);
        add_result(&mut self.x, result, norm, sizes.rms_epsilon, &mut room.normed);
    }

    fn project(&mut self, decoder: &Decoder<'_>, quantized: Option<&QuantizedWeights>, count: usize) {
        let (sizes, weights) = (decoder.sizes(), decoder.weights);
        let normed = fit(&mut self.room.normed, count * sizes.hidden_size);
        rms_norm(normed, &self.x, &weights.final_norm, sizes.rms_epsilon);
        let head = match quantized {
            Some(quantized) => RowMatrix::Quantized(&quantized.head),
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

/// A group of modules of one layer.
struct Place<'a> {
    layer: usize,
    group: Group,
    dense: &'a [f32],
    quantized: Option<&'a [Quantized; 4]>,
}

impl Place<'_> {
    /// The modules' results for some tokens, with the adapter's part.
    fn product(
        &self,
        decoder: &Decoder<'_>,
        x: &[f32],
        y: &mut [f32],
        count: usize,
        hidden: &mut Vec<f32>,
        room: &mut ProductRoom,
    ) {
        let matrix = match self.quantized {
            Some(quantized) => RowMatrix::Quantized(&quantized[self.group as usize]),
            None => RowMatrix::Dense(self.dense),
        };
        let Some(adapter) = decoder.adapter.and_then(|adapter| adapter.group(self.layer, self.group)) else {
            return matrix.product(y, x, count, &[], room);
        };
        let stride = adapter.height();
        let hidden = fit(hidden, count * stride);
        RowMatrix::Dense(adapter.a).product(hidden, x, count, &[], room);
        hidden.iter_mut().for_each(|hidden| *hidden *= adapter.scale);
        let addition = |(index, (columns, b)): (usize, (std::ops::Range<usize>, _))| {
            let hidden = &hidden[index * adapter.rank..];
            LowRank { first: columns.start, b, rank: adapter.rank, hidden, stride }
        };
        let additions: Vec<_> = adapter.targets().enumerate().map(addition).collect();
        matrix.product(y, x, count, &additions, room);
    }
}
