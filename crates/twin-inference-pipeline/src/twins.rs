//! The twins: which author is answered for by which release, and how an answer comes about.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use twin_domain::{
    Author, AuthorId, FeatureStore, FeatureViewId, ModelRegistry, ModelVersionId, PromptVersion, RegistryError,
    Release, StoreError,
};
use twin_models::embedding::Embedder;
use twin_models::language::{Adapter, AdapterError, LanguageModel, Sampling};
use twin_models::prompt::{PromptSet, Request};

use crate::cite::{KnownPassages, Piece, grounded_share};
use crate::conversations::Conversations;
use crate::generator::{Generator, Permit, SubmitError};
use crate::retrieve::{FoundPassage, RetrievalConfig, RetrievalTrace};

pub use self::answer::{Answer, AnswerError, AnswerRequest, Event};
pub(crate) use self::prepare::spoken;

use self::adapters::Adapters;

mod adapters;
mod ahead;
mod answer;
mod prepare;
mod routing;
mod shadow;

/// What every answer carries.
pub const LABEL: &str = "Written by an AI twin, not by the person.";

/// What stands between an author's id and the number of a release in a model name, as in `ada@release-3`.
pub const RELEASE: &str = "@release-";

/// How the twins answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InferenceConfig {
    pub retrieval: RetrievalConfig,
    /// How a question is answered.
    pub ask: Sampling,
    /// How a draft is written.
    pub write: Sampling,
    /// After so many statements in a row that no passage supports, an answer ends; 0 lets it go on.
    pub patience: usize,
    /// The most earlier messages of a conversation that the model sees.
    pub history: usize,
    /// The most tokens they may have.
    pub history_tokens: usize,
    /// How many answers are written together.
    pub together: usize,
    /// How many more requests may wait for the model.
    pub queue: usize,
    /// How many adapters are kept in memory over the one base model. Rank 16 on all projections is some 20 MB.
    pub adapters: usize,
    /// An answer ends after so many seconds, waiting included, as far as it came.
    pub deadline_seconds: u64,
    /// A reader who takes nothing for so many seconds counts as gone.
    pub reader_seconds: u64,
    /// Whether what a reader is still typing is looked up and read by the model, while nobody is answered.
    pub read_ahead: bool,
    /// An answer on the chat page goes on for so many seconds without a reader, and can be read so long after its end.
    pub resume_seconds: u64,
}

impl Default for InferenceConfig {
    fn default() -> Self {
        Self {
            retrieval: RetrievalConfig::default(),
            ask: answering(),
            write: Sampling::draft(600),
            patience: 2,
            history: 4,
            history_tokens: 400,
            together: 8,
            queue: 16,
            adapters: 8,
            deadline_seconds: 300,
            reader_seconds: 30,
            read_ahead: true,
            resume_seconds: 60,
        }
    }
}

/// How answers are drawn: near to the passages, whose words may be used again.
fn answering() -> Sampling {
    Sampling {
        temperature: 0.2,
        repetition_penalty: 1.05,
        max_new_tokens: 160,
        // A model that goes on with a numbered passage or a heading has nothing more of its own to say.
        stop: vec!["\n[".to_owned(), "\n#".to_owned()],
        ..Sampling::default()
    }
}

impl InferenceConfig {
    /// How a request is answered when it does not say otherwise. The seed is one that nobody chose: drafts differ from each
    /// other, and it is in the trace, so that any of them can be written again.
    pub fn sampling(&self, request: &Request) -> Sampling {
        let sampling = if matches!(request, Request::Ask { .. }) { &self.ask } else { &self.write };
        let seed = uuid::Uuid::new_v4().as_u64_pair().0 >> 12; // 52 bits, which JavaScript's numbers hold exactly.
        Sampling { seed, ..sampling.clone() }
    }
}

/// What an answer was made of, kept with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    pub author: AuthorId,
    /// The release that answered; `None` when the author has none.
    pub release: Option<u32>,
    /// The model version that answered; `None` for the base model, without a voice.
    pub model: Option<ModelVersionId>,
    pub base: String,
    pub feature_view: FeatureViewId,
    pub prompt: PromptVersion,
    pub sampling: Sampling,
    pub retrieval: RetrievalTrace,
    /// The passages that the model was given.
    pub passages: Vec<FoundPassage>,
    /// The answer's sentences with what they rest on.
    pub pieces: Vec<Piece>,
    /// Whether the twin said that it has nothing on this.
    pub abstained: bool,
    /// `stop`, `length`, `deadline` or `cancelled`.
    pub finish_reason: String,
    pub prompt_tokens: usize,
    /// How many of them were known from an earlier request.
    #[serde(default)]
    pub cached_tokens: usize,
    pub new_tokens: usize,
    /// How many tokens were guessed ahead, and how many of them came true.
    #[serde(default)]
    pub guessed_tokens: usize,
    #[serde(default)]
    pub right_guesses: usize,
    /// What the model was not given because there was no room for it.
    #[serde(default)]
    pub trimmed: Trimmed,
    /// How long it waited for the model.
    #[serde(default)]
    pub queue_seconds: f64,
    /// From the request to the first token, waiting for other answers included.
    pub first_token_seconds: f64,
    pub total_seconds: f64,
    /// While decoding.
    pub tokens_per_second: f64,
}

/// What did not fit and was left out: the oldest messages of the conversation first, then the weakest passages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trimmed {
    pub messages: usize,
    pub passages: usize,
}

impl Trace {
    /// The share of the answer's claims that rest on a passage.
    pub fn grounded_share(&self) -> f64 {
        grounded_share(&self.pieces)
    }
}

/// Why a twin is not there.
#[derive(Debug, thiserror::Error)]
pub enum TwinError {
    #[error("there is no twin `{0}`: `twin ingest` an author's posts first")]
    Unknown(String),
    #[error(
        "the feature store has no feature view that serves: `twin ingest` an author's posts first, or `twin features switch` to one that is there"
    )]
    NoFeatures,
    #[error("{view} cannot serve: {problem}")]
    View { view: FeatureViewId, problem: String },
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
    /// The model version that answers: the release's, or the one that was asked for by name.
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
    /// Which of them serves is asked anew for each conversation.
    adapters: Adapters,
    /// What passages say, for citing them.
    known: KnownPassages,
}

impl Twins {
    /// Starts the model's thread.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    pub fn new(parts: TwinParts) -> std::io::Result<Self> {
        let generator = Generator::start(Arc::clone(&parts.model), parts.config.together, parts.config.queue)?;
        let adapters = Adapters::new(parts.config.adapters);
        Ok(Self { parts, generator, adapters, known: KnownPassages::default() })
    }

    /// Asks for the right to one answer.
    ///
    /// # Errors
    /// [`SubmitError::Full`] when too many wait for the model already.
    pub fn admit(&self) -> Result<Permit, SubmitError> {
        self.generator.admit()
    }

    /// How answers are made.
    pub fn config(&self) -> &InferenceConfig {
        &self.parts.config
    }

    /// What readers said and were told.
    pub fn conversations(&self) -> &Conversations {
        &self.parts.conversations
    }

    /// The authors that can be asked, by id.
    ///
    /// # Errors
    /// When the store fails.
    pub fn authors(&self) -> Result<Vec<Author>, TwinError> {
        Ok(self.parts.store.authors()?)
    }

    /// The twin behind a model name: `ada` for what serves, `ada@release-3` for a release, `ada@v2` for a version. Blocking: it
    /// may load an adapter.
    ///
    /// # Errors
    /// [`TwinError::Unknown`] when there is no such author, release or version.
    pub fn twin(&self, name: &str) -> Result<Twin, TwinError> {
        self.twin_of(name, None)
    }

    /// The same by one of the author's releases in place of the one that serves.
    ///
    /// # Errors
    /// As [`Self::twin`].
    pub fn twin_of(&self, name: &str, release: Option<u32>) -> Result<Twin, TwinError> {
        let unknown = || TwinError::Unknown(name.to_owned());
        let version: Option<ModelVersionId> = name.parse().ok();
        let named = name.split_once(RELEASE).and_then(|(author, number)| Some((author, number.parse::<u32>().ok()?)));
        let id = match (&version, named) {
            (Some(version), _) => version.author.clone(),
            (None, Some((author, _))) => AuthorId::parse(author).map_err(|_| unknown())?,
            (None, None) => AuthorId::parse(name).map_err(|_| unknown())?,
        };
        let author = match self.parts.store.author(&id) {
            Err(StoreError::NotFound { .. }) => return Err(unknown()),
            author => author?,
        };
        let release = match named.map(|(_, number)| number) {
            Some(number) => match self.release(&id, number) {
                Err(TwinError::Registry(RegistryError::NotFound { .. })) => return Err(unknown()),
                release => Some(release?),
            },
            None => self.release_or_serving(&id, release)?,
        };
        let model = version.or_else(|| release.as_ref().map(|release| release.model.clone()));
        // What answers without the voice must not be said to have it.
        let model = model.filter(|_| self.parts.model.takes_adapters());
        let adapter = model.as_ref().map(|model| self.adapter(model)).transpose()?;
        let view = match &release {
            Some(release) => release.feature_view.clone(),
            None => self.parts.store.serving_view()?.ok_or(TwinError::NoFeatures)?,
        };
        self.check_view(&view)?;
        Ok(Twin { author, release, model, adapter, view })
    }

    fn release_or_serving(&self, author: &AuthorId, release: Option<u32>) -> Result<Option<Release>, TwinError> {
        match release {
            Some(number) => Ok(Some(self.release(author, number)?)),
            None => Ok(self.parts.registry.serving(author)?),
        }
    }

    /// Questions must go through the embedder that the passages went through, or similarities mean nothing.
    fn check_view(&self, id: &FeatureViewId) -> Result<(), TwinError> {
        let cannot = |problem: String| Err(TwinError::View { view: id.clone(), problem });
        let views = self.parts.store.views()?;
        let Some(view) = views.iter().find(|view| view.id() == *id) else {
            return cannot("it is not in the feature store; ingest again, or promote a release of another view".into());
        };
        let embedder = self.parts.embedder.as_ref();
        if view.embedder_digest != *embedder.digest() {
            let (made, loaded) = (&view.embedder, embedder.name());
            return cannot(format!("it was made with `{made}`, and the embedder that is loaded is `{loaded}`"));
        }
        Ok(())
    }

    fn adapter(&self, model: &ModelVersionId) -> Result<Arc<Adapter>, TwinError> {
        self.adapters.get(model, || {
            let directory = match self.parts.registry.open(model) {
                Err(RegistryError::NotFound { .. }) => return Err(TwinError::Unknown(model.to_string())),
                directory => directory?,
            };
            let failed = |source| TwinError::Adapter { model: model.clone(), source };
            self.parts.model.load_adapter(&directory).map_err(failed)
        })
    }
}
