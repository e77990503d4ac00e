//! The decoder's forward pass over many tokens at once, for training, evaluation and prompts alike.
//!
//! What the backward pass needs is left in a [`LayerTape`]; inference reuses one tape for all layers. The backward pass is
//! in `backward`, decoding token by token in `session`.

use super::architecture::Architecture;
use super::attention::{Heads, KeysValues, Segment, attend};
use super::lora::{Adapter, Group};
use super::matmul::{Into, Matrix, MatrixMut, matmul};
use super::matvec::{ProductRoom, RowMatrix};
use super::ops::{Dropout, Rope, gated, head_norms, rms_norm};
use super::session::QuantizedWeights;
use super::weights::{LayerWeights, Weights};

/// A base model with or without an adapter, ready to compute.
#[derive(Clone, Copy)]
pub(crate) struct Decoder<'a> {
    pub(crate) weights: &'a Weights,
    pub(crate) ropes: &'a Ropes,
    pub(crate) adapter: Option<&'a Adapter>,
    /// The matrices in eight bits, to compute with instead; never in training.
    pub(crate) quantized: Option<&'a QuantizedWeights>,
    /// Dropout of the adapter's input; only in training.
    pub(crate) dropout: Option<Dropout>,
}

/// The rotary positions of all layers.
pub(crate) struct Ropes {
    global: Rope,
    /// Of layers that see only their neighbours, where they turn otherwise.
    local: Option<Rope>,
}

impl Ropes {
    pub(crate) fn new(sizes: &Architecture) -> Self {
        let Architecture { context_length, head_dim, rope_theta, variant, .. } = sizes;
        let factors = variant.rope_factors.as_deref();
        let differs = |theta: f32| factors.is_some() || theta != *rope_theta;
        let local = variant.sliding.as_ref().filter(|sliding| differs(sliding.rope_theta));
        Self {
            global: Rope::new(*context_length, *head_dim, *rope_theta, factors),
            local: local.map(|sliding| Rope::new(*context_length, *head_dim, sliding.rope_theta, None)),
        }
    }

    /// Those of a layer with this window.
    fn of(&self, window: usize) -> &Rope {
        self.local.as_ref().filter(|_| window != usize::MAX).unwrap_or(&self.global)
    }
}

/// What one layer computed, `rows` rows each.
#[derive(Default)]
pub(crate) struct LayerTape {
    /// The layer's input, `[rows, hidden]`.
    pub(crate) input: Vec<f32>,
    /// Queries, keys and values with their rotary positions.
    pub(crate) qkv: Vec<f32>,
    /// Queries and keys before their norms, where there are such norms.
    pub(crate) raw_qk: Vec<f32>,
    /// What attention and MLP made, where that goes through a norm before it is added.
    pub(crate) results: [Vec<f32>; 2],
    /// `[heads, rows]`.
    pub(crate) log_sums: Vec<f32>,
    /// `[rows, query width]`.
    pub(crate) attended: Vec<f32>,
    /// Between attention and MLP, `[rows, hidden]`.
    pub(crate) middle: Vec<f32>,
    /// `[rows, 2·intermediate]`.
    pub(crate) gate_up: Vec<f32>,
    /// `A·x` of each group, `[rows, targets·rank]`.
    pub(crate) hidden: [Vec<f32>; 4],
}

/// Room that every layer uses anew.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) normed: Vec<f32>,
    pub(crate) activated: Vec<f32>,
    pub(crate) linear: LinearRoom,
    pub(crate) by_head: Vec<f32>,
}

/// What a group's product needs.
#[derive(Default)]
pub(crate) struct LinearRoom {
    /// The adapter's input with dropout.
    pub(crate) dropped: Vec<f32>,
    products: ProductRoom,
    /// A result that is to be added.
    result: Vec<f32>,
}

/// Which rows belong together, and where each is in its sequence.
pub(crate) struct Rows {
    pub(crate) segments: Vec<Segment>,
    pub(crate) positions: Vec<usize>,
}

/// Keys and values of the tokens so far, for one layer: `[tokens, kv width]` each.
#[derive(Default, Clone)]
pub(crate) struct LayerCache {
    pub(crate) keys: Vec<f32>,
    pub(crate) values: Vec<f32>,
}

impl Rows {
    /// Sequences of these lengths, one after the other, each from position 0.
    pub(crate) fn packed(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut rows = Self { segments: Vec::new(), positions: Vec::new() };
        for length in lengths {
            let start = rows.positions.len();
            rows.segments.push(start..start + length);
            rows.positions.extend(0..length);
        }
        rows
    }

    /// The next `length` tokens of one sequence.
    pub(crate) fn continued(past: usize, length: usize) -> Self {
        Self { segments: std::iter::once(0..length).collect(), positions: (past..past + length).collect() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.positions.len()
    }
}

/// Gives a buffer `size` elements; what it held stays where it fits, so pages are touched once.
pub(crate) fn fit(buffer: &mut Vec<f32>, size: usize) -> &mut [f32] {
    buffer.resize(size, 0.0);
    buffer
}

/// One group of a layer: where it is, what it reads and what it multiplies with.
#[derive(Clone, Copy)]
pub(crate) struct LinearGroup<'a> {
    pub(crate) layer: usize,
    pub(crate) group: Group,
    /// `[out, in]`.
    pub(crate) weight: &'a [f32],
    pub(crate) input: &'a [f32],
    pub(crate) rows: usize,
}

impl<'a> Decoder<'a> {
    pub(crate) fn sizes(&self) -> &'a Architecture {
        &self.weights.architecture
    }

    /// The embeddings of tokens, `[tokens, hidden]`.
    pub(crate) fn embed(&self, token_ids: &[u32], x: &mut Vec<f32>) {
        let width = self.sizes().hidden_size;
        x.clear();
        for &token in token_ids {
            x.extend_from_slice(&self.weights.embedding[token as usize * width..][..width]);
        }
        let scale = self.sizes().variant.embedding_scale;
        if scale != 1.0 {
            x.iter_mut().for_each(|x| *x *= scale);
        }
    }

    /// Makes the products of queries, keys and values into what attention takes: biases, norms of heads, positions.
    /// `raw` receives queries and keys from before the norms.
    pub(crate) fn finish_qkv(&self, layer: usize, qkv: &mut [f32], positions: &[usize], raw: &mut Vec<f32>) {
        let (sizes, weights) = (self.sizes(), &self.weights.layers[layer]);
        let (query, width) = (sizes.query_width(), sizes.qkv_width());
        let turned = query + sizes.kv_width();
        if let Some(bias) = &weights.qkv_bias {
            qkv.chunks_exact_mut(width).for_each(|row| row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias));
        }
        if let Some(norms) = &weights.qk_norm {
            head_norms(qkv, width, query, fit(raw, positions.len() * turned), norms, sizes.rms_epsilon);
        }
        self.rope(layer).turn(qkv, width, turned, positions, false);
    }

    /// The rotary positions of a layer.
    pub(crate) fn rope(&self, layer: usize) -> &'a Rope {
        self.ropes.of(self.sizes().window(layer))
    }

    /// Adds a group's result to `x`, through a norm where there is one; then the result itself stays in `kept`.
    fn add_result(
        &self,
        linear: LinearGroup<'_>,
        norm: Option<&Vec<f32>>,
        x: &mut [f32],
        kept: &mut Vec<f32>,
        hidden: &mut Vec<f32>,
        (room, normed): (&mut LinearRoom, &mut Vec<f32>),
    ) {
        let Some(norm) = norm else { return self.linear(linear, Into::Add, x, hidden, room) };
        let (result, normed) = (fit(kept, x.len()), fit(normed, x.len()));
        self.linear(linear, Into::Replace, result, hidden, room);
        rms_norm(normed, result, norm, self.sizes().rms_epsilon);
        x.iter_mut().zip(normed).for_each(|(x, normed)| *x += *normed);
    }

    /// Takes `x`, `[rows, hidden]`, through one layer. With a cache, keys and values are appended to it and the rows see
    /// what was there before.
    pub(crate) fn forward_layer(
        &self,
        layer: usize,
        rows: &Rows,
        cache: Option<&mut LayerCache>,
        x: &mut [f32],
        tape: &mut LayerTape,
        scratch: &mut Scratch,
    ) {
        let weights = &self.weights.layers[layer];
        fit(&mut tape.input, x.len()).copy_from_slice(x);
        self.attention(layer, weights, rows, cache, x, tape, scratch);
        fit(&mut tape.middle, x.len()).copy_from_slice(x);
        self.mlp(layer, weights, rows.len(), x, tape, scratch);
    }

    #[expect(clippy::too_many_arguments, reason = "the state of one layer, split so that a tape can be shared or kept")]
    fn attention(
        &self,
        layer: usize,
        weights: &LayerWeights,
        rows: &Rows,
        cache: Option<&mut LayerCache>,
        x: &mut [f32],
        tape: &mut LayerTape,
        scratch: &mut Scratch,
    ) {
        let (sizes, count) = (self.sizes(), rows.len());
        let (query, kv, qkv_width) = (sizes.query_width(), sizes.kv_width(), sizes.qkv_width());
        rms_norm(fit(&mut scratch.normed, x.len()), x, &weights.attention_norm, sizes.rms_epsilon);
        let qkv = fit(&mut tape.qkv, count * qkv_width);
        let group = Group::AttentionInput;
        let linear = LinearGroup { layer, group, weight: &weights.qkv, input: &scratch.normed, rows: count };
        self.linear(linear, Into::Replace, qkv, &mut tape.hidden[0], &mut scratch.linear);
        self.finish_qkv(layer, qkv, &rows.positions, &mut tape.raw_qk);

        let mut sources = Vec::with_capacity(rows.segments.len());
        if let Some(cache) = cache {
            let past = cache.keys.len() / kv;
            for row in qkv.chunks_exact(qkv_width) {
                cache.keys.extend_from_slice(&row[query..query + kv]);
                cache.values.extend_from_slice(&row[query + kv..]);
            }
            sources.push(KeysValues { keys: &cache.keys, values: &cache.values, stride: kv, past });
        } else {
            sources.extend(rows.segments.iter().map(|segment| {
                let keys = &qkv[segment.start * qkv_width + query..];
                KeysValues { keys, values: &keys[kv..], stride: qkv_width, past: 0 }
            }));
        }
        attend(
            Heads::of(sizes, layer),
            qkv,
            &rows.segments,
            &sources,
            fit(&mut scratch.by_head, count * query),
            fit(&mut tape.log_sums, count * sizes.heads),
            fit(&mut tape.attended, count * query),
        );
        let group = Group::AttentionOutput;
        let linear = LinearGroup { layer, group, weight: &weights.output, input: &tape.attended, rows: count };
        let norm = weights.post_norms.as_ref().map(|norms| &norms[0]);
        let room = (&mut scratch.linear, &mut scratch.normed);
        self.add_result(linear, norm, x, &mut tape.results[0], &mut tape.hidden[1], room);
    }

    fn mlp(
        &self,
        layer: usize,
        weights: &LayerWeights,
        rows: usize,
        x: &mut [f32],
        tape: &mut LayerTape,
        scratch: &mut Scratch,
    ) {
        let (sizes, width) = (self.sizes(), self.sizes().intermediate_size);
        rms_norm(fit(&mut scratch.normed, x.len()), x, &weights.mlp_norm, sizes.rms_epsilon);
        let gate_up = fit(&mut tape.gate_up, rows * 2 * width);
        let linear =
            LinearGroup { layer, group: Group::MlpInput, weight: &weights.gate_up, input: &scratch.normed, rows };
        self.linear(linear, Into::Replace, gate_up, &mut tape.hidden[2], &mut scratch.linear);
        gated(fit(&mut scratch.activated, rows * width), gate_up, width, sizes.variant.gelu);
        let linear =
            LinearGroup { layer, group: Group::MlpOutput, weight: &weights.down, input: &scratch.activated, rows };
        let norm = weights.post_norms.as_ref().map(|norms| &norms[1]);
        let room = (&mut scratch.linear, &mut scratch.normed);
        self.add_result(linear, norm, x, &mut tape.results[1], &mut tape.hidden[3], room);
    }

    /// `y = W·x + scale · B·(A·dropout(x))` for all modules of a group; `A·x` stays in `hidden`.
    fn linear(&self, linear: LinearGroup<'_>, mode: Into, y: &mut [f32], hidden: &mut Vec<f32>, room: &mut LinearRoom) {
        let sizes = self.sizes();
        let (input_width, output_width) = (linear.group.input_width(sizes), linear.group.output_width(sizes));
        let rows = linear.rows;
        let input = Matrix::new(linear.input, rows, input_width);
        if let Some(quantized) = self.quantized {
            let matrix = RowMatrix::Fine(&quantized.layers[linear.layer][linear.group as usize]);
            match mode {
                Into::Replace => matrix.product(y, linear.input, rows, &[], &mut room.products),
                Into::Add => {
                    let result = fit(&mut room.result, y.len());
                    matrix.product(result, linear.input, rows, &[], &mut room.products);
                    y.iter_mut().zip(result).for_each(|(y, result)| *y += *result);
                }
            }
        } else {
            let weight = Matrix::new(linear.weight, output_width, input_width);
            matmul(MatrixMut::new(y, rows, output_width), mode, 1.0, input, weight.t());
        }
        let Some(adapter) = self.adapter.and_then(|adapter| adapter.group(linear.layer, linear.group)) else {
            return;
        };
        let (height, rank) = (adapter.height(), adapter.rank);
        let input = Matrix::new(self.dropped(&linear, &mut room.dropped), rows, input_width);
        let hidden = fit(hidden, rows * height);
        let a = Matrix::new(adapter.a, height, input_width);
        matmul(MatrixMut::new(hidden, rows, height), Into::Replace, 1.0, input, a.t());
        for (index, (columns, b)) in adapter.targets().enumerate() {
            let hidden = Matrix::strided(&hidden[index * rank..], rows, rank, height);
            let b = Matrix::new(b, columns.len(), rank);
            let into = MatrixMut::strided(&mut y[columns.start..], rows, columns.len(), output_width);
            matmul(into, Into::Add, adapter.scale, hidden, b.t());
        }
    }

    /// What an adapter's `A` reads: the input, with dropout in training.
    pub(crate) fn dropped<'b>(&self, linear: &LinearGroup<'b>, dropped: &'b mut Vec<f32>) -> &'b [f32] {
        match self.dropout_at(linear.layer, linear.group) {
            None => linear.input,
            Some(dropout) => {
                dropout.apply(fit(dropped, linear.input.len()), linear.input, false);
                dropped
            }
        }
    }

    /// The dropout of one group's input.
    pub(crate) fn dropout_at(&self, layer: usize, group: Group) -> Option<Dropout> {
        self.dropout.map(|dropout| dropout.at((layer * Group::ALL.len() + group as usize) as u64))
    }
}
