//! The small operations between matrix products, forward and backward: RMSNorm, rotary positions, gated units, dropout.
//!
//! Each works on rows of plain slices and divides rows over the threads of the current pool when there are enough. None
//! allocates.

use rayon::prelude::*;

use super::simd::{dot, dot_of_three, exp, kernel};

/// Elements that a thread should have before rows are divided.
const PARALLEL_FROM: usize = 1 << 15;

/// Rows per task so that every thread has one, or all rows when there is too little to divide.
fn rows_per_task(rows: usize, width: usize) -> usize {
    let threads = rayon::current_num_threads();
    if threads < 2 || rows * width < PARALLEL_FROM { rows.max(1) } else { rows.div_ceil(threads).max(1) }
}

/// `out = x / rms(x) · weight`, row by row (Zhang & Sennrich 2019, *Root Mean Square Layer Normalization*).
pub(crate) fn rms_norm(out: &mut [f32], x: &[f32], weight: &[f32], epsilon: f32) {
    let width = weight.len();
    let chunk = rows_per_task(x.len() / width, width) * width;
    if chunk >= x.len() {
        return rms_norm_rows(out, x, weight, epsilon);
    }
    out.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(out, x)| rms_norm_rows(out, x, weight, epsilon));
}

/// Adds to `d_x` the gradient that reaches `x` through [`rms_norm`], given that of its result.
pub(crate) fn rms_norm_backward(d_x: &mut [f32], d_out: &[f32], x: &[f32], weight: &[f32], epsilon: f32) {
    let width = weight.len();
    let chunk = rows_per_task(x.len() / width, width) * width;
    d_x.par_chunks_mut(chunk)
        .zip(d_out.par_chunks(chunk).zip(x.par_chunks(chunk)))
        .for_each(|(d_x, (d_out, x))| rms_norm_backward_rows(d_x, d_out, x, weight, epsilon));
}

/// The RMSNorms of each head of queries and keys: rows of `x`, `row_width` apart, begin with the heads of queries, as wide
/// together as `query` says, and then of keys. `raw`, `[rows, queries and keys]`, receives what was there before.
pub(crate) fn head_norms(
    x: &mut [f32],
    row_width: usize,
    query: usize,
    raw: &mut [f32],
    norms: &[Vec<f32>; 2],
    epsilon: f32,
) {
    let width = raw.len() / (x.len() / row_width);
    for (x, raw) in x.chunks_exact_mut(row_width).zip(raw.chunks_exact_mut(width)) {
        raw.copy_from_slice(&x[..width]);
        let (queries, keys) = x[..width].split_at_mut(query);
        rms_norm_rows(queries, &raw[..query], &norms[0], epsilon);
        rms_norm_rows(keys, &raw[query..], &norms[1], epsilon);
    }
}

/// Takes the gradient of [`head_norms`]'s result, in rows of `d`, to that of what was there before. `room` is a row's.
pub(crate) fn head_norms_backward(
    d: &mut [f32],
    row_width: usize,
    query: usize,
    raw: &[f32],
    norms: &[Vec<f32>; 2],
    epsilon: f32,
    room: &mut [f32],
) {
    let width = room.len();
    for (d, raw) in d.chunks_exact_mut(row_width).zip(raw.chunks_exact(width)) {
        room.fill(0.0);
        let (queries, keys) = room.split_at_mut(query);
        rms_norm_backward_rows(queries, &d[..query], &raw[..query], &norms[0], epsilon);
        rms_norm_backward_rows(keys, &d[query..width], &raw[query..], &norms[1], epsilon);
        d[..width].copy_from_slice(room);
    }
}

/// `out = act(gate) · up`, where a row of `gate_up` is the gate followed by up (Shazeer 2020, *GLU Variants*). The activation
/// is SiLU, or GELU in its tanh form (Hendrycks & Gimpel 2016).
pub(crate) fn gated(out: &mut [f32], gate_up: &[f32], width: usize, gelu: bool) {
    let rows_of = if gelu { geglu_rows } else { swiglu_rows };
    let rows = rows_per_task(out.len() / width, width);
    if rows * width >= out.len() {
        return rows_of(out, gate_up, width);
    }
    out.par_chunks_mut(rows * width)
        .zip(gate_up.par_chunks(rows * width * 2))
        .for_each(|(out, gate_up)| rows_of(out, gate_up, width));
}

/// The gradient of gate and up, given that of [`gated`]'s result.
pub(crate) fn gated_backward(d_gate_up: &mut [f32], d_out: &[f32], gate_up: &[f32], width: usize, gelu: bool) {
    let rows_of = if gelu { geglu_backward_rows } else { swiglu_backward_rows };
    let rows = rows_per_task(d_out.len() / width, width);
    d_gate_up
        .par_chunks_mut(rows * width * 2)
        .zip(d_out.par_chunks(rows * width).zip(gate_up.par_chunks(rows * width * 2)))
        .for_each(|(d_gate_up, (d_out, gate_up))| rows_of(d_gate_up, d_out, gate_up, width));
}

/// Rotary position embedding (Su et al. 2021, *RoFormer*) in the half-split form of Hugging Face's Llama: dimension `i` of
/// a head turns with dimension `i + head_dim / 2`.
pub(crate) struct Rope {
    /// Per position, the cosines of `head_dim / 2` angles and then their sines.
    table: Vec<f32>,
    head_dim: usize,
}

impl Rope {
    /// The angles of `positions` positions; each frequency is divided by its factor, where there are any.
    pub(crate) fn new(positions: usize, head_dim: usize, theta: f32, factors: Option<&[f32]>) -> Self {
        let half = head_dim / 2;
        let mut table = Vec::with_capacity(positions * head_dim);
        for position in 0..positions {
            let angle = |i: usize| {
                let factor = factors.map_or(1.0, |factors| f64::from(factors[i]));
                position as f64 / (f64::from(theta).powf(2.0 * i as f64 / head_dim as f64) * factor)
            };
            table.extend((0..half).map(|i| angle(i).cos() as f32));
            table.extend((0..half).map(|i| angle(i).sin() as f32));
        }
        Self { table, head_dim }
    }

    /// Turns the first `width` columns of every row (of `row_width`) to its position, or back with `inverse`.
    pub(crate) fn turn(&self, x: &mut [f32], row_width: usize, width: usize, positions: &[usize], inverse: bool) {
        let sign = if inverse { -1.0 } else { 1.0 };
        let rows = rows_per_task(positions.len(), width);
        x.par_chunks_mut(rows * row_width).zip(positions.par_chunks(rows)).for_each(|(x, positions)| {
            for (row, &position) in x.chunks_exact_mut(row_width).zip(positions) {
                let angles = &self.table[position * self.head_dim..][..self.head_dim];
                turn_row(&mut row[..width], angles, sign);
            }
        });
    }
}

/// Inverted dropout whose mask is a function of where an element is and of a key, so that the backward pass draws the same
/// mask again instead of keeping it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    probability: f32,
    key: u64,
}

impl Dropout {
    /// Dropout with this probability under a key; nothing when the probability is 0.
    pub(crate) fn new(probability: f32, key: u64) -> Option<Self> {
        (probability > 0.0).then_some(Self { probability, key })
    }

    /// The same dropout for another place.
    pub(crate) fn at(self, place: u64) -> Self {
        Self { key: mix(self.key ^ mix(place)), ..self }
    }

    /// `out = mask · x`, or `out += mask · x`.
    pub(crate) fn apply(self, out: &mut [f32], x: &[f32], add: bool) {
        // A multiple of four, because four elements share one random number.
        let chunk = rows_per_task(x.len(), 1).next_multiple_of(4);
        out.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).enumerate().for_each(|(index, (out, x))| {
            dropout_slice(out, x, self.probability, self.key, (index * chunk / 4) as u64, add);
        });
    }
}

/// The finaliser of SplitMix64 (Steele, Lea & Flood 2014).
#[inline(always)]
pub(crate) fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `2 · √(2 / π)`, and the cubic term's share.
const GELU: f32 = 1.595_769;
const CUBIC: f32 = 0.044_715;

kernel! {
    fn rms_norm_rows(out: &'a mut [f32], x: &'a [f32], weight: &'a [f32], epsilon: f32) {
        let width = weight.len();
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let scale = 1.0 / (dot(x, x) / width as f32 + epsilon).sqrt();
            for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                *out = x * scale * weight;
            }
        }
    }

    fn rms_norm_backward_rows(d_x: &'a mut [f32], d_out: &'a [f32], x: &'a [f32], weight: &'a [f32], epsilon: f32) {
        let width = weight.len();
        let rows = d_x.chunks_exact_mut(width).zip(d_out.chunks_exact(width).zip(x.chunks_exact(width)));
        for (d_x, (d_out, x)) in rows {
            let scale = 1.0 / (dot(x, x) / width as f32 + epsilon).sqrt();
            let shared = dot_of_three(d_out, weight, x) * scale * scale * scale / width as f32;
            for (((d_x, d), x), w) in d_x.iter_mut().zip(d_out).zip(x).zip(weight) {
                *d_x += d * w * scale - x * shared;
            }
        }
    }

    fn swiglu_rows(out: &'a mut [f32], gate_up: &'a [f32], width: usize) {
        for (out, row) in out.chunks_exact_mut(width).zip(gate_up.chunks_exact(width * 2)) {
            let (gate, up) = row.split_at(width);
            for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                *out = gate / (1.0 + exp(-gate)) * up;
            }
        }
    }

    fn geglu_rows(out: &'a mut [f32], gate_up: &'a [f32], width: usize) {
        for (out, row) in out.chunks_exact_mut(width).zip(gate_up.chunks_exact(width * 2)) {
            let (gate, up) = row.split_at(width);
            for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                // (1 + tanh(u)) / 2 is the sigmoid of 2u.
                let twice = GELU * (gate + CUBIC * gate * gate * gate);
                *out = gate / (1.0 + exp(-twice)) * up;
            }
        }
    }

    fn geglu_backward_rows(d_gate_up: &'a mut [f32], d_out: &'a [f32], gate_up: &'a [f32], width: usize) {
        let rows = d_gate_up.chunks_exact_mut(width * 2).zip(d_out.chunks_exact(width)).zip(gate_up.chunks_exact(width * 2));
        for ((d_row, d_out), row) in rows {
            let (d_gate, d_up) = d_row.split_at_mut(width);
            let (gate, up) = row.split_at(width);
            for ((((d_gate, d_up), d), gate), up) in d_gate.iter_mut().zip(d_up).zip(d_out).zip(gate).zip(up) {
                let sigmoid = 1.0 / (1.0 + exp(-GELU * (gate + CUBIC * gate * gate * gate)));
                let slope = GELU * (1.0 + 3.0 * CUBIC * gate * gate);
                *d_up = d * gate * sigmoid;
                *d_gate = d * up * sigmoid * (1.0 + gate * (1.0 - sigmoid) * slope);
            }
        }
    }

    fn swiglu_backward_rows(d_gate_up: &'a mut [f32], d_out: &'a [f32], gate_up: &'a [f32], width: usize) {
        let rows = d_gate_up.chunks_exact_mut(width * 2).zip(d_out.chunks_exact(width)).zip(gate_up.chunks_exact(width * 2));
        for ((d_row, d_out), row) in rows {
            let (d_gate, d_up) = d_row.split_at_mut(width);
            let (gate, up) = row.split_at(width);
            for ((((d_gate, d_up), d), gate), up) in d_gate.iter_mut().zip(d_up).zip(d_out).zip(gate).zip(up) {
                let sigmoid = 1.0 / (1.0 + exp(-gate));
                *d_up = d * gate * sigmoid;
                *d_gate = d * up * sigmoid * (1.0 + gate * (1.0 - sigmoid));
            }
        }
    }

    fn turn_row(x: &'a mut [f32], angles: &'a [f32], sign: f32) {
        let half = angles.len() / 2;
        let (cos, sin) = angles.split_at(half);
        for head in x.chunks_exact_mut(angles.len()) {
            let (low, high) = head.split_at_mut(half);
            for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                let (a, b, sin) = (*low, *high, sin * sign);
                *low = a * cos - b * sin;
                *high = b * cos + a * sin;
            }
        }
    }

    fn dropout_slice(out: &'a mut [f32], x: &'a [f32], probability: f32, key: u64, first: u64, add: bool) {
        // Sixteen bits decide about an element: the probability is met to within 1/65536.
        let threshold = (probability * 65_536.0) as u64;
        let scale = 1.0 / (1.0 - probability);
        for (index, (out, x)) in out.chunks_mut(4).zip(x.chunks(4)).enumerate() {
            let random = mix(key ^ (first + index as u64));
            for (i, (out, x)) in out.iter_mut().zip(x).enumerate() {
                let kept = (random >> (16 * i)) & 0xFFFF >= threshold;
                let value = if kept { x * scale } else { 0.0 };
                *out = if add { *out + value } else { value };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropout_keeps_its_mean_and_its_mask() {
        let x = vec![1.0; 40_000];
        let (mut once, mut again, mut elsewhere) = (vec![0.0; x.len()], vec![0.5; x.len()], vec![0.0; x.len()]);
        let dropout = Dropout::new(0.25, 7).unwrap();
        dropout.apply(&mut once, &x, false);
        dropout.apply(&mut again, &x, true);
        dropout.at(1).apply(&mut elsewhere, &x, false);
        let mean = once.iter().sum::<f32>() / x.len() as f32;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert!(once.iter().zip(&again).all(|(a, b)| a + 0.5 == *b));
        assert_ne!(once, elsewhere);
        assert!(Dropout::new(0.0, 7).is_none());
    }

    #[test]
    fn turning_back_gives_what_was_there() {
        let rope = Rope::new(32, 8, 10_000.0, None);
        let before: Vec<f32> = (0..3 * 20).map(|i| i as f32).collect();
        let mut x = before.clone();
        rope.turn(&mut x, 20, 16, &[3, 0, 31], false);
        assert_eq!(x[20..40], before[20..40], "position 0 does not turn");
        assert!((x[0] - before[0]).abs() > 0.1);
        assert_eq!(x[16..20], before[16..20], "columns past the width stay");
        rope.turn(&mut x, 20, 16, &[3, 0, 31], true);
        assert!(x.iter().zip(&before).all(|(a, b)| (a - b).abs() < 1e-4));
    }

    fn check_gradient(x: &[f32], analytic: &[f32], f: impl Fn(&[f32]) -> f64) {
        for i in 0..x.len() {
            let mut moved = x.to_vec();
            moved[i] += 1e-2;
            let up = f(&moved);
            moved[i] -= 2e-2;
            let numeric = (up - f(&moved)) / 2e-2;
            assert!((numeric - f64::from(analytic[i])).abs() < 2e-3, "{i}: {numeric} is not {}", analytic[i]);
        }
    }

    #[test]
    fn backward_passes_agree_with_finite_differences() {
        let x: Vec<f32> = (0..24).map(|i| ((i * 37) % 17) as f32 / 8.0 - 1.0).collect();
        let weight: Vec<f32> = (0..12).map(|i| 0.5 + i as f32 / 12.0).collect();
        let pull: Vec<f32> = (0..24).map(|i| ((i * 11) % 7) as f32 / 3.0 - 1.0).collect();
        let pulled = |out: &[f32]| out.iter().zip(&pull).map(|(a, b)| f64::from(a * b)).sum::<f64>();

        let mut d_x = vec![0.0; 24];
        rms_norm_backward(&mut d_x, &pull, &x, &weight, 1e-5);
        check_gradient(&x, &d_x, |x| {
            let mut out = vec![0.0; 24];
            rms_norm(&mut out, x, &weight, 1e-5);
            pulled(&out)
        });

        for gelu in [false, true] {
            gated_backward(&mut d_x, &pull[..12], &x, 6, gelu);
            check_gradient(&x, &d_x, |x| {
                let mut out = vec![0.0; 12];
                gated(&mut out, x, 6, gelu);
                pulled(&out)
            });
        }
    }
}
