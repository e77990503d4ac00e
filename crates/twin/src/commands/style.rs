//! `twin style`: how a text is written, whether it reads like an author, and the people it is compared with.

use std::path::PathBuf;

use twin_domain::AuthorId;
use twin_domain::feature_store::StoredDocument;
use twin_style::profile::{Departure, StyleProfile, departures};

use crate::args::StyleCommand;
use crate::output;
use crate::wiring::Wiring;

mod measure;
pub(super) mod population;

pub async fn run(wiring: &Wiring, command: StyleCommand) -> anyhow::Result<bool> {
    match command {
        StyleCommand::Profile { file, author } => profile(wiring, file, author).await,
        StyleCommand::Measure { files, author, others } => measure::run(wiring, &files, &author, &others).await,
        StyleCommand::Population { command } => population::run(wiring, command),
    }
}

/// An author's documents, oldest first.
pub(super) async fn documents(wiring: &Wiring, author: &AuthorId) -> anyhow::Result<Vec<StoredDocument>> {
    let (store, view) = (wiring.store().await?, wiring.view().await?);
    let documents = store.documents(&view, &store.author(author)?.id)?;
    if documents.is_empty() {
        anyhow::bail!("there are no posts of `{author}`: collect some with `twin ingest`");
    }
    Ok(documents)
}

async fn profile(wiring: &Wiring, file: Option<PathBuf>, author: Option<AuthorId>) -> anyhow::Result<bool> {
    let text = file.map(fs_err::read_to_string).transpose()?;
    let posts = match &author {
        Some(author) => documents(wiring, author).await?,
        None => Vec::new(),
    };
    match text {
        Some(text) if !posts.is_empty() => {
            let own: Vec<StyleProfile> = posts.iter().map(|post| StyleProfile::of(&post.document.text)).collect();
            output::result(wiring.json, &departures(&own, &StyleProfile::of(&text)), |found| print_departures(found))?;
        }
        text => {
            let joined = posts.iter().map(|post| post.document.text.as_str()).collect::<Vec<_>>().join("\n\n");
            let profile = StyleProfile::of(&text.unwrap_or(joined));
            output::result(wiring.json, &profile, |profile| profile.description().iter().for_each(output::line))?;
        }
    }
    Ok(true)
}

fn print_departures(found: &[Departure]) {
    if found.is_empty() {
        output::line("nothing lies outside the range of the author's posts");
    }
    for departure in found {
        let (low, high) = departure.range;
        output::line(format!("{}: {:.1}, the author {low:.1} to {high:.1}", departure.feature, departure.value));
    }
}
