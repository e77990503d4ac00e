//! Late interaction: how well each token of a question is met by some token of a passage, each seen in its context.

/// The vectors of a text's tokens as the model leaves them before it pools, each of length one.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenVectors {
    /// The number of values of each vector.
    dimension: usize,
    /// One vector after the other.
    values: Vec<f32>,
    /// How much each token tells, 0 or more.
    weights: Vec<f32>,
}

impl TokenVectors {
    /// `values` has `dimension` values for each of `weights`; what is over is left out. Vectors are brought to length one.
    pub fn new(dimension: usize, mut values: Vec<f32>, mut weights: Vec<f32>) -> Self {
        let dimension = dimension.max(1);
        let count = weights.len().min(values.len() / dimension);
        weights.truncate(count);
        values.truncate(count * dimension);
        for vector in values.chunks_exact_mut(dimension) {
            let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
            if length > 0.0 {
                vector.iter_mut().for_each(|value| *value /= length);
            }
        }
        Self { dimension, values, weights }
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// How well `passage` meets this question: the mean, over the question's tokens by their weights, of the cosine to the
    /// nearest token of the passage (ColBERT's MaxSim, Khattab and Zaharia, SIGIR 2020, as a weighed mean). -1 to 1; 0
    /// when either has no tokens, or they are of different models.
    pub fn late_interaction(&self, passage: &Self) -> f32 {
        let all: f32 = self.weights.iter().sum();
        if passage.is_empty() || self.dimension != passage.dimension || all <= 0.0 {
            return 0.0;
        }
        let nearest = |token: &[f32]| {
            let cosine = |other: &[f32]| token.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
            passage.values.chunks_exact(self.dimension).map(cosine).fold(f32::MIN, f32::max)
        };
        let tokens = self.values.chunks_exact(self.dimension).zip(&self.weights);
        tokens.map(|(token, weight)| weight * nearest(token)).sum::<f32>() / all
    }
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
        let question = TokenVectors::new(2, vec![2.0, 0.0, 0.0, 3.0], vec![1.0, 1.0]);
        let both = TokenVectors::new(2, vec![0.0, 1.0, 1.0, 0.0, 0.6, 0.8], vec![1.0; 3]);
        assert!((question.late_interaction(&both) - 1.0).abs() < 1e-6);
        let one = TokenVectors::new(2, vec![1.0, 0.0], vec![1.0]);
        assert!((question.late_interaction(&one) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn a_token_that_tells_more_counts_more() {
        let question = TokenVectors::new(2, vec![1.0, 0.0, 0.0, 1.0], vec![3.0, 1.0]);
        let one = TokenVectors::new(2, vec![1.0, 0.0], vec![1.0]);
        assert!((question.late_interaction(&one) - 0.75).abs() < 1e-6);
        assert!(weight_by_rank(1996) < weight_by_rank(3000) && weight_by_rank(3000) < weight_by_rank(20_000));
    }

    #[test]
    fn nothing_meets_nothing() {
        let none = TokenVectors::new(2, vec![], vec![]);
        let one = TokenVectors::new(2, vec![1.0, 0.0], vec![1.0]);
        assert_eq!(none.late_interaction(&one), 0.0);
        assert_eq!(one.late_interaction(&none), 0.0);
        assert_eq!(one.late_interaction(&TokenVectors::new(1, vec![1.0], vec![1.0])), 0.0);
        assert_eq!(TokenVectors::new(2, vec![1.0], vec![1.0]).len(), 0);
    }
}
