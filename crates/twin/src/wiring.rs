//! Which part is made of what. Everything is opened when it is first asked for, so that a command touches only what it needs.

use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::OnceCell;
use twin_domain::{AuthorId, CancelFlag, FeatureStore, FeatureViewId, ModelRegistry, TrainingSetStore};
use twin_feature_pipeline::fetch::FetchConfig;
use twin_feature_pipeline::workers::{Queue, QueuedEmbedder};
use twin_feature_pipeline::{IngestOptions, Warehouse, feature_view};
use twin_feature_store::{EmbeddedFeatureStore, QdrantServer, StoreOptions};
#[cfg(unix)]
use twin_feature_store::{SharedFeatureStore, Sharing};
use twin_model_registry::LocalRegistry;
use twin_models::embedding::Embedder;
use twin_models::language::{LanguageModel, Llama, LoadOptions, RemoteModel};
use twin_models::{HubToken, Models, ModelsConfig};

use crate::args::GlobalArguments;
use crate::config::{Config, Secret};
use crate::progress::TerminalProgress;

/// How many chunks are loaded together where workers embed them.
const QUEUED_CHUNKS: usize = 2048;

/// The exit code of what Ctrl-C stopped: 128 and the number of the signal, as shells have it.
pub const STOPPED: u8 = 130;

/// The whole feature store: features and training sets.
pub trait Store: FeatureStore + TrainingSetStore {}

impl<T: FeatureStore + TrainingSetStore> Store for T {}

/// The parts of a running `twin`.
pub struct Wiring {
    pub config: Config,
    /// The command, as in `serve`.
    verb: String,
    pub json: bool,
    pub progress: Arc<TerminalProgress>,
    pub cancel: CancelFlag,
    pub models: Arc<Models>,
    store: OnceCell<Arc<dyn Store>>,
    embedder: OnceCell<Arc<dyn Embedder>>,
    language_model: OnceCell<Arc<Llama>>,
    answering_model: OnceCell<Arc<Llama>>,
    warehouse: OnceCell<Warehouse>,
}

impl Wiring {
    /// Resolves the configuration. Nothing is opened yet.
    pub fn new(arguments: &GlobalArguments, verb: &str) -> anyhow::Result<Self> {
        let config = Config::load(arguments)?;
        let models = Models::new(ModelsConfig {
            hub_endpoint: config.models.hub_endpoint.clone(),
            hub_token: config.models.hub_token.as_ref().map(|token: &Secret| HubToken::new(token.expose())),
            offline: config.models.offline,
            onnx_runtime: config.models.onnx_runtime.clone(),
            ..ModelsConfig::new(&config.models.cache_dir)
        });
        Ok(Self {
            config,
            verb: verb.to_owned(),
            json: arguments.json,
            progress: Arc::new(TerminalProgress::new(arguments.quiet)),
            cancel: CancelFlag::new(),
            models: Arc::new(models),
            store: OnceCell::new(),
            embedder: OnceCell::new(),
            language_model: OnceCell::new(),
            answering_model: OnceCell::new(),
            warehouse: OnceCell::new(),
        })
    }

    /// The first Ctrl-C asks the work to stop at the next safe place; the second ends the process.
    pub fn cancel_on_ctrl_c(&self, runtime: &Runtime) {
        let cancel = self.cancel.clone();
        runtime.spawn(async move {
            let mut asked = false;
            while tokio::signal::ctrl_c().await.is_ok() {
                if asked {
                    std::process::exit(STOPPED.into());
                }
                asked = true;
                cancel.cancel();
                crate::output::remark("stopping at the next safe place; press Ctrl-C again to end at once");
            }
        });
    }

    /// The feature store: on the configured Qdrant server, or in this process, where only one may have it open.
    pub async fn store(&self) -> anyhow::Result<Arc<dyn Store>> {
        let open = || async {
            let store: Arc<dyn Store> = match &self.config.store.url {
                Some(url) => self.server(url).await?,
                None => self.local_store().await?,
            };
            Ok::<_, anyhow::Error>(store)
        };
        self.store.get_or_try_init(open).await.cloned()
    }

    /// The feature store in the data directory: in this process, or through the one that shares it, as `twin serve` does.
    pub async fn local_store(&self) -> anyhow::Result<Arc<dyn Store>> {
        #[cfg(unix)]
        {
            let (path, sets) = (self.config.feature_store(), self.config.training_sets());
            if let Some(shared) = blocking(move || SharedFeatureStore::connect(&path, &sets)).await? {
                return Ok(Arc::new(shared));
            }
        }
        let path = self.config.feature_store();
        let (quantization, purpose) = (self.config.store.quantization, format!("twin {}", self.verb));
        let options = StoreOptions { quantization, purpose, ..StoreOptions::default() };
        Ok(Arc::new(blocking(move || EmbeddedFeatureStore::open_with(&path, options)).await?))
    }

    /// Answers other commands about the store that this process has open, until what is returned is dropped. Without it
    /// they are told who has it.
    #[cfg(unix)]
    pub async fn share_store(&self) -> anyhow::Result<Option<Sharing>> {
        if self.config.store.url.is_some() {
            return Ok(None);
        }
        let (store, path): (Arc<dyn FeatureStore>, _) = (self.store().await?, self.config.feature_store());
        let shared = blocking(move || Sharing::start(store, &path)).await;
        Ok(shared
            .inspect_err(|error| tracing::warn!("other commands cannot use the feature store meanwhile: {error:#}"))
            .ok())
    }

    /// The feature store on a Qdrant server.
    pub async fn server(&self, url: &str) -> anyhow::Result<Arc<QdrantServer>> {
        let (options, training_sets) = (self.config.store.server(url), self.config.training_sets());
        Ok(Arc::new(blocking(move || QdrantServer::open(options, &training_sets)).await?))
    }

    /// The model registry.
    pub fn registry(&self) -> anyhow::Result<Arc<LocalRegistry>> {
        Ok(Arc::new(LocalRegistry::open(&self.config.registry())?))
    }

    /// The warehouse of documents.
    pub async fn warehouse(&self) -> anyhow::Result<&Warehouse> {
        let open = || async {
            std::fs::create_dir_all(&self.config.data_dir)
                .with_context(|| format!("could not make the directory `{}`", self.config.data_dir.display()))?;
            Ok::<_, anyhow::Error>(Warehouse::open(&self.config.warehouse()).await?)
        };
        self.warehouse.get_or_try_init(open).await
    }

    /// The embedding model, fetched if it is not here.
    pub async fn embedder(&self) -> anyhow::Result<Arc<dyn Embedder>> {
        let load = || async {
            let (models, name) = (Arc::clone(&self.models), self.config.models.embedder.clone());
            let (progress, cancel) = (Arc::clone(&self.progress), self.cancel.clone());
            blocking(move || models.embedder(&name, progress.as_ref(), &cancel)).await
        };
        self.embedder.get_or_try_init(load).await.cloned()
    }

    /// What embeds posts: the embedding model, or the workers of the job queue that is configured.
    pub async fn ingest_embedder(&self) -> anyhow::Result<Arc<dyn Embedder>> {
        let local = self.embedder().await?;
        match &self.config.features.queue {
            None => Ok(local),
            Some(address) => {
                let queue = Queue::open(address.expose()).await?;
                Ok(Arc::new(QueuedEmbedder::new(local, queue, self.cancel.clone())))
            }
        }
    }

    /// The language model, fetched if it is not here.
    pub async fn language_model(&self) -> anyhow::Result<Arc<Llama>> {
        self.language_model.get_or_try_init(|| self.load(false)).await.cloned()
    }

    /// The language model in the form in which it only answers, which takes a third of the memory; the whole one where that is
    /// there already.
    pub async fn local_answering_model(&self) -> anyhow::Result<Arc<Llama>> {
        match self.language_model.get() {
            Some(model) => Ok(Arc::clone(model)),
            None => self.answering_model.get_or_try_init(|| self.load(true)).await.cloned(),
        }
    }

    async fn load(&self, answers_only: bool) -> anyhow::Result<Arc<Llama>> {
        let (models, name) = (Arc::clone(&self.models), self.config.models.base.clone());
        let (progress, cancel) = (Arc::clone(&self.progress), self.cancel.clone());
        let load = move || -> anyhow::Result<Llama> {
            let base = models.base_model(&name)?;
            let file = models.language_model_file(&name, progress.as_ref(), &cancel)?;
            let options = LoadOptions { name, digest: Some(base.digest), answers_only, ..LoadOptions::default() };
            Ok(Llama::load(&file, options)?)
        };
        Ok(Arc::new(blocking(load).await?))
    }

    /// The language model that answers: on the configured server, or in this process.
    pub async fn answering_model(&self) -> anyhow::Result<Arc<dyn LanguageModel>> {
        let settings = &self.config.generation;
        let Some(url) = &settings.url else { return Ok(self.local_answering_model().await?) };
        let model = settings.model.as_deref().unwrap_or(&self.config.models.base);
        let key = settings.api_key.as_ref().map(|key| key.expose().to_owned());
        Ok(Arc::new(RemoteModel::new(url, model, key, settings.context_length, Handle::current())?))
    }

    /// How posts are taken in.
    pub fn ingest_options(&self) -> IngestOptions {
        let default = IngestOptions::default();
        // Workers are busy together only if there is enough at once.
        let batch_chunks = if self.config.features.queue.is_some() { QUEUED_CHUNKS } else { default.batch_chunks };
        IngestOptions {
            batch_chunks,
            max_chunk_tokens: self.config.features.max_chunk_tokens,
            mask_private: self.config.features.mask_private,
            fetch: FetchConfig { allow_net: self.config.features.allow_net.clone(), ..FetchConfig::default() },
            services: self.config.features.services.clone(),
            clones: Some(self.config.clones()),
            ..default
        }
    }

    /// The view that serves; the one the configuration asks for while none does.
    pub async fn view(&self) -> anyhow::Result<FeatureViewId> {
        if let Some(view) = self.store().await?.serving_view()? {
            return Ok(view);
        }
        Ok(feature_view(self.embedder().await?.as_ref(), &self.ingest_options()).id())
    }

    /// The view that serves, which must be of the embedder that questions go through: others' similarities mean nothing.
    pub async fn searchable_view(&self) -> anyhow::Result<FeatureViewId> {
        let (store, embedder, id) = (self.store().await?, self.embedder().await?, self.view().await?);
        let views = store.views()?;
        match views.iter().find(|view| view.id() == id) {
            Some(view) if view.embedder_digest != *embedder.digest() => bail!(
                "{id} was made with the embedder `{}` ({}), and the one that is configured is `{}` ({}): configure that one, or \
                 `twin features build` a view with this one and switch to it",
                view.embedder,
                view.embedder_digest.short(),
                embedder.name(),
                embedder.digest().short()
            ),
            None if !views.is_empty() => bail!(
                "no feature view serves, and {id}, which the configuration asks for, is not in the feature store: `twin ingest` the \
                 posts, or let a view serve that is there (`twin features list`, `twin features switch`)"
            ),
            _ => Ok(id),
        }
    }

    /// Who acts, for the record.
    pub fn operator(&self) -> &str {
        &self.config.operator
    }

    /// The authors to act on: the one that was named, or all.
    pub fn authors(&self, named: Option<AuthorId>) -> anyhow::Result<Vec<AuthorId>> {
        match named {
            Some(author) => Ok(vec![author]),
            None => Ok(self.registry()?.authors()?),
        }
    }
}

/// Runs blocking work on a thread of its own.
pub async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> anyhow::Result<T>
where
    T: Send + 'static,
    E: Into<anyhow::Error> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.context("a worker thread panicked")?.map_err(Into::into)
}
