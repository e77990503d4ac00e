//! The weights of a decoder as dense f32, from a GGUF file or from a Hugging Face folder with safetensors.
//!
//! Inside the engine everything has Hugging Face's form: `[out, in]` matrices and half-split rotary positions, so that
//! adapters mean the same here and in PEFT. Matrices that read the same activation lie one below the other.

use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::Value;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::architecture::{Architecture, ArchitectureError, HubConfig};
use super::gguf::{GgufError, GgufFile};

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadModelError {
    #[error("could not read `{path}`")]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("could not load the GGUF file `{path}`")]
    Gguf {
        path: PathBuf,
        #[source]
        source: GgufError,
    },
    #[error("`{path}` is not a model this program can run")]
    Architecture {
        path: PathBuf,
        #[source]
        source: ArchitectureError,
    },
    #[error("`{path}` is not valid JSON of a model's configuration")]
    Config {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("`{path}` is not a valid safetensors file: download it again")]
    Safetensors {
        path: PathBuf,
        #[source]
        source: SafeTensorError,
    },
    #[error("the model in `{path}` does not fit its configuration: {reason}")]
    Tensors { path: PathBuf, reason: String },
    #[error("could not make the tokenizer of `{path}`")]
    Tokenizer {
        path: PathBuf,
        #[source]
        source: super::tokenizer::TokenizerError,
    },
    #[error("could not start {threads} threads for the model")]
    Threads {
        threads: usize,
        #[source]
        source: rayon::ThreadPoolBuildError,
    },
}

/// One decoder layer. All matrices are `[out, in]`, row after row.
pub(crate) struct LayerWeights {
    pub(crate) attention_norm: Vec<f32>,
    /// Queries, keys and values: `[query + 2·kv, hidden]`.
    pub(crate) qkv: Vec<f32>,
    /// `[hidden, query]`.
    pub(crate) output: Vec<f32>,
    pub(crate) mlp_norm: Vec<f32>,
    /// Gate, then up: `[2·intermediate, hidden]`.
    pub(crate) gate_up: Vec<f32>,
    /// `[hidden, intermediate]`.
    pub(crate) down: Vec<f32>,
}

/// All weights of a decoder.
pub(crate) struct Weights {
    pub(crate) architecture: Architecture,
    /// `[vocab, hidden]`.
    pub(crate) embedding: Vec<f32>,
    pub(crate) layers: Vec<LayerWeights>,
    pub(crate) final_norm: Vec<f32>,
    /// The output layer `[vocab, hidden]`, where it is not the embedding.
    pub(crate) head: Option<Vec<f32>>,
}

impl Weights {
    /// The output layer.
    pub(crate) fn head(&self) -> &[f32] {
        self.head.as_deref().unwrap_or(&self.embedding)
    }

    /// Reads the weights of a GGUF file.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape or cannot be read, or the model is no plain Llama.
    pub(crate) fn from_gguf(file: &mut GgufFile, path: &Path) -> Result<Self, LoadModelError> {
        let architecture =
            gguf_architecture(file).map_err(|source| LoadModelError::Architecture { path: path.to_owned(), source })?;
        let head = file.has("output.weight").then_some("output.weight");
        if file.has("blk.0.attn_q.bias") || file.has("rope_freqs.weight") {
            let source = ArchitectureError::Feature { feature: "biases or scaled rotary positions".to_owned() };
            return Err(LoadModelError::Architecture { path: path.to_owned(), source });
        }
        let (heads, kv_heads) = (architecture.heads, architecture.kv_heads);
        let mut read = |tensor: Tensor, shape: &[usize]| {
            let weights = file.read(&tensor.name(&GGUF_NAMES, head), shape)?;
            Ok(match tensor {
                Tensor::Layer(_, LayerTensor::Query) => half_split(&weights, heads, shape),
                Tensor::Layer(_, LayerTensor::Key) => half_split(&weights, kv_heads, shape),
                _ => weights,
            })
        };
        Self::read(architecture, head.is_some(), &mut read)
            .map_err(|source| LoadModelError::Gguf { path: path.to_owned(), source })
    }

    /// Reads the weights of a folder with `config.json` and one or more `.safetensors` files.
    ///
    /// # Errors
    /// As [`Self::from_gguf`].
    pub(crate) fn from_folder(folder: &Path) -> Result<Self, LoadModelError> {
        let config_path = folder.join("config.json");
        let text = read_file(&config_path)?;
        let config: HubConfig = serde_json::from_slice(&text)
            .map_err(|source| LoadModelError::Config { path: config_path.clone(), source })?;
        let (architecture, tied) = Architecture::from_config(&config)
            .map_err(|source| LoadModelError::Architecture { path: config_path, source })?;
        // Read, not mapped: a mapped file that is cut off later would kill the process.
        let paths = safetensors_in(folder)?;
        let buffers = paths.iter().map(|path| read_file(path)).collect::<Result<Vec<_>, _>>()?;
        let files = paths
            .iter()
            .zip(&buffers)
            .map(|(path, bytes)| {
                SafeTensors::deserialize(bytes)
                    .map_err(|source| LoadModelError::Safetensors { path: path.clone(), source })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let head = (!tied).then_some("lm_head.weight");
        let mut read = |tensor: Tensor, shape: &[usize]| {
            let name = tensor.name(&HUB_NAMES, head);
            read_tensor(&files, &name, shape)
                .map_err(|reason| LoadModelError::Tensors { path: folder.to_owned(), reason })
        };
        Self::read(architecture, head.is_some(), &mut read)
    }

    fn read<E>(
        architecture: Architecture,
        has_head: bool,
        read: &mut impl FnMut(Tensor, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<Self, E> {
        use LayerTensor::{AttentionNorm, Down, Gate, Key, MlpNorm, Output, Query, Up, Value};
        let (hidden, intermediate) = (architecture.hidden_size, architecture.intermediate_size);
        let (query, kv, vocab) = (architecture.query_width(), architecture.kv_width(), architecture.vocab_size);
        let embedding = read(Tensor::Embedding, &[vocab, hidden])?;
        let mut layers = Vec::new();
        for layer in 0..architecture.layers {
            let mut read = |tensor, shape: &[usize]| read(Tensor::Layer(layer, tensor), shape);
            let mut qkv = read(Query, &[query, hidden])?;
            qkv.reserve_exact(2 * kv * hidden);
            qkv.extend(read(Key, &[kv, hidden])?);
            qkv.extend(read(Value, &[kv, hidden])?);
            let mut gate_up = read(Gate, &[intermediate, hidden])?;
            gate_up.reserve_exact(intermediate * hidden);
            gate_up.extend(read(Up, &[intermediate, hidden])?);
            layers.push(LayerWeights {
                attention_norm: read(AttentionNorm, &[hidden])?,
                qkv,
                output: read(Output, &[hidden, query])?,
                mlp_norm: read(MlpNorm, &[hidden])?,
                gate_up,
                down: read(Down, &[hidden, intermediate])?,
            });
        }
        let final_norm = read(Tensor::FinalNorm, &[hidden])?;
        let head = has_head.then(|| read(Tensor::Head, &[vocab, hidden])).transpose()?;
        Ok(Self { architecture, embedding, layers, final_norm, head })
    }
}

/// A tensor of the model, whatever a file calls it.
#[derive(Clone, Copy)]
enum Tensor {
    Embedding,
    Layer(usize, LayerTensor),
    FinalNorm,
    Head,
}

#[derive(Clone, Copy)]
enum LayerTensor {
    AttentionNorm,
    Query,
    Key,
    Value,
    Output,
    MlpNorm,
    Gate,
    Up,
    Down,
}

/// What a kind of file calls its tensors; `{}` stands for the layer. Layer tensors are in the order of [`LayerTensor`].
struct Names {
    embedding: &'static str,
    final_norm: &'static str,
    prefix: &'static str,
    layer: [&'static str; 9],
}

const GGUF_NAMES: Names = Names {
    embedding: "token_embd.weight",
    final_norm: "output_norm.weight",
    prefix: "blk.",
    layer: ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"],
};

const HUB_NAMES: Names = Names {
    embedding: "model.embed_tokens.weight",
    final_norm: "model.norm.weight",
    prefix: "model.layers.",
    layer: [
        "input_layernorm",
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "post_attention_layernorm",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
    ],
};

impl Tensor {
    fn name(self, names: &Names, head: Option<&str>) -> String {
        match self {
            Self::Embedding => names.embedding.to_owned(),
            Self::FinalNorm => names.final_norm.to_owned(),
            Self::Head => head.unwrap_or_default().to_owned(),
            Self::Layer(layer, tensor) => format!("{}{layer}.{}.weight", names.prefix, names.layer[tensor as usize]),
        }
    }
}

fn gguf_architecture(file: &GgufFile) -> Result<Architecture, ArchitectureError> {
    let metadata = file.metadata();
    let found = metadata.get("general.architecture").and_then(|value| value.to_string().ok());
    if found.is_none_or(|found| found != "llama") {
        let found = found.map_or("unknown", |found| found.as_str()).to_owned();
        return Err(ArchitectureError::Unsupported { found });
    }
    let number = |field: &str| -> Option<usize> {
        let value = metadata.get(&format!("llama.{field}"))?;
        value.to_u64().ok().and_then(|value| usize::try_from(value).ok())
    };
    let needed = |field: &str| number(field).ok_or(ArchitectureError::Missing { field: format!("llama.{field}") });
    let real = |field: &str| metadata.get(&format!("llama.{field}")).and_then(|value| value.to_f32().ok());
    let scaling = metadata.get("llama.rope.scaling.type").and_then(|value| value.to_string().ok());
    if scaling.is_some_and(|kind| kind != "none") {
        return Err(ArchitectureError::Feature { feature: "scaled rotary positions".to_owned() });
    }
    let tokens = match metadata.get("tokenizer.ggml.tokens") {
        Some(Value::Array(tokens)) => Some(tokens.len()),
        _ => None,
    };
    let (heads, hidden_size) = (needed("attention.head_count")?, needed("embedding_length")?);
    let head_dim = number("attention.key_length").or(hidden_size.checked_div(heads)).unwrap_or(0);
    if number("rope.dimension_count").is_some_and(|turned| turned != head_dim) {
        return Err(ArchitectureError::Feature { feature: "partly rotary heads".to_owned() });
    }
    Architecture {
        vocab_size: number("vocab_size")
            .or(tokens)
            .ok_or(ArchitectureError::Missing { field: "llama.vocab_size".to_owned() })?,
        hidden_size,
        intermediate_size: needed("feed_forward_length")?,
        layers: needed("block_count")?,
        heads,
        kv_heads: number("attention.head_count_kv").unwrap_or(heads),
        head_dim,
        rms_epsilon: real("attention.layer_norm_rms_epsilon").unwrap_or(1e-5),
        rope_theta: real("rope.freq_base").unwrap_or(10_000.0),
        context_length: needed("context_length")?,
    }
    .validated()
}

/// Brings the rows of a query or key matrix from GGUF's interleaved rotary order, where dimension `2i` turns with `2i + 1`,
/// to Hugging Face's half-split order, where `i` turns with `i + head_dim / 2`.
fn half_split(weights: &[f32], heads: usize, shape: &[usize]) -> Vec<f32> {
    let (rows, columns) = (shape[0], shape[1]);
    let head_dim = rows / heads;
    let half = head_dim / 2;
    let mut split = Vec::with_capacity(weights.len());
    for row in 0..rows {
        let (head, dimension) = (row / head_dim, row % head_dim);
        let interleaved = head * head_dim + 2 * (dimension % half) + dimension / half;
        split.extend_from_slice(&weights[interleaved * columns..][..columns]);
    }
    split
}

fn read_file(path: &Path) -> Result<Vec<u8>, LoadModelError> {
    std::fs::read(path).map_err(|source| LoadModelError::Io { path: path.to_owned(), source })
}

fn safetensors_in(folder: &Path) -> Result<Vec<PathBuf>, LoadModelError> {
    let io = |source| LoadModelError::Io { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        let reason = "there is no `.safetensors` file in the folder".to_owned();
        return Err(LoadModelError::Tensors { path: folder.to_owned(), reason });
    }
    paths.sort();
    Ok(paths)
}

fn read_tensor(files: &[SafeTensors<'_>], name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
    let view = files.iter().find_map(|file| file.tensor(name).ok());
    let view = view.ok_or_else(|| format!("tensor `{name}` is missing"))?;
    if view.shape() != shape {
        return Err(format!("tensor `{name}` has shape {:?} where {shape:?} is needed", view.shape()));
    }
    to_f32(view.dtype(), view.data()).ok_or_else(|| format!("tensor `{name}` has the type {:?}", view.dtype()))
}

/// Numbers of a safetensors file as f32; `None` for types that are no floating-point numbers.
pub(crate) fn to_f32(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    match dtype {
        Dtype::F32 => Some(bytes.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect()),
        Dtype::F16 => Some(bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect()),
        Dtype::BF16 => Some(bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaved_rows_become_half_split() {
        // One column, two heads of four dimensions: pairs (0,1) (2,3) become (0,2) (1,3).
        let weights = [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0];
        assert_eq!(half_split(&weights, 2, &[8, 1]), [0.0, 2.0, 1.0, 3.0, 10.0, 12.0, 11.0, 13.0]);
    }

    #[test]
    fn half_precision_is_widened() {
        let bytes: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect();
        assert_eq!(to_f32(Dtype::BF16, &bytes), Some(vec![1.5, -2.0]));
        assert_eq!(to_f32(Dtype::I64, &bytes), None);
    }
}
