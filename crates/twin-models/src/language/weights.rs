//! The weights of a decoder as dense f32, from a GGUF file or from a Hugging Face folder with safetensors.
//!
//! Inside the engine everything has Hugging Face's form: `[out, in]` matrices and half-split rotary positions, so that
//! adapters mean the same here and in PEFT. Matrices that read the same activation lie one below the other.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::architecture::{Architecture, ArchitectureError};
use super::gguf::{GgufError, GgufFile};
use super::gguf_config::gguf_architecture;
use super::hub_config::HubConfig;

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
#[derive(Clone)]
pub(crate) struct LayerWeights {
    pub(crate) attention_norm: Vec<f32>,
    /// Of queries, keys and values, where the model has them.
    pub(crate) qkv_bias: Option<Vec<f32>>,
    /// Of each query head and of each key head, where the model has them: `[head_dim]` each.
    pub(crate) qk_norm: Option<[Vec<f32>; 2]>,
    /// Of what attention and MLP make, where the model has them.
    pub(crate) post_norms: Option<[Vec<f32>; 2]>,
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

impl LayerWeights {
    /// Frees the four matrices, of which another form is kept.
    pub(crate) fn drop_matrices(&mut self) {
        for matrix in [&mut self.qkv, &mut self.output, &mut self.gate_up, &mut self.down] {
            *matrix = Vec::new();
        }
    }
}

/// What is done with each layer as soon as it is read.
pub(crate) type EachLayer<'a> = &'a mut dyn FnMut(&Architecture, &mut LayerWeights);

/// All weights of a decoder.
#[derive(Clone)]
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
    pub(crate) fn from_gguf(file: &mut GgufFile, path: &Path, each: EachLayer<'_>) -> Result<Self, LoadModelError> {
        let architecture =
            gguf_architecture(file).map_err(|source| LoadModelError::Architecture { path: path.to_owned(), source })?;
        let head = file.has("output.weight").then_some("output.weight");
        // The converter to GGUF changes the order of rows for the architecture `llama` only.
        let interleaved = file.architecture().is_some_and(|name| name == "llama");
        let (heads, kv_heads) = (architecture.heads, architecture.kv_heads);
        let mut read = |tensor: Tensor, shape: &[usize]| {
            let weights = file.read(&tensor.name(&GGUF_NAMES, head), shape)?;
            Ok(match tensor {
                Tensor::Layer(_, LayerTensor::Query) if interleaved => half_split(&weights, heads, shape),
                Tensor::Layer(_, LayerTensor::Key) if interleaved => half_split(&weights, kv_heads, shape),
                _ => weights,
            })
        };
        Self::read(architecture, head.is_some(), &mut read, each)
            .map_err(|source| LoadModelError::Gguf { path: path.to_owned(), source })
    }

    /// Reads the weights of a folder with `config.json` and one or more `.safetensors` files.
    ///
    /// # Errors
    /// As [`Self::from_gguf`].
    pub(crate) fn from_folder(folder: &Path, each: EachLayer<'_>) -> Result<Self, LoadModelError> {
        let config_path = folder.join("config.json");
        let text = read_file(&config_path)?;
        let config: HubConfig = serde_json::from_slice(&text)
            .map_err(|source| LoadModelError::Config { path: config_path.clone(), source })?;
        let (architecture, tied) =
            config.architecture().map_err(|source| LoadModelError::Architecture { path: config_path, source })?;
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
        let gemma = architecture.variant.post_norms;
        let names = if gemma { &GEMMA_NAMES } else { &HUB_NAMES };
        let mut read = |tensor: Tensor, shape: &[usize]| {
            let name = tensor.name(names, head);
            let mut weights = read_tensor(&files, &name, shape)
                .map_err(|reason| LoadModelError::Tensors { path: folder.to_owned(), reason })?;
            if gemma && tensor.is_norm() {
                // Gemma stores how far a norm's weight is from 1.
                weights.iter_mut().for_each(|weight| *weight += 1.0);
            }
            Ok(weights)
        };
        Self::read(architecture, head.is_some(), &mut read, each)
    }

    fn read<E>(
        architecture: Architecture,
        has_head: bool,
        read: &mut impl FnMut(Tensor, &[usize]) -> Result<Vec<f32>, E>,
        each: EachLayer<'_>,
    ) -> Result<Self, E> {
        use LayerTensor::{
            AttentionNorm, Down, Gate, Key, KeyBias, KeyNorm, MlpNorm, Output, PostAttentionNorm, PostMlpNorm, Query,
            QueryBias, QueryNorm, Up, Value, ValueBias,
        };
        let (head_dim, variant) = (architecture.head_dim, architecture.variant.clone());
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
            let mut pair = |wanted: bool, first, second, width: usize| {
                wanted.then(|| Ok([read(first, &[width])?, read(second, &[width])?])).transpose()
            };
            let qk_norm = pair(variant.qk_norm, QueryNorm, KeyNorm, head_dim)?;
            let post_norms = pair(variant.post_norms, PostAttentionNorm, PostMlpNorm, hidden)?;
            let mut bias = || {
                let parts = [(QueryBias, query), (KeyBias, kv), (ValueBias, kv)];
                parts.into_iter().map(|(tensor, width)| read(tensor, &[width])).collect::<Result<Vec<_>, _>>()
            };
            let qkv_bias = variant.qkv_bias.then(&mut bias).transpose()?.map(|parts| parts.concat());
            let mut layer = LayerWeights {
                attention_norm: read(AttentionNorm, &[hidden])?,
                qkv_bias,
                qk_norm,
                post_norms,
                qkv,
                output: read(Output, &[hidden, query])?,
                mlp_norm: read(MlpNorm, &[hidden])?,
                gate_up,
                down: read(Down, &[hidden, intermediate])?,
            };
            each(&architecture, &mut layer);
            layers.push(layer);
        }
        let final_norm = read(Tensor::FinalNorm, &[hidden])?;
        let head = has_head.then(|| read(Tensor::Head, &[vocab, hidden])).transpose()?;
        Ok(Self { architecture, embedding, layers, final_norm, head })
    }
}

/// The names and the order of rows that weights are written with.
#[derive(Clone, Copy)]
pub(crate) enum Layout {
    Hub,
    /// With the rows of queries and keys in the interleaved order, where the architecture has it so.
    Gguf {
        interleaved: bool,
    },
}

impl Weights {
    /// Every tensor by its name, with its shape.
    pub(crate) fn tensors<'a>(&'a self, layout: Layout) -> Vec<(String, Vec<usize>, Cow<'a, [f32]>)> {
        let sizes = &self.architecture;
        let gemma = sizes.variant.post_norms;
        let (names, head, interleaved) = match layout {
            Layout::Hub => (if gemma { &GEMMA_NAMES } else { &HUB_NAMES }, "lm_head.weight", false),
            Layout::Gguf { interleaved } => (&GGUF_NAMES, "output.weight", interleaved),
        };
        let mut all = Vec::new();
        let mut add = |tensor: Tensor, values: &'a [f32], shape: &[usize]| {
            let values = match tensor {
                Tensor::Layer(_, LayerTensor::Query) if interleaved => {
                    interleaved_rows(values, sizes.heads, shape).into()
                }
                Tensor::Layer(_, LayerTensor::Key) if interleaved => {
                    interleaved_rows(values, sizes.kv_heads, shape).into()
                }
                _ if gemma && tensor.is_norm() && matches!(layout, Layout::Hub) => {
                    values.iter().map(|value| value - 1.0).collect::<Vec<_>>().into()
                }
                _ => Cow::Borrowed(values),
            };
            all.push((tensor.name(names, Some(head)), shape.to_vec(), values));
        };
        self.each(&mut add);
        all
    }

    fn each<'a>(&'a self, add: &mut impl FnMut(Tensor, &'a [f32], &[usize])) {
        use LayerTensor::{
            AttentionNorm, Down, Gate, Key, KeyBias, KeyNorm, MlpNorm, Output, PostAttentionNorm, PostMlpNorm, Query,
            QueryBias, QueryNorm, Up, Value, ValueBias,
        };
        let sizes = &self.architecture;
        let (hidden, width, head_dim) = (sizes.hidden_size, sizes.intermediate_size, sizes.head_dim);
        let (query, kv) = (sizes.query_width(), sizes.kv_width());
        add(Tensor::Embedding, &self.embedding, &[sizes.vocab_size, hidden]);
        for (index, layer) in self.layers.iter().enumerate() {
            let mut add = |tensor, values: &'a [f32], shape: &[usize]| add(Tensor::Layer(index, tensor), values, shape);
            add(AttentionNorm, &layer.attention_norm, &[hidden]);
            let (queries, rest) = layer.qkv.split_at(query * hidden);
            let (keys, values) = rest.split_at(kv * hidden);
            add(Query, queries, &[query, hidden]);
            add(Key, keys, &[kv, hidden]);
            add(Value, values, &[kv, hidden]);
            if let Some(bias) = &layer.qkv_bias {
                add(QueryBias, &bias[..query], &[query]);
                add(KeyBias, &bias[query..query + kv], &[kv]);
                add(ValueBias, &bias[query + kv..], &[kv]);
            }
            if let Some([queries, keys]) = &layer.qk_norm {
                add(QueryNorm, queries, &[head_dim]);
                add(KeyNorm, keys, &[head_dim]);
            }
            add(Output, &layer.output, &[hidden, query]);
            if let Some([attention, mlp]) = &layer.post_norms {
                add(PostAttentionNorm, attention, &[hidden]);
                add(PostMlpNorm, mlp, &[hidden]);
            }
            add(MlpNorm, &layer.mlp_norm, &[hidden]);
            let (gate, up) = layer.gate_up.split_at(width * hidden);
            add(Gate, gate, &[width, hidden]);
            add(Up, up, &[width, hidden]);
            add(Down, &layer.down, &[hidden, width]);
        }
        add(Tensor::FinalNorm, &self.final_norm, &[hidden]);
        if let Some(head) = &self.head {
            add(Tensor::Head, head, &[sizes.vocab_size, hidden]);
        }
    }
}

/// The inverse of [`half_split`].
fn interleaved_rows(weights: &[f32], heads: usize, shape: &[usize]) -> Vec<f32> {
    let (rows, columns) = (shape[0], shape[1]);
    let head_dim = rows / heads;
    let half = head_dim / 2;
    let mut made = Vec::with_capacity(weights.len());
    for row in 0..rows {
        let (head, dimension) = (row / head_dim, row % head_dim);
        let from = head * head_dim + dimension / 2 + dimension % 2 * half;
        made.extend_from_slice(&weights[from * columns..][..columns]);
    }
    made
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
    QueryBias,
    KeyBias,
    ValueBias,
    QueryNorm,
    KeyNorm,
    PostAttentionNorm,
    PostMlpNorm,
}

/// What a kind of file calls its tensors. Layer tensors are in the order of [`LayerTensor`].
struct Names {
    embedding: &'static str,
    final_norm: &'static str,
    prefix: &'static str,
    layer: [&'static str; 16],
}

const GGUF_NAMES: Names = Names {
    embedding: "token_embd.weight",
    final_norm: "output_norm.weight",
    prefix: "blk.",
    layer: [
        "attn_norm.weight",
        "attn_q.weight",
        "attn_k.weight",
        "attn_v.weight",
        "attn_output.weight",
        "ffn_norm.weight",
        "ffn_gate.weight",
        "ffn_up.weight",
        "ffn_down.weight",
        "attn_q.bias",
        "attn_k.bias",
        "attn_v.bias",
        "attn_q_norm.weight",
        "attn_k_norm.weight",
        "post_attention_norm.weight",
        "post_ffw_norm.weight",
    ],
};

const HUB_NAMES: Names = Names {
    embedding: "model.embed_tokens.weight",
    final_norm: "model.norm.weight",
    prefix: "model.layers.",
    layer: [
        "input_layernorm.weight",
        "self_attn.q_proj.weight",
        "self_attn.k_proj.weight",
        "self_attn.v_proj.weight",
        "self_attn.o_proj.weight",
        "post_attention_layernorm.weight",
        "mlp.gate_proj.weight",
        "mlp.up_proj.weight",
        "mlp.down_proj.weight",
        "self_attn.q_proj.bias",
        "self_attn.k_proj.bias",
        "self_attn.v_proj.bias",
        "self_attn.q_norm.weight",
        "self_attn.k_norm.weight",
        "post_attention_layernorm.weight",
        "post_feedforward_layernorm.weight",
    ],
};

/// Gemma's norm before the MLP has a name of its own, because another is before it.
const GEMMA_NAMES: Names = {
    let mut layer = HUB_NAMES.layer;
    layer[LayerTensor::MlpNorm as usize] = "pre_feedforward_layernorm.weight";
    Names { layer, ..HUB_NAMES }
};

impl Tensor {
    fn name(self, names: &Names, head: Option<&str>) -> String {
        match self {
            Self::Embedding => names.embedding.to_owned(),
            Self::FinalNorm => names.final_norm.to_owned(),
            Self::Head => head.unwrap_or_default().to_owned(),
            Self::Layer(layer, tensor) => format!("{}{layer}.{}", names.prefix, names.layer[tensor as usize]),
        }
    }

    fn is_norm(self) -> bool {
        use LayerTensor::{AttentionNorm, KeyNorm, MlpNorm, PostAttentionNorm, PostMlpNorm, QueryNorm};
        match self {
            Self::FinalNorm => true,
            Self::Embedding | Self::Head => false,
            Self::Layer(_, tensor) => {
                matches!(tensor, AttentionNorm | MlpNorm | QueryNorm | KeyNorm | PostAttentionNorm | PostMlpNorm)
            }
        }
    }
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
        assert_eq!(interleaved_rows(&half_split(&weights, 2, &[8, 1]), 2, &[8, 1]), weights);
    }

    #[test]
    fn half_precision_is_widened() {
        let bytes: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect();
        assert_eq!(to_f32(Dtype::BF16, &bytes), Some(vec![1.5, -2.0]));
        assert_eq!(to_f32(Dtype::I64, &bytes), None);
    }
}
