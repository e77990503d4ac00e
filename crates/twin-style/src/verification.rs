//! The ruler's measures on trial: known text of several authors, pieces of newer text, and every piece against every author.
//!
//! Nothing that a case is judged by comes from its own two authors: the scale on which the measures are added up, and the
//! curve that makes a probability of the sum, are fitted to the cases of all the others.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::counts::{CountedAuthor, CountedText, CountedUnit};
use crate::likeness::{Component, MEASURES, Measures, OTHERS, OtherMeasure, RulerConfig, Standard};
use crate::ngrams::{NgramProfile, Weights};
use crate::stats::{
    Calibration, Verification, auc, bootstrap_groups, calibration_error, cllr, mean, threshold_at_false_accept,
};
use crate::text::{units, word_count};

/// An author on trial. All texts are prose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub name: String,
    pub known: Vec<String>,
    /// Newer pieces of about a unit's length.
    pub questioned: Vec<String>,
}

/// Who else is known when a piece is compared with an author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// All candidates, the piece's own author among them: what published figures mean.
    Closed,
    /// All but the piece's own author, as when a machine wrote it. Harder.
    Open,
}

/// How well authors are told apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerificationReport {
    pub pool: Pool,
    pub authors: usize,
    pub pieces: usize,
    pub cases: usize,
    /// Over all cases at once, by one score.
    pub auc: f64,
    /// A 95% bootstrap interval over authors.
    pub auc_interval: (f64, f64),
    /// Every measure alone.
    pub component_auc: Vec<(Component, f64)>,
    /// Other measures of the literature, which are no part of the score.
    #[serde(default)]
    pub other_auc: Vec<(OtherMeasure, f64)>,
    /// PAN's figures when half of the cases are of the same author.
    pub pan: Verification,
    /// The expected calibration error, the prior being one author in all.
    pub calibration_error: f64,
    /// The cost of the likelihood ratios in bits.
    pub cllr: f64,
    /// The share of true pieces that are accepted where one false one in twenty is.
    pub true_accept: f64,
    /// The share of pieces whose own author scores highest.
    pub first: f64,
    pub by_author: Vec<AuthorVerification>,
}

/// One author's part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuthorVerification {
    pub name: String,
    pub known_words: usize,
    pub pieces: usize,
    pub auc: f64,
}

/// Puts every piece before every author. `None` with fewer than four authors that have known and newer text: with less there
/// are no others to fit a scale to.
pub fn verify(candidates: &[Candidate], pool: Pool, config: &RulerConfig) -> Option<VerificationReport> {
    let candidates: Vec<&Candidate> =
        candidates.iter().filter(|one| !one.known.is_empty() && !one.questioned.is_empty()).collect();
    if candidates.len() < 4 {
        return None;
    }
    let counted: Vec<CountedAuthor> = candidates.par_iter().map(|one| counted(one, config)).collect();
    let cases = measured(&counted, pool, config);
    let scored = scored(&cases, candidates.len())?;
    let ngrams = character_ngrams(&candidates, &cases, pool);
    report(&candidates, pool, &cases, &scored, &ngrams, config)
}

/// A piece and an author.
#[derive(Debug, Clone, Copy)]
struct Case {
    piece: usize,
    writer: usize,
    model: usize,
    measures: [f64; MEASURES],
    others: [f64; OTHERS],
}

impl Case {
    fn is_same(&self) -> bool {
        self.writer == self.model
    }
}

fn counted(candidate: &Candidate, config: &RulerConfig) -> CountedAuthor {
    let pieces = candidate.questioned.iter().enumerate().map(|(index, text)| CountedUnit::of(text, index));
    CountedAuthor { known: CountedText::of(&units(&candidate.known, config.unit_words)), held_out: pieces.collect() }
}

fn measured(candidates: &[CountedAuthor], pool: Pool, config: &RulerConfig) -> Vec<Case> {
    let authors = candidates.len();
    let first_piece: Vec<usize> =
        (0..authors).map(|author| candidates[..author].iter().map(|one| one.held_out.len()).sum()).collect();
    // A model of each author, and where the piece's author is unknown, one for each author who may be it.
    let trials: Vec<(usize, Vec<usize>)> = match pool {
        Pool::Closed => (0..authors).map(|model| (model, (0..authors).collect())).collect(),
        Pool::Open => (0..authors).flat_map(|model| (0..authors).map(move |writer| (model, vec![writer]))).collect(),
    };
    let trial = |(model, writers): &(usize, Vec<usize>)| -> Vec<Case> {
        let unknown = (pool == Pool::Open).then(|| writers[0]);
        let impostors = (0..authors).filter(|other| other != model && Some(*other) != unknown);
        let impostors: Vec<&CountedText> = impostors.map(|other| &candidates[other].known).collect();
        let measures = Measures::fit(&candidates[*model].known, &impostors, config);
        let of_writer = |writer: &usize| {
            let (writer, measures, first_piece) = (*writer, &measures, &first_piece);
            candidates[writer].held_out.iter().enumerate().map(move |(index, piece)| Case {
                piece: first_piece[writer] + index,
                writer,
                model: *model,
                measures: measures.of(piece),
                others: measures.others_of(piece),
            })
        };
        writers.iter().flat_map(of_writer).collect()
    };
    // The order is that of the trials, whichever is done first.
    trials.par_iter().map(trial).collect::<Vec<_>>().concat()
}

/// How much nearer each case's piece is to the author's known text than to that of the others, by the cosine of weighted
/// character 4-grams. The weights are those of all known texts: they say what is common, not whose it is.
fn character_ngrams(candidates: &[&Candidate], cases: &[Case], pool: Pool) -> Vec<f64> {
    let known: Vec<NgramProfile> =
        candidates.par_iter().map(|one| NgramProfile::of_prose(&one.known.join("\n\n"))).collect();
    let weights = Weights::of(&known);
    let pieces: Vec<&String> = candidates.iter().flat_map(|one| &one.questioned).collect();
    let distances: Vec<Vec<f64>> = pieces
        .par_iter()
        .map(|piece| {
            let piece = NgramProfile::of_prose(piece);
            known.iter().map(|known| weights.distance(&piece, known)).collect()
        })
        .collect();
    let nearness = |case: &Case| {
        let unknown = (pool == Pool::Open).then_some(case.writer);
        let others = (0..known.len()).filter(|other| *other != case.model && Some(*other) != unknown);
        mean(others.map(|other| distances[case.piece][other])) - distances[case.piece][case.model]
    };
    cases.iter().map(nearness).collect()
}

/// A case with its score, standardised by the cases of other authors, and its log-likelihood ratio.
struct Scored {
    score: f64,
    ratio: f64,
}

fn scored(cases: &[Case], authors: usize) -> Option<Vec<Scored>> {
    let scale = |without: [usize; 2]| -> Option<([Standard; MEASURES], Calibration)> {
        let others: Vec<&Case> =
            cases.iter().filter(|case| !without.contains(&case.model) && !without.contains(&case.writer)).collect();
        let (same, different): (Vec<&Case>, Vec<&Case>) = others.iter().copied().partition(|case| case.is_same());
        let values = |cases: &[&Case], index: usize| cases.iter().map(|case| case.measures[index]).collect::<Vec<_>>();
        let scale = std::array::from_fn(|index| Standard::between(&values(&same, index), &values(&different, index)));
        let known: Vec<(f64, bool)> = others.iter().map(|case| (sum(&scale, case), case.is_same())).collect();
        Some((scale, Calibration::fit(&known)?))
    };
    let mut scales = Vec::new();
    for model in 0..authors {
        for writer in 0..authors {
            scales.push(scale([model, writer])?);
        }
    }
    let score = |case: &Case| {
        let (scale, curve) = &scales[case.model * authors + case.writer];
        let score = sum(scale, case);
        Scored { score, ratio: curve.log_likelihood_ratio(score) }
    };
    Some(cases.iter().map(score).collect())
}

fn sum(scale: &[Standard; MEASURES], case: &Case) -> f64 {
    mean(scale.iter().zip(&case.measures).map(|(standard, value)| standard.apply(*value)))
}

fn report(
    candidates: &[&Candidate],
    pool: Pool,
    cases: &[Case],
    scored: &[Scored],
    ngrams: &[f64],
    config: &RulerConfig,
) -> Option<VerificationReport> {
    let authors = candidates.len();
    // Likelihood ratios are what the scales of different pairs have in common.
    let ratios: Vec<(f64, bool)> =
        cases.iter().zip(scored).map(|(case, scored)| (scored.ratio, case.is_same())).collect();
    let at_prior = |prior: f64| -> Vec<(f64, bool)> {
        let odds = (prior / (1.0 - prior)).ln();
        ratios.iter().map(|(ratio, same)| (1.0 / (1.0 + (-ratio - odds).exp()), *same)).collect()
    };
    let scores: Vec<(f64, bool)> =
        cases.iter().zip(scored).map(|(case, scored)| (scored.score, case.is_same())).collect();
    let (same, different): (Vec<_>, Vec<_>) = scores.iter().copied().partition(|(_, same)| *same);
    let different: Vec<f64> = different.into_iter().map(|(score, _)| score).collect();
    let threshold = threshold_at_false_accept(&different, config.false_accept);
    let alone = |value: &dyn Fn(usize) -> f64| {
        let cases: Vec<(f64, bool)> =
            cases.iter().enumerate().map(|(index, case)| (value(index), case.is_same())).collect();
        auc(&cases).unwrap_or(f64::NAN)
    };
    let component = |index: usize| (Component::ALL[index], alone(&|case| cases[case].measures[index]));
    let other = |index: usize| (OtherMeasure::COUNTED[index], alone(&|case| cases[case].others[index]));
    let mut other_auc: Vec<(OtherMeasure, f64)> = (0..OTHERS).map(other).collect();
    other_auc.push((OtherMeasure::CharacterNgrams, alone(&|case| ngrams[case])));
    let by_author = |model: usize| {
        let own: Vec<(f64, bool)> =
            cases.iter().zip(&scores).filter(|(case, _)| case.model == model).map(|(_, score)| *score).collect();
        AuthorVerification {
            name: candidates[model].name.clone(),
            known_words: candidates[model].known.iter().map(|text| word_count(text)).sum(),
            pieces: candidates[model].questioned.len(),
            auc: auc(&own).unwrap_or(f64::NAN),
        }
    };
    Some(VerificationReport {
        pool,
        authors,
        pieces: candidates.iter().map(|one| one.questioned.len()).sum(),
        cases: cases.len(),
        auc: auc(&scores)?,
        auc_interval: interval(cases, &scores, authors, config.seed),
        component_auc: (0..MEASURES).map(component).collect(),
        other_auc,
        pan: Verification::of(&at_prior(0.5))?,
        calibration_error: calibration_error(&at_prior(1.0 / authors as f64)),
        cllr: cllr(&ratios)?,
        true_accept: mean(same.iter().map(|(score, _)| f64::from(u8::from(*score > threshold)))),
        first: first(cases, scored),
        by_author: (0..authors).map(by_author).collect(),
    })
}

fn interval(cases: &[Case], scores: &[(f64, bool)], authors: usize, seed: u64) -> (f64, f64) {
    let mut of_pair = vec![Vec::new(); authors * authors];
    for (case, score) in cases.iter().zip(scores) {
        of_pair[case.writer * authors + case.model].push(*score);
    }
    bootstrap_groups(&[authors], seed, |drawn| {
        let drawn = &drawn[0];
        let pairs = drawn.iter().flat_map(|writer| drawn.iter().map(move |model| writer * authors + model));
        auc(&pairs.flat_map(|pair| of_pair[pair].iter().copied()).collect::<Vec<_>>()).unwrap_or(f64::NAN)
    })
}

fn first(cases: &[Case], scored: &[Scored]) -> f64 {
    let pieces = cases.iter().map(|case| case.piece + 1).max().unwrap_or(0);
    let mut best: Vec<Option<(f64, bool)>> = vec![None; pieces];
    for (case, scored) in cases.iter().zip(scored) {
        let best = &mut best[case.piece];
        if best.is_none_or(|(ratio, _)| scored.ratio > ratio) {
            *best = Some((scored.ratio, case.is_same()));
        }
    }
    mean(best.iter().flatten().map(|(_, same)| f64::from(u8::from(*same))))
}
