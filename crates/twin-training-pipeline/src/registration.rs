//! From a finished run and its evaluation to a registered model version with a model card.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use fs_err as fs;
use twin_domain::model_registry::Candidate;
use twin_domain::{Author, BaseModel, ModelRegistry, ModelVersion, RegistryError, TrainingSet};
use twin_models::language::{Adapter, AdapterError, LoraConfig};

use crate::durable;
use crate::evaluate::{ArmReport, EvaluationReport};
use crate::run::{FinishedRun, Method, Parent, PreferenceReport, RunReport, TrainingConfig};

/// Why a model could not be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("the files of the model could not be written")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Adapter(#[from] AdapterError),
}

/// Adds the evaluation and a model card to a run's artefacts and registers them. Registering the same run twice gives the
/// same version.
///
/// # Errors
/// When a file cannot be written or the registry refuses.
pub fn register(
    registry: &dyn ModelRegistry,
    run: &FinishedRun,
    evaluation: &EvaluationReport,
    set: &TrainingSet,
    author: &Author,
    code: &str,
) -> Result<ModelVersion, RegisterError> {
    let directory = run.artefacts();
    write_evaluation(&directory, evaluation)?;
    durable::write(&directory.join("README.md"), model_card(run, evaluation, set, author).as_bytes())?;
    let candidate = Candidate {
        author: author.id.clone(),
        base: run.report.base.clone(),
        training_set: set.id.clone(),
        feature_view: set.feature_view.clone(),
        prompt: set.prompt.clone(),
        hyper_parameters: hyper_parameters(&run.report).map_err(io::Error::other)?,
        metrics: metrics(run, evaluation),
        code: code.to_owned(),
    };
    Ok(registry.register(&candidate, &directory)?)
}

/// Lays an adapter that was trained elsewhere out in `directory` as a run that has ended, for [`register`].
///
/// # Errors
/// When a file cannot be written.
pub fn imported(adapter: &Adapter, base: &BaseModel, directory: &Path) -> Result<FinishedRun, RegisterError> {
    let artefacts = directory.join("artefacts");
    fs::create_dir_all(&artefacts)?;
    adapter.save(&artefacts, &base.hub)?;
    let LoraConfig { rank, alpha, dropout, target_modules, .. } = adapter.config().clone();
    let report = RunReport {
        base: base.clone(),
        method: Method::Imported,
        config: TrainingConfig { rank, alpha, dropout, target_modules, ..TrainingConfig::default() },
        ..RunReport::of(base)
    };
    let json = serde_json::to_vec_pretty(&report).map_err(io::Error::other)?;
    durable::write(&artefacts.join("training.json"), &json)?;
    Ok(FinishedRun { report, directory: directory.to_owned(), recognised: false })
}

/// All that a run was told. Plain fine-tuning from nothing has no more than its configuration.
fn hyper_parameters(report: &RunReport) -> serde_json::Result<serde_json::Value> {
    let mut told = match report.method {
        // How it was trained is not known here.
        Method::Imported => {
            let TrainingConfig { rank, alpha, dropout, target_modules, .. } = &report.config;
            serde_json::json!({ "rank": rank, "alpha": alpha, "dropout": dropout, "target_modules": target_modules })
        }
        Method::Sft | Method::Pretrain | Method::Dpo => serde_json::to_value(&report.config)?,
    };
    if let Some(fields) = told.as_object_mut() {
        if report.method != Method::Sft {
            fields.insert("method".to_owned(), report.method.as_str().into());
        }
        if let Some(parent) = &report.parent {
            fields.insert("parent".to_owned(), serde_json::to_value(parent)?);
        }
        if let Some(preference) = &report.preference {
            fields.insert("preference".to_owned(), serde_json::to_value(&preference.config)?);
        }
    }
    Ok(told)
}

/// The version that a version was trained from, if its hyper-parameters name one.
pub fn parent(version: &ModelVersion) -> Option<Parent> {
    serde_json::from_value(version.hyper_parameters.get("parent")?.clone()).ok()
}

/// Keeps an evaluation beside the adapter, so that it need not be made twice.
///
/// # Errors
/// When the file cannot be written.
pub fn write_evaluation(directory: &Path, evaluation: &EvaluationReport) -> io::Result<()> {
    let json = serde_json::to_vec_pretty(evaluation).map_err(io::Error::other)?;
    durable::write(&directory.join("evaluation.json"), &json)
}

/// The evaluation beside an adapter, if there is one that can be read.
pub fn read_evaluation(directory: &Path) -> Option<EvaluationReport> {
    serde_json::from_str(&fs::read_to_string(directory.join("evaluation.json")).ok()?).ok()
}

/// The figures by which versions are compared.
fn metrics(run: &FinishedRun, evaluation: &EvaluationReport) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::from([
        ("training.steps".to_owned(), run.report.steps as f64),
        ("training.calibration_loss".to_owned(), run.report.calibration_loss),
        ("bits_per_byte.author.base".to_owned(), evaluation.author.base),
        ("bits_per_byte.author.twin".to_owned(), evaluation.author.twin),
        ("bits_per_byte.author.gain".to_owned(), evaluation.author.gain()),
        ("bits_per_byte.author.gain.low".to_owned(), evaluation.author.gain_interval.0),
        ("bits_per_byte.author.gain.high".to_owned(), evaluation.author.gain_interval.1),
    ]);
    if let Some(others) = &evaluation.others {
        metrics.insert("bits_per_byte.others.base".to_owned(), others.base);
        metrics.insert("bits_per_byte.others.twin".to_owned(), others.twin);
        metrics.insert("bits_per_byte.others.gain".to_owned(), others.gain());
    }
    if let Some(preference) = &run.report.preference {
        metrics.insert("preference.margin.before".to_owned(), preference.before.margin);
        metrics.insert("preference.margin".to_owned(), preference.after.margin);
        metrics.insert("preference.accuracy".to_owned(), preference.after.accuracy);
        metrics.insert("preference.held_out_pairs".to_owned(), preference.held_out_pairs as f64);
    }
    for ArmReport { arm, style, .. } in &evaluation.arms {
        let arm = serde_json::to_value(arm).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
        metrics.insert(format!("function_words.{arm}"), style.function_words.author);
        metrics.insert(format!("ngrams.{arm}"), style.ngrams.author);
        metrics.insert(format!("copying.{arm}.share"), style.copying.share);
        metrics.insert(format!("copying.{arm}.longest_run"), style.copying.longest_run as f64);
    }
    // A figure that does not exist, such as an interval of one document, is left out: JSON has no word for it.
    metrics.retain(|_, value| value.is_finite());
    metrics
}

fn trained(report: &RunReport) -> String {
    let RunReport { steps, tokens, seconds, config, .. } = report;
    match report.method {
        Method::Imported => "elsewhere".to_owned(),
        Method::Sft | Method::Pretrain | Method::Dpo => {
            format!("{steps} steps, {tokens} tokens, {seconds:.0} s, seed {}", config.seed)
        }
    }
}

/// The model card, in the Hub's layout: YAML metadata, then what a person wants to know.
fn model_card(run: &FinishedRun, evaluation: &EvaluationReport, set: &TrainingSet, author: &Author) -> String {
    let report = &run.report;
    let config = &report.config;
    let mut card = String::new();
    // Names come from people: a JSON text is also a YAML text, and cannot break out of its place.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let _ = write!(
        card,
        "---\nbase_model: {}\nlibrary_name: peft\npipeline_tag: text-generation\nlanguage: {}\ntags:\n- lora\n- llm-twin\n---\n\n\
         # A twin of {}\n\n\
         This adapter makes {} write in the voice of {}. **What it writes is written by a machine and not by {}.**\n\n\
         | | |\n| --- | --- |\n\
         | base model | {} (sha256 {}) |\n| training set | {} |\n| features | {} |\n| prompt | {} |\n\
         | adapter | LoRA, rank {}, alpha {}, {} |\n| trained | {} |\n\
         | consent | {} |\n\n",
        quoted(&report.base.hub),
        quoted(&author.language),
        author.name,
        report.base.name,
        author.name,
        author.name,
        report.base.name,
        report.base.digest.short(),
        set.id,
        set.feature_view,
        set.prompt,
        config.rank,
        config.alpha,
        serde_json::to_string(&config.target_modules).unwrap_or_default(),
        trained(report),
        author.consent.as_deref().unwrap_or("not recorded: do not publish"),
    );
    if let Some(parent) = &report.parent {
        let _ = writeln!(card, "Trained by {} from {}.\n", report.method.as_str(), parent.id);
    }
    if let Some(preference) = &report.preference {
        let PreferenceReport { held_out_pairs, before, after, .. } = preference;
        let _ = writeln!(
            card,
            "On {held_out_pairs} held-out pairs the margin of the author's passages went from {:.3} to {:.3}; {:.0}% are preferred.\n",
            before.margin,
            after.margin,
            after.accuracy * 100.0
        );
    }
    card.push_str(&crate::evaluate::table::markdown(evaluation));
    if report.method != Method::Imported {
        card.push_str("\n![loss curve](curve.svg)\n");
    }
    card
}
