//! Products of a weight matrix with one activation or a few, for decoding token by token, where reading the weights is what
//! takes the time.
//!
//! Weights are kept as eight-bit integers with one f32 scale per 32 of a row (ggml's `Q8_0` with a wider scale), a quarter
//! of the bytes of f32. Activations stay f32, so the only loss is the rounding of the weights. A result is the same to the
//! last bit whatever else is computed with it.

use rayon::prelude::*;

use super::decoder::fit;
use super::simd::{LANES, dot_with, kernel, sum_lanes};

/// Weights that share a scale.
const BLOCK: usize = 32;
/// Multiplications below which a second thread costs more than it brings.
const PARALLEL_FROM: usize = 1 << 17;
/// Tasks per thread: small enough that a thread whose core is taken by another process is not waited for long.
const TASKS_PER_THREAD: usize = 4;

/// A matrix `[out, in]` for [`RowMatrix::product`].
pub(crate) enum RowMatrix<'a> {
    Dense(&'a [f32]),
    Quantized(&'a Quantized),
}

/// A matrix in eight-bit blocks.
pub(crate) struct Quantized {
    numbers: Vec<i8>,
    scales: Vec<f32>,
}

/// A low-rank addition to a product: `y[first + i] += scale · b[i]·hidden` for the rows of `b`, `[out, rank]`.
pub(crate) struct LowRank<'a> {
    pub(crate) first: usize,
    pub(crate) b: &'a [f32],
    pub(crate) rank: usize,
    /// `A·x` of each input, already scaled; they begin `stride` apart.
    pub(crate) hidden: &'a [f32],
    pub(crate) stride: usize,
}

/// What products of several inputs need besides their result.
#[derive(Default)]
pub(crate) struct ProductRoom {
    /// The inputs block by block.
    inputs: Vec<f32>,
    /// The results row by row.
    results: Vec<f32>,
}

impl Quantized {
    /// Rounds a matrix whose rows have `columns` numbers; `None` when these cannot be divided into blocks.
    pub(crate) fn new(weights: &[f32], columns: usize) -> Option<Self> {
        if !columns.is_multiple_of(BLOCK) {
            return None;
        }
        let mut numbers = vec![0; weights.len()];
        let mut scales = vec![0.0; weights.len() / BLOCK];
        let rows = numbers.par_chunks_mut(columns).zip(scales.par_chunks_mut(columns / BLOCK));
        rows.zip(weights.par_chunks(columns)).for_each(|((numbers, scales), weights)| {
            quantize(numbers, scales, weights);
        });
        Some(Self { numbers, scales })
    }
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
        if count == 1 {
            return self.rows_of_all(y, x, 1, additions);
        }
        let x = match self {
            Self::Dense(_) => x,
            Self::Quantized(_) => {
                let blocked = fit(&mut room.inputs, x.len());
                into_blocks(blocked, x, count);
                blocked
            }
        };
        let results = fit(&mut room.results, y.len());
        self.rows_of_all(results, x, count, additions);
        let rows = y.len() / count;
        for (input, y) in y.chunks_exact_mut(rows).enumerate() {
            y.iter_mut().zip(results.chunks_exact(count)).for_each(|(y, results)| *y = results[input]);
        }
    }

    /// The results as `[out, count]`, on all threads.
    fn rows_of_all(&self, y: &mut [f32], x: &[f32], count: usize, additions: &[LowRank<'_>]) {
        let (threads, rows, columns) = (rayon::current_num_threads(), y.len() / count, x.len() / count);
        let per_task = if threads < 2 || y.len() * columns < PARALLEL_FROM {
            rows.max(1)
        } else {
            rows.div_ceil(threads * TASKS_PER_THREAD).next_multiple_of(8)
        };
        let part = |first: usize, y: &mut [f32]| {
            match self {
                Self::Dense(weights) => dense_rows(y, &weights[first * columns..], x, count),
                Self::Quantized(matrix) => {
                    let (numbers, scales) =
                        (&matrix.numbers[first * columns..], &matrix.scales[first * columns / BLOCK..]);
                    quantized_rows(y, numbers, scales, x, count);
                }
            }
            for addition in additions {
                add_low_rank(first, y, addition, count);
            }
        };
        if per_task >= rows {
            part(0, y);
        } else {
            y.par_chunks_mut(per_task * count).enumerate().for_each(|(task, y)| part(task * per_task, y));
        }
    }
}

/// Adds what of `addition` concerns the rows from `first` on.
fn add_low_rank(first: usize, y: &mut [f32], addition: &LowRank<'_>, count: usize) {
    let LowRank { rank, hidden, stride, .. } = *addition;
    let from = addition.first.max(first);
    let to = (addition.first + addition.b.len() / rank).min(first + y.len() / count);
    if from < to {
        let (y, b) =
            (&mut y[(from - first) * count..(to - first) * count], &addition.b[(from - addition.first) * rank..]);
        low_rank_rows(y, b, rank, hidden, stride, count);
    }
}

/// How many of the inputs that are left are multiplied together: their sums fit the registers.
fn group(left: usize) -> usize {
    match left {
        8.. => 8,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}

/// Brings inputs, `[count, in]`, into the order in which they are read: group by group, and in each block by block.
fn into_blocks(blocked: &mut [f32], x: &[f32], count: usize) {
    let columns = x.len() / count;
    let mut first = 0;
    while first < count {
        let size = group(count - first);
        let section = first * columns..(first + size) * columns;
        for (index, to) in blocked[section].chunks_exact_mut(BLOCK).enumerate() {
            let (block, input) = (index / size, first + index % size);
            to.copy_from_slice(&x[input * columns + block * BLOCK..][..BLOCK]);
        }
        first += size;
    }
}

fn quantize(numbers: &mut [i8], scales: &mut [f32], weights: &[f32]) {
    for ((numbers, scale), weights) in numbers.chunks_exact_mut(BLOCK).zip(scales).zip(weights.chunks_exact(BLOCK)) {
        let largest = weights.iter().fold(0.0f32, |largest, weight| largest.max(weight.abs()));
        *scale = largest / 127.0;
        let inverse = if *scale > 0.0 { 1.0 / *scale } else { 0.0 };
        for (number, weight) in numbers.iter_mut().zip(weights) {
            *number = (weight * inverse).round() as i8;
        }
    }
}

/// `y = W·x` for the rows of a rounded matrix and `count` inputs in blocks, with the best instruction set.
fn quantized_rows(y: &mut [f32], numbers: &[i8], scales: &[f32], x: &[f32], count: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(simd) = pulp::x86::V4::try_new() {
            return simd.vectorize(Rows { simd, y, numbers, scales, x, count });
        }
        if let Some(simd) = pulp::x86::V3::try_new() {
            return simd.vectorize(Rows { simd, y, numbers, scales, x, count });
        }
    }
    let mut first = 0;
    while first < count {
        let size = group(count - first);
        let x = &x[x.len() / count * first..][..x.len() / count * size];
        quantized_rows_portable(y, numbers, scales, x, count, first, size);
        first += size;
    }
}

kernel! {
    fn quantized_rows_portable(
        y: &'a mut [f32],
        numbers: &'a [i8],
        scales: &'a [f32],
        x: &'a [f32],
        count: usize,
        first: usize,
        size: usize,
    ) {
        let (x, _) = x.as_chunks::<BLOCK>();
        let blocks = x.len() / size;
        for (row, y) in y.chunks_exact_mut(count).enumerate() {
            let (numbers, _) = numbers[row * blocks * BLOCK..][..blocks * BLOCK].as_chunks::<BLOCK>();
            let scales = &scales[row * blocks..][..blocks];
            for (input, y) in y[first..first + size].iter_mut().enumerate() {
                let mut lanes = [0.0; LANES];
                for ((numbers, scale), x) in numbers.iter().zip(scales).zip(x[input..].iter().step_by(size)) {
                    for i in 0..LANES {
                        let pair = f32::from(numbers[i]) * x[i] + f32::from(numbers[i + LANES]) * x[i + LANES];
                        lanes[i] += pair * scale;
                    }
                }
                *y = sum_lanes(lanes);
            }
        }
    }

    fn dense_rows[simd](y: &'a mut [f32], weights: &'a [f32], x: &'a [f32], count: usize) {
        let columns = x.len() / count;
        for (y, weights) in y.chunks_exact_mut(count).zip(weights.chunks_exact(columns)) {
            for (y, x) in y.iter_mut().zip(x.chunks_exact(columns)) {
                *y = dot_with(simd, weights, x);
            }
        }
    }

    fn low_rank_rows[simd](
        y: &'a mut [f32],
        b: &'a [f32],
        rank: usize,
        hidden: &'a [f32],
        stride: usize,
        count: usize,
    ) {
        for (y, b) in y.chunks_exact_mut(count).zip(b.chunks_exact(rank)) {
            for (y, hidden) in y.iter_mut().zip(hidden.chunks(stride)) {
                *y += dot_with(simd, b, &hidden[..rank]);
            }
        }
    }
}

/// An instruction set that can make a vector of f32 from as many eight-bit integers: what the compiler does not find by
/// itself, at a quarter of the speed.
#[cfg(target_arch = "x86_64")]
trait Widen: pulp::Simd {
    /// The numbers of the `part`-th vector of a block.
    fn widen(self, block: &[i8; BLOCK], part: usize) -> Self::f32s;
}

#[cfg(target_arch = "x86_64")]
impl Widen for pulp::x86::V4 {
    #[inline(always)]
    fn widen(self, block: &[i8; BLOCK], part: usize) -> Self::f32s {
        let bytes = block.as_chunks::<16>().0[part];
        let numbers = self.avx512f._mm512_cvtepi8_epi32(pulp::cast(bytes));
        pulp::cast(self.avx512f._mm512_cvtepi32_ps(numbers))
    }
}

#[cfg(target_arch = "x86_64")]
impl Widen for pulp::x86::V3 {
    #[inline(always)]
    fn widen(self, block: &[i8; BLOCK], part: usize) -> Self::f32s {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&block.as_chunks::<8>().0[part]);
        let numbers = self.avx2._mm256_cvtepi8_epi32(pulp::cast(bytes));
        pulp::cast(self.avx._mm256_cvtepi32_ps(numbers))
    }
}

/// The arguments of [`quantized_rows`] with an instruction set.
#[cfg(target_arch = "x86_64")]
struct Rows<'a, S> {
    simd: S,
    y: &'a mut [f32],
    numbers: &'a [i8],
    scales: &'a [f32],
    x: &'a [f32],
    count: usize,
}

#[cfg(target_arch = "x86_64")]
impl<S: Widen> pulp::NullaryFnOnce for Rows<'_, S> {
    type Output = ();

    #[inline(always)]
    fn call(mut self) {
        let mut first = 0;
        while first < self.count {
            let size = group(self.count - first);
            // Several rows at a time share the loads of x and hide the latency of each other's sums.
            match size {
                8 => self.inputs::<1, 8>(first),
                4 => self.inputs::<2, 4>(first),
                2 => self.inputs::<4, 2>(first),
                _ => self.inputs::<4, 1>(first),
            }
            first += size;
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl<S: Widen> Rows<'_, S> {
    /// The products of all rows, `R` at a time, with the `N` inputs from `first` on.
    #[inline(always)]
    fn inputs<const R: usize, const N: usize>(&mut self, first: usize) {
        let Self { simd, numbers, scales, count, .. } = *self;
        let (numbers, _) = numbers.as_chunks::<BLOCK>();
        let columns = self.x.len() / count;
        let blocks = columns / BLOCK;
        let (x, _) = S::as_simd_f32s(&self.x[first * columns..][..N * columns]);
        let mut all = self.y.chunks_exact_mut(R * count);
        let mut at = 0;
        for y in all.by_ref() {
            let results: [[f32; N]; R] = some_rows(simd, &numbers[at..], &scales[at..], x, blocks);
            for (y, results) in y.chunks_exact_mut(count).zip(results) {
                y[first..first + N].copy_from_slice(&results);
            }
            at += R * blocks;
        }
        for y in all.into_remainder().chunks_exact_mut(count) {
            let [results]: [[f32; N]; 1] = some_rows(simd, &numbers[at..], &scales[at..], x, blocks);
            y[first..first + N].copy_from_slice(&results);
            at += blocks;
        }
    }
}

/// The products of the first `R` rows with `N` inputs.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn some_rows<S: Widen, const R: usize, const N: usize>(
    simd: S,
    numbers: &[[i8; BLOCK]],
    scales: &[f32],
    x: &[S::f32s],
    blocks: usize,
) -> [[f32; N]; R] {
    let rows: [_; R] =
        std::array::from_fn(|row| (&numbers[row * blocks..][..blocks], &scales[row * blocks..][..blocks]));
    let parts = BLOCK / S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); N]; R];
    for (block, x) in x.chunks_exact(N * parts).enumerate() {
        for (sums, (numbers, scales)) in sums.iter_mut().zip(&rows) {
            let weights = simd.widen(&numbers[block], 0);
            let mut products: [S::f32s; N] = std::array::from_fn(|input| simd.mul_f32s(weights, x[input * parts]));
            for part in 1..parts {
                let weights = simd.widen(&numbers[block], part);
                for (input, product) in products.iter_mut().enumerate() {
                    *product = simd.mul_add_e_f32s(weights, x[input * parts + part], *product);
                }
            }
            let scale = simd.splat_f32s(scales[block]);
            for (sum, product) in sums.iter_mut().zip(products) {
                *sum = simd.mul_add_e_f32s(product, scale, *sum);
            }
        }
    }
    sums.map(|sums| sums.map(|sum| simd.reduce_sum_f32s(sum)))
}

#[cfg(test)]
mod tests {
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
        let mut portable = vec![0.0; rows];
        quantized_rows_portable(&mut portable, &matrix.numbers, &matrix.scales, &x, 1, 0, 1);
        assert!(portable.iter().zip(&rounded).all(|(a, b)| (a - b).abs() < 1e-3), "the instruction sets disagree");
        assert!(Quantized::new(&weights, 20).is_none());
    }

    #[test]
    fn rounding_twice_changes_nothing() {
        let weights = numbers(64 * 4);
        let once = Quantized::new(&weights, 64).unwrap();
        let back: Vec<f32> =
            once.numbers.iter().zip(0..).map(|(n, i): (_, usize)| f32::from(*n) * once.scales[i / BLOCK]).collect();
        assert_eq!(Quantized::new(&back, 64).unwrap().numbers, once.numbers);
    }

    /// What guessing ahead relies on: a token's result must not depend on how many others are tried with it.
    #[test]
    fn several_inputs_give_the_same_bits_as_each_alone() {
        let (rows, columns, rank) = (1003, 320, 4);
        let (weights, b) = (numbers(rows * columns), numbers(600 * rank));
        let quantized = Quantized::new(&weights, columns).unwrap();
        let room = &mut ProductRoom::default();
        for matrix in [RowMatrix::Dense(&weights), RowMatrix::Quantized(&quantized)] {
            for count in [2, 3, 4, 7, 8, 9, 15] {
                let (x, hidden) = (numbers(count * columns), numbers(count * 2 * rank));
                let addition = |hidden| LowRank { first: 300, b: &b, rank, hidden, stride: 2 * rank };
                let mut together = vec![0.0; count * rows];
                matrix.product(&mut together, &x, count, &[addition(&hidden[rank..])], room);
                for (input, together) in together.chunks(rows).enumerate() {
                    let mut alone = vec![0.0; rows];
                    let (x, hidden) = (&x[input * columns..][..columns], &hidden[input * 2 * rank + rank..][..rank]);
                    matrix.product(&mut alone, x, 1, &[addition(hidden)], room);
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
        let addition = LowRank { first: 300, b: &b, rank, hidden: &hidden, stride: rank };
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
