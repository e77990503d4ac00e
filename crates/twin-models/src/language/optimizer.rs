//! AdamW (Loshchilov & Hutter 2019, *Decoupled Weight Decay Regularization*) over one flat buffer of parameters.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::simd::{LANES, kernel, sum_lanes};

/// Elements per task. Fixed, so that sums have one order whatever the number of threads.
const CHUNK: usize = 1 << 14;

/// The settings of AdamW; the learning rate comes with each step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamWConfig {
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of squared gradients.
    pub beta2: f32,
    pub epsilon: f32,
    /// Each step takes `learning rate · weight_decay` of a parameter away.
    pub weight_decay: f32,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 }
    }
}

/// The state of the optimizer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AdamW {
    pub(crate) config: AdamWConfig,
    pub(crate) first_moment: Vec<f32>,
    pub(crate) second_moment: Vec<f32>,
    /// Steps taken.
    pub(crate) step: u64,
}

impl AdamW {
    pub(crate) fn new(config: AdamWConfig, parameters: usize) -> Self {
        Self { config, first_moment: vec![0.0; parameters], second_moment: vec![0.0; parameters], step: 0 }
    }

    /// One step with `gradients · scale`.
    pub(crate) fn step(&mut self, values: &mut [f32], gradients: &[f32], scale: f32, learning_rate: f32) {
        self.step += 1;
        // Beyond a few thousand steps the corrections are 1; `i32` is enough for the power.
        let power = i32::try_from(self.step).unwrap_or(i32::MAX);
        let config = self.config;
        let update = Update {
            config,
            scale,
            learning_rate,
            first_correction: 1.0 / (1.0 - config.beta1.powi(power)),
            second_correction: 1.0 / (1.0 - config.beta2.powi(power)),
        };
        let moments = self.first_moment.par_chunks_mut(CHUNK).zip(self.second_moment.par_chunks_mut(CHUNK));
        values.par_chunks_mut(CHUNK).zip(gradients.par_chunks(CHUNK)).zip(moments).for_each(
            |((values, gradients), (first, second))| {
                update_chunk(values, gradients, first, second, update);
            },
        );
    }
}

/// The Euclidean norm of a buffer.
pub(crate) fn norm(values: &[f32]) -> f64 {
    let sums: Vec<f64> = values.par_chunks(CHUNK).map(|chunk| f64::from(sum_of_squares(chunk))).collect();
    sums.iter().sum::<f64>().sqrt()
}

#[derive(Clone, Copy)]
struct Update {
    config: AdamWConfig,
    scale: f32,
    learning_rate: f32,
    first_correction: f32,
    second_correction: f32,
}

kernel! {
    fn update_chunk(
        values: &'a mut [f32],
        gradients: &'a [f32],
        first: &'a mut [f32],
        second: &'a mut [f32],
        update: Update,
    ) {
        let Update { config, scale, learning_rate, first_correction, second_correction } = update;
        let keep = 1.0 - learning_rate * config.weight_decay;
        for (((value, gradient), first), second) in values.iter_mut().zip(gradients).zip(first).zip(second) {
            let gradient = gradient * scale;
            *first = config.beta1 * *first + (1.0 - config.beta1) * gradient;
            *second = config.beta2 * *second + (1.0 - config.beta2) * gradient * gradient;
            let size = (*second * second_correction).sqrt() + config.epsilon;
            *value = *value * keep - learning_rate * (*first * first_correction) / size;
        }
    }

    fn sum_of_squares(values: &'a [f32]) -> f32 {
        let mut lanes = [0.0; LANES];
        let (blocks, rest) = values.as_chunks::<LANES>();
        for block in blocks {
            for i in 0..LANES {
                lanes[i] += block[i] * block[i];
            }
        }
        sum_lanes(lanes) + rest.iter().map(|value| value * value).sum::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_steps_by_hand() {
        let config = AdamWConfig { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.1 };
        let mut optimizer = AdamW::new(config, 1);
        let mut value = [1.0f32];
        optimizer.step(&mut value, &[4.0], 0.5, 0.01);
        // After one step the corrected moments are g and g²: the step is the rate times the sign of g.
        assert!((value[0] - (1.0 - 0.001 - 0.01)).abs() < 1e-6, "{}", value[0]);
        optimizer.step(&mut value, &[-2.0], 0.5, 0.01);
        let (m, v) = (0.9 * 0.1 * 2.0 - 0.1, 0.99 * 0.01 * 4.0 + 0.01);
        let (m, v) = (m / (1.0 - 0.81), v / (1.0 - 0.9801f64));
        let expected = 0.989 * 0.999 - 0.01 * m / v.sqrt();
        assert!((f64::from(value[0]) - expected).abs() < 1e-6, "{} is not {expected}", value[0]);
    }

    #[test]
    fn the_norm_of_a_long_buffer() {
        assert!((norm(&vec![2.0; 40_000]) - 400.0).abs() < 1e-6);
    }
}
