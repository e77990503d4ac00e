//! A tiny model with random weights, as a Hugging Face folder and as a GGUF file: small enough to train in a test, and in
//! every respect a real Llama.

use std::fs;
use std::io::{Seek, Write};
use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;
use tempfile::TempDir;
use twin_models::language::{DecodePrecision, Llama, LoadOptions, TrainingExample};

pub const HIDDEN: usize = 32;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 8;
const WIDTH: usize = 64;
const LAYERS: usize = 2;
pub const CONTEXT: usize = 256;
const TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + \
                        '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}\
                        {% endif %}";

/// All tokens in order: the bytes as GPT-2 writes them, one merge, two special tokens.
fn tokens() -> Vec<String> {
    let printable = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut hidden = 256;
    let mut tokens: Vec<String> = (0..256)
        .map(|byte| {
            let code = if printable(byte) { byte } else { hidden };
            hidden += u32::from(!printable(byte));
            char::from_u32(code).unwrap().to_string()
        })
        .collect();
    tokens.extend(["he", "<|im_start|>", "<|im_end|>"].map(str::to_owned));
    tokens
}

pub const START: u32 = 257;
pub const END: u32 = 258;
pub const VOCAB: usize = 259;

/// Every tensor under its name in Hugging Face's form.
fn weights() -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let mut random = ChaCha8Rng::seed_from_u64(21);
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[usize]| {
        let count: usize = shape.iter().product();
        let values = match shape {
            [_] => (0..count).map(|_| random.random_range(0.7..1.3)).collect(),
            _ => {
                let bound = 1.5 / (shape[1] as f32).sqrt();
                (0..count).map(|_| random.random_range(-bound..bound)).collect::<Vec<f32>>()
            }
        };
        tensors.push((name, shape.to_vec(), values));
    };
    add("model.embed_tokens.weight".into(), &[VOCAB, HIDDEN]);
    for layer in 0..LAYERS {
        let mut add = |name: &str, shape: &[usize]| add(format!("model.layers.{layer}.{name}.weight"), shape);
        add("input_layernorm", &[HIDDEN]);
        add("self_attn.q_proj", &[HEADS * HEAD_DIM, HIDDEN]);
        add("self_attn.k_proj", &[KV_HEADS * HEAD_DIM, HIDDEN]);
        add("self_attn.v_proj", &[KV_HEADS * HEAD_DIM, HIDDEN]);
        add("self_attn.o_proj", &[HIDDEN, HEADS * HEAD_DIM]);
        add("post_attention_layernorm", &[HIDDEN]);
        add("mlp.gate_proj", &[WIDTH, HIDDEN]);
        add("mlp.up_proj", &[WIDTH, HIDDEN]);
        add("mlp.down_proj", &[HIDDEN, WIDTH]);
    }
    add("model.norm.weight".into(), &[HIDDEN]);
    tensors
}

/// Writes the folder: `config.json`, `model.safetensors`, `tokenizer.json`, `tokenizer_config.json`.
pub fn write_folder(folder: &Path) {
    let config = json!({
        "model_type": "llama", "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": WIDTH,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": CONTEXT, "tie_word_embeddings": true,
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let tensors: Vec<_> = weights()
        .into_iter()
        .map(|(name, shape, values)| (name, shape, values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()))
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    fs::write(folder.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();

    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let vocab: serde_json::Map<String, serde_json::Value> =
        tokens().into_iter().enumerate().map(|(id, token)| (token, id.into())).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [special(START, "<|im_start|>"), special(END, "<|im_end|>")],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, bytes]},
        "decoder": bytes,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocab, "merges": ["h e"]},
    });
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let config =
        json!({"chat_template": TEMPLATE, "bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}});
    fs::write(folder.join("tokenizer_config.json"), config.to_string()).unwrap();
}

/// Writes the same model as GGUF, with queries and keys in the interleaved order that llama.cpp's converter gives them.
pub fn write_gguf(path: &Path) {
    let text = |text: &str| Value::String(text.to_owned());
    let texts = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
    let kinds = (0..VOCAB).map(|id| Value::I32(if id as u32 >= START { 3 } else { 1 })).collect();
    let metadata = [
        ("general.architecture", text("llama")),
        ("llama.block_count", Value::U32(LAYERS as u32)),
        ("llama.context_length", Value::U32(CONTEXT as u32)),
        ("llama.embedding_length", Value::U32(HIDDEN as u32)),
        ("llama.feed_forward_length", Value::U32(WIDTH as u32)),
        ("llama.attention.head_count", Value::U32(HEADS as u32)),
        ("llama.attention.head_count_kv", Value::U32(KV_HEADS as u32)),
        ("llama.rope.freq_base", Value::F32(10_000.0)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("general.alignment", Value::U32(32)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("smollm")),
        ("tokenizer.ggml.tokens", texts(tokens())),
        ("tokenizer.ggml.token_type", Value::Array(kinds)),
        ("tokenizer.ggml.merges", texts(vec!["h e".into()])),
        ("tokenizer.ggml.eos_token_id", Value::U32(END)),
        ("tokenizer.chat_template", text(TEMPLATE)),
    ];
    let tensors: Vec<(String, QTensor)> = weights()
        .into_iter()
        .map(|(name, shape, values)| {
            let values = match () {
                () if name.contains("q_proj") => interleaved(&values, HEADS),
                () if name.contains("k_proj") => interleaved(&values, KV_HEADS),
                () => values,
            };
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
            (gguf_name(&name), QTensor::quantize(&tensor, GgmlDType::F32).unwrap())
        })
        .collect();
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut file = fs::File::create(path).unwrap();
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
    // A tensor's data is padded to the alignment by other writers; candle leaves the last one short.
    let end = file.stream_position().unwrap();
    file.write_all(&vec![0; end.next_multiple_of(32) as usize - end as usize]).unwrap();
}

/// The rows as llama.cpp's converter permutes them: `reshape(heads, 2, head_dim / 2, in).swapaxes(1, 2)`.
fn interleaved(values: &[f32], heads: usize) -> Vec<f32> {
    let half = HEAD_DIM / 2;
    let mut permuted = Vec::new();
    for head in 0..heads {
        for dimension in 0..half {
            for part in 0..2 {
                let row = head * HEAD_DIM + part * half + dimension;
                permuted.extend_from_slice(&values[row * HIDDEN..][..HIDDEN]);
            }
        }
    }
    permuted
}

fn gguf_name(name: &str) -> String {
    let pairs = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("model.layers", "blk"),
        ("input_layernorm", "attn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    pairs.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

pub fn options(decode: DecodePrecision) -> LoadOptions {
    LoadOptions { name: "tiny".into(), threads: Some(2), decode, ..LoadOptions::default() }
}

/// The tiny model, from its folder.
pub fn model() -> Arc<Llama> {
    let folder = TempDir::new().unwrap();
    write_folder(folder.path());
    Arc::new(Llama::load(folder.path(), options(DecodePrecision::F32)).unwrap())
}

/// An example with arbitrary tokens, of which the second half is learned.
pub fn example(length: usize, seed: u64) -> TrainingExample {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let token_ids = (0..length).map(|_| random.random_range(0..256)).collect();
    TrainingExample::new(token_ids, (0..length).map(|at| at >= length / 2).collect())
}
