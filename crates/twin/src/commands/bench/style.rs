//! `twin bench style`: every way of writing on the same prompts, as a table, JSON and one HTML page.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use serde::Deserialize;
use twin_domain::{ModelRegistry, ModelVersionId};
use twin_models::language::Adapter;
use twin_models::prompt::PromptSet;
use twin_training_pipeline::evaluate::{Evaluation, EvaluationConfig, EvaluationReport, evaluate, html, table};

use crate::args::BenchStyleArguments;
use crate::commands::style::population;
use crate::output;
use crate::wiring::{Wiring, blocking};

/// `eval/style.toml`.
#[derive(Debug, Deserialize)]
struct Suite {
    name: String,
    #[serde(flatten)]
    config: EvaluationConfig,
}

pub async fn run(wiring: &Wiring, arguments: &BenchStyleArguments) -> anyhow::Result<bool> {
    let file = &arguments.suite;
    let suite: Suite = toml::from_str(&fs_err::read_to_string(file)?)
        .with_context(|| format!("`{}` is not a suite of writing prompts", file.display()))?;
    let config =
        EvaluationConfig { likeness: true, prompts: arguments.prompts.unwrap_or(suite.config.prompts), ..suite.config };
    let out = arguments.out.clone().unwrap_or_else(|| wiring.config.data_dir.join("bench"));
    fs_err::create_dir_all(&out)?;
    let mut reports = Vec::new();
    for id in std::iter::once(&arguments.model).chain(&arguments.compare) {
        reports.push((id.to_string(), measured(wiring, id, &config, &out).await?));
    }
    reports.sort_by_key(|(name, _)| name.parse::<ModelVersionId>().map(|id| (id.author, id.number)).ok());
    let page = out.join(format!("style-{}.html", arguments.model));
    let title = format!("{}: {}", arguments.model.author, suite.name);
    fs_err::write(&page, html::page(&title, &reports)?)?;
    output::result(wiring.json, &reports, |reports| reports.iter().for_each(|(name, report)| print(name, report)))?;
    output::remark(format!("the report with charts and texts: {}", page.display()));
    let newest = reports.iter().find(|(name, _)| *name == arguments.model.to_string());
    let likeness = newest.and_then(|(_, report)| report.likeness.as_ref());
    Ok(likeness.and_then(|likeness| likeness.decision.as_ref()).is_some_and(|decision| decision.helps))
}

/// The report of a version; one that was made before under the same suite is read again.
async fn measured(
    wiring: &Wiring,
    id: &ModelVersionId,
    config: &EvaluationConfig,
    out: &Path,
) -> anyhow::Result<EvaluationReport> {
    let kept = out.join(format!("style-{id}.json"));
    let read = fs_err::read(&kept).ok().and_then(|json| serde_json::from_slice::<EvaluationReport>(&json).ok());
    if let Some(known) = read.filter(|known| known.config == *config) {
        return Ok(known);
    }
    let version = wiring.registry()?.version(id)?;
    let directory = wiring.registry()?.open(id)?;
    let (store, embedder, model) = (wiring.store().await?, wiring.embedder().await?, wiring.language_model().await?);
    let sets = store.training_sets(&id.author)?;
    let set = sets.into_iter().find(|set| set.id == version.training_set).with_context(|| {
        format!("training set `{}` of {id} is no longer in the feature store: train again", version.training_set)
    })?;
    let author = store.author(&id.author)?;
    let population = population::load(None)?;
    let (progress, cancel, config) = (Arc::clone(&wiring.progress), wiring.cancel.clone(), config.clone());
    let measure = move || -> anyhow::Result<EvaluationReport> {
        let adapter = Arc::new(Adapter::load(&directory, &model)?);
        let prompts = PromptSet::builtin()?;
        let evaluation = Evaluation {
            model: &model,
            adapter,
            embedder: &*embedder,
            store: &*store,
            view: &set.feature_view,
            author: &author,
            set: &set,
            prompts: &prompts,
            config: &config,
            population: Some(population),
        };
        Ok(evaluate(&evaluation, progress.as_ref(), &cancel)?)
    };
    let report = blocking(measure).await?;
    fs_err::write(&kept, serde_json::to_vec_pretty(&report)?)?;
    Ok(report)
}

fn print(name: &str, report: &EvaluationReport) {
    output::line(format!("== {name} =="));
    table::ruler(report).iter().chain(&table::predictions(report)).for_each(output::line);
    output::table(&table::LIKENESS_HEADER, table::likeness_rows(report).into_iter().map(Vec::from));
    output::table(&table::HEADER, table::rows(report).into_iter().map(Vec::from));
    output::table(&table::COMPARISON_HEADER, table::comparisons(report).into_iter().map(Vec::from));
    if let Some(decision) = report.likeness.as_ref().and_then(|likeness| likeness.decision.as_ref()) {
        let verdict = if decision.helps { "training helps" } else { "training does not help" };
        output::line(format!("{verdict}: {}", decision.because));
    }
}
