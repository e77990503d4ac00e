//! What a run was told, kept in its directory, so that it can be gone on with and compared after the command is forgotten.

use std::path::Path;

use fs_err as fs;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use twin_domain::{AuthorId, BaseModel, TrainingSetId};

use super::{
    Job, Material, Method, Pair, Parent, PreferenceConfig, Progressed, RunError, RunReport, TrainingConfig, finished,
};
use crate::curve::Curve;
use crate::durable;

const FILE: &str = "run.json";

/// What a run was told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunManifest {
    pub author: AuthorId,
    pub training_set: TrainingSetId,
    pub base: BaseModel,
    pub method: Method,
    pub parent: Option<Parent>,
    pub config: TrainingConfig,
    /// Where the method is DPO.
    pub preference: Option<PreferenceConfig>,
    /// The pairs that people made.
    #[serde(default)]
    pub edits: Vec<Pair>,
    pub started_at: Timestamp,
}

impl RunManifest {
    pub(super) fn of(job: &Job<'_>, material: &Material<'_>) -> Self {
        let (preference, edits) = match material {
            Material::Preferences { config, edits, .. } => (Some((*config).clone()), edits.to_vec()),
            Material::Examples(_) | Material::Posts(_) => (None, Vec::new()),
        };
        Self {
            author: job.set.author.clone(),
            training_set: job.set.id.clone(),
            base: job.base.clone(),
            method: material.method(),
            parent: job.start.map(|start| start.parent.clone()),
            config: job.config.clone(),
            preference,
            edits,
            started_at: Timestamp::now(),
        }
    }

    /// Writes the manifest of a run that begins; of one that goes on there is one.
    pub(super) fn keep(&self, directory: &Path) -> std::io::Result<()> {
        let path = directory.join(FILE);
        if path.exists() {
            return Ok(());
        }
        durable::write(&path, &serde_json::to_vec_pretty(self).map_err(std::io::Error::other)?)
    }
}

/// A run as its directory shows it.
#[derive(Debug, Clone, Serialize)]
pub struct RunSummary {
    pub name: String,
    /// `None` for runs of versions that kept none.
    pub manifest: Option<RunManifest>,
    /// Steps that were taken and are kept.
    pub steps: usize,
    /// `None` while the run has not ended.
    pub report: Option<RunReport>,
    #[serde(skip)]
    pub curve: Curve,
}

/// All runs below a directory, those that began last first.
///
/// # Errors
/// When the directory cannot be read. A run that cannot be read is left out.
pub fn runs(directory: &Path) -> Result<Vec<RunSummary>, RunError> {
    let at = |source| RunError::Io { path: directory.to_owned(), source };
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(at)? {
        let path = entry.map_err(at)?.path();
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        if name.starts_with("run-") {
            found.extend(summary(&path, name));
        }
    }
    let began = |run: &RunSummary| run.manifest.as_ref().map(|manifest| manifest.started_at);
    found.sort_by(|a, b| began(b).cmp(&began(a)).then_with(|| a.name.cmp(&b.name)));
    Ok(found)
}

/// One run, by its name or the beginning of it.
///
/// # Errors
/// [`RunError::NoSuchRun`] when none or several are called so.
pub fn run(directory: &Path, name: &str) -> Result<RunSummary, RunError> {
    let all = runs(directory)?;
    let mut called: Vec<RunSummary> =
        all.into_iter().filter(|run| run.name.starts_with(name) || run.name[4..].starts_with(name)).collect();
    match called.len() {
        1 => Ok(called.remove(0)),
        found => Err(RunError::NoSuchRun { name: name.to_owned(), found }),
    }
}

fn summary(path: &Path, name: String) -> Option<RunSummary> {
    let manifest = read(&path.join(FILE));
    if let Some(report) = finished(path) {
        let curve = read(&path.join("artefacts/curve.json")).unwrap_or_default();
        return Some(RunSummary { name, manifest, steps: report.steps, report: Some(report), curve });
    }
    let checkpoints = std::fs::read_dir(path).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let is_checkpoint = |path: &std::path::PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("checkpoint-"))
    };
    let newest = checkpoints.filter(is_checkpoint).max();
    let state: Progressed = newest.and_then(|newest| read(&newest.join("progress.json"))).unwrap_or_default();
    Some(RunSummary { name, manifest, steps: state.step, report: None, curve: state.curve })
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}
