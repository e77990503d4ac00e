//! `twin registry push|pull|remote`: versions on the Hugging Face Hub.

use twin_domain::ModelRegistry;
use twin_model_registry::hub::{HubClient, HubOptions, PushOptions, Pushed, Repository, RepositoryKind};

use crate::args::PushArguments;
use crate::output;
use crate::wiring::Wiring;

/// The Hub, unless `models.hub_endpoint` or HF_ENDPOINT names another one.
const HUB: &str = "https://huggingface.co";

fn client(wiring: &Wiring) -> anyhow::Result<HubClient> {
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
        let dataset = Repository::parse(RepositoryKind::Dataset, dataset)?;
        let set = registry.version(&arguments.model)?.training_set;
        // So that what is pushed is what was stored, and not a set that was forgotten.
        wiring.store().await?.examples(&set)?;
        let directory = wiring.config.training_sets().join(set.as_str());
        pushed.push(client.push_directory(&directory, &dataset, set.as_str(), set.as_str(), private).await?);
    }
    let options = PushOptions { private, license: arguments.license.clone(), dataset: arguments.dataset.clone() };
    pushed.push(client.push(&registry, &arguments.model, &repository, &options).await?);
    output::result(wiring.json, &pushed, |pushed| {
        for Pushed { repository, tag, commit, sent } in pushed {
            let what =
                if sent.is_empty() { "was there already".to_owned() } else { format!("{} files sent", sent.len()) };
            output::line(format!("{repository} {tag} (commit {}): {what}", commit.get(..12).unwrap_or(commit)));
        }
    })?;
    Ok(true)
}

pub async fn pull(wiring: &Wiring, repository: &str, revision: &str) -> anyhow::Result<bool> {
    let (client, registry) = (client(wiring)?, wiring.registry()?);
    let repository = Repository::parse(RepositoryKind::Model, repository)?;
    let pulled = client.pull(&registry, &repository, revision).await?;
    output::result(wiring.json, &pulled, |pulled| {
        output::line(format!("{} is {repository} at {revision}", pulled.model));
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
