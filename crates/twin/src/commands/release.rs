//! `twin release`: what serves, and how it came to.

use anyhow::Context;
use twin_domain::{AuthorId, ModelRegistry, ModelVersionId};

use crate::args::ReleaseCommand;
use crate::output;
use crate::wiring::Wiring;

pub fn run(wiring: &Wiring, command: ReleaseCommand) -> anyhow::Result<bool> {
    match command {
        ReleaseCommand::Status { author } => status(wiring, author),
        ReleaseCommand::Promote { model, reason } => promote(wiring, &model, &reason),
        ReleaseCommand::Rollback { author, reason } => rollback(wiring, &author, &reason),
        ReleaseCommand::History { author } => history(wiring, &author),
    }
}

fn status(wiring: &Wiring, author: Option<AuthorId>) -> anyhow::Result<bool> {
    let registry = wiring.registry()?;
    let mut serving = Vec::new();
    for author in wiring.authors(author)? {
        serving.extend(registry.serving(&author)?);
    }
    output::result(wiring.json, &serving, |serving| {
        let rows = serving.iter().map(|release| {
            vec![
                release.author.to_string(),
                release.number.to_string(),
                release.model.to_string(),
                release.feature_view.to_string(),
                release.prompt.to_string(),
            ]
        });
        output::table(&["author", "release", "model", "features", "prompt"], rows);
    })?;
    Ok(true)
}

fn promote(wiring: &Wiring, model: &ModelVersionId, reason: &str) -> anyhow::Result<bool> {
    let registry = wiring.registry()?;
    let version = registry.version(model)?;
    let release = registry.create_release(model, &version.feature_view, &version.prompt)?;
    registry.promote(&model.author, release.number, reason)?;
    output::line(format!("release {} of {} serves: {model}", release.number, model.author));
    Ok(true)
}

fn rollback(wiring: &Wiring, author: &AuthorId, reason: &str) -> anyhow::Result<bool> {
    let registry = wiring.registry()?;
    let history = registry.history(author)?;
    let serving = history.last().with_context(|| format!("no release of `{author}` was ever promoted"))?.release;
    let before = history.iter().rev().map(|promotion| promotion.release).find(|number| *number != serving);
    let before = before.with_context(|| format!("release {serving} is the only one of `{author}` that ever served"))?;
    registry.promote(author, before, reason)?;
    output::line(format!("release {before} of {author} serves again, in place of {serving}"));
    Ok(true)
}

fn history(wiring: &Wiring, author: &AuthorId) -> anyhow::Result<bool> {
    let history = wiring.registry()?.history(author)?;
    output::result(wiring.json, &history, |history| {
        let rows = history.iter().map(|promotion| {
            let at = promotion.at.strftime("%Y-%m-%d %H:%M:%S").to_string();
            vec![at, promotion.release.to_string(), promotion.reason.clone()]
        });
        output::table(&["when (UTC)", "release", "why"], rows);
    })?;
    Ok(true)
}
