//! The gate as a promotion meets it: the stored evaluations of the candidate and of what serves, held against the thresholds.

use std::path::Path;

use anyhow::Context;
use twin_domain::{AuthorId, Digest, FeatureViewId, Gate, ModelRegistry, ModelVersionId};
use twin_training_pipeline::evaluate::EvaluationReport;
use twin_training_pipeline::gate::{Finding, GateReport, Measured, Outcome, Retrieval, Thresholds, judge};
use twin_training_pipeline::registration::read_evaluation;

use crate::commands::features::retrieval_diff;
use crate::output;
use crate::wiring::Wiring;

/// Asks the gate and keeps its report. `None` when the candidate serves already.
pub async fn ask(
    wiring: &Wiring,
    candidate: &ModelVersionId,
    view: &FeatureViewId,
    thresholds: Option<&Path>,
) -> anyhow::Result<Option<(GateReport, Digest)>> {
    let registry = wiring.registry()?;
    let serving = registry.serving(&candidate.author)?;
    if serving.as_ref().is_some_and(|serving| serving.model == *candidate && serving.feature_view == *view) {
        return Ok(None);
    }
    let retrieval = match &serving {
        Some(serving) if serving.feature_view != *view => {
            Some(ranks(wiring, &candidate.author, [&serving.feature_view, view]).await)
        }
        _ => None,
    };
    let production = serving.map(|release| release.model);
    let text = thresholds.map(|path| {
        std::fs::read_to_string(path).with_context(|| format!("could not read the thresholds in `{}`", path.display()))
    });
    let thresholds = Thresholds::parse(text.transpose()?.as_deref()).context("the gate's thresholds are not valid")?;
    let new = read_evaluation(&registry.open(candidate)?);
    let old = match &production {
        Some(model) => evaluation(&*registry, model)?,
        None => None,
    };
    let production = production.as_ref().map(|model| Measured { model, evaluation: old.as_ref() });
    let candidate_measured = Measured { model: candidate, evaluation: new.as_ref() };
    let report = judge(&candidate_measured, production.as_ref(), retrieval.as_ref(), &thresholds);
    let digest = registry.put_gate_report(&candidate.author, &serde_json::to_vec_pretty(&report)?)?;
    Ok(Some((report, digest)))
}

/// What the two feature views find when they are asked for posts by their titles.
async fn ranks(wiring: &Wiring, author: &AuthorId, views: [&FeatureViewId; 2]) -> Retrieval {
    match retrieval_diff(wiring, author, views, None).await {
        Ok(Some(diff)) => Ok(diff.reciprocal_ranks),
        Ok(None) => Err("one of the feature views is of another embedder than the one that is configured".to_owned()),
        Err(error) => Err(format!("{error:#}")),
    }
}

/// What serves may be damaged; that must not keep a better one from taking its place by force.
fn evaluation(registry: &dyn ModelRegistry, model: &ModelVersionId) -> anyhow::Result<Option<EvaluationReport>> {
    match registry.open(model) {
        Ok(directory) => Ok(read_evaluation(&directory)),
        Err(error) => {
            output::remark(format!("{error}"));
            Ok(None)
        }
    }
}

/// What goes on record; `None` when the candidate may not be promoted.
pub fn record(asked: Option<&(GateReport, Digest)>, force: bool) -> Option<Gate> {
    match asked {
        None => Some(Gate::NotAsked),
        Some((report, digest)) if report.passed => Some(Gate::Passed { report: digest.clone() }),
        Some((_, digest)) if force => Some(Gate::Forced { report: Some(digest.clone()) }),
        Some(_) => None,
    }
}

/// The report for people.
pub fn print(report: &GateReport) {
    let against = report.production.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let verdict = if report.passed { "passes" } else { "does not pass" };
    output::line(format!("{} {verdict} the gate, against {against} in production", report.candidate));
    let row = |finding: &Finding| {
        let value = match (finding.value, finding.interval) {
            (None, _) => "-".to_owned(),
            (Some(value), None) => format!("{value:.3}"),
            (Some(value), Some((low, high))) => format!("{value:.3} ({low:.3} to {high:.3})"),
        };
        let outcome = match finding.outcome {
            Outcome::Passed => "passed",
            Outcome::Failed => "FAILED",
            Outcome::Unmeasured => "NOT MEASURED",
            Outcome::NotAsked => "not asked",
        };
        vec![
            finding.rule.clone(),
            value,
            format!("{:.3}", finding.threshold),
            outcome.to_owned(),
            finding.detail.clone(),
        ]
    };
    output::table(&["rule", "value (95% interval)", "threshold", "", "measured on"], report.findings.iter().map(row));
}
