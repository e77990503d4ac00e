//! `twin registry`: model versions, what is said of them, and what can go.

use serde::Serialize;
use twin_domain::{Annotation, Annotations, AuthorId, ModelRegistry, ModelVersion, ModelVersionId, Stage};
use twin_model_registry::{Listing, VersionSummary};

use crate::args::RegistryCommand;
use crate::output;
use crate::wiring::Wiring;

mod diff;
pub mod hub;
mod import;

pub async fn run(wiring: &Wiring, command: RegistryCommand) -> anyhow::Result<bool> {
    let say = |model: &ModelVersionId, annotation: Annotation| {
        wiring.registry()?.annotate(model, &annotation, wiring.operator())?;
        show(wiring, model)
    };
    match command {
        RegistryCommand::List { author } => list(wiring, author),
        RegistryCommand::Show { model } => show(wiring, &model),
        RegistryCommand::Import(arguments) => import::run(wiring, arguments).await,
        RegistryCommand::Diff { first, second } => diff::run(wiring, &first, &second),
        RegistryCommand::Tag { model, tag, remove: false } => say(&model, Annotation::Tagged { tag }),
        RegistryCommand::Tag { model, tag, remove: true } => say(&model, Annotation::Untagged { tag }),
        RegistryCommand::Note { model, text } => say(&model, Annotation::Note { text }),
        RegistryCommand::Archive { model, undo: false } => say(&model, Annotation::Archived),
        RegistryCommand::Archive { model, undo: true } => say(&model, Annotation::Restored),
        RegistryCommand::Verify { author } => verify(wiring, author),
        RegistryCommand::Push(arguments) => hub::push(wiring, &arguments).await,
        RegistryCommand::Pull { repository, revision } => hub::pull(wiring, &repository, &revision).await,
        RegistryCommand::Remote { repository } => hub::tags(wiring, &repository).await,
        RegistryCommand::Gc { author, dry_run } => collect(wiring, author, dry_run),
    }
}

/// A line of the list.
#[derive(Serialize)]
struct Listed {
    model: ModelVersionId,
    stage: Stage,
    #[serde(flatten)]
    summary: VersionSummary,
    tags: Vec<String>,
    retrain: bool,
}

fn list(wiring: &Wiring, author: Option<AuthorId>) -> anyhow::Result<bool> {
    let registry = wiring.registry()?;
    let mut listed = Vec::new();
    for author in wiring.authors(author)? {
        let (stages, mut said) = (registry.stages(&author)?, registry.annotations(&author)?);
        let Listing { versions, unreadable } = registry.list(&author)?;
        for number in unreadable {
            output::remark(format!("{author}@v{number} cannot be read: `twin registry verify` says why"));
        }
        listed.extend(versions.into_iter().map(|summary| {
            let said = said.remove(&summary.number).unwrap_or_default();
            Listed {
                model: ModelVersionId { author: author.clone(), number: summary.number },
                stage: stages.get(&summary.number).copied().unwrap_or_default(),
                summary,
                tags: said.tags.into_iter().collect(),
                retrain: !said.retrain.is_empty(),
            }
        }));
    }
    output::result(wiring.json, &listed, |listed| {
        let header = ["model", "stage", "base", "training set", "bits/byte base", "twin", "tags", "made (UTC)"];
        output::table(&header, listed.iter().map(row));
    })?;
    Ok(true)
}

fn row(listed: &Listed) -> Vec<String> {
    let Listed { model, stage, summary, tags, retrain } = listed;
    let figure = |name: &str| summary.figures.get(name).map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    let mark = if *retrain { ", train again" } else { "" };
    vec![
        model.to_string(),
        format!("{stage}{mark}"),
        summary.base.clone(),
        summary.training_set.to_string(),
        figure("bits_per_byte.author.base"),
        figure("bits_per_byte.author.twin"),
        tags.join(", "),
        summary.created_at.strftime("%Y-%m-%d %H:%M").to_string(),
    ]
}

/// A version with what is said of it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    version: ModelVersion,
    stage: Stage,
    annotations: Annotations,
}

fn show(wiring: &Wiring, id: &ModelVersionId) -> anyhow::Result<bool> {
    let registry = wiring.registry()?;
    let version = registry.version(id)?;
    let stage = registry.stages(&id.author)?.get(&id.number).copied().unwrap_or_default();
    let annotations = registry.annotations(&id.author)?.remove(&id.number).unwrap_or_default();
    output::result(wiring.json, &Shown { version, stage, annotations }, print)?;
    Ok(true)
}

fn print(Shown { version, stage, annotations }: &Shown) {
    let ModelVersion { id, base, training_set, feature_view, prompt, .. } = version;
    output::line(format!("model {id} <- training set {training_set} <- features {feature_view}"));
    output::line(format!("  stage    {stage}"));
    if !annotations.tags.is_empty() {
        let tags: Vec<&str> = annotations.tags.iter().map(String::as_str).collect();
        output::line(format!("  tags     {}", tags.join(", ")));
    }
    for note in &annotations.notes {
        output::line(format!("  note     {} ({}, {})", note.text, note.by, note.at.strftime("%Y-%m-%d")));
    }
    for note in &annotations.retrain {
        output::line(format!("  train again: {} ({})", note.text, note.at.strftime("%Y-%m-%d")));
    }
    output::line(format!("  base     {} ({}), weights {}", base.name, base.hub, base.digest.short()));
    output::line(format!("  prompt   {prompt}"));
    let environment: Vec<String> = version.environment.iter().map(|(name, value)| format!("{name} {value}")).collect();
    output::line(format!("  made     {} by twin {} on {}", version.created_at, version.code, environment.join(", ")));
    output::line(format!("  settings {}", version.hyper_parameters));
    for (name, value) in &version.metrics {
        output::line(format!("  {name:<44} {value:.4}"));
    }
    for (name, digest) in &version.files {
        output::line(format!("  {name:<44} sha256 {}", digest.short()));
    }
}

fn verify(wiring: &Wiring, author: Option<AuthorId>) -> anyhow::Result<bool> {
    let registry = wiring.registry()?;
    let (mut problems, mut checked) = (Vec::new(), 0);
    for author in wiring.authors(author)? {
        registry.verify_each(&author, &mut |one| {
            checked += 1;
            if let Some(problem) = one.problem {
                if !wiring.json {
                    output::line(problem.to_string());
                }
                problems.push(problem.to_string());
            }
            !wiring.cancel.is_cancelled()
        })?;
    }
    anyhow::ensure!(!wiring.cancel.is_cancelled(), "stopped after {checked} things were checked");
    output::result(wiring.json, &problems, |problems| {
        output::line(format!("{checked} versions, releases and logs checked, {} damaged", problems.len()));
    })?;
    Ok(problems.is_empty())
}

fn collect(wiring: &Wiring, author: Option<AuthorId>, dry_run: bool) -> anyhow::Result<bool> {
    let registry = wiring.registry()?;
    let mut collected = Vec::new();
    for author in wiring.authors(author)? {
        collected.extend(registry.collect(&author, dry_run, wiring.operator())?);
    }
    output::result(wiring.json, &collected, |collected| {
        for one in collected {
            let size = output::bytes(one.bytes);
            output::line(match (one.kept_by.is_empty(), dry_run) {
                (true, true) => format!("{} would be removed, {size}", one.model),
                (true, false) => format!("{} is removed, {size}", one.model),
                (false, _) => format!("{} stays: {}", one.model, one.kept_by.join(", ")),
            });
        }
        if collected.is_empty() {
            output::line("no version is archived: `twin registry archive` puts one aside");
        }
    })?;
    Ok(true)
}
