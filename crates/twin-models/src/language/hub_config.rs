//! Hugging Face's `config.json`: what it says, what it leaves out, and what of it cannot be computed here.

use std::collections::HashMap;
use std::f64::consts::TAU;

use serde::Deserialize;
use serde_json::json;

use super::architecture::{Architecture, ArchitectureError, Sliding, Variant};

/// The part of `config.json` that matters. What is optional has the default of its family's class in transformers.
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
    /// Where version 5 of transformers keeps all about rotary positions.
    rope_parameters: Option<RopeParameters>,
    rope_scaling: Option<Rope>,
    rope_local_base_freq: Option<f32>,
    max_position_embeddings: usize,
    tie_word_embeddings: Option<bool>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    hidden_act: Option<String>,
    /// Gemma's name for it, which counts where both are there.
    hidden_activation: Option<String>,
    query_pre_attn_scalar: Option<f32>,
    final_logit_softcapping: Option<f32>,
    attn_logit_softcapping: Option<f32>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    sliding_window_pattern: Option<usize>,
    #[serde(rename = "_sliding_window_pattern")]
    private_sliding_window_pattern: Option<usize>,
    #[serde(default)]
    use_bidirectional_attention: Option<bool>,
    layer_types: Option<Vec<String>>,
}

/// One description for all layers, or one for each kind of layer.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RopeParameters {
    ByKind(HashMap<String, Rope>),
    One(Rope),
}

#[derive(Debug, Default, Clone, Deserialize)]
struct Rope {
    rope_type: Option<String>,
    /// The older name of `rope_type`; many files have both.
    #[serde(rename = "type")]
    kind: Option<String>,
    rope_theta: Option<f32>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";
/// The base of rotary positions in Gemma 3's sliding layers.
pub(crate) const LOCAL_THETA: f32 = 10_000.0;
/// Every so many layers of Gemma 3, one sees everything.
pub(crate) const GEMMA_PATTERN: usize = 6;

fn default_epsilon() -> f32 {
    1e-6
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
    Gemma3,
}

impl HubConfig {
    /// The shape of the model; the second value says whether the output layer is the embedding.
    ///
    /// # Errors
    /// [`ArchitectureError`] when the family or something that the model uses is not supported.
    pub(crate) fn architecture(&self) -> Result<(Architecture, bool), ArchitectureError> {
        let family = match self.model_type.as_str() {
            "llama" => Family::Llama,
            "mistral" => Family::Mistral,
            "qwen2" => Family::Qwen2,
            "qwen3" => Family::Qwen3,
            "gemma3_text" => Family::Gemma3,
            found => return Err(ArchitectureError::Unsupported { found: found.to_owned() }),
        };
        self.refuse_what_is_unknown(family)?;
        let (heads, gemma) = (self.num_attention_heads, family == Family::Gemma3);
        let head_dim = self.head_dim.unwrap_or_else(|| match family {
            Family::Gemma3 => 256,
            Family::Qwen3 => 128,
            Family::Llama | Family::Mistral | Family::Qwen2 => self.hidden_size.checked_div(heads).unwrap_or(0),
        });
        let rope = self.rope(FULL);
        let architecture = Architecture {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            layers: self.num_hidden_layers,
            heads,
            kv_heads: self.num_key_value_heads.unwrap_or(heads),
            head_dim,
            rms_epsilon: self.rms_norm_eps,
            rope_theta: rope.rope_theta.unwrap_or(if gemma { 1e6 } else { 10_000.0 }),
            context_length: self.max_position_embeddings,
            variant: Variant {
                qkv_bias: family == Family::Qwen2,
                qk_norm: matches!(family, Family::Qwen3 | Family::Gemma3),
                post_norms: gemma,
                gelu: gemma,
                embedding_scale: if gemma { (self.hidden_size as f32).sqrt() } else { 1.0 },
                attention_scale: gemma.then(|| self.query_pre_attn_scalar.unwrap_or(256.0).powf(-0.5)),
                ..Variant::default()
            },
        };
        // Only what has been checked can be divided by.
        let mut architecture = architecture.validated()?;
        architecture.variant.rope_factors = rope.factors(architecture.head_dim, architecture.rope_theta)?;
        architecture.variant.sliding = self.sliding(family, architecture.rope_theta)?;
        Ok((architecture.validated()?, self.tie_word_embeddings.unwrap_or(gemma)))
    }

    fn refuse_what_is_unknown(&self, family: Family) -> Result<(), ArchitectureError> {
        let activation = if family == Family::Gemma3 { "gelu_pytorch_tanh" } else { "silu" };
        let used = self.hidden_activation.as_deref().or(self.hidden_act.as_deref());
        let features = [
            ("attention in both directions", self.use_bidirectional_attention.unwrap_or(false)),
            ("`attention_bias`", self.attention_bias && family != Family::Qwen2),
            ("`mlp_bias`", self.mlp_bias),
            ("an unusual activation", used.is_some_and(|act| act != activation)),
            ("`final_logit_softcapping`", self.final_logit_softcapping.is_some()),
            ("`attn_logit_softcapping`", self.attn_logit_softcapping.is_some()),
        ];
        match features.iter().find(|(_, used)| *used) {
            Some((feature, _)) => Err(ArchitectureError::Feature { feature: (*feature).to_owned() }),
            None => Ok(()),
        }
    }

    /// What is said about rotary positions of one kind of layer.
    fn rope(&self, kind: &str) -> Rope {
        match &self.rope_parameters {
            Some(RopeParameters::ByKind(kinds)) if kinds.contains_key(kind) => kinds[kind].clone(),
            Some(RopeParameters::One(rope)) => rope.clone(),
            _ => Rope { rope_theta: self.rope_theta, ..self.rope_scaling.clone().unwrap_or_default() },
        }
    }

    fn sliding(&self, family: Family, rope_theta: f32) -> Result<Option<Sliding>, ArchitectureError> {
        let layers: Vec<bool> = match (&self.layer_types, family) {
            (Some(kinds), _) => kinds.iter().map(|kind| is_sliding(kind)).collect::<Result<_, _>>()?,
            (None, Family::Llama) => return Ok(None),
            (None, Family::Mistral) => vec![true; self.num_hidden_layers],
            (None, Family::Qwen2 | Family::Qwen3) => {
                let first = self.max_window_layers.unwrap_or(28);
                let used = self.use_sliding_window.unwrap_or(false);
                (0..self.num_hidden_layers).map(|layer| used && layer >= first).collect()
            }
            (None, Family::Gemma3) => {
                let pattern = self.sliding_window_pattern.or(self.private_sliding_window_pattern);
                gemma_layers(self.num_hidden_layers, pattern.unwrap_or(GEMMA_PATTERN))
            }
        };
        let Some(window) = self.sliding_window.filter(|_| layers.contains(&true)) else { return Ok(None) };
        let local = match (&self.rope_parameters, family) {
            (Some(RopeParameters::ByKind(kinds)), _) => kinds.get(SLIDING).and_then(|rope| rope.rope_theta),
            (_, Family::Gemma3) => Some(self.rope_local_base_freq.unwrap_or(LOCAL_THETA)),
            _ => None,
        };
        Ok(Some(Sliding { window, rope_theta: local.unwrap_or(rope_theta), layers }))
    }
}

/// Which of Gemma 3's layers see only their neighbours.
pub(crate) fn gemma_layers(layers: usize, pattern: usize) -> Vec<bool> {
    (1..=layers).map(|layer| !layer.is_multiple_of(pattern.max(1))).collect()
}

fn is_sliding(kind: &str) -> Result<bool, ArchitectureError> {
    match kind {
        FULL => Ok(false),
        SLIDING => Ok(true),
        other => Err(ArchitectureError::Feature { feature: format!("layers of the kind `{other}`") }),
    }
}

impl Rope {
    /// What each frequency is divided by.
    fn factors(&self, head_dim: usize, theta: f32) -> Result<Option<Vec<f32>>, ArchitectureError> {
        let kind = self.rope_type.as_deref().or(self.kind.as_deref()).unwrap_or("default");
        let needed = |field: Option<f64>, name: &str| {
            let field = field.filter(|value| *value > 0.0 && value.is_finite());
            field.ok_or_else(|| ArchitectureError::Missing { field: format!("{name} of scaled rotary positions") })
        };
        match kind {
            "default" => Ok(None),
            "linear" => Ok(Some(vec![needed(self.factor, "factor")? as f32; head_dim / 2])),
            "llama3" => {
                let factor = needed(self.factor, "factor")?;
                let low = needed(self.low_freq_factor, "low_freq_factor")?;
                let high = needed(self.high_freq_factor, "high_freq_factor")?;
                let context = needed(self.original_max_position_embeddings, "original_max_position_embeddings")?;
                let scaled = |i: usize| {
                    // How often a dimension turns over the context that the model was first made for.
                    let turns = context / (TAU * f64::from(theta).powf(2.0 * i as f64 / head_dim as f64));
                    let share = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    (1.0 / ((1.0 - share) / factor + share)) as f32
                };
                Ok(Some((0..head_dim / 2).map(scaled).collect()))
            }
            other => Err(ArchitectureError::Feature { feature: format!("rotary positions of the kind `{other}`") }),
        }
    }
}

/// The `config.json` of a model that did not come with one. Fails with what cannot be said in it.
pub(crate) fn config_of(
    sizes: &Architecture,
    tied: bool,
    exact: bool,
    end_of_turn: u32,
) -> Result<serde_json::Value, String> {
    let Variant { qkv_bias, qk_norm, post_norms, rope_factors, sliding, attention_scale, .. } = &sizes.variant;
    let (family, class) = match (qkv_bias, qk_norm, post_norms, sliding) {
        (_, _, true, _) => ("gemma3_text", "Gemma3ForCausalLM"),
        (_, true, ..) => ("qwen3", "Qwen3ForCausalLM"),
        (true, ..) => ("qwen2", "Qwen2ForCausalLM"),
        (_, _, _, Some(_)) => ("mistral", "MistralForCausalLM"),
        _ => ("llama", "LlamaForCausalLM"),
    };
    let scaling = match rope_factors.as_deref() {
        None => serde_json::Value::Null,
        Some(factors @ [first, ..]) if factors.iter().all(|factor| factor == first) => {
            json!({ "rope_type": "linear", "factor": first })
        }
        Some(factors) => llama3_scaling(factors, sizes).ok_or("its rotary positions are scaled in an unknown way")?,
    };
    let mut config = json!({
        "architectures": [class], "model_type": family, "vocab_size": sizes.vocab_size, "hidden_size": sizes.hidden_size,
        "intermediate_size": sizes.intermediate_size, "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads, "num_key_value_heads": sizes.kv_heads, "head_dim": sizes.head_dim,
        "rms_norm_eps": sizes.rms_epsilon, "rope_theta": sizes.rope_theta, "rope_scaling": scaling,
        "max_position_embeddings": sizes.context_length, "tie_word_embeddings": tied, "eos_token_id": end_of_turn,
        "torch_dtype": if exact { "float32" } else { "float16" },
    });
    if *post_norms {
        config["hidden_activation"] = "gelu_pytorch_tanh".into();
        config["query_pre_attn_scalar"] =
            attention_scale.map_or(sizes.head_dim, |scale| scale.powi(-2).round() as usize).into();
    } else {
        config["hidden_act"] = "silu".into();
    }
    if let Some(sliding) = sliding {
        config["sliding_window"] = sliding.window.into();
        config["rope_local_base_freq"] = sliding.rope_theta.into();
        if *post_norms {
            let kinds = sliding.layers.iter().map(|is| if *is { SLIDING } else { FULL });
            config["layer_types"] = kinds.collect::<Vec<_>>().into();
        }
    }
    Ok(config)
}

/// Llama 3's description of these factors, whose numbers are the same in all of its models but for the factor.
fn llama3_scaling(factors: &[f32], sizes: &Architecture) -> Option<serde_json::Value> {
    let rope = Rope {
        rope_type: Some("llama3".to_owned()),
        factor: factors.iter().copied().reduce(f32::max).map(f64::from),
        low_freq_factor: Some(1.0),
        high_freq_factor: Some(4.0),
        original_max_position_embeddings: Some(8192.0),
        ..Rope::default()
    };
    let made = rope.factors(sizes.head_dim, sizes.rope_theta).ok()??;
    let same = made.iter().zip(factors).all(|(a, b)| (a - b).abs() <= 1e-3 * b);
    same.then(|| {
        json!({ "rope_type": "llama3", "factor": rope.factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192 })
    })
}

/// A `config.json` that says in what numbers the weights are now.
pub(crate) fn rounded(config: &[u8], exact: bool) -> Vec<u8> {
    let Ok(serde_json::Value::Object(mut fields)) = serde_json::from_slice(config) else { return config.to_vec() };
    let dtype = if exact { "float32" } else { "float16" };
    let name = if fields.contains_key("dtype") { "dtype" } else { "torch_dtype" };
    fields.insert(name.to_owned(), dtype.into());
    serde_json::to_vec_pretty(&fields).unwrap_or_else(|_| config.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMOL: &str = r#"{"model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "rms_norm_eps": 1e-5,
        "rope_theta": 100000, "max_position_embeddings": 8192, "tie_word_embeddings": true, "hidden_act": "silu",
        "rope_scaling": null}"#;

    fn parse(text: &str) -> Result<(Architecture, bool), ArchitectureError> {
        serde_json::from_str::<HubConfig>(text).unwrap().architecture()
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
            ("\"llama\"", "\"gpt2\""),
            ("\"rope_scaling\": null", "\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 8}"),
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

    #[test]
    fn what_older_files_leave_out_is_known() {
        let gemma = r#"{"model_type": "gemma3_text", "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96,
            "num_hidden_layers": 7, "num_attention_heads": 4, "num_key_value_heads": 1, "sliding_window": 512,
            "max_position_embeddings": 1024, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}"#;
        let (architecture, tied) = parse(gemma).unwrap();
        assert!(tied);
        assert_eq!((architecture.head_dim, architecture.rope_theta), (256, 1e6));
        let Variant { rope_factors, sliding, attention_scale, embedding_scale, .. } = architecture.variant;
        assert_eq!(rope_factors.unwrap(), vec![8.0; 128]);
        assert_eq!((attention_scale, embedding_scale), (Some(1.0 / 16.0), 8.0));
        let sliding = sliding.unwrap();
        assert_eq!((sliding.window, sliding.rope_theta), (512, 1e4));
        assert_eq!(sliding.layers, [true, true, true, true, true, false, true]);
    }

    #[test]
    fn llama_3_turns_slow_frequencies_slower() {
        let scaled = SMOL.replace(
            "\"rope_scaling\": null",
            r#""rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192}"#,
        );
        let factors = parse(&scaled).unwrap().0.variant.rope_factors.unwrap();
        assert_eq!((factors.len(), factors[0], factors[31]), (32, 1.0, 8.0));
        assert!(factors.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(factors.iter().any(|factor| *factor > 1.0 && *factor < 8.0));
    }
}
