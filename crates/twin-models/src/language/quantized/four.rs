//! Weights in four bits, as many models' files have them, and their products with activations in eight bits.
//!
//! The 32 weights of a block take at most sixteen values, a step apart (ggml's `Q4_0` and `Q4_1`). They are kept as the file has
//! them: nothing is rounded, and a weight costs five bits with its share of the step and of the least value, which writing
//! reads in little more than half the time of eight.
//!
//! Sixteen rows lie together as in eight bits, four columns of the first half of a block in the lower halves of bytes and four
//! of the second half in the upper ones.

use half::f16;
use rayon::prelude::*;

use super::{BLOCK, QUAD, QUADS, ROUND, Rounded, TILE, put};
use crate::language::simd::kernel;

const HALF: usize = QUADS / 2;

/// A block of each row of a tile: four numbers of each row and four of its second half, then the next of each.
pub(super) type NibbleBlock = [[u8; TILE * QUAD]; HALF];

/// A matrix, `[out, in]`, of `least + step · number`.
pub(crate) struct Four {
    pub(super) rows: usize,
    /// Blocks of a row.
    pub(super) blocks: usize,
    /// `[tiles, blocks]`, as the next two; the last tile is filled up with rows of zeros.
    pub(super) numbers: Vec<NibbleBlock>,
    pub(super) steps: Vec<[f16; TILE]>,
    pub(super) least: Vec<[f16; TILE]>,
}

impl Four {
    /// A matrix whose rows have `columns` numbers, a multiple of [`BLOCK`]; `None` when it would have to be rounded.
    pub(super) fn new(weights: &[f32], columns: usize) -> Option<Self> {
        let (rows, blocks) = (weights.len() / columns, columns / BLOCK);
        let count = rows.div_ceil(TILE) * blocks;
        let mut numbers = vec![[[0; TILE * QUAD]; HALF]; count];
        let (mut steps, mut least) = (vec![[f16::ZERO; TILE]; count], vec![[f16::ZERO; TILE]; count]);
        let tiles = numbers.par_chunks_mut(blocks).zip(steps.par_chunks_mut(blocks)).zip(least.par_chunks_mut(blocks));
        let packed = tiles
            .zip(weights.par_chunks(columns * TILE))
            .all(|(((numbers, steps), least), weights)| pack(numbers, steps, least, weights, columns));
        packed.then_some(Self { rows, blocks, numbers, steps, least })
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.numbers) + size_of_val(&*self.steps) + size_of_val(&*self.least)
    }

    /// As [`super::Quantized::products`].
    pub(super) fn products(&self, y: &mut [f32], width: usize, first: usize, x: &Rounded<8>, input: usize) {
        let (tile, count) = (first / TILE, y.len() / width);
        debug_assert!(first.is_multiple_of(TILE) && first + width <= self.rows);
        let tiles = tile * self.blocks..(tile + width.div_ceil(TILE)) * self.blocks;
        let inputs = input * self.blocks..(input + count) * self.blocks;
        let work = Work {
            y,
            width,
            blocks: self.blocks,
            numbers: &self.numbers[tiles.clone()],
            steps: &self.steps[tiles.clone()],
            least: &self.least[tiles],
            x: &x.numbers[inputs.clone()],
            x_scales: &x.scales[inputs.clone()],
            x_sums: &x.sums[inputs],
        };
        work.run();
    }
}

kernel! {
    /// Packs a tile's rows; `false` when they would have to be rounded.
    fn pack(
        numbers: &'a mut [NibbleBlock],
        steps: &'a mut [[f16; TILE]],
        least: &'a mut [[f16; TILE]],
        weights: &'a [f32],
        columns: usize,
    ) -> bool {
        for (row, weights) in weights.chunks_exact(columns).enumerate() {
            for (block, weights) in weights.as_chunks::<BLOCK>().0.iter().enumerate() {
                let Some(grid) = Grid::of(weights) else { return false };
                (steps[block][row], least[block][row]) = (grid.step, grid.least);
                let (first, second) = grid.numbers.split_at(BLOCK / 2);
                for (index, (first, second)) in first.iter().zip(second).enumerate() {
                    numbers[block][index / QUAD][row * QUAD + index % QUAD] = first | second << 4;
                }
            }
        }
        true
    }
}

/// A block's weights as numbers of four bits.
struct Grid {
    step: f16,
    least: f16,
    numbers: [u8; BLOCK],
}

impl Grid {
    #[inline(always)]
    fn of(block: &[f32; BLOCK]) -> Option<Self> {
        let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
        for weight in block {
            (low, high) = (low.min(*weight), high.max(*weight));
        }
        let extreme = if -low > high { low } else { high };
        // Q4_1 goes in fifteen steps from its least weight to its largest; Q4_0 from the one that is furthest from 0 beyond 0.
        let spanning = Self::with(block, (high - low) / 15.0, low);
        if spanning.is_some() { spanning } else { Self::with(block, extreme / -8.0, extreme) }
    }

    /// `None` when a weight is not on the grid.
    #[inline(always)]
    fn with(block: &[f32; BLOCK], step: f32, least: f32) -> Option<Self> {
        let (narrow_step, narrow_least) = (f16::from_f32(step), f16::from_f32(least));
        let (step, least) = (narrow_step.to_f32(), narrow_least.to_f32());
        let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
        let (mut numbers, mut exact) = ([0; BLOCK], true);
        for (number, weight) in numbers.iter_mut().zip(block) {
            let nearest = ((weight - least) * inverse + ROUND).to_bits().wrapping_sub(ROUND.to_bits());
            exact &= nearest < 16 && step * nearest as f32 + least == *weight;
            *number = nearest as u8;
        }
        exact.then_some(Self { step: narrow_step, least: narrow_least, numbers })
    }
}

/// Some tiles times some inputs.
struct Work<'a> {
    /// `[inputs, width]`.
    y: &'a mut [f32],
    width: usize,
    blocks: usize,
    numbers: &'a [NibbleBlock],
    steps: &'a [[f16; TILE]],
    least: &'a [[f16; TILE]],
    x: &'a [[i32; QUADS]],
    x_scales: &'a [f32],
    x_sums: &'a [f32],
}

impl Work<'_> {
    /// With the best instruction set.
    fn run(self) {
        #[cfg(target_arch = "x86_64")]
        {
            if super::has_vnni() {
                return x86::run_vnni(self);
            }
            if x86::has_avx2() {
                return x86::run_avx2(self);
            }
        }
        self.run_portable();
    }

    fn tiles(&self) -> usize {
        self.numbers.len() / self.blocks
    }

    fn inputs(&self) -> usize {
        self.x.len() / self.blocks
    }

    fn run_portable(mut self) {
        for tile in 0..self.tiles() {
            for input in 0..self.inputs() {
                let (tile_at, input_at) = (tile * self.blocks, input * self.blocks);
                let mut sums = [0.0f32; TILE];
                for block in 0..self.blocks {
                    let x = &self.x[input_at + block];
                    let mut products = [0; TILE];
                    for (index, numbers) in self.numbers[tile_at + block].iter().enumerate() {
                        let (first, second) = (x[index].to_le_bytes(), x[index + HALF].to_le_bytes());
                        for (product, numbers) in products.iter_mut().zip(numbers.as_chunks::<QUAD>().0) {
                            for ((number, first), second) in numbers.iter().zip(first).zip(second) {
                                *product += i32::from(number & 15) * i32::from(first as i8);
                                *product += i32::from(number >> 4) * i32::from(second as i8);
                            }
                        }
                    }
                    let (x_scale, x_sum) = (self.x_scales[input_at + block], self.x_sums[input_at + block]);
                    let grids = self.steps[tile_at + block].iter().zip(&self.least[tile_at + block]);
                    for ((sum, product), (step, least)) in sums.iter_mut().zip(products).zip(grids) {
                        *sum = (product as f32).mul_add(step.to_f32() * x_scale, *sum);
                        *sum = least.to_f32().mul_add(x_sum, *sum);
                    }
                }
                self.put(tile, input, &sums);
            }
        }
    }

    #[inline(always)]
    fn put(&mut self, tile: usize, input: usize, sums: &[f32; TILE]) {
        put(&mut self.y[input * self.width + tile * TILE..(input + 1) * self.width], sums);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, __m256, __m256i, __m512, __m512i, _mm256_add_epi16, _mm256_and_si256, _mm256_cvtepi32_ps,
        _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set1_epi8,
        _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256,
        _mm256_srli_epi16, _mm512_and_si512, _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps,
        _mm512_mul_ps, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
        _mm512_srli_epi16,
    };
    use std::sync::LazyLock;

    use half::f16;

    use super::{HALF, TILE, Work};
    use crate::language::quantized::has_vnni;

    static HAS_AVX2: LazyLock<bool> = LazyLock::new(|| {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
    });

    pub(super) fn has_avx2() -> bool {
        *HAS_AVX2
    }

    /// What [`has_vnni`] is asked for before.
    pub(super) fn run_vnni(work: Work<'_>) {
        assert!(has_vnni());
        #[expect(unsafe_code, reason = "the processor has the instructions; the function itself is safe")]
        unsafe {
            vnni(work);
        }
    }

    /// What [`has_avx2`] is asked for before.
    pub(super) fn run_avx2(work: Work<'_>) {
        assert!(has_avx2());
        #[expect(unsafe_code, reason = "the processor has the instructions; the function itself is safe")]
        unsafe {
            avx2(work);
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn vnni(mut work: Work<'_>) {
        let (tiles, inputs) = (work.tiles(), work.inputs());
        let mut tile = 0;
        // Several tiles share the loads of x and hide the latency of each other's sums.
        while tile < tiles {
            let wide = if inputs < 3 { 4 } else { 2 };
            let height = if tiles - tile >= wide { wide } else { 1 };
            let mut input = 0;
            while input < inputs {
                input += match (height, inputs - input) {
                    (4, 1) => some_vnni::<4, 1>(&mut work, tile, input),
                    (4, _) => some_vnni::<4, 2>(&mut work, tile, input),
                    (2, 1) => some_vnni::<2, 1>(&mut work, tile, input),
                    (2, 2 | 3) => some_vnni::<2, 2>(&mut work, tile, input),
                    (2, _) => some_vnni::<2, 4>(&mut work, tile, input),
                    (_, 1) => some_vnni::<1, 1>(&mut work, tile, input),
                    (_, 2 | 3) => some_vnni::<1, 2>(&mut work, tile, input),
                    _ => some_vnni::<1, 4>(&mut work, tile, input),
                };
            }
            tile += height;
        }
    }

    /// `R` tiles times `N` inputs; returns `N`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn some_vnni<const R: usize, const N: usize>(work: &mut Work<'_>, tile: usize, input: usize) -> usize {
        let blocks = work.blocks;
        let numbers: [_; R] = std::array::from_fn(|r| &work.numbers[(tile + r) * blocks..][..blocks]);
        let steps: [_; R] = std::array::from_fn(|r| &work.steps[(tile + r) * blocks..][..blocks]);
        let least: [_; R] = std::array::from_fn(|r| &work.least[(tile + r) * blocks..][..blocks]);
        let x: [_; N] = std::array::from_fn(|n| &work.x[(input + n) * blocks..][..blocks]);
        let x_scales: [_; N] = std::array::from_fn(|n| &work.x_scales[(input + n) * blocks..][..blocks]);
        let x_sums: [_; N] = std::array::from_fn(|n| &work.x_sums[(input + n) * blocks..][..blocks]);
        let lower = _mm512_set1_epi8(15);
        let mut sums = [[_mm512_setzero_ps(); N]; R];
        for block in 0..blocks {
            let mut products = [[_mm512_setzero_si512(); N]; R];
            for index in 0..HALF {
                for r in 0..R {
                    let both = pulp::cast::<[u8; 64], __m512i>(numbers[r][block][index]);
                    let first = _mm512_and_si512(both, lower);
                    let second = _mm512_and_si512(_mm512_srli_epi16::<4>(both), lower);
                    for n in 0..N {
                        let x = &x[n][block];
                        products[r][n] = _mm512_dpbusd_epi32(products[r][n], first, _mm512_set1_epi32(x[index]));
                        products[r][n] =
                            _mm512_dpbusd_epi32(products[r][n], second, _mm512_set1_epi32(x[index + HALF]));
                    }
                }
            }
            for r in 0..R {
                let step = _mm512_cvtph_ps(pulp::cast::<[f16; TILE], __m256i>(steps[r][block]));
                let least = _mm512_cvtph_ps(pulp::cast::<[f16; TILE], __m256i>(least[r][block]));
                for n in 0..N {
                    let scale = _mm512_mul_ps(step, _mm512_set1_ps(x_scales[n][block]));
                    let sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products[r][n]), scale, sums[r][n]);
                    sums[r][n] = _mm512_fmadd_ps(least, _mm512_set1_ps(x_sums[n][block]), sum);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (n, sums) in sums.into_iter().enumerate() {
                work.put(tile + r, input + n, &pulp::cast::<__m512, [f32; TILE]>(sums));
            }
        }
        N
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn avx2(mut work: Work<'_>) {
        let inputs = work.inputs();
        for tile in 0..work.tiles() {
            let mut input = 0;
            while input < inputs {
                input += match inputs - input {
                    1 => some_avx2::<1>(&mut work, tile, input),
                    2 | 3 => some_avx2::<2>(&mut work, tile, input),
                    _ => some_avx2::<4>(&mut work, tile, input),
                };
            }
        }
    }

    /// A tile times `N` inputs, eight rows at a time; returns `N`.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn some_avx2<const N: usize>(work: &mut Work<'_>, tile: usize, input: usize) -> usize {
        let blocks = work.blocks;
        let numbers = &work.numbers[tile * blocks..][..blocks];
        let grids = work.steps[tile * blocks..][..blocks].iter().zip(&work.least[tile * blocks..][..blocks]);
        let x: [_; N] = std::array::from_fn(|n| &work.x[(input + n) * blocks..][..blocks]);
        let x_scales: [_; N] = std::array::from_fn(|n| &work.x_scales[(input + n) * blocks..][..blocks]);
        let x_sums: [_; N] = std::array::from_fn(|n| &work.x_sums[(input + n) * blocks..][..blocks]);
        let (lower, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
        let mut sums = [[_mm256_setzero_ps(); 2]; N];
        for (block, (numbers, (steps, least))) in numbers.iter().zip(grids).enumerate() {
            // Eight times two products of 15 and 127 fit sixteen bits.
            let mut pairs = [[_mm256_setzero_si256(); 2]; N];
            for (index, numbers) in numbers.iter().enumerate() {
                let halves: [[u8; 32]; 2] = pulp::cast(*numbers);
                for (half, both) in halves.into_iter().enumerate() {
                    let both = pulp::cast::<[u8; 32], __m256i>(both);
                    let first = _mm256_and_si256(both, lower);
                    let second = _mm256_and_si256(_mm256_srli_epi16::<4>(both), lower);
                    for n in 0..N {
                        let x = &x[n][block];
                        let first = _mm256_maddubs_epi16(first, _mm256_set1_epi32(x[index]));
                        let second = _mm256_maddubs_epi16(second, _mm256_set1_epi32(x[index + HALF]));
                        pairs[n][half] = _mm256_add_epi16(pairs[n][half], _mm256_add_epi16(first, second));
                    }
                }
            }
            let (steps, least): ([[f16; 8]; 2], [[f16; 8]; 2]) = (pulp::cast(*steps), pulp::cast(*least));
            for half in 0..2 {
                let step = _mm256_cvtph_ps(pulp::cast::<[f16; 8], __m128i>(steps[half]));
                let least = _mm256_cvtph_ps(pulp::cast::<[f16; 8], __m128i>(least[half]));
                for n in 0..N {
                    let products = _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs[n][half], ones));
                    let scale = _mm256_mul_ps(step, _mm256_set1_ps(x_scales[n][block]));
                    let sum = _mm256_fmadd_ps(products, scale, sums[n][half]);
                    sums[n][half] = _mm256_fmadd_ps(least, _mm256_set1_ps(x_sums[n][block]), sum);
                }
            }
        }
        for (n, sums) in sums.into_iter().enumerate() {
            work.put(tile, input + n, &pulp::cast::<[__m256; 2], [f32; TILE]>(sums));
        }
        N
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::language::quantized::eight::tests::numbers;

    /// Weights as a file of this format has them: `Q4_0` or else `Q4_1`.
    pub(crate) fn on_a_grid(count: usize, symmetric: bool) -> Vec<f32> {
        let random = |index: usize| index.wrapping_mul(2_654_435_761) >> 7;
        let weight = |index: usize| {
            let block = index / BLOCK;
            let step =
                f16::from_f32((random(block) % 100) as f32 / 999.0 * if block.is_multiple_of(3) { -1.0 } else { 1.0 })
                    .to_f32();
            let number = if index % BLOCK == 5 { 0 } else { random(index) % 16 };
            if symmetric {
                return (number as f32 - 8.0) * step;
            }
            let number = if index % BLOCK == 9 { 15 } else { number };
            step.abs() * number as f32 + f16::from_f32((random(block + 7) % 100) as f32 / -77.0).to_f32()
        };
        (0..count).map(weight).collect()
    }

    impl Four {
        /// The weights.
        pub(in crate::language::quantized) fn dense(&self) -> Vec<f32> {
            let weight = |row: usize, column: usize| {
                let at = row / TILE * self.blocks + column / BLOCK;
                let (row, column) = (row % TILE, column % BLOCK);
                let both = self.numbers[at][column % (BLOCK / 2) / QUAD][row * QUAD + column % QUAD];
                let number = if column < BLOCK / 2 { both & 15 } else { both >> 4 };
                self.steps[at][row].to_f32() * f32::from(number) + self.least[at][row].to_f32()
            };
            (0..self.rows).flat_map(|row| (0..self.blocks * BLOCK).map(move |column| weight(row, column))).collect()
        }
    }

    fn products(matrix: &Four, x: &[f32], run: impl Fn(Work<'_>)) -> Vec<f32> {
        let mut rounded = Rounded::<8>::default();
        rounded.round(x, matrix.blocks * BLOCK);
        let mut y = vec![f32::NAN; x.len() / (matrix.blocks * BLOCK) * matrix.rows];
        run(Work {
            y: &mut y,
            width: matrix.rows,
            blocks: matrix.blocks,
            numbers: &matrix.numbers,
            steps: &matrix.steps,
            least: &matrix.least,
            x: &rounded.numbers,
            x_scales: &rounded.scales,
            x_sums: &rounded.sums,
        });
        y
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits_and_weights_are_not_rounded() {
        for (rows, columns, count) in [(16, 32, 1), (40, 320, 3), (100, 64, 9), (77, 96, 14), (64, 1536, 2)] {
            for symmetric in [true, false] {
                let (weights, x) = (on_a_grid(rows * columns, symmetric), numbers(count * columns, 5));
                let matrix = Four::new(&weights, columns).unwrap();
                assert_eq!(matrix.dense(), weights);
                let best = products(&matrix, &x, |work| work.run());
                assert_eq!(best, products(&matrix, &x, |work| work.run_portable()));
                #[cfg(target_arch = "x86_64")]
                if x86::has_avx2() {
                    assert_eq!(best, products(&matrix, &x, x86::run_avx2));
                }
                for (at, got) in best.iter().enumerate() {
                    let (x, row) = (&x[at / rows * columns..][..columns], &weights[at % rows * columns..][..columns]);
                    let exact: f32 = row.iter().zip(x).map(|(a, b)| a * b).sum();
                    assert!((got - exact).abs() < 0.01 * (columns as f32).sqrt(), "{exact} became {got}");
                }
            }
        }
    }

    #[test]
    fn extremes_do_not_overflow_and_what_would_be_rounded_is_refused() {
        let block: Vec<f32> = (0..BLOCK).map(|index| if index == 0 { -8.0 } else { 7.0 }).collect();
        let matrix = Four::new(&block.repeat(16), BLOCK).unwrap();
        for sign in [1.0, -1.0] {
            let x = vec![sign * 3.0; BLOCK];
            for y in [products(&matrix, &x, |work| work.run()), products(&matrix, &x, |work| work.run_portable())] {
                assert!(y.iter().all(|y| (y - sign * 3.0 * 209.0).abs() < 1e-2), "{y:?}");
            }
        }
        for value in [0.0, 2.5, -3.0] {
            assert_eq!(Four::new(&[value; BLOCK], BLOCK).unwrap().dense(), [value; BLOCK]);
        }
        for changed in [0.1, f32::NAN, f32::INFINITY, 1e30] {
            let mut block = block.clone();
            block[3] = changed;
            assert!(Four::new(&block, BLOCK).is_none(), "{changed}");
        }
        assert!(Four::new(&numbers(64, 1), BLOCK).is_none());
    }
}
