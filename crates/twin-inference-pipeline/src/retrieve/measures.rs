//! How good rankings are, by judgements of what is relevant: the measures of trec_eval, value for value.
//!
//! A test compares them with trec_eval's own output to four digits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How relevant each document is to one query. What is not listed, or has 0, is not relevant.
pub type Judgements = BTreeMap<String, u32>;

/// The measures of one ranking; each is between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Discounted cumulated gain of the first ten, over that of the best ranking there could be (Järvelin and
    /// Kekäläinen, TOIS 2002; trec_eval's `ndcg_cut_10`, with the judgement itself as gain).
    pub ndcg_10: f64,
    /// One over the rank of the first relevant document, 0 when it is not among the first ten.
    pub mrr_10: f64,
    /// The share of the relevant documents that is among the first ten.
    pub recall_10: f64,
    /// Whether the first is relevant.
    pub success_1: f64,
    /// Whether one of the first five is.
    pub success_5: f64,
}

impl Measures {
    /// The names, as the tables have them, in the order of [`Measures::values`].
    pub const NAMES: [&str; 5] = ["nDCG@10", "MRR@10", "recall@10", "success@1", "success@5"];

    /// Measures a ranking, the best document first.
    pub fn of<S: AsRef<str>>(ranking: &[S], judgements: &Judgements) -> Self {
        let gains = |k: usize| ranking.iter().take(k).map(|name| judgements.get(name.as_ref()).copied().unwrap_or(0));
        let found = |k: usize| gains(k).filter(|gain| *gain > 0).count();
        let relevant = judgements.values().filter(|gain| **gain > 0).count();
        let first = gains(10).position(|gain| gain > 0);
        let mut best: Vec<u32> = judgements.values().copied().collect();
        best.sort_unstable_by(|a, b| b.cmp(a));
        let ideal = discounted(best.into_iter().take(10));
        Self {
            ndcg_10: if ideal > 0.0 { discounted(gains(10)) / ideal } else { 0.0 },
            mrr_10: first.map_or(0.0, |rank| 1.0 / (rank + 1) as f64),
            recall_10: if relevant > 0 { found(10) as f64 / relevant as f64 } else { 0.0 },
            success_1: f64::from(u8::from(found(1) > 0)),
            success_5: f64::from(u8::from(found(5) > 0)),
        }
    }

    /// All values, in the order of [`Measures::NAMES`].
    pub fn values(&self) -> [f64; 5] {
        [self.ndcg_10, self.mrr_10, self.recall_10, self.success_1, self.success_5]
    }
}

/// Gains, each divided by the binary logarithm of its rank plus one.
fn discounted(gains: impl Iterator<Item = u32>) -> f64 {
    gains.enumerate().map(|(index, gain)| f64::from(gain) / ((index + 2) as f64).log2()).sum()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn judged(pairs: &[(&str, u32)]) -> Judgements {
        pairs.iter().map(|(name, gain)| ((*name).to_owned(), *gain)).collect()
    }

    #[test]
    fn values_worked_out_by_hand() {
        let judgements = judged(&[("a", 1), ("b", 2), ("c", 0)]);
        let measures = Measures::of(&["c", "a", "x", "b"], &judgements);
        let expected = (1.0 / 3_f64.log2() + 2.0 / 5_f64.log2()) / (2.0 + 1.0 / 3_f64.log2());
        assert!((measures.ndcg_10 - expected).abs() < 1e-12);
        assert_eq!((measures.mrr_10, measures.recall_10), (0.5, 1.0));
        assert_eq!((measures.success_1, measures.success_5), (0.0, 1.0));
    }

    #[test]
    fn nothing_relevant_and_nothing_ranked_are_zero() {
        let nothing = Measures { ndcg_10: 0.0, mrr_10: 0.0, recall_10: 0.0, success_1: 0.0, success_5: 0.0 };
        assert_eq!(Measures::of(&["a"], &judged(&[("a", 0)])), nothing);
        assert_eq!(Measures::of::<&str>(&[], &judged(&[("a", 1)])), nothing);
    }

    /// trec_eval's own test data and output; skipped where it is not there.
    #[test]
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    fn values_are_those_of_trec_eval() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/dev/golden-trec-eval");
        let Ok(qrels) = std::fs::read_to_string(data.join("qrels.test")) else {
            eprintln!("skipped: there is no `{}`", data.display());
            return;
        };
        let mut judgements: BTreeMap<&str, Judgements> = BTreeMap::new();
        for line in qrels.lines() {
            let [query, _, document, gain] = fields(line);
            judgements.entry(query).or_default().insert(document.to_owned(), gain.parse().unwrap());
        }
        let results = std::fs::read_to_string(data.join("results.test")).unwrap();
        let mut rankings: BTreeMap<&str, Vec<(f64, &str)>> = BTreeMap::new();
        for line in results.lines() {
            let [query, _, document, _, score, _] = fields(line);
            rankings.entry(query).or_default().push((score.parse().unwrap(), document));
        }
        let mut all = Vec::new();
        for (query, mut ranking) in rankings {
            // trec_eval goes by the score, and among equal ones by the name, backwards.
            ranking.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(a.1)));
            let names: Vec<&str> = ranking.iter().map(|(_, document)| *document).collect();
            all.push(Measures::of(&names, &judgements[query]));
        }
        let output = std::fs::read_to_string(data.join("out.test.a")).unwrap();
        let given = |name: &str| -> f64 {
            let line = output.lines().map(fields::<3>).find(|[measure, ..]| *measure == name);
            line.unwrap()[2].parse().unwrap()
        };
        let mean = |value: fn(&Measures) -> f64| all.iter().map(value).sum::<f64>() / all.len() as f64;
        let same = |ours: f64, name: &str| assert!((ours - given(name)).abs() < 0.000_05, "{name}: {ours}");
        same(mean(|m| m.ndcg_10), "ndcg_cut_10");
        same(mean(|m| m.recall_10), "recall_10");
        same(mean(|m| m.success_1), "success_1");
        same(mean(|m| m.success_5), "success_5");
    }

    fn fields<const N: usize>(line: &str) -> [&str; N] {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.try_into().unwrap_or_else(|_| panic!("`{line}` does not have {N} fields"))
    }
}
