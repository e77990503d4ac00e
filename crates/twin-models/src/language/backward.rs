//! The decoder's backward pass, written out by hand.
//!
//! Frozen weights get no gradient: only the gradient of each layer's input and of the adapter's matrices is computed. Cheap
//! intermediate results (norms, SwiGLU, attention probabilities) are computed again instead of being kept.

use super::attention::{Attended, Heads, attend_backward};
use super::decoder::{Decoder, LayerTape, LinearGroup, Rows, Scratch, fit};
use super::lora::Group;
use super::matmul::{Into, Matrix, MatrixMut, matmul};
use super::ops::{gated, gated_backward, head_norms_backward, rms_norm, rms_norm_backward};

/// Room for the backward pass, used anew by every layer.
#[derive(Default)]
pub(crate) struct BackwardScratch {
    d_normed: Vec<f32>,
    d_wide: Vec<f32>,
    d_activated: Vec<f32>,
    d_attended: Vec<f32>,
    d_qkv: Vec<f32>,
    by_head: Vec<f32>,
    d_hidden: Vec<f32>,
    d_dropped: Vec<f32>,
    d_result: Vec<f32>,
    d_heads: Vec<f32>,
}

/// The gradient of a group's result from that of what was added: through the norm between them, where there is one.
fn through_norm<'a>(
    d_x: &'a [f32],
    result: &[f32],
    norm: Option<&Vec<f32>>,
    epsilon: f32,
    room: &'a mut Vec<f32>,
) -> &'a [f32] {
    let Some(norm) = norm else { return d_x };
    let d_result = fit(room, d_x.len());
    d_result.fill(0.0);
    rms_norm_backward(d_result, d_x, result, norm, epsilon);
    d_result
}

impl Decoder<'_> {
    /// Takes `d_x`, the gradient of a layer's result, to that of its input, and adds the adapter's to `gradients`, a buffer
    /// of the adapter's layout. `tape` is what [`Decoder::forward_layer`] left.
    pub(crate) fn backward_layer(
        &self,
        layer: usize,
        rows: &Rows,
        tape: &LayerTape,
        d_x: &mut [f32],
        gradients: &mut [f32],
        (scratch, back): (&mut Scratch, &mut BackwardScratch),
    ) {
        self.mlp_backward(layer, rows.len(), tape, d_x, gradients, scratch, back);
        self.attention_backward(layer, rows, tape, d_x, gradients, scratch, back);
    }

    #[expect(clippy::too_many_arguments, reason = "the state of one layer's backward pass")]
    fn mlp_backward(
        &self,
        layer: usize,
        rows: usize,
        tape: &LayerTape,
        d_x: &mut [f32],
        gradients: &mut [f32],
        scratch: &mut Scratch,
        back: &mut BackwardScratch,
    ) {
        let (sizes, weights) = (self.sizes(), &self.weights.layers[layer]);
        let (width, epsilon) = (sizes.intermediate_size, sizes.rms_epsilon);
        rms_norm(fit(&mut scratch.normed, d_x.len()), &tape.middle, &weights.mlp_norm, epsilon);
        let gelu = sizes.variant.gelu;
        gated(fit(&mut scratch.activated, rows * width), &tape.gate_up, width, gelu);

        let mut room = LowRankRoom {
            d_hidden: &mut back.d_hidden,
            d_dropped: &mut back.d_dropped,
            dropped: &mut scratch.linear.dropped,
        };
        let d_activated = fit(&mut back.d_activated, rows * width);
        let linear =
            LinearGroup { layer, group: Group::MlpOutput, weight: &weights.down, input: &scratch.activated, rows };
        let norm = weights.post_norms.as_ref().map(|norms| &norms[1]);
        let d_result = through_norm(d_x, &tape.results[1], norm, epsilon, &mut back.d_result);
        self.linear_backward(linear, &tape.hidden[3], d_result, d_activated, gradients, &mut room);
        let d_gate_up = fit(&mut back.d_wide, rows * 2 * width);
        gated_backward(d_gate_up, d_activated, &tape.gate_up, width, gelu);
        let d_normed = fit(&mut back.d_normed, d_x.len());
        let linear =
            LinearGroup { layer, group: Group::MlpInput, weight: &weights.gate_up, input: &scratch.normed, rows };
        self.linear_backward(linear, &tape.hidden[2], d_gate_up, d_normed, gradients, &mut room);
        rms_norm_backward(d_x, d_normed, &tape.middle, &weights.mlp_norm, epsilon);
    }

    #[expect(clippy::too_many_arguments, reason = "the state of one layer's backward pass")]
    fn attention_backward(
        &self,
        layer: usize,
        rows: &Rows,
        tape: &LayerTape,
        d_x: &mut [f32],
        gradients: &mut [f32],
        scratch: &mut Scratch,
        back: &mut BackwardScratch,
    ) {
        let (sizes, weights, count) = (self.sizes(), &self.weights.layers[layer], rows.len());
        let (query, kv, qkv_width) = (sizes.query_width(), sizes.kv_width(), sizes.qkv_width());
        rms_norm(fit(&mut scratch.normed, d_x.len()), &tape.input, &weights.attention_norm, sizes.rms_epsilon);

        let mut room = LowRankRoom {
            d_hidden: &mut back.d_hidden,
            d_dropped: &mut back.d_dropped,
            dropped: &mut scratch.linear.dropped,
        };
        let d_attended = fit(&mut back.d_attended, count * query);
        let group = Group::AttentionOutput;
        let linear = LinearGroup { layer, group, weight: &weights.output, input: &tape.attended, rows: count };
        let norm = weights.post_norms.as_ref().map(|norms| &norms[0]);
        let d_result = through_norm(d_x, &tape.results[0], norm, sizes.rms_epsilon, &mut back.d_result);
        self.linear_backward(linear, &tape.hidden[1], d_result, d_attended, gradients, &mut room);

        let kept = Attended { qkv: &tape.qkv, out: &tape.attended, log_sums: &tape.log_sums };
        let by_head = fit(&mut back.by_head, 3 * count * query);
        let d_qkv = fit(&mut back.d_qkv, count * qkv_width);
        attend_backward(Heads::of(sizes, layer), &kept, d_attended, &rows.segments, by_head, d_qkv);
        self.rope(layer).turn(d_qkv, qkv_width, query + kv, &rows.positions, true);
        if let Some(norms) = &weights.qk_norm {
            let d_heads = fit(&mut back.d_heads, query + kv);
            head_norms_backward(d_qkv, qkv_width, query, &tape.raw_qk, norms, sizes.rms_epsilon, d_heads);
        }

        let d_normed = fit(&mut back.d_normed, d_x.len());
        let group = Group::AttentionInput;
        let linear = LinearGroup { layer, group, weight: &weights.qkv, input: &scratch.normed, rows: count };
        self.linear_backward(linear, &tape.hidden[0], d_qkv, d_normed, gradients, &mut room);
        rms_norm_backward(d_x, d_normed, &tape.input, &weights.attention_norm, sizes.rms_epsilon);
    }

    /// The gradient of a group's input, given that of its result; the adapter's is added to `gradients`.
    fn linear_backward(
        &self,
        linear: LinearGroup<'_>,
        hidden: &[f32],
        d_y: &[f32],
        d_input: &mut [f32],
        gradients: &mut [f32],
        room: &mut LowRankRoom<'_>,
    ) {
        let sizes = self.sizes();
        let (input_width, output_width) = (linear.group.input_width(sizes), linear.group.output_width(sizes));
        let rows = linear.rows;
        let weight = Matrix::new(linear.weight, output_width, input_width);
        let d_result = Matrix::new(d_y, rows, output_width);
        matmul(MatrixMut::new(d_input, rows, input_width), Into::Replace, 1.0, d_result, weight);

        let Some(adapter) = self.adapter else { return };
        let Some(group) = adapter.group(linear.layer, linear.group) else { return };
        let Some(gradient) = adapter.layout().split_mut(gradients, linear.layer, linear.group) else { return };
        let (height, rank, scale) = (group.height(), group.rank, group.scale);
        let d_hidden = fit(room.d_hidden, rows * height);
        for (index, ((columns, b), d_b)) in group.targets().zip(gradient.b).enumerate() {
            let d_y = Matrix::strided(&d_y[columns.start..], rows, columns.len(), output_width);
            let hidden = Matrix::strided(&hidden[index * rank..], rows, rank, height);
            matmul(MatrixMut::new(d_b, columns.len(), rank), Into::Add, scale, d_y.t(), hidden);
            let into = MatrixMut::strided(&mut d_hidden[index * rank..], rows, rank, height);
            matmul(into, Into::Replace, scale, d_y, Matrix::new(b, columns.len(), rank));
        }
        let d_hidden = Matrix::new(d_hidden, rows, height);
        let input = Matrix::new(self.dropped(&linear, room.dropped), rows, input_width);
        matmul(MatrixMut::new(gradient.a, height, input_width), Into::Add, 1.0, d_hidden.t(), input);
        let a = Matrix::new(group.a, height, input_width);
        match self.dropout_at(linear.layer, linear.group) {
            None => matmul(MatrixMut::new(d_input, rows, input_width), Into::Add, 1.0, d_hidden, a),
            Some(dropout) => {
                let d_dropped = fit(room.d_dropped, d_input.len());
                matmul(MatrixMut::new(d_dropped, rows, input_width), Into::Replace, 1.0, d_hidden, a);
                dropout.apply(d_input, d_dropped, true);
            }
        }
    }
}

/// Room for the low-rank part of one group.
struct LowRankRoom<'a> {
    d_hidden: &'a mut Vec<f32>,
    d_dropped: &'a mut Vec<f32>,
    dropped: &'a mut Vec<f32>,
}
