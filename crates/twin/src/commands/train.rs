//! `twin train`: training set, run, evaluation, registration, release.

use std::sync::Arc;

use twin_domain::{Author, AuthorId, Change, ModelRegistry, ModelVersion, Occasion, Release, TrainingSet};
use twin_training_pipeline::evaluate::{EvaluationConfig, EvaluationReport, table};
use twin_training_pipeline::registration::{read_evaluation, register, write_evaluation};
use twin_training_pipeline::run::{FinishedRun, TrainingConfig, train};

use crate::args::TrainArguments;
use crate::config::TrainingSettings;
use crate::output;
use crate::wiring::{Wiring, blocking};

use super::dataset;
use super::evaluation::{Subject, prepared};
use super::release::gate;

pub async fn run(wiring: &Wiring, arguments: TrainArguments) -> anyhow::Result<bool> {
    let mut config = training_config(&wiring.config.training);
    config.max_steps = arguments.steps.unwrap_or(config.max_steps);
    config.rank = arguments.rank.unwrap_or(config.rank);
    config.learning_rate = arguments.learning_rate.unwrap_or(config.learning_rate);
    config.seed = arguments.seed.unwrap_or(config.seed);
    let made = make(wiring, &arguments.author, &config, &EvaluationConfig::default()).await?;
    if wiring.json {
        output::line(serde_json::to_string_pretty(&made.version)?);
    } else {
        print(&made);
    }
    if arguments.no_promote {
        return Ok(true);
    }
    match promote(wiring, &made)? {
        Some(release) => {
            output::remark(format!("release {} of {} serves {}", release.number, release.author, release.model))
        }
        None => output::remark(format!(
            "{} does not predict the author's new posts better than the base does, or does not pass the gate, so nothing was \
             promoted; `twin release promote {} --force` does it all the same",
            made.version.id, made.version.id
        )),
    }
    Ok(made.evaluation.helps())
}

/// A model version with all it came from.
pub struct Made {
    pub set: TrainingSet,
    pub run: FinishedRun,
    pub evaluation: EvaluationReport,
    pub version: ModelVersion,
}

/// The settings as the training pipeline takes them.
pub fn training_config(settings: &TrainingSettings) -> TrainingConfig {
    TrainingConfig {
        rank: settings.rank,
        alpha: settings.alpha,
        dropout: settings.dropout,
        target_modules: settings.target_modules.clone(),
        learning_rate: settings.learning_rate,
        epochs: settings.epochs,
        max_steps: settings.max_steps,
        seed: settings.seed,
        ..TrainingConfig::default()
    }
}

/// Makes a model version of everything that is known of an author. What was done before is recognised.
pub async fn make(
    wiring: &Wiring,
    author: &AuthorId,
    config: &TrainingConfig,
    measured: &EvaluationConfig,
) -> anyhow::Result<Made> {
    let author = wiring.store().await?.author(author)?;
    let (set, examples) = dataset::make(wiring, &author.id).await?;
    if !wiring.json {
        dataset::print(&set);
    }
    let model = wiring.language_model().await?;
    let base = wiring.models.base_model(&wiring.config.models.base)?;
    let (progress, cancel, runs) = (Arc::clone(&wiring.progress), wiring.cancel.clone(), wiring.config.runs());
    let (config, of_set, trained) = (config.clone(), set.clone(), Arc::clone(&model));
    let run = blocking(move || train(&trained, &base, &of_set, &examples, &config, &runs, progress.as_ref(), &cancel));
    let run = run.await?;
    let evaluation = evaluation(wiring, &run, &set, &author, measured).await?;
    let registry = wiring.registry()?;
    let version = register(&*registry, &run, &evaluation, &set, &author, env!("CARGO_PKG_VERSION"))?;
    Ok(Made { set, run, evaluation, version })
}

async fn evaluation(
    wiring: &Wiring,
    run: &FinishedRun,
    set: &TrainingSet,
    author: &Author,
    config: &EvaluationConfig,
) -> anyhow::Result<EvaluationReport> {
    let directory = run.artefacts();
    if let Some(known) = read_evaluation(&directory).filter(|known| known.config == *config) {
        return Ok(known);
    }
    let subject = Subject { adapter: directory.clone(), author: author.clone(), set: set.clone(), also: Vec::new() };
    prepared(wiring, subject, config.clone(), move |prepared, progress, cancel| {
        let report = prepared.run(None, progress, cancel)?;
        write_evaluation(&directory, &report)?;
        Ok(report)
    })
    .await
}

/// Lets a version serve if it helps and passes the gate. `None` when it does not.
pub fn promote(wiring: &Wiring, made: &Made) -> anyhow::Result<Option<Release>> {
    if !made.evaluation.helps() {
        return Ok(None);
    }
    let registry = wiring.registry()?;
    let version = &made.version;
    let asked = gate::ask(wiring, &version.id, None)?;
    let Some(gate) = gate::record(asked.as_ref(), false) else {
        asked.iter().for_each(|(report, _)| gate::print(report));
        return Ok(None);
    };
    let release = registry.create_release(&version.id, &version.feature_view, &version.prompt)?;
    let gain = made.evaluation.author.gain();
    let occasion = Occasion::new("twin train", format!("gains {gain:.3} bits per byte on held-out posts"));
    let change = Change::Promote { release: release.number, gate };
    registry.change(&version.id.author, &change, &occasion)?;
    Ok(Some(release))
}

/// What was made, for people.
pub fn print(made: &Made) {
    let report = &made.run.report;
    let seconds = report.seconds.max(1e-9);
    output::line(format!(
        "model {} <- training set {} <- features {}",
        made.version.id, made.set.id, made.set.feature_view
    ));
    output::line(format!(
        "  trained {} steps, {} tokens ({} of them the author's) in {seconds:.0} s, {:.0} tokens/s; calibration loss {:.3} -> {:.3} at step {}",
        report.steps,
        report.tokens,
        report.target_tokens,
        report.tokens as f64 / seconds,
        report.calibration_loss_before,
        report.calibration_loss,
        report.best_step
    ));
    table::predictions(&made.evaluation).iter().for_each(|line| output::line(format!("  {line}")));
    output::table(&table::HEADER, table::rows(&made.evaluation).into_iter().map(Vec::from));
}
