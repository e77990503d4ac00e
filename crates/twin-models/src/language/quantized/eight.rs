//! Weights in eight bits, and their products with activations in eight bits.
//!
//! A matrix keeps one f32 scale per 32 weights of a row (ggml's `Q8_0` with a wider scale), a quarter of the bytes of f32.
//!
//! Sixteen rows lie together, four weights of each in turn, which is what one instruction of AVX-512 VNNI multiplies. It
//! takes one factor without a sign, so weights are stored with 128 added, and as much is taken from the sums again.

use rayon::prelude::*;

use super::{BLOCK, OFFSET, QUAD, QUADS, Rounded, TILE, inverse_of, largest, put};

/// A block of each row of a tile: four numbers of each row, then the next four of each.
pub(super) type TileBlock = [[u8; TILE * QUAD]; QUADS];

/// A matrix, `[out, in]`.
pub(crate) struct Eight {
    pub(super) rows: usize,
    /// Blocks of a row.
    pub(super) blocks: usize,
    /// `[tiles, blocks]`; the last tile is filled up with rows of zeros.
    pub(super) numbers: Vec<TileBlock>,
    /// The scales of each block of a tile's rows.
    pub(super) scales: Vec<[f32; TILE]>,
}

impl Eight {
    /// Rounds a matrix whose rows have `columns` numbers, a multiple of [`BLOCK`].
    pub(super) fn new(weights: &[f32], columns: usize) -> Self {
        let (rows, blocks) = (weights.len() / columns, columns / BLOCK);
        let tiles = rows.div_ceil(TILE);
        let mut numbers = vec![[[OFFSET as u8; TILE * QUAD]; QUADS]; tiles * blocks];
        let mut scales = vec![[0.0; TILE]; tiles * blocks];
        numbers
            .par_chunks_mut(blocks)
            .zip(scales.par_chunks_mut(blocks))
            .zip(weights.par_chunks(columns * TILE))
            .for_each(|((numbers, scales), weights)| pack(numbers, scales, weights, columns));
        Self { rows, blocks, numbers, scales }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.numbers) + size_of_val(&*self.scales)
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
            scales: &self.scales[tiles],
            x: &x.numbers[inputs.clone()],
            x_scales: &x.scales[inputs.clone()],
            starts: &x.starts[inputs],
        };
        work.run();
    }
}

fn pack(numbers: &mut [TileBlock], scales: &mut [[f32; TILE]], weights: &[f32], columns: usize) {
    for (row, weights) in weights.chunks_exact(columns).enumerate() {
        let blocks = weights.as_chunks::<BLOCK>().0;
        for ((numbers, scales), weights) in numbers.iter_mut().zip(scales.iter_mut()).zip(blocks) {
            let scale = largest(weights) / 127.0;
            let inverse = inverse_of(scale);
            scales[row] = scale;
            for (index, weight) in weights.iter().enumerate() {
                let number = (weight * inverse).round() as i32 + OFFSET;
                numbers[index / QUAD][row * QUAD + index % QUAD] = number as u8;
            }
        }
    }
}

/// Some tiles times some inputs.
struct Work<'a> {
    /// `[inputs, width]`.
    y: &'a mut [f32],
    width: usize,
    blocks: usize,
    numbers: &'a [TileBlock],
    scales: &'a [[f32; TILE]],
    x: &'a [[i32; QUADS]],
    x_scales: &'a [f32],
    starts: &'a [i32],
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

    fn run_portable(mut self) {
        for tile in 0..self.numbers.len() / self.blocks {
            for input in 0..self.x.len() / self.blocks {
                let (tile_at, input_at) = (tile * self.blocks, input * self.blocks);
                let mut sums = [0.0f32; TILE];
                for block in 0..self.blocks {
                    let mut products = [self.starts[input_at + block]; TILE];
                    for (numbers, quad) in self.numbers[tile_at + block].iter().zip(self.x[input_at + block]) {
                        let quad = quad.to_le_bytes();
                        for (product, numbers) in products.iter_mut().zip(numbers.as_chunks::<QUAD>().0) {
                            for (number, x) in numbers.iter().zip(quad) {
                                *product += i32::from(*number) * i32::from(x as i8);
                            }
                        }
                    }
                    let x_scale = self.x_scales[input_at + block];
                    for ((sum, product), scale) in sums.iter_mut().zip(products).zip(self.scales[tile_at + block]) {
                        *sum = (product as f32).mul_add(scale * x_scale, *sum);
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
    use super::{BLOCK, QUADS, TILE, Work};
    use crate::language::quantized::has_vnni;
    use std::arch::x86_64::{
        __m512, __m512i, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_mul_ps, _mm512_set1_epi32,
        _mm512_set1_ps, _mm512_setzero_ps,
    };

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
        let (tiles, inputs) = (work.numbers.len() / work.blocks, work.x.len() / work.blocks);
        let mut tile = 0;
        // Several tiles share the loads of x and hide the latency of each other's sums.
        while tile < tiles {
            let wide = if inputs < 3 { 4 } else { 2 };
            let height = if tiles - tile >= wide { wide } else { 1 };
            let mut input = 0;
            while input < inputs {
                let left = inputs - input;
                input += match (height, left) {
                    (4, 1) => vnni::<4, 1>(&mut work, tile, input),
                    (4, _) => vnni::<4, 2>(&mut work, tile, input),
                    (2, 1) => vnni::<2, 1>(&mut work, tile, input),
                    (2, 2) => vnni::<2, 2>(&mut work, tile, input),
                    (2, 3) => vnni::<2, 3>(&mut work, tile, input),
                    (2, 4 | 7 | 8) => vnni::<2, 4>(&mut work, tile, input),
                    (2, 5) => vnni::<2, 5>(&mut work, tile, input),
                    (2, _) => vnni::<2, 6>(&mut work, tile, input),
                    (_, 1) => vnni::<1, 1>(&mut work, tile, input),
                    (_, 2..4) => vnni::<1, 2>(&mut work, tile, input),
                    _ => vnni::<1, 4>(&mut work, tile, input),
                };
            }
            tile += height;
        }
    }

    /// `R` tiles times `N` inputs; returns `N`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn vnni<const R: usize, const N: usize>(work: &mut Work<'_>, tile: usize, input: usize) -> usize {
        let blocks = work.blocks;
        let numbers: [_; R] = std::array::from_fn(|r| &work.numbers[(tile + r) * blocks..][..blocks]);
        let scales: [_; R] = std::array::from_fn(|r| &work.scales[(tile + r) * blocks..][..blocks]);
        let x: [_; N] = std::array::from_fn(|n| &work.x[(input + n) * blocks..][..blocks]);
        let x_scales: [_; N] = std::array::from_fn(|n| &work.x_scales[(input + n) * blocks..][..blocks]);
        let starts: [_; N] = std::array::from_fn(|n| &work.starts[(input + n) * blocks..][..blocks]);
        let mut sums = [[_mm512_setzero_ps(); N]; R];
        for block in 0..blocks {
            let mut products = [[_mm512_set1_epi32(0); N]; R];
            for n in 0..N {
                let start = _mm512_set1_epi32(starts[n][block]);
                for products in &mut products {
                    products[n] = start;
                }
            }
            for quad in 0..QUADS {
                let mut weights = [_mm512_set1_epi32(0); R];
                for r in 0..R {
                    weights[r] = pulp::cast::<[u8; 64], __m512i>(numbers[r][block][quad]);
                }
                for n in 0..N {
                    let x = _mm512_set1_epi32(x[n][block][quad]);
                    for r in 0..R {
                        products[r][n] = _mm512_dpbusd_epi32(products[r][n], weights[r], x);
                    }
                }
            }
            for r in 0..R {
                let scales = pulp::cast::<[f32; TILE], __m512>(scales[r][block]);
                for n in 0..N {
                    let scale = _mm512_mul_ps(scales, _mm512_set1_ps(x_scales[n][block]));
                    sums[r][n] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products[r][n]), scale, sums[r][n]);
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

    /// The same eight rows at a time, by products of sixteen bits.
    pub(super) struct Avx2<'a> {
        pub(super) simd: pulp::x86::V3,
        pub(super) work: Work<'a>,
    }

    impl pulp::NullaryFnOnce for Avx2<'_> {
        type Output = ();

        #[inline(always)]
        fn call(mut self) {
            let (tiles, inputs) = (self.work.numbers.len() / self.work.blocks, self.work.x.len() / self.work.blocks);
            for tile in 0..tiles {
                let mut input = 0;
                while input < inputs {
                    input +=
                        if inputs - input >= 2 { self.some::<2>(tile, input) } else { self.some::<1>(tile, input) };
                }
            }
        }
    }

    impl Avx2<'_> {
        /// A tile times `N` inputs; returns `N`.
        #[inline(always)]
        fn some<const N: usize>(&mut self, tile: usize, input: usize) -> usize {
            let pulp::x86::V3 { avx, avx2, fma, .. } = self.simd;
            let blocks = self.work.blocks;
            let mut sums = [[avx._mm256_setzero_ps(); 2]; N];
            for block in 0..blocks {
                let at = tile * blocks + block;
                let mut pairs = [[avx._mm256_setzero_si256(); 4]; N];
                for (quad, numbers) in self.work.numbers[at].iter().enumerate() {
                    let weights: [_; 4] = std::array::from_fn(|part| {
                        avx2._mm256_cvtepu8_epi16(pulp::cast(numbers.as_chunks::<16>().0[part]))
                    });
                    for (n, pairs) in pairs.iter_mut().enumerate() {
                        let x = self.work.x[(input + n) * blocks + block][quad];
                        let x = avx2._mm256_cvtepi8_epi16(pulp::cast([x; 4]));
                        for (pairs, weights) in pairs.iter_mut().zip(weights) {
                            *pairs = avx2._mm256_add_epi32(*pairs, avx2._mm256_madd_epi16(weights, x));
                        }
                    }
                }
                let scales = self.work.scales[at];
                for (n, (sums, pairs)) in sums.iter_mut().zip(pairs).enumerate() {
                    let at = (input + n) * blocks + block;
                    let start = avx._mm256_set1_epi32(self.work.starts[at]);
                    for (half, sum) in sums.iter_mut().enumerate() {
                        // Pairs of rows 0 1 4 5, 2 3 6 7 after the addition.
                        let rows = avx2._mm256_hadd_epi32(pairs[2 * half], pairs[2 * half + 1]);
                        let rows = avx2._mm256_permute4x64_epi64::<0b1101_1000>(rows);
                        let products = avx._mm256_cvtepi32_ps(avx2._mm256_add_epi32(rows, start));
                        let scales: [f32; 8] = scales.as_chunks::<8>().0[half];
                        let x_scale = avx._mm256_set1_ps(self.work.x_scales[at]);
                        let scale = avx._mm256_mul_ps(pulp::cast(scales), x_scale);
                        *sum = fma._mm256_fmadd_ps(products, scale, *sum);
                    }
                }
            }
            for (n, sums) in sums.into_iter().enumerate() {
                self.work.put(tile, input + n, &pulp::cast::<_, [f32; TILE]>(sums));
            }
            N
        }
    }

    const _: () = assert!(BLOCK == 32 && TILE == 16);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    impl Eight {
        /// The rounded weights.
        pub(in crate::language::quantized) fn dense(&self) -> Vec<f32> {
            let number = |row: usize, column: usize| {
                let at = row / TILE * self.blocks + column / BLOCK;
                let (row, column) = (row % TILE, column % BLOCK);
                let number = self.numbers[at][column / QUAD][row * QUAD + column % QUAD];
                (i32::from(number) - OFFSET) as f32 * self.scales[at][row]
            };
            (0..self.rows).flat_map(|row| (0..self.blocks * BLOCK).map(move |column| number(row, column))).collect()
        }
    }

    pub(in crate::language::quantized) fn numbers(count: usize, salt: usize) -> Vec<f32> {
        (0..count).map(|i| (((i + salt) * 7919) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    fn products(matrix: &Eight, x: &[f32], run: impl Fn(Work<'_>)) -> Vec<f32> {
        let mut rounded = Rounded::<8>::default();
        let columns = matrix.blocks * BLOCK;
        rounded.round(x, columns);
        let mut y = vec![f32::NAN; x.len() / columns * matrix.rows];
        run(Work {
            y: &mut y,
            width: matrix.rows,
            blocks: matrix.blocks,
            numbers: &matrix.numbers,
            scales: &matrix.scales,
            x: &rounded.numbers,
            x_scales: &rounded.scales,
            starts: &rounded.starts,
        });
        y
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits_and_they_are_near_the_exact_product() {
        for (rows, columns, count) in [(16, 32, 1), (40, 320, 3), (100, 64, 9), (77, 96, 14), (64, 1536, 2)] {
            let (weights, x) = (numbers(rows * columns, 1), numbers(count * columns, 5));
            let matrix = Eight::new(&weights, columns);
            let best = products(&matrix, &x, |work| work.run());
            assert_eq!(best, products(&matrix, &x, |work| work.run_portable()));
            #[cfg(target_arch = "x86_64")]
            if let Some(simd) = pulp::x86::V3::try_new() {
                assert_eq!(best, products(&matrix, &x, |work| simd.vectorize(x86::Avx2 { simd, work })));
            }
            for (at, got) in best.iter().enumerate() {
                let (x, row) = (&x[at / rows * columns..][..columns], &weights[at % rows * columns..][..columns]);
                let exact: f32 = row.iter().zip(x).map(|(a, b)| a * b).sum();
                assert!((got - exact).abs() < 0.01 * (columns as f32).sqrt(), "{exact} became {got}");
            }
        }
    }

    #[test]
    fn extremes_do_not_overflow() {
        let columns = 64;
        for sign in [1.0, -1.0] {
            let matrix = Eight::new(&vec![sign * 3.0; 16 * columns], columns);
            for best in [true, false] {
                let run = |work: Work<'_>| if best { work.run() } else { work.run_portable() };
                let y = products(&matrix, &vec![-2.0; columns], run);
                assert!(y.iter().all(|y| (y + sign * 6.0 * columns as f32).abs() < 1e-2), "{y:?}");
            }
        }
        let nothing = Eight::new(&vec![0.0; 16 * columns], columns);
        assert_eq!(products(&nothing, &vec![0.0; columns], |work| work.run()), [0.0; 16]);
    }
}
