//! Cross-entropy over the vocabulary, a few dozen targets at a time, and only where a token is a target: all logits of a
//! sequence would take more memory than the model.

use rayon::prelude::*;

use super::decoder::{Decoder, fit};
use super::matmul::{Into, Matrix, MatrixMut, matmul};
use super::matvec::{ProductRoom, RowMatrix};
use super::ops::{rms_norm, rms_norm_backward};
use super::simd::{LANES, exp, kernel, sum_lanes};

/// Targets whose logits exist at the same time.
pub(crate) const CHUNK: usize = 128;

/// A row of the decoder's result and the token that it should predict.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) row: usize,
    pub(crate) token: u32,
}

/// Room for one chunk of targets.
#[derive(Default)]
pub(crate) struct LossScratch {
    picked: Vec<f32>,
    normed: Vec<f32>,
    logits: Vec<f32>,
    d_normed: Vec<f32>,
    d_picked: Vec<f32>,
    products: ProductRoom,
}

impl Decoder<'_> {
    /// The negative log-likelihood in nats of each target, from `x`, the last layer's result. With `d_x` (zeros), the
    /// gradient of their sum is added to it.
    pub(crate) fn cross_entropy(
        &self,
        x: &[f32],
        targets: &[Target],
        mut d_x: Option<&mut [f32]>,
        scratch: &mut LossScratch,
    ) -> Vec<f32> {
        let mut losses = Vec::with_capacity(targets.len());
        for targets in targets.chunks(CHUNK) {
            losses.extend(self.cross_entropy_chunk(x, targets, d_x.as_deref_mut(), scratch));
        }
        losses
    }

    /// The logits that a row of the last layer's result stands for.
    pub(crate) fn logits_of_row(&self, row: &[f32], normed: &mut Vec<f32>) -> Vec<f32> {
        let (sizes, weights) = (self.sizes(), self.weights);
        let normed = fit(normed, row.len());
        rms_norm(normed, row, &weights.final_norm, sizes.rms_epsilon);
        let mut logits = vec![0.0; sizes.vocab_size];
        let head = Matrix::new(weights.head(), sizes.vocab_size, sizes.hidden_size);
        let into = MatrixMut::new(&mut logits, 1, sizes.vocab_size);
        matmul(into, Into::Replace, 1.0, Matrix::new(normed, 1, row.len()), head.t());
        logits
    }

    fn cross_entropy_chunk(
        &self,
        x: &[f32],
        targets: &[Target],
        d_x: Option<&mut [f32]>,
        scratch: &mut LossScratch,
    ) -> Vec<f32> {
        let (sizes, weights) = (self.sizes(), self.weights);
        let (rows, width, vocab) = (targets.len(), sizes.hidden_size, sizes.vocab_size);
        let picked = fit(&mut scratch.picked, rows * width);
        for (picked, target) in picked.chunks_exact_mut(width).zip(targets) {
            picked.copy_from_slice(&x[target.row * width..][..width]);
        }
        let normed = fit(&mut scratch.normed, rows * width);
        rms_norm(normed, picked, &weights.final_norm, sizes.rms_epsilon);
        let logits = fit(&mut scratch.logits, rows * vocab);
        let head = Matrix::new(weights.head(), vocab, width);
        match self.quantized {
            Some(quantized) => {
                RowMatrix::Fine(&quantized.head).product(logits, normed, rows, &[], &mut scratch.products)
            }
            None => {
                let into = MatrixMut::new(logits, rows, vocab);
                matmul(into, Into::Replace, 1.0, Matrix::new(normed, rows, width), head.t());
            }
        }
        let want_gradient = d_x.is_some();
        let losses = logits
            .par_chunks_exact_mut(vocab)
            .zip(targets)
            .map(|(logits, target)| token_loss(logits, target.token as usize, want_gradient))
            .collect();
        let Some(d_x) = d_x else { return losses };
        let d_normed = fit(&mut scratch.d_normed, rows * width);
        matmul(MatrixMut::new(d_normed, rows, width), Into::Replace, 1.0, Matrix::new(logits, rows, vocab), head);
        let d_picked = fit(&mut scratch.d_picked, rows * width);
        d_picked.fill(0.0);
        rms_norm_backward(d_picked, d_normed, picked, &weights.final_norm, sizes.rms_epsilon);
        for (d_picked, target) in d_picked.chunks_exact(width).zip(targets) {
            let d_x = &mut d_x[target.row * width..][..width];
            d_x.iter_mut().zip(d_picked).for_each(|(d_x, d)| *d_x += d);
        }
        losses
    }
}

kernel! {
    /// The loss of one token; with `gradient`, the logits become that of the loss.
    fn token_loss(logits: &'a mut [f32], token: usize, gradient: bool) -> f32 {
        let largest = largest(logits);
        let sum = sum_of_exp(logits, largest);
        let loss = largest + sum.ln() - logits[token];
        if gradient {
            let scale = 1.0 / sum;
            for logit in logits.iter_mut() {
                *logit = exp(*logit - largest) * scale;
            }
            logits[token] -= 1.0;
        }
        loss
    }
}

/// The largest of the values.
#[inline(always)]
pub(crate) fn largest(values: &[f32]) -> f32 {
    let greater = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for i in 0..LANES {
            lanes[i] = greater(lanes[i], block[i]);
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |largest, value| greater(largest, *value))
}

#[inline(always)]
fn sum_of_exp(values: &[f32], largest: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for i in 0..LANES {
            lanes[i] += exp(block[i] - largest);
        }
    }
    sum_lanes(lanes) + rest.iter().map(|value| exp(value - largest)).sum::<f32>()
}
