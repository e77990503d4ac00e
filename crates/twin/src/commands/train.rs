//! `twin train`: training set, run, evaluation, registration, release.

use std::sync::Arc;

use anyhow::Context;
use twin_domain::{
    Author, AuthorId, Change, Example, ModelRegistry, ModelVersion, ModelVersionId, Occasion, Release, Split,
    TrainingSet, TrainingSetId,
};
use twin_models::language::{Adapter, LanguageModel, Llama};
use twin_training_pipeline::evaluate::{EvaluationConfig, EvaluationReport, table};
use twin_training_pipeline::registration::{read_evaluation, register, write_evaluation};
use twin_training_pipeline::run::{
    FinishedRun, Job, Material, Method, Pair, Parent, PreferenceConfig, PreferenceReport, Preset, RunManifest, Start,
    TrainingConfig, TrainingOptions, run as find, runs, train,
};

use crate::args::TrainArguments;
use crate::output;
use crate::wiring::{Wiring, blocking};

use super::dataset;
use super::evaluation::{Subject, prepared};
use super::release::gate;

pub async fn run(wiring: &Wiring, arguments: TrainArguments) -> anyhow::Result<bool> {
    let (author, lesson) = match &arguments.resume {
        Some(name) => unfinished(wiring, name)?,
        None => {
            let author = arguments.author.clone().context("`--author` says whose voice it is")?;
            let lesson = lesson(wiring, &author, &arguments)?;
            (author, lesson)
        }
    };
    let made = make(wiring, &author, &lesson, &EvaluationConfig::default()).await?;
    if wiring.json {
        output::line(serde_json::to_string_pretty(&made.version)?);
    } else {
        print(&made);
    }
    if arguments.no_promote {
        return Ok(true);
    }
    match promote(wiring, &made).await? {
        Some(release) => {
            output::remark(format!("release {} of {} serves {}", release.number, release.author, release.model))
        }
        None => output::remark(format!(
            "{} does not predict the author's new posts better than the base does, or clearly worse than the version it came \
             from does, or does not pass the gate, so nothing was promoted; `twin release promote {} --force` does it all \
             the same",
            made.version.id, made.version.id
        )),
    }
    Ok(made.helps())
}

/// What is to be learnt, and how.
pub struct Lesson {
    pub method: Method,
    pub settings: Settings,
    /// The version to go on from.
    pub from: Option<ModelVersionId>,
    /// The training set; what is known of the author now, or what the version to go on from was made of, when `None`.
    pub set: Option<TrainingSetId>,
    pub preference: PreferenceConfig,
    /// Pairs that people made.
    pub edits: Vec<Pair>,
}

/// What a run is told.
pub enum Settings {
    /// A preset with what is said besides.
    Options(Box<TrainingOptions>),
    /// As an earlier run was told.
    Exactly(Box<TrainingConfig>),
}

impl Lesson {
    /// Supervised fine-tuning of a fresh adapter.
    pub fn new(options: TrainingOptions) -> Self {
        let (preference, edits) = (PreferenceConfig::default(), Vec::new());
        Self {
            method: Method::Sft,
            settings: Settings::Options(Box::new(options)),
            from: None,
            set: None,
            preference,
            edits,
        }
    }

    /// The configuration for these examples.
    fn config(&self, model: &Llama, examples: &[Example]) -> TrainingConfig {
        let options = match &self.settings {
            Settings::Exactly(config) => return (**config).clone(),
            Settings::Options(options) => options,
        };
        let learnt = examples.iter().filter(|example| example.split == Split::Train);
        let config = options.config(learnt.map(|example| model.count_tokens(&example.target)).sum());
        if self.method != Method::Dpo {
            return config;
        }
        // What was said stands; the rest is as preferences want it.
        let wanted = PreferenceConfig::training(config.clone());
        TrainingConfig {
            learning_rate: options.learning_rate.unwrap_or(wanted.learning_rate),
            dropout: options.dropout.unwrap_or(wanted.dropout),
            batch_tokens: options.batch_tokens.unwrap_or(wanted.batch_tokens),
            validate_every: options.validate_every.unwrap_or(wanted.validate_every),
            epochs: options.epochs.unwrap_or(wanted.epochs),
            ..config
        }
    }
}

fn lesson(wiring: &Wiring, author: &AuthorId, arguments: &TrainArguments) -> anyhow::Result<Lesson> {
    let method = Method::from(arguments.method);
    let flags = TrainingOptions {
        preset: arguments.preset.map(Preset::from),
        max_steps: arguments.steps,
        rank: arguments.rank,
        learning_rate: arguments.learning_rate,
        seed: arguments.seed,
        ..TrainingOptions::default()
    };
    let mut options = wiring.config.training.overlaid(&flags);
    for pair in &arguments.set {
        options = options.with(pair)?;
    }
    let from = match (&arguments.from, method) {
        (Some(from), _) => Some(from.clone()),
        (None, Method::Dpo) => usual_start(wiring, author)?,
        (None, Method::Sft | Method::Pretrain | Method::Imported) => None,
    };
    let of_another = from.as_ref().filter(|from| from.author != *author);
    anyhow::ensure!(of_another.is_none(), "`--from` names another author's version: go on from one of {author}");
    let given = PreferenceConfig::default();
    let preference = PreferenceConfig {
        pairs: arguments.pairs.unwrap_or(given.pairs),
        beta: arguments.beta.unwrap_or(given.beta),
        answered_by: arguments.answers_of.into(),
        ..given
    };
    anyhow::ensure!(preference.pairs > 0, "`--pairs` is 0: DPO needs at least one pair");
    anyhow::ensure!(preference.beta > 0.0 && preference.beta.is_finite(), "`--beta` must be a positive number");
    let edits = arguments.preferences.as_deref().map(Pair::read).transpose()?.unwrap_or_default();
    Ok(Lesson { from, preference, edits, method, ..Lesson::new(options) })
}

/// What a run that did not end was told.
fn unfinished(wiring: &Wiring, name: &str) -> anyhow::Result<(AuthorId, Lesson)> {
    let directory = wiring.config.runs();
    let summary = match name {
        "" => runs(&directory)?.into_iter().find(|run| run.report.is_none() && run.manifest.is_some()),
        name => Some(find(&directory, name)?),
    };
    let summary = summary.context("every run has ended: there is none to go on with; `twin runs list` shows them")?;
    let RunManifest { author, training_set, method, parent, config, preference, edits, .. } = summary
        .manifest
        .with_context(|| format!("{} kept nothing of what it was told: start it anew", summary.name))?;
    output::remark(format!("going on with {} of {author} after step {}", summary.name, summary.steps));
    let lesson = Lesson {
        method,
        settings: Settings::Exactly(Box::new(config)),
        from: parent.map(|parent| parent.id),
        set: Some(training_set),
        preference: preference.unwrap_or_default(),
        edits,
    };
    Ok((author, lesson))
}

/// The version that serves, else the newest; `None` when the author has none.
fn usual_start(wiring: &Wiring, author: &AuthorId) -> anyhow::Result<Option<ModelVersionId>> {
    let registry = wiring.registry()?;
    if let Some(release) = registry.serving(author)? {
        return Ok(Some(release.model));
    }
    Ok(registry.versions(author)?.pop().map(|version| version.id))
}

/// A model version with all it came from.
pub struct Made {
    pub set: TrainingSet,
    pub run: FinishedRun,
    pub evaluation: EvaluationReport,
    pub version: ModelVersion,
    /// Bits per byte on the same documents of the version that this one came from.
    pub bits_of_parent: Option<f64>,
}

/// A version may predict the author's posts by this factor worse than the one it came from.
const BITS_LIMIT: f64 = 1.02;

impl Made {
    /// Whether the version may serve: it helps against the base, and costs little against the version it came from.
    pub fn helps(&self) -> bool {
        let worse = self.bits_of_parent.is_some_and(|parent| self.evaluation.author.twin > parent * BITS_LIMIT);
        self.evaluation.helps() && !worse
    }
}

/// Makes a model version of everything that is known of an author, or of what the version that it goes on from was made of.
/// What was done before is recognised.
pub async fn make(
    wiring: &Wiring,
    author: &AuthorId,
    lesson: &Lesson,
    measured: &EvaluationConfig,
) -> anyhow::Result<Made> {
    let author = wiring.store().await?.author(author)?;
    let parent = lesson.from.as_ref().map(|from| wiring.registry()?.version(from).map_err(anyhow::Error::from));
    let parent = parent.transpose()?;
    // Of a parent its own split: what it learnt from must not become test documents.
    let known = lesson.set.as_ref().or(parent.as_ref().map(|parent| &parent.training_set));
    let (set, examples) = match known {
        Some(set) => {
            let store = wiring.store().await?;
            (store.training_set(set)?, store.examples(set)?)
        }
        None => dataset::make(wiring, &author.id).await?,
    };
    if !wiring.json {
        dataset::print(&set);
    }
    let run = trained(wiring, lesson, &set, examples, parent.as_ref()).await?;
    let evaluation = evaluation(wiring, &run, &set, &author, measured).await?;
    let registry = wiring.registry()?;
    let version = register(&*registry, &run, &evaluation, &set, &author, env!("CARGO_PKG_VERSION"))?;
    let bits_of_parent = parent.and_then(|parent| parent.metrics.get("bits_per_byte.author.twin").copied());
    Ok(Made { set, run, evaluation, version, bits_of_parent })
}

async fn trained(
    wiring: &Wiring,
    lesson: &Lesson,
    set: &TrainingSet,
    examples: Vec<Example>,
    parent: Option<&ModelVersion>,
) -> anyhow::Result<FinishedRun> {
    let model = wiring.language_model().await?;
    let base = wiring.models.base_model(&wiring.config.models.base)?;
    if let Some(parent) = parent {
        anyhow::ensure!(
            parent.base.digest == base.digest,
            "{} was made for `{}`, and the base that is configured is `{}`: set `models.base`",
            parent.id,
            parent.base.name,
            base.name
        );
    }
    let directory =
        parent.map(|parent| wiring.registry()?.open(&parent.id).map_err(anyhow::Error::from)).transpose()?;
    let posts = match lesson.method {
        Method::Pretrain => wiring.store().await?.documents(&set.feature_view, &set.author)?,
        Method::Sft | Method::Dpo | Method::Imported => Vec::new(),
    };
    let (progress, cancel, runs) = (Arc::clone(&wiring.progress), wiring.cancel.clone(), wiring.config.runs());
    let parent = parent.map(|parent| Parent { id: parent.id.clone(), content: parent.content.clone() });
    let config = lesson.config(&model, &examples);
    let (set, preference) = (set.clone(), lesson.preference.clone());
    let (method, edits) = (lesson.method, lesson.edits.clone());
    blocking(move || -> anyhow::Result<FinishedRun> {
        let start = match parent.zip(directory) {
            Some((parent, files)) => Some(Start { parent, adapter: Arc::new(Adapter::load(&files, &model)?) }),
            None => None,
        };
        let material = match method {
            // What was trained elsewhere has no run to go on with; its examples are those of its set.
            Method::Sft | Method::Imported => Material::Examples(&examples),
            Method::Pretrain => Material::Posts(&posts),
            Method::Dpo => Material::Preferences { examples: &examples, edits: &edits, config: &preference },
        };
        let job = Job { model: &model, base: &base, set: &set, config: &config, start: start.as_ref(), runs: &runs };
        Ok(train(&job, &material, progress.as_ref(), &cancel)?)
    })
    .await
}

/// The evaluation of a run, made if it was not yet.
pub async fn evaluation(
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
    let subject = Subject {
        adapter: directory.clone(),
        author: author.clone(),
        set: set.clone(),
        also: Vec::new(),
        unfinished: run.directory.join("evaluation.unfinished.jsonl"),
    };
    let unfinished = subject.unfinished.clone();
    prepared(wiring, subject, config.clone(), move |prepared, progress, cancel| {
        let report = prepared.run(None, progress, cancel)?;
        write_evaluation(&directory, &report)?;
        fs_err::remove_file(unfinished)?;
        Ok(report)
    })
    .await
}

/// Lets a version serve if it helps and passes the gate. `None` when it does not.
pub async fn promote(wiring: &Wiring, made: &Made) -> anyhow::Result<Option<Release>> {
    if !made.helps() {
        return Ok(None);
    }
    let registry = wiring.registry()?;
    let version = &made.version;
    let asked = gate::ask(wiring, &version.id, &version.feature_view, None).await?;
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
    if report.best_step == 0 {
        output::remark(format!(
            "no step was better than the beginning, so that this version changes nothing: try a lower learning rate than {} (usual: \
             {}), or bring more posts",
            report.config.learning_rate,
            TrainingConfig::default().learning_rate
        ));
    }
    if let Some(parent) = &report.parent {
        let bits = made.bits_of_parent.map_or_else(String::new, |before| {
            let after = made.evaluation.author.twin;
            format!("; bits per byte {before:.4} -> {after:.4} ({:+.2}%)", (after / before - 1.0) * 100.0)
        });
        output::line(format!("  by {} from {}{bits}", report.method.as_str(), parent.id));
    }
    if let Some(PreferenceReport { train_pairs, held_out_pairs, before, after, .. }) = &report.preference {
        output::line(format!(
            "  {train_pairs} pairs; on {held_out_pairs} held-out pairs the margin went from {:.3} to {:.3}, preferred {:.0}% -> \
             {:.0}%, nats a token {:.3} -> {:.3}",
            before.margin,
            after.margin,
            before.accuracy * 100.0,
            after.accuracy * 100.0,
            before.chosen_nll,
            after.chosen_nll
        ));
    }
    table::predictions(&made.evaluation).iter().for_each(|line| output::line(format!("  {line}")));
    output::table(&table::HEADER, table::rows(&made.evaluation).into_iter().map(Vec::from));
}
