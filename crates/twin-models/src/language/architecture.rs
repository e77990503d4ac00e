//! The shape of a decoder: its sizes, checked once, and in what its family differs from plain Llama.
//!
//! Llama is RMSNorm, rotary positions, SwiGLU and grouped-query attention (Touvron et al. 2023). Mistral, Qwen 2, Qwen 3 and
//! Gemma 3 change or add a few things each, which [`Variant`] lists one by one; the engine knows these and no families.
//! What is in neither list is refused where a model is read, rather than computed wrongly.

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
    pub variant: Variant,
}

/// In what a family differs from plain Llama; the default is plain.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Queries, keys and values have biases (Qwen 2).
    pub qkv_bias: bool,
    /// Each head's query and key goes through an RMSNorm before it turns (Qwen 3, Gemma 3).
    pub qk_norm: bool,
    /// What attention and MLP make goes through an RMSNorm before it is added (Gemma 3).
    pub post_norms: bool,
    /// The gate's activation is GELU in its tanh form instead of SiLU (Gemma 3).
    pub gelu: bool,
    /// What embeddings are multiplied by: `√hidden` in Gemma.
    pub embedding_scale: f32,
    /// What scores are multiplied by; `1 / √head_dim` when `None`.
    pub attention_scale: Option<f32>,
    /// What each of the `head_dim / 2` rotary frequencies is divided by (Llama 3.1 and later, linear scaling).
    pub rope_factors: Option<Vec<f32>>,
    pub sliding: Option<Sliding>,
}

/// Layers in which a token sees only its neighbours before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sliding {
    /// How many tokens a token sees, itself included.
    pub window: usize,
    /// The base of rotary positions in these layers, which are never scaled.
    pub rope_theta: f32,
    /// Whether each layer is one of them.
    pub layers: Vec<bool>,
}

impl Default for Variant {
    fn default() -> Self {
        Self {
            qkv_bias: false,
            qk_norm: false,
            post_norms: false,
            gelu: false,
            embedding_scale: 1.0,
            attention_scale: None,
            rope_factors: None,
            sliding: None,
        }
    }
}

/// Why a model's shape is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchitectureError {
    #[error(
        "the architecture is `{found}`, which is not supported: choose a model of the families Llama, Mistral, Qwen 2, Qwen 3 \
         or Gemma 3 (text)"
    )]
    Unsupported { found: String },
    #[error("the model uses {feature}, which is not supported: choose another model of its family")]
    Feature { feature: String },
    #[error("`{field}` is missing: the file is not a complete model")]
    Missing { field: String },
    #[error("`{field}` is {value}, which cannot be: the file is damaged")]
    Implausible { field: &'static str, value: String },
}

// Far above any model that fits a CPU, far below what makes a product of two sizes overflow.
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

    /// What scores are multiplied by.
    pub(crate) fn attention_scale(&self) -> f32 {
        self.variant.attention_scale.unwrap_or_else(|| 1.0 / (self.head_dim as f32).sqrt())
    }

    /// How many tokens a token of a layer sees, itself included.
    pub(crate) fn window(&self, layer: usize) -> usize {
        let sliding = self.variant.sliding.as_ref().filter(|sliding| sliding.layers.get(layer).is_some_and(|is| *is));
        sliding.map_or(usize::MAX, |sliding| sliding.window)
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
        self.variant.check(self.layers, self.head_dim)?;
        Ok(self)
    }
}

impl Variant {
    fn check(&self, layers: usize, head_dim: usize) -> Result<(), ArchitectureError> {
        let implausible = |field, value: String| Err(ArchitectureError::Implausible { field, value });
        let positive = |value: f32| value > 0.0 && value.is_finite();
        if !positive(self.embedding_scale) {
            return implausible("embedding scale", self.embedding_scale.to_string());
        }
        if let Some(scale) = self.attention_scale.filter(|scale| !positive(*scale)) {
            return implausible("attention scale", scale.to_string());
        }
        if let Some(factors) = &self.rope_factors
            && (factors.len() != head_dim / 2 || !factors.iter().all(|factor| positive(*factor)))
        {
            return implausible("rope factors", format!("{} numbers", factors.len()));
        }
        match &self.sliding {
            Some(sliding) if sliding.window == 0 || sliding.layers.len() != layers => {
                implausible("sliding_window", format!("{} over {} layers", sliding.window, sliding.layers.len()))
            }
            Some(sliding) if !(sliding.rope_theta >= 1.0 && sliding.rope_theta.is_finite()) => {
                implausible("rope_local_base_freq", sliding.rope_theta.to_string())
            }
            _ => Ok(()),
        }
    }
}
