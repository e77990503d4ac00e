//! Intervals that say how far a figure can be trusted.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The number of bootstrap samples.
const SAMPLES: usize = 2000;

/// A 95% percentile bootstrap interval of `statistic` over items (Efron, 1979). The items are what varies independently:
/// documents or prompts, not sentences. The same seed gives the same interval. With no items both ends are NaN.
pub fn bootstrap_interval<T>(items: &[T], seed: u64, statistic: impl Fn(&[&T]) -> f64) -> (f64, f64) {
    if items.is_empty() {
        return (f64::NAN, f64::NAN);
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut sample = || {
        let drawn: Vec<&T> = (0..items.len()).map(|_| &items[random.random_range(0..items.len())]).collect();
        statistic(&drawn)
    };
    let mut values: Vec<f64> = (0..SAMPLES).map(|_| sample()).collect();
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((SAMPLES - 1) as f64 * share).round() as usize];
    (at(0.025), at(0.975))
}

/// The mean, NaN of nothing.
pub fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_holds_the_mean_and_narrows() {
        let values: Vec<f64> = (0..400).map(|index| f64::from(index % 20)).collect();
        let interval = |values: &[f64]| bootstrap_interval(values, 1, |drawn| mean(drawn.iter().map(|v| **v)));
        let (low, high) = interval(&values);
        assert!(low < 9.5 && 9.5 < high);
        let (wide_low, wide_high) = interval(&values[..20]);
        assert!(high - low < wide_high - wide_low);
        assert_eq!(interval(&values), interval(&values), "the same seed gives the same interval");
        // 1.96 standard errors on either side, with a tolerance for the resampling.
        let error = (399.0_f64 / 12.0).sqrt() / 20.0;
        assert!(((high - low) / (2.0 * 1.96 * error) - 1.0).abs() < 0.1);
    }
}
