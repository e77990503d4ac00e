//! Settings: flags over environment over `twin.toml` over defaults. Resolved once; each pipeline is given only its part.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};
use twin_feature_pipeline::ServiceAddresses;
use twin_feature_store::{Quantization, ServerOptions, WriteOrder};
use twin_inference_pipeline::retrieve::RetrievalConfig;
use twin_training_pipeline::run::TrainingOptions;

use crate::args::GlobalArguments;

/// Every setting. `twin.toml` at the root of the repository has each with its default and a comment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the warehouse, the feature store, the registry and the conversations are.
    pub data_dir: PathBuf,
    /// Who promotes and annotates, for the record: the name of the account, unless it is set.
    pub operator: String,
    pub models: ModelSettings,
    pub features: FeatureSettings,
    pub store: StoreSettings,
    /// How adapters are trained; what is not said is the preset's.
    pub training: TrainingOptions,
    /// How passages are chosen; each stage can be switched off.
    pub retrieval: RetrievalConfig,
    pub server: ServerSettings,
    /// Where the language model runs, if not here.
    pub generation: GenerationSettings,
    pub telemetry: TelemetrySettings,
    pub judge: JudgeSettings,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationSettings {
    /// The address up to `/v1` of an OpenAI-compatible server; the model runs in this process when there is none.
    pub url: Option<String>,
    /// The model's name there; `models.base` when there is none.
    pub model: Option<String>,
    /// How many tokens its context has, prompt and answer together.
    pub context_length: usize,
    /// The server's key. From the environment (`TWIN__GENERATION__API_KEY`), never printed.
    #[serde(skip_serializing)]
    pub api_key: Option<Secret>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JudgeSettings {
    /// The key of the server that `twin bench style --judge` names. From the environment (`TWIN__JUDGE__API_KEY`), never
    /// printed.
    #[serde(skip_serializing)]
    pub api_key: Option<Secret>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// Where model files are kept; shared by everything on this machine.
    pub cache_dir: PathBuf,
    /// The catalogue name of the embedding model.
    pub embedder: String,
    /// The catalogue name of the language model.
    pub base: String,
    /// The Hugging Face Hub or a mirror of it.
    pub hub_endpoint: Option<String>,
    /// Never download.
    pub offline: bool,
    /// The ONNX Runtime library, when it is neither in the cache nor in a system directory.
    pub onnx_runtime: Option<PathBuf>,
    /// A token for the hub. From the environment or the hub's own token file, never from `twin.toml`.
    #[serde(skip)]
    pub hub_token: Option<Secret>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSettings {
    /// The most tokens a chunk may have with its title and headings; the embedder sees 256.
    pub max_chunk_tokens: usize,
    /// Private addresses that may be fetched from, as `host:port`.
    pub allow_net: Vec<String>,
    /// Whether e-mail addresses, phone numbers and keys are masked before anything is embedded.
    pub mask_private: bool,
    /// How often `twin serve` reads all sources again, in hours; 0 is never. Fractions are hours, too.
    pub sync_every_hours: f64,
    /// Where the APIs of services are from which posts are read by a user's name.
    pub services: ServiceAddresses,
    /// The job queue from which `twin worker` takes texts to embed; this process embeds when there is none. It may have a
    /// password (`TWIN__FEATURES__QUEUE`), so it is never printed.
    #[serde(skip_serializing)]
    pub queue: Option<Secret>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// The address of a Qdrant server's gRPC port; the engine runs in this process when there is none.
    pub url: Option<String>,
    /// The server's key. From the environment (`TWIN__STORE__API_KEY`), never printed.
    #[serde(skip_serializing)]
    pub api_key: Option<Secret>,
    /// What the names of collections begin with on the server.
    pub prefix: String,
    pub shard_number: Option<u32>,
    pub replication_factor: Option<u32>,
    pub write_consistency_factor: Option<u32>,
    pub write_order: WriteOrder,
    pub on_disk_vectors: bool,
    /// How vectors are held small for searching, in either engine.
    pub quantization: Quantization,
    pub timeout_seconds: u64,
    pub retries: u32,
    /// About how many bytes of chunks go into one request.
    pub batch_bytes: usize,
}

impl StoreSettings {
    /// The options of the server at `url`.
    pub fn server(&self, url: &str) -> ServerOptions {
        ServerOptions {
            api_key: self.api_key.as_ref().map(|key| key.expose().to_owned()),
            prefix: self.prefix.clone(),
            shard_number: self.shard_number,
            replication_factor: self.replication_factor,
            write_consistency_factor: self.write_consistency_factor,
            write_order: self.write_order,
            on_disk_vectors: self.on_disk_vectors,
            quantization: self.quantization,
            timeout: Duration::from_secs(self.timeout_seconds),
            retries: self.retries,
            batch_bytes: self.batch_bytes,
            ..ServerOptions::new(url)
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// The address to listen on. Anything but loopback needs an API key.
    pub bind: String,
    /// Names by which browsers may reach the server, besides the loopback ones.
    pub hosts: Vec<String>,
    /// How many answers are written together.
    pub together: usize,
    /// How many more requests may wait for the model.
    pub queue: usize,
    /// How many adapters are kept in memory over the one base model.
    pub adapters: usize,
    /// How many requests the bearer of one key may make in a minute, and how many tokens they may cost; 0 is no limit.
    pub requests_per_minute: u32,
    pub tokens_per_minute: u32,
    /// Whether what a reader is still typing on the page is looked up and read by the model, while nobody is answered.
    pub read_ahead: bool,
    /// An answer ends after so many seconds, waiting included.
    pub deadline_seconds: u64,
    /// How long open answers may go on after a request to stop.
    pub grace_seconds: u64,
    /// The keys that clients must show one of, with commas between them. From the environment (`TWIN__SERVER__API_KEY`),
    /// never printed.
    #[serde(skip_serializing)]
    pub api_key: Option<Secret>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySettings {
    /// The address of an OpenTelemetry collector that takes OTLP over HTTP; nothing is sent when there is none.
    pub otlp: Option<String>,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl Config {
    /// What is in force.
    ///
    /// # Errors
    /// When a file cannot be read, a key is unknown or a value has the wrong type; the error names the key and where it is from.
    pub fn load(arguments: &GlobalArguments) -> anyhow::Result<Self> {
        let mut figment = Figment::from(Serialized::defaults(Self::default_values()?));
        figment = match &arguments.config {
            Some(file) if !file.is_file() => anyhow::bail!("there is no configuration file `{}`", file.display()),
            Some(file) => figment.merge(Toml::file_exact(file)),
            // Here alone, not in the directories above: what is in force must not depend on who owns `/tmp`.
            None if Path::new("twin.toml").is_file() => figment.merge(Toml::file_exact("twin.toml")),
            None => figment,
        };
        figment = figment.merge(Env::prefixed("TWIN__").split("__"));
        if let Some(dir) = &arguments.data_dir {
            figment = figment.merge(Serialized::default("data_dir", dir));
        }
        let mut config: Self = figment.extract().context("the configuration is not valid")?;
        config.models.hub_endpoint = config.models.hub_endpoint.or_else(|| environment("HF_ENDPOINT"));
        config.models.offline |= environment("HF_HUB_OFFLINE").is_some_and(|value| value == "1" || value == "true");
        config.models.onnx_runtime =
            config.models.onnx_runtime.or_else(|| environment("ORT_DYLIB_PATH").map(PathBuf::from));
        config.models.hub_token = hub_token();
        config.data_dir = std::path::absolute(&config.data_dir).context("the data directory has no absolute path")?;
        Ok(config)
    }

    fn default_values() -> anyhow::Result<Self> {
        Ok(Self {
            data_dir: base_dir("XDG_DATA_HOME", ".local/share")?.join("twin"),
            operator: environment("USER").or_else(|| environment("LOGNAME")).unwrap_or_else(|| "somebody".to_owned()),
            models: ModelSettings {
                cache_dir: base_dir("XDG_CACHE_HOME", ".cache")?.join("twin/models"),
                embedder: "all-minilm-l6-v2".to_owned(),
                base: "smollm2-135m-instruct".to_owned(),
                hub_endpoint: None,
                offline: false,
                onnx_runtime: None,
                hub_token: None,
            },
            features: FeatureSettings {
                max_chunk_tokens: 220,
                allow_net: Vec::new(),
                mask_private: true,
                sync_every_hours: 0.0,
                services: ServiceAddresses::default(),
                queue: None,
            },
            store: default_store(),
            retrieval: RetrievalConfig::default(),
            training: TrainingOptions::default(),
            server: ServerSettings {
                bind: "127.0.0.1:8080".to_owned(),
                hosts: Vec::new(),
                together: 8,
                queue: 16,
                adapters: 8,
                requests_per_minute: 0,
                tokens_per_minute: 0,
                read_ahead: true,
                deadline_seconds: 300,
                grace_seconds: 20,
                api_key: None,
            },
            generation: GenerationSettings { url: None, model: None, context_length: 8192, api_key: None },
            telemetry: TelemetrySettings::default(),
            judge: JudgeSettings::default(),
        })
    }

    pub fn warehouse(&self) -> PathBuf {
        self.data_dir.join("warehouse.sqlite")
    }

    pub fn feature_store(&self) -> PathBuf {
        self.data_dir.join("features")
    }

    pub fn training_sets(&self) -> PathBuf {
        self.feature_store().join("training-sets")
    }

    pub fn registry(&self) -> PathBuf {
        self.data_dir.join("registry")
    }

    /// Where clones of repositories are kept.
    pub fn clones(&self) -> PathBuf {
        self.data_dir.join("clones")
    }

    pub fn runs(&self) -> PathBuf {
        self.data_dir.join("runs")
    }

    pub fn conversations(&self) -> PathBuf {
        self.data_dir.join("conversations")
    }
}

fn default_store() -> StoreSettings {
    let server = ServerOptions::new("");
    StoreSettings {
        url: None,
        api_key: None,
        prefix: server.prefix,
        shard_number: server.shard_number,
        replication_factor: server.replication_factor,
        write_consistency_factor: server.write_consistency_factor,
        write_order: server.write_order,
        on_disk_vectors: server.on_disk_vectors,
        quantization: server.quantization,
        timeout_seconds: server.timeout.as_secs(),
        retries: server.retries,
        batch_bytes: server.batch_bytes,
    }
}

/// The directory of the XDG Base Directory Specification, or its default below the home directory.
fn base_dir(variable: &str, default: &str) -> anyhow::Result<PathBuf> {
    let absolute = environment(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let below_home = || std::env::home_dir().filter(|home| home.is_absolute()).map(|home| home.join(default));
    absolute.or_else(below_home).with_context(|| {
        format!("there is no home directory: set `{variable}`, or give `--data-dir` and `TWIN__MODELS__CACHE_DIR`")
    })
}

fn environment(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

/// The hub's token, from the places where its own clients look.
fn hub_token() -> Option<Secret> {
    let file = environment("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| {
        let home = environment("HF_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(std::env::home_dir()?.join(".cache/huggingface")))?;
        Some(home.join("token"))
    });
    let read = |path: PathBuf| std::fs::read_to_string(Path::new(&path)).ok();
    let token = environment("HF_TOKEN").or_else(|| file.and_then(read))?;
    let token = token.trim();
    (!token.is_empty()).then(|| Secret(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_at_the_root_says_the_defaults() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../twin.toml");
        let defaults = Config::default_values().unwrap();
        let said = Figment::from(Serialized::defaults(&defaults)).merge(Toml::file_exact(file));
        assert_eq!(said.extract::<Config>().unwrap(), defaults);
    }
}
