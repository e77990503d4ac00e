//! Models by name: fetched if need be, loaded, ready to use.

use std::path::PathBuf;
use std::sync::Arc;

use twin_domain::{BaseModel, CancelFlag, Progress};

use crate::cache::{ModelCache, ModelError};
use crate::catalogue::{self, Entry, Kind, Role};
use crate::download::{DownloadConfig, Downloader, HubToken};
use crate::embedding::{EmbedError, Embedder, FastEmbedder};
use crate::language::{Llama, LoadModelError, LoadOptions, model_digest};
use crate::onnx::{self, OnnxError};

/// Where models are kept, where they come from, and what they may use.
#[derive(Debug, Clone)]
pub struct ModelsConfig {
    /// The model cache.
    pub cache_dir: PathBuf,
    /// The Hugging Face Hub or a mirror of it. Default: the hub.
    pub hub_endpoint: Option<String>,
    pub hub_token: Option<HubToken>,
    /// Download nothing: what is missing is an error.
    pub offline: bool,
    /// The ONNX Runtime library, when it is neither in the cache nor in a system directory.
    pub onnx_runtime: Option<PathBuf>,
    /// How many threads a model may use. Default: as many as there are cores.
    pub threads: Option<usize>,
}

impl ModelsConfig {
    /// The defaults with the models in `cache_dir`.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        let cache_dir = cache_dir.into();
        Self { cache_dir, hub_endpoint: None, hub_token: None, offline: false, onnx_runtime: None, threads: None }
    }
}

/// Why a model is not ready to use.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    #[error("the files of the model `{model}` are not there")]
    Files {
        model: String,
        #[source]
        source: ModelError,
    },
    #[error("the model `{path}` could not be read")]
    LocalModel {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{model}` is not {wanted}: see `twin models list`")]
    WrongKind { model: String, wanted: &'static str },
    #[error("the embedding model `{model}` needs ONNX Runtime")]
    OnnxRuntime {
        model: String,
        #[source]
        source: OnnxError,
    },
    #[error(transparent)]
    Embedder(#[from] EmbedError),
    #[error("the language model `{model}` could not be loaded")]
    LanguageModel {
        model: String,
        #[source]
        source: Box<LoadModelError>,
    },
}

/// All models, by their catalogue names.
#[derive(Debug)]
pub struct Models {
    config: ModelsConfig,
    downloader: Downloader,
}

impl Models {
    /// The models that `config` describes. Nothing is read or fetched yet.
    pub fn new(config: ModelsConfig) -> Self {
        let mut download = DownloadConfig {
            hub_token: config.hub_token.clone(),
            offline: config.offline,
            ..DownloadConfig::default()
        };
        if let Some(endpoint) = &config.hub_endpoint {
            download.hub_endpoint.clone_from(endpoint);
        }
        let downloader = Downloader::new(ModelCache::new(&config.cache_dir), download);
        Self { config, downloader }
    }

    /// The cache, for listing, checking and importing.
    pub fn cache(&self) -> &ModelCache {
        self.downloader.cache()
    }

    /// The directory with the files of an entry, fetched if need be.
    ///
    /// # Errors
    /// [`ModelError`] with what was tried.
    pub fn pull(&self, name: &str, progress: &dyn Progress, cancel: &CancelFlag) -> Result<PathBuf, ModelError> {
        let entry = catalogue::entry(name).ok_or_else(|| ModelError::unknown(name))?;
        self.downloader.pull(entry, progress, cancel)
    }

    /// An embedding model, fetched if need be together with the library it runs on, and loaded.
    ///
    /// # Errors
    /// [`ModelsError`] when its files or ONNX Runtime are not to be had, or do not load.
    pub fn embedder(
        &self,
        name: &str,
        progress: &dyn Progress,
        cancel: &CancelFlag,
    ) -> Result<Arc<dyn Embedder>, ModelsError> {
        let entry = of_kind(name, Kind::Embedder, "an embedding model")?;
        let directory = self.files(entry, progress, cancel)?;
        let environment = self.onnx_environment(entry, progress, cancel)?;
        Ok(Arc::new(FastEmbedder::load(entry, &directory, environment, self.threads())?))
    }

    /// A language model by its catalogue name, fetched if need be, or by where it is, and loaded: to answer with, and to train adapters for.
    ///
    /// # Errors
    /// [`ModelsError`] when its file is not to be had or does not load.
    pub fn language_model(
        &self,
        name: &str,
        progress: &dyn Progress,
        cancel: &CancelFlag,
    ) -> Result<Arc<Llama>, ModelsError> {
        let base = self.base_model(name)?;
        let path = self.language_model_file(name, progress, cancel)?;
        let options = LoadOptions {
            name: base.name,
            digest: Some(base.digest),
            threads: self.config.threads,
            ..LoadOptions::default()
        };
        let failed = |source| ModelsError::LanguageModel { model: name.to_owned(), source: Box::new(source) };
        Ok(Arc::new(Llama::load(&path, options).map_err(failed)?))
    }

    /// The weights file of a language model, fetched if need be.
    ///
    /// # Errors
    /// [`ModelsError`] when it is not to be had.
    pub fn language_model_file(
        &self,
        name: &str,
        progress: &dyn Progress,
        cancel: &CancelFlag,
    ) -> Result<PathBuf, ModelsError> {
        if let Some(path) = local(name) {
            return Ok(path);
        }
        let entry = of_kind(name, Kind::LanguageModel, "a language model")?;
        let directory = self.files(entry, progress, cancel)?;
        let weights = entry.file(Role::Weights).ok_or_else(|| wrong_kind(name, "a language model"))?;
        Ok(directory.join(weights.name))
    }

    /// What training and registration record about a language model. Needs no files.
    ///
    /// # Errors
    /// [`ModelsError`] when there is no such language model in the catalogue.
    pub fn base_model(&self, name: &str) -> Result<BaseModel, ModelsError> {
        if let Some(path) = local(name) {
            let file = path.file_stem().map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned());
            let failed = |source| ModelsError::LocalModel { path: path.clone(), source };
            return Ok(BaseModel { name: file, hub: name.to_owned(), digest: model_digest(&path).map_err(failed)? });
        }
        let entry = of_kind(name, Kind::LanguageModel, "a language model")?;
        let (Some(hub), Some(digest)) = (entry.base_model, entry.weights_digest()) else {
            return Err(wrong_kind(name, "a language model"));
        };
        Ok(BaseModel { name: entry.name.to_owned(), hub: hub.to_owned(), digest })
    }

    fn files(
        &self,
        entry: &'static Entry,
        progress: &dyn Progress,
        cancel: &CancelFlag,
    ) -> Result<PathBuf, ModelsError> {
        let failed = |source| ModelsError::Files { model: entry.name.to_owned(), source };
        self.downloader.pull(entry, progress, cancel).map_err(failed)
    }

    /// The library that was named, the cached one, the system's, and only then one that is fetched.
    fn onnx_environment(
        &self,
        entry: &Entry,
        progress: &dyn Progress,
        cancel: &CancelFlag,
    ) -> Result<ort::environment::Environment, ModelsError> {
        let failed = |source| ModelsError::OnnxRuntime { model: entry.name.to_owned(), source };
        let runtime = catalogue::onnx_runtime();
        let named = self.config.onnx_runtime.as_deref();
        let library = |directory: PathBuf| runtime.file(Role::Library).map(|file| directory.join(file.name));
        let cached = self.cache().path(runtime).ok().and_then(library);
        match onnx::load(named, cached.as_deref()) {
            Err(OnnxError::NotFound { .. }) if !runtime.files.is_empty() => {
                let fetched = library(self.files(runtime, progress, cancel)?);
                onnx::load(named, fetched.as_deref()).map_err(failed)
            }
            loaded => loaded.map_err(failed),
        }
    }

    fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.config.threads.unwrap_or_else(cores).max(1)
    }
}

/// A model that is named by where it is: a `.gguf` file, or a Hugging Face folder.
fn local(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(name);
    let is_named_so = path.extension().is_some_and(|ending| ending == "gguf") || path.components().count() > 1;
    is_named_so.then_some(path)
}

fn of_kind(name: &str, kind: Kind, wanted: &'static str) -> Result<&'static Entry, ModelsError> {
    let unknown = || ModelsError::Files { model: name.to_owned(), source: ModelError::unknown(name) };
    let entry = catalogue::entry(name).ok_or_else(unknown)?;
    if entry.kind == kind { Ok(entry) } else { Err(wrong_kind(name, wanted)) }
}

fn wrong_kind(name: &str, wanted: &'static str) -> ModelsError {
    ModelsError::WrongKind { model: name.to_owned(), wanted }
}
