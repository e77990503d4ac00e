//! One list from two: the candidates of dense and lexical search, fused. Done here for every engine, so that all rank alike
//! and the scores of both searches are known.

use std::collections::BTreeMap;

use twin_domain::{ChunkId, Fusion};

/// The k of reciprocal rank fusion, as its paper has it.
const RRF_K: f32 = 60.0;

/// A chunk that at least one search found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fused {
    pub id: ChunkId,
    /// The fused score.
    pub score: f32,
    /// The BM25 score, where lexical search found it.
    pub lexical: Option<f32>,
}

/// The best of what two searches found, best first; equal ones by id, so that the order is always the same.
pub(crate) fn fuse(
    fusion: &Fusion,
    dense: Vec<(ChunkId, f32)>,
    lexical: Vec<(ChunkId, f32)>,
    limit: usize,
) -> Vec<Fused> {
    let lexical = in_order(lexical);
    let mut fused: BTreeMap<ChunkId, Fused> =
        lexical.iter().map(|(id, score)| (*id, Fused { id: *id, score: 0.0, lexical: Some(*score) })).collect();
    let weights = match *fusion {
        Fusion::ReciprocalRank => [1.0, 1.0],
        Fusion::Score { dense_weight } => [dense_weight, 1.0 - dense_weight],
    };
    for (found, weight) in [in_order(dense), lexical].into_iter().zip(weights) {
        for (id, share) in shares(fusion, &found) {
            fused.entry(id).or_insert(Fused { id, score: 0.0, lexical: None }).score += weight * share;
        }
    }
    let mut fused: Vec<Fused> = fused.into_values().collect();
    fused.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
    fused.truncate(limit);
    fused
}

/// Best first, equal ones by id: engines break ties anew each time.
pub(crate) fn in_order(mut found: Vec<(ChunkId, f32)>) -> Vec<(ChunkId, f32)> {
    found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    found
}

/// What a search gives each of its candidates before it is weighed.
fn shares(fusion: &Fusion, found: &[(ChunkId, f32)]) -> Vec<(ChunkId, f32)> {
    match *fusion {
        Fusion::ReciprocalRank => {
            found.iter().enumerate().map(|(rank, (id, _))| (*id, 1.0 / (RRF_K + rank as f32 + 1.0))).collect()
        }
        Fusion::Score { .. } => {
            let (best, worst) = (found.first().map_or(0.0, |best| best.1), found.last().map_or(0.0, |worst| worst.1));
            let span = best - worst;
            let scaled = |score: f32| if span > 0.0 { (score - worst) / span } else { 1.0 };
            found.iter().map(|(id, score)| (*id, scaled(*score))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(number: u128) -> ChunkId {
        ChunkId(Uuid::from_u128(number))
    }

    fn ids(fused: &[Fused]) -> Vec<u128> {
        fused.iter().map(|fused| fused.id.0.as_u128()).collect()
    }

    #[test]
    fn ranks_count_from_one_and_add_up() {
        let (dense, lexical) = (vec![(id(1), 0.9), (id(2), 0.8)], vec![(id(2), 7.0), (id(3), 3.0)]);
        let fused = fuse(&Fusion::ReciprocalRank, dense, lexical, 10);
        assert_eq!(ids(&fused), [2, 1, 3]);
        assert!((fused[0].score - (1.0 / 62.0 + 1.0 / 61.0)).abs() < 1e-7);
        assert_eq!((fused[0].lexical, fused[1].lexical), (Some(7.0), None));
    }

    #[test]
    fn the_weight_decides_between_the_searches() {
        let (dense, lexical) = (vec![(id(1), 0.9), (id(2), 0.1)], vec![(id(2), 7.0), (id(1), 3.0)]);
        for (dense_weight, first) in [(0.8, 1), (0.2, 2)] {
            assert_eq!(ids(&fuse(&Fusion::Score { dense_weight }, dense.clone(), lexical.clone(), 1)), [first]);
        }
    }

    #[test]
    fn scores_are_scaled_over_the_candidates() {
        let fusion = Fusion::Score { dense_weight: 0.75 };
        let fused = fuse(&fusion, vec![(id(1), 0.9), (id(2), 0.6), (id(3), 0.5)], vec![(id(2), 4.0)], 10);
        let scores: Vec<f32> = fused.iter().map(|fused| fused.score).collect();
        assert_eq!(ids(&fused), [1, 2, 3]);
        assert!((scores[0] - 0.75).abs() < 1e-6 && (scores[1] - 0.4375).abs() < 1e-6 && scores[2] == 0.0, "{scores:?}");
    }

    #[test]
    fn equal_scores_come_by_id_whatever_the_order_they_were_found_in() {
        let fuse = |dense| fuse(&Fusion::ReciprocalRank, dense, vec![], 10);
        assert_eq!(fuse(vec![(id(1), 0.5), (id(2), 0.5)]), fuse(vec![(id(2), 0.5), (id(1), 0.5)]));
    }
}
