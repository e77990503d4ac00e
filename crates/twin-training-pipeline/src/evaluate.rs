//! The evaluation of an adapter on documents it was not trained on: how well it predicts the author, whether it became
//! better at this author or at everybody, what it writes, and how much of that is copied.

use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use twin_domain::feature_store::StoredDocument;
use twin_domain::{Author, CancelFlag, Digest, FeatureStore, FeatureViewId, Progress, Split, StoreError, TrainingSet};
use twin_models::embedding::{EmbedError, Embedder};
use twin_models::language::{Adapter, GenerateError, LanguageModel, Llama, Sampling, TokenizerError, TrainError};
use twin_models::prompt::{PromptError, PromptSet};
use twin_style::assessment::Assessor;
use twin_style::likeness::Refusal;
use twin_style::population::Population;

use self::course::Course;
use crate::dataset::{DatasetError, TaskMaker, WritingTask};

pub use self::arms::{Arm, ArmReport, Cost, Sample};
pub use self::charts::ChartError;
pub use self::fluency::Predictability;
pub use self::likeness::{Comparison, Decision, LikenessReport};
pub use self::map::Point;
pub use self::memory::{Memorisation, Reproduced};
pub use self::plan::{Plan, RULE};
pub use self::prediction::{DocumentBits, Prediction};
pub use self::style::{Distances, StyleFigures};
pub use self::versions::{Compared, VersionComparison};
pub use crate::dataset::Form;

mod arms;
mod charts;
mod course;
mod fluency;
pub mod html;
pub mod junit;
mod likeness;
mod map;
mod memory;
mod plan;
mod prediction;
mod style;
pub mod table;
mod versions;

/// How much is measured. More documents and prompts give narrower intervals and take longer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EvaluationConfig {
    /// The most documents of this author, and of all others together, that bits per byte are taken over.
    pub documents: usize,
    /// The most tokens of a document that they are taken over: whole passages, evenly spread over it. An
    /// essay of ten thousand words takes minutes and says little more.
    pub document_tokens: usize,
    /// How many requests every arm writes for, and of which forms, in turn.
    pub prompts: usize,
    pub forms: Vec<Form>,
    /// The length of what is written.
    pub max_new_tokens: usize,
    /// How it is drawn.
    pub sampling: DraftSampling,
    /// How often an arm is asked, with another seed each time, until it has written so many words; the longest text
    /// counts. A small model often ends after the title, and nothing can be told of that.
    pub tries: usize,
    pub min_words: usize,
    /// How many of the author's openings the few-shot arm is shown.
    pub few_shot: usize,
    /// How many passages the arms with retrieval are given.
    pub retrieved: usize,
    pub seed: u64,
    /// Which ways of writing are compared.
    pub arms: Vec<Arm>,
    /// Whether the likeness to the author is measured, with its gates. Worth it from 500 words an arm on.
    pub likeness: bool,
    /// The genres of the population that the author is compared with; all, when none is named.
    pub genres: Vec<String>,
    /// How many training posts are begun to see whether the adapter knows them by heart.
    pub probes: usize,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self {
            documents: 6,
            document_tokens: 2048,
            prompts: 3,
            forms: vec![Form::Post],
            max_new_tokens: 140,
            sampling: DraftSampling::default(),
            tries: 1,
            min_words: 0,
            few_shot: 2,
            retrieved: 3,
            seed: 17,
            arms: vec![Arm::Base, Arm::FewShotRag, Arm::Lora, Arm::LoraRag],
            likeness: false,
            genres: Vec::new(),
            probes: 0,
        }
    }
}

/// How the texts of all arms are drawn; as drafts are served, where nothing else is said ([`Sampling::draft`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DraftSampling {
    /// What logits are divided by: lower is more predictable.
    pub temperature: f32,
    /// How many of the likeliest tokens are drawn from; all, when 0.
    pub top_k: usize,
    /// The least share of probability that the tokens drawn from have together, likeliest first.
    pub top_p: f32,
    /// How likely a token must be, as a share of the likeliest one's probability.
    pub min_p: f32,
}

impl Default for DraftSampling {
    fn default() -> Self {
        let Sampling { temperature, top_k, top_p, min_p, .. } = Sampling::draft(0);
        Self { temperature, top_k, top_p, min_p }
    }
}

impl DraftSampling {
    fn of(&self, max_new_tokens: usize, seed: u64) -> Sampling {
        let Self { temperature, top_k, top_p, min_p } = *self;
        Sampling { temperature, top_k, top_p, min_p, seed, ..Sampling::draft(max_new_tokens) }
    }
}

/// Why an evaluation did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    #[error("the evaluation was stopped; run the same command again to go on")]
    Cancelled,
    #[error("what was measured so far could not be kept")]
    Kept(#[source] io::Error),
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
    /// Of the adapter's weights.
    pub digest: &'a Digest,
    pub embedder: &'a dyn Embedder,
    pub store: &'a dyn FeatureStore,
    pub view: &'a FeatureViewId,
    pub author: &'a Author,
    pub set: &'a TrainingSet,
    /// The training sets of the versions that this one is compared with: what any of them learnt from is no test document.
    pub also: &'a [TrainingSet],
    pub prompts: &'a PromptSet,
    pub config: &'a EvaluationConfig,
    /// Whom the author is compared with besides the other authors of the store; the author is not among them.
    pub population: Option<Arc<Population>>,
    /// The file that keeps what has been measured until all is, so that an evaluation that was stopped goes on; `None` to
    /// keep nothing. Whoever keeps the report removes it.
    pub unfinished: Option<&'a Path>,
}

impl Evaluation<'_> {
    /// What everything that is measured depends on.
    fn identity(&self) -> Digest {
        Digest::of_json(&(self.config, self.digest, &self.model.info().digest, self.view, &self.set.id))
    }
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
    /// What of the training posts is known by heart, where that was asked.
    #[serde(default)]
    pub memorisation: Option<Memorisation>,
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

/// An evaluation that has all it needs and has not begun: what it will be able to see can be told.
pub struct Prepared<'a> {
    evaluation: &'a Evaluation<'a>,
    corpus: Corpus,
    tasks: Vec<WritingTask>,
    /// `None` where likeness is not asked for.
    assessor: Option<Result<Assessor, Refusal>>,
}

impl<'a> Prepared<'a> {
    /// Chooses documents and requests, and fits the ruler.
    ///
    /// # Errors
    /// [`EvaluateError::NoTestDocuments`] when the training set's test documents are gone; otherwise when the store fails or the
    /// sampling makes no sense.
    pub fn new(evaluation: &'a Evaluation<'a>) -> Result<Self, EvaluateError> {
        evaluation.config.sampling.of(1, 0).validate()?;
        let corpus = Corpus::of(evaluation)?;
        let count = |text: &str| evaluation.model.count_tokens(text);
        let config = evaluation.config;
        let maker = TaskMaker::new(&corpus.train, config.max_new_tokens, &count);
        let tasks = maker.tasks(&corpus.test, &config.forms, config.prompts);
        let assessor = config.likeness.then(|| likeness::fit(evaluation, &corpus));
        Ok(Self { evaluation, corpus, tasks, assessor })
    }

    /// What it will be able to see.
    pub fn plan(&self) -> Plan {
        let ruler = self.assessor.as_ref().map(|found| match found {
            Ok(assessor) => Ok(assessor.ruler()),
            Err(refusal) => Err(refusal.to_string()),
        });
        Plan::of(self.evaluation.config, &self.tasks, ruler)
    }

    /// Measures the adapter. What the base wrote for the same requests in the report of another version is not written
    /// again.
    ///
    /// # Errors
    /// When a store or a model fails, or the flag was set.
    pub fn run(
        &self,
        other: Option<&EvaluationReport>,
        progress: &dyn Progress,
        cancel: &CancelFlag,
    ) -> Result<EvaluationReport, EvaluateError> {
        let Self { evaluation, corpus, tasks, assessor } = self;
        let course = Course::new(evaluation.unfinished, &evaluation.identity(), progress, cancel)?;
        let measured = corpus.measured(&corpus.test, evaluation);
        let author = prediction::measure(evaluation, measured, "author", &course)?;
        let others = match corpus.others.is_empty() {
            true => None,
            false => Some(prediction::measure(evaluation, &corpus.others, "others", &course)?),
        };
        let written = other.filter(|other| self.is_of(other)).map(|other| other.arms.as_slice()).unwrap_or_default();
        let mut arms = arms::compare(evaluation, corpus, tasks, written, &course)?;
        let memorisation = memory::probe(evaluation, corpus, &course)?;
        let likeness = match assessor {
            None => None,
            Some(Err(refusal)) => Some(likeness::refused(refusal.to_string())),
            Some(Ok(assessor)) => {
                fluency::measure(evaluation, tasks, &mut arms)?;
                Some(likeness::measure(assessor, corpus, &mut arms))
            }
        };
        let config = evaluation.config.clone();
        Ok(EvaluationReport { config, author, others, arms, likeness, memorisation })
    }

    /// Compares versions, the newest last, each with the one before it.
    pub fn compare(&self, reports: &[(String, EvaluationReport)]) -> Vec<VersionComparison> {
        let assessor = self.assessor.as_ref().and_then(|assessor| assessor.as_ref().ok());
        versions::compare(assessor, reports, self.evaluation.config.seed)
    }

    /// The openings of the newest posts that the adapter was trained on: what the author is known by.
    pub fn known_openings(&self, count: usize) -> Vec<String> {
        let limit = self.evaluation.config.max_new_tokens;
        let tokens = |text: &str| self.evaluation.model.count_tokens(text);
        let newest = self.corpus.train.iter().rev().take(count);
        newest.map(|stored| crate::dataset::opening(stored, limit, &tokens)).collect()
    }

    /// Whether a report is of the same requests and documents.
    pub fn is_of(&self, report: &EvaluationReport) -> bool {
        let titles: Vec<&str> = self.tasks.iter().map(|task| task.title.as_str()).collect();
        let documents = self.corpus.measured(&self.corpus.test, self.evaluation);
        let written = report.arm(Arm::Author).is_none_or(|arm| arm.samples.iter().map(|one| &one.title).eq(titles));
        let measured = |bits: &DocumentBits| documents.iter().any(|stored| stored.document.info.url == bits.url);
        report.config == *self.evaluation.config && written && report.author.documents.iter().all(measured)
    }
}

/// The documents of an evaluation.
struct Corpus {
    /// What the adapter was trained on.
    train: Vec<StoredDocument>,
    /// The author's documents that no part of training has seen, of any version that is compared, newest first.
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
        let Evaluation { store, view, author, set, also, config, .. } = evaluation;
        let own = store.documents(view, &author.id)?;
        let sets = || std::iter::once(*set).chain(also.iter());
        let is_in = |set: &TrainingSet, split: Split, stored: &StoredDocument| {
            let info = &stored.document.info;
            // A document that changed since is another text: it is neither what was trained on nor what was held out.
            set.documents_in(split).any(|known| known.id == info.id && known.content_hash == info.content_hash)
        };
        let is_train = |stored: &&StoredDocument| is_in(set, Split::Train, stored);
        let train = own.iter().filter(is_train).cloned().collect();
        let is_test = |stored: &&StoredDocument| {
            let learnt = |set| is_in(set, Split::Train, stored) || is_in(set, Split::Calibration, stored);
            sets().any(|set| is_in(set, Split::Test, stored)) && !sets().any(learnt)
        };
        let test: Vec<_> = own.iter().rev().filter(is_test).cloned().collect();
        if test.is_empty() {
            return Err(EvaluateError::NoTestDocuments { set: set.id.to_string() });
        }
        let held_out = own.iter().filter(|stored| !is_train(stored)).cloned().collect();
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

    /// The documents that bits per byte are taken over.
    fn measured<'d>(&self, documents: &'d [StoredDocument], evaluation: &Evaluation<'_>) -> &'d [StoredDocument] {
        &documents[..documents.len().min(evaluation.config.documents)]
    }
}
