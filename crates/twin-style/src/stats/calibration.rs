//! From scores to probabilities that mean what they say.

use serde::{Deserialize, Serialize};

/// The bins of the expected calibration error.
const BINS: usize = 10;

/// A logistic curve from scores to log-likelihood ratios.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    pub slope: f64,
    pub intercept: f64,
}

impl Calibration {
    /// Platt's curve (1999), in which cases of the same author and of different ones weigh equally, however many there are
    /// of each. `None` unless there are cases of both kinds.
    pub fn fit(cases: &[(f64, bool)]) -> Option<Self> {
        let same = cases.iter().filter(|(_, same)| *same).count() as f64;
        let different = cases.len() as f64 - same;
        if same == 0.0 || different == 0.0 {
            return None;
        }
        // Platt's targets: one more case of either kind keeps the curve finite where the two are apart.
        let weighted: Vec<[f64; 3]> = cases
            .iter()
            .map(|(score, is_same)| match is_same {
                true => [*score, (same + 1.0) / (same + 2.0), 0.5 / same],
                false => [*score, 1.0 / (different + 2.0), 0.5 / different],
            })
            .collect();
        let mut curve = Self { slope: 0.0, intercept: 0.0 };
        let mut cost = curve.cost(&weighted);
        for _ in 0..100 {
            let (slope, intercept) = curve.newton_step(&weighted);
            // Half of a step that goes too far, and half of that.
            let shorter = (0..20).map(|halvings| {
                let part = 0.5_f64.powi(halvings);
                Self { slope: curve.slope - part * slope, intercept: curve.intercept - part * intercept }
            });
            let Some(better) = shorter.into_iter().find(|next| next.cost(&weighted) < cost) else { break };
            let gain = cost - better.cost(&weighted);
            (curve, cost) = (better, better.cost(&weighted));
            if gain < 1e-12 {
                break;
            }
        }
        Some(curve)
    }

    /// The natural logarithm of how much likelier a score is for the same author than for another.
    pub fn log_likelihood_ratio(&self, score: f64) -> f64 {
        self.slope * score + self.intercept
    }

    /// The probability of the same author when `prior` of all cases are.
    pub fn probability(&self, score: f64, prior: f64) -> f64 {
        sigmoid(self.log_likelihood_ratio(score) + (prior / (1.0 - prior)).ln())
    }

    fn cost(&self, weighted: &[[f64; 3]]) -> f64 {
        let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
        let cost = |[score, target, weight]: &[f64; 3]| {
            let ratio = self.log_likelihood_ratio(*score);
            weight * (softplus(ratio) - target * ratio)
        };
        weighted.iter().map(cost).sum()
    }

    fn newton_step(&self, weighted: &[[f64; 3]]) -> (f64, f64) {
        let (mut gradient, mut hessian) = ([0.0; 2], [1e-9, 0.0, 1e-9]);
        for [score, target, weight] in weighted {
            let probability = sigmoid(self.log_likelihood_ratio(*score));
            let (error, curvature) = (weight * (probability - target), weight * probability * (1.0 - probability));
            gradient[0] += error * score;
            gradient[1] += error;
            hessian[0] += curvature * score * score;
            hessian[1] += curvature * score;
            hessian[2] += curvature;
        }
        let determinant = hessian[0] * hessian[2] - hessian[1] * hessian[1];
        (
            (hessian[2] * gradient[0] - hessian[1] * gradient[1]) / determinant,
            (hessian[0] * gradient[1] - hessian[1] * gradient[0]) / determinant,
        )
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The expected calibration error (Naeini et al., 2015): over ten bins of equal width, the mean distance between what the
/// probabilities promise and how often it comes true, weighted by cases. Zero of nothing.
pub fn calibration_error(probabilities: &[(f64, bool)]) -> f64 {
    let mut bins = [(0.0, 0.0); BINS];
    for (probability, same) in probabilities {
        let bin = &mut bins[((probability * BINS as f64) as usize).min(BINS - 1)];
        bin.0 += probability;
        bin.1 += f64::from(u8::from(*same));
    }
    bins.iter().map(|(promised, true_cases)| (promised - true_cases).abs()).sum::<f64>()
        / probabilities.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores of two normal distributions, one apart by two deviations, at their quantiles.
    fn cases() -> Vec<(f64, bool)> {
        // Quantiles of the standard normal distribution at 1/40, 3/40, 5/40 and so on.
        let normal = [-1.960, -1.440, -1.150, -0.935, -0.755, -0.598, -0.454, -0.319, -0.189, -0.063];
        let all = normal.iter().flat_map(|x| [*x, -*x]);
        all.flat_map(|x| [(x + 1.0, true), (x - 1.0, false), (x - 1.0, false)]).collect()
    }

    #[test]
    fn the_curve_of_two_normal_distributions() {
        // The log-likelihood ratio of N(1, 1) against N(-1, 1) is 2x; with twenty cases Platt's targets make it flatter.
        let curve = Calibration::fit(&cases()).unwrap();
        assert!((1.5..2.1).contains(&curve.slope) && curve.intercept.abs() < 0.1, "{curve:?}");
        assert!((curve.probability(0.0, 0.5) - 0.5).abs() < 0.03);
        assert!(curve.probability(0.0, 0.1) < 0.15);
        let calibrated: Vec<_> =
            cases().iter().map(|(score, same)| (curve.probability(*score, 1.0 / 3.0), *same)).collect();
        // Six cases in a bin: more cannot be asked of them.
        assert!(calibration_error(&calibrated) < 0.08, "{}", calibration_error(&calibrated));
    }

    #[test]
    fn sides_that_do_not_meet_and_sides_that_are_the_same_have_a_curve() {
        let apart = Calibration::fit(&[(5.0, true), (6.0, true), (-5.0, false)]).unwrap();
        assert!(apart.slope.is_finite() && apart.probability(5.5, 0.5) > 0.7, "{apart:?}");
        let same = Calibration::fit(&[(1.0, true), (1.0, false), (1.0, false)]).unwrap();
        assert!((same.probability(1.0, 0.5) - 0.5).abs() < 0.2, "{same:?}");
        assert_eq!(Calibration::fit(&[(1.0, true)]), None);
    }

    #[test]
    fn known_calibration_errors() {
        assert_eq!(calibration_error(&[(1.0, true), (0.0, false)]), 0.0);
        // Two in the bin of .6 to .7, of which one comes true: |1.3 - 1| / 2.
        assert!((calibration_error(&[(0.62, true), (0.68, false)]) - 0.15).abs() < 1e-12);
        assert_eq!(calibration_error(&[]), 0.0);
    }
}
