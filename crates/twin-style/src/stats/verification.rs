//! Figures of authorship verification, as the official evaluator of PAN at CLEF defines them (2020 to 2023).
//!
//! Each case is a score and whether the authors are the same. Where a score is a probability, above .5 means "same", below
//! "different", and exactly .5 leaves the case unanswered.

use serde::{Deserialize, Serialize};

use super::{mean, quantile};

/// All of PAN's figures for one set of cases. Each is better when higher.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    pub auc: f64,
    pub c_at_1: f64,
    pub f_0_5_u: f64,
    pub f1: f64,
    pub brier_complement: f64,
    pub cases: usize,
    pub unanswered: usize,
}

impl Verification {
    /// The figures of probabilities. `None` unless there are cases of both kinds.
    pub fn of(cases: &[(f64, bool)]) -> Option<Self> {
        Some(Self {
            auc: auc(cases)?,
            c_at_1: c_at_1(cases),
            f_0_5_u: f_0_5_u(cases),
            f1: f1(cases),
            brier_complement: brier_complement(cases),
            cases: cases.len(),
            unanswered: Outcomes::of(cases).unanswered(),
        })
    }
}

/// How cases were answered.
#[derive(Debug, Default)]
struct Outcomes {
    true_same: f64,
    false_same: f64,
    true_different: f64,
    false_different: f64,
    unanswered: f64,
}

impl Outcomes {
    fn of(cases: &[(f64, bool)]) -> Self {
        let mut outcomes = Self::default();
        for (score, same) in cases {
            let slot = match (*score > 0.5, *score < 0.5, same) {
                (true, _, true) => &mut outcomes.true_same,
                (true, _, false) => &mut outcomes.false_same,
                (_, true, false) => &mut outcomes.true_different,
                (_, true, true) => &mut outcomes.false_different,
                _ => &mut outcomes.unanswered,
            };
            *slot += 1.0;
        }
        outcomes
    }

    fn unanswered(&self) -> usize {
        self.unanswered as usize
    }
}

/// The chance that a case of the same author scores higher than one of different authors, ties counting half. `None` unless
/// there are cases of both kinds.
pub fn auc(cases: &[(f64, bool)]) -> Option<f64> {
    let mut sorted: Vec<(f64, bool)> = cases.to_vec();
    sorted.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let same = sorted.iter().filter(|(_, same)| *same).count() as f64;
    let different = sorted.len() as f64 - same;
    if same == 0.0 || different == 0.0 {
        return None;
    }
    let (mut below, mut wins) = (0.0, 0.0);
    for tied in sorted.chunk_by(|(a, _), (b, _)| a == b) {
        let tied_same = tied.iter().filter(|(_, same)| *same).count() as f64;
        let tied_different = tied.len() as f64 - tied_same;
        wins += tied_same * (below + tied_different / 2.0);
        below += tied_different;
    }
    Some(wins / (same * different))
}

/// c@1 (Peñas and Rodrigo, 2011): accuracy in which an unanswered case counts as right as often as the answered ones are.
pub fn c_at_1(cases: &[(f64, bool)]) -> f64 {
    let outcomes = Outcomes::of(cases);
    let count = cases.len().max(1) as f64;
    let right = outcomes.true_same + outcomes.true_different;
    (right + outcomes.unanswered * right / count) / count
}

/// F0.5u (Bevendorff et al., 2019): precision before recall, unanswered cases counting as missed. The table published for
/// PAN 2020 counts them as answered "same" instead.
pub fn f_0_5_u(cases: &[(f64, bool)]) -> f64 {
    let outcomes = Outcomes::of(cases);
    let hits = 1.25 * outcomes.true_same;
    let misses = 0.25 * (outcomes.false_different + outcomes.unanswered);
    ratio(hits, hits + misses + outcomes.false_same)
}

/// F1 of "same" over the answered cases.
pub fn f1(cases: &[(f64, bool)]) -> f64 {
    let outcomes = Outcomes::of(cases);
    let hits = 2.0 * outcomes.true_same;
    ratio(hits, hits + outcomes.false_same + outcomes.false_different)
}

/// One minus the Brier score of the probabilities.
pub fn brier_complement(cases: &[(f64, bool)]) -> f64 {
    let error = |(score, same): &(f64, bool)| (score - f64::from(u8::from(*same))).powi(2);
    1.0 - mean(cases.iter().map(error))
}

/// The cost of log-likelihood ratios (natural logarithm) in bits (Brümmer and du Preez, 2006): 0 is perfect, 1 is what
/// answering nothing costs, more misleads. `None` unless there are cases of both kinds.
pub fn cllr(cases: &[(f64, bool)]) -> Option<f64> {
    // ln(1 + e^x) without overflow.
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let cost = |wanted: bool| {
        let of_kind = cases.iter().filter(move |(_, same)| *same == wanted);
        mean(of_kind.map(|(ratio, same)| softplus(if *same { -ratio } else { *ratio })))
    };
    let bits = (cost(true) + cost(false)) / (2.0 * std::f64::consts::LN_2);
    (!bits.is_nan()).then_some(bits)
}

/// The score that `share` of the impostors' scores lie above: a text is accepted above it.
pub fn threshold_at_false_accept(impostors: &[f64], share: f64) -> f64 {
    quantile(impostors, 1.0 - share)
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: [(f64, bool); 6] = [(0.9, true), (0.8, false), (0.6, true), (0.5, true), (0.4, true), (0.1, false)];

    #[test]
    fn known_figures() {
        // Same: .9 .6 .5 .4; different: .8 .1. Of the eight pairs .9 wins two and the others one each.
        assert_eq!(auc(&CASES), Some(5.0 / 8.0));
        // Right: .9, .6, .1; one of six unanswered.
        assert!((c_at_1(&CASES) - (3.0 + 3.0 / 6.0) / 6.0).abs() < 1e-12);
        assert!((f_0_5_u(&CASES) - 2.5 / (2.5 + 0.5 + 1.0)).abs() < 1e-12);
        assert!((f1(&CASES) - 4.0 / 6.0).abs() < 1e-12);
        let errors = 0.01 + 0.64 + 0.16 + 0.25 + 0.36 + 0.01;
        assert!((brier_complement(&CASES) - (1.0 - errors / 6.0)).abs() < 1e-12);
        assert_eq!(Verification::of(&CASES).unwrap().unanswered, 1);
        assert_eq!(Verification::of(&CASES[..1]), None);
    }

    #[test]
    fn ties_count_half() {
        assert_eq!(auc(&[(1.0, true), (1.0, false), (1.0, true)]), Some(0.5));
        assert_eq!(auc(&[(2.0, true), (1.0, false)]), Some(1.0));
    }

    #[test]
    fn known_costs() {
        assert!((cllr(&[(0.0, true), (0.0, false)]).unwrap() - 1.0).abs() < 1e-12);
        assert!(cllr(&[(50.0, true), (-50.0, false)]).unwrap() < 1e-9);
        // A ratio of three to one the right way round for both: log2(1 + 1/3).
        let three = 3.0_f64.ln();
        assert!((cllr(&[(three, true), (-three, false)]).unwrap() - (4.0_f64 / 3.0).log2()).abs() < 1e-12);
        assert!((cllr(&[(-1e9, true), (0.0, false)]).unwrap()).is_finite());
        assert_eq!(cllr(&[(1.0, true)]), None);
    }

    #[test]
    fn one_impostor_in_twenty_is_accepted() {
        let scores: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(threshold_at_false_accept(&scores, 0.05), 95.0);
    }
}
