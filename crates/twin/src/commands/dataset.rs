//! `twin dataset`: training sets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use twin_domain::{Author, AuthorId, Example, StoreError, TrainingSet, TrainingSetId};
use twin_feature_store::{ExportFormat, export};
use twin_model_registry::hub::{HubClient, Pushed, Repository, RepositoryKind};
use twin_models::language::LanguageModel;
use twin_models::prompt::PromptSet;
use twin_training_pipeline::dataset::{DatasetConfig, build};

use super::registry::hub;
use crate::args::{DatasetCommand, ExportArguments, ExportForm, PushSetArguments};
use crate::output;
use crate::wiring::Wiring;

pub async fn run(wiring: &Wiring, command: DatasetCommand) -> anyhow::Result<bool> {
    match command {
        DatasetCommand::Build { author } => {
            let (set, _) = make(wiring, &author).await?;
            output::result(wiring.json, &set, print)?;
        }
        DatasetCommand::List { author } => list(wiring, author).await?,
        DatasetCommand::Show { set } => show(wiring, &set).await?,
        DatasetCommand::Stats { set } => stats(wiring, &set).await?,
        DatasetCommand::Export(arguments) => write(wiring, arguments).await?,
        DatasetCommand::Push(arguments) => push(wiring, &arguments).await?,
    }
    Ok(true)
}

async fn list(wiring: &Wiring, author: Option<AuthorId>) -> anyhow::Result<()> {
    let store = wiring.store().await?;
    let authors = match author {
        Some(author) => vec![author],
        None => store.authors()?.into_iter().map(|author| author.id).collect(),
    };
    let mut sets = Vec::new();
    for author in authors {
        sets.extend(store.training_sets(&author)?);
    }
    sets.sort_by_key(|set| std::cmp::Reverse(set.created_at));
    output::result(wiring.json, &sets, |sets| {
        let rows = sets.iter().map(|set| {
            vec![
                set.id.to_string(),
                set.author.to_string(),
                set.counts.values().sum::<usize>().to_string(),
                set.documents.len().to_string(),
                set.recipe.clone(),
                set.feature_view.to_string(),
                set.created_at.strftime("%Y-%m-%d %H:%M").to_string(),
            ]
        });
        output::table(&["set", "author", "examples", "posts", "recipe", "features", "made (UTC)"], rows);
    })
}

async fn show(wiring: &Wiring, set: &TrainingSetId) -> anyhow::Result<()> {
    let set = wiring.store().await?.training_set(set)?;
    output::result(wiring.json, &set, |set| {
        print(set);
        output::line(format!("  author {}, recipe {}, prompts {}", set.author, set.recipe, set.prompt));
        output::line(format!("  content {}, made {}", set.content, set.created_at.strftime("%Y-%m-%d %H:%M:%S UTC")));
        for document in &set.documents {
            output::line(format!("  {:<11} {}", document.split.as_str(), document.url));
        }
    })
}

/// How much of what there is in a part of a set.
#[derive(Debug, Default, Serialize)]
struct Size {
    examples: usize,
    words: usize,
    /// Words that are not the author's: quotations and code, which are out of the loss.
    words_not_voice: usize,
    /// Targets that break off, whose end is not learnt.
    incomplete: usize,
    /// Words of the middle target, of one that 95 of 100 are no longer than, and of the longest.
    median_words: usize,
    p95_words: usize,
    most_words: usize,
}

async fn stats(wiring: &Wiring, set: &TrainingSetId) -> anyhow::Result<()> {
    let examples = wiring.store().await?.examples(set)?;
    let mut parts: BTreeMap<String, Vec<&Example>> = BTreeMap::new();
    for example in &examples {
        let (split, task) = (example.split.as_str(), example.task.as_str());
        parts.entry(split.to_owned()).or_default().push(example);
        parts.entry(format!("{split}/{task}")).or_default().push(example);
    }
    let sizes: BTreeMap<String, Size> = parts.into_iter().map(|(name, examples)| (name, size(&examples))).collect();
    output::result(wiring.json, &sizes, |sizes| {
        let rows = sizes.iter().map(|(name, size)| {
            let numbers = [
                size.examples,
                size.words,
                size.words_not_voice,
                size.incomplete,
                size.median_words,
                size.p95_words,
                size.most_words,
            ];
            std::iter::once(name.clone()).chain(numbers.map(|number| number.to_string())).collect()
        });
        let header = ["", "examples", "words", "not voice", "break off", "median", "p95", "longest"];
        output::table(&header, rows);
    })
}

fn size(examples: &[&Example]) -> Size {
    let words = |text: &str| text.split_whitespace().count();
    let mut lengths: Vec<usize> = examples.iter().map(|example| words(&example.target)).collect();
    lengths.sort_unstable();
    let at = |share: f64| lengths.get(((lengths.len().saturating_sub(1)) as f64 * share) as usize).copied();
    let not_voice = |example: &Example| -> usize {
        example.not_voice.iter().filter_map(|range| example.target.get(range.clone())).map(words).sum()
    };
    Size {
        examples: examples.len(),
        words: lengths.iter().sum(),
        words_not_voice: examples.iter().map(|example| not_voice(example)).sum(),
        incomplete: examples.iter().filter(|example| !example.complete).count(),
        median_words: at(0.5).unwrap_or(0),
        p95_words: at(0.95).unwrap_or(0),
        most_words: at(1.0).unwrap_or(0),
    }
}

async fn write(wiring: &Wiring, arguments: ExportArguments) -> anyhow::Result<()> {
    let files = write_to(wiring, &arguments.set, arguments.format, &arguments.out).await?;
    output::result(wiring.json, &files, |files| {
        files.iter().for_each(|file| output::line(file.display().to_string()));
    })
}

async fn write_to(
    wiring: &Wiring,
    set: &TrainingSetId,
    format: ExportForm,
    directory: &Path,
) -> anyhow::Result<Vec<PathBuf>> {
    let store = wiring.store().await?;
    let (set, examples) = (store.training_set(set)?, store.examples(set)?);
    let author = match store.author(&set.author) {
        Err(StoreError::NotFound { .. }) => Author::new(set.author.clone()),
        author => author?,
    };
    let format = match format {
        ExportForm::Parquet => ExportFormat::Parquet,
        ExportForm::Jsonl => ExportFormat::Jsonl,
    };
    Ok(export(&set, &examples, &author, format, directory)?)
}

async fn push(wiring: &Wiring, arguments: &PushSetArguments) -> anyhow::Result<()> {
    let client = hub::client(wiring)?;
    let pushed = push_to(wiring, &client, arguments).await?;
    output::result(wiring.json, &pushed, |pushed| output::line(hub::line(pushed)))
}

/// Sends what an export of the set writes, as a commit that the set's name tags.
pub async fn push_to(wiring: &Wiring, client: &HubClient, arguments: &PushSetArguments) -> anyhow::Result<Pushed> {
    let PushSetArguments { set, repository, public, format } = arguments;
    let repository = Repository::parse(RepositoryKind::Dataset, repository)?;
    let place = tempfile::tempdir()?;
    write_to(wiring, set, *format, place.path()).await?;
    Ok(client.push_directory(place.path(), &repository, set.as_str(), set.as_str(), !public).await?)
}

/// Makes an author's training set, or finds the one there is.
pub async fn make(wiring: &Wiring, author: &AuthorId) -> anyhow::Result<(TrainingSet, Vec<Example>)> {
    let (store, model, view) = (wiring.store().await?, wiring.language_model().await?, wiring.view().await?);
    let author = store.author(author)?;
    let count = |text: &str| model.count_tokens(text);
    let made = tokio::task::block_in_place(|| {
        build(&*store, &view, &author, &PromptSet::builtin()?, &DatasetConfig::default(), &count)
            .map_err(anyhow::Error::from)
    })?;
    Ok(made)
}

/// A set in two lines.
pub fn print(set: &TrainingSet) {
    let documents = |split| set.documents_in(split).count();
    use twin_domain::Split::{Calibration, Test, Train};
    output::line(format!(
        "{}: {} documents to train on, {} to calibrate, {} to test <- {}",
        set.id,
        documents(Train),
        documents(Calibration),
        documents(Test),
        set.feature_view
    ));
    let counts: Vec<String> = set.counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    output::line(format!("  examples: {}", counts.join(", ")));
}
