//! General Impostors: how often an author is nearer to a text than all impostors are, when only half of the features and half
//! of the impostors are looked at, again and again (Koppel and Winter, "Determining if two documents are written by the same
//! author", 2014; as in `imposters()` of R's stylo, with authors' mean profiles in the place of single texts).
//!
//! A measure that no single feature decides. It errs where Cosine Delta errs, so it stands beside the likeness and is no
//! part of it.

use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

/// How many times it is looked: the result has this many steps.
const ROUNDS: usize = 100;

/// Which features and impostors each round looks at. The same seed draws the same.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneralImpostors {
    rounds: Vec<(Vec<usize>, Vec<usize>)>,
}

impl GeneralImpostors {
    /// Rounds of half of `features` and half of `impostors`, of at least one each where there are any.
    pub fn new(features: usize, impostors: usize, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut half = |all: usize| {
            let mut drawn = index::sample(&mut random, all, all.div_ceil(2)).into_vec();
            drawn.sort_unstable();
            drawn
        };
        Self { rounds: (0..ROUNDS).map(|_| (half(features), half(impostors))).collect() }
    }

    /// The share of rounds in which the author's profile is nearer to the text's than that of every impostor, by cosine; 0
    /// to 1. Half where there is nobody to compare with, or nothing to compare.
    pub fn share(&self, text: &[f64], author: &[f64], impostors: &[&[f64]]) -> f64 {
        // A round that looks at an impostor who is not there says nothing.
        let is_there = |other: &usize| *other < impostors.len();
        let is_usable = |(features, others): &&(Vec<usize>, Vec<usize>)| {
            !features.is_empty() && !others.is_empty() && others.iter().all(is_there)
        };
        let usable: Vec<_> = self.rounds.iter().filter(is_usable).collect();
        if usable.is_empty() {
            return 0.5;
        }
        let wins = |(features, others): &&(Vec<usize>, Vec<usize>)| {
            let own = cosine(text, author, features);
            others.iter().filter_map(|other| impostors.get(*other)).all(|other| own > cosine(text, other, features))
        };
        usable.iter().copied().filter(|round| wins(round)).count() as f64 / usable.len() as f64
    }
}

/// The cosine over some of the features; 0 where one of the two is all zeros there.
fn cosine(a: &[f64], b: &[f64], features: &[usize]) -> f64 {
    let (mut dot, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for feature in features {
        let (Some(x), Some(y)) = (a.get(*feature), b.get(*feature)) else { continue };
        dot += x * y;
        aa += x * x;
        bb += y * y;
    }
    let norms = (aa * bb).sqrt();
    if norms > 0.0 { dot / norms } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_author_wins_every_round_and_a_strange_one_none() {
        let rounds = GeneralImpostors::new(6, 2, 17);
        let author = [1.0, 2.0, -1.0, 0.5, -2.0, 1.0];
        let (one, two): (Vec<f64>, Vec<f64>) = (author.map(|x| -x).to_vec(), vec![2.0, -1.0, 1.0, -2.0, 0.5, -1.0]);
        let impostors = [one.as_slice(), two.as_slice()];
        assert_eq!(rounds.share(&author.map(|x| x * 3.0), &author, &impostors), 1.0);
        assert_eq!(GeneralImpostors::new(6, 1, 17).share(&one, &author, &impostors[..1]), 0.0);
        assert_eq!(rounds, GeneralImpostors::new(6, 2, 17), "the same seed draws the same");
        assert_eq!(GeneralImpostors::new(6, 0, 1).share(&author, &author, &[]), 0.5);
        assert_eq!(GeneralImpostors::new(0, 2, 1).share(&[], &[], &impostors), 0.5);
    }

    #[test]
    fn half_of_the_features_decide_a_round() {
        // Like the author in two features of four, like the impostor in the other two: some rounds fall either way.
        let rounds = GeneralImpostors::new(4, 1, 3);
        let share = rounds.share(&[1.0, 1.0, 1.0, 1.0], &[1.0, 1.0, -1.0, -1.0], &[&[-1.0, -1.0, 1.0, 1.0]]);
        assert!(share > 0.0 && share < 0.5, "{share}");
    }
}
