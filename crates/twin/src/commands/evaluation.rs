//! What an evaluation is made with, put together once for training and for benchmarks.

use std::path::PathBuf;
use std::sync::Arc;

use twin_domain::{Author, CancelFlag, Digest, Progress, TrainingSet};
use twin_models::language::Adapter;
use twin_models::prompt::PromptSet;
use twin_training_pipeline::evaluate::{Evaluation, EvaluationConfig, Prepared};

use super::style::population;
use crate::wiring::{Wiring, blocking};

/// Which adapter is measured, and what it was made from.
pub struct Subject {
    /// The directory of the adapter.
    pub adapter: PathBuf,
    pub author: Author,
    pub set: TrainingSet,
    /// The training sets of the versions that it is compared with.
    pub also: Vec<TrainingSet>,
    /// The file that keeps what was measured until the evaluation has ended.
    pub unfinished: PathBuf,
}

/// Prepares an evaluation and lets `work` do with it what it likes, on a thread of its own.
pub async fn prepared<T: Send + 'static>(
    wiring: &Wiring,
    subject: Subject,
    config: EvaluationConfig,
    work: impl FnOnce(&Prepared<'_>, &dyn Progress, &CancelFlag) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let (store, embedder, model) = (wiring.store().await?, wiring.embedder().await?, wiring.language_model().await?);
    let (progress, cancel) = (Arc::clone(&wiring.progress), wiring.cancel.clone());
    let population = config.likeness.then(|| population::load(None)).transpose()?;
    let measure = move || -> anyhow::Result<T> {
        let Subject { adapter, author, set, also, unfinished } = subject;
        let digest = Digest::of(fs_err::read(adapter.join("adapter_model.safetensors"))?);
        let adapter = Arc::new(Adapter::load(&adapter, &model)?);
        let prompts = PromptSet::builtin()?;
        let evaluation = Evaluation {
            model: &model,
            adapter,
            digest: &digest,
            embedder: &*embedder,
            store: &*store,
            view: &set.feature_view,
            author: &author,
            set: &set,
            also: &also,
            prompts: &prompts,
            config: &config,
            population,
            unfinished: Some(&unfinished),
        };
        work(&Prepared::new(&evaluation)?, progress.as_ref(), &cancel)
    };
    blocking(measure).await
}
