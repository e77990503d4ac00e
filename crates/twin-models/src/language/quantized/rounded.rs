//! Activations as integers with a scale per block.

use rayon::prelude::*;

use super::{BLOCK, OFFSET, ROUND, inverse_of, largest};
use crate::language::matvec::PARALLEL_FROM;
use crate::language::simd::kernel;

/// Activations of `BITS` bits, 8 or 16, `[count, blocks]`. A block is then as many integers of 32 bits.
pub(crate) struct Rounded<const BITS: usize> {
    /// Neighbours lie in one integer, the first in its lowest bits.
    pub(super) numbers: Vec<[i32; BITS]>,
    pub(super) scales: Vec<f32>,
    /// What the sums of a block begin with to make up for the offset of the weights.
    pub(super) starts: Vec<i32>,
    /// What the activations of a block come to, for weights that do not count from 0.
    pub(super) sums: Vec<f32>,
}

impl<const BITS: usize> Default for Rounded<BITS> {
    fn default() -> Self {
        Self { numbers: Vec::new(), scales: Vec::new(), starts: Vec::new(), sums: Vec::new() }
    }
}

impl<const BITS: usize> Rounded<BITS> {
    /// Rounds `x`, rows of `columns` numbers, a multiple of [`BLOCK`].
    pub(crate) fn round(&mut self, x: &[f32], columns: usize) {
        let blocks = x.len() / BLOCK;
        self.numbers.resize(blocks, [0; BITS]);
        self.scales.resize(blocks, 0.0);
        self.starts.resize(blocks, 0);
        self.round_blocks(x, columns);
        self.sums.clear();
        let sum = |(start, scale): (&i32, &f32)| *start as f32 * scale / -OFFSET as f32;
        self.sums.extend(self.starts.iter().zip(&self.scales).map(sum));
    }

    fn round_blocks(&mut self, x: &[f32], columns: usize) {
        let Self { numbers, scales, starts, .. } = self;
        if x.len() < PARALLEL_FROM {
            return round_blocks(numbers.as_flattened_mut(), scales, starts, x, BITS);
        }
        let size = columns / BLOCK;
        let parts = numbers.par_chunks_mut(size).zip(scales.par_chunks_mut(size)).zip(starts.par_chunks_mut(size));
        parts.zip(x.par_chunks(columns)).with_min_len(16).for_each(|(((numbers, scales), starts), x)| {
            round_blocks(numbers.as_flattened_mut(), scales, starts, x, BITS);
        });
    }
}

kernel! {
    fn round_blocks(numbers: &'a mut [i32], scales: &'a mut [f32], starts: &'a mut [i32], x: &'a [f32], bits: usize) {
        // Each compiled for its own width.
        match bits {
            8 => round::<8>(numbers, scales, starts, x),
            _ => round::<16>(numbers, scales, starts, x),
        }
    }
}

#[inline(always)]
fn round<const BITS: usize>(numbers: &mut [i32], scales: &mut [f32], starts: &mut [i32], x: &[f32]) {
    let unused = 32 - BITS;
    let results = numbers.as_chunks_mut::<BITS>().0.iter_mut().zip(scales).zip(starts);
    for (((numbers, scale), start), x) in results.zip(x.as_chunks::<BLOCK>().0) {
        *scale = largest(x) / ((1 << (BITS - 1)) - 1) as f32;
        let inverse = inverse_of(*scale);
        let mut rounded = [0; BLOCK];
        for (rounded, x) in rounded.iter_mut().zip(x) {
            *rounded = (x * inverse + ROUND).to_bits() as i32;
        }
        *start = -OFFSET * rounded.iter().map(|number| number << unused >> unused).sum::<i32>();
        for (joined, parts) in numbers.iter_mut().zip(rounded.chunks_exact(32 / BITS)) {
            let part = |(index, number): (usize, &i32)| ((number << unused) as u32 >> unused) << (BITS * index);
            *joined = parts.iter().enumerate().map(part).fold(0, |all, part| all | part) as i32;
        }
    }
}
