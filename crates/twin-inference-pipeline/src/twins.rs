//! The twins: which author is answered for by which release, and how an answer comes about.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use twin_domain::{
    Author, AuthorId, FeatureStore, FeatureViewId, ModelRegistry, ModelVersionId, PromptVersion, RegistryError,
    Release, StoreError,
};
use twin_models::embedding::Embedder;
use twin_models::language::{Adapter, AdapterError, LanguageModel, Sampling};
use twin_models::prompt::PromptSet;

use crate::cite::Piece;
use crate::conversations::Conversations;
use crate::generator::Generator;
use crate::retrieve::{FoundPassage, RetrievalConfig};

pub use self::answer::{Answer, AnswerError, AnswerRequest, Event};

mod answer;

/// What every answer carries.
pub const LABEL: &str = "Written by an AI twin, not by the person.";

/// How the twins answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InferenceConfig {
    pub retrieval: RetrievalConfig,
    /// How a question is answered.
    pub ask: Sampling,
    /// How a draft is written.
    pub write: Sampling,
    /// The most earlier messages of a conversation that the model sees.
    pub history: usize,
    /// The most tokens they may have.
    pub history_tokens: usize,
    /// How many requests may wait for the model.
    pub queue: usize,
}

impl Default for InferenceConfig {
    fn default() -> Self {
        let base = Sampling {
            top_p: 0.95,
            min_p: 0.05,
            repetition_penalty: 1.15,
            repetition_window: 128,
            ..Sampling::default()
        };
        Self {
            retrieval: RetrievalConfig::default(),
            // Near to the passages for answers, freer for drafts.
            ask: Sampling { temperature: 0.3, max_new_tokens: 180, ..base.clone() },
            write: Sampling { temperature: 0.8, max_new_tokens: 600, ..base },
            history: 4,
            history_tokens: 400,
            queue: 16,
        }
    }
}

/// What an answer was made of, kept with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// The release that answered; `None` when the author has none and the base model answered.
    pub release: Option<u32>,
    pub model: Option<ModelVersionId>,
    pub base: String,
    pub feature_view: FeatureViewId,
    pub prompt: PromptVersion,
    pub sampling: Sampling,
    /// What was searched for; empty when nothing was.
    pub query: String,
    pub passages: Vec<FoundPassage>,
    pub pieces: Vec<Piece>,
    /// Whether the twin said that it has nothing on this.
    pub abstained: bool,
    /// `stop`, `length` or `cancelled`.
    pub finish_reason: String,
    pub prompt_tokens: usize,
    pub new_tokens: usize,
    pub retrieval_seconds: f64,
    pub first_token_seconds: f64,
    pub total_seconds: f64,
    pub tokens_per_second: f64,
}

/// Why a twin is not there.
#[derive(Debug, thiserror::Error)]
pub enum TwinError {
    #[error("there is no twin `{0}`: `twin ingest` an author's posts first")]
    Unknown(String),
    #[error("the feature store has no feature view that serves: `twin ingest` an author's posts first")]
    NoFeatures,
    #[error("the feature store could not be read")]
    Store(#[from] StoreError),
    #[error("the model registry could not be read")]
    Registry(#[from] RegistryError),
    #[error("the adapter of `{model}` could not be loaded")]
    Adapter {
        model: ModelVersionId,
        #[source]
        source: AdapterError,
    },
}

/// An author's twin as it serves now.
#[derive(Clone)]
pub struct Twin {
    pub author: Author,
    /// `None` when no voice was trained: the base model answers from the author's passages.
    pub release: Option<Release>,
    /// The model version that answers, when it is not the release's own.
    pub model: Option<ModelVersionId>,
    pub adapter: Option<Arc<Adapter>>,
    pub view: FeatureViewId,
}

/// The parts that answers are made with.
pub struct TwinParts {
    pub store: Arc<dyn FeatureStore>,
    pub registry: Arc<dyn ModelRegistry>,
    pub embedder: Arc<dyn Embedder>,
    pub model: Arc<dyn LanguageModel>,
    pub prompts: PromptSet,
    pub conversations: Conversations,
    pub config: InferenceConfig,
}

/// All twins of one feature store and one registry. Shared by the server's requests.
pub struct Twins {
    pub(crate) parts: TwinParts,
    pub(crate) generator: Generator,
    adapters: Mutex<HashMap<ModelVersionId, Arc<Adapter>>>,
}

/// How many adapters are kept ready. Rank 16 on all projections is some 20 MB in memory.
const ADAPTERS: usize = 16;

impl Twins {
    /// Starts the model's thread.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    pub fn new(parts: TwinParts) -> std::io::Result<Self> {
        let generator = Generator::start(Arc::clone(&parts.model), parts.config.queue)?;
        Ok(Self { parts, generator, adapters: Mutex::new(HashMap::new()) })
    }

    /// The authors that can be asked, by id.
    ///
    /// # Errors
    /// When the store fails.
    pub fn authors(&self) -> Result<Vec<Author>, TwinError> {
        Ok(self.parts.store.authors()?)
    }

    /// The twin behind a model name: `ada` for what serves, `ada@v2` for a version. Blocking: it may load an adapter.
    ///
    /// # Errors
    /// [`TwinError::Unknown`] when there is no such author or version.
    pub fn twin(&self, name: &str) -> Result<Twin, TwinError> {
        let unknown = || TwinError::Unknown(name.to_owned());
        let version: Option<ModelVersionId> = name.parse().ok();
        let id = match &version {
            Some(version) => version.author.clone(),
            None => AuthorId::parse(name).map_err(|_| unknown())?,
        };
        let author = match self.parts.store.author(&id) {
            Err(StoreError::NotFound { .. }) => return Err(unknown()),
            author => author?,
        };
        let release = self.parts.registry.serving(&id)?;
        let model = version.or_else(|| release.as_ref().map(|release| release.model.clone()));
        let adapter = model.as_ref().map(|model| self.adapter(model)).transpose()?;
        let view = match &release {
            Some(release) => release.feature_view.clone(),
            None => self.parts.store.serving_view()?.ok_or(TwinError::NoFeatures)?,
        };
        Ok(Twin { author, release, model, adapter, view })
    }

    fn adapter(&self, model: &ModelVersionId) -> Result<Arc<Adapter>, TwinError> {
        let adapters = || self.adapters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(adapter) = adapters().get(model) {
            return Ok(Arc::clone(adapter));
        }
        let directory = match self.parts.registry.open(model) {
            Err(RegistryError::NotFound { .. }) => return Err(TwinError::Unknown(model.to_string())),
            directory => directory?,
        };
        let failed = |source| TwinError::Adapter { model: model.clone(), source };
        let adapter = Arc::new(self.parts.model.load_adapter(&directory).map_err(failed)?);
        let mut adapters = adapters();
        if adapters.len() >= ADAPTERS {
            adapters.clear();
        }
        adapters.insert(model.clone(), Arc::clone(&adapter));
        Ok(adapter)
    }
}
