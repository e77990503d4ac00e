//! Intervals that say how far a figure can be trusted, and the figures of authorship verification as PAN defines them.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use self::calibration::{Calibration, calibration_error};
pub use self::verification::{
    Verification, auc, brier_complement, c_at_1, cllr, f_0_5_u, f1, threshold_at_false_accept,
};

mod calibration;
mod verification;

/// The number of bootstrap samples.
const SAMPLES: usize = 2000;

/// A 95% percentile bootstrap interval of `statistic` over items (Efron, 1979). The items are what varies independently:
/// documents or prompts, not sentences. The same seed gives the same interval. With no items both ends are NaN.
pub fn bootstrap_interval<T>(items: &[T], seed: u64, statistic: impl Fn(&[&T]) -> f64) -> (f64, f64) {
    bootstrap_groups(&[items.len()], seed, |drawn| {
        statistic(&drawn[0].iter().map(|index| &items[*index]).collect::<Vec<_>>())
    })
}

/// The same for a statistic of several groups that vary independently of each other: `statistic` gets the drawn indices of
/// each group. Samples without a value (NaN) are left out. When a group is empty both ends are NaN.
pub fn bootstrap_groups(sizes: &[usize], seed: u64, statistic: impl Fn(&[Vec<usize>]) -> f64) -> (f64, f64) {
    if sizes.is_empty() || sizes.contains(&0) {
        return (f64::NAN, f64::NAN);
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = |size: &usize| (0..*size).map(|_| random.random_range(0..*size)).collect::<Vec<usize>>();
    let mut sample = || statistic(&sizes.iter().map(&mut draw).collect::<Vec<_>>());
    let values: Vec<f64> = (0..SAMPLES).map(|_| sample()).filter(|value| !value.is_nan()).collect();
    (quantile(&values, 0.025), quantile(&values, 0.975))
}

/// A mean difference with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    pub mean: f64,
    /// A 95% bootstrap interval over the pairs.
    pub interval: (f64, f64),
    /// How often chance alone makes a difference as large in either direction: the paired randomisation test (Fisher, 1935),
    /// in which every pair may be the other way round. With five pairs it cannot be below 1/16.
    #[serde(default)]
    pub p_value: f64,
    /// How many pairs it is of.
    pub pairs: usize,
}

impl Difference {
    /// From the differences of pairs. NaN of none.
    pub fn of(differences: &[f64], seed: u64) -> Self {
        let interval = bootstrap_interval(differences, seed, |drawn| mean(drawn.iter().map(|value| **value)));
        let mean = mean(differences.iter().copied());
        Self { mean, interval, p_value: randomisation_test(differences, seed), pairs: differences.len() }
    }

    /// Whether the first of the two is higher, beyond chance.
    pub fn is_above_zero(&self) -> bool {
        self.interval.0 > 0.0
    }
}

/// The paired difference `a - b` on the same documents or prompts. `None` when there are none, or not the same number.
pub fn paired_difference(a: &[f64], b: &[f64], seed: u64) -> Option<Difference> {
    if a.is_empty() || a.len() != b.len() {
        return None;
    }
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    Some(Difference::of(&differences, seed))
}

/// The share of sign changes of the differences, all of them or as many as there are samples, that make a mean as far from
/// zero as theirs.
fn randomisation_test(differences: &[f64], seed: u64) -> f64 {
    if differences.is_empty() {
        return f64::NAN;
    }
    let found = differences.iter().sum::<f64>().abs() * (1.0 - 1e-9);
    let flipped = |signs: &mut dyn FnMut(usize) -> bool| -> bool {
        let sum: f64 =
            differences.iter().enumerate().map(|(index, value)| if signs(index) { -value } else { *value }).sum();
        sum.abs() >= found
    };
    if 1_usize.checked_shl(differences.len() as u32).is_some_and(|all| all <= SAMPLES) {
        let all = 1_usize << differences.len();
        let as_far = (0..all).filter(|flips| flipped(&mut |index| flips >> index & 1 == 1)).count();
        return as_far as f64 / all as f64;
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let as_far = (0..SAMPLES).filter(|_| flipped(&mut |_| random.random())).count();
    // The order that was found is one of those that chance makes.
    (as_far + 1) as f64 / (SAMPLES + 1) as f64
}

/// The p-values of several comparisons, corrected for their number (Holm, 1979), in the order they were given in.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut corrected = vec![0.0; p_values.len()];
    let mut before: f64 = 0.0;
    for (rank, index) in order.into_iter().enumerate() {
        before = before.max(p_values[index] * (p_values.len() - rank) as f64).min(1.0);
        corrected[index] = before;
    }
    corrected
}

/// The mean, NaN of nothing.
pub fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

/// The sample variance (n - 1), zero of fewer than two values.
pub fn variance(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let centre = mean(values.iter().copied());
    values.iter().map(|value| (value - centre).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}

/// The value below which `share` of the values lie, between neighbours in a straight line (R's type 7). NaN of nothing.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = last as f64 * share.clamp(0.0, 1.0);
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// Quartiles of a quantity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Quartiles {
    pub lower: f64,
    pub median: f64,
    pub upper: f64,
}

impl Quartiles {
    /// The quartiles of values, all zero of nothing.
    pub fn of(values: &[f64]) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        Self { lower: quantile(values, 0.25), median: quantile(values, 0.5), upper: quantile(values, 0.75) }
    }
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
        assert!(interval(&[]).0.is_nan());
    }

    #[test]
    fn a_difference_of_pairs_sees_what_single_intervals_hide() {
        let b: Vec<f64> = (0..12).map(|index| f64::from(index) * 10.0).collect();
        let a: Vec<f64> = b.iter().enumerate().map(|(index, value)| value + 1.0 + 0.1 * index as f64).collect();
        let difference = paired_difference(&a, &b, 3).unwrap();
        assert!((difference.mean - 1.55).abs() < 1e-9);
        assert!(difference.is_above_zero() && difference.interval.1 < 2.2);
        assert!(!paired_difference(&b, &a, 3).unwrap().is_above_zero());
        assert_eq!(paired_difference(&a, &b[1..], 3), None);
    }

    #[test]
    fn known_p_values() {
        // Of the eight sign changes of three equal differences, two are as far from zero.
        assert_eq!(Difference::of(&[1.0, 1.0, 1.0], 1).p_value, 0.25);
        assert_eq!(Difference::of(&[1.0, -1.0], 1).p_value, 1.0);
        let many = Difference::of(&[0.5; 40], 1).p_value;
        assert!(many > 0.0 && many < 0.001, "{many}");
        assert_eq!(holm(&[0.04, 0.01, 0.03]), [0.06, 0.03, 0.06]);
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
    }

    #[test]
    fn groups_vary_by_themselves() {
        let (a, b) = ([1.0, 3.0], [10.0, 10.0, 10.0]);
        let take = |values: &[f64], drawn: &[usize]| mean(drawn.iter().map(|index| values[*index]));
        let interval = bootstrap_groups(&[2, 3], 5, |drawn| take(&b, &drawn[1]) - take(&a, &drawn[0]));
        assert_eq!(interval, (7.0, 9.0));
        assert!(bootstrap_groups(&[2, 0], 5, |_| 1.0).0.is_nan());
    }

    #[test]
    fn known_quantiles() {
        // R: quantile(c(1, 2, 3, 10)) is 1, 1.75, 2.5, 4.75, 10.
        let quartiles = Quartiles::of(&[10.0, 2.0, 1.0, 3.0]);
        assert_eq!(quartiles, Quartiles { lower: 1.75, median: 2.5, upper: 4.75 });
        assert_eq!(quantile(&[10.0, 2.0], 1.0), 10.0);
        assert_eq!(variance(&[1.0, 2.0, 3.0]), 1.0);
    }
}
