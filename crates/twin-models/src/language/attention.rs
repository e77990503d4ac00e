//! Causal grouped-query attention over blocks of queries: the matrix of scores exists for one head and one block at a
//! time, never for a sequence.
//!
//! The forward pass keeps the logarithm of each softmax's sum, from which the backward pass makes the probabilities again
//! (Dao et al. 2022, *FlashAttention*, without its tiling of keys: on a CPU a block of scores fits the cache).

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::architecture::Architecture;
use super::loss::largest;
use super::matmul::{Into, Matrix, MatrixMut, matmul_serial};
use super::simd::{LANES, dot, exp, kernel, sum_lanes};

pub(crate) use self::token::attend_token;

mod token;

/// Queries per block. Larger wastes more on masked scores, smaller makes products less efficient.
const BLOCK: usize = 64;

/// The rows of one sequence in a batch of rows.
pub(crate) type Segment = Range<usize>;

/// The heads' shape, and where keys and values are.
#[derive(Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    /// What scores are multiplied by.
    pub(crate) scale: f32,
    /// How many rows a row sees, itself included.
    pub(crate) window: usize,
}

impl Heads {
    /// Those of one layer.
    pub(crate) fn of(sizes: &Architecture, layer: usize) -> Self {
        Self {
            heads: sizes.heads,
            kv_heads: sizes.kv_heads,
            head_dim: sizes.head_dim,
            scale: sizes.attention_scale(),
            window: sizes.window(layer),
        }
    }

    /// How many of the first rows the row at `position`, and so every later one, does not see.
    fn unseen(self, position: usize) -> usize {
        (position + 1).saturating_sub(self.window)
    }

    fn query_width(self) -> usize {
        self.heads * self.head_dim
    }

    fn kv_width(self) -> usize {
        self.kv_heads * self.head_dim
    }

    fn qkv_width(self) -> usize {
        self.query_width() + 2 * self.kv_width()
    }

    /// The first column of the keys (of the values, with `kv_width` more) that a query head reads.
    fn kv_column(self, head: usize) -> usize {
        head / (self.heads / self.kv_heads) * self.head_dim
    }
}

/// Keys and values of one sequence: rows `stride` apart. The queries' own are the last ones.
#[derive(Clone, Copy)]
pub(crate) struct KeysValues<'a> {
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    /// How many rows come before the first query's own.
    pub(crate) past: usize,
}

thread_local! {
    /// Scores of a block, and their gradients; kept because a fresh buffer for every block costs page faults.
    static SCORES: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// What one task of the forward pass writes.
struct ForwardTask<'a> {
    head: usize,
    segment: usize,
    /// Query rows, counted from the start of the segment.
    rows: Range<usize>,
    out: &'a mut [f32],
    log_sums: &'a mut [f32],
}

/// The attention of every head over `segments` of `qkv` rows, whose keys and values are in `sources` (one per segment).
/// `by_head` receives the results head by head and is then brought into `out`, `[rows, query width]`; `log_sums` is
/// `[heads, rows]`.
pub(crate) fn attend(
    heads: Heads,
    qkv: &[f32],
    segments: &[Segment],
    sources: &[KeysValues<'_>],
    by_head: &mut [f32],
    log_sums: &mut [f32],
    out: &mut [f32],
) {
    let head_dim = heads.head_dim;
    let rows = qkv.len() / heads.qkv_width();
    let mut tasks = Vec::new();
    let per_head = by_head.chunks_exact_mut(rows * head_dim).zip(log_sums.chunks_exact_mut(rows));
    for (head, (mut out, mut log_sums)) in per_head.enumerate() {
        for (index, segment) in segments.iter().enumerate() {
            for first in (0..segment.len()).step_by(BLOCK) {
                let rows = first..segment.len().min(first + BLOCK);
                let (task_out, rest) = out.split_at_mut(rows.len() * head_dim);
                let (task_sums, sums_rest) = log_sums.split_at_mut(rows.len());
                (out, log_sums) = (rest, sums_rest);
                tasks.push(ForwardTask { head, segment: index, rows, out: task_out, log_sums: task_sums });
            }
        }
    }
    tasks.into_par_iter().for_each(|task| {
        let segment = &segments[task.segment];
        let queries = &qkv[(segment.start + task.rows.start) * heads.qkv_width() + task.head * head_dim..];
        attend_block(heads, queries, &sources[task.segment], task);
    });
    interleave(by_head, out, rows, head_dim, heads.query_width());
}

fn attend_block(heads: Heads, queries: &[f32], source: &KeysValues<'_>, task: ForwardTask<'_>) {
    let (count, head_dim) = (task.rows.len(), heads.head_dim);
    let position = source.past + task.rows.start;
    let unseen = heads.unseen(position);
    let visible = source.past + task.rows.end - unseen;
    let column = unseen * source.stride + heads.kv_column(task.head);
    SCORES.with_borrow_mut(|[scores, _]| {
        scores.resize(count * visible, 0.0);
        let queries = Matrix::strided(queries, count, head_dim, heads.qkv_width());
        let keys = Matrix::strided(&source.keys[column..], visible, head_dim, source.stride);
        let values = Matrix::strided(&source.values[column..], visible, head_dim, source.stride);
        let into = MatrixMut::new(scores, count, visible);
        matmul_serial(into, Into::Replace, heads.scale, queries, keys.t());
        softmax(scores, task.log_sums, position + 1 - unseen, heads.window);
        let scores = Matrix::new(scores, count, visible);
        matmul_serial(MatrixMut::new(task.out, count, head_dim), Into::Replace, 1.0, scores, values);
    });
}

/// What one task of the backward pass writes: the gradients of queries, keys and values, one after the other.
struct BackwardTask<'a> {
    head: usize,
    segment: usize,
    gradients: &'a mut [f32],
}

/// What the forward pass kept.
pub(crate) struct Attended<'a> {
    pub(crate) qkv: &'a [f32],
    /// The result, `[rows, query width]`.
    pub(crate) out: &'a [f32],
    pub(crate) log_sums: &'a [f32],
}

/// The gradient of the `qkv` rows of an attention without past, given that of its result. `by_head` is room for
/// `3 · rows · query width` numbers.
pub(crate) fn attend_backward(
    heads: Heads,
    kept: &Attended<'_>,
    d_out: &[f32],
    segments: &[Segment],
    by_head: &mut [f32],
    d_qkv: &mut [f32],
) {
    let rows = kept.qkv.len() / heads.qkv_width();
    let row_size = 3 * heads.head_dim;
    let mut tasks = Vec::new();
    for (head, mut gradients) in by_head.chunks_exact_mut(rows * row_size).enumerate() {
        for (segment, range) in segments.iter().enumerate() {
            let (task_gradients, rest) = gradients.split_at_mut(range.len() * row_size);
            gradients = rest;
            tasks.push(BackwardTask { head, segment, gradients: task_gradients });
        }
    }
    tasks.into_par_iter().for_each(|task| {
        let segment = &segments[task.segment];
        attend_head_backward(heads, kept, d_out, segment, task.head, task.gradients);
    });
    for segment in segments {
        gather(heads, by_head, rows, segment, d_qkv);
    }
}

fn attend_head_backward(
    heads: Heads,
    kept: &Attended<'_>,
    d_out: &[f32],
    segment: &Segment,
    head: usize,
    gradients: &mut [f32],
) {
    let (length, head_dim) = (segment.len(), heads.head_dim);
    let (query_width, qkv_width) = (heads.query_width(), heads.qkv_width());
    let rows = kept.qkv.len() / qkv_width;
    let column = query_width + heads.kv_column(head);
    let keys = &kept.qkv[segment.start * qkv_width + column..];
    let values = &keys[heads.kv_width()..];
    gradients.fill(0.0);
    let (d_queries, rest) = gradients.split_at_mut(length * head_dim);
    let (d_keys, d_values) = rest.split_at_mut(length * head_dim);
    for first in (0..length).step_by(BLOCK) {
        let unseen = heads.unseen(first);
        let count = length.min(first + BLOCK) - first;
        let visible = first + count - unseen;
        let at = |width: usize| (segment.start + first) * width + head * head_dim;
        let queries = Matrix::strided(&kept.qkv[at(qkv_width)..], count, head_dim, qkv_width);
        let d_block = Matrix::strided(&d_out[at(query_width)..], count, head_dim, query_width);
        let keys = Matrix::strided(&keys[unseen * qkv_width..], visible, head_dim, qkv_width);
        let values = Matrix::strided(&values[unseen * qkv_width..], visible, head_dim, qkv_width);
        SCORES.with_borrow_mut(|[scores, d_scores]| {
            scores.resize(count * visible, 0.0);
            d_scores.resize(count * visible, 0.0);
            let into = MatrixMut::new(scores, count, visible);
            matmul_serial(into, Into::Replace, heads.scale, queries, keys.t());
            matmul_serial(MatrixMut::new(d_scores, count, visible), Into::Replace, 1.0, d_block, values.t());
            let block = SoftmaxBlock {
                log_sums: &kept.log_sums[head * rows + segment.start + first..][..count],
                out: &kept.out[at(query_width)..],
                d_out: &d_out[at(query_width)..],
                stride: query_width,
                head_dim,
                first_visible: first + 1 - unseen,
                window: heads.window,
                scale: heads.scale,
            };
            softmax_backward(scores, d_scores, block);
            let scores = Matrix::new(scores, count, visible);
            let d_scores = Matrix::new(d_scores, count, visible);
            let d_queries = MatrixMut::new(&mut d_queries[first * head_dim..], count, head_dim);
            matmul_serial(d_queries, Into::Replace, 1.0, d_scores, keys);
            let into = MatrixMut::new(&mut d_keys[unseen * head_dim..], visible, head_dim);
            matmul_serial(into, Into::Add, 1.0, d_scores.t(), queries);
            let into = MatrixMut::new(&mut d_values[unseen * head_dim..], visible, head_dim);
            matmul_serial(into, Into::Add, 1.0, scores.t(), d_block);
        });
    }
}

/// Brings results that lie head by head side by side.
fn interleave(by_head: &[f32], out: &mut [f32], rows: usize, head_dim: usize, width: usize) {
    for (row, out) in out.chunks_exact_mut(width).enumerate() {
        for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
            out.copy_from_slice(&by_head[(head * rows + row) * head_dim..][..head_dim]);
        }
    }
}

/// Brings a segment's gradients side by side, adding up those of the query heads that share keys and values, in order.
fn gather(heads: Heads, by_head: &[f32], rows: usize, segment: &Segment, d_qkv: &mut [f32]) {
    let head_dim = heads.head_dim;
    let part = segment.len() * head_dim;
    let first_key = heads.query_width();
    for row in 0..segment.len() {
        let out = &mut d_qkv[(segment.start + row) * heads.qkv_width()..][..heads.qkv_width()];
        out[first_key..].fill(0.0);
        for head in 0..heads.heads {
            let of_head = &by_head[3 * head_dim * (head * rows + segment.start)..];
            let at = row * head_dim;
            out[head * head_dim..][..head_dim].copy_from_slice(&of_head[at..][..head_dim]);
            for (index, column) in [first_key, first_key + heads.kv_width()].into_iter().enumerate() {
                let from = &of_head[(index + 1) * part + at..][..head_dim];
                let into = &mut out[column + heads.kv_column(head)..][..head_dim];
                into.iter_mut().zip(from).for_each(|(into, from)| *into += from);
            }
        }
    }
}

/// A block of probabilities, for [`softmax_backward`].
#[derive(Clone, Copy)]
struct SoftmaxBlock<'a> {
    log_sums: &'a [f32],
    out: &'a [f32],
    d_out: &'a [f32],
    stride: usize,
    head_dim: usize,
    /// How many scores of the first row are not masked; each row has one more than the one before.
    first_visible: usize,
    /// The most scores of a row that are not masked; the last ones are not.
    window: usize,
    scale: f32,
}

kernel! {
    /// Makes scores into probabilities, row by row; what a row must not see becomes 0.
    fn softmax(scores: &'a mut [f32], log_sums: &'a mut [f32], first_visible: usize, window: usize) {
        let width = scores.len() / log_sums.len();
        for (row, (scores, log_sum)) in scores.chunks_exact_mut(width).zip(log_sums).enumerate() {
            let (scores, later) = scores.split_at_mut(first_visible + row);
            let (earlier, seen) = scores.split_at_mut((first_visible + row).saturating_sub(window));
            let largest = largest(seen);
            let sum = exp_and_sum(seen, largest);
            scale_by(seen, 1.0 / sum);
            earlier.fill(0.0);
            later.fill(0.0);
            *log_sum = largest + sum.ln();
        }
    }

    /// Makes scores into probabilities again, and the gradients of probabilities into those of unscaled scores.
    fn softmax_backward(scores: &'a mut [f32], d_scores: &'a mut [f32], block: SoftmaxBlock<'a>) {
        let width = scores.len() / block.log_sums.len();
        let rows = scores.chunks_exact_mut(width).zip(d_scores.chunks_exact_mut(width)).zip(block.log_sums);
        for (row, ((scores, d_scores), log_sum)) in rows.enumerate() {
            let at = row * block.stride;
            let shared = dot(&block.out[at..at + block.head_dim], &block.d_out[at..at + block.head_dim]);
            let seen = block.first_visible + row;
            let from = seen.saturating_sub(block.window);
            for (score, d_score) in scores[from..seen].iter_mut().zip(&mut d_scores[from..seen]) {
                let probability = exp(*score - log_sum);
                *score = probability;
                *d_score = probability * (*d_score - shared) * block.scale;
            }
            for masked in [&mut *scores, d_scores] {
                masked[..from].fill(0.0);
                masked[seen..].fill(0.0);
            }
        }
    }
}

#[inline(always)]
fn exp_and_sum(values: &mut [f32], largest: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (blocks, rest) = values.as_chunks_mut::<LANES>();
    for block in blocks {
        for i in 0..LANES {
            block[i] = exp(block[i] - largest);
            lanes[i] += block[i];
        }
    }
    let mut sum = sum_lanes(lanes);
    for value in rest {
        *value = exp(*value - largest);
        sum += *value;
    }
    sum
}

#[inline(always)]
fn scale_by(values: &mut [f32], factor: f32) {
    for value in values {
        *value *= factor;
    }
}
