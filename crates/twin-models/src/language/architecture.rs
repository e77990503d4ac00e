//! The shape of a Llama model: its sizes, checked once, from GGUF metadata or Hugging Face's `config.json`.
//!
//! Only the plain Llama architecture is spoken (Touvron et al. 2023): RMSNorm, rotary positions without scaling, SwiGLU,
//! grouped-query attention, no biases. Anything else is refused here rather than computed wrongly.

use serde::Deserialize;

/// The sizes of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub rms_epsilon: f32,
    pub rope_theta: f32,
    /// The longest sequence that the model was made for, in tokens.
    pub context_length: usize,
}

/// Why a model's shape is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchitectureError {
    #[error("the architecture is `{found}`, and only `llama` is supported: choose a Llama model")]
    Unsupported { found: String },
    #[error("the model uses {feature}, which is not supported: choose a plain Llama model")]
    Feature { feature: String },
    #[error("`{field}` is missing: the file is not a complete Llama model")]
    Missing { field: String },
    #[error("`{field}` is {value}, which cannot be: the file is damaged or not a Llama model")]
    Implausible { field: &'static str, value: String },
}

// Far above any Llama that fits a CPU, far below what makes a product of two sizes overflow.
const LARGEST: usize = 1 << 22;

impl Architecture {
    /// Width of the queries: all heads side by side.
    pub(crate) fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of the keys, and of the values.
    pub(crate) fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Width of queries, keys and values side by side.
    pub(crate) fn qkv_width(&self) -> usize {
        self.query_width() + 2 * self.kv_width()
    }

    /// Parameters of one layer without its norms.
    fn layer_parameters(&self) -> usize {
        self.hidden_size * (self.qkv_width() + self.query_width() + 3 * self.intermediate_size)
    }

    /// Parameters of the model without its norms; the embedding is counted once.
    pub(crate) fn parameters(&self) -> usize {
        self.layers * self.layer_parameters() + self.vocab_size * self.hidden_size
    }

    /// Checks that the sizes can be those of a model.
    ///
    /// # Errors
    /// [`ArchitectureError::Implausible`] with the first size that cannot be.
    pub(crate) fn validated(self) -> Result<Self, ArchitectureError> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.context_length),
        ];
        let implausible = |field, value: String| Err(ArchitectureError::Implausible { field, value });
        for (field, value) in sizes {
            if value == 0 || value > LARGEST {
                return implausible(field, value.to_string());
            }
        }
        if self.layers > 1024 {
            return implausible("num_hidden_layers", self.layers.to_string());
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return implausible("num_key_value_heads", self.kv_heads.to_string());
        }
        if !self.head_dim.is_multiple_of(2) || self.head_dim > 1024 || self.heads > 4096 {
            return implausible("head_dim", self.head_dim.to_string());
        }
        if !(self.rms_epsilon > 0.0 && self.rms_epsilon < 1.0) {
            return implausible("rms_norm_eps", self.rms_epsilon.to_string());
        }
        if !(self.rope_theta >= 1.0 && self.rope_theta.is_finite()) {
            return implausible("rope_theta", self.rope_theta.to_string());
        }
        Ok(self)
    }

    /// Reads Hugging Face's `config.json`; the second value says whether the output layer is the embedding.
    ///
    /// # Errors
    /// [`ArchitectureError`] when the model is not a plain Llama.
    pub(crate) fn from_config(config: &HubConfig) -> Result<(Self, bool), ArchitectureError> {
        if config.model_type != "llama" {
            return Err(ArchitectureError::Unsupported { found: config.model_type.clone() });
        }
        let features = [
            ("scaled rotary positions (`rope_scaling`)", config.rope_scaling.is_some()),
            ("`attention_bias`", config.attention_bias),
            ("`mlp_bias`", config.mlp_bias),
            ("an activation other than `silu`", config.hidden_act.as_deref().is_some_and(|act| act != "silu")),
        ];
        if let Some((feature, _)) = features.iter().find(|(_, used)| *used) {
            return Err(ArchitectureError::Feature { feature: (*feature).to_owned() });
        }
        let heads = config.num_attention_heads;
        let theta = config.rope_parameters.as_ref().and_then(|rope| rope.rope_theta).or(config.rope_theta);
        let architecture = Self {
            vocab_size: config.vocab_size,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            layers: config.num_hidden_layers,
            heads,
            kv_heads: config.num_key_value_heads.unwrap_or(heads),
            head_dim: config.head_dim.unwrap_or_else(|| config.hidden_size.checked_div(heads).unwrap_or(0)),
            rms_epsilon: config.rms_norm_eps,
            rope_theta: theta.unwrap_or(10_000.0),
            context_length: config.max_position_embeddings,
        };
        Ok((architecture.validated()?, config.tie_word_embeddings))
    }
}

/// The part of `config.json` that matters, with the defaults of Hugging Face's `LlamaConfig`.
#[derive(Debug, Deserialize)]
pub(crate) struct HubConfig {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    #[serde(default = "default_epsilon")]
    rms_norm_eps: f32,
    rope_theta: Option<f32>,
    /// Where version 5 of transformers keeps `rope_theta`.
    rope_parameters: Option<RopeParameters>,
    max_position_embeddings: usize,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    hidden_act: Option<String>,
    rope_scaling: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct RopeParameters {
    rope_theta: Option<f32>,
}

fn default_epsilon() -> f32 {
    1e-6
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMOL: &str = r#"{"model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "rms_norm_eps": 1e-5,
        "rope_theta": 100000, "max_position_embeddings": 8192, "tie_word_embeddings": true, "hidden_act": "silu",
        "rope_scaling": null}"#;

    fn parse(text: &str) -> Result<(Architecture, bool), ArchitectureError> {
        Architecture::from_config(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn the_sizes_of_smollm2() {
        let (architecture, tied) = parse(SMOL).unwrap();
        assert!(tied);
        assert_eq!((architecture.head_dim, architecture.qkv_width()), (64, 960));
        assert_eq!(architecture.parameters(), 134_479_872);
    }

    #[test]
    fn what_would_be_computed_wrongly_is_refused() {
        for (from, to) in [
            ("\"llama\"", "\"qwen2\""),
            ("\"rope_scaling\": null", "\"rope_scaling\": {\"factor\": 8}"),
            ("\"silu\"", "\"gelu\""),
            ("\"num_key_value_heads\": 3", "\"num_key_value_heads\": 0"),
            ("\"num_key_value_heads\": 3", "\"num_key_value_heads\": 2"),
            ("\"num_attention_heads\": 9", "\"num_attention_heads\": 0"),
            ("\"hidden_size\": 576", "\"hidden_size\": 576000000"),
        ] {
            assert!(SMOL.contains(from));
            assert!(parse(&SMOL.replace(from, to)).is_err(), "{to}");
        }
    }
}
