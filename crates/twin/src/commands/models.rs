//! `twin models`: the catalogue and what of it is here.

use std::sync::Arc;

use serde_json::json;
use twin_models::cache::{EntryStatus, FileState};
use twin_models::{ModelError, catalogue};

use crate::args::ModelsCommand;
use crate::output;
use crate::wiring::{Wiring, blocking};

mod export;

pub async fn run(wiring: &Wiring, command: ModelsCommand) -> anyhow::Result<bool> {
    match command {
        ModelsCommand::List => list(wiring)?,
        ModelsCommand::Pull { name } => pull(wiring, name).await?,
        ModelsCommand::Import { name, file } => import(wiring, name, file).await?,
        ModelsCommand::Export(arguments) => export::run(wiring, arguments).await?,
        ModelsCommand::Path { name } => {
            let entry = catalogue::entry(&name).ok_or_else(|| ModelError::unknown(&name))?;
            output::line(wiring.models.cache().path(entry)?.display().to_string());
        }
    }
    Ok(true)
}

fn list(wiring: &Wiring) -> anyhow::Result<()> {
    let statuses = wiring.models.cache().statuses();
    let rows: Vec<_> = statuses.iter().map(|status| (status, state(status))).collect();
    let as_json: Vec<_> = rows
        .iter()
        .map(|(EntryStatus { entry, .. }, state)| {
            let (name, size_bytes) = (entry.name, entry.size_bytes());
            json!({ "name": name, "state": state, "size_bytes": size_bytes, "licence": entry.licence, "purpose": entry.purpose })
        })
        .collect();
    output::result(wiring.json, &as_json, |_| {
        let cells = rows.iter().map(|(EntryStatus { entry, .. }, state)| {
            let size = output::bytes(entry.size_bytes());
            vec![entry.name.to_owned(), state.clone(), size, entry.licence.to_owned(), entry.purpose.to_owned()]
        });
        output::table(&["model", "state", "size", "licence", "what for"], cells);
    })
}

fn state(status: &EntryStatus) -> String {
    let damaged = status.files.iter().find_map(|file| match &file.state {
        FileState::Damaged(problem) => Some(format!("damaged: `{}` has {problem}", file.file.name)),
        FileState::Present | FileState::Missing => None,
    });
    match damaged {
        Some(damaged) => damaged,
        None if status.is_present() => "present".to_owned(),
        None if status.files.is_empty() => "no build for this platform".to_owned(),
        None => "missing".to_owned(),
    }
}

async fn pull(wiring: &Wiring, name: Option<String>) -> anyhow::Result<()> {
    let all = || catalogue::entries().iter().map(|entry| entry.name.to_owned()).collect();
    for name in name.map_or_else(all, |name| vec![name]) {
        let (models, progress, cancel) =
            (Arc::clone(&wiring.models), Arc::clone(&wiring.progress), wiring.cancel.clone());
        let pulled = name.clone();
        let path = blocking(move || models.pull(&pulled, progress.as_ref(), &cancel)).await?;
        output::line(format!("{name}: {}", path.display()));
    }
    Ok(())
}

async fn import(wiring: &Wiring, name: String, file: std::path::PathBuf) -> anyhow::Result<()> {
    let (models, progress, cancel) = (Arc::clone(&wiring.models), Arc::clone(&wiring.progress), wiring.cancel.clone());
    let taken = blocking(move || {
        let entry = catalogue::entry(&name).ok_or_else(|| ModelError::unknown(&name))?;
        models.cache().import(entry, &file, progress.as_ref(), &cancel)
    });
    output::line(format!("taken: {}", taken.await?.join(", ")));
    Ok(())
}
