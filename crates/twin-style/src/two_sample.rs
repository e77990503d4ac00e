//! The two-sample test: how easily a small classifier tells generated texts from the author's own. .5 is not at all, 1 is
//! always. Today's models are told apart nearly always, which is sobering and therefore worth printing.
//!
//! The classifier is ridge regression on character trigrams; it is always asked about a pair of texts, on the same prompt,
//! that it was not fitted to, so that the subject and the numbers of texts are no help to it (Airola et al., 2009, for leaving
//! out pairs; Lopez-Paz and Oquab, 2017, for the test).

use rayon::prelude::*;

use crate::ngrams::{Key, trigrams};
use crate::stats::auc;
use crate::text::prose;

/// The fewest pairs of texts from which something can be learnt.
const MIN_PAIRS: usize = 4;

/// The most pairs that are looked at: the time grows with the fourth power.
const MAX_PAIRS: usize = 60;

/// The weight of the penalty. Texts are vectors of length 1.
const PENALTY: f64 = 0.1;

/// The chance that a text of the first kind looks more like one of its kind than a text of the second does. Markdown texts,
/// paired by prompt. `None` where there are fewer than four pairs, or not as many of both, or texts without letters.
pub fn told_apart(first: &[&str], second: &[&str]) -> Option<f64> {
    let pairs = first.len().min(MAX_PAIRS);
    if first.len() != second.len() || pairs < MIN_PAIRS {
        return None;
    }
    let vectors: Vec<Vector> = first[..pairs].iter().chain(&second[..pairs]).map(|text| vector(text)).collect();
    if vectors.iter().any(Vec::is_empty) {
        return None;
    }
    let products: Vec<Vec<f64>> = vectors.iter().map(|a| vectors.iter().map(|b| product(a, b)).collect()).collect();
    let scores = |pair: usize| {
        let kept: Vec<usize> = (0..2 * pairs).filter(|index| index % pairs != pair).collect();
        let labels: Vec<f64> = kept.iter().map(|index| if *index < pairs { 1.0 } else { -1.0 }).collect();
        let matrix = kept.iter().map(|row| kept.iter().map(|column| products[*row][*column]).collect()).collect();
        let weights = solve(matrix, labels);
        let score =
            |index: usize| kept.iter().zip(&weights).map(|(other, weight)| weight * products[index][*other]).sum();
        [(score(pair), true), (score(pair + pairs), false)]
    };
    auc(&(0..pairs).into_par_iter().map(scores).collect::<Vec<_>>().concat())
}

/// Trigrams with their weights, in the order of their keys, of length 1.
type Vector = Vec<(Key, f64)>;

fn vector(markdown: &str) -> Vector {
    let counted = trigrams(&prose(markdown));
    let weighted: Vector = counted.into_iter().map(|(key, count)| (key, f64::from(count).ln_1p())).collect();
    let length = weighted.iter().map(|(_, weight)| weight * weight).sum::<f64>().sqrt();
    weighted.into_iter().map(|(key, weight)| (key, weight / length)).collect()
}

fn product(a: &Vector, b: &Vector) -> f64 {
    let mut b = b.iter().peekable();
    let mut sum = 0.0;
    for (key, weight) in a {
        while b.next_if(|(other, _)| other < key).is_some() {}
        if let Some((_, other)) = b.next_if(|(other, _)| other == key) {
            sum += weight * other;
        }
    }
    sum
}

/// Solves (matrix + penalty) x = labels by Cholesky's method: the matrix is one of products, so it has one.
fn solve(mut matrix: Vec<Vec<f64>>, labels: Vec<f64>) -> Vec<f64> {
    let size = labels.len();
    for row in 0..size {
        matrix[row][row] += PENALTY;
        for column in 0..=row {
            let done: f64 = (0..column).map(|k| matrix[row][k] * matrix[column][k]).sum();
            let rest = matrix[row][column] - done;
            matrix[row][column] = if row == column { rest.max(1e-12).sqrt() } else { rest / matrix[column][column] };
        }
    }
    let mut x = labels;
    for row in 0..size {
        let done: f64 = (0..row).map(|k| matrix[row][k] * x[k]).sum();
        x[row] = (x[row] - done) / matrix[row][row];
    }
    for row in (0..size).rev() {
        let done: f64 = (row + 1..size).map(|k| matrix[k][row] * x[k]).sum();
        x[row] = (x[row] - done) / matrix[row][row];
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_solutions() {
        // (1 + .1) x = 2.2, and a matrix with both.
        assert!((solve(vec![vec![1.0]], vec![2.2])[0] - 2.0).abs() < 1e-12);
        let x = solve(vec![vec![0.9, 0.5], vec![0.5, 0.9]], vec![2.0, 2.5]);
        assert!((x[0] - 1.0).abs() < 1e-12 && (x[1] - 2.0).abs() < 1e-12, "{x:?}");
        assert!((product(&vector("the cat"), &vector("the cat")) - 1.0).abs() < 1e-12);
        assert_eq!(product(&vector("abc"), &vector("xyz")), 0.0);
    }

    #[test]
    fn two_hands_are_told_apart_and_one_is_not() {
        let plain: Vec<String> =
            (0..8).map(|n| format!("I don't know {n}. It's wet and it won't hold, so cut it.")).collect();
        let nouns = ["boat", "star", "lamp", "rope", "clock", "tide", "lens", "hull"];
        let of = |front: &str| {
            nouns.iter().map(|noun| format!("{front} the {noun}, {front} of a {noun}")).collect::<Vec<_>>()
        };
        let (winding, other) = (of("of which there was little said,"), of("I don't trust it:"));
        let (a, b, c) = (plain, winding, other);
        fn slices(texts: &[String]) -> Vec<&str> {
            texts.iter().map(String::as_str).collect()
        }
        assert_eq!(told_apart(&slices(&b), &slices(&c)), Some(1.0));
        assert!(told_apart(&slices(&a), &slices(&b)).is_some_and(|auc| auc == 1.0));
        // The same texts in another order: every pair is of one hand.
        let turned: Vec<&str> = slices(&b).into_iter().cycle().skip(3).take(8).collect();
        assert!(told_apart(&slices(&b), &turned).is_some_and(|auc| auc < 0.8));
        assert_eq!(told_apart(&slices(&a)[..3], &slices(&b)[..3]), None);
        assert_eq!(told_apart(&["", "", "", ""], &["", "", "", ""]), None);
    }
}
