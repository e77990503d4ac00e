//! The shape of a model from the metadata of its GGUF file, as llama.cpp's converter writes it.

use candle_core::quantized::gguf_file::Value;

use super::architecture::{Architecture, ArchitectureError, Sliding, Variant};
use super::gguf::{GgufError, GgufFile};
use super::hub_config::{GEMMA_PATTERN, LOCAL_THETA, gemma_layers};

/// The shape, and what of the model's family cannot be computed here as an error.
pub(crate) fn gguf_architecture(file: &mut GgufFile) -> Result<Architecture, ArchitectureError> {
    let name = file.architecture().unwrap_or("unknown").to_owned();
    if !["llama", "qwen2", "qwen3", "gemma3"].contains(&name.as_str()) {
        return Err(ArchitectureError::Unsupported { found: name });
    }
    let metadata = Metadata { file, name: &name };
    let mut architecture = sizes(&metadata)?.validated()?;
    let head_dim = architecture.head_dim;
    if metadata.number("rope.dimension_count").is_some_and(|turned| turned != head_dim) {
        return Err(ArchitectureError::Feature { feature: "partly rotary heads".to_owned() });
    }
    architecture.variant.sliding = sliding(&metadata, architecture.layers);
    architecture.variant.rope_factors = match metadata.text("rope.scaling.type").unwrap_or("none") {
        "none" => None,
        "linear" => Some(vec![metadata.real("rope.scaling.factor").unwrap_or(1.0); head_dim / 2]),
        other => {
            return Err(ArchitectureError::Feature { feature: format!("rotary positions of the kind `{other}`") });
        }
    };
    if name != "qwen2" && file.has("blk.0.attn_q.bias") {
        return Err(ArchitectureError::Feature { feature: "biases".to_owned() });
    }
    // Llama 3.1 and later: the factors themselves.
    if file.has("rope_freqs.weight") {
        let read = file.read("rope_freqs.weight", &[head_dim / 2]);
        let factors = read.map_err(|error: GgufError| ArchitectureError::Feature { feature: error.to_string() })?;
        architecture.variant.rope_factors = Some(factors);
    }
    architecture.validated()
}

fn sizes(metadata: &Metadata<'_>) -> Result<Architecture, ArchitectureError> {
    let needed = |field: &str| {
        let missing = || ArchitectureError::Missing { field: format!("{}.{field}", metadata.name) };
        metadata.number(field).ok_or_else(missing)
    };
    let tokens = match metadata.file.metadata().get("tokenizer.ggml.tokens") {
        Some(Value::Array(tokens)) => Some(tokens.len()),
        _ => None,
    };
    let gemma = metadata.name == "gemma3";
    let (heads, hidden_size) = (needed("attention.head_count")?, needed("embedding_length")?);
    Ok(Architecture {
        vocab_size: metadata.number("vocab_size").or(tokens).map_or_else(|| needed("vocab_size"), Ok)?,
        hidden_size,
        intermediate_size: needed("feed_forward_length")?,
        layers: needed("block_count")?,
        heads,
        kv_heads: metadata.number("attention.head_count_kv").unwrap_or(heads),
        head_dim: metadata.number("attention.key_length").or(hidden_size.checked_div(heads)).unwrap_or(0),
        rms_epsilon: metadata.real("attention.layer_norm_rms_epsilon").unwrap_or(1e-5),
        rope_theta: metadata.real("rope.freq_base").unwrap_or(if gemma { 1e6 } else { 10_000.0 }),
        context_length: needed("context_length")?,
        variant: Variant {
            qkv_bias: metadata.name == "qwen2",
            qk_norm: gemma || metadata.name == "qwen3",
            post_norms: gemma,
            gelu: gemma,
            embedding_scale: if gemma { (hidden_size as f32).sqrt() } else { 1.0 },
            ..Variant::default()
        },
    })
}

fn sliding(metadata: &Metadata<'_>, layers: usize) -> Option<Sliding> {
    if metadata.name != "gemma3" {
        return None;
    }
    let window = metadata.number("attention.sliding_window")?;
    let rope_theta = metadata.real("rope.freq_base_swa").unwrap_or(LOCAL_THETA);
    let kinds = match metadata.get("attention.sliding_window_pattern") {
        Some(Value::Array(kinds)) => kinds.iter().map(|kind| kind.to_bool().unwrap_or(false)).collect(),
        Some(pattern) => gemma_layers(layers, pattern.to_u64().map_or(GEMMA_PATTERN, |pattern| pattern as usize)),
        None => gemma_layers(layers, GEMMA_PATTERN),
    };
    Some(Sliding { window, rope_theta, layers: kinds })
}

/// The metadata of one architecture, whose keys begin with its name.
struct Metadata<'a> {
    file: &'a GgufFile,
    name: &'a str,
}

impl<'a> Metadata<'a> {
    fn get(&self, field: &str) -> Option<&'a Value> {
        self.file.metadata().get(&format!("{}.{field}", self.name))
    }

    fn number(&self, field: &str) -> Option<usize> {
        self.get(field)?.to_u64().ok().and_then(|value| usize::try_from(value).ok())
    }

    fn real(&self, field: &str) -> Option<f32> {
        self.get(field)?.to_f32().ok()
    }

    fn text(&self, field: &str) -> Option<&'a str> {
        self.get(field)?.to_string().ok().map(String::as_str)
    }
}
