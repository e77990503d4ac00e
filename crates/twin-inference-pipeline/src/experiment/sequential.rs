//! A test of two means that may be looked at after every observation.
//!
//! The mixture sequential probability ratio test of Robbins (1970), as used for A/B tests by Johari, Koomen, Pekelis and Walsh,
//! "Always Valid Inference: Continuous Monitoring of A/B Tests" (Operations Research 70(3), 2022): the likelihood ratio of the
//! difference of means is averaged over a normal prior of effects with variance τ². With an estimate `d` of the difference and
//! its variance `v`,
//!
//! ```text
//! Λ = sqrt(v / (v + τ²)) · exp(d² τ² / (2 v (v + τ²)))
//! ```
//!
//! is a martingale with mean 1 where the means do not differ, so by Ville's inequality it ever exceeds 1/α with probability α at
//! most. The p-value is the least 1/Λ so far. Variances are estimated, so for small samples the rate is an approximation: each
//! side counts as if it had seen one deviation of the prior's size more, and nothing is concluded from fewer than
//! [`LEAST`] observations a side. `the_stated_error_rate_holds_however_often_one_looks` measures it.

use serde::Serialize;

/// The fewest observations of a side from which something is concluded.
pub const LEAST: usize = 30;

/// What is thought of the outcome before anything is seen.
#[derive(Debug, Clone, Copy)]
pub struct Prior {
    /// τ: the size of differences that are worth finding. The error rate does not depend on it; how soon one is found does.
    pub difference: f64,
    /// The size of one deviation from the mean.
    pub deviation: f64,
}

/// What can be said of an arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Too little was seen to say anything.
    TooFew,
    /// Nothing can be told yet.
    Undecided,
    Better,
    Worse,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooFew => "too few to tell",
            Self::Undecided => "undecided",
            Self::Better => "better",
            Self::Worse => "worse",
        })
    }
}

/// The running mean and variance of one side (Welford 1962).
#[derive(Debug, Clone, Copy, Default)]
struct Side {
    count: usize,
    mean: f64,
    squares: f64,
}

impl Side {
    fn add(&mut self, value: f64) {
        self.count += 1;
        let from_old = value - self.mean;
        self.mean += from_old / self.count as f64;
        self.squares += from_old * (value - self.mean);
    }

    /// The variance of the mean, with one deviation of the prior's size among the observations.
    fn variance_of_mean(&self, prior: Prior) -> f64 {
        let count = self.count.max(1) as f64;
        (self.squares + prior.deviation * prior.deviation) / count / count
    }
}

/// A test that takes observations as they come.
#[derive(Debug, Clone)]
pub struct SequentialTest {
    prior: Prior,
    level: f64,
    control: Side,
    treatment: Side,
    p_value: f64,
}

impl SequentialTest {
    /// A test that errs with probability `level` at most, over all looks.
    pub fn new(prior: Prior, level: f64) -> Self {
        Self { prior, level, control: Side::default(), treatment: Side::default(), p_value: 1.0 }
    }

    /// An observation of the side that is compared with.
    pub fn control(&mut self, value: f64) {
        self.control.add(value);
        self.look();
    }

    /// An observation of the side that is compared.
    pub fn treatment(&mut self, value: f64) {
        self.treatment.add(value);
        self.look();
    }

    fn has_enough(&self) -> bool {
        self.control.count.min(self.treatment.count) >= LEAST
    }

    fn look(&mut self) {
        if self.has_enough() {
            let (v, tau2, d) = (self.variance(), self.prior.difference.powi(2), self.difference());
            let log_ratio = 0.5 * (v / (v + tau2)).ln() + d * d * tau2 / (2.0 * v * (v + tau2));
            self.p_value = self.p_value.min((-log_ratio).exp());
        }
    }

    fn variance(&self) -> f64 {
        self.control.variance_of_mean(self.prior) + self.treatment.variance_of_mean(self.prior)
    }

    /// The mean of the side that is compared less that of the other.
    pub fn difference(&self) -> f64 {
        self.treatment.mean - self.control.mean
    }

    /// The always-valid p-value of "the means do not differ".
    pub fn p_value(&self) -> f64 {
        self.p_value
    }

    /// The always-valid interval of the difference at the test's level: where Λ would not exceed 1/level.
    pub fn interval(&self) -> (f64, f64) {
        let (v, tau2) = (self.variance(), self.prior.difference.powi(2));
        let half = (v * (v + tau2) / tau2 * (2.0 * (1.0 / self.level).ln() + ((v + tau2) / v).ln())).sqrt();
        (self.difference() - half, self.difference() + half)
    }

    /// What can be said, given whether more is better.
    pub fn verdict(&self, more_is_better: bool) -> Verdict {
        match (self.has_enough(), self.p_value <= self.level) {
            (false, _) => Verdict::TooFew,
            (true, false) => Verdict::Undecided,
            (true, true) if (self.difference() > 0.0) == more_is_better => Verdict::Better,
            (true, true) => Verdict::Worse,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIOR: Prior = Prior { difference: 0.1, deviation: 0.5 };

    /// Uniform numbers from 0 to 1 (SplitMix64; Steele, Lea and Flood 2014).
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) as f64 / 2_f64.powi(64)
        }
    }

    /// After how many observations a side the test decides, if it does within `most`, when it is looked at after each; and
    /// whether a test with a fixed sample would have said "differs" at any of these looks.
    fn run(seed: u64, control: f64, treatment: f64, most: usize) -> (Option<usize>, bool) {
        let mut numbers = Numbers(seed);
        let mut test = SequentialTest::new(PRIOR, 0.05);
        let mut fooled = false;
        let mut decided = None;
        for n in 1..=most {
            test.control(f64::from(numbers.next() < control));
            test.treatment(f64::from(numbers.next() < treatment));
            fooled |= n >= LEAST && test.difference().abs() > 1.96 * test.variance().sqrt();
            if decided.is_none() && !matches!(test.verdict(true), Verdict::TooFew | Verdict::Undecided) {
                decided = Some(n);
            }
        }
        (decided, fooled)
    }

    #[test]
    fn the_stated_error_rate_holds_however_often_one_looks() {
        const RUNS: u64 = 2000;
        for rate in [0.5, 0.9, 0.05] {
            let outcomes: Vec<_> = (0..RUNS).map(|seed| run(seed, rate, rate, 1500)).collect();
            let wrong = outcomes.iter().filter(|(decided, _)| decided.is_some()).count();
            let fooled = outcomes.iter().filter(|(_, fooled)| *fooled).count();
            // 5% of 2,000 are 100.
            assert!(wrong <= 100, "{wrong} of {RUNS} at a rate of {rate}");
            assert!(fooled > 2 * wrong.max(100), "a fixed test would have been wrong only {fooled} times");
        }
    }

    #[test]
    fn a_real_difference_is_found() {
        let found: Vec<usize> = (0..300).filter_map(|seed| run(seed, 0.6, 0.8, 1000).0).collect();
        assert!(found.len() >= 297, "{} of 300", found.len());
        let mean = found.iter().sum::<usize>() / found.len();
        assert!(mean < 200, "{mean} observations a side");
    }

    #[test]
    fn the_interval_and_the_p_value_agree() {
        let mut numbers = Numbers(7);
        let mut test = SequentialTest::new(PRIOR, 0.05);
        for _ in 0..400 {
            test.control(f64::from(numbers.next() < 0.5));
            test.treatment(f64::from(numbers.next() < 0.75));
        }
        let (low, high) = test.interval();
        assert!(low > 0.0 && low < 0.25 && high > 0.25 && test.p_value() < 0.05, "{low} {high} {}", test.p_value());
        assert_eq!((test.verdict(true), test.verdict(false)), (Verdict::Better, Verdict::Worse));
    }

    #[test]
    fn few_observations_say_nothing() {
        let mut test = SequentialTest::new(PRIOR, 0.05);
        for _ in 0..LEAST - 1 {
            test.control(0.0);
            test.treatment(1.0);
        }
        assert_eq!((test.verdict(true), test.p_value()), (Verdict::TooFew, 1.0));
    }
}
