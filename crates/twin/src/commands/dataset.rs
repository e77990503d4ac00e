//! `twin dataset`: training sets.

use twin_domain::{AuthorId, Example, FeatureStore, TrainingSet, TrainingSetStore};
use twin_models::language::LanguageModel;
use twin_models::prompt::PromptSet;
use twin_training_pipeline::dataset::{DatasetConfig, build};

use crate::args::DatasetCommand;
use crate::output;
use crate::wiring::Wiring;

pub async fn run(wiring: &Wiring, command: DatasetCommand) -> anyhow::Result<bool> {
    match command {
        DatasetCommand::Build { author } => {
            let (set, _) = make(wiring, &author).await?;
            output::result(wiring.json, &set, print)?;
        }
        DatasetCommand::List { author } => {
            let sets = wiring.store().await?.training_sets(&author)?;
            output::result(wiring.json, &sets, |sets| sets.iter().for_each(print))?;
        }
    }
    Ok(true)
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
