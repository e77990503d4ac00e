//! Adapters on disk in the layout of Hugging Face's PEFT: `adapter_config.json` and `adapter_model.safetensors`, as Python,
//! vLLM and llama.cpp's converter read them.
//!
//! PEFT ignores tensors whose names it does not know; here every tensor must be there, with its shape, and none besides.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};

use super::checkpoint::to_bytes;
use super::durable;
use super::llama::Llama;
use super::lora::{Adapter, AdapterTensor, LoraConfig, LoraConfigError, Projection};
use super::weights::to_f32;

const CONFIG_FILE: &str = "adapter_config.json";
const WEIGHTS_FILE: &str = "adapter_model.safetensors";

/// Why an adapter could not be saved or loaded.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    #[error("could not write `{path}`")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("could not read `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{path}` is not a valid PEFT configuration")]
    Config {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("`{path}` uses {feature}, which is not supported: export the adapter as plain LoRA")]
    Feature { path: PathBuf, feature: String },
    #[error("`{path}` is not a valid safetensors file")]
    Safetensors {
        path: PathBuf,
        #[source]
        source: SafeTensorError,
    },
    #[error("the adapter in `{path}` does not fit the base model: {reason}")]
    Mismatch { path: PathBuf, reason: String },
    #[error("the adapter's configuration makes no sense for the base model")]
    Lora(#[from] LoraConfigError),
}

/// `adapter_config.json`. What is not named here has PEFT's default.
#[derive(Debug, Serialize, Deserialize)]
struct PeftConfig {
    peft_type: String,
    #[serde(default)]
    task_type: Option<String>,
    #[serde(default)]
    base_model_name_or_path: Option<String>,
    r: usize,
    lora_alpha: f32,
    #[serde(default)]
    lora_dropout: f32,
    target_modules: TargetModules,
    #[serde(default = "no_bias")]
    bias: String,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    layers_to_transform: Option<serde_json::Value>,
    #[serde(default)]
    rank_pattern: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    inference_mode: bool,
    #[serde(default = "initialised")]
    init_lora_weights: serde_json::Value,
}

/// A list of names, or an expression such as `all-linear`, which the tensors then explain.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum TargetModules {
    Names(Vec<String>),
    Expression(String),
}

fn no_bias() -> String {
    "none".to_owned()
}

fn initialised() -> serde_json::Value {
    true.into()
}

impl Adapter {
    /// Saves the adapter in PEFT's layout, as f32. `base_model_name_or_path` is the base's repository on the Hugging Face
    /// Hub, by which others find it.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, directory: &Path, base_model_name_or_path: &str) -> Result<(), AdapterError> {
        let write = |path: PathBuf, bytes: &[u8]| {
            durable::write(&path, bytes).map_err(|source| AdapterError::Write { path, source })
        };
        std::fs::create_dir_all(directory)
            .map_err(|source| AdapterError::Write { path: directory.to_owned(), source })?;
        let weights_path = directory.join(WEIGHTS_FILE);
        let weights =
            self.weights_file().map_err(|source| AdapterError::Safetensors { path: weights_path.clone(), source })?;
        write(weights_path, &weights)?;
        let config_path = directory.join(CONFIG_FILE);
        let config = serde_json::to_vec_pretty(&peft_config(self.config(), base_model_name_or_path))
            .map_err(|source| AdapterError::Config { path: config_path.clone(), source })?;
        write(config_path, &config)
    }

    fn weights_file(&self) -> Result<Vec<u8>, SafeTensorError> {
        let tensors: Vec<(String, [usize; 2], Vec<u8>)> = self
            .tensors()
            .map(|tensor| (tensor.name(), tensor.shape, to_bytes(&self.values()[tensor.range.clone()])))
            .collect();
        let views = tensors.iter().map(|(name, shape, bytes)| {
            TensorView::new(Dtype::F32, shape.to_vec(), bytes).map(|view| (name.as_str(), view))
        });
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize(views.collect::<Result<Vec<_>, _>>()?, Some(metadata))
    }

    /// Loads an adapter that this program or PEFT saved.
    ///
    /// # Errors
    /// When a file is missing or damaged, uses what is not plain LoRA, or does not fit `base` in modules, layers, rank or
    /// shapes.
    pub fn load(directory: &Path, base: &Llama) -> Result<Self, AdapterError> {
        let config_path = directory.join(CONFIG_FILE);
        let config: PeftConfig = serde_json::from_slice(&read(&config_path)?)
            .map_err(|source| AdapterError::Config { path: config_path.clone(), source })?;
        let path = directory.join(WEIGHTS_FILE);
        let bytes = read(&path)?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|source| AdapterError::Safetensors { path: path.clone(), source })?;
        let config = lora_config(&config, &config_path, &file)?;
        let mut adapter = Self::zero(config, base.sizes())?;
        let tensors: Vec<_> = adapter.tensors().collect();
        let mismatch = |reason| AdapterError::Mismatch { path: path.clone(), reason };
        check_names(&file, &tensors).map_err(mismatch)?;
        for tensor in tensors {
            let values = read_tensor(&file, &tensor).map_err(mismatch)?;
            adapter.values_mut()[tensor.range].copy_from_slice(&values);
        }
        Ok(adapter)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, AdapterError> {
    std::fs::read(path).map_err(|source| AdapterError::Read { path: path.to_owned(), source })
}

fn peft_config(config: &LoraConfig, base_model_name_or_path: &str) -> PeftConfig {
    PeftConfig {
        peft_type: "LORA".to_owned(),
        task_type: Some("CAUSAL_LM".to_owned()),
        base_model_name_or_path: Some(base_model_name_or_path.to_owned()),
        r: config.rank,
        lora_alpha: config.alpha,
        lora_dropout: config.dropout,
        target_modules: TargetModules::Names(config.target_modules.iter().map(|p| p.name().to_owned()).collect()),
        bias: no_bias(),
        fan_in_fan_out: false,
        use_rslora: config.use_rslora,
        use_dora: false,
        modules_to_save: None,
        layers_to_transform: None,
        rank_pattern: BTreeMap::new(),
        alpha_pattern: BTreeMap::new(),
        inference_mode: true,
        init_lora_weights: initialised(),
    }
}

fn lora_config(config: &PeftConfig, path: &Path, file: &SafeTensors<'_>) -> Result<LoraConfig, AdapterError> {
    let odd = [
        (config.peft_type != "LORA", format!("the method `{}`", config.peft_type)),
        (config.bias != "none", format!("the bias `{}`", config.bias)),
        (config.fan_in_fan_out, "`fan_in_fan_out`".to_owned()),
        (config.use_dora, "DoRA".to_owned()),
        (config.modules_to_save.as_ref().is_some_and(|names| !names.is_empty()), "`modules_to_save`".to_owned()),
        (config.layers_to_transform.is_some(), "`layers_to_transform`".to_owned()),
        (!config.rank_pattern.is_empty() || !config.alpha_pattern.is_empty(), "a rank or alpha pattern".to_owned()),
    ];
    if let Some((_, feature)) = odd.into_iter().find(|(used, _)| *used) {
        return Err(AdapterError::Feature { path: path.to_owned(), feature });
    }
    let unknown = |name: &str| {
        let feature = format!("the target module `{name}`");
        AdapterError::Feature { path: path.to_owned(), feature }
    };
    let target_modules = match &config.target_modules {
        TargetModules::Names(names) => names
            .iter()
            .map(|name| Projection::from_name(name).ok_or_else(|| unknown(name)))
            .collect::<Result<Vec<_>, _>>()?,
        TargetModules::Expression(_) => {
            let present = |projection: &Projection| {
                let infix = format!(".{}.lora_A.", projection.name());
                file.names().iter().any(|name| name.contains(&infix))
            };
            Projection::ALL.into_iter().filter(present).collect()
        }
    };
    Ok(LoraConfig {
        rank: config.r,
        alpha: config.lora_alpha,
        dropout: config.lora_dropout,
        target_modules,
        use_rslora: config.use_rslora,
    })
}

fn check_names(file: &SafeTensors<'_>, tensors: &[AdapterTensor]) -> Result<(), String> {
    let expected: BTreeSet<String> = tensors.iter().map(AdapterTensor::name).collect();
    match file.names().into_iter().find(|name| !expected.contains(*name)) {
        Some(name) => Err(format!("it has a tensor `{name}`, which the base model has no place for")),
        None => Ok(()),
    }
}

fn read_tensor(file: &SafeTensors<'_>, tensor: &AdapterTensor) -> Result<Vec<f32>, String> {
    let name = tensor.name();
    let view = file.tensor(&name).map_err(|_| format!("it has no tensor `{name}`"))?;
    if view.shape() != tensor.shape {
        return Err(format!("`{name}` has shape {:?} where {:?} is needed", view.shape(), tensor.shape));
    }
    let values = to_f32(view.dtype(), view.data());
    let values = values.ok_or_else(|| format!("`{name}` has the type {:?}", view.dtype()))?;
    if values.iter().all(|value| value.is_finite()) { Ok(values) } else { Err(format!("`{name}` is not finite")) }
}
