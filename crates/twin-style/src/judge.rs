//! A judge, where somebody has one: a model that is shown samples of an author and two texts, and says which of the two the
//! author wrote. It is an opinion and not a measure: judges favour what comes first, what is long and what is fluent, and
//! their own kind. So every pair is shown in both orders, ties are allowed, what the author really wrote is among the
//! contestants, and the report says how often the judge finds that.
//!
//! Strengths are those of Bradley and Terry (1952), fitted by the algorithm of Hunter ("MM algorithms for generalized
//! Bradley-Terry models", 2004); a tie is half a win for either.

use serde::{Deserialize, Serialize};

use crate::stats::{bootstrap_interval, mean};

/// Rounds of the fit, and how many wins and losses against an average text everybody has besides: without any, whoever
/// always wins has no strength that is finite.
const ROUNDS: usize = 200;
const PRIOR: f64 = 0.5;

/// What a judge says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    First,
    Second,
    Tie,
}

/// Whoever is asked. An answer that is no verdict is `None`; an error ends the tournament.
pub trait Judge {
    /// Why the judge could not be asked.
    type Error;

    /// Which of two texts was written by the author of the samples.
    ///
    /// # Errors
    /// When the judge cannot be reached.
    fn compare(&self, samples: &[&str], first: &str, second: &str) -> Result<Option<Verdict>, Self::Error>;
}

/// Who takes part, with a text for each prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contestant<'a> {
    pub name: &'a str,
    pub texts: Vec<&'a str>,
}

/// A contestant's place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rating {
    pub name: String,
    /// The natural logarithm of the odds of winning against an average contestant.
    pub strength: f64,
    /// A 95% bootstrap interval over prompts.
    pub interval: (f64, f64),
    /// Wins, a tie being half of one, and how many pairs there were.
    pub wins: f64,
    pub pairs: usize,
}

/// What came of a tournament.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgeReport {
    /// In the order of the contestants.
    pub ratings: Vec<Rating>,
    pub questions: usize,
    /// Answers that were no verdict. They count as ties.
    pub unanswered: usize,
    /// The share of pairs on which the judge said the same in both orders.
    pub consistency: f64,
    /// The share of all verdicts, ties apart, that fell on what was shown first: .5 without a liking for places.
    pub first_share: f64,
    /// How often the author's real text is preferred to another one, a tie being half. `None` when it took no part.
    pub real_found: Option<f64>,
}

impl JudgeReport {
    /// How well the judge's order agrees with another figure of the same contestants, such as their likeness: Kendall's
    /// tau-b, -1 to 1. `None` where fewer than three have both, or one of the two says the same of all.
    pub fn agreement(&self, figures: &[Option<f64>]) -> Option<f64> {
        let pairs: Vec<(f64, f64)> = self
            .ratings
            .iter()
            .zip(figures)
            .filter_map(|(rating, figure)| Some((rating.strength, (*figure)?)))
            .collect();
        kendall(&pairs)
    }
}

/// Lets everybody meet everybody on every prompt, in both orders. `real` is the place of what the author wrote.
///
/// # Errors
/// The first error of the judge.
pub fn tournament<J: Judge>(
    judge: &J,
    samples: &[&str],
    contestants: &[Contestant<'_>],
    real: Option<usize>,
    seed: u64,
) -> Result<JudgeReport, J::Error> {
    let prompts = contestants.iter().map(|one| one.texts.len()).min().unwrap_or(0);
    let mut rounds: Vec<Vec<Game>> = Vec::new();
    let mut asked = Asked::default();
    for prompt in 0..prompts {
        let mut games = Vec::new();
        for a in 0..contestants.len() {
            for b in a + 1..contestants.len() {
                let texts = [contestants[a].texts[prompt], contestants[b].texts[prompt]];
                games.push(Game { pair: [a, b], wins: asked.both_orders(judge, samples, texts)? });
            }
        }
        rounds.push(games);
    }
    Ok(report(contestants, &rounds, &asked, real, seed))
}

/// Two contestants on one prompt, with the part of the win that went to the first.
#[derive(Debug, Clone, Copy)]
struct Game {
    pair: [usize; 2],
    wins: f64,
}

/// What was asked and how the answers fell.
#[derive(Debug, Default)]
struct Asked {
    questions: usize,
    unanswered: usize,
    pairs: usize,
    consistent: usize,
    firsts: usize,
    seconds: usize,
}

impl Asked {
    fn both_orders<J: Judge>(&mut self, judge: &J, samples: &[&str], [a, b]: [&str; 2]) -> Result<f64, J::Error> {
        let straight = self.one(judge.compare(samples, a, b)?);
        let turned = self.one(judge.compare(samples, b, a)?);
        self.pairs += 1;
        let for_a = |verdict: Verdict, won: Verdict, lost: Verdict| match verdict {
            verdict if verdict == won => 1.0,
            verdict if verdict == lost => 0.0,
            _ => 0.5,
        };
        let scores = [for_a(straight, Verdict::First, Verdict::Second), for_a(turned, Verdict::Second, Verdict::First)];
        self.consistent += usize::from(scores[0] == scores[1]);
        Ok((scores[0] + scores[1]) / 2.0)
    }

    fn one(&mut self, verdict: Option<Verdict>) -> Verdict {
        self.questions += 1;
        self.unanswered += usize::from(verdict.is_none());
        let verdict = verdict.unwrap_or(Verdict::Tie);
        self.firsts += usize::from(verdict == Verdict::First);
        self.seconds += usize::from(verdict == Verdict::Second);
        verdict
    }
}

fn report(
    contestants: &[Contestant<'_>],
    rounds: &[Vec<Game>],
    asked: &Asked,
    real: Option<usize>,
    seed: u64,
) -> JudgeReport {
    let all: Vec<&Vec<Game>> = rounds.iter().collect();
    let strengths = strengths(contestants.len(), &all);
    let rating = |index: usize| {
        let of = |game: &Game| match game.pair {
            [a, _] if a == index => Some(game.wins),
            [_, b] if b == index => Some(1.0 - game.wins),
            _ => None,
        };
        let won: Vec<f64> = rounds.iter().flatten().filter_map(of).collect();
        // The whole fit is made anew for every sample; the same seed draws the same prompts for every contestant.
        let interval = bootstrap_interval(rounds, seed, |drawn| self::strengths(contestants.len(), drawn)[index]);
        Rating {
            name: contestants[index].name.to_owned(),
            strength: strengths[index],
            interval,
            wins: won.iter().sum(),
            pairs: won.len(),
        }
    };
    let against_real = |game: &Game| match game.pair {
        [a, _] if Some(a) == real => Some(game.wins),
        [_, b] if Some(b) == real => Some(1.0 - game.wins),
        _ => None,
    };
    let found: Vec<f64> = rounds.iter().flatten().filter_map(against_real).collect();
    let share = |part: usize, whole: usize, nothing: f64| {
        if whole == 0 { nothing } else { part as f64 / whole as f64 }
    };
    JudgeReport {
        ratings: (0..contestants.len()).map(rating).collect(),
        questions: asked.questions,
        unanswered: asked.unanswered,
        consistency: share(asked.consistent, asked.pairs, 0.0),
        first_share: share(asked.firsts, asked.firsts + asked.seconds, 0.5),
        real_found: (!found.is_empty()).then(|| mean(found)),
    }
}

/// The logarithms of Bradley and Terry's strengths, which are 0 on average.
fn strengths(contestants: usize, rounds: &[&Vec<Game>]) -> Vec<f64> {
    let mut wins = vec![PRIOR; contestants];
    let mut met = vec![vec![0.0; contestants]; contestants];
    for game in rounds.iter().flat_map(|games| games.iter()) {
        let [a, b] = game.pair;
        wins[a] += game.wins;
        wins[b] += 1.0 - game.wins;
        met[a][b] += 1.0;
        met[b][a] += 1.0;
    }
    let mut strength = vec![1.0_f64; contestants];
    for _ in 0..ROUNDS {
        let next: Vec<f64> = (0..contestants)
            .map(|one| {
                let others = (0..contestants).map(|other| met[one][other] / (strength[one] + strength[other]));
                // Half a win and half a loss against a text of strength 1.
                wins[one] / (others.sum::<f64>() + 2.0 * PRIOR / (strength[one] + 1.0))
            })
            .collect();
        strength = next;
    }
    let logs: Vec<f64> = strength.into_iter().map(f64::ln).collect();
    let middle = if logs.is_empty() { 0.0 } else { mean(logs.iter().copied()) };
    logs.into_iter().map(|log| log - middle).collect()
}

fn kendall(pairs: &[(f64, f64)]) -> Option<f64> {
    if pairs.len() < 3 {
        return None;
    }
    /// Strengths come out of an iteration: what differs by less is equal.
    const TIED: f64 = 1e-6;
    let sign = |a: f64, b: f64| if (a - b).abs() <= TIED { 0.0 } else { (a - b).signum() };
    let (mut sum, mut x, mut y) = (0.0_f64, 0.0_f64, 0.0_f64);
    for (index, first) in pairs.iter().enumerate() {
        for second in &pairs[index + 1..] {
            let (a, b) = (sign(first.0, second.0), sign(first.1, second.1));
            sum += a * b;
            x += a * a;
            y += b * b;
        }
    }
    (x * y > 0.0).then(|| sum / (x * y).sqrt())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Prefers what has more `i`s, or, when it is lazy, whatever comes first.
    struct Counting {
        is_lazy: bool,
    }

    impl Judge for Counting {
        type Error = Infallible;

        fn compare(&self, _: &[&str], first: &str, second: &str) -> Result<Option<Verdict>, Infallible> {
            let count = |text: &str| text.matches('i').count();
            Ok(match count(first).cmp(&count(second)) {
                _ if self.is_lazy => Some(Verdict::First),
                _ if first.is_empty() || second.is_empty() => None,
                std::cmp::Ordering::Greater => Some(Verdict::First),
                std::cmp::Ordering::Less => Some(Verdict::Second),
                std::cmp::Ordering::Equal => Some(Verdict::Tie),
            })
        }
    }

    fn contestants() -> Vec<Contestant<'static>> {
        let of = |name, text: &'static str| Contestant { name, texts: vec![text; 4] };
        vec![of("base", "o"), of("twin", "ii"), of("real", "iii"), of("other", "ii")]
    }

    #[test]
    fn the_strongest_wins_and_equals_are_equal() {
        let Ok(report) = tournament(&Counting { is_lazy: false }, &["i"], &contestants(), Some(2), 17);
        let strength: Vec<f64> = report.ratings.iter().map(|rating| rating.strength).collect();
        assert!(strength[0] < strength[1] && strength[1] < strength[2], "{strength:?}");
        assert!((strength[1] - strength[3]).abs() < 1e-9 && strength.iter().all(|strength| strength.is_finite()));
        assert!(strength.iter().sum::<f64>().abs() < 1e-9);
        assert_eq!((report.real_found, report.consistency, report.first_share), (Some(1.0), 1.0, 0.5));
        assert_eq!((report.questions, report.unanswered), (4 * 6 * 2, 0));
        assert_eq!((report.ratings[1].wins, report.ratings[1].pairs), (4.0 + 2.0, 12));
        // Every prompt is the same, so nothing varies.
        assert!((report.ratings[2].interval.0 - strength[2]).abs() < 1e-9);
        let likeness = [Some(0.1), Some(0.5), Some(1.0), Some(0.5)];
        assert_eq!(report.agreement(&likeness), Some(1.0));
        assert_eq!(report.agreement(&likeness.map(|value| value.map(|value| -value))), Some(-1.0));
        assert_eq!(report.agreement(&[Some(1.0), None, None, Some(2.0)]), None);
    }

    #[test]
    fn a_liking_for_the_first_place_is_seen_and_decides_nothing() {
        let Ok(report) = tournament(&Counting { is_lazy: true }, &[], &contestants(), Some(2), 17);
        assert_eq!((report.first_share, report.consistency, report.real_found), (1.0, 0.0, Some(0.5)));
        assert!(report.ratings.iter().all(|rating| rating.strength.abs() < 1e-9));
    }

    #[test]
    fn no_verdict_is_a_tie_and_nobody_is_no_tournament() {
        let empty = [Contestant { name: "a", texts: vec![""] }, Contestant { name: "b", texts: vec!["i"] }];
        let Ok(report) = tournament(&Counting { is_lazy: false }, &[], &empty, None, 17);
        assert_eq!((report.unanswered, report.real_found), (2, None));
        assert_eq!(report.ratings[0].wins, 0.5);
        let Ok(nobody) = tournament(&Counting { is_lazy: false }, &[], &[], None, 17);
        assert!(nobody.ratings.is_empty());
    }

    #[test]
    fn known_strengths() {
        // Three wins in four games, with half a win and half a loss against 1 for both: by symmetry the strengths are
        // reciprocal, x and 1/x, with x solving 3.5 = 4 x / (x + 1/x) + x / (x + 1).
        let game = |wins| vec![Game { pair: [0, 1], wins }];
        let rounds = [game(1.0), game(1.0), game(1.0), game(0.0)];
        let found = strengths(2, &rounds.iter().collect::<Vec<_>>());
        let x = found[0].exp();
        assert!((4.0 * x / (x + 1.0 / x) + x / (x + 1.0) - 3.5).abs() < 1e-6, "{found:?}");
    }
}
