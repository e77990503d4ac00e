//! Weights in eight bits times activations in sixteen, for prompts.
//!
//! Eight bits are too few for a prompt: its first tokens, which all others look at, have single activations hundreds of times
//! as large as their neighbours, and a small model that reads them rounded so answers something else. With sixteen bits the
//! only rounding that counts is that of the weights, which is there when answers are written as well.
//!
//! The weights of a tile are widened once for many inputs, so that one instruction multiplies two columns of all its rows. As in
//! eight bits the sums of a block are exact and what follows is one chain, so that a result does not depend on what else is
//! computed with it.

use half::slice::HalfFloatSliceExt as _;

use super::eight::{Eight, TileBlock};
use super::four::{Four, NibbleBlock};
use super::{BLOCK, QUAD, QUADS, Quantized, Rounded, TILE, put};
use crate::language::simd::kernel;

const PAIRS: usize = BLOCK / 2;

/// A block of each row of a tile: two numbers of each row, the first in the lower half, then the next two of each.
type WideBlock = [[u32; TILE]; PAIRS];

impl Quantized {
    /// [`Quantized::products`] with activations in sixteen bits. Quickest with many inputs.
    pub(crate) fn fine_products(&self, y: &mut [f32], width: usize, first: usize, x: &Rounded<16>, input: usize) {
        let blocks = match self {
            Self::Eight(matrix) => matrix.blocks,
            Self::Four(matrix) => matrix.blocks,
        };
        debug_assert!(first.is_multiple_of(TILE));
        let inputs = input * blocks..(input + y.len() / width) * blocks;
        let mut tile = WideTile::new(blocks);
        for at in (0..width).step_by(TILE) {
            tile.fill(self, (first + at) / TILE);
            let work = Work {
                y,
                width,
                at,
                tile: &tile,
                x: &x.numbers[inputs.clone()],
                x_scales: &x.scales[inputs.clone()],
                x_sums: &x.sums[inputs.clone()],
            };
            work.run();
        }
    }
}

/// Sixteen rows.
struct WideTile {
    numbers: Vec<WideBlock>,
    scales: Vec<[f32; TILE]>,
    /// What a number of 0 stands for in each block, where it is not 0.
    least: Vec<[f32; TILE]>,
}

impl WideTile {
    fn new(blocks: usize) -> Self {
        Self { numbers: vec![[[0; TILE]; PAIRS]; blocks], scales: vec![[0.0; TILE]; blocks], least: Vec::new() }
    }

    fn fill(&mut self, matrix: &Quantized, tile: usize) {
        let blocks = tile * self.numbers.len()..(tile + 1) * self.numbers.len();
        match matrix {
            Quantized::Eight(Eight { numbers, scales, .. }) => {
                widen_eight(&mut self.numbers, &numbers[blocks.clone()]);
                self.scales.copy_from_slice(&scales[blocks]);
            }
            Quantized::Four(Four { numbers, steps, least, .. }) => {
                widen_four(&mut self.numbers, &numbers[blocks.clone()]);
                self.least.resize(blocks.len(), [0.0; TILE]);
                for (wide, narrow) in [(&mut self.scales, steps), (&mut self.least, least)] {
                    narrow[blocks.clone()].as_flattened().convert_to_f32_slice(wide.as_flattened_mut());
                }
            }
        }
    }
}

/// Four bytes as two pairs of sixteen bits.
#[inline(always)]
fn pairs(quad: u32) -> [u32; 2] {
    [(quad & 0xFF) | ((quad & 0xFF00) << 8), ((quad >> 16) & 0xFF) | ((quad >> 24) << 16)]
}

/// Takes the offset from each of two numbers, without borrowing from the other.
#[inline(always)]
fn signed(pair: u32) -> u32 {
    ((pair | 0x8000_8000) - 0x0080_0080) ^ 0x8000_8000
}

kernel! {
    fn widen_eight(wide: &'a mut [WideBlock], tile: &'a [TileBlock]) {
        for (wide, block) in wide.iter_mut().zip(tile) {
            for ([first, second], quads) in wide.as_chunks_mut::<2>().0.iter_mut().zip(block) {
                for ((first, second), quad) in first.iter_mut().zip(second).zip(quads.as_chunks::<QUAD>().0) {
                    [*first, *second] = pairs(u32::from_le_bytes(*quad)).map(signed);
                }
            }
        }
    }

    fn widen_four(wide: &'a mut [WideBlock], tile: &'a [NibbleBlock]) {
        for (wide, block) in wide.iter_mut().zip(tile) {
            let (lower, upper) = wide.split_at_mut(QUADS);
            let halves = lower.as_chunks_mut::<2>().0.iter_mut().zip(upper.as_chunks_mut::<2>().0);
            for ((lower, upper), quads) in halves.zip(block) {
                for (row, quad) in quads.as_chunks::<QUAD>().0.iter().enumerate() {
                    let both = u32::from_le_bytes(*quad);
                    [lower[0][row], lower[1][row]] = pairs(both & 0x0F0F_0F0F);
                    [upper[0][row], upper[1][row]] = pairs((both >> 4) & 0x0F0F_0F0F);
                }
            }
        }
    }
}

/// A tile times some inputs.
struct Work<'a> {
    /// `[inputs, width]`.
    y: &'a mut [f32],
    width: usize,
    /// The tile's first column of `y`.
    at: usize,
    tile: &'a WideTile,
    /// `[inputs, blocks]`, as the next two.
    x: &'a [[i32; PAIRS]],
    x_scales: &'a [f32],
    x_sums: &'a [f32],
}

impl Work<'_> {
    /// With the best instruction set.
    fn run(self) {
        #[cfg(target_arch = "x86_64")]
        {
            if super::has_vnni() {
                return x86::run(self);
            }
            if let Some(simd) = pulp::x86::V3::try_new() {
                return simd.vectorize(x86::Avx2 { simd, work: self });
            }
        }
        self.run_portable();
    }

    fn inputs(&self) -> usize {
        self.x.len() / self.tile.numbers.len()
    }

    fn run_portable(mut self) {
        let blocks = self.tile.numbers.len();
        for input in 0..self.inputs() {
            let mut sums = [0.0f32; TILE];
            for block in 0..blocks {
                let at = input * blocks + block;
                let mut products = [0; TILE];
                for (weights, x) in self.tile.numbers[block].iter().zip(self.x[at]) {
                    let x = [i32::from(x as i16), x >> 16];
                    for (product, weights) in products.iter_mut().zip(weights) {
                        *product += i32::from(*weights as i16) * x[0] + (weights.cast_signed() >> 16) * x[1];
                    }
                }
                let x_scale = self.x_scales[at];
                for ((sum, product), scale) in sums.iter_mut().zip(products).zip(self.tile.scales[block]) {
                    *sum = (product as f32).mul_add(scale * x_scale, *sum);
                }
                for (sum, least) in sums.iter_mut().zip(self.tile.least.get(block).into_iter().flatten()) {
                    *sum = least.mul_add(self.x_sums[at], *sum);
                }
            }
            self.put(input, &sums);
        }
    }

    #[inline(always)]
    fn put(&mut self, input: usize, sums: &[f32; TILE]) {
        put(&mut self.y[input * self.width + self.at..(input + 1) * self.width], sums);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m512, __m512i, _mm512_cvtepi32_ps, _mm512_dpwssd_epi32, _mm512_fmadd_ps, _mm512_mul_ps, _mm512_set1_epi32,
        _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
    };

    use super::{TILE, Work};
    use crate::language::quantized::has_vnni;

    /// What [`has_vnni`] is asked for before.
    pub(super) fn run(work: Work<'_>) {
        assert!(has_vnni());
        #[expect(unsafe_code, reason = "the processor has the instructions; the function itself is safe")]
        unsafe {
            run_vnni(work);
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn run_vnni(mut work: Work<'_>) {
        let mut input = 0;
        while input < work.inputs() {
            input += match work.inputs() - input {
                12.. => vnni::<12>(&mut work, input),
                8.. => vnni::<8>(&mut work, input),
                4.. => vnni::<4>(&mut work, input),
                2.. => vnni::<2>(&mut work, input),
                _ => vnni::<1>(&mut work, input),
            };
        }
    }

    /// `N` inputs; returns `N`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn vnni<const N: usize>(work: &mut Work<'_>, input: usize) -> usize {
        let blocks = work.tile.numbers.len();
        let x: [_; N] = std::array::from_fn(|n| &work.x[(input + n) * blocks..][..blocks]);
        let x_scales: [_; N] = std::array::from_fn(|n| &work.x_scales[(input + n) * blocks..][..blocks]);
        let x_sums: [_; N] = std::array::from_fn(|n| &work.x_sums[(input + n) * blocks..][..blocks]);
        let mut sums = [_mm512_setzero_ps(); N];
        for (block, (weights, scales)) in work.tile.numbers.iter().zip(&work.tile.scales).enumerate() {
            let mut products = [_mm512_setzero_si512(); N];
            for (pair, weights) in weights.iter().enumerate() {
                let weights = pulp::cast::<[u32; TILE], __m512i>(*weights);
                for n in 0..N {
                    products[n] = _mm512_dpwssd_epi32(products[n], weights, _mm512_set1_epi32(x[n][block][pair]));
                }
            }
            let scales = pulp::cast::<[f32; TILE], __m512>(*scales);
            for n in 0..N {
                let scale = _mm512_mul_ps(scales, _mm512_set1_ps(x_scales[n][block]));
                sums[n] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products[n]), scale, sums[n]);
            }
            if let Some(least) = work.tile.least.get(block) {
                let least = pulp::cast::<[f32; TILE], __m512>(*least);
                for n in 0..N {
                    sums[n] = _mm512_fmadd_ps(least, _mm512_set1_ps(x_sums[n][block]), sums[n]);
                }
            }
        }
        for (n, sums) in sums.into_iter().enumerate() {
            work.put(input + n, &pulp::cast::<__m512, [f32; TILE]>(sums));
        }
        N
    }

    /// The same eight rows at a time.
    pub(super) struct Avx2<'a> {
        pub(super) simd: pulp::x86::V3,
        pub(super) work: Work<'a>,
    }

    impl pulp::NullaryFnOnce for Avx2<'_> {
        type Output = ();

        #[inline(always)]
        fn call(mut self) {
            let inputs = self.work.inputs();
            let mut input = 0;
            while input < inputs {
                input += match inputs - input {
                    6.. => self.some::<6>(input),
                    4.. => self.some::<4>(input),
                    2.. => self.some::<2>(input),
                    _ => self.some::<1>(input),
                };
            }
        }
    }

    impl Avx2<'_> {
        /// `N` inputs; returns `N`.
        #[inline(always)]
        fn some<const N: usize>(&mut self, input: usize) -> usize {
            let pulp::x86::V3 { avx, avx2, fma, .. } = self.simd;
            let work = &mut self.work;
            let blocks = work.tile.numbers.len();
            let x: [_; N] = std::array::from_fn(|n| &work.x[(input + n) * blocks..][..blocks]);
            let x_scales: [_; N] = std::array::from_fn(|n| &work.x_scales[(input + n) * blocks..][..blocks]);
            let x_sums: [_; N] = std::array::from_fn(|n| &work.x_sums[(input + n) * blocks..][..blocks]);
            let mut sums = [[avx._mm256_setzero_ps(); 2]; N];
            for (block, (weights, scales)) in work.tile.numbers.iter().zip(&work.tile.scales).enumerate() {
                let mut products = [[avx._mm256_setzero_si256(); 2]; N];
                for (pair, weights) in weights.iter().enumerate() {
                    let [low, high]: [[u32; 8]; 2] = pulp::cast(*weights);
                    for n in 0..N {
                        let x = avx._mm256_set1_epi32(x[n][block][pair]);
                        let [first, second] = &mut products[n];
                        *first = avx2._mm256_add_epi32(*first, avx2._mm256_madd_epi16(pulp::cast(low), x));
                        *second = avx2._mm256_add_epi32(*second, avx2._mm256_madd_epi16(pulp::cast(high), x));
                    }
                }
                let scales: [[f32; 8]; 2] = pulp::cast(*scales);
                for n in 0..N {
                    let x_scale = avx._mm256_set1_ps(x_scales[n][block]);
                    for half in 0..2 {
                        let scale = avx._mm256_mul_ps(pulp::cast(scales[half]), x_scale);
                        let product = avx._mm256_cvtepi32_ps(products[n][half]);
                        sums[n][half] = fma._mm256_fmadd_ps(product, scale, sums[n][half]);
                    }
                }
                if let Some(least) = work.tile.least.get(block) {
                    let least: [[f32; 8]; 2] = pulp::cast(*least);
                    for n in 0..N {
                        let x_sum = avx._mm256_set1_ps(x_sums[n][block]);
                        for half in 0..2 {
                            sums[n][half] = fma._mm256_fmadd_ps(pulp::cast(least[half]), x_sum, sums[n][half]);
                        }
                    }
                }
            }
            for (n, sums) in sums.into_iter().enumerate() {
                work.put(input + n, &pulp::cast::<_, [f32; TILE]>(sums));
            }
            N
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::quantized::eight::tests::numbers;
    use crate::language::quantized::four::tests::on_a_grid;

    impl Quantized {
        fn dense(&self) -> (usize, Vec<f32>) {
            match self {
                Self::Eight(matrix) => (matrix.rows, matrix.dense()),
                Self::Four(matrix) => (matrix.rows, matrix.dense()),
            }
        }
    }

    fn products(matrix: &Quantized, columns: usize, x: &[f32], run: impl Fn(Work<'_>)) -> Vec<f32> {
        let (mut fine, (rows, _), blocks) = (Rounded::<16>::default(), matrix.dense(), columns / BLOCK);
        fine.round(x, columns);
        let mut y = vec![f32::NAN; x.len() / columns * rows];
        let mut tile = WideTile::new(blocks);
        for at in (0..rows).step_by(TILE) {
            tile.fill(matrix, at / TILE);
            let (x, x_scales, x_sums) = (&fine.numbers, &fine.scales, &fine.sums);
            run(Work { y: &mut y, width: rows, at, tile: &tile, x, x_scales, x_sums });
        }
        y
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits_and_only_weights_are_rounded() {
        for (rows, columns, count) in [(16, 32, 1), (40, 320, 3), (100, 64, 9), (77, 96, 27), (64, 1536, 14)] {
            let mut x = numbers(count * columns, 5);
            // One number that dwarfs the others of its block, as in the first tokens of a prompt.
            x[7] = 900.0;
            for (weights, four) in [(numbers(rows * columns, 1), false), (on_a_grid(rows * columns, false), true)] {
                let matrix = Quantized::new(&weights, columns).unwrap();
                assert_eq!(matches!(matrix, Quantized::Four(_)), four);
                let best = products(&matrix, columns, &x, |work| work.run());
                assert_eq!(best, products(&matrix, columns, &x, |work| work.run_portable()));
                #[cfg(target_arch = "x86_64")]
                if let Some(simd) = pulp::x86::V3::try_new() {
                    let avx2 = |work: Work<'_>| simd.vectorize(x86::Avx2 { simd, work });
                    assert_eq!(best, products(&matrix, columns, &x, avx2));
                }
                let (_, rounded) = matrix.dense();
                for (at, got) in best.iter().enumerate() {
                    let (x, row) = (&x[at / rows * columns..][..columns], &rounded[at % rows * columns..][..columns]);
                    let exact: f64 = row.iter().zip(x).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    let size: f64 = x.iter().map(|x| f64::from(x.abs())).sum();
                    assert!((f64::from(*got) - exact).abs() < 1e-4 * size, "{exact} became {got}");
                }
            }
        }
    }

    #[test]
    fn extremes_do_not_overflow() {
        let columns = 64;
        for sign in [1.0, -1.0] {
            // The second has two values far apart, which four bits hold.
            let steep: Vec<f32> = (0..16 * columns).map(|index| sign * (3.0 + (index % 3) as f32 * 1e-3)).collect();
            for weights in [steep, vec![sign * 3.0; 16 * columns]] {
                let matrix = Quantized::new(&weights, columns).unwrap();
                for best in [true, false] {
                    let run = |work: Work<'_>| if best { work.run() } else { work.run_portable() };
                    let y = products(&matrix, columns, &vec![-2.0; columns], run);
                    assert!(y.iter().all(|y| (y + sign * 6.0 * columns as f32).abs() < 0.3), "{y:?}");
                    let tiny = products(&matrix, columns, &vec![1e-43; columns], run);
                    assert!(tiny.iter().all(|y| y.is_finite()), "{tiny:?}");
                }
            }
        }
        let nothing = Quantized::new(&vec![0.0; 16 * columns], columns).unwrap();
        assert_eq!(products(&nothing, columns, &vec![0.0; columns], |work| work.run()), [0.0; 16]);
    }
}
