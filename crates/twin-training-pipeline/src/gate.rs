//! The gate before production: a candidate's stored evaluation against that of the version that serves.
//!
//! Each rule gives a verdict with the interval that it was reached by. What cannot be measured is said to be so and does not
//! pass silently: a rule that compares with production fails where the two have nothing in common to be compared on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use twin_domain::ModelVersionId;
use twin_style::stats::{bootstrap_groups, bootstrap_interval, mean};

use crate::evaluate::{Arm, ArmReport, Cost, DocumentBits, EvaluationReport};

/// The thresholds that come with the program.
const BUILT_IN: &str = include_str!("../../../eval/gate.toml");
/// The seed of the bootstrap, so that the same evaluations always give the same report.
const SEED: u64 = 17;

/// The thresholds; `eval/gate.toml` explains each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    pub bits_per_byte: BitsPerByte,
    pub style: Style,
    pub copying: Copying,
    pub fluency: Decrease,
    pub groundedness: Groundedness,
    pub retrieval: Decrease,
    pub speed: Speed,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BitsPerByte {
    pub max_increase: f64,
    pub min_gain: f64,
    pub min_documents: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Style {
    pub max_increase: f64,
    pub max_loss_by_retrieval: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decrease {
    pub max_decrease: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copying {
    pub max_share: f64,
    pub max_longest_run: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Groundedness {
    pub max_decrease: f64,
    pub min_statements: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speed {
    pub min_ratio: f64,
}

impl Thresholds {
    /// The thresholds of `eval/gate.toml`, or of another file's text.
    ///
    /// # Errors
    /// When the text is not valid; the error names the place.
    pub fn parse(text: Option<&str>) -> Result<Self, toml::de::Error> {
        toml::from_str(text.unwrap_or(BUILT_IN))
    }
}

/// What a rule came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Passed,
    Failed,
    /// It could not be measured, and must be to pass.
    Unmeasured,
    /// There is nothing to hold it against, and nothing is lost by that.
    NotAsked,
}

/// A rule with what was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// As in `bits per byte against production`.
    pub rule: String,
    /// Candidate less production, or the candidate's own figure.
    pub value: Option<f64>,
    /// A 95% interval of the value, where one can be told.
    pub interval: Option<(f64, f64)>,
    /// What the value, or the worst end of its interval, is held against.
    pub threshold: f64,
    pub outcome: Outcome,
    /// What was measured on, or why it was not.
    pub detail: String,
}

/// The report of the gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateReport {
    pub candidate: ModelVersionId,
    /// `None` for an author's first release.
    pub production: Option<ModelVersionId>,
    pub thresholds: Thresholds,
    pub passed: bool,
    pub findings: Vec<Finding>,
}

/// A version with its stored evaluation; `None` when it has none that can be read.
pub struct Measured<'a> {
    pub model: &'a ModelVersionId,
    pub evaluation: Option<&'a EvaluationReport>,
}

/// What the feature views of production and candidate find for the same questions: the reciprocal rank of the post that each
/// question is about, in the one and in the other; or why that could not be measured.
pub type Retrieval = Result<Vec<[f64; 2]>, String>;

/// Holds a candidate against the thresholds and the version in production. `retrieval` is `None` where both answer from the
/// same feature view.
pub fn judge(
    candidate: &Measured<'_>,
    production: Option<&Measured<'_>>,
    retrieval: Option<&Retrieval>,
    thresholds: &Thresholds,
) -> GateReport {
    let mut findings = match (candidate.evaluation, production.map(|production| production.evaluation)) {
        (None, _) => vec![unmeasured("evaluation", 0.0, "the candidate has no evaluation that can be read")],
        (Some(new), None) => alone(new, thresholds),
        (Some(new), Some(None)) => {
            let missing = unmeasured("evaluation", 0.0, "the version in production has no evaluation that can be read");
            alone(new, thresholds).into_iter().chain([missing]).collect()
        }
        (Some(new), Some(Some(old))) => {
            alone(new, thresholds).into_iter().chain(against(new, old, thresholds)).collect()
        }
    };
    if production.is_some() {
        findings.push(ranking(retrieval, thresholds.retrieval.max_decrease));
    }
    GateReport {
        candidate: candidate.model.clone(),
        production: production.map(|production| production.model.clone()),
        thresholds: thresholds.clone(),
        passed: findings.iter().all(|one| matches!(one.outcome, Outcome::Passed | Outcome::NotAsked)),
        findings,
    }
}

/// What the candidate must show by itself.
fn alone(new: &EvaluationReport, thresholds: &Thresholds) -> Vec<Finding> {
    let gain = Finding {
        rule: "bits per byte gained over the base".to_owned(),
        value: Some(new.author.gain()),
        interval: finite(new.author.gain_interval),
        threshold: thresholds.bits_per_byte.min_gain,
        // An interval of one post says nothing; then the gain itself must do.
        outcome: outcome(worst_low(new.author.gain(), new.author.gain_interval) > thresholds.bits_per_byte.min_gain),
        detail: format!("{} held-out posts", new.author.documents.len()),
    };
    let mut findings = vec![gain];
    for arm in [Arm::Lora, Arm::LoraRag] {
        let Some(report) = new.arm(arm) else { continue };
        let copying = &report.style.copying;
        let shares: Vec<f64> = report.samples.iter().map(copied_share).collect();
        let interval = finite(bootstrap_interval(&shares, SEED, |drawn| mean(drawn.iter().map(|share| **share))));
        findings.push(Finding {
            rule: format!("copying, {}", arm.label()),
            value: Some(copying.share),
            interval,
            threshold: thresholds.copying.max_share,
            outcome: outcome(copying.share <= thresholds.copying.max_share),
            detail: "share of 8-word sequences from training posts; the interval is of copied words a text".to_owned(),
        });
        findings.push(Finding {
            rule: format!("longest copy, {}", arm.label()),
            value: Some(copying.longest_run as f64),
            interval: None,
            threshold: thresholds.copying.max_longest_run as f64,
            outcome: outcome(copying.longest_run <= thresholds.copying.max_longest_run),
            detail: "words in a row from a training post".to_owned(),
        });
    }
    if let (Some(lora), Some(rag)) = (new.arm(Arm::Lora), new.arm(Arm::LoraRag)) {
        let loss = rag.style.function_words.author - lora.style.function_words.author;
        let detail = "style with retrieval less style without";
        findings.push(increase("style with retrieval", loss, None, thresholds.style.max_loss_by_retrieval, detail));
    }
    findings
}

/// What the candidate must show beside production.
fn against(new: &EvaluationReport, old: &EvaluationReport, thresholds: &Thresholds) -> Vec<Finding> {
    let mut findings = vec![bits(new, old, &thresholds.bits_per_byte)];
    for arm in [Arm::Lora, Arm::LoraRag] {
        let (Some(one), Some(other)) = (new.arm(arm), old.arm(arm)) else { continue };
        findings.push(style(arm, one, other, thresholds.style.max_increase));
        findings.push(fluency(arm, one, other, thresholds.fluency.max_decrease));
        findings.push(speed(arm, one.cost, other.cost, thresholds.speed.min_ratio));
    }
    if let (Some(one), Some(other)) = (new.arm(Arm::LoraRag), old.arm(Arm::LoraRag)) {
        findings.push(groundedness(one, other, &thresholds.groundedness));
    }
    findings
}

/// The share of checkable statements that stand in what the model was given: how much of it production has more. The two
/// wrote independently of each other, so each side's texts are drawn by themselves.
fn groundedness(new: &ArmReport, old: &ArmReport, thresholds: &Groundedness) -> Finding {
    let rule = format!("groundedness against production, {}", new.arm.label());
    let counts = |report: &ArmReport| -> Vec<(f64, f64)> {
        let grounding = report.samples.iter().filter_map(|sample| sample.grounding.as_ref());
        grounding.map(|one| (one.checkable_recall * one.checkable as f64, one.checkable as f64)).collect()
    };
    let sides = [counts(old), counts(new)];
    let checkable = sides.each_ref().map(|side| side.iter().map(|(_, checkable)| checkable).sum::<f64>());
    if checkable.iter().any(|count| *count < thresholds.min_statements as f64) {
        let detail = format!(
            "{} and {} statements can be checked, {} are needed",
            checkable[0], checkable[1], thresholds.min_statements
        );
        return Finding { outcome: Outcome::NotAsked, ..unmeasured(&rule, thresholds.max_decrease, &detail) };
    }
    let lost = |drawn: &[Vec<usize>]| {
        let share = |side: usize| {
            let (supported, checkable) =
                drawn[side].iter().fold((0.0, 0.0), |sum, at| (sum.0 + sides[side][*at].0, sum.1 + sides[side][*at].1));
            supported / checkable
        };
        share(0) - share(1)
    };
    let all = sides.each_ref().map(|side| (0..side.len()).collect::<Vec<_>>());
    let interval = bootstrap_groups(&[sides[0].len(), sides[1].len()], SEED, lost);
    let detail =
        format!("share of {} and {} checkable statements, production less candidate", checkable[0], checkable[1]);
    increase(&rule, lost(&all), finite(interval), thresholds.max_decrease, &detail)
}

/// How well the feature views rank, paired by question.
fn ranking(retrieval: Option<&Retrieval>, threshold: f64) -> Finding {
    let rule = "retrieval against production";
    match retrieval {
        None => Finding {
            outcome: Outcome::NotAsked,
            ..unmeasured(rule, threshold, "both answer from the same feature view")
        },
        Some(Err(problem)) => unmeasured(rule, threshold, problem),
        Some(Ok(ranks)) if ranks.is_empty() => {
            unmeasured(rule, threshold, "no post with a title of its own is in both feature views")
        }
        Some(Ok(ranks)) => {
            let lost: Vec<f64> = ranks.iter().map(|[production, candidate]| production - candidate).collect();
            let interval = bootstrap_interval(&lost, SEED, |drawn| mean(drawn.iter().map(|one| **one)));
            let detail = format!("MRR@10 of {} titles, production less candidate", lost.len());
            increase(rule, mean(lost.iter().copied()), finite(interval), threshold, &detail)
        }
    }
}

/// Bits per byte on the posts that both were tested on, paired by post.
fn bits(new: &EvaluationReport, old: &EvaluationReport, thresholds: &BitsPerByte) -> Finding {
    let rule = "bits per byte against production";
    let known: BTreeMap<&str, &DocumentBits> =
        old.author.documents.iter().map(|bits| (bits.url.as_str(), bits)).collect();
    // A post that has another length is another text.
    let same = |bits: &&DocumentBits| known.get(bits.url.as_str()).is_some_and(|other| other.bytes == bits.bytes);
    let pairs: Vec<(f64, f64)> = new
        .author
        .documents
        .iter()
        .filter(same)
        .map(|bits| (bits.twin - known[bits.url.as_str()].twin, bits.bytes as f64))
        .collect();
    if pairs.len() < thresholds.min_documents.max(1) {
        let detail = format!(
            "{} posts were held out of both and {} are needed: evaluate the version in production again, or say --force",
            pairs.len(),
            thresholds.min_documents.max(1)
        );
        return unmeasured(rule, thresholds.max_increase, &detail);
    }
    let weighted = |drawn: &[&(f64, f64)]| {
        let bytes: f64 = drawn.iter().map(|(_, bytes)| bytes).sum();
        drawn.iter().map(|(difference, bytes)| difference * bytes).sum::<f64>() / bytes.max(1.0)
    };
    let value = weighted(&pairs.iter().collect::<Vec<_>>());
    let interval = bootstrap_interval(&pairs, SEED, weighted);
    let detail = format!("{} posts that both were tested on", pairs.len());
    increase(rule, value, finite(interval), thresholds.max_increase, &detail)
}

/// The distance of style from the author. It is of all texts of an arm together, so it has no interval of its own; what the two
/// wrote for different requests is not compared.
fn style(arm: Arm, new: &ArmReport, old: &ArmReport, threshold: f64) -> Finding {
    let rule = format!("style against production, {}", arm.label());
    let titles = |report: &ArmReport| report.samples.iter().map(|one| one.title.clone()).collect::<Vec<_>>();
    if titles(new) != titles(old) {
        return Finding {
            outcome: Outcome::NotAsked,
            ..unmeasured(&rule, threshold, "they wrote for different requests")
        };
    }
    let value = new.style.function_words.author - old.style.function_words.author;
    increase(&rule, value, None, threshold, &format!("{} requests, the same of both", new.samples.len()))
}

fn fluency(arm: Arm, new: &ArmReport, old: &ArmReport, threshold: f64) -> Finding {
    let rule = format!("fluency against production, {}", arm.label());
    match (&new.predictability, &old.predictability) {
        (Some(one), Some(other)) => {
            let detail = "share of texts that are as predictable as the author's, production less candidate";
            increase(&rule, other.usual_share - one.usual_share, None, threshold, detail)
        }
        _ => Finding { outcome: Outcome::NotAsked, ..unmeasured(&rule, threshold, "not measured for both") },
    }
}

fn speed(arm: Arm, new: Cost, old: Cost, threshold: f64) -> Finding {
    let rule = format!("speed against production, {}", arm.label());
    let rate = |cost: Cost| cost.new_tokens as f64 / cost.seconds;
    let ratio = rate(new) / rate(old);
    if !ratio.is_finite() || ratio <= 0.0 {
        return Finding { outcome: Outcome::NotAsked, ..unmeasured(&rule, threshold, "not measured for both") };
    }
    let detail = "tokens a second over those of production, each as its evaluation measured it".to_owned();
    Finding { rule, value: Some(ratio), interval: None, threshold, outcome: outcome(ratio >= threshold), detail }
}

/// The words of a text that were copied, as a share.
fn copied_share(sample: &crate::evaluate::Sample) -> f64 {
    let words = sample.text.split_whitespace().count().max(1);
    let copied: usize = sample.copied.iter().map(|run| run.split_whitespace().count()).sum();
    (copied as f64 / words as f64).min(1.0)
}

fn increase(rule: &str, value: f64, interval: Option<(f64, f64)>, threshold: f64, detail: &str) -> Finding {
    let worst = interval.map_or(value, |(_, high)| high);
    Finding {
        rule: rule.to_owned(),
        value: Some(value),
        interval,
        threshold,
        outcome: outcome(worst <= threshold),
        detail: detail.to_owned(),
    }
}

fn unmeasured(rule: &str, threshold: f64, detail: &str) -> Finding {
    let detail = detail.to_owned();
    Finding { rule: rule.to_owned(), value: None, interval: None, threshold, outcome: Outcome::Unmeasured, detail }
}

fn outcome(passed: bool) -> Outcome {
    if passed { Outcome::Passed } else { Outcome::Failed }
}

fn worst_low(value: f64, interval: (f64, f64)) -> f64 {
    if interval.0.is_finite() { interval.0 } else { value }
}

fn finite(interval: (f64, f64)) -> Option<(f64, f64)> {
    (interval.0.is_finite() && interval.1.is_finite()).then_some(interval)
}

#[cfg(test)]
mod tests {
    use super::*;
    use twin_style::copying::CopyReport;
    use twin_style::grounding::Grounding;

    use crate::evaluate::{Distances, EvaluationConfig, Prediction, Sample, StyleFigures};

    fn evaluation(twin: f64, first: usize) -> EvaluationReport {
        let bits = |n: usize| DocumentBits {
            url: n.to_string(),
            bytes: 1000 + n,
            base: 1.3,
            twin: twin + 0.001 * (n % 3) as f64,
        };
        EvaluationReport {
            config: EvaluationConfig::default(),
            author: Prediction {
                base: 1.3,
                twin,
                gain_interval: (1.3 - twin - 0.01, 1.3 - twin + 0.01),
                documents: (first..first + 6).map(bits).collect(),
            },
            others: None,
            arms: Vec::new(),
            likeness: None,
            memorisation: None,
        }
    }

    fn verdict(new: Option<&EvaluationReport>, old: Option<Option<&EvaluationReport>>) -> GateReport {
        let (candidate, production) = ("ada@v2".parse().unwrap(), "ada@v1".parse().unwrap());
        let production = old.map(|evaluation| Measured { model: &production, evaluation });
        let candidate = Measured { model: &candidate, evaluation: new };
        judge(&candidate, production.as_ref(), None, &Thresholds::parse(None).unwrap())
    }

    #[test]
    fn a_better_candidate_passes_and_a_worse_one_does_not() {
        let (good, bad) = (evaluation(1.1, 0), evaluation(1.2, 0));
        let better = verdict(Some(&good), Some(Some(&bad)));
        assert!(better.passed, "{better:#?}");
        let bits = better.findings.iter().find(|one| one.rule == "bits per byte against production").unwrap();
        assert!((bits.value.unwrap() + 0.1).abs() < 1e-9);
        let (low, high) = bits.interval.unwrap();
        assert!(low <= -0.1 + 1e-9 && high >= -0.1 - 1e-9);
        assert!(!verdict(Some(&bad), Some(Some(&good))).passed);
    }

    #[test]
    fn a_candidate_that_does_not_gain_fails_even_as_the_first() {
        assert!(verdict(Some(&evaluation(1.1, 0)), None).passed);
        assert!(!verdict(Some(&evaluation(1.35, 0)), None).passed);
    }

    #[test]
    fn what_cannot_be_compared_does_not_pass() {
        let (new, elsewhere) = (evaluation(1.1, 0), evaluation(1.2, 100));
        for report in
            [verdict(Some(&new), Some(Some(&elsewhere))), verdict(Some(&new), Some(None)), verdict(None, None)]
        {
            assert!(!report.passed);
            assert!(report.findings.iter().any(|one| one.outcome == Outcome::Unmeasured), "{report:#?}");
        }
    }

    #[test]
    fn another_feature_view_has_to_rank_as_well() {
        let outcome = |retrieval: Option<&Retrieval>| ranking(retrieval, 0.05).outcome;
        assert_eq!(outcome(None), Outcome::NotAsked);
        assert_eq!(outcome(Some(&Err("its embedder is not here".to_owned()))), Outcome::Unmeasured);
        assert_eq!(outcome(Some(&Ok(Vec::new()))), Outcome::Unmeasured);
        assert_eq!(outcome(Some(&Ok(vec![[0.5, 1.0]; 20]))), Outcome::Passed);
        assert_eq!(outcome(Some(&Ok(vec![[1.0, 0.5]; 20]))), Outcome::Failed);
    }

    #[test]
    fn a_candidate_that_invents_more_does_not_pass() {
        let arm = |supported: f64| {
            let grounding = Grounding { checkable: 5, checkable_recall: supported, ..Grounding::default() };
            let sample = Sample {
                title: "On rain".to_owned(),
                form: None,
                text: String::new(),
                copied: Vec::new(),
                grounding: Some(grounding),
            };
            let far = Distances { author: 1.0, others: None };
            let style = StyleFigures { words: 0, function_words: far, ngrams: far, copying: CopyReport::default() };
            ArmReport {
                arm: Arm::LoraRag,
                style,
                assessment: None,
                told_apart: None,
                predictability: None,
                cost: Cost::default(),
                samples: vec![sample; 4],
            }
        };
        let thresholds = Groundedness { max_decrease: 0.3, min_statements: 10 };
        let compare = |new: f64, old: f64| groundedness(&arm(new), &arm(old), &thresholds);
        let same = compare(0.8, 0.8);
        assert_eq!((same.outcome, same.value), (Outcome::Passed, Some(0.0)));
        let worse = compare(0.2, 0.8);
        assert_eq!(worse.outcome, Outcome::Failed);
        assert!((worse.value.unwrap() - 0.6).abs() < 1e-9);
        let few = Groundedness { min_statements: 21, ..thresholds };
        assert_eq!(groundedness(&arm(0.2), &arm(0.8), &few).outcome, Outcome::NotAsked);
    }

    #[test]
    fn a_wrong_threshold_is_named() {
        let error = Thresholds::parse(Some("[speed]\nmin_ration = 1\n")).unwrap_err();
        assert!(error.to_string().contains("min_ration"), "{error}");
    }
}
