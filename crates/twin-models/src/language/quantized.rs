//! Weights in a few bits, and their products with activations as integers.
//!
//! Weights stay in [four] bits where the file has them so, and are rounded to [eight] otherwise. Activations are rounded when
//! they come, as llama.cpp does, so that sums of 32 products are sums of integers: exact, and the same on every machine. What
//! follows is a chain of one or two multiply-adds per block. A result is therefore the same to the last bit whatever else is
//! computed with it, on whichever instruction set.

#[cfg(target_arch = "x86_64")]
use std::sync::LazyLock;
use std::time::Instant;

use rayon::prelude::*;

use self::eight::Eight;
use self::four::Four;
use super::simd::kernel;

#[cfg(test)]
pub(crate) use self::four::tests::on_a_grid;
pub(crate) use self::rounded::Rounded;

mod eight;
mod fine;
mod four;
mod rounded;

/// Weights, or activations, that share a scale.
pub(crate) const BLOCK: usize = 32;
/// Rows that lie together.
pub(crate) const TILE: usize = 16;
/// Numbers of a row that lie together.
const QUAD: usize = 4;
const QUADS: usize = BLOCK / QUAD;
/// What is added to a weight of eight bits.
const OFFSET: i32 = 128;
/// 1.5·2²³: adding it leaves the nearest integer in the low bits of the mantissa.
const ROUND: f32 = 12_582_912.0;

/// A matrix, `[out, in]`.
pub(crate) enum Quantized {
    Eight(Eight),
    Four(Four),
}

impl Quantized {
    /// A matrix whose rows have `columns` numbers; `None` when these cannot be divided into blocks.
    pub(crate) fn new(weights: &[f32], columns: usize) -> Option<Self> {
        if columns == 0 || !columns.is_multiple_of(BLOCK) {
            return None;
        }
        Some(match Four::new(weights, columns) {
            Some(matrix) => Self::Four(matrix),
            None => Self::Eight(Eight::new(weights, columns)),
        })
    }

    /// Of numbers and scales.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Eight(matrix) => matrix.bytes(),
            Self::Four(matrix) => matrix.bytes(),
        }
    }

    /// The products of the rows from `first`, a multiple of [`TILE`], on with the inputs from `input` on. `y` has a row of
    /// `width` numbers for each of these inputs; as many rows of the matrix are computed as it is wide.
    pub(crate) fn products(&self, y: &mut [f32], width: usize, first: usize, x: &Rounded<8>, input: usize) {
        match self {
            Self::Eight(matrix) => matrix.products(y, width, first, x, input),
            Self::Four(matrix) => matrix.products(y, width, first, x, input),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_vnni() -> bool {
    static HAS_VNNI: LazyLock<bool> = LazyLock::new(|| {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni")
    });
    *HAS_VNNI
}

/// Bytes a second of the best of a few readings of more than caches hold, on all threads.
pub(crate) fn measured_reading() -> f64 {
    const BYTES: usize = 512 << 20;
    let numbers = vec![1u64; BYTES / size_of::<u64>()];
    let best = (0..3).map(|_| {
        let began = Instant::now();
        let sum: u64 = numbers.par_chunks(1 << 16).map(sum_of).sum();
        assert_eq!(sum, numbers.len() as u64);
        began.elapsed().as_secs_f64()
    });
    BYTES as f64 / best.fold(f64::INFINITY, f64::min)
}

kernel! {
    fn sum_of(numbers: &'a [u64]) -> u64 {
        numbers.iter().sum()
    }
}

#[inline(always)]
fn largest(block: &[f32; BLOCK]) -> f32 {
    block.iter().fold(0.0f32, |largest, value| largest.max(value.abs()))
}

/// What numbers of this scale are multiplied with; 0 for scales so small that their inverse is no number.
#[inline(always)]
fn inverse_of(scale: f32) -> f32 {
    if scale >= f32::MIN_POSITIVE { 1.0 / scale } else { 0.0 }
}

/// Writes the results of a tile and an input to the rest of the input's row; the last tile may be wider than that.
#[inline(always)]
fn put(y: &mut [f32], sums: &[f32; TILE]) {
    match y.first_chunk_mut::<TILE>() {
        Some(y) => *y = *sums,
        None => y.copy_from_slice(&sums[..y.len()]),
    }
}
