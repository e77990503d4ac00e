//! `twin registry push|pull|remote`: versions on the Hugging Face Hub.

use twin_domain::ModelRegistry;
use twin_model_registry::hub::{HubClient, HubOptions, PushOptions, Pushed, Repository, RepositoryKind};

use crate::args::{ExportForm, PushArguments, PushSetArguments};
use crate::commands::dataset::push_to;
use crate::output;
use crate::wiring::Wiring;

/// The Hub, unless `models.hub_endpoint` or HF_ENDPOINT names another one.
const HUB: &str = "https://huggingface.co";

pub fn client(wiring: &Wiring) -> anyhow::Result<HubClient> {
    let settings = &wiring.config.models;
    Ok(HubClient::new(HubOptions {
        endpoint: settings.hub_endpoint.clone().unwrap_or_else(|| HUB.to_owned()),
        token: settings.hub_token.as_ref().map(|token| token.expose().to_owned()),
        offline: settings.offline,
    })?)
}

pub async fn push(wiring: &Wiring, arguments: &PushArguments) -> anyhow::Result<bool> {
    let (client, registry) = (client(wiring)?, wiring.registry()?);
    let repository = Repository::parse(RepositoryKind::Model, &arguments.repository)?;
    let private = !arguments.public;
    let mut pushed = Vec::new();
    if let Some(dataset) = &arguments.dataset {
        let set = registry.version(&arguments.model)?.training_set;
        let (repository, public, format) = (dataset.clone(), arguments.public, ExportForm::Parquet);
        let set = PushSetArguments { set, repository, public, format };
        pushed.push(push_to(wiring, &client, &set).await?);
    }
    let options = PushOptions { private, license: arguments.license.clone(), dataset: arguments.dataset.clone() };
    pushed.push(client.push(&registry, &arguments.model, &repository, &options).await?);
    output::result(wiring.json, &pushed, |pushed| {
        pushed.iter().for_each(|pushed| output::line(line(pushed)));
    })?;
    Ok(true)
}

/// What a push came to, in a line.
pub fn line(pushed: &Pushed) -> String {
    let Pushed { repository, tag, also, commit, sent } = pushed;
    let what = if sent.is_empty() { "was there already".to_owned() } else { format!("{} files sent", sent.len()) };
    let names: Vec<&str> = std::iter::once(tag).chain(also).map(String::as_str).collect();
    format!("{repository} {} (commit {}): {what}", names.join(", "), commit.get(..12).unwrap_or(commit))
}

pub async fn pull(wiring: &Wiring, repository: &str, revision: &str) -> anyhow::Result<bool> {
    let (client, registry) = (client(wiring)?, wiring.registry()?);
    let repository = Repository::parse(RepositoryKind::Model, repository)?;
    let pulled = client.pull(&registry, &repository, revision).await?;
    output::result(wiring.json, &pulled, |pulled| {
        output::line(format!("{} is {repository} at {revision}", pulled.model));
        if !pulled.tags.is_empty() {
            output::line(format!("  tags: {}", pulled.tags.join(", ")));
        }
        if pulled.model != pulled.original {
            output::line(format!("  it is called {} there; that number is another version here", pulled.original));
        }
    })?;
    Ok(true)
}

pub async fn tags(wiring: &Wiring, repository: &str) -> anyhow::Result<bool> {
    let repository = Repository::parse(RepositoryKind::Model, repository)?;
    let tags = client(wiring)?.tags(&repository).await?;
    output::result(wiring.json, &tags, |tags| {
        output::table(&["tag", "commit"], tags.iter().map(|(tag, commit)| vec![tag.clone(), commit.clone()]));
    })?;
    Ok(true)
}
