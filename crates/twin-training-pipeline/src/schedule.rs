//! The learning rate over a run: linear warm-up, then a cosine down to a tenth.

use std::f64::consts::PI;

/// The share of the peak that the rate ends at.
const FLOOR: f64 = 0.1;

/// The learning rate of `step` (from 0) of `steps`: a straight line up to `peak` over the first `warmup` steps, then half a
/// cosine down (Loshchilov and Hutter, "SGDR", 2017, without restarts).
pub fn learning_rate(step: usize, steps: usize, warmup: usize, peak: f64) -> f64 {
    if step < warmup {
        return peak * (step + 1) as f64 / warmup as f64;
    }
    let span = steps.saturating_sub(warmup).max(1) as f64;
    let position = ((step - warmup) as f64 / span).min(1.0);
    peak * (FLOOR + (1.0 - FLOOR) * 0.5 * (1.0 + (PI * position).cos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_to_the_peak_and_falls_to_a_tenth() {
        let rates: Vec<f64> = (0..=100).map(|step| learning_rate(step, 100, 10, 1.0)).collect();
        assert!((rates[0] - 0.1).abs() < 1e-12);
        assert!((rates[9] - 1.0).abs() < 1e-12);
        assert!((rates[10] - 1.0).abs() < 1e-12);
        assert!((rates[100] - 0.1).abs() < 1e-12);
        assert!(rates[10..].windows(2).all(|pair| pair[1] <= pair[0]));
    }

    #[test]
    fn a_run_without_steps_has_a_rate() {
        assert!(learning_rate(0, 0, 0, 1.0).is_finite());
    }
}
