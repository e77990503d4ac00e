//! Which part is made of what. Everything is opened when it is first asked for, so that a command touches only what it needs.

use std::sync::Arc;

use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;
use twin_domain::{AuthorId, CancelFlag, FeatureStore, FeatureViewId, ModelRegistry};
use twin_feature_pipeline::fetch::FetchConfig;
use twin_feature_pipeline::{IngestOptions, Warehouse, feature_view};
use twin_feature_store::EmbeddedFeatureStore;
use twin_model_registry::LocalRegistry;
use twin_models::embedding::Embedder;
use twin_models::language::{Llama, LoadOptions};
use twin_models::{HubToken, Models, ModelsConfig};

use crate::args::GlobalArguments;
use crate::config::{Config, Secret};
use crate::progress::TerminalProgress;

/// The parts of a running `twin`.
pub struct Wiring {
    pub config: Config,
    pub json: bool,
    pub progress: Arc<TerminalProgress>,
    pub cancel: CancelFlag,
    pub models: Arc<Models>,
    store: OnceCell<Arc<EmbeddedFeatureStore>>,
    embedder: OnceCell<Arc<dyn Embedder>>,
    language_model: OnceCell<Arc<Llama>>,
    warehouse: OnceCell<Warehouse>,
}

impl Wiring {
    /// Resolves the configuration. Nothing is opened yet.
    pub fn new(arguments: &GlobalArguments) -> anyhow::Result<Self> {
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
            json: arguments.json,
            progress: Arc::new(TerminalProgress::new(arguments.quiet)),
            cancel: CancelFlag::new(),
            models: Arc::new(models),
            store: OnceCell::new(),
            embedder: OnceCell::new(),
            language_model: OnceCell::new(),
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
                    std::process::exit(130);
                }
                asked = true;
                cancel.cancel();
                crate::output::remark("stopping at the next safe place; press Ctrl-C again to end at once");
            }
        });
    }

    /// The feature store. Only one process may have it open.
    pub async fn store(&self) -> anyhow::Result<Arc<EmbeddedFeatureStore>> {
        let open = || async {
            let path = self.config.feature_store();
            let store = blocking(move || EmbeddedFeatureStore::open(&path)).await?;
            Ok::<_, anyhow::Error>(Arc::new(store))
        };
        self.store.get_or_try_init(open).await.cloned()
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

    /// The language model, fetched if it is not here.
    pub async fn language_model(&self) -> anyhow::Result<Arc<Llama>> {
        let load = || async {
            let (models, name) = (Arc::clone(&self.models), self.config.models.base.clone());
            let (progress, cancel) = (Arc::clone(&self.progress), self.cancel.clone());
            let load = move || -> anyhow::Result<Llama> {
                let base = models.base_model(&name)?;
                let file = models.language_model_file(&name, progress.as_ref(), &cancel)?;
                let options = LoadOptions { name, digest: Some(base.digest), ..LoadOptions::default() };
                Ok(Llama::load(&file, options)?)
            };
            Ok::<_, anyhow::Error>(Arc::new(blocking(load).await?))
        };
        self.language_model.get_or_try_init(load).await.cloned()
    }

    /// How posts are taken in.
    pub fn ingest_options(&self) -> IngestOptions {
        IngestOptions {
            max_chunk_tokens: self.config.features.max_chunk_tokens,
            mask_private: self.config.features.mask_private,
            fetch: FetchConfig { allow_net: self.config.features.allow_net.clone(), ..FetchConfig::default() },
            services: self.config.features.services.clone(),
            clones: Some(self.config.clones()),
            ..IngestOptions::default()
        }
    }

    /// The view that serves; the one the configuration asks for while none does.
    pub async fn view(&self) -> anyhow::Result<FeatureViewId> {
        if let Some(view) = self.store().await?.serving_view()? {
            return Ok(view);
        }
        Ok(feature_view(self.embedder().await?.as_ref(), &self.ingest_options()).id())
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
