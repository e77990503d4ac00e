//! The attention of one token, as answers are written: keys and values are read once for all heads that share them.

use rayon::prelude::*;

use super::{Heads, exp_and_sum};
use crate::language::loss::largest;
use crate::language::simd::{exp, kernel};

/// Keys that one token attends to in one task: their keys and values of a head fit the second-level cache.
const PART: usize = 128;
/// Tokens from which a token's attention is divided over the threads.
const PARALLEL_FROM: usize = 2 * PART;

/// The attention of one token's `queries` over all `keys` and `values`, `[tokens, kv width]` each. Tokens are divided into
/// parts, each of which is read once for all heads that share it; the parts' softmaxes are then joined.
pub(crate) fn attend_token(
    heads: Heads,
    queries: &[f32],
    keys: &[f32],
    values: &[f32],
    room: &mut Vec<f32>,
    out: &mut [f32],
) {
    let (head_dim, stride) = (heads.head_dim, heads.kv_width());
    let unseen = heads.unseen((keys.len() / stride).saturating_sub(1));
    let (keys, values) = (&keys[unseen * stride..], &values[unseen * stride..]);
    let (tokens, sharing) = (keys.len() / stride, heads.heads / heads.kv_heads);
    let parts = tokens.div_ceil(PART);
    // Per head the largest score, the sum, and the weighted values; then the scores, which only the task itself needs.
    let (result_size, scores_at) = (head_dim + 2, sharing * (head_dim + 2));
    let task_size = scores_at + sharing * PART;
    room.resize(heads.kv_heads * parts * task_size, 0.0);
    let task = |(index, room): (usize, &mut [f32])| {
        let (kv_head, first) = (index / parts, index % parts * PART);
        let at = first * stride + kv_head * head_dim;
        let (results, scores) = room.split_at_mut(scores_at);
        attend_part(&mut TokenPart {
            queries: &queries[kv_head * sharing * head_dim..][..sharing * head_dim],
            head_dim,
            scale: heads.scale,
            keys: &keys[at..],
            values: &values[at..],
            stride,
            tokens: PART.min(tokens - first),
            scores,
            results,
        });
    };
    if tokens < PARALLEL_FROM {
        room.chunks_exact_mut(task_size).enumerate().for_each(task);
    } else {
        room.par_chunks_exact_mut(task_size).enumerate().for_each(task);
    }
    for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
        let result = |part: usize| {
            let task = &room[(head / sharing * parts + part) * task_size..];
            &task[head % sharing * result_size..][..result_size]
        };
        join(out, (0..parts).map(result));
    }
}

/// Joins the softmaxes of a head's parts, each a largest score, a sum and weighted values.
fn join<'a>(out: &mut [f32], parts: impl Iterator<Item = &'a [f32]> + Clone) {
    let largest = parts.clone().fold(f32::NEG_INFINITY, |largest, part| largest.max(part[0]));
    out.fill(0.0);
    let mut total = 0.0;
    for part in parts {
        let weight = exp(part[0] - largest);
        total += weight * part[1];
        out.iter_mut().zip(&part[2..]).for_each(|(out, value)| *out += weight * value);
    }
    out.iter_mut().for_each(|out| *out /= total);
}

kernel! {
    /// Attends with heads that share keys and values.
    fn attend_part[simd](part: &'a mut TokenPart<'a>) {
        let heads = part.queries.len() / part.head_dim;
        let mut head = 0;
        while head < heads {
            // As many as leave their sums in the registers.
            head += match heads - head {
                3 | 5.. => part.attend::<S, 3>(simd, head),
                2 | 4 => part.attend::<S, 2>(simd, head),
                _ => part.attend::<S, 1>(simd, head),
            };
        }
    }
}

/// A token's queries of the heads that share keys and values, and some of these keys and values.
struct TokenPart<'a> {
    /// `[heads, head_dim]`.
    queries: &'a [f32],
    head_dim: usize,
    scale: f32,
    /// Those of a token begin `stride` after those of the one before.
    keys: &'a [f32],
    values: &'a [f32],
    stride: usize,
    tokens: usize,
    /// Room, `[heads, tokens]`.
    scores: &'a mut [f32],
    /// `[heads, head_dim + 2]`: the largest score, the sum of the weights, and the weighted values.
    results: &'a mut [f32],
}

impl TokenPart<'_> {
    /// `N` heads from `head` on; returns `N`.
    #[inline(always)]
    fn attend<S: pulp::Simd, const N: usize>(&mut self, simd: S, head: usize) -> usize {
        let (head_dim, tokens) = (self.head_dim, self.tokens);
        let queries: [_; N] = std::array::from_fn(|n| &self.queries[(head + n) * head_dim..][..head_dim]);
        let scores = &mut self.scores[head * tokens..(head + N) * tokens];
        for (token, key) in self.keys.chunks(self.stride).take(tokens).enumerate() {
            let products = dots(simd, queries, &key[..head_dim]);
            for n in 0..N {
                scores[n * tokens + token] = products[n] * self.scale;
            }
        }
        for n in 0..N {
            let scores = &mut scores[n * tokens..][..tokens];
            let largest = largest(scores);
            let result = &mut self.results[(head + n) * (head_dim + 2)..];
            (result[0], result[1]) = (largest, exp_and_sum(scores, largest));
        }
        let vectors = head_dim / S::F32_LANES;
        let fours = vectors / 4 * 4;
        (0..fours).step_by(4).for_each(|vector| self.weigh::<S, N, 4>(simd, head, vector));
        (fours..vectors).for_each(|vector| self.weigh::<S, N, 1>(simd, head, vector));
        for n in 0..N {
            let scores = &self.scores[(head + n) * tokens..][..tokens];
            let result = &mut self.results[(head + n) * (head_dim + 2)..][2..][..head_dim];
            for (index, result) in result.iter_mut().enumerate().skip(vectors * S::F32_LANES) {
                *result =
                    scores.iter().zip(self.values.chunks(self.stride)).map(|(score, value)| score * value[index]).sum();
            }
        }
        N
    }

    /// The weighted values of `N` heads, `V` vectors of them.
    #[inline(always)]
    fn weigh<S: pulp::Simd, const N: usize, const V: usize>(&mut self, simd: S, head: usize, vector: usize) {
        let (head_dim, tokens) = (self.head_dim, self.tokens);
        let scores: [_; N] = std::array::from_fn(|n| &self.scores[(head + n) * tokens..][..tokens]);
        let mut sums = [[simd.splat_f32s(0.0); V]; N];
        for (token, value) in self.values.chunks(self.stride).take(tokens).enumerate() {
            let value = &S::as_simd_f32s(&value[..head_dim]).0[vector..][..V];
            for n in 0..N {
                let score = simd.splat_f32s(scores[n][token]);
                for v in 0..V {
                    sums[n][v] = simd.mul_add_e_f32s(score, value[v], sums[n][v]);
                }
            }
        }
        for (n, sums) in sums.into_iter().enumerate() {
            let result = &mut self.results[(head + n) * (head_dim + 2)..][2..][..head_dim];
            S::as_mut_simd_f32s(result).0[vector..][..V].copy_from_slice(&sums);
        }
    }
}

/// The products of several vectors with one.
#[inline(always)]
fn dots<S: pulp::Simd, const N: usize>(simd: S, a: [&[f32]; N], b: &[f32]) -> [f32; N] {
    let (b, b_rest) = S::as_simd_f32s(b);
    let a = a.map(|a| S::as_simd_f32s(a));
    let mut sums = [[simd.splat_f32s(0.0); 2]; N];
    let (pairs, single) = b.as_chunks::<2>();
    for (index, b) in pairs.iter().enumerate() {
        for n in 0..N {
            for i in 0..2 {
                sums[n][i] = simd.mul_add_e_f32s(a[n].0[2 * index + i], b[i], sums[n][i]);
            }
        }
    }
    for b in single {
        for n in 0..N {
            sums[n][0] = simd.mul_add_e_f32s(a[n].0[2 * pairs.len()], *b, sums[n][0]);
        }
    }
    if !b_rest.is_empty() {
        let b = simd.partial_load_f32s(b_rest);
        for n in 0..N {
            sums[n][1] = simd.mul_add_e_f32s(simd.partial_load_f32s(a[n].1), b, sums[n][1]);
        }
    }
    std::array::from_fn(|n| simd.reduce_sum_f32s(simd.add_f32s(sums[n][0], sums[n][1])))
}
