//! What a GGUF file has to say of a model that came as a Hugging Face folder: sizes, tokenizer and chat template, under the names
//! that llama.cpp's converter gives them (the GGUF specification in ggml, `docs/gguf.md`). The inverse of `gguf_config` and
//! `gguf_tokenizer`.

use std::collections::HashMap;
use std::path::Path;

use candle_core::quantized::gguf_file::Value;
use serde::Deserialize;
use serde_json::Value as Json;

use super::architecture::{Architecture, Sliding, Variant};
use super::gguf_tokenizer::{LLAMA_3, QWEN_2};
use super::tokenizer::{Described, TokenizerError};

// Values of `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
pub(crate) const CONTROL: i32 = 3;
pub(crate) const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// The score of a SentencePiece token that no merge makes.
const LEAST_SCORE: f32 = -1e9;

type Entries = Vec<(String, Value)>;

/// The metadata of the model in `folder`. Fails with what GGUF cannot say of it.
pub(crate) fn metadata(sizes: &Architecture, tokenizer_json: &str, folder: &Path) -> Result<Entries, String> {
    let described = Described::read(folder).map_err(|error: TokenizerError| error.to_string())?;
    let file: TokenizerFile = serde_json::from_str(tokenizer_json).map_err(|error| error.to_string())?;
    let mut entries = of_sizes(sizes)?;
    entries.extend(of_tokenizer(&file, &described, sizes.vocab_size)?);
    entries.extend(described.template.map(|template| ("tokenizer.chat_template".to_owned(), Value::String(template))));
    Ok(entries)
}

/// Whether each rotary frequency is divided by a number of its own, which GGUF keeps in a tensor.
pub(crate) fn has_rope_tensor(sizes: &Architecture) -> bool {
    sizes.variant.rope_factors.as_ref().is_some_and(|factors| factors.iter().any(|factor| *factor != factors[0]))
}

fn of_sizes(sizes: &Architecture) -> Result<Entries, String> {
    let Variant { qkv_bias, qk_norm, post_norms, rope_factors, sliding, attention_scale, .. } = &sizes.variant;
    let name = match (qkv_bias, qk_norm, post_norms) {
        (_, _, true) => "gemma3",
        (_, true, _) => "qwen3",
        (true, ..) => "qwen2",
        _ => "llama",
    };
    let usual = 1.0 / (sizes.head_dim as f32).sqrt();
    if attention_scale.is_some_and(|scale| (scale - usual).abs() > 1e-6 * usual) {
        return Err("its attention is scaled by a number that has no entry".to_owned());
    }
    // Up to the window, what slides is no different from what does not.
    let slides = sliding.as_ref().filter(|_| !post_norms);
    let context = slides.map_or(sizes.context_length, |sliding| sizes.context_length.min(sliding.window));
    let number = |value: usize| Value::U32(u32::try_from(value).unwrap_or(u32::MAX));
    let mut entries: Entries = vec![("general.architecture".to_owned(), Value::String(name.to_owned()))];
    let mut add = |field: &str, value: Value| entries.push((format!("{name}.{field}"), value));
    add("context_length", number(context));
    add("embedding_length", number(sizes.hidden_size));
    add("block_count", number(sizes.layers));
    add("feed_forward_length", number(sizes.intermediate_size));
    add("vocab_size", number(sizes.vocab_size));
    add("attention.head_count", number(sizes.heads));
    add("attention.head_count_kv", number(sizes.kv_heads));
    add("attention.key_length", number(sizes.head_dim));
    add("attention.value_length", number(sizes.head_dim));
    add("attention.layer_norm_rms_epsilon", Value::F32(sizes.rms_epsilon));
    add("rope.dimension_count", number(sizes.head_dim));
    add("rope.freq_base", Value::F32(sizes.rope_theta));
    if let Some(factors) = rope_factors
        && !has_rope_tensor(sizes)
    {
        add("rope.scaling.type", Value::String("linear".to_owned()));
        add("rope.scaling.factor", Value::F32(factors[0]));
    }
    if let Some(Sliding { window, rope_theta, layers }) = sliding.as_ref().filter(|_| *post_norms) {
        add("attention.sliding_window", number(*window));
        add("attention.sliding_window_pattern", Value::Array(layers.iter().map(|is| Value::Bool(*is)).collect()));
        add("rope.freq_base_swa", Value::F32(*rope_theta));
    }
    Ok(entries)
}

/// The part of `tokenizer.json` that GGUF has a place for.
#[derive(Deserialize)]
struct TokenizerFile {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Json,
    #[serde(default)]
    pre_tokenizer: Json,
    #[serde(default)]
    post_processor: Json,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: usize,
    content: String,
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    vocab: HashMap<String, usize>,
    merges: Vec<Merge>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    unk_token: Option<String>,
}

/// As older and newer files write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Text(String),
}

impl Merge {
    fn halves(&self) -> Option<(&str, &str)> {
        match self {
            Self::Pair(left, right) => Some((left, right)),
            Self::Text(text) => text.split_once(' '),
        }
    }
}

fn of_tokenizer(file: &TokenizerFile, described: &Described, rows: usize) -> Result<Entries, String> {
    let is_pieces = file.model.byte_fallback;
    let (tokens, kinds) = tokens(file, rows)?;
    let mut entries: Entries = Vec::new();
    let mut add = |field: &str, value: Value| entries.push((format!("tokenizer.ggml.{field}"), value));
    if is_pieces {
        add("model", Value::String("llama".to_owned()));
        add("scores", Value::Array(scores(&file.model, &tokens)?.into_iter().map(Value::F32).collect()));
        add("add_space_prefix", Value::Bool(begins_with_a_space(file)));
    } else {
        let cut = cut(&file.pre_tokenizer).ok_or("its tokenizer cuts words in a way that has no name there")?;
        add("model", Value::String("gpt2".to_owned()));
        add("pre", Value::String(cut.to_owned()));
        let merges = file.model.merges.iter().map(|merge| {
            let (left, right) = merge.halves().ok_or("its tokenizer has a merge that is no pair")?;
            Ok(Value::String(format!("{left} {right}")))
        });
        add("merges", Value::Array(merges.collect::<Result<_, &str>>()?));
    }
    let id_of = |token: &str| tokens.iter().position(|other| other == token);
    let named = [
        ("bos_token_id", Some(&described.beginning)),
        ("eos_token_id", Some(&described.end)),
        ("unknown_token_id", file.model.unk_token.as_ref()),
    ];
    for (field, token) in named {
        if let Some(id) = token.and_then(|token| id_of(token)) {
            add(field, Value::U32(id as u32));
        }
    }
    let puts_beginning = || {
        let text = file.post_processor.to_string();
        !described.beginning.is_empty() && text.contains(&Json::from(described.beginning.as_str()).to_string())
    };
    add("add_bos_token", Value::Bool(described.adds_beginning.unwrap_or_else(puts_beginning)));
    add("token_type", Value::Array(kinds.into_iter().map(Value::I32).collect()));
    add("tokens", Value::Array(tokens.into_iter().map(Value::String).collect()));
    Ok(entries)
}

/// The tokens by id and their kinds, one for each row of the embedding.
fn tokens(file: &TokenizerFile, rows: usize) -> Result<(Vec<String>, Vec<i32>), String> {
    let mut tokens: Vec<Option<(&str, i32)>> = vec![None; rows];
    let model = file.model.vocab.iter().map(|(token, id)| {
        let is_byte = file.model.byte_fallback && token.starts_with("<0x") && token.len() == 6;
        let is_unknown = file.model.unk_token.as_ref() == Some(token);
        (
            *id,
            token.as_str(),
            if is_byte {
                BYTE
            } else if is_unknown {
                UNKNOWN
            } else {
                NORMAL
            },
        )
    });
    let added = file.added_tokens.iter().map(|added| {
        let is_unknown = file.model.unk_token.as_ref() == Some(&added.content);
        let kind = if is_unknown {
            UNKNOWN
        } else if added.special {
            CONTROL
        } else {
            USER_DEFINED
        };
        (added.id, added.content.as_str(), kind)
    });
    for (id, token, kind) in model.chain(added) {
        let missing = || format!("the token `{token}` has the number {id}, and the model has {rows}");
        *tokens.get_mut(id).ok_or_else(missing)? = Some((token, kind));
    }
    let padded = tokens.into_iter().enumerate();
    Ok(padded
        .map(|(id, token)| token.map_or((format!("[PAD{id}]"), UNUSED), |(token, kind)| (token.to_owned(), kind)))
        .unzip())
}

/// The scores that merges stand for: the earlier a merge, the higher.
fn scores(model: &Model, tokens: &[String]) -> Result<Vec<f32>, String> {
    let mut ranks: HashMap<String, usize> = HashMap::new();
    for (rank, merge) in model.merges.iter().enumerate() {
        let (left, right) = merge.halves().ok_or("its tokenizer has a merge that is no pair")?;
        ranks.entry(format!("{left}{right}")).or_insert(rank);
    }
    Ok(tokens.iter().map(|token| ranks.get(token).map_or(LEAST_SCORE, |rank| -(*rank as f32))).collect())
}

/// The name of how words are cut before merging, if it has one.
fn cut(pre_tokenizer: &Json) -> Option<&'static str> {
    let whole = std::slice::from_ref(pre_tokenizer);
    let steps = pre_tokenizer["pretokenizers"].as_array().map_or(whole, Vec::as_slice);
    let kinds: Vec<&str> = steps.iter().filter_map(|step| step["type"].as_str()).collect();
    if steps.last()?["add_prefix_space"].as_bool().unwrap_or(false) {
        return None;
    }
    let splits_words = steps.last()?["use_regex"].as_bool().unwrap_or(true);
    match kinds.as_slice() {
        ["ByteLevel"] if splits_words => Some("gpt-2"),
        ["Digits", "ByteLevel"] if splits_words && steps[0]["individual_digits"] == true => Some("smollm"),
        ["Split", "ByteLevel"] if !splits_words => match steps[0]["pattern"]["Regex"].as_str()? {
            LLAMA_3 => Some("llama-bpe"),
            QWEN_2 => Some("qwen2"),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a text begins with a space that nobody wrote, as SentencePiece has it.
fn begins_with_a_space(file: &TokenizerFile) -> bool {
    let steps = |step: &Json| step["normalizers"].as_array().cloned().unwrap_or_else(|| vec![step.clone()]);
    let prepends = steps(&file.normalizer).iter().any(|step| step["type"] == "Prepend");
    let scheme = &file.pre_tokenizer["prepend_scheme"];
    prepends || (file.pre_tokenizer["type"] == "Metaspace" && scheme != "never")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ways_of_cutting_words_have_names() {
        let bytes = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": regex});
        let two = |first: Json, regex: bool| json!({"type": "Sequence", "pretokenizers": [first, bytes(regex)]});
        let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"});
        assert_eq!(cut(&bytes(true)), Some("gpt-2"));
        assert_eq!(cut(&two(json!({"type": "Digits", "individual_digits": true}), true)), Some("smollm"));
        assert_eq!(cut(&two(split(LLAMA_3), false)), Some("llama-bpe"));
        assert_eq!(cut(&two(split(QWEN_2), false)), Some("qwen2"));
        for unknown in [json!(null), two(split("x+"), false), json!({"type": "ByteLevel", "add_prefix_space": true})] {
            assert_eq!(cut(&unknown), None, "{unknown}");
        }
    }

    #[test]
    fn earlier_merges_have_higher_scores_and_rows_without_tokens_are_unused() {
        let file: TokenizerFile = serde_json::from_value(json!({
            "added_tokens": [{"id": 5, "content": "<end>", "special": true}],
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}]},
            "model": {"byte_fallback": true, "unk_token": "<unk>", "merges": [["b", "c"], "a bc"],
                "vocab": {"<unk>": 0, "a": 1, "b": 2, "c": 3, "<0x41>": 4, "bc": 6, "abc": 7}},
        }))
        .unwrap();
        let (names, kinds) = tokens(&file, 9).unwrap();
        assert_eq!(names[8], "[PAD8]");
        assert_eq!(kinds, [UNKNOWN, NORMAL, NORMAL, NORMAL, BYTE, CONTROL, NORMAL, NORMAL, UNUSED]);
        let scores = scores(&file.model, &names).unwrap();
        assert!(scores[6] > scores[7] && scores[7] > scores[1]);
        assert!(begins_with_a_space(&file));
        assert!(tokens(&file, 5).unwrap_err().contains("the model has 5"));
    }
}
