//! Products of a weight matrix with one activation or a few, for decoding token by token, where reading the weights is what
//! takes the time, and with many, for prompts.
//!
//! A result is the same to the last bit whatever else is computed with it.

use std::ops::Range;

use rayon::prelude::*;

use super::decoder::fit;
use super::quantized::{Quantized, Rounded, TILE};
use super::simd::{dot_with, kernel};

/// Multiplications below which a second thread costs more than it brings.
pub(crate) const PARALLEL_FROM: usize = 1 << 17;
/// Tasks per thread: small enough that a thread whose core is taken by another process is not waited for long.
const TASKS_PER_THREAD: usize = 4;
/// Inputs that a task should have before work is divided by inputs: then results need not be brought together.
const INPUTS_PER_TASK: usize = 12;

/// A matrix `[out, in]` for [`RowMatrix::product`].
pub(crate) enum RowMatrix<'a> {
    Dense(&'a [f32]),
    /// With activations in eight bits.
    Quantized(&'a Quantized),
    /// With activations in sixteen bits.
    Fine(&'a Quantized),
}

/// A low-rank addition to the products of some inputs: `y[first + i] += scale · b[i]·hidden` for the rows of `b`,
/// `[out, rank]`.
pub(crate) struct LowRank<'a> {
    pub(crate) inputs: Range<usize>,
    pub(crate) first: usize,
    pub(crate) b: &'a [f32],
    pub(crate) rank: usize,
    /// `A·x` of each of these inputs, already scaled; they begin `stride` apart.
    pub(crate) hidden: &'a [f32],
    pub(crate) stride: usize,
}

/// What products need besides their result.
#[derive(Default)]
pub(crate) struct ProductRoom {
    rounded: Rounded<8>,
    fine: Rounded<16>,
    /// The results of each task.
    results: Vec<f32>,
}

/// A part of a product: some rows of the matrix with some inputs.
struct Part {
    rows: Range<usize>,
    inputs: Range<usize>,
}

impl RowMatrix<'_> {
    /// `y = W·x`, then the low-rank additions, for `count` inputs: `x` is `[count, in]` and `y` `[count, out]`.
    pub(crate) fn product(
        &self,
        y: &mut [f32],
        x: &[f32],
        count: usize,
        additions: &[LowRank<'_>],
        room: &mut ProductRoom,
    ) {
        let (threads, rows, columns) = (rayon::current_num_threads(), y.len() / count, x.len() / count);
        let ProductRoom { rounded, fine, results } = room;
        match self {
            Self::Dense(_) => {}
            Self::Quantized(_) => rounded.round(x, columns),
            Self::Fine(_) => fine.round(x, columns),
        }
        let (rounded, fine) = (&*rounded, &*fine);
        let task = |part: Part, y: &mut [f32]| {
            match self {
                Self::Dense(weights) => {
                    let weights = &weights[part.rows.start * columns..part.rows.end * columns];
                    dense_rows(y, weights, &x[part.inputs.start * columns..part.inputs.end * columns], columns);
                }
                Self::Quantized(matrix) => {
                    matrix.products(y, part.rows.len(), part.rows.start, rounded, part.inputs.start);
                }
                Self::Fine(matrix) => {
                    matrix.fine_products(y, part.rows.len(), part.rows.start, fine, part.inputs.start);
                }
            }
            additions.iter().for_each(|addition| add_low_rank(y, &part, addition));
        };
        if threads < 2 || y.len() * columns < PARALLEL_FROM {
            return task(Part { rows: 0..rows, inputs: 0..count }, y);
        }
        // Widening the weights has to pay.
        let tasks_per_thread = if matches!(self, Self::Fine(_)) { TASKS_PER_THREAD / 2 } else { TASKS_PER_THREAD };
        let inputs_per_task = count.div_ceil(threads * tasks_per_thread);
        if inputs_per_task >= INPUTS_PER_TASK {
            y.par_chunks_mut(inputs_per_task * rows).enumerate().for_each(|(index, y)| {
                let first = index * inputs_per_task;
                task(Part { rows: 0..rows, inputs: first..first + y.len() / rows }, y);
            });
            return;
        }
        let rows_per_task = rows.div_ceil(threads * TASKS_PER_THREAD).next_multiple_of(2 * TILE);
        let rows_of = |index: usize| index * rows_per_task..rows.min((index + 1) * rows_per_task);
        if count == 1 {
            y.par_chunks_mut(rows_per_task).enumerate().for_each(|(index, y)| {
                task(Part { rows: rows_of(index), inputs: 0..1 }, y);
            });
            return;
        }
        let results = fit(results, y.len());
        results.par_chunks_mut(rows_per_task * count).enumerate().for_each(|(index, results)| {
            task(Part { rows: rows_of(index), inputs: 0..count }, results);
        });
        for (index, results) in results.chunks(rows_per_task * count).enumerate() {
            let task_rows = rows_of(index);
            for (y, results) in y.chunks_exact_mut(rows).zip(results.chunks_exact(task_rows.len())) {
                y[task_rows.clone()].copy_from_slice(results);
            }
        }
    }
}

/// Adds what of `addition` concerns a part whose results are `y`.
fn add_low_rank(y: &mut [f32], part: &Part, addition: &LowRank<'_>) {
    let LowRank { rank, hidden, stride, .. } = *addition;
    let width = part.rows.len();
    let rows = addition.first.max(part.rows.start)..(addition.first + addition.b.len() / rank).min(part.rows.end);
    let inputs = addition.inputs.start.max(part.inputs.start)..addition.inputs.end.min(part.inputs.end);
    if rows.is_empty() {
        return;
    }
    let b = &addition.b[(rows.start - addition.first) * rank..(rows.end - addition.first) * rank];
    for input in inputs {
        let hidden = &hidden[(input - addition.inputs.start) * stride..][..rank];
        let y = &mut y[(input - part.inputs.start) * width..][rows.start - part.rows.start..][..rows.len()];
        low_rank_rows(y, b, rank, hidden);
    }
}

kernel! {
    fn dense_rows[simd](y: &'a mut [f32], weights: &'a [f32], x: &'a [f32], columns: usize) {
        let width = weights.len() / columns;
        for (row, weights) in weights.chunks_exact(columns).enumerate() {
            for (input, x) in x.chunks_exact(columns).enumerate() {
                y[input * width + row] = dot_with(simd, weights, x);
            }
        }
    }

    fn low_rank_rows[simd](y: &'a mut [f32], b: &'a [f32], rank: usize, hidden: &'a [f32]) {
        for (y, b) in y.iter_mut().zip(b.chunks_exact(rank)) {
            *y += dot_with(simd, b, hidden);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::quantized::on_a_grid;
    use super::*;

    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    #[test]
    fn rounded_products_are_close_to_exact_ones() {
        let (rows, columns) = (703, 320);
        let (weights, x) = (numbers(rows * columns), numbers(columns));
        let (mut exact, mut rounded) = (vec![0.0; rows], vec![0.0; rows]);
        let room = &mut ProductRoom::default();
        RowMatrix::Dense(&weights).product(&mut exact, &x, 1, &[], room);
        let matrix = Quantized::new(&weights, columns).unwrap();
        RowMatrix::Quantized(&matrix).product(&mut rounded, &x, 1, &[], room);
        for ((row, exact), rounded) in weights.chunks(columns).zip(&exact).zip(&rounded) {
            let definition: f32 = row.iter().zip(&x).map(|(a, b)| a * b).sum();
            assert!((exact - definition).abs() < 1e-3);
            assert!((exact - rounded).abs() < 0.2, "{exact} became {rounded}");
        }
    }

    /// What guessing ahead relies on: a token's result must not depend on how many others are tried with it.
    #[test]
    fn several_inputs_give_the_same_bits_as_each_alone() {
        let (rows, columns, rank) = (1003, 320, 4);
        let (weights, b) = (numbers(rows * columns), numbers(600 * rank));
        let eight = Quantized::new(&weights, columns).unwrap();
        let four = Quantized::new(&on_a_grid(rows * columns, false), columns).unwrap();
        let room = &mut ProductRoom::default();
        let rounded = [&eight, &four].map(|matrix| [RowMatrix::Quantized(matrix), RowMatrix::Fine(matrix)]);
        for matrix in rounded.into_iter().flatten().chain([RowMatrix::Dense(&weights)]) {
            for count in [2, 3, 4, 7, 8, 9, 15, 90, 200] {
                let (x, hidden) = (numbers(count * columns), numbers(count * 2 * rank));
                let addition = |inputs, hidden| LowRank { inputs, first: 300, b: &b, rank, hidden, stride: 2 * rank };
                let mut together = vec![0.0; count * rows];
                // The first input has no addition.
                matrix.product(&mut together, &x, count, &[addition(1..count, &hidden[rank..])], room);
                for (input, together) in together.chunks(rows).enumerate() {
                    let mut alone = vec![0.0; rows];
                    let (x, at) = (&x[input * columns..][..columns], input.saturating_sub(1) * 2 * rank + rank);
                    let additions = [addition(0..1, &hidden[at..][..rank])];
                    matrix.product(&mut alone, x, 1, &additions[usize::from(input == 0)..], room);
                    assert_eq!(alone, together, "input {input} of {count}");
                }
            }
        }
    }

    #[test]
    fn low_rank_additions_reach_their_rows_across_tasks() {
        let (rows, columns, rank) = (1000, 256, 3);
        let (weights, x, b) = (numbers(rows * columns), numbers(columns), numbers(600 * rank));
        let hidden = [0.5, -1.0, 2.0];
        let (mut plain, mut changed) = (vec![0.0; rows], vec![0.0; rows]);
        let room = &mut ProductRoom::default();
        RowMatrix::Dense(&weights).product(&mut plain, &x, 1, &[], room);
        let addition = LowRank { inputs: 0..1, first: 300, b: &b, rank, hidden: &hidden, stride: rank };
        RowMatrix::Dense(&weights).product(&mut changed, &x, 1, &[addition], room);
        for row in 0..rows {
            let added = if (300..900).contains(&row) {
                (0..rank).map(|i| b[(row - 300) * rank + i] * hidden[i]).sum()
            } else {
                0.0
            };
            assert!((changed[row] - plain[row] - added).abs() < 1e-4, "row {row}");
        }
    }
}
