//! `twin bench style`: every way of writing on the same requests, as tables, JSON, JUnit and one HTML page.

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use twin_domain::{ModelRegistry, ModelVersionId, TrainingSet};
use twin_style::judge::JudgeReport;
use twin_training_pipeline::evaluate::{
    EvaluationConfig, EvaluationReport, Prepared, VersionComparison, html, junit, table,
};

use super::judge;
use crate::args::BenchStyleArguments;
use crate::commands::evaluation::{Subject, prepared};
use crate::output;
use crate::wiring::Wiring;

/// `eval/style.toml`.
#[derive(Debug, Deserialize)]
struct Suite {
    name: String,
    #[serde(flatten)]
    config: EvaluationConfig,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Outcome {
    /// By version, oldest first.
    reports: Vec<(String, EvaluationReport)>,
    /// Each version against the one before it.
    comparisons: Vec<VersionComparison>,
    /// What a judge says of the newest version's texts, where one was asked.
    judge: Option<JudgeReport>,
}

/// How many of the author's known openings a judge is shown.
const JUDGE_SAMPLES: usize = 3;

pub async fn run(wiring: &Wiring, arguments: &BenchStyleArguments) -> anyhow::Result<bool> {
    let file = &arguments.suite;
    let suite: Suite = toml::from_str(&fs_err::read_to_string(file)?)
        .with_context(|| format!("`{}` is not a suite of writing prompts", file.display()))?;
    let config =
        EvaluationConfig { likeness: true, prompts: arguments.prompts.unwrap_or(suite.config.prompts), ..suite.config };
    let out = arguments.out.clone().unwrap_or_else(|| wiring.config.data_dir.join("bench"));
    fs_err::create_dir_all(&out)?;
    let versions = versions(wiring, arguments).await?;
    let mut reports: Vec<(String, EvaluationReport)> = Vec::new();
    for (id, _) in &versions {
        let before = reports.last().map(|(_, report)| report.clone());
        reports.push((id.to_string(), measured(wiring, id, &versions, &config, before, &out).await?));
    }
    let (comparisons, samples) = compared(wiring, &versions, &config, &reports, &out).await?;
    let judged = match reports.last() {
        Some((_, report)) => judge::judged(wiring, &arguments.judge, samples, report).await?,
        None => None,
    };
    let title = format!("{}: {}", arguments.model.author, suite.name);
    let beside = |ending: &str| out.join(format!("style-{}.{ending}", arguments.model));
    fs_err::write(beside("html"), html::page(&title, &reports, &comparisons, judged.as_ref())?)?;
    fs_err::write(beside("junit.xml"), junit::xml(&reports))?;
    let outcome = Outcome { reports, comparisons, judge: judged };
    output::result(wiring.json, &outcome, print)?;
    output::remark(format!("the report with charts and texts: {}", beside("html").display()));
    let newest = outcome.reports.iter().find(|(name, _)| *name == arguments.model.to_string());
    let likeness = newest.and_then(|(_, report)| report.likeness.as_ref());
    Ok(likeness.and_then(|likeness| likeness.decision.as_ref()).is_some_and(|decision| decision.helps))
}

/// The versions to measure with their training sets, oldest first.
async fn versions(
    wiring: &Wiring,
    arguments: &BenchStyleArguments,
) -> anyhow::Result<Vec<(ModelVersionId, TrainingSet)>> {
    let store = wiring.store().await?;
    let mut versions = Vec::new();
    for id in std::iter::once(&arguments.model).chain(&arguments.compare) {
        anyhow::ensure!(
            id.author == arguments.model.author,
            "{id} and {} are of different authors: compare versions of one author",
            arguments.model
        );
        let version = wiring.registry()?.version(id)?;
        let set = store.training_sets(&id.author)?.into_iter().find(|set| set.id == version.training_set);
        let set = set.with_context(|| {
            format!("training set `{}` of {id} is no longer in the feature store: train again", version.training_set)
        })?;
        versions.push((id.clone(), set));
    }
    versions.sort_by_key(|(id, _)| id.number);
    versions.dedup_by(|(a, _), (b, _)| a == b);
    Ok(versions)
}

async fn subject(
    wiring: &Wiring,
    id: &ModelVersionId,
    versions: &[(ModelVersionId, TrainingSet)],
    out: &Path,
) -> anyhow::Result<Subject> {
    let sets = |own: bool| versions.iter().filter(move |(other, _)| (other == id) == own).map(|(_, set)| set.clone());
    Ok(Subject {
        adapter: wiring.registry()?.open(id)?,
        author: wiring.store().await?.author(&id.author)?,
        set: sets(true).next().with_context(|| format!("{id} is not among the versions"))?,
        also: sets(false).collect(),
        unfinished: out.join(format!("style-{id}.unfinished.jsonl")),
    })
}

/// The report of a version; one that was made before of the same requests and documents is read again, and what the base
/// wrote in the report of another version is taken over.
async fn measured(
    wiring: &Wiring,
    id: &ModelVersionId,
    versions: &[(ModelVersionId, TrainingSet)],
    config: &EvaluationConfig,
    before: Option<EvaluationReport>,
    out: &Path,
) -> anyhow::Result<EvaluationReport> {
    let kept = out.join(format!("style-{id}.json"));
    let known = fs_err::read(&kept).ok().and_then(|json| serde_json::from_slice::<EvaluationReport>(&json).ok());
    let name = id.to_string();
    let subject = subject(wiring, id, versions, out).await?;
    let unfinished = subject.unfinished.clone();
    prepared(wiring, subject, config.clone(), move |prepared, progress, cancel| {
        // What can be seen is told before anything is measured.
        output::remark(format!("== {name} =="));
        prepared.plan().lines().iter().for_each(output::remark);
        if let Some(known) = known.filter(|known| prepared.is_of(known)) {
            output::remark(format!("this was measured before: {}", kept.display()));
            return Ok(known);
        }
        let report = prepared.run(before.as_ref(), progress, cancel)?;
        fs_err::write(&kept, serde_json::to_vec_pretty(&report)?)?;
        fs_err::remove_file(unfinished)?;
        Ok(report)
    })
    .await
}

/// Every version against the one before it, by the ruler of the newest; and what the author is known by.
async fn compared(
    wiring: &Wiring,
    versions: &[(ModelVersionId, TrainingSet)],
    config: &EvaluationConfig,
    reports: &[(String, EvaluationReport)],
    out: &Path,
) -> anyhow::Result<(Vec<VersionComparison>, Vec<String>)> {
    let Some((newest, _)) = versions.last() else { return Ok((Vec::new(), Vec::new())) };
    let reports = reports.to_vec();
    let subject = subject(wiring, newest, versions, out).await?;
    let compare = move |prepared: &Prepared<'_>| (prepared.compare(&reports), prepared.known_openings(JUDGE_SAMPLES));
    prepared(wiring, subject, config.clone(), move |prepared, _, _| Ok(compare(prepared))).await
}

fn print(outcome: &Outcome) {
    for (name, report) in &outcome.reports {
        output::line(format!("== {name} =="));
        table::predictions(report).iter().chain(&table::remarks(report)).for_each(output::line);
        output::table(&table::LIKENESS_HEADER, table::likeness_rows(report).into_iter().map(Vec::from));
        output::table(&table::COMPARISON_HEADER, table::comparisons(report).into_iter().map(Vec::from));
        output::table(&table::GATES_HEADER, table::gates_rows(report).into_iter().map(Vec::from));
        output::table(&table::COST_HEADER, table::cost_rows(report).into_iter().map(Vec::from));
        if let Some(decision) = report.likeness.as_ref().and_then(|likeness| likeness.decision.as_ref()) {
            let verdict = if decision.helps { "training helps" } else { "training does not help" };
            output::line(format!("{verdict}: {}", decision.because));
        }
    }
    if !outcome.comparisons.is_empty() {
        output::table(&table::VERSIONS_HEADER, table::version_rows(&outcome.comparisons).into_iter().map(Vec::from));
    }
    if let (Some(judged), Some((_, report))) = (&outcome.judge, outcome.reports.last()) {
        output::table(&table::JUDGE_HEADER, table::judge_rows(judged).into_iter().map(Vec::from));
        output::line(table::judge_remark(judged));
        output::line(match judge::agreement(judged, report) {
            Some(tau) => format!("its order agrees with that of likeness by {tau:+.2} (Kendall's tau, 1 is the same)"),
            None => "there are too few with a likeness to compare its order with".to_owned(),
        });
    }
}
