//! The whole model as other programs read it: the base with an adapter merged into it, as a Hugging Face folder or as GGUF.
//!
//! Numbers are merged in f32 and rounded once. What describes the model (tokenizer, template, metadata) is that of the
//! base's own files.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError};
use serde_json::json;

use super::gguf::{GgufError, GgufFile};
use super::hub_config::{config_of, rounded};
use super::llama::Llama;
use super::lora::{Adapter, Group};
use super::tokenizer::TokenizerError;
use super::weights::{Layout, Weights};
use super::{durable, gguf_metadata};

/// How weights are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// A Hugging Face folder with safetensors in 16 bits, as transformers, vLLM and llama.cpp's converter read it.
    Safetensors,
    /// A Hugging Face folder in 32 bits, for comparisons.
    SafetensorsF32,
    /// GGUF in 16 bits.
    GgufF16,
    /// GGUF in eight bits with a scale per 32 weights.
    GgufQ8,
    /// GGUF in four bits with a scale per 32 weights; embeddings in eight.
    GgufQ4,
}

impl ExportFormat {
    fn gguf_type(self) -> Option<GgmlDType> {
        match self {
            Self::Safetensors | Self::SafetensorsF32 => None,
            Self::GgufF16 => Some(GgmlDType::F16),
            Self::GgufQ8 => Some(GgmlDType::Q8_0),
            Self::GgufQ4 => Some(GgmlDType::Q4_0),
        }
    }
}

impl fmt::Display for ExportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "f16",
            Self::SafetensorsF32 => "f32",
            Self::GgufF16 => "f16",
            Self::GgufQ8 => "q8_0",
            Self::GgufQ4 => "q4_0",
        })
    }
}

/// Why a model could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("the adapter was made for another base model")]
    AdapterMismatch,
    #[error("the model was loaded for answers only, with rounded weights: load all of it to export it")]
    Rounded,
    #[error("`{path}` could not be read or written")]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the base's file `{path}` cannot be read again")]
    Gguf {
        path: PathBuf,
        #[source]
        source: Box<GgufError>,
    },
    #[error("the base cannot be written as GGUF: {0}; export safetensors and try llama.cpp's converter")]
    NotGguf(String),
    #[error("the weights of `{path}` could not be written")]
    Safetensors {
        path: PathBuf,
        #[source]
        source: SafeTensorError,
    },
    #[error("tensor `{name}` could not be written as GGUF")]
    Tensor {
        name: String,
        #[source]
        source: candle_core::Error,
    },
    #[error("what describes the base cannot be written for transformers: {0}")]
    Description(String),
    #[error("the tokenizer could not be written")]
    Tokenizer(#[from] TokenizerError),
}

impl Llama {
    /// Writes the model, with an adapter merged into it if one is given, into `folder`. `source` is what the model was loaded
    /// from. Returns the files that were written.
    ///
    /// # Errors
    /// When the adapter is of another model, the base's files cannot be read, or a file cannot be written.
    pub fn export(
        &self,
        adapter: Option<&Adapter>,
        source: &Path,
        folder: &Path,
        format: ExportFormat,
    ) -> Result<Vec<PathBuf>, ExportError> {
        if adapter.is_some_and(|adapter| !adapter.fits(self.sizes())) {
            return Err(ExportError::AdapterMismatch);
        }
        let dense = self.dense_weights().ok_or(ExportError::Rounded)?;
        std::fs::create_dir_all(folder).map_err(at(folder))?;
        let merged = adapter.map(|adapter| self.merged(dense, adapter));
        let weights = merged.as_ref().unwrap_or(dense);
        match format.gguf_type() {
            Some(kind) => {
                let heading = if source.is_dir() {
                    let tokenizer = self.tokenizer().to_json()?;
                    Heading::of_folder(weights, &tokenizer, source).map_err(ExportError::NotGguf)?
                } else {
                    Heading::of_file(source)?
                };
                Ok(vec![write_gguf(weights, heading, &folder.join(format!("model-{format}.gguf")), kind)?])
            }
            None => self.write_folder(weights, source, folder, format == ExportFormat::SafetensorsF32),
        }
    }

    /// The weights with `scale · B·A` added to each module that the adapter changes.
    fn merged(&self, dense: &Weights, adapter: &Adapter) -> Weights {
        let mut weights = dense.clone();
        let sizes = weights.architecture.clone();
        self.install(|| {
            for (index, layer) in weights.layers.iter_mut().enumerate() {
                for group in Group::ALL {
                    let matrix = match group {
                        Group::AttentionInput => &mut layer.qkv,
                        Group::AttentionOutput => &mut layer.output,
                        Group::MlpInput => &mut layer.gate_up,
                        Group::MlpOutput => &mut layer.down,
                    };
                    if let Some(adapted) = adapter.group(index, group) {
                        adapted.add_to(matrix, group.input_width(&sizes));
                    }
                }
            }
        });
        weights
    }

    fn write_folder(
        &self,
        weights: &Weights,
        source: &Path,
        folder: &Path,
        exact: bool,
    ) -> Result<Vec<PathBuf>, ExportError> {
        let path = folder.join("model.safetensors");
        let bytes = safetensors_bytes(weights, exact)
            .map_err(|source| ExportError::Safetensors { path: path.clone(), source })?;
        let mut written = Vec::new();
        let mut write = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            durable::write(&path, bytes).map_err(at(&path))?;
            written.push(path);
            Ok::<_, ExportError>(())
        };
        write("model.safetensors", &bytes)?;
        if source.is_dir() {
            for name in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"] {
                let from = source.join(name);
                if from.is_file() {
                    write(name, &std::fs::read(&from).map_err(at(&from))?)?;
                }
            }
            let from = source.join("config.json");
            write("config.json", &rounded(&std::fs::read(&from).map_err(at(&from))?, exact))?;
        } else {
            let tied = weights.head.is_none();
            let config = config_of(&weights.architecture, tied, exact, self.tokenizer().end_of_turn());
            let config = config.map_err(ExportError::Description)?;
            write("config.json", config.to_string().as_bytes())?;
            write("tokenizer.json", self.tokenizer().to_json()?.as_bytes())?;
            write("tokenizer_config.json", tokenizer_config(source)?.to_string().as_bytes())?;
        }
        Ok(written)
    }
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> ExportError + '_ {
    move |source| ExportError::Io { path: path.to_owned(), source }
}

fn safetensors_bytes(weights: &Weights, exact: bool) -> Result<Vec<u8>, SafeTensorError> {
    let dtype = if exact { Dtype::F32 } else { Dtype::F16 };
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = weights
        .tensors(Layout::Hub)
        .into_iter()
        .map(|(name, shape, values)| {
            let bytes = match exact {
                true => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
                false => values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect(),
            };
            (name, shape, bytes)
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| TensorView::new(dtype, shape.clone(), bytes).map(|view| (name.as_str(), view)));
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views.collect::<Result<Vec<_>, _>>()?, Some(metadata))
}

/// What the metadata of a GGUF file says about special tokens and the chat template, as transformers wants it.
fn tokenizer_config(source: &Path) -> Result<serde_json::Value, ExportError> {
    let failed = |error: GgufError| ExportError::Gguf { path: source.to_owned(), source: Box::new(error) };
    let file = GgufFile::open(source).map_err(failed)?;
    let metadata = file.metadata();
    let text = |key: &str| metadata.get(key).and_then(|value| value.to_string().ok()).cloned();
    let token = |key: &str| {
        let id = metadata.get(key)?.to_u64().ok()? as usize;
        let tokens = metadata.get("tokenizer.ggml.tokens")?.to_vec().ok()?;
        tokens.get(id)?.to_string().ok().cloned()
    };
    Ok(json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": text("tokenizer.chat_template"),
        "bos_token": token("tokenizer.ggml.bos_token_id"),
        "eos_token": token("tokenizer.ggml.eos_token_id"),
        "clean_up_tokenization_spaces": false,
    }))
}

/// What a GGUF file says before its tensors.
struct Heading {
    metadata: BTreeMap<String, Value>,
    /// Whether the factors of rotary frequencies are a tensor of the file.
    rope_tensor: bool,
}

impl Heading {
    /// That of the file that the base came from.
    fn of_file(source: &Path) -> Result<Self, ExportError> {
        let failed = |error: GgufError| ExportError::Gguf { path: source.to_owned(), source: Box::new(error) };
        let file = GgufFile::open(source).map_err(failed)?;
        let metadata = file.metadata().iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(Self { metadata, rope_tensor: file.has("rope_freqs.weight") })
    }

    /// Made of what stands in a Hugging Face folder.
    fn of_folder(weights: &Weights, tokenizer: &str, source: &Path) -> Result<Self, String> {
        let sizes = &weights.architecture;
        let metadata = gguf_metadata::metadata(sizes, tokenizer, source)?.into_iter().collect();
        Ok(Self { metadata, rope_tensor: gguf_metadata::has_rope_tensor(sizes) })
    }
}

/// Writes weights as GGUF.
fn write_gguf(weights: &Weights, heading: Heading, path: &Path, kind: GgmlDType) -> Result<PathBuf, ExportError> {
    let Heading { mut metadata, rope_tensor } = heading;
    let is_llama =
        metadata.get("general.architecture").and_then(|name| name.to_string().ok()).is_some_and(|name| name == "llama");
    let layout = Layout::Gguf { interleaved: is_llama };
    metadata.remove("general.alignment");
    metadata.insert("general.file_type".to_owned(), Value::U32(file_type(kind)));
    // That of the blocks that are written here, since 2023.
    metadata.insert("general.quantization_version".to_owned(), Value::U32(2));
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let mut tensors: Vec<(String, QTensor)> = Vec::new();
    for (name, shape, values) in weights.tensors(layout) {
        let quantized = quantized(&name, shape, values, kind)
            .map_err(|source| ExportError::Tensor { name: name.clone(), source })?;
        tensors.push((name, quantized));
    }
    if let Some(factors) = &weights.architecture.variant.rope_factors
        && rope_tensor
    {
        let name = "rope_freqs.weight".to_owned();
        let made = quantized(&name, vec![factors.len()], Cow::Borrowed(factors), GgmlDType::F32);
        tensors.push((name.clone(), made.map_err(|source| ExportError::Tensor { name, source })?));
    }
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    durable::write_with(path, |file| {
        gguf_file::write(file, &metadata, &tensors).map_err(std::io::Error::other)?;
        // Padded to the alignment, as other readers want the last tensor too.
        let end = file.stream_position()?;
        file.write_all(&vec![0; (end.next_multiple_of(32) - end) as usize])
    })
    .map_err(at(path))?;
    Ok(path.to_owned())
}

/// `general.file_type` as llama.cpp numbers it.
fn file_type(kind: GgmlDType) -> u32 {
    match kind {
        GgmlDType::Q4_0 => 2,
        GgmlDType::Q8_0 => 7,
        _ => 1,
    }
}

/// Rounds a matrix; norms, biases and what cannot be divided into blocks keep more bits.
fn quantized(name: &str, shape: Vec<usize>, values: Cow<'_, [f32]>, kind: GgmlDType) -> candle_core::Result<QTensor> {
    let divisible = shape.last().is_some_and(|columns| columns.is_multiple_of(kind.block_size()));
    let is_embedding = ["token_embd.weight", "output.weight"].contains(&name);
    let kind = match kind {
        _ if shape.len() < 2 => GgmlDType::F32,
        _ if !divisible => GgmlDType::F16,
        GgmlDType::Q4_0 if is_embedding => GgmlDType::Q8_0,
        kind => kind,
    };
    QTensor::quantize(&Tensor::from_vec(values.into_owned(), shape, &Device::Cpu)?, kind)
}
