//! How the releases that answer an author's readers compare: outcomes by arm, tested in sequence, so that they may be looked
//! at as often as one likes.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use twin_domain::{AuthorId, ModelRegistry, RegistryError, Release, Traffic};

use self::sequential::{Prior, SequentialTest, Verdict};
use crate::conversations::{ConversationError, Conversations, Outcome, OutcomeKind, ShadowAnswer};

pub mod sequential;

/// The chance that any comparison of a report says "differs" where nothing does, over the whole life of the split.
pub const ERROR_RATE: f64 = 0.05;
/// How many unseen answers a report shows.
const SHADOWS_SHOWN: usize = 5;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Conversations(#[from] ConversationError),
}

/// What serves and how it fares.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExperimentReport {
    pub author: AuthorId,
    pub traffic: Traffic,
    pub error_rate: f64,
    /// The release that has the rest first, then the arms.
    pub arms: Vec<ArmOutcomes>,
    /// Each arm against the release that has the rest, by outcome.
    pub comparisons: Vec<Comparison>,
    /// What the shadow answered.
    pub shadow: Option<ShadowReport>,
}

/// What was counted of one release since the traffic last changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArmOutcomes {
    pub release: Release,
    /// Of a hundred new conversations.
    pub percent: u32,
    pub conversations: usize,
    /// The mean over conversations, by outcome.
    pub means: BTreeMap<OutcomeKind, Mean>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mean {
    /// How many conversations have this outcome.
    pub count: usize,
    pub mean: f64,
}

/// An arm against the release that has the rest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    pub release: u32,
    pub outcome: OutcomeKind,
    /// The arm's mean less the other's; of seconds, of their natural logarithms.
    pub difference: f64,
    /// Holds at every look at once, with the error rate shared among the comparisons.
    pub interval: (f64, f64),
    pub p_value: f64,
    pub verdict: Verdict,
}

/// What the shadow answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShadowReport {
    pub release: u32,
    pub answers: usize,
    pub mean_seconds: f64,
    /// The newest.
    pub newest: Vec<ShadowAnswer>,
}

/// How an author's releases fare since the traffic last changed; `None` when no release serves.
///
/// # Errors
/// When the registry or the conversations cannot be read.
pub async fn report(
    registry: &dyn ModelRegistry,
    conversations: &Conversations,
    author: &AuthorId,
) -> Result<Option<ExperimentReport>, ExperimentError> {
    let Some(traffic) = registry.traffic(author)? else { return Ok(None) };
    let outcomes = conversations.outcomes(author, traffic.since).await?;
    let given: u32 = traffic.arms.iter().map(|arm| arm.percent).sum();
    let parts = std::iter::once((traffic.release, 100 - given.min(100)))
        .chain(traffic.arms.iter().map(|arm| (arm.release, arm.percent)));
    let mut arms = Vec::new();
    for (number, percent) in parts {
        arms.push(arm(registry.release(author, number)?, percent, &outcomes));
    }
    let comparisons = compare(&traffic, &outcomes);
    let shadow = match traffic.shadow {
        None => None,
        Some(release) => Some(shadow(release, conversations.shadows(author, traffic.since).await?)),
    };
    Ok(Some(ExperimentReport { author: author.clone(), traffic, error_rate: ERROR_RATE, arms, comparisons, shadow }))
}

fn arm(release: Release, percent: u32, outcomes: &[Outcome]) -> ArmOutcomes {
    let mut means = BTreeMap::new();
    let of_arm = |kind| in_order(outcomes, kind).into_iter().filter(|one| one.release == release.number);
    for kind in OutcomeKind::ALL {
        let values: Vec<f64> = of_arm(kind).map(|one| one.value).collect();
        if !values.is_empty() {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            means.insert(kind, Mean { count: values.len(), mean });
        }
    }
    let conversations = of_arm(OutcomeKind::Seconds).count();
    ArmOutcomes { release, percent, conversations, means }
}

/// A conversation's mean of one outcome.
struct Unit {
    release: u32,
    value: f64,
}

/// The means of conversations, in the order in which the outcome was first seen. A conversation and not an answer is what was
/// assigned by chance, so it counts once, however many answers it has.
fn in_order(outcomes: &[Outcome], kind: OutcomeKind) -> Vec<Unit> {
    let mut places: HashMap<(&str, u32), usize> = HashMap::new();
    let mut sums: Vec<(u32, f64, f64)> = Vec::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.kind == kind) {
        let place = *places.entry((&outcome.conversation, outcome.release)).or_insert_with(|| {
            sums.push((outcome.release, 0.0, 0.0));
            sums.len() - 1
        });
        sums[place].1 += outcome.value;
        // Each answer begins with a 0 for what readers may still do with it, so the zeros are the answers.
        let is_answer = !by_reader(kind) || outcome.value == 0.0;
        sums[place].2 += f64::from(u8::from(is_answer));
    }
    let unit = |(release, sum, count): (u32, f64, f64)| {
        let mean = sum / count.max(1.0);
        Unit { release, value: if by_reader(kind) { mean.min(1.0) } else { mean } }
    };
    sums.into_iter().map(unit).collect()
}

/// Whether it is something that a reader does with an answer, or does not.
fn by_reader(kind: OutcomeKind) -> bool {
    matches!(kind, OutcomeKind::Copied | OutcomeKind::Regenerated)
}

fn compare(traffic: &Traffic, outcomes: &[Outcome]) -> Vec<Comparison> {
    let pairs: Vec<(u32, OutcomeKind)> =
        traffic.arms.iter().flat_map(|arm| OutcomeKind::ALL.map(|kind| (arm.release, kind))).collect();
    // Bonferroni: the rate is that of the report and not of one line of it.
    let level = ERROR_RATE / pairs.len().max(1) as f64;
    pairs.into_iter().map(|(release, kind)| comparison(traffic.release, release, kind, level, outcomes)).collect()
}

fn comparison(control: u32, release: u32, outcome: OutcomeKind, level: f64, outcomes: &[Outcome]) -> Comparison {
    // Differences of about this size are worth finding; the error rate holds for every size.
    let prior = match outcome {
        OutcomeKind::Seconds => Prior { difference: 0.2, deviation: 0.5 },
        _ => Prior { difference: 0.1, deviation: 0.5 },
    };
    let mut test = SequentialTest::new(prior, level);
    for unit in in_order(outcomes, outcome) {
        // Times are skewed, and a ratio says more of them than a difference.
        let value = if outcome == OutcomeKind::Seconds { unit.value.max(1e-6).ln() } else { unit.value };
        if unit.release == control {
            test.control(value);
        } else if unit.release == release {
            test.treatment(value);
        }
    }
    let more_is_better = matches!(outcome, OutcomeKind::Helpful | OutcomeKind::Copied);
    Comparison {
        release,
        outcome,
        difference: test.difference(),
        interval: test.interval(),
        p_value: test.p_value(),
        verdict: test.verdict(more_is_better),
    }
}

fn shadow(release: u32, answers: Vec<ShadowAnswer>) -> ShadowReport {
    let of_release: Vec<ShadowAnswer> = answers.into_iter().filter(|answer| answer.release == release).collect();
    let count = of_release.len();
    let seconds: f64 = of_release.iter().map(|answer| answer.seconds).sum();
    ShadowReport {
        release,
        answers: count,
        mean_seconds: seconds / count.max(1) as f64,
        newest: of_release.into_iter().take(SHADOWS_SHOWN).collect(),
    }
}
