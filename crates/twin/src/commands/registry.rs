//! `twin registry`: model versions and their lineage.

use twin_domain::{ModelRegistry, ModelVersion, ModelVersionId};

use crate::args::RegistryCommand;
use crate::output;
use crate::wiring::Wiring;

mod import;

pub async fn run(wiring: &Wiring, command: RegistryCommand) -> anyhow::Result<bool> {
    match command {
        RegistryCommand::List { author } => list(wiring, author),
        RegistryCommand::Show { model } => show(wiring, &model),
        RegistryCommand::Import(arguments) => import::run(wiring, arguments).await,
        RegistryCommand::Verify { author } => verify(wiring, author),
    }
}

fn list(wiring: &Wiring, author: Option<twin_domain::AuthorId>) -> anyhow::Result<bool> {
    let registry = wiring.registry()?;
    let mut versions = Vec::new();
    for author in wiring.authors(author)? {
        versions.extend(registry.versions(&author)?);
    }
    output::result(wiring.json, &versions, |versions| {
        let figure = |version: &ModelVersion, name: &str| {
            version.metrics.get(name).map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
        };
        let rows = versions.iter().map(|version| {
            vec![
                version.id.to_string(),
                version.base.name.clone(),
                version.training_set.to_string(),
                version.feature_view.to_string(),
                figure(version, "bits_per_byte.author.base"),
                figure(version, "bits_per_byte.author.twin"),
                version.created_at.strftime("%Y-%m-%d %H:%M").to_string(),
            ]
        });
        output::table(&["model", "base", "training set", "features", "bits/byte base", "twin", "made (UTC)"], rows);
    })?;
    Ok(true)
}

fn show(wiring: &Wiring, id: &ModelVersionId) -> anyhow::Result<bool> {
    let version = wiring.registry()?.version(id)?;
    output::result(wiring.json, &version, |version| {
        let ModelVersion { id, base, training_set, feature_view, prompt, .. } = version;
        output::line(format!("model {id} <- training set {training_set} <- features {feature_view}"));
        output::line(format!("  base     {} ({}), weights {}", base.name, base.hub, base.digest.short()));
        output::line(format!("  prompt   {prompt}"));
        output::line(format!("  made     {} by twin {}", version.created_at, version.code));
        output::line(format!("  settings {}", version.hyper_parameters));
        for (name, value) in &version.metrics {
            output::line(format!("  {name:<44} {value:.4}"));
        }
        for (name, digest) in &version.files {
            output::line(format!("  {name:<44} sha256 {}", digest.short()));
        }
    })?;
    Ok(true)
}

fn verify(wiring: &Wiring, author: Option<twin_domain::AuthorId>) -> anyhow::Result<bool> {
    let registry = wiring.registry()?;
    let mut problems = Vec::new();
    let mut checked = 0;
    for author in wiring.authors(author)? {
        for version in registry.versions(&author)? {
            checked += 1;
            if let Err(error) = registry.open(&version.id) {
                problems.push(error.to_string());
            }
        }
    }
    output::result(wiring.json, &problems, |problems| {
        problems.iter().for_each(output::line);
        output::line(format!("{checked} versions checked, {} damaged", problems.len()));
    })?;
    Ok(problems.is_empty())
}
