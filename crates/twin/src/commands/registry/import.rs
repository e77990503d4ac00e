//! `twin registry import`: an adapter that was trained elsewhere, as with TRL on an exported training set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use twin_domain::{Digest, TrainingSetId};
use twin_models::language::{Adapter, LoraConfig};
use twin_training_pipeline::evaluate::EvaluationConfig;
use twin_training_pipeline::registration::{imported, register};

use crate::args::ImportArguments;
use crate::commands::train::evaluation;
use crate::output;
use crate::wiring::{Wiring, blocking};

pub async fn run(wiring: &Wiring, arguments: ImportArguments) -> anyhow::Result<bool> {
    let ImportArguments { adapter, set } = arguments;
    let (run, set) = taken(wiring, &adapter, &set).await?;
    let author = wiring.store().await?.author(&set.author)?;
    let evaluation = evaluation(wiring, &run, &set, &author, &EvaluationConfig::default()).await?;
    let registry = wiring.registry()?;
    let version = register(&*registry, &run, &evaluation, &set, &author, env!("CARGO_PKG_VERSION"))?;
    output::result(wiring.json, &version, |version| {
        output::line(format!("model {} <- adapter `{}`, training set {}", version.id, adapter.display(), set.id));
        twin_training_pipeline::evaluate::table::predictions(&evaluation)
            .iter()
            .for_each(|line| output::line(format!("  {line}")));
    })?;
    Ok(evaluation.helps())
}

/// Checks the adapter against the base and lays it out as a run that has ended.
async fn taken(
    wiring: &Wiring,
    adapter: &Path,
    set: &TrainingSetId,
) -> anyhow::Result<(twin_training_pipeline::run::FinishedRun, twin_domain::TrainingSet)> {
    let set = wiring.store().await?.training_set(set)?;
    let (model, base) = (wiring.language_model().await?, wiring.models.base_model(&wiring.config.models.base)?);
    let (from, id) = (adapter.to_owned(), set.id.clone());
    let directory: PathBuf = wiring.config.runs();
    let run = blocking(move || -> anyhow::Result<_> {
        let adapter = Arc::new(Adapter::load(&from, &model)?);
        let weights = from.join("adapter_model.safetensors");
        let bytes = std::fs::read(&weights).with_context(|| format!("could not read `{}`", weights.display()))?;
        let config: &LoraConfig = adapter.config();
        let name = Digest::of_parts([bytes.as_slice(), format!("{config:?}").as_bytes(), id.as_str().as_bytes()]);
        let directory = directory.join(format!("import-{}", name.short()));
        Ok(imported(&adapter, &base, &directory)?)
    });
    Ok((run.await?, set))
}
