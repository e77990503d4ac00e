//! Products of a weight matrix with one activation, for decoding token by token, where reading the weights is what takes
//! the time.
//!
//! Weights are kept as eight-bit integers with one f32 scale per 32 of a row (ggml's `Q8_0` with a wider scale), a quarter
//! of the bytes of f32. Activations stay f32, so the only loss is the rounding of the weights.

use rayon::prelude::*;

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
    columns: usize,
}

/// A low-rank addition to a product: `y[first + i] += scale · b[i]·hidden` for the rows of `b`, `[out, rank]`.
pub(crate) struct LowRank<'a> {
    pub(crate) first: usize,
    pub(crate) b: &'a [f32],
    /// `A·x`, already scaled.
    pub(crate) hidden: &'a [f32],
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
        Some(Self { numbers, scales, columns })
    }
}

impl RowMatrix<'_> {
    /// `y = W·x`, then the low-rank additions.
    pub(crate) fn product(&self, y: &mut [f32], x: &[f32], additions: &[LowRank<'_>]) {
        let threads = rayon::current_num_threads();
        let rows = if threads < 2 || y.len() * x.len() < PARALLEL_FROM {
            y.len().max(1)
        } else {
            y.len().div_ceil(threads * TASKS_PER_THREAD).next_multiple_of(8)
        };
        let part = |first: usize, y: &mut [f32]| {
            match self {
                Self::Dense(weights) => dense_rows(y, &weights[first * x.len()..], x),
                Self::Quantized(matrix) => {
                    let columns = matrix.columns;
                    quantized_rows(y, &matrix.numbers[first * columns..], &matrix.scales[first * columns / BLOCK..], x);
                }
            }
            for addition in additions {
                add_low_rank(first, y, addition);
            }
        };
        if rows >= y.len() {
            part(0, y);
        } else {
            y.par_chunks_mut(rows).enumerate().for_each(|(task, y)| part(task * rows, y));
        }
    }
}

/// Adds what of `addition` concerns the rows from `first` on.
fn add_low_rank(first: usize, y: &mut [f32], addition: &LowRank<'_>) {
    let rank = addition.hidden.len();
    let from = addition.first.max(first);
    let to = (addition.first + addition.b.len() / rank).min(first + y.len());
    if from < to {
        low_rank_rows(&mut y[from - first..to - first], &addition.b[(from - addition.first) * rank..], addition.hidden);
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

/// `y = W·x` for the rows of a rounded matrix, with the best instruction set.
fn quantized_rows(y: &mut [f32], numbers: &[i8], scales: &[f32], x: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(simd) = pulp::x86::V4::try_new() {
            return simd.vectorize(Rows { simd, y, numbers, scales, x });
        }
        if let Some(simd) = pulp::x86::V3::try_new() {
            return simd.vectorize(Rows { simd, y, numbers, scales, x });
        }
    }
    quantized_rows_portable(y, numbers, scales, x);
}

kernel! {
    fn quantized_rows_portable(y: &'a mut [f32], numbers: &'a [i8], scales: &'a [f32], x: &'a [f32]) {
        let (x, _) = x.as_chunks::<BLOCK>();
        let columns = x.len() * BLOCK;
        for (row, y) in y.iter_mut().enumerate() {
            let (numbers, _) = numbers[row * columns..][..columns].as_chunks::<BLOCK>();
            let scales = &scales[row * x.len()..][..x.len()];
            let mut lanes = [0.0; LANES];
            for ((numbers, scale), x) in numbers.iter().zip(scales).zip(x) {
                for i in 0..LANES {
                    let pair = f32::from(numbers[i]) * x[i] + f32::from(numbers[i + LANES]) * x[i + LANES];
                    lanes[i] += pair * scale;
                }
            }
            *y = sum_lanes(lanes);
        }
    }

    fn dense_rows[simd](y: &'a mut [f32], weights: &'a [f32], x: &'a [f32]) {
        for (y, weights) in y.iter_mut().zip(weights.chunks_exact(x.len())) {
            *y = dot_with(simd, weights, x);
        }
    }

    fn low_rank_rows[simd](y: &'a mut [f32], b: &'a [f32], hidden: &'a [f32]) {
        for (y, b) in y.iter_mut().zip(b.chunks_exact(hidden.len())) {
            *y += dot_with(simd, b, hidden);
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
}

#[cfg(target_arch = "x86_64")]
impl<S: Widen> pulp::NullaryFnOnce for Rows<'_, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, y, numbers, scales, x } = self;
        let (x, _) = S::as_simd_f32s(x);
        let (numbers, _) = numbers.as_chunks::<BLOCK>();
        // Four rows at a time share the loads of x and hide the latency of each other's sums.
        let (fours, rest) = y.as_chunks_mut::<4>();
        let blocks = x.len() * S::F32_LANES / BLOCK;
        let first_rest = fours.len() * 4;
        for (index, y) in fours.iter_mut().enumerate() {
            let at = index * 4 * blocks;
            *y = some_rows(simd, &numbers[at..], &scales[at..], x, blocks);
        }
        for (index, y) in rest.iter_mut().enumerate() {
            let at = (first_rest + index) * blocks;
            [*y] = some_rows(simd, &numbers[at..], &scales[at..], x, blocks);
        }
    }
}

/// The products of the first `N` rows.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn some_rows<S: Widen, const N: usize>(
    simd: S,
    numbers: &[[i8; BLOCK]],
    scales: &[f32],
    x: &[S::f32s],
    blocks: usize,
) -> [f32; N] {
    let rows: [_; N] =
        std::array::from_fn(|row| (&numbers[row * blocks..][..blocks], &scales[row * blocks..][..blocks]));
    let mut sums = [simd.splat_f32s(0.0); N];
    for (block, x) in x.chunks_exact(BLOCK / S::F32_LANES).enumerate() {
        for (sum, (numbers, scales)) in sums.iter_mut().zip(&rows) {
            let mut product = simd.mul_f32s(simd.widen(&numbers[block], 0), x[0]);
            for (part, x) in x.iter().enumerate().skip(1) {
                product = simd.mul_add_e_f32s(simd.widen(&numbers[block], part), *x, product);
            }
            *sum = simd.mul_add_e_f32s(product, simd.splat_f32s(scales[block]), *sum);
        }
    }
    sums.map(|sum| simd.reduce_sum_f32s(sum))
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
        RowMatrix::Dense(&weights).product(&mut exact, &x, &[]);
        let matrix = Quantized::new(&weights, columns).unwrap();
        RowMatrix::Quantized(&matrix).product(&mut rounded, &x, &[]);
        for ((row, exact), rounded) in weights.chunks(columns).zip(&exact).zip(&rounded) {
            let definition: f32 = row.iter().zip(&x).map(|(a, b)| a * b).sum();
            assert!((exact - definition).abs() < 1e-3);
            assert!((exact - rounded).abs() < 0.2, "{exact} became {rounded}");
        }
        let mut portable = vec![0.0; rows];
        quantized_rows_portable(&mut portable, &matrix.numbers, &matrix.scales, &x);
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

    #[test]
    fn low_rank_additions_reach_their_rows_across_tasks() {
        let (rows, columns, rank) = (1000, 256, 3);
        let (weights, x, b) = (numbers(rows * columns), numbers(columns), numbers(600 * rank));
        let hidden = [0.5, -1.0, 2.0];
        let (mut plain, mut changed) = (vec![0.0; rows], vec![0.0; rows]);
        RowMatrix::Dense(&weights).product(&mut plain, &x, &[]);
        RowMatrix::Dense(&weights).product(&mut changed, &x, &[LowRank { first: 300, b: &b, hidden: &hidden }]);
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
