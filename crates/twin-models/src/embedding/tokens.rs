//! Late interaction: how well each token of a question is met by some token of a passage, each seen in its context.

use std::sync::Arc;

/// The vectors of a text's tokens as the model leaves them before it pools, each of length one. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenVectors {
    /// The number of values of each vector.
    dimension: usize,
    /// One vector after the other, in eight bits: a cosine is off by less than .01, and a passage takes a quarter.
    values: Arc<[i8]>,
    /// What the values of each vector are times of.
    scales: Arc<[f32]>,
    /// How much each token tells, 0 or more.
    weights: Arc<[f32]>,
}

impl TokenVectors {
    /// `values` has `dimension` values for each of `weights`; what is over is left out. Vectors are brought to length one.
    pub fn new(dimension: usize, values: &[f32], weights: &[f32]) -> Self {
        let dimension = dimension.max(1);
        let vectors = || values.chunks_exact(dimension).take(weights.len());
        let scaled = |vector: &[f32]| {
            let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
            let most = vector.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
            if length > 0.0 { (f32::from(i8::MAX) / most, most / f32::from(i8::MAX) / length) } else { (0.0, 0.0) }
        };
        Self {
            dimension,
            values: vectors()
                .flat_map(|vector| {
                    let (by, _) = scaled(vector);
                    vector.iter().map(move |value| (value * by).round() as i8)
                })
                .collect(),
            scales: vectors().map(|vector| scaled(vector).1).collect(),
            weights: vectors().zip(weights).map(|(_, weight)| *weight).collect(),
        }
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// The memory that they take, in bytes.
    pub fn bytes(&self) -> usize {
        self.values.len() + size_of_val(&*self.scales) + size_of_val(&*self.weights)
    }

    fn vectors(&self) -> impl Iterator<Item = (&[i8], f32)> {
        self.values.chunks_exact(self.dimension).zip(self.scales.iter().copied())
    }

    /// How well `passage` meets this question: the mean, over the question's tokens by their weights, of the cosine to the
    /// nearest token of the passage (ColBERT's MaxSim, Khattab and Zaharia, SIGIR 2020, as a weighed mean). -1 to 1; 0
    /// when either has no tokens, or they are of different models.
    pub fn late_interaction(&self, passage: &Self) -> f32 {
        let all: f32 = self.weights.iter().sum();
        if passage.is_empty() || self.dimension != passage.dimension || all <= 0.0 {
            return 0.0;
        }
        let nearest = |token: &[i8]| {
            let cosine = |(other, scale): (&[i8], f32)| scale * dot(token, other) as f32;
            passage.vectors().map(cosine).fold(f32::MIN, f32::max)
        };
        let tokens = self.vectors().zip(self.weights.iter());
        tokens.map(|((token, scale), weight)| weight * scale * nearest(token)).sum::<f32>() / all
    }
}

/// In whole numbers, so that the compiler may add them in any order, several at once.
fn dot(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
}

/// How much a token of a WordPiece vocabulary tells, by its place there: the words are sorted by their frequency (BERT,
/// Devlin et al., NAACL 2019), which falls with the rank (Zipf), so that the logarithm of the rank stands for the inverse
/// document frequency. What comes before the words (signs and single letters) tells hardly anything. Squared, as
/// measured: `eval/retrieval`.
pub(super) fn weight_by_rank(token: u32) -> f32 {
    /// The first word, `the`, in the vocabulary of BERT uncased.
    const FIRST_WORD: u32 = 1996;
    let rank = token.saturating_sub(FIRST_WORD) as f32;
    (2.0 + rank).ln().powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passage_with_every_token_meets_a_question_wholly() {
        let question = TokenVectors::new(2, &[2.0, 0.0, 0.0, 3.0], &[1.0, 1.0]);
        let both = TokenVectors::new(2, &[0.0, 1.0, 1.0, 0.0, 0.6, 0.8], &[1.0; 3]);
        assert!((question.late_interaction(&both) - 1.0).abs() < 1e-6);
        let one = TokenVectors::new(2, &[1.0, 0.0], &[1.0]);
        assert!((question.late_interaction(&one) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn a_token_that_tells_more_counts_more() {
        let question = TokenVectors::new(2, &[1.0, 0.0, 0.0, 1.0], &[3.0, 1.0]);
        let one = TokenVectors::new(2, &[1.0, 0.0], &[1.0]);
        assert!((question.late_interaction(&one) - 0.75).abs() < 1e-6);
        assert!(weight_by_rank(1996) < weight_by_rank(3000) && weight_by_rank(3000) < weight_by_rank(20_000));
    }

    #[test]
    fn nothing_meets_nothing() {
        let none = TokenVectors::new(2, &[], &[]);
        let one = TokenVectors::new(2, &[1.0, 0.0], &[1.0]);
        assert_eq!(none.late_interaction(&one), 0.0);
        assert_eq!(one.late_interaction(&none), 0.0);
        assert_eq!(TokenVectors::new(2, &[0.0, 0.0], &[1.0]).late_interaction(&one), 0.0);
        assert_eq!(one.late_interaction(&TokenVectors::new(1, &[1.0], &[1.0])), 0.0);
        assert_eq!(TokenVectors::new(2, &[1.0], &[1.0]).len(), 0);
    }

    #[test]
    fn eight_bits_are_enough() {
        let values = |seed: u32| -> Vec<f32> {
            let value = |index: u32| ((index.wrapping_mul(2_654_435_761) ^ seed).wrapping_mul(0x9E37_79B9) >> 8) as f32;
            (0..384_u32).map(|index| value(index) / (1 << 23) as f32 - 1.0).collect()
        };
        for seed in 1..50 {
            let (a, b) = (values(seed), values(seed * 7919));
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            let cosine = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
            let vectors = |values: &[f32]| TokenVectors::new(384, values, &[1.0]);
            assert!((vectors(&a).late_interaction(&vectors(&b)) - cosine).abs() < 0.01, "{seed}");
        }
    }
}
