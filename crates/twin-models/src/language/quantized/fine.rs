//! Weights in eight bits times activations in sixteen, for prompts.
//!
//! Eight bits are too few for a prompt: its first tokens, which all others look at, have single activations hundreds of times
//! as large as their neighbours, and a small model that reads them rounded so answers something else. With sixteen bits the
//! only rounding that counts is that of the weights, which is there when answers are written as well.
//!
//! The weights of a tile are widened once for many inputs, so that one instruction multiplies two columns of all its rows. As in
//! eight bits the sums of a block are exact and what follows is one chain, so that a result does not depend on what else is
//! computed with it.

use super::{BLOCK, QUAD, Quantized, Rounded, TILE, TileBlock, put};
use crate::language::simd::kernel;

const PAIRS: usize = BLOCK / 2;

/// A block of each row of a tile: two numbers of each row, the first in the lower half, then the next two of each.
type WideBlock = [[u32; TILE]; PAIRS];

impl Quantized {
    /// [`Quantized::products`] with activations in sixteen bits. Quickest with many inputs.
    pub(crate) fn fine_products(&self, y: &mut [f32], width: usize, first: usize, x: &Rounded<16>, input: usize) {
        let (blocks, count) = (self.blocks, y.len() / width);
        debug_assert!(first.is_multiple_of(TILE) && first + width <= self.rows);
        let inputs = input * blocks..(input + count) * blocks;
        let mut weights = vec![[[0; TILE]; PAIRS]; blocks];
        for at in (0..width).step_by(TILE) {
            let tile = (first + at) / TILE * blocks..((first + at) / TILE + 1) * blocks;
            widen(&mut weights, &self.numbers[tile.clone()]);
            let work = Work {
                y,
                width,
                at,
                weights: &weights,
                scales: &self.scales[tile],
                x: &x.numbers[inputs.clone()],
                x_scales: &x.scales[inputs.clone()],
                starts: &x.starts[inputs.clone()],
            };
            work.run();
        }
    }
}

kernel! {
    fn widen(wide: &'a mut [WideBlock], tile: &'a [TileBlock]) {
        for (wide, block) in wide.iter_mut().zip(tile) {
            for (pairs, quads) in wide.as_chunks_mut::<2>().0.iter_mut().zip(block) {
                let [first, second] = pairs;
                for ((first, second), quad) in first.iter_mut().zip(second).zip(quads.as_chunks::<QUAD>().0) {
                    let quad = u32::from_le_bytes(*quad);
                    *first = (quad & 0xFF) | ((quad & 0xFF00) << 8);
                    *second = ((quad >> 16) & 0xFF) | ((quad >> 24) << 16);
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
    weights: &'a [WideBlock],
    scales: &'a [[f32; TILE]],
    /// `[inputs, blocks]`, as the next two.
    x: &'a [[i32; PAIRS]],
    x_scales: &'a [f32],
    starts: &'a [i32],
}

impl Work<'_> {
    /// With the best instruction set.
    fn run(self) {
        #[cfg(target_arch = "x86_64")]
        {
            if super::x86::has_vnni() {
                return x86::run(self);
            }
            if let Some(simd) = pulp::x86::V3::try_new() {
                return simd.vectorize(x86::Avx2 { simd, work: self });
            }
        }
        self.run_portable();
    }

    fn inputs(&self) -> usize {
        self.x.len() / self.weights.len()
    }

    fn run_portable(mut self) {
        let blocks = self.weights.len();
        for input in 0..self.inputs() {
            let mut sums = [0.0f32; TILE];
            for block in 0..blocks {
                let at = input * blocks + block;
                let mut products = [self.starts[at]; TILE];
                for (weights, x) in self.weights[block].iter().zip(self.x[at]) {
                    let x = [i32::from(x as i16), x >> 16];
                    for (product, weights) in products.iter_mut().zip(weights) {
                        *product += (weights & 0xFFFF) as i32 * x[0] + (weights >> 16) as i32 * x[1];
                    }
                }
                let x_scale = self.x_scales[at];
                for ((sum, product), scale) in sums.iter_mut().zip(products).zip(self.scales[block]) {
                    *sum = (product as f32).mul_add(scale * x_scale, *sum);
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
        _mm512_set1_ps, _mm512_setzero_ps,
    };

    use super::super::x86::has_vnni;
    use super::{TILE, Work};

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
        let blocks = work.weights.len();
        let x: [_; N] = std::array::from_fn(|n| &work.x[(input + n) * blocks..][..blocks]);
        let x_scales: [_; N] = std::array::from_fn(|n| &work.x_scales[(input + n) * blocks..][..blocks]);
        let starts: [_; N] = std::array::from_fn(|n| &work.starts[(input + n) * blocks..][..blocks]);
        let mut sums = [_mm512_setzero_ps(); N];
        for (block, (weights, scales)) in work.weights.iter().zip(work.scales).enumerate() {
            let mut products = [_mm512_set1_epi32(0); N];
            for n in 0..N {
                products[n] = _mm512_set1_epi32(starts[n][block]);
            }
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
            let blocks = work.weights.len();
            let x: [_; N] = std::array::from_fn(|n| &work.x[(input + n) * blocks..][..blocks]);
            let x_scales: [_; N] = std::array::from_fn(|n| &work.x_scales[(input + n) * blocks..][..blocks]);
            let starts: [_; N] = std::array::from_fn(|n| &work.starts[(input + n) * blocks..][..blocks]);
            let mut sums = [[avx._mm256_setzero_ps(); 2]; N];
            for (block, (weights, scales)) in work.weights.iter().zip(work.scales).enumerate() {
                let mut products = [[avx._mm256_setzero_si256(); 2]; N];
                for n in 0..N {
                    products[n] = [avx._mm256_set1_epi32(starts[n][block]); 2];
                }
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
    use super::super::tests::numbers;
    use super::*;

    fn products(matrix: &Quantized, x: &[f32], run: impl Fn(Work<'_>)) -> Vec<f32> {
        let (mut fine, columns) = (Rounded::<16>::default(), matrix.blocks * BLOCK);
        fine.round(x, columns);
        let mut y = vec![f32::NAN; x.len() / columns * matrix.rows];
        let mut weights = vec![[[0; TILE]; PAIRS]; matrix.blocks];
        for at in (0..matrix.rows).step_by(TILE) {
            let tile = at / TILE * matrix.blocks..(at / TILE + 1) * matrix.blocks;
            widen(&mut weights, &matrix.numbers[tile.clone()]);
            run(Work {
                y: &mut y,
                width: matrix.rows,
                at,
                weights: &weights,
                scales: &matrix.scales[tile],
                x: &fine.numbers,
                x_scales: &fine.scales,
                starts: &fine.starts,
            });
        }
        y
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits_and_only_weights_are_rounded() {
        for (rows, columns, count) in [(16, 32, 1), (40, 320, 3), (100, 64, 9), (77, 96, 27), (64, 1536, 14)] {
            let (weights, mut x) = (numbers(rows * columns, 1), numbers(count * columns, 5));
            // One number that dwarfs the others of its block, as in the first tokens of a prompt.
            x[7] = 900.0;
            let matrix = Quantized::new(&weights, columns).unwrap();
            let best = products(&matrix, &x, |work| work.run());
            assert_eq!(best, products(&matrix, &x, |work| work.run_portable()));
            #[cfg(target_arch = "x86_64")]
            if let Some(simd) = pulp::x86::V3::try_new() {
                assert_eq!(best, products(&matrix, &x, |work| simd.vectorize(x86::Avx2 { simd, work })));
            }
            let rounded = matrix.dense();
            for (at, got) in best.iter().enumerate() {
                let (x, row) = (&x[at / rows * columns..][..columns], &rounded[at % rows * columns..][..columns]);
                let exact: f64 = row.iter().zip(x).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                let size: f64 = x.iter().map(|x| f64::from(x.abs())).sum();
                assert!((f64::from(*got) - exact).abs() < 1e-4 * size, "{exact} became {got}");
            }
        }
    }

    #[test]
    fn extremes_do_not_overflow() {
        let columns = 64;
        for sign in [1.0, -1.0] {
            let matrix = Quantized::new(&vec![sign * 3.0; 16 * columns], columns).unwrap();
            for best in [true, false] {
                let run = |work: Work<'_>| if best { work.run() } else { work.run_portable() };
                let y = products(&matrix, &vec![-2.0; columns], run);
                assert!(y.iter().all(|y| (y + sign * 6.0 * columns as f32).abs() < 1e-2), "{y:?}");
                let tiny = products(&matrix, &vec![1e-43; columns], run);
                assert!(tiny.iter().all(|y| y.is_finite()), "{tiny:?}");
            }
        }
        let nothing = Quantized::new(&vec![0.0; 16 * columns], columns).unwrap();
        assert_eq!(products(&nothing, &vec![0.0; columns], |work| work.run()), [0.0; 16]);
    }
}
