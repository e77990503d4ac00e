//! Tokens: from text, from conversations and from training examples, and back.
//!
//! A tokenizer comes from the metadata of a GGUF file or from the `tokenizer.json` beside safetensors. Text is only ever
//! text: special tokens are made from what the model's own chat template writes, never from what people write.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use candle_core::quantized::gguf_file::Value;
use serde::Deserialize;
use tokenizers::AddedToken;
use twin_domain::ChatMessage;

use super::chat_template::{ChatTemplate, Piece};
use super::gguf::GgufFile;
use super::gguf_metadata::{CONTROL, USER_DEFINED};
use super::gguf_tokenizer::{byte_level_bpe, scored_bpe};
use super::training::TrainingExample;
use super::vocabulary::Vocabulary;

/// Why a tokenizer could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    #[error("the metadata entry `{key}` is missing or has an unexpected type: the file has no usable tokenizer")]
    Metadata { key: &'static str },
    #[error("the tokenizer is of the kind `{kind}`, which is not supported: choose a model with tokenizer.json")]
    Unsupported { kind: String },
    #[error("`{file}` could not be read")]
    File {
        file: String,
        #[source]
        source: std::io::Error,
    },
    #[error("`{file}` is not valid JSON")]
    Json {
        file: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the tokenizer refused its input")]
    Tokenizer(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the model has no chat template: it continues text, but was not made for conversations")]
    NoTemplate,
    #[error("the chat template failed")]
    Template(#[source] minijinja::Error),
}

/// A model's tokenizer with its chat template.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Special tokens by their text, longest first.
    special: Vec<(String, u32)>,
    template: Option<ChatTemplate>,
    end_of_turn: u32,
    ends: BTreeSet<u32>,
    /// Made when it is first asked for.
    vocabulary: OnceLock<Arc<Vocabulary>>,
}

/// Tokens that end an answer in one model family or another, where they are special.
const END_NAMES: [&str; 6] = ["<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "</s>", "<end_of_turn>"];

impl Tokenizer {
    /// The tokenizer in a GGUF file's metadata.
    pub(crate) fn from_gguf(file: &GgufFile) -> Result<Self, TokenizerError> {
        let metadata = Metadata(file);
        let tokens = metadata.texts("tokenizer.ggml.tokens")?;
        let mut inner = match metadata.text("tokenizer.ggml.model")? {
            "gpt2" => byte_level_bpe(
                &tokens,
                &metadata.texts("tokenizer.ggml.merges")?,
                metadata.text("tokenizer.ggml.pre").unwrap_or("default"),
            )?,
            "llama" => {
                scored_bpe(&tokens, &metadata.scores()?, metadata.flag("tokenizer.ggml.add_space_prefix", true))?
            }
            other => return Err(TokenizerError::Unsupported { kind: other.to_owned() }),
        };
        let kinds = metadata.array("tokenizer.ggml.token_type")?;
        for (token, kind) in tokens.iter().zip(kinds) {
            let kind = kind.to_i64().or_else(|_| kind.to_i32().map(i64::from)).unwrap_or(0);
            let kind = i32::try_from(kind).unwrap_or(0);
            let added = [AddedToken::from(*token, kind == CONTROL)];
            match kind {
                CONTROL => inner.add_special_tokens(added).map(drop),
                USER_DEFINED => inner.add_tokens(added).map(drop),
                _ => Ok(()),
            }
            .map_err(TokenizerError::Tokenizer)?;
        }
        let named = |key| metadata.number(key).and_then(|id| tokens.get(id)).map_or("", |token| *token);
        let template = metadata.text("tokenizer.chat_template").ok();
        Self::new(inner, template, named("tokenizer.ggml.bos_token_id"), named("tokenizer.ggml.eos_token_id"))
    }

    /// The tokenizer in a Hugging Face folder: `tokenizer.json`, `tokenizer_config.json` and, where the template is apart,
    /// `chat_template.jinja`.
    pub(crate) fn from_folder(folder: &Path) -> Result<Self, TokenizerError> {
        let bytes = std::fs::read(folder.join("tokenizer.json")).map_err(|source| {
            let file = "tokenizer.json".to_owned();
            TokenizerError::File { file, source }
        })?;
        let inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(TokenizerError::Tokenizer)?;
        let Described { template, beginning, end, .. } = Described::read(folder)?;
        Self::new(inner, template.as_deref(), &beginning, &end)
    }

    fn new(
        mut inner: tokenizers::Tokenizer,
        template: Option<&str>,
        beginning: &str,
        end: &str,
    ) -> Result<Self, TokenizerError> {
        inner.set_encode_special_tokens(true);
        let mut special: Vec<(String, u32)> = inner
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special)
            .map(|(id, token)| (token.content, id))
            .collect();
        special.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.0.cmp(&b.0)));
        let id_of = |text: &str| special.iter().find(|(token, _)| token == text).map(|(_, id)| *id);
        let ends: BTreeSet<u32> = std::iter::once(end).chain(END_NAMES).filter_map(id_of).collect();
        let end_of_turn = id_of(end).or_else(|| ends.first().copied());
        let end_of_turn = end_of_turn.ok_or(TokenizerError::Metadata { key: "tokenizer.ggml.eos_token_id" })?;
        let template = template
            .map(|template| ChatTemplate::new(template, beginning, end))
            .transpose()
            .map_err(TokenizerError::Template)?;
        Ok(Self { inner, special, template, end_of_turn, ends, vocabulary: OnceLock::new() })
    }

    /// A tokenizer with a token for each of a few letters and an end, for models without a vocabulary.
    #[cfg(test)]
    pub(crate) fn letters() -> Self {
        let tokens: Vec<String> = ('a'..='z').map(String::from).collect();
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).chain(["<|im_end|>"]).collect();
        let mut inner = byte_level_bpe(&tokens, &[], "default").unwrap();
        inner.add_special_tokens([AddedToken::from("<|im_end|>", true)]).unwrap();
        Self::new(inner, None, "", "<|im_end|>").unwrap()
    }

    /// How many different tokens there are.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The tokens of a text. What looks like a special token is text as well.
    ///
    /// # Errors
    /// [`TokenizerError::Tokenizer`], which no text is known to cause.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.inner.encode_fast(text, false).map_err(TokenizerError::Tokenizer)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of tokens, without special ones.
    ///
    /// # Errors
    /// [`TokenizerError::Tokenizer`] when the decoder fails.
    pub fn decode(&self, token_ids: &[u32]) -> Result<String, TokenizerError> {
        self.inner.decode(token_ids, true).map_err(TokenizerError::Tokenizer)
    }

    /// A conversation as the model's template writes it, for people to read.
    ///
    /// # Errors
    /// When there is no template or it fails.
    pub fn render_chat(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<String, TokenizerError> {
        let template = self.template.as_ref().ok_or(TokenizerError::NoTemplate)?;
        template.render(messages, add_generation_prompt).map_err(TokenizerError::Template)
    }

    /// The tokens of a conversation. Special tokens are those that the template writes; in a message they are text.
    ///
    /// # Errors
    /// When there is no template or it fails.
    pub fn encode_chat(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>, TokenizerError> {
        let template = self.template.as_ref().ok_or(TokenizerError::NoTemplate)?;
        let pieces = template.pieces(messages, add_generation_prompt).map_err(TokenizerError::Template)?;
        let mut token_ids = Vec::new();
        // Text between two special tokens is encoded as a whole, so that tokens may span what the template and a message
        // wrote, as they do when the conversation is encoded as one text.
        let mut text = String::new();
        for piece in pieces {
            match piece {
                Piece::Content(content) => text.push_str(&content),
                Piece::Template(written) => {
                    let mut rest = written.as_str();
                    while let Some((at, (name, id))) = self.next_special(rest) {
                        text.push_str(&rest[..at]);
                        token_ids.extend(self.encode(&std::mem::take(&mut text))?);
                        token_ids.push(*id);
                        rest = &rest[at + name.len()..];
                    }
                    text.push_str(rest);
                }
            }
        }
        token_ids.extend(self.encode(&text)?);
        Ok(token_ids)
    }

    /// A training example: `encode_chat(prompt, true)`, the tokens of `target`, and the end of the turn when the target is
    /// `complete`. Learned are the target's tokens, but for those that touch a byte range of `not_voice`, and the end.
    ///
    /// # Errors
    /// As [`Self::encode_chat`].
    pub fn encode_example(
        &self,
        prompt: &[ChatMessage],
        target: &str,
        complete: bool,
        not_voice: &[Range<usize>],
    ) -> Result<TrainingExample, TokenizerError> {
        let mut token_ids = self.encode_chat(prompt, true)?;
        let mut loss_mask = vec![false; token_ids.len()];
        let encoding = self.inner.encode(target, false).map_err(TokenizerError::Tokenizer)?;
        for (&id, &(start, end)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            token_ids.push(id);
            loss_mask.push(!not_voice.iter().any(|range| start < range.end && range.start < end));
        }
        if complete {
            token_ids.push(self.end_of_turn);
            loss_mask.push(true);
        }
        Ok(TrainingExample::new(token_ids, loss_mask))
    }

    /// A text that is to be continued from anywhere in it, for further pre-training: all of its tokens are learned, but for
    /// those that touch a byte range of `not_voice`.
    ///
    /// # Errors
    /// [`TokenizerError::Tokenizer`], which no text is known to cause.
    pub fn encode_running_text(
        &self,
        text: &str,
        not_voice: &[Range<usize>],
    ) -> Result<TrainingExample, TokenizerError> {
        let encoding = self.inner.encode(text, false).map_err(TokenizerError::Tokenizer)?;
        let voice =
            |&(start, end): &(usize, usize)| !not_voice.iter().any(|range| start < range.end && range.start < end);
        Ok(TrainingExample::new(encoding.get_ids().to_vec(), encoding.get_offsets().iter().map(voice).collect()))
    }

    /// As `tokenizer.json` has it.
    ///
    /// # Errors
    /// [`TokenizerError::Tokenizer`] when the library cannot write it.
    pub(crate) fn to_json(&self) -> Result<String, TokenizerError> {
        let mut inner = self.inner.clone();
        inner.set_encode_special_tokens(false);
        inner.to_string(true).map_err(TokenizerError::Tokenizer)
    }

    /// The tokens as bytes.
    pub(crate) fn vocabulary(&self) -> &Arc<Vocabulary> {
        self.vocabulary.get_or_init(|| {
            let ends: Vec<u32> = self.ends.iter().copied().collect();
            let special: Vec<u32> = self.special.iter().map(|(_, id)| *id).collect();
            Arc::new(Vocabulary::new(&self.inner, &ends, &special))
        })
    }

    /// Whether a token ends an answer.
    pub(crate) fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// The token that ends a turn.
    pub fn end_of_turn(&self) -> u32 {
        self.end_of_turn
    }

    /// The first special token in `text`, the longest where several start.
    fn next_special(&self, text: &str) -> Option<(usize, &(String, u32))> {
        let found = self.special.iter().filter_map(|special| text.find(&special.0).map(|at| (at, special)));
        found.min_by_key(|(at, special)| (*at, std::cmp::Reverse(special.0.len())))
    }
}

/// Typed access to a GGUF file's metadata.
struct Metadata<'a>(&'a GgufFile);

impl<'a> Metadata<'a> {
    fn text(&self, key: &'static str) -> Result<&'a str, TokenizerError> {
        let value = self.0.metadata().get(key).and_then(|value| value.to_string().ok());
        value.map(String::as_str).ok_or(TokenizerError::Metadata { key })
    }

    fn array(&self, key: &'static str) -> Result<&'a [Value], TokenizerError> {
        let value = self.0.metadata().get(key).and_then(|value| value.to_vec().ok());
        value.map(Vec::as_slice).ok_or(TokenizerError::Metadata { key })
    }

    fn texts(&self, key: &'static str) -> Result<Vec<&'a str>, TokenizerError> {
        let texts = self.array(key)?.iter().map(|value| value.to_string().ok().map(String::as_str));
        texts.collect::<Option<_>>().ok_or(TokenizerError::Metadata { key })
    }

    fn scores(&self) -> Result<Vec<f32>, TokenizerError> {
        let key = "tokenizer.ggml.scores";
        let scores = self.array(key)?.iter().map(|value| value.to_f32().ok());
        scores.collect::<Option<_>>().ok_or(TokenizerError::Metadata { key })
    }

    fn flag(&self, key: &'static str, usual: bool) -> bool {
        self.0.metadata().get(key).and_then(|value| value.to_bool().ok()).unwrap_or(usual)
    }

    fn number(&self, key: &'static str) -> Option<usize> {
        self.0.metadata().get(key)?.to_u64().ok().and_then(|number| usize::try_from(number).ok())
    }
}

/// What stands beside the `tokenizer.json` of a Hugging Face folder: in `tokenizer_config.json` and, where the template is apart,
/// in `chat_template.jinja`.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) template: Option<String>,
    /// The tokens that the template calls `bos_token` and `eos_token`; empty where there is none.
    pub(crate) beginning: String,
    pub(crate) end: String,
    /// Whether a text begins with `beginning`, where that is said.
    pub(crate) adds_beginning: Option<bool>,
}

impl Described {
    /// Reads what there is; a folder with neither file describes nothing.
    pub(crate) fn read(folder: &Path) -> Result<Self, TokenizerError> {
        let config: TokenizerConfig = match std::fs::read(folder.join("tokenizer_config.json")) {
            Ok(text) => serde_json::from_slice(&text).map_err(|source| {
                let file = "tokenizer_config.json".to_owned();
                TokenizerError::Json { file, source }
            })?,
            Err(_) => TokenizerConfig::default(),
        };
        let apart = std::fs::read_to_string(folder.join("chat_template.jinja")).ok();
        let text = |token: Option<TokenField>| token.map(TokenField::into_text).unwrap_or_default();
        Ok(Self {
            template: apart.or(config.chat_template.and_then(TemplateField::into_text)),
            beginning: text(config.bos_token),
            end: text(config.eos_token),
            adds_beginning: config.add_bos_token,
        })
    }
}

/// The part of `tokenizer_config.json` that matters.
#[derive(Debug, Default, Deserialize)]
struct TokenizerConfig {
    chat_template: Option<TemplateField>,
    bos_token: Option<TokenField>,
    eos_token: Option<TokenField>,
    add_bos_token: Option<bool>,
}

/// One template, or several with names.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum TemplateField {
    One(String),
    Several(Vec<NamedTemplate>),
}

#[derive(Debug, Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

impl TemplateField {
    fn into_text(self) -> Option<String> {
        match self {
            Self::One(template) => Some(template),
            Self::Several(all) => all.into_iter().find(|one| one.name == "default").map(|one| one.template),
        }
    }
}

/// A token as its text, or with how it is matched.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum TokenField {
    Text(String),
    Described { content: String },
}

impl TokenField {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) | Self::Described { content: text } => text,
        }
    }
}
