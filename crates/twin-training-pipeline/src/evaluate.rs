//! The evaluation of an adapter on documents it was not trained on: how well it predicts the author, whether it became
//! better at this author or at everybody, what it writes, and how much of that is copied.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use twin_domain::feature_store::StoredDocument;
use twin_domain::{
    Author, CancelFlag, FeatureStore, FeatureViewId, Progress, ProgressUpdate, Split, StoreError, TrainingSet,
};
use twin_models::embedding::{EmbedError, Embedder};
use twin_models::language::{Adapter, GenerateError, Llama, TokenizerError, TrainError};
use twin_models::prompt::{PromptError, PromptSet};
use twin_style::population::Population;

use crate::dataset::DatasetError;

pub use self::arms::{Arm, ArmReport, Sample};
pub use self::charts::ChartError;
pub use self::likeness::{Comparison, Decision, LikenessReport};
pub use self::prediction::{DocumentBits, Prediction};
pub use self::style::{Distances, StyleFigures};

mod arms;
mod charts;
pub mod html;
mod likeness;
mod prediction;
mod style;
pub mod table;

/// How much is measured. More documents and prompts give narrower intervals and take longer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EvaluationConfig {
    /// The most documents of this author, and of all others together, that bits per byte are taken over.
    pub documents: usize,
    /// How many test documents every arm writes an opening for.
    pub prompts: usize,
    /// The length of what is written.
    pub max_new_tokens: usize,
    /// How many of the author's openings the few-shot arm is shown.
    pub few_shot: usize,
    /// How many passages the arms with retrieval are given.
    pub retrieved: usize,
    pub seed: u64,
    /// Which ways of writing are compared.
    pub arms: Vec<Arm>,
    /// Whether the likeness to the author is measured, with its gates. Worth it from 500 words an arm on.
    pub likeness: bool,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self {
            documents: 6,
            prompts: 3,
            max_new_tokens: 140,
            few_shot: 2,
            retrieved: 3,
            seed: 17,
            arms: vec![Arm::Base, Arm::FewShotRag, Arm::Lora, Arm::LoraRag],
            likeness: false,
        }
    }
}

/// Why an evaluation did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    #[error("the evaluation was stopped; run the same command again to start it anew")]
    Cancelled,
    #[error("training set `{set}` has no test document left in the feature store: make a new training set")]
    NoTestDocuments { set: String },
    #[error("the feature store failed during the evaluation")]
    Store(#[from] StoreError),
    #[error("a prompt of the evaluation could not be made")]
    Prompt(#[from] PromptError),
    #[error("the passages to measure could not be made")]
    Dataset(#[from] DatasetError),
    #[error("a text of the evaluation could not be turned into tokens")]
    Tokenizer(#[from] TokenizerError),
    #[error("the language model failed to measure a text")]
    Measure(#[from] TrainError),
    #[error("the language model failed to write a text")]
    Generate(#[from] GenerateError),
    #[error("a query of the evaluation could not be embedded")]
    Embed(#[from] EmbedError),
}

/// What an evaluation works with.
pub struct Evaluation<'a> {
    pub model: &'a Arc<Llama>,
    pub adapter: Arc<Adapter>,
    pub embedder: &'a dyn Embedder,
    pub store: &'a dyn FeatureStore,
    pub view: &'a FeatureViewId,
    pub author: &'a Author,
    pub set: &'a TrainingSet,
    pub prompts: &'a PromptSet,
    pub config: &'a EvaluationConfig,
    /// Whom the author is compared with besides the other authors of the store; the author is not among them.
    pub population: Option<Arc<Population>>,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationReport {
    pub config: EvaluationConfig,
    /// Bits per byte on the author's test documents.
    pub author: Prediction,
    /// The same on the other authors' documents; `None` when the feature store knows no other author.
    pub others: Option<Prediction>,
    /// Every way of writing on the same prompts, with the author's own texts and the other authors' as ceiling and floor.
    pub arms: Vec<ArmReport>,
    /// What the likeness of the arms was measured with, where it was.
    #[serde(default)]
    pub likeness: Option<LikenessReport>,
}

impl EvaluationReport {
    /// By how many bits per byte the adapter helps on this author more than on others: what is learnt of the author, and
    /// not of English or of the form of a post.
    pub fn author_specific_gain(&self) -> Option<f64> {
        self.others.as_ref().map(|others| self.author.gain() - others.gain())
    }

    /// Whether the adapter predicts the author's new posts better than the base does, beyond chance, and gains more on this
    /// author than on others.
    pub fn helps(&self) -> bool {
        self.author.gain_interval.0 > 0.0 && self.author_specific_gain().is_none_or(|gain| gain > 0.0)
    }

    /// The report of one arm.
    pub fn arm(&self, arm: Arm) -> Option<&ArmReport> {
        self.arms.iter().find(|report| report.arm == arm)
    }
}

/// Measures an adapter.
///
/// # Errors
/// [`EvaluateError::NoTestDocuments`] when the training set's test documents are gone; otherwise when a store or a model
/// fails, or the flag was set.
pub fn evaluate(
    evaluation: &Evaluation<'_>,
    progress: &dyn Progress,
    cancel: &CancelFlag,
) -> Result<EvaluationReport, EvaluateError> {
    let corpus = Corpus::of(evaluation)?;
    let author = prediction::measure(evaluation, &corpus.test, "author", progress, cancel)?;
    let others = match corpus.others.is_empty() {
        true => None,
        false => Some(prediction::measure(evaluation, &corpus.others, "others", progress, cancel)?),
    };
    let mut arms = arms::compare(evaluation, &corpus, progress, cancel)?;
    let likeness = evaluation.config.likeness.then(|| likeness::measure(evaluation, &corpus, &mut arms));
    Ok(EvaluationReport { config: evaluation.config.clone(), author, others, arms, likeness })
}

/// The documents of an evaluation.
struct Corpus {
    /// What the adapter was trained on.
    train: Vec<StoredDocument>,
    /// The author's documents that no part of training has seen, newest first.
    test: Vec<StoredDocument>,
    /// All of the author's documents that the adapter was not trained on, oldest first, to try a ruler on.
    held_out: Vec<StoredDocument>,
    /// All documents of each other author, oldest first.
    strangers: Vec<(String, Vec<StoredDocument>)>,
    /// Documents of other authors, taken in turn so that each has a say, newest first.
    others: Vec<StoredDocument>,
}

impl Corpus {
    fn of(evaluation: &Evaluation<'_>) -> Result<Self, EvaluateError> {
        let Evaluation { store, view, author, set, config, .. } = evaluation;
        let of_split = |split: Split| {
            let ids: Vec<_> = set.documents_in(split).map(|d| (d.id, d.content_hash.clone())).collect();
            // A document that changed since is another text: it is neither what was trained on nor what was held out.
            move |stored: &&StoredDocument| {
                let info = &stored.document.info;
                ids.iter().any(|(id, hash)| *id == info.id && *hash == info.content_hash)
            }
        };
        let own = store.documents(view, &author.id)?;
        let train = own.iter().filter(of_split(Split::Train)).cloned().collect();
        let test: Vec<_> = own.iter().rev().filter(of_split(Split::Test)).take(config.documents).cloned().collect();
        if test.is_empty() {
            return Err(EvaluateError::NoTestDocuments { set: set.id.to_string() });
        }
        let held_out = own.iter().filter(|stored| !of_split(Split::Train)(stored)).cloned().collect();
        let mut strangers = Vec::new();
        for other in store.authors()?.into_iter().filter(|other| other.id != author.id) {
            strangers.push((other.name, store.documents(view, &other.id)?));
        }
        let mut by_author: Vec<_> = strangers.iter().map(|(_, documents)| documents.iter().rev()).collect();
        let mut others = Vec::new();
        while others.len() < config.documents {
            let round: Vec<StoredDocument> = by_author.iter_mut().filter_map(Iterator::next).cloned().collect();
            if round.is_empty() {
                break;
            }
            others.extend(round);
        }
        others.truncate(config.documents);
        Ok(Self { train, test, held_out, strangers, others })
    }
}

fn tell(progress: &dyn Progress, what: &str, done: usize, total: usize) {
    let (done, total) = (done as u64, Some(total as u64));
    progress.update(ProgressUpdate { stage: "evaluating", done, total, unit: "texts", detail: what });
}
